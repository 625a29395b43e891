"""Every published result is reproduced; one that is not, is noticed."""

import json

import pandas as pd
import pytest
from frozen import REAL

import dfsp


def test_every_published_value_is_reproduced():
    table = dfsp.references.compare().table.reset_index()
    assert table["case"].nunique() == len(list((REAL / "reference").glob("*.json")))
    assert table.loc[~table["reproduced"]].to_string() == table.loc[[]].to_string()


def test_both_engines_reproduce_surgical():
    """Under BUGS' priors; both samplers have an error, hence half a tolerance more for NUTS."""
    case = json.loads((REAL / "reference" / "surgical.json").read_text())
    counts = pd.DataFrame(case["studies"], columns=["study", "events", "total"])
    priors = case["analyses"]["hierarchical"]
    model = dfsp.Model(dfsp.Normal(**priors["mu"]), dfsp.tau_prior(**priors["tau"]))
    result = dfsp.fit(counts, model, engine="both", draws=2000)
    assert [str(check) for check in result.checks if not check.passed] == []
    drawn = dfsp.engine.nuts.summary(result.sampled.draws)
    for row in case["expected"]:
        if row["kind"] == "published" and row["quantity"] in drawn.index:
            found = drawn.loc[row["quantity"], row["statistic"]]
            assert found == pytest.approx(row["value"], abs=1.5 * row["tolerance"]), row


def test_a_wrong_value_is_noticed(tmp_path):
    case = json.loads((REAL / "reference" / "one_proportion.json").read_text())
    case["expected"][0]["value"] += 0.001
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert dfsp.references.compare(tmp_path).table["reproduced"].tolist()[:2] == [False, True]


def test_faults(tmp_path):
    with pytest.raises(dfsp.DfspError, match="no reference case"):
        dfsp.references.compare(tmp_path)
    case = json.loads((REAL / "reference" / "one_proportion.json").read_text())
    case["expected"][0]["quantity"] = "nothing"
    (tmp_path / "case.json").write_text(json.dumps(case))
    with pytest.raises(dfsp.DfspError, match="nothing low is not computed"):
        dfsp.references.compare(tmp_path)
    case["analyses"] = {"magic": {}}
    (tmp_path / "case.json").write_text(json.dumps(case))
    with pytest.raises(dfsp.DfspError, match="analysis 'magic' is not known; use hier"):
        dfsp.references.compare(tmp_path)


def test_every_case_names_its_source_and_reasons():
    text = dfsp.references.compare().sources
    for path in (REAL / "reference").glob("*.json"):
        case = json.loads(path.read_text())
        assert case["source"] in text
        assert {row["kind"] for row in case["expected"]} == set(case["kinds"])
