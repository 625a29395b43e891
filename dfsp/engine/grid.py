"""Where the posterior of (mu, tau) is, and the one place where a grid over it is made.

**Rows.** tau = c sinh(u) is covered by Gauss-Legendre nodes in u: even near 0, logarithmic far
out, ending exactly where a prior ends. c is the smallest tau at which anything changes: that at
which the most informative study, of logit variance 1 / (n p (1 - p)), begins to notice it, or at
which the prior begins. `Rows` serves every grid: the posterior's own (`place`), and those over the
whole prior that thousands of analyses share (`dfsp.engine.many`).

**Columns.** At each row, mu has Chebyshev nodes of its own between the points where its conditional
density is negligible. The log density there, a polynomial through the nodes, converges
geometrically (Trefethen 2019, doi:10.1137/1.9781611975949); its last coefficients estimate the
error, and the grid is refined until they are negligible. Where effects can give mu several modes,
or where it reaches far, the nodes are stretched: Chebyshev in arcsinh((mu - mode) / 2 sd), so that
they are dense about the mode.

**Leaving out.** The grid also holds every leave-one-study-out posterior, so that one grid serves
them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev, legendre

from dfsp.model.likelihood import COARSE, ENOUGH
from dfsp.model.model import Model
from dfsp.model.priors import SpreadPrior

Array = npt.NDArray[np.float64]
Some = npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice

# Errors in these comments are the largest of a rate (a probability) over the sixty random tables of
# `tests/benchmarks/numerics.py`, which measures them again; as the constants are it is 1e-5, and
# 3e-7 at the median.
DROP = 28.0  # log density below its maximum at which the posterior ends; with 20 error 2e-5
DROP_WITHOUT = 18.0  # the same with studies left out: e^-18 = 2e-8; with 9 densities err by 9e-4
MOST_TAU = 1e100  # of tau, whatever its prior
# Conditional standard deviations of mu beyond which nodes are denser about its mode; with 28 the
# error is twice as large, with 7 no smaller.
FAR = 14.0
ASIDE, ASIDE_SDS = 20.0, 10.0
"""How far (logit; prior sds) a mode of mu may be from the studies' own rates and the prior's mean.
"""
BESIDE, OUTSIDE = (-1.0, 0.0, 1.0), (-9.3, 9.3)
"""Conditional standard deviations from a mode of mu at which its density is seen, and those where
a normal one has fallen by more than `DROP`: 9.3^2 / 2 = 43."""
MOST_AT_ONCE = 4.0
"""Conditional standard deviations that a first step to a mode of mu may be long."""
SCAN = 33
"""Points of a scan for a mode."""
NARROWEST = 1e-9
"""Spacing (logit) at which scans end: narrower densities are of rows far beyond any posterior."""
LOOK = 9  # steps from row to row of the first look, at least; as accurate with 6 or 14
NOTHING_THERE = 1e-9  # density at the end of a row, in units of the greatest, that counts as none
WIDER_BY, MOST_WIDENED = 1.5, 20  # what a row that ends too soon grows by, and how often
END = 1.25  # drop at which rows end, in units of what is wanted
LONGER = 3.0  # in u, by which a range that is too short grows first: to 20 times the tau
PER_UNIT = 1.0  # as many in a unit of u: the range of mu between two rows is interpolated
TOLERANCE = 1e-6  # largest size of the last coefficients along mu; with 1e-4 densities err by 4e-7
# The same along tau, where the rule is exact to twice the degree; with 1e-3 error 3e-5.
ROW_TOLERANCE = 3e-4
# Where the tail near tau = 0 is that of a concentration, whose sd else errs by 9e-4
TAIL_TOLERANCE = 1e-4
# Of rows over a whole prior: the probability beyond them; how many there are in a unit of u; and
# how many at least and at most. The posterior distribution of tau of 1,023 subsets and of 200
# simulated data sets moves by less than 1e-5 with twice as many; with 1e-4 beyond, rates of subsets
# err by 1e-4 and not by 2e-6.
BEYOND_ROWS = 1e-7
PER_U = 5
OVER_PRIOR = (48, 128)
# Numbers of rows and of columns to try; each is about 1.4 times the one before, so that the first
# that is enough is not far too many.
ROWS = (28, 40, 56, 80, 128, 192, 384)
COLUMNS = (12, 16, 22, 32, 44, 64, 128, 256)
SKEWED = (0.4, 0.75, 1.0)
"""Logarithms of the ratio of mu's reach on either side of its mode from which on 16, 22 and 32
columns are tried first: fewer are never enough for the tables of `tests/benchmarks/numerics.py`."""


@dataclass(frozen=True)
class Data:
    """Distinct counts: studies with equal counts have equal likelihoods and are computed once."""

    events: Array
    total: Array
    inverse: npt.NDArray[np.intp]
    times: Array

    @classmethod
    def of(cls, events: Array, total: Array) -> "Data":
        """Collect the distinct counts."""
        # Quicker than np.unique along an axis
        order = np.lexsort((total, events))
        events, total = events[order], total[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (events[1:] != events[:-1]) | (total[1:] != total[:-1])
        inverse = np.empty(len(order), dtype=np.intp)
        inverse[order] = np.cumsum(new) - 1
        times = np.bincount(inverse).astype(np.float64)
        return cls(events[new], total[new], inverse, times)


@lru_cache(maxsize=32)
def chebyshev_nodes(number: int) -> Array:
    """Return Chebyshev points of the second kind on [-1, 1], ascending, ends included."""
    return np.asarray(chebyshev.chebpts2(number), dtype=np.float64)


@lru_cache(maxsize=32)
def shares(number: int) -> Array:
    """Return `number` equidistant points from 0 to 1."""
    return np.linspace(0, 1, number)


@lru_cache(maxsize=32)
def chebyshev_shares(number: int) -> Array:
    """Return Chebyshev points from 0 to 1."""
    return (chebyshev_nodes(number) + 1) / 2


@lru_cache(maxsize=32)
def chebyshev_coefficients(number: int) -> Array:
    """Return the matrix that turns values at Chebyshev points into coefficients."""
    matrix = chebyshev.chebvander(chebyshev_nodes(number), number - 1)
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


@lru_cache(maxsize=256)
def refine(number: int, fine: int) -> Array:
    """Return the matrix that interpolates Chebyshev values at `fine` equidistant points."""
    points = np.linspace(-1, 1, fine)
    return chebyshev.chebvander(points, number - 1) @ chebyshev_coefficients(number)


@lru_cache(maxsize=256)
def refine_slope(number: int, fine: int) -> Array:
    """Return the matrix that gives the slopes by step, at `fine` equidistant points."""
    derivative = chebyshev.chebder(chebyshev_coefficients(number))
    points = np.linspace(-1, 1, fine)
    return chebyshev.chebvander(points, number - 2) @ derivative * (2 / (fine - 1))


@lru_cache(maxsize=32)
def legendre_rule(number: int) -> tuple[Array, Array, Array]:
    """Return Gauss-Legendre nodes, weights, and the matrix from values to coefficients."""
    nodes, weights = legendre.leggauss(number)
    degree = np.arange(number)
    to_coefficients = legendre.legvander(nodes, number - 1).T * weights * (degree[:, None] + 0.5)
    return nodes, weights, to_coefficients


@lru_cache(maxsize=32)
def legendre_integral(number: int) -> tuple[Array, Array]:
    """Return points of [-1, 1], dense at its ends, and the matrix that integrates up to them."""
    points = -np.cos(np.linspace(0, np.pi, 601))
    integrals = legendre.legint(legendre_rule(number)[2], lbnd=-1)
    return points, np.asarray(legendre.legval(points, integrals).T)


@dataclass(frozen=True)
class Rows:
    """Nodes of tau = c sinh(u): Gauss-Legendre in u, or the one value of a tau that is known.

    Attributes
    ----------
    u, weights : array, shape (row,)
        Nodes and the rule's weights, which sum to the length of the range of u.
    c : float
        Unit of tau, logit scale.
    """

    u: Array
    weights: Array
    c: float

    @classmethod
    def between(cls, low: float, high: float, c: float, number: int) -> "Rows":
        """Return `number` rows from u = `low` to u = `high`."""
        nodes, weights, _ = legendre_rule(number)
        half = (high - low) / 2
        return cls(low + half * (nodes + 1), half * weights, c)

    @classmethod
    def at(cls, tau: float) -> "Rows":
        """Return the one row of a tau that is known."""
        return cls(np.array([np.arcsinh(1.0)]), np.ones(1), tau)

    def __len__(self) -> int:
        return len(self.u)

    @property
    def known(self) -> bool:
        """Whether tau has one value."""
        return len(self.u) == 1

    @cached_property
    def tau(self) -> Array:
        """The between-study standard deviations, shape (row,), logit scale."""
        # sinh and arcsinh are not inverse to the last digit on every processor.
        return np.array([self.c]) if self.known else self.c * np.sinh(self.u)

    def log_mass(self, prior: SpreadPrior) -> Array:
        """Return the log prior mass of each row: prior(tau) dtau/du times the weight."""
        if self.known:
            return np.zeros(1)
        return np.asarray(prior.logpdf(self.tau) + np.log(self.c * np.cosh(self.u) * self.weights))

    def coefficients(self, mass: Array) -> Array:
        """Return Legendre coefficients of the density of u from the masses of rows (last axis)."""
        return np.asarray((mass / self.weights) @ legendre_rule(len(self))[2].T)

    @property
    def ends(self) -> tuple[float, float]:
        """The range of u that the rows cover."""
        nodes = legendre_rule(len(self))[0]
        half = (self.u[-1] - self.u[0]) / (nodes[-1] - nodes[0])
        low = self.u[0] - half * (nodes[0] + 1)
        return float(low), float(low + 2 * half)


@dataclass(frozen=True)
class Grid:
    """The joint density on its nodes.

    Attributes
    ----------
    rows : Rows
    low, high, sd : array, shape (row,)
        Range of mu in a row and its rough conditional standard deviation (logit).
    centre : array, shape (row,)
        Mode of mu in a row.
    stretched : bool
        Whether the nodes are equidistant in arcsinh((mu - centre) / (2 sd)) and not in mu.
    log_joint : array, shape (row, column)
        Log of prior(mu) times likelihood.
    log_l : array, shape (distinct study, row, column)
    log_row : array, shape (row,)
        Log prior mass of a row.
    error : float
        Largest relative size of the last coefficients.
    """

    rows: Rows
    low: Array
    high: Array
    sd: Array
    centre: Array
    stretched: bool
    log_joint: Array
    log_l: Array
    log_row: Array
    error: float

    @property
    def tau(self) -> Array:
        """The between-study standard deviation of each row, logit scale."""
        return self.rows.tau

    @property
    def columns(self) -> int:
        """Number of Chebyshev nodes of mu in a row."""
        return int(self.log_joint.shape[-1])

    def place(self, x: Array, rows: Some = slice(None)) -> tuple[Array, Array]:
        """Return mu and dmu/dx in `rows` at shares `x` of their ranges (0 to 1).

        Shapes (row, share); dmu/dx (row, 1) where it is the same all along a row.
        """
        low, high, centre, sd = (each[rows] for each in (self.low, self.high, self.centre, self.sd))
        return place_columns(x, low, high, centre, sd, self.stretched)

    def share_of(self, mu: Array, rows: Some = slice(None)) -> Array:
        """Return at which shares of the ranges of `rows` `mu` is: shapes (value,), (row, value)."""
        low, high, centre, sd = (each[rows] for each in (self.low, self.high, self.centre, self.sd))
        if not self.stretched:
            return np.asarray((mu - low[:, None]) / (high - low)[:, None])
        unit = 2 * sd
        left, right = (np.arcsinh((end - centre) / unit)[:, None] for end in (low, high))
        t = np.arcsinh((mu - centre[:, None]) / unit[:, None])
        return np.asarray((t - left) / (right - left))

    def fine(self, number: int, rows: Some = slice(None)) -> tuple[Array, Array]:
        """Return mu and log of density times dmu/dx at `number` equidistant shares of `rows`."""
        mu, width = self.place(shares(number), rows)
        return mu, self.log_joint[rows] @ refine(self.columns, number).T + np.log(width)


def place_columns(
    x: Array, low: Array, high: Array, centre: Array, sd: Array, stretched: bool
) -> tuple[Array, Array]:
    """Return mu and dmu/dx, as `Grid.place`, for rows with these ranges, modes and spreads."""
    if not stretched:
        reach = (high - low)[:, None]
        return low[:, None] + reach * x, reach
    unit = 2 * sd[:, None]
    left, right = (np.arcsinh((end - centre)[:, None] / unit) for end in (low, high))
    t = left + (right - left) * x
    return centre[:, None] + unit * np.sinh(t), unit * np.cosh(t) * (right - left)


class Surface:
    """The log likelihood of counts, study by study, and the log prior of mu, at any point.

    A subclass with another `log_likelihood` has a posterior of the same kind; `data` then only says
    where to look for it. With `leaving_out` false a grid need not hold what is left of the
    posterior without a study.
    """

    def __init__(self, data: Data, model: Model, *, leaving_out: bool = True) -> None:
        self.data = data
        self.model = model
        self.leaving_out = leaving_out

    def left_out(self, log_l: Array) -> Array:
        """Return the log likelihood of each study that can be left out; the only one cannot."""
        return log_l if self.leaving_out and len(self.data.inverse) > 1 else log_l[:0]

    @property
    def several_modes(self) -> bool:
        """Whether mu given tau can have more than one mode."""
        return self.model.effects.several_modes

    @property
    def first_columns(self) -> int:
        """Which of `COLUMNS` to begin with at least: to begin with few would be done twice."""
        if not self.several_modes:
            return 0
        return COLUMNS.index(128 if self.model.effects.alone else 44)

    def log_likelihood(self, mu: Array, tau: Array, level: int) -> Array:
        """Return log L by distinct study, shape (study, point), with the inner rule `level`."""
        counts = self.data.events, self.data.total
        return self.model.effects.log_likelihood(*counts, mu, tau, level)

    def __call__(self, mu: Array, tau: Array, level: int) -> tuple[Array, Array]:
        """Return log joint (without the prior of tau) and log L by study, shaped like mu."""
        flat = self.log_likelihood(mu.ravel(), tau.ravel(), level)
        joint = self.data.times @ flat + self.model.log_location(mu.ravel(), tau.ravel())
        return joint.reshape(mu.shape), flat.reshape(-1, *mu.shape)


@dataclass(frozen=True)
class Look:
    """A first look: rows of u with the mode of mu, its spread and its reach on either side.

    `span` is the range of u that holds the posterior.
    """

    u: Array
    mode: Array
    sd: Array
    below: Array
    above: Array
    span: tuple[float, float]
    widened: int = 0

    def wider(self, u: Array, too_near: npt.NDArray[np.bool_]) -> "Look":
        """Return the look with more room beyond what is `too_near` in rows at `u`, (2, row)."""
        right = np.searchsorted(self.u, u)
        beside = np.clip([right - 1, right], 0, len(self.u) - 1)
        below, above = self.below.copy(), self.above.copy()
        for reach, near in zip((below, above), too_near, strict=True):
            reach[np.unique(beside[:, near])] *= WIDER_BY
        return replace(self, below=below, above=above, widened=self.widened + 1)

    def first_columns(self, surface: Surface) -> int:
        """Return which of `COLUMNS` to begin with."""
        skew = np.abs(np.log(self.above / self.below)).max()
        return max(surface.first_columns, int(np.searchsorted(SKEWED, skew)))


def place(surface: Surface, order: int = 0) -> Grid:
    """Place a grid and refine it until its last coefficients are negligible.

    Parameters
    ----------
    surface : Surface
    order : int
        The highest moment of tau that exists, so that its tail is covered too.

    Returns
    -------
    Grid
    """
    c = _unit(surface)
    look = _look(surface, c, order)
    rows, columns = 0, look.first_columns(surface)
    tolerance = ROW_TOLERANCE if "tau" in surface.model.quantities else TAIL_TOLERANCE
    while True:
        result = _evaluate(surface, c, look, ROWS[rows], COLUMNS[columns])
        row_error, tails, too_near = _errors(result)
        if too_near.any() and look.widened < MOST_WIDENED:
            look = look.wider(result.rows.u, too_near)
            continue
        more_rows = _more(ROWS, rows, row_error, tolerance, 0.6)
        finer = more_rows, more_columns(columns, tails)
        if finer == (rows, columns):
            return replace(result, error=_relative(row_error, tails))
        rows, columns = finer


def more_columns(columns: int, error: float) -> int:
    """Return the index of the columns to try next."""
    return _more(COLUMNS, columns, error, TOLERANCE, 0.85)


def _more(sizes: tuple[int, ...], now: int, error: float, tolerance: float, share: float) -> int:
    """Return the index of the size to try next, where each takes a factor off the error.

    `share` is what is needed of the number that a constant factor would need.
    """
    if error <= tolerance or now == len(sizes) - 1:
        return now
    # Coefficients fall geometrically, so that the logarithm of the error is proportional to the
    # number; convergence gathers speed.
    wanted = share * sizes[now] * np.log(tolerance) / np.log(min(error, 0.1))
    return max(now + 1, int(np.searchsorted(sizes[:-1], wanted)))


def unit_of_tau(data: Data, prior: SpreadPrior) -> float:
    """Return c of tau = c sinh(u): the smallest tau at which anything changes."""
    smallest = prior.near
    if len(data.total):
        p = (data.events + 0.5) / (data.total + 1)
        smallest = min(smallest, float(1 / np.sqrt(np.max(data.total * p * (1 - p)))))
    return smallest


def over_prior(priors: Sequence[SpreadPrior], narrow: float) -> Rows:
    """Return rows that cover priors of tau which end at the same place, whatever the counts.

    Parameters
    ----------
    priors : sequence of SpreadPrior
    narrow : float
        The smallest tau, logit scale, that the counts can notice.

    Returns
    -------
    Rows
        To where at most `BEYOND_ROWS` of each prior lies beyond, or to its `far`, if that is
        nearer: the quantiles of some priors are beyond any number.
    """
    first = priors[0]
    if first.known is not None:
        return Rows.at(first.known)
    c = min(narrow, *(prior.near for prior in priors))
    ends = [min(float(prior.ppf(1 - BEYOND_ROWS)), prior.far) for prior in priors]
    u = float(np.arcsinh(min(first.upper, max(ends)) / c))
    return Rows.between(0.0, u, c, int(np.clip(PER_U * u, *OVER_PRIOR)))


def _unit(surface: Surface) -> float:
    prior = surface.model.spread_prior
    return unit_of_tau(surface.data, prior) if prior.known is None else prior.known


def _look(surface: Surface, c: float, order: int) -> Look:
    """Find the rows of u that hold the posterior."""
    prior = surface.model.spread_prior
    if prior.known is not None:
        known = Rows.at(c)
        ends = float(known.u[0]), float(known.u[0])
        return _reach(surface, known.u, known.tau, ends, _modes(surface, known.tau))
    peaks: list[_Peaks] = []

    def masses(tau: Array) -> tuple[Array, Array]:
        peaks.append(_modes(surface, tau))
        mass = peaks[-1].joint + np.log(peaks[-1].sd)
        return mass, mass - surface.left_out(peaks[-1].log_l)

    u, span, (first, last) = held(prior, c, order, masses)
    rows = slice(max(first - 1, 0), last + 2)
    at_rows = _Peaks(*(each[..., rows] for each in peaks[-1]))
    return _reach(surface, u[rows], c * np.sinh(u[rows]), span, at_rows)


def held(
    prior: SpreadPrior, c: float, order: int, masses: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, tuple[float, float], tuple[int, int]]:
    """Find the range of u that holds a posterior, by narrower or wider looks.

    Parameters
    ----------
    prior : SpreadPrior
        Of tau = c sinh(u).
    c : float
    order : int
        The highest moment of tau that exists.
    masses : callable
        Returns for values of tau (row,) the log density of the counts, (row,), and what else is to
        be held, (other, row): that of the counts with a study left out.

    Returns
    -------
    u : array, shape (row,)
        Where `masses` was computed last.
    span : tuple of float
        The range.
    ends : tuple of int
        The first and the last row of `u` that are inside.
    """
    # `far` is where to begin: counts in conflict with the prior can lie beyond.
    limit = float(np.arcsinh(min(prior.upper, MOST_TAU) / c))
    span, longer = (0.0, min(limit, float(np.arcsinh(prior.far / c)))), LONGER
    for _ in range(40):
        steps = max(LOOK, int(PER_UNIT * (span[1] - span[0])))
        u = span[0] + (span[1] - span[0]) * shares(steps + 1)
        # Not tau = 0 itself, at which the effects have no density
        u[0] = u[0] * 0.99 + u[1] * 0.01
        tau = c * np.sinh(u)
        in_u = prior.logpdf(tau) + np.log(np.cosh(u))
        mass, without = (each + in_u for each in masses(tau))
        mass = mass + order * np.log(tau)
        # In units of the drops that are wanted
        dropped = (mass.max() - mass) / DROP
        alone = (without.max(-1, keepdims=True) - without) / DROP_WITHOUT
        dropped = np.minimum(dropped, alone.min(0, initial=np.inf))
        first, last = np.flatnonzero(dropped < 1)[[0, -1]]
        if last == steps and span[1] < limit:
            span, longer = (0.0, min(span[1] + longer, limit)), 2 * longer
            continue
        lower = span[0] if first == 0 else u[first - 1]
        upper = span[1] if last == steps else u[last + 1]
        # Another look is worth its price where it makes the steps a third narrower.
        done = upper - lower > 0.7 * (span[1] - span[0])
        if done:
            lower = span[0] if first == 0 else _end(u, dropped, first, first - 1)
            upper = span[1] if last == steps else _end(u, dropped, last, last + 1)
        span = float(lower), float(upper)
        if done:
            break
    return u, span, (int(first), int(last))


def _end(u: Array, dropped: Array, inside: int, outside: int) -> float:
    """Return where between two rows the density has dropped by `END` of what is wanted.

    Drops grow no faster than exponentially: their logarithms are read along a straight line.
    """
    near, far = (math.log(max(dropped[row], 1e-3)) for row in (inside, outside))
    share = (math.log(END) - near) / (far - near) if math.isfinite(far) else 1.0
    return float(u[inside] + min(share, 1.0) * (u[outside] - u[inside]))


def _own_logits(data: Data) -> Array:
    """Return the logit of each study's own rate, half an event added on either side."""
    return np.asarray(np.log((data.events + 0.5) / (data.total - data.events + 0.5)))


def _normal_approximation(surface: Surface, tau: Array) -> tuple[Array, Array]:
    """Return mode and sd of mu given tau if empirical logits were normal: where to start."""
    data, prior = surface.data, surface.model.location_prior
    p = (data.events + 0.5) / (data.total + 1)
    weight = data.times / (1 / (data.total * p * (1 - p)) + tau[:, None] ** 2)
    precision = weight.sum(-1) + prior.sd**-2
    mode = (weight @ _own_logits(data) + prior.mean * prior.sd**-2) / precision
    return mode, precision**-0.5


class _Peaks(NamedTuple):
    """Rows of tau: where mu has its mode, and what is known there and far out on either side.

    Attributes
    ----------
    mode, sd : array, shape (row,)
        Mode and curvature scale of mu (logit).
    joint : array, shape (row,)
        Log joint density at the mode.
    log_l : array, shape (study, row)
        Log likelihoods there.
    end, end_joint : array, shape (2, row)
        Points beyond which the density may be negligible, and its logarithm; (0, row) if none are
        known.
    end_l : array, shape (study, 2, row)
    """

    mode: Array
    sd: Array
    joint: Array
    log_l: Array
    end: Array
    end_joint: Array
    end_l: Array


def _modes(surface: Surface, tau: Array) -> _Peaks:
    """Find the modes of mu given tau.

    Newton's steps with difference quotients one standard deviation wide, which see the shape of the
    peak and not of its very top only. All are near enough to place nodes.
    """
    prior = surface.model.location_prior
    bound = ASIDE + ASIDE_SDS * prior.sd
    centres = np.append(_own_logits(surface.data), prior.mean)
    low, high = centres.min() - bound, centres.max() + bound
    found, steady = _climb(surface, tau, *_normal_approximation(surface, tau), low, high)
    if steady:
        return found
    return _climb(surface, tau, *_scan(surface, tau, low, high), low, high)[0]


def _climb(
    surface: Surface, tau: Array, mode: Array, sd: Array, low: float, high: float
) -> tuple[_Peaks, bool]:
    """Return what `_modes` does, from modes and scales to begin with, and whether all is steady."""
    # Of several modes the ends depend on more than on one of them.
    offsets = np.array(BESIDE if surface.several_modes else BESIDE + OUTSIDE)[:, None]
    most, before = np.full(len(tau), MOST_AT_ONCE), np.zeros(len(tau))
    for _ in range(40):
        mu = mode + offsets * sd
        joint, log_l = surface(mu, np.broadcast_to(tau, mu.shape), COARSE)
        slope = (joint[2] - joint[0]) / 2
        curvature = np.maximum(2 * joint[1] - joint[0] - joint[2], 1e-3)
        # Steps and changes of scale are bounded, since far from the mode the density need not be
        # concave, and further out it underflows: nothing would come back from there. A mode that
        # is hundreds of standard deviations away is reached by steps each twice as long.
        step = np.minimum(np.maximum(slope / curvature, -most), most)
        again = (np.abs(step) == most) & (step * before > 0)
        most, before = np.where(again, 2 * most, MOST_AT_ONCE), step
        mode = np.minimum(np.maximum(mode + step * sd, low), high)
        sd = np.minimum(sd * np.clip(curvature**-0.5, 0.2, 5), high - low)
        steady = bool(np.all(np.abs(step) < 0.8) and np.all(np.abs(curvature - 1) < 0.5))
        if steady:
            break
    top = joint[1] + slope * step / 2
    return _Peaks(mode, sd, top, log_l[:, 1], mu[3:], joint[3:], log_l[:, 3:]), steady


def _scan(surface: Surface, tau: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return roughly mode and curvature scale of mu given tau, by ever narrower scans for the top.

    A beta's density can be all but a straight line from the studies' own rates to its mode, where
    steps by its curvature go astray.
    """
    start, end = np.full(len(tau), low), np.full(len(tau), high)
    rows = np.arange(len(tau))
    while True:
        spacing = (end - start) / (SCAN - 1)
        mu = start + spacing * np.arange(SCAN)[:, None]
        joint, _ = surface(mu, np.broadcast_to(tau, mu.shape), COARSE)
        top = np.clip(joint.argmax(0), 1, SCAN - 2)
        mode, most = mu[top, rows], joint[top, rows]
        curvature = 2 * most - joint[top - 1, rows] - joint[top + 1, rows]
        narrow = (curvature > 2) & (spacing > NARROWEST)
        if not narrow.any():
            return mode, spacing * np.clip(curvature, 1e-2, 2) ** -0.5
        start = np.where(narrow, mode - spacing, start)
        end = np.where(narrow, mode + spacing, end)


def _reach(
    surface: Surface,
    u: Array,
    tau: Array,
    span: tuple[float, float],
    peaks: _Peaks,
) -> Look:
    """Find how far mu reaches on either side until its density is negligible."""
    mode, sd, top = peaks.mode, peaks.sd, peaks.joint
    top_out = surface.left_out(peaks.log_l)
    side = np.array([-1.0, 1.0])[:, None]
    least, raised = np.zeros((2, 1)), np.zeros((2, 1))

    def drop(reach: Array) -> Array:
        mu = mode + side * reach
        return drop_at(mu, *surface(mu, np.broadcast_to(tau, mu.shape), COARSE))

    def drop_at(mu: Array, joint: Array, log_l: Array) -> Array:
        if raised.any():
            joint = joint + raised * _below_peak(surface.model, mu, tau)
        value = (top - joint) / DROP
        out = surface.left_out(log_l)
        if len(out):
            without = (top - joint) - (top_out[:, None] - out)
            value = np.minimum(value, without.min(0) / DROP_WITHOUT)
        return value

    dropped = None
    reach = np.abs(OUTSIDE)[:, None] * sd
    if len(peaks.end) and (side * (peaks.end - mode)).min() > 0:
        reach = np.abs(peaks.end - mode)
        dropped = drop_at(peaks.end, peaks.end_joint, peaks.end_l)
    if surface.several_modes:
        data, centre = surface.data, surface.model.location_prior.mean
        own = _own_logits(data)
        if len(own):
            least = np.maximum(np.stack([mode - own.min(), own.max() - mode]), 0)
        of_prior = np.maximum(np.stack([mode - centre, centre - mode]), least)
        # Beyond the studies' own rates likelihoods fall, but for one that rises to 1 for ever. If
        # what they leave of the prior at its mean is nothing, so is whatever lies further out than
        # where they would leave nothing of a prior that is as high everywhere.
        rises = np.array([[np.any(data.events == 0)], [np.any(data.events == data.total)]])
        raised = (of_prior > least) & ~rises & (drop(of_prior) >= 1)
        least = np.where(raised, least, of_prior)
        reach = np.maximum(reach, least)
    below, above = reach_to(drop, reach, least, dropped)
    return Look(u, mode, sd, below, above, span)


def _below_peak(model: Model, mu: Array, tau: Array) -> Array:
    """Return by how much the log prior of mu lies below that at its mean, shaped like `mu`."""
    at = np.stack([np.full(mu.shape, model.location_prior.mean), mu])
    peak, here = model.log_location(at, np.broadcast_to(tau, at.shape))
    return np.asarray(peak - here)


def reach_to(
    drop: Callable[[Array], Array], reach: Array, least: Array, dropped: Array | None = None
) -> Array:
    """Find how far to go until log densities have dropped as far as wanted.

    Parameters
    ----------
    drop : callable
        Returns for distances, any shape, the drop there in units of the one that is wanted.
    reach : array
        Distances at which to begin.
    least : array
        Distances below which none may be.
    dropped : array, optional
        The drop at `reach`, if it is known.

    Returns
    -------
    array, shaped like `reach`
    """
    short, enough = np.zeros(reach.shape), np.full(reach.shape, np.inf)
    if dropped is None:
        dropped = drop(reach)
    for _ in range(60):
        beyond = dropped >= 1
        done = beyond & ((dropped < 2.5) | (reach <= least))
        if np.all(done):
            break
        short = np.where(beyond, short, np.maximum(short, reach))
        enough = np.where(beyond, np.minimum(enough, reach), enough)
        # The drop grows with a power of the distance between 1 (a tail) and 2 (a peak); 1/0.65 is
        # between. It aims at 1.25 of what is wanted, in steps that cannot run away. The drop of
        # studies in conflict is far steeper; between two distances that enclose what is wanted
        # their geometric mean is tried, where steps would go to and fro for ever.
        factor = np.clip((np.maximum(dropped, 1e-3) / 1.25) ** -0.65, 0.4, 2.5)
        enclosed = (short > 0) & np.isfinite(enough)
        tried = np.where(enclosed, np.sqrt(short * np.where(enclosed, enough, 1)), reach * factor)
        reach = np.where(done, reach, np.maximum(tried, least))
        dropped = drop(reach)
    # The log density falls at most as the square of the distance.
    return np.maximum(reach * np.minimum(np.sqrt(1.1 / np.maximum(dropped, 1)), 1), least)


def at_rows(surface: Surface, rows: Rows) -> Grid:
    """Return a grid whose rows are given, with as many columns as each of them needs."""
    ends = float(rows.u[0]), float(rows.u[-1])
    look = _reach(surface, rows.u, rows.tau, ends, _modes(surface, rows.tau))
    columns = look.first_columns(surface)
    while True:
        result = _fill(surface, rows, look, COLUMNS[columns])
        too_near = _too_near(result, np.ones(len(rows)))
        if too_near.any() and look.widened < MOST_WIDENED:
            look = look.wider(rows.u, too_near)
            continue
        more = more_columns(columns, float(column_tails(result.log_joint).max()))
        if more == columns:
            return result
        columns = more


def _evaluate(surface: Surface, c: float, look: Look, number: int, columns: int) -> Grid:
    rows = Rows.at(c)
    if len(look.u) > 1:
        rows = Rows.between(*look.span, c, number)
    return _fill(surface, rows, look, columns)


def _fill(surface: Surface, rows: Rows, look: Look, columns: int) -> Grid:
    """Place columns by a look at some rows, and compute the joint density at every node."""
    mode = np.interp(rows.u, look.u, look.mode)
    sd, below, above = (
        np.exp(np.interp(rows.u, look.u, np.log(x))) for x in (look.sd, look.below, look.above)
    )
    low, high = mode - below, mode + above
    # Also where mu reaches far to hold what is left when a large study is left out
    far = np.maximum(below, above) > FAR * sd
    stretched = surface.several_modes or bool(far.any())
    mu, _ = place_columns(chebyshev_shares(columns), low, high, mode, sd, stretched)
    joint, log_l = surface(mu, np.broadcast_to(rows.tau[:, None], mu.shape), ENOUGH)
    log_row = rows.log_mass(surface.model.spread_prior)
    return Grid(rows, low, high, sd, mode, stretched, joint, log_l, log_row, np.nan)


def _too_near(result: Grid, mass: Array) -> npt.NDArray[np.bool_]:
    """Return which ends of rows, (2, row), have more than nothing of rows of this `mass`, (row,).

    As where the modes of rows leap from one to the next, or one side is a cliff.
    """
    ends = result.log_joint[:, [0, -1]].T - result.log_joint.max(-1)
    return np.asarray(np.exp(ends) * mass > NOTHING_THERE)


def _errors(result: Grid) -> tuple[float, float, npt.NDArray[np.bool_]]:
    """Return the relative size of the last coefficients along tau and along mu, and `_too_near`."""
    _, fine = result.fine(2 * result.columns + 1)
    top = fine.max(-1)
    mass = top + np.log(np.exp(fine - top[:, None]).mean(-1)) + result.log_row
    mass = np.exp(mass - mass.max())
    row_error = 0.0
    density = mass / result.rows.weights
    if not result.rows.known:
        row_error = last_coefficients(result.rows, mass)
    return row_error, column_error(result.log_joint, density), _too_near(result, mass)


def coefficient_error(result: Grid) -> float:
    """Return the relative error that the last coefficients of a grid estimate."""
    return _relative(*_errors(result)[:2])


def _relative(row_error: float, tails: float) -> float:
    # Gauss's rule is exact to twice the degree of the polynomial that the rows hold.
    return max(row_error**2, tails)


def last_coefficients(rows: Rows, mass: Array) -> float:
    """Return the relative size of the last coefficients along tau of the masses of rows."""
    coefficients = np.abs(rows.coefficients(mass))
    return float(coefficients[-2:].max() / coefficients.max())


def column_error(log_joint: Array, density: Array) -> float:
    """Return the size of the last coefficients along mu, in rows as much as their density counts.

    Shapes: `log_joint` (row, column), `density` (row,).
    """
    return float(np.max(column_tails(log_joint) * density / density.max()))


def column_tails(log_joint: Array) -> Array:
    """Return the size of the last coefficients along mu of each row, shape (row,)."""
    columns = log_joint.shape[-1]
    # One product of two matrices is quicker than a stack of products.
    before, last = np.abs(chebyshev_coefficients(columns)[-2:] @ log_joint.reshape(-1, columns).T)
    return np.asarray(np.maximum(before, last).reshape(log_joint.shape[:-1]))
