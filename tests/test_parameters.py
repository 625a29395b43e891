"""One rule a name: what it refuses, in whichever notebook, before a kernel starts."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from command import call
from small import notebook, plan

import dfsp
from dfsp.errors import DfspError
from dfsp.parameters import Parameters, as_markdown, by_name, check, faults_of, rules
from dfsp.runs.declared import read_notebook
from dfsp.runs.plan import read_plan
from dfsp.runs.run import plan_run

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRIORS = {"mu_sd": 2.0, "tau_family": "half-normal", "tau_scale": 1.0}
EVIDENCE = {"evidence_set": "reconciled", "outcome": "objective_response"}


# ---------------------------------------------------------------- one table of rules


def test_every_parameter_of_a_notebook_has_a_rule_and_every_rule_a_notebook():
    declared = {path: read_notebook(path).parameters for path in NOTEBOOKS}
    assert set().union(*declared.values()) == set(Parameters.model_fields)
    for path, parameters in declared.items():
        own = {name: each.default for name, each in parameters.items()}
        assert by_name(own) == {}, path


def test_the_readme_holds_the_table_that_the_command_prints():
    said = call("parameters")
    assert said.stdout == as_markdown() + "\n"
    assert as_markdown() in (ROOT / "notebooks/README.md").read_text("utf-8")
    assert [name for name, *_ in rules()] == list(Parameters.model_fields)
    assert all(meaning.endswith(".") for *_, meaning in rules())


# From the docstrings of what they are handed to: Normal and the priors of tau (above 0), dfsp.fit (a
# hundred draws), BetaMixture.robustify (a weight below 1), seed_for (0 or more), rates in between.
@pytest.mark.parametrize(
    ("name", "good", "bad", "says"),
    [
        ("evidence_set", ["review", ""], [3, None, ["review"]], "give a text"),
        ("outcome", ["surgery", ""], ["cure"], "'cure' is not known; known: objective_response |"),
        ("outcome", [], ["objectve_response"], "did you mean 'objective_response'"),
        ("outcome", [], [1], "outcome = 1: give a text"),
        ("not_evaluable", ["event", "excluded", ""], ["NE"], "known: no event | excluded | event"),
        ("drop", ["", "a | b", [], ["a"], ("a",)], [3, [3], {"a"}], "text or a list of texts"),
        ("mu_sd", [2, 0.1], [0, -1.0, 1e10, float("nan"), "2", True, None], "a number above 0"),
        ("tau_scale", [1e-3], [-5], "tau_scale = -5: give a number above 0 and at most 1e+09"),
        ("tau_family", ["inverse-gamma", "fixed"], ["normal"], "did you mean 'log-normal' or 'half-normal'"),
        ("effects", ["exnex"], ["no-such"], "known: normal | student-t | beta-binomial | beta-binomial-shapes | exnex"),
        ("margin", [0.0, 0.1], [-0.1, 1, 1.5], "give a number of 0 or more and below 1"),
        ("robust_weight", [0, 0.99], [1, -0.1], "give a number of 0 or more and below 1"),
        ("n", [0, 1], [-1, 2.5, True, "3"], "give a whole number of 0 or more"),
        ("draws", [100], [99], "give a whole number of 100 or more"),
        ("seed", [0, 10**12], [-1, 1.0], "give a whole number of 0 or more"),
        ("engine", ["exact", "both"], ["nuts"], "'nuts' is not known; known: exact | both"),
    ],
)  # fmt: skip
def test_a_rule_says_what_was_found_and_what_is_allowed(name, good, bad, says):
    for value in good:
        assert by_name({name: value}) == {}, value
    for value in bad:
        found = by_name({name: value})
        assert list(found) == [name] and says in found[name], (value, found)


def test_a_family_of_ones_own_is_allowed_once_it_is_defined(monkeypatch):
    assert by_name({"tau_family": "mine"}) != {}
    monkeypatch.setitem(dfsp.model.priors.TAU_FAMILIES, "mine", dfsp.HalfNormal)
    assert by_name({"tau_family": "mine"}) == {}


# ---------------------------------------------------------------- values that go together


@pytest.mark.parametrize(
    ("values", "says"),
    [
        # exp(50 sd) is beyond what can be computed: the prior's own limits
        (PRIORS | {"tau_family": "log-normal", "tau_scale": 50.0}, "mu_sd, tau_family, tau_scale"),
        ({"tau_family": "fixed", "threshold": 0.4}, "a fixed tau has no sensitivity"),
        ({"tau_family": "fixed", "data_sets": 100}, "the control needs a prior of tau"),
        ({"coefficient_sd": 1e-12}, "give a number from 1e-09"),
        (EVIDENCE | {"outcome": "surgery", "margin": 0.1}, "planned and salvage surgery"),
        ({"not_evaluable": "event"}, "could not be evaluated is in no category"),
        ({"evidence_set": "nowhere"}, "nowhere"),
        ({"evidence_set": "reconciled", "folder": "nowhere"}, "nowhere does not exist"),
        ({"totals_set": "reconciled"}, "totals_set = 'reconciled': it has no counts of any_adv"),
        (EVIDENCE | {"outcome": "surgery", "evidence_set": "review"}, "cannot count surgery"),
        (EVIDENCE | {"drop": "Hahn 2009"}, "did you mean 'Han 2009'"),
        (EVIDENCE | {"evidence_set": "review", "study": "B"}, "study: 'B' is not known; known: Ug"),
        (EVIDENCE | {"table": "data/subgroups.csv"}, "set both to an empty string"),
        ({"table": "data/subgroups.csv", "folder": "data"}, "leave one of them empty"),
        ({"table": "data/nowhere.csv"}, "nowhere.csv"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_fault(values, says):
    assert by_name(values) == {}
    (fault,) = faults_of(values)
    assert says in fault


def test_leaving_two_out_needs_three_studies(tmp_path):
    table = tmp_path / "two.csv"
    table.write_text("study,events,total\nA,1,10\nB,5,10\n", "utf-8")
    given = {"table": str(table), "outcome": "", "not_evaluable": ""}
    assert faults_of(given) == []
    assert faults_of(given | {"study": ""}) == ["2 studies: leaving two out needs three or more"]


def test_all_faults_at_once_whichever_rule_they_break():
    given = {"n": -1, "robust_weight": 1, "p0": "0.3", "evidence_set": "nowhere", "outcome": "cure"}
    with pytest.raises(DfspError, match=r"(?s)n = -1.*robust_weight = 1.*p0 = '0.3'") as raised:
        check(given | {"tau_family": "log-normal", "tau_scale": 50.0})
    assert len(raised.value.faults) == 6  # the counts cannot be judged without an outcome
    with pytest.raises(DfspError, match="nowhere") as raised:
        check({"evidence_set": "nowhere", "mu_sd": -1})
    assert len(raised.value.faults) == 2


def test_what_can_be_used_gives_counts_and_model():
    given = check(EVIDENCE | PRIORS | {"effects": "student-t", "drop": "han-2009", "other": 1})
    assert given.counts.table["study"].to_list()[-1] == "Rutkowski 2010 (pooled)"
    assert len(given.counts.table) == 7 and given.source is given.evidence and given.place is None
    assert given.model == dfsp.Model(dfsp.Normal(0, 2), dfsp.HalfNormal(1), dfsp.StudentT())


def test_a_folder_or_a_table_of_ones_own(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("study,events,total\nA,1,10\nB,5,10\nC,9,10\n", encoding="utf-8")
    given = check({"table": str(own), "outcome": "", "not_evaluable": "", "study": "B"})
    assert given.source is given.counts and given.place is None
    assert given.counts.table["events"].tolist() == [1, 5, 9]
    assert check({"table": str(own)}).counts.table.equals(given.counts.table)
    given = check(EVIDENCE | {"evidence_set": "review", "folder": str(dfsp.DATA)})
    assert given.source.name == "review" and given.place == dfsp.DATA
    assert check({"evidence_set": "review", "folder": "data"}).evidence.files


# ---------------------------------------------------------------- in whichever notebook


def refused(path, **values):
    with pytest.raises(DfspError) as raised:
        plan_run(path, {name: str(value) for name, value in values.items()})
    return list(raised.value.faults)


@pytest.mark.parametrize("code", ["print(tau_scale)", "import dfsp\ndfsp.HalfNormal(tau_scale)"])
def test_a_strangers_notebook_is_held_to_the_rule_of_each_name(tmp_path, code):
    path = notebook(tmp_path / "s.ipynb", "tau_scale = 1.0\nseed: int = 1\nmine: float = 1.0", code)
    assert refused(path, tau_scale=-5, seed=-1, mine=-5) == [
        "tau_scale = -5.0: give a number above 0 and at most 1e+09",
        "seed = -1: give a whole number of 0 or more",
    ]
    assert plan_run(path, {"mine": "-5"}).values == {"mine": -5.0}
    with pytest.raises(DfspError, match=r"s\.ipynb: tau_scale = -5\.0: give a number above 0"):
        read_plan(plan(tmp_path / "p.yaml", {"notebook": str(path), "parameters": {"tau_scale": -5}}))  # fmt: skip


def test_without_dfsp_a_name_may_mean_something_else(tmp_path):
    path = notebook(tmp_path / "s.ipynb", "outcome: str = 'death'\ndraws: int = 100", "print(1)")
    assert plan_run(path, {"outcome": "relapse"}).values == {"outcome": "relapse"}
    assert refused(path, draws=5) == ["draws = 5: give a whole number of 100 or more"]
    path = notebook(tmp_path / "t.ipynb", "outcome: str = 'death'", "import dfsp")
    assert "'death' is not known" in refused(path)[0]


def test_none_and_names_that_are_not_declared_are_its_own_matter(tmp_path):
    path = notebook(tmp_path / "s.ipynb", "seed = None\nn: int = 3", "import dfsp")
    assert plan_run(path, {"seed": "None"}).values == {"seed": None}
    assert refused(path, seed=-1) == ["seed = -1: give a whole number of 0 or more"]
    r = nbformat.read(path, 4)
    r.metadata = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}
    nbformat.write(r, path)
    with pytest.raises(DfspError, match="no kernel 'ir'"):  # and not the outcome
        plan_run(path, {"outcome": "death"})


def test_what_only_its_code_knows_is_not_asked_of_a_strangers_notebook(tmp_path):
    path = notebook(tmp_path / "s.ipynb", "table: str = ''\nevidence_set: str = ''", "import dfsp")
    assert plan_run(path, {"table": "beside.csv", "evidence_set": "mine"}).refused is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_copy_under_another_name_is_checked_as_the_notebook_itself(path, tmp_path):
    copy = Path(shutil.copy(path, tmp_path / "copied.ipynb"))
    assert read_notebook(copy).checks
    plan_run(copy, {})
    bad = {"evidence_set": "nowhere", "folder": "nowhere", "tau_scale": -5, "seed": -1, "n": -1}
    bad = {name: value for name, value in bad.items() if name in read_notebook(copy).parameters}
    said = refused(copy, **bad)
    assert len(said) == len(bad.keys() - {"folder"}), said  # which is where the set is not


# As the notebooks' questions ask for; each is refused by what its parameters cell declares.
@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("03_categories", {"not_evaluable": "event"}, "in no category"),
        (
            "04_dose",
            {"outcome": "surgery", "evidence_set": "reconciled"},
            "planned and salvage surgery are different",
        ),
        ("05_safety_and_surgery", {"totals_set": "reconciled"}, "no counts of any_adverse_event"),
        ("06_robustness", {"study": "B"}, "'B' is not known"),
        ("06_robustness", {"tau_family": "fixed"}, "no sensitivity"),
        ("07_calibration", {"tau_family": "fixed"}, "needs a prior of tau"),
        ("explore", {"table": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_what_one_notebook_cannot_use(name, values, says):
    (fault,) = refused(ROOT / "notebooks" / f"{name}.ipynb", **values)
    assert says in fault


KNOW_CLUSTERS = ("01_evidence", "02_response", "08_planning", "explore")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_clusters_are_refused_before_the_start_by_notebooks_that_do_not_know_them(
    path, clustered_folder
):
    values = {"evidence_set": "mine", "folder": str(clustered_folder)}
    if path.stem in KNOW_CLUSTERS:
        plan_run(path, values)
    else:
        faults = refused(path, **values)
        assert any("this notebook does not model clusters" in fault for fault in faults)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_other_cell_gives_a_parameter_another_value(path):
    """Otherwise the second cell, run again, would check something else."""
    code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    stored = {
        node.id
        for cell in code
        if "parameters" not in cell.metadata.get("tags", [])
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert not stored & set(Parameters.model_fields)


def test_nothing_is_started_and_all_is_said_on_the_command_line(tmp_path):
    words = ["-p", "tau_scale", "-5", "-p", "draws", "5", "-p", "outcome", "cure"]
    mine = shutil.copy(NOTEBOOKS[1], tmp_path / "mine.ipynb")
    done = call("run", mine, *words, "--folder", "runs", folder=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "runs").exists()
    assert done.stderr.splitlines() == [
        "Error: mine.ipynb: parameters that cannot be used",
        "  outcome: 'cure' is not known; known: " + " | ".join([*dfsp.OUTCOMES, '""']),
        "  tau_scale = -5.0: give a number above 0 and at most 1e+09",
        "  draws = 5: give a whole number of 100 or more",
    ]


def test_pydantic_loads_where_parameters_are_checked_and_not_before():
    code = (
        "import json, sys, dfsp\n"
        "before = 'pydantic' in sys.modules\n"
        "dfsp.parameters.check({'seed': 1})\n"
        "print(json.dumps([before, 'pydantic' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True]
