"""What the exact posterior says of counts and studies not yet seen, and draws from it."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from dfsp.constants import CI_PROB, QUANTILES, SEED, STATISTICS
from dfsp.engine.distributions import Distribution
from dfsp.engine.posterior import Posterior, solve
from dfsp.errors import DfspError
from dfsp.fitting import Fit
from dfsp.model.likelihood import log_binomial, sigmoid
from dfsp.model.model import Model
from dfsp.seeds import generator

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

CHAINS = 4
POINTS = 241


def prior_of(model: Model) -> Posterior:
    """Return what the model says before any study is seen: the prior predictive.

    Parameters
    ----------
    model : Model

    Returns
    -------
    Posterior
        With no studies; `new_study_rate` is the prior predictive distribution of a rate.
    """
    return solve([], [], model)


def exact_posterior(result: object) -> Posterior:
    """Return the exact posterior that functions of a new study need, also from a whole fit.

    Raises
    ------
    DfspError
        The fit is not from the exact engine, or what is given is neither.
    """
    if isinstance(result, Fit):
        return result.exact
    if not isinstance(result, Posterior):
        what = type(result).__name__
        raise DfspError(f"a fit is needed, but this is a {what}; give fit(...) or fit(...).exact")
    return result


def rate_points(distribution: Distribution) -> tuple[Array, Array]:
    """Return logit rates and probabilities that stand for a distribution of a rate."""
    # A trapezoidal sum over normal scores, in which the distribution is nearly linear
    score = np.linspace(-6, 6, POINTS)
    x = distribution.points(ndtr(score))
    weight = np.exp(-0.5 * score**2)
    return x, weight / weight.sum()


def events_in_new_study(posterior: Posterior | Fit, n: int) -> Array:
    """Return the probability of each number of events among the n patients of a new study.

    Parameters
    ----------
    posterior : Posterior or Fit
        From the exact engine, or `prior_of` for the prior predictive.
    n : int
        Patients, 1 or more.

    Returns
    -------
    array, shape (n + 1,)

    Raises
    ------
    DfspError
        `n` is not a whole number above 0.
    """
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise DfspError(f"n = {n!r}; give a whole number of patients above 0")
    return probability_of_events(exact_posterior(posterior).new_study_rate, n)


def probability_of_events(rate: Distribution, n: int) -> Array:
    """Return the probability of 0 to n events among n patients whose rate is so distributed."""
    theta, weight = rate_points(rate)
    events = np.arange(n + 1, dtype=np.float64)[:, None]
    probability = np.exp(log_binomial(events, np.full(1, float(n)), theta)) @ weight
    return np.asarray(probability / probability.sum(), dtype=np.float64)


def interval_of_events(posterior: Posterior, n: int) -> tuple[int, int]:
    """Return the central interval (`CI_PROB`) of the number of events among n new patients."""
    cdf = np.cumsum(events_in_new_study(posterior, n))
    tail = (1 - CI_PROB) / 2
    return int(np.searchsorted(cdf, tail)), int(np.searchsorted(cdf, 1 - tail))


def predictive_check(fit: Fit) -> pd.DataFrame:
    """Compare each study's events with what the model predicts for a new study of its size.

    Replicates draw a new study effect each: replicates that keep the fitted effect always look
    good.

    Parameters
    ----------
    fit : Fit
        With the exact engine.

    Returns
    -------
    pandas.DataFrame
        One row a study: `study`, `events`, `total`, `low`, `high` (central interval of replicated
        events, probability `CI_PROB`), `mid_p` (P(replicate > events) + P(replicate = events)/2).
    """
    table = fit.studies[["study", "events", "total"]].copy()
    low, high, mid_p = [], [], []
    for events, total in zip(table["events"].to_list(), table["total"].to_list(), strict=True):
        probability = events_in_new_study(fit.exact, total)
        ends = interval_of_events(fit.exact, total)
        low.append(ends[0])
        high.append(ends[1])
        mid_p.append(float(probability[events + 1 :].sum() + probability[events] / 2))
    return table.assign(low=low, high=high, mid_p=mid_p)


def rates_differ(posterior: Posterior, by: float = 0.2) -> float:
    """Return the probability that the true rates of two new studies differ by more than `by`.

    Both studies share the unknown mu and tau.

    Parameters
    ----------
    posterior : Posterior
    by : float
        Difference on the rate scale, between 0 and 1.

    Raises
    ------
    DfspError
        `by` lies outside (0, 1).
    """
    if not 0 < by < 1:
        raise DfspError(f"by = {by!r}; give a difference of rates between 0 and 1")
    main = posterior.nodes.weight > 1e-9
    mu, tau, weight = (
        values[main] for values in (posterior.nodes.mu, posterior.nodes.tau, posterior.nodes.weight)
    )
    apart = posterior.model.effects.new.apart(mu, tau, by)
    return float(weight @ apart / weight.sum())


def draws(posterior: Posterior, number: int = 4000, *, seed: int = SEED) -> "xr.DataTree":
    """Return independent draws from the exact posterior.

    Parameters
    ----------
    posterior : Posterior
    number : int
        Draws in all; they come as 4 chains, so that ArviZ reads them like a sampler's.
    seed : int

    Returns
    -------
    xarray.DataTree
        Group `posterior`: `mu`, `tau`, `theta` (study) on the logit scale, `typical_rate`,
        `rate` (study), `new_study_rate`; dims chain, draw.

    Raises
    ------
    DfspError
        `number` is not a multiple of 4 above 0.
    """
    import xarray as xr  # costs as long to import as all of the rest

    if not isinstance(number, int) or number < CHAINS or number % CHAINS:
        raise DfspError(f"number = {number!r}; give a multiple of {CHAINS}")
    rng = generator(seed, "exact draws")
    mu, tau = posterior.draw(number, rng)
    effects = posterior.model.effects
    pairs = zip(posterior.events.tolist(), posterior.total.tolist(), strict=True)
    studies = [effects.draw_given(*pair, mu, tau, rng) for pair in pairs]
    theta = np.stack(studies, axis=-1) if studies else np.empty((number, 0))
    values = {"theta": theta, "rate": sigmoid(theta)}
    values["new_study_rate"] = sigmoid(effects.new.draw(mu, tau, rng))
    values |= effects.population(mu, tau)
    dims = ("chain", "draw", "study")
    shaped = {name: v.reshape(CHAINS, -1, *v.shape[1:]) for name, v in values.items()}
    group = xr.Dataset(
        {name: (dims[: v.ndim], v) for name, v in shaped.items()},
        coords={
            "chain": np.arange(CHAINS),
            "draw": np.arange(number // CHAINS),
            "study": np.arange(len(posterior.events)),
        },
    )
    return xr.DataTree.from_dict({"posterior": group})


def patient_weighted_rate(
    fit: Fit, *, number: int = 20_000, seed: int = SEED
) -> "pd.Series[float]":
    """Summarise sum(n_i p_i) / sum(n_i): what adding patients up estimates.

    Parameters
    ----------
    fit : Fit
        With the exact engine.
    number : int
        Independent draws behind the standard deviation and the quantiles; the mean is exact.
    seed : int

    Returns
    -------
    pandas.Series
        Indexed by `STATISTICS`, on the rate scale.
    """
    share = fit.exact.total / fit.exact.total.sum()
    rate = draws(fit.exact, number, seed=seed)["posterior"]["rate"].to_numpy().reshape(number, -1)
    weighted = rate @ share
    values = [share @ fit.exact.studies[:, 0], weighted.std(), *np.quantile(weighted, QUANTILES)]
    return pd.Series(values, index=list(STATISTICS), name="patient_weighted_rate")
