"""Values come to a notebook as the types that it declares or shows, by both ways."""

import pytest
from small import notebook

from dfsp.errors import DfspError
from dfsp.runs.declared import Parameter, read_notebook

DECLARED = """\
n = 3
alpha = 0.5
flag = True
name = "a"
groups = ["a", "b"]
options = {"a": 1}
nothing = None
when = "2020-01-01"
whole: int = 1
number: float = 1
switch: bool = False
text: str = "t"
maybe: float = None
other: "int | None" = 4
rows: list[str] = []
computed = 1 / 2
"""
NO = DfspError
# Name, value as YAML reads it, what the notebook gets, the same as typed on the command line, what
# it gets then. Worked out by hand from: a declared type is binding; without one a value is passed
# as papermill passes it, but never a text for a number; on the command line the default's type wins.
CASES = [
    ("n", 5, 5, "5", 5),
    ("n", "1e3", 1000, "1e3", 1000),
    ("n", "five", NO, "five", NO),
    ("n", 2.5, 2.5, "2.5", NO),
    ("n", True, NO, "True", NO),
    ("n", None, None, "None", NO),
    ("alpha", 1, 1.0, "1", 1.0),
    ("alpha", "1e-3", 0.001, "1e-3", 0.001),
    ("alpha", float("inf"), NO, "inf", NO),
    ("flag", False, False, "false", False),
    ("flag", "false", False, "False", False),
    ("flag", "maybe", NO, "maybe", NO),
    ("flag", 0, 0, "0", NO),
    ("name", "b", "b", "b", "b"),
    ("name", True, NO, "yes", "yes"),
    ("name", 7, NO, "007", "007"),
    ("name", "7", "7", "7", "7"),
    ("groups", ["c"], ["c"], "['c']", ["c"]),
    ("groups", "c", NO, "c", NO),
    ("groups", [1, None], [1, None], "[1, null]", [1, None]),
    ("options", {"b": 2}, {"b": 2}, '{"b": 2}', {"b": 2}),
    ("nothing", 5, 5, "5", 5),
    ("nothing", "x", "x", "x", "x"),
    ("nothing", None, None, "None", None),
    ("nothing", True, True, "True", True),
    ("when", "2021-02-03", "2021-02-03", "2021-02-03", "2021-02-03"),
    ("whole", 2.0, 2, "2", 2),
    ("whole", "1e3", 1000, "1e3", 1000),
    ("whole", 2.5, NO, "2.5", NO),
    ("whole", None, NO, "None", NO),
    ("number", 2, 2.0, "2", 2.0),
    ("number", "x", NO, "x", NO),
    ("switch", True, True, "true", True),
    ("switch", 1, NO, "1", NO),
    ("text", "u", "u", "5", "5"),
    ("text", False, NO, "no", "no"),
    ("maybe", None, None, "None", None),
    ("maybe", 2, 2.0, "2", 2.0),
    ("other", None, None, "None", None),
    ("other", 2.5, NO, "2.5", NO),
    ("rows", ["a"], ["a"], '["a"]', ["a"]),
    ("rows", "a", NO, "a", NO),
    ("computed", 0.25, 0.25, "0.25", 0.25),
]


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    path = notebook(tmp_path_factory.mktemp("declared") / "d.ipynb", DECLARED)
    return read_notebook(path).parameters


def got(read, value):
    try:
        return read(value)
    except DfspError as error:
        return NO if f" = {value!r}: give a " in str(error) else error


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}={case[1]!r}")
def test_a_value_by_both_ways(declared, case):
    name, value, meant, typed, then = case
    for found, right in (
        (got(declared[name].from_yaml, value), meant),
        (got(declared[name].from_text, typed), then),
    ):
        assert found == right and type(found) is type(right), (name, found)


def test_what_is_declared_is_what_python_reads(declared):
    assert list(declared) == [line.split()[0].strip(":") for line in DECLARED.splitlines()]
    assert declared["groups"].default == ["a", "b"]
    assert declared["computed"] == Parameter("computed", "1 / 2")
    assert declared["maybe"] == Parameter("maybe", None, "float", stated=True, optional=True)


def test_lines_of_jupyter_and_cells_that_are_no_python(tmp_path):
    path = notebook(tmp_path / "magic.ipynb", "%matplotlib inline\n!ls\nx = 1\ny = z = [\n 2,\n]")
    assert {name: each.default for name, each in read_notebook(path).parameters.items()} == {
        "x": 1, "y": [2], "z": [2]
    }  # fmt: skip
    assert read_notebook(notebook(tmp_path / "r.ipynb", "n.iter <- 5 %>% f")).parameters == {}


def test_an_executed_notebook_starts_with_what_was_injected_unless_something_is_given(tmp_path):
    path = notebook(tmp_path / "e.ipynb", "x = 1\ny = 2", "x = 5")
    import nbformat

    made = nbformat.read(path, 4)
    made.cells[1].metadata["tags"] = ["injected-parameters"]
    nbformat.write(made, path)
    found = read_notebook(path)
    assert found.effective({}) == {"x": 5, "y": 2}
    assert found.effective({"y": 3}) == {"x": 1, "y": 3}  # papermill replaces its cell


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"{", "its content is not JSON"),
        (b"\xff\xfe", "its content is not JSON"),
        (b"[]", "does not say in which format"),
        (b'{"nbformat": 9, "cells": []}', "written in notebook format 9; formats 2 to 4"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "not a valid notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
         "not a valid notebook"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_gets_one_message(tmp_path, content, says):
    path = tmp_path / "bad.ipynb"
    path.write_bytes(content)
    with pytest.raises(DfspError, match=says) as raised:
        read_notebook(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
