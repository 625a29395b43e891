"""The exact engine for rows that belong to clusters.

The model is that of `dfsp.model.effects.NestedNormal`: theta_ij = mu + u_i + v_ij on the logit
scale, u_i ~ N(0, tau^2) between clusters and v_ij ~ N(0, omega^2) within, sigma^2 = tau^2 + omega^2
and rho = tau^2 / sigma^2.

**One grid.** Given mu and sigma, rho is integrated out, and what results is a `Grid` of (mu, sigma)
like that of a fit without clusters: everything that a `Population` makes of one holds here too. A
cluster of one row does not depend on rho, and its likelihood is that of a study with tau = sigma.

**rho.** tau = sigma sin(phi) and omega = sigma cos(phi), of which the likelihood is an even and
analytic function, so that phi has Gauss-Legendre nodes, over the range that holds its posterior.

**Leaving out.** What a grid calls the likelihood of a cluster is the ratio of the joint densities
with and without it, both with rho integrated out: its own predictive density at mu and sigma.

**Rates of rows.** A row of a cluster has density f(theta) E[N(theta | x, omega^2)] where x is its
cluster's location given all counts but its own: the first engine's sum over nodes, with x in the
place of mu and omega in that of tau.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre
from scipy.special import betaln

from dfsp.checks import Check
from dfsp.constants import QUANTILES
from dfsp.engine.clusters import Clusters
from dfsp.engine.distributions import MIXTURE_POINTS, Distribution, cdf_of_u, mix
from dfsp.engine.grid import (
    TOLERANCE,
    Data,
    Grid,
    Rows,
    Surface,
    chebyshev_shares,
    coefficient_error,
    last_coefficients,
    place,
)
from dfsp.engine.posterior import (
    LIGHT,
    NOWHERE,
    PLAIN,
    Ends,
    Nodes,
    Population,
    Posterior,
    at_nodes,
    equidistant_nodes,
    left_out,
    logit_of,
    study_rates,
    tabulate,
)
from dfsp.errors import DfspError
from dfsp.model.likelihood import COARSE, ENOUGH, log_sum
from dfsp.model.model import Model

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

PRIOR_SHARES = 12  # nodes of phi where rho has its prior
FEW_SHARES = 5  # nodes of phi with which a grid is placed,
ENOUGH_SHARES = 2  # at least so many of them where the posterior is
MANY_SHARES = 64  # most nodes of phi; with so many or a half their number is chosen,
EVERY_ROW, SOME_SHARES = 5, 16  # at every fifth row of sigma and so many points of mu
IN_LOOK = 6  # nodes of phi at the first look of a grid
SHARE_TOLERANCE = 1e-5  # of the last coefficients along phi; with 1e-6 rates move by 3e-7
DROP_SHARES = 22.0  # log mass below its maximum at which the posterior of phi ends
FINE_SHARES = 5  # values of phi that tau and omega are mixed over, for each node; with 3 error 5e-5
SMOOTHED = 3e-7  # error of a density of a location that counts fully, as of `equidistant_nodes`
CLUSTERS = 64  # located at once


class Units(NamedTuple):
    """What is left out together: single rows, and clusters of two rows or more.

    Attributes
    ----------
    unit : array of int, shape (row,)
        The unit of each row, in the order of the rows.
    single : Data
        The distinct counts of single rows.
    clusters : Clusters or None
        The others, in order; None where there is none.
    data : Data
        The distinct single rows, then each cluster's sums; `inverse` is by unit.
    """

    unit: Index
    single: Data
    clusters: Clusters | None
    data: Data

    @property
    def is_single(self) -> npt.NDArray[np.bool_]:
        """Whether each unit is one row."""
        return np.asarray(np.bincount(self.unit) == 1)

    @classmethod
    def of(cls, events: Array, total: Array, cluster: Sequence[Hashable]) -> "Units":
        """Collect rows by cluster."""
        order = {name: i for i, name in enumerate(dict.fromkeys(cluster))}
        unit = np.array([order[name] for name in cluster], dtype=np.intp)
        size = np.bincount(unit, minlength=len(order))
        several = np.flatnonzero(size > 1)
        alone = size[unit] == 1
        single = Data.of(events[alone], total[alone])
        inverse = np.empty(len(order), dtype=np.intp)
        inverse[unit[alone]] = single.inverse
        inverse[several] = len(single.total) + np.arange(len(several))
        sums = [np.bincount(unit, counts, len(order))[several] for counts in (events, total)]
        data = Data(
            np.append(single.events, sums[0]),
            np.append(single.total, sums[1]),
            inverse,
            np.append(single.times, np.ones(len(several))),
        )
        inside = np.searchsorted(several, unit[~alone])
        clusters = Clusters(events[~alone], total[~alone], inside) if len(several) else None
        return cls(unit, single, clusters, data)


class NestedSurface(Surface):
    """The log likelihood of counts in clusters, with rho integrated out.

    Parameters
    ----------
    units : Units
        With clusters of two rows or more.
    model : Model
    phi : Rows
        Nodes of phi, in the place of u.
    leaving_out : bool
        As of `Surface`.
    """

    def __init__(self, units: Units, model: Model, phi: Rows, *, leaving_out: bool = True) -> None:
        super().__init__(units.data, model, leaving_out=leaving_out)
        self.units = units
        self.phi = phi

    @property
    def first_columns(self) -> int:
        return 3

    def by_share(self, phi: Rows, mu: Array, sigma: Array, level: int) -> Array:
        """Return log L of each cluster of two rows or more: (phi, cluster, *shape of mu)."""
        clusters = self.units.clusters
        if clusters is None:
            return np.zeros((len(phi), 0, *mu.shape))
        flat = sigma.ravel()
        distinct, where, times = np.unique(flat, return_inverse=True, return_counts=True)
        order = np.argsort(where, kind="stable")
        if (times != times[0]).any():
            distinct, order = flat, np.arange(len(flat))
        points = np.tile(mu.ravel()[order].reshape(len(distinct), -1), (len(phi), 1))
        tau, omega = (np.outer(f(phi.u), distinct).ravel() for f in (np.sin, np.cos))
        found = clusters.log_likelihood(points, tau, omega, level)
        found = found.reshape(len(clusters), len(phi), -1).swapaxes(0, 1)
        value = np.empty_like(found)
        value[..., order] = found
        return value.reshape(len(phi), len(clusters), *mu.shape)

    def joint(self, phi: Rows, mu: Array, sigma: Array, level: int) -> tuple[Array, Array, Array]:
        """Return log joint by phi without the prior of sigma, log L of single rows, of clusters."""
        flat = mu.ravel(), sigma.ravel()
        single = self.units.single
        log_l = self.model.effects.log_likelihood(single.events, single.total, *flat, level)
        rest = single.times @ log_l + self.model.location_prior.logpdf(flat[0])
        own = self.by_share(phi, mu, sigma, level)
        mass = _log_prior(phi).reshape(-1, *[1] * mu.ndim)
        joint = own.sum(1) + rest.reshape(mu.shape) + mass
        return joint, log_l.reshape(-1, *mu.shape), own

    def __call__(self, mu: Array, tau: Array, level: int) -> tuple[Array, Array]:
        phi = self.phi
        if level == COARSE:
            phi = Rows.between(*phi.ends, 1.0, IN_LOOK)
        return summed(*self.joint(phi, mu, tau, level))


def summed(by_phi: Array, single: Array, own: Array) -> tuple[Array, Array]:
    """Return log joint and log L of each unit from `NestedSurface.joint`, rho integrated out."""
    joint = log_sum(np.moveaxis(by_phi, 0, -1))
    # One by one, since there can be thousands
    without = [log_sum(np.moveaxis(by_phi - each, 0, -1)) for each in own.swapaxes(0, 1)]
    return joint, np.concatenate([single, joint - np.stack(without)])


def _log_prior(phi: Rows) -> Array:
    """Return the log prior masses of nodes of phi: drho = sin(2 phi) dphi."""
    return np.asarray(np.log(np.sin(2 * phi.u) * phi.weights))


class Placed(NamedTuple):
    """A grid of mu and sigma, and what it is a sum of.

    Attributes
    ----------
    grid : Grid
    phi : Rows
        Nodes of phi, in the place of u.
    by_phi : array, shape (phi, row of sigma, column)
        Log joint density, without the prior of sigma.
    of_clusters : array, shape (phi, cluster of two rows or more, row of sigma, column)
        Log likelihoods.
    error : float
        Relative size of the last coefficients along phi.
    """

    grid: Grid
    phi: Rows
    by_phi: Array
    of_clusters: Array
    error: float

    @property
    def mass(self) -> Array:
        """Posterior probability of each node of phi and row of sigma, shape (phi, row)."""
        fine = np.stack(
            [replace(self.grid, log_joint=each).fine(PLAIN[0])[1] for each in self.by_phi]
        )
        log_mass = log_sum(fine) + self.grid.log_row
        weight = np.exp(log_mass - log_mass.max())
        return np.asarray(weight / weight.sum())


class _Piece(NamedTuple):
    """Locations of clusters at one phi and sigma, see `Nested._locate`."""

    x: Array
    omega: float
    width: float
    sd: float
    log_weight: Array
    rows: Array


class _Located(NamedTuple):
    """Locations of clusters: nodes with log weights (cluster, node) and log likelihoods of rows.

    `rows` is (distinct row, node); `ends` has a row for each cluster.
    """

    nodes: Nodes
    log_weight: Array
    rows: Array
    ends: Ends


@dataclass(frozen=True, eq=False)
class Nested(Posterior):
    """What the exact engine knows of rows in clusters after seeing the counts.

    `tau` is the standard deviation between clusters, `omega` that within, `sigma` that of both
    (logit scale), `rho` the share of the variance between clusters.

    Attributes
    ----------
    units : Units
    placed : Placed
    """

    units: Units = field(repr=False, kw_only=True)
    placed: Placed = field(repr=False, kw_only=True)

    @property
    def error(self) -> float:
        """Estimate of the relative error of the grid and of the nodes of phi."""
        return max(self.grid.error, self.placed.error)

    @cached_property
    def mass(self) -> Array:
        """Posterior probability of each node of phi and row of sigma, shape (phi, row)."""
        return self.placed.mass

    @property
    def log_terms(self) -> Array:
        """Posterior mean over rho ~ Uniform(0, 1) of log prior of mu plus log likelihood."""
        share = np.exp(self.placed.by_phi - self.grid.log_joint)
        terms = self.placed.by_phi - _log_prior(self.placed.phi)[:, None, None]
        return np.asarray((share * terms).sum(0))

    # The shares of the variance

    @cached_property
    def sigma(self) -> Distribution:
        """Standard deviation of a new study's logit rate."""
        return self.spread

    @cached_property
    def rho(self) -> Distribution:
        """Share of the variance of the logit rate that is between clusters."""
        mass = self.mass.sum(1)
        phi, cdf = cdf_of_u(self.placed.phi, mass)
        rho = np.sin(self.placed.phi.u) ** 2
        mean = float(mass @ rho)
        return Distribution(
            np.sin(phi) ** 2, cdf, mean, float(mass @ (rho - mean) ** 2) ** 0.5, False
        )

    @cached_property
    def tau(self) -> Distribution:
        """Standard deviation between clusters, logit scale."""
        return self._part(np.sin)

    @cached_property
    def omega(self) -> Distribution:
        """Standard deviation between the rows of a cluster, logit scale."""
        return self._part(np.cos)

    def _part(self, share: np.ufunc) -> Distribution:
        """Return the distribution of sigma times `share` of phi."""
        rows, exist = self.grid.rows, self.tau_moments
        values = share(self.placed.phi.u)[:, None] * rows.tau
        mean = float((self.mass * values).sum()) if exist[0] else np.nan
        sd = float((self.mass * (values - mean) ** 2).sum()) ** 0.5 if exist[1] else np.nan
        if rows.known:
            phi, cdf = cdf_of_u(self.placed.phi, self.mass.sum(1))
            x = share(phi) * rows.tau[0]
            falls = x[0] > x[-1]
            x, cdf = (x[::-1], 1 - cdf[::-1]) if falls else (x, cdf)
            return Distribution(x, cdf, mean, sd, False)
        phi, mass, within = self._by_phi
        parts = share(phi)[:, None]

        def share_of(x: Array, some: npt.NDArray[np.bool_]) -> Array:
            low, high = rows.ends
            place = 2 * (np.arcsinh(x / (rows.c * parts[some])) - low) / (high - low) - 1
            return np.asarray(np.arccos(-np.clip(place, -1, 1)) / np.pi)

        # At the points of `cdf_of_u`
        values = parts * (rows.c * np.sinh(cdf_of_u(rows, mass[:1])[0]))
        slope = np.gradient(within, axis=1)
        table = mix(values, within, slope, mass.sum(1), MIXTURE_POINTS[1], share_of)
        return Distribution(*table, mean, sd, False)

    @cached_property
    def _by_phi(self) -> tuple[Array, Array, Array]:
        """Values of phi, posterior masses (phi, row of sigma), distribution functions of u."""
        low, high = self.placed.phi.ends
        fine = Rows.between(low, high, 1.0, FINE_SHARES * len(self.placed.phi))
        place = 2 * (fine.u - low) / (high - low) - 1
        coefficients = self.placed.phi.coefficients(self.mass.T)
        mass = np.maximum(legendre.legval(place, coefficients.T) * fine.weights, 0).T
        some = mass.sum(1) > 0
        return fine.u[some], mass[some], cdf_of_u(self.grid.rows, mass[some])[1]

    # Rates

    def _summarised(self, at: Array) -> tuple[Array, tuple[Array, Array]]:
        single = self.units.single
        of_single = at_nodes(self.nodes, self.grid.log_l[: len(single.total)])
        parts = self.grid, self.nodes, self.row_weight, self.model.effects
        return study_rates(single, of_single, *parts, at)

    @cached_property
    def studies(self) -> Array:
        """Mean, sd and `QUANTILES` of each row's rate, shape (row, 7)."""
        return self._of_rows(self._rates[0], NOWHERE)

    def prob_above(self, rate: float) -> Array:
        at = logit_of(rate)
        return self._of_rows(self._summarised(at)[0], at)[:, -1]

    def _of_rows(self, single_rows: Array, at: Array) -> Array:
        """Return summaries of all rows; `single_rows` are those of distinct single ones."""
        units = self.units
        found = np.empty((len(self.total), single_rows.shape[1]))
        single = units.is_single[units.unit]
        found[single] = single_rows[units.data.inverse[units.unit[single]]]
        if units.clusters is not None:
            rows = units.clusters.cluster
            found[~single] = self._about_clusters(
                units.clusters, self.placed.of_clusters, rows, False, at
            )
        return found

    @cached_property
    def new_rows(self) -> Array:
        """Mean, sd and `QUANTILES` of the rate of one more row of each cluster, in order."""
        return self._of_new_rows(NOWHERE)

    def prob_new_rows_above(self, rate: float) -> Array:
        """Return the probability that the rate of one more row exceeds `rate`, by cluster."""
        return self._of_new_rows(logit_of(rate))[:, -1]

    def _of_new_rows(self, at: Array) -> Array:
        clusters = Clusters(self.events, self.total, self.units.unit)
        shape = len(self.placed.phi), len(clusters), *self.grid.log_joint.shape
        log_l = np.empty(shape)
        inverse = self.units.data.inverse
        single = self.units.is_single
        log_l[:, single] = self.grid.log_l[inverse[single]]
        log_l[:, ~single] = self.placed.of_clusters
        return self._about_clusters(clusters, log_l, np.arange(len(clusters)), True, at)

    def _about_clusters(
        self, clusters: Clusters, log_l: Array, rows: Index, new: bool, at: Array
    ) -> Array:
        """Summarise the rates of the rows of clusters, or of `new` ones.

        Shapes: `log_l` (phi, cluster, row of sigma, column); `rows` (row,), the cluster of each;
        `at` (value,), logit rates.
        """
        found = np.empty((len(rows), 2 + len(QUANTILES) + len(at)))
        for start in range(0, len(clusters), CLUSTERS):
            some = np.arange(start, min(start + CLUSTERS, len(clusters)))
            located = self._locate(clusters, log_l[:, some], some)
            chosen = np.flatnonzero((rows >= start) & (rows < start + CLUSTERS))
            of = rows[chosen] - start
            data = clusters.data
            events, total = (
                np.zeros(len(chosen)) if new else each[data.inverse[chosen]]
                for each in (data.events, data.total)
            )

            def log_ratio(
                which: Index, located: _Located = located, of: Index = of, chosen: Index = chosen
            ) -> Array:
                value = located.log_weight[of[which]]
                return value if new else value - located.rows[clusters.data.inverse[chosen[which]]]

            ends = located.ends._replace(mu=located.ends.mu[of])
            parts = events, total, located.nodes, log_ratio, ends
            found[chosen] = tabulate(*parts, self.model.effects, at)[0]
        return found

    def _locate(self, clusters: Clusters, log_l: Array, some: Index) -> "_Located":
        """Return nodes of the locations x of `some` clusters, with their posterior weights."""
        pieces: list[_Piece] = []
        for k in range(len(self.placed.phi)):
            pieces += self._locate_at(clusters, log_l[k], some, k)
        mu = np.concatenate([piece.x for piece in pieces])
        sizes = np.array([len(piece.x) for piece in pieces])
        omega, width, sd = (np.array([p[i] for p in pieces]) for i in (1, 2, 3))
        log_weight, rows = (np.concatenate([p[i] for p in pieces], axis=1) for i in (4, 5))
        log_weight = log_weight - log_sum(log_weight)[:, None]
        share = np.exp(log_weight)
        mean = share @ mu
        # Where each cluster is at each pair of phi and sigma
        near = log_weight > log_weight.max(1, keepdims=True) - DROP_SHARES
        starts = np.cumsum(sizes) - sizes
        low = np.minimum.reduceat(np.where(near, mu, np.inf), starts, axis=1)
        high = np.maximum.reduceat(np.where(near, mu, -np.inf), starts, axis=1)
        low, high = (np.where(np.isfinite(end), end, mean[:, None]) for end in (low, high))
        weight = np.clip(np.add.reduceat(share, starts, axis=1).max(0), LIGHT, 1)
        ends = Ends.of(low, high, mean, omega, sd, weight)
        most = share.max(0)
        with np.errstate(divide="ignore"):
            log_most = np.log(most)
        tau, width = np.repeat(omega, sizes), np.repeat(width, sizes)
        excess, is_end = 1 - (tau / width) ** 2, np.zeros(len(mu), dtype=bool)
        nodes = Nodes(mu, tau, width, excess, most, log_most, is_end, np.empty(0, np.intp), ())
        return _Located(nodes, log_weight, rows, ends)

    def _locate_at(self, clusters: Clusters, log_l: Array, some: Index, k: int) -> list[_Piece]:
        """Return the nodes of one phi, by row of sigma."""
        effects, grid = self.model.effects, self.grid
        sine, cosine = np.sin(self.placed.phi.u[k]), np.cos(self.placed.phi.u[k])
        mass = self.mass[k]
        main = np.flatnonzero(mass > LIGHT)
        if not len(main):
            return []
        rows = Rows(grid.rows.u, grid.rows.weights, grid.rows.c * sine)
        here = replace(grid, rows=rows, log_joint=self.placed.by_phi[k], log_l=log_l)
        nodes = equidistant_nodes(here, mass, 0.0, effects)
        # The mass of phi is that of its nodes, which sum to one.
        log_ratio = nodes.log_weight + np.log(mass.sum()) - nodes.spread(log_l)
        tau, omega = rows.tau[main], grid.tau[main] * cosine
        reach = effects.reach * tau
        ends = np.stack([grid.low[main] - reach, grid.high[main] + reach], axis=1)
        table = clusters.table(ends, 0 * tau, omega)
        of_clusters = table.at(table.clusters[some], omega)
        of_rows = table.at(table.rows, omega)
        sd = (clusters.information(omega) + 1 / (tau**2 + grid.sd[main] ** 2)) ** -0.5
        narrow = sd * (SMOOTHED / mass[main]) ** (1 / 6)
        wanted = np.minimum(np.maximum(0.9 * omega, narrow), 0.7 * sd)
        found = []
        for i, row in enumerate(main):
            at_row = np.flatnonzero(nodes.row == row)
            ratio = log_ratio[:, at_row]
            top = ratio.max(1, keepdims=True)
            near = (ratio > top - DROP_SHARES).any(0)
            at_row, ratio = at_row[near], ratio[:, near]
            mu = nodes.mu[at_row]
            low, high = mu.min() - reach[i], mu.max() + reach[i]
            x = np.linspace(low, high, int((high - low) / wanted[i]) + 2)
            step = x[1] - x[0]
            x = x[table.near(x, of_clusters[i])]
            density = nodes.mixed(x, effects, at_row, np.exp(ratio - top))
            matrix = table.in_x(x).T
            with np.errstate(divide="ignore"):
                log_weight = np.log(density * step) + top + of_clusters[i] @ matrix
            width = max(omega[i], step / 0.9)
            found.append(_Piece(x, omega[i], width, sd[i], log_weight, of_rows[i] @ matrix))
        return found

    # What is left out

    @cached_property
    def leave_one_cluster_out_lpd(self) -> Array:
        """Log predictive density of each cluster's counts, jointly, given the others."""
        units = self.units

        def log_marginal(some: Sequence[int]) -> float:
            rows = np.flatnonzero(np.isin(units.unit, some))
            if not len(rows):
                return 0.0
            if len(rows) == len(units.unit):
                return self.log_marginal_likelihood
            parts = Units.of(self.events[rows], self.total[rows], units.unit[rows].tolist())
            placed = _place(parts, self.model, 0, leaving_out=False)
            return Population(self.model, placed.grid).log_marginal_likelihood

        of_units = at_nodes(self.nodes, self.grid.log_l)
        parts = units.data, of_units, self.nodes, self.grid, self.row_weight
        lpd = left_out(*parts, None, self.model, log_marginal)
        every = set(range(len(lpd)))
        for unit, out in enumerate(self._together()):
            if len(out) > 1:
                rest = sorted(every - out)
                lpd[unit] = log_marginal([*rest, unit]) - log_marginal(rest)
        return lpd

    @cached_property
    def leave_one_out_lpd(self) -> Array:
        """The same of clusters of one row, by row; NaN elsewhere."""
        units = self.units
        lpd = self.leave_one_cluster_out_lpd[units.unit]
        return np.where(units.is_single[units.unit], lpd, np.nan)

    def _together(self) -> list[set[int]]:
        """Return for each cluster those that are left out with it, itself among them."""
        unit = self.units.unit.tolist()
        sets = [{i} for i in range(max(unit) + 1)]
        for row, out in enumerate(self.together or ()):
            sets[unit[row]] |= {unit[other] for other in out}
        return sets

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        raise DfspError(
            "rows in clusters have no independent draws; fit with engine='nuts' for draws"
        )


def solve_nested(
    events: npt.ArrayLike,
    total: npt.ArrayLike,
    cluster: Sequence[str],
    model: Model,
    *,
    together: Sequence[Sequence[int]] | None = None,
) -> Nested:
    """Compute the posterior of rows that belong to clusters.

    Parameters
    ----------
    events, total : array-like, shape (row,)
        Counts with 0 <= events <= total and total > 0, of one row or more.
    cluster : sequence of str, one a row
        Rows with the same belong together.
    model : Model
        With normal effects; its prior of tau is that of sigma.
    together : sequence of sequences of int, optional
        For each row, the rows (itself among them) that share patients: their clusters are left out
        together when the counts of one of them are predicted.

    Returns
    -------
    Nested

    Raises
    ------
    DfspError
        Other effects.

    Examples
    --------
    >>> from dfsp.model.model import Model
    >>> posterior = solve_nested([7, 4, 9, 3], [15, 22, 18, 12], ["A", "A", "B", "C"], Model())
    >>> posterior.rho.quantile([0.5]).round(2)
    array([0.45])
    """
    events = np.asarray(events, dtype=np.float64)
    total = np.asarray(total, dtype=np.float64)
    model = model.nested(cluster)
    model.require_tail(events, total)
    units = Units.of(events, total, cluster)
    exist = model.effects.tau_moments(events, total, model.tau)
    placed = _place(units, model, sum(exist))
    counts = events, total, units.data, together
    return Nested(model, placed.grid, exist, exist, *counts, units=units, placed=placed)


def _place(units: Units, model: Model, order: int, *, leaving_out: bool = True) -> Placed:
    """Place a grid of mu and sigma with a few nodes of phi, then take as many as are needed."""
    if units.clusters is None:
        phi = Rows.between(0.0, np.pi / 2, 1.0, PRIOR_SHARES)
        grid = place(Surface(units.data, model, leaving_out=leaving_out), order)
        by_phi = grid.log_joint + _log_prior(phi)[:, None, None]
        return Placed(grid, phi, by_phi, np.empty((len(phi), 0, *grid.log_joint.shape)), 0.0)
    phi = Rows.between(0.0, np.pi / 2, 1.0, FEW_SHARES)
    while True:
        surface = NestedSurface(units, model, phi, leaving_out=leaving_out)
        grid = place(surface, order)
        chosen = _chosen(surface, grid)
        low, high = chosen.ends
        if ((phi.u > low) & (phi.u < high)).sum() >= ENOUGH_SHARES:
            break
        phi = Rows.between(low, high, 1.0, FEW_SHARES)
    found = _evaluated(surface, grid, chosen)
    if found.grid.error > max(grid.error, TOLERANCE):
        # What the few nodes passed over has another shape.
        finer = NestedSurface(units, model, chosen, leaving_out=leaving_out)
        grid = place(finer, order)
        found = _evaluated(surface, grid, chosen)
    while found.error > SHARE_TOLERANCE and len(found.phi) < 2 * MANY_SHARES:
        # The look was at some rows only.
        more = Rows.between(*chosen.ends, 1.0, len(found.phi) * 5 // 4 + 1)
        found = _evaluated(surface, grid, more)
    return found


def _chosen(surface: NestedSurface, grid: Grid) -> Rows:
    """Return nodes of phi that hold and resolve its posterior, by a look at some rows of sigma."""
    rows = slice(None, None, EVERY_ROW)
    mu, width = grid.place(chebyshev_shares(SOME_SHARES), rows)
    sigma = np.broadcast_to(grid.tau[rows, None], mu.shape)
    ends, many = surface.phi.ends, MANY_SHARES // 2
    while True:
        phi = Rows.between(*ends, 1.0, many)
        by_phi, _, _ = surface.joint(phi, mu, sigma, COARSE + 1)
        # Roughly in proportion to the mass of each row and phi
        log_mass = log_sum(by_phi + np.log(width)) + grid.log_row[rows]
        log_mass = log_sum(log_mass)
        density = np.exp(log_mass - log_mass.max()) / phi.weights
        near = np.flatnonzero(density > density.max() * np.exp(-DROP_SHARES))
        steps = np.array([ends[0], *phi.u, ends[1]])
        low, high = float(steps[near[0]]), float(steps[near[-1] + 2])
        shorter = Rows.between(low, high, 1.0, many)
        place_in = 2 * (shorter.u - ends[0]) / (ends[1] - ends[0]) - 1
        values = legendre.legval(place_in, phi.coefficients(density * phi.weights))
        size = np.abs(shorter.coefficients(values * shorter.weights))
        number = int(np.flatnonzero(size > SHARE_TOLERANCE * size.max())[-1]) + 3
        if number < many or (many == MANY_SHARES and high - low > 0.7 * (ends[1] - ends[0])):
            return Rows.between(low, high, 1.0, min(number, many))
        ends, many = (low, high), MANY_SHARES


def _evaluated(surface: NestedSurface, grid: Grid, phi: Rows) -> Placed:
    """Return the joint density at every node of a grid and of phi."""
    mu, _ = grid.place(chebyshev_shares(grid.columns))
    sigma = np.broadcast_to(grid.tau[:, None], mu.shape)
    by_phi, single, own = surface.joint(phi, mu, sigma, ENOUGH)
    log_joint, log_l = summed(by_phi, single, own)
    found = Placed(replace(grid, log_joint=log_joint, log_l=log_l), phi, by_phi, own, 0.0)
    error = max(grid.error, coefficient_error(found.grid))
    share_error = last_coefficients(phi, found.mass.sum(1))
    return found._replace(grid=replace(found.grid, error=error), error=share_error)


def with_share(posterior: Nested, a: float, b: float) -> Nested:
    """Return a posterior under rho ~ Beta(a, b), a and b 1 or more, instead of Beta(1, 1).

    Examples
    --------
    >>> from dfsp.model.model import Model
    >>> posterior = solve_nested([7, 4, 9, 3], [15, 22, 18, 12], ["A", "A", "B", "C"], Model())
    >>> [round(with_share(posterior, *ab).rho.mean, 2) for ab in ((1, 2), (2, 1))]
    [0.32, 0.64]
    """
    placed, single = posterior.placed, len(posterior.units.single.total)
    u = placed.phi.u
    log_ratio = 2 * (a - 1) * np.log(np.sin(u)) + 2 * (b - 1) * np.log(np.cos(u)) - betaln(a, b)
    by_phi = placed.by_phi + log_ratio[:, None, None]
    grid = placed.grid
    if posterior.units.clusters is not None:
        log_joint, log_l = summed(by_phi, grid.log_l[:single], placed.of_clusters)
        grid = replace(grid, log_joint=log_joint, log_l=log_l)
    return replace(posterior, grid=grid, placed=placed._replace(grid=grid, by_phi=by_phi))


def identified(cluster: Sequence[str]) -> Check:
    """Return whether the counts can tell the effects of clusters from those of their rows."""
    several = sum(size > 1 for size in Counter(cluster).values())
    says = f"{several} clusters have two rows or more."
    if several < 2:
        counted = "1 cluster has" if several else "no cluster has"
        says = (
            f"rho is not identified: {counted} two rows or more, where two are needed; how much of "
            "the variance is between clusters is its prior's."
        )
    return Check(
        name="identification of rho",
        passed=True if several > 1 else None,
        value=several,
        limit=2,
        says=says,
    )
