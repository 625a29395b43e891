"""Thousands of analyses of the same studies on one grid of (mu, tau).

What an analysis leaves in, and the priors it takes, only change the weights of the nodes: the
likelihood of a study, and how much of a quantity lies below a value at a node, are computed once.
The posterior distribution function of a quantity is then a product of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline
from scipy.special import ndtr

from dfsp.engine.distributions import increments, invert, polynomial
from dfsp.engine.grid import chebyshev_nodes, legendre_rule, refine
from dfsp.engine.posterior import FARTHEST
from dfsp.errors import DfspError
from dfsp.model.effects import BetaBinomial
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Fixed

Array = npt.NDArray[np.float64]

ROWS = (48, 128)  # of tau, fewest and most
PER_U = 5  # rows in a unit of u, tau = c sinh(u)
# Chebyshev nodes of mu at which likelihoods are computed, and equidistant ones at which they are
# used; more where mu can have several modes
COLUMNS = (64, 100)
FINE = (241, 301)
BENDING = 128  # Chebyshev nodes of mu at which mean rates are computed
FAR = 7.5  # standard deviations at which the prior of mu ends
TAIL = 1e-7  # of the prior of tau, beyond which nothing is looked for
POINTS = (281, 141)  # of the tabulated distribution function of a mean, of a new study's rate
LEVEL = 1  # of the inner rule: log likelihoods to 3e-6
SMALL = 0.4  # tau below which the nodes of mu are too coarse for a new study's effect,
FINEST = 1300  # and how many take their place
CLOSE = 1.8  # nodes of mu in a posterior standard deviation given tau, at least,
COUNTS = 1e-4  # where the posterior probability of a row of tau is above this
INSIDE = 16  # points of a table in the middle 98 % of a posterior, at least
NEGLIGIBLE = 1e-10  # weight below which a node counts for nothing
BLOCK = 4_000_000  # numbers held at once
QUANTILES = np.array([0.5, 0.025, 0.975])


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
        Median, logit scale. Beta-binomial effects have no typical rate and tau: NaN.
    resolved : array of bool, shape (analysis,)
        Whether nodes and tables are close enough for this analysis, to about 1e-5.
    log_marginal_likelihood : array, shape (analysis,)
    """

    typical: Array
    mean: Array
    new: Array
    tau: Array
    resolved: npt.NDArray[np.bool_]
    log_marginal_likelihood: Array


class SharedGrid:
    """Nodes of (mu, tau) that serve every subset of some studies under several priors.

    Parameters
    ----------
    events, total : array, shape (study,)
        Distinct counts.
    models : sequence of Model
        With the same effects, and priors of tau that end at the same place.

    Raises
    ------
    DfspError
        Effects that differ, or priors of tau that end at different places.
    """

    def __init__(self, events: Array, total: Array, models: Sequence[Model]) -> None:
        if len({(model.effects, model.scale.upper) for model in models}) > 1:
            raise DfspError(
                "effects that differ, and priors of tau that end at different places, need a grid "
                "each"
            )
        self.effects = effects = models[0].effects
        self.scales = tuple({model.scale: None for model in models})
        locations = {model.location: None for model in models}
        p = (events.sum() + 0.5) / (total.sum() + 1)
        centre, narrow = np.log(p / (1 - p)), 1 / np.sqrt(total.sum() * p * (1 - p))
        self._place_rows(narrow)
        unit = 2 * narrow
        low = min(prior.mean - FAR * prior.sd for prior in locations)
        high = max(prior.mean + FAR * prior.sd for prior in locations)
        ends = np.arcsinh((np.array([low, high]) - centre) / unit)
        columns = COLUMNS[effects.several_modes]
        middle, half = ends.mean(), (ends[1] - ends[0]) / 2
        few, self.more = (
            centre + unit * np.sinh(middle + half * chebyshev_nodes(number))
            for number in (columns, BENDING)
        )
        self.fine = FINE[effects.several_modes]
        t = np.linspace(ends[0], ends[1], self.fine)
        self.mu = centre + unit * np.sinh(t)
        self.width = unit * np.cosh(t) * (t[1] - t[0])
        log_l = effects.log_likelihood_of_all(events, total, few, self.tau, LEVEL)
        log_l = log_l @ refine(columns, self.fine).T
        self.log_l = log_l.reshape(len(events), -1)

    def _place_rows(self, narrow: float) -> None:
        first = self.scales[0]
        if isinstance(first, Fixed):
            self.u, self.u_weights = np.array([np.arcsinh(1.0)]), np.ones(1)
            self.scale = first.scale
        else:
            self.scale = min(narrow, *(float(tau.ppf(0.5)) for tau in self.scales))
            upper = min(first.upper, max(float(tau.ppf(1 - TAIL)) for tau in self.scales))
            half = float(np.arcsinh(upper / self.scale)) / 2
            nodes, weights, _ = legendre_rule(int(np.clip(2 * PER_U * half, *ROWS)))
            self.u, self.u_weights = half * (nodes + 1), half * weights
        self.tau = self.scale * np.sinh(self.u)

    def _at(self, mu: Array) -> tuple[Array, Array]:
        """Return all pairs of mu and the rows' tau, flat."""
        return np.tile(mu, len(self.tau)), np.repeat(self.tau, len(mu))

    def log_prior(self, model: Model) -> Array:
        """Return the log prior mass of every node, shape (node,)."""
        of_mu = model.location.logpdf(self.mu) + np.log(self.width)
        of_tau = np.zeros(1)
        if len(self.tau) > 1:
            of_tau = model.scale.logpdf(self.tau) + np.log(
                self.scale * np.cosh(self.u) * self.u_weights
            )
        return np.asarray((of_tau[:, None] + of_mu).ravel())

    def solve(self, times: Array, models: Sequence[Model]) -> Answers:
        """Analyse.

        Parameters
        ----------
        times : array, shape (analysis, study)
            How often the counts of each study are in the analysis.
        models : sequence of Model, length analysis
            Of those that the grid was made for.

        Returns
        -------
        Answers
        """
        known = {model: self.log_prior(model) for model in dict.fromkeys(models)}
        step = max(1, BLOCK // self.log_l.shape[1])
        blocks = [slice(start, start + step) for start in range(0, len(times), step)]
        evidence = np.empty(len(times))

        def weights(block: slice) -> Array:
            weight = times[block] @ self.log_l
            weight += np.stack([known[model] for model in models[block]])
            top = weight.max(-1, keepdims=True)
            weight -= top
            np.exp(weight, out=weight)
            mass = weight.sum(-1, keepdims=True)
            weight /= mass
            evidence[block] = (top + np.log(mass))[:, 0]
            return weight

        heaviest = np.zeros(self.log_l.shape[1])
        for block in blocks:
            np.maximum(heaviest, weights(block).max(0), out=heaviest)
        below = self._below(heaviest)
        read = [self._read(weights(block), below) for block in blocks]
        typical, mean, new, tau, resolved = (
            np.concatenate(each) for each in zip(*read, strict=True)
        )
        if isinstance(self.effects, BetaBinomial):
            typical, tau = np.full_like(typical, np.nan), np.full_like(tau, np.nan)
        return Answers(typical, mean, new, tau, resolved, evidence)

    def _below(self, heaviest: Array) -> "_Below":
        """Tabulate how much of the mass at each node lies below points of each quantity."""
        main = np.flatnonzero(heaviest > NEGLIGIBLE)
        mu, tau = self._at(self.mu)
        logit = self._mean_rates().ravel()
        share = heaviest[main]
        # The mass below a node of a row, linear in the masses of the row's nodes
        steps = np.pad(np.cumsum(increments(np.eye(self.fine)), axis=-1), [(0, 0), (1, 0)])
        x_mu, x_mean = (_points(values[main], share, POINTS[0]) for values in (mu, logit))
        rows = np.maximum.accumulate(logit.reshape(-1, self.fine), axis=-1)
        of_mean = np.concatenate([_between(row, steps, x_mean) for row in rows])[main]
        z = np.linspace(-2, 2, 5)
        spread = np.clip(mu[main, None] + z * tau[main, None], -FARTHEST, FARTHEST)
        x_new = _points(spread.ravel(), np.repeat(share, len(z)), POINTS[1])
        of_row, column = np.divmod(main, self.fine)
        of_new = np.concatenate(
            [
                self._below_new(each, column[of_row == row], x_new)
                for row, each in enumerate(self.tau)
            ]
        )
        return _Below(
            main=main,
            mean=sigmoid(logit)[main],
            x=(x_mu, x_mean, x_new),
            mu=_between(self.mu, steps, x_mu),
            both=np.hstack([of_mean, of_new]),
        )

    def _mean_rates(self) -> Array:
        """Return the logit of the mean rate at each node, shape (row, column)."""
        if isinstance(self.effects, BetaBinomial):
            return np.tile(self.mu, (len(self.tau), 1))
        one, more = np.ones(1), self.more
        of_all = self.effects.new.log_likelihood_of_all
        log_p = of_all(one, one, -np.abs(more), self.tau, LEVEL + 1)[0]
        logit = np.where(more < 0, 1, -1) * (log_p - np.log1p(-np.exp(log_p)))
        return np.asarray(logit @ refine(BENDING, self.fine).T)

    def _below_new(self, tau: float, columns: npt.NDArray[np.intp], x: Array) -> Array:
        """Return the probability of a new effect below `x` at some nodes of a row."""
        cdf = self.effects.new.cdf
        if tau >= SMALL or not len(columns):
            return cdf(x, self.mu[columns, None], np.full(1, tau))
        # A node's mass, spread over finer ones by the spline through all of them
        spread = _spline(self.fine)
        mu = spread @ self.mu
        width = np.maximum(tau, np.gradient(mu) / 0.9)
        share = spread[:, columns] * (self.fine - 1) / (len(spread) - 1)
        near = np.flatnonzero(np.abs(share).max(-1) > 1e-12)
        return np.asarray(share[near].T @ cdf(x, mu[near, None], width[near, None]))

    def _read(self, weight: Array, below: "_Below") -> tuple[npt.NDArray[Any], ...]:
        square = weight.reshape(len(weight), len(self.tau), self.fine)
        kept = weight[:, below.main]
        cdfs = [square.sum(1) @ below.mu, *np.hsplit(kept @ below.both, [len(below.x[1])])]
        typical, mean, new = (
            sigmoid(invert(x[None], np.maximum.accumulate(np.clip(cdf, 0, 1), -1), QUANTILES))
            for x, cdf in zip(below.x, cdfs, strict=True)
        )
        mean[:, 0] = kept @ below.mean
        resolved = self._resolved(square) & _readable(cdfs)
        return typical, mean, new, self._median_tau(square.sum(-1)), resolved

    def _resolved(self, weight: Array) -> npt.NDArray[np.bool_]:
        """Say of each analysis whether its nodes of mu are close in every row that counts."""
        place = np.arange(self.fine, dtype=np.float64)
        mass, first, second = np.moveaxis(weight @ np.stack([place**0, place, place**2], -1), -1, 0)
        main = mass > COUNTS
        mass = np.where(main, mass, 1.0)
        variance = second / mass - (first / mass) ** 2
        return np.asarray(np.where(main, variance, np.inf).min(-1) > CLOSE**2)

    def _median_tau(self, mass: Array) -> Array:
        if len(self.tau) == 1:
            return np.full(len(mass), self.tau[0])
        nodes, _, to_coefficients = legendre_rule(len(self.tau))
        coefficients = to_coefficients @ (mass / self.u_weights).T
        integral = np.polynomial.legendre.legint(coefficients, lbnd=-1)
        points = -np.cos(np.linspace(0, np.pi, 301))
        cdf = np.polynomial.legendre.legval(points, integral)
        half = (self.u[-1] - self.u[0]) / (nodes[-1] - nodes[0])
        tau = self.scale * np.sinh(half * (points + 1))
        cdf = np.maximum.accumulate(np.clip(cdf / cdf[:, -1:], 0, 1), axis=-1)
        return invert(tau[None], np.asarray(cdf), np.array([0.5]))[:, 0]


@dataclass(frozen=True)
class _Below:
    """Points of each quantity (logit) and the share of each node's mass below them.

    `mu` is for the masses of the columns, `both` (mean rate, then new study) and `mean` for those
    of the nodes `main`.
    """

    main: npt.NDArray[np.intp]
    mean: Array
    x: tuple[Array, Array, Array]
    mu: Array
    both: Array


def _points(values: Array, weight: Array, number: int) -> Array:
    """Return points that are equidistant in normal scores of weighted values."""
    order = np.argsort(values)
    mass = np.cumsum(weight[order])
    levels = ndtr(np.linspace(-6.5, 6.5, number))
    return np.unique(np.interp(levels, mass / mass[-1], values[order]))


def _readable(cdfs: Sequence[Array]) -> npt.NDArray[np.bool_]:
    """Say of each analysis whether its quantiles can be read off all the tables."""
    inside = [((cdf > 0.01) & (cdf < 0.99)).sum(-1) >= INSIDE for cdf in cdfs]
    return np.asarray(np.logical_and.reduce(inside))


def _between(values: Array, steps: Array, x: Array) -> Array:
    """Return the share of each node's mass below `x`, shape (node, point), by cubics."""
    start = np.clip(np.searchsorted(values, x) - 2, 0, len(values) - 4)
    around = start[:, None] + np.arange(4)
    unit = np.repeat(np.eye(4)[..., None], len(x), axis=-1)
    share = np.stack([polynomial(values[around].T, each, x) for each in unit], axis=-1)
    inside = (steps[:, around] * share).sum(-1)
    return np.where(x <= values[0], 0.0, np.where(x >= values[-1], steps[:, -1:], inside))


@cache
def _spline(number: int) -> Array:
    """Return the matrix that interpolates the nodes of a row at finer ones."""
    fine = np.linspace(0, number - 1, -(-FINEST // (number - 1)) * (number - 1) + 1)
    return np.asarray(make_interp_spline(np.arange(number), np.eye(number), k=5)(fine))
