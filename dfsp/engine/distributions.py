"""Distributions as tables: how they are read, mixed and multiplied.

Between its points a table is read by polynomials in normal scores: there the distribution function
of anything near a normal is near a straight line, so that a few points hold many digits, tails
included.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from dfsp.constants import QUANTILES
from dfsp.engine.grid import Rows, legendre_integral
from dfsp.model.likelihood import sigmoid

Array = npt.NDArray[np.float64]

READABLE = 1e-12  # probability beyond which a table is not read: scores lose their digits there
POINTS = (89, 353)
"""Points of a mixture of distribution functions: of one smooth peak, and of what may pile up.

Quantiles of the ten imatinib cohorts change by less than 1e-7 with twice as many."""

REACH_OF_SCORES = 5.5  # normal scores that a mixture's table covers: 2e-8 beyond on either side
CELLS = 241  # cells of one factor of a product, each with its share of the mass
IN_PRODUCT = 241  # points of a product's own table


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
        x = self.points(np.atleast_1d(np.asarray(q, dtype=float)))
        return sigmoid(x) if self.is_rate else x

    def points(self, q: Array) -> Array:
        """Return quantiles on the scale of `x`, shape (quantile,)."""
        return np.asarray(invert(self.x[None], self.cdf[None], q)[0])

    def prob_above(self, value: float) -> float:
        """Return the probability that the quantity exceeds `value` (on its own scale)."""
        if self.is_rate:
            if not 0 < value < 1:
                return float(value <= 0)
            value = float(np.log(value) - np.log1p(-value))
        inner = self._readable
        if not inner.any():
            return float(self.x.mean() > value)
        x, z = self.x[inner], ndtri(self.cdf[inner])
        if value <= x[0] or value >= x[-1]:
            return float(value <= x[0])
        return float(ndtr(-interpolate(x[None], z[None], np.array([value]))[0, 0]))

    def cdf_at(self, x: Array) -> Array:
        """Return the distribution function at ascending points on the scale of `x`."""
        inner = self._readable
        own, score = self.x[inner], ndtri(self.cdf[inner])
        z = interpolate(own[None], score[None], x)[0]
        return np.where(x < own[0], 0.0, np.where(x > own[-1], 1.0, ndtr(z)))

    @property
    def _readable(self) -> npt.NDArray[np.bool_]:
        return (self.cdf > READABLE) & (self.cdf < 1 - READABLE)

    def complement(self) -> "Distribution":
        """Return the distribution of 1 - p of a rate p."""
        return Distribution(-self.x[::-1], 1 - self.cdf[::-1], 1 - self.mean, self.sd, True)

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


def moments(weight: Array, first: Array, second: Array) -> tuple[float, float]:
    """Return mean and sd from first and second moments given each node and the nodes' weights."""
    mean = float(weight @ first)
    return mean, float(np.sqrt(max(float(weight @ second) - mean**2, 0.0)))


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


def increments(density: Array) -> Array:
    """Integrate between neighbouring points along the last axis, to eighth order, spacing 1.

    The integral over the middle interval of the polynomial of degree 7 through eight equidistant
    points; beyond the ends the density is 0.
    """
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
def levels(points: int) -> Array:
    """Return probabilities that are equidistant in normal scores."""
    return np.asarray(ndtr(np.linspace(-REACH_OF_SCORES, REACH_OF_SCORES, points)))


def mix(
    values: Array, within: Array, row_weight: Array, points: int = POINTS[0]
) -> tuple[Array, Array]:
    """Mix row-wise distribution functions, each tabulated at its own ascending values.

    Parameters
    ----------
    values, within : array, shape (row, point)
    row_weight : array, shape (row,)
    points : int
        Of the mixture's table, equidistant in its own normal scores.

    Returns
    -------
    x, cdf : array, shape (point,)
    """
    main = row_weight > 1e-9
    values, within, weight = values[main], within[main], row_weight[main]
    # Its own rough distribution places the points of the mixture's table.
    mass = np.diff(within, axis=1) * weight[:, None]
    middles = (values[:, 1:] + values[:, :-1]) / 2
    order = np.argsort(middles, axis=None, kind="stable")  # quick where rows ascend
    rough = np.cumsum(mass.ravel()[order])
    x = np.interp(levels(points), rough / rough[-1], middles.ravel()[order])
    x = x[np.append(True, np.diff(x) > 0)]
    low, high = values[:, :1], values[:, -1:]
    inside = np.minimum(np.maximum(interpolate(values, within, x), 0), 1)
    cdf = weight @ np.where(x <= low, 0.0, np.where(x >= high, 1.0, inside))
    return x, np.maximum.accumulate(cdf / weight.sum())


def of_tau(rows: Rows, row_weight: Array, exist: tuple[bool, bool]) -> Distribution:
    """Return the distribution of tau = c sinh(u), u's density being a polynomial through the rows.

    Parameters
    ----------
    rows : Rows
    row_weight : array, shape (row,)
        Sums to one.
    exist : tuple of bool
        Whether mean and standard deviation do.
    """
    taus = rows.tau
    if rows.known:
        tau = float(taus[0])
        return Distribution(np.full(4, tau), np.array([0.0, 0.25, 0.75, 1.0]), tau, 0.0, False)
    mean = float(row_weight @ taus) if exist[0] else np.nan
    variance = row_weight @ (taus - mean) ** 2 if exist[1] else np.nan
    u, cdf = cdf_of_u(rows, row_weight)
    return Distribution(rows.c * np.sinh(u), cdf, mean, float(np.sqrt(variance)), False)


def cdf_of_u(rows: Rows, row_weight: Array) -> tuple[Array, Array]:
    """Return points of u, tau = c sinh(u), and its distribution function there.

    Shapes: `row_weight` (..., row), the points (point,), the distribution function (..., point).
    """
    points, integral = legendre_integral(len(rows))
    cdf = np.maximum.accumulate((row_weight / rows.weights) @ integral.T, axis=-1)
    low, high = rows.ends
    u = np.maximum(low + (high - low) / 2 * (points + 1), 0)
    return u, np.clip(cdf / cdf[..., -1:], 0, 1)


def product(first: Distribution, second: Distribution) -> Distribution:
    """Return the distribution of the product of two independent rates.

    With a = -log p and b = -log q the product's distribution function is a convolution,

        P(a + b >= s) = sum over cells of a of mass / width * integral of P(b >= s - a) da,

    each cell having its share of the mass of a, evenly spread, and the integral being exact for the
    piecewise linear distribution function of b: a factor that piles up near 1, whose distribution
    function is all but a step, is no step for its integral.
    """
    score = np.linspace(-6.5, 6.5, CELLS + 1)
    probability = ndtr(score)
    a = _minus_log(first.points(probability))[::-1]
    b = _minus_log(second.points(probability))[::-1]
    mass = np.diff(probability)[::-1]
    mass = mass / mass.sum()
    # P(b <= .) as a table, and its integral; the mass beyond the table is at its ends.
    below = 1 - probability[::-1]
    below[0], below[-1] = 0.0, 1.0
    area = np.concatenate([[0.0], np.cumsum((below[1:] + below[:-1]) / 2 * np.diff(b))])
    s = _of_sum(a, b, mass)
    shifted = s[:, None] - a
    value = _integral_of_cdf(shifted, b, below, area)
    width = np.diff(a)
    narrow = width <= 1e-13 * (1 + a[:-1])
    slope = -np.diff(value, axis=1) / np.where(narrow, 1.0, width)
    at = np.interp(shifted[:, :-1], b, below, left=0.0, right=1.0)
    cdf_of_sum = np.where(narrow, at, slope) @ mass
    x = -np.log(np.expm1(s))[::-1]
    cdf = np.maximum.accumulate(np.clip(1 - cdf_of_sum, 0, 1)[::-1])
    mean = first.mean * second.mean
    square = (first.mean**2 + first.sd**2) * (second.mean**2 + second.sd**2)
    return Distribution(x, cdf, mean, float(np.sqrt(max(square - mean**2, 0.0))), True)


def _minus_log(logit: Array) -> Array:
    """Return -log of rates from their logits."""
    return np.asarray(np.logaddexp(0.0, -logit))


def _of_sum(a: Array, b: Array, mass: Array) -> Array:
    """Return ascending points of the sum of two independent numbers, even in its normal scores."""
    middles = [(each[1:] + each[:-1]) / 2 for each in (a, b)]
    sums = np.add.outer(middles[0][::2], middles[1][::2]).ravel()
    weight = np.multiply.outer(mass[::2], mass[::2]).ravel()
    order = np.argsort(sums)
    rough = np.cumsum(weight[order])
    s = np.interp(levels(IN_PRODUCT), rough / rough[-1], sums[order])
    return np.unique(np.maximum(s, 1e-300))


def _integral_of_cdf(at: Array, x: Array, cdf: Array, area: Array) -> Array:
    """Return the integral up to `at` of a piecewise linear distribution function."""
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    step = np.maximum(x[left + 1] - x[left], 1e-300)
    inside = np.clip(at - x[left], 0, x[left + 1] - x[left])
    rise = (cdf[left + 1] - cdf[left]) / step
    beyond = np.maximum(at - x[-1], 0.0)
    return np.asarray(area[left] + inside * (cdf[left] + rise * inside / 2) + beyond)
