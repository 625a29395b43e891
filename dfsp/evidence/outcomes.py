"""Outcomes: which categories count as an event, and what that makes of each cohort."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import pandas as pd

from dfsp.errors import DfspError, unknown
from dfsp.evidence.cells import is_missing
from dfsp.evidence.load import OUTCOMES, Evidence
from dfsp.evidence.once import once
from dfsp.evidence.tables import SHARES, Counts, same_trial, shared, split_names

NotEvaluable = Literal["no event", "excluded", "event"]
"""What a patient who could not be evaluated counts as."""

Ambiguous = Literal["drop", "low", "high"]
"""What is done with a cohort that has a count whose patients may differ in the outcome."""

_NAMED = ("label", "cohort", "source", "population")
"""Columns that say whose count it is."""


@once
def count(
    evidence: Evidence,
    outcome: str,
    *,
    not_evaluable: NotEvaluable = "no event",
    ambiguous: Ambiguous = "drop",
    drop: str | Iterable[str] = (),
    cluster: str = "",
) -> Counts:
    """Count events and totals of each cohort of an evidence set.

    The total is the sum of the recorded categories, never the number enrolled.

    Parameters
    ----------
    evidence : Evidence
    outcome : str
        One of `OUTCOMES`.
    not_evaluable : {"no event", "excluded", "event"}
        What the category NE counts as.
    ambiguous : {"drop", "low", "high"}
        A coarse count such as `SD+NE 9` straddles the outcome if its parts count differently.
        `"drop"` leaves the cohort out; `"low"` and `"high"` give all patients of the cell to the
        part that makes the rate of the cohort lowest or highest: no allocation, mixed ones
        included, gives a rate beyond these two. An ambiguous count of 0 harms nothing.
    drop : str or iterable of str
        Cohorts, by name or label, that are left out; a text separates them by `|`.
    cluster : str
        A column of the cohorts, such as `"trial"` or `"reference"`, that says which rows belong
        together; by default their column `cluster`, if they have one. A cohort without an entry is
        by itself.

    Returns
    -------
    Counts
        One row a cohort, in the order of the evidence set, with its covariates; `dropped` says
        which cohorts are not there and why.

    Raises
    ------
    DfspError
        An option is not known, the set has no counts of this outcome, or no cohort is left.

    See Also
    --------
    dfsp.read_table : Counts of a table of one's own.
    dfsp.fit : What a model says about counts.

    Examples
    --------
    >>> import dfsp
    >>> counts = dfsp.count(dfsp.load_evidence("review"), "progression", not_evaluable="excluded")
    >>> counts.groups, counts.label, len(counts.dropped)
    ('10 studies', 'progression', 0)
    >>> counts.table[["study", "events", "total"]].head(2)
          study events total
    Ugurel 2014      2    14
      Wang 2015      1    22
    """
    _check("outcome", outcome, OUTCOMES)
    _check("not_evaluable", not_evaluable, get_args(NotEvaluable))
    _check("ambiguous", ambiguous, get_args(Ambiguous))
    measure, events, label = OUTCOMES[outcome]
    rows = evidence.rows[evidence.rows["measure"] == measure]
    if rows.empty:
        found = ", ".join(evidence.rows["measure"].unique())
        raise DfspError(
            f"evidence set {evidence.name!r} cannot count {label}: it has no cohort for the "
            f"measure {measure}; its measures: {found}"
        )
    _check("cluster", cluster, ["", *evidence.cohorts.columns])
    left_out = _left_out(rows, drop)
    kinds = dict(zip(evidence.cohorts["cohort"], evidence.cohorts["kind"], strict=True))
    counted, dropped = [], []
    for cohort, (named, cells) in _by_cohort(rows).items():
        if cohort in left_out:
            reason = "left out on request"
        elif kinds[cohort] == "aggregate":
            reason = "a total over unknown cohorts cannot enter a hierarchical fit"
        else:
            result = _events_and_total(cells, events, not_evaluable, ambiguous)
            if not isinstance(result, str):
                counted.append([*named, *result])
                continue
            reason = result
        dropped.append([named[0], reason])
    if not counted:
        reasons = [f"{study}: {reason}" for study, reason in dropped]
        what = f"no cohort is left to count {label} (not evaluable: {not_evaluable})"
        raise DfspError.of(f"evidence set {evidence.name!r}", what, reasons)
    table = pd.DataFrame(counted, columns=["study", *_NAMED[1:], "events", "total"])
    return Counts(
        table=_table(table, evidence, cluster),
        dropped=pd.DataFrame(dropped, columns=["study", "reason"], dtype="str"),
        outcome=outcome,
        label=label,
        not_evaluable=not_evaluable,
        evidence_set=evidence.name,
        files=dict(evidence.files),
        notes=evidence.notes,
    )


def _check(name: str, value: str, known: Iterable[str]) -> None:
    if value not in (choices := list(known)):
        raise DfspError(f"{name} {value!r} is not known; use one of {', '.join(choices)}")


def _by_cohort(rows: pd.DataFrame) -> dict[str, tuple[list[str], dict[str, int]]]:
    """Return what names each cohort (`_NAMED`), and its counts by category."""
    found: dict[str, tuple[list[str], dict[str, int]]] = {}
    columns = (rows[name] for name in (*_NAMED, "category", "count"))
    for label, cohort, *more, category, number in zip(*columns, strict=True):
        _, cells = found.setdefault(cohort, ([label, cohort, *more], {}))
        cells[category] = number
    return found


def _left_out(rows: pd.DataFrame, drop: str | Iterable[str]) -> set[str]:
    by_name = dict(zip(rows["label"], rows["cohort"], strict=True))
    by_name |= {cohort: cohort for cohort in rows["cohort"]}
    names = split_names(drop, by_name)
    if strange := [name for name in names if name not in by_name]:
        raise DfspError(f"drop: {unknown(strange, by_name)}")
    return {by_name[name] for name in names}


def _events_and_total(
    cells: dict[str, int], events: tuple[str, ...], not_evaluable: str, ambiguous: str
) -> tuple[int, int] | str:
    """Return events and total, or why they cannot be had."""

    def status(part: str) -> str:
        if part == "NE":
            return not_evaluable
        return "event" if part in events else "no event"

    counted: Counter[str] = Counter()
    for category, patients in cells.items():
        possible = {part: status(part) for part in category.split("+")}
        if patients and len(set(possible.values())) > 1:
            if ambiguous == "drop":
                parts = ", ".join(f"{part} as {means}" for part, means in possible.items())
                return f"{category} {patients} cannot be divided: {parts}"
            # In order of the rate that a patient with this status leads to.
            order = ("no event", "excluded", "event")
            pick = min if ambiguous == "low" else max
            counted[pick(possible.values(), key=order.index)] += patients
        else:
            counted[status(category.split("+")[0])] += patients
    recorded = {part for category in cells for part in category.split("+")}
    if not recorded & set(events):
        return f"no count of {', '.join(events)} is recorded"
    if recorded <= set(events):
        return f"only {', '.join(cells)} is recorded, so the total is not known"
    total = counted["event"] + counted["no event"]
    return (counted["event"], total) if total else "no patient is left to count"


def _table(counted: pd.DataFrame, evidence: Evidence, cluster: str) -> pd.DataFrame:
    first = ["study", "events", "total", "cohort", "dose_mg", "setting", "design", "year"]
    cohorts = evidence.cohorts.rename(columns={"start_dose_mg": "dose_mg"})
    no_covariates = cohorts.columns.intersection(["label", "cluster"])
    table = counted.merge(cohorts.drop(columns=no_covariates), on="cohort", how="left")
    studies = dict(zip(table["cohort"], table["study"], strict=True))
    pairs = [
        (studies[row.cohort], studies[row.other_cohort])
        for row in evidence.overlaps.itertuples()
        if row.judgement != "possible" and {row.cohort, row.other_cohort} <= set(studies)
    ]
    pairs += same_trial(table["study"].to_list(), table["trial"])
    table = table[[*first, *table.columns.difference(first, sort=False)]]
    # Whole numbers read beside a missing one are fractions to pandas; the missing may be gone.
    numbers = table.select_dtypes("float").dropna(axis="columns")
    whole = [column for column in numbers if (numbers[column] % 1 == 0).all()]
    table = table.astype(dict.fromkeys(whole, int))
    if "cluster" in cohorts:
        cluster = cluster or "cluster"
    if cluster:
        named = evidence.cohorts.set_index("cohort")[cluster].astype("str")
        groups = table["cohort"].map(named)
        own = groups.isna() | groups.map(str).map(is_missing)
        table.insert(3, "cluster", groups.mask(own, table["study"]))
    return table.assign(**{SHARES: shared(table["study"].to_list(), pairs)})
