"""The exact engine for one coefficient: theta_i ~ N(mu + b x_i, tau^2) on the logit scale.

For every tau the density of (mu, b) is log-concave: a lattice about its mode, in units of its
curvature, holds it, and the trapezoidal rule on it converges geometrically. tau has the nodes of
`dfsp.engine.grid`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from scipy.special import ndtr

from dfsp.engine.distributions import Distribution, cumulate, mix, of_tau
from dfsp.engine.grid import Rows, legendre_rule
from dfsp.model.likelihood import LOG_ROOT_2PI, log_likelihood, sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Fixed, Normal

Array = npt.NDArray[np.float64]

ROWS = 32  # of tau
STEP = 0.6  # spacing of the lattice in units of curvature
REACH = 15  # nodes on either side of the mode at first
ALONG = 91  # points of a line along which a value rises
BINS = 400  # of the effects, for a new study
NEGLIGIBLE = 1e-9  # share of the density at the lattice's edge
LEVEL = 2  # of the inner rule


@dataclass(frozen=True)
class Lattice:
    """The posterior of (mu, b) on a lattice for each of some values of tau.

    Attributes
    ----------
    mode : array, shape (row, 2)
    root : array, shape (row, 2, 2)
        A point of the lattice is mode + root @ (s, t), with s and t in `steps`.
    tau, row_weight : array, shape (row,)
    log_p : array, shape (row, step, step)
        Log density within the row, its maximum 0.
    steps : array, shape (step,)
    of_tau : Distribution
    log_marginal_likelihood : float
        With binomial coefficients.
    edge : float
        Largest share of a row's mass at the edge of the lattice: what may be missing.
    """

    mode: Array
    root: Array
    tau: Array
    row_weight: Array
    log_p: Array
    steps: Array
    of_tau: Distribution
    log_marginal_likelihood: float
    edge: float

    @cached_property
    def nodes(self) -> tuple[Array, Array, Array]:
        """mu, b and weight of the lattice's points, shape (row, point)."""
        s, t = np.meshgrid(self.steps, self.steps, indexing="ij")
        shift = np.einsum("rij,jn->rin", self.root, np.stack([s.ravel(), t.ravel()]))
        weight = np.exp(self.log_p).reshape(len(self.tau), -1)
        weight *= (self.row_weight / weight.sum(-1))[:, None]
        return self.mode[:, 0, None] + shift[:, 0], self.mode[:, 1, None] + shift[:, 1], weight

    def linear(self, x: tuple[float, float]) -> Distribution:
        """Return the distribution of x[0] mu + x[1] b (logit scale)."""
        v = np.asarray(x)
        return self._mixed(self._steepest(v), lambda mu, b, _: v[0] * mu + v[1] * b, False)

    def typical_rate(self, x: float) -> Distribution:
        """Return the distribution of logit^-1(mu + b x)."""
        return self._mixed(self._steepest(np.array([1.0, x])), lambda mu, b, _: mu + b * x, True)

    def mean_rate(self, x: float) -> Distribution:
        """Return the distribution of the average rate of studies with covariate x."""

        def logit(mu: Array, b: Array, tau: Array) -> Array:
            first, _ = mean_and_square(mu + b * x, tau)
            return np.asarray(np.log(first / (1 - first)))

        return self._mixed(self._steepest(np.array([1.0, x])), logit, True)

    def difference(self, first: float, second: float) -> Distribution:
        """Return the distribution of typical rate at `second` minus that at `first`."""
        low, high = min(first, second), max(first, second)
        # Where the effect halfway between the two is fixed, the difference rises with b.
        direction = np.array([-(low + high) / 2, 1.0])
        whitened = np.linalg.solve(
            self.root, np.broadcast_to(direction, self.mode.shape)[..., None]
        )
        sign = 1.0 if second > first else -1.0

        def gap(mu: Array, b: Array, _: Array) -> Array:
            return np.asarray(sigmoid(mu + b * high) - sigmoid(mu + b * low))

        found = self._mixed(whitened[..., 0], gap, False)
        if sign > 0:
            return found
        return Distribution(-found.x[::-1], 1 - found.cdf[::-1], -found.mean, found.sd, False)

    def new_study_rate(self, x: float) -> Distribution:
        """Return the distribution of the rate of one more study with covariate x."""
        mu, b, weight = self.nodes
        eta = mu + b * x
        first, second = mean_and_square(eta, self.tau[:, None])
        mean = float((weight * first).sum())
        sd = float(np.sqrt(max(float((weight * second).sum()) - mean**2, 0)))
        low, high = eta.min(), eta.max()
        # The effects of a row are binned, their mass split between two bins, before tau spreads it.
        place = (eta - low) / (high - low) * (BINS - 1)
        left = np.minimum(place.astype(int), BINS - 2)
        spread = 8 * max(float(self.tau[self.row_weight > NEGLIGIBLE].max()), float(high - low))
        centre = np.linspace(low, high, BINS)
        points = (weight * eta).sum() + np.sinh(np.linspace(-6, 6, 201)) / np.sinh(6) * spread
        cdf = np.zeros(len(points))
        for row, tau in enumerate(self.tau):
            share = place[row] - left[row]
            mass = np.bincount(left[row], weight[row] * (1 - share), BINS)
            mass += np.bincount(left[row] + 1, weight[row] * share, BINS)
            cdf += ndtr((points[:, None] - centre) / tau) @ mass
        return Distribution(points, np.maximum.accumulate(cdf), mean, sd, True)

    def _steepest(self, v: Array) -> Array:
        """Return for each row the direction, in lattice units, in which v @ (mu, b) rises most."""
        return np.asarray(np.einsum("rij,i->rj", self.root, v))

    def _mixed(
        self, direction: Array, value: Callable[[Array, Array, Array], Array], is_rate: bool
    ) -> Distribution:
        """Mix the distributions of a value that rises along a direction, line by line."""
        main = np.flatnonzero(self.row_weight > NEGLIGIBLE)
        reach = self.steps[-1]
        along = np.linspace(-reach, reach, ALONG)
        across = self.steps
        values, within, weights = [], [], []
        centre = (len(self.steps) - 1) / 2
        for row in main:
            e = direction[row] / np.linalg.norm(direction[row])
            s = e[0] * along - e[1] * across[:, None]
            t = e[1] * along + e[0] * across[:, None]
            index = np.stack([s, t]) / (across[1] - across[0]) + centre
            height = map_coordinates(
                self.log_p[row], index, order=5, mode="constant", cval=-80.0, prefilter=True
            )
            density = np.exp(height)
            shift = np.einsum("ij,jlp->ilp", self.root[row], np.stack([s, t]))
            mu, b = self.mode[row, 0] + shift[0], self.mode[row, 1] + shift[1]
            mass = density.sum(-1)
            kept = mass > NEGLIGIBLE * mass.sum()
            cdf = cumulate(density[kept] / mass[kept, None], np.ones(1))
            values.append(value(mu[kept], b[kept], self.tau[row]))
            within.append(cdf / cdf[:, -1:])
            weights.append(self.row_weight[row] * mass[kept] / mass.sum())
        x, cdf = mix(np.concatenate(values), np.concatenate(within), np.concatenate(weights))
        mu, b, weight = self.nodes
        at = value(mu, b, self.tau[:, None])
        at = sigmoid(at) if is_rate else at
        mean = float((weight * at).sum())
        sd = float(np.sqrt(max(float((weight * at**2).sum()) - mean**2, 0)))
        return Distribution(x, cdf, mean, sd, is_rate)


Z = np.linspace(-6, 6, 41)
PHI = np.exp(-0.5 * Z * Z) / np.exp(-0.5 * Z * Z).sum()


def mean_and_square(eta: Array, tau: Array) -> tuple[Array, Array]:
    """Return E[p] and E[p^2] of logit p ~ N(eta, tau^2), broadcast."""
    first, second = np.zeros_like(eta), np.zeros_like(eta)
    for z, weight in zip(Z, PHI, strict=True):
        p = sigmoid(eta + tau * z)
        first += weight * p
        second += weight * p * p
    return first, second


def solve_slope(
    events: Array, total: Array, x: Array, model: Model, coefficient: Normal
) -> Lattice:
    """Compute the posterior of intercept, slope and tau.

    Parameters
    ----------
    events, total, x : array, shape (study,)
        Counts and covariate.
    model : Model
        Priors of mu (the logit rate of the median study at x = 0) and tau.
    coefficient : Normal
        Prior of the slope, logit scale per unit of x.
    """
    surface = _Surface(events, total, x, model, coefficient)
    u, weights, scale = _rows(surface)
    tau = scale * np.sinh(u)
    mode, root = surface.peaks(tau)
    reach = REACH
    while True:
        t = STEP * np.arange(-reach, reach + 1)
        s, r = (a.ravel() for a in np.meshgrid(t, t, indexing="ij"))
        steps = np.einsum("tij,jn->tin", root, np.stack([s, r]))
        mu, b = mode[:, 0, None] + steps[:, 0], mode[:, 1, None] + steps[:, 1]
        log_p = surface(mu, b, tau[:, None])
        log_p += (np.log(np.abs(np.linalg.det(root))) + 2 * np.log(STEP))[:, None]
        square = log_p.reshape(len(tau), len(t), len(t))
        mass = np.exp(square - square.max((1, 2), keepdims=True))
        edges = np.stack([mass[:, 0], mass[:, -1], mass[:, :, 0], mass[:, :, -1]])
        share = edges.sum((0, 2)) / mass.sum((1, 2))
        row_top = square.max((1, 2))
        row = row_top + np.log(mass.sum((1, 2))) + _log_row_prior(model, tau, scale, u, weights)
        relevant = row > row.max() - 20
        edge = float(share[relevant].max())
        if edge < NEGLIGIBLE or reach >= 4 * REACH:
            break
        reach = int(1.5 * reach)
    top = float(row.max())
    log_evidence = top + float(np.log(np.exp(row - top).sum()))
    row_weight = np.exp(row - log_evidence)
    exist = model.effects.tau_moments(events, total, model.tau)
    tau_distribution = of_tau(Rows(u, weights, scale), row_weight, exist)
    log_p = square - square.max((1, 2), keepdims=True)
    steps = np.asarray(t, dtype=np.float64)
    return Lattice(mode, root, tau, row_weight, log_p, steps, tau_distribution, log_evidence, edge)


class _Surface:
    """Log prior of (mu, b) plus log likelihood at any point."""

    def __init__(
        self, events: Array, total: Array, x: Array, model: Model, coefficient: Normal
    ) -> None:
        self.events, self.total, self.x = events, total, x
        self.model, self.coefficient = model, coefficient
        self.levels, self.of = np.unique(x, return_inverse=True)

    def __call__(self, mu: Array, b: Array, tau: Array, level: int = LEVEL) -> Array:
        shape = np.broadcast_shapes(mu.shape, b.shape, tau.shape)
        mu, b, tau = (np.broadcast_to(a, shape).ravel() for a in (mu, b, tau))
        value = np.zeros(len(mu))
        # Studies with the same covariate share the mean of their effects.
        for i, x in enumerate(self.levels):
            own = self.of == i
            value += log_likelihood(self.events[own], self.total[own], mu + b * x, tau, level).sum(
                0
            )
        for point, prior in ((mu, self.model.mu), (b, self.coefficient)):
            value -= 0.5 * ((point - prior.mean) / prior.sd) ** 2 + np.log(prior.sd) + LOG_ROOT_2PI
        return value.reshape(shape)

    def start(self, tau: Array) -> tuple[Array, Array]:
        """Return weighted least squares of empirical logits: mode and covariance for each tau."""
        p = (self.events + 0.5) / (self.total + 1)
        weight = 1 / (1 / (self.total * p * (1 - p)) + tau[:, None] ** 2)
        design = np.stack([np.ones_like(self.x), self.x])
        precision = np.einsum("ik,tk,jk->tij", design, weight, design)
        means = np.array([self.model.mu.mean, self.coefficient.mean])
        prior = np.diag([self.model.mu.sd**-2.0, self.coefficient.sd**-2.0])
        covariance = np.linalg.inv(precision + prior)
        right = np.einsum("ik,tk,k->ti", design, weight, np.log(p / (1 - p))) + prior @ means
        return np.asarray(np.einsum("tij,tj->ti", covariance, right)), np.asarray(covariance)

    def peaks(self, tau: Array) -> tuple[Array, Array]:
        """Return the mode of (mu, b) and a root of its covariance for each tau, near enough."""
        mode, covariance = self.start(tau)
        root = np.linalg.cholesky(covariance)
        s, r = (a.ravel() for a in np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], indexing="ij"))
        for _ in range(30):
            steps = np.einsum("tij,jn->tin", root, np.stack([s, r]))
            points = mode[:, 0, None] + steps[:, 0], mode[:, 1, None] + steps[:, 1]
            f = self(*points, tau[:, None], level=1).reshape(-1, 3, 3)
            gradient = np.stack([f[:, 2, 1] - f[:, 0, 1], f[:, 1, 2] - f[:, 1, 0]], -1) / 2
            ss = f[:, 2, 1] - 2 * f[:, 1, 1] + f[:, 0, 1]
            rr = f[:, 1, 2] - 2 * f[:, 1, 1] + f[:, 1, 0]
            sr = (f[:, 2, 2] - f[:, 2, 0] - f[:, 0, 2] + f[:, 0, 0]) / 4
            curvature = -np.stack([np.stack([ss, sr], -1), np.stack([sr, rr], -1)], -2)
            # Kept positive where the difference quotient is not
            values, vectors = np.linalg.eigh(curvature)
            values = np.clip(values, 0.05, 20)
            inverse = np.einsum("tij,tj,tkj->tik", vectors, 1 / values, vectors)
            step = np.clip(np.einsum("tij,tj->ti", inverse, gradient), -3, 3)
            mode = mode + np.einsum("tij,tj->ti", root, step)
            root = np.linalg.cholesky(root @ inverse @ root.transpose(0, 2, 1))
            if np.abs(step).max() < 0.1:
                break
        return mode, root


def _rows(surface: _Surface) -> tuple[Array, Array, float]:
    """Return nodes and weights of u, tau = scale sinh(u), where the posterior of tau is."""
    prior = surface.model.tau
    if isinstance(prior, Fixed):
        return np.array([np.arcsinh(1.0)]), np.ones(1), float(prior.scale)
    p = (surface.events + 0.5) / (surface.total + 1)
    scale = float(1 / np.sqrt(np.max(surface.total * p * (1 - p))))
    scale = min(scale, float(prior.ppf(0.5)))
    upper = min(prior.upper, float(prior.ppf(1 - 1e-12)))
    span = np.arcsinh(upper / scale)
    # A look at where the mass ends, with each row's mass by Laplace's approximation
    u = np.linspace(1e-3, 1, 41) * span
    tau = scale * np.sinh(u)
    mode, root = surface.peaks(tau)
    height = surface(mode[:, 0], mode[:, 1], tau, level=1)
    log_mass = height + np.log(np.abs(np.linalg.det(root))) + prior.logpdf(tau)
    log_mass = log_mass + np.log(np.cosh(u))
    near = np.flatnonzero(log_mass > log_mass.max() - 26)
    low = 0.0 if near[0] == 0 else u[near[0] - 1]
    high = u[min(near[-1] + 1, len(u) - 1)]
    nodes, weights, _ = legendre_rule(ROWS)
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights, scale


def _log_row_prior(model: Model, tau: Array, scale: float, u: Array, weights: Array) -> Array:
    if isinstance(model.tau, Fixed):
        return np.zeros(1)
    return np.asarray(model.tau.logpdf(tau) + np.log(scale * np.cosh(u)) + np.log(weights))
