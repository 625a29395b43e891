"""What a total over unknown cohorts can say, when which studies were counted is not known.

Three readings stand side by side. They are scenarios, and no bounds of each other.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betainc, betaincinv, betaln, gammaln, ndtr

from dfsp.calibration import logit_mean_rate
from dfsp.constants import CI_PROB
from dfsp.errors import DfspError
from dfsp.evidence import Evidence
from dfsp.exact import Distribution, cumulate, mix, solve
from dfsp.grids import legendre_rule
from dfsp.integrals import log_likelihood, sigmoid
from dfsp.models import Model
from dfsp.outcomes import count
from dfsp.predictions import events_in_new_study, probability_of_events
from dfsp.priors import Fixed
from dfsp.summaries import observed

Array = npt.NDArray[np.float64]

ROWS, COLUMNS, REACH = 24, 61, 5.0  # tau, mu, and how far mu goes to either side (logit)
TAIL = (1 - CI_PROB) / 2


@dataclass(frozen=True)
class Total:
    """Events among patients of unknown cohorts, and the cohorts they may be of.

    Attributes
    ----------
    events, total : int
    sizes : array of int, shape (cohort,)
        Patients of each cohort that may be among them.
    """

    events: int
    total: int
    sizes: npt.NDArray[np.int64]

    @property
    def subsets(self) -> int:
        """Number of sets of cohorts whose sizes add up to `total`."""
        ways = np.zeros(self.total + 1, dtype=object)
        ways[0] = 1
        for size in self.sizes:
            if size <= self.total:
                shifted = np.zeros_like(ways)
                shifted[size:] = ways[: self.total + 1 - size]
                ways = ways + shifted
        return int(ways[self.total])


def total_of(evidence: Evidence, measure: str) -> Total:
    """Return the total of a measure and the cohorts of the set's responses, which it may be of.

    Raises
    ------
    DfspError
        The set has no total of this measure, or no responses.
    """
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    rows = evidence.rows[evidence.rows["measure"] == measure]
    rows = rows[rows["cohort"].map(kinds) == "aggregate"]
    if rows.empty:
        raise DfspError(f"evidence set {evidence.name!r} has no total of {measure}")
    responses = evidence.rows[evidence.rows["measure"] == "response"]
    sizes = responses.groupby("cohort", sort=False)["count"].sum().to_numpy(np.int64)
    events = int(rows.loc[rows["category"] == "event", "count"].sum())
    return Total(events, int(rows["count"].sum()), sizes)


def log_likelihood_of_total(total: Total, mu: Array, tau: Array) -> Array:
    """Return the log likelihood of the total, each possible set of cohorts equally likely.

    Parameters
    ----------
    total : Total
    mu, tau : array, shape (node,)
        Logit scale.

    Returns
    -------
    array, shape (node,)
    """
    subsets = total.subsets
    if not subsets:
        sizes = ", ".join(map(str, total.sizes))
        raise DfspError(f"no set of cohorts of {sizes} patients adds up to {total.total}")
    # state[n][r]: summed over sets of n patients, the probability of r events among them
    state: dict[int, Array] = {0: np.pad(np.ones((1, len(mu))), [(0, total.events), (0, 0)])}
    for size in total.sizes:
        r = np.arange(size + 1.0)
        own = np.exp(log_likelihood(r, np.full(size + 1, float(size)), mu, tau))
        added: dict[int, Array] = {}
        for n, known in state.items():
            if n + size > total.total:
                continue
            sums = np.zeros_like(known)
            for events in range(min(int(size), total.events) + 1):
                sums[events:] += known[: total.events + 1 - events] * own[events]
            added[n + int(size)] = sums
        for n, sums in added.items():
            state[n] = state[n] + sums if n in state else sums
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(state[total.total][total.events]) - np.log(subsets))


def scenarios(total: Total, model: Model | None = None, *, patients: int = 20) -> pd.DataFrame:
    """Put the readings of a total side by side.

    Parameters
    ----------
    total : Total
    model : Model, optional
        Priors of the hierarchical readings.
    patients : int
        Newly treated.

    Returns
    -------
    pandas.DataFrame
        Indexed by `scenario` and `rate`: mean, q2.5, q50, q97.5 (rate scale), `above_20` =
        P(rate > 0.2), and for a new study `expected`, `low`, `high` events among the patients.

        `complete pooling`: one rate for all patients, uniform prior. `one exchangeable study`:
        the total as a single study, tau from its prior. `sum over sets of cohorts`: which cohorts
        were counted is unknown, and every set whose sizes add up to the total is equally likely.
    """
    model = model or Model()
    rows = []
    a, b = total.events + 1.0, total.total - total.events + 1.0
    quantiles = betaincinv(a, b, np.array([TAIL, 0.5, 1 - TAIL]))
    r = np.arange(patients + 1)
    beta_binomial = np.exp(
        gammaln(patients + 1) - gammaln(r + 1) - gammaln(patients - r + 1)
        + betaln(a + r, b + patients - r) - betaln(a, b)
    )  # fmt: skip
    above = 1 - float(betainc(a, b, 0.2))
    rows.append(
        ["complete pooling", "rate", a / (a + b), *quantiles, above, *_counts(beta_binomial)]
    )
    single = solve([total.events], [total.total], model)
    of_sets = _over_sets(total, model)
    for name, mean, new, predicted in (
        ("one exchangeable study", single.mean_rate, single.new_study_rate,
         events_in_new_study(single, patients)),
        ("sum over sets of cohorts", *of_sets, probability_of_events(of_sets[1], patients)),
    ):  # fmt: skip
        nothing = [np.nan] * 3
        for rate, distribution, counts in (
            ("mean rate", mean, nothing),
            ("new-study rate", new, _counts(predicted)),
        ):
            numbers = [distribution.mean, *distribution.quantile([TAIL, 0.5, 1 - TAIL])]
            rows.append([name, rate, *numbers, distribution.above(0.2), *counts])
    columns = ["mean", "q2.5", "q50", "q97.5", "above_20", "expected", "low", "high"]
    frame = pd.DataFrame(rows, columns=["scenario", "rate", *columns])
    return frame.set_index(["scenario", "rate"])


def _counts(probability: Array) -> list[float]:
    cdf = np.cumsum(probability)
    events = np.arange(len(probability))
    ends = [float(np.searchsorted(cdf, q)) for q in (TAIL, 1 - TAIL)]
    return [float(probability @ events), *ends]


def _over_sets(total: Total, model: Model) -> tuple[Distribution, Distribution]:
    """Return the distributions of the mean and the new-study rate, on a grid of (mu, tau)."""
    share = (total.events + 0.5) / (total.total + 1)
    line = np.log(share / (1 - share)) + np.linspace(-REACH, REACH, COLUMNS)
    if isinstance(model.tau, Fixed):
        tau, log_rows = np.array([model.tau.scale]), np.zeros(1)
    else:
        nodes, weights, _ = legendre_rule(ROWS)
        # tau is even in u near 0 and logarithmic beyond 0.3, where its posterior thins out
        half = float(np.arcsinh(min(model.tau.upper, float(model.tau.ppf(1 - 1e-6))) / 0.3)) / 2
        u = half * (nodes + 1)
        tau = 0.3 * np.sinh(u)
        log_rows = model.tau.logpdf(tau) + np.log(0.3 * np.cosh(u) * half * weights)
    mu, taus = (a.ravel() for a in np.broadcast_arrays(line, tau[:, None]))
    log_p = log_likelihood_of_total(total, mu, taus) + model.mu.logpdf(mu)
    log_p = log_p.reshape(len(tau), COLUMNS) + log_rows[:, None]
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    rows = weight.sum(1)
    within = cumulate(weight / rows[:, None], np.ones(1))
    logits = logit_mean_rate(mu, taus).reshape(weight.shape)
    rate = sigmoid(logits)
    mean = float((weight * rate).sum())
    sd = float(np.sqrt((weight * rate**2).sum() - mean**2))
    of_mean = Distribution(*mix(logits, within / within[:, -1:], rows), mean, sd, True)
    # Below the spacing of mu a smooth density of a new effect needs a wider kernel.
    width = np.maximum(taus, 0.9 * (line[1] - line[0]))
    x = weight.sum(0) @ line + np.sinh(np.linspace(-5, 5, 201)) / np.sinh(5) * 40
    cdf = ndtr((x[:, None] - mu) / width) @ weight.ravel()
    density = np.diff(cdf)
    middle = sigmoid((x[1:] + x[:-1]) / 2)
    spread = float(np.sqrt(max(density @ middle**2 - (density @ middle) ** 2, 0)))
    return of_mean, Distribution(x, np.maximum.accumulate(cdf), mean, spread, True)


def describe_totals(total: Total, table: pd.DataFrame, label: str, *, patients: int = 20) -> str:
    """Say what is and what is not known of a total."""
    sets = table.loc["sum over sets of cohorts"].T
    mean, new = sets["mean rate"], sets["new-study rate"]
    return (
        f"{label.capitalize()}: {total.events} of {total.total} patients of unknown cohorts "
        f"({total.subsets} sets of the review's cohorts have {total.total} patients). If each set "
        f"is as likely, the mean rate over studies is {100 * mean['mean']:.1f} % "
        f"({100 * mean['q2.5']:.1f} to {100 * mean['q97.5']:.1f} %), above 20 % with probability "
        f"{mean['above_20']:.2f}; among {patients} new patients {new['low']:.0f} to "
        f"{new['high']:.0f} are expected to have one."
    )


def surgery(evidence: Evidence) -> pd.DataFrame:
    """Return the cohorts that report surgery after imatinib, planned and salvage apart.

    Returns
    -------
    pandas.DataFrame
        Indexed by `kind` (planned: neoadjuvant cohorts; salvage: advanced disease) and `study`;
        `population`, `events`, `total`, `rate`, `low`, `high` (Clopper-Pearson).
    """
    counts = count(evidence, "surgery")
    alone = observed(counts).set_index("study")
    table = counts.table.set_index("study")
    kinds = {"neoadjuvant": "planned", "advanced": "salvage"}
    alone.insert(0, "kind", table["setting"].map(kinds).fillna("not known"))
    alone.insert(1, "population", table["population"])
    return (
        alone.reset_index().set_index(["kind", "study"]).sort_index(level=0, sort_remaining=False)
    )


def both_known(evidence: Evidence, first: str, second: str) -> list[str]:
    """Return the labels of cohorts whose counts of both measures are known."""
    rows = evidence.rows
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    rows = rows[rows["cohort"].map(kinds) != "aggregate"]
    sets = [set(rows.loc[rows["measure"] == measure, "label"]) for measure in (first, second)]
    return sorted(sets[0] & sets[1])
