"""Which coefficients of a meta-regression the counts inform, and which only together.

The verdict must not hang on a sampler's seed, so posterior moments are computed here without one:
study effects are integrated exactly, tau has quadrature nodes, and for each of them (mu, b) is
summed over points of a fixed sequence about its mode, each weighted by its density.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import map_coordinates
from scipy.special import ndtri

from dfsp.analyses.regression_design import Column
from dfsp.engine.grid import legendre_rule
from dfsp.evidence.tables import Counts
from dfsp.model.likelihood import log_likelihood
from dfsp.model.model import Model
from dfsp.model.priors import Fixed, Normal

Array = npt.NDArray[np.float64]

LIMIT = 0.9
"""Posterior sd over prior sd, of a coefficient or a combination of them, that is not informed."""

SHARE = 0.5
"""Part of a coefficient in a combination that makes it belong there."""

ROWS = 32  # of tau
POINTS = 4096  # of (mu, b), each with its mirror image
WIDER = 1.2  # than the normal approximation, so that no weight is large
TABLE = 401  # effects at which a study's likelihood is tabulated
SMALL = 0.02  # step of difference quotients, logit


def posterior_moments(
    events: Array, total: Array, design: Array, model: Model, coefficient: Normal
) -> tuple[Array, Array]:
    """Return mean and covariance of (mu, b_1, b_2, ...) given the counts.

    Parameters
    ----------
    events, total : array, shape (study,)
    design : array, shape (study, coefficient)
    model : Model
    coefficient : Normal
        Prior of every coefficient.

    Returns
    -------
    array, shape (1 + coefficient,), and array, shape (1 + coefficient, 1 + coefficient)
        Logit scale; the same numbers at every call.
    """
    x = np.column_stack([np.ones(len(events)), design])
    means = np.array([model.mu.mean, *[coefficient.mean] * design.shape[1]])
    sds = np.array([model.mu.sd, *[coefficient.sd] * design.shape[1]])
    tau, log_rows = _rows_of_tau(model)
    mode, root = _modes(events, total, x, tau, means, sds)
    z = _points(len(means)) * WIDER
    log_z = 0.5 * ((z / WIDER) ** 2).sum(-1)
    first, second, log_mass = [], [], []
    for sd, centre, spread, log_row in zip(tau, mode, root, log_rows, strict=True):
        beta = centre + z @ spread.T
        log_p = _likelihood(events, total, beta @ x.T, float(sd))
        log_p += log_z - 0.5 * (((beta - means) / sds) ** 2).sum(-1)
        weight = np.exp(log_p - log_p.max())
        log_mass.append(
            log_p.max() + np.log(weight.mean()) + np.linalg.slogdet(spread)[1] + log_row
        )
        weight /= weight.sum()
        first.append(weight @ beta)
        second.append((weight[:, None] * beta).T @ beta)
    share = np.exp(np.array(log_mass) - max(log_mass))
    share /= share.sum()
    mean = share @ np.array(first)
    return mean, np.einsum("t,tij->ij", share, np.array(second)) - np.outer(mean, mean)


def _rows_of_tau(model: Model) -> tuple[Array, Array]:
    """Return nodes of tau and the logarithms of their prior weights."""
    prior = model.tau
    if isinstance(prior, Fixed):
        return np.array([float(prior.scale)]), np.zeros(1)
    scale = float(prior.ppf(0.5)) / 2
    half = float(np.arcsinh(min(prior.upper, float(prior.ppf(1 - 1e-6))) / scale)) / 2
    nodes, weights, _ = legendre_rule(ROWS)
    u = half * (nodes + 1)
    tau = scale * np.sinh(u)
    return tau, np.asarray(prior.logpdf(tau) + np.log(weights * np.cosh(u)))


def _modes(
    events: Array, total: Array, x: Array, tau: Array, means: Array, sds: Array
) -> tuple[Array, Array]:
    """Return for each tau the mode of (mu, b) and a root of its covariance there.

    The density is log-concave, and each study contributes through its own effect alone.
    """
    beta = np.tile(means, (len(tau), 1))
    studies = np.arange(len(events))
    for _ in range(60):
        eta = beta @ x.T
        near = eta[..., None] + SMALL * np.array([-1.0, 0.0, 1.0])
        points = near.reshape(-1)
        spread = np.broadcast_to(tau[:, None, None], near.shape).reshape(-1)
        value = log_likelihood(events, total, points, spread).reshape(len(events), *near.shape)
        low, here, high = value[studies, :, studies].transpose(2, 1, 0)
        slope = (high - low) / (2 * SMALL)
        curvature = np.maximum(-(high - 2 * here + low) / SMALL**2, 1e-9)
        precision = np.einsum("si,ts,sj->tij", x, curvature, x) + np.diag(sds**-2.0)
        gradient = slope @ x - (beta - means) / sds**2
        step = np.linalg.solve(precision, gradient[..., None])[..., 0]
        largest = np.abs(step @ x.T).max(-1, keepdims=True)
        beta = beta + step * np.minimum(1, 2 / np.maximum(largest, 1e-12))
        if largest.max() < 0.01:
            break
    return beta, np.linalg.cholesky(np.linalg.inv(precision))


def _points(dimensions: int) -> Array:
    """Return points that fill a standard normal distribution evenly, the same each time.

    A Kronecker sequence of the generalised golden ratio, and its mirror image.
    """
    golden = 2.0
    for _ in range(60):
        golden = (1 + golden) ** (1 / (dimensions + 1))
    step = golden ** -np.arange(1, dimensions + 1)
    z = ndtri((0.5 + np.outer(np.arange(1, POINTS + 1), step)) % 1)
    return np.concatenate([z, -z])


def _likelihood(events: Array, total: Array, eta: Array, tau: float) -> Array:
    """Return the log likelihood of all studies at effects of shape (point, study)."""
    low, high = float(eta.min()) - SMALL, float(eta.max()) + SMALL
    grid = np.linspace(low, high, TABLE)
    table = log_likelihood(events, total, grid, np.full(TABLE, tau))
    place = (eta - low) / (grid[1] - grid[0])
    return np.asarray(
        sum(map_coordinates(row, [place[:, i]], order=3, mode="nearest")
            for i, row in enumerate(table))
    )  # fmt: skip


def weak_partners(
    covariance: Array, names: list[str], prior_sd: float
) -> dict[str, dict[str, float]]:
    """Return the coefficients of which the data inform a combination only, with their partners.

    Two confounded coefficients share what is known of their sum, so that each looks informed; the
    combination in which they differ keeps its prior.

    Parameters
    ----------
    covariance : array, shape (coefficient, coefficient)
    names : list of str
    prior_sd : float

    Returns
    -------
    dict of str to dict of str to float
        By coefficient and partner, posterior over prior sd of the combination.
    """
    if len(names) < 2:
        return {}
    variances, directions = np.linalg.eigh(covariance / prior_sd**2)
    partners: dict[str, dict[str, float]] = {}
    for ratio, direction in zip(np.sqrt(variances), np.abs(directions).T, strict=True):
        if ratio <= LIMIT:
            continue
        most = set(np.argsort(direction)[-2:]) | set(np.flatnonzero(direction > SHARE))
        for i in sorted(most):
            for j in sorted(most - {i}):
                partners.setdefault(names[i], {})[names[j]] = float(ratio)
    return partners


def separators(
    counts: Counts, design: pd.DataFrame, columns: Mapping[str, Column], first: str, second: str
) -> str:
    """Say which cohorts alone tell two groups apart; empty if one of them is a number.

    Two groups go together in most patients, or exclude each other in most; the cohorts in which
    they do not are all that separates them.
    """
    if not (columns[first].level and columns[second].level):
        return ""
    if columns[first].covariate == columns[second].covariate:
        return ""
    table = counts.table
    alike = (design[first] == design[second]).to_numpy()
    usual = table.loc[alike, "total"].sum() * 2 >= table["total"].sum()
    rare = table[alike != usual]
    if rare.empty:
        return "no cohort separates them"
    cohorts = ", ".join(f"{row.study} ({row.total} patients)" for row in rare.itertuples())
    return f"only {cohorts} separate{'s' if len(rare) == 1 else ''} them"
