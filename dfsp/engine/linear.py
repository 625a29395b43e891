"""The exact regression: theta_i ~ effects(x_i . beta, tau) with any number of coefficients.

beta is the intercept and the coefficients, each with a normal prior. Given tau, the log density of
beta is a sum of functions of one number each, the linear predictors at the distinct rows of the
design:

    log p(beta | tau) = log prior(beta) + sum over rows r of f_r(x_r . beta, tau).

**Rows** of tau are placed once, by Laplace's approximation to the mass of each, with the rules of
`dfsp.engine.grid`.

**Tables.** At each row of tau each f_r is tabulated, so that a point costs some products and four
look-ups. Chebyshev values, whose last coefficients are negligible, give f and its derivatives at
equidistant points, between which Taylor's polynomial of third degree about the nearest is read. A
table is continued by straight lines, which lie above a concave function: nothing beyond it goes
unnoticed.

**Lines.** The marginal density of a linear functional eta = v . beta is computed in whitened space,
beta = mode + root s. Along the direction of root' v it has Chebyshev nodes, as many as Laplace's
approximation needs there, whose cost is nothing; at each of these, the other directions are
integrated by the trapezoidal rule on a lattice about their own conditional mode, in units of their
own curvature. The rule converges geometrically: for a normal of sd 1 and a spacing h its error is
2 exp(-2 pi^2 / h^2) (Trefethen & Weideman 2014, doi:10.1137/130932132), where 1/h is the length of
the dual lattice's shortest vectors. A body-centred lattice has that length with the fewest points:
0.71 of a cubic one's in three dimensions, 0.5 in four (Conway & Sloane 1999, "Sphere packings,
lattices and groups": its dual is the densest packing). **Which points** of it count is
seen in some places of the line: few do, and not in a ball where a coefficient is skewed. What
results is a `Grid` of (eta, tau), and all that a `Population` makes of one: typical, mean and
new-study rates at a row of the design are those of a single fit.

**Differences.** With m halfway between two predictors and d between them, the difference of the
rates, logit^-1(m + d/2) - logit^-1(m - d/2), rises with d. Lines along which m is fixed have its
conditional distributions, which are mixed over m and tau.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev
from scipy.special import ndtri

from dfsp.engine.distributions import MIXTURE_POINTS, Distribution, cumulate, mix, moments
from dfsp.engine.grid import (
    COLUMNS,
    DROP,
    FAR,
    OUTSIDE,
    ROW_TOLERANCE,
    ROWS,
    Data,
    Grid,
    Rows,
    chebyshev_coefficients,
    chebyshev_shares,
    column_error,
    held,
    last_coefficients,
    more_columns,
    place_columns,
    reach_to,
    refine,
    shares,
    unit_of_tau,
)
from dfsp.engine.posterior import LEVEL, PLAIN, Population
from dfsp.model.likelihood import COARSE, FINEST, LOG_ROOT_2PI, log_sum, sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Normal

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

MOST_COEFFICIENTS = 3  # coefficients beside the intercept that the lattice holds within seconds
# Spacing of a cubic lattice that is as accurate, in conditional standard deviations: of a normal's
# integral the error is 24 exp(-2 pi^2 / h^2) = 1e-12 in four dimensions. Log marginal likelihoods
# of 36 random tables, some with no event or nothing else, err by 1e-6; with 1.0 by 1e-5.
LATTICE_STEP = 0.8
# Spacing of the lines of a difference, in standard deviations of what lies halfway: quantiles err
# by 4e-5 with 0.5 and by 1e-3 with 0.75 where a level has no event.
APART = 0.4
MOST_RADIUS = 13.0  # conditional standard deviations within which points of the lattice may count
SHARE = 1e-9  # of the probability at one place from which on a point of the lattice counts,
PLACES = 12  # where that is seen,
NO_SAY = 12.0  # and the log density below the largest at which a place has no say
# Last step to a mode, in conditional standard deviations: what Laplace's approximation says along
# tau and along lines is smooth, as the density is, to about as much.
AT = 1e-5
# Of the inner rule where rows are placed: with COARSE the masses of 13 arms of `sorafenib_arms.csv`
# are so uneven along tau that 384 rows are placed, not 28.
PLACING = COARSE + 1
PREDICTOR_SDS = 12.0  # that a predictor's table covers on either side at first
# Of coordinates: a row of the design is one that is known, however its last digits were rounded.
SAME_DECIMALS = 12
TABLE_CELLS = 512  # of a table
IN_TABLE = (32, 64, 128, 256)  # Chebyshev nodes from which a table is made,
TABLE_ERROR = 1e-9  # and the size of the last coefficients with which they are enough
IN_SEQUENCE = 4096  # of beta where it has too many dimensions, each with its mirror image
WIDER = 1.2  # than the normal approximation, so that no weight of theirs is large
NEGLIGIBLE = 22.0  # log mass below the largest at which a line is left out: e^-22 = 3e-10
LATTICE_AT_ONCE = 30_000  # points of the lattice held at once, which stay in a processor's cache


@dataclass(frozen=True)
class Design:
    """Distinct rows of a design and the counts at each.

    Attributes
    ----------
    x : array, shape (row, dimension)
        A column of ones first.
    data : sequence of Data
        The counts at each row.
    """

    x: Array
    data: tuple[Data, ...]

    @classmethod
    def of(cls, events: Array, total: Array, design: Array) -> "Design":
        """Collect the distinct rows of `design`, shape (study, coefficient)."""
        x = np.column_stack([np.ones(len(events)), design])
        rows, inverse = np.unique(x, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        own = [inverse == row for row in range(len(rows))]
        return cls(rows, tuple(Data.of(events[each], total[each]) for each in own))


class _Peak(NamedTuple):
    """Conditional modes: where, a root of the covariance, the log density, the predictors."""

    at: Array
    root: Array
    top: Array
    predictor: Array


class _Nodes(NamedTuple):
    """Points (point, dimension), the log weight of each, and what of the whole lies beyond them."""

    z: Array
    log_weight: Array
    beyond: float = 0.0

    @property
    def radius(self) -> float:
        """How far the farthest is."""
        return float(np.sqrt((self.z**2).sum(-1).max()))


class _Sums(NamedTuple):
    """Logs of sums, the largest share beyond the points, means of z and z z' under the density."""

    log_p: Array
    beyond: float
    first: Array
    second: Array


@dataclass(frozen=True)
class _Lines:
    """Straight lines in whitened space: origin + b direction, and the directions across.

    Attributes
    ----------
    row : array, shape (line,)
        The row of tau of each.
    origin, direction : array, shape (line, dimension)
    across : array, shape (line, dimension, other)
        Orthonormal, and orthogonal to `direction`.
    """

    row: Index
    origin: Array
    direction: Array
    across: Array

    def __getitem__(self, some: Index | npt.NDArray[np.bool_]) -> "_Lines":
        return _Lines(self.row[some], self.origin[some], self.direction[some], self.across[some])


@dataclass(frozen=True)
class _Profile:
    """Log densities along lines at Chebyshev nodes of b, and where these are."""

    low: Array
    high: Array
    centre: Array
    sd: Array
    stretched: bool
    log_p: Array
    error: float

    def fine(self, number: int) -> tuple[Array, Array]:
        """Return b and log of density times db/dx at equidistant shares, (line, share)."""
        b, width = place_columns(
            shares(number), self.low, self.high, self.centre, self.sd, self.stretched
        )
        return b, self.log_p @ refine(self.log_p.shape[-1], number).T + np.log(width)


class LinearPosterior:
    """The posterior of beta and tau.

    Parameters
    ----------
    events, total : array, shape (study,)
    design : array, shape (study, coefficient)
        Without the column of ones.
    model : Model
        `mu` is the prior of the intercept; effects with a linear predictor.
    coefficient : Normal
        Prior of every coefficient, logit scale.

    Examples
    --------
    >>> import numpy as np
    >>> from dfsp.model.model import Model
    >>> from dfsp.model.priors import Normal
    >>> counts = np.array([7.0, 4.0, 9.0, 2.0]), np.array([15.0, 22.0, 18.0, 20.0])
    >>> dose = np.array([[1.0], [0.0], [1.0], [0.0]])
    >>> found = LinearPosterior(*counts, dose, Model(), Normal(0, 1))
    >>> found.population([1, 1]).typical_rate.quantile([0.025, 0.5, 0.975]).round(3)
    array([0.181, 0.421, 0.646])
    """

    def __init__(
        self, events: Array, total: Array, design: Array, model: Model, coefficient: Normal
    ) -> None:
        self.model = model
        self.prior = coefficient
        self.design = Design.of(events, total, design)
        self.x = self.design.x
        self.dimensions = self.x.shape[1]
        priors = [model.mu, *[coefficient] * (self.dimensions - 1)]
        self.mean = np.array([prior.mean for prior in priors])
        self.sd = np.array([prior.sd for prior in priors])
        self.tau_moments = model.effects.tau_moments(events, total, model.tau)
        self.spread_moments = model.effects.spread_moments(events, total, model.tau)
        self.rows = self._place_rows(Data.of(events, total))
        self.mode, self.root, mass = self._modes(self.rows.tau)
        self._rough_mass = mass + self.rows.log_mass(model.spread_prior)
        centre = self.mode @ self.x.T
        reach = PREDICTOR_SDS * np.sqrt(((self.x @ self.root) ** 2).sum(-1))
        self._tables = self._tabulated(centre - reach, centre + reach)
        self._populations: dict[tuple[float, ...], Population] = {}

    # Where the posterior is

    def _place_rows(self, data: Data) -> Rows:
        prior = self.model.spread_prior
        if prior.known is not None:
            return Rows.at(prior.known)
        c = unit_of_tau(data, prior)

        def masses(tau: Array) -> tuple[Array, Array]:
            mass = self._modes(tau)[2]
            return mass, mass[None][:0]

        _, span, _ = held(prior, c, sum(self.tau_moments), masses)
        for number in ROWS:
            rows = Rows.between(*span, c, number)
            log_mass = self._modes(rows.tau)[2] + rows.log_mass(prior)
            # The approximation is as smooth along tau as what it approximates.
            if last_coefficients(rows, np.exp(log_mass - log_mass.max())) < ROW_TOLERANCE:
                break
        return rows

    def _modes(self, tau: Array) -> tuple[Array, Array, Array]:
        """Return mode of beta, root of its covariance, and log mass by Laplace's approximation."""
        start, root = self._normal_approximation(tau)

        def value(predictor: Array) -> Array:
            points = predictor.reshape(len(tau), -1, predictor.shape[-1])
            of_tau = np.repeat(tau, points.shape[1])
            flat = [
                self._log_l(i, points[..., i].ravel(), of_tau, PLACING) for i in range(len(self.x))
            ]
            return np.stack(flat, axis=-1).reshape(predictor.shape)

        found = self._peaks(value, start, root)
        mode = start + np.einsum("tij,tj->ti", root, found.at)
        root = root @ found.root
        return mode, root, found.top + _log_det(root)

    def _normal_approximation(self, tau: Array) -> tuple[Array, Array]:
        """Return mode and root if empirical logits were normal: where to start."""
        precision = np.zeros((len(tau), self.dimensions, self.dimensions))
        right = np.zeros((len(tau), self.dimensions))
        for x, data in zip(self.x, self.design.data, strict=True):
            p = (data.events + 0.5) / (data.total + 1)
            weight = data.times / (1 / (data.total * p * (1 - p)) + tau[:, None] ** 2)
            precision += weight.sum(-1)[:, None, None] * np.outer(x, x)
            right += (weight @ np.log(p / (1 - p)))[:, None] * x
        precision += np.diag(self.sd**-2)
        right += self.mean * self.sd**-2
        root = _root(precision)
        return np.einsum("tij,tkj,tk->ti", root, root, right), root

    def _log_l(self, row: int, mu: Array, tau: Array, level: int) -> Array:
        """Return log L of all counts at a row of the design, shape (point,)."""
        data = self.design.data[row]
        effects = self.model.effects
        flat = effects.log_likelihood(data.events, data.total, mu, tau, level)
        return np.asarray(data.times @ flat)

    def _peaks(self, value: Callable[[Array], Array], origin: Array, along: Array) -> _Peak:
        """Find the mode in the directions `along` from `origin`, by Newton's method.

        Difference quotients are one standard deviation of each predictor wide, which see the shape
        of the peak and not of its very top only.

        Parameters
        ----------
        value : callable
            Returns f_r at predictors (..., row).
        origin : array, shape (..., dimension)
            Of beta.
        along : array, shape (..., dimension, other)
            In units in which the covariance is near one.
        """
        x, others = self.x @ along, along.shape[-1]
        tilt = along / self.sd[:, None]
        at = np.zeros((*origin.shape[:-1], others))
        root = np.broadcast_to(np.eye(others), (*at.shape, others))
        here, prior = origin @ self.x.T, (origin - self.mean) / self.sd
        for _ in range(40):
            predictor = here + np.einsum("...rk,...k->...r", x, at)
            from_prior = prior + np.einsum("...dk,...k->...d", tilt, at)
            sd = np.maximum(np.sqrt(((x @ root) ** 2).sum(-1)), 1e-6)
            low, middle, high = (value(predictor + step * sd) for step in (-1.0, 0.0, 1.0))
            slope = (high - low) / (2 * sd)
            curvature = np.maximum(2 * middle - high - low, 0) / sd**2
            precision = (x * curvature[..., None]).mT @ x + tilt.mT @ tilt
            root = _root(precision)
            gradient = np.einsum("...rk,...r->...k", x, slope)
            gradient -= np.einsum("...dk,...d->...k", tilt, from_prior)
            # In units of the covariance
            step = np.einsum("...lk,...l->...k", root, gradient)
            length = np.sqrt((step**2).sum(-1, keepdims=True))
            step *= np.minimum(1, 3 / np.maximum(length, 1e-300))
            at = at + np.einsum("...kl,...l->...k", root, step)
            if not length.size or length.max() < AT:
                break
        top = middle.sum(-1) - 0.5 * (from_prior**2).sum(-1) - self._log_prior
        return _Peak(at, root, top + 0.5 * (step**2).sum(-1), predictor)

    @cached_property
    def _log_prior(self) -> float:
        return float(np.log(self.sd).sum() + self.dimensions * LOG_ROOT_2PI)

    # Tables

    def _tabulated(self, low: Array, high: Array) -> "_Tables":
        """Tabulate f_r from `low` to `high`, shape (row of tau, row of the design)."""
        tau = self.rows.tau
        pieces = np.empty((4, *low.shape, TABLE_CELLS))
        for i in range(len(self.x)):
            for number in IN_TABLE:
                mu = low[:, i, None] + (high - low)[:, i, None] * chebyshev_shares(number)
                points = mu.ravel(), np.repeat(tau, number)
                values = self._log_l(i, *points, FINEST).reshape(mu.shape)
                if np.abs(values @ chebyshev_coefficients(number)[-2:].T).max() < TABLE_ERROR:
                    break
            pieces[:, :, i] = np.einsum("dcn,tn->dtc", _taylor(number), values)
        pieces[2:, ..., [0, -1]] = 0
        return _Tables(low, high, pieces.reshape(4, -1))

    def _cover(self, row: Index, low: Array, high: Array) -> None:
        """Make tables wide enough for predictors from `low` to `high`, shape (line, predictor)."""
        tables = self._tables
        lowest, highest = tables.low.copy(), tables.high.copy()
        np.minimum.at(lowest, row, low)
        np.maximum.at(highest, row, high)
        wider = np.maximum(tables.low - lowest, highest - tables.high) > 1e-9 * (
            tables.high - tables.low
        )
        if wider.any():
            room = 0.2 * (highest - lowest) * wider
            self._tables = self._tabulated(
                np.where(lowest < tables.low, lowest - room, lowest),
                np.where(highest > tables.high, highest + room, highest),
            )

    # Densities

    def _start(self, lines: _Lines, b: Array) -> Array:
        """Return beta at the points `b` (line, point) of lines, (line, point, dimension)."""
        s = lines.origin[:, None] + b[..., None] * lines.direction[:, None]
        shift = np.einsum("lij,lnj->lni", self.root[lines.row], s)
        return np.asarray(self.mode[lines.row, None] + shift)

    def _conditional(self, lines: _Lines, b: Array) -> tuple[Array, Array, _Peak]:
        """Return beta, the directions across there, and the conditional modes among them."""
        beta = self._start(lines, b)
        across = np.repeat((self.root[lines.row] @ lines.across)[:, None], b.shape[1], axis=1)
        rows = np.broadcast_to(lines.row[:, None], b.shape)
        peak = self._peaks(lambda at: self._tables(rows, at), beta, across)
        return beta, across, peak

    def _rough(self, lines: _Lines, b: Array, log_worth: Array) -> tuple[Array, float]:
        """Return the log density at `b` (line, point) by Laplace's approximation across."""
        del log_worth
        peak = self._conditional(lines, b)[2]
        return peak.top + _log_det(peak.root) + _log_det(self.root)[lines.row, None], 0.0

    def _profile(self, lines: _Lines, log_worth: Array) -> _Profile:
        """Compute the density along lines, as well as their masses and `log_worth` (line,) need."""
        whole = np.concatenate([lines.direction[..., None], lines.across], axis=-1)
        start = self._start(lines, np.zeros((len(lines.row), 1)))[:, 0]
        peak = self._peaks(
            lambda at: self._tables(lines.row, at), start, self.root[lines.row] @ whole
        )
        centre = peak.at[:, 0]
        sd = np.sqrt((peak.root[:, 0] ** 2).sum(-1))
        side = np.array([-1.0, 1.0])
        top, _ = self._rough(lines, centre[:, None], log_worth)

        def drop(reach: Array) -> Array:
            log_p, _ = self._rough(lines, centre[:, None] + side * reach, log_worth)
            return (top - log_p) / DROP

        reach = reach_to(drop, np.abs(OUTSIDE) * sd[:, None], np.zeros(2))
        low, high = centre - reach[:, 0], centre + reach[:, 1]
        places = low, high, centre, sd, bool((reach.max(-1) > FAR * sd).any())
        columns = 1
        for density in (self._rough, self._density):
            while True:
                b, _ = place_columns(chebyshev_shares(COLUMNS[columns]), *places)
                log_p, beyond = density(lines, b, log_worth)
                fine, width = place_columns(shares(4 * b.shape[1] + 1), *places)
                log_fine = log_p @ refine(b.shape[1], fine.shape[1]).T + np.log(width)
                mass = log_sum(log_fine) + log_worth
                error = column_error(log_p, np.exp(mass - mass.max()))
                more = more_columns(columns, error)
                if more == columns:
                    break
                columns = more
        return _Profile(*places, log_p, max(error, beyond))

    def _density(self, lines: _Lines, b: Array, log_worth: Array) -> tuple[Array, float]:
        """Return the log density at `b` (line, point), and the share that is left out."""
        beta, across, peak = self._conditional(lines, b)
        beta = beta + np.einsum("...dk,...k->...d", across, peak.at)
        rows = np.repeat(lines.row, b.shape[1])
        units = (across @ peak.root).reshape(len(rows), *across.shape[2:])
        rough = peak.top + _log_det(peak.root)
        worth = (rough + log_worth[:, None]).ravel()
        sums = self._summed(rows, beta.reshape(len(rows), -1), units, worth)
        log_p = sums.log_p.reshape(b.shape) + _log_det(peak.root)
        return log_p + _log_det(self.root)[lines.row, None], sums.beyond

    def _summed(self, rows: Index, beta: Array, units: Array, log_worth: Array) -> _Sums:
        """Sum the density over points across from `beta` (place, dimension), in `units`.

        `units` are (place, dimension, other); `log_worth` (place,) says where most of the posterior
        is.
        """
        nodes = self._nodes(rows, beta, units, log_worth)
        reach = np.sqrt(((self.x @ units) ** 2).sum(-1)) * nodes.radius
        middle = beta @ self.x.T
        self._cover(rows, middle - reach, middle + reach)
        of_z = np.column_stack([np.ones(len(nodes.z)), nodes.z, _products(nodes.z)])
        log_p, sums = np.empty(len(rows)), np.empty((len(rows), of_z.shape[1]))
        for some, height in self._heights(rows, beta, units, nodes):
            log_p[some] = height.max(-1)
            height -= log_p[some, None]
            sums[some] = np.exp(height, out=height) @ of_z
        log_p += np.log(sums[:, 0])
        first, second = np.split(sums[:, 1:] / sums[:, :1], [units.shape[-1]], axis=1)
        return _Sums(log_p, nodes.beyond, first, second)

    def _nodes(self, rows: Index, beta: Array, units: Array, log_worth: Array) -> _Nodes:
        """Choose the points of the lattice that count, by a look at some places; as `_summed`."""
        if units.shape[-1] > MOST_COEFFICIENTS + 1:
            return _sequence(units.shape[-1])
        every = _lattice(units.shape[-1])
        main = np.flatnonzero(log_worth > log_worth.max() - NO_SAY)
        seen = main[np.unique(np.linspace(0, len(main) - 1, PLACES).astype(np.intp))]
        share = np.concatenate([
            np.exp(height - height.max(-1, keepdims=True))
            for _, height in self._heights(rows[seen], beta[seen], units[seen], every)
        ])  # fmt: skip
        share /= share.sum(-1, keepdims=True)
        count = share.max(0) > SHARE
        beyond = float(share[:, ~count].sum(-1).max())
        return _Nodes(every.z[count], every.log_weight[count], beyond)

    def _heights(
        self, rows: Index, beta: Array, units: Array, nodes: _Nodes
    ) -> Iterator[tuple[slice, Array]]:
        """Yield weighted log densities at beta + units z for each `z` (place, z), in blocks."""
        from_prior, tilt = (beta - self.mean) / self.sd, units / self.sd[:, None]
        constant = -0.5 * (from_prior**2).sum(-1) - self._log_prior
        slope = np.einsum("pdk,pd->pk", tilt, from_prior)
        square = 0.5 * (tilt.mT @ tilt).reshape(len(rows), -1)
        of_prior = np.column_stack([slope, square])
        of_z = np.column_stack([nodes.z, _products(nodes.z)]).T
        middle, along = beta @ self.x.T, self.x @ units
        step = max(1, LATTICE_AT_ONCE // len(nodes.z))
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            height = constant[some, None] + nodes.log_weight - of_prior[some] @ of_z
            self._tables.add_to(height, rows[some], middle[some], along[some], nodes.z.T)
            yield some, height

    # What is asked

    def population(self, v: npt.ArrayLike) -> Population:
        """Return what is known of studies with the linear predictor v . beta.

        Parameters
        ----------
        v : array-like, shape (dimension,)
            A row of the design, its 1 for the intercept first; or a unit vector: then `mu` is the
            intercept or a coefficient. The prior of `mu` in the population's model is its own.
        """
        v = np.asarray(v, dtype=np.float64)
        key = tuple(v.round(SAME_DECIMALS).tolist())
        if key not in self._populations:
            exist = self.tau_moments, self.spread_moments
            prior = Normal(float(self.mean @ v), float(np.hypot.reduce(self.sd * v)))
            model = replace(self.model, mu=prior)
            self._populations[key] = Population(model, self._grid(v), *exist)
        return self._populations[key]

    def _whitened(self, v: Array) -> tuple[Array, Array]:
        """Return the length of root' v and its direction at each row of tau."""
        w = np.einsum("tij,i->tj", self.root, v)
        length = np.sqrt((w**2).sum(-1))
        return length, w / length[:, None]

    def _grid(self, v: Array) -> Grid:
        """Return the joint density of v . beta and tau."""
        length, direction = self._whitened(v)
        every = np.arange(len(self.rows))
        lines = _Lines(every, 0 * direction, direction, _complement(direction[:, None]))
        log_row = self.rows.log_mass(self.model.spread_prior)
        found = self._profile(lines, log_row - np.log(self.rows.weights))
        at_0 = self.mode @ v
        low, high, centre = (at_0 + length * b for b in (found.low, found.high, found.centre))
        log_joint = found.log_p - np.log(length)[:, None]
        none = np.empty((0, *log_joint.shape))
        rows, sd = self.rows, length * found.sd
        grid = Grid(
            rows, low, high, sd, centre, found.stretched, log_joint, none, log_row, found.error
        )
        return grid

    def difference(self, first: npt.ArrayLike, second: npt.ArrayLike) -> Distribution:
        """Return the distribution of the typical rate at `second` minus that at `first`.

        Parameters
        ----------
        first, second : array-like, shape (dimension,)
            Rows of the design, the 1 of each first.
        """
        v, w = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        middle, between = (v + w) / 2, w - v
        grid = self.population(middle).grid
        spacing = APART * grid.sd
        number = int(((grid.high - grid.low) / spacing).max()) + 2
        m, log_weight = grid.fine(number)
        log_weight = log_weight + grid.log_row[:, None] - np.log(number - 1)
        row, place = np.nonzero(log_weight > log_weight.max() - NEGLIGIBLE)
        length, direction = self._whitened(middle)
        across, apart = self._whitened(between)
        # The direction in which the predictors part, and the one between them does not move
        steepest = apart - (apart * direction).sum(-1, keepdims=True) * direction
        share = np.sqrt((steepest**2).sum(-1))
        steepest /= share[:, None]
        others = _complement(np.stack([direction, steepest], axis=1))
        origin = ((m - (self.mode @ middle)[:, None]) / length[:, None])[row, place]
        lines = _Lines(row, origin[:, None] * direction[row], steepest[row], others[row])
        log_worth = grid.log_row - np.log(self.rows.weights)
        found = self._profile(lines, log_worth[row])
        b, log_p = found.fine(PLAIN[found.stretched])
        density = np.exp(log_p - log_p.max(-1, keepdims=True))
        density /= density.sum(-1, keepdims=True)
        at_0 = (self.mode @ between)[row] + across[row] * (apart[row] * lines.origin).sum(-1)
        d = at_0[:, None] + (across * share)[row, None] * b
        centre = m[row, place][:, None]
        high, low = sigmoid(centre + d / 2), sigmoid(centre - d / 2)
        gap = high - low
        weight = np.exp(log_weight[row, place] - log_weight.max())
        weight /= weight.sum()
        steepness = (across * share)[row, None] * (high * (1 - high) + low * (1 - low)) / 2
        slope = density / np.maximum(steepness * np.gradient(b, axis=1), LEVEL)
        x, cdf = mix(gap, cumulate(density, np.ones(1)), slope, weight, MIXTURE_POINTS[1])
        first_moment = (density * gap).sum(-1)
        return Distribution(
            x, cdf, *moments(weight, first_moment, (density * gap**2).sum(-1)), False
        )

    @cached_property
    def _joint(self) -> _Sums:
        """Sums over all of beta in each row of tau, the row's log mass among them."""
        every = np.arange(len(self.rows))
        sums = self._summed(every, self.mode, self.root, self._rough_mass)
        log_mass = sums.log_p + _log_det(self.root) + self.rows.log_mass(self.model.spread_prior)
        return sums._replace(log_p=log_mass)

    @property
    def is_exact(self) -> bool:
        """Whether a lattice holds beta; if not, there are moments only, to three digits."""
        return bool(self.dimensions <= MOST_COEFFICIENTS + 1)

    @property
    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the counts, binomial coefficients included."""
        return float(log_sum(self._joint.log_p))

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Posterior mean and covariance of beta, the intercept first, logit scale."""
        share = np.exp(self._joint.log_p - self.log_marginal_likelihood)
        z, zz = self._joint.first, self._joint.second.reshape(self.root.shape)
        first = self.mode + np.einsum("tij,tj->ti", self.root, z)
        within = self.root @ (zz - z[:, :, None] * z[:, None]) @ np.swapaxes(self.root, 1, 2)
        mean = share @ first
        off = first - mean
        return mean, np.einsum("t,tij->ij", share, within + off[:, :, None] * off[:, None])

    @property
    def error(self) -> float:
        """Estimate of the relative error: of every grid asked for so far, and of their masses.

        A grid's nodes lie along a line, the joint lattice's do not; what both say of the mass of
        all rows differs where either is too coarse.
        """
        grids = [each.error for each in self._populations.values()]
        apart = [
            abs(each.log_marginal_likelihood - self.log_marginal_likelihood)
            for each in self._populations.values()
        ]
        return max([self._joint.beyond, *grids, *apart])


@dataclass(frozen=True)
class _Tables:
    """f_r by cells: Taylor's coefficients about equidistant points, in units of their spacing.

    Attributes
    ----------
    low, high : array, shape (row of tau, row of the design)
    pieces : array, shape (4, row of tau x row of the design x cell)
    """

    low: Array
    high: Array
    pieces: Array

    def __call__(self, rows: Index, predictor: Array) -> Array:
        """Return f_r for `predictor` (..., row of the design) at `rows` of tau (...)."""
        number = self.low.shape[1]
        place = (predictor - self.low[rows]) * ((TABLE_CELLS - 1) / (self.high - self.low))[rows]
        first = TABLE_CELLS * (number * rows[..., None] + np.arange(number))
        return self._read(place, first)

    def add_to(self, height: Array, rows: Index, middle: Array, along: Array, z: Array) -> None:
        """Add the sum over r of f_r(middle + along z) to `height` (place, z).

        Shapes: `middle` (place, row of the design), `along` (place, row of the design, other).
        """
        number = self.low.shape[1]
        scale = (TABLE_CELLS - 1) / (self.high - self.low)[rows]
        origin = (middle - self.low[rows]) * scale
        for i in range(number):
            place = (along[:, i] * scale[:, i, None]) @ z
            place += origin[:, i, None]
            height += self._read(place, TABLE_CELLS * (number * rows[:, None] + i))

    def _read(self, place: Array, first: Index) -> Array:
        nearest = np.rint(place)
        np.maximum(nearest, 0, out=nearest)
        np.minimum(nearest, TABLE_CELLS - 1, out=nearest)
        place -= nearest
        cell = nearest.astype(np.intp)
        cell += first
        value = self.pieces[3].take(cell)
        for piece in self.pieces[2::-1]:
            value *= place
            value += piece.take(cell)
        return np.asarray(value)


@lru_cache(maxsize=8)
def _taylor(number: int) -> Array:
    """Return the matrix from Chebyshev values to Taylor's coefficients, (4, cell, value)."""
    x = np.linspace(-1, 1, TABLE_CELLS)
    coefficients: Array = chebyshev_coefficients(number)
    step, factor, matrices = 2 / (TABLE_CELLS - 1), 1.0, []
    for degree in range(4):
        if degree:
            coefficients = np.asarray(chebyshev.chebder(coefficients), dtype=np.float64)
            factor *= step / degree
        matrices.append(factor * chebyshev.chebvander(x, len(coefficients) - 1) @ coefficients)
    return np.stack(matrices)


@lru_cache(maxsize=8)
def _lattice(dimensions: int) -> _Nodes:
    """Return the points of a body-centred lattice: in its unit whole numbers, or all halves."""
    side = np.sqrt(2) * LATTICE_STEP
    reach = int(MOST_RADIUS / side) + 1
    number = 2 * reach
    whole = np.indices((number,) * dimensions).reshape(dimensions, number**dimensions).T - reach
    z = side * np.concatenate([whole, whole + 0.5][: 2 if dimensions else 1])
    z = z[(z**2).sum(-1) <= MOST_RADIUS**2]
    volume = side**dimensions / 2 if dimensions else 1.0
    return _Nodes(z, np.full(len(z), np.log(volume)))


@lru_cache(maxsize=8)
def _sequence(dimensions: int) -> _Nodes:
    """Return points of Kronecker's sequence of the generalised golden ratio, and its mirror image.

    They fill a normal distribution evenly, each weighted by its inverse density.
    """
    golden = 2.0
    for _ in range(60):
        golden = (1 + golden) ** (1 / (dimensions + 1))
    step = golden ** -np.arange(1, dimensions + 1)
    z = ndtri((0.5 + np.outer(np.arange(1, IN_SEQUENCE + 1), step)) % 1)
    z = np.concatenate([z, -z])
    log_weight = (z**2).sum(-1) / 2 + dimensions * (LOG_ROOT_2PI + np.log(WIDER))
    return _Nodes(WIDER * z, log_weight - np.log(len(z)))


def _products(z: Array) -> Array:
    """Return z z' of each point, (point, dimension squared)."""
    return np.asarray((z[:, :, None] * z[:, None]).reshape(len(z), -1))


def _root(precision: Array) -> Array:
    """Return a root of the inverse of symmetric positive matrices: inverse = root root'."""
    if not precision.shape[-1]:
        return precision
    # Scaled to ones on the diagonal, whatever the units of the coefficients
    scale = 1 / np.sqrt(np.einsum("...ii->...i", precision))
    scaled = precision * scale[..., :, None] * scale[..., None, :]
    return np.asarray(scale[..., None] * np.linalg.cholesky(np.linalg.inv(scaled)))


def _log_det(root: Array) -> Array:
    """Return the logs of the determinants of lower triangular matrices or their like."""
    if not root.shape[-1]:
        return np.zeros(root.shape[:-2])
    return np.asarray(np.linalg.slogdet(root)[1])


def _complement(given: Array) -> Array:
    """Return orthonormal vectors orthogonal to given ones: (..., some, n) to (..., n, rest)."""
    full = np.linalg.qr(np.swapaxes(given, -1, -2), mode="complete")[0]
    return np.asarray(full[..., given.shape[-2] :])
