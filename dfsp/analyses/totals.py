"""What a total over unknown cohorts can say, when which studies were counted is not known.

Three readings stand side by side. They are scenarios, and no bounds of each other.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betainc, betaincinv, betaln, gammaln, ndtr

from dfsp.analyses.categories import SCALES
from dfsp.constants import CI_PROB, STATISTICS
from dfsp.engine.distributions import Distribution, cumulate, mix, product
from dfsp.engine.grid import legendre_rule
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError, listed
from dfsp.evidence.load import DATA, Evidence
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import check_table, read_cells
from dfsp.model.likelihood import log_likelihood, sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Fixed
from dfsp.predictions import events_in_new_study, probability_of_events
from dfsp.summaries import chance, observed

Array = npt.NDArray[np.float64]

LOOK_ROWS, LOOK_COLUMNS = 25, 81  # of tau and mu, to see where the posterior is
ROWS, COLUMNS = 40, 101  # of tau and mu, there
DEPTH_OF_MU, DEPTH_OF_TAU = 25.0, 20.0  # log density below its maximum at which the grid ends
ASTRAY = 1e-6  # share of the posterior at an edge of the grid that says it reaches beyond
TAIL = (1 - CI_PROB) / 2
ANY, SEVERE = "any_adverse_event", "severe_adverse_event"


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
    events = total.events
    if 2 * events > total.total:
        # The rarer outcome has fewer numbers to keep apart.
        events, mu = total.total - events, -mu
    # What the cohorts after each can add up to, to leave out sets that cannot be completed
    later = [{0}]
    for size in total.sizes[::-1].tolist():
        later.append(later[-1] | {n + size for n in later[-1]})
    # state[n][r]: summed over sets of n patients, the probability of r events among them
    state: dict[int, Array] = {0: np.pad(np.ones((1, len(mu))), [(0, events), (0, 0)])}
    for size, rest in zip(total.sizes.tolist(), later[-2::-1], strict=True):
        r = np.arange(min(size, events) + 1.0)
        own = np.exp(log_likelihood(r, np.full(len(r), float(size)), mu, tau))
        found: dict[int, Array] = {}
        for n, known in state.items():
            if total.total - n in rest:
                found[n] = found[n] + known if n in found else known
            if total.total - n - size in rest:
                sums = np.zeros_like(known)
                for each, probability in enumerate(own):
                    sums[each:] += known[: events + 1 - each] * probability
                found[n + size] = found[n + size] + sums if n + size in found else sums
        state = found
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(state[total.total][events]) - np.log(subsets))


def scenarios(total: Total, model: Model | None = None, *, patients: int = 20) -> pd.DataFrame:
    """Put the readings of a total side by side.

    Parameters
    ----------
    total : Total
    model : Model, optional
        Priors of the hierarchical readings; normal effects.
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
    model.require_normal("a sum over sets of cohorts has")
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
            rows.append([name, rate, *numbers, distribution.prob_above(0.2), *counts])
    columns = ["mean", "q2.5", "q50", "q97.5", "above_20", "expected", "low", "high"]
    frame = pd.DataFrame(rows, columns=["scenario", "rate", *columns])
    return frame.set_index(["scenario", "rate"])


def _counts(probability: Array) -> list[float]:
    cdf = np.cumsum(probability)
    events = np.arange(len(probability))
    ends = [float(np.searchsorted(cdf, q)) for q in (TAIL, 1 - TAIL)]
    return [float(probability @ events), *ends]


@dataclass(frozen=True)
class _Grid:
    """The posterior of (mu, tau) given a total: for each tau, equidistant mu; weights sum to 1."""

    mu: Array
    tau: Array
    weight: Array


def _grid(total: Total, model: Model) -> _Grid:
    """Place a grid where a first look finds the posterior, for each tau where it is.

    Raises
    ------
    DfspError
        The posterior reaches beyond the grid.
    """
    share = (total.events + 0.5) / (total.total + 1)
    centre = float(np.log(share / (1 - share)))
    # Dense about the observed rate, and as far as the prior of mu allows
    reach = 9 * model.mu.sd + abs(centre - model.mu.mean)
    line = centre + reach * np.sinh(np.linspace(-6, 6, LOOK_COLUMNS)) / np.sinh(6)

    def log_density(mu: Array, tau: Array) -> Array:
        flat, spread = (a.ravel() for a in np.broadcast_arrays(mu, tau[:, None]))
        found = log_likelihood_of_total(total, flat, spread) + model.mu.logpdf(flat)
        return np.asarray(found.reshape(len(tau), -1))

    fixed = isinstance(model.tau, Fixed)
    if isinstance(model.tau, Fixed):
        u, scale = np.array([np.arcsinh(1.0)]), float(model.tau.scale)
    else:
        # tau is even in u near 0 and logarithmic beyond 0.3, where its posterior thins out
        scale = 0.3
        upper = min(model.tau.upper, float(model.tau.ppf(1 - 1e-12)))
        u = np.arcsinh(upper / scale) * np.linspace(1e-3, 1, LOOK_ROWS)
    look = log_density(line, scale * np.sinh(u))
    inside = look > look.max(1, keepdims=True) - DEPTH_OF_MU
    first, last = inside.argmax(1), LOOK_COLUMNS - 1 - inside[:, ::-1].argmax(1)
    low, high = line[np.maximum(first - 1, 0)], line[np.minimum(last + 1, LOOK_COLUMNS - 1)]
    log_rows = np.zeros(1)
    open_end = False
    if not fixed:
        mass = np.log(np.exp(look - look.max(1, keepdims=True)) @ np.gradient(line)) + look.max(1)
        mass += model.tau.logpdf(scale * np.sinh(u)) + np.log(np.cosh(u))
        near = np.flatnonzero(mass > mass.max() - DEPTH_OF_TAU)
        start = 0.0 if near[0] == 0 else u[near[0] - 1]
        end = u[min(near[-1] + 1, LOOK_ROWS - 1)]
        open_end = end < u[-1]
        nodes, weights, _ = legendre_rule(ROWS)
        rows = start + (end - start) / 2 * (nodes + 1)
        # Between two rows of the look, the range of both
        left = np.clip(np.searchsorted(u, rows) - 1, 0, LOOK_ROWS - 2)
        low, high = np.minimum(low[left], low[left + 1]), np.maximum(high[left], high[left + 1])
        log_rows = model.tau.logpdf(scale * np.sinh(rows)) + np.log(np.cosh(rows) * weights)
        u = rows
    mu = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, COLUMNS)
    tau = scale * np.sinh(u)
    log_p = log_density(mu, tau) + (log_rows + np.log(high - low))[:, None]
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    edge = float(weight[:, [0, -1]].sum() + (weight[-1].sum() if open_end else 0))
    if not edge <= ASTRAY:
        raise DfspError(
            f"{total.events} of {total.total}: a share of {edge:.0e} of the posterior lies at the "
            f"edge of the grid, above {ASTRAY:g}; give mu or tau a prior with a smaller scale"
        )
    return _Grid(mu, tau, weight)


def _over_sets(total: Total, model: Model) -> tuple[Distribution, Distribution]:
    """Return the distributions of the mean and the new-study rate."""
    grid = _grid(total, model)
    mu, taus = (a.ravel() for a in np.broadcast_arrays(grid.mu, grid.tau[:, None]))
    weight, rows = grid.weight, grid.weight.sum(1)
    within = cumulate(weight / np.maximum(rows, 1e-300)[:, None], np.ones(1))
    logits = model.effects.logit_mean_rate(mu, taus).reshape(weight.shape)
    rate = sigmoid(logits)
    mean = float((weight * rate).sum())
    sd = float(np.sqrt((weight * rate**2).sum() - mean**2))
    ends = np.maximum(within[:, -1:], 1e-300)
    of_mean = Distribution(*mix(logits, within / ends, rows), mean, sd, True)
    # Below the spacing of mu a smooth density of a new effect needs a wider kernel.
    spacing = grid.mu[:, 1] - grid.mu[:, 0]
    width = np.maximum(grid.tau, 0.9 * spacing).repeat(COLUMNS)
    x = weight.ravel() @ mu + np.sinh(np.linspace(-5, 5, 201)) / np.sinh(5) * 40
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
        f"{chance(mean['above_20'])}; among {patients} new patients {new['low']:.0f} to "
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


def both_known(evidence: Evidence) -> pd.DataFrame:
    """Return the cohorts that report both any and severe adverse events of the same patients.

    Returns
    -------
    pandas.DataFrame
        `study`, `any`, `severe`, `total`.

    Raises
    ------
    DfspError
        A cohort has more patients with a severe event than with any, or more in one count.
    """
    rows = evidence.rows[evidence.rows["measure"].isin([ANY, SEVERE])]
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    rows = rows[rows["cohort"].map(kinds) != "aggregate"]
    found, faults = [], []
    for (study, _), own in rows.groupby(["label", "population"], sort=False):
        if set(own["measure"]) != {ANY, SEVERE}:
            continue
        known = own[own["category"] != "NE"]
        total = known.groupby("measure")["count"].sum()
        events = known[known["category"] == "event"].groupby("measure")["count"].sum()
        events = events.reindex([ANY, SEVERE], fill_value=0)
        if events[SEVERE] > events[ANY] or total[SEVERE] != total[ANY]:
            faults.append(
                f"{study}: {events[SEVERE]} of {total[SEVERE]} severe, {events[ANY]} of "
                f"{total[ANY]} any; severe events are among the others, of the same patients"
            )
        found.append([study, int(events[ANY]), int(events[SEVERE]), int(total[ANY])])
    if faults:
        raise listed(f"evidence set {evidence.name!r}", "adverse events cannot be nested", faults)
    return pd.DataFrame(found, columns=["study", "any", "severe", "total"])


def severe_in_any(known: pd.DataFrame, model: Model | None = None) -> pd.DataFrame:
    """Answer two nested questions: any adverse event, and severe given any.

    Each is a hierarchical model of its own, with independent study effects, and a severe event is
    their product, so that it is never more frequent than any.

    Parameters
    ----------
    known : pandas.DataFrame
        From `both_known`, a cohort a row.
    model : Model, optional
        Of each question.

    Returns
    -------
    pandas.DataFrame
        Indexed by `rate` (at typical effects, mean rate, new-study rate) and `event` (any, severe
        given any, severe): `STATISTICS`, rate scale.
    """
    model = model or Model()
    some = known[known["any"] > 0]
    of_any = solve(known["any"], known["total"], model)
    given = solve(some["severe"], some["any"], model)
    rows, index = [], []
    for quantity, label in SCALES.items():
        first, second = getattr(of_any, quantity), getattr(given, quantity)
        for event, rate in (
            ("any", first),
            ("severe given any", second),
            ("severe", product(first, second)),
        ):
            rows.append(rate.summary())
            index.append((label, event))
    names = pd.MultiIndex.from_tuples(index, names=["rate", "event"])
    return pd.DataFrame(rows, index=names, columns=list(STATISTICS))


def describe_nested(evidence: Evidence, model: Model | None = None) -> str:
    """Say how frequent severe events are among those with any, or why that cannot be said."""
    known = both_known(evidence)
    if known.empty:
        measured = evidence.rows[evidence.rows["category"] == "event"]
        kinds = evidence.cohorts.set_index("cohort")["kind"]
        measured = measured[measured["cohort"].map(kinds) != "aggregate"]
        alone = [
            f"{', '.join(measured.loc[measured['measure'] == measure, 'label']) or 'nobody'} "
            f"reports {name} events"
            for measure, name in ((ANY, "any"), (SEVERE, "severe"))
        ]
        return (
            f"No cohort of evidence set '{evidence.name}' reports both any and severe adverse "
            "events, so severe events cannot be modelled among those with any "
            f"({'; '.join(alone)})."
        )
    mean = severe_in_any(known, model).loc["mean rate"]
    given, severe = mean.loc["severe given any"], mean.loc["severe"]
    return (
        f"{len(known)} cohorts report both ({', '.join(known['study'])}): of patients with any "
        f"adverse event {100 * given['mean']:.1f} % ({100 * given['q2.5']:.1f} to "
        f"{100 * given['q97.5']:.1f} %) have a severe one, of all {100 * severe['mean']:.1f} % "
        f"({100 * severe['q2.5']:.1f} to {100 * severe['q97.5']:.1f} %), as means over studies."
    )


def later_safety() -> pd.DataFrame:
    """Return adverse events and surgery of series that came after the evidence, not pooled.

    Returns
    -------
    pandas.DataFrame
        Indexed by `study` and `outcome`: `events`, `total`, `rate`, `low`, `high`
        (Clopper-Pearson).
    """
    cells, _ = read_cells((DATA / "later_series.csv").read_bytes())
    rows = []
    for series in cells.to_dict("records"):
        seen = {name: int(series[name]) for name in (ANY, SEVERE, "surgery", "treated")}
        rows += [
            (series["study"], "any adverse event", seen[ANY], seen["treated"]),
            (series["study"], "severe adverse event", seen[SEVERE], seen["treated"]),
            (series["study"], "severe given any", seen[SEVERE], seen[ANY]),
            (series["study"], "planned surgery", seen["surgery"], seen["treated"]),
        ]
    table = pd.DataFrame(rows, columns=["series", "study", "events", "total"])
    alone = observed(check_table(table[["study", "events", "total"]]))
    alone = alone.rename(columns={"study": "outcome"})
    alone.insert(0, "study", table["series"])
    return alone.set_index(["study", "outcome"])
