"""Ten notebooks as strangers write them: run, batch and report take each without a traceback."""

import json

import pytest
from command import call
from nbformat import read as read_notebook
from nbformat.v3 import new_code_cell as old_cell
from nbformat.v3 import new_notebook as old_notebook
from nbformat.v3 import new_worksheet
from nbformat.v3.nbjson import writes as old_text
from small import notebook, plan, results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks; by name what a plan gives them, how the run ends and what it says."""
    place = tmp_path_factory.mktemp("strangers")
    notebook(place / "typed.ipynb", "n: int = 3\nname: str = 'a'", "print(n * 2, name)")
    notebook(
        place / "untyped.ipynb",
        "alpha = 0.5\nflag = True\nn = 3\ngroups = ['a']\nnothing = None",
        "print(n * 2, 'on' if flag else 'off', alpha, groups, nothing)",
    )
    notebook(place / "plain.ipynb", None, "print('no parameters')")
    notebook(place / "explore.ipynb", "x: int = 1", "print(x)")  # the name of one of ours
    notebook(place / "02_response.ipynb", "tau_scale = 1.0\nmine = 2", "print(tau_scale, mine)")
    notebook(place / "dots.ipynb", "n.iter <- 500\ntau_scale <- 1", "print(1)")  # R's habits
    notebook(place / "kernel.ipynb", "x: int = 1", "print(x)", kernel="somebody-elses")
    notebook(place / "none.ipynb", "x: int = 1", "print(x)", kernel=None)
    (place / "empty.ipynb").touch()
    sheet = new_worksheet(cells=[old_cell(input="print('old')")])
    made = old_notebook(worksheets=[sheet], metadata={"name": "old"})
    (place / "old.ipynb").write_text(old_text(made), "utf-8")
    (place / "future.ipynb").write_text('{"nbformat": 9, "cells": []}', "utf-8")
    # Ids are younger than the format that this one claims; its outputs are lacking.
    path = notebook(place / "mixed.ipynb", "x: int = 1", "print(x)")
    made = json.loads(path.read_text("utf-8")) | {"nbformat_minor": 4}
    for cell in made["cells"]:
        del cell["outputs"]
    path.write_text(json.dumps(made), "utf-8")
    return place


GIVEN = {
    "typed": {"n": "1e1", "name": "b"},
    "untyped": {"alpha": 2, "flag": False, "n": 5, "groups": [["b", "c"]], "nothing": "2020-01-01"},
    "explore": {"x": [1, 2]},
    "02_response": {"tau_scale": 2},
}
ENDS = {
    "typed": ("complete", ""),
    "untyped": ("complete", ""),
    "plain": ("complete", ""),
    "explore": ("complete", ""),
    "02_response": ("complete", ""),
    "dots": ("failed", "NameError: name 'n' is not defined"),
    "kernel": ("failed", "kernel.ipynb: no kernel 'somebody-elses' is installed here; there is"),
    "none": ("failed", "none.ipynb: it names no kernel; open and save it in Jupyter, or give"),
    "empty": ("failed", "empty.ipynb: the file is empty"),
    "old": ("failed", "old.ipynb: it names no kernel"),
    "future": ("failed", "future.ipynb: written in notebook format 9"),
    "mixed": ("complete", ""),
}
PRINTS = {
    "typed": "20 b\n",
    "untyped": "10 off 2.0 ['b', 'c'] 2020-01-01\n",
    "plain": "no parameters\n",
    "02_response": "2.0 2\n",
    "mixed": "1\n",
}


@pytest.fixture(scope="module")
def done(folder):
    entries = [
        {"notebook": str(folder / f"{name}.ipynb"), "parameters": GIVEN.get(name)} for name in ENDS
    ]
    return call("batch", plan(folder / "plan.yaml", *entries), "--folder", folder / "runs")


@pytest.mark.slow
def test_a_batch_does_what_can_be_done_and_says_of_the_rest_why_not(folder, done):
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("7 done, 6 failed")
    rows = {row["notebook"].removesuffix(".ipynb"): row for row in results(folder / "runs")}
    assert set(rows) == set(ENDS)
    for name, (status, says) in ENDS.items():
        assert rows[name]["status"] == status, (name, rows[name])
        assert says in rows[name]["reason"] and "\n" not in rows[name]["reason"]
    for name, text in PRINTS.items():
        path = folder / "runs" / rows[name]["run"] / f"{name}.ipynb"
        assert read_notebook(path, 4).cells[-1].outputs[0].text == text


@pytest.mark.slow
def test_a_report_has_a_page_for_each(folder, done):
    assert call("report", folder / "runs").returncode == 0
    pages = {path.stem for path in (folder / "runs" / "report").glob("*.html")}
    assert pages - {"index"} == {row["run"] for row in results(folder / "runs")}
    (page,) = (folder / "runs" / "report").glob("future*.html")
    assert "written in notebook format 9" in page.read_text("utf-8")


@pytest.mark.parametrize("name", [name for name, (end, _) in ENDS.items() if end == "failed"])
def test_one_run_of_a_bad_one_is_one_message(folder, tmp_path, name):
    done = call("run", folder / f"{name}.ipynb", "--folder", tmp_path, "--no-progress")
    says = ENDS[name][1]
    if name == "dots":  # only its kernel can tell
        assert done.returncode == 1 and says in done.stderr
        return
    assert done.returncode == 2 and says in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_line_reads_texts_as_the_notebook_shows(folder, tmp_path):
    words = ("-p", "alpha", "2", "-p", "flag", "false", "-p", "n", "5", "-p", "groups", "['b','c']")
    where = ("--folder", tmp_path, "--no-progress")
    done = call("run", folder / "untyped.ipynb", *words, "-p", "nothing", "2020-01-01", *where)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/untyped.ipynb")
    assert read_notebook(path, 4).cells[-1].outputs[0].text == PRINTS["untyped"]
    done = call("run", folder / "untyped.ipynb", "-p", "n", "five", "-p", "flag", "0", *where)
    assert done.returncode == 2
    assert (
        "n = 'five': give a whole number" in done.stderr
        and "flag = '0': give a truth value" in done.stderr
    )
    done = call("run", folder / "dots.ipynb", "-p", "n.iter", "5", *where)
    assert "n.iter: unknown parameter; this notebook has none" in done.stderr


def test_a_kernel_of_ones_choice_runs_what_names_none(folder, tmp_path):
    words = ("--kernel", "python3", "--folder", tmp_path, "--no-progress")
    done = call("run", folder / "none.ipynb", "-p", "x", "4", *words)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/none.ipynb")
    assert read_notebook(path, 4).cells[-1].outputs[0].text == "4\n"
