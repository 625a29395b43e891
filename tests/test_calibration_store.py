"""The kept calibration belongs to the code as it is, and says what it says."""

import json

import pytest

import dfsp
from dfsp import calibration_store as store


def test_the_code_has_not_changed_since_the_results_were_made():
    assert store.stored()["source_sha256"] == store.source_sha256(), "run `make calibrate`"


def test_all_engines_passed_and_the_control_failed():
    checks = store.stored_checks()
    right = checks[checks["engine"] != "control"]
    assert set(right["engine"]) == {"table", "fit", "nuts"}
    assert right["passed"].all()
    assert not checks.loc[checks["engine"] == "control", "passed"].all()
    assert (right.set_index("engine")["data_sets"].loc["fit"] >= 500).all()


def test_a_result_changed_by_hand_is_noticed(tmp_path):
    content = store.stored()
    content["results"]["nuts"]["checks"][0]["passed"] = not content["results"]["nuts"]["checks"][0][
        "passed"
    ]
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    with pytest.raises(dfsp.DfspError, match="do not have their checksum"):
        store.stored(path)
    with pytest.raises(dfsp.DfspError, match="no calibration is kept"):
        store.stored(tmp_path / "none.json")


def test_changed_code_is_said(tmp_path):
    content = store.stored() | {"source_sha256": "0" * 64}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    assert "HAS CHANGED" in store.describe_store(path)
    assert "has not changed" in store.describe_store()
