"""What a total over unknown cohorts can say, when which studies were counted is not known.

Three readings stand side by side. They are scenarios, and no bounds of each other.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betainc, betaincinv, betaln, gammaln

from dfsp.analyses.categories import SCALES
from dfsp.constants import ENDS, STATISTICS
from dfsp.engine.distributions import product
from dfsp.engine.grid import Data, Surface, place
from dfsp.engine.posterior import Population, solve
from dfsp.engine.powers import Powers, power_scaling
from dfsp.engine.predictive import probability_of_events
from dfsp.errors import DfspError
from dfsp.evidence.files import read_cells
from dfsp.evidence.load import Evidence
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import Counts, check_table
from dfsp.model.likelihood import log_likelihood
from dfsp.model.model import Model
from dfsp.prior_words import decisive_priors, table_of_several
from dfsp.project import data_folder
from dfsp.rates import Unit, stands_for, unit_named, unit_of
from dfsp.text import Result, Sentences, Table, chance, table_of
from dfsp.yardsticks import is_ordinary, patients_for

__all__ = [
    "Nested",
    "Scenarios",
    "Total",
    "later_series",
    "nested",
    "scenarios",
    "surgery",
    "total_of",
]


def __dir__() -> list[str]:
    return __all__


Array = npt.NDArray[np.float64]

OVER_SETS, BY_STUDY = "sum over sets of cohorts", "studies as they are"
ANY, SEVERE = "any_adverse_event", "severe_adverse_event"


@dataclass(frozen=True)
class Total:
    """Events among patients of unknown cohorts, and the cohorts they may be of.

    Attributes
    ----------
    label : str
        How a sentence calls the event.
    events, total : int
    sizes : array of int, shape (cohort,)
        Patients of each cohort that may be among them.

    Examples
    --------
    >>> import dfsp, numpy as np
    >>> total = dfsp.totals.Total("severe adverse event", 20, 30, np.array([10, 20, 30]))
    >>> total.subsets
    2
    """

    label: str
    events: int
    total: int
    sizes: npt.NDArray[np.int64]

    @property
    def rates_in(self) -> Unit:
        """The unit of its rate; of one event, where there was none."""
        return unit_of(max(self.events, 1) / self.total)

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

    Parameters
    ----------
    evidence : Evidence
    measure : {"any_adverse_event", "severe_adverse_event"}

    Returns
    -------
    Total

    Raises
    ------
    DfspError
        The set has no total of this measure.

    See Also
    --------
    scenarios : What such a total can say.

    Examples
    --------
    >>> import dfsp
    >>> total = total_of(dfsp.load_evidence("review"), "severe_adverse_event")
    >>> total.label, total.events, total.total
    ('severe adverse event', 20, 132)
    """
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    rows = evidence.rows[evidence.rows["measure"] == measure]
    rows = rows[rows["cohort"].map(kinds) == "aggregate"]
    if rows.empty:
        raise DfspError(f"evidence set {evidence.name!r} has no total of {measure}")
    responses = evidence.rows[evidence.rows["measure"] == "response"]
    sizes = responses.groupby("cohort", sort=False)["count"].sum().to_numpy(np.int64)
    events = int(rows.loc[rows["category"] == "event", "count"].sum())
    return Total(measure.replace("_", " "), events, int(rows["count"].sum()), sizes)


def reported(evidence: Evidence, measure: str) -> Total | Counts:
    """Return what a set says of a measure: its total over unknown cohorts, or counts by study.

    Raises
    ------
    DfspError
        The set has neither.

    Examples
    --------
    >>> import dfsp
    >>> reported(dfsp.load_evidence("reconciled"), "severe_adverse_event").table["study"].to_list()
    ['Ugurel 2014']
    """
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    own = evidence.rows[evidence.rows["measure"] == measure]
    by_study = len(own) and not (own["cohort"].map(kinds) == "aggregate").any()
    return count(evidence, measure) if by_study else total_of(evidence, measure)


def log_likelihood_of_total(total: Total, mu: Array, tau: Array, level: int = 2) -> Array:
    """Return the log likelihood of the total, each possible set of cohorts equally likely.

    Parameters
    ----------
    total : Total
    mu, tau : array, shape (node,)
        Logit scale.
    level : int
        Of the inner rule; see `dfsp.model.likelihood`.

    Returns
    -------
    array, shape (node,)

    Raises
    ------
    DfspError
        No set of cohorts adds up to the total.
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
        own = np.exp(log_likelihood(r, np.full(len(r), float(size)), mu, tau, level))
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


@dataclass(frozen=True, eq=False, repr=False)
class Scenarios(Result):
    """The readings of a total side by side.

    Attributes
    ----------
    total : Total
    patients : int
        Newly treated.
    table : Table
        Indexed by `scenario` and `rate`: mean, q2.5, q50, q97.5 (rate scale), `above_20` =
        P(rate > 0.2), and for a new study `expected`, `low`, `high` events among the patients.

        `complete pooling`: one rate for all patients, uniform prior. `one exchangeable study`:
        the total as a single study, tau from its prior. `sum over sets of cohorts`: which cohorts
        were counted is unknown, and every set whose sizes add up to the total is equally likely.
    sets : Population
        The posterior of the last of them.
    unit : Unit
        In which rates are said.
    studies : tuple of str
        Where the counts are known by study, those; there is one hierarchical reading then,
        `studies as they are`, beside complete pooling.

    Examples
    --------
    >>> import dfsp, numpy as np
    >>> total = dfsp.totals.Total("severe adverse event", 4, 30, np.array([10, 20, 30]))
    >>> dfsp.totals.scenarios(total)  # doctest: +NORMALIZE_WHITESPACE
    Severe adverse event: 4 of 30 patients of unknown cohorts (2 sets of the review's
    cohorts have 30 patients). If each set is as likely, the mean rate over studies is
    20.9 % (5.0 to 55.2 %), above 20 % with probability 0.418; among 20 new patients 0 to
    16 are expected to have one.
    """

    total: Total
    patients: int
    table: Table
    sets: Population
    unit: Unit
    studies: tuple[str, ...] = ()

    @cached_property
    def prior_sensitivity(self) -> Powers:
        """How the last reading moves when a prior, or the likelihood, is raised to a power."""
        return power_scaling(self.sets)

    def describe(self) -> Sentences:
        """Say what is and what is not known of the total."""
        total, last = self.total, self.table.loc[BY_STUDY if self.studies else OVER_SETS].T
        mean, new = last["mean rate"], last["new-study rate"]
        unit = self.unit
        of_whom = (
            f"in {len(self.studies)} studies. The"
            if self.studies
            else f"of unknown cohorts ({total.subsets} sets of the review's cohorts have "
            f"{total.total} patients). If each set is as likely, the"
        )
        above = f", above {unit.chosen(0.2)} with probability {chance(mean['above_20'])}"
        if not is_ordinary(mean["q50"]):  # where that is certain, or out of the question
            above = ""
        centre = stands_for(dict(zip(STATISTICS, self.sets.mean_rate.summary(), strict=True)))
        found = unit.estimate(*mean[[centre, "q2.5", "q97.5"]])
        return Sentences(
            f"{total.label.capitalize()}: {total.events:,} of {total.total:,} patients {of_whom} "
            f"mean rate over studies {'is' if centre == 'mean' else 'has median'} {found}"
            f"{above}; among {self.patients} new patients "
            f"{new['low']:.0f} to {new['high']:.0f} are expected to have one."
        )


def scenarios(
    of: Total | Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    patients: int | None = None,
    unit: str = "",
) -> Scenarios:
    """Put the readings of a total, or of counts by study, side by side.

    Parameters
    ----------
    of : Total, Counts or pandas.DataFrame
        From `reported`; a frame has columns study, events, total.
    model : Model, optional
        Priors of the hierarchical readings; normal effects.
    patients : int, optional
        Newly treated; by default as `Fit.new_study` has it.
    unit : str
        Name of the unit in which rates are said; empty: by the size of the rate of all patients.

    Returns
    -------
    Scenarios

    Raises
    ------
    DfspError
        Effects other than normal, or sizes of cohorts that never add up to the total.

    See Also
    --------
    total_of : The total of an evidence set.
    dfsp.plots.scenarios : The picture of it.

    Examples
    --------
    >>> import dfsp, numpy as np
    >>> total = dfsp.totals.Total("severe adverse event", 4, 30, np.array([10, 20, 30]))
    >>> table = dfsp.totals.scenarios(total).table
    >>> table.xs("new-study rate", level="rate")[["q2.5", "q50", "q97.5"]]
                               q2.5    q50  q97.5
    scenario
    one exchangeable study    0.016  0.159  0.829
    sum over sets of cohorts  0.015  0.152  0.789
    """
    model = model or Model()
    if not isinstance(of, Total):
        of = Counts.of(of)
        table = of.table
        events, sizes = (table[name].to_numpy(np.int64) for name in ("events", "total"))
        total = Total(of.label, int(events.sum()), int(sizes.sum()), sizes)
        studies = tuple(table["study"])
        readings: dict[str, Population] = {BY_STUDY: solve(events, sizes, model)}
    else:
        total, studies = of, ()
        model.require_linear("a sum over sets of cohorts has")
        single = solve([total.events], [total.total], model)
        readings = {"one exchangeable study": single, OVER_SETS: over_sets(total, model)}
    patients = patients_for(total.events / total.total) if patients is None else patients
    rows = []
    a, b = total.events + 1.0, total.total - total.events + 1.0
    quantiles = betaincinv(a, b, np.array([ENDS[0], 0.5, ENDS[1]]))
    r = np.arange(patients + 1)
    beta_binomial = np.exp(
        gammaln(patients + 1) - gammaln(r + 1) - gammaln(patients - r + 1)
        + betaln(a + r, b + patients - r) - betaln(a, b)
    )  # fmt: skip
    above = 1 - float(betainc(a, b, 0.2))
    rows.append(
        ["complete pooling", "rate", a / (a + b), *quantiles, above, *_counts(beta_binomial)]
    )
    for name, reading in readings.items():
        mean, new = reading.mean_rate, reading.new_study_rate
        predicted = probability_of_events(new, patients)
        nothing = [np.nan] * 3
        for rate, distribution, counts in (
            ("mean rate", mean, nothing),
            ("new-study rate", new, _counts(predicted)),
        ):
            numbers = [distribution.mean, *distribution.quantile([ENDS[0], 0.5, ENDS[1]])]
            rows.append([name, rate, *numbers, distribution.prob_above(0.2), *counts])
    columns = ["mean", "q2.5", "q50", "q97.5", "above_20", "expected", "low", "high"]
    frame = pd.DataFrame(rows, columns=["scenario", "rate", *columns])
    formats = {"expected": ".1f", "low": ".0f", "high": ".0f"}
    frame = frame.set_index(["scenario", "rate"])
    table = table_of(frame, digits=3, rates=True, formats=formats)
    said_in = unit_named(unit) if unit else total.rates_in
    return Scenarios(total, patients, table, reading, said_in, studies)


def prior_table(*of: Scenarios) -> Table:
    """Return how the sum over sets of each total moves when a prior is raised to a power.

    Returns
    -------
    Table
        Indexed by `total` and `quantity`; the columns of `dfsp.Fit.prior_table`.
    """
    return table_of_several({each.total.label: each.prior_sensitivity for each in of}, "total")


def prior_warning(*of: Scenarios) -> Sentences:
    """Say which prior decides the sum over sets of which total; `""` if none does."""
    powers = {each.total.label: each.prior_sensitivity for each in of}
    return decisive_priors(powers, of[0].sets.model.effects.prior_names)


def _counts(probability: Array) -> list[float]:
    cdf = np.cumsum(probability)
    events = np.arange(len(probability))
    ends = [float(np.searchsorted(cdf, q)) for q in ENDS]
    return [float(probability @ events), *ends]


class _OverSets(Surface):
    """The likelihood of a total, whichever cohorts it may be of."""

    def __init__(self, total: Total, model: Model) -> None:
        super().__init__(Data.of(np.array([total.events]), np.array([total.total])), model)
        self.total = total

    def log_likelihood(self, mu: Array, tau: Array, level: int) -> Array:
        return log_likelihood_of_total(self.total, mu, tau, level)[None]


def over_sets(total: Total, model: Model) -> Population:
    """Return the posterior of the population given a total over unknown cohorts.

    Each set of cohorts whose sizes add up to the total is equally likely.

    Raises
    ------
    DfspError
        No set does, or the effects are not ones that a total can be summed over.
    """
    model.require_linear("a sum over sets of cohorts has")
    # Far out in tau the likelihood of a total tends to a constant: moments are the prior's.
    nothing = np.empty(0)
    exist = model.effects.tau_moments(nothing, nothing, model.tau)
    return Population(model, place(_OverSets(total, model), order=sum(exist)), exist, exist)


def surgery(evidence: Evidence) -> Table:
    """Return the cohorts that report surgery after imatinib, planned and salvage apart.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Table
        Indexed by `kind` (planned: neoadjuvant cohorts; salvage: advanced disease) and `study`;
        `population`, `events`, `total`, `rate`, `low`, `high` (Clopper-Pearson, rate scale).

    Raises
    ------
    DfspError
        The set has no counts of surgery.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.totals.surgery(dfsp.load_evidence("reconciled"))[["events", "total"]]
                             events total
    kind    study
    planned Han 2009              4     4
    salvage Wang 2015             4    10
            Rutkowski 2017       13    31
            Stacchiotti 2016      5    10
    """
    counts = count(evidence, "surgery")
    alone = counts.observed().set_index("study")
    table = counts.table.set_index("study")
    kinds = {"neoadjuvant": "planned", "advanced": "salvage"}
    alone.insert(0, "kind", table["setting"].map(kinds).fillna("not known"))
    alone.insert(1, "population", table["population"])
    named = alone.reset_index().set_index(["kind", "study"])
    return table_of(named.sort_index(level=0, sort_remaining=False), digits=3, rates=True)


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
        raise DfspError.of(
            f"evidence set {evidence.name!r}", "adverse events cannot be nested", faults
        )
    return pd.DataFrame(found, columns=["study", "any", "severe", "total"])


def severe_in_any(known: pd.DataFrame, model: Model | None = None) -> Table:
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
    Table
        Indexed by `rate` (at typical effects, mean rate, new-study rate) and `event` (any, severe
        given any, severe): `STATISTICS`, rate scale.

    Examples
    --------
    >>> import pandas as pd
    >>> known = {"study": ["A", "B"], "any": [8, 12], "severe": [2, 1], "total": [10, 20]}
    >>> severe_in_any(pd.DataFrame(known)).loc["mean rate", "mean"]
    event
    any                 0.649109
    severe given any    0.215675
    severe              0.139996
    Name: mean, dtype: float64
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
    return table_of(rows, rates=True, index=names, columns=list(STATISTICS))


@dataclass(frozen=True, eq=False, repr=False)
class Nested(Result):
    """Severe adverse events among those of any kind.

    Attributes
    ----------
    evidence : Evidence
    known : pandas.DataFrame
        From `both_known`: the cohorts that report both.
    rates : Table or None
        From `severe_in_any`; None where no cohort reports both.
    unit : Unit, optional
        In which they are said; by default by their size.

    Examples
    --------
    >>> import dfsp
    >>> print(dfsp.totals.nested(dfsp.load_evidence("reconciled")).describe().partition(",")[0])
    No cohort of evidence set 'reconciled' reports both any and severe adverse events
    """

    evidence: Evidence
    known: pd.DataFrame
    rates: Table | None
    unit: Unit | None = None

    def describe(self) -> Sentences:
        """Say how frequent severe events are among those with any, or why that cannot be said."""
        if self.rates is None:
            return Sentences(self._nothing())
        mean = self.rates.loc["mean rate"]
        unit = self.unit or unit_of(float(mean["mean"].max()))
        given, severe = (
            unit.estimate(*mean.loc[event, ["mean", "q2.5", "q97.5"]])
            for event in ("severe given any", "severe")
        )
        return Sentences(
            f"{len(self.known)} cohorts report both ({', '.join(self.known['study'])}): of "
            f"patients with any adverse event {given} have a severe one, of all {severe}, as "
            "means over studies."
        )

    def _nothing(self) -> str:
        rows = self.evidence.rows
        measured = rows[rows["category"] == "event"]
        kinds = self.evidence.cohorts.set_index("cohort")["kind"]
        measured = measured[measured["cohort"].map(kinds) != "aggregate"]
        alone = [
            f"{', '.join(measured.loc[measured['measure'] == measure, 'label']) or 'nobody'} "
            f"reports {name} events"
            for measure, name in ((ANY, "any"), (SEVERE, "severe"))
        ]
        return (
            f"No cohort of evidence set '{self.evidence.name}' reports both any and severe adverse "
            "events, so severe events cannot be modelled among those with any "
            f"({'; '.join(alone)})."
        )


def nested(evidence: Evidence, model: Model | None = None, *, unit: str = "") -> Nested:
    """Model severe adverse events among those of any kind, where cohorts report both.

    Parameters
    ----------
    evidence : Evidence
    model : Model, optional
        Of each of the two questions: any event, and severe given any.
    unit : str
        Name of the unit in which rates are said; empty: by their size.

    Returns
    -------
    Nested

    Raises
    ------
    DfspError
        Counts that cannot be nested.

    Examples
    --------
    >>> import dfsp
    >>> result = dfsp.totals.nested(dfsp.load_evidence("reconciled"))
    >>> result.known.shape, result.rates is None
    ((0, 4), True)
    """
    known = both_known(evidence)
    rates = None if known.empty else severe_in_any(known, model)
    return Nested(evidence, known, rates, unit_named(unit) if unit else None)


def later_series() -> Table:
    """Return adverse events and surgery of series that came after the evidence, not pooled.

    Returns
    -------
    Table
        Indexed by `study` and `outcome`: `events`, `total`, `rate`, `low`, `high`
        (Clopper-Pearson).

    See Also
    --------
    dfsp.review.later_series : Their responses, beside what the evidence predicts.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.totals.later_series()[["events", "total", "rate"]]
                                                        events total   rate
    study                          outcome
    French neoadjuvant series 2021 any adverse event        23    27  0.852
                                   severe adverse event      4    27  0.148
                                   severe given any          4    23  0.174
                                   planned surgery          24    27  0.889
    """
    cells, *_ = read_cells((data_folder() / "later_series.csv").read_bytes())
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
    alone = check_table(table[["study", "events", "total"]]).observed()
    alone = alone.rename(columns={"study": "outcome"})
    alone.insert(0, "study", table["series"])
    return table_of(alone.set_index(["study", "outcome"]), digits=3, rates=True)
