"""Files of tables as people have them: from bytes to rows of text, and what was done on the way.

CSV in UTF-8, UTF-16 or Windows-1252, separated by commas, semicolons or tabs; or a workbook, if the
package python-calamine is there.
"""

import csv
import io
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from dfsp.errors import DfspError

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)  # for Excel, as its first line
_UNSEEN = re.compile("[\u200b\u200e\u200f\u2060\ufeff]")  # marks that come along when copied
_NUMBER = re.compile(r"\d+([.,]\d+)?\s*%?")

_WORDS = "this is a document of a word processor; copy the table into a spreadsheet"
_OTHER_QUOTES = tuple("“”„«‘’'")

Records = dict[int, list[str]]
"""Stripped cells by line as an editor shows it, or row as a spreadsheet does; no empty rows."""


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes
    ----------
    header : list of str
        The columns' names as written, with a line break as a space; some may be empty or repeated.
    rows : dict of int to list of str
        One cell a column, by number of the row.
    faults : dict of int to str
        What is wrong with rows that are not among `rows`.
    notes : list of str
        What was done to read the file, for a user to know.
    """

    header: list[str]
    rows: Records
    faults: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def plain(name: str) -> str:
    """Return a name with every line break and run of spaces as one space, and letters in one."""
    return " ".join(unicodedata.normalize("NFC", _UNSEEN.sub("", name)).split())


def read_sheet(data: bytes, *, wanted: Collection[str] = (), sheet: str = "") -> Sheet:
    """Read the bytes of a file.

    Parameters
    ----------
    data : bytes
    wanted : collection of str
        Names of columns. The header is the first row that has all of them, and what stands above
        it is a title; without them, or if no row has them, the first row with two filled cells.
    sheet : str
        Name of a sheet of a workbook; by default the one with cells, or with the wanted columns.

    Raises
    ------
    DfspError
        The file as a whole is no table.
    """
    names = {plain(name).casefold() for name in wanted}
    if data[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        records, notes = _of_workbook(data, sheet, names)
    elif sheet:
        raise DfspError(f"only a workbook has sheets, and this is none; leave out sheet {sheet!r}")
    else:
        text, notes = _decoded(data)
        records, said = _of_text(text, names)
        notes += said
    if not records:
        raise DfspError("the file is empty")
    start = _header(records, names)
    notes += _titles(records, start)
    header = [plain(name) for name in records[start]]
    below = {row: record for row, record in records.items() if row > start}
    rows, faults = _rectangle(header, below)
    return Sheet(header, rows, faults, notes)


def read_cells(
    data: bytes, wanted: Collection[str] = ()
) -> tuple[pd.DataFrame, dict[int, str], list[str]]:
    """Read the bytes of a table whose columns are all meant, as those of an evidence folder.

    Returns
    -------
    pandas.DataFrame
        Stripped text, by number of the row.
    dict of int to str
        What is wrong with a row; such rows are left out of the table.
    list of str
        As in `Sheet`.

    Raises
    ------
    DfspError
        The file as a whole is no table, or a column has no name or that of another.
    """
    sheet = read_sheet(data, wanted=wanted)
    frame = pd.DataFrame(
        list(sheet.rows.values()), list(sheet.rows), range(len(sheet.header)), dtype="str"
    )
    names = list(enumerate(sheet.header))
    for i, name in names:
        if not name and i and frame[i].any():  # R and pandas name no first column
            raise DfspError(f"column {i + 1} has no name; name or remove it")
        if name and sheet.header.index(name) < i:
            raise DfspError(f"the column {name!r} appears twice; rename one")
    kept = [i for i, name in names if name]
    return frame[kept].rename(columns=dict(names)), sheet.faults, sheet.notes


def _decoded(data: bytes) -> tuple[str, list[str]]:
    """Return the text of a file, and its encoding as a note if it is not UTF-8."""
    text, notes = "", []
    if data.startswith(b"%PDF"):
        raise DfspError("this is a PDF, not a table; copy the table into a spreadsheet")
    if encoding := _utf_16(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            raise DfspError("the text is damaged: it begins as UTF-16 and is not") from None
        notes = ["the text is read as UTF-16"]
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            text, notes = _windows(data, error.start)
    text = text.rstrip("\x1a")  # the end of a file in MS-DOS
    if re.search("[\x00-\x08\x0e-\x1f]", text):
        raise DfspError("this is not a text file; save the table as 'CSV UTF-8'")
    if text.startswith("{\\rtf"):
        raise DfspError(_WORDS)
    if text.lstrip()[:1] == "<":
        raise DfspError("this is a web page or XML; open it in a spreadsheet and save it as CSV")
    return _UNSEEN.sub("", text), notes


def _utf_16(data: bytes) -> str:
    """Return the kind of UTF-16 that a file is in, `""` if it is not."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = data[:1000]
    first, second = start[::2].count(0), start[1::2].count(0)
    # Without a mark at its start: of digits and separators every other byte is 0.
    if second > len(start) / 4 and not first:
        return "utf-16-le"
    return "utf-16-be" if first > len(start) / 4 and not second else ""


def _windows(data: bytes, place: int) -> tuple[str, list[str]]:
    """Return text that is not UTF-8 at a place, as spreadsheets in Western Europe write it."""
    marked = data.startswith(BOM_UTF8)
    # The decoder counts from behind the mark.
    line = data.count(b"\n", 0, place + len(BOM_UTF8) * marked) + 1
    try:
        if marked:
            raise ValueError("it says that it is UTF-8")
        text = data.decode("cp1252")
    except ValueError:
        message = f"the text in row {line} is neither UTF-8 nor Windows-1252"
        raise DfspError(f"{message}; save the file as 'CSV UTF-8'") from None
    word = re.split(r"[\s,;\t\"]", text[:place])[-1] + re.split(r"[\s,;\t\"]", text[place:])[0]
    note = f"the text is read as Windows-1252, since row {line} is not UTF-8: is {word!r} right?"
    return text, [note]


def _of_text(text: str, names: set[str]) -> tuple[Records, list[str]]:
    """Return the records of a text with the separator that fits it."""
    first, _, rest = text.partition("\n")
    if match := _SEPARATOR_LINE.fullmatch(first):
        separator = match[1]
        if separator not in f"{SEPARATORS}|":
            raise DfspError(f"{first.strip()!r}: no such separator is read; use , ; tab or |")
        records = _parsed(rest, separator, skipped=1)
        return records, [f"the first line, {first.strip()!r}, names the separator"]
    heading = next((line for line in text.splitlines() if line.strip()), "")
    found: dict[str, Records] = {}
    errors: list[DfspError] = []
    # The separator of the header as a rule, but a name may hold as many of another.
    for separator in sorted(SEPARATORS, key=heading.count, reverse=True):
        try:
            records = _parsed(text, separator)
        except DfspError as error:
            errors.append(error)
            continue
        if names and records and names <= _folded(records[_header(records, names)]):
            return records, []
        found[separator] = records
    if not found:
        raise errors[0]
    return max(found.values(), key=_regular), []


def _parsed(text: str, separator: str, skipped: int = 0) -> Records:
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    records, row = {}, skipped + 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                records[row] = [cell.strip() for cell in record]
            row = reader.line_num + skipped + 1
    except csv.Error as error:
        message = f"row {row} is not readable as CSV ({error}); are the quotes closed?"
        raise DfspError(message) from None
    return records


def _regular(records: Records) -> tuple[float, int]:
    """Say how much the rows under the header are like it: their share, and its cells."""
    if not records:
        return 0.0, 0
    width = len(records[_header(records, set())])
    same = sum(len(record) == width for record in records.values()) / len(records)
    return (same if width > 1 else 0.0), width


def _folded(record: Sequence[str]) -> set[str]:
    return {plain(name).casefold() for name in record}


def _header(records: Records, names: set[str]) -> int:
    """Return the row that has the wanted names, or else the first with two cells or more."""
    if names:
        for row, record in records.items():
            if names <= _folded(record):
                return row
    several = (row for row, record in records.items() if sum(map(bool, record)) > 1)
    return next(several, min(records))


def _titles(records: Records, start: int) -> list[str]:
    """Say what stands above the header; rows of numbers there are no titles."""
    above = [row for row in records if row < start]
    for row in above:
        if sum(bool(_NUMBER.fullmatch(cell)) for cell in records[row]) > 1:
            raise DfspError(
                f"the columns are named in row {start}, below numbers in row {row}; begin the file "
                "with the names"
            )
    if not above:
        return []
    words = plain(" ".join(records[above[0]]))
    rows = f"row {above[0]} is" if len(above) == 1 else f"rows {above[0]} to {above[-1]} are"
    return [f"{rows} passed over as a title: {words!r}; the columns are named in row {start}"]


def _rectangle(header: list[str], records: Records) -> tuple[Records, dict[int, str]]:
    """Return the rows with one cell a column, and what is wrong with others."""
    rows, faults = {}, {}
    width, named = len(header), max((i for i, name in enumerate(header) if name), default=-1) + 1
    for row, record in records.items():
        if len(record) < named or any(record[width:]):
            cells = "1 cell" if len(record) == 1 else f"{len(record)} cells"
            hint = "put quotes around a cell that contains the separator"
            if any(cell.startswith(_OTHER_QUOTES) for cell in record):
                hint = 'only straight double quotes (") hold a cell together'
            elif len(record) < named:
                hint = "each column needs a cell, if an empty one"
            if len(record) == 1:
                hint = f"is {record[0][:40]!r} a note? remove it from the table"
            faults[row] = f"{cells} under {named} column names; {hint}"
        else:
            rows[row] = [*record[:width], *[""] * (width - len(record))]
    return rows, faults


def _of_workbook(data: bytes, sheet: str, names: set[str]) -> tuple[Records, list[str]]:
    if data[:2] == b"PK":
        _refuse_other_packed(data)
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise DfspError(
            "this is a workbook, which needs the package python-calamine (pip install "
            "python-calamine); or save the sheet as 'CSV UTF-8'"
        ) from None
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        found = {name: dict(_of_sheet(workbook, name)) for name in workbook.sheet_names}
    except Exception as error:  # the package raises errors of many kinds
        message = f"this workbook cannot be read ({str(error).splitlines()[0][:80]})"
        locked = "" if data[:2] == b"PK" else "; if a password opens it, save it without one"
        raise DfspError(f"{message}{locked}; save the sheet as 'CSV UTF-8'") from None
    known = ", ".join(map(repr, found))
    if sheet:
        if sheet not in found:
            raise DfspError(f"the workbook has no sheet {sheet!r}; its sheets are {known}")
        return found[sheet], []
    filled = [name for name, records in found.items() if records]
    if len(filled) < 2:
        return (found[filled[0]] if filled else {}), []
    fitting = [n for n in filled if names <= _folded(found[n][_header(found[n], names)])]
    if len(fitting) == 1:
        return found[fitting[0]], [f"read from the sheet {fitting[0]!r} of {known}"]
    raise DfspError(f"the workbook has several sheets; say which with --sheet (sheet=): {known}")


def _refuse_other_packed(data: bytes) -> None:
    """Say what a packed file is that is no workbook."""
    import zipfile

    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError):
        return  # damaged, which is said of it as of a workbook
    starts = {name.partition("/")[0] for name in names}
    if "word" in starts:
        raise DfspError(_WORDS)
    if any(name.endswith(".iwa") for name in names):
        raise DfspError("this is a document of Numbers or Pages; export it as Excel or CSV")
    if not starts & {"xl", "content.xml"}:
        raise DfspError("this is a packed folder (zip); unpack it and give the table in it")


def _of_sheet(workbook: "CalamineWorkbook", name: str) -> Iterator[tuple[int, list[str]]]:
    rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    for row, values in enumerate(rows, start=1):
        cells = [_text(value) for value in values]
        if any(cells):
            yield row, cells


def _text(value: object) -> str:
    """Return what a cell of a workbook shows, as near as can be told."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.15g}"
    return _UNSEEN.sub("", str(value)).strip()
