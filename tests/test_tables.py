"""Tables of counts: what is read, and every way a table can be refused."""

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.errors import DfspError
from dfsp.evidence.cells import MAX_COUNT
from dfsp.evidence.tables import Counts, check_table, read_table

GOOD = "study,events,total\nAdams 2001,3,10\nBaker 2002,0,7\n"


@pytest.fixture
def written(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        file = tmp_path / "mine.csv"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


def refusal(call, *args, **options) -> str:
    with pytest.raises(DfspError) as caught:
        call(*args, **options)
    return str(caught.value)


def test_a_table_is_read_in_its_order(written):
    counts = read_table(written(GOOD))
    assert counts.table.columns.to_list() == ["study", "events", "total", "shares_patients_with"]
    assert counts.table["study"].to_list() == ["Adams 2001", "Baker 2002"]
    assert counts.table["events"].to_list() == [3, 0]
    assert counts.table["total"].to_list() == [10, 7]
    assert (counts.table["shares_patients_with"] == "").all()
    assert counts.table[["events", "total"]].dtypes.astype(str).to_list() == ["int64", "int64"]
    assert counts.dropped.empty and counts.dropped.columns.to_list() == ["study", "reason"]


def test_the_checksum_is_that_of_the_file(written):
    file = written("study,events,total\nA,1,2\n")
    known = "cd459f3ff271b15b88b4ace13fd7ab51ac798493b47b22b302d299ad36c15f61"
    assert read_table(file).files == {str(file): known}


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace(",", ";"),
        "\ufeff" + GOOD.replace(",", ";").replace("\n", "\r\n"),
        GOOD.replace(",", "\t"),
        GOOD.replace("\n", "\r"),
        GOOD.replace(",", " , "),
        GOOD.replace("\n", ",,\n") + ",,,,\n",
        "\n" + GOOD.replace("\n", "\n\n"),
        GOOD.replace(",10", ",10.0"),
        GOOD.replace("Adams 2001", '"Adams 2001"'),
    ],
    ids=["bom", "semicolon", "excel", "tab", "old mac", "spaces", "empty columns", "blank lines",
         "10.0", "quotes"],
)  # fmt: skip
def test_harmless_variants_of_a_file_give_the_same_counts(written, content):
    expected = read_table(written(GOOD)).table
    pd.testing.assert_frame_equal(read_table(written(content)).table, expected)


def test_row_names_of_r_and_pandas_are_ignored(written):
    content = '"","study","events","total"\n"1","Adams 2001",3,10\n"2","Baker 2002",0,7\n'
    expected = read_table(written(GOOD)).table
    pd.testing.assert_frame_equal(read_table(written(content)).table, expected)


def test_standard_input_is_a_dash(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    counts = read_table("-")
    assert counts.table["events"].to_list() == [3, 0]
    assert list(counts.files) == ["standard input"]


def test_columns_of_other_names(written):
    file = written("trial_name,r,n,dose_mg\nAdams,3,10,400\n")
    table = read_table(file, study="trial_name", events="r", total="n").table
    assert table.loc[0, ["study", "events", "total", "dose_mg"]].to_list() == ["Adams", 3, 10, 400]
    assert "r" not in table


def test_study_names_stay_text(written):
    table = read_table(written("study,events,total\n007,1,2\nNA,1,2\n1e3,0,2\n")).table
    assert table["study"].to_list() == ["007", "NA", "1e3"]


def test_covariates_are_numbers_only_if_every_cell_is(written):
    content = (
        "study,events,total,dose_mg,months,arm,cohort\nA,1,2,400,1.5,1,7\nB,1,2,800,NA,two,\n"
        "C,1,2,600,,,7\n"
    )
    table = read_table(written(content)).table
    assert table["dose_mg"].to_list() == [400, 800, 600]
    assert table["months"].dtype == float and table["months"].isna().to_list() == [0, 1, 1]
    assert table["arm"].to_list() == ["1", "two", ""]
    assert table["cohort"].to_list() == ["7", "", "7"]


def test_a_column_called_trial_means_nothing_by_itself(written):
    content = "study,events,total,trial\nA,1,2,X\nB,1,2,\nC,1,2,X\nD,1,2,NA\n"
    table = read_table(written(content)).table
    assert (table["shares_patients_with"] == "").all() and "cluster" not in table
    assert table["trial"].to_list() == ["X", "", "X", ""]


def test_rows_of_a_cluster_are_named_by_a_column(written):
    content = "study,events,total,trial\nA,1,2,X\nB,1,2,\nC,1,2,X\nD,1,2,NA\n"
    counts = read_table(written(content), cluster="trial")
    assert counts.table["cluster"].to_list() == ["X", "B", "X", "D"]
    assert counts.table["trial"].to_list() == ["X", "", "X", ""]
    with pytest.raises(DfspError, match="does not model clusters"):
        Counts.of(counts)


def test_a_column_called_cluster_means_nothing_by_itself_either(written):
    counts = read_table(written("study,events,total,cluster\nA,1,2,X\nB,1,2,X\n"))
    assert "cluster" not in Counts.of(counts).table
    assert counts.notes == (
        "the column 'cluster' is not used; give --cluster cluster if it groups rows",
    )


def test_shared_patients_survive_writing_and_reading(written):
    content = "study,events,total,shares_patients_with\nA,1,2,\nB,1,2,A\nC,1,2,\n"
    first = read_table(written(content))
    assert first.table["shares_patients_with"].to_list() == ["B", "A", ""]
    again = read_table(written(first.table.to_csv(index=False)))
    pd.testing.assert_frame_equal(again.table, first.table)
    pd.testing.assert_frame_equal(check_table(first.table).table, first.table)


@pytest.mark.parametrize("named", ["Z", "A"])
def test_sharing_with_nobody_is_refused(written, named):
    file = written(f"study,events,total,shares_patients_with\nA,1,2,{named}\nB,1,2,\n")
    assert f"row 2 (study 'A'): shares_patients_with: '{named}' is no other" in refusal(
        read_table, file
    )


@pytest.mark.parametrize(
    "name",
    ["ORR (%)", "response_rate", "Ansprechrate", "Remissionsrate [%]", "Ansprechquote", "ORRpct",
     "taux de réponse", "缓解率", "有效率（％）", "доля ответов"],
)  # fmt: skip
@pytest.mark.parametrize("cells", [("47", "18"), ("47", "18.5"), ("47 %", "18")])
def test_a_column_headed_like_a_percentage_is_questioned(written, name, cells):
    """Also if only some of its numbers could be counts: the others would be mended alone."""
    file = written(f"study,{name},n\nA,{cells[0]},150\nB,{cells[1]},220\n")
    message = refusal(read_table, file, events=name, total="n")
    assert f"the column {name!r} (events) is headed like a percentage" in message


@pytest.mark.parametrize("name", ["moderate", "separate", "corporate", "n (%)", "No. (rate)"])
def test_a_column_that_is_not_headed_so_is_not(written, name):
    file = written(f"study,{name},n\nA,47,150\nB,18,220\n")
    assert read_table(file, events=name, total="n").table["events"].to_list() == [47, 18]


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        (["0.467", "1", "0", "2"], "the 1 in row 3 may be a proportion too"),
        (["46.7 %", "50", "0", "18.2"], "the 50 in row 3 may be a percentage too"),
        (["46.7", "50", "18.2", "18"], "the whole numbers in rows 3 and 5 may be percentages too"),
        (["46.7", "120", "18.2", "0"], None),
        (["x", "50", "18", "0"], None),
    ],
)
def test_counts_among_shares_may_be_shares(written, cells, hint):
    """Whoever mends the rows that are refused would leave them, and they would be read."""
    rows = "".join(f"S{i},{cell},150\n" for i, cell in enumerate(cells))
    message = refusal(read_table, written("study,events,total\n" + rows))
    assert hint in message if hint else "too" not in message


def test_large_counts_work_up_to_the_limit(written):
    table = read_table(written(f"study,events,total\nA,99999,100000\nB,0,{MAX_COUNT}\n")).table
    assert table["total"].to_list() == [100_000, MAX_COUNT]


def test_ten_thousand_studies_are_read(written):
    rows = "".join(f"S{i},{i % 7},{7 + i % 11},{i % 400}\n" for i in range(10_000))
    table = read_table(written("study,events,total,dose_mg\n" + rows)).table
    assert len(table) == 10_000 and table["events"].iloc[-1] == 9_999 % 7


CELLS = {
    "": "the cell is empty",
    "three": "'three' is not a number",
    "3 patients": "'3 patients' is not a number",
    "inf": "'inf' is not a number",
    "nan": "'nan' is not a number",
    "NA": "'NA' is not a number",
    "٣": "'٣' is not a number",
    "-3": "-3 is negative",
    "-0.5": "-0.5 is negative",
    "3.5": "3.5 is not a whole number",
    "3,5": "3,5 is not a whole number",
    "23 %": "'23 %' is a percentage; give the number of patients",
    "0.23": "0.23 is a proportion; give the number of patients",
    "0,23": "0,23 is a proportion; give the number of patients",
    "1,234": "'1,234' is not a whole number; write 1234",
    "1.234": "'1.234' is not a whole number; write 1234",
    "1 234 567": "'1 234 567' is not a whole number; write 1234567",
    "1000000001": "is more than any study can have",
    "9" * 5000: "is more than any study can have",
    "1e-1": "1e-1 is not a whole number",
}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell[:12])
def test_a_cell_that_is_no_count_is_refused(written, cell):
    message = refusal(read_table, written(f'study,events,total\nA,0,5\nB,"{cell}",9\n'))
    assert message.startswith(str(written(GOOD)) + ": 1 row cannot be used\n  row 3 (study 'B')")
    assert f"events: {CELLS[cell]}" in message or CELLS[cell] in message


def test_all_faults_are_listed_by_row(written):
    content = (
        "study,events,total\nAdams,3,10\nBaeten 2013,31,24\nBraun,x,\nAdams,1,2\n,1,2\nZero,0,0\n"
        "Cut,1\nLong,1,2,3\nSemi;colon,1,2\n"
    )
    message = refusal(read_table, written(content))
    assert message.splitlines() == [
        f"{written(content)}: 8 rows cannot be used",
        "  row 3 (study 'Baeten 2013'): events = 31 exceeds total = 24",
        "  row 4 (study 'Braun'): events: 'x' is not a number; total: the cell is empty",
        ("  row 5 (study 'Adams'): the study appears twice (rows 2 and 5)"),
        "  row 6 (study ''): the study has no name",
        "  row 7 (study 'Zero'): total = 0; leave out a study without patients",
        "  row 8: 2 cells under 3 column names; each column needs a cell, if an empty one",
        (
            "  row 9: 4 cells under 3 column names; put quotes around a cell that contains the "
            "separator"
        ),
        (
            "  row 10 (study 'Semi;colon'): a study's name cannot contain ';', which separates "
            "studies in lists"
        ),
        (
            "  arms of one study belong together: add a column that tells them apart and name it "
            "in --study, and --cluster study says that they do; outcomes of the same patients "
            "are not several studies: fit each by itself"
        ),
        "  each row needs the name of its study, also where cells are merged",
        "  rows without counts are left out with --missing drop (missing='drop')",
        "  arms that enrol no patient yet are predicted with --allow-empty (allow_empty=True)",
    ]


def test_rows_are_numbered_as_an_editor_does(written):
    content = 'study,events,total,note\n\nA,1,2,"two\nlines"\nB,3,2,\n'
    assert "row 5 (study 'B'): events = 3 exceeds total = 2" in refusal(
        read_table, written(content)
    )


def test_a_missing_file_and_a_folder(tmp_path):
    assert refusal(read_table, tmp_path / "no.csv").endswith("no.csv: the file does not exist")
    assert "this is a folder" in refusal(read_table, tmp_path)


def test_an_unreadable_file(tmp_path):
    assert "cannot be read (File name too long)" in refusal(read_table, tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n\n", "the file is empty"),
        (b"study,events,total\n", "there is a header and no study below it"),
        (b"study,events,total\nA,1,2\nK\x81rob,1,2\n", "row 3 is neither UTF-8 nor Windows-1252"),
        (b"study\0,events,total\nA,1,2\n", "not a text file"),
        (b"PK\x03\x04 and so on", "this workbook cannot be read"),
        (b'study,events,total\nA,1,2\n"B,1,2\n', "row 3 is not readable as CSV"),
        (b"study,events,total,total\nA,1,2,3\n", "'total' (total) appears twice (3 and 4)"),
    ],
)
def test_a_file_that_is_no_table(written, content, says):
    assert says in refusal(read_table, written(content))


def test_wrong_columns_name_what_was_found_and_the_options(written):
    message = refusal(read_table, written("Study,responders,total\nA,1,2\n"))
    assert "the columns cannot be used" in message
    assert "'study' (study) is missing; 'Study' differs in case: give --study Study" in message
    assert "the column 'events' (events) is missing\n" in message
    assert "found: Study, responders, total" in message
    assert "--study, --events, --total" in message


def test_a_refusal_says_what_was_done_to_read_the_file(written):
    """Names in another encoding are not those that were asked for."""
    content = "研究,事件,总数\n王 2002,7,15\n".encode("gbk")
    message = refusal(read_table, written(content), study="研究", events="事件", total="总数")
    assert "\n  note: the text is read as Windows-1252, since row 1 is not UTF-8" in message
    with pytest.raises(DfspError) as found:
        read_table(written("Title\nstudy,events,total\nA,x,2\n"))
    assert found.value.faults[-1].startswith("note: row 1 is passed over as a title: 'Title'")


@pytest.mark.parametrize(
    "content",
    ["study|events|total\nA|7|15\n", "study   events   total\nA   7   15\n",
     "study，events，total\nA，7，15\n", '[{"study": "A"}]\n'],
)  # fmt: skip
def test_a_table_that_is_not_separated_is_not_one_column(written, content):
    message = refusal(read_table, written(content))
    assert "only one column is found; commas, semicolons or tabs must separate columns" in message
    assert "is it" not in message


def test_fractions_without_a_number_are_left_out(written):
    file = written("study,ORR\nA,7/15\nB,NR/20\nC,\nD,4/22\n")
    assert "left out with --missing drop" in refusal(read_table, file, counts="ORR")
    counts = read_table(file, counts="ORR", missing="drop")
    assert counts.table["study"].to_list() == ["A", "D"]
    assert counts.dropped["reason"].to_list() == ["row 3: ORR is NR/20", "row 4: ORR is empty"]


def test_rows_that_have_nothing_but_a_name_may_be_no_studies(written):
    content = "study,events,total\nPhase I,,\nA,7,15\nB,NR,20\n* at 12 weeks,,\n"
    message = refusal(read_table, written(content))
    assert "\n  rows 2 and 5 have nothing but a name: remove headings and notes\n" in message
    message = refusal(read_table, written("study,events,total\nA,7,15\nB,,20\n"))
    assert "nothing but a name" not in message


def test_a_name_that_stands_for_several_rows_is_asked_for_in_each(written):
    """As a merged cell does: only its first row has the name."""
    message = refusal(read_table, written("study,arm,events,total\nA,x,7,15\n,y,4,22\n"))
    assert message.endswith("each row needs the name of its study, also where cells are merged")


def test_the_column_asked_for_wins_over_one_of_that_name(written):
    counts = read_table(written("study,events,total,n\nA,1,2,3\n"), total="n")
    assert counts.table["total"].to_list() == [3]
    assert counts.notes == ("the column 'total' is not used",)


def test_one_column_cannot_be_events_and_total(written):
    file = written("study,events,total,n\nA,1,2,3\n")
    assert "'total' is given twice" in refusal(read_table, file, events="total")


def test_a_data_frame_passes_the_same_checks():
    frame = pd.DataFrame(
        {"study": [7, "B"], "events": [1.0, 2.0], "total": [5, 6], "dose_mg": [400.0, None]},
        index=[10, 10],
    )
    counts = check_table(frame)
    assert counts.table["study"].to_list() == ["7", "B"]
    assert counts.table["events"].to_list() == [1, 2] and counts.table["events"].dtype == "int64"
    assert np.isnan(counts.table["dose_mg"].iloc[1])
    assert counts.files == {}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "the cell is empty"),
        (np.nan, "the cell is empty"),
        (np.inf, "'inf' is not a number"),
        (True, "'True' is not a number"),
        (0.5, "0.5 is a proportion"),
        (-1, "-1 is negative"),
        (9, "events = 9 exceeds total = 6"),
    ],
)
def test_a_data_frame_is_refused_by_position(value, says):
    frame = pd.DataFrame(
        {"study": ["A", "B"], "events": pd.Series([1, value], dtype=object), "total": [5, 6]}
    )
    message = refusal(check_table, frame)
    assert message.startswith("table: 1 row cannot be used\n  row 1 (study 'B'): ")
    assert says in message


def test_what_is_no_usable_data_frame():
    assert "a list; give a pandas.DataFrame" in refusal(check_table, [])
    twice = pd.DataFrame([[1, 2, 3, 4]], columns=["study", "events", "total", "total"])
    assert "'total' (total) appears twice (3 and 4)" in refusal(check_table, twice)
    assert "found: " in refusal(check_table, pd.DataFrame())


def test_counts_print_as_a_reader_wants_them(written):
    counts = read_table(written(GOOD))
    assert repr(counts) == "Counts(2 studies, event 3/17, 0 dropped)"
    assert "Baker 2002" in str(counts)
    one = Counts(counts.table[:1], pd.DataFrame([["X", "why"]], columns=["study", "reason"]))
    assert str(one).endswith("dropped: X: why") and "1 study" in repr(one)


def test_counts_that_were_fitted_can_be_taken_further(make):
    """What a fit has read of them is none of the fields of others made from them."""
    counts = make([("A", 3, 10), ("B", 8, 20), ("C", 5, 19), ("D", 9, 21)])
    dfsp.fit(counts)
    dosed = dfsp.Counts.of(counts.table.assign(dose=[400, 800, 400, 800]))
    dfsp.fit(dosed)
    doubled, name = dfsp.regression.log2_of(dosed, "dose", 800)
    assert doubled.table[name].to_list() == [-1, 0, -1, 0]
    assert doubled.columns["study"] == ["A", "B", "C", "D"]
