"""The review's sentences, each beside its Bayesian counterpart on the review's own set and ours."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from dfsp.constants import CI_PROB
from dfsp.errors import DfspError
from dfsp.evidence import DATA, Evidence, load_evidence
from dfsp.fitting import fit
from dfsp.outcomes import count
from dfsp.predictions import events_in_new_study, patient_weighted_rate
from dfsp.published import compare_published
from dfsp.tables import Counts, read_cells, without
from dfsp.totals import surgery

NO_COUNTS = "no per-cohort data"
COLUMNS = ("patient_weighted", "typical", "mean", "new_study")


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

SETS = ("review", "reconciled")
OURS = dict.fromkeys(("response at 400 mg (%)", "response at 800 mg (%)"), "reconciled_by_dose")
"""Where `reconciled` cannot answer: it pools the two trials of Rutkowski 2010, one at each dose."""
SURGERY = "surgery after imatinib (%)"


def compare_claims(published: Evidence | None = None) -> pd.DataFrame:
    """Put each published sentence beside its counterparts.

    Parameters
    ----------
    published : Evidence, optional
        Holds what the review prints; by default the project's.

    Returns
    -------
    pandas.DataFrame
        Indexed by `claim` and `evidence_set`: `printed` (%), `cohorts`, `events`, `total`, and
        for patient-weighted, typical, mean and new-study rate the median (of the patient-weighted
        and the mean rate the mean) with `_low` and `_high`, all in %. Rows without per-cohort
        counts, with a single cohort, or of surgery (planned and salvage are different outcomes)
        have no rates, and `note` says so. Our set of the doses is `reconciled_by_dose`.
    """
    published = published or load_evidence(SETS[0])
    printed = compare_published(published).set_index("quantity")["printed"]
    rows = []
    for claim, counts_of in CLAIMS.items():
        for name in (SETS[0], OURS.get(claim, SETS[1])):
            evidence = published if name == published.name else load_evidence(name)
            key = (claim, name)
            try:
                counts = counts_of(evidence)
            except DfspError:
                rows.append([*key, printed[claim], 0, None, None, *[None] * 12, NO_COUNTS])
                continue
            if claim == SURGERY:
                note = _surgery_note(evidence)
                rows.append([*key, printed[claim], None, None, None, *[None] * 12, note])
                continue
            table = counts.table
            sums = [len(table), int(table["events"].sum()), int(table["total"].sum())]
            if len(table) < 2:
                rows.append([*key, printed[claim], *sums, *[None] * 12, "a single cohort"])
                continue
            result = fit(counts)
            summary = result.summary.T
            numbers = []
            for row, centre in (
                (patient_weighted_rate(result, number=4000), "mean"),
                (summary["typical_rate"], "q50"),
                (summary["mean_rate"], "mean"),
                (summary["new_study_rate"], "q50"),
            ):
                numbers += [100 * float(row[each]) for each in (centre, "q2.5", "q97.5")]
            note = ", ".join(f"without {study}" for study in counts.dropped["study"])
            rows.append([*key, printed[claim], *sums, *numbers, note])
    ends = [f"{column}{end}" for column in COLUMNS for end in ("", "_low", "_high")]
    names = ["claim", "evidence_set", "printed", "cohorts", "events", "total", *ends, "note"]
    return pd.DataFrame(rows, columns=names).set_index(["claim", "evidence_set"])


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
        name = str(claim).removesuffix(" (%)")
        lines = [f"{name}: printed {own['printed']:g} %"]
        for label, row in ((first, own), (second, ours)):
            if pd.isna(row["mean"]):
                lines.append(f"  {label}: {row['note']}")
                continue
            parts = [
                f"{column.replace('_', '-')} {row[column]:.1f} "
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
        return "There is no rate across studies to hold it against."
    row = own if pd.notna(own["mean"]) else ours
    inside = row["mean_low"] <= own["printed"] <= row["mean_high"]
    width = row["mean_high"] - row["mean_low"]
    weighted = row["patient_weighted_high"] - row["patient_weighted_low"]
    changes = (
        "The printed number lies inside the interval of the mean rate"
        if inside
        else "The printed number lies OUTSIDE the interval of the mean rate"
    )
    why = (
        f", which is {width / weighted:.1f} times as wide as that of the patients added up, "
        "since the model allows studies to differ"
        if weighted > 0
        else ""
    )
    moved = ""
    if pd.notna(own["mean"]) and pd.notna(ours["mean"]) and abs(ours["mean"] - own["mean"]) >= 1:
        moved = (
            f"; the reconciled counts ({int(ours['total'])} patients in "
            f"{int(ours['cohorts'])} cohorts for {int(own['total'])} in {int(own['cohorts'])}) "
            f"move the mean by {ours['mean'] - own['mean']:+.1f} points"
        )
    return f"{changes}{why}{moved}."


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
        f"read; that is {verdict} what the earlier evidence predicts for a new study of its size "
        f"(mid-p {table['mid_p'].min():.2f} to {table['mid_p'].max():.2f})."
    )
