"""The kept calibration belongs to the engine as it is, and says what it says."""

import json

import pandas as pd
import pytest
from frozen import REAL

import dfsp
from dfsp.analyses.calibration import store
from dfsp.analyses.calibration.simulation import TAUS
from dfsp.engine import VERSION
from dfsp.yardsticks import TRUTHS


def test_the_engine_still_gives_the_numbers_that_are_kept():
    assert store.stored()["engine_version"] == VERSION, "run `make calibrate`"
    kept = pd.DataFrame(store.stored()["results"]["coverage"])
    counts = dfsp.count(dfsp.load_evidence(store.EVIDENCE, folder=REAL), "objective_response")
    again = pd.DataFrame(dfsp.calibration.coverage(counts, rates=TRUTHS, taus=TAUS).table)
    pd.testing.assert_frame_equal(again, kept, rtol=0, atol=1e-6)
    assert again["width"].count() >= 20


def test_the_design_is_still_that_of_the_evidence():
    counts = dfsp.count(dfsp.load_evidence(store.EVIDENCE, folder=REAL), "objective_response")
    assert store.stored()["totals"] == counts.table["total"].to_list()


def test_all_engines_passed_and_the_control_failed():
    checks = store.stored_checks()
    right = checks[checks["engine"] != "control"]
    assert set(right["engine"]) == {"table", "fit", "nuts", *store.OTHER_EFFECTS}
    assert right["passed"].all()
    assert not checks.loc[checks["engine"] == "control", "passed"].all()
    assert (right.set_index("engine")["data_sets"].loc["fit"] >= 500).all()


@pytest.mark.parametrize("key", ["made", "seed", "totals", "model", "results", "engine_version"])
def test_what_is_changed_by_hand_is_noticed(tmp_path, key):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(store.stored() | {key: "2020-01-01"}))
    with pytest.raises(dfsp.DfspError, match="does not have its checksum"):
        store.stored(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "give an object of"), ('{"made": 1}', "give an object of"),
     (None, "no calibration is kept")],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path, text, message):
    path = tmp_path / "calibration.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(dfsp.DfspError, match=message):
        store.stored(path)


def test_a_changed_engine_is_said(tmp_path):
    content = store.stored() | {"engine_version": VERSION + 1}
    content["sha256"] = store.checksum(content)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    assert "HAS CHANGED" in store.kept(path)
    assert "has not changed" in store.kept()
