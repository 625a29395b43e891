"""What an estimate is of, and what is said of its certainty: expected is what the tables hold."""

import json

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.analyses.judgements import certainty, estimand, i_squared, without_high_risk
from dfsp.runs import record as runs

TABLE = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})


def test_an_estimand_says_what_the_tables_state_and_no_more():
    counts = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    stated = estimand(counts)["stated"].to_dict()
    assert stated["population"] == "neoadjuvant (3 of 8), advanced (5 of 8), in 8 studies"
    assert stated["outcome"] == "objective response (CR or PR)"
    assert stated["denominator"] == "144 patients whose category is recorded of 144 enrolled"
    bare = estimand(dfsp.Counts.of(TABLE))["stated"].to_dict()
    names = ("treatment", "confirmation", "time", "patients without evaluation")
    assert {bare[name] for name in names} == {"not stated"}
    more = TABLE.assign(confirmed=["yes", "yes", ""], assessed="best response")
    told = estimand(dfsp.Counts.of(more))["stated"].to_dict()
    assert (told["confirmation"], told["time"]) == ("yes (2 of 3)", "best response (3 of 3)")


@pytest.mark.parametrize("rule", ["no event", "excluded", "event"])
def test_each_rule_for_patients_without_an_evaluation_has_words(rule):
    counts = dfsp.count(dfsp.load_evidence("review"), "objective_response", not_evaluable=rule)
    said = estimand(counts)["stated"]["patients without evaluation"]
    assert ("left out" in said) == (rule == "excluded") and said != "not stated"


def test_what_nobody_judged_is_said_so_and_a_no_is_high_risk():
    fit = dfsp.fit(TABLE)
    says = certainty(fit)["says"].to_dict()
    assert [says[name] for name in ("risk of bias", "indirectness", "publication bias")] == [
        "not judged"
    ] * 3
    assert says["inconsistency"] == fit.heterogeneity().describe()
    assert "49 patients; 95% interval 16.2 to 55.0 %" in says["imprecision"]
    judged = dfsp.Counts.of(TABLE.assign(jbi_1=["yes", "no", ""]))
    assert certainty(dfsp.fit(judged))["says"]["risk of bias"].endswith(
        "at high risk (a no to any item): B (item 1, clear criteria of inclusion)"
    )
    assert without_high_risk(judged).table["study"].to_list() == ["A", "C"]
    assert without_high_risk(dfsp.Counts.of(TABLE)) is None
    assert without_high_risk(dfsp.Counts.of(TABLE.assign(jbi_1="no"))) is None


def test_an_answer_may_be_capital_and_must_be_one():
    assert without_high_risk(dfsp.Counts.of(TABLE.assign(jbi_1=["Yes", "No", ""]))) is not None
    fit = dfsp.fit(TABLE.assign(jbi_4=["Yes", "No ", "UNCLEAR"]))
    says = certainty(fit)["says"]["risk of bias"]
    assert says.endswith(f"{TABLE['study'][1]} (item 4, consecutive inclusion)")
    dfsp.plots.forest(fit)
    with pytest.raises(dfsp.DfspError, match=r"jbi_4 of A: .maybe. is not known; known: yes | no"):
        certainty(dfsp.fit(TABLE.assign(jbi_4=["maybe", "", ""])))


def test_i_squared_grows_with_patients_alone():
    """With studies of one size the typical variance is 1 / (n p q): by hand."""
    table = TABLE.assign(total=20, events=[3, 8, 14])
    fit = dfsp.fit(table, dfsp.Model(tau=dfsp.Fixed(0.5)))
    rate = fit.summary.at["typical_rate", "q50"]
    share = [0.25 / (0.25 + 1 / (n * rate * (1 - rate))) for n in (20, 200)]
    assert np.diff(share) > 0
    said = i_squared(fit)
    assert said.startswith(f"I^2 is {share[0]:.0%}".replace("%", " %"))
    assert f"it would be {share[1]:.0%}".replace("%", " %") in said
    with pytest.raises(dfsp.DfspError, match="two studies"):
        i_squared(dfsp.fit(TABLE.iloc[:1]))


def test_a_run_keeps_both(tmp_path, monkeypatch):
    monkeypatch.setenv(runs.FOLDER_VARIABLE, str(tmp_path))
    fit = dfsp.fit(TABLE)
    dfsp.record(fit=fit)
    kept = json.loads((tmp_path / runs.FINDINGS).read_text("utf-8"))
    assert kept["estimand"] == estimand(fit.counts)["stated"].to_dict()
    assert kept["certainty"] == certainty(fit)["says"].to_dict()
    dfsp.record(headline="counted only", appraisal=fit.counts)  # as 01_evidence does
    kept = json.loads((tmp_path / runs.FINDINGS).read_text("utf-8"))
    assert kept["estimand"] == estimand(fit.counts)["stated"].to_dict()
