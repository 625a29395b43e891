"""What `make notebooks` keeps hangs neither on the time nor on chance, and changes are told."""

import base64
import io
import re

import nbformat
import pytest
import remake
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

CODE = """import ipywidgets, matplotlib.pyplot as plt
plt.plot([1, 2], [3, 5])
plt.show()
label = ipywidgets.Label()
print("now")
display(ipywidgets.HBox([label, ipywidgets.IntSlider()]))
label.value = "fit"
"""


@pytest.fixture
def path(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(CODE, id="first")])
    nbformat.write(notebook, tmp_path / "small.ipynb")
    return tmp_path / "small.ipynb"


def test_a_second_execution_changes_no_byte_and_a_first_says_what_changed(path, capsys):
    assert remake.remake_notebook(path) == ""
    first = path.read_text("utf-8")
    assert "small.ipynb\n  cell 0: 5 lines of output" in capsys.readouterr().out
    assert "IntSliderModel" in first
    (picture,) = re.findall('"image/png": "(.*?)"', first)
    assert Image.open(io.BytesIO(base64.b64decode(picture))).mode == "P"
    for passing in ("iopub", "execute_input"):
        assert passing not in first
    assert remake.remake_notebook(path) == ""
    assert path.read_text("utf-8") == first
    assert capsys.readouterr().out == "small.ipynb: unchanged\n"


def test_a_notebook_that_fails_is_left_as_it_was(path):
    notebook = nbformat.read(path, 4)
    notebook.cells.append(new_code_cell("1 / 0", id="second"))
    nbformat.write(notebook, path)
    before = path.read_text("utf-8")
    assert "ZeroDivisionError" in remake.remake_notebook(path)
    assert path.read_text("utf-8") == before


def cell(text):
    return new_code_cell(outputs=[new_output("stream", name="stdout", text=text)], id="a")


def test_changed_lines_are_shown():
    before, after = (new_notebook(cells=[cell(text)]) for text in ("a\nb\nc\n", "a\nB\n"))
    assert list(remake.changes_of_notebook(before, after)) == [
        "cell 0: 2 lines of output", "  - b", "  + B",
    ]  # fmt: skip
    assert list(remake.changes_of_notebook(before, before)) == []


def test_changed_numbers_are_shown():
    before = {"a": 1.0, "b": 2.0, "c": 3.0, "nothing": float("nan")}
    after = {"a": 1.1, "b": 2.5, "d": 3.0, "nothing": float("nan")}
    assert list(remake.changes_of_numbers(before, after)) == [
        "1 new: d", "1 gone: c", "2 of 4 numbers changed", "  b: 2.0 -> 2.5", "  a: 1.0 -> 1.1",
    ]  # fmt: skip
    assert list(remake.changes_of_numbers(before, before)) == []
