"""How long plans, batches and reports take: `make bench`.

What bounds a batch is the kernel of each run and its figures.
"""

import json
import os
import shutil

import yaml

from dfsp.runs.batch import run_batch
from dfsp.runs.plan import read_plan
from dfsp.runs.report import write_report
from dfsp.runs.run import run_notebook

SECONDS_OF_A_RUN = 8


def test_a_plan_of_10_000_runs_is_checked(benchmark, tmp_path):
    scales = [1 + number / 100 for number in range(100)]
    given = {"engine": "exact", "mu_sd": scales, "tau_scale": scales}
    entry = {"notebook": "notebooks/02_response.ipynb", "parameters": given}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"notebooks": [entry]}), "utf-8")
    assert len(benchmark.pedantic(read_plan, (path,), rounds=1)) == 10_000
    assert benchmark.stats["max"] < 20


def test_a_report_of_500_runs(benchmark, tmp_path):
    made = run_notebook(
        "notebooks/02_response.ipynb", {"engine": "exact"}, folder=tmp_path, progress=False
    )
    record = json.loads((made.folder / "record.json").read_text("utf-8"))
    for number in range(499):
        folder = shutil.copytree(made.folder, tmp_path / f"02_response_{number}-{number:08x}")
        own = json.dumps(record | {"parameters": {"engine": "exact", "mu_sd": 1 + number / 100}})
        (folder / "record.json").write_text(own, "utf-8")
    benchmark.pedantic(write_report, (tmp_path,), rounds=1)
    assert benchmark.stats["max"] < 15


def test_24_runs(benchmark, tmp_path):
    entry = {
        "notebook": "notebooks/02_response.ipynb",
        "parameters": {
            "engine": "exact",
            "outcome": ["objective_response", "clinical_benefit", "complete_response"],
            "evidence_set": ["review", "reconciled"],
            "not_evaluable": ["no event", "excluded"],
            "tau_scale": [0.5, 1.0],
        },
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"notebooks": [entry]}), "utf-8")
    jobs = read_plan(tmp_path / "plan.yaml")
    assert len(jobs) == 24
    end = benchmark.pedantic(run_batch, (jobs, tmp_path / "runs"), rounds=1)
    assert (end.done, end.failed) == (24, 0)
    assert benchmark.stats["max"] < 24 * SECONDS_OF_A_RUN / (os.cpu_count() or 1)
