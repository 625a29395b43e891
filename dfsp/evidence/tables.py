"""Tables of counts: what a fit needs, and how a user's own table becomes one.

Which columns are meant is said, not guessed, and what nobody asked for stops nothing; what a cell
holds is judged in `cells`, how a file becomes cells in `files`.
"""

import hashlib
import html
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pandas as pd
from scipy.special import betaincinv

from dfsp.constants import ENDS
from dfsp.errors import DfspError, nearest, unknown
from dfsp.evidence.cells import (
    count_fault,
    events_of_total,
    is_missing,
    lacks_number,
    meant,
    share,
    typed,
    whole,
)
from dfsp.evidence.files import plain, read_sheet
from dfsp.evidence.once import once
from dfsp.evidence.total_rows import called_total, perhaps_sum, sums
from dfsp.rates import Unit, unit_named, unit_of
from dfsp.text import Table, show_frames, table_of

Missing = Literal["refuse", "drop"]
"""What is done with a row whose events or total is not known."""

SHARES = "shares_patients_with"
_OWN = ("study", "events", "total", "cluster")
"""Columns that `Counts` makes; those of a file by these names count only where asked for."""

_SHOWN = 20
"""Rows that a message names before it counts the others."""

_NAMES = re.compile(
    r"(?<![a-z])(stud|author|autor|trial|cohort|name|paper|publi|refer|label|étude|estudio|source)",
    re.IGNORECASE,
)
_PERCENTAGES = re.compile(
    r"[%％率]|百分比|比例|割合|percent|pct|prozent|процент|доля|quoten?(?![a-z])|"
    r"(ansprech|kontroll|response|responder|s)raten?(?![a-z])|"
    r"(?<![a-z])(rates?|prop(ortion)?s?|share|anteil|taux|pourcentage|tasa|porcentaje|tasso|"
    r"taxa|porcentagem|aandeel)(?![a-z])",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(?<![a-z])(n|no|nr|num|number|count|anzahl)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Counts:
    """Events and totals of k studies.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a study: `study` (text), `events` and `total` (int), `cluster` (text; only where a
        column was named for it: rows with the same belong together), covariates, and last
        `shares_patients_with`, the other studies of the table with some of the same patients,
        joined by `"; "`, or `""`.
    dropped : pandas.DataFrame
        `study` and `reason` of what could not be counted.
    outcome, label : str
        Name of the outcome, and how a sentence calls it.
    not_evaluable, evidence_set : str
        The choices behind counts that come from the evidence; `""` for a table of one's own.
    files : dict of str to str
        SHA-256 of each file read.
    notes : tuple of str
        What was done to read the files that a user should know.
    elsewhere : tuple of str
        Studies that stand in other tables of the same file too, or share patients with such.
    unit : str
        Name of the unit in which all that is made from these counts says rates, one of
        `dfsp.rates.UNITS`; if it is not given, that of the rate of all patients.

    See Also
    --------
    dfsp.count, dfsp.read_table : Make counts of evidence, and of a file.
    dfsp.fit : What a model says about them.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.Counts.of(table)
    Counts(3 studies, event 16/49, 0 dropped)
    """

    table: pd.DataFrame
    dropped: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["study", "reason"], dtype="str")
    )
    outcome: str = "events"
    label: str = "event"
    not_evaluable: str = ""
    evidence_set: str = ""
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        show_frames(self)
        object.__setattr__(self, "unit", unit_named(self.unit or self._unit()).name)

    def _unit(self) -> str:
        """Return the unit of the rate of all patients; of one event, where there was none."""
        events, total = (int(self.columns[name].sum()) for name in ("events", "total"))
        return unit_of(max(events, 1) / total if total else 0.0).name

    @property
    def rates_in(self) -> Unit:
        """The unit in which rates are said."""
        return unit_named(self.unit)

    @classmethod
    def of(
        cls, counts: "Counts | pd.DataFrame", *, clusters: bool = False, empty: bool = False
    ) -> "Counts":
        """Return counts as they are, or a frame with columns study, events, total as counts.

        A column `cluster` of a frame says which rows belong together.

        Parameters
        ----------
        counts : Counts or pandas.DataFrame
        clusters : bool
            Whether the caller knows rows that belong together.
        empty : bool
            Whether the caller predicts rows without patients; they are left out otherwise.

        Raises
        ------
        DfspError
            Rows that cannot be used, all at once; or rows that belong together, where the caller
            does not know them.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 7]})
        >>> dfsp.Counts.of(table)
        Traceback (most recent call last):
            ...
        dfsp.errors.DfspError: table: 1 row cannot be used
          row 1 (study 'B'): events = 8 exceeds total = 7
        """
        if isinstance(counts, Counts):
            checked = counts
        else:
            named = "cluster" if "cluster" in counts else ""
            checked = check_table(counts, cluster=named, allow_empty=empty)
        if not clusters:
            checked.require_independent("this analysis")
        return checked if empty else checked.filled()

    def filled(self) -> "Counts":
        """Return the counts of rows with patients; of the others nothing is known yet.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 0], "total": [10, 0]})
        >>> check_table(table, allow_empty=True).filled().table["study"].to_list()
        ['A']
        """
        table = self.table
        if self.columns["total"].all():
            return self
        return replace(self, table=table[table["total"] > 0].reset_index(drop=True))

    def cumulative(self, column: str) -> dict[str, "Counts"]:
        """Return what was known until each value of a column, such as the year of publication.

        Parameters
        ----------
        column : str
            Every study has a value of it.

        Returns
        -------
        dict of str to Counts
            Under the value and the studies that come with it, in the order of the values.

        Raises
        ------
        DfspError
            No such column, or a study without a value.

        See Also
        --------
        dfsp.fit_by : Fits each.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> until = dfsp.Counts.of(table.assign(year=[2009, 2005, 2009])).cumulative("year")
        >>> [(name, counts.groups) for name, counts in until.items()]
        [('2005: B', '1 study'), ('2009: A, C', '3 studies')]
        """
        missing = self.table.get(column, pd.Series([None])).isna()
        if missing.any():
            raise DfspError(f"{column}: not every study has a value of it")
        found = {}
        for value, rows in self.table.groupby(column):
            known = self.table[self.table[column] <= value].reset_index(drop=True)
            found[f"{value}: {', '.join(rows['study'])}"] = replace(self, table=known)
        return found

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The names, clusters and counts of studies, read once: a frame is slow to hand them over.

        `study` and, where there is one, `cluster` as lists, `events` and `total` as arrays.
        """
        names = [name for name in ("study", "cluster") if name in self.table]
        counts = {name: self.table[name].to_numpy() for name in ("events", "total")}
        return {name: self.table[name].to_list() for name in names} | counts

    @cached_property
    def left_together(self) -> list[list[int]]:
        """For each study the rows that leave with it, itself and those that share its patients."""
        row = {study: index for index, study in enumerate(self.columns["study"])}
        return [
            [index, *(row[name] for name in shared if name in row)]
            for index, shared in enumerate(partners(self.table))
        ]

    def observed(self) -> Table:
        """Return the stratified estimates: each study alone.

        Returns
        -------
        Table
            `study`, `events`, `total`, `rate`, `low`, `high`: observed rate and its exact interval
            (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404), rate scale.

        See Also
        --------
        pooled : All studies as one.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": ["A", "B"], "events": [0, 3], "total": [20, 4]})
        >>> dfsp.Counts.of(table).observed()
        study events total   rate    low   high
            A      0    20 0.0000 0.0000 0.1684
            B      3     4 0.7500 0.1941 0.9937
        """
        table = self.table[["study", "events", "total"]].reset_index(drop=True)
        pairs = zip(table["events"].to_list(), table["total"].to_list(), strict=True)
        low, high = zip(*(_clopper_pearson(*pair) for pair in pairs), strict=True)
        rate = table["events"] / table["total"]
        return table_of(table.assign(rate=rate, low=low, high=high), rates=True)

    def pooled(self) -> Table:
        """Return the estimate that treats all patients as one study.

        Returns
        -------
        Table
            One row, `all patients`: `events`, `total`, `rate`, `low`, `high` (Clopper-Pearson),
            rate scale.

        See Also
        --------
        observed : Each study alone.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.Counts.of(table).pooled()
                     events total    rate     low    high
        all patients     16    49  0.3265  0.1995  0.4754
        """
        events, total = int(self.table["events"].sum()), int(self.table["total"].sum())
        low, high = _clopper_pearson(events, total)
        row = {"events": events, "total": total, "rate": events / total, "low": low, "high": high}
        return table_of([row], rates=True, index=["all patients"])

    def require_independent(self, what: str) -> None:
        """Refuse rows that belong to clusters, for what does not know them, `what`.

        Raises
        ------
        DfspError
            A column of clusters was named.
        """
        require_independent(self.table, what)

    @property
    def groups(self) -> str:
        """How many studies there are, or groups in how many studies."""
        table = self.filled().table
        empty = len(self.table) - len(table)
        rest = f" and {empty} without patients yet" if empty else ""
        if "cluster" in table:
            studies = _numbered(table["cluster"].nunique(), "study", "studies")
            return f"{_numbered(len(table), 'group', 'groups')} in {studies}{rest}"
        return _numbered(len(table), "study", "studies") + rest

    def __repr__(self) -> str:
        events, total = self.table["events"].sum(), self.table["total"].sum()
        choices = [self.groups, f"{self.label} {events}/{total}"]
        if self.evidence_set:
            choices.append(f"evidence set '{self.evidence_set}'")
        if self.not_evaluable:
            choices.append(f"not evaluable: {self.not_evaluable}")
        return f"Counts({', '.join([*choices, f'{len(self.dropped)} dropped'])})"

    def __str__(self) -> str:
        return "\n".join([repr(self), repr(self._shown()), *self._remarks()])

    def _repr_html_(self) -> str:
        remarks = "".join(f"\n<li>{html.escape(each)}</li>" for each in self._remarks())
        rest = f"\n<ul>{remarks}\n</ul>" if remarks else ""
        return f"<p>{html.escape(self._said())}</p>\n{self._shown()._repr_html_()}{rest}"

    def _said(self) -> str:
        """Say what is counted."""
        events, total = self.table["events"].sum(), self.table["total"].sum()
        choices = [f"evidence set '{self.evidence_set}'"] * bool(self.evidence_set)
        choices += [f"patients without an evaluation: {self.not_evaluable}"] * bool(
            self.not_evaluable
        )
        how = f" ({'; '.join(choices)})" if choices else ""
        return (
            f"{self.label.capitalize()} in {events:,} of {total:,} patients of {self.groups}{how}."
        )

    def _shown(self) -> Table:
        """Return the columns that are shown, as far as anything stands in them."""
        others = ["dose_mg", "setting", SHARES]
        filled = [name for name in others if name in self.table and self.table[name].any()]
        own = [name for name in _OWN if name in self.table]
        return table_of(self.table[[*own, *filled]], formats={"dose_mg": "g"})

    def _remarks(self) -> list[str]:
        """Return what is said of rows that were left out, and of the table."""
        left_out = [f"dropped: {row.study}: {row.reason}" for row in self.dropped.itertuples()]
        return [*left_out, *(f"note: {note}" for note in self.notes)]


def partners(table: pd.DataFrame) -> list[list[str]]:
    """Return for each study the others with some of its patients."""
    shares = table[SHARES].to_list() if SHARES in table else [""] * len(table)
    return [[name for name in cell.split("; ") if name] for cell in shares]


def _clopper_pearson(events: int, total: int) -> tuple[float, float]:
    if not total:
        return float("nan"), float("nan")
    low = betaincinv(events, total - events + 1, ENDS[0]) if events else 0.0
    high = betaincinv(events + 1, total - events, ENDS[1]) if events < total else 1.0
    return float(low), float(high)


def _numbered(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


class _Asked(NamedTuple):
    """What a caller says about a table, see `read_table`."""

    study: str
    events: str
    total: str
    counts: str
    cluster: str
    missing: Missing
    keep_totals: bool
    allow_empty: bool
    by: str = ""

    @property
    def of_counts(self) -> dict[str, str]:
        """The column of each role that holds counts."""
        if self.counts:
            return {"counts": self.counts}
        return {"events": self.events, "total": self.total}


_DEFAULTS = {
    "study": "study", "events": "events", "total": "total", "counts": "", "cluster": "",
    "missing": "refuse", "keep_totals": False, "allow_empty": False,
}  # fmt: skip
"""Of what is asked."""


class _Columns(NamedTuple):
    """Where in a table the columns are that a caller asked for, and those that nobody did."""

    study: list[int]
    cluster: list[int]
    counts: dict[str, int]
    shares: list[int]
    by: list[int]
    covariates: list[int]
    notes: list[str]


def require_independent(table: pd.DataFrame, what: str) -> None:
    """Refuse a table of counts or of cohorts with a column `cluster`, for `what` ignores it.

    Raises
    ------
    DfspError
        It has one.

    Examples
    --------
    >>> require_independent(pd.DataFrame({"study": ["A", "B"]}), "this analysis")
    """
    if "cluster" in table:
        raise DfspError(
            f"{what} does not model clusters: rows that belong together would count as studies "
            "of their own, with intervals that are too narrow. dfsp.fit models them; for this, "
            "add up the rows of each cluster, or keep one of them"
        )


@once
def read_table(
    file: str | Path,
    *,
    study: str = "study",
    events: str = "events",
    total: str = "total",
    counts: str = "",
    cluster: str = "",
    sheet: str = "",
    missing: Missing = "refuse",
    keep_totals: bool = False,
    allow_empty: bool = False,
) -> Counts:
    """Read a table of studies: CSV, or a workbook (.xlsx, .ods, .xls) if python-calamine is there.

    Commas, semicolons or tabs separate; the text is UTF-8, UTF-16 or Windows-1252. What stands
    above the names of the columns is passed over. Further columns are covariates: numbers if every
    cell is one, else text; an empty cell or `NA` is missing. What was passed over or ignored is
    said in `notes`.

    Parameters
    ----------
    file : str or Path
        Path of the file; `"-"` is standard input.
    study : str
        Name of the column with the studies' names, or several separated by commas, whose cells are
        joined. If the table has no such column at all, its rows are numbered.
    events, total : str
        Names of the columns with the patients with the outcome, and the patients counted.
    counts : str
        Instead of `events` and `total`: a column with both, such as `7/15` or `7 of 15 (46.7 %)`.
    cluster : str
        A column, or several as in `study`, that says which rows belong together, such as arms of a
        trial; a row without an entry is by itself.
    sheet : str
        Sheet of a workbook; by default the only one, or the only one with these columns.
    missing : {"refuse", "drop"}
        What to do with a row whose events or total is empty, `NA` or `NR`: refuse the table, or
        leave the row out and name it in `dropped`.
    keep_totals : bool
        Whether rows that add up others, or are called a total, are studies (see
        `dfsp.evidence.total_rows`); refused if not.
    allow_empty : bool
        Whether rows may have a total of 0, such as arms that enrol no patient yet; a fit then
        predicts their rates.

    Returns
    -------
    Counts
        One row a study, in the order of the file.

    Raises
    ------
    DfspError
        The file cannot be read, or some rows cannot be used; all faults at once, by line number.

    See Also
    --------
    dfsp.count : Counts of the evidence.
    dfsp.Counts.of : Counts of a frame.

    Examples
    --------
    >>> import dfsp, pandas as pd, pathlib, tempfile
    >>> table = {"Trial": ["A", "B"], "Responders": [3, 8], "N": [10, 20], "dose": [400, 800]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "trials.csv")
    ...     pd.DataFrame(table).to_csv(file, sep=";", index=False)
    ...     counts = dfsp.read_table(file, study="Trial", events="Responders", total="N")
    >>> counts.table[["study", "events", "total", "dose"]]
    study events total dose
        A      3    10  400
        B      8    20  800
    """
    asked = _Asked(study, events, total, counts, cluster, missing, keep_totals, allow_empty)
    return _read(file, sheet, asked)[""]


@once
def read_tables(file: str | Path, *, by: str, sheet: str = "", **options: Any) -> dict[str, Counts]:
    """Read a table of several: one for each value of a column, in the order of the file.

    Parameters
    ----------
    file, sheet
        As in `read_table`.
    by : str
        Name of the column, such as an outcome, a subgroup or a data set. A study may stand in
        several of these tables, see `Counts.elsewhere`.
    **options
        As in `read_table`.

    Returns
    -------
    dict of str to Counts
        By value; one whose rows have no patients is left out and named in the others' `notes`.

    Raises
    ------
    DfspError
        The file cannot be read, or some rows cannot be used; all faults at once, by line number.

    See Also
    --------
    dfsp.fit_by : Fits them.

    Examples
    --------
    >>> import dfsp, pandas as pd, pathlib, tempfile
    >>> table = {"study": list("ABCD"), "events": [3, 8, 5, 2], "total": [10, 20, 19, 9]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "drugs.csv")
    ...     pd.DataFrame(table | {"drug": list("xxyy")}).to_csv(file, index=False)
    ...     tables = dfsp.read_tables(file, by="drug")
    >>> {drug: counts.table["study"].to_list() for drug, counts in tables.items()}
    {'x': ['A', 'B'], 'y': ['C', 'D']}
    """
    return _read(file, sheet, _Asked(**{**_DEFAULTS, **options}, by=by))


def _read(file: str | Path, sheet: str, asked: _Asked) -> dict[str, Counts]:
    where, data = _content(file)
    try:
        found = read_sheet(data, wanted=list(asked.of_counts.values()), sheet=sheet)
    except DfspError as error:
        raise DfspError(f"{where}: {error}") from None
    columns = range(len(found.header))
    cells = pd.DataFrame(list(found.rows.values()), list(found.rows), columns, dtype="str")
    files = {where: hashlib.sha256(data).hexdigest()}
    try:
        built = _tables(where, found.header, cells, cells, found.faults, asked)
    except DfspError as error:
        if not (found.notes and error.faults):
            raise
        what = str(error).partition("\n")[0].removeprefix(f"{where}: ")
        said = [f"note: {note}" for note in found.notes]
        raise DfspError.of(where, what, [*error.faults, *said]) from None
    for name, counts in built.items():
        table = counts.table
        covariates = table.columns.difference([*_OWN, SHARES])
        table = table.assign(**{str(each): typed(table[each]) for each in covariates})
        notes = (*found.notes, *counts.notes)
        built[name] = replace(counts, table=table, files=files, notes=notes)
    return built


def check_table(
    frame: pd.DataFrame,
    *,
    study: str = "study",
    events: str = "events",
    total: str = "total",
    counts: str = "",
    cluster: str = "",
    missing: Missing = "refuse",
    keep_totals: bool = False,
    allow_empty: bool = False,
) -> Counts:
    """Check a table of studies made in Python; the same rules as `read_table`.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a study; further columns are kept as they are.
    study, events, total, counts, cluster, missing, keep_totals, allow_empty
        As in `read_table`.

    Returns
    -------
    Counts
        One row a study, in the order of the table.

    Raises
    ------
    DfspError
        Some rows cannot be used; all faults at once, by position (the first row is 0).
    """
    asked = _Asked(study, events, total, counts, cluster, missing, keep_totals, allow_empty)
    return _check(frame, asked)[""]


def check_tables(frame: pd.DataFrame, *, by: str, **options: Any) -> dict[str, Counts]:
    """Check a table of several made in Python: `read_tables`, as `check_table` is `read_table`."""
    return _check(frame, _Asked(**{**_DEFAULTS, **options}, by=by))


def _check(frame: pd.DataFrame, asked: _Asked) -> dict[str, Counts]:
    if not isinstance(frame, pd.DataFrame):
        raise DfspError(f"table: a {type(frame).__name__}; give a pandas.DataFrame")
    header = [plain(str(name)) for name in frame.columns]
    frame = frame.reset_index(drop=True).set_axis(range(len(header)), axis="columns")
    cells = frame.apply(
        lambda column: column.map(lambda value: "" if pd.isna(value) else str(value).strip())
    )
    return _tables("table", header, cells, frame, {}, asked)


@once
def without(counts: Counts | pd.DataFrame, studies: Iterable[str]) -> Counts:
    """Return the counts without some studies.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    studies : iterable of str

    Raises
    ------
    DfspError
        A study that is not there, or none is left.

    See Also
    --------
    dfsp.Fit.leave_one_out : Without each study in turn.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.without(table, ["B"]).table["study"].to_list()
    ['A', 'C']
    """
    counts = counts if isinstance(counts, Counts) else check_table(counts)
    return without_in({"": counts}, studies)[""]


def without_in(tables: Mapping[str, Counts], studies: Iterable[str]) -> dict[str, Counts]:
    """Return several tables without some studies, wherever these stand.

    A table of which nothing is left is left out.

    Raises
    ------
    DfspError
        A study that is in no table, or none is left.

    Examples
    --------
    >>> frame = pd.DataFrame({"study": list("AAB"), "events": [3, 8, 5], "total": 9})
    >>> tables = check_tables(frame.assign(event=["rash", "oedema", "rash"]), by="event")
    >>> {name: counts.table["study"].to_list() for name, counts in without_in(tables, "A").items()}
    {'rash': ['B']}
    """
    known = [study for counts in tables.values() for study in counts.columns["study"]]
    gone = set(split_names(studies, known))
    if strange := sorted(gone.difference(known)):
        raise DfspError(f"drop: {unknown(strange, list(dict.fromkeys(known)))}")
    if gone.issuperset(known):
        raise DfspError("drop: no study is left")
    left = {name: _without(counts, gone) for name, counts in tables.items()}
    return {name: counts for name, counts in left.items() if len(counts.table)}


def _without(counts: Counts, gone: Collection[str]) -> Counts:
    table = counts.table
    table = table[~table["study"].isin(gone)].reset_index(drop=True)
    if SHARES in table:
        kept = [
            "; ".join(name for name in cell.split("; ") if name not in gone)
            for cell in table[SHARES]
        ]
        table = table.assign(**{SHARES: pd.Series(kept, dtype="str")})
    elsewhere = tuple(name for name in counts.elsewhere if name not in gone)
    return replace(counts, table=table, elsewhere=elsewhere)


def unit_of_tables(tables: Iterable[Counts]) -> Unit:
    """Return the unit in which rates of several tables are said beside each other.

    That of every table, or where they differ of all together.
    """
    tables = list(tables)
    if len({counts.unit for counts in tables}) == 1:
        return tables[0].rates_in
    return Counts(pd.concat([counts.table[["events", "total"]] for counts in tables])).rates_in


def split_names(given: str | Iterable[str], known: Collection[str] | pd.Series = ()) -> list[str]:
    """Return names given as a list, or as one text that separates them by `|`.

    Names may hold commas, which separate only where every part, and not the whole, is known.

    Examples
    --------
    >>> split_names("Becker, 2008 | Boyd, 2009")
    ['Becker, 2008', 'Boyd, 2009']
    >>> split_names("Becker, 2008", known=["Becker, 2008", "Boyd, 2009"])
    ['Becker, 2008']
    """
    if not isinstance(given, str):
        return [plain(str(name)) for name in given]
    names = [plain(name) for name in given.split("|") if name.strip()]
    if len(names) == 1 and names[0] not in (known := set(known)):
        parts = [plain(name) for name in given.split(",") if name.strip()]
        return parts if known.issuperset(parts) else names
    return names


def shared(studies: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """List for each study the others that share its patients, joined by `"; "`."""
    partners: dict[str, set[str]] = {study: set() for study in studies}
    for one, other in pairs:
        partners[one].add(other)
        partners[other].add(one)
    order = {study: i for i, study in enumerate(studies)}
    return ["; ".join(sorted(partners[study], key=order.__getitem__)) for study in studies]


def same_trial(studies: Sequence[str], trials: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of studies with the same trial; an empty name is no trial."""
    groups: dict[str, list[str]] = {}
    for study, trial in zip(studies, trials, strict=True):
        if trial:
            groups.setdefault(trial, []).append(study)
    return [pair for group in groups.values() for pair in combinations(group, 2)]


def _content(file: str | Path) -> tuple[str, bytes]:
    if str(file) == "-":
        return "standard input", sys.stdin.buffer.read()
    try:
        return str(file), Path(file).read_bytes()
    except FileNotFoundError:
        raise DfspError(f"{file}: the file does not exist") from None
    except IsADirectoryError:
        raise DfspError(f"{file}: this is a folder; give a CSV file") from None
    except OSError as error:
        raise DfspError(f"{file}: the file cannot be read ({error.strerror})") from None


def _option(role: str, name: str) -> str:
    """Return an option as it is typed."""
    return f"--{role} {name}" if re.fullmatch(r"[\w,.-]+", name) else f'--{role} "{name}"'


def _columns(where: str, header: list[str], cells: pd.DataFrame, asked: _Asked) -> _Columns:
    """Find the columns that are asked for; refuse those that are missing or stand twice."""
    faults: list[str] = []

    def place(role: str, name: str) -> list[int]:
        name = plain(name)
        places = [i for i, column in enumerate(header) if column == name]
        if len(places) > 1:
            numbers = " and ".join(str(i + 1) for i in places)
            faults.append(f"the column {name!r} ({role}) appears twice ({numbers}); rename one")
        if not places and role in ("study", "cluster") and "," in name:
            return [i for part in name.split(",") for i in place(role, part)]
        if not places:
            faults.append(f"the column {name!r} ({role}) is missing{_near(role, name, header)}")
        return places[:1]

    study: list[int] = []
    notes: list[str] = []
    known = {*map(plain, asked.of_counts.values()), plain(asked.by)}
    others = {i for i, name in enumerate(header) if name in known}
    if asked.study != "study" or "study" in header:
        study = place("study", asked.study)
    elif len(header) > 1 and (candidates := _like_names(header, cells, others)):
        near = next((i for i in candidates if header[i].casefold() == "study"), candidates[0])
        hint = f"; is it {header[near]!r}? give {_option('study', header[near])}"
        if header[near].casefold() == "study":
            hint = _near("study", "study", header)
        elif not header[near]:
            hint = f"; column {near + 1} has no name: call it study"
        faults.append(f"the column 'study' (study) is missing{hint}")
    else:
        notes.append("no column names the studies; the rows are numbered")
    counts = {role: (place(role, name) or [-1])[0] for role, name in asked.of_counts.items()}
    cluster = place("cluster", asked.cluster) if asked.cluster else []
    by = place("by", asked.by) if asked.by else []
    shares = place("column", SHARES) if SHARES in header else []
    used = [*study, *counts.values(), *shares]
    faults += [
        f"the column {header[i]!r} is given twice"
        for i in sorted(set(used))
        if i >= 0 and used.count(i) > 1
    ]
    if not faults and "events" in counts:
        faults += _percentages(header[counts["events"]], cells[counts["events"]])
    if faults:
        columns = ", ".join(name or "(no name)" for name in header)
        faults.append(f"found: {columns}")
        if len(header) == 1:
            faults.append(
                "only one column is found; commas, semicolons or tabs must separate columns"
            )
        if sum(whole(name) is not None for name in header) > 1:
            faults.append("the first row looks like counts; it must name the columns")
        faults.append("say which column is which with --study, --events, --total or --counts")
        raise DfspError.of(where, "the columns cannot be used", faults)
    # Parts of a joined name stay covariates.
    taken = {*counts.values(), *shares, *(study if len(study) == 1 else ())}
    rest = [i for i in range(len(header)) if i not in taken]
    in_names = {*study, *cluster, *by}
    covariates, said = _further(header, cells, rest, in_names)
    return _Columns(study, cluster, counts, shares, by, covariates, notes + said)


def _near(role: str, name: str, header: list[str]) -> str:
    """Propose another column for one that is missing."""
    for column in header:
        if column.casefold() == name.casefold():
            return f"; {column!r} differs in case: give {_option(role, column)}"
    named = [column for column in header if column]
    close = nearest(name, named) if len(named) > 1 else []
    return f"; is it {close[0]!r}? give {_option(role, close[0])}" if close else ""


def _like_names(header: list[str], cells: pd.DataFrame, others: set[int]) -> list[int]:
    """Return the columns that may hold names: by what they are called, or of different texts."""
    return [
        i
        for i, name in enumerate(header)
        if i not in others
        and (
            _NAMES.search(name)
            or (
                len(cells) > 1
                and cells[i].is_unique
                and cells[i].str.contains(r"[^\W\d]", regex=True).all()
            )
        )
    ]


def _percentages(name: str, cells: "pd.Series[str]") -> list[str]:
    """Question whole numbers under a heading such as `ORR (%)`."""
    if not _PERCENTAGES.search(name) or _NUMBERS.search(name):
        return []
    numbers = [number for cell in cells if (number := whole(cell)) is not None]
    if not numbers or max(numbers) > 100:
        return []
    return [
        f"the column {name!r} (events) is headed like a percentage, and no number in it is above "
        "100; give the numbers of patients, or rename the column if these are"
    ]


def _among_shares(cells: Mapping[int, str]) -> str:
    """Say which counts of patients stand among shares, and may be shares themselves.

    Whoever mends the rows that are refused would leave these as they are.
    """
    kinds = {row: kind for row, cell in cells.items() if (kind := share(cell))}
    counts = {row: number for row, cell in cells.items() if (number := whole(cell))}
    most = 100 if "percentage" in kinds.values() else 1
    if not kinds or max(counts.values(), default=0) > 100:
        return ""
    rows = [row for row, number in counts.items() if number <= most]
    kind = "percentage" if most == 100 else "proportion"
    if len(rows) < 2:
        return f"the {cells[rows[0]]} in row {rows[0]} may be a {kind} too" if rows else ""
    return f"the whole numbers in {_some(rows)} may be {kind}s too"


def _further(
    header: list[str], cells: pd.DataFrame, rest: list[int], in_names: set[int]
) -> tuple[list[int], list[str]]:
    """Return the covariates among the columns that nobody asked for, and what is ignored."""
    covariates, notes = [], []
    unnamed, repeated = [], []
    for i in rest:
        name = header[i]
        if not name:
            # R and pandas write row numbers under an empty first name, spreadsheets empty columns.
            numbers = i == 0 and cells[i].str.fullmatch(r"\d+").all()
            if not numbers and (cells[i] != "").any():
                unnamed.append(i)
        elif header.count(name) > 1 and name not in (*_OWN, SHARES):
            repeated.append(i)
        elif name in _OWN:
            if i not in in_names:
                hint = "; give --cluster cluster if it groups rows" if name == "cluster" else ""
                notes.append(f"the column {name!r} is not used{hint}")
        else:
            covariates.append(i)
    if unnamed:
        places = " and ".join(str(i + 1) for i in unnamed)
        which = f"columns {places} have" if len(unnamed) > 1 else f"column {places} has"
        notes.append(f"{which} no name and {'are' if len(unnamed) > 1 else 'is'} ignored")
    if repeated:
        names = ", ".join(repr(name) for name in dict.fromkeys(header[i] for i in repeated))
        notes.append(f"several columns are called {names} and are ignored")
    return covariates, list(dict.fromkeys(notes))


def _tables(
    where: str,
    header: list[str],
    cells: pd.DataFrame,
    frame: pd.DataFrame,
    unreadable: Mapping[int, str],
    asked: _Asked,
) -> dict[str, Counts]:
    """Judge `cells` (text, by row and place of the column); `frame` has the covariates.

    The tables are by value of the column `by`; without one there is one, called `""`.
    """
    if asked.missing not in get_args(Missing):
        raise DfspError(f"missing {asked.missing!r} is not known; use refuse or drop")
    columns = _columns(where, header, cells, asked)
    names = _joined(cells, columns.study)
    names = names if columns.study else [str(i + 1) for i in range(len(cells))]
    rows = dict(zip(cells.index.to_list(), names, strict=True))
    texts = {
        role: dict(zip(rows, cells[i].to_list(), strict=True)) for role, i in columns.counts.items()
    }
    called = {role: header[i] for role, i in columns.counts.items()}

    gone = _without_counts(texts, called) if asked.missing == "drop" else {}
    kept = {row: name for row, name in rows.items() if row not in gone}
    numbers: dict[int, tuple[int, int]] = {}
    values = _joined(cells, columns.by) if columns.by else [""] * len(cells)
    groups: dict[str, dict[int, str]] = {}
    for row, value in zip(rows, values, strict=True):
        if row in kept:
            groups.setdefault(value, {})[row] = rows[row]
    faults: dict[int, list[str]] = {}
    for value, of in groups.items():
        faults |= _name_faults(of)
        if columns.by and is_missing(value):
            for row in of:
                faults.setdefault(row, []).append(f"{header[columns.by[0]]} is {value or 'empty'}")
    for row in kept:
        cell = {role: text[row] for role, text in texts.items()}
        found = _numbers(cell, called, asked.allow_empty)
        if isinstance(found, list):
            faults.setdefault(row, []).extend(found)
        else:
            numbers[row] = found
    pairs, wrong = _named_pairs(cells, columns.shares, rows, kept)
    with_patients = [row for row, (_, total) in numbers.items() if total]
    # The rows of another group between two are no gap in the table.
    block = {row: row - i for i, row in enumerate(with_patients)}
    sums_of = [_total_faults(of, numbers, block, asked).items() for of in groups.values()]
    for row, says in [*wrong.items(), *chain.from_iterable(sums_of)]:
        faults.setdefault(row, []).extend(says)
    if faults or unreadable:
        lines = {row: f"row {row}: {says}" for row, says in unreadable.items()}
        for row, says in faults.items():
            lines[row] = f"row {row} (study {rows[row]!r}): {'; '.join(says)}"
        some = "1 row" if len(lines) == 1 else f"{len(lines)} rows"
        totals = {row: total for row, (_, total) in numbers.items()}
        hints = _hints(header, cells, columns, kept, texts, faults, totals)
        ordered = [lines[row] for row in sorted(lines)]
        raise DfspError.of(where, f"{some} cannot be used", [*ordered, *hints])
    if not rows:
        raise DfspError(f"{where}: there is a header and no study below it")
    if not kept:
        raise DfspError(f"{where}: no row has counts; none is left")
    if not any(total for _, total in numbers.values()):
        raise DfspError(f"{where}: no row has patients; there is nothing to fit")

    same = [] if columns.by else _same_patients(header, cells.loc[list(kept)], columns, numbers)
    if same and not columns.cluster:
        raise DfspError(f"{where}: {same[0]}")
    kept = {row: name for of in groups.values() for row, name in of.items()}
    chosen = list(kept)
    table = pd.DataFrame({"study": pd.Series(list(kept.values()), dtype="str")})
    table["events"] = [numbers[row][0] for row in kept]
    table["total"] = [numbers[row][1] for row in kept]
    if columns.cluster:
        filled = [
            name if is_missing(group) else group
            for group, name in zip(
                _joined(cells.loc[chosen], columns.cluster), kept.values(), strict=True
            )
        ]
        table["cluster"] = pd.Series(filled, dtype="str")
    covariates = frame.loc[chosen, columns.covariates].reset_index(drop=True)
    covariates.columns = pd.Index([header[i] for i in columns.covariates])
    table = pd.concat([table, covariates], axis="columns")
    left_out = {row: (rows[row], f"row {row}: {says}") for row, says in gone.items()}
    of_row = dict(zip(rows, values, strict=True))
    patients = {value: sum(numbers[row][1] for row in of) for value, of in groups.items()}
    notes = [
        *columns.notes,
        *same,
        *(f"{v!r} has no patients" for v, n in patients.items() if not n),
        *chain.from_iterable(_perhaps_totals(of, numbers, asked) for of in groups.values()),
    ]
    often = Counter(kept.values())
    linked: dict[str, list[str]] = {}
    for one, other in pairs:
        linked.setdefault(one, []).append(other)
        linked.setdefault(other, []).append(one)
    sharing: list[str] = []
    for of in groups.values():
        here = set(of.values())
        within = [
            (name, other) for name in of.values() for other in linked.get(name, ()) if other in here
        ]
        sharing += shared(list(of.values()), within)
    table[SHARES] = pd.Series(sharing, dtype="str")
    none = pd.DataFrame(columns=["study", "reason"], dtype="str")
    built, start = {}, 0
    for value, of in groups.items():
        own = table[start : start + len(of)].reset_index(drop=True)
        start += len(of)
        if not patients[value]:
            continue
        names, here = list(of.values()), set(of.values())
        reasons = [left_out[row] for row in gone if of_row[row] == value]
        built[value] = Counts(
            own,
            dropped=pd.DataFrame(reasons, columns=none.columns, dtype="str") if reasons else none,
            notes=tuple(notes),
            elsewhere=tuple(
                name
                for name in names
                if often[name] > 1 or not here.issuperset(linked.get(name, ()))
            ),
        )
    return built


def _joined(cells: pd.DataFrame, places: list[int]) -> list[str]:
    """Return the texts of some columns, row by row as one."""
    return [plain(" ".join(record)) for record in zip(*(cells[i] for i in places), strict=True)]


def _without_counts(
    texts: Mapping[str, Mapping[int, str]], called: Mapping[str, str]
) -> dict[int, str]:
    """Say of which rows a count is missing."""
    gone: dict[int, list[str]] = {}
    for role, cells in texts.items():
        for row, cell in cells.items():
            if lacks_number(cell) if role == "counts" else is_missing(cell):
                gone.setdefault(row, []).append(f"{called[role]} is {cell or 'empty'}")
    return {row: ", ".join(gone[row]) for row in sorted(gone)}


def _numbers(
    cells: Mapping[str, str], called: Mapping[str, str], allow_empty: bool
) -> tuple[int, int] | list[str]:
    """Return the events and the total of a row, or what is wrong with them."""
    if "counts" in cells:
        found = events_of_total(cells["counts"])
        if isinstance(found, str):
            return [f"{called['counts']}: {found}"]
        (events, total), names = found, ("events", "total")
    else:
        count = {role: whole(cell) for role, cell in cells.items()}
        wrong = {role: says for role, cell in cells.items() if (says := count_fault(cell))}
        of = count["total"]
        if (
            "events" in wrong
            and of
            and "total" not in wrong
            and (hint := meant(cells["events"], of))
        ):
            wrong["events"] += f" ({hint})"
        if wrong:
            return [f"{called[role]}: {says}" for role, says in wrong.items()]
        events, total = count["events"] or 0, of or 0
        names = called["events"], called["total"]
    if events > total > 0 or (events and allow_empty and not total):
        return [f"{names[0]} = {events} exceeds {names[1]} = {total}"]
    if total == 0 and not allow_empty:
        return [f"{names[1]} = 0; leave out a study without patients"]
    return events, total


def _name_faults(rows: Mapping[int, str]) -> dict[int, list[str]]:
    faults: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    for row, study in rows.items():
        if not study:
            faults[row] = ["the study has no name"]
        elif ";" in study:
            says = "a study's name cannot contain ';', which separates studies in lists"
            faults[row] = [says]
        elif study in first:
            faults[row] = [f"the study appears twice (rows {first[study]} and {row})"]
        first.setdefault(study, row)
    return faults


def _total_faults(
    rows: Mapping[int, str],
    numbers: Mapping[int, tuple[int, int]],
    block: Mapping[int, int],
    asked: _Asked,
) -> dict[int, list[str]]:
    """Say which of some rows add up others of these, or are called so.

    `block` numbers the rows with patients by what they are beside each other in.
    """
    if asked.keep_totals:
        return {}
    faults = {row: ["it is called a total"] for row, name in rows.items() if called_total(name)}
    order = [row for row in rows if row in block]
    gaps = [i for i, row in enumerate(order) if i and block[row] != block[order[i - 1]]]
    named = [i for i, row in enumerate(order) if row in faults]
    events, total = ([numbers[row][i] for row in order] for i in (0, 1))
    for i, parts in sums(events, total, gaps, named).items():
        told = (
            "all other rows"
            if len(parts) == len(order) - 1 > 3
            else _some([order[p] for p in parts])
        )
        faults.setdefault(order[i], []).append(f"{events[i]} of {total[i]} is the sum of {told}")
    return faults


def _perhaps_totals(
    rows: Mapping[int, str], numbers: Mapping[int, tuple[int, int]], asked: _Asked
) -> list[str]:
    """Say of which row nothing tells whether it is a study or adds up the others."""
    filled = [row for row in rows if numbers[row][1]]
    place = perhaps_sum(*zip(*(numbers[row] for row in filled), strict=True)) if filled else None
    if asked.keep_totals or place is None:
        return []
    events, total = numbers[filled[place]]
    return [
        f"row {filled[place]} (study {rows[filled[place]]!r}) has as many patients as all others "
        f"together, and {events} of {total} do not tell whether it is their total; it is taken for "
        "a study"
    ]


def _some(rows: list[int]) -> str:
    if rows == list(range(rows[0], rows[-1] + 1)):
        return f"rows {rows[0]} to {rows[-1]}"
    shown = rows[:_SHOWN] if len(rows) > _SHOWN + 1 else rows[:-1]
    last = str(rows[-1]) if len(rows) == len(shown) + 1 else f"{len(rows) - len(shown)} more"
    return f"rows {', '.join(map(str, shown))} and {last}"


def _hints(
    header: list[str],
    cells: pd.DataFrame,
    columns: _Columns,
    kept: Mapping[int, str],
    texts: Mapping[str, Mapping[int, str]],
    faults: Mapping[int, list[str]],
    totals: Mapping[int, int],
) -> list[str]:
    """Say once what can be done about faults that several rows may have."""
    said = [says for each in faults.values() for says in each]
    hints = []
    if any(says.startswith("the study appears twice") for says in said):
        study = [header[i] for i in columns.study]
        arms = next(
            (
                header[i]
                for i in columns.covariates
                if len(set(zip(kept.values(), cells.loc[list(kept), i], strict=True))) == len(kept)
            ),
            "",
        )
        tell = f"{_option('study', ','.join([*study, arms]))} tells them apart"
        add = "add a column that tells them apart and name it in --study"
        apart = (
            f"arms of one study belong together: {tell if arms else add}, and "
            f"{_option('cluster', ','.join(study))} says that they do"
        )
        each = f"{_option('by', arms)} fits each by itself" if arms else "fit each by itself"
        same = f"outcomes of the same patients are not several studies: {each}"
        if _equal_totals(kept.values(), [totals.get(row) for row in kept]):
            hints += [f"the rows of a study have the same total; {same}", apart]
        else:
            hints.append(f"{apart}; {same}")
    if faults and "events" in texts and (says := _among_shares(texts["events"])):
        hints.append(says)
    if "the study has no name" in said:
        hints.append("each row needs the name of its study, also where cells are merged")
    filled = (cells[[i for i in cells if i not in columns.study]] != "").any(axis="columns")
    if columns.study and (alone := [row for row in kept if not filled[row]]):
        have = f"row {alone[0]} has" if len(alone) == 1 else f"{_some(alone)} have"
        hints.append(f"{have} nothing but a name: remove headings and notes")
    if not _without_counts(texts, dict.fromkeys(texts, "")).keys().isdisjoint(kept):
        hints.append("rows without counts are left out with --missing drop (missing='drop')")
    if any("; leave out a study without patients" in says for says in said):
        hints.append(
            "arms that enrol no patient yet are predicted with --allow-empty (allow_empty=True)"
        )
    if any(says == "it is called a total" or " is the sum of " in says for says in said):
        hints.append(
            "totals count patients twice: remove them; rows like these that are studies are kept "
            "with --keep-total-rows (keep_totals=True)"
        )
    return hints


def _same_patients(
    header: list[str],
    cells: pd.DataFrame,
    columns: _Columns,
    numbers: Mapping[int, tuple[int, int]],
) -> list[str]:
    """Question rows that seem to be outcomes of the same patients, though names tell them apart.

    In tables of outcomes each study has several rows, all with its one total.
    """
    totals = [numbers[row][1] for row in cells.index]
    for part in columns.study if len(columns.study) > 1 else ():
        names = cells[part].to_list()
        if (
            len(set(totals)) > 1
            and Counter(names).most_common()[-1][1] > 1
            and _equal_totals(names, totals)
        ):
            outcome = next((header[i] for i in columns.study if i != part), "")
            return [
                f"each {header[part]} has several rows with the same total, as outcomes of the "
                f"same patients have: these are not several studies, and "
                f"{_option('by', outcome)} fits each by itself; arms of equal size belong "
                f"together with {_option('cluster', header[part])}"
            ]
    return []


def _equal_totals(names: Iterable[str], totals: Iterable[int | None]) -> bool:
    """Whether names that stand in several rows, two at least, have one total each."""
    found: dict[str, list[int | None]] = {}
    for name, total in zip(names, totals, strict=True):
        found.setdefault(name, []).append(total)
    several = [of for of in found.values() if len(of) > 1]
    return len(several) > 1 and all(len(set(of)) == 1 for of in several)


def _named_pairs(
    cells: pd.DataFrame, shares: list[int], rows: Mapping[int, str], kept: Mapping[int, str]
) -> tuple[list[tuple[str, str]], dict[int, list[str]]]:
    """Read the column `shares_patients_with`, if there is one: pairs of studies, and faults."""
    pairs: list[tuple[str, str]] = []
    faults: dict[int, list[str]] = {}
    known, left = set(rows.values()), set(kept.values())
    for row, study in kept.items() if shares else ():
        for other in filter(None, map(plain, str(cells.at[row, shares[0]]).split(";"))):
            if other not in known or other == study:
                says = f"{SHARES}: {other!r} is no other study of this table"
                faults.setdefault(row, []).append(says)
            elif other in left:
                pairs.append((study, other))
    return pairs, faults
