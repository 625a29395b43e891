import json

import jsonschema
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dfsp.errors import DfspError
from dfsp.runs import kernels
from dfsp.runs import run as running
from dfsp.runs.run import run_notebook
from dfsp.schemas import schema


def write(path, *cells):
    """A small notebook; the first cell holds its parameters."""
    cells = [new_code_cell(text) for text in cells]
    cells[0].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


FIT = """
import matplotlib
matplotlib.use("Agg")
import pandas as pd, dfsp
fit = dfsp.fit(pd.DataFrame({"study": ["A"], "events": [events], "total": [total]}))
dfsp.record(fit=fit, figures={"forest": dfsp.plots.forest(fit)}, seed=4)
"""


def test_a_run_leaves_notebook_figures_and_record(tmp_path):
    notebook = write(tmp_path / "small.ipynb", "events: int = 1\ntotal: int = 9", FIT)
    runs = tmp_path / "runs"
    run = run_notebook(notebook, {"events": "3"}, folder=runs, progress=False)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "forest.png", "forest.svg", "prior_sensitivity.csv", "record.json", "small.ipynb",
        "studies.csv", "summary.csv",
    ]  # fmt: skip
    record = json.loads((run.folder / "record.json").read_text())
    assert record == run.record
    jsonschema.validate(record, schema("run"))
    assert (record["status"], record["parameters"], record["seed"]) == (
        "complete",
        {"events": 3},
        4,
    )
    assert 0 < record["numbers"]["typical_rate"]["mean"] < 1
    assert "3 of 9 patients" in record["headline"]
    # The same run again replaces the folder; nothing else is left behind.
    again = run_notebook(notebook, {"events": "3"}, folder=runs, progress=False)
    assert [path.name for path in runs.iterdir()] == [again.folder.name]


def test_a_failed_cell_is_recorded_with_its_reason(tmp_path):
    notebook = write(tmp_path / "bad.ipynb", "x: int = 1", "1 / 0")
    run = run_notebook(notebook, {}, folder=tmp_path / "runs", progress=False)
    jsonschema.validate(run.record, schema("run"))
    assert run.record["status"] == "failed"
    assert "ZeroDivisionError" in run.record["reason"]
    assert (run.folder / "bad.ipynb").is_file()


@pytest.mark.parametrize(("seconds", "least", "most"), [(0.0, 23, 30), (60.0, 1, 4)])
def test_a_notebook_is_saved_once_in_some_seconds(tmp_path, monkeypatch, seconds, least, most):
    """Eleven quick cells; papermill saves before and after each, at the beginning and at the end."""
    written = []
    whole = running.replace_text
    monkeypatch.setattr(
        running, "replace_text", lambda path, text: (written.append(path.name), whole(path, text))
    )
    monkeypatch.setattr(kernels, "_SAVED", seconds)
    notebook = write(tmp_path / "many.ipynb", "x: int = 1", *["x"] * 9, "x + 1")
    done = run_notebook(notebook, {}, folder=tmp_path / "runs", progress=False)
    assert least <= written.count("many.ipynb") <= most
    cells = nbformat.read(done.folder / "many.ipynb", 4).cells
    assert cells[-1].outputs[0].data["text/plain"] == "2"


def test_what_quick_cells_have_left_is_saved_beside_a_long_one(tmp_path, monkeypatch):
    """The long one looks for it: who kills this process then finds it too."""
    monkeypatch.setattr(kernels, "_SAVED", 0.5)
    notebook = write(
        tmp_path / "long.ipynb", "x: int = 1", "print('qui' + 'ck')",
        "import os, pathlib, time\ntime.sleep(1.5)\n"
        "saved = pathlib.Path(os.environ['DFSP_RUN_FOLDER'], 'long.ipynb').read_text()\n"
        "print('quick\\\\n' in saved)",
    )  # fmt: skip
    done = run_notebook(notebook, {}, folder=tmp_path / "runs", progress=False)
    cells = nbformat.read(done.folder / "long.ipynb", 4).cells
    assert cells[-1].outputs[0].text == "True\n"


def test_all_faulty_parameters_at_once_and_nothing_written(tmp_path):
    notebook = write(tmp_path / "small.ipynb", "x: int = 1\ny: bool = True", "x")
    with pytest.raises(DfspError) as raised:
        run_notebook(notebook, {"z": "1", "x": "one", "y": "maybe"}, folder=tmp_path / "runs")
    for part in (
        "z: unknown parameter; this notebook has x, y",
        "x = 'one': give a whole number",
        "y = 'maybe'",
    ):
        assert part in str(raised.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["../../x", "{braces} and spaces", "<script>", "a" * 300, ".."])
def test_hostile_values_stay_in_the_folder(tmp_path, value):
    notebook = write(tmp_path / "small {0}.ipynb", 'name: str = ""', "print(name)")
    run = run_notebook(notebook, {"name": value}, folder=tmp_path / "runs", progress=False)
    assert run.folder.parent == tmp_path / "runs"
    assert run.record["parameters"] == {"name": value}
    executed = nbformat.read(run.folder / notebook.name, 4)
    assert executed.cells[-1].outputs[0].text.strip() == value
