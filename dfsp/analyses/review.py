"""The review's sentences, each beside its Bayesian counterpart on the review's own set and ours."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from dfsp.analyses.categories import (
    Categories,
    category_rates,
    cells_of_cohorts,
    fit_categories,
    weighted_categories,
)
from dfsp.analyses.published import compare_published
from dfsp.analyses.totals import surgery
from dfsp.constants import CI_PROB
from dfsp.errors import DfspError
from dfsp.evidence.load import DATA, Evidence, load_evidence
from dfsp.evidence.outcomes import OUTCOMES, count
from dfsp.evidence.tables import Counts, read_cells, without
from dfsp.fitting import Fit, fit
from dfsp.predictions import events_in_new_study, patient_weighted_rate

NO_COUNTS = "no per-cohort data"
COLUMNS = ("patient_weighted", "typical", "mean", "new_study")
SMALL = 1.0  # points


def _at_dose(dose: int) -> Callable[[Evidence], Counts]:
    def counts(evidence: Evidence) -> Counts:
        table = count(evidence, "objective_response")
        others = table.table.loc[table.table["dose_mg"] != dose, "study"]
        return without(table, others)

    return counts


def _of(outcome: str) -> Callable[[Evidence], Counts]:
    return lambda evidence: count(evidence, outcome)


CLAIMS: dict[str, Callable[[Evidence], Counts]] = {
    "complete response (%)": _of("complete_response"),
    "partial response (%)": _of("partial_response"),
    "stable disease (%)": _of("stable_disease"),
    "progressive disease (%)": _of("progression"),
    "clinical benefit (%)": _of("clinical_benefit"),
    "response at 400 mg (%)": _at_dose(400),
    "response at 800 mg (%)": _at_dose(800),
    "surgery after imatinib (%)": _of("surgery"),  # listed, never averaged: see `_surgery_note`
    "any adverse event (%)": _of("any_adverse_event"),
    "severe adverse event (%)": _of("severe_adverse_event"),
}
"""By the review's quantity, the counts of an evidence set that it is about."""

CATEGORY = {
    "complete response (%)": "CR",
    "partial response (%)": "PR",
    "stable disease (%)": "SD",
    "progressive disease (%)": "PD",
}
"""Claims about one category, which come from the nested questions: they inform each other."""

AT_DOSE = {"response at 400 mg (%)": 400, "response at 800 mg (%)": 800}

SETS = ("review", "reconciled")
OURS = dict.fromkeys(AT_DOSE, "reconciled_by_dose")
"""Where `reconciled` cannot answer: it pools the two trials of Rutkowski 2010, one at each dose."""
SURGERY = "surgery after imatinib (%)"


class _Change(NamedTuple):
    """One difference between two evidence sets: the first set with this change alone, and why."""

    evidence: Evidence
    says: Callable[[tuple[str, ...]], str]


def compare_claims(published: Evidence | None = None) -> pd.DataFrame:
    """Put each published sentence beside its counterparts.

    The four categories come from the nested questions, which use what each cohort says; the other
    claims from a binary model of the cohorts that can be divided.

    Parameters
    ----------
    published : Evidence, optional
        Holds what the review prints; by default the project's.

    Returns
    -------
    pandas.DataFrame
        Indexed by `claim` and `evidence_set`: `printed` (%), `cohorts`, `events`, `total` of the
        cohorts that split the outcome, and for patient-weighted, typical, mean and new-study rate
        the median (of the patient-weighted and the mean rate the mean) with `_low` and `_high`,
        all in %. `typical` of a category is its rate at typical effects (see `category_rates`).
        Rows without per-cohort counts, with a single cohort, or of surgery (planned and salvage
        are different outcomes) have no rates, and `note` says so. `range` names the cohorts with
        the lowest and the highest rate, and `reason`, on our rows, what moves the mean most. Our
        set of the doses is `reconciled_by_dose`.
    """
    published = published or load_evidence(SETS[0])
    printed = compare_published(published).set_index("quantity")["printed"]
    sets = {name: load_evidence(name) for name in {*SETS, *OURS.values()} - {published.name}}
    sets[published.name] = published
    nested = {name: _of_categories(fit_categories(sets[name])) for name in SETS}
    changes = {name: _changes(sets[SETS[0]], sets[name]) for name in {SETS[1], *OURS.values()}}
    changed: list[Any] = [
        category_rates(fit_categories(each.evidence)).loc["mean rate", "mean"]
        for each in changes[SETS[1]]
    ]
    rows: list[list[Any]] = []
    before = 0.0
    for claim, counts_of in CLAIMS.items():
        for name in (SETS[0], OURS.get(claim, SETS[1])):
            evidence = sets[name]
            key = (claim, name)
            nothing = [*[None] * 12]
            try:
                counts = counts_of(evidence)
            except DfspError:
                rows.append([*key, printed[claim], 0, None, None, *nothing, NO_COUNTS, "", ""])
                continue
            if claim == SURGERY:
                note = _surgery_note(evidence)
                rows.append([*key, printed[claim], None, None, None, *nothing, note, "", ""])
                continue
            table = counts.table
            sums = [len(table), int(table["events"].sum()), int(table["total"].sum())]
            if len(table) < 2:
                (one,) = table.itertuples()
                note = f"a single cohort, {one.study}: {one.events} of {one.total}"
                rows.append([*key, printed[claim], *sums, *nothing, note, "", ""])
                continue
            if claim in CATEGORY:
                numbers = nested[name][CATEGORY[claim]]
                note = _not_split(counts, "informs the other questions")
            else:
                numbers = _of_fit(fit(counts))
                note = _not_split(counts, "is left out")
                note = _other_doses(evidence) if claim in AT_DOSE else note
            reason = ""
            if name != SETS[0]:
                means = (
                    [100 * rates[CATEGORY[claim]] for rates in changed]
                    if claim in CATEGORY
                    else [_mean_rate(counts_of, each.evidence) for each in changes[name]]
                )
                shifts = [mean - before for mean in means]
                reason = _largest(claim, changes[name], shifts)
            before = numbers[6]
            rows.append([*key, printed[claim], *sums, *numbers, note, _range(table), reason])
    ends = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
    names = ["claim", "evidence_set", "printed", "cohorts", "events", "total", *ends]
    frame = pd.DataFrame(rows, columns=[*names, "note", "range", "reason"])
    return frame.set_index(["claim", "evidence_set"])


def _of_fit(result: Fit) -> list[float]:
    summary: Any = result.summary.T
    return _in_percent(
        patient_weighted_rate(result, number=4000),
        *(summary[row] for row in ("typical_rate", "mean_rate", "new_study_rate")),
    )


def _of_categories(result: Categories) -> dict[str, list[float]]:
    rates: Any = category_rates(result).T
    weighted: Any = weighted_categories(result).T
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


def _mean_rate(counts_of: Callable[[Evidence], Counts], evidence: Evidence) -> float:
    return 100 * float(fit(counts_of(evidence)).summary.T["mean_rate"]["mean"])


def _not_split(counts: Counts, what: str) -> str:
    """Name the cohorts whose counts the outcome cannot divide, and why."""
    return "; ".join(
        f"{row.study} {what}: {str(row.reason).split(':')[0]}"
        for row in counts.dropped.itertuples()
    )


def _other_doses(evidence: Evidence) -> str:
    """Name the cohorts that neither of the review's dose groups holds."""
    table = count(evidence, "objective_response").table
    rest = table[~table["dose_mg"].isin(list(AT_DOSE.values()))]
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
        else:
            shared = partners.get(label, {})
            replaced = [each for each in cells if shared.get(each) == "same patients"]
        if not replaced:
            continue
        covered |= set(replaced)
        rest = rows[~rows["label"].isin(replaced)]
        new = pd.concat([rest, others[others["label"] == label]], ignore_index=True)
        says = _own_report(label, [cells[each] for each in replaced], its[label])
        found.append(_Change(replace(own, rows=new), says))
    for label in cells.keys() - its.keys() - covered:
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


def _left_out(
    label: str, cells: dict[str, int], twice: list[str]
) -> Callable[[tuple[str, ...]], str]:
    def says(events: tuple[str, ...]) -> str:
        k, n = _events(cells, events)
        if not twice:
            return f"{label} ({k} of {n}) is not in the set"
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


def _largest(claim: str, changes: list[_Change], shifts: list[float]) -> str:
    """Say which single change of the counts moves the mean most, and how far."""
    most = max(range(len(shifts)), key=lambda i: abs(shifts[i]), default=None)
    if most is None or abs(shifts[most]) < SMALL / 2:
        return ""
    outcomes = {"CR": "complete_response", "PR": "partial_response", "SD": "stable_disease",
                "PD": "progression"}  # fmt: skip
    outcome = "clinical_benefit" if claim.startswith("clinical") else "objective_response"
    outcome = outcomes[CATEGORY[claim]] if claim in CATEGORY else outcome
    return f"{changes[most].says(OUTCOMES[outcome].events)} ({shifts[most]:+.1f} points alone)"


def _surgery_note(evidence: Evidence) -> str:
    cohorts = [
        f"{row.kind} {row.study} {row.events} of {row.total}"
        + ("" if row.population == "all" else f" ({row.population})")
        for row in surgery(evidence).reset_index().itertuples()
    ]
    return f"planned and salvage are not averaged: {', '.join(cohorts)}"


def describe_claims(table: pd.DataFrame) -> str:
    """Return one paragraph a claim: what was printed, what the model says, and why it changes.

    Parameters
    ----------
    table : pandas.DataFrame
        From `compare_claims`.
    """
    said = []
    for claim in table.index.unique("claim"):
        rows = table.loc[claim].T
        first, second = rows.columns
        own, ours = rows[first], rows[second]
        typical = "at typical effects" if claim in CATEGORY else "typical"
        name = str(claim).removesuffix(" (%)")
        lines = [f"{name}: printed {own['printed']:g} %"]
        for label, row in ((first, own), (second, ours)):
            if pd.isna(row["mean"]):
                lines.append(f"  {label}: {row['note']}")
                continue
            parts = [
                f"{typical if column == 'typical' else column.replace('_', '-')} {row[column]:.1f} "
                f"({row[f'{column}_low']:.1f} to {row[f'{column}_high']:.1f})"
                for column in COLUMNS
            ]
            counts = f"{int(row['events'])} of {int(row['total'])} in {int(row['cohorts'])} cohorts"
            note = f" ({row['note']})" if row["note"] else ""
            lines.append(f"  {label}: {counts}{note}; {'; '.join(parts)}")
        lines.append(f"  {_verdict(own, ours)}")
        said.append("\n".join(lines))
    return "\n".join(said)


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


def later_series(evidence: Evidence | None = None) -> pd.DataFrame:
    """Predict a series that came after the evidence, with its unknown split as extremes.

    Parameters
    ----------
    evidence : Evidence, optional
        By default the reconciled set; not-evaluable patients are excluded, as the series does.

    Returns
    -------
    pandas.DataFrame
        `study`, `reading`, `events`, `total`, `rate`, `low`, `high` (central interval of events
        that a new study of that size is predicted to have), `mid_p`.
    """
    evidence = evidence or load_evidence("reconciled")
    posterior = fit(count(evidence, "objective_response", not_evaluable="excluded")).exact
    rows = []
    cells, _ = read_cells((DATA / "later_series.csv").read_bytes())
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
            probability = events_in_new_study(posterior, total)
            cdf = probability.cumsum()
            tail = (1 - CI_PROB) / 2
            mid_p = float(probability[events + 1 :].sum() + probability[events] / 2)
            ends = [int((cdf < q).sum()) for q in (tail, 1 - tail)]
            rows.append([series["study"], reading, events, total, events / total, *ends, mid_p])
    columns = ["study", "reading", "events", "total", "rate", "low", "high", "mid_p"]
    return pd.DataFrame(rows, columns=columns)


def describe_later_series(table: pd.DataFrame) -> str:
    """Say whether the later series is where the evidence before it expects it."""
    inside = ((table["low"] <= table["events"]) & (table["events"] <= table["high"])).all()
    low, high = 100 * table["rate"].min(), 100 * table["rate"].max()
    verdict = "inside" if inside else "for some reading OUTSIDE"
    return (
        f"{table['study'].iloc[0]}: {low:.0f} to {high:.0f} % responded, by how its two drugs are "
        f"read; that is {verdict} what the earlier evidence predicts for a new study of its size. "
        f"A new study has more responders with probability {table['mid_p'].min():.2f} to "
        f"{table['mid_p'].max():.2f} (mid-p: half of the probability of as many is counted)."
    )
