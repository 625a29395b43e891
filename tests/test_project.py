"""Where data, notebooks and runs are: in the project at hand, wherever the package is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from small import notebook

import dfsp
from dfsp import project
from dfsp.cli import cli
from dfsp.engine import room
from dfsp.errors import DfspError
from dfsp.runs.batch import run_batch
from dfsp.runs.plan import read_plan
from dfsp.runs.report import write_report

ROOT = Path(__file__).parents[1]
DFSP = "from dfsp.cli import main; main()"
# What Python on Windows does not have and a package may have got used to.
NOT_ON_WINDOWS = "import sys; sys.modules |= dict.fromkeys(['fcntl', 'grp', 'pwd', 'resource']); "


@pytest.fixture
def other(tmp_path):
    """A project of somebody's own."""
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "evidence_sets.csv").touch()
    (tmp_path / "mine" / "notebooks" / "old").mkdir(parents=True)
    return tmp_path / "mine"


def test_the_nearest_project_upwards_or_the_one_named_or_the_checkout(other, tmp_path, monkeypatch):
    monkeypatch.delenv(project.PROJECT_VARIABLE, raising=False)
    monkeypatch.chdir(other / "notebooks" / "old")
    assert project.project_folder() == other
    assert project.data_folder() == other / "data"
    monkeypatch.chdir(tmp_path)
    assert project.project_folder() == ROOT
    monkeypatch.setenv(project.PROJECT_VARIABLE, str(other))
    assert project.project_folder() == other
    monkeypatch.setenv(project.PROJECT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DfspError, match="there is no such folder"):
        project.project_folder()


@pytest.fixture
def installed(tmp_path):
    """A function that runs `dfsp` as installed from a wheel, in a folder that is no project."""
    shutil.copytree(ROOT / "dfsp", tmp_path / "site" / "dfsp")
    place = tmp_path / "somewhere"
    place.mkdir()
    (place / "mine.csv").write_text("study,events,total\nA,7,15\nB,4,22\n", "utf-8")

    def run(*words, before=""):
        env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        env.pop(project.PROJECT_VARIABLE, None)
        return subprocess.run(
            [sys.executable, "-c", before + DFSP, *map(str, words)],
            cwd=place, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return place, run


def test_a_table_is_fitted_anywhere_also_without_what_windows_lacks(installed):
    _, run = installed
    done = run("fit", "mine.csv", "--json", before=NOT_ON_WINDOWS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_studies"] == 2


@pytest.mark.slow
def test_installed_alone_a_notebook_runs_on_a_table_here_and_evidence_needs_a_project(installed):
    place, run = installed
    shutil.copy(ROOT / "notebooks" / "02_response.ipynb", place)
    # Everything is found and nothing begun: the value refused comes after the table was read.
    table = ("-p", "table", "mine.csv", "-p", "outcome", "", "-p", "not_evaluable", "")
    done = run("run", "02_response.ipynb", *table, "-p", "drop", "C")
    assert done.returncode == 2 and "'C'" in done.stderr, done.stderr
    done = run("run", "02_response.ipynb")
    assert done.returncode == 2
    assert f"{place / 'data'} does not exist; go to the folder of a project" in done.stderr
    assert "dfsp new FOLDER" in done.stderr
    assert "--project" in done.stderr
    done = run("run", "02_response.ipynb", "--project", ROOT, "-p", "outcome", "cure")
    assert done.returncode == 2 and "'cure' is not known" in done.stderr, done.stderr
    done = run("new", "my data")
    assert done.stdout == "see my data/README.md; then dfsp batch 'my data/plan.yaml'\n"
    done = run("batch", "my data/plan.yaml")
    assert done.returncode == 2
    assert f"{place} has none: go to the folder of a project with notebooks, or" in done.stderr
    done = run("run", "07_none.ipynb", "--project", ROOT)
    assert done.returncode == 2 and "those of the project are 01_evidence.ipynb" in done.stderr
    # Runs land here and not beside the package.
    notebook(place / "own.ipynb", None, "1")
    done = run("run", "own.ipynb", "--no-progress")
    assert done.returncode == 0, done.stderr
    assert len(list((place / "runs").glob("own-*/record.json"))) == 1


@pytest.mark.slow
def test_modules_do_without_what_windows_lacks():
    code = (
        "import pkgutil, importlib, dfsp\n"
        "for module in pkgutil.walk_packages(dfsp.__path__, 'dfsp.'):\n"
        "    importlib.import_module(module.name)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NOT_ON_WINDOWS + code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_compiled_models_find_room_where_home_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()  # a path below a file can neither be made nor read
    find = room.make_room.__wrapped__
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("PYTENSOR_FLAGS", "floatX=float64")
    find()
    says = capsys.readouterr().err
    assert "cannot be written to" in says and says.count("\n") == 1
    first, second = os.environ["PYTENSOR_FLAGS"].split(",")
    assert first == "floatX=float64" and Path(second.removeprefix("base_compiledir=")).is_dir()
    find()  # what is set stays
    assert os.environ["PYTENSOR_FLAGS"] == f"{first},{second}"
    monkeypatch.setenv("PYTENSOR_FLAGS", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    find()
    assert os.environ["PYTENSOR_FLAGS"] == "" and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["mine", "my 'own': #1 [x]"])
def test_a_new_folder_is_evidence_and_its_plan_can_be_run(tmp_path, name):
    """Names that YAML or a shell would take for something else are quoted."""
    folder = project.new_folder(tmp_path / name)
    evidence = dfsp.load_evidence("mine", folder=folder)
    assert set(evidence.rows["measure"]) == {
        "response", "any_adverse_event", "severe_adverse_event", "surgery",
    }  # fmt: skip
    jobs = read_plan(folder / "plan.yaml")
    assert [job.notebook.name[:2] for job in jobs] == [f"{number:02}" for number in range(1, 9)]
    assert {job.values["folder"] for job in jobs} == {str(folder)}
    assert "FOLDER" not in (folder / "README.md").read_text("utf-8")


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").touch()
    done = CliRunner().invoke(cli, ["new", str(tmp_path / "mine")], standalone_mode=False)
    assert isinstance(done.exception, DfspError)
    assert "is there already" in str(done.exception)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["kept.txt"]


@pytest.mark.slow
def test_a_new_folder_goes_through_the_notebooks_as_it_is(tmp_path):
    folder = project.new_folder(tmp_path / "mine")
    end = run_batch(read_plan(folder / "plan.yaml"), tmp_path / "runs")
    assert (end.done, end.failed) == (end.total, 0)
    index = write_report(tmp_path / "runs").read_text("utf-8")
    assert index.count(".html") >= end.total
