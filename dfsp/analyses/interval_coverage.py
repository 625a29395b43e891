"""How often 95 % intervals hold fixed true rates, and how wide they are, for four ways to pool.

A description, not a verdict: a Bayesian interval covers nominally on average over its prior, and
need not at any fixed truth.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.special import betaincinv, logit, ndtr, ndtri

from dfsp.analyses.calibration import TOGETHER, Calibration, Table, Truth, draw_counts
from dfsp.constants import CI_PROB, SEED
from dfsp.engine.distributions import cumulate, invert
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.model.effects import NormalEffects
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.seeds import generator

Array = npt.NDArray[np.float64]
Intervals = dict[str, Array]
"""By quantity, the ends on the logit scale, shape (data set, 2); NaN if there is none."""

TAIL = (1 - CI_PROB) / 2
Z = float(ndtri(1 - TAIL))
NEW = np.linspace(-12, 12, 241)  # logit, where the distribution of a new study's rate is tabulated

SMALLEST, LARGEST = 1e-6, 100.0  # true rate, true tau
RATES = (0.1, 0.3, 0.6, 0.85)
TAUS = (0.0, 0.3, 0.6, 1.0, 1.5)


def coverage(
    counts: Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    rates: Sequence[float] = RATES,
    taus: Sequence[float] = TAUS,
    number: int = 400,
    seed: int = SEED,
) -> pd.DataFrame:
    """Simulate data sets at fixed truths and see which intervals hold them.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        Its number of studies and their sizes are the design; its events are not used.
    model : Model, optional
        Of the hierarchical analysis; normal effects.
    rates : sequence of float
        True typical rates, between 0 and 1.
    taus : sequence of float
        True standard deviations between studies, logit scale, 0 or more.
    number : int
        Data sets at each truth.
    seed : int

    Returns
    -------
    pandas.DataFrame
        `typical_rate`, `tau` (the truth), `method`, `quantity` (`typical_rate`, `mean_rate`,
        `new_study_rate`), `coverage` (share of data sets; for a new study the probability that
        its true rate is inside, averaged), `width` (mean over the data sets with an interval, rate
        scale; NaN if there is none), `without` (data sets in which the method gives no interval;
        they count as not covered).

        Methods: `hierarchical`; `complete pooling` with the Clopper-Pearson interval, used for
        all three; `normal approximation` of the logits with 0.5 added, DerSimonian & Laird
        (1986, doi:10.1016/0197-2456(86)90046-2); `maximum likelihood` of the binomial-normal
        model with an interval from the curvature of its profile. The last two have no mean rate
        of their own: their typical rate is used.

    Raises
    ------
    DfspError
        A truth or a number of data sets that is not possible, or effects other than normal.
    """
    model = model or Model()
    counts = Counts.of(counts)
    model.require_normal("coverage is computed for")
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise DfspError(f"number = {number!r}; give a whole number of 1 or more")
    possible = _within(rates, SMALLEST, 1 - SMALLEST) and _within(taus, 0, LARGEST)
    if not possible:
        raise DfspError(
            f"rates = {rates!r}, taus = {taus!r}; give one or more of each, rates in (0, 1), taus "
            f"0 or more (to {LARGEST:g})"
        )
    table = Table(counts.table["total"].to_numpy(np.intp), model)
    rng = generator(seed, "coverage")
    rows = []
    for rate in rates:
        for tau in taus:
            mu = np.full(number, float(logit(rate)))
            spread = np.full(number, float(tau))
            truth = draw_counts(mu, spread, table.total, NormalEffects(), rng)
            for method, compute in METHODS.items():
                for name, ends in compute(table, truth.events).items():
                    held, width = _held(name, ends, truth)
                    without = int(np.isnan(ends).any(-1).sum())
                    rows.append((rate, tau, method, name, held, width, without))
    columns = ["typical_rate", "tau", "method", "quantity", "coverage", "width", "without"]
    return pd.DataFrame(rows, columns=columns)


def describe_trust(
    references: pd.DataFrame,
    calibrations: Sequence[Calibration],
    control: Calibration,
    covered: pd.DataFrame,
) -> str:
    """Say whether the numbers can be trusted, and what adding patients up would have cost.

    Parameters
    ----------
    references : pandas.DataFrame
        From `compare_references`.
    calibrations : sequence of Calibration
    control : Calibration
        Of a wrong prior.
    covered : pandas.DataFrame
        From `coverage`.
    """
    good = all(check.passed for each in calibrations for check in each.checks)
    caught = any(check.passed is False for check in control.checks)
    means = covered.groupby(["method", "quantity"])["coverage"].mean()
    sets = " and ".join(f"{len(each.positions):,}" for each in calibrations)
    return (
        f"{int(references['reproduced'].sum())} of {len(references)} published values are "
        f"reproduced; in {sets} simulated data sets of this design the posteriors are "
        f"{'calibrated' if good else 'NOT calibrated'}, and a wrong prior is "
        f"{'caught' if caught else 'NOT caught'}. Averaged over the fixed truths, 95 % intervals "
        f"hold the typical rate in {means['hierarchical', 'typical_rate']:.0%} of data sets and a "
        f"new study's rate with probability {means['hierarchical', 'new_study_rate']:.0%} "
        f"(hierarchical), against {means['complete pooling', 'typical_rate']:.0%} and "
        f"{means['complete pooling', 'new_study_rate']:.0%} when patients are added up."
    )


def _within(values: Sequence[float], low: float, high: float) -> bool:
    array = np.asarray(values)
    numbers = array.ndim == 1 and array.size > 0 and array.dtype.kind in "iuf"
    return bool(numbers and ((array >= low) & (array <= high)).all())


def _held(name: str, ends: Array, truth: Truth) -> tuple[float, float]:
    mu, tau = truth.mu[0], truth.tau[0]
    low, high = ends.T
    widths = (sigmoid(high) - sigmoid(low))[~np.isnan(low)]
    width = float(widths.mean()) if len(widths) else float("nan")
    if name == "new_study_rate" and tau > 0:
        return float(np.nan_to_num(ndtr((high - mu) / tau) - ndtr((low - mu) / tau)).mean()), width
    value = truth.mean[0] if name == "mean_rate" else mu
    return float(np.mean((low <= value) & (value <= high))), width


def _hierarchical(table: Table, events: npt.NDArray[np.intp]) -> Intervals:
    below_mean = _below_mean(table)
    steps = ndtr((NEW - table.points[0][:, None]) / table.points[1][:, None])
    found: dict[str, list[Array]] = {"typical_rate": [], "mean_rate": [], "new_study_rate": []}
    for start in range(0, len(events), TOGETHER):
        weight = table.weights(events[start : start + TOGETHER])
        flat = weight.reshape(len(weight), -1)
        within = cumulate(weight, np.ones(1))
        mean = within.reshape(len(weight), -1) @ below_mean
        found["typical_rate"].append(_ends(within.sum(1), table.mu))
        found["mean_rate"].append(_ends(np.maximum.accumulate(mean, axis=-1), table.mu))
        found["new_study_rate"].append(_ends(flat @ steps, NEW))
    return {name: np.concatenate(ends) for name, ends in found.items()}


def _below_mean(table: Table) -> csr_array:
    """Return what turns masses below the nodes of mu into those below mean rates of `table.mu`.

    Shape (row x mu, mean rate): in each row the mean rate rises with mu, so that the mass below a
    mean rate is that below one mu.
    """
    nodes, basis = table.around(table.cuts(table.mu))
    mean, row, _ = np.indices(nodes.shape)
    at = (row * len(table.mu) + nodes).ravel(), mean.ravel()
    shape = (table.tau.size * table.mu.size, table.mu.size)
    return coo_array((basis.ravel(), at), shape=shape).tocsr()


def _ends(cdf: Array, x: Array) -> Array:
    return invert(x[None], cdf, np.array([TAIL, 1 - TAIL]))


def _complete_pooling(table: Table, events: npt.NDArray[np.intp]) -> Intervals:
    r, n = events.sum(-1), table.total.sum()
    low = np.where(r > 0, betaincinv(np.maximum(r, 1), n - r + 1, TAIL), 0)
    high = np.where(r < n, betaincinv(r + 1, np.maximum(n - r, 1), 1 - TAIL), 1)
    ends = logit(np.stack([low, high], axis=-1))
    return dict.fromkeys(("typical_rate", "mean_rate", "new_study_rate"), ends)


def _normal_approximation(table: Table, events: npt.NDArray[np.intp]) -> Intervals:
    r, n = events + 0.5, table.total + 1.0
    y, weight = np.log(r / (n - r)), 1 / (1 / r + 1 / (n - r))
    sums = weight.sum(-1)
    fixed = (weight * y).sum(-1) / sums
    q = (weight * (y - fixed[:, None]) ** 2).sum(-1)
    spare = sums - (weight**2).sum(-1) / sums
    excess = q - (len(table.total) - 1)
    tau2 = np.where(spare > 0, np.maximum(excess, 0) / np.where(spare > 0, spare, 1), 0)
    weight = 1 / (1 / weight + tau2[:, None])
    mu = (weight * y).sum(-1) / weight.sum(-1)
    return _wald(mu, 1 / weight.sum(-1), tau2)


def _maximum_likelihood(table: Table, events: npt.NDArray[np.intp]) -> Intervals:
    """Maximise over the table; near its maximum the profile of mu is a parabola."""
    mu, variance, tau2 = (np.empty(len(events)) for _ in range(3))
    for start in range(0, len(events), TOGETHER):
        block = slice(start, start + TOGETHER)
        height = table.log_likelihood(events[block])
        profile = height.max(1)
        best = profile.argmax(-1)
        inner = (best > 0) & (best < len(table.mu) - 1)
        at = np.clip(best, 1, len(table.mu) - 2)
        rows = np.arange(len(at))
        row = height[rows, :, at].argmax(-1)
        (left, _), (middle, best_u), (right, _) = (
            _highest(height[rows, :, at + step], table.u, row) for step in (-1, 0, 1)
        )
        slope, bend = (right - left) / 2, left - 2 * middle + right
        good = inner & (bend < 0)
        bend = np.where(good, bend, -1.0)
        mu[block] = np.where(good, table.mu[at] - slope / bend * table.spacing, np.nan)
        variance[block] = -(table.spacing**2) / bend
        tau2[block] = (table.scale * np.sinh(best_u)) ** 2
    return _wald(mu, variance, tau2)


def _highest(height: Array, u: Array, row: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the maximum over tau, shape (data set,), and its u, by a parabola about `row`."""
    if len(u) == 1:
        return height[:, 0], np.broadcast_to(u, len(height))
    rows, k = np.arange(len(height)), np.clip(row, 1, len(u) - 2)
    (x0, y0), (x1, y1), (x2, y2) = ((u[k + i], height[rows, k + i]) for i in (-1, 0, 1))
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = np.minimum((second - first) / (x2 - x0), -1e-12)
    at = np.clip((x0 + x1) / 2 - first / (2 * bend), x0, x2)
    return y0 + (at - x0) * (first + bend * (at - x1)), at


def _wald(mu: Array, variance: Array, tau2: Array) -> Intervals:
    def interval(spread: Array) -> Array:
        return np.stack([mu - Z * np.sqrt(spread), mu + Z * np.sqrt(spread)], axis=-1)

    own = interval(variance)
    return {"typical_rate": own, "mean_rate": own, "new_study_rate": interval(variance + tau2)}


METHODS: dict[str, Callable[[Table, npt.NDArray[np.intp]], Intervals]] = {
    "hierarchical": _hierarchical,
    "complete pooling": _complete_pooling,
    "normal approximation": _normal_approximation,
    "maximum likelihood": _maximum_likelihood,
}
