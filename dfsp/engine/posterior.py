"""The exact engine: the posterior of the hierarchical model by deterministic quadrature.

`solve` needs no compiler and no random number. Everything it returns is an integral over the grid
of `dfsp.engine.grid`: study effects are integrated out inside each node (`dfsp.model.likelihood`,
`dfsp.model.effects`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from dfsp.constants import QUANTILES
from dfsp.engine.grid import (
    COLUMNS,
    Data,
    Grid,
    chebyshev_shares,
    grid,
    legendre_integral,
    legendre_rule,
    refine,
    shares,
)
from dfsp.model.effects import BetaBinomial, Effects, Exnex, NormalEffects
from dfsp.model.likelihood import FLOOR, log_binomial, modes, sigmoid
from dfsp.model.model import Model

Array = npt.NDArray[np.float64]

FARTHEST = 45.0  # a logit rate beyond this is 0 or 1 to double precision
STEP = 0.2  # spacing of tabulated densities in units of their narrowest feature
INNER = 4  # points of a table that the rule of integration reaches beyond a point
CORE = 2.0  # half-width (logit) within which that spacing holds; it grows linearly beyond
# Equidistant points of mu in a row for its conditional distribution, and points of a mixture of
# such distributions; more where mu can have several modes
PLAIN = (161, 401)
POINTS = (89, 353)
SIZES = tuple(24 * 2**power + 1 for power in range(11))
ASTRAY = 1e-6  # share of a posterior at the grid's edge that says it reaches beyond
LIGHT = 1e-9  # nodes of less weight than this are left out of kernel sums
BLOCK = 4_000_000  # numbers held at once


@dataclass(frozen=True)
class Nodes:
    """Equidistant nodes of mu in every row, weighted: a discrete posterior of (mu, tau).

    `width` is tau, or where tau is far below the spacing of the nodes, that spacing: a kernel of
    this width at every node makes a smooth density of a study effect. `excess` is the share of
    width^2 that is not of tau^2.
    """

    mu: Array
    tau: Array
    width: Array
    excess: Array
    weight: Array
    log_weight: Array
    is_end: npt.NDArray[np.bool_]
    parts: tuple[tuple[npt.NDArray[np.intp], int], ...]

    def spread(self, values: Array) -> Array:
        """Interpolate values on the grid's rows and Chebyshev columns at the nodes."""
        columns = values.shape[-1]
        shape = values.shape[:-2]
        pieces = [
            # One product of two matrices is quicker than a stack of products.
            (values[..., rows, :].reshape(-1, columns) @ refine(columns, size).T).reshape(
                *shape, len(rows) * size
            )
            for rows, size in self.parts
        ]
        return np.concatenate(pieces, axis=-1)

    def mixed(
        self, theta: Array, effects: Effects, main: npt.NDArray[np.bool_], weight: Array
    ) -> Array:
        """Return the density of an effect at `theta`, (..., theta), with `weight` (..., node)."""
        mu, width, excess = self.mu[main], self.width[main], self.excess[main]
        if not isinstance(effects, NormalEffects):
            return np.asarray(weight @ effects.density(theta[:, None], mu, width).T)
        z = theta[:, None] * (1 / width)
        z -= mu / width
        z *= z
        # The heat equation run backwards takes the excess back, to sixth order in the width.
        wide = np.flatnonzero(excess)
        square, excess = z[:, wide], excess[wide]
        z *= -0.5
        np.maximum(z, FLOOR, out=z)  # exponentials that underflow take several times as long
        np.exp(z, out=z)
        z[:, wide] *= 1 - excess / 2 * (square - 1) + excess**2 / 8 * (square * (square - 6) + 3)
        return np.asarray(np.maximum((weight / (np.sqrt(2 * np.pi) * width)) @ z.T, 0))


@dataclass(frozen=True)
class Distribution:
    """A distribution as its mean, standard deviation and tabulated distribution function.

    Attributes
    ----------
    x, cdf : array, shape (point,)
        `x` ascends, on the logit scale for rates.
    mean, sd : float
        On the quantity's own scale; NaN where the moment does not exist.
    is_rate : bool
        Whether the quantity is the inverse logit of `x`.
    """

    x: Array
    cdf: Array
    mean: float
    sd: float
    is_rate: bool

    def quantile(self, q: npt.ArrayLike) -> Array:
        """Return quantiles on the quantity's own scale (0 < q < 1)."""
        x = invert(self.x[None], self.cdf[None], np.atleast_1d(np.asarray(q, dtype=float)))[0]
        return sigmoid(x) if self.is_rate else x

    def above(self, value: float) -> float:
        """Return the probability that the quantity exceeds `value` (on its own scale)."""
        if self.is_rate:
            if not 0 < value < 1:
                return float(value <= 0)
            value = float(np.log(value / (1 - value)))
        inner = (self.cdf > 1e-12) & (self.cdf < 1 - 1e-12)
        if not inner.any():
            return float(self.x.mean() > value)
        x, z = self.x[inner], ndtri(self.cdf[inner])
        if value <= x[0] or value >= x[-1]:
            return float(value <= x[0])
        return float(ndtr(-interpolate(x[None], z[None], np.array([value]))[0, 0]))

    def cdf_at(self, x: Array) -> Array:
        """Return the distribution function at ascending points on the scale of `x`."""
        inner = (self.cdf > 1e-12) & (self.cdf < 1 - 1e-12)
        own, score = self.x[inner], ndtri(self.cdf[inner])
        z = interpolate(own[None], score[None], x)[0]
        return np.where(x < own[0], 0.0, np.where(x > own[-1], 1.0, ndtr(z)))

    def density(self) -> tuple[Array, Array]:
        """Return points on the quantity's own scale and the density there, for drawing."""
        x = sigmoid(self.x) if self.is_rate else self.x
        keep = np.concatenate([[True], np.diff(x) > 1e-9 * (x[-1] - x[0])])
        x, cdf = x[keep], self.cdf[keep]
        return (x[1:] + x[:-1]) / 2, np.diff(cdf) / np.diff(x)

    def summary(self) -> Array:
        """Return mean, sd and `QUANTILES`."""
        return np.concatenate([[self.mean, self.sd], self.quantile(QUANTILES)])


NOTHING = Distribution(np.full(4, np.nan), np.linspace(0, 1, 4), np.nan, np.nan, False)
"""What has no meaning under the model at hand."""


@dataclass(frozen=True)
class Posterior:
    """What the exact engine knows after seeing the counts.

    Attributes
    ----------
    events, total : array, shape (study,)
    model : Model
    log_marginal_likelihood : float
        With binomial coefficients.
    mu, tau, typical_rate, mean_rate, new_study_rate, concentration : Distribution
        `NOTHING` where the effects have no such quantity.
    scale : Distribution
        Of the grid's second coordinate: tau, or 1/sqrt(concentration).
    leave_one_out_lpd : array, shape (study,)
        Log predictive density of each study's counts given the other studies.
    studies : array, shape (study, 7)
        Mean, sd and `QUANTILES` of each study's rate.
    exchangeable : array, shape (study,) or None
        With EXNEX effects the posterior probability that a study is exchangeable.
    error : float
        Estimate of the relative error of the grid.
    nodes : Nodes
    grid : Grid
    data : Data
    row_weight : array, shape (row,)
    """

    events: Array
    total: Array
    model: Model
    log_marginal_likelihood: float
    mu: Distribution
    tau: Distribution
    typical_rate: Distribution
    mean_rate: Distribution
    new_study_rate: Distribution
    concentration: Distribution
    scale: Distribution
    leave_one_out_lpd: Array
    studies: Array
    exchangeable: Array | None
    error: float
    nodes: Nodes
    grid: Grid
    data: Data
    row_weight: Array


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
    """
    events = np.asarray(events, dtype=np.float64)
    total = np.asarray(total, dtype=np.float64)
    model.require_tail(events, total)
    data = Data.of(events, total)
    mean_exists, sd_exists = model.effects.tau_moments(events, total, model.tau)
    result = grid(data, model, order=int(mean_exists) + int(sd_exists))
    columns = result.log_joint.shape[1]

    number = PLAIN[result.stretched]
    mu, width = result.place(shares(number))
    log_p = result.log_joint @ refine(columns, number).T + np.log(width)
    row_top = log_p.max(-1)
    density = np.exp(log_p - row_top[:, None])
    spacing = np.full(1, 1 / (number - 1))
    within_mass = density.sum(-1) * spacing
    # By rows, since one that the prior all but excludes would underflow
    log_mass = row_top + result.log_row_prior + np.log(within_mass)
    top = float(log_mass.max())
    row_mass = np.exp(log_mass - top)
    evidence = float(row_mass @ result.u_weights)
    row_weight = row_mass * result.u_weights / evidence

    nodes = _nodes(result, row_weight, top + np.log(evidence), model.effects.new)
    within = cumulate(density / within_mass[:, None], spacing)
    mean_mu = float(nodes.weight @ nodes.mu)
    sd_mu = float(np.sqrt(nodes.weight @ (nodes.mu - mean_mu) ** 2))
    # Far out in a heavy tail of tau the mean rate piles up at one half.
    points = POINTS[result.stretched or bool(np.isfinite(model.scale.tail_power))]
    x, cdf = mix(mu, within, row_weight, points)
    rate = sigmoid(nodes.mu)
    first, second, mean_rows = _mean_rates(result, nodes, row_weight, model.effects.new)
    of_mu = Distribution(x, cdf, mean_mu, sd_mu, False)
    of_tau = scale = tau_distribution(
        result.u, result.scale, row_mass, row_weight, (mean_exists, sd_exists)
    )
    typical = Distribution(x, cdf, *_moments(nodes.weight, rate, rate**2), True)
    concentration = NOTHING
    if isinstance(model.effects, BetaBinomial):
        concentration = _concentration(of_tau, nodes, model.effects)
        of_mu = of_tau = typical = NOTHING
    summaries, new_study = _studies(data, result, nodes, row_weight, model.effects)
    alone = None
    if isinstance(model.effects, Exnex):
        alone = _share_alone(data, result, nodes, model.effects)
    return Posterior(
        events=events,
        total=total,
        model=model,
        log_marginal_likelihood=top + float(np.log(evidence)),
        mu=of_mu,
        tau=of_tau,
        typical_rate=typical,
        mean_rate=Distribution(
            *mix(mean_rows, within, row_weight, points),
            *_moments(nodes.weight, first, first**2),
            True,
        ),
        new_study_rate=Distribution(*new_study, *_moments(nodes.weight, first, second), True),
        concentration=concentration,
        scale=scale,
        leave_one_out_lpd=_left_out(data, nodes, result, together, model),
        studies=summaries[data.inverse],
        exchangeable=None if alone is None else 1 - alone[data.inverse],
        error=result.error,
        nodes=nodes,
        grid=result,
        data=data,
        row_weight=row_weight,
    )


def invert(x: Array, cdf: Array, q: Array) -> Array:
    """Return quantiles of tabulated distribution functions by quintics in normal scores.

    Shapes: `x` and `cdf` (table, point), `q` (quantile,), result (table, quantile).
    """
    start = _search(cdf, q) - 3
    around = _around(start, min(6, x.shape[1]), x.shape[1])
    rows = np.arange(len(cdf))[:, None] * x.shape[1]
    score = ndtri(np.clip(cdf.take(rows + around), 1e-300, 1 - 1e-16))
    at = x.take(rows + around if len(x) > 1 else around)
    inner = polynomial(score, at, ndtri(q))
    # A table that is cut off (a rate of 0 or 1 to double precision) has nothing beyond it.
    inner = np.where(q <= cdf[:, :1], x[:, :1], inner)
    return np.where(q >= cdf[:, -1:], x[:, -1:], inner)


def interpolate(x: Array, y: Array, at: Array) -> Array:
    """Interpolate each row of `y` over ascending `x` by cubics through the four nearest points."""
    start = _search(x, at) - 2
    around = _around(start, 4, x.shape[1]) + np.arange(len(x))[:, None] * x.shape[1]
    return polynomial(x.take(around), y.take(around), at)


def _search(x: Array, at: Array) -> npt.NDArray[np.intp]:
    """Return how many values of each ascending row of `x` are below each of `at`."""
    if len(x) == 1:
        return np.searchsorted(x[0], at)[None]
    # Rows moved apart make one ascending array.
    low, high = min(x[:, 0].min(), at[0]), max(x[:, -1].max(), at[-1])
    apart = (2 * (high - low) * np.arange(len(x)))[:, None]
    found = np.searchsorted((x + apart).ravel(), (at + apart).ravel()).reshape(len(x), -1)
    return np.asarray(found - x.shape[1] * np.arange(len(x))[:, None])


def _around(start: npt.NDArray[np.intp], number: int, length: int) -> npt.NDArray[np.intp]:
    """Return `number` neighbouring positions from each of `start`, along a new first axis."""
    first = np.minimum(np.maximum(start, 0), length - number)
    return np.asarray(first + np.arange(number).reshape(-1, *[1] * start.ndim))


def polynomial(x: Array, y: Array, at: Array) -> Array:
    """Evaluate the polynomial through points (first axis), or the nearest where points coincide."""
    value = y
    distinct = (x[1:] > x[:-1]).all(0)
    with np.errstate(all="ignore"):
        # Neville's scheme
        for degree in range(1, len(x)):
            share = (at - x[:-degree]) / (x[degree:] - x[:-degree])
            value = value[:-1] + share * (value[1:] - value[:-1])
    if distinct.all():
        return np.asarray(value[0])
    nearest = np.abs(at - x).argmin(0)[None]
    return np.asarray(np.where(distinct, value[0], np.take_along_axis(y, nearest, 0)[0]))


def _moments(weight: Array, first: Array, second: Array) -> tuple[float, float]:
    mean = float(weight @ first)
    return mean, float(np.sqrt(max(float(weight @ second) - mean**2, 0.0)))


def moments_of_tau(events: Array, total: Array, model: Model) -> tuple[bool, bool]:
    """Say whether tau has a posterior mean and a standard deviation."""
    return model.effects.tau_moments(events, total, model.tau)


def increments(density: Array) -> Array:
    """Integrate between neighbouring points along the last axis, to eighth order, spacing 1."""
    number = density.shape[-1] - 1
    padded = np.zeros((*density.shape[:-1], number + 7))
    padded[..., 3:-3] = density
    pieces = [
        weight * (padded[..., shift : shift + number] + padded[..., 7 - shift : 7 - shift + number])
        for shift, weight in enumerate(np.array([-191, 1879, -9531, 68323]) / 120960)
    ]
    return np.asarray(sum(pieces))


def cumulate(density: Array, spacing: Array) -> Array:
    """Integrate along the last axis to eighth order; starts at 0."""
    total = np.cumsum(np.maximum(increments(density), 0) * spacing[:, None], axis=-1)
    return np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)


@lru_cache(maxsize=8)
def _levels(points: int) -> Array:
    """Return probabilities that are equidistant in normal scores."""
    return np.asarray(ndtr(np.linspace(-5.5, 5.5, points)))


def mix(
    values: Array, within: Array, row_weight: Array, points: int = POINTS[0]
) -> tuple[Array, Array]:
    """Mix row-wise distribution functions, each tabulated at its own ascending values."""
    main = row_weight > 1e-9
    values, within, weight = values[main], within[main], row_weight[main]
    # The points of the table are equidistant in normal scores of the mixture itself.
    # Its own rough distribution places them.
    mass = np.diff(within, axis=1) * weight[:, None]
    middles = (values[:, 1:] + values[:, :-1]) / 2
    order = np.argsort(middles, axis=None, kind="stable")  # quick where rows ascend
    rough = np.cumsum(mass.ravel()[order])
    x = np.interp(_levels(points), rough / rough[-1], middles.ravel()[order])
    x = x[np.append(True, np.diff(x) > 0)]
    low, high = values[:, :1], values[:, -1:]
    inside = np.minimum(np.maximum(interpolate(values, within, x), 0), 1)
    cdf = weight @ np.where(x <= low, 0.0, np.where(x >= high, 1.0, inside))
    return x, np.maximum.accumulate(cdf / weight.sum())


def _nodes(result: Grid, row_weight: Array, log_evidence: float, effects: Effects) -> Nodes:
    """Choose for each row as many equidistant nodes of mu as its tau and its weight need."""
    # Stretched nodes need fewer: they are dense where most of the mass is.
    reach = result.high - result.low
    reach = np.minimum(reach, 100 * result.sd) if result.stretched else reach
    # Rows of little weight may be smoothed, the more the better the kernel corrects for it.
    smoothed, order = (3e-7, 6) if isinstance(effects, NormalEffects) else (1e-6, 2)
    narrow = result.sd * (smoothed / np.maximum(row_weight, 1e-12)) ** (1 / order)
    wanted = np.minimum(np.maximum(0.9 * result.tau, narrow), np.minimum(0.7 * result.sd, 0.8))
    size = np.array(SIZES)[np.searchsorted(SIZES[:-1], reach / wanted + 1)]
    size = np.where(row_weight < 1e-14, SIZES[0], size)
    columns = result.log_joint.shape[1]
    pieces, parts = [], []
    for number in sorted(set(size.tolist())):
        rows = np.flatnonzero(size == number)
        mu, spacing = result.place(shares(number), rows)
        spacing = spacing / (number - 1)
        log_weight = result.log_joint[rows] @ refine(columns, number).T
        log_weight += np.log(spacing * result.u_weights[rows, None])
        log_weight += result.log_row_prior[rows, None] - log_evidence
        tau = result.tau[rows, None]
        width = np.maximum(tau, spacing / 0.9)
        excess = 1 - (tau / width) ** 2
        end = np.zeros(mu.shape)
        end[:, [0, -1]] = 1
        per_row = (each + np.zeros(mu.shape) for each in (tau, width, excess))
        pieces.append([each.ravel() for each in (mu, *per_row, log_weight, end)])
        parts.append((rows, number))
    mu, tau, width, excess, log_weight, is_end = (
        np.concatenate(piece) for piece in zip(*pieces, strict=True)
    )
    log_weight -= _log_sum(log_weight)
    is_end = is_end > 0
    return Nodes(mu, tau, width, excess, np.exp(log_weight), log_weight, is_end, tuple(parts))


def tau_distribution(
    u: Array,
    scale: float,
    row_mass: Array,
    row_weight: Array,
    exist: tuple[bool, bool],
) -> Distribution:
    """Return the distribution of tau = scale sinh(u) from its density at Gauss-Legendre nodes u.

    `row_mass` is the density of u, of any scale; `row_weight` sums to one; `exist` says whether
    mean and standard deviation do.
    """
    taus = scale * np.sinh(u)
    if len(u) == 1:
        tau = float(taus[0])
        return Distribution(np.full(4, tau), np.array([0.0, 0.25, 0.75, 1.0]), tau, 0.0, False)
    mean = float(row_weight @ taus) if exist[0] else np.nan
    variance = row_weight @ (taus - mean) ** 2 if exist[1] else np.nan
    nodes = legendre_rule(len(u))[0]
    points, integral = legendre_integral(len(u))
    cdf = np.maximum.accumulate(integral @ row_mass)
    half = (u[-1] - u[0]) / (nodes[-1] - nodes[0])
    start = u[0] - half * (nodes[0] + 1)
    x = scale * np.sinh(np.maximum(start + half * (points + 1), 0))
    return Distribution(x, np.clip(cdf / cdf[-1], 0, 1), mean, float(np.sqrt(variance)), False)


def _concentration(of_tau: Distribution, nodes: Nodes, effects: BetaBinomial) -> Distribution:
    """Return the distribution of tau^-2."""
    keep = of_tau.x > 0
    x, cdf = of_tau.x[keep][::-1] ** -2.0, 1 - of_tau.cdf[keep][::-1]
    # The counts say nothing against a huge concentration: its moments are the prior's.
    values = nodes.tau**-2.0
    exist = effects.concentration.tail_power
    mean = float(nodes.weight @ values) if exist > 1 else np.nan
    sd = float(np.sqrt(nodes.weight @ (values - mean) ** 2)) if exist > 2 else np.nan
    # On the scale on which the table is even
    return Distribution(x, cdf, mean, sd, False)


def _share_alone(data: Data, result: Grid, nodes: Nodes, effects: Exnex) -> Array:
    """Return the posterior probability that each distinct study is not exchangeable."""
    if effects.exchangeable == 0:
        return np.ones(len(data.total))
    log_alone = effects.log_alone(data.events, data.total)[:, None, None]
    return nodes.spread(np.exp(log_alone - result.log_l)) @ nodes.weight


def _mean_rates(
    result: Grid, nodes: Nodes, row_weight: Array, effects: Effects
) -> tuple[Array, Array, Array]:
    """Return E[p] and E[p^2] of a new study's rate at the nodes, and logit E[p] row by row.

    They are computed for the rarer of event and non-event, which keeps their digits when the other
    is nearly certain.
    """
    # The rates bend where mu is near 0, within 1 or tau, however smooth the posterior is.
    reach = (result.high - result.low)[row_weight > LIGHT] / 2
    bend = np.pi * np.maximum(result.tau[row_weight > LIGHT], 1)
    wanted = min(1 + 16 / float(np.arcsinh(bend / reach).min()), COLUMNS[-1])
    columns = next(number for number in COLUMNS if number >= wanted)
    mu, _ = result.place(chebyshev_shares(columns))
    tau = np.broadcast_to(result.tau[:, None], mu.shape)
    p, pp = (x.reshape(mu.shape) for x in effects.moments(-np.abs(mu).ravel(), tau.ravel()))
    logit = np.where(mu < 0, 1, -1) * (np.log(p) - np.log1p(-p))
    first = sigmoid(nodes.spread(logit))
    second = nodes.spread(np.where(mu < 0, pp, 1 - 2 * p + pp))
    rows = np.maximum.accumulate(logit @ refine(columns, PLAIN[result.stretched]).T, axis=-1)
    return first, second, rows


def _left_out(
    data: Data, nodes: Nodes, result: Grid, together: Sequence[Sequence[int]] | None, model: Model
) -> Array:
    """Return the log predictive density of each study given those that are not left out with it."""
    alone = np.empty(len(data.total))
    astray = np.zeros(len(alone), dtype=bool)
    open_above = result.tau[-1] < 0.9 * model.scale.upper
    open_below = result.u[0] > 1e-2 * result.u[-1]
    edge = nodes.is_end.copy()
    if len(result.u) > 1:
        edge |= open_above & (nodes.tau == result.tau[-1])
        edge |= open_below & (nodes.tau == result.tau[0])
    step = max(1, BLOCK // len(nodes.mu))
    for start in range(0, len(alone), step):
        block = slice(start, start + step)
        without = nodes.log_weight - nodes.spread(result.log_l[block])
        alone[block] = -_log_sum(without)
        astray[block] = np.exp(without[:, edge] + alone[block, None]).sum(-1) > ASTRAY
    lpd = alone[data.inverse]
    studies = list(range(len(lpd)))
    for study in studies:
        out = [study] if together is None else list(together[study])
        if len(out) < 2 and not astray[data.inverse[study]] and len(studies) > 1:
            continue
        if 1 < len(out) < len(studies):
            others = nodes.spread(result.log_l[data.inverse[out]]).sum(0)
            without = nodes.log_weight - others
            mass = _log_sum(without)
            if np.exp(without[edge] - mass).sum() <= ASTRAY:
                own = nodes.spread(result.log_l[data.inverse[study]])
                lpd[study] = _log_sum(without + own) - mass
                continue
        # What is left may lie where the grid of all studies does not reach.
        rest = data.inverse[np.setdiff1d(studies, out)]
        with_it = np.append(rest, data.inverse[study])
        lpd[study] = log_evidence(data.events[with_it], data.total[with_it], model) - log_evidence(
            data.events[rest], data.total[rest], model
        )
    return lpd


def log_evidence(events: Array, total: Array, model: Model) -> float:
    """Return the log marginal likelihood of counts (0 without any study), coefficients included."""
    if not len(events):
        return 0.0
    result = grid(Data.of(events, total), model, order=0)
    number = PLAIN[result.stretched]
    log_p = result.log_joint @ refine(result.log_joint.shape[1], number).T
    log_p += np.log(result.place(shares(number))[1] / (number - 1))
    log_p += np.log(result.u_weights)[:, None]
    return float(_log_sum((log_p + result.log_row_prior[:, None]).ravel()))


def _log_sum(values: Array) -> Array:
    top = values.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(-1)) + top[..., 0], dtype=np.float64)


def _studies(
    data: Data, result: Grid, nodes: Nodes, row_weight: Array, effects: Effects
) -> tuple[Array, tuple[Array, Array]]:
    """Return mean, sd and quantiles of the rate of each distinct study, and a new study's table."""
    # A new study is one without patients, the last one here.
    data = replace(data, events=np.append(data.events, 0.0), total=np.append(data.total, 0.0))
    log_l = np.concatenate([result.log_l, np.zeros((1, *result.log_l.shape[1:]))])
    summaries = np.empty((len(data.total), 2 + len(QUANTILES)))
    low, high, step = _ranges(data, result, row_weight, effects)
    mean, tau = nodes.weight @ nodes.mu, min(result.tau[row_weight.argmax()], CORE)
    centre, _ = modes(data.events, data.total, np.full(1, mean), np.full(1, tau))
    # Studies that one table can serve are done at once.
    order = np.lexsort((centre, np.ceil(np.log2(step))))
    most = max(1, BLOCK // len(nodes.mu))
    new_study = np.empty(0), np.empty(0)
    start = 0
    while start < len(order):
        block = order[start : start + most]
        alike = (step[block] <= 2 * step[block[0]]) & (centre[block] <= centre[block[0]] + CORE)
        chosen = block[np.logical_and.accumulate(alike)]
        theta, spacing = _table(
            low[chosen].min(), high[chosen].max(), step[chosen].min(), float(centre[chosen].mean())
        )
        summaries[chosen], cdf = _rates(data, log_l, nodes, chosen, effects, theta, spacing)
        if len(log_l) - 1 in chosen:
            new_study = theta, cdf[list(chosen).index(len(log_l) - 1)]
        start += len(chosen)
    return summaries[:-1], new_study


def _table(low: float, high: float, grain: float, centre: float) -> tuple[Array, Array]:
    """Return points from low to high, and the trapezoidal weights; denser about the centre."""
    core = max(CORE, 20 * grain)
    ends = np.arcsinh((np.array([low, high]) - centre) / core)
    t = np.linspace(ends[0], ends[1], max(9, int((ends[1] - ends[0]) * core / grain) + 2))
    theta = centre + core * np.sinh(t)
    theta[0], theta[-1] = low, high  # without their rounding
    return theta, core * np.cosh(t) * (t[1] - t[0])


def _ranges(
    data: Data, result: Grid, row_weight: Array, effects: Effects
) -> tuple[Array, Array, Array]:
    """Return where each distinct study's effect can be, and a spacing that resolves its density."""
    main = row_weight > 1e-9
    tau = result.tau[main]
    events, total = data.events[:, None], data.total[:, None]
    low, high = np.full(len(data.total), np.inf), np.full(len(data.total), -np.inf)
    narrowest = np.full(len(data.total), np.inf)
    # Rows of little weight may be resolved less well: the error grows with the eighth power.
    ends = np.concatenate([result.low[main], result.high[main]])
    known = np.tile(result.sd[main], 2), np.tile(row_weight[main] ** (-1 / 6), 2)
    pairs: list[tuple[Array, ...]] = [(ends, np.tile(tau, 2), *known)]
    if np.isinf(effects.reach):
        # Heavy tails let a study go where its own counts are, however far that is.
        pairs.append((ends, np.full(len(ends), FARTHEST), *pairs[0][2:]))
    if isinstance(effects, Exnex):
        pairs.append(tuple(np.full(1, x) for x in (effects.mean, effects.sd, 0.0, 1.0)))
    for mu, width, sd, tolerance in pairs:
        mode, scale = modes(events, total, mu, width)
        tails, reach = 9 * scale, effects.reach * width
        below = np.minimum(reach, tails + 28 / np.maximum(events, 0.1))
        above = np.minimum(reach, tails + 28 / np.maximum(total - events, 0.1))
        low = np.minimum(low, (mode - below).min(-1))
        high = np.maximum(high, (mode + above).max(-1))
        spread = tolerance * np.hypot(scale, scale**2 / width**2 * sd)
        narrowest = np.minimum(narrowest, spread.min(-1))
    low, high = np.maximum(low, -FARTHEST), np.minimum(high, FARTHEST)
    return low, high, np.minimum(STEP * narrowest, 0.25)


def _rates(
    data: Data,
    log_l: Array,
    nodes: Nodes,
    chosen: npt.NDArray[np.intp],
    effects: Effects,
    theta: Array,
    spacing: Array,
) -> tuple[Array, Array]:
    """Summarise the rates of studies whose effects' densities are tabulated at `theta`.

    Returns mean, sd and quantiles, and distribution functions at `theta`.
    """
    main = nodes.weight > LIGHT
    log_ratio = nodes.log_weight[main] - nodes.spread(log_l[chosen])[:, main]
    top = log_ratio.max(-1, keepdims=True)
    ratio = np.exp(log_ratio - top)
    events, total = data.events[chosen, None], data.total[chosen, None]
    own = log_binomial(events, total, theta)
    is_new = (total == 0)[:, 0]
    mixed = nodes.mixed(theta, effects.new, main, ratio)
    if isinstance(effects, Exnex):
        alone = NormalEffects().log_density(theta, np.full(1, effects.mean), np.full(1, effects.sd))
        with np.errstate(divide="ignore"):
            share = np.log([effects.exchangeable, 1 - effects.exchangeable])
        old = ~is_new
        mixed[old] *= effects.exchangeable
        mixed[old] += ratio[old].sum(-1, keepdims=True) * np.exp(share[1] + alone)
    with np.errstate(divide="ignore", over="ignore"):
        density = np.exp(own + np.log(mixed) + top)
    mass = density @ spacing
    # A study without events (or non-events) can have mass beyond the table: its rate there is 0
    # (or 1) to double precision, and the density integrates to 1 without the table.
    low_end = (events == 0)[:, 0] & (theta[0] <= -FARTHEST)
    high_end = (events == total)[:, 0] & (theta[-1] >= FARTHEST)
    open_end = low_end | high_end
    low_end &= ~is_new
    for study in np.flatnonzero(~open_end & ~(np.abs(mass - 1) < 1e-4)):
        # Counts so far from what the others say that the sums above underflow
        log_kernel = effects.new.log_density(theta[:, None], nodes.mu[main], nodes.width[main])
        logs = _log_sum(log_ratio[study] + log_kernel)
        if isinstance(effects, Exnex):
            logs = np.logaddexp(logs + share[0], alone + share[1] + _log_sum(log_ratio[study]))
        density[study] = np.exp(own[study] + logs)
        mass[study] = density[study] @ spacing
    density /= np.where(open_end, 1.0, mass)[:, None]
    rate = sigmoid(theta)
    first, second = density @ (rate * spacing), density @ (rate**2 * spacing)
    missed = density @ (sigmoid(-theta) * spacing)
    missed_square = density @ (sigmoid(-theta) * (1 + rate) * spacing)
    mean = np.where(high_end, 1 - missed, first)
    square = np.where(high_end, 1 - missed_square, second)
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    # The points are equidistant in t, and the density vanishes at an end that is not open.
    pieces = density * spacing
    cdf = cumulate(pieces, np.ones(1))
    if low_end.any():
        cdf[low_end] = 1 - cumulate(pieces[low_end, ::-1], np.ones(1))[:, ::-1]
    if is_new.any():
        # A new study's rate can be 0 or 1 to double precision, each with some probability. Its
        # density does not vanish at the ends then, and the sums hold from an inner point on.
        weight = nodes.weight[main] / nodes.weight[main].sum()
        smooth = isinstance(effects.new, NormalEffects)
        at = theta[INNER : INNER + 1] if smooth else theta
        below = effects.new.cdf(at[:, None], nodes.mu[main], nodes.width[main]) @ weight
        cdf[is_new] = cdf[is_new] - cdf[is_new, INNER] + below if smooth else below
    cdf /= np.where(open_end, 1.0, cdf[:, -1])[:, None]
    cdf = np.maximum.accumulate(np.clip(cdf, 0, 1), axis=-1)
    quantiles = sigmoid(invert(theta[None], cdf, np.array(QUANTILES)))
    return np.column_stack([mean, sd, quantiles]), cdf
