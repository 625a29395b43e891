"""The checklist is filled from what a run did, and from nothing else."""

import ast
import json

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

import dfsp
from dfsp.engine import nuts as sampling
from dfsp.evidence.appraisals import JBI_ITEMS, appraise
from dfsp.parameters import Parameters
from dfsp.plots import forest
from dfsp.plots.fits import BIAS
from dfsp.project import project_folder
from dfsp.runs import record as runs
from dfsp.runs.checklist import NOT_DONE, READERS, fill_checklist, items
from dfsp.runs.models import Record

RECORD = {
    "notebook": "n.ipynb",
    "notebook_sha256": "a" * 64,
    "versions": {"python": "3.13.0", "pymc": "6.4.0"},
    "git": None,
    "data": {},
    "engine": None,
    "seed": None,
    "checks": [],
    "status": "complete",
    "model": None,
    "figures": [],
    "tables": [],
    "parameters": {},
    "effective_parameters": {},
    "draws": None,
    "appraisal": None,
}


def answers(cells=(), **record):
    table = fill_checklist(cells, RECORD | record)
    return {(row.item, row.asks): (row.answer, row.cell) for row in table.itertuples()}


def test_the_items_of_prisma_that_a_synthesis_speaks_to_are_all_there():
    # Page 2021, doi:10.1136/bmj.n71: methods 11, 13a-13f, 14, 15; results 18, 20a-20d, 21, 22.
    numbers = [each.item for each in items() if each.guideline == "PRISMA 2020"]
    assert numbers == [
        "11", "13a", "13b", "13c", "13d", "13e", "13f", "14", "15",
        "18", "20a", "20b", "20c", "20d", "21", "22",
    ]  # fmt: skip


def test_every_step_of_barg_is_there():
    # Kruschke 2021, doi:10.1038/s41562-021-01177-7, Table 1: a preamble and six steps.
    steps = dict.fromkeys(each.item for each in items() if each.guideline == "BARG")
    letters = {"Preamble": "AB", 1: "ABCDE", 2: "ABCD", 3: "ABC", 4: "ABCDE", 5: "ABCDE"}
    assert list(steps) == [
        *(f"{'' if step == 'Preamble' else 'Step '}{step} {letter}"
          for step, each in letters.items() for letter in each),
        "Step 6",
    ]  # fmt: skip


def test_nothing_done_is_said_so():
    found = answers([])
    shown = {key: answer for key, (answer, cell) in found.items() if cell}
    assert set(shown) == {
        ("Step 2 A", "software"),
        ("Step 6", "software and installation"),
        ("Step 6", "scripts that people can read"),
        ("Step 6", "scripts that run"),
    }
    rest = {answer for answer, cell in found.values() if not cell}
    unknown = "not recorded by this notebook"
    assert rest == {NOT_DONE, unknown, f"per study: {unknown}; per outcome: not done"}


JUDGED = [{"study": name, "risk_of_bias": "1 yes", "certainty": "low"} for name in "AB"]


# What the record of a run holds, and which items it then answers with what.
@pytest.mark.parametrize(
    ("record", "key", "answer"),
    [
        ({"tables": ["leave_one_out.csv"]}, ("20d", "results: sensitivity analyses"),
         "studies left out, or other choices: leave_one_out.csv"),
        ({"figures": ["forest.svg", "forest.png"]}, ("13c", "tables and figures of the results"),
         "forest.svg, forest.png"),
        ({"figures": ["predictive.svg"], "tables": ["predictive.csv"]},
         ("Step 3 A", "posterior predictive check"),
         "replicated beside observed counts: predictive.csv, predictive.svg"),
        ({"tables": ["summary.csv"]}, ("20b", "results of the synthesis, and heterogeneity"),
         "rates with intervals, and how much studies differ: summary.csv"),
        ({"figures": ["prior.svg"]}, ("Step 1 E", "prior predictive check"),
         "a new study's rate under the prior: prior.svg"),
        ({"tables": ["models.csv"]}, ("Step 3 C", "Bayes factors and posterior model probabilities"),
         "models weighed by their marginal likelihoods: models.csv"),
        ({"effective_parameters": {"margin": 0.1}},
         ("Step 4 C", "limits of a region of practical equivalence"),
         "the margin within which rates are practically equal: margin = 0.1"),
        ({"effective_parameters": {"margin": 0.1}, "status": "failed"},
         ("Step 4 C", "limits of a region of practical equivalence"), None),
        ({"parameters": {"tau_family": "fixed"}, "effective_parameters": {"tau_scale": 0.5}},
         ("Step 1 C", "prior distribution"),
         "the model as computed: tau_family = 'fixed', tau_scale = 0.5"),
        ({"model": {"mu": {}}}, ("Step 1 C", "prior distribution"), "the model as computed"),
        ({"data": {"a.csv": "0"}}, ("Step 1 A", "data variables"),
         "the counts and where they come from"),
        ({"tables": ["bayes_factors.csv"]},
         ("Step 5 D", "sensitivity: Bayes factors and model probabilities"),
         "a grid of priors of the coefficient: bayes_factors.csv"),
        ({"tables": ["coefficients.csv"]}, ("Step 3 B", "summary of the posterior"),
         "estimates with intervals: coefficients.csv"),
        ({"tables": ["plan_robust_prior.csv"]},
         ("Step 4 A", "why decisions are made, and by which criteria"),
         "when a planned trial succeeds: plan_robust_prior.csv"),
        ({"tables": ["multiverse.csv"]}, ("Step 5 A", "sensitivity: broad priors"),
         "other priors: multiverse.csv"),
        ({"appraisal": JUDGED},
         ("13a", "which studies are in the synthesis"), "A, B"),
    ],
)  # fmt: skip
def test_what_a_run_has_kept_is_the_answer(record, key, answer):
    assert answers(**record)[key] == ((answer, "record") if answer else (NOT_DONE, ""))
    assert answers()[key] == (NOT_DONE, "")


def test_of_many_studies_twenty_are_named():
    many = [JUDGED[0] | {"study": f"S{number}"} for number in range(22)]
    said, _ = answers(appraisal=many)["13a", "which studies are in the synthesis"]
    assert said.startswith("S0, S1, ") and said.endswith("S19 and 2 more")


def test_what_the_code_of_a_cell_calls_is_no_answer():
    code = new_code_cell("fit.leave_one_out(); dfsp.plots.predictive(fit)")
    assert answers([code]) == answers()


NOTEBOOKS = sorted((project_folder() / "notebooks").glob("0*.ipynb"))


def test_every_name_that_an_item_looks_for_is_one_that_notebooks_record():
    kept = {"summary", "studies"}  # by `record`, of every fit
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                tree = ast.walk(ast.parse(cell.source))
                kept |= {node.value for node in tree if isinstance(node, ast.Constant)}
    for each in items():
        assert {*each.tables, *each.figures} <= kept, each
        assert set(each.parameters) <= set(Parameters.model_fields), each
        assert set(each.fields) <= set(Record.model_fields), each
        assert not each.reads or each.reads in READERS, each
    assert {each.reads for each in items()} - {""} == set(READERS)


def test_a_prior_is_justified_only_by_words():
    key = ("Step 1 C", "reasons for the prior distribution")
    bare = new_markdown_cell("## The prior\n\nBecause of rounding, digits differ.")
    assert answers([bare])[key] == (NOT_DONE, "")
    said = new_markdown_cell("The priors are weak, which is the advice of Weber 2021.")
    assert answers([said])[key] == ("said in the text", said.id)


def test_a_text_answers_what_is_said_in_words():
    text = new_markdown_cell(r"**Question.** $r \sim \mathrm{Binomial}(n, p)$")
    found = answers([text])
    assert found["Preamble B", "goals of the analysis"][1] == text.id
    assert found["13d", "methods of synthesis"][1] == text.id


def test_chains_are_answered_by_the_checks_of_the_record():
    check = {"name": "NUTS: R-hat", "passed": True, "value": 1.0, "limit": 1.01, "says": ""}
    key = ("Step 2 B", "convergence of the chains")
    assert answers([], checks=[check], engine="both")[key] == ("NUTS: R-hat: passed", "record")
    assert answers([], engine="exact")[key][0] == "no chains: the exact engine integrates"
    assert answers([], engine="nuts")[key] == (NOT_DONE, "")


def test_the_checks_of_the_engines_have_the_names_that_the_checklist_looks_for(review):
    fit = dfsp.fit(review)
    record = {"checks": [check.as_dict() for check in fit.checks], "engine": "exact"}
    assert answers([], **record)["Step 2 D", "if not MCMC: accuracy"][0].endswith("passed")


def judged(**columns):
    base = {"study": ["A", "B"], "events": [3, 4], "total": [9, 10]}
    return pd.DataFrame(base | columns)


def test_risk_of_bias_is_only_what_somebody_filled_in():
    nothing = appraise(judged())
    assert (
        nothing["risk_of_bias"].to_list() == nothing["certainty"].to_list() == ["not assessed"] * 2
    )
    items = {name: ["yes", None] for name in JBI_ITEMS[:8]}
    items |= {"jbi_9": ["no", ""], "jbi_10": ["", ""], "certainty": [None, "low"]}
    some = appraise(judged(**items))
    assert some["risk_of_bias"].to_list() == [
        "8 yes, 1 no (item 9, sites reported), 1 not assessed",
        "not assessed",
    ]
    assert some["certainty"].to_list() == ["not assessed", "low"]
    found = answers(appraisal=some.to_dict("records"))
    partly = "complete for 0, partly for 1 of 2 studies"
    assert found["18", "risk of bias of each study"] == (partly, "record")
    certain = "per study: complete for 1 of 2 studies; per outcome: not done"
    assert found["22", "certainty of the evidence"] == (certain, "record")
    both = "studies of each synthesis: characteristics and risk of bias"
    assert found["20a", both][0] == f"A, B; risk of bias {partly}"
    assert found["15", "methods: certainty of the evidence, with which tool"] == (NOT_DONE, "")
    found = answers([], appraisal=nothing.to_dict("records"))
    assert found["18", "risk of bias of each study"] == ("not assessed", "")
    one = appraise(judged(jbi_1=["yes", ""]))
    assert one["risk_of_bias"].to_list() == ["1 yes, 9 not assessed", "not assessed"]
    full = appraise(judged(**{name: ["yes", "no"] for name in JBI_ITEMS})).to_dict("records")
    assert answers([], appraisal=full)["18", "risk of bias of each study"][0] == (
        "complete for 2 of 2 studies"
    )


def test_what_is_judged_of_the_cohorts_is_recorded_without_a_fit(tmp_path, monkeypatch):
    folder = judged_cohorts(tmp_path)
    evidence = dfsp.load_evidence("reconciled", folder=folder)
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))

    def recorded(**given):
        dfsp.record(headline="h", **given)
        return json.loads((tmp_path / runs.FINDINGS).read_text())["appraisal"]

    assert recorded() is None
    for given in (evidence, dfsp.count(evidence, "objective_response")):
        found = recorded(appraisal=given)
        assert {row["risk_of_bias"] for row in found} == {"1 yes, 9 not assessed"}
        assert "Ugurel 2014" in {row["study"] for row in found}
    assert set(evidence.rows["label"]) == {row["study"] for row in recorded(appraisal=evidence)}


def test_every_notebook_with_studies_records_what_is_judged_of_them():
    for path in NOTEBOOKS:
        (cell,) = [cell for cell in nbformat.read(path, 4).cells if "dfsp.record(" in cell.source]
        assert "appraisal=" in cell.source or "fit=fit" in cell.source, path.name


def judged_cohorts(tmp_path):
    """The project's tables with one item judged."""
    folder = tmp_path / "judged"
    folder.mkdir()
    for table in dfsp.DATA.glob("*.csv"):
        (folder / table.name).write_bytes(table.read_bytes())
    cohorts = pd.read_csv(folder / "cohorts.csv", dtype=str, keep_default_na=False)
    cohorts.assign(jbi_1="yes").to_csv(folder / "cohorts.csv", index=False)
    return folder


def test_the_forest_shows_what_is_filled_and_only_that():
    def words(**columns):
        ax = forest(dfsp.fit(judged(**columns)))
        return {text.get_text() for text in ax.texts}

    assert not {BIAS, "Certainty"} & words()
    filled = words(jbi_1=["yes", ""], certainty=["", "low"])
    assert {BIAS, "Certainty", "+", "low", "not assessed"} <= filled


def test_each_answer_has_a_light_of_its_own_sign_and_colour():
    answers = ["yes", "no", "unclear", "not applicable", ""]
    columns = {f"jbi_{i}": [answer, "yes"] for i, answer in enumerate(answers, start=1)}
    ax = forest(dfsp.fit(judged(**columns)))
    lights = [text for text in ax.texts if text.get_bbox_patch() is not None]
    assert len(lights) == 20  # ten items of two studies
    assert [text.get_text() for text in lights[:5]] == ["+", "\N{MINUS SIGN}", "?", "/", " "]
    assert len({text.get_bbox_patch().get_facecolor() for text in lights[:5]}) == 5


def test_answers_of_the_cohorts_table_are_checked(tmp_path):
    for table in dfsp.DATA.glob("*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())
    path = tmp_path / "cohorts.csv"
    cohorts = pd.read_csv(path, dtype=str, keep_default_na=False)
    cohorts.assign(jbi_1="yes", certainty="").to_csv(path, index=False)
    evidence = dfsp.load_evidence("reconciled", folder=tmp_path)
    counts = dfsp.count(evidence, "objective_response")
    assert set(appraise(counts.table)["risk_of_bias"]) == {"1 yes, 9 not assessed"}
    cohorts.assign(jbi_1="maybe", certainty="good").to_csv(path, index=False)
    with pytest.raises(dfsp.DfspError) as raised:
        dfsp.load_evidence("reconciled", folder=tmp_path)
    assert "column 'jbi_1': 'maybe' is not known; use yes, no, unclear" in str(raised.value)
    assert "column 'certainty': 'good' is not known; use high, moderate" in str(raised.value)


def test_the_gate_speaks_for_convergence_and_resolution():
    names = (sampling.RHAT, sampling.DIVERGENCES, sampling.BULK_ESS, sampling.TAIL_ESS)
    checks = [{"name": name, "passed": name != sampling.TAIL_ESS} for name in names]
    found = answers([], engine="both", checks=checks)
    converged = f"{sampling.RHAT}: passed; {sampling.DIVERGENCES}: passed"
    assert found["Step 2 B", "convergence of the chains"] == (converged, "record")
    resolved = f"{sampling.BULK_ESS}: passed; {sampling.TAIL_ESS}: FAILED"
    assert found["Step 2 C", "resolution of the chains"] == (resolved, "record")
