"""Exact results are the same on every run, in processes side by side, and as kept."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exact_results import results

HERE = Path(__file__).parent
KEPT = HERE / "exact_results.json"


@pytest.fixture(scope="module")
def found():
    return results()


def differences(found, kept):
    """Return what is not the same to 6 decimals, by name."""
    return {
        name: (value, kept[name])
        for name, value in found.items()
        if not (abs(value - kept[name]) <= 1e-6 or (math.isnan(value) and math.isnan(kept[name])))
    }


def test_quick_results_are_those_kept():
    """`make notebooks` makes the file anew."""
    found = results(quick=True)
    assert len(found) > 500
    assert not differences(found, json.loads(KEPT.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_results_are_those_kept(found):
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert set(found) == set(kept)
    assert not differences(found, kept)


@pytest.mark.slow
def test_processes_side_by_side_agree_with_one_thread_and_two(found):
    """All at once, the digits printed in full."""
    code = "import json; from exact_results import results; print(json.dumps(results(quick=True)))"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        )
        for threads in ("1", "2", "2")
    ]  # fmt: skip
    tables = [json.loads(each.communicate(timeout=300)[0]) for each in running]
    for table in tables:
        differ = {
            name: (value, found[name])
            for name, value in table.items()
            if not (f"{value:.6f}" == f"{found[name]:.6f}" or abs(value - found[name]) < 1e-9)
        }
        assert not differ
