"""Many tables in one: a fit for each value of a column."""

import json

import jsonschema
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp.cli import cli
from dfsp.errors import DfspError
from dfsp.evidence.tables import check_table, check_tables, read_tables
from dfsp.schemas import schema

# Three outcomes of the same patients, after a real table
EVENTS = (
    "study,AE,events,total\n1,minor,2,25\n1,major,3,25\n1,deadly,3,25\n2,minor,4,19\n"
    "2,major,1,19\n2,deadly,0,19\n3,minor,29,101\n3,major,13,101\n3,deadly,4,101\n"
)
GROUPS = ["minor", "major", "deadly"]


@pytest.fixture
def events(tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path / "events.csv"


def alone(events, group):
    """The rows of one group, as a table of its own."""
    frame = pd.read_csv(events, dtype={"study": str})
    return frame[frame["AE"] == group].reset_index(drop=True)


def test_each_table_is_as_if_it_were_alone(events):
    tables = read_tables(events, by="AE")
    assert list(tables) == GROUPS
    for group, counts in tables.items():
        own = dfsp.Counts.of(alone(events, group)).table
        for column in ("study", "events", "total", "AE"):
            assert counts.table[column].to_list() == own[column].to_list()
        assert counts.elsewhere == ("1", "2", "3")
    assert list(check_tables(pd.read_csv(events), by="AE")) == GROUPS


def test_who_stands_elsewhere():
    frame = pd.DataFrame(
        {
            "study": ["A", "B", "C", "A", "D"],
            "group": ["x", "x", "x", "y", "y"],
            "events": 3,
            "total": 9,
            "shares_patients_with": ["B", "", "", "", "C"],
        }
    )
    tables = check_tables(frame, by="group")
    assert tables["x"].elsewhere == ("A", "C")
    assert tables["y"].elsewhere == ("A", "D")
    assert tables["x"].table["shares_patients_with"].to_list() == ["B", "A", ""]


def test_all_faults_of_all_tables_at_once():
    frame = pd.DataFrame(
        {
            "study": ["A", "A", "B", "B", "C"],
            "group": ["x", "x", "y", "", "y"],
            "events": [1, 2, 9, 1, 1],
            "total": [9, 9, 4, 4, 4],
        }
    )
    with pytest.raises(DfspError) as raised:
        check_tables(frame, by="group")
    text = str(raised.value)
    assert "4 rows" not in text
    for says in (
        "row 1 (study 'A'): the study appears twice (rows 0 and 1)",
        "row 2 (study 'B'): events = 9 exceeds total = 4",
        "row 3 (study 'B'): group is empty",
    ):
        assert says in text
    with pytest.raises(DfspError, match="the column 'grp' \\(by\\) is missing; is it 'group'"):
        check_tables(frame, by="grp")


def test_a_table_without_patients_is_named():
    frame = pd.DataFrame(
        {"study": ["A", "B"], "group": ["x", "y"], "events": [1, 0], "total": [9, 0]}
    )
    tables = check_tables(frame, by="group", allow_empty=True)
    assert list(tables) == ["x"]
    assert "'y' has no patients" in tables["x"].notes


def test_fits_are_those_of_each_table(events):
    together = dfsp.fit_by(pd.read_csv(events, dtype={"study": str}), by="AE")
    for group in GROUPS:
        fit = dfsp.fit(alone(events, group))
        assert together.fits[group].as_dict() == fit.as_dict()
        row, summary = together.table.loc[group], fit.summary
        assert row[["typical_rate", "low", "high"]].to_list() == pytest.approx(
            summary.loc["typical_rate", ["q50", "q2.5", "q97.5"]].to_list(), abs=1e-9
        )
        assert row[["new_low", "new_high"]].to_list() == pytest.approx(
            summary.loc["new_study_rate", ["q2.5", "q97.5"]].to_list(), abs=1e-9
        )
        assert row["tau"] == pytest.approx(summary.loc["tau", "q50"], abs=1e-9)
        assert together.above(0.1).loc[group].to_dict() == fit.above(0.1).population
    assert len(together) == 3
    ends = together.table["typical_rate"][["deadly", "minor"]] * 100
    assert f"from {ends['deadly']:.1f} % (deadly) to {ends['minor']:.1f} %" in together.describe()


def test_beta_binomial_tables_have_no_typical_rate(events):
    frame = pd.read_csv(events, dtype={"study": str})
    together = dfsp.fit_by(frame, dfsp.Model(effects="beta-binomial"), by="AE")
    assert "typical_rate" not in together.table
    assert "concentration" in together.table
    assert "mean rate, %" in together.page(above=0.1)


def test_one_object_a_line(events):
    words = ["fit", str(events), "--by", "AE", "--json", "--above", "0.1"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["by"] for line in lines] == [{"AE": group} for group in GROUPS]
    for line in lines:
        jsonschema.validate(line, schema("fit"))
        assert line["n_studies"] == 3
        assert 0 < line["above"]["typical_rate"] < 1


def test_the_page_is_one_table(events):
    done = CliRunner().invoke(cli, ["fit", str(events), "--by", "AE", "--above", "0.1"])
    assert done.exit_code == 0, done.stderr
    assert "3 tables by AE; mu ~ Normal(mean 0, sd 2)" in done.stdout
    for words in ("minor", "typical rate, %", "new study, %", "P(new-study > 10.0 %)"):
        assert words in done.stdout
    assert max(map(len, done.stdout.split("\n\n3 tables")[0].splitlines())) <= 112


def test_a_failed_check_of_one_table_is_exit_status_1(events, monkeypatch):
    monkeypatch.setattr("dfsp.fitting.GRID_ERROR", 0.0)
    done = CliRunner().invoke(cli, ["fit", str(events), "--by", "AE"])
    assert done.exit_code == 1
    assert "minor: exact: grid resolves the posterior: FAILED" in done.stdout


def test_clusters_of_each_table(events):
    frame = pd.DataFrame(
        {
            "study": list("ABCABC"),
            "trial": list("XXYXXY"),
            "group": ["x"] * 3 + ["y"] * 3,
            "events": [1, 2, 3, 4, 5, 6],
            "total": 12,
        }
    )
    together = dfsp.fit_by(check_tables(frame, by="group", cluster="trial"), by="group")
    assert [fit.as_dict()["n_clusters"] for fit in together.fits.values()] == [2, 2]
    assert together.model.quantities == dfsp.Model().quantities
    assert np.isfinite(together.table["tau"]).all()


def test_outcomes_of_the_same_patients_are_no_studies(events):
    def says(*words):
        done = CliRunner().invoke(cli, ["fit", str(events), *words])
        return str(done.exception) if done.exception else done.stderr

    assert "outcomes of the same patients are not several studies: --by AE fits each" in says()
    apart = says("--study", "study,AE")
    assert "each study has several rows with the same total" in apart
    assert "--by AE" in apart
    assert "--cluster study" in apart
    # Who says that they are arms is believed, and told.
    assert "note: each study has several rows" in says("--study", "study,AE", "--cluster", "study")
    assert says("--by", "AE") == ""


def test_arms_are_no_outcomes_of_the_same_patients():
    frame = pd.DataFrame(
        {"study": list("AABB"), "arm": list("xyxy"), "events": 3, "total": [9, 8, 7, 7]}
    )
    assert len(check_tables(frame, by="arm")) == 2
    counts = check_table(frame, study="study,arm", cluster="study")
    assert counts.notes == ()
    with pytest.raises(DfspError, match="arms of one study belong together: --study study,arm"):
        check_table(frame)


@pytest.mark.slow
def test_sampled_tables(events):
    frame = pd.read_csv(events, dtype={"study": str})
    both = dfsp.fit_by(frame, by="AE", engine="both")
    assert not both.failed
    sampled = dfsp.fit_by(frame, by="AE", engine="nuts", draws=500)
    exact = dfsp.fit_by(frame, by="AE")
    assert sampled.table["typical_rate"].to_numpy() == pytest.approx(
        exact.table["typical_rate"].to_numpy(), abs=0.02
    )
