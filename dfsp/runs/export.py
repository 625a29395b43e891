"""A run as one Word file, and its tables as one workbook: what goes into a manuscript.

Both are made from the record and from what stands beside it in the run's folder. The packages that
write them are extras (`pip install "dfsp[word]"`).
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from dfsp.checks import VERDICTS
from dfsp.errors import DfspError
from dfsp.runs.checklist import fill_checklist
from dfsp.runs.record import parameters_of

Record = Mapping[str, Any]

PAGE = (8.27, 11.69)  # inches of A4
WIDE = 6.3  # inches between its margins, which figures and tables fill
MOST_ROWS = 60  # of a table in the Word file; the workbook has all
SIZE = 10  # points of the text
MANY = 6  # columns of a table beyond which its letters are smaller
LONG = 40  # characters of a cell beyond which its column becomes no wider
EMU = 914_400  # units of length of a Word file in an inch
DIGITS = 3  # significant ones of what is not whole, in the Word file


def word(folder: Path, record: Record) -> bytes:
    """Return the run as a Word file: what was found, on what, tables, figures, checklist.

    Parameters
    ----------
    folder : Path
        Of the run.
    record : mapping
        What its record says.

    Raises
    ------
    DfspError
        python-docx is not installed.
    """
    docx = _package("docx", "python-docx")
    document = docx.Document()
    properties = document.core_properties
    properties.created = properties.modified = datetime.fromisoformat(record["started"])
    properties.author, properties.title = "dfsp", folder.name
    document.styles["Normal"].font.size = docx.shared.Pt(SIZE)
    paper = document.sections[0]
    paper.page_width, paper.page_height = map(docx.shared.Inches, PAGE)
    paper.left_margin = paper.right_margin = docx.shared.Inches((PAGE[0] - WIDE) / 2)
    cells = _cells(folder, record)
    document.add_heading(_title(cells) or folder.name, 0)
    if record["status"] == "failed":
        document.add_paragraph(f"This run failed: {record['reason']}")
    for says in (record["headline"], record.get("prior_warning")):
        for line in (says or "").splitlines():
            document.add_paragraph(line)
    for name in (name for name in record["figures"] if name.endswith(".png")):
        document.add_heading(_heading(name), 1)
        document.add_picture(str(folder / name), width=docx.shared.Inches(WIDE))
    for name in record["tables"]:
        head, *rows = _rows(folder / name)
        document.add_heading(_heading(name), 1)
        if not rows:
            document.add_paragraph("None.")
            continue
        _add_table(document, head, [[_short(cell) for cell in row] for row in rows[:MOST_ROWS]])
        if len(rows) > MOST_ROWS:
            document.add_paragraph(f"The first {MOST_ROWS} of {len(rows)} rows of {name}.")
    document.add_heading("What was run", 1)
    _add_table(document, [], _facts(record))
    if record["checks"]:
        document.add_heading("Checks", 1)
        found = [
            [each["name"], VERDICTS[each["passed"]], each["says"]] for each in record["checks"]
        ]
        _add_table(document, ["check", "verdict", ""], found)
    document.add_heading("Reporting checklist", 1)
    items = fill_checklist(cells, record)[["guideline", "item", "asks", "answer"]]
    _add_table(document, ["guideline", "item", "", "answer"], items.to_numpy().tolist())
    return _bytes(document.save)


def workbook(folder: Path, record: Record) -> bytes:
    """Return the tables of a run as a workbook, a sheet each, with every row.

    Parameters
    ----------
    folder : Path
        Of the run.
    record : mapping
        What its record says.

    Raises
    ------
    DfspError
        openpyxl is not installed.
    """
    book = _package("openpyxl", "openpyxl").Workbook()
    book.properties.created = book.properties.modified = _naive(record["started"])
    sheet = book.active
    sheet.title = "run"
    for row in _facts(record):
        sheet.append(row)
    for name in record["tables"]:
        sheet = book.create_sheet(Path(name).stem[:31])  # as many characters as Excel allows
        head, *rows = _rows(folder / name)
        sheet.append(head)
        for row in rows:
            sheet.append([_number(cell) for cell in row])
        sheet.freeze_panes = "A2"
    return _bytes(book.save)


FORMATS: Mapping[str, Callable[[Path, Record], bytes]] = {"docx": word, "xlsx": workbook}
"""How a run is written, by the ending of the file."""


def _package(name: str, called: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise DfspError(
            f'{called} is not installed, which writes such files: pip install "dfsp[word]"'
        ) from None


def _naive(started: str) -> datetime:
    return datetime.fromisoformat(started).replace(tzinfo=None)


def _facts(record: Record) -> list[list[str]]:
    """Return what the run was made from, a name and a text each."""
    said = {
        "notebook": record["notebook"],
        "parameters": _listed(parameters_of(record)),
        "engine": record["engine"] or "-",
        "seed": str(record["seed"]),
        "started": record["started"],
        "data (SHA-256)": _listed({name: each[:12] for name, each in record["data"].items()}),
        "versions": _listed(record["versions"]),
        "source (SHA-256)": (record["source_sha256"] or "not recorded")[:12],
    }
    return [[name, value] for name, value in said.items()]


def _listed(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} = {value}" for name, value in values.items()) or "-"


def _rows(path: Path) -> list[list[str]]:
    """Return the cells of a table of the run; what is gone is said."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file)) or [[]]
    except OSError as error:
        return [[f"{path.name} cannot be read ({error.strerror})"]]


def _number(cell: str) -> float | int | str | None:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None


def _short(cell: str) -> str:
    value = _number(cell)
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else cell


def _title(cells: Sequence[Any]) -> str:
    """Return the notebook's own title."""
    texts = (cell.source for cell in cells if cell.cell_type == "markdown")
    titles = (line[2:] for text in texts for line in text.splitlines() if line.startswith("# "))
    return next(titles, "")


def _heading(name: str) -> str:
    return Path(name).stem.replace("_", " ").capitalize()


def _add_table(document: Any, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    head = [name.replace("_", " ") for name in head]
    every = [row for row in (head, *rows) if row]
    if not every:
        return
    columns = max(map(len, every))
    table = document.add_table(rows=0, cols=columns, style="Table Grid")
    size = document.styles["Normal"].font.size * (0.75 if columns > MANY else 0.9)
    # Names of columns go over several lines.
    words = [max(name.split() or [""], key=len) for name in head]
    longest = [
        max(len(str(row[i])) for row in (words, *rows) if i < len(row)) for i in range(columns)
    ]
    room = [min(each, LONG) + 3 for each in longest]
    widths = [int(WIDE * EMU * each / sum(room)) for each in room]
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width  # for what is not Word, which goes by the cells
    for row in every:
        for cell, text, width in zip(table.add_row().cells, row, widths, strict=False):
            cell.width = width
            run = cell.paragraphs[0].add_run(str(text))
            run.font.size, run.font.bold = int(size), row is head


def _cells(folder: Path, record: Record) -> list[Any]:
    from dfsp.runs.light import nbformat

    try:
        return list(nbformat.read(folder / record["notebook"], as_version=4).cells)
    except (OSError, ValueError):  # a failed run may have left none, or half of one
        return []


def _bytes(save: Callable[[Any], None]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()
