"""The evidence: who was counted, in which category, and according to whom.

Reads and checks the tables of a folder (by default `data/`; its README is the dictionary), selects
one evidence set, and reports what does not fit together without correcting it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dfsp.errors import DfspError
from dfsp.evidence.appraisals import CERTAINTIES, JBI_ANSWERS, JBI_ITEMS
from dfsp.evidence.cells import count_fault, number_fault, typed
from dfsp.evidence.files import read_cells
from dfsp.evidence.once import once
from dfsp.project import PROJECT_VARIABLE, data_folder
from dfsp.text import Result, Sentences, show_frames

MEASURES = {
    "response": ("CR", "PR", "SD", "PD", "NE"),
    "any_adverse_event": ("event", "no event", "NE"),
    "severe_adverse_event": ("event", "no event", "NE"),
    "surgery": ("event", "no event", "NE"),
}
"""What is measured, and its categories; a coarse category joins some of them by `+`."""


class Outcome(NamedTuple):
    """The categories of a measure that are events, and how a sentence calls them."""

    measure: str
    events: tuple[str, ...]
    label: str


OUTCOMES = {
    "objective_response": Outcome("response", ("CR", "PR"), "objective response"),
    "complete_response": Outcome("response", ("CR",), "complete response"),
    "partial_response": Outcome("response", ("PR",), "partial response"),
    "clinical_benefit": Outcome("response", ("CR", "PR", "SD"), "clinical benefit"),
    "stable_disease": Outcome("response", ("SD",), "stable disease"),
    "progression": Outcome("response", ("PD",), "progression"),
    "any_adverse_event": Outcome("any_adverse_event", ("event",), "any adverse event"),
    "severe_adverse_event": Outcome("severe_adverse_event", ("event",), "severe adverse event"),
    "surgery": Outcome("surgery", ("event",), "surgery after imatinib"),
}

PRINTED = ("studies", "patients", "not evaluable", "fusion")
"""What a review prints and the counts can give, beside outcomes."""

TABLES = ("cohorts", "counts", "evidence_sets", "overlaps", "published", "references")

NEVER_BOTH = "never both"
KEEP_BOTH = "keep both"
KEEP_BOTH_IN_REVIEW = "keep both in review"
DROP_COHORT = "drop cohort"
DROP_OTHER = "drop other_cohort"
SWAP = "swap"
HANDLINGS = (NEVER_BOTH, KEEP_BOTH, KEEP_BOTH_IN_REVIEW, DROP_COHORT, DROP_OTHER, SWAP)
"""What may be done with a pair of cohorts that may share patients."""

Rule = Callable[[str], str]
"""Says what is wrong with the text of a cell; `""` if nothing is."""

_GROUP = ["cohort", "source", "measure", "population"]
_PATIENTS = ("enrolled", "metastatic", "fibrosarcomatous", "fusion_positive", "fusion_tested")
_PART_OF = {
    "metastatic": "enrolled",
    "fibrosarcomatous": "enrolled",
    "fusion_positive": "fusion_tested",
}
_MONTHS = ("treatment_months_median", "followup_months_median")
_NUMBERS = {
    "cohorts": ["year", "start_dose_mg", *_PATIENTS, *_MONTHS],
    "counts": ["count"],
    "published": ["numerator", "denominator", "dose_mg"],
}
_KEYS = {
    "cohorts": [["cohort"], ["label"]],
    "counts": [[*_GROUP, "category"]],
    "evidence_sets": [["evidence_set", "measure", "cohort"]],
    "overlaps": [["cohort", "other_cohort"]],
    "published": [["quantity"]],
    "references": [["reference"]],
}


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Result):
    """One evidence set, and what is known about its pieces.

    Attributes
    ----------
    name : str
        Name of the evidence set.
    rows : pandas.DataFrame
        The chosen counts in the order of the set: cohort, label, source, measure, population,
        category, count, status, reference, note.
    cohorts : pandas.DataFrame
        All cohorts and their covariates; a text that is not known is `""`, a number NaN.
    overlaps : pandas.DataFrame
        Pairs of cohorts that may share patients and are both in the set, with the judgement.
    all_overlaps : pandas.DataFrame
        The same of every set.
    conflicts : pandas.DataFrame
        Where two sources disagree on the responses of a cohort (whatever the set): cohort, label,
        category, source, count, other_source, other_count, note. Coarse categories are compared
        as sums; a count is missing where a source does not record the category.
    sums : pandas.DataFrame
        Where the categories of a whole cohort do not add up to those enrolled: cohort, label,
        source, measure, recorded, enrolled.
    published, references : pandas.DataFrame
        What the review prints (`printed` is text: its decimals matter) and which outcome it is
        about, at which dose; the citations.
    files : dict of str to str
        SHA-256 of each file read.
    notes : tuple of str
        What was done to read the files that a user should know.
    sets : tuple of str
        Names of all evidence sets of the folder.
    folder : Path or None
        Where the tables are; None for the project's own `data/`.

    See Also
    --------
    dfsp.load_evidence : Reads one.

    Examples
    --------
    >>> import dfsp
    >>> evidence = dfsp.load_evidence("reconciled")
    >>> evidence.overlaps[["cohort", "other_cohort", "judgement"]].head(2)
            cohort   other_cohort judgement
    rutkowski-2017 rutkowski-2010  possible
    >>> evidence.rows[["label", "category", "count"]].head(3)
          label category count
    Ugurel 2014       CR     1
    Ugurel 2014       PR     7
    Ugurel 2014       SD     5
    """

    name: str
    rows: pd.DataFrame
    cohorts: pd.DataFrame
    overlaps: pd.DataFrame
    all_overlaps: pd.DataFrame
    conflicts: pd.DataFrame
    sums: pd.DataFrame
    published: pd.DataFrame
    references: pd.DataFrame
    files: dict[str, str]
    notes: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        show_frames(self)

    def describe(self) -> Sentences:
        """Say how many cohorts were measured, and how many overlaps and conflicts are known."""
        measures = self.rows.groupby("measure", sort=False)["cohort"].nunique()
        cohorts = ", ".join(f"{measure} {n}" for measure, n in measures.items())
        return Sentences(
            f"Evidence set '{self.name}': cohorts: {cohorts}; overlaps kept: "
            f"{len(self.overlaps)}; conflicts: {len(self.conflicts)}; sums that differ: "
            f"{len(self.sums)}."
        )


@once
def load_evidence(name: str, *, folder: str | Path | None = None) -> Evidence:
    """Read and check all tables of the evidence, and select one set.

    Parameters
    ----------
    name : str
        Name of an evidence set, for example `"reconciled"`.
    folder : str or Path, optional
        Folder with the six CSV files; the project's `data/` if not given.

    Returns
    -------
    Evidence

    Raises
    ------
    DfspError
        The folder, a file or the set is missing, or tables cannot be used: every fault of all
        files at once, by file, line and column.

    See Also
    --------
    dfsp.count : Events and totals of an outcome.
    dfsp.review.compare_published : What of the printed numbers follows from a set.

    Examples
    --------
    >>> import dfsp
    >>> evidence = dfsp.load_evidence("review")
    >>> evidence.rows["cohort"].nunique(), evidence.sets[:2]
    (11, ('review', 'reconciled'))
    """
    where = Path("data") if folder is None else Path(folder)
    place = data_folder() if folder is None else where
    if not place.is_dir():
        hint = (
            "go to the folder of a project with data/evidence_sets.csv, or name it with --project "
            f"or the variable {PROJECT_VARIABLE}; dfsp new FOLDER writes evidence to begin with"
        )
        found = f"the folder {place} does not exist"
        raise DfspError(f"{found}; {hint}" if folder is None else f"{found}; give a folder of CSVs")
    contents, missing = _read(place)
    tables, files, notes = _checked(where, tuple(contents.items()), tuple(missing))
    # Whoever asked for them before may have changed theirs.
    own = {table: frame.copy() for table, frame in tables.items()}
    evidence = _select(name, where, own, {**files}, notes)
    return evidence if folder is None else replace(evidence, folder=where)


@lru_cache(maxsize=4)
def _checked(
    where: Path, contents: tuple[tuple[str, bytes], ...], missing: tuple[str, ...]
) -> tuple[dict[str, pd.DataFrame], dict[str, str], tuple[str, ...]]:
    """Return the tables of some bytes, checked and compared, their SHA-256 and the notes on them.

    This is the slow part.

    Parameters
    ----------
    where : Path
        The folder, as messages say it.
    contents : tuple of (str, bytes)
        Each table's name and file.
    missing : tuple of str
        What is wrong with the other files.
    """
    tables, files, faults = {}, {}, list(missing)
    notes: list[str] = []
    for table, data in contents:
        files[str(where / f"{table}.csv")] = hashlib.sha256(data).hexdigest()
        try:
            tables[table], wrong, said = read_cells(data, _KEYS[table][0])
        except DfspError as error:
            faults.append(f"{table}.csv: {error}")
        else:
            faults += [f"{table}.csv: row {row}: {says}" for row, says in wrong.items()]
            notes += [f"{table}.csv: {each}" for each in said]
    if "published" in tables:
        blank = {n: "" for n in ("outcome", "dose_mg") if n not in tables["published"]}
        tables["published"] = tables["published"].assign(**blank)
    rules = _rules(tables)
    faults += _cell_faults(tables, rules)
    complete = {t: frame for t, frame in tables.items() if set(rules[t]) <= set(frame)}
    faults += _row_faults(complete) + _set_faults(complete)
    if faults:
        faulty = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise DfspError.of(str(where), f"{faulty} in the tables", faults)
    for table, columns in _NUMBERS.items():
        filled = tables[table][columns].replace("", None)
        tables[table][columns] = filled.apply(pd.to_numeric)
    further = tables["cohorts"].columns.difference(list(rules["cohorts"]))
    tables["cohorts"][further] = tables["cohorts"][further].apply(typed)
    tables = {table: frame.reset_index(drop=True) for table, frame in tables.items()}
    return tables | {"conflicts": _conflicts(tables), "sums": _sums(tables)}, files, tuple(notes)


def _select(
    name: str,
    where: Path,
    tables: dict[str, pd.DataFrame],
    files: dict[str, str],
    notes: tuple[str, ...],
) -> Evidence:
    sets, overlaps = tables["evidence_sets"], tables["overlaps"]
    # One by one: pandas would compare a list with the whole column.
    chosen = [each == name for each in sets["evidence_set"]]
    members = sets.loc[chosen, ["measure", "cohort", "source"]]
    if members.empty:
        known = ", ".join(sets["evidence_set"].unique())
        raise DfspError(f"{where}: there is no evidence set {name!r}; known: {known}")
    labels = tables["cohorts"][["cohort", "label"]]
    rows = members.merge(tables["counts"], how="left").merge(labels, how="left")
    columns = ["category", "count", "status", "reference", "note"]
    groups = [set(group) for _, group in members.groupby("measure")["cohort"]]
    pairs = zip(overlaps["cohort"], overlaps["other_cohort"], strict=True)
    kept = [any(group.issuperset(pair) for group in groups) for pair in pairs]
    return Evidence(
        name=name,
        rows=rows[["cohort", "label", *_GROUP[1:], *columns]],
        cohorts=tables["cohorts"],
        overlaps=overlaps.loc[kept].reset_index(drop=True),
        all_overlaps=overlaps,
        conflicts=tables["conflicts"],
        sums=tables["sums"],
        published=tables["published"],
        references=tables["references"],
        files=files,
        notes=notes,
        sets=tuple(map(str, sets["evidence_set"].unique())),
    )


def _read(place: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the files by table, and what is wrong with those that cannot be read."""
    contents, faults = {}, []
    for table in TABLES:
        try:
            contents[table] = (place / f"{table}.csv").read_bytes()
        except OSError as error:
            faults.append(f"{table}.csv: cannot be read ({error.strerror})")
    return contents, faults


def _rules(tables: dict[str, pd.DataFrame]) -> dict[str, dict[str, Rule]]:
    """Say for each column of each table what its cells may hold."""

    def known(table: str, column: str) -> Rule:
        frame = tables.get(table)
        if frame is None or column not in frame:
            return _anything
        return _one_of(*frame[column].unique())

    cohort, reference = known("cohorts", "cohort"), known("references", "reference")
    yes_no = _one_of("yes", "no")
    optional = {item: _or_blank(_one_of(*JBI_ANSWERS)) for item in JBI_ITEMS}
    optional["certainty"] = _or_blank(_one_of(*CERTAINTIES))
    given = tables.get("cohorts", pd.DataFrame()).columns
    return {
        "cohorts": {
            "cohort": _named,
            "kind": _one_of("cohort", "pooled report", "aggregate"),
            "label": _label,
            "year": _or_blank(count_fault),
            "design": _anything,
            "setting": _anything,
            "start_dose_mg": _or_blank(number_fault),
            "dose_escalation": _or_blank(yes_no),
            **dict.fromkeys(_PATIENTS, _or_blank(count_fault)),
            **dict.fromkeys(_MONTHS, _or_blank(number_fault)),
            "trial": _anything,
            "reference": reference,
            **{name: rule for name, rule in optional.items() if name in given},
        },
        "counts": {
            "cohort": cohort,
            "source": _named,
            "measure": _one_of(*MEASURES),
            "population": _named,
            "category": _named,
            "count": count_fault,
            "status": _one_of("printed", "derived", "secondary"),
            "reference": reference,
            "note": _anything,
        },
        "evidence_sets": {
            "evidence_set": _named,
            "measure": _one_of(*MEASURES),
            "cohort": cohort,
            "source": _named,
            "reason": _anything,
        },
        "overlaps": {
            "cohort": cohort,
            "other_cohort": cohort,
            "judgement": _one_of("same patients", "very likely nested", "possible"),
            "handling": _handling,
            "evidence": _anything,
        },
        "published": {
            "quantity": _named,
            "printed": number_fault,
            "numerator": _or_blank(count_fault),
            "denominator": _or_blank(count_fault),
            "arithmetic": yes_no,
            "traceable": yes_no,
            "outcome": _or_blank(_one_of(*OUTCOMES, *PRINTED)),
            "dose_mg": _or_blank(number_fault),
            "reference": reference,
            "note": _anything,
        },
        "references": {
            "reference": _named,
            "citation": _named,
            "doi": _anything,
            "pmid": _anything,
        },
    }


def handlings(cell: str) -> list[str]:
    """Return what a cell of the column `handling` allows, one value an entry."""
    return [value.strip() for value in cell.split(";") if value.strip()]


def _handling(cell: str) -> str:
    values = handlings(cell)
    unknown = [value for value in values if value not in HANDLINGS]
    if unknown or not values:
        found = f"{', '.join(map(repr, unknown))} is not known" if unknown else "the cell is empty"
        return f"{found}; use one or several of {'; '.join(HANDLINGS)}"
    if NEVER_BOTH in values and len(values) > 1:
        return f"{NEVER_BOTH!r} leaves nothing else to do; give it alone or leave it out"
    return ""


def _anything(cell: str) -> str:
    return ""


def _named(cell: str) -> str:
    return "" if cell else "the cell is empty"


def _label(cell: str) -> str:
    return (
        f"{cell!r} contains ';', which separates labels in lists" if ";" in cell else _named(cell)
    )


def _one_of(*values: str) -> Rule:
    return lambda cell: "" if cell in values else f"{cell!r} is not known; use {', '.join(values)}"


def _or_blank(rule: Rule) -> Rule:
    return lambda cell: rule(cell) if cell else ""


def _cell_faults(tables: dict[str, pd.DataFrame], rules: dict[str, dict[str, Rule]]) -> list[str]:
    """Say which columns are missing, and row by row which cells their rule refuses."""
    faults = []
    for table, frame in tables.items():
        found = ", ".join(frame.columns)
        missing = [name for name in rules[table] if name not in frame]
        faults += [f"{table}.csv: the column {n!r} is missing; found: {found}" for n in missing]
        present = {name: rule for name, rule in rules[table].items() if name in frame}
        for row, *cells in frame[list(present)].itertuples():
            for (name, rule), cell in zip(present.items(), cells, strict=True):
                if says := rule(cell):
                    faults.append(f"{table}.csv: row {row}, column {name!r}: {says}")
    return faults


def _row_faults(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Say which rows contradict themselves or another row of their table."""
    faults = []
    for table, frame in tables.items():
        for key in _KEYS[table]:
            rows: dict[tuple[str, ...], list[int]] = {}
            for row, *values in frame[key].itertuples():
                # A pair is the same pair in either order.
                value = tuple(sorted(values) if table == "overlaps" else values)
                rows.setdefault(value, []).append(row)
            for value, same in rows.items():
                if len(same) > 1:
                    where = f"{table}.csv: rows {', '.join(map(str, same))}"
                    faults.append(f"{where}: {', '.join(key)} = {', '.join(value)} is repeated")
    if "overlaps" in tables:
        pairs = tables["overlaps"]
        for row in pairs.index[pairs["cohort"] == pairs["other_cohort"]]:
            faults.append(f"overlaps.csv: row {row}: a cohort cannot overlap with itself")
    if "cohorts" in tables:
        for part, whole in _PART_OF.items():
            numbers = tables["cohorts"][[part, whole]].apply(pd.to_numeric, errors="coerce")
            for row in numbers.index[numbers[part] > numbers[whole]]:
                says = f"more patients than {whole}"
                faults.append(f"cohorts.csv: row {row}, column {part!r}: {says}")
    return faults + (_category_faults(tables["counts"]) if "counts" in tables else [])


def _category_faults(counts: pd.DataFrame) -> list[str]:
    faults = []
    judged = counts[counts["measure"].isin(list(MEASURES)) & (counts["category"] != "")]
    for (_, _, measure, _), rows in judged.groupby(_GROUP, sort=False):
        known = MEASURES[str(measure)]
        seen: dict[str, int] = {}
        for row, category in rows["category"].items():
            where = f"counts.csv: row {row}, column 'category': {category!r}"
            parts = category.split("+")
            if not set(parts) <= set(known) or len(set(parts)) < len(parts):
                says = f"is no category of {measure}; join some of {', '.join(known)} by '+'"
                faults.append(f"{where} {says}")
            for part in set(parts) & set(seen):
                if counts.at[seen[part], "category"] != category:
                    faults.append(f"{where} counts patients of row {seen[part]} again ({part})")
            seen |= dict.fromkeys(parts, row)
    return faults


def _set_faults(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Say which members of an evidence set cannot be counted, or not beside another member."""
    if not {"cohorts", "counts", "evidence_sets", "overlaps"} <= set(tables):
        return []
    sets, counts = tables["evidence_sets"], tables["counts"]
    sets = sets[
        sets["cohort"].isin(tables["cohorts"]["cohort"]) & sets["measure"].isin(list(MEASURES))
    ]
    faults = []
    for row in sets.itertuples():
        where = f"evidence_sets.csv: row {row.Index} (set {row.evidence_set!r}): {row.cohort}"
        here = counts[(counts["cohort"] == row.cohort) & (counts["measure"] == row.measure)]
        populations = here.loc[here["source"] == row.source, "population"].unique()
        if not len(populations):
            found = ", ".join(here["source"].unique()) or "none"
            says = (
                f"has no counts of {row.measure} from the source {row.source!r}; sources: {found}"
            )
            faults.append(f"{where} {says}")
        if len(populations) > 1:
            says = f"has several populations for {row.measure} ({', '.join(populations)}); "
            faults.append(f"{where} {says}name them as sources of their own in counts.csv")
    never = tables["overlaps"][tables["overlaps"]["handling"] == NEVER_BOTH]
    for (name, measure), members in sets.groupby(["evidence_set", "measure"], sort=False):
        for one, other in zip(never["cohort"], never["other_cohort"], strict=True):
            both = members.index[members["cohort"].isin([one, other])]
            if len(both) == 2:
                faults.append(
                    f"evidence_sets.csv: rows {both[0]} and {both[1]} (set {name!r}, {measure}): "
                    f"{one} and {other} are never both counted (overlaps.csv); keep one"
                )
    return faults


def _sums(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    counts = tables["counts"]
    whole = counts[counts["population"] == "all"]
    recorded = whole.groupby(["cohort", "source", "measure"], sort=False)["count"].sum()
    sums = recorded.rename("recorded").reset_index()
    sums = sums.merge(tables["cohorts"][["cohort", "label", "enrolled"]], how="left")
    sums = sums[sums["enrolled"].notna() & (sums["recorded"] != sums["enrolled"])]
    columns = ["cohort", "label", "source", "measure", "recorded", "enrolled"]
    return sums[columns].astype({"enrolled": int}).reset_index(drop=True)


def _conflicts(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    found = []
    for cohort, label in zip(tables["cohorts"]["cohort"], tables["cohorts"]["label"], strict=True):
        sources = _sources(tables, cohort)
        for (source, (cells, note)), (other, (other_cells, _)) in combinations(sources.items(), 2):
            for block in _blocks([*cells, *other_cells]):
                counts = [_within(block, cells), _within(block, other_cells)]
                if (counts[0] or 0) != (counts[1] or 0):
                    category = "+".join(block)
                    found.append(
                        [cohort, label, category, source, counts[0], other, counts[1], note]
                    )
    columns = ["cohort", "label", "category", "source", "count", "other_source", "other_count"]
    frame = pd.DataFrame(found, columns=[*columns, "note"])
    return frame.astype({"count": "Int64", "other_count": "Int64"})


Cells = dict[str, int]


def _sources(tables: dict[str, pd.DataFrame], cohort: str) -> dict[str, tuple[Cells, str]]:
    """Return the responses of a cohort by source; a pooled report also as the sum of its parts."""
    counts = tables["counts"][tables["counts"]["measure"] == "response"]
    own = {source: (cells, "") for source, cells in _recorded(counts, cohort).items()}
    kinds = tables["cohorts"].set_index("cohort")["kind"]
    if kinds[cohort] != "pooled report":
        return own
    same = tables["overlaps"][tables["overlaps"]["judgement"] == "same patients"]
    pairs = zip(same["cohort"], same["other_cohort"], strict=True)
    parts = [next(c for c in pair if c != cohort) for pair in pairs if cohort in pair]
    recorded = [_recorded(counts, part) for part in parts]
    sums: dict[str, tuple[Cells, str]] = {}
    for source in recorded[0] if recorded else ():
        if source not in own and all(source in cells for cells in recorded):
            total: Counter[str] = Counter()
            for cells in recorded:
                total.update(cells[source])
            sums[source] = (dict(total), f"sum of {', '.join(parts)}")
    return sums | own


def _recorded(counts: pd.DataFrame, cohort: str) -> dict[str, Cells]:
    """Return category and count by source, of all patients if recorded, else the first group."""
    found: dict[str, Cells] = {}
    rows = counts[counts["cohort"] == cohort]
    for source in rows["source"].unique():
        group = rows[rows["source"] == source]
        populations = group["population"].to_list()
        widest = "all" if "all" in populations else populations[0]
        cells = group[group["population"] == widest]
        found[source] = dict(zip(cells["category"], cells["count"], strict=True))
    return found


def _blocks(categories: Collection[str]) -> list[list[str]]:
    """Return the finest categories that are unions of the given ones, in order."""
    blocks: list[set[str]] = []
    for category in categories:
        parts = set(category.split("+"))
        touching = [block for block in blocks if block & parts]
        blocks = [block for block in blocks if not block & parts] + [parts.union(*touching)]
    order = MEASURES["response"].index
    return sorted((sorted(block, key=order) for block in blocks), key=lambda b: order(b[0]))


def _within(block: list[str], cells: Cells) -> int | None:
    counts = [count for category, count in cells.items() if set(category.split("+")) <= set(block)]
    return sum(counts) if counts else None
