"""Every defensible analysis: what may be combined, and that each is what it says."""

import numpy as np
import pytest

import dfsp
from dfsp.robustness import CHOICES, overlap_options


@pytest.fixture(scope="module")
def everything():
    return dfsp.multiverse(
        taus={"HalfNormal(1)": dfsp.HalfNormal(1), "HalfNormal(0.5)": dfsp.HalfNormal(0.5)},
        mus={"Normal(0, 2)": dfsp.Normal(0, 2)},
    )


def words(evidence, pool=None):
    return [said for said, _ in overlap_options(evidence, pool or {})]


def test_only_what_the_handling_allows_exists():
    review = words(dfsp.load_evidence("review"))
    assert len(review) == 9
    assert sum("McArthur 2005 and Heinrich 2008 kept" in said for said in review) == 3
    evidence = dfsp.load_evidence("reconciled")
    rows = dfsp.load_evidence("review").rows
    pool = {"mcarthur-2005": rows[rows["cohort"] == "mcarthur-2005"]}
    ours = overlap_options(evidence, pool)
    assert len(ours) == 6
    for said, changed in ours:
        members = set(changed.rows.loc[changed.rows["measure"] == "response", "cohort"])
        # Keeping both is allowed to reproduce the review only.
        assert not {"mcarthur-2005", "heinrich-2008"} <= members
        assert ("McArthur 2005 for Heinrich 2008" in said) == ("mcarthur-2005" in members)
        assert ("without Rutkowski 2017" in said) == ("rutkowski-2017" not in members)


def test_every_analysis_is_the_fit_of_its_choices(everything, rng):
    table = everything.table
    kept = table["overlap"].str.contains("Heinrich 2008 kept; Rutkowski 2017 and Rutkowski 2010")
    for i in rng.choice(
        table.index[kept & (table["evidence_set"] == "reconciled")], 4, replace=False
    ):
        row = table.loc[i]
        counts = dfsp.count(
            dfsp.load_evidence("reconciled"), "objective_response",
            not_evaluable=row["not_evaluable"],
        )  # fmt: skip
        scale = float(row["tau"].removeprefix("HalfNormal(").rstrip(")"))
        fit = dfsp.fit(counts, dfsp.Model(tau=dfsp.HalfNormal(scale))).summary
        assert row["typical"] == pytest.approx(fit.loc["typical_rate", "q50"], abs=1e-5)
        assert row["mean"] == pytest.approx(fit.loc["mean_rate", "mean"], abs=1e-5)
        assert row["new_high"] == pytest.approx(fit.loc["new_study_rate", "q97.5"], abs=1e-5)
        assert row["events"] == counts.table["events"].sum()


def test_the_review_as_printed_is_among_them(everything):
    table = everything.table
    printed = table[
        (table["evidence_set"] == "review") & (table["not_evaluable"] == "no event")
        & table["overlap"].str.startswith("McArthur 2005 and Heinrich 2008 kept; Rutkowski 2017 and")
    ]  # fmt: skip
    assert len(printed) == 2
    assert set(zip(printed["events"], printed["total"], strict=True)) == {(92, 152)}


def test_shares_of_variance_by_hand(everything):
    shares = dfsp.which_choice_matters(everything)
    table = everything.table
    groups = table.groupby("not_evaluable")["typical"]
    between = (groups.size() * (groups.mean() - table["typical"].mean()) ** 2).sum()
    whole = ((table["typical"] - table["typical"].mean()) ** 2).sum()
    assert shares["not_evaluable"] == pytest.approx(between / whole)
    assert set(shares.index) <= set(CHOICES)
    assert shares.is_monotonic_decreasing


def test_a_share_is_no_probability(everything):
    text = dfsp.describe_multiverse(everything, 0.4)
    assert "a share of analyses, not a probability" in text
    share = dfsp.share_above(everything, 0.4)
    assert share == (everything.table["typical_low"] > 0.4).mean()
    assert dfsp.share_above(everything, 0.999) == 0
    with pytest.raises(dfsp.DfspError, match="give a rate between 0 and 1"):
        dfsp.share_above(everything, 40)


def test_what_cannot_be_combined_is_left_out_with_its_reason():
    result = dfsp.multiverse(
        "surgery", evidence_sets=["review", "reconciled"], rules=["no event"],
        taus={"1": dfsp.HalfNormal(1)}, mus={"2": dfsp.Normal(0, 2)},
    )  # fmt: skip
    assert set(result.table["evidence_set"]) == {"reconciled"}
    assert (result.left_out["evidence_set"] == "review").all()
    assert result.left_out["reason"].str.contains("cannot count surgery").all()
    with pytest.raises(dfsp.DfspError, match="no combination of choices"):
        dfsp.multiverse("any_adverse_event", evidence_sets=["reconciled"])
    with pytest.raises(dfsp.DfspError, match="there is no evidence set 'mine'"):
        dfsp.multiverse(evidence_sets=["mine"])


def test_the_curve_marks_every_choice(everything):
    ax = dfsp.plot_specifications(everything)
    lower = ax.figure.axes[1]
    varied = [c for c in CHOICES if everything.table[c].nunique() > 1]
    assert len(lower.get_yticks()) == sum(everything.table[c].nunique() for c in varied)
    drawn = ax.lines[0].get_ydata()
    assert np.all(np.diff(drawn) >= 0) and len(drawn) == len(everything.table)
