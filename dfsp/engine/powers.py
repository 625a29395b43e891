"""How the posterior moves when a prior, or the likelihood, is raised to a power near one.

Power-scaling (Kallioinen et al. 2023, doi:10.1007/s11222-023-10366-5) replaces a density p by
p^alpha. With l = log p, the derivative of a posterior expectation by ln(alpha) at alpha = 1 is a
covariance,

    d E[Q] = Cov(E[Q | mu, tau], l),    d P(Q <= q) = Cov(P(Q <= q | mu, tau), l),

so that a quantile q moves by -Cov(P(Q <= q | mu, tau), l) / density(q). All are integrals over the
grid of the posterior itself: no draws, and no other fit. Rates are on the logit scale, the spread
between studies on the logarithmic one. Of rows in clusters, what is raised to the power is the
likelihood given mu, sigma and rho, before rho is integrated out.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dfsp.constants import ENDS
from dfsp.engine.distributions import Distribution, increments, interpolate, interpolate_smooth
from dfsp.engine.grid import legendre_integral, refine, shares
from dfsp.engine.posterior import Population

Array = npt.NDArray[np.float64]

LIKELIHOOD = "likelihood"
NORMAL_WIDTH = 3.92
"""Standard deviations between the ends of a normal's 95 % interval."""
NEAR = 1e-3
"""Share of an interval between points whose probabilities give the density there: the square of it
is the relative error, its inverse what is lost of sixteen digits."""


class PowerScaling(NamedTuple):
    """What raising one density to a power does to one quantity, for each unit of ln(alpha).

    Attributes
    ----------
    location : float
        Movement of the mean, in posterior standard deviations (95 % interval / 3.92); NaN where
        there is no mean, or not both ends of the interval.
    width : float
        Movement of the logarithm of the width of the 95 % interval; NaN where one of its ends is
        a rate that is 0 or 1 to double precision.
    """

    location: float
    width: float


Powers = Mapping[str, Mapping[str, PowerScaling | None]]


def power_scaling(population: Population) -> Powers:
    """Return by quantity, and by what is raised to a power, how the quantity moves.

    Parameters
    ----------
    population : Population
        A posterior, or a prior.

    Returns
    -------
    mapping of str to mapping of str to PowerScaling or None
        The quantities are `typical_rate` (where there is one), `mean_rate`, `new_study_rate`, and
        what the effects call the spread between studies, unless it is known. The densities are
        the priors of the effects' two parameters, None where one is fixed, and `"likelihood"`.

    Examples
    --------
    >>> from dfsp.engine.posterior import solve
    >>> from dfsp.model.model import Model
    >>> powers = power_scaling(solve([2, 3, 4], [1_000_000] * 3, Model()))
    >>> round(powers["typical_rate"]["mu"].location, 1)  # its prior pulls towards one half
    5.9
    """
    scaling = _Scaling(population)
    found = {}
    if "typical_rate" in population.model.quantities:
        found["typical_rate"] = scaling.of_rising(population.typical_rate, *scaling.of_mu)
    found["mean_rate"] = scaling.of_rising(population.mean_rate, *population.logit_mean_rates)
    found["new_study_rate"] = scaling.of_new_study()
    if not population.grid.rows.known:
        found[population.model.effects.spread] = scaling.of_spread()
    return {quantity: scaling.named(moved) for quantity, moved in found.items()}


def power_of_location(population: Population) -> PowerScaling:
    """Return how the population's location moves when the prior of it is raised to a power.

    Parameters
    ----------
    population : Population
        Of studies at a row of a design, or one whose location is a coefficient.

    Examples
    --------
    >>> from dfsp.engine.posterior import solve
    >>> from dfsp.model.model import Model
    >>> round(power_of_location(solve([2, 3, 4], [1_000_000] * 3, Model())).location, 1)
    5.9
    """
    scaling = _Scaling(population)
    return scaling.of_rising(population.mu, *scaling.of_mu)[0]


class _Scaling:
    """Posterior mass at points of the grid, and that times log densities less their means.

    The densities are the two priors and the likelihood, along the first axis of `weighted`.
    """

    def __init__(self, population: Population) -> None:
        self.population = population
        self.effects = population.model.effects
        self.known = population.grid.rows.known
        self.mu, self.mass = population.conditional.mu, population.conditional.mass
        grid = population.grid
        terms = population.log_terms @ refine(grid.columns, self.mu.shape[-1]).T
        self.weighted = self._logs(self.mu, grid.tau[:, None], terms, self.mass) * self.mass
        # What lies below each point of a row: of the mass, and of it times each density
        self.masses = np.stack([self.mass, *self.weighted])
        below = np.cumsum(increments(self.masses), axis=-1)
        self.below = np.concatenate([np.zeros_like(below[..., :1]), below], axis=-1)

    def _logs(self, mu: Array, tau: Array, terms: Array, mass: Array) -> Array:
        """Return log densities less their means; `terms` are `Population.log_terms`."""
        model = self.population.model
        of_first, of_second = self.effects.log_priors(model.mu, model.tau, mu, tau)
        is_mu = model.location_prior is model.mu
        likelihood = terms - (of_first if is_mu else model.log_location(mu, tau))
        logs = np.empty((3, *mu.shape))
        logs[0], logs[1], logs[2] = of_first, 0 if self.known else of_second, likelihood
        # Where nothing has mass a density may be zero.
        logs[:, mass <= 0] = 0
        means = logs.reshape(3, -1) @ mass.ravel()
        return logs - means.reshape(3, *[1] * mass.ndim)

    def named(self, moved: list[PowerScaling]) -> Mapping[str, PowerScaling | None]:
        """Return the three by name, without that of a prior that is fixed."""
        first, second = self.effects.prior_names
        of_first, of_second, of_likelihood = moved
        return {
            first: of_first,
            second: None if self.known else of_second,
            LIKELIHOOD: of_likelihood,
        }

    @property
    def of_mu(self) -> tuple[Array, Array]:
        """Values of mu at its points, and their slopes by step."""
        number = self.mu.shape[-1]
        return self.mu, self.population.grid.place(shares(number))[1] / (number - 1)

    def of_rising(self, quantity: Distribution, values: Array, slope: Array) -> list[PowerScaling]:
        """Return the movements of what rises with mu: `values` at its points, slopes by step."""
        ends = quantity.ends
        at = (ends + NEAR * (ends[1] - ends[0]) * np.array([[-1], [0], [1]])).T.ravel()
        low, high = values[:, :1], values[:, -1:]
        inside = interpolate_smooth(values, self.below, self.masses / slope, at)
        outside = np.where(at >= high, self.below[..., -1:], 0.0)
        total = np.where((at > low) & (at < high), inside, outside).sum(1)
        probability, changes = total[0].reshape(2, 3), total[1:].reshape(-1, 2, 3)
        density = (probability[:, 2] - probability[:, 0]) / (2 * NEAR * (ends[1] - ends[0]))
        moved = (self.weighted * values).sum((1, 2))
        return _scaled(ends, moved, -changes[..., 1] / density)

    def of_new_study(self) -> list[PowerScaling]:
        """Return the movements of a new study's logit rate."""
        population, nodes = self.population, self.population.nodes
        rate = population.new_study_rate
        if (
            rate.cdf[0] >= ENDS[0] or rate.cdf[-1] <= ENDS[1]
        ):  # the table does not hold the interval
            return [PowerScaling(np.nan, np.nan)] * 3
        ends = rate.ends
        terms = nodes.spread(population.log_terms)
        logs = self._logs(nodes.mu, nodes.tau, terms, nodes.weight) * nodes.weight
        effects = self.effects.new
        below = effects.cdf(ends[:, None], nodes.mu, nodes.width)
        density = effects.density(ends[:, None], nodes.mu, nodes.width) @ nodes.weight
        moved = logs @ effects.mean_effect(nodes.mu, nodes.tau)
        if not population.effect_has_mean:
            moved = np.full(len(logs), np.nan)
        return _scaled(ends, moved, -(logs @ below.T) / density)

    def of_spread(self) -> list[PowerScaling]:
        """Return the movements of the logarithm of the spread between studies."""
        rows = self.population.grid.rows
        points, integral = legendre_integral(len(rows))
        low, high = rows.ends
        u = low + (high - low) / 2 * (points + 1)
        mass = np.stack([self.mass.sum(-1), *self.weighted.sum(-1)])
        below = (mass / rows.weights) @ integral.T * (high - low) / 2

        def value(u: Array) -> Array:
            return np.log(self.effects.reported(rows.c * np.sinh(u)))

        at = np.arcsinh(self.population.spread.ends / rows.c)
        near = NEAR * (at[1] - at[0])
        places = (at + near * np.array([[-1], [0], [1]])).T.ravel()
        probability, *changes = interpolate(u[None], below[:, None], places)[:, 0]
        density = (probability[2::3] - probability[::3]) / (2 * near)
        slope = (value(at + near) - value(at - near)) / (2 * near)
        moved_ends = -slope * np.stack([each[1::3] for each in changes]) / density
        # By parts, since the logarithm of a tau near 0 is no polynomial in u: E[Q] is minus the
        # integral of the distribution function's change over Q.
        inner = u > 0
        change = (below[1:, inner][:, 1:] + below[1:, inner][:, :-1]) / 2
        moved = -change @ np.diff(value(u[inner]))
        order = np.argsort(value(at))  # a concentration falls with the grid's coordinate
        return _scaled(value(at)[order], moved, moved_ends[:, order])


def _scaled(ends: Array, moved: Array, moved_ends: Array) -> list[PowerScaling]:
    """Return movements in units of the interval: `moved` (density,), `moved_ends` (density, 2)."""
    width = float(ends[1] - ends[0])
    return [
        PowerScaling(float(mean * NORMAL_WIDTH / width), float((upper - lower) / width))
        for mean, (lower, upper) in zip(moved, moved_ends, strict=True)
    ]
