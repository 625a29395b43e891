"""How long notebooks take from the command to the finished folder: `make bench`."""

import pytest

from dfsp.runs.run import run_notebook


@pytest.mark.parametrize("notebook", ["02_response", "06_robustness"])
def test_notebook(benchmark, tmp_path, notebook):
    run = benchmark.pedantic(
        run_notebook, (f"notebooks/{notebook}.ipynb", {}), {"folder": tmp_path, "progress": False},
        rounds=1,
    )  # fmt: skip
    assert run.record["status"] == "complete"
