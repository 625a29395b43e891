"""Every published result is reproduced; one that is not, is noticed."""

import json

import pytest

import dfsp
from dfsp.analyses.references import FOLDER, compare_references, describe_sources


def test_every_published_value_is_reproduced():
    table = compare_references()
    assert table["case"].nunique() == len(list(FOLDER.glob("*.json")))
    assert table.loc[~table["reproduced"]].to_string() == table.loc[[]].to_string()


def test_a_wrong_value_is_noticed(tmp_path):
    case = json.loads((FOLDER / "one_proportion.json").read_text())
    case["expected"][0]["value"] += 0.001
    (tmp_path / "case.json").write_text(json.dumps(case))
    assert compare_references(tmp_path)["reproduced"].tolist()[:2] == [False, True]


def test_faults(tmp_path):
    with pytest.raises(dfsp.DfspError, match="no reference case"):
        compare_references(tmp_path)
    case = json.loads((FOLDER / "one_proportion.json").read_text())
    case["expected"][0]["quantity"] = "nothing"
    (tmp_path / "case.json").write_text(json.dumps(case))
    with pytest.raises(dfsp.DfspError, match="nothing low is not computed"):
        compare_references(tmp_path)
    case["analyses"] = {"magic": {}}
    (tmp_path / "case.json").write_text(json.dumps(case))
    with pytest.raises(dfsp.DfspError, match="analysis 'magic' is not known; use hier"):
        compare_references(tmp_path)


def test_every_case_names_its_source_and_reasons():
    text = describe_sources()
    for path in FOLDER.glob("*.json"):
        case = json.loads(path.read_text())
        assert case["source"] in text
        assert {row["kind"] for row in case["expected"]} == set(case["kinds"])
