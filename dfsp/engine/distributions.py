"""Distributions as tables: how they are read, mixed and multiplied.

Between its points a table is read by polynomials in normal scores: there the distribution function
of anything near a normal is near a straight line, so that a few points hold many digits, tails
included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, sici

from dfsp.constants import QUANTILES
from dfsp.engine.grid import Rows, legendre_integral
from dfsp.model.likelihood import FARTHEST_LOGIT, sigmoid

Array = npt.NDArray[np.float64]
ShareOf = Callable[[Array, npt.NDArray[np.bool_]], Array]

READABLE = 1e-12  # probability beyond which a table is not read: scores lose their digits there
MIXTURE_POINTS = (89, 353)
"""Points of a mixture of distribution functions: of one smooth peak, and of what may pile up.

Quantiles of the ten imatinib cohorts change by less than 1e-6 with twice as many. Where rows of tau
have narrow distributions that stand apart, as under a prior of mu of sd 0.01, points are worth
most where the mass is: evenly spaced ones read such stairs wrongly."""

MIXTURE_SCORES = 5.5  # normal scores that a mixture's table covers: 2e-8 beyond on either side
GOLDEN = (np.sqrt(5) - 1) / 2
FAST_LENGTHS = sorted(factor * 2**power for factor in (2, 3) for power in range(4, 30))
FACTOR_CELLS = 160  # of one factor of a product, each with its share of the mass
FINE_CELLS = 1280  # of the other factor, whose distribution function is integrated
IN_PRODUCT = 161  # points of a product's own table
# 1e-16 / 1e-4^2 is what cancellation leaves in a narrow cell, 1e-4^2 what the linear F does.
NARROW_CELL = 1e-4
TINIEST = float(np.finfo(float).tiny)
NEARBY = 8  # points about a quantile that it is read from
INCREMENT = np.array([-191, 1879, -9531, 68323, 68323, -9531, 1879, -191]) / 120960
FACTOR_SCORE = 6.5  # normal scores of a factor that its cells cover: 4e-11 beyond

BELOW_ONE = float(np.nextafter(1, 0))
"""The largest rate that is not 1."""
LEAST_RATE = float(sigmoid(np.array(-FARTHEST_LOGIT)))
"""Where tables of a study's rate end: a quantile of this size is there or lower."""


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
    logit : Distribution or None
        That of the logit, if it is known as a quantity of its own: what has been read of it is not
        read again.
    """

    x: Array
    cdf: Array
    mean: float
    sd: float
    is_rate: bool
    logit: "Distribution | None" = None

    def quantile(self, q: npt.ArrayLike) -> Array:
        """Return quantiles on the quantity's own scale (0 < q < 1)."""
        x = self.points(np.atleast_1d(np.asarray(q, dtype=float)))
        # A quantile of a continuous rate may round to 1, but is not: every observed rate of 1 is.
        return np.minimum(sigmoid(x), BELOW_ONE) if self.is_rate else x

    def points(self, q: Array) -> Array:
        """Return quantiles on the scale of `x`, shape (quantile,)."""
        return np.asarray(invert(self.x[None], self.cdf[None], q)[0])

    @property
    def ends(self) -> Array:
        """The ends of the 95 % interval on the scale of `x`, shape (2,)."""
        return self._read[[0, -1]]

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
        return float(ndtr(-interpolate(x[None], z[None], np.array([value]), NEARBY)[0, 0]))

    def cdf_at(self, values: npt.ArrayLike) -> Array:
        """Return the distribution function at ascending values on the quantity's own scale.

        Examples
        --------
        >>> rate = Distribution(np.linspace(-3, 3, 9), ndtr(np.linspace(-3, 3, 9)), 0.5, 0.2, True)
        >>> rate.cdf_at([0.5]).round(6).tolist(), round(rate.prob_above(0.5), 6)
        ([0.5], 0.5)
        """
        at = np.atleast_1d(np.asarray(values, dtype=float))
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.cdf_of_points(np.log(at) - np.log1p(-at) if self.is_rate else at)

    def cdf_of_points(self, x: Array) -> Array:
        """Return the distribution function at ascending points on the scale of `x`."""
        inner = self._readable
        own, score = self.x[inner], ndtri(self.cdf[inner])
        z = interpolate(own[None], score[None], x, NEARBY)[0]
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
        x = self._read
        read = np.minimum(sigmoid(x), BELOW_ONE) if self.is_rate else x
        return np.concatenate([[self.mean, self.sd], read])

    @cached_property
    def _read(self) -> Array:
        return self.logit._read if self.logit else self.points(np.array(QUANTILES))

    def as_rate(self, mean: float, sd: float) -> "Distribution":
        """Return the distribution of the rate whose logit this is."""
        return Distribution(self.x, self.cdf, mean, sd, True, self)


NOTHING = Distribution(np.full(4, np.nan), np.linspace(0, 1, 4), np.nan, np.nan, False)
"""What has no meaning under the model at hand."""


def summaries(distributions: Sequence[Distribution]) -> list[Array]:
    """Return `Distribution.summary` of each; all are read at once, which is quicker."""
    q = np.array(QUANTILES)
    tables = {id(each.logit or each): each.logit or each for each in distributions}
    unread = [
        each for each in tables.values() if len(each.x) >= NEARBY and "_read" not in each.__dict__
    ]
    if unread:
        # The tables one after the other
        length = np.array([len(each.x) for each in unread])[:, None]
        first = np.cumsum(length)[:, None] - length
        x, cdf = (np.concatenate([getattr(each, name) for each in unread]) for name in ("x", "cdf"))
        start = np.stack([np.searchsorted(each.cdf, q) for each in unread]) - NEARBY // 2
        around = first + _around(start, NEARBY, length)
        ends = np.concatenate([first, first + length - 1], axis=1)
        read = _read_off(x.take(around), cdf.take(around), x.take(ends), cdf.take(ends), q)
        for each, points in zip(unread, read, strict=True):
            each.__dict__["_read"] = points
    return [each.summary() for each in distributions]


def moments(weight: Array, first: Array, second: Array) -> tuple[float, float]:
    """Return mean and sd from first and second moments given each node and the nodes' weights."""
    mean = float(weight @ first)
    return mean, float(np.sqrt(max(float(weight @ second) - mean**2, 0.0)))


def invert(x: Array, cdf: Array, q: Array) -> Array:
    """Return quantiles of distribution functions, by polynomials of degree 7 in normal scores.

    Shapes: `x` and `cdf` (table, point), `q` (quantile,), result (table, quantile).
    """
    number = min(NEARBY, x.shape[1])
    around = _around(_search(cdf, q) - NEARBY // 2, number, x.shape[1])
    rows = np.arange(len(cdf))[:, None] * x.shape[1]
    at = x.take(rows + around if len(x) > 1 else around)
    return _read_off(at, cdf.take(rows + around), x[:, [0, -1]], cdf[:, [0, -1]], q)


def _read_off(x: Array, cdf: Array, ends: Array, at_ends: Array, q: Array) -> Array:
    """Return quantiles by polynomials through the points about them.

    Shapes: `x` and `cdf` (point, table, quantile), `ends` of the tables and values `at_ends`
    (table, 2), `q` (quantile,), result (table, quantile).
    """
    score = np.asarray(ndtri(np.minimum(np.maximum(cdf, 1e-300), 1 - 1e-16)), np.float64)
    inner = polynomial(score, x, ndtri(q))
    # A table that is cut off (a rate of 0 or 1 to double precision) has nothing beyond it.
    inner = np.where(q <= at_ends[:, :1], ends[:, :1], inner)
    return np.where(q >= at_ends[:, 1:], ends[:, 1:], inner)


def interpolate(x: Array, y: Array, at: Array, points: int = 4) -> Array:
    """Interpolate each row of `y` over ascending `x` by polynomials through the nearest points.

    Shapes: `x` (row, point), `y` (..., row, point), `at` (place,), result (..., row, place).
    """
    points = min(points, x.shape[1])
    start = _search(x, at) - points // 2
    around = _around(start, points, x.shape[1]) + np.arange(len(x))[:, None] * x.shape[1]
    if y.ndim == 2:
        return polynomial(x.take(around), y.take(around), at)
    several = np.moveaxis(y.reshape(-1, x.size)[:, around], 1, 0)
    found = polynomial(x.take(around)[:, None], several, at)
    return found.reshape(*y.shape[:-1], len(at))


def interpolate_smooth(
    x: Array, y: Array, slope: Array, at: Array, share: Array | None = None
) -> Array:
    """Interpolate each row of `y` over ascending `x` by Hermite's cubics, with known slopes.

    Shapes: `x` (row, point), `y` and `slope` (..., row, point), `at` (place,), result (..., row,
    place). With `share`, (row, place), which says where each place is among the row's equidistant
    points, slopes are those by step. What is beyond a row has the value at its end.
    """
    shape, number = y.shape, y.shape[-1]
    first = number * np.arange(shape[-2])[:, None]
    if share is None:
        left = first + np.minimum(np.maximum(_search(x, at) - 1, 0), number - 2)
        start = x.take(left)
        width = x.take(left + 1) - start
        t = (at - start) / np.maximum(width, TINIEST)
    else:
        place = share * (number - 1)
        step = np.minimum(np.maximum(place.astype(np.intp), 0), number - 2)
        left, width, t = first + step, 1.0, place - step
    np.minimum(np.maximum(t, 0, out=t), 1, out=t)
    y, slope = (each.reshape(-1, number * shape[-2]) for each in (y, slope))
    low = y.take(left, axis=1)
    rise = y.take(left + 1, axis=1) - low
    begins, ends = slope.take(left, axis=1) * width, slope.take(left + 1, axis=1) * width
    bend = begins + ends - 2 * rise
    found = low + t * (begins + t * (rise - begins - bend + t * bend))
    return np.asarray(found.reshape(*shape[:-2], *left.shape))


def _search(x: Array, at: Array) -> npt.NDArray[np.intp]:
    """Return how many values of each ascending row of `x` are below each of `at`."""
    return np.array([row.searchsorted(at) for row in x])


def _around(
    start: npt.NDArray[np.intp], number: int, length: int | npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Return `number` neighbouring positions from each of `start`, along a new first axis."""
    first = np.minimum(np.maximum(start, 0), length - number)
    return np.asarray(first + np.arange(number).reshape(-1, *[1] * start.ndim))


def polynomial(x: Array, y: Array, at: Array) -> Array:
    """Evaluate the polynomial through points (first axis), or the nearest where points coincide."""
    apart, away = x[:, None] - x, at - x
    apart[np.arange(len(x)), np.arange(len(x))] = 1
    with np.errstate(all="ignore"):
        # The barycentric formula, of what is beyond the first value: exact where all are the same
        weight = 1 / (apart.prod(1) * away)
        value = y[0] + (weight * (y - y[0])).sum(0) / weight.sum(0)
    known = np.isfinite(value)
    if known.all():
        return np.asarray(value)
    nearest = np.abs(away).argmin(0)[None]
    return np.asarray(np.where(known, value, np.take_along_axis(y + 0 * away, nearest, 0)[0]))


def increments(density: Array) -> Array:
    """Integrate between neighbouring points along the last axis, to eighth order, spacing 1.

    The integral over the middle interval of the polynomial of degree 7 through eight equidistant
    points; beyond the ends the density is 0.
    """
    shape = density.shape
    padded = np.zeros((*shape[:-1], shape[-1] + 6))
    padded[..., 3:-3] = density
    # The padding keeps the rows apart in one long convolution, which is quicker than several sums.
    pieces = np.empty(padded.size)
    pieces[:-7] = np.convolve(padded.ravel(), INCREMENT, "valid")
    return pieces.reshape(padded.shape)[..., : shape[-1] - 1]


def cumulate(density: Array, spacing: Array) -> Array:
    """Integrate along the last axis to eighth order; starts at 0."""
    total = np.cumsum(np.maximum(increments(density), 0) * spacing[:, None], axis=-1)
    return np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)


@lru_cache(maxsize=64)
def _sinc_integral(number: int, finer: int) -> tuple[int, npt.NDArray[np.complex128]]:
    """Return a length and the transform of integrals of sinc functions at all distances."""
    most = (number - 1) * finer
    length = next(size for size in FAST_LENGTHS if size > 2 * most)
    steps = np.arange(length)
    steps[most + 1 :] -= length
    return length, np.fft.rfft(0.5 + sici(np.pi * steps / finer)[0] / np.pi)


def cumulate_vanishing(density: Array, finer: int) -> Array:
    """Integrate along the last axis what vanishes at both ends, spacing 1.

    By sinc functions (Stenger 1993, doi:10.1007/978-1-4612-2706-9, section 3.6), whose error falls
    as geometrically with the spacing as that of the trapezoidal sum over all points. The integral
    is as exact between the points, and is given at `finer` places for each of their steps; where
    it is 0 or 1 it can fall by its error.
    """
    number = density.shape[-1]
    length, transform = _sinc_integral(number, finer)
    apart = np.zeros((*density.shape[:-1], length))
    apart[..., : number * finer : finer] = density
    total = np.fft.irfft(np.fft.rfft(apart) * transform, length)
    return np.asarray(total[..., : (number - 1) * finer + 1])


@lru_cache(maxsize=8)
def levels(points: int) -> Array:
    """Return probabilities that are equidistant in normal scores."""
    return np.asarray(ndtr(np.linspace(-MIXTURE_SCORES, MIXTURE_SCORES, points)))


@lru_cache(maxsize=64)
def _elsewhere(rows: int) -> Array:
    """Return a share for each row, (row, 1): multiples of the golden ratio, which are all apart."""
    return np.asarray((0.5 + GOLDEN * np.arange(rows))[:, None] % 1)


def mix(
    values: Array,
    within: Array,
    slope: Array,
    row_weight: Array,
    points: int = MIXTURE_POINTS[0],
    share_of: ShareOf | None = None,
) -> tuple[Array, Array]:
    """Mix row-wise distribution functions, each tabulated at its own ascending values.

    Parameters
    ----------
    values, within : array, shape (row, point)
    slope : array, shape (row, point)
        Of `within` over `values`; with `share_of` by step.
    row_weight : array, shape (row,)
    points : int
        Of the mixture's table, equidistant in its own normal scores.
    share_of : callable, optional
        Where a row's values are a function of equidistant shares: returns the shares of some rows
        that have given values, (row, value).

    Returns
    -------
    x, cdf : array, shape (point,)
    """
    main = row_weight > 1e-9
    values, within, slope = values[main], within[main], slope[main]
    weight = row_weight[main]
    # Its own rough distribution places the points of the mixture's table. The mass between two
    # values of a row is taken to lie somewhere between them, elsewhere in each row (multiples of
    # the golden ratio): where rows all but coincide, their masses would else pile up, and points
    # of the table with them.
    mass = np.diff(within, axis=1) * weight[:, None]
    at = values[:, :-1] + _elsewhere(len(values)) * np.diff(values, axis=1)
    order = np.argsort(at, axis=None, kind="stable")  # quick where rows ascend
    rough = np.cumsum(mass.ravel()[order])
    x = np.interp(levels(points), rough / rough[-1], at.ravel()[order])
    rising = x[1:] > x[:-1]
    x = x if rising.all() else x[np.append(True, rising)]
    inside = interpolate_smooth(values, within, slope, x, share_of and share_of(x, main))
    cdf = weight @ np.minimum(np.maximum(inside, 0), 1)
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

        P(a + b <= s) = sum over cells of a of the integral of f(a) F(s - a) da,

    where F is b's distribution function and f is a's density, linear in each cell, which keeps
    the cell's mass. The integrals are exact for a piecewise linear F, from its first and second
    antiderivatives: a factor that piles up near 1, whose distribution function is all but a step,
    is no step for them. Errors of the distribution function: 3e-6 for two uniform rates.
    """
    score = np.linspace(-FACTOR_SCORE, FACTOR_SCORE, FACTOR_CELLS + 1)
    a = _minus_log(first.points(ndtr(score)))[::-1]
    mass = np.diff(ndtr(score))[::-1]
    mass = mass / mass.sum()
    fine = ndtr(np.linspace(-FACTOR_SCORE, FACTOR_SCORE, FINE_CELLS + 1))
    other = _Table.of(_minus_log(second.points(fine))[::-1], 1 - fine[::-1])
    s = _points_of_sum(a, mass, other.x, np.diff(1 - fine[::-1]))
    width = np.diff(a)
    # a's density at the ends of its cells, up to a factor, by the rule for the inverse function
    rise = np.gradient(a, score)
    density = np.exp(-0.5 * score**2) / np.maximum(rise, 1e-300)
    tilt = np.diff(density) / (density[1:] + density[:-1])
    shifted = s[:, None] - a
    value, once, twice = other(shifted)
    even = once[:, :-1] - once[:, 1:]
    # The integral of (a - middle) F(s - a) over a cell, by parts
    odd = twice[:, :-1] - twice[:, 1:] - width / 2 * (once[:, 1:] + once[:, :-1])
    # In a cell that is narrow beside s - a the antiderivatives cancel, and F is all but linear.
    narrow = width <= NARROW_CELL * np.abs(shifted[:, 1:] + shifted[:, :-1]) / 2
    width = np.maximum(width, 1e-300)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_value = (even + 2 * tilt * odd / width) / width
    cdf_of_sum = np.where(narrow, (value[:, 1:] + value[:, :-1]) / 2, mean_value) @ mass
    cdf = np.maximum.accumulate(np.clip(1 - cdf_of_sum, 0, 1)[::-1])
    mean = first.mean * second.mean
    square = (first.mean**2 + first.sd**2) * (second.mean**2 + second.sd**2)
    sd = float(np.sqrt(max(square - mean**2, 0.0)))
    return Distribution(-np.log(np.expm1(s))[::-1], cdf, mean, sd, True)


def _minus_log(logit: Array) -> Array:
    """Return -log of rates from their logits."""
    return np.asarray(np.logaddexp(0.0, -logit))


@dataclass(frozen=True)
class _Table:
    """A piecewise linear distribution function with its first and second antiderivatives."""

    x: Array
    cdf: Array
    once: Array
    twice: Array

    @classmethod
    def of(cls, x: Array, cdf: Array) -> "_Table":
        cdf = np.concatenate([[0.0], cdf[1:-1], [1.0]])  # what lies beyond is put at the ends
        step = np.diff(x)
        once = np.append(0.0, np.cumsum((cdf[1:] + cdf[:-1]) / 2 * step))
        pieces = once[:-1] * step + (2 * cdf[:-1] + cdf[1:]) / 6 * step**2
        return cls(x, cdf, once, np.append(0.0, np.cumsum(pieces)))

    def __call__(self, at: Array) -> tuple[Array, Array, Array]:
        """Return the distribution function and its antiderivatives."""
        left = np.clip(np.searchsorted(self.x, at, side="right") - 1, 0, len(self.x) - 2)
        x, cdf, once, twice = (each[left] for each in (self.x, self.cdf, self.once, self.twice))
        step = self.x[left + 1] - x
        slope = (self.cdf[left + 1] - cdf) / np.maximum(step, 1e-300)
        inside = np.clip(at - x, 0, step)
        value = np.where(at < self.x[0], 0.0, cdf + slope * inside)
        first = once + inside * (cdf + slope * inside / 2)
        second = twice + inside * (once + inside * (cdf / 2 + slope * inside / 6))
        beyond = np.maximum(at - self.x[-1], 0.0)
        return value, first + beyond, second + beyond * (first + beyond / 2)


def _points_of_sum(a: Array, mass: Array, b: Array, mass_of_b: Array) -> Array:
    """Return ascending points of the sum of two independent numbers, even in its normal scores."""
    few = FINE_CELLS // FACTOR_CELLS
    middles = (b[::few][1:] + b[::few][:-1]) / 2
    sums = np.add.outer((a[1:] + a[:-1]) / 2, middles).ravel()
    weight = np.multiply.outer(mass, mass_of_b.reshape(-1, few).sum(1)).ravel()
    order = np.argsort(sums)
    rough = np.cumsum(weight[order])
    s = np.interp(levels(IN_PRODUCT), rough / rough[-1], sums[order])
    return np.unique(np.maximum(s, 1e-300))
