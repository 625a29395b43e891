"""Tables of counts: what a fit needs, and how a user's own CSV becomes one.

Cells are read as text and judged one by one, so that nothing is converted silently: a study may be
called `007` or `NA`, and `3,5` or `23 %` is refused rather than guessed.
"""

import csv
import hashlib
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import pandas as pd

from dfsp.errors import DfspError, listed

MAX_COUNT = 10**9
"""Above this a count is a slip of the keyboard: no study has a thousand million patients."""

# pandas may write 5 as 5.0; 1.000 is refused, since a point may separate thousands.
_WHOLE = re.compile(r"(\d+)(\.0{1,2})?", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)
_THOUSANDS = re.compile(r"\d{1,3}([ ,.'’\u00a0\u202f]\d{3})+", re.ASCII)


@dataclass(frozen=True, eq=False)
class Counts:
    """Events and totals of k studies.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a study: `study` (text), `events` and `total` (int), covariates, and last
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

    @classmethod
    def of(cls, counts: "Counts | pd.DataFrame") -> "Counts":
        """Return counts as they are, or a frame with columns study, events, total as counts.

        Raises
        ------
        DfspError
            Rows that cannot be used, all at once.
        """
        return counts if isinstance(counts, Counts) else check_table(counts)

    def __repr__(self) -> str:
        events, total = self.table["events"].sum(), self.table["total"].sum()
        studies = "1 study" if len(self.table) == 1 else f"{len(self.table)} studies"
        choices = [studies, f"{self.label} {events}/{total}"]
        if self.evidence_set:
            choices.append(f"evidence set '{self.evidence_set}'")
        if self.not_evaluable:
            choices.append(f"not evaluable: {self.not_evaluable}")
        return f"Counts({', '.join([*choices, f'{len(self.dropped)} dropped'])})"

    def __str__(self) -> str:
        shown = ["study", "events", "total", "dose_mg", "setting", "shares_patients_with"]
        table = self.table[[column for column in shown if column in self.table]]
        lines = [repr(self), table.to_string(index=False)]
        lines += [f"dropped: {row.study}: {row.reason}" for row in self.dropped.itertuples()]
        return "\n".join(lines)


def without(counts: Counts, studies: Iterable[str]) -> Counts:
    """Return the counts without some studies.

    Parameters
    ----------
    counts : Counts
    studies : iterable of str

    Raises
    ------
    DfspError
        A study that is not there, or none is left.
    """
    gone = set(studies)
    table = counts.table
    if unknown := sorted(gone - set(table["study"])):
        raise DfspError(
            f"drop: {', '.join(unknown)} not in the table; its studies are "
            f"{', '.join(table['study'])}"
        )
    table = table[~table["study"].isin(gone)].reset_index(drop=True)
    if table.empty:
        raise DfspError("drop: no study is left")
    if "shares_patients_with" in table:
        kept = [
            "; ".join(name for name in cell.split("; ") if name not in gone)
            for cell in table["shares_patients_with"]
        ]
        table = table.assign(shares_patients_with=pd.Series(kept, dtype="str"))
    return replace(counts, table=table)


def read_table(
    file: str | Path, *, study: str = "study", events: str = "events", total: str = "total"
) -> Counts:
    """Read a CSV file of studies.

    Commas, semicolons and tabs separate; a byte order mark is harmless. Further columns are kept
    as covariates: numbers if every cell is one, else text; an empty cell or `NA` is missing.
    Studies with the same `trial` share patients; a column `shares_patients_with` says so by name.

    Parameters
    ----------
    file : str or Path
        Path of the file; `"-"` is standard input.
    study, events, total : str
        Names of the columns that hold the study, the patients with the outcome, and the patients
        counted.

    Returns
    -------
    Counts
        One row a study, in the order of the file.

    Raises
    ------
    DfspError
        The file cannot be read, or some rows cannot be used; all faults at once, by line number.
    """
    where, data = _content(file)
    try:
        cells, faults = read_cells(data)
    except DfspError as error:
        raise DfspError(f"{where}: {error}") from None
    names = {"study": study, "events": events, "total": total}
    frame = cells.apply(typed)
    files = {where: hashlib.sha256(data).hexdigest()}
    return _counts(where, cells, frame, names, faults, files)


def check_table(
    frame: pd.DataFrame, *, study: str = "study", events: str = "events", total: str = "total"
) -> Counts:
    """Check a table of studies made in Python; the same rules as `read_table`.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a study; further columns are kept as they are.
    study, events, total : str
        Names of the columns that hold the study and its counts.

    Returns
    -------
    Counts
        One row a study, in the order of the table.

    Raises
    ------
    DfspError
        Some rows cannot be used; all faults at once, by position (the first row is 0).
    """
    if not isinstance(frame, pd.DataFrame):
        raise DfspError(f"table: a {type(frame).__name__}; give a pandas.DataFrame")
    frame = frame.reset_index(drop=True).rename(columns=str)
    repeated = [f"the column {name!r} appears twice" for name in _repeated(frame.columns)]
    if repeated:
        raise listed("table", "the columns cannot be used", repeated)
    cells = frame.apply(
        lambda column: column.map(lambda value: "" if pd.isna(value) else str(value).strip())
    )
    names = {"study": study, "events": events, "total": total}
    return _counts("table", cells, frame, names, {}, {})


def read_cells(data: bytes) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read the bytes of a CSV file as text, cell by cell.

    Returns
    -------
    pandas.DataFrame
        Stripped text; the row labels are line numbers as an editor shows them (header = 1).
    dict of int to str
        What is wrong with a row, by line number; such rows are left out of the table.

    Raises
    ------
    DfspError
        The file as a whole is no table.
    """
    if data.startswith(b"PK\x03\x04"):
        raise DfspError("this is a workbook, not text; save it as 'CSV UTF-8'")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"the text in row {line} is not UTF-8; save the file as 'CSV UTF-8'"
        raise DfspError(message) from None
    if "\0" in text:
        raise DfspError("this is not a text file; save the table as 'CSV UTF-8'")
    heading = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(",;\t", key=heading.count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    records, row = {}, 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                records[row] = [cell.strip() for cell in record]
            row = reader.line_num + 1
    except csv.Error as error:
        message = f"row {row} is not readable as CSV ({error}); are the quotes closed?"
        raise DfspError(message) from None
    if not records:
        raise DfspError("the file is empty")
    header = records.pop(min(records))
    if twice := _repeated(name for name in header if name):
        raise DfspError(f"the column {twice[0]!r} appears twice; rename one")
    return _rectangle(header, records)


def _rectangle(
    header: list[str], records: dict[int, list[str]]
) -> tuple[pd.DataFrame, dict[int, str]]:
    faults, rows = {}, {}
    for row, record in records.items():
        if len(record) < len(header) or any(record[len(header) :]):
            faults[row] = (
                f"{len(record)} cells under {len(header)} column names; "
                "put quotes around a cell that contains the separator"
            )
        else:
            rows[row] = record[: len(header)]
    frame = pd.DataFrame(list(rows.values()), list(rows), range(len(header)), dtype="str")
    # R and pandas write row names under an empty first heading; spreadsheets add empty columns.
    unnamed = [i for i, name in enumerate(header) if not name]
    for i in unnamed:
        if i and frame[i].any():
            raise DfspError(f"column {i + 1} has no name; name or remove it")
    return frame.rename(columns=dict(enumerate(header))).drop(columns="", errors="ignore"), faults


def count_fault(cell: str) -> str:
    """Say why the text of a cell is no count of patients; `""` if it is one."""
    if not cell:
        return "the cell is empty"
    if match := _WHOLE.fullmatch(cell):
        digits = match[1].lstrip("0")
        too_big = len(digits) > 10 or int(digits or 0) > MAX_COUNT
        return f"{cell} is more than any study can have ({MAX_COUNT})" if too_big else ""
    if cell.endswith("%"):
        return f"{cell!r} is a percentage; give the number of patients"
    if _THOUSANDS.fullmatch(cell):
        plain = re.sub(r"\D", "", cell)
        return f"{cell!r} is not a whole number; write {plain} if the sign separates thousands"
    point = cell.replace(",", ".")
    if _NUMBER.fullmatch(point):
        value = float(point)
        if value < 0:
            return f"{cell} is negative"
        if 0 < value < 1:
            return f"{cell} is a proportion; give the number of patients"
        return f"{cell} is not a whole number; give the number of patients"
    return f"{cell!r} is not a number"


def number_fault(cell: str) -> str:
    """Say why the text of a cell is no non-negative number; `""` if it is one."""
    if not cell:
        return "the cell is empty"
    if _NUMBER.fullmatch(cell):
        return f"{cell} is negative" if cell.startswith("-") else ""
    if _NUMBER.fullmatch(cell.replace(",", ".")):
        return f"{cell!r} has a decimal comma; write {cell.replace(',', '.')}"
    return f"{cell!r} is not a number"


def typed(column: pd.Series) -> pd.Series:
    """Return a covariate as numbers if every cell that is not missing is one, else as text."""
    column = column.mask(column == "NA", "")
    filled = column[column != ""]
    names_something = column.name in ("trial", "cohort")
    if names_something or filled.empty or not filled.str.fullmatch(_NUMBER).all():
        return column
    return pd.to_numeric(column.mask(column == ""))


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


def _repeated(names: Iterable[str]) -> list[str]:
    names = list(names)
    return sorted({name for name in names if names.count(name) > 1})


def _column_faults(columns: Sequence[str], names: Mapping[str, str]) -> list[str]:
    faults = [f"the column {name!r} is given twice" for name in _repeated(names.values())]
    for role, name in names.items():
        if name not in columns:
            close = [column for column in columns if column.casefold() == name.casefold()]
            hint = f"; {close[0]!r} differs in case: give --{role} {close[0]}" if close else ""
            faults.append(f"the column {name!r} ({role}) is missing{hint}")
        elif name != role and role in columns:
            faults.append(f"{name!r} is to be the column {role!r}, which exists; rename one")
    if faults:
        faults.append(f"found: {', '.join(columns)}")
        faults.append("say which column is which with --study, --events, --total")
    return faults


def _counts(
    where: str,
    cells: pd.DataFrame,
    frame: pd.DataFrame,
    names: Mapping[str, str],
    unreadable: Mapping[int, str],
    files: dict[str, str],
) -> Counts:
    """Judge `cells` (text) and build the counts with the covariates of `frame`."""
    if wrong := _column_faults(cells.columns.to_list(), names):
        raise listed(where, "the columns cannot be used", wrong)
    chosen = cells[list(names.values())].set_axis(list(names), axis="columns")
    studies = chosen["study"].to_list()
    pairs, faults = _named_pairs(cells, studies)
    for row, says in _row_faults(chosen, names).items():
        faults[row] = says + faults.get(row, [])
    if faults or unreadable:
        lines = {row: f"row {row}: {says}" for row, says in unreadable.items()}
        for row, says in faults.items():
            lines[row] = f"row {row} (study {chosen.at[row, 'study']!r}): {'; '.join(says)}"
        rows = "1 row" if len(lines) == 1 else f"{len(lines)} rows"
        raise listed(where, f"{rows} cannot be used", [lines[row] for row in sorted(lines)])
    if chosen.empty:
        raise DfspError(f"{where}: there is a header and no study below it")
    if "trial" in cells:
        pairs += same_trial(studies, typed(cells["trial"]))
    counts = {role: [int(float(cell)) for cell in chosen[role]] for role in ("events", "total")}
    covariates = frame.drop(columns=[*names.values(), "shares_patients_with"], errors="ignore")
    table = pd.concat([chosen[["study"]].assign(**counts), covariates], axis="columns")
    table["shares_patients_with"] = shared(studies, pairs)
    return Counts(table.reset_index(drop=True), files=files)


def _named_pairs(
    cells: pd.DataFrame, studies: list[str]
) -> tuple[list[tuple[str, str]], dict[int, list[str]]]:
    """Read the column `shares_patients_with`, if there is one: pairs of studies, and faults."""
    pairs: list[tuple[str, str]] = []
    faults: dict[int, list[str]] = {}
    if "shares_patients_with" in cells:
        known = set(studies)
        named = zip(cells.index, studies, cells["shares_patients_with"], strict=True)
        for row, study, others in named:
            for other in filter(None, map(str.strip, others.split(";"))):
                if other in known and other != study:
                    pairs.append((study, other))
                else:
                    says = f"shares_patients_with: {other!r} is no other study of this table"
                    faults.setdefault(row, []).append(says)
    return pairs, faults


def _row_faults(chosen: pd.DataFrame, names: Mapping[str, str]) -> dict[int, list[str]]:
    faults: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    columns = (chosen[role] for role in ("study", "events", "total"))
    for row, study, events, total in zip(chosen.index, *columns, strict=True):
        says = []
        if not study:
            says.append("the study has no name")
        elif ";" in study:
            says.append("a study's name cannot contain ';', which separates studies in lists")
        elif study in first:
            both = f"rows {first[study]} and {row}"
            says.append(f"the study appears twice ({both}); combine the arms or name them apart")
        first.setdefault(study, row)
        cells = {"events": events, "total": total}
        wrong = [f"{names[r]}: {why}" for r, cell in cells.items() if (why := count_fault(cell))]
        if not wrong and float(total) == 0:
            wrong.append(f"{names['total']} = 0; leave out a study without patients")
        elif not wrong and float(events) > float(total):
            wrong.append(f"{names['events']} = {events} exceeds {names['total']} = {total}")
        if says + wrong:
            faults[row] = says + wrong
    return faults
