"""What people forget about notebooks, and that they run from anywhere."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import remake
from command import call
from papermill import inspect_notebook

from dfsp.runs.plan import read_plan

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, tag=None):
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return [cell for cell in code if tag is None or tag in cell.metadata.get("tags", [])]


def test_there_are_notebooks():
    rows = re.findall(r"(?m)^\| `(\w+)\.ipynb` \|", (ROOT / "README.md").read_text("utf-8"))
    assert [path.stem for path in NOTEBOOKS] == rows and len(rows) >= 9


@each
def test_one_title_and_no_definitions(path):
    nb = nbformat.read(path, 4)
    nbformat.validate(nb)
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    assert sum(line.startswith("# ") for line in text.splitlines()) == 1
    assert not any("def " in cell.source or "lambda" in cell.source for cell in cells(path))
    assert "papermill" not in nb.metadata


@each
def test_cells_are_short_and_results_show_themselves(path):
    for cell in cells(path):
        assert not re.search(r"\b(describe_\w+|shown|wrapped)\b", cell.source), cell.source
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 12, cell.source


@each
def test_question_answer_and_picture_are_what_a_reader_meets_first(path):
    """Code is folded up to the picture, and nothing is shown before the answer."""
    nb = nbformat.read(path, 4).cells
    code = [i for i, cell in enumerate(nb) if cell.cell_type == "code"]
    pictures = [i for i in code if any("image/png" in o.get("data", {}) for o in nb[i].outputs)]
    answer = next(i for i, cell in enumerate(nb) if cell.source.startswith("## The answer"))
    before = [nb[i] for i in code if i <= pictures[0]]
    assert all(cell.metadata.get("jupyter") == {"source_hidden": True} for cell in before)
    assert not any(nb[i].outputs for i in code if i < answer) and nb[answer + 1].outputs
    assert len(before) == 4  # parameters, their check, the answer, the picture


@each
def test_parameters_are_literals_that_papermill_sees(path):
    (cell,) = cells(path, "parameters")
    tree = ast.parse(cell.source)
    names = []
    for node in tree.body:
        assert isinstance(node, ast.AnnAssign), ast.unparse(node)
        ast.literal_eval(node.value)
        names.append(node.target.id)
    assert all("#" in line for line in cell.source.splitlines())
    assert list(inspect_notebook(str(path))) == names


@each
def test_checked_cells_have_kept_their_outputs(path):
    checked = cells(path, "nbval-check-output")
    assert len(checked) >= 5
    for cell in checked:
        assert cell.execution_count, cell.source
        assert cell.outputs or cell.source.startswith("if "), cell.source


@each
def test_outputs_hold_no_error_no_warning_and_are_small(path):
    for cell in cells(path):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
    assert path.stat().st_size < 400_000  # 200,000 at most now; a new study adds some 20,000 to 06


def checked(notebook):
    """What the cells show whose outputs are promised to stay; pictures are no text."""
    tagged = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    pictures = "image/"
    return [[x for x in remake.lines_of(c) if not x.startswith(pictures)] for c in tagged]


def test_checked_cells_show_the_same_when_executed_anew():
    """With Jupyter's own client, so that the promise hangs on no other package.

    nbval, in `make test`, says so of every notebook.
    """
    (path,) = (each for each in NOTEBOOKS if each.stem == "05_safety_and_surgery")
    kept = nbformat.read(path, 4)
    assert checked(remake.execute(kept)) == checked(kept)


@each
def test_what_is_checked_notices_another_number(path):
    kept, tampered = nbformat.read(path, 4), nbformat.read(path, 4)
    found = next(c for c in tampered.cells if checked(nbformat.v4.new_notebook(cells=[c])) > [[]])
    found.outputs[0]["text"] = "42 of 42"
    assert checked(tampered) != checked(kept)


@pytest.mark.slow  # `dfsp run`, below, goes through papermill from another folder
@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_papermill_runs_the_main_notebook_from_any_folder(place, tmp_path):
    words = ["-p", "outcome", "clinical_benefit", "-p", "engine", "exact", "--no-progress-bar"]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(NOTEBOOKS[1]), str(tmp_path / "out.ipynb"), *words],
        cwd=ROOT if place == "root" else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "out.ipynb").read_text()
    assert "Clinical benefit" in json.dumps(json.loads(text), ensure_ascii=False)


def test_the_main_notebook_takes_a_table_of_ones_own(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("study,events,total\nA,3,10\nB,5,12\n")
    words = [
        "run", str(NOTEBOOKS[1]), "--folder", str(tmp_path / "runs"), "--no-progress",
        "-p", "table", str(table), "-p", "outcome", "", "-p", "not_evaluable", "", "-p", "engine", "exact",
    ]  # fmt: skip
    done = call(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "8 of 22 patients in 2 studies" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    figures = ("prior", "forest", "prior_and_posterior", "predictive")
    tables = ("summary", "studies", "prior_sensitivity", "pooled", "predictive", "leave_one_out")
    assert {path.name for path in folder.iterdir()} == {
        "02_response.ipynb",
        "record.json",
        *(f"{name}.{ending}" for name in figures for ending in ("svg", "png")),
        *(f"{name}.csv" for name in tables),
    }
    record = json.loads((folder / "record.json").read_text())
    assert record["data"] == {str(table): record["data"][str(table)]}
    assert os.environ.get("DFSP_RUN_FOLDER") is None


@pytest.mark.parametrize(
    "number", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(7, marks=pytest.mark.slow)]
)
def test_a_notebook_takes_an_evidence_folder_of_ones_own(number, own_folder, tmp_path):
    words = [
        "run", str(NOTEBOOKS[number]), "--folder", str(tmp_path / "runs"), "--no-progress",
        "-p", "folder", str(own_folder), "-p", "evidence_set", "mine",
    ]  # fmt: skip
    words += ["-p", "engine", "exact"] if number == 1 else []
    done = call(*words, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (record,) = (tmp_path / "runs").glob("*/record.json")
    headline = json.loads(record.read_text("utf-8"))["headline"]
    assert {0: "41 patients", 1: "16 of 41 patients", 7: "A trial of 20 patients"}[
        number
    ] in headline


def commands(word):
    """The lines of the READMEs' commands that start with a word."""
    pages = ("README.md", "notebooks/README.md")
    text = "\n".join((ROOT / page).read_text("utf-8") for page in pages)
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    return [line for line in lines if line.startswith(word)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "notebook"), [("papermill ", "02_response"), ("pytest --nbval", "01_evidence")]
)
def test_papermill_and_nbval_work_as_written_in_the_readme(word, notebook, tmp_path):
    (line,) = commands(word)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "notebooks")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if word == "papermill ":
        assert "Clinical benefit" in (tmp_path / "out.ipynb").read_text("utf-8")
    else:
        assert re.search(r"\b[1-9]\d* passed", done.stdout)


def test_every_plan_and_that_of_the_readme_can_be_run(tmp_path):
    (example,) = re.findall(
        r"(?ms)^```yaml\n(.*?)^```", (ROOT / "notebooks/README.md").read_text("utf-8")
    )
    (tmp_path / "readme.yaml").write_text(example, "utf-8")
    sizes = {path.stem: len(read_plan(path)) for path in (ROOT / "notebooks/plans").glob("*.yaml")}
    assert sizes["imatinib"] > 24
    primary = {job.notebook for job in read_plan(ROOT / "notebooks/plans/primary.yaml")}
    assert primary == set(NOTEBOOKS)
    assert len(read_plan(tmp_path / "readme.yaml")) == 4
    for path in re.findall(r"notebooks/plans/\w+\.yaml", "\n".join(commands("dfsp batch"))):
        assert (ROOT / path).is_file()
