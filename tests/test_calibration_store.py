"""The kept calibration belongs to the code as it is, and says what it says."""

import ast
import json
from pathlib import Path

import pytest

import dfsp
from dfsp import calibration_store as store

SOURCE = Path(store.__file__).parent


def test_the_code_has_not_changed_since_the_results_were_made():
    assert store.stored()["source_sha256"] == store.source_sha256(), "run `make calibrate`"


def imported(module):
    """The package's modules that a module imports, now or when it is first used."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "dfsp":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dfsp."):
            found.add(node.module.removeprefix("dfsp."))
    return found


def test_the_hash_covers_all_that_the_results_depend_on_and_nothing_else():
    found, waiting = set(), {"calibration", "interval_coverage"}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imported(module) - found
    # These read, refuse or word; no number comes from them.
    assert set(store.SOURCES) == found - {"checks", "errors", "tables"}


def test_the_design_is_still_that_of_the_evidence():
    counts = dfsp.count(dfsp.load_evidence(store.EVIDENCE), "objective_response")
    assert store.stored()["totals"] == counts.table["total"].to_list()


def test_all_engines_passed_and_the_control_failed():
    checks = store.stored_checks()
    right = checks[checks["engine"] != "control"]
    assert set(right["engine"]) == {"table", "fit", "nuts", *store.OTHER_EFFECTS}
    assert right["passed"].all()
    assert not checks.loc[checks["engine"] == "control", "passed"].all()
    assert (right.set_index("engine")["data_sets"].loc["fit"] >= 500).all()


@pytest.mark.parametrize("key", ["made", "seed", "totals", "model", "results", "source_sha256"])
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


def test_changed_code_is_said(tmp_path):
    content = store.stored() | {"source_sha256": "0" * 64}
    content["sha256"] = store.checksum(content)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))
    assert "HAS CHANGED" in store.describe_store(path)
    assert "has not changed" in store.describe_store()
