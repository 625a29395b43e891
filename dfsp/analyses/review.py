"""What the review prints, recomputed, and each of its sentences beside a Bayesian counterpart.

`published.csv` says which outcome a printed number is about, and at which dose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dfsp.analyses.categories import (
    Categories,
    cells_of_cohorts,
)
from dfsp.analyses.categories import fit as fit_categories
from dfsp.analyses.totals import surgery
from dfsp.engine.predictive import replicated
from dfsp.errors import DfspError
from dfsp.evidence.files import read_cells
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.once import reading_once
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import Counts, without
from dfsp.fitting import Fit, fit
from dfsp.project import data_folder
from dfsp.rates import PERCENT
from dfsp.text import Result, Sentences, Table, table_of

__all__ = [
    "Claims",
    "LaterSeries",
    "Published",
    "compare_claims",
    "compare_published",
    "later_series",
]


def __dir__() -> list[str]:
    return __all__


NO_COUNTS = "no per-cohort data"
COLUMNS = ("patient_weighted", "typical", "mean", "new_study")
SMALL = 1.0  # points


SETS = ("review", "reconciled")
BY_DOSE = "reconciled_by_dose"
"""Where `reconciled` cannot answer: it pools the two trials of Rutkowski 2010, one at each dose."""
SURGERY = "surgery"
"""Listed and never averaged: planned and salvage surgery are different outcomes."""


class Claim(NamedTuple):
    """A sentence of the review: the outcome, and the dose if it is about one group (else NaN)."""

    quantity: str
    outcome: str
    dose: float

    @property
    def at_a_dose(self) -> bool:
        return not np.isnan(self.dose)

    @property
    def ours(self) -> str:
        """The set that it is held against."""
        return BY_DOSE if self.at_a_dose else SETS[1]

    @property
    def category(self) -> str:
        """The category of response that it is about; they come from the nested questions.

        Those inform each other; `""` where it is about several, or about something else.
        """
        measure, events, _ = OUTCOMES[self.outcome]
        return events[0] if measure == "response" and len(events) == 1 else ""

    def counts(self, evidence: Evidence) -> Counts:
        """Return the counts of an evidence set that it is about."""
        counts = count(evidence, self.outcome)
        if not self.at_a_dose:
            return counts
        others = counts.table.loc[counts.table["dose_mg"] != self.dose, "study"]
        return without(counts, others)


def claims_of(evidence: Evidence) -> list[Claim]:
    """Return the sentences of the review that are about an outcome, in the order of the table."""
    table = evidence.published
    rows = zip(table["quantity"], table["outcome"], table["dose_mg"], strict=True)
    return [Claim(*row) for row in rows if row[1] in OUTCOMES]


Fraction = tuple[int, int]


def truncated(numerator: float, denominator: float) -> float:
    """Return a percentage cut, not rounded, to one decimal, as the review prints them."""
    return float(np.floor(1000 * numerator / denominator + 1e-9) / 10)


def _of_outcome(evidence: Evidence, outcome: str, dose: float) -> Fraction:
    measure, events, _ = OUTCOMES[outcome]
    rows = evidence.rows[evidence.rows["measure"] == measure]
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    if (rows["cohort"].map(kinds) == "aggregate").all():
        # No fit takes a total over unknown cohorts, but it is what the review prints.
        happened = rows["category"].isin(events)
        return int(rows.loc[happened, "count"].sum()), int(rows["count"].sum())
    try:
        table = Claim("", outcome, dose).counts(evidence).table
    except DfspError:  # no cohort is left
        return 0, 0
    return int(table["events"].sum()), int(table["total"].sum())


def _recomputed(evidence: Evidence, outcome: str, dose: float) -> tuple[str, float]:
    """Return the fraction behind a printed number, and the number; `"-"` and NaN without counts."""
    if outcome in ("patients", "not evaluable"):
        rows = evidence.rows[evidence.rows["measure"] == "response"]
        rows = rows if outcome == "patients" else rows[rows["category"] == "NE"]
        return str(rows["count"].sum()), float(rows["count"].sum())
    cohorts = evidence.cohorts[evidence.cohorts["cohort"].isin(evidence.rows["cohort"])]
    if outcome == "studies":
        reports = cohorts.loc[cohorts["kind"] == "cohort", "reference"].nunique()
        return str(reports), float(reports)
    numerator = denominator = 0
    if outcome == "fusion":
        patients = cohorts[["fusion_positive", "fusion_tested"]].sum()
        numerator, denominator = int(patients.iloc[0]), int(patients.iloc[1])
    elif outcome:
        numerator, denominator = _of_outcome(evidence, outcome, dose)
    if not denominator:
        return "-", float("nan")
    return f"{numerator}/{denominator}", truncated(numerator, denominator)


@dataclass(frozen=True, eq=False, repr=False)
class Published(Result):
    """Every printed number beside what an evidence set's counts give.

    Attributes
    ----------
    evidence : Evidence
    table : Table
        `quantity`, `printed`, `counts` (the fraction behind the recomputed number, or `-`),
        `recomputed` (percentages truncated as the review truncates; NaN without counts),
        `reproduced` (`yes`, `no`, or `no counts`), `note`.

    Examples
    --------
    >>> import dfsp
    >>> published = dfsp.review.compare_published(dfsp.load_evidence("review"))
    >>> published.table["reproduced"].value_counts().to_dict()
    {'yes': 12, 'no counts': 2, 'no': 1}
    """

    evidence: Evidence
    table: Table

    def describe(self) -> Sentences:
        """Return the headline of the evidence: what can be reproduced, and what is in conflict."""
        evidence, table = self.evidence, self.table
        verdicts = table["reproduced"].value_counts()
        overlaps, conflicts = evidence.overlaps, evidence.conflicts["cohort"].nunique()
        gone = verdicts.get("no", 0)
        pairs = f"{len(overlaps)} pair{'' if len(overlaps) == 1 else 's'} of cohorts in the set may"
        if table.empty:
            rows = evidence.rows[evidence.rows["measure"] == "response"]
            return Sentences(
                f"Evidence set '{evidence.name}': {int(rows['count'].sum())} patients of "
                f"{rows['cohort'].nunique()} cohorts with response counts; published.csv holds no "
                f"printed number to compare them with; sources differ for {conflicts} cohorts or "
                f"pooled reports, and {pairs} share patients."
            )
        return Sentences(
            f"Evidence set '{evidence.name}': of {len(table)} numbers that the review prints, "
            f"{verdicts.get('yes', 0)} follow from its counts, {gone} "
            f"{'does' if gone == 1 else 'do'} not, and "
            f"{verdicts.get('no counts', 0)} cannot be traced to counts; the review and a primary "
            f"report differ for {conflicts} cohorts or pooled reports, and {pairs} share patients."
        )

    def unexplained(self) -> Sentences:
        """Say of each number that does not follow from the counts why, where that is known."""
        rows = self.table[self.table["reproduced"] != "yes"].itertuples()
        lines = [f"{row.quantity}: printed {row.printed:g}; {row.note}" for row in rows]
        return Sentences("\n".join(lines) or "none")


def compare_published(evidence: Evidence) -> Published:
    """Put every printed number beside what an evidence set's counts give.

    Parameters
    ----------
    evidence : Evidence
        The set to recompute from; the review's own is `review`.

    Returns
    -------
    Published

    Raises
    ------
    DfspError
        The set has no response counts.

    See Also
    --------
    compare_claims : What a model says to the sentences.

    Examples
    --------
    >>> import dfsp
    >>> published = dfsp.review.compare_published(dfsp.load_evidence("review"))
    >>> published.table[["quantity", "printed", "counts", "reproduced"]].head(3)
            quantity printed counts reproduced
    studies included       9      9        yes
            patients     152    152        yes
    mean age (years)    49.3      -  no counts
    """
    if not (evidence.rows["measure"] == "response").any():
        raise DfspError(f"evidence set {evidence.name!r} has no response counts to compare")
    rows = []
    for row in evidence.published.to_dict("records"):
        printed = float(str(row["printed"]))
        fraction, value = _recomputed(evidence, str(row["outcome"]), float(row["dose_mg"]))
        verdict = "no counts" if fraction == "-" else "yes" if value == printed else "no"
        rows.append((row["quantity"], printed, fraction, value, verdict, row["note"]))
    columns = ["quantity", "printed", "counts", "recomputed", "reproduced", "note"]
    table = table_of(rows, formats={"printed": "g", "recomputed": ".1f"}, columns=columns)
    return Published(evidence, table)


class _Change(NamedTuple):
    """One difference between two evidence sets: the first set with this change alone, and why."""

    evidence: Evidence
    says: Callable[[tuple[str, ...]], str]


@dataclass(frozen=True, eq=False, repr=False)
class Claims(Result):
    """Each published sentence beside its counterparts.

    Attributes
    ----------
    table : Table
        Indexed by `claim` and `evidence_set`: `printed` (%), `cohorts`, `events`, `total` of the
        cohorts that split the outcome, and for patient-weighted, typical, mean and new-study rate
        the median (of the patient-weighted and the mean rate the mean) with `_low` and `_high`,
        all in %. `typical` of a category is its rate at typical effects (see `dfsp.categories`).
        Rows without per-cohort counts, with a single cohort, or of surgery (planned and salvage
        are different outcomes) have no rates, and `note` says so. `category` is that of a claim
        about one, else `""`. `range` names the cohorts with the lowest and the highest rate, and
        `reason`, on our rows, what moves the mean most. Our set of the doses is
        `reconciled_by_dose`.

    Examples
    --------
    Many fits stand behind them, which take some seconds:

    >>> import dfsp
    >>> claims = dfsp.review.compare_claims()  # doctest: +SKIP
    >>> claims.table.index.unique("evidence_set").to_list()  # doctest: +SKIP
    ['review', 'reconciled', 'reconciled_by_dose']
    """

    table: Table

    def describe(self) -> Sentences:
        """Return one paragraph a claim: what was printed, what the model says, why it changes."""
        said = []
        for claim in self.table.index.unique("claim"):
            rows = self.table.loc[claim].T
            first, second = rows.columns
            own, ours = rows[first], rows[second]
            said.append(f"{str(claim).removesuffix(' (%)')}: printed {own['printed']:g} %")
            typical = "at typical effects" if own["category"] else "typical"
            said += [f"  {name}: {_counterparts(rows[name], typical)}" for name in (first, second)]
            said.append(f"  {_verdict(own, ours)}")
        return Sentences("\n".join(said) or "none")


def _counterparts(row: Any, typical: str) -> str:
    """Return the counts and the rates of a row of the claims in words."""
    if pd.isna(row["mean"]):
        return str(row["note"])
    parts = []
    for column in COLUMNS:
        ends = (column, f"{column}_low", f"{column}_high")
        middle, low, high = PERCENT.numbers(*(row[name] / PERCENT.whole for name in ends))
        name = typical if column == "typical" else column.replace("_", "-")
        parts.append(f"{name} {middle} ({low} to {high})")
    counts = f"{int(row['events'])} of {int(row['total'])} in {int(row['cohorts'])} cohorts"
    note = f" ({row['note']})" if row["note"] else ""
    return f"{counts}{note}; {'; '.join(parts)}"


@reading_once()  # most counts are asked for several times
def compare_claims(published: Evidence | None = None) -> Claims:
    """Put each published sentence beside its counterparts.

    The four categories come from the nested questions, which use what each cohort says; the other
    claims from a binary model of the cohorts that can be divided.

    Parameters
    ----------
    published : Evidence, optional
        Holds what the review prints; by default the project's. The sets that it is compared with
        are those of the same folder, and where that has none of them there is no row.

    Returns
    -------
    Claims

    See Also
    --------
    compare_published : Which printed numbers follow from the counts.
    later_series : Whether a later series is where the evidence expects it.

    Examples
    --------
    Many fits stand behind them, which take some seconds:

    >>> import dfsp
    >>> claims = dfsp.review.compare_claims()  # doctest: +SKIP
    >>> print(claims.describe().splitlines()[0])  # doctest: +SKIP
    complete response: printed 5.2 %
    """
    published = published or load_evidence(SETS[0])
    printed = compare_published(published).table.set_index("quantity")["printed"]
    claims = claims_of(published)
    names = {*SETS, BY_DOSE}
    if not claims or not names <= {*published.sets}:
        return _claims([])
    sets = {name: load_evidence(name, folder=published.folder) for name in names - {published.name}}
    sets[published.name] = published
    nested = {name: _of_categories(fit_categories(sets[name])) for name in SETS}
    changes = {name: _changes(sets[SETS[0]], sets[name]) for name in (SETS[1], BY_DOSE)}
    changed: list[Any] = [
        fit_categories(each.evidence).rates().loc["mean rate", "mean"] for each in changes[SETS[1]]
    ]
    rows: list[list[Any]] = []
    for claim in claims:
        before: float | None = None  # the mean of the review's set, if it has one
        for name in (SETS[0], claim.ours):
            evidence = sets[name]
            key = claim.quantity, name, claim.category, printed[claim.quantity]
            nothing = [*[None] * 12]
            try:
                counts = claim.counts(evidence)
            except DfspError:
                rows.append([*key, 0, None, None, *nothing, NO_COUNTS, "", ""])
                continue
            if claim.outcome == SURGERY:
                note = _surgery_note(evidence)
                rows.append([*key, None, None, None, *nothing, note, "", ""])
                continue
            table = counts.table
            sums = [len(table), int(table["events"].sum()), int(table["total"].sum())]
            if len(table) < 2:
                (one,) = table.itertuples()
                note = f"a single cohort, {one.study}: {one.events} of {one.total}"
                rows.append([*key, *sums, *nothing, note, "", ""])
                continue
            if claim.category:
                numbers = nested[name][claim.category]
                note = _not_split(counts, "informs the other questions")
            else:
                numbers = _of_fit(fit(counts))
                note = _not_split(counts, "is left out")
                note = _other_doses(evidence, claims) if claim.at_a_dose else note
            reason = ""
            if before is not None and OUTCOMES[claim.outcome].measure == "response":
                means = (
                    [100 * rates[claim.category] for rates in changed]
                    if claim.category
                    else [_mean_rate(claim, each.evidence) for each in changes[name]]
                )
                shifts = [mean - before for mean in means]
                reason = _largest(claim, changes[name], shifts)
            before = numbers[6]
            rows.append([*key, *sums, *numbers, note, _range(table), reason])
    return _claims(rows)


def _claims(rows: list[list[Any]]) -> Claims:
    ends = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
    names = ["claim", "evidence_set", "category", "printed", "cohorts", "events", "total", *ends]
    frame = pd.DataFrame(rows, columns=[*names, "note", "range", "reason"])
    return Claims(table_of(frame.set_index(["claim", "evidence_set"]), digits=1))


def _of_fit(result: Fit) -> list[float]:
    summary: Any = result.summary.T
    return _in_percent(
        result.patient_weighted_rate(number=4000),
        *(summary[row] for row in ("typical_rate", "mean_rate", "new_study_rate")),
    )


def _of_categories(result: Categories) -> dict[str, list[float]]:
    rates: Any = result.rates().T
    weighted: Any = result.patient_weighted_rates().T
    scales = ("at typical effects", "mean rate", "new-study rate")
    return {
        category: _in_percent(weighted[category], *(rates[scale, category] for scale in scales))
        for category in result.categories
    }


def _in_percent(*summaries: Any) -> list[float]:
    """Return centre, low and high of each of `COLUMNS`."""
    numbers = []
    for row, centre in zip(summaries, ("mean", "q50", "mean", "q50"), strict=True):
        numbers += [100 * float(row[each]) for each in (centre, "q2.5", "q97.5")]
    return numbers


def _mean_rate(claim: Claim, evidence: Evidence) -> float:
    return 100 * float(fit(claim.counts(evidence)).summary.T["mean_rate"]["mean"])


def _not_split(counts: Counts, what: str) -> str:
    """Name the cohorts whose counts the outcome cannot divide, and why."""
    return "; ".join(
        f"{row.study} {what}: {str(row.reason).split(':')[0]}"
        for row in counts.dropped.itertuples()
    )


def _other_doses(evidence: Evidence, claims: list[Claim]) -> str:
    """Name the cohorts that none of the review's dose groups holds."""
    doses = [claim.dose for claim in claims if claim.at_a_dose]
    table = count(evidence, "objective_response").table
    rest = table[~table["dose_mg"].isin(doses)]
    if rest.empty:
        return ""
    sums = f"{rest['events'].sum()} of {rest['total'].sum()}"
    return f"{' and '.join(rest['study'])}, {sums} at other doses, are in neither group"


def _range(table: pd.DataFrame) -> str:
    """Name the cohorts with the lowest and the highest rate, the larger where several have it."""
    order = table.assign(rate=table["events"] / table["total"]).sort_values(["rate", "total"])
    low = order[order["rate"] == order["rate"].iloc[0]].iloc[-1]
    high = order.iloc[-1]
    return " to ".join(f"{row.events} of {row.total} ({row.study})" for row in (low, high))


def _changes(own: Evidence, ours: Evidence) -> list[_Change]:
    """Return each difference in the response counts of two sets on its own."""
    rows, others = (each.rows[each.rows["measure"] == "response"] for each in (own, ours))
    cells, its = cells_of_cohorts(rows), cells_of_cohorts(others)
    labels = dict(zip(own.cohorts["cohort"], own.cohorts["label"], strict=True))
    partners: dict[str, dict[str, str]] = {}
    for pair in own.all_overlaps.itertuples():
        first, second = labels[str(pair.cohort)], labels[str(pair.other_cohort)]
        partners.setdefault(first, {})[second] = str(pair.judgement)
        partners.setdefault(second, {})[first] = str(pair.judgement)
    found, covered = [], set()
    for label in its:
        if label in cells:
            replaced = [label] if cells[label] != its[label] else []
            if not replaced:
                continue
        else:
            shared = partners.get(label, {})
            replaced = [each for each in cells if shared.get(each) == "same patients"]
        covered |= set(replaced)
        rest = rows[~rows["label"].isin(replaced)]
        new = pd.concat([rest, others[others["label"] == label]], ignore_index=True)
        if replaced:
            says = _own_report(label, [cells[each] for each in replaced], its[label])
        else:
            says = _not_in(label, its[label], "the review")
        found.append(_Change(replace(own, rows=new), says))
    for label in [each for each in cells if each not in its and each not in covered]:
        twice = [each for each, judged in partners.get(label, {}).items()
                 if each in its and judged != "possible"]  # fmt: skip
        rest = rows[rows["label"] != label]
        found.append(_Change(replace(own, rows=rest), _left_out(label, cells[label], twice)))
    return found


def _own_report(
    label: str, before: list[dict[str, int]], after: dict[str, int]
) -> Callable[[tuple[str, ...]], str]:
    def says(events: tuple[str, ...]) -> str:
        if coarse := _coarse(after, events):
            return f"the report of {label} does not split {coarse}, which the review does"
        counts = [_events(cells, events) for cells in before]
        was = f"{sum(k for k, _ in counts)} of {sum(n for _, n in counts)}"
        now = _events(after, events)
        return f"the report of {label} has {now[0]} of {now[1]} and the review {was}"

    return says


def _not_in(label: str, cells: dict[str, int], where: str) -> Callable[[tuple[str, ...]], str]:
    def says(events: tuple[str, ...]) -> str:
        k, n = _events(cells, events)
        return f"{label} ({k} of {n}) is not in {where}"

    return says


def _left_out(
    label: str, cells: dict[str, int], twice: list[str]
) -> Callable[[tuple[str, ...]], str]:
    if not twice:
        return _not_in(label, cells, "the set")

    def says(events: tuple[str, ...]) -> str:
        k, n = _events(cells, events)
        return (
            f"{label} ({k} of {n}) is counted once: its patients are very likely among those of "
            f"{', '.join(twice)}"
        )

    return says


def _coarse(cells: Mapping[str, int], events: tuple[str, ...]) -> str:
    return ", ".join(
        f"{category} {patients}"
        for category, patients in cells.items()
        if patients and len({part in events for part in category.split("+")}) > 1
    )


def _events(cells: Mapping[str, int], events: tuple[str, ...]) -> tuple[int, int]:
    yes = sum(n for category, n in cells.items() if set(category.split("+")) <= set(events))
    return yes, sum(cells.values())


def _largest(claim: Claim, changes: list[_Change], shifts: list[float]) -> str:
    """Say which single change of the counts moves the mean most, and how far."""
    most = max(range(len(shifts)), key=lambda i: abs(shifts[i]), default=None)
    if most is None or abs(shifts[most]) < SMALL / 2:
        return ""
    events = OUTCOMES[claim.outcome].events
    return f"{changes[most].says(events)} ({shifts[most]:+.1f} points alone)"


def _surgery_note(evidence: Evidence) -> str:
    cohorts = [
        f"{row.kind} {row.study} {row.events} of {row.total}"
        + ("" if row.population == "all" else f" ({row.population})")
        for row in surgery(evidence).reset_index().itertuples()
    ]
    return f"planned and salvage are not averaged: {', '.join(cohorts)}"


def _verdict(own: Any, ours: Any) -> str:
    if pd.isna(own["mean"]) and pd.isna(ours["mean"]):
        single = ours["cohorts"] == 1
        why = f": {ours['note']}" if single else ""
        return f"There is no rate across studies to hold it against{why}."
    row = own if pd.notna(own["mean"]) else ours
    inside = row["mean_low"] <= own["printed"] <= row["mean_high"]
    width = row["mean_high"] - row["mean_low"]
    weighted = row["patient_weighted_high"] - row["patient_weighted_low"]
    where = "inside" if inside else "OUTSIDE"
    text = f"The printed number lies {where} the interval of the mean rate"
    if weighted > 0:
        text += (
            f", which is {width / weighted:.1f} times as wide as that of the patients added up: "
            f"single cohorts have {row['range']}"
        )
    if pd.isna(own["mean"]) or pd.isna(ours["mean"]):
        return f"{text}."
    moved = ours["mean"] - own["mean"]
    text += f". The reconciled counts move the mean by {moved:+z.1f} points"
    if not ours["reason"]:
        return f"{text}, less than one." if abs(moved) < SMALL else f"{text}."
    if abs(moved) < SMALL:
        return f"{text}, less than one; their largest single change: {ours['reason']}."
    return f"{text}, most of all since {ours['reason']}."


@dataclass(frozen=True, eq=False, repr=False)
class LaterSeries(Result):
    """A series that came after the evidence, beside what that predicts for it.

    Attributes
    ----------
    table : Table
        Indexed by `study` and `reading`: `events`, `total`, `rate`, `low`, `high` (central
        interval of events that a new study of that size is predicted to have), `mid_p`.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.review.later_series().table[["events", "total", "mid_p"]]
                                                                    events total  mid_p
    study                          reading
    French neoadjuvant series 2021 all patients, whatever the drug      10    26  0.902
                                   all on the other drug responded       7    23  0.941
                                   none on the other drug responded     10    23  0.862
    """

    table: Table

    def describe(self) -> Sentences:
        """Say whether a later series is where the evidence before it expects it."""
        series = self.table.groupby("study", sort=False)
        said = [_expected(str(study), rows) for study, rows in series]
        return Sentences("\n".join(said) or "none")


def _expected(study: str, rows: pd.DataFrame) -> str:
    inside = ((rows["low"] <= rows["events"]) & (rows["events"] <= rows["high"])).all()
    low, high = PERCENT.numbers(rows["rate"].min(), rows["rate"].max(), least=0)
    verdict = "inside" if inside else "for some reading OUTSIDE"
    return (
        f"{study}: {low} to {high} % responded, by how its two drugs are "
        f"read; that is {verdict} what the earlier evidence predicts for a new study of its size. "
        f"A new study has more responders with probability {rows['mid_p'].min():.2f} to "
        f"{rows['mid_p'].max():.2f} (mid-p: half of the probability of as many is counted)."
    )


def later_series(evidence: Evidence | None = None) -> LaterSeries:
    """Predict a series that came after the evidence, with its unknown split as extremes.

    Parameters
    ----------
    evidence : Evidence, optional
        Of the folder that may hold a later series; by default the project's. What predicts is its
        set `reconciled`, if it has one; patients not evaluable are excluded, as the series does.

    Returns
    -------
    LaterSeries

    See Also
    --------
    dfsp.Fit.new_study : What a new study of any size should expect.
    dfsp.totals.later_series : Adverse events and surgery of the same series.

    Examples
    --------
    >>> import dfsp
    >>> later = dfsp.review.later_series()
    >>> bool(later.table["events"].between(later.table["low"], later.table["high"]).all())
    True
    """
    evidence = evidence or load_evidence(SETS[1])
    path = (evidence.folder or data_folder()) / "later_series.csv"
    if not path.is_file():
        return LaterSeries(_expectations([]))
    if SETS[1] in evidence.sets:
        evidence = load_evidence(SETS[1], folder=evidence.folder)
    counts = count(evidence, "objective_response", not_evaluable="excluded")
    rate = fit(counts).exact.new_study_rate
    rows = []
    cells, *_ = read_cells(path.read_bytes())
    for series in cells.to_dict("records"):
        responders, evaluable = int(series["responders"]), int(series["evaluable"])
        other = int(series["on_other_drug"])
        least = evaluable - other
        readings = {
            "all patients, whatever the drug": (responders, evaluable),
            "all on the other drug responded": (max(responders - other, 0), least),
            "none on the other drug responded": (min(responders, least), least),
        }
        for reading, (events, total) in readings.items():
            said = [events, total, events / total, *replicated(rate, total, events)]
            rows.append([series["study"], reading, *said])
    return LaterSeries(_expectations(rows))


def _expectations(rows: list[list[Any]]) -> Table:
    columns = ["study", "reading", "events", "total", "rate", "low", "high", "mid_p"]
    frame = pd.DataFrame(rows, columns=columns).set_index(["study", "reading"])
    return table_of(frame, digits=3, rates=True)
