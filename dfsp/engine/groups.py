"""Groups of studies that have one spread in common, each with a mean of its own.

Given tau the groups are independent, and the marginal likelihood of a group is a function of it,

    Z_g(tau) = integral of prior(mu) product over its studies of L(mu, tau) dmu.

What the other groups say of tau is their product: a group's posterior is that of its own studies
under the prior of tau times Z_h of every other group h. So the engine that fits one group fits
each, with `SpreadGiven` in the place of the prior.

**A polynomial.** log Z_g is smooth in u of tau = c sinh(u): flat near 0, falling with a power of
tau far out. It is computed at Gauss-Legendre nodes, and continued by a straight line in u.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from dfsp.engine.grid import (
    DROP,
    MOST_TAU,
    ROWS,
    Data,
    Rows,
    Surface,
    at_rows,
    place,
    unit_of_tau,
)
from dfsp.engine.posterior import PLAIN, Posterior
from dfsp.model.likelihood import log_sum
from dfsp.model.model import Model
from dfsp.model.priors import SpreadPrior

Array = npt.NDArray[np.float64]
Together = Sequence[Sequence[int]]

SMALL_COEFFICIENT = 1e-7  # last coefficients of log Z: its absolute error
FIRST = 1  # of `ROWS`: the number of nodes to begin with


@dataclass(frozen=True)
class SpreadGiven:
    """A prior of tau times what other groups say of it; see `dfsp.model.priors.SpreadPrior`.

    Attributes
    ----------
    base : SpreadPrior
    rows : Rows
        Nodes of u, tau = c sinh(u).
    coefficients : array, shape (degree,)
        Legendre coefficients, over the rows' range of u, of the others' log marginal likelihood.
    log_total : float
        Log of the integral of the two.
    """

    base: SpreadPrior
    rows: Rows = field(repr=False)
    coefficients: Array = field(repr=False)
    log_total: float

    known = None

    @property
    def upper(self) -> float:
        """Where the support ends."""
        return self.base.upper

    @property
    def near(self) -> float:
        """Where a grid begins to resolve."""
        return self.base.near

    @property
    def far(self) -> float:
        """Where a look for the posterior begins."""
        return self.base.far

    @property
    def tail_power(self) -> float:
        """Moments below this order exist under the prior alone."""
        return self.base.tail_power

    def logpdf(self, x: npt.ArrayLike) -> Array:
        """Log density."""
        low, high = self.rows.ends
        place = 2 * (np.arcsinh(np.asarray(x) / self.rows.c) - low) / (high - low) - 1
        beyond = np.maximum(place - 1, 0)
        slope = legendre.legval(1.0, legendre.legder(self.coefficients))
        others = legendre.legval(np.minimum(place, 1), self.coefficients) + slope * beyond
        return np.asarray(self.base.logpdf(x) + others - self.log_total)

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles of the prior alone, which are where a grid over it ends."""
        return self.base.ppf(q)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws from the prior alone."""
        return self.base.sample(size, rng)


@dataclass(frozen=True, eq=False)
class GivenOthers(Model):
    """A model whose prior of tau has been told of other groups."""

    told = True
    given: SpreadPrior = field(kw_only=True)

    @property
    def spread_prior(self) -> SpreadPrior:
        """Prior of tau given the counts of the others."""
        return self.given


def solve_together(
    groups: Sequence[tuple[Array, Array]], model: Model, together: Sequence[Together]
) -> tuple[list[Posterior], float]:
    """Compute the posterior of each of several groups that have one tau.

    Parameters
    ----------
    groups : sequence of (events, total)
        Counts of each group's studies, none of which shares patients with another group's.
    model : Model
        Of each group; with an effects' tau that is not known.
    together : sequence
        For each group, as in `dfsp.engine.posterior.solve`.

    Returns
    -------
    posteriors : list of Posterior
        One a group, whose log marginal likelihood is given the counts of the others.
    log_marginal_likelihood : float
        Of all counts.

    Examples
    --------
    >>> groups = [(np.array([7.0, 4]), np.array([15.0, 22])), (np.array([9.0]), np.array([18.0]))]
    >>> posteriors, _ = solve_together(groups, Model(), [[[0], [1]], [[0]]])
    >>> [float(posterior.tau.quantile(0.5)[0].round(3)) for posterior in posteriors]
    [0.683, 0.683]
    """
    counts = [np.concatenate(each) for each in zip(*groups, strict=True)]
    exist = model.effects.tau_moments(counts[0], counts[1], model.tau)
    reported = model.effects.spread_moments(counts[0], counts[1], model.tau)
    surfaces = [Surface(Data.of(*group), model, leaving_out=False) for group in groups]
    rows, log_z = _log_marginal(surfaces, model.spread_prior, sum(exist))
    log_mass = rows.log_mass(model.spread_prior)
    coefficients = rows.coefficients(log_z * rows.weights)
    posteriors = []
    for surface, group, own, out in zip(
        surfaces, groups, range(len(groups)), together, strict=True
    ):
        others = np.delete(log_z, own, axis=0).sum(0)
        given = SpreadGiven(
            model.spread_prior,
            rows,
            np.delete(coefficients, own, axis=0).sum(0),
            float(log_sum(log_mass + others)),
        )
        told = GivenOthers(model.mu, model.tau, model.effects, given=given)
        grid = place(Surface(surface.data, told), order=sum(exist))
        posteriors.append(Posterior(told, grid, exist, reported, *group, surface.data, out))
    return posteriors, float(log_sum(log_mass + log_z.sum(0)))


def _log_marginal(
    surfaces: Sequence[Surface], prior: SpreadPrior, order: int
) -> tuple[Rows, Array]:
    """Return rows that hold the posterior of tau and resolve log Z, and log Z: (group, row)."""
    c = min(unit_of_tau(surface.data, prior) for surface in surfaces)
    limit = float(np.arcsinh(min(prior.upper, MOST_TAU) / c))
    end, number = min(limit, float(np.arcsinh(prior.far / c))), FIRST
    while True:
        rows = Rows.between(0.0, end, c, ROWS[number])
        log_z = np.stack([_log_z(surface, rows) for surface in surfaces])
        density = rows.log_mass(prior) - np.log(rows.weights) + order * np.log(rows.tau)
        # Also without any one group: what the others say is its prior.
        each = density + log_z.sum(0) - np.vstack([np.zeros(len(rows)), log_z])
        if end < limit and (each[:, -1] > each.max(1) - DROP).any():
            end = min(2 * end, limit)
            continue
        last = np.abs(rows.coefficients(log_z * rows.weights))[:, -2:].max()
        if last < SMALL_COEFFICIENT or number == len(ROWS) - 1:
            return rows, log_z
        number += 1


def _log_z(surface: Surface, rows: Rows) -> Array:
    """Return the log marginal likelihood of a group's counts at each row of tau."""
    grid = at_rows(surface, rows)
    number = PLAIN[surface.several_modes]
    return np.asarray(log_sum(grid.fine(number)[1]) - np.log(number - 1))
