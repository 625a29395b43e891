"""The evidence: what its tables say, and every way they can contradict each other."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

import dfsp.evidence.load
from dfsp.errors import DfspError
from dfsp.evidence.load import TABLES, load_evidence

RESPONSE = "ugurel-2014,primary,response,all"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the evidence that a test may edit."""
    return Path(shutil.copytree(dfsp.DATA, tmp_path / "mine"))


def edit(folder: Path, table: str, old: str, new: str) -> None:
    file = folder / f"{table}.csv"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {table}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def append(folder: Path, table: str, *rows: str) -> None:
    with (folder / f"{table}.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"{row}\n" for row in rows)


def last(folder: Path, table: str) -> int:
    return len((folder / f"{table}.csv").read_text(encoding="utf-8").splitlines())


def line(folder: Path, table: str, start: str) -> int:
    lines = (folder / f"{table}.csv").read_text(encoding="utf-8").splitlines()
    return next(i for i, text in enumerate(lines, start=1) if text.startswith(start))


def faults(folder: Path, name: str = "review") -> list[str]:
    with pytest.raises(DfspError) as caught:
        load_evidence(name, folder=folder)
    heading, *found = str(caught.value).splitlines()
    some = "1 fault" if len(found) == 1 else f"{len(found)} faults"
    assert heading == f"{folder}: {some} in the tables"
    return [fault.strip() for fault in found]


# What the evidence says


def test_the_review_set_is_the_published_table():
    rows = load_evidence("review").rows
    response = rows[rows["measure"] == "response"]
    assert response["cohort"].nunique() == 10
    totals = response.groupby("category")["count"].sum()
    assert totals.to_dict() == {"CR": 8, "PR": 84, "SD": 42, "PD": 14, "NE": 4}
    assert totals.drop("NE").sum() == 148


def test_published_numbers_that_can_be_traced_are_found():
    evidence = load_evidence("review")
    published = evidence.published.set_index("quantity")
    assert published.at["complete response (%)", "printed"] == "5.2"
    fraction = published.loc["clinical benefit (%)", ["numerator", "denominator"]]
    assert fraction.to_list() == [134, 152]


def test_the_reconciled_set_and_its_sources():
    rows = load_evidence("reconciled").rows
    response = rows[rows["measure"] == "response"].drop_duplicates("cohort")
    assert dict(zip(response["cohort"], response["source"], strict=True)) == {
        "ugurel-2014": "primary",
        "wang-2015": "primary",
        "rutkowski-2017": "primary",
        "stacchiotti-2016": "primary",
        "kerob-2010": "primary",
        "heinrich-2008": "review",
        "han-2009": "review",
        "rutkowski-2010": "primary",
    }
    assert rows.loc[rows["measure"] == "surgery", "cohort"].unique().tolist() == [
        "wang-2015",
        "rutkowski-2017",
        "stacchiotti-2016",
        "han-2009",
    ]


def test_rows_have_the_promised_columns_and_types():
    evidence = load_evidence("reconciled")
    assert evidence.rows.columns.to_list() == [
        "cohort", "label", "source", "measure", "population", "category", "count", "status",
        "reference", "note",
    ]  # fmt: skip
    assert evidence.rows["count"].dtype == "int64"
    assert not evidence.rows.isna().any(axis=None)
    cohorts = evidence.cohorts.set_index("cohort")
    assert len(cohorts) == 12
    assert cohorts.at["ugurel-2014", "start_dose_mg"] == 600
    assert pd.isna(cohorts.at["rutkowski-2010", "start_dose_mg"])
    assert cohorts.at["wang-2015", "trial"] == ""


def test_mcarthur_and_heinrich_overlap_in_the_review_and_not_reconciled():
    overlaps = load_evidence("review").overlaps
    pairs = {
        frozenset(pair): judgement
        for *pair, judgement in overlaps[["cohort", "other_cohort", "judgement"]].to_numpy()
    }
    assert pairs == {
        frozenset({"mcarthur-2005", "heinrich-2008"}): "very likely nested",
        frozenset({"rutkowski-2017", "rutkowski-2010-eortc"}): "possible",
    }
    assert load_evidence("reconciled").overlaps["judgement"].to_list() == ["possible"]


def test_ugurel_conflicts_and_coarse_categories_are_compared_fairly():
    conflicts = load_evidence("reconciled").conflicts
    ugurel = conflicts[conflicts["cohort"] == "ugurel-2014"]
    shown = ugurel[["category", "source", "count", "other_source", "other_count"]]
    assert shown.fillna(-1).to_numpy().tolist() == [
        ["CR", "review", 0, "primary", 1],
        ["PD", "review", 2, "primary", 1],
        ["NE", "review", -1, "primary", 2],
    ]
    # Kérob and McArthur only look different: one source splits what the other does not.
    assert set(conflicts["cohort"]) == {"ugurel-2014", "rutkowski-2010"}


def test_a_pooled_report_is_held_against_the_sum_of_its_parts():
    conflicts = load_evidence("review").conflicts
    pooled = conflicts[conflicts["cohort"] == "rutkowski-2010"]
    shown = pooled[["category", "source", "count", "other_source", "other_count"]]
    assert shown.to_numpy().tolist() == [
        ["PR", "review", 9, "primary", 11],
        ["SD+NE", "review", 11, "primary", 9],
    ]
    assert (pooled["note"] == "sum of rutkowski-2010-eortc, rutkowski-2010-swog").all()


def test_all_recorded_sums_agree_with_those_enrolled():
    assert load_evidence("reconciled").sums.empty


def test_a_sum_that_does_not_add_up_is_reported_and_not_corrected(folder):
    edit(
        folder, "counts", "wang-2015,review,response,all,SD,6", "wang-2015,review,response,all,SD,5"
    )
    evidence = load_evidence("review", folder=folder)
    assert evidence.sums.to_numpy().tolist() == [
        ["wang-2015", "Wang 2015", "review", "response", 21, 22]
    ]
    wang = evidence.rows[(evidence.rows["cohort"] == "wang-2015")]
    assert wang["count"].sum() == 21
    assert evidence.conflicts["cohort"].to_list().count("wang-2015") == 1


def test_only_whole_cohorts_are_held_against_those_enrolled(folder):
    edit(folder, "counts", "evaluable,PD,2", "evaluable,PD,1")
    assert load_evidence("review", folder=folder).sums.empty


def test_conflicts_compare_all_patients_if_a_source_has_several_groups(folder):
    kept = len(load_evidence("review").conflicts)
    append(
        folder, "counts",
        "han-2009,primary,response,men,PR,1,printed,han2009,",
        "han-2009,primary,response,all,PR,4,printed,han2009,",
    )  # fmt: skip
    assert len(load_evidence("review", folder=folder).conflicts) == kept


def test_a_report_of_unknown_parts_has_no_sum(folder):
    edit(
        folder,
        "counts",
        "rutkowski-2010-swog,review,response,all,CR,0,printed,navarrete2019,\n",
        "",
    )
    for category, count in (("PR", 4), ("SD", 2), ("PD", 1)):
        row = f"rutkowski-2010-swog,review,response,all,{category},{count},printed,navarrete2019,\n"
        edit(folder, "counts", row, "")
    edit(
        folder,
        "counts",
        "rutkowski-2010-swog,review,response,all,NE",
        "han-2009,review,surgery,all,NE",
    )
    for name in ("review", "reconciled_by_dose"):
        file = folder / "evidence_sets.csv"
        kept = [
            row
            for row in file.read_text().splitlines()
            if f"{name},response,rutkowski-2010-s" not in row
        ]
        file.write_text("\n".join(kept))
    conflicts = load_evidence("reconciled", folder=folder).conflicts
    assert set(conflicts["cohort"]) == {"ugurel-2014"}


def test_the_checksums_are_those_of_the_files(folder):
    evidence = load_evidence("review", folder=folder)
    assert list(evidence.files) == [str(folder / f"{table}.csv") for table in TABLES]
    counts = (folder / "counts.csv").read_bytes()
    assert evidence.files[str(folder / "counts.csv")] == hashlib.sha256(counts).hexdigest()


def test_the_default_folder_does_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evidence = load_evidence("review")
    assert next(iter(evidence.files)) == str(Path("data") / "cohorts.csv")


def test_a_relative_folder_starts_where_one_stands(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert next(iter(load_evidence("review", folder="mine").files)) == str(Path("mine/cohorts.csv"))


def test_evidence_says_what_it_holds():
    assert load_evidence("reconciled").describe() == (
        "Evidence set 'reconciled': cohorts: response 8, surgery 4, severe_adverse_event 1; "
        "overlaps kept: 1; conflicts: 5; sums that differ: 0."
    )


# Adding to it


def test_adding_a_study_a_source_and_a_set_is_editing_tables(folder):
    append(folder, "references", "smith2024,Smith 2024. Journal.,,")
    append(folder, "cohorts", "smith-2024,cohort,Smith 2024,2024,,advanced,400,,9,,,,,,,,smith2024")
    append(
        folder, "counts",
        "smith-2024,registry,response,all,CR+PR,5,printed,smith2024,",
        "smith-2024,registry,response,all,SD+PD,4,printed,smith2024,",
    )  # fmt: skip
    append(
        folder, "evidence_sets",
        "newer,response,smith-2024,registry,", "newer,response,han-2009,review,",
    )  # fmt: skip
    rows = load_evidence("newer", folder=folder).rows
    assert rows["label"].unique().tolist() == ["Smith 2024", "Han 2009"]
    assert rows["count"].sum() == 13


def test_a_new_covariate_is_a_new_column(folder):
    file = folder / "cohorts.csv"
    first, *others = file.read_text(encoding="utf-8").splitlines()
    rows = [f"{first},male", *(f"{row},{i if i else ''}" for i, row in enumerate(others))]
    file.write_text("\n".join(rows), encoding="utf-8")
    male = load_evidence("review", folder=folder).cohorts["male"]
    assert pd.isna(male[0]) and male[1:4].to_list() == [1, 2, 3]


def test_files_from_a_spreadsheet_are_read(folder):
    expected = load_evidence("review", folder=folder)
    for table in TABLES:
        file = folder / f"{table}.csv"
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        frame.to_csv(file, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    found = load_evidence("review", folder=folder)
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    pd.testing.assert_frame_equal(found.cohorts, expected.cohorts)


def test_a_table_without_overlaps_is_fine(folder):
    (folder / "overlaps.csv").write_text("cohort,other_cohort,judgement,handling,evidence\n")
    assert load_evidence("review", folder=folder).overlaps.empty


# What it refuses


def test_an_unknown_set_lists_the_known_ones():
    with pytest.raises(DfspError, match="no evidence set 'best'; known: review, reconciled, rec"):
        load_evidence("best")


def test_a_missing_folder(tmp_path, monkeypatch):
    with pytest.raises(DfspError, match="nowhere does not exist; give a folder of CSVs"):
        load_evidence("review", folder=tmp_path / "nowhere")
    monkeypatch.setattr(dfsp.evidence.load, "data_folder", lambda: tmp_path / "data")
    with pytest.raises(DfspError, match="data does not exist; go to the folder of a project"):
        load_evidence("review")


def test_missing_files_and_columns_are_listed_with_other_faults(folder):
    (folder / "overlaps.csv").unlink()
    (folder / "references.csv").write_bytes(b"")
    edit(folder, "cohorts", "cohort,kind,label", "cohort,sort,label")
    edit(folder, "counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,-1")
    edit(folder, "published", "studies included,9,,,yes", "studies included,9,,,maybe")
    found = faults(folder)
    assert found[0] == "overlaps.csv: cannot be read (No such file or directory)"
    assert found[1] == "references.csv: the file is empty"
    assert found[2].startswith("cohorts.csv: the column 'kind' is missing; found: cohort, sort, ")
    row = line(folder, "counts", RESPONSE)
    assert found[3] == f"counts.csv: row {row}, column 'count': -1 is negative"
    assert found[4] == (
        "published.csv: row 2, column 'arithmetic': 'maybe' is not known; use yes, no"
    )
    assert len(found) == 5


def test_faults_of_cells_rows_and_sets_are_listed_together(folder):
    edit(folder, "counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,-1")
    edit(folder, "counts", f"{RESPONSE},PR", f"{RESPONSE},XX")
    edit(folder, "counts", f"{RESPONSE},SD", "ugurel-2014,primary,reply,all,SD")
    edit(folder, "cohorts", "advanced,400,yes,22,12", "advanced,400,yes,many,12")
    append(folder, "references", "wang2015,Wang,,")
    append(folder, "evidence_sets", "mine,response,nobody,review,", "mine,surgery,kerob-2010,own,")
    found = "\n".join(faults(folder))
    for says in (
        "-1 is negative", "'XX' is no category", "'reply' is not known", "'many' is not a number",
        "reference = wang2015 is repeated", "'nobody' is not known", "kerob-2010 has no counts",
    ):  # fmt: skip
        assert found.count(says) == 1
    assert len(found.splitlines()) == 7


CELLS = [
    ("counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,1.5", "count", "1.5 is not a whole number"),
    ("counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,one", "count", "'one' is not a number"),
    ("counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,", "count", "the cell is empty"),
    ("counts", f"{RESPONSE},CR,1", f"{RESPONSE},CR,7 %", "count", "'7 %' is a percentage"),
    ("counts", f"{RESPONSE},CR,1,derived", f"{RESPONSE},CR,1,guessed", "status", "'guessed' is no"),
    ("counts", f"{RESPONSE},CR,1,derived,ugurel2014", f"{RESPONSE},CR,1,derived,me", "reference",
     "'me' is not known; use navarrete2019, "),
    ("counts", f"{RESPONSE},CR", "u-2014,primary,response,all,CR", "cohort", "'u-2014' is not kno"),
    ("counts", f"{RESPONSE},CR", "ugurel-2014,,response,all,CR", "source", "the cell is empty"),
    ("counts", f"{RESPONSE},CR", "ugurel-2014,primary,reply,all,CR", "measure", "use response, any"),
    ("counts", f"{RESPONSE},CR", f"{RESPONSE},CP", "category", "'CP' is no category of response"),
    ("counts", f"{RESPONSE},CR", f"{RESPONSE},", "category", "the cell is empty"),
    ("counts", f"{RESPONSE},SD", f"{RESPONSE},SD+SD", "category", "'SD+SD' is no category"),
    ("counts", f"{RESPONSE},SD", f"{RESPONSE},event", "category", "join some of CR, PR, SD, PD, NE"),
    ("counts", "ugurel-2014,primary,severe_adverse_event,all,event",
     "ugurel-2014,primary,severe_adverse_event,all,CR", "category", "'CR' is no category of severe"),
    ("cohorts", "ugurel-2014,cohort", "ugurel-2014,crowd", "kind", "use cohort, pooled report, agg"),
    ("cohorts", "Wang 2015,2015", ",2015", "label", "the cell is empty"),
    ("cohorts", "Wang 2015,2015", "Wang; 2015,2015", "label", "contains ';'"),
    ("cohorts", "Wang 2015,2015", "Wang 2015,last", "year", "'last' is not a number"),
    ("cohorts", "advanced,400,yes,22", "advanced,400,some,22", "dose_escalation", "use yes, no"),
    ("cohorts", "advanced,400,yes,22", "advanced,400 mg,yes,22", "start_dose_mg", "not a number"),
    ("cohorts", "advanced,400,yes,22", "advanced,-400,yes,22", "start_dose_mg", "-400 is negative"),
    ("cohorts", "advanced,400,yes,22", "advanced,400,yes,-22", "enrolled", "-22 is negative"),
    ("cohorts", ",3.1,76.7", ',"3,1",76.7', "treatment_months_median", "decimal comma; write 3.1"),
    ("cohorts", "advanced,400,yes,22,12", "advanced,400,yes,22,23", "metastatic", "than enrolled"),
    ("cohorts", ",9,10,4.7", ",11,10,4.7", "fusion_positive", "more patients than fusion_tested"),
    ("evidence_sets", "reconciled,surgery,han-2009", "reconciled,surgeries,han-2009", "measure",
     "'surgeries' is not known"),
    ("evidence_sets", "reconciled,surgery,han-2009", "reconciled,surgery,han", "cohort",
     "'han' is not known"),
    ("evidence_sets", "reconciled,surgery,han-2009", ",surgery,han-2009", "evidence_set", "empty"),
    ("overlaps", "heinrich-2008,very likely nested", "heinrich-2008,Possible", "judgement",
     "use same patients, very likely nested, possible"),
    ("overlaps", "heinrich-2008,very likely", "heinrich,very likely", "other_cohort", "'heinrich'"),
    ("overlaps", "drop cohort; swap; keep", "Drop cohort; swap; keep", "handling",
     "'Drop cohort' is not known; use one or several of never both; keep both; keep both in review;"
     " drop cohort; drop other_cohort; swap"),
    ("overlaps", "drop cohort; swap; keep both in review", "drop either", "handling",
     "'drop either' is not known"),
    ("overlaps", "drop cohort; swap; keep both in review", "never both; swap", "handling",
     "'never both' leaves nothing else to do"),
    ("overlaps", "drop cohort; swap; keep both in review", ";", "handling",
     "the cell is empty; use one or several of never both"),
    ("published", "patients,152", "patients,many", "printed", "'many' is not a number"),
    ("published", "5.2,8,152", "5.2,8,152.5", "denominator", "152.5 is not a whole number"),
    ("references", "wang2015,\"Wang C", ",\"Wang C", "reference", "the cell is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new", "column", "says"), CELLS)
def test_a_cell_that_cannot_be_used(folder, table, old, new, column, says):
    edit(folder, table, old, new)
    row = next(
        i
        for i, text in enumerate((folder / f"{table}.csv").read_text("utf-8").splitlines(), start=1)
        if new in text
    )
    named = [
        f for f in faults(folder) if f.startswith(f"{table}.csv: row {row}, column '{column}'")
    ]
    assert any(says in fault for fault in named)


def test_a_row_counted_twice_names_both_rows(folder):
    append(folder, "counts", f"{RESPONSE},CR,1,derived,ugurel2014,")
    first = line(folder, "counts", f"{RESPONSE},CR")
    assert faults(folder) == [
        (
            f"counts.csv: rows {first}, {last(folder, 'counts')}: cohort, source, measure, population, category = "
            "ugurel-2014, primary, response, all, CR is repeated"
        )
    ]


@pytest.mark.parametrize(
    ("table", "row", "says"),
    [
        (
            "cohorts",
            "wang-2015,cohort,Wang,,,,,,,,,,,,,,wang2015",
            "cohort = wang-2015 is repeated",
        ),
        ("cohorts", "wang,cohort,Wang 2015,,,,,,,,,,,,,,wang2015", "label = Wang 2015 is repeated"),
        ("references", "wang2015,Wang,,", "reference = wang2015 is repeated"),
        ("published", "patients,152,,,yes,yes,,,wang2015,", "quantity = patients is repeated"),
        (
            "evidence_sets",
            "review,response,wang-2015,primary,",
            "review, response, wang-2015 is repeated",
        ),
        (
            "overlaps",
            "mcarthur-2005,heinrich-2008,possible,keep both,",
            "mcarthur-2005 is repeated",
        ),
        (
            "overlaps",
            "heinrich-2008,mcarthur-2005,possible,keep both,",
            "mcarthur-2005 is repeated",
        ),
    ],
)
def test_what_may_stand_only_once(folder, table, row, says):
    append(folder, table, row)
    (fault,) = faults(folder)
    assert fault.startswith(f"{table}.csv: rows ") and says in fault


@pytest.mark.parametrize(("category", "part"), [("CR+PR", "CR"), ("PD+NE", "PD"), ("SD+CR", "CR")])
def test_a_coarse_count_beside_its_parts_counts_patients_twice(folder, category, part):
    append(folder, "counts", f"{RESPONSE},{category},9,derived,ugurel2014,")
    row = line(folder, "counts", f"{RESPONSE},{part}")
    added = last(folder, "counts")
    says = f"counts.csv: row {added}, column 'category': {category!r} counts patients of row {row} again"
    assert any(fault.startswith(f"{says} ({part})") for fault in faults(folder))


def test_a_cohort_cannot_overlap_with_itself(folder):
    append(folder, "overlaps", "wang-2015,wang-2015,possible,keep both,")
    row = last(folder, "overlaps")
    assert faults(folder) == [f"overlaps.csv: row {row}: a cohort cannot overlap with itself"]


def test_a_set_needs_counts_from_its_source(folder):
    append(
        folder, "evidence_sets",
        "mine,response,heinrich-2008,primary,", "mine,surgery,kerob-2010,primary,",
    )  # fmt: skip
    row = last(folder, "evidence_sets")
    assert faults(folder, "mine") == [
        (
            f"evidence_sets.csv: row {row - 1} (set 'mine'): heinrich-2008 has no counts of response from "
            "the source 'primary'; sources: review"
        ),
        (
            f"evidence_sets.csv: row {row} (set 'mine'): kerob-2010 has no counts of surgery from "
            "the source 'primary'; sources: none"
        ),
    ]


def test_a_member_with_several_populations_is_ambiguous(folder):
    append(folder, "counts", "wang-2015,primary,surgery,metastatic,event,0,printed,wang2015,")
    (fault,) = faults(folder)
    assert "wang-2015 has several populations for surgery (primarily unresectable, meta" in fault


def test_patients_that_are_the_same_are_never_both_in_a_set(folder):
    append(folder, "evidence_sets", "reconciled,response,rutkowski-2010-swog,review,")
    row = line(folder, "evidence_sets", "reconciled,response,rutkowski-2010,")
    assert faults(folder) == [
        (
            f"evidence_sets.csv: rows {row} and {last(folder, 'evidence_sets')} (set 'reconciled', response): rutkowski-2010-swog "
            "and rutkowski-2010 are never both counted (overlaps.csv); keep one"
        )
    ]


def test_the_same_patients_may_serve_different_measures(folder):
    append(folder, "counts", "rutkowski-2010-swog,primary,surgery,all,event,1,printed,wang2015,")
    append(folder, "evidence_sets", "reconciled,surgery,rutkowski-2010-swog,primary,")
    assert load_evidence("reconciled", folder=folder).overlaps["judgement"].to_list() == [
        "possible"
    ]


def test_ragged_rows_name_the_file_and_another_encoding_is_said(folder):
    append(folder, "counts", "ugurel-2014,primary")
    row = last(folder, "counts")
    text = (folder / "cohorts.csv").read_text(encoding="utf-8")
    (folder / "cohorts.csv").write_bytes(text.encode("latin-1"))
    assert faults(folder) == [
        f"counts.csv: row {row}: 2 cells under 9 column names; each column needs a cell, if an "
        "empty one",
    ]
    counts = (folder / "counts.csv").read_text(encoding="utf-8").splitlines()
    (folder / "counts.csv").write_text("\n".join(counts[: row - 1]) + "\n", encoding="utf-8")
    found = load_evidence("review", folder=folder)
    assert "Kérob 2010" in found.cohorts["label"].to_list()
    assert found.notes == (
        "cohorts.csv: the text is read as Windows-1252, since row 6 is not UTF-8: is 'Kérob' right?",
    )


def test_tables_are_checked_again_only_when_a_file_has_changed(folder, monkeypatch):
    first = load_evidence("review", folder=folder)
    first.cohorts["label"] = first.conflicts["label"] = "spoilt"
    with monkeypatch.context() as patch:
        patch.setattr(dfsp.evidence.load, "_cell_faults", lambda *_: pytest.fail("checked again"))
        again = load_evidence("reconciled", folder=folder)
    assert "spoilt" not in {*again.cohorts["label"], *again.conflicts["label"]}
    edit(folder, "cohorts", "ugurel-2014,cohort", "ugurel-2014,band")
    with pytest.raises(DfspError, match="'band' is not known"):
        load_evidence("review", folder=folder)
