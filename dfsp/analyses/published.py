"""The review's printed numbers beside what the counts of its evidence set give."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.outcomes import count

Fraction = tuple[int, int]


def truncated(numerator: float, denominator: float) -> float:
    """Return a percentage cut, not rounded, to one decimal, as the review prints them."""
    return float(np.floor(1000 * numerator / denominator + 1e-9) / 10)


def _of_outcome(outcome: str) -> Callable[[Evidence], Fraction]:
    def fraction(evidence: Evidence) -> Fraction:
        table = count(evidence, outcome).table
        return int(table["events"].sum()), int(table["total"].sum())

    return fraction


def _category(category: str) -> Callable[[Evidence], Fraction]:
    def fraction(evidence: Evidence) -> Fraction:
        rows = evidence.rows[evidence.rows["measure"] == "response"]
        return int(rows.loc[rows["category"] == category, "count"].sum()), int(rows["count"].sum())

    return fraction


def _at_dose(dose: int) -> Callable[[Evidence], Fraction]:
    def fraction(evidence: Evidence) -> Fraction:
        table = count(evidence, "objective_response").table
        table = table[table["dose_mg"] == dose]
        return int(table["events"].sum()), int(table["total"].sum())

    return fraction


def _total_of(measure: str) -> Callable[[Evidence], Fraction]:
    def fraction(evidence: Evidence) -> Fraction:
        rows = evidence.rows[evidence.rows["measure"] == measure]
        return int(rows.loc[rows["category"] == "event", "count"].sum()), int(rows["count"].sum())

    return fraction


def _fusion(evidence: Evidence) -> Fraction:
    cohorts = evidence.cohorts[evidence.cohorts["cohort"].isin(evidence.rows["cohort"])]
    return int(cohorts["fusion_positive"].sum()), int(cohorts["fusion_tested"].sum())


_PERCENTAGES: dict[str, Callable[[Evidence], Fraction]] = {
    "complete response (%)": _of_outcome("complete_response"),
    "partial response (%)": _category("PR"),
    "stable disease (%)": _of_outcome("stable_disease"),
    "progressive disease (%)": _of_outcome("progression"),
    "clinical benefit (%)": _of_outcome("clinical_benefit"),
    "response at 400 mg (%)": _at_dose(400),
    "response at 800 mg (%)": _at_dose(800),
    "any adverse event (%)": _total_of("any_adverse_event"),
    "severe adverse event (%)": _total_of("severe_adverse_event"),
    "fusion present (%)": _fusion,
}


def _studies(evidence: Evidence) -> int:
    cohorts = evidence.cohorts[evidence.cohorts["cohort"].isin(evidence.rows["cohort"])]
    return int(cohorts.loc[cohorts["kind"] == "cohort", "reference"].nunique())


_NUMBERS: dict[str, Callable[[Evidence], int]] = {
    "studies included": _studies,
    "patients": lambda evidence: _category("NE")(evidence)[1],
    "not evaluable": lambda evidence: _category("NE")(evidence)[0],
}


def compare_published(evidence: Evidence) -> pd.DataFrame:
    """Put every printed number beside what an evidence set's counts give.

    Parameters
    ----------
    evidence : Evidence
        The set to recompute from; the review's own is `review`.

    Returns
    -------
    pandas.DataFrame
        `quantity`, `printed`, `counts` (the fraction behind the recomputed number, or `-`),
        `recomputed` (percentages truncated as the review truncates; NaN without counts),
        `reproduced` (`yes`, `no`, or `no counts`), `note`.

    Raises
    ------
    DfspError
        The set has no response counts.
    """
    if not (evidence.rows["measure"] == "response").any():
        raise DfspError(f"evidence set {evidence.name!r} has no response counts to compare")
    rows = []
    for row in evidence.published.to_dict("records"):
        quantity = str(row["quantity"])
        printed = float(str(row["printed"]))
        fraction, value = "-", float("nan")
        if quantity in _PERCENTAGES:
            numerator, denominator = _PERCENTAGES[quantity](evidence)
            if denominator:
                fraction = f"{numerator}/{denominator}"
                value = truncated(numerator, denominator)
        elif quantity in _NUMBERS:
            value = float(_NUMBERS[quantity](evidence))
            fraction = f"{value:.0f}"
        verdict = "no counts" if fraction == "-" else "yes" if value == printed else "no"
        rows.append((quantity, printed, fraction, value, verdict, row["note"]))
    columns = ["quantity", "printed", "counts", "recomputed", "reproduced", "note"]
    return pd.DataFrame(rows, columns=columns)
