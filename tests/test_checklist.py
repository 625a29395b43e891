"""The checklist is filled from what a run did, and from nothing else."""

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

import dfsp
from dfsp import sampling
from dfsp.appraisals import JBI_ITEMS, appraise
from dfsp.checklist import ITEMS, NOT_DONE, fill_checklist
from dfsp.figures import forest

RECORD = {
    "notebook": "n.ipynb",
    "notebook_sha256": "a" * 64,
    "versions": {"python": "3.13.0", "pymc": "6.4.0"},
    "git": None,
    "data": {},
    "engine": None,
    "seed": None,
    "checks": [],
    "figures": [],
    "appraisal": [],
}


def executed(source, *, error=False):
    cell = new_code_cell(source)
    fault = {"ename": "E", "evalue": "e", "traceback": []}
    cell.outputs = [new_output("error", **fault) if error else new_output("stream", text="1")]
    return cell


def answers(cells, **record):
    table = fill_checklist(cells, RECORD | record)
    return {(row.item, row.asks): (row.answer, row.cell) for row in table.itertuples()}


def test_the_items_of_prisma_that_a_synthesis_speaks_to_are_all_there():
    # Page 2021, doi:10.1136/bmj.n71: methods 11, 13a-13f, 14, 15; results 18, 20a-20d, 21, 22.
    numbers = [item.number for item in ITEMS if item.guideline == "PRISMA 2020"]
    assert numbers == [
        "11", "13a", "13b", "13c", "13d", "13e", "13f", "14", "15",
        "18", "20a", "20b", "20c", "20d", "21", "22",
    ]  # fmt: skip


def test_every_step_of_barg_is_there():
    # Kruschke 2021, doi:10.1038/s41562-021-01177-7, Table 1: a preamble and six steps.
    steps = dict.fromkeys(item.number for item in ITEMS if item.guideline == "BARG")
    assert list(steps) == ["Preamble", *(f"Step {number}" for number in range(1, 7))]


def test_nothing_done_is_said_so():
    found = answers([])
    shown = {key: answer for key, (answer, cell) in found.items() if cell}
    assert set(shown) == {("Step 2", "software"), ("Step 6", "software and installation"), ("Step 6", "scripts")}  # fmt: skip
    rest = {answer for answer, cell in found.values() if not cell}
    assert rest == {NOT_DONE, "not assessed"}


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("print(dfsp.leave_one_out(fit))", ("20d", "results: sensitivity analyses")),
        ("forest = dfsp.forest(fit)", ("13c", "tables and figures of the results")),
        ("dfsp.plot_predictive(fit, check);", ("Step 3", "posterior predictive check")),
        ("print(dfsp.describe_heterogeneity(fit))", ("20b", "results of the synthesis, and heterogeneity")),
        ("dfsp.plot_prior(prior);", ("Step 1", "prior predictive check")),
        ("average = dfsp.average(fits)", ("Step 3", "Bayes factors and posterior model probabilities")),
        ("pairs = dfsp.contrasts(slope, margin)", ("Step 4", "limits of a region of practical equivalence")),
        ("print(dfsp.bayes_factors(doses, x))", ("Step 5", "sensitivity of Bayes factors")),
        ("print(dfsp.describe_multiverse(m, 0.4))", ("Step 5", "sensitivity of decisions")),
    ],
)  # fmt: skip
def test_a_cell_answers_only_if_it_was_executed_without_error(source, key):
    good = executed(source)
    assert answers([good])[key][1] == good.id
    assert answers([new_code_cell(source)])[key] == (NOT_DONE, "")
    assert answers([executed(source, error=True)])[key] == (NOT_DONE, "")


def test_a_text_answers_what_is_said_in_words():
    text = new_markdown_cell(r"**Question.** $r \sim \mathrm{Binomial}(n, p)$")
    found = answers([text])
    assert found["Preamble", "goals of the analysis"][1] == text.id
    assert found["13d", "methods of synthesis"][1] == text.id


def test_chains_are_answered_by_the_checks_of_the_record():
    check = {"name": "NUTS: R-hat", "passed": True, "value": 1.0, "limit": 1.01, "says": ""}
    key = ("Step 2", "convergence of the chains")
    assert answers([], checks=[check], engine="both")[key] == ("NUTS: R-hat: passed", "record")
    assert answers([], engine="exact")[key][0] == "no chains: the exact engine integrates"
    assert answers([], engine="nuts")[key] == (NOT_DONE, "")


def test_the_checks_of_the_engines_have_the_names_that_the_checklist_looks_for(review):
    fit = dfsp.fit(review)
    record = {"checks": [check.as_dict() for check in fit.checks], "engine": "exact"}
    assert answers([], **record)["Step 2", "if not MCMC: accuracy"][0].endswith("passed")


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
    assert some["risk_of_bias"].to_list() == ["8 yes, 1 no, 1 not assessed", "not assessed"]
    assert some["certainty"].to_list() == ["not assessed", "low"]
    found = answers([], appraisal=some.to_dict("records"))
    assert found["18", "risk of bias of each study"] == ("1 of 2 studies assessed", "record")
    assert found["22", "certainty of the evidence"] == ("1 of 2 studies assessed", "record")


def test_the_forest_shows_what_is_filled_and_only_that():
    def words(**columns):
        ax = forest(dfsp.fit(judged(**columns)))
        return {text.get_text() for text in ax.texts}

    assert not {"Risk of bias (JBI)", "Certainty"} & words()
    filled = words(jbi_1=["yes", ""], certainty=["", "low"])
    assert {"Risk of bias (JBI)", "Certainty", "1 yes", "low", "not assessed"} <= filled


def test_answers_of_the_cohorts_table_are_checked(tmp_path):
    for table in (dfsp.evidence.DATA).glob("*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())
    path = tmp_path / "cohorts.csv"
    cohorts = pd.read_csv(path, dtype=str, keep_default_na=False)
    cohorts.assign(jbi_1="yes", certainty="").to_csv(path, index=False)
    evidence = dfsp.load_evidence("reconciled", folder=tmp_path)
    counts = dfsp.count(evidence, "objective_response")
    assert set(appraise(counts.table)["risk_of_bias"]) == {"1 yes"}
    cohorts.assign(jbi_1="maybe", certainty="good").to_csv(path, index=False)
    with pytest.raises(dfsp.DfspError) as raised:
        dfsp.load_evidence("reconciled", folder=tmp_path)
    assert "column 'jbi_1': 'maybe' is not known; use yes, no, unclear" in str(raised.value)
    assert "column 'certainty': 'good' is not known; use high, moderate" in str(raised.value)


def test_the_gate_speaks_for_convergence_and_resolution():
    names = (sampling.RHAT, sampling.DIVERGENCES, sampling.BULK, sampling.TAIL)
    checks = [{"name": name, "passed": name != sampling.TAIL} for name in names]
    found = answers([], engine="both", checks=checks)
    converged = f"{sampling.RHAT}: passed; {sampling.DIVERGENCES}: passed"
    assert found["Step 2", "convergence of the chains"] == (converged, "record")
    resolved = f"{sampling.BULK}: passed; {sampling.TAIL}: FAILED"
    assert found["Step 2", "resolution of the chains"] == (resolved, "record")
