"""What an exact posterior says of studies not yet seen, and independent draws from it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, logit, ndtr

from dfsp.constants import CHAINS, ENDS
from dfsp.engine.distributions import Distribution
from dfsp.engine.posterior import Posterior, solve
from dfsp.errors import DfspError
from dfsp.model.likelihood import log_binomial, sigmoid
from dfsp.model.model import Model
from dfsp.seeds import generator

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

RATE_POINTS = 241
RATE_SCORES = 6.0
"""Normal scores that stand for a distribution: this many, and how far they go."""
MANY = 5000
"""Patients of a study for which ten times as many scores are taken."""


def prior_of(model: Model) -> Posterior:
    """Return what a model says before any study is seen, as a posterior of no studies."""
    return solve([], [], model)


def rate_points(distribution: Distribution, points: int = RATE_POINTS) -> tuple[Array, Array]:
    """Return logit rates and probabilities that stand for a distribution of a rate."""
    # A trapezoidal sum over normal scores, in which the distribution is nearly linear
    score = np.linspace(-RATE_SCORES, RATE_SCORES, points)
    x = distribution.points(ndtr(score))
    weight = np.exp(-0.5 * score**2)
    return x, weight / weight.sum()


def probability_of_events(rate: Distribution, n: int) -> Array:
    """Return the probability of each number of events among n patients of a new study.

    Parameters
    ----------
    rate : Distribution
        Of the new study's true rate.
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
    theta, weight = rate_points(rate)
    events = np.arange(n + 1, dtype=np.float64)[:, None]
    probability = np.exp(log_binomial(events, np.full(1, float(n)), theta)) @ weight
    return np.asarray(probability / probability.sum(), dtype=np.float64)


def interval_of_events(probability: Array) -> tuple[int, int]:
    """Return the central interval (`CI_PROB`) of a number of events with these probabilities."""
    low, high = np.searchsorted(np.cumsum(probability), ENDS).tolist()
    return low, high


def mid_p(rate: Distribution, n: int, events: int) -> float:
    """Return P(more events) + P(as many) / 2 among n patients of a new study of this rate."""
    below = _at_most(*_points_for(rate, n), n, np.array([events - 1.0, events]))
    return float(1 - below.mean())


def replicated(rate: Distribution, n: int, events: int) -> tuple[int, int, float]:
    """Return the central interval (`CI_PROB`) of the events among n patients, and their mid-p.

    No number of events but those asked for is looked at: a study may have a million patients.
    """
    theta, weight = _points_for(rate, n)
    # The least numbers with at least these probabilities, by bisection
    low, high = np.full(2, -1.0), np.full(2, float(n))
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = _at_most(theta, weight, n, middle) >= ENDS
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return int(high[0]), int(high[1]), mid_p(rate, n, events)


def _points_for(rate: Distribution, n: int) -> tuple[Array, Array]:
    # A large study tells neighbouring rates apart.
    return rate_points(rate, RATE_POINTS if n <= MANY else 10 * RATE_POINTS)


def _at_most(theta: Array, weight: Array, n: int, events: Array) -> Array:
    """Return the probability of at most so many events among n patients, (number,)."""
    k = np.clip(events, 0, n - 1)[:, None]
    found = betainc(n - k, k + 1, sigmoid(-theta)) @ weight
    return np.where(events < 0, 0.0, np.where(events >= n, 1.0, found))


def prob_rates_differ(posterior: Posterior, by: float) -> float:
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
    mu, tau, weight = _main_nodes(posterior)
    return float(weight @ posterior.model.effects.new.apart(mu, tau, by))


def prob_odds_differ(posterior: Posterior, times: float) -> float:
    """Return the probability that one of two new studies has over `times` the odds of the other.

    Both studies share the unknown mu and tau.

    Raises
    ------
    DfspError
        `times` is not above 1.
    """
    if not 1 < times < np.inf:
        raise DfspError(f"times = {times!r}; give a ratio of odds above 1")
    mu, tau, weight = _main_nodes(posterior)
    return float(weight @ posterior.model.effects.new.apart_in_odds(mu, tau, times))


def _main_nodes(posterior: Posterior) -> tuple[Array, Array, Array]:
    """Return mu, tau and weights, which sum to one, of the nodes that count."""
    nodes = posterior.nodes
    main = nodes.weight > 1e-9
    weight = nodes.weight[main]
    return nodes.mu[main], nodes.tau[main], weight / weight.sum()


class Piles(NamedTuple):
    """Where a new study's rate piles up at both ends.

    Attributes
    ----------
    low, high : float
        The probability of a rate below the lowest and above the highest tenth.
    valley : float
        The middle of the tenth between them that is least likely, rate scale.
    """

    low: float
    high: float
    valley: float


def piles_at_both_ends(posterior: Posterior) -> Piles | None:
    """Return where a new study's rate piles up at 0 and at 1, or None if it does not.

    It does if tau is so large that the rate has two piles when mu and tau are known, more likely
    than not, and each has more than twice the probability of a tenth between.
    """
    mu, tau, weight = _main_nodes(posterior)
    inner = logit(np.linspace(0.1, 0.9, 9))
    cdf = posterior.model.effects.new.cdf(inner, mu[:, None], tau[:, None])
    tenths = np.diff(cdf, axis=-1, prepend=0, append=1)
    two = np.minimum(tenths[:, 0], tenths[:, -1]) > tenths[:, 1:-1].min(-1)
    mass = weight @ tenths
    least = int(mass[1:-1].argmin()) + 1
    if weight @ two < 0.5 or min(mass[0], mass[-1]) <= 2 * mass[least]:
        return None
    return Piles(float(mass[0]), float(mass[-1]), (least + 0.5) / 10)


def draw(
    posterior: Posterior, number: int, seed: int, names: Sequence[str] | None = None
) -> "xr.DataTree":
    """Return independent draws from the exact posterior.

    Parameters
    ----------
    posterior : Posterior
    number : int
        Draws in all; they come as 4 chains, so that ArviZ reads them like a sampler's.
    seed : int
    names : sequence of str, optional
        Of the studies; by default their numbers from 0.

    Returns
    -------
    xarray.DataTree
        Group `posterior`: `mu`, `tau`, `theta` (study) on the logit scale, `typical_rate`,
        `rate` (study), `new_study_rate`; group `log_likelihood`: `events` (study), of each study's
        events given `mu` and `tau`, its own effect integrated out; dims chain, draw.

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
    log_l = effects.log_likelihood(posterior.events, posterior.total, mu, tau)
    dims = ("chain", "draw", "study")
    coords = {
        "chain": np.arange(CHAINS),
        "draw": np.arange(number // CHAINS),
        "study": np.arange(len(posterior.events)) if names is None else list(names),
    }

    def group(values: Mapping[str, Array]) -> xr.Dataset:
        shaped = {name: v.reshape(CHAINS, -1, *v.shape[1:]) for name, v in values.items()}
        return xr.Dataset({name: (dims[: v.ndim], v) for name, v in shaped.items()}, coords)

    groups = {"posterior": group(values), "log_likelihood": group({"events": log_l.T})}
    return xr.DataTree.from_dict(groups)
