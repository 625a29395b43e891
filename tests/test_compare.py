"""What two folders of runs say of each other: expected are the changes that were put in."""

import json
from html import unescape

import pandas as pd
import pytest
from click.testing import CliRunner

import dfsp
from dfsp.cli import cli
from dfsp.runs.compare import compare_runs
from dfsp.runs.record import NOTHING
from dfsp.runs.report import write_report

STUDIES = ("Adams", "Baker", "Chen")
TABLE = pd.DataFrame({"study": STUDIES, "events": [3, 8, 5], "total": [10, 20, 19]})
SHA = "a" * 64


def run(folder, table, name="02_response-1", **changes):
    """Keep a run as a notebook would, with the numbers of the table's exact fit."""
    fit = dfsp.fit(table)
    quantities = ("typical_rate", "mean_rate", "new_study_rate", "tau")
    record = {
        **NOTHING,
        "schema": "dfsp.run/1",
        "notebook": "02_response.ipynb",
        "notebook_sha256": SHA,
        "parameters": {},
        "effective_parameters": {"mu_sd": 2.0},
        "status": "complete",
        "reason": None,
        "versions": {"numpy": "2.5.0"},
        "source_sha256": SHA,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "data": {"data/counts.csv": SHA},
        "numbers": {quantity: fit.as_dict()[quantity] for quantity in quantities},
        "checks": [{"name": "gate", "passed": True, "value": 1, "limit": 2, "says": ""}],
        **changes,
    }
    where = folder / name
    where.mkdir(parents=True)
    (where / "record.json").write_text(json.dumps(record))
    fit.studies.to_csv(where / "studies.csv", index=False)
    return where


def changes(tmp_path, table=TABLE, **changed):
    run(tmp_path / "before", TABLE)
    run(tmp_path / "after", table, **changed)
    return compare_runs(tmp_path / "before", tmp_path / "after").changes["02_response-1"]


def test_runs_that_are_the_same_say_so(tmp_path):
    assert changes(tmp_path) == ()
    found = compare_runs(tmp_path / "before", tmp_path / "after")
    assert found.describe() == "1 run is the same in both."


def test_counts_that_changed_are_named_by_study(tmp_path):
    table = TABLE.assign(study=["Adams", "Baker", "Diaz"], events=[3, 9, 5])
    found = changes(tmp_path, table)
    assert found[:3] == (
        "Baker has 9 of 20, and had 8 of 20",
        "Chen (5 of 19) is left out",
        "Diaz (5 of 19) is new",
    )


def test_a_change_is_one_line_also_where_a_headline_has_two(tmp_path):
    run(tmp_path / "before", TABLE)
    run(tmp_path / "after", TABLE, headline="20 patients.\nOne study.")
    said = compare_runs(tmp_path / "before", tmp_path / "after").describe().splitlines()
    assert [line[0] for line in said] == ["0", " ", "0"] and "20 patients. One study." in said[1]


def test_a_number_that_stays_is_said_to(tmp_path):
    """The same counts twice narrow the interval and leave the median where it was."""
    twice = pd.concat([TABLE, TABLE.assign(study=["Diaz", "Eker", "Funk"])])
    typical = next(line for line in changes(tmp_path, twice) if line.startswith("typical rate"))
    assert ": in its place, the interval " in typical and typical.endswith(" % narrower")


def test_a_conclusion_without_such_numbers_and_a_prior_that_decides_are_told(tmp_path):
    found = changes(tmp_path, headline="20 patients.", prior_warning="The prior of mu decides.")
    assert found == ("it says now: 20 patients. It said: nothing", "The prior of mu decides.")
    fit = dfsp.fit(TABLE)
    run(tmp_path / "again", TABLE, headline=str(fit.describe()))
    assert compare_runs(tmp_path / "before", tmp_path / "again").changes["02_response-1"] == ()


def test_what_is_estimated_is_compared(tmp_path):
    assert "estimand, time: none -> 'week 12'" in changes(tmp_path, estimand={"time": "week 12"})


def test_numbers_are_held_against_the_interval_that_they_had(tmp_path):
    more = TABLE.assign(study=["Diaz", "Eker", "Funk"], events=[5, 12, 9])
    twice = pd.concat([TABLE, more])
    typical = next(line for line in changes(tmp_path, twice) if line.startswith("typical rate"))
    old, new = (dfsp.fit(table).summary.loc["typical_rate"] for table in (TABLE, twice))
    width = old["q97.5"] - old["q2.5"]
    narrower = 100 * (1 - (new["q97.5"] - new["q2.5"]) / width)
    moved = 100 * abs(new["q50"] - old["q50"]) / width
    assert f"by {moved:.0f} % of the interval's width" in typical
    assert f"the interval {narrower:.0f} % narrower" in typical


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"effective_parameters": {"mu_sd": 3.0}}, "parameter mu_sd: 2.0 -> 3.0"),
        ({"effective_parameters": {}}, "parameter mu_sd: 2.0 -> none"),
        ({"versions": {"numpy": "2.6.0"}}, "version of numpy: '2.5.0' -> '2.6.0'"),
        ({"source_sha256": "b" * 64}, "the source of dfsp is another"),
        ({"data": {"data/counts.csv": "b" * 64}}, "data, other contents: data/counts.csv"),
        ({"data": {}}, "data, no longer read: data/counts.csv"),
        ({"checks": []}, "check gate: passed -> not made"),
        (
            {"checks": [{"name": "gate", "passed": None, "value": 1, "limit": 2, "says": ""}]},
            "check gate: passed -> cannot tell",
        ),
        (
            {"status": "failed", "reason": "a dead kernel"},
            "the run is failed (a dead kernel), and was complete",
        ),
    ],
    ids=str,
)
def test_each_kind_of_change_is_a_sentence(tmp_path, changed, expected):
    assert changes(tmp_path, **changed) == (expected,)


def test_runs_of_one_folder_only_are_gone_or_new(tmp_path):
    for folder, names in (("before", "ab"), ("after", "bc")):
        for name in names:
            run(tmp_path / folder, TABLE, name)
    found = compare_runs(tmp_path / "before", tmp_path / "after")
    assert (found.gone, found.new, found.changes) == (("a",), ("c",), {"b": ()})


def test_the_command_compares_two_runs_of_other_names(tmp_path):
    before = run(tmp_path, TABLE, "one")
    after = run(tmp_path, TABLE.iloc[:2], "two")
    done = CliRunner().invoke(cli, ["compare", str(before), str(after)])
    assert done.exit_code == 0
    assert "Chen (5 of 19) is left out" in done.output


def test_nothing_in_common_is_refused(tmp_path):
    run(tmp_path / "before", TABLE, "one")
    run(tmp_path / "after", TABLE, "two")
    with pytest.raises(dfsp.DfspError, match="no run in common"):
        compare_runs(tmp_path / "before", tmp_path / "after")
    with pytest.raises(dfsp.DfspError, match="no runs here"):
        compare_runs(tmp_path / "before", tmp_path)


def test_ends_that_are_bounds_are_told_as_such(tmp_path):
    """Of no event under half-normal shapes, a quarter of new studies' rates lie below 2.9e-20."""
    none = pd.DataFrame({"study": ["Adams"], "events": [0], "total": [50]})
    model = dfsp.Model(effects=dfsp.BetaBinomialShapes(0.05))
    numbers = {"new_study_rate": dfsp.fit(none, model).as_dict()["new_study_rate"]}
    assert numbers["new_study_rate"]["q25"] is None
    before, after = (
        run(tmp_path / name, none, numbers=each)
        for name, each in (
            ("before", numbers),
            ("after", {"new_study_rate": dfsp.fit(TABLE).as_dict()["new_study_rate"]}),
        )
    )
    said = next(
        line
        for line in compare_runs(before.parent, after.parent).changes[before.name]
        if line.startswith("new-study rate")
    )
    assert "(95% interval <0.000001 to" in said
    write_report(before.parent)
    assert "(<0.000001 to" in unescape((before.parent / "report/index.html").read_text("utf-8"))
