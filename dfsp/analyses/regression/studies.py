"""What a meta-regression says of each study: its rate under the model, and how it is predicted."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dfsp.constants import QUANTILES
from dfsp.engine.grid import Data, chebyshev_shares
from dfsp.engine.linear import LinearPosterior
from dfsp.engine.posterior import Population, Posterior
from dfsp.model.likelihood import FINEST, log_sum

Array = npt.NDArray[np.float64]

ASTRAY = 1e-6
"""Share of the posterior without a study at the grid's edge from which on it is placed anew."""


def of_studies(posterior: LinearPosterior, z: Array, counts: Array) -> tuple[Array, Array]:
    """Return summaries of the studies' rates, and the log predictive density of their counts.

    Parameters
    ----------
    posterior : LinearPosterior
        Whose lattice holds the coefficients.
    z : array, shape (study, coefficient)
        The design that it was made from.
    counts : array, shape (2, study)
        Events and totals.

    Returns
    -------
    array, shape (study, 7)
        Mean, sd and `QUANTILES` of each rate.
    array, shape (study,)
        Given the other studies.
    """
    rates, lpd = np.empty((len(z), 2 + len(QUANTILES))), np.empty(len(z))
    x = np.column_stack([np.ones(len(z)), z])
    rows, inverse = np.unique(x, axis=0, return_inverse=True)
    for number, row in enumerate(rows):
        own = np.flatnonzero(inverse.reshape(-1) == number)
        found = _with_studies(posterior.population(row), *counts[:, own])
        rates[own] = found.studies
        without = found.nodes.log_weight - found.nodes.spread(found.grid.log_l)
        alone = -log_sum(without)
        share = np.exp(without + alone[:, None])
        lpd[own] = alone[found.data.inverse]
        for study in own[(share @ _edge(found) > ASTRAY)[found.data.inverse]]:
            others = np.arange(len(z)) != study
            events, total = counts[:, others]
            model, prior = posterior.model, posterior.prior
            rest = LinearPosterior(events, total, z[others], model, prior)
            lpd[study] = posterior.log_marginal_likelihood - rest.log_marginal_likelihood
    return rates, lpd


def _with_studies(population: Population, events: Array, total: Array) -> Posterior:
    """Return the population with the studies of its row of the design."""
    data, grid = Data.of(events, total), population.grid
    mu, _ = grid.place(chebyshev_shares(grid.columns))
    tau = np.broadcast_to(grid.tau[:, None], mu.shape)
    points = mu.ravel(), tau.ravel()
    log_l = population.model.effects.log_likelihood(data.events, data.total, *points, FINEST)
    return Posterior(
        population.model,
        replace(grid, log_l=log_l.reshape(-1, *mu.shape)),
        population.tau_moments,
        population.spread_moments,
        events,
        total,
        data,
    )


def _edge(posterior: Posterior) -> Array:
    """Return 1 for nodes at the ends of mu or of tau, 0 for others."""
    nodes, grid = posterior.nodes, posterior.grid
    edge = nodes.is_end.copy()
    if not grid.rows.known and grid.tau[-1] < 0.9 * posterior.model.spread_prior.upper:
        edge |= nodes.tau == grid.tau[-1]
    return edge.astype(float)
