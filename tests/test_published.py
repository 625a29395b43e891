import pytest

import dfsp
from dfsp.analyses.published import truncated


@pytest.mark.parametrize(
    ("numerator", "denominator", "printed"),
    [(134, 152, 88.1), (8, 152, 5.2), (1, 2, 50.0), (1, 10, 10.0)],
)
def test_percentages_are_truncated_as_the_review_truncates(numerator, denominator, printed):
    assert truncated(numerator, denominator) == printed


def test_what_the_review_prints_beside_its_own_counts():
    """The verdicts of data/published.csv, recomputed: every traceable number must be reproduced."""
    evidence = dfsp.load_evidence("review")
    table = dfsp.compare_published(evidence).set_index("quantity")
    traceable = evidence.published.set_index("quantity")["traceable"] == "yes"
    assert (table.loc[traceable, "reproduced"] == "yes").all()
    assert table.loc["surgery after imatinib (%)", "reproduced"] == "no counts"
    assert table.loc["fusion present (%)", "reproduced"] == "no"
    assert table.loc["clinical benefit (%)", "counts"] == "134/152"


def test_a_set_without_responses_is_refused(tmp_path):
    import shutil
    from pathlib import Path

    data = Path(dfsp.__file__).parents[1] / "data"
    shutil.copytree(data, tmp_path / "data")
    with (tmp_path / "data" / "evidence_sets.csv").open("a") as file:
        file.write("surgery_only,surgery,han-2009,primary,reason\n")
    evidence = dfsp.load_evidence("surgery_only", folder=tmp_path / "data")
    with pytest.raises(dfsp.DfspError, match="no response counts"):
        dfsp.compare_published(evidence)
