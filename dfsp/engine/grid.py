"""Where the posterior of (mu, tau) is, and a grid that holds it.

tau = c sinh(u) is covered by Gauss-Legendre nodes in u: even near 0, logarithmic far out, ending
exactly where a prior ends. At each of these rows, mu has Chebyshev nodes of its own between the
points where its conditional density is negligible; for effects that can give mu several modes they
are denser about the main one. The grid also holds every leave-one-study-out posterior, so that one
grid serves them all.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev, legendre

from dfsp.model.likelihood import COARSE, LEVELS
from dfsp.model.model import Model

Array = npt.NDArray[np.float64]

DROP = 28.0  # log density below its maximum at which the posterior ends: e^-28 = 7e-13
DROP_WITHOUT = 18.0  # the same for a posterior with studies left out: e^-18 = 2e-8
FARTHEST = 1e100  # of tau, whatever its prior
FAR = 14.0  # conditional standard deviations of mu beyond which nodes are denser about its mode
LOOK = 9  # rows of the first look
TOLERANCE = 1e-6  # largest size of the last coefficients along mu of a resolved grid
ROW_TOLERANCE = 3e-4  # the same along tau, where the rule is exact to twice the degree
ROWS = (28, 40, 56, 80, 128, 192, 384)
COLUMNS = (12, 16, 22, 32, 64, 128, 256)


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
        new = np.append(True, (np.diff(events) != 0) | (np.diff(total) != 0))[: len(order)]
        inverse = np.empty(len(order), dtype=np.intp)
        inverse[order] = np.cumsum(new) - 1
        times = np.bincount(inverse, minlength=int(new.sum())).astype(np.float64)
        return cls(events[new], total[new], inverse, times)

    def left_out(self, log_l: Array) -> Array:
        """Log likelihood of each study that can be left out; the only one cannot."""
        return log_l if len(self.inverse) > 1 else log_l[:0]


@dataclass(frozen=True)
class Grid:
    """The joint density on its nodes.

    Attributes
    ----------
    u, tau : array, shape (row,)
    scale : float
        c of tau = c sinh(u).
    low, high, sd : array, shape (row,)
        Range of mu in a row and its rough conditional standard deviation (logit).
    centre : array, shape (row,)
        Mode of mu in a row.
    stretched : bool
        Whether the nodes are equidistant in arcsinh((mu - centre) / (2 sd)) and not in mu.
    log_joint : array, shape (row, column)
        Log of prior(mu) times likelihood.
    log_l : array, shape (distinct study, row, column)
    log_row_prior : array, shape (row,)
        Log of prior(tau) dtau/du times the quadrature weight.
    u_weights : array, shape (row,)
    error : float
        Largest relative size of the last coefficients.
    """

    u: Array
    tau: Array
    scale: float
    low: Array
    high: Array
    sd: Array
    centre: Array
    stretched: bool
    log_joint: Array
    log_l: Array
    log_row_prior: Array
    u_weights: Array
    error: float

    def place(self, x: Array, rows: Any = slice(None)) -> tuple[Array, Array]:
        """Return mu and dmu/dx in `rows` at shares `x` of their ranges (0 to 1).

        Shapes (row, share); dmu/dx (row, 1) where it is the same all along a row.
        """
        low, high, centre, sd = (each[rows] for each in (self.low, self.high, self.centre, self.sd))
        return _place(x, low, high, centre, sd, self.stretched)


def _place(
    x: Array, low: Array, high: Array, centre: Array, sd: Array, stretched: bool
) -> tuple[Array, Array]:
    if not stretched:
        reach = (high - low)[:, None]
        return low[:, None] + reach * x, reach
    unit = 2 * sd[:, None]
    left, right = (np.arcsinh((end - centre)[:, None] / unit) for end in (low, high))
    t = left + (right - left) * x
    return centre[:, None] + unit * np.sinh(t), unit * np.cosh(t) * (right - left)


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


class Surface:
    """The log likelihood of the data and the log prior of mu at any point."""

    def __init__(self, data: Data, model: Model) -> None:
        self.data = data
        self.model = model

    def __call__(self, mu: Array, tau: Array, level: int) -> tuple[Array, Array]:
        """Return log joint (without the prior of tau) and log L by study, shaped like mu."""
        counts = self.data.events, self.data.total
        flat = self.model.effects.log_likelihood(*counts, mu.ravel(), tau.ravel(), level)
        joint = self.data.times @ flat + self.model.location.logpdf(mu.ravel())
        return joint.reshape(mu.shape), flat.reshape(-1, *mu.shape)


@dataclass(frozen=True)
class Look:
    """A first look: rows of u with the peak of mu, its spread, its reach and its log mass."""

    u: Array
    peak: Array
    sd: Array
    below: Array
    above: Array


def grid(data: Data, model: Model, order: int) -> Grid:
    """Place a grid and refine it until its last coefficients are negligible.

    `order` is the highest moment of tau that exists, so that its tail is covered too.
    """
    surface = Surface(data, model)
    scale = _scale(data, model)
    look = _look(surface, scale, order)
    # Several modes take more columns: to begin with few would only be done twice.
    rows, columns, level = 0, 4 * model.effects.several_modes, COARSE + 1
    while True:
        result = _evaluate(surface, scale, look, ROWS[rows], COLUMNS[columns], level, order)
        row_error, column_error = _errors(result)
        integral_error = _integral_error(surface, result, level) if level < len(LEVELS) - 1 else 0.0
        finer = (
            rows + (row_error > ROW_TOLERANCE and rows < len(ROWS) - 1 and len(result.u) > 1),
            _more_columns(columns, column_error),
            level + (integral_error > TOLERANCE),
        )
        if finer == (rows, columns, level):
            error = max(row_error**2, column_error, integral_error)
            return Grid(**{**result.__dict__, "error": error})
        rows, columns, level = finer


def _more_columns(columns: int, error: float) -> int:
    """Return the index of the columns to try next: each takes a factor off the error."""
    if error <= TOLERANCE or columns == len(COLUMNS) - 1:
        return columns
    # Convergence gathers speed, hence the 0.85.
    wanted = 0.85 * COLUMNS[columns] * np.log(TOLERANCE) / np.log(min(error, 0.1))
    return max(columns + 1, int(np.searchsorted(COLUMNS[:-1], wanted)))


def _scale(data: Data, model: Model) -> float:
    """Return c of tau = c sinh(u): the smallest tau at which anything changes."""
    prior = model.spread_prior
    if prior.known is not None:
        return 1.0
    smallest = prior.near
    if len(data.total):
        p = (data.events + 0.5) / (data.total + 1)
        smallest = min(smallest, float(1 / np.sqrt(np.max(data.total * p * (1 - p)))))
    return smallest


def _look(surface: Surface, scale: float, order: int) -> Look:
    model, data = surface.model, surface.data
    prior = model.spread_prior
    if prior.known is not None:
        u = np.array([np.arcsinh(prior.known / scale)])
        return _reach(surface, u, scale * np.sinh(u), *_peaks(surface, scale * np.sinh(u)))
    # `far` is where to begin: counts in conflict with the prior can lie beyond.
    limit = float(np.arcsinh(min(prior.upper, FARTHEST) / scale))
    span = (0.0, min(limit, float(np.arcsinh(prior.far / scale))))
    for _ in range(40):
        # Midpoints and not ends: tau = 0 is no density of its own, and 0 is never needed.
        u = span[0] + (span[1] - span[0]) * shares(LOOK + 1)
        u[0] = u[0] * 0.99 + u[1] * 0.01
        tau = scale * np.sinh(u)
        peak, sd, joint, log_l = _peaks(surface, tau)
        mass = joint + np.log(sd) + prior.logpdf(tau) + np.log(np.cosh(u))
        without = mass - data.left_out(log_l)
        mass = mass + order * np.log(tau)
        near = (mass > mass.max() - DROP) | np.any(
            without > without.max(-1, keepdims=True) - DROP_WITHOUT, axis=0
        )
        first, last = np.flatnonzero(near)[[0, -1]]
        if last == LOOK and span[1] < limit:
            span = (0.0, min(2 * span[1], limit))
            continue
        lower = span[0] if first == 0 else u[first - 1]
        upper = span[1] if last == LOOK else u[last + 1]
        narrower = (float(lower), float(upper))
        done = narrower[1] - narrower[0] > 0.7 * (span[1] - span[0])
        span = narrower
        if done:
            break
    rows = slice(max(first - 1, 0), last + 2)
    found = peak[rows], sd[rows], joint[rows], log_l[:, rows]
    look = _reach(surface, u[rows], tau[rows], *found)
    look.u[0] = span[0]
    return look


def _normal_approximation(surface: Surface, tau: Array) -> tuple[Array, Array]:
    data, prior = surface.data, surface.model.location
    p = (data.events + 0.5) / (data.total + 1)
    weight = data.times / (1 / (data.total * p * (1 - p)) + tau[:, None] ** 2)
    precision = weight.sum(-1) + prior.sd**-2
    peak = (weight @ np.log(p / (1 - p)) + prior.mean * prior.sd**-2) / precision
    return peak, precision**-0.5


def _peaks(surface: Surface, tau: Array) -> tuple[Array, Array, Array, Array]:
    """Return mode and curvature scale of mu given tau, log joint and log L by study there.

    All are near enough to place nodes.
    """
    peak, sd = _normal_approximation(surface, tau)
    offsets = np.array([-1.0, 0.0, 1.0])[:, None]
    for _ in range(40):
        mu = peak + offsets * sd
        joint, log_l = surface(mu, np.broadcast_to(tau, mu.shape), COARSE)
        slope = (joint[2] - joint[0]) / 2
        curvature = np.maximum(2 * joint[1] - joint[0] - joint[2], 1e-3)
        step = np.clip(slope / curvature, -4, 4)
        peak = peak + step * sd
        sd = sd * np.clip(curvature**-0.5, 0.2, 5)
        if np.all(np.abs(step) < 0.8) and np.all(np.abs(curvature - 1) < 0.5):
            break
    return peak, sd, joint[1] + slope * step / 2, log_l[:, 1]


def _reach(
    surface: Surface, u: Array, tau: Array, peak: Array, sd: Array, top: Array, top_l: Array
) -> Look:
    """Find how far mu reaches on either side until its density is negligible."""
    top_out = surface.data.left_out(top_l)
    side = np.array([-1.0, 1.0])[:, None]
    reach = np.tile(9.3 * sd, (2, 1))
    # Where mu can have several modes, none lies beyond the studies' own rates and the prior's mean.
    least = np.zeros((2, 1))
    if surface.model.effects.several_modes:
        p = (surface.data.events + 0.5) / (surface.data.total + 1)
        own = np.append(np.log(p / (1 - p)), surface.model.location.mean)
        least = np.maximum(np.stack([peak - own.min(), own.max() - peak]), 0)
        reach = np.maximum(reach, least)
    for _ in range(60):
        mu = peak + side * reach
        joint, log_l = surface(mu, np.broadcast_to(tau, mu.shape), COARSE)
        drop = (top - joint) / DROP
        out = surface.data.left_out(log_l)
        if len(out):
            without = (top - joint) - (top_out[:, None] - out)
            drop = np.minimum(drop, without.min(0) / DROP_WITHOUT)
        done = (drop >= 1) & ((drop < 2.5) | (reach <= least))
        if np.all(done):
            break
        factor = np.clip((np.maximum(drop, 1e-3) / 1.25) ** -0.65, 0.4, 2.5)
        reach = np.where(done, reach, np.maximum(reach * factor, least))
    # The log density falls at most as the square of the distance.
    reach = np.maximum(reach * np.minimum(np.sqrt(1.1 / np.maximum(drop, 1)), 1), least)
    return Look(u, peak, sd, reach[0], reach[1])


def _evaluate(
    surface: Surface, scale: float, look: Look, rows: int, columns: int, level: int, order: int
) -> Grid:
    if len(look.u) == 1:
        u, u_weights = look.u, np.ones(1)
        log_row_prior = np.zeros(1)
    else:
        nodes, weights, _ = legendre_rule(rows)
        half = (look.u[-1] - look.u[0]) / 2
        u = look.u[0] + half * (nodes + 1)
        u_weights = half * weights
        log_row_prior = surface.model.scale.logpdf(scale * np.sinh(u)) + np.log(scale * np.cosh(u))
    tau = scale * np.sinh(u)
    peak = np.interp(u, look.u, look.peak)
    sd, below, above = (
        np.exp(np.interp(u, look.u, np.log(x))) for x in (look.sd, look.below, look.above)
    )
    low, high = peak - below, peak + above
    # So are those that reach far to hold what is left when a large study is left out.
    far = np.maximum(below, above) > FAR * sd
    stretched = surface.model.effects.several_modes or bool(far.any())
    mu, _ = _place(chebyshev_shares(columns), low, high, peak, sd, stretched)
    joint, log_l = surface(mu, np.broadcast_to(tau[:, None], mu.shape), level)
    where = (u, tau, scale, low, high, sd, peak, stretched)
    return Grid(*where, joint, log_l, log_row_prior, u_weights, np.nan)


def _errors(result: Grid) -> tuple[float, float]:
    """Return the relative size of the last coefficients along tau and along mu."""
    columns = result.log_joint.shape[1]
    number = 4 * columns + 1
    fine = result.log_joint @ refine(columns, number).T
    fine += np.log(result.place(shares(number))[1])
    top = fine.max(-1)
    mass = top + np.log(np.exp(fine - top[:, None]).mean(-1)) + result.log_row_prior
    density = np.exp(mass - mass.max())
    row_error = 0.0
    if len(density) > 1:
        coefficients = np.abs(legendre_rule(len(density))[2] @ density)
        row_error = float(coefficients[-2:].max() / coefficients.max())
    tails = np.abs(result.log_joint @ chebyshev_coefficients(columns)[-2:].T).max(-1)
    return row_error, float(np.max(tails * density))


def _integral_error(surface: Surface, result: Grid, level: int) -> float:
    """Return how much the log likelihood changes along its main rows with finer inner rules."""
    middle = result.log_joint.argmax(-1)
    mass = result.log_joint.max(-1) + result.log_row_prior
    # Below, the rules are off by less than 2e-7, and finer ones are costly.
    worth = result.tau > (0.1 if result.tau[-1] > 0.1 else 0)
    rows = np.flatnonzero((mass > mass[worth].max() - 12) & worth)[:: max(1, len(mass) // 6)]
    mu, _ = result.place(chebyshev_shares(result.log_joint.shape[1]))
    finer, _ = surface(mu[rows, middle[rows]], result.tau[rows], level + 1)
    change = finer - result.log_joint[rows, middle[rows]]
    return float(np.max(np.abs(change)))
