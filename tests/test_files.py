"""Files as people have them: encodings, separators, titles, quotes, workbooks."""

import io
import sys
import unicodedata
import zipfile

import pytest
from workbooks import ods, xlsx

from dfsp.errors import DfspError
from dfsp.evidence.files import read_cells, read_sheet

WANTED = ("events", "total")
GOOD = "study,events,total\nKérob 2010,9,25\nChen 2008,4,22\n"
HEADER = ["study", "events", "total"]
ROWS = {2: ["Kérob 2010", "9", "25"], 3: ["Chen 2008", "4", "22"]}


def read(content: str | bytes, **options):
    data = content.encode() if isinstance(content, str) else content
    return read_sheet(data, **{"wanted": WANTED, **options})


def refusal(content: str | bytes, **options) -> str:
    with pytest.raises(DfspError) as caught:
        read(content, **options)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_is_nothing_to_tell(encoding):
    sheet = read(GOOD.encode(encoding))
    assert (sheet.header, sheet.rows, sheet.notes) == (HEADER, ROWS, [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_and_named(encoding):
    sheet = read(GOOD.encode(encoding))
    assert (sheet.rows, sheet.notes) == (ROWS, ["the text is read as UTF-16"])


def test_windows_1252_is_read_and_asked_about():
    sheet = read(GOOD.encode("cp1252"))
    assert sheet.rows == ROWS
    assert sheet.notes == [
        "the text is read as Windows-1252, since row 2 is not UTF-8: is 'Kérob' right?"
    ]


def test_text_that_says_utf_8_and_is_not_is_refused():
    assert "row 2 is neither UTF-8 nor" in refusal(b"\xef\xbb\xbf" + GOOD.encode("cp1252"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_ends_of_lines(separator, end):
    sheet = read(GOOD.replace(",", separator).replace("\n", end))
    assert (sheet.header, sheet.rows) == (HEADER, ROWS)


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_first_line_for_excel_names_the_separator(line):
    sheet = read(f"{line}\r\n" + GOOD.replace(",", ";").replace("\n", "\r\n"))
    assert list(sheet.rows) == [3, 4]
    assert sheet.notes == [f"the first line, {line!r}, names the separator"]


def test_a_separator_that_is_not_read():
    assert "'sep=x': no such separator is read; use , ; tab or |" in refusal("sep=x\n" + GOOD)


@pytest.mark.parametrize(
    "header",
    ["Study (author, year);events, all;events;total", 'Study (a, b, c, d);"n, %";events;total'],
)
def test_a_header_with_as_many_commas_as_semicolons(header):
    sheet = read(f"{header}\nBaker 2002;x;7;15\n")
    assert sheet.rows == {2: ["Baker 2002", "x", "7", "15"]}


def test_the_separator_without_the_wanted_names_is_the_one_that_fits_the_rows():
    """What is missing can then be said of the columns as they are."""
    sheet = read("Name, author;r, all;n\nBaker;7;15\nChen, A;4;22\n")
    assert sheet.header == ["Name, author", "r, all", "n"]


def test_line_breaks_in_a_header_are_spaces():
    sheet = read('"Study\n(author, year)";"events\n";total\nBaker;7;15\n')
    assert sheet.header == ["Study (author, year)", "events", "total"]
    assert list(sheet.rows) == [4]


@pytest.mark.parametrize(
    "title",
    [
        "Table 2. Objective response by study,,",
        "Table 2. Objective response by study",
        '"Table 2. Response, by study"',
        "Exported; 3 rows, 3 columns",
        ",Objective response,",
    ],
)
def test_titles_are_passed_over_and_said(title):
    sheet = read(f"{title}\n,,\n{GOOD}")
    assert (sheet.header, list(sheet.rows)) == (HEADER, [4, 5])
    (note,) = sheet.notes
    assert note.startswith("row 1 is passed over as a title: '")
    assert note.endswith("; the columns are named in row 3")


def test_numbers_above_the_names_are_no_title():
    message = refusal("name,r,n\nBaker,7,15\nstudy,events,total\nChen,4,22\n")
    assert message == (
        "the columns are named in row 3, below numbers in row 2; begin the file with the names"
    )


def test_a_note_below_the_table_is_named():
    sheet = read(GOOD + "* one patient was not evaluable\n")
    assert sheet.faults == {
        4: "1 cell under 3 column names; is '* one patient was not evaluable' a note? remove it "
        "from the table"
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"%PDF-1.7\n", "this is a PDF, not a table"),
        (b"<html><table><tr><td>study</td></tr></table></html>", "a web page or XML"),
        (rb"{\rtf1 study events total}", "this is a document of a word processor"),
        (b"\xff\xfes\x00t", "it begins as UTF-16 and is not"),
        (b"\xff\xfe\x00\xd8\x00\x00a", "it begins as UTF-16 and is not"),
        (GOOD.encode().replace(b"K", b"\x07"), "this is not a text file"),
    ],
)
def test_what_is_no_table(content, says):
    assert says in refusal(content)


def test_letters_in_two_parts_are_those_in_one():
    """As macOS writes them; a name typed at the command line is in one."""
    parts = unicodedata.normalize("NFD", "Étude;Réponses;N\nKérob;7;15\n")
    sheet = read(parts, wanted=("Réponses", "N"))
    assert sheet.header == ["Étude", "Réponses", "N"]


def test_marks_that_nobody_sees_are_no_part_of_a_cell():
    sheet = read("\u200bstudy,events\u2060,total\nKérob 2010\u200e,9\u200f,25\nChen 2008,4,22\n")
    assert (sheet.header, sheet.rows) == (HEADER, ROWS)
    sheet = read(xlsx({"A": [["study", "events", "total\u200b"], ["Kérob 2010", "9\u200e", 25]]}))
    assert (sheet.header, sheet.rows) == (HEADER, {2: ROWS[2]})


@pytest.mark.parametrize("cells", ["“Becker, 2008”,4,22", "'Becker, 2008',4,22", "‘B, 2008’,4,22"])
def test_other_quotes_hold_no_cell_together(cells):
    (fault,) = read(f"{GOOD}{cells}\n").faults.values()
    assert 'only straight double quotes (") hold a cell together' in fault


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("word/document.xml", "this is a document of a word processor"),
        ("Index/Document.iwa", "this is a document of Numbers or Pages; export it as Excel or CSV"),
        ("mine.csv", "this is a packed folder (zip); unpack it"),
    ],
)
def test_what_is_packed_and_no_workbook(member, says):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "x")
    assert says in refusal(buffer.getvalue())


TABLE = [
    ["Table 2. Response", None, None, None],
    ["study", "events", "total", "dose"],
    ["Kérob 2010", 9, 25, 400.5],
    ["Chen, 2008", 4.0, 22, None],
]


@pytest.mark.parametrize("made", [xlsx, ods])
def test_a_workbook_is_read(made):
    sheet = read(made({"Data": TABLE, "Empty": []}))
    assert sheet.header == ["study", "events", "total", "dose"]
    assert sheet.rows == {3: ["Kérob 2010", "9", "25", "400.5"], 4: ["Chen, 2008", "4", "22", ""]}


@pytest.mark.parametrize("made", [xlsx, ods])
def test_the_sheet_with_the_columns_is_taken_and_said(made):
    data = made({"Read me": [["who", "me"]], "Data": TABLE})
    sheet = read(data)
    assert sheet.notes[0] == "read from the sheet 'Data' of 'Read me', 'Data'"
    assert read(data, sheet="Data").notes == sheet.notes[1:]


@pytest.mark.parametrize("made", [xlsx, ods])
def test_a_sheet_that_cannot_be_chosen(made):
    data = made({"A": TABLE, "B": TABLE})
    assert "say which with --sheet (sheet=): 'A', 'B'" in refusal(data)
    assert "the workbook has no sheet 'C'; its sheets are 'A', 'B'" in refusal(data, sheet="C")
    assert "only a workbook has sheets" in refusal(GOOD, sheet="A")
    assert refusal(made({"A": []})) == "the file is empty"


def test_a_workbook_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    message = refusal(xlsx({"A": TABLE}))
    assert "pip install python-calamine" in message and "save the sheet as 'CSV UTF-8'" in message


@pytest.mark.parametrize("data", [b"PK\x03\x04 and so on", b"\xd0\xcf\x11\xe0" + bytes(600)])
def test_a_damaged_workbook(data):
    assert "this workbook cannot be read" in refusal(data)
    assert ("a password" in refusal(data)) == (data[:2] != b"PK")


def test_tables_whose_columns_are_all_meant():
    """Those of an evidence folder: no column is ignored but that of row names."""
    frame, faults, notes = read_cells(b'"","a","b"\n"1","x","y"\n"2","z"\n')
    assert frame.to_dict("index") == {2: {"a": "x", "b": "y"}}
    assert list(faults) == [3] and notes == []
    with pytest.raises(DfspError, match="the column 'a' appears twice; rename one"):
        read_cells(b"a,b,a\n1,2,3\n")
    with pytest.raises(DfspError, match="column 2 has no name; name or remove it"):
        read_cells(b"a,,b\n1,2,3\n")
