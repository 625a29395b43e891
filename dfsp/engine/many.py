"""Thousands of analyses on one grid of (mu, tau): subsets, multiverse, calibration, coverage.

What an analysis leaves in, and the priors it takes, only change the weights of the nodes: the
likelihood of distinct counts, and how much of a quantity lies below a value at a node, are
computed once. The posterior distribution functions of all analyses are then a product of two
matrices, weights by node and shares by node, and are read where they are wanted: at probabilities
(`Tables.quantiles`) or at values (`Tables.below`).

**Rows** of tau cover the priors (`dfsp.engine.grid.over_prior`). **Columns** of mu are common to
all rows, equidistant in t of mu = centre + 2 sd sinh(t). Analyses of the same studies have the
pooled logit as centre and its standard error as sd. Where counts can be anything, the centre is 0
and the sd 1: the standard error of a logit, proportional to cosh(mu / 2), grows at least as
sqrt(1 + (mu / 2)^2), with which the spacing grows.

**Chebyshev in t.** Likelihoods and mean rates are computed at few nodes and interpolated. They are
analytic in mu but for logit^-1's poles at i pi (2 k + 1); these are at an imaginary part of
arctan2(pi, |centre|) of t, so that N nodes over a half-width h leave an error of exp(-N arcsinh(
arctan2(pi, |centre|) / h)) (Trefethen 2019, doi:10.1137/1.9781611975949).

**Narrow kernels.** Where tau is below the spacing of mu, the effect of a new study would step from
node to node. The mass of a node is then spread over finer ones, by the quintic spline through all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from dfsp.constants import MEDIAN_AND_ENDS
from dfsp.engine.distributions import cdf_of_u, increments, invert, polynomial
from dfsp.engine.grid import chebyshev_shares, over_prior, place_columns, refine, shares
from dfsp.engine.posterior import AT_ONCE
from dfsp.errors import DfspError
from dfsp.model.effects import logit_of_rarer
from dfsp.model.likelihood import FARTHEST_LOGIT, sigmoid
from dfsp.model.model import Model

Array = npt.NDArray[np.float64]
Times = Array | csr_array

# Errors in these comments are the largest of a rate over sixty subsets of the ten imatinib cohorts
# under three models, in `tests/benchmarks/numerics.py`; as the constants are it is 2e-6.
SHARED_LEVEL = 1  # of the inner rule: log likelihoods to 3e-6
DIGITS = 21.0  # exponent of the error of an interpolation in t: e^-21 = 8e-10
MORE_MODES = 1.6  # times as many nodes where the likelihood, a mixture's, has zeros of its own
PRIOR_SDS = 7.5  # of mu on either side of its prior's mean: 6e-14 of a normal lies beyond
# Columns of mu for analyses of the same studies; where it can have several modes. With two thirds
# of them the error is 1e-5.
FINE_COLUMNS = (241, 301)
PER_SD = 0.35  # spacing of columns for any counts, in posterior standard deviations at tau = 0
TABLE_POINTS = {"mu": 281, "mean_rate": 281, "new_study_rate": 141}
"""Points of the tables of analyses of the same studies; with half as many the error is 5e-5."""
MOST_VALUES = 250_000_000  # log likelihoods held, 2 GB
COUNTS_AT_ONCE = 64  # counts whose likelihoods are computed at once
EVERY_COLUMN = 4  # columns looked at for where any analysis has weight: each of so many
LEAST = 1e-9  # of its greatest weight: what no analysis has at a node is left out
LEAST_LOG_WEIGHT = -100.0  # log weights below count as this: numbers that underflow are slow
COARSEST = 1.8  # columns in a conditional standard deviation of mu, at least,
IN_ROWS = 1e-4  # in rows of a posterior probability above this
INSIDE = 16  # points of a table in the middle 98 % of a posterior, at least
OPEN = 1e-6  # posterior probability of the last row, where tau can lie beyond, at most
SMOOTH = 1.0  # columns in the tau of a row: a new effect steps by 1e-7, and by 3e-6 with 0.3
MOST_COLUMNS = 1300  # columns over which those of narrow rows are spread, or just above
TABLE_SCORES = 6.5  # normal scores that a table covers


@dataclass(frozen=True)
class Tables:
    """Posterior distribution functions of some analyses, at points common to them.

    Attributes
    ----------
    points : dict of str to array, shape (point,)
        Of `mu`, `mean_rate`, `new_study_rate` (logit), where they are asked for, and `tau`, these
        on the scale of u, tau = c sinh(u).
    cdf : dict of str to array, shape (analysis, point)
    c : float
    mean : array, shape (analysis,)
        Posterior mean of the mean rate.
    log_marginal_likelihood : array, shape (analysis,)
    resolved : array of bool, shape (analysis,)
        Whether nodes and tables are close enough for this analysis, to about 1e-5, and reach to
        the end of its posterior.
    """

    points: dict[str, Array]
    cdf: dict[str, Array]
    c: float
    mean: Array
    log_marginal_likelihood: Array
    resolved: npt.NDArray[np.bool_]

    def quantiles(self, quantity: str, q: npt.ArrayLike) -> Array:
        """Return quantiles, shape (analysis, quantile): logit scale, also of rates.

        They are NaN of what was not asked for.
        """
        if quantity not in self.cdf:
            known = self.c if quantity == "tau" else np.nan
            return np.full((len(self.mean), np.size(q)), known)
        x = invert(self.points[quantity][None], self.cdf[quantity], np.asarray(q, np.float64))
        return self.c * np.sinh(x) if quantity == "tau" else x

    def below(self, quantity: str, values: Array) -> Array:
        """Return P(quantity <= value), a value (logit scale) for each analysis."""
        x, cdf = self.points[quantity], self.cdf[quantity]
        at = np.arcsinh(values / self.c) if quantity == "tau" else values
        start = np.clip(np.searchsorted(x, at) - 2, 0, len(x) - 4)
        around = start[:, None] + np.arange(4)
        score = ndtri(np.clip(np.take_along_axis(cdf, around, axis=1), 1e-300, 1 - 1e-16))
        found = ndtr(polynomial(x[around].T, score.T, at))
        return np.where(at <= x[0], cdf[:, 0], np.where(at >= x[-1], cdf[:, -1], found))


@dataclass(frozen=True)
class Answers:
    """What each analysis says, one a row.

    Attributes
    ----------
    typical, new : array, shape (analysis, 3)
        Median and ends of the 95 % interval, rate scale.
    mean : array, shape (analysis, 3)
        Mean and ends of the 95 % interval of the mean rate.
    tau : array, shape (analysis,)
        Median, logit scale. NaN, as `typical` is, where the effects have none.
    resolved : array of bool, shape (analysis,)
        Whether these are right to about 1e-5; elsewhere the analysis needs a grid of its own.
    log_marginal_likelihood : array, shape (analysis,)
    """

    typical: Array
    mean: Array
    new: Array
    tau: Array
    resolved: npt.NDArray[np.bool_]
    log_marginal_likelihood: Array


def distinct_counts(events: npt.ArrayLike, total: npt.ArrayLike) -> tuple[Array, Array, csr_array]:
    """Collect the distinct counts of data sets of one design.

    Parameters
    ----------
    events : array, shape (data set, study)
    total : array, shape (study,)

    Returns
    -------
    events, total : array, shape (count,)
    times : sparse array, shape (data set, count)
        How often each data set has them.
    """
    events, total = np.broadcast_arrays(np.asarray(events), np.asarray(total))
    pairs = np.stack([total.ravel(), events.ravel()], axis=1).astype(np.float64)
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    rows = np.repeat(np.arange(len(events)), events.shape[1])
    shape = len(events), len(distinct)
    times = csr_array((np.ones(len(rows)), (rows, which.ravel())), shape=shape)
    return distinct[:, 1], distinct[:, 0], times


class TooLarge(DfspError):
    """Counts that are too many and too large for one grid."""


class SharedGrid:
    """Nodes of (mu, tau) that serve many analyses of distinct counts under several priors.

    Parameters
    ----------
    events, total : array, shape (count,)
        Distinct counts.
    models : sequence of Model
        With the same effects, and priors of tau that end at the same place.
    patients : float, optional
        Those of one analysis, where analyses are of any counts; by default all are of the same
        studies.

    Raises
    ------
    DfspError
        Effects that differ, priors of tau that end at different places, or more log likelihoods
        than can be held.

    Examples
    --------
    >>> grid = SharedGrid(np.array([7.0, 4, 9]), np.array([15.0, 22, 18]), [Model()])
    >>> grid.solve(np.array([[1.0, 1, 1], [1, 1, 0]])).typical.round(4)
    array([[0.3716, 0.1654, 0.6526],
           [0.3147, 0.1063, 0.6783]])
    """

    def __init__(
        self, events: Array, total: Array, models: Sequence[Model], patients: float | None = None
    ) -> None:
        if len({(model.effects, model.spread_prior.upper) for model in models}) > 1:
            raise DfspError(
                "effects that differ, and priors of tau that end at different places, need a grid "
                "each"
            )
        self.effects = effects = models[0].effects
        self.models = models
        self.any_counts = patients is not None
        locations = [model.location_prior for model in models]
        if patients is None:
            p = float((events.sum() + 0.5) / (total.sum() + 1))
            centre = float(np.log(p / (1 - p)))
            narrow = sd = float(total.sum() * p * (1 - p)) ** -0.5
        else:
            centre, sd = 0.0, 1.0
            narrow = min((patients / 4 + prior.sd**-2) ** -0.5 for prior in locations)
        self.rows = over_prior([model.spread_prior for model in models], narrow)
        low = min(prior.mean - PRIOR_SDS * prior.sd for prior in locations)
        high = max(prior.mean + PRIOR_SDS * prior.sd for prior in locations)
        self._range = low, high, centre, sd
        half = float(np.diff(np.arcsinh((np.array([low, high]) - centre) / (2 * sd)))[0]) / 2
        few = 1 + DIGITS / np.arcsinh(np.arctan2(np.pi, abs(centre)) / half)
        self._few = int(np.ceil(few * (MORE_MODES if effects.several_modes else 1)))
        self.fine = FINE_COLUMNS[effects.several_modes]
        if patients is not None:
            mu, width = self._place(shares(101))
            least = min(prior.sd for prior in locations) ** -2
            posterior_sd = (patients * sigmoid(mu) * sigmoid(-mu) + least) ** -0.5
            self.fine = int(np.ceil(np.max(width / posterior_sd) / PER_SD)) + 1
        self.mu, width = self._place(shares(self.fine))
        self.width = width / (self.fine - 1)
        number = len(events) * len(self.rows) * self.fine
        if number > MOST_VALUES:
            raise TooLarge(
                f"the likelihoods of {len(events):,} distinct counts need {8 * number / 1e9:.0f} "
                f"GB; a shared grid takes at most {8 * MOST_VALUES / 1e9:.0f} GB: fit each by "
                "itself instead, to calibrate with engine='fit' or fewer data sets"
            )
        at, _ = self._place(chebyshev_shares(self._few))
        self.log_l = np.empty((len(events), len(self.rows) * self.fine))
        for start in range(0, len(events), COUNTS_AT_ONCE):
            some = slice(start, start + COUNTS_AT_ONCE)
            found = effects.log_likelihood_of_all(
                events[some], total[some], at, self.rows.tau, SHARED_LEVEL
            )
            self.log_l[some] = (found @ refine(self._few, self.fine).T).reshape(len(found), -1)
        self.log_prior = np.stack([self._log_prior(model) for model in models])

    def _place(self, x: Array) -> tuple[Array, Array]:
        """Return mu and dmu/dx at shares `x` of its range."""
        low, high, centre, sd = (np.full(1, each) for each in self._range)
        mu, width = place_columns(x, low, high, centre, sd, stretched=True)
        return mu[0], width[0]

    def _log_prior(self, model: Model) -> Array:
        """Return the log prior mass of every node, shape (node,)."""
        of_mu = model.log_location(self.mu, self.rows.tau[:, None]) + np.log(self.width)
        return np.asarray((self.rows.log_mass(model.spread_prior)[:, None] + of_mu).ravel())

    def tables(
        self, times: Times, which: npt.NDArray[np.intp] | None = None, *, only_mu: bool = False
    ) -> Iterator[Tables]:
        """Analyse, some analyses at a time.

        Parameters
        ----------
        times : array or sparse array, shape (analysis, count)
            How often the counts are in each analysis.
        which : array of int, shape (analysis,), optional
            The model of each analysis; the first by default.
        only_mu : bool
            Whether nothing is asked of mean and new-study rates, which take most of the time.

        Yields
        ------
        Tables
        """
        which = np.zeros(times.shape[0], dtype=np.intp) if which is None else which
        heaviest = self._heaviest(times, which)
        below = _Below(self, heaviest, only_mu)
        log_l, log_prior = self.log_l[:, below.main], self.log_prior[:, below.main]
        step = max(1, AT_ONCE // log_l.shape[1])
        for start in range(0, times.shape[0], step):
            block = slice(start, start + step)
            weight = np.asarray(times[block] @ log_l)
            weight += log_prior[which[block]] if len(log_prior) > 1 else log_prior
            top = weight.max(-1, keepdims=True)
            weight -= top
            np.maximum(weight, LEAST_LOG_WEIGHT, out=weight)
            np.exp(weight, out=weight)
            mass = weight.sum(-1, keepdims=True)
            weight /= mass
            yield below.read(weight, (top + np.log(mass))[:, 0])

    def solve(
        self, times: Times, which: npt.NDArray[np.intp] | None = None, *, only_mu: bool = False
    ) -> Answers:
        """Analyse, and keep medians and intervals; parameters as in `tables`.

        Returns
        -------
        Answers
        """
        absent = [name not in self.effects.quantities for name in ("typical_rate", "tau")]
        parts = []
        for some in self.tables(times, which, only_mu=only_mu):
            typical, mean, new = (
                sigmoid(some.quantiles(name, MEDIAN_AND_ENDS))
                for name in ("mu", "mean_rate", "new_study_rate")
            )
            mean[:, 0] = some.mean
            tau = some.quantiles("tau", MEDIAN_AND_ENDS[:1])[:, 0]
            for values, none in zip((typical, tau), absent, strict=True):
                values[:] = np.nan if none else values
            parts.append((typical, mean, new, tau, some.resolved, some.log_marginal_likelihood))
        typical, mean, new, tau, resolved, log_l = (
            np.concatenate(each) for each in zip(*parts, strict=True)
        )
        return Answers(typical, mean, new, tau, resolved, log_l)

    def log_likelihood(self, times: Times) -> Array:
        """Return log likelihoods without any prior, shape (analysis, row, column)."""
        return np.asarray(times @ self.log_l).reshape(-1, len(self.rows), self.fine)

    @cached_property
    def logit_mean_rates(self) -> Array:
        """Logit of the mean rate at each node, shape (row, column)."""
        one, (mu, _) = np.ones(1), self._place(chebyshev_shares(self._few))
        of_all = self.effects.new.log_likelihood_of_all
        log_p = of_all(one, one, -np.abs(mu), self.rows.tau, SHARED_LEVEL + 1)[0]
        return np.asarray(logit_of_rarer(mu, log_p) @ refine(self._few, self.fine).T)

    def _heaviest(self, times: Times, which: npt.NDArray[np.intp]) -> Array:
        """Return the log of the greatest weight of each node in any analysis, (row, column).

        In units of the analysis' own greatest; from some columns, and interpolated between them.
        """
        some = np.unique(np.append(np.arange(0, self.fine, EVERY_COLUMN), self.fine - 1))
        nodes = (np.arange(len(self.rows))[:, None] * self.fine + some).ravel()
        log_l, log_prior = self.log_l[:, nodes], self.log_prior[:, nodes]
        heaviest = np.full(len(nodes), -np.inf)
        step = max(1, AT_ONCE // len(nodes))
        for start in range(0, times.shape[0], step):
            block = slice(start, start + step)
            weight = np.asarray(times[block] @ log_l)
            weight += log_prior[which[block]] if len(log_prior) > 1 else log_prior
            weight -= weight.max(-1, keepdims=True)
            np.maximum(heaviest, weight.max(0), out=heaviest)
        by_row = heaviest.reshape(len(self.rows), -1)
        return np.stack([np.interp(np.arange(self.fine), some, row) for row in by_row])


class _Below:
    """Points of each quantity, and how much of the mass of each node lies below them.

    Nodes that no analysis gives weight are left out; what is kept of a row is one range of columns.
    """

    def __init__(self, grid: SharedGrid, heaviest: Array, only_mu: bool) -> None:
        self.grid = grid
        counts = heaviest > np.log(LEAST)
        self.kept = [
            (row, int(counts[row].argmax()), grid.fine - int(counts[row, ::-1].argmax()))
            for row in np.flatnonzero(counts.any(-1))
        ]
        self.main = np.concatenate([row * grid.fine + np.arange(a, b) for row, a, b in self.kept])
        self.starts = np.cumsum([0, *(b - a for _, a, b in self.kept)])
        share = np.exp(heaviest.ravel()[self.main])
        mu, tau = np.tile(grid.mu, len(grid.rows)), np.repeat(grid.rows.tau, grid.fine)
        mu, tau = mu[self.main], tau[self.main]
        logit = grid.logit_mean_rates
        mean = logit.ravel()[self.main]
        number = dict.fromkeys(TABLE_POINTS, grid.fine) if grid.any_counts else TABLE_POINTS
        self.points = {"mu": _points(mu, share, number["mu"])}
        # The mass below a node of a row, linear in the masses of the row's nodes
        steps = np.pad(np.cumsum(increments(np.eye(grid.fine)), axis=-1), [(0, 0), (1, 0)])
        self.of_mu = _between(grid.mu, steps, self.points["mu"])
        self.rate = sigmoid(mean)
        self.both = np.empty((len(self.main), 0))
        if only_mu:
            return
        z = np.linspace(-2, 2, 5)
        new = np.clip(mu[:, None] + z * tau[:, None], -FARTHEST_LOGIT, FARTHEST_LOGIT).ravel()
        x = self.points["mean_rate"] = _points(mean, share, number["mean_rate"])
        of_new = np.repeat(share, len(z)), number["new_study_rate"]
        new_x = self.points["new_study_rate"] = _points(new, *of_new)
        rising = np.maximum.accumulate(logit, axis=-1)
        self.both = np.empty((len(self.main), len(x) + len(new_x)))
        for (row, a, b), start in zip(self.kept, self.starts[:-1], strict=True):
            own = slice(start, start + b - a)
            self.both[own, : len(x)] = _between(rising[row], steps[a:b], x)
            self.both[own, len(x) :] = self._new(float(grid.rows.tau[row]), a, b, new_x)

    def _new(self, tau: float, first: int, last: int, x: Array) -> Array:
        """Return the probability of a new effect below `x` at some nodes of a row."""
        grid = self.grid
        cdf = grid.effects.new.cdf
        found = np.empty((last - first, len(x)))
        width = grid.width[first:last]
        wide = tau >= SMOOTH * width
        found[wide] = cdf(x, grid.mu[first:last][wide, None], np.full(1, tau))
        if wide.all():
            return found
        most = -(-MOST_COLUMNS // (grid.fine - 1))  # 1 of a grid for large totals
        finer = min(int(np.ceil(SMOOTH * width.max() / tau)), most)
        spread = _spline(grid.fine, finer)
        mu = spread @ grid.mu
        sd = np.maximum(tau, np.gradient(mu) / 0.9)
        share = spread[:, first:last][:, ~wide] / finer
        near = np.flatnonzero(np.abs(share).max(-1) > 1e-12)
        found[~wide] = share[near].T @ cdf(x, mu[near, None], sd[near, None])
        return found

    def read(self, weight: Array, log_marginal_likelihood: Array) -> Tables:
        """Return the tables of analyses from their nodes' weights, shape (analysis, node)."""
        grid = self.grid
        of_row = np.zeros((len(weight), len(grid.rows)))
        of_column = np.zeros((len(weight), grid.fine))
        close = np.full(len(weight), np.inf)
        place = np.arange(grid.fine, dtype=np.float64)
        powers = np.stack([place**0, place, place**2], axis=-1)
        for (row, a, b), start in zip(self.kept, self.starts[:-1], strict=True):
            own = weight[:, start : start + b - a]
            of_column[:, a:b] += own
            mass, first, second = (own @ powers[: b - a]).T
            of_row[:, row] = mass
            counts = mass > IN_ROWS
            mass = np.where(counts, mass, 1.0)
            variance = np.where(counts, second / mass - (first / mass) ** 2, np.inf)
            np.minimum(close, variance, out=close)
        parts = {"mu": of_column @ self.of_mu}
        if self.both.size:
            both, between = weight @ self.both, len(self.points["mean_rate"])
            parts |= {"mean_rate": both[:, :between], "new_study_rate": both[:, between:]}
        cdf = {name: np.maximum.accumulate(np.clip(p, 0, 1), -1) for name, p in parts.items()}
        inside = [((each > 0.01) & (each < 0.99)).sum(-1) >= INSIDE for each in cdf.values()]
        resolved = (close > COARSEST**2) & np.logical_and.reduce(inside)
        points = self.points
        if not grid.rows.known:
            if grid.rows.tau[-1] < 0.9 * grid.models[0].spread_prior.upper:
                resolved &= of_row[:, -1] < OPEN
            u, cdf["tau"] = cdf_of_u(grid.rows, of_row)
            points = points | {"tau": u}
        return Tables(
            points,
            cdf,
            grid.rows.c,
            weight @ self.rate,
            log_marginal_likelihood,
            np.asarray(resolved),
        )


def _points(values: Array, weight: Array, number: int) -> Array:
    """Return points that are equidistant in normal scores of weighted values."""
    order = np.argsort(values)
    mass = np.cumsum(weight[order])
    levels = ndtr(np.linspace(-TABLE_SCORES, TABLE_SCORES, number))
    x = np.interp(levels, mass / mass[-1], values[order])
    # What is equal but for its rounding is one point: no polynomial can be put through both.
    return np.asarray(x[np.append(True, np.diff(x) > 1e-9 * (x[-1] - x[0]))])


def _between(values: Array, steps: Array, x: Array) -> Array:
    """Return the share of nodes' masses below `x`, shape (node, point), by cubics.

    `steps` (node, column): the share of each node's mass below each of `values` (column,).
    """
    start = np.clip(np.searchsorted(values, x) - 2, 0, len(values) - 4)
    around = start[:, None] + np.arange(4)
    unit = np.repeat(np.eye(4)[..., None], len(x), axis=-1)
    share = np.stack([polynomial(values[around].T, each, x) for each in unit], axis=-1)
    inside = (steps[:, around] * share).sum(-1)
    return np.where(x <= values[0], 0.0, np.where(x >= values[-1], steps[:, -1:], inside))


@lru_cache(maxsize=16)
def _spline(number: int, finer: int) -> Array:
    """Return the matrix that interpolates the nodes of a row at `finer` times as many places."""
    fine = np.linspace(0, number - 1, finer * (number - 1) + 1)
    return np.asarray(make_interp_spline(np.arange(number), np.eye(number), k=5)(fine))
