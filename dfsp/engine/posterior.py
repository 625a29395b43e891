"""The exact engine: the posterior of the hierarchical model by deterministic quadrature.

`solve` needs no compiler and no random number. Everything it returns is an integral over the grid
of `dfsp.engine.grid`: study effects are integrated out inside each node
(`dfsp.model.likelihood`, `dfsp.model.effects`). Nothing is computed before it is asked for.

**Conditional distributions.** In each row of tau the density of mu is known to many digits anywhere
between its nodes. What rises with mu in a row (mu itself, the typical rate, the mean rate) has the
row's distribution function at its own values; the posterior's is their mixture (`mix`).

**Narrow kernels.** A study's effect has density sum_j w_j N(theta | mu_j, tau_j^2) over weighted
nodes, times its own likelihood. Where tau is far below the spacing of the nodes, the kernels would
stand apart like the teeth of a comb; they are then widened to w^2 = tau^2 + e w^2, and the excess e
is taken back by the heat equation run backwards, exp(-e w^2 / 2 d^2/dtheta^2) to second order in e:
with z = (theta - mu) / w,

    N(theta | mu, tau^2) ~ N(theta | mu, w^2) (1 - e/2 (z^2 - 1) + e^2/8 (z^4 - 6 z^2 + 3)),

which leaves an error of sixth order in the width.

**Open ends.** A study without events can have mass where its rate is 0 to double precision. Its
table ends at a logit of `FARTHEST_LOGIT` with a density that has not vanished; what lies beyond is
what is missing from a total of one, as the density is normalised without its table.

**Stretched tables.** theta = centre + core sinh(t), with t equidistant: fine where a study's
likelihood is narrow, logarithmic in the tails. On these points sums converge geometrically
(trapezoidal rule of a function that vanishes at both ends).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, batched
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from dfsp.constants import QUANTILES
from dfsp.engine.distributions import (
    BELOW_ONE,
    MIXTURE_POINTS,
    NOTHING,
    Distribution,
    ShareOf,
    cumulate,
    cumulate_vanishing,
    interpolate,
    invert,
    levels,
    mix,
    moments,
    of_tau,
)
from dfsp.engine.grid import (
    COLUMNS,
    Data,
    Grid,
    Surface,
    chebyshev_shares,
    column_tails,
    place,
    refine,
    refine_slope,
    shares,
)
from dfsp.model.effects import Effects, NormalEffects, logit_of_rarer
from dfsp.model.likelihood import (
    FARTHEST_LOGIT,
    FLOOR,
    log_binomial,
    log_sum,
    modes,
    normal_exponents,
    sigmoid,
)
from dfsp.model.model import Model

Array = npt.NDArray[np.float64]
AtNodes = Callable[[Any], Array]
Index = npt.NDArray[np.intp]

# Errors in these comments are the largest of a rate over the sixty random tables of
# `tests/benchmarks/numerics.py`, which measures them again; as the constants are it is 1e-5, and
# 3e-7 at the median.
# Spacing of tabulated densities in units of their narrowest feature; with 0.3 quantiles of studies
# in conflict with the others err by 1e-4. Where densities vanish at both ends SPARSE times that
# will do, unless mu has several modes (error 5e-5; with 1.5 prior sensitivities of new studies err
# by 1e-4), and distribution functions are as exact at FINER places of a step.
DENSITY_STEP = 0.2
SPARSE = 1.25
FINER = 2
VANISHED = 1e-10  # probability of a step at an end below which a density has vanished there
INNER = 4  # points of a table that the eighth-order rule of integration reaches beyond a point
CORE = 2.0  # half-width (logit) within which that spacing holds; it grows linearly beyond
PLAIN = (97, 321)
"""Equidistant points of mu in a row for its conditional distribution: of one mode, of several. With
half as many the error is 4e-5."""
SIZES = tuple(int(24 * 2 ** (power / 2)) + 1 for power in range(21))
"""Numbers of nodes of mu in a row: each row takes the first that its tau and its weight need."""
FAINT = 1e-14  # probability of a row below which it counts for nothing
LOOSE = 1e-5  # error of log densities, weighted by a posterior, from which on it is placed anew
ASTRAY = 1e-6  # share of a posterior at the grid's edge that says it reaches beyond
NOWHERE = np.empty(0)  # no value to compare rates with
LEVEL = 1e-12  # change of a logit by step that counts as none
UNSEEN = 1e-7  # probability of a row below which its mean rates may be wrong: by less than one
LIGHT = 1e-9  # nodes of less weight are left out of kernel sums; with 1e-7 error 1e-4
IN_DRAWS = 1601  # points of mu in a row between which draws are interpolated
AT_ONCE = 4_000_000  # numbers held at once: 32 MB
KERNELS_AT_ONCE = 100_000  # kernels evaluated at once: 0.8 MB, which a cache holds
KERNEL_REACH = 35.0  # widths from a node at which its kernel counts as nothing: e^-612


@dataclass(frozen=True)
class Nodes:
    """Equidistant nodes of mu in every row, weighted: a discrete posterior of (mu, tau).

    `width` is tau, or where tau is far below the spacing of the nodes, that spacing: a kernel of
    this width at every node makes a smooth density of a study effect. `excess` is the share of
    width^2 that is not of tau^2. `row` is the grid's row of each node; it and `parts` are for what
    is interpolated between the grid's points, and empty where nothing is.
    """

    mu: Array
    tau: Array
    width: Array
    excess: Array
    weight: Array
    log_weight: Array
    is_end: npt.NDArray[np.bool_]
    row: Index
    parts: tuple[tuple[Index, int], ...]

    def spread(self, values: Array) -> Array:
        """Interpolate values on the grid's rows and Chebyshev columns at the nodes."""
        return spread(values, self.parts)

    def mixed(self, theta: Array, effects: Effects, chosen: Index, weight: Array) -> Array:
        """Return the density of an effect at ascending `theta` from `chosen` nodes.

        Shapes: `weight` (..., node), result (..., theta).
        """
        if len(theta) * len(chosen) <= KERNELS_AT_ONCE:
            return np.maximum(self._mixed(theta, effects, chosen, weight), 0)
        # Nodes of like width near each other, whose kernels have no more than a part of theta
        width, wider = np.floor(np.log2(self.width[chosen])), self.excess[chosen] > 0
        order = np.lexsort((self.mu[chosen], width, wider))
        value = np.zeros((*weight.shape[:-1], len(theta)))
        for some in np.array_split(order, len(theta) * len(chosen) // KERNELS_AT_ONCE + 1):
            block = chosen[some]
            reach = KERNEL_REACH * self.width[block].max() if effects.normal_kernel else np.inf
            ends = self.mu[block].min() - reach, self.mu[block].max() + reach
            part = slice(*np.searchsorted(theta, ends))
            value[..., part] += self._mixed(theta[part], effects, block, weight[..., some])
        return np.maximum(value, 0)  # not block by block: what is taken back of one is in others

    def _mixed(self, theta: Array, effects: Effects, chosen: Index, weight: Array) -> Array:
        mu, width, excess = self.mu[chosen], self.width[chosen], self.excess[chosen]
        if not effects.normal_kernel:
            return np.asarray(weight @ effects.density(theta[:, None], mu, width).T)
        half = normal_exponents(theta, mu, width, mu[self.weight[chosen].argmax()])
        # The heat equation run backwards takes the excess back, to sixth order in the width.
        (wider,) = excess.nonzero()
        some = slice(int(wider[0]), int(wider[-1]) + 1) if len(wider) else slice(0)
        excess, wide = excess[some, None], half[some]
        back = wide * (excess**2 / 2)
        back += excess + 1.5 * excess**2
        back *= wide
        back += 1 + excess / 2 + 0.375 * excess**2
        np.maximum(half, FLOOR, out=half)  # exponentials that underflow take several times as long
        kernel = np.exp(half, out=half)
        kernel[some] *= back
        return np.asarray((weight / (np.sqrt(2 * np.pi) * width)) @ kernel)

    def density_and_slope(self, theta: Array, main: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the density of a new normal effect at `theta` (logit) and its derivative.

        The nodes are those of `main`; the excess of width is taken back as in `mixed`.
        """
        mu, width, excess = self.mu[main], self.width[main], self.excess[main]
        height = self.weight[main] / width / np.sqrt(2 * np.pi)
        z = (theta[:, None] - mu) / width
        kernel = np.exp(-0.5 * z * z)
        half, eighth, square = excess / 2, excess**2 / 8, z * z
        even = 1 - half * (square - 1) + eighth * (square * (square - 6) + 3)
        odd = z * (1 - half * (square - 3) + eighth * (square * (square - 10) + 15))
        return (kernel * even) @ height, -((kernel * odd) @ (height / width))


def spread(values: Array, parts: Sequence[tuple[Index, int]]) -> Array:
    """Interpolate along Chebyshev columns, (..., row, column), at so many nodes of rows."""
    columns = values.shape[-1]
    shape = values.shape[:-2]
    pieces = [
        # One product of two matrices is quicker than a stack of products.
        (values[..., rows, :].reshape(-1, columns) @ refine(columns, size).T).reshape(
            *shape, len(rows) * size
        )
        for rows, size in parts
    ]
    return np.concatenate(pieces, axis=-1)


@dataclass(frozen=True, eq=False)
class Population:
    """What a grid says of the population of studies: of mu and tau, and of a new study.

    Attributes
    ----------
    model : Model
    grid : Grid
    tau_moments, spread_moments : tuple of bool
        Whether tau, and what it is reported as, have a posterior mean and a standard deviation.
    """

    model: Model
    grid: Grid = field(repr=False)
    tau_moments: tuple[bool, bool] = (True, True)
    spread_moments: tuple[bool, bool] = (True, True)

    @cached_property
    def conditional(self) -> "Conditional":
        grid = self.grid
        number = PLAIN[self.model.effects.several_modes]
        mu, log_p = grid.fine(number)
        top = log_p.max(-1)
        density = np.exp(log_p - top[:, None])
        spacing = np.full(1, 1 / (number - 1))
        mass = density.sum(-1) * spacing
        # By rows, since one that the prior all but excludes would underflow
        log_mass = top + grid.log_row + np.log(mass)
        total = float(log_sum(log_mass))
        within = cumulate(density / mass[:, None], spacing)
        weight = np.exp(log_mass - total)
        slope = density * (spacing / mass)[:, None]
        return Conditional(mu, slope * weight[:, None], within, slope, weight, total)

    @property
    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the counts, binomial coefficients included."""
        return self.conditional.log_total

    @property
    def row_weight(self) -> Array:
        """Posterior probability of each row of tau, shape (row,)."""
        return self.conditional.weight

    @property
    def error(self) -> float:
        """Estimate of the relative error of the grid."""
        return self.grid.error

    @property
    def log_terms(self) -> Array:
        """Log prior of mu plus log likelihood, shape (row, column).

        Where the grid integrates more than study effects out, their posterior mean at each node.
        """
        return self.grid.log_joint

    @cached_property
    def nodes(self) -> Nodes:
        """A discrete posterior of (mu, tau)."""
        return equidistant_nodes(
            self.grid, self.row_weight, self.log_marginal_likelihood, self.model.effects.new
        )

    def _mixed(
        self, values: Array, slope: Array, share_of: ShareOf | None = None
    ) -> tuple[Array, Array]:
        """Mix over rows the distribution of what rises with mu: `values` at its points there."""
        # Far out in a heavy tail of tau the mean rate piles up at one half.
        heavy = bool(np.isfinite(self.model.spread_prior.tail_power))
        points = MIXTURE_POINTS[self.model.effects.several_modes or heavy]
        return mix(values, self.conditional.within, slope, self.row_weight, points, share_of)

    @cached_property
    def _of_mu(self) -> tuple[Array, Array]:
        return self._mixed(self.conditional.mu, self.conditional.slope, self.grid.share_of)

    @cached_property
    def mu(self) -> Distribution:
        """Population mean, logit scale; `NOTHING` where the effects have none."""
        if "mu" not in self.model.quantities:
            return NOTHING
        mean = float(self.nodes.weight @ self.nodes.mu)
        sd = float(np.sqrt(self.nodes.weight @ (self.nodes.mu - mean) ** 2))
        return Distribution(*self._of_mu, mean, sd, False)

    @cached_property
    def spread(self) -> Distribution:
        """The grid's second coordinate: tau, or 1/sqrt(concentration)."""
        return of_tau(self.grid.rows, self.row_weight, self.tau_moments)

    @property
    def tau(self) -> Distribution:
        """Between-study standard deviation, logit scale; `NOTHING` where the effects have none."""
        return self.spread if "tau" in self.model.quantities else NOTHING

    @cached_property
    def concentration(self) -> Distribution:
        """What the second coordinate is reported as, where that is not tau; `NOTHING` elsewhere."""
        effects = self.model.effects
        if effects.spread == "tau":
            return NOTHING
        keep = self.spread.x > 0
        x, cdf = effects.reported(self.spread.x[keep]), self.spread.cdf[keep]
        if x[0] > x[-1]:
            x, cdf = x[::-1], 1 - cdf[::-1]
        values, weight = effects.reported(self.nodes.tau), self.nodes.weight
        exist = self.spread_moments
        mean = float(weight @ values) if exist[0] else np.nan
        sd = float(np.sqrt(weight @ (values - mean) ** 2)) if exist[1] else np.nan
        return Distribution(x, cdf, mean, sd, False)

    @cached_property
    def typical_rate(self) -> Distribution:
        """Rate of the median study; `NOTHING` where the effects have none."""
        if "typical_rate" not in self.model.quantities:
            return NOTHING
        rate = sigmoid(self.nodes.mu)
        return self.mu.as_rate(*moments(self.nodes.weight, rate, rate**2))

    @cached_property
    def _new(self) -> tuple[Array, Array, Array, Array]:
        effects = self.model.effects
        number = PLAIN[effects.several_modes]
        return _mean_rates(self.grid, self.nodes, self.row_weight, effects.new, number)

    @property
    def effect_has_mean(self) -> bool:
        """Whether the logit of a new study's rate has a mean."""
        return True

    @property
    def logit_mean_rates(self) -> tuple[Array, Array]:
        """Logit of the mean rate at the points of `conditional`, (row, point); slopes by step."""
        return self._new[2:]

    @cached_property
    def mean_rate(self) -> Distribution:
        """Average rate over studies, E[logit^-1(theta)]."""
        first = self._new[0]
        rows, slope = self.logit_mean_rates
        found = self._mixed(rows, self.conditional.slope / slope)
        return Distribution(*found, *moments(self.nodes.weight, first, first**2), True)

    @cached_property
    def new_study_rate(self) -> Distribution:
        """Rate of one more study: the meta-analytic-predictive distribution."""
        first, second, *_ = self._new
        return Distribution(*self._rates[1], *moments(self.nodes.weight, first, second), True)

    @cached_property
    def _rates(self) -> tuple[Array, tuple[Array, Array]]:
        """Summaries of the rates of known studies (none here), and a new study's table."""
        none = Data(np.empty(0), np.empty(0), np.empty(0, np.intp), np.empty(0))
        of_none = at_nodes(self.nodes, self.grid.log_l[:0])
        parts = self.grid, self.nodes, self.row_weight, self.model.effects
        return study_rates(none, of_none, *parts)

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw mu and tau: tau from its distribution, mu from its neighbouring rows' quantiles.

        Returns
        -------
        mu, tau : array, shape (draw,)
            Logit scale; independent draws.
        """
        rows = self.grid.rows
        if rows.known:
            tau = np.full(number, rows.tau[0])
        else:
            level = rng.uniform(size=number)
            tau = rows.c * np.sinh(
                np.interp(level, self.spread.cdf, np.arcsinh(self.spread.x / rows.c))
            )
        # Beyond the outermost rows the nearest one stands in.
        position = np.interp(np.arcsinh(tau / rows.c), rows.u, np.arange(len(rows)))
        level = rng.uniform(size=number)
        mu = np.zeros(number)
        places, log_p = self.grid.fine(IN_DRAWS)
        for row in range(len(rows)):
            share = np.maximum(1 - np.abs(position - row), 0)
            chosen = share > 0
            if not chosen.any():
                continue
            density = np.exp(log_p[row] - log_p[row].max())
            cdf = np.cumsum(density) - density / 2
            mu[chosen] += share[chosen] * np.interp(level[chosen], cdf / density.sum(), places[row])
        return mu, tau


@dataclass(frozen=True)
class Conditional:
    """The posterior row by row: points of mu, the mass at each, and the distribution functions.

    Shapes (row, point); `slope` is that of the distribution functions by step, `weight` (row,) are
    the rows' probabilities.
    """

    mu: Array
    mass: Array
    within: Array
    slope: Array
    weight: Array
    log_total: float


@dataclass(frozen=True, eq=False)
class Posterior(Population):
    """What the exact engine knows after seeing the counts.

    Attributes
    ----------
    events, total : array, shape (study,)
    data : Data
        The distinct counts.
    together : sequence of sequences of int or None
        For each study, the studies (itself among them) that are left out when its counts are
        predicted; by default each study alone.
    """

    events: Array = field(default_factory=lambda: np.empty(0))
    total: Array = field(default_factory=lambda: np.empty(0))
    data: Data = field(repr=False, default_factory=lambda: Data.of(np.empty(0), np.empty(0)))
    together: Sequence[Sequence[int]] | None = field(repr=False, default=None)

    @cached_property
    def leave_one_out_lpd(self) -> Array:
        """Log predictive density of each study's counts given the others, shape (study,)."""

        def log_marginal(studies: Sequence[int]) -> float:
            if len(studies) == len(self.total):
                return self.log_marginal_likelihood
            counts = self.events[studies], self.total[studies]
            return log_marginal_likelihood(*counts, self.model)

        parts = self.data, self._of_studies, self.nodes, self.grid, self.row_weight
        return left_out(*parts, self.together, self.model, log_marginal)

    @cached_property
    def _of_studies(self) -> AtNodes:
        return at_nodes(self.nodes, self.grid.log_l)

    @property
    def effect_has_mean(self) -> bool:
        """Whether the logit of a new study's rate has a mean."""
        return self.model.effects.has_mean(self.events, self.total)

    @cached_property
    def _rates(self) -> tuple[Array, tuple[Array, Array]]:
        return self._summarised(NOWHERE)

    def _summarised(self, at: Array) -> tuple[Array, tuple[Array, Array]]:
        """Return summaries of the distinct studies' rates, and a new study's table."""
        parts = self.grid, self.nodes, self.row_weight, self.model.effects
        return study_rates(self.data, self._of_studies, *parts, at)

    @property
    def studies(self) -> Array:
        """Mean, sd and `QUANTILES` of each study's rate, shape (study, 7)."""
        return self._rates[0][self.data.inverse]

    def prob_above(self, rate: float) -> Array:
        """Return the probability that each study's rate exceeds `rate`, shape (study,).

        Examples
        --------
        >>> solve([7, 4, 9], [15, 22, 18], Model()).prob_above(0.3).round(3)
        array([0.885, 0.325, 0.93 ])
        """
        found, _ = self._summarised(logit_of(rate))
        return np.asarray(found[self.data.inverse, -1])

    @cached_property
    def unseen_rate(self) -> Distribution:
        """Rate of one of the studies of which nothing is known; like the others it may be alone."""
        new, alone = self.new_study_rate, self.model.effects.alone
        if alone is None:
            return new
        (first,), (second,) = NormalEffects().moments(np.full(1, alone.mean), np.full(1, alone.sd))
        mean = (1 - alone.share) * new.mean + alone.share * first
        square = (1 - alone.share) * (new.mean**2 + new.sd**2) + alone.share * second
        x = np.sort(np.append(new.x, alone.mean + alone.sd * ndtri(levels(MIXTURE_POINTS[1]))))
        of_alone = ndtr((x - alone.mean) / alone.sd)
        cdf = (1 - alone.share) * new.cdf_of_points(x) + alone.share * of_alone
        return Distribution(x, cdf, mean, float(np.sqrt(square - mean**2)), True)

    @cached_property
    def exchangeable(self) -> Array | None:
        """Probability that each study is exchangeable, shape (study,); None unless EXNEX."""
        effects = self.model.effects
        if not effects.judges_exchangeability:
            return None
        parts = self.data, self._of_studies, self.nodes, effects
        return 1 - _share_alone(*parts)[self.data.inverse]


def solve(
    events: npt.ArrayLike,
    total: npt.ArrayLike,
    model: Model,
    *,
    together: Sequence[Sequence[int]] | None = None,
) -> Posterior:
    """Compute the posterior of the hierarchical model.

    Parameters
    ----------
    events, total : array-like, shape (study,)
        Counts with 0 <= events <= total and total > 0. No study at all gives the prior.
    model : Model
    together : sequence of sequences of int, optional
        For each study, the studies (itself among them) that are left out when its counts are
        predicted; by default each study alone.

    Returns
    -------
    Posterior

    Examples
    --------
    >>> from dfsp.model.model import Model
    >>> posterior = solve([7, 4, 9], [15, 22, 18], Model())
    >>> posterior.typical_rate.quantile([0.025, 0.5, 0.975]).round(4)
    array([0.1654, 0.3716, 0.6526])
    """
    events = np.asarray(events, dtype=np.float64)
    total = np.asarray(total, dtype=np.float64)
    model.require_tail(events, total)
    data = Data.of(events, total)
    exist = model.effects.tau_moments(events, total, model.tau)
    reported = model.effects.spread_moments(events, total, model.tau)
    grid = place(Surface(data, model), order=sum(exist))
    return Posterior(model, grid, exist, reported, events, total, data, together)


def equidistant_nodes(result: Grid, row_weight: Array, log_total: float, effects: Effects) -> Nodes:
    """Choose for each row as many equidistant nodes of mu as its tau and its weight need."""
    # Stretched nodes need fewer: they are dense where most of the mass is.
    reach = result.high - result.low
    reach = np.minimum(reach, 100 * result.sd) if result.stretched else reach
    # Rows of little weight may be smoothed, the more the better the kernel corrects for it: the
    # corrected normal errs with the sixth power of the widening, others with the square. 0.9 and
    # 0.7 keep the trapezoidal rule of a normal of that width exact to 1e-10, 0.8 that of the rates'
    # own curves, whose poles are pi off the real axis.
    smoothed, order = (3e-7, 6) if effects.normal_kernel else (1e-6, 2)
    narrow = result.sd * (smoothed / np.maximum(row_weight, 1e-12)) ** (1 / order)
    wanted = np.minimum(np.maximum(0.9 * result.tau, narrow), np.minimum(0.7 * result.sd, 0.8))
    sizes = np.array(SIZES)
    size = sizes[np.searchsorted(sizes[:-1], reach / wanted + 1)]
    size = np.where(row_weight < FAINT, SIZES[0], size)
    parts = tuple((np.flatnonzero(size == number), number) for number in sorted(set(size.tolist())))
    row = np.concatenate([np.repeat(rows, number) for rows, number in parts])
    x = np.concatenate([np.tile(shares(number), len(rows)) for rows, number in parts])
    mu, slope = (each[:, 0] for each in result.place(x[:, None], row))
    spacing = slope / (size[row] - 1)
    log_weight = spread(result.log_joint, parts)
    log_weight += np.log(spacing) + (result.log_row - log_total)[row]
    log_weight -= log_sum(log_weight)
    tau = result.tau[row]
    width = np.maximum(tau, spacing / 0.9)
    is_end = np.append(row[1:] != row[:-1], True)
    is_end |= np.append(True, is_end[:-1])
    excess = 1 - (tau / width) ** 2
    weight = np.exp(log_weight)
    return Nodes(mu, tau, width, excess, weight, log_weight, is_end, row, parts)


def at_nodes(nodes: Nodes, log_l: Array) -> AtNodes:
    """Return what gives log likelihoods of chosen distinct studies at the nodes, (chosen, node).

    Those of all are interpolated once, if they can be held at once.
    """
    if len(log_l) * len(nodes.mu) > AT_ONCE:
        return lambda chosen: nodes.spread(log_l[chosen])
    of_all = nodes.spread(log_l)
    return lambda chosen: of_all[chosen]


def _share_alone(data: Data, of_studies: AtNodes, nodes: Nodes, effects: Effects) -> Array:
    """Return the posterior probability that each distinct study is not exchangeable."""
    share = np.ones(len(data.total))
    if effects.alone and effects.alone.share == 1:
        return share
    log_alone = effects.log_alone(data.events, data.total)[:, None]
    blocks = len(share) * len(nodes.mu) // AT_ONCE + 1
    for some in np.array_split(np.arange(len(share)), blocks):
        share[some] = np.exp(log_alone[some] - of_studies(some)) @ nodes.weight
    return share


def _mean_rates(
    result: Grid, nodes: Nodes, row_weight: Array, effects: Effects, number: int
) -> tuple[Array, Array, Array, Array]:
    """Return E[p] and E[p^2] of a new study's rate at the nodes, and logit E[p] row by row.

    The last two are at `number` points of each row: the logit, and its slope by step.

    They are computed for the rarer of event and non-event, which keeps their digits when the other
    is nearly certain.
    """
    # The rates bend where mu is near 0, within 1 or tau, however smooth the posterior is.
    main = np.flatnonzero(row_weight > UNSEEN)
    reach = (result.high - result.low)[main] / 2
    bend = np.pi * np.maximum(result.tau[main], 1)
    wanted = min(1 + 14 / float(np.arcsinh(bend / reach).min()), COLUMNS[-1])
    columns = next(number for number in COLUMNS if number >= wanted)
    mu, _ = result.place(chebyshev_shares(columns))
    tau = np.repeat(result.tau[main], columns)
    # Rows that count for nothing keep the rates of studies that do not differ.
    p = sigmoid(-np.abs(mu))
    pp = p * p
    found = effects.moments_of_rarer(mu[main].ravel(), tau)
    p[main], pp[main] = (x.reshape(-1, columns) for x in found)
    logit = logit_of_rarer(mu, np.log(p))
    of_first, second = nodes.spread(np.array([logit, np.where(mu < 0, pp, 1 - 2 * p + pp)]))
    rows = np.maximum.accumulate(logit @ refine(columns, number).T, axis=-1)
    slope = np.maximum(logit @ refine_slope(columns, number).T, LEVEL)
    return sigmoid(of_first), second, rows, slope


def left_out(
    data: Data,
    of_studies: AtNodes,
    nodes: Nodes,
    result: Grid,
    row_weight: Array,
    together: Sequence[Sequence[int]] | None,
    model: Model,
    log_marginal: Callable[[Sequence[int]], float],
) -> Array:
    """Return the log predictive density of each study given those that are not left out with it.

    `of_studies` are the grid's, `log_marginal` returns the log marginal likelihood of some studies.
    """
    open_above = result.tau[-1] < 0.9 * model.spread_prior.upper
    open_below = result.rows.u[0] > 1e-2 * result.rows.u[-1]
    edge = nodes.is_end.copy()
    if not result.rows.known:
        edge |= open_above & (nodes.tau == result.tau[-1])
        edge |= open_below & (nodes.tau == result.tau[0])
    # Rows that hardly count for all studies are resolved loosely, and may count without one.
    edge |= (row_weight < FAINT)[nodes.row]

    at_edge = edge.astype(np.float64)

    def mass_without(which: list[int], starts: Index) -> tuple[Array, Array, Array]:
        """Return log weights that lack sets, their log sums, and whether the grid fails them."""
        log_l, by_node = (
            sums_of_sets(each, starts) for each in (result.log_l[which], of_studies(which))
        )
        without = nodes.log_weight - by_node
        top = without.max(-1, keepdims=True)
        share = np.exp(without - top)
        total = share.sum(-1)
        error = column_tails(result.log_joint - log_l)[:, nodes.row]
        beyond = share @ at_edge > ASTRAY * total
        unfit = beyond | (np.vecdot(share, error) > LOOSE * total)
        return without, np.log(total) + top[..., 0], unfit

    studies = range(len(data.inverse))
    out = [[study] for study in studies] if together is None else together
    # The same counts are left out once, whoever's they are.
    sets: dict[tuple[int, ...], list[int]] = {}
    distinct = data.inverse.tolist()
    for study in studies:
        sets.setdefault(tuple(sorted(distinct[i] for i in out[study])), []).append(study)
    lpd, step = np.empty(len(studies)), max(1, AT_ONCE // len(nodes.mu))
    for block in batched(sets.items(), step):
        sizes = [len(counts) for counts, _ in block]
        which = [each for counts, _ in block for each in counts]
        parts = mass_without(which, np.array([0, *accumulate(sizes[:-1])]))
        for (_, those), size, *found in zip(block, sizes, *parts, strict=True):
            without, mass, unfit = found
            for study in those:
                if size == len(studies) or unfit:
                    # What is left may lie where the grid does not reach or is too coarse.
                    rest = [other for other in studies if other not in set(out[study])]
                    lpd[study] = log_marginal([*rest, study]) - log_marginal(rest)
                elif size == 1:
                    lpd[study] = -mass
                else:
                    own = of_studies(data.inverse[[study]])
                    lpd[study] = log_sum(without + own)[0] - mass
    return lpd


def sums_of_sets(values: Array, starts: Index) -> Array:
    """Return sums along the first axis of sets that start there; `np.add.reduceat`, but quicker."""
    total = values[starts]
    sizes = np.diff(starts, append=len(values))
    for number in range(1, sizes.max()):
        some = np.flatnonzero(sizes > number)
        total[some] += values[starts[some] + number]
    return total


def log_marginal_likelihood(events: Array, total: Array, model: Model) -> float:
    """Return the log marginal likelihood of counts (0 without any study), coefficients included."""
    if not len(events):
        return 0.0
    result = place(Surface(Data.of(events, total), model, leaving_out=False))
    return Population(model, result).log_marginal_likelihood


def logit_of(rate: float) -> Array:
    """Return the logit of a rate strictly between 0 and 1, shape (1,)."""
    return np.full(1, np.log(rate) - np.log1p(-rate))


def study_rates(
    data: Data,
    of_studies: AtNodes,
    result: Grid,
    nodes: Nodes,
    row_weight: Array,
    effects: Effects,
    at: Array = NOWHERE,
) -> tuple[Array, tuple[Array, Array]]:
    """Return summaries of the rates of distinct studies, as `tabulate`, and a new study's table."""
    # A new study is one without patients, the last one here.
    events, total = np.append(data.events, 0.0), np.append(data.total, 0.0)
    main = row_weight > 1e-9
    rows = (each[main] for each in (result.tau, result.sd, row_weight))
    ends = Ends.of(result.low[main], result.high[main], nodes.weight @ nodes.mu, *rows)

    def log_ratio(chosen: Index) -> Array:
        log_ratio = np.empty((len(chosen), len(nodes.mu)))
        known = chosen < len(data.total)
        log_ratio[known] = nodes.log_weight - of_studies(chosen[known])
        log_ratio[~known] = nodes.log_weight
        return log_ratio

    found, table = tabulate(events, total, nodes, log_ratio, ends, effects, at)
    return found[:-1], table


def tabulate(
    events: Array,
    total: Array,
    nodes: Nodes,
    log_ratio: Callable[[Index], Array],
    ends: "Ends",
    effects: Effects,
    at: Array = NOWHERE,
) -> tuple[Array, tuple[Array, Array]]:
    """Summarise rates whose effects scatter about nodes.

    Parameters
    ----------
    events, total : array, shape (study,)
        One without patients is a new one.
    nodes : Nodes
    log_ratio : callable
        Returns for chosen studies the log weights of the nodes given all counts but the study's
        own: (chosen, node).
    ends : Ends
        Where the nodes are.
    effects : Effects
    at : array, shape (value,)
        Logit rates.

    Returns
    -------
    summaries : array, shape (study, 7 + value)
        Mean, sd and quantiles of each rate, and the probabilities that it exceeds the values.
    table : tuple of array
        Points (logit) and the distribution function there of the last study's effect.
    """
    summaries = np.empty((len(total), 2 + len(QUANTILES) + len(at)))
    low, high, centre, step = _ranges(events[:, None], total[:, None], ends, effects)
    last = np.empty(0), np.empty(0)
    groups = _alike(centre, step, max(1, AT_ONCE // len(nodes.mu)))
    # Other densities can have corners, or with heavy tails reach beyond any table.
    finer = FINER if effects.new.normal_kernel else 1
    sparse = 1 if effects.several_modes else SPARSE
    pending = [(chosen, finer) for chosen in groups]
    for chosen, finer in pending:
        span = float(low[chosen].min()), float(high[chosen].max())
        grain = float(step[chosen].min()) * (sparse if finer > 1 else 1)
        table = _Table.between(*span, grain, float(centre[chosen].mean()), finer)
        counts = events[chosen, None], total[chosen, None]
        summaries[chosen], cdf, cut_off = _rates(
            *counts, nodes, log_ratio(chosen), effects, table, at
        )
        if cut_off.any():
            pending.append((chosen[cut_off], 1))
        is_last = (chosen == len(total) - 1) & ~cut_off
        if is_last.any():
            last = table.read, cdf[is_last][0]
    return summaries, last


def _alike(centre: Array, step: Array, most: int) -> Iterator[Index]:
    """Yield groups, of at most so many, of studies that one table can serve."""
    order = np.lexsort((centre, np.ceil(np.log2(step))))
    while len(order):
        block = order[:most]
        near = (step[block] <= 2 * step[block[0]]) & (centre[block] <= centre[block[0]] + CORE)
        chosen = block[np.logical_and.accumulate(near)]
        yield chosen
        order = order[len(chosen) :]


class _Table(NamedTuple):
    """Logit rates at which densities are tabulated: centre + core sinh(t), t equidistant.

    Attributes
    ----------
    theta, weight : array, shape (point,)
        The points and the trapezoidal weights.
    finer : int
        How many points of `read` there are to a step.
    read : array, shape (fine point,)
        The points at which distribution functions are read.
    """

    theta: Array
    weight: Array
    finer: int
    read: Array

    @classmethod
    def between(cls, low: float, high: float, grain: float, centre: float, finer: int) -> "_Table":
        """Return a table from `low` to `high` whose spacing is `grain` or less about the centre."""
        core = max(CORE, 20 * grain)
        first, last = np.arcsinh((np.array([low, high]) - centre) / core)
        # Few numbers of points, so that their matrices are known
        number = 8 * max(1, int(np.ceil((last - first) * core / grain / 8)))
        t = first + (last - first) * shares(number * finer + 1)
        read = centre + core * np.sinh(t)
        read[0], read[-1] = low, high  # without their rounding
        weight = core * np.cosh(t[::finer]) * ((last - first) / number)
        return cls(read[::finer], weight, finer, read)


class Ends(NamedTuple):
    """Where the locations of effects end, how widely effects scatter, and what that counts.

    The last one is no end but the middle. Shapes (end,), or of `mu` (study, end); logit scale.
    `weight` is a posterior probability.
    """

    mu: Array
    tau: Array
    sd: Array
    weight: Array

    @classmethod
    def of(
        cls, low: Array, high: Array, mean: Array, tau: Array, sd: Array, weight: Array
    ) -> "Ends":
        """Return both ends of ranges of mu, of spread `sd`, that have these weights, and `mean`."""
        most = slice(weight.argmax(), weight.argmax() + 1)
        mu = np.concatenate([low, high, mean[..., None]], axis=-1)
        within = np.minimum(tau[most], CORE)
        known = (np.concatenate([each, each, each[most]]) for each in (sd, weight))
        return cls(mu, np.concatenate([tau, tau, within]), *known)


def _ranges(
    events: Array, total: Array, ends: Ends, effects: Effects
) -> tuple[Array, Array, Array, Array]:
    """Return where each effect can be, roughly its middle, and a spacing for its density.

    Shapes: `events`, `total` (study, 1); results (study,).
    """
    low, high = np.full(len(total), np.inf), np.full(len(total), -np.inf)
    narrowest = np.full(len(total), np.inf)
    pairs, middles = [ends], []
    if np.isinf(effects.reach):
        # Heavy tails let a study go where its own counts are, however far that is.
        pairs.append(ends._replace(tau=np.full(len(ends.tau), FARTHEST_LOGIT)))
    if alone := effects.alone:
        pairs.append(Ends(*(np.full(1, x) for x in (alone.mean, alone.sd, 0.0, 1.0))))
    for mu, width, sd, weight in pairs:
        mode, scale = modes(events, total, mu, width)
        middles.append(mode[:, -1])
        # What has little weight is negligible sooner, by as much as its log density is lower,
        known = 1 + 2 * np.log(weight) / 8.5**2
        tails, reach = 9 * scale, effects.reach * width * np.sqrt(np.maximum(known, 0.2))
        below = np.minimum(reach, tails + 28 / np.maximum(events, 0.1))
        above = np.minimum(reach, tails + 28 / np.maximum(total - events, 0.1))
        low = np.minimum(low, (mode - below).min(-1))
        high = np.maximum(high, (mode + above).max(-1))
        # and may be resolved less well: the error grows with the eighth power.
        spread = weight ** (-1 / 6) * np.hypot(scale, scale**2 / width**2 * sd)
        narrowest = np.minimum(narrowest, spread.min(-1))
    low, high = np.maximum(low, -FARTHEST_LOGIT), np.minimum(high, FARTHEST_LOGIT)
    return low, high, middles[0], np.minimum(DENSITY_STEP * narrowest, 0.25)


def _rates(
    events: Array,
    total: Array,
    nodes: Nodes,
    log_ratio: Array,
    effects: Effects,
    table: _Table,
    at: Array,
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Summarise the rates of studies whose effects' densities one table holds.

    Shapes: `events`, `total` (study, 1), `log_ratio` (study, node), `at` (value,). Returns
    summaries as `tabulate`, distribution functions at `table.read`, and whether they are wrong as
    a density has not vanished at an end of the table, as it must unless the table is fine.
    """
    theta, spacing, finer, read = table
    main = np.flatnonzero(nodes.weight > LIGHT)
    log_ratio = log_ratio[:, main]
    top = log_ratio.max(-1, keepdims=True)
    ratio = np.exp(log_ratio - top)
    own = log_binomial(events, total, theta)
    is_new = (total == 0)[:, 0]
    mixed = nodes.mixed(theta, effects.new, main, ratio)
    if alone := effects.alone:
        log_alone = NormalEffects().log_density(theta, np.full(1, alone.mean), np.full(1, alone.sd))
        log_alone += np.log(alone.share)
        old = ~is_new
        mixed[old] *= 1 - alone.share
        mixed[old] += ratio[old].sum(-1, keepdims=True) * np.exp(log_alone)
    with np.errstate(divide="ignore", over="ignore"):
        density = np.exp(own + np.log(mixed) + top)
    mass = density @ spacing
    # A study without events (or non-events) can have mass beyond the table: its rate there is 0
    # (or 1) to double precision, and the density integrates to 1 without the table.
    low_end = (events == 0)[:, 0] & (theta[0] <= -FARTHEST_LOGIT)
    high_end = (events == total)[:, 0] & (theta[-1] >= FARTHEST_LOGIT)
    open_end = low_end | high_end
    for study in np.flatnonzero(~open_end & ~(np.abs(mass - 1) < 1e-4)):
        # Counts so far from what the others say that the sums above underflow
        log_kernel = effects.new.log_density(theta[:, None], nodes.mu[main], nodes.width[main])
        logs = log_sum(log_ratio[study] + log_kernel)
        if alone:
            with np.errstate(divide="ignore"):
                logs = logs + np.log1p(-alone.share)
            logs = np.logaddexp(logs, log_alone + log_sum(log_ratio[study]))
        density[study] = np.exp(own[study] + logs)
        mass[study] = density[study] @ spacing
    density /= np.where(open_end, 1.0, mass)[:, None]
    pieces = density * spacing
    rate, rest = sigmoid(theta), sigmoid(-theta)
    first, second, missed, missed_square = (
        pieces @ np.stack([rate, rate * rate, rest, rest * (1 + rate)], axis=1)
    ).T
    mean = np.where(high_end, 1 - missed, first)
    square = np.where(high_end, 1 - missed_square, second)
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    # The points are equidistant in t.
    cdf = cumulate_vanishing(pieces, finer)
    cut_off = pieces[:, [0, -1]].max(-1) > VANISHED
    if finer == 1:
        _end_openly(cdf, pieces, open_end & cut_off, low_end & ~is_new)
        if (new := is_new & (cut_off | (not effects.new.analytic))).any():
            # A new study's rate can be 0 or 1 to double precision, each with some probability.
            # The sums hold from an inner point on.
            weight = ratio[new] / ratio[new].sum(-1, keepdims=True)
            known = theta[INNER : INNER + 1] if effects.new.analytic else theta
            below = weight @ effects.new.cdf(known[:, None], nodes.mu[main], nodes.width[main]).T
            inner = cdf[new] - cdf[new, INNER, None]
            cdf[new] = inner + below if effects.new.analytic else below
    cdf /= np.where(open_end, 1.0, cdf[:, -1])[:, None]
    np.minimum(np.maximum(cdf, 0), 1, out=cdf)
    np.maximum.accumulate(cdf, axis=-1, out=cdf)
    quantiles = np.minimum(sigmoid(invert(read[None], cdf, np.array(QUANTILES))), BELOW_ONE)
    found = np.column_stack([mean, sd, quantiles, _above(read, cdf, at)])
    return found, cdf, cut_off & (finer > 1)


def _end_openly(
    cdf: Array, pieces: Array, some: npt.NDArray[np.bool_], low: npt.NDArray[np.bool_]
) -> None:
    """Integrate anew `some` densities that do not vanish at the ends, from above if `low` does."""
    if some.any():
        cdf[some] = cumulate(pieces[some], np.ones(1))
    if (low & some).any():
        cdf[low & some] = 1 - cumulate(pieces[low & some, ::-1], np.ones(1))[:, ::-1]


def _above(theta: Array, cdf: Array, at: Array) -> Array:
    """Return the probability beyond each of `at`: shapes (point,), (study, point), (value,)."""
    if not len(at):
        return np.empty((len(cdf), 0))
    score = ndtri(np.clip(cdf, 1e-300, 1 - 1e-16))
    beyond = ndtr(-interpolate(np.broadcast_to(theta, cdf.shape), score, at, 8))
    beyond = np.where(at <= theta[0], 1 - cdf[:, :1], beyond)
    return np.where(at >= theta[-1], 1 - cdf[:, -1:], beyond)
