"""Cohorts that may share patients, and every way to count them that `overlaps.csv` allows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from dfsp.evidence.load import (
    DROP_COHORT,
    DROP_OTHER,
    KEEP_BOTH,
    KEEP_BOTH_IN_REVIEW,
    NEVER_BOTH,
    SWAP,
    Evidence,
    handlings,
)

BOTH_KEPT, WITHOUT_BOTH = "both kept", "without both"
_Way = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Option:
    """One way to handle all the overlaps of an evidence set.

    Attributes
    ----------
    handled : dict of str to str
        By pair of cohorts, which of the two are kept, in words.
    kept : dict of str to list of str
        The same as labels of cohorts.
    evidence : Evidence
        After it.
    """

    handled: dict[str, str]
    kept: dict[str, list[str]]
    evidence: Evidence


def overlap_options(
    evidence: Evidence, measure: str, pool: Mapping[str, pd.DataFrame]
) -> tuple[list[Option], dict[str, str]]:
    """Return every way to handle the overlaps of a set that their `handling` allows.

    Parameters
    ----------
    evidence : Evidence
    measure : str
        What is counted; a cohort without counts of it is no member of the set.
    pool : mapping of str to pandas.DataFrame
        By cohort, rows of the measure that can be swapped in.

    Returns
    -------
    options : list of Option
        No two of them keep the same cohorts.
    missing : dict of str to str
        What `handling` allows but no counts are there for, and why.
    """
    members = list(evidence.rows.loc[evidence.rows["measure"] == measure, "cohort"].unique())
    labels = evidence.cohorts.set_index("cohort")["label"]
    pairs: dict[tuple[str, str], list[_Way]] = {}
    never: list[set[str]] = []
    missing: dict[str, str] = {}
    for cohort, other, handling in _pairs(evidence):
        if NEVER_BOTH in handling:
            never.append({cohort, other})
        elif cohort in members and other in members:
            pairs[cohort, other] = _ways(cohort, other, handling, evidence.name)
        elif other in members and SWAP in handling:
            if cohort in pool:
                pairs[cohort, other] = [("", ""), (other, cohort)]
            else:
                words = f"{pair_name(labels, cohort, other)}: without {labels[other]}"
                missing[words] = f"no evidence set counts {measure} of {labels[cohort]}"
    found: dict[frozenset[str], Option] = {}
    for combination in product(*pairs.values()):
        gone, added = ({way[i] for way in combination} - {""} for i in (0, 1))
        kept = frozenset(set(members) - gone | added)
        if gone & added or kept in found or any(pair <= kept for pair in never):
            continue
        rows = evidence.rows[~evidence.rows["cohort"].isin(gone)]
        rows = pd.concat([rows, *(pool[cohort] for cohort in sorted(added))], ignore_index=True)
        of_pairs = {
            pair_name(labels, *pair): [labels[cohort] for cohort in pair if cohort in kept]
            for pair in pairs
        }
        handled = {
            name: _said(labels, kept, *pair) for name, pair in zip(of_pairs, pairs, strict=True)
        }
        found[kept] = Option(handled, of_pairs, replace(evidence, rows=rows))
    return list(found.values()), missing


def pair_name(labels: "pd.Series[str]", cohort: str, other: str) -> str:
    """Return what a pair of cohorts is called."""
    return f"{labels[cohort]} / {labels[other]}"


def _pairs(evidence: Evidence) -> list[tuple[str, str, list[str]]]:
    table = evidence.all_overlaps
    handling = map(handlings, table["handling"])
    return list(zip(table["cohort"], table["other_cohort"], handling, strict=True))


def _ways(cohort: str, other: str, handling: list[str], evidence_set: str) -> list[_Way]:
    """Return what leaves a set that has both cohorts, and what comes in: the ways to handle it.

    A set that has both although nothing is allowed in it is taken as it stands.
    """
    ways = []
    reproduces = KEEP_BOTH_IN_REVIEW in handling and evidence_set == "review"
    if KEEP_BOTH in handling or reproduces:
        ways.append(("", ""))
    if DROP_COHORT in handling:
        ways.append((cohort, ""))
    if SWAP in handling or DROP_OTHER in handling:
        ways.append((other, ""))
    return ways or [("", "")]


def _said(labels: "pd.Series[str]", kept: frozenset[str], cohort: str, other: str) -> str:
    gone = [labels[each] for each in (cohort, other) if each not in kept]
    if len(gone) == 2:
        return WITHOUT_BOTH
    return f"without {gone[0]}" if gone else BOTH_KEPT
