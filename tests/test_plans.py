"""Plans lose no run silently: everything is checked first, and every fault is told at once."""

import json
import time

import jsonschema
import pytest
from small import notebook, plan

import dfsp
from dfsp.errors import DfspError
from dfsp.project import project_folder
from dfsp.runs.models import MODELS, schema_of
from dfsp.runs.plan import duplicate_runs, read_plan
from dfsp.schemas import schema


@pytest.fixture
def written(tmp_path):
    """A function from the text of a plan for the notebook NB to its runs."""

    def runs(text, parameters="x: int = 1\ny: float = 1.0\ns: str = ''\nb: bool = False\nn = None"):
        path = notebook(tmp_path / "nb.ipynb", parameters, "1")
        (tmp_path / "plan.yaml").write_text(text.replace("NB", str(path)), "utf-8")
        return [job.values for job in read_plan(tmp_path / "plan.yaml")]

    return runs


@pytest.fixture
def matrix(tmp_path):
    """A function from an entry of a plan to the parameters of its runs."""

    def rows(names, **entry):
        path = notebook(tmp_path / "m.ipynb", "\n".join(f"{name} = None" for name in names.split()))
        jobs = read_plan(plan(tmp_path / "plan.yaml", {"notebook": str(path), **entry}))
        return [job.values for job in jobs]

    return rows


# ---------------------------------------------------------------- GitHub's matrix
# The examples of GitHub's documentation of workflows, "Running variations of jobs in a workflow"
# (docs.github.com), with the results that it states.


def test_include_does_what_the_documentation_of_github_says(matrix):
    found = matrix(
        "fruit animal color shape",
        parameters={"fruit": ["apple", "pear"], "animal": ["cat", "dog"]},
        include=[
            {"color": "green"},
            {"color": "pink", "animal": "cat"},
            {"fruit": "apple", "shape": "circle"},
            {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"},
        ],
    )
    assert found == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_expanding_and_adding_as_documented(matrix):
    systems, versions = ["windows-latest", "ubuntu-latest"], [12, 14, 16]
    npm = {"os": "windows-latest", "node": 16, "npm": 6}
    found = matrix("os node npm", parameters={"os": systems, "node": versions}, include=[npm])
    assert len(found) == 6  # "will run six jobs"
    assert [row for row in found if "npm" in row] == [npm]
    systems = ["macos-latest", *systems]
    more = {"os": "windows-latest", "version": 17}
    found = matrix("os version", parameters={"os": systems, "version": versions}, include=[more])
    assert len(found) == 10 and found[-1] == more  # "this matrix will run 10 jobs"
    only = [{"site": "production", "place": "site-a"}, {"site": "staging", "place": "site-b"}]
    assert matrix("site place", include=only) == only  # "would run two jobs"
    perls = ["5.16", "5.20", "5.26", "5.30", "latest"]
    macs = [{"os": "macos-latest", "perl": perl} for perl in ("5.26", "latest")]
    found = matrix("os perl", parameters={"os": ["ubuntu-latest"], "perl": perls}, include=macs)
    assert len(found) == 7  # "will create seven jobs"


def test_excluding_as_documented(matrix):
    found = matrix(
        "os version environment",
        parameters={
            "os": ["macos-latest", "windows-latest"],
            "version": [12, 14, 16],
            "environment": ["staging", "production"],
        },
        exclude=[
            {"os": "macos-latest", "version": 12, "environment": "production"},
            {"os": "windows-latest", "version": 16},
        ],
    )
    assert len(found) == 9  # "will run nine jobs"
    assert not [row for row in found if row["os"] == "windows-latest" and row["version"] == 16]


def test_exclude_comes_before_include(matrix):
    found = matrix(
        "fruit animal",
        parameters={"fruit": ["apple", "pear"], "animal": ["cat", "dog"]},
        exclude=[{"fruit": "apple"}, {"fruit": "pear", "animal": "dog"}],
        include=[{"fruit": "apple", "animal": "dog"}],
    )
    assert found == [{"fruit": "pear", "animal": "cat"}, {"fruit": "apple", "animal": "dog"}]


def test_rows_alone_and_no_parameters_at_all(matrix):
    only = [{"fruit": "fig"}, {"fruit": "kiwi"}]
    assert matrix("fruit", include=only) == only
    assert matrix("fruit") == [{}]


# ---------------------------------------------------------------- beyond it


def test_what_is_no_list_holds_in_every_run_of_an_entry(matrix):
    held = {"engine": "exact", "mu": [1.0, 2.0]}
    include = [{"mu": 3.0, "tau": 9.0}, {"mu": 1.0, "tau": 5.0}, {"mu": 4.0, "engine": "both"}]
    assert matrix("engine mu tau", parameters=held, include=include) == [
        {"engine": "exact", "mu": 1.0, "tau": 5.0},
        {"engine": "exact", "mu": 2.0},
        {"engine": "exact", "mu": 3.0, "tau": 9.0},
        {"engine": "both", "mu": 4.0},
    ]
    # Without a list there is nothing to be extended: each row is a run.
    assert matrix("engine mu", parameters={"engine": "exact"}, include=[{"mu": 1}, {"mu": 2}]) == [
        {"engine": "exact", "mu": 1},
        {"engine": "exact", "mu": 2},
    ]
    jobs = read_plan(project_folder() / "notebooks" / "plans" / "imatinib.yaml")
    uniform = [job for job in jobs if job.values.get("tau_family") == "uniform"]
    assert [job.values["engine"] for job in uniform] == ["exact"]


def test_values_are_compared_as_the_type_of_their_parameter(written):
    found = written("notebooks:\n- {notebook: NB, parameters: {y: [1, 2.0]}, exclude: [{y: 2}]}")
    assert found == [{"y": 1.0}]
    entry = "{notebook: NB, parameters: {y: [1.0, 2.0]}, include: [{y: 2, x: 5}]}"
    assert written(f"notebooks:\n- {entry}") == [{"y": 1.0}, {"y": 2.0, "x": 5}]
    # As texts, what was typed counts.
    entry = "{notebook: NB, parameters: {s: ['1', '1.0']}, exclude: [{s: '1'}]}"
    assert written(f"notebooks:\n- {entry}") == [{"s": "1.0"}]
    # True is no 1 where a parameter may be either.
    entry = "{notebook: NB, parameters: {any: [1, true]}, exclude: [{any: true}]}"
    assert written(f"notebooks:\n- {entry}", "any = None") == [{"any": 1}]


def refused(written, text, **more):
    with pytest.raises(DfspError) as raised:
        written(text, **more)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("notebooks:\n- notebook: NB\nnotebooks:\n- notebook: NB",
         "line 3: `notebooks` is given twice, first in line 1"),
        ("notebooks:\n- notebook: NB\n  parameters:\n    x: 1\n    s: a\n    x: 2",
         "line 6: `x` is given twice, first in line 4"),
        ("notebooks:\n- notebook: NB\n  include: [{x: 1, x: 2}]",
         "line 3: `x` is given twice, first in line 3"),
        ("notebooks:\n- {notebook: NB, parameters: {y: [1, 1.0, 1.00, 2]}}",
         "y: the value 1.0 is given 3 times; give it once"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, exclude: [{s: bb}]}",
         "exclude: no run has s = 'bb'"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, exclude: [{s: a}, {s: a}]}",
         "exclude: the rows before it have removed every run with s = 'a'"),
        ("notebooks:\n- {notebook: NB, parameters: {n: [[1], [1.0]]}}",
         "n: the value [1] is given 2 times"),
        ("notebooks:\n- {notebook: NB, parameters: {x: L, y: L, n: L}}".replace("L", str([*range(101)])),
         "the lists make 1,030,301 runs; shorten them to at most 1,000,000"),
        ('notebooks:\n- {notebook: NB, parameters: {s: "\\ud800"}}', "no character in UTF-8"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, exclude: [{x: 1}]}",
         "exclude: x is not under `parameters`"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, exclude: [{t: 1}]}",
         "t: unknown parameter; this notebook has x, y, s, b, n"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, include: [{t: 1}]}",
         "t: unknown parameter; this notebook has x, y, s, b, n"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, include: [{s: a}]}",
         "include: the row with s = 'a' changes no run"),
        ("notebooks:\n- {notebook: NB, parameters: {s: [a, b]}, include: [{x: 1}, {x: 2}]}",
         "include: the row with x = 1 changes no run"),
        ("notebooks:\n- {notebook: NB, parameters: {s: yes}}", "s = True: give a text (YAML reads"),
        ("notebooks:\n- {notebook: NB, parameters: {s: off}}", "write it in quotes if a text"),
        ("notebooks:\n- {notebook: NB, parameters: {s: 1.10}}", "write it in quotes if a text"),
        ("notebooks:\n- {notebook: NB, parameters: {x: 1.5}}", "x = 1.5: give a whole number"),
        ("notebooks:\n- {notebook: NB, parameters: {x: .nan}}", "x = nan: give a whole number"),
        ("notebooks:\n- {notebook: NB, parameters: {3: 1}}", "3 is no name of a parameter"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_a_fault(written, text, says):
    assert says in refused(written, text)


def test_a_merged_key_may_be_given_anew(written):
    text = "base: &base {x: 1, s: a}\n"
    assert "one key" in refused(written, f"{text}notebooks:\n- notebook: NB")
    text = (
        "notebooks:\n- {notebook: NB, parameters: &base {x: 1, s: a}}\n"
        "- {notebook: NB, parameters: {<<: *base, x: 2}}"
    )
    assert written(text) == [{"x": 1, "s": "a"}, {"x": 2, "s": "a"}]


def test_values_are_read_as_the_notebook_declares_them(tmp_path):
    path = notebook(tmp_path / "t.ipynb", 'a: int = 1\nb: float = 1.0\nc: bool = True\nd: str = ""')
    entry = {"notebook": str(path), "parameters": {"a": "1e3", "b": 2, "c": False, "d": "no event"}}
    (job,) = read_plan(plan(tmp_path / "plan.yaml", entry))
    assert job.values == {"a": 1000, "b": 2.0, "c": False, "d": "no event"}
    assert isinstance(job.values["a"], int) and isinstance(job.values["b"], float)


def test_every_fault_of_a_plan_at_once(tmp_path):
    one = notebook(tmp_path / "a" / "same.ipynb", "x: int = 1")
    path = plan(
        tmp_path / "plan.yaml",
        {"notebook": "missing.ipynb"},
        {"notebook": str(one), "parameters": {"x": [1, 2], "y": 3}},
        {"notebook": str(one), "parameters": {"x": ["one", 2.5, float("nan")]}},
        {"notebook": "notebooks/02_response.ipynb", "parameters": {"outcome": "cure"}},
        {"notebook": str(one), "parameters": {"x": [7, 7]}},
        {"notebook": str(one), "parameter": {"x": 1}},
        {"notebook": str(one), "parameters": {"x": []}},
        {"notebook": str(one), "parameters": {"x": {"a": 1}}},
        {"notebook": str(one), "parameters": {"x": 1}, "exclude": [{"z": 1}]},
        {"notebook": str(one), "parameters": {"x": 1}, "exclude": [{"x": 1}]},
        {"notebook": str(one), "include": {"x": 1}},
        {"file": str(one)},
        {"notebook": str(one), "parameters": [1]},
        {"notebook": str(one), "include": [{}]},
    )
    with pytest.raises(DfspError) as raised:
        read_plan(path)
    for part in (
        "notebook 1: missing.ipynb: no such notebook",
        "notebook 2: same.ipynb: y: unknown parameter; this notebook has x",
        "notebook 3: same.ipynb: x = 'one': give a whole number",
        "x = 2.5: give a whole number",
        "x = nan: give a whole number",
        "notebook 4: 02_response.ipynb: ",
        "'cure' is not known",
        "notebook 5: x: the value 7 is given 2 times",
        "notebook 6: 'parameter' is not known; use notebook, parameters, exclude, include",
        "notebook 7: x: the list is empty",
        "notebook 8: same.ipynb: x = {'a': 1}: give a whole number",
        "notebook 9: same.ipynb: z: unknown parameter",
        "notebook 10: `exclude` leaves no run",
        "notebook 11: `include` is a list of rows",
        "notebook 12: an entry names a file under `notebook`",
        "notebook 13: `parameters` holds names and values",
        "notebook 14: `include` is a list of rows",
    ):
        assert part in str(raised.value), (part, str(raised.value))


def test_runs_of_one_name(tmp_path):
    one = notebook(tmp_path / "a" / "same.ipynb", "x: int = 1")
    two = notebook(tmp_path / "b" / "same.ipynb", "x: int = 1")
    entries = [{"notebook": str(path), "parameters": {"x": 8}} for path in (one, two)]
    with pytest.raises(DfspError) as raised:
        read_plan(plan(tmp_path / "plan.yaml", *entries))
    for part in ("2 runs have the name same_x=8-", str(one), str(two)):
        assert part in str(raised.value)


def test_a_fault_is_told_once_and_hides_no_other(tmp_path):
    one = notebook(tmp_path / "one.ipynb", "x: int = 1\ny: int = 1")
    response = "notebooks/02_response.ipynb"
    path = plan(
        tmp_path / "plan.yaml",
        {"notebook": str(one), "parameters": {"x": ["one", 2], "y": [1, "two"]}},
        {"notebook": str(one), "parameters": {"x": [{"a": 1}, "three"]}, "more": 1},
        {"notebook": response, "parameters": {"outcome": "cure", "mu_sd": -1, "drawn": 3}},
        {"notebook": response, "parameters": {"draws": "many", "seed": -1}, "exclude": [{"z": 1}]},
    )
    with pytest.raises(DfspError) as raised:
        read_plan(path)
    says = str(raised.value)
    for part in (
        "notebook 1: one.ipynb: x = 'one': give a whole number",
        "notebook 1: one.ipynb: y = 'two': give a whole number",
        "notebook 2: 'more' is not known",
        "notebook 3: 02_response.ipynb: drawn: unknown parameter",
        "notebook 3: 02_response.ipynb: mu_sd",
        "'cure' is not known",
        "notebook 4: 02_response.ipynb: draws = 'many': give a whole number",
        "notebook 4: 02_response.ipynb: seed = -1",
        "notebook 4: 02_response.ipynb: z: unknown parameter",
    ):
        assert says.count(part) == 1, (part, says)
    assert "runs have the name" not in says  # of an entry that is not as meant


def test_runs_that_do_the_same_are_named(tmp_path):
    path = notebook(tmp_path / "t.ipynb", "x: int = 1\ny: float = 2.0\nz = 1 / 2\ns = {1}")
    entry = {"notebook": str(path), "include": [{"x": 1}, {"y": 2}, {"x": 2}]}
    jobs = read_plan(plan(tmp_path / "plan.yaml", entry))
    assert jobs[0].effective == {"x": 1, "y": 2.0, "z": "1 / 2", "s": "{1}"}
    assert duplicate_runs(jobs) == [
        "t.ipynb: 2 runs do the same, with x = 1 and with y = 2.0; all but one may be left out"
    ]
    for name in ("imatinib", "primary", "ankylosing_spondylitis"):
        assert (
            duplicate_runs(read_plan(project_folder() / "notebooks" / "plans" / f"{name}.yaml"))
            == []
        )


@pytest.mark.parametrize("text", ["", "[", "notebooks: []", "notebooks: 1", "runs: []", "a: 1"])
def test_a_file_that_is_no_plan(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DfspError, match=r"plan\.yaml: (a plan has one key|cannot be read)"):
        read_plan(path)
    with pytest.raises(DfspError, match="cannot be read"):
        read_plan(tmp_path / "missing.yaml")


def test_the_schemas_are_those_of_the_models():
    # Written by: python -c "import json; from dfsp.runs.models import schema_of; ..."
    for name in MODELS:
        assert schema(name) == schema_of(name), f"dfsp/schemas/{name}.json is to be made anew"
        jsonschema.Draft202012Validator.check_schema(schema(name))
    import yaml

    for path in (project_folder() / "notebooks" / "plans").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), schema("plan"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"notebooks": [{"notebok": "a.ipynb"}]}, schema("plan"))


def test_evidence_is_read_and_counted_once_for_all_runs(tmp_path, monkeypatch):
    from dfsp.evidence import load, outcomes

    calls = []
    for module, name in ((load, "_select"), (outcomes, "_table")):
        own = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, own=own, name=name, **k: calls.append(name) or own(*a, **k)
        )
    scales = [1 + number / 100 for number in range(20)]
    rules = ["excluded", "no event"]
    given = {"engine": "exact", "mu_sd": scales, "tau_scale": scales, "not_evaluable": rules}
    entry = {"notebook": "notebooks/02_response.ipynb", "parameters": given}
    assert len(read_plan(plan(tmp_path / "plan.yaml", entry))) == 800
    assert calls == ["_select", "_table", "_table"]
    # Faults too are told of all runs and found once.
    given["outcome"] = "cure"
    with pytest.raises(DfspError, match=r"'cure' is not known(?s:.)*and 799 more"):
        read_plan(plan(tmp_path / "plan.yaml", entry))
    # A plan that is checked later sees what has changed meanwhile.
    assert dfsp.load_evidence("review") is not dfsp.load_evidence("review")


@pytest.mark.slow
def test_a_list_of_10_000_values_is_read_in_no_time(tmp_path):
    path = notebook(tmp_path / "t.ipynb", "x: int = 1")
    entry = {"notebook": str(path), "parameters": {"x": list(range(10_000))}}
    clock = time.process_time()
    assert len(read_plan(plan(tmp_path / "plan.yaml", entry))) == 10_000
    # 2 to 3 s; compared with each other they took minutes.
    assert time.process_time() - clock < 30


def test_progress_is_told_while_a_long_plan_is_checked(tmp_path):
    path = notebook(tmp_path / "t.ipynb", "x: int = 1\ny: int = 1")
    entry = {"notebook": str(path), "parameters": {"x": list(range(30)), "y": list(range(40))}}
    heard = []
    jobs = read_plan(plan(tmp_path / "plan.yaml", entry), tell=lambda *now: heard.append(now))
    assert len(jobs) == 1200 == len({job.name for job in jobs})
    assert heard[0] == (1, 1200) and heard[-1] == (1200, 1200)
    assert json.loads(json.dumps(jobs[-1].values)) == {"x": 29, "y": 39}
