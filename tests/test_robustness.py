"""Every defensible analysis: what may be combined, and that each is what it says."""

import numpy as np
import pytest

import dfsp
from dfsp.robustness import CHOICES, EFFECTS, NO_PRIOR, overlap_options


@pytest.fixture(scope="module")
def everything():
    return dfsp.multiverse(
        taus={"HalfNormal(1)": dfsp.HalfNormal(1), "HalfNormal(0.5)": dfsp.HalfNormal(0.5)},
        mus={"Normal(0, 2)": dfsp.Normal(0, 2)},
        effects={name: EFFECTS[name] for name in ("normal", "beta-binomial")},
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


NUMBERS = ["typical", "typical_low", "typical_high", "mean", "mean_low", "mean_high",
           "new", "new_low", "new_high", "tau_median"]  # fmt: skip


def fitted(counts, model):
    summary = dfsp.fit(counts, model).summary
    ends = ["q2.5", "q97.5"]
    return [
        *summary.loc["typical_rate", ["q50", *ends]],
        *summary.loc["mean_rate", ["mean", *ends]],
        *summary.loc["new_study_rate", ["q50", *ends]],
        summary.loc["tau", "q50"],
    ]


@pytest.mark.parametrize("effects", ["normal", "Student-t, df 4", "EXNEX, half exchangeable"])
def test_every_analysis_is_the_fit_of_its_choices(effects, rng):
    """Each alone, with a grid of its own; one prior of each kind of tail."""
    taus = {"a": dfsp.HalfNormal(0.5), "b": dfsp.HalfCauchy(0.5), "c": dfsp.Uniform(2)}
    mus = {"d": dfsp.Normal(0, 1), "e": dfsp.Normal(0, 5)}
    result = dfsp.multiverse(
        evidence_sets=["reconciled"], taus=taus, mus=mus, effects={effects: EFFECTS[effects]}
    )
    table = result.table
    kept = table["overlap"].str.contains("Rutkowski 2017 and Rutkowski 2010")
    assert kept.sum() == 3 * 6
    for i in rng.choice(table.index[kept], 6, replace=False):
        row = table.loc[i]
        counts = dfsp.count(
            dfsp.load_evidence("reconciled"), "objective_response",
            not_evaluable=row["not_evaluable"],
        )  # fmt: skip
        own = fitted(counts, dfsp.Model(mus[row["mu"]], taus[row["tau"]], EFFECTS[effects]))
        assert row[NUMBERS].to_numpy(float) == pytest.approx(own, abs=1e-5)
        assert row["events"] == counts.table["events"].sum()


def test_a_beta_binomial_is_one_analysis_for_all_priors(everything):
    table = everything.table[everything.table["effects"] == "beta-binomial"]
    assert len(table) == 63
    assert set(table["tau"]) == set(table["mu"]) == {NO_PRIOR}
    assert table[["typical", "tau_median"]].isna().all(axis=None)
    assert table["mean"].between(0.5, 0.8).all()
    assert everything.left_out["reason"].str.contains("beta-binomial effects have no tau").any()


def test_the_review_as_printed_is_among_them(everything):
    table = everything.table
    printed = table[
        (table["evidence_set"] == "review") & (table["not_evaluable"] == "no event")
        & table["overlap"].str.startswith("McArthur 2005 and Heinrich 2008 kept; Rutkowski 2017 and")
    ]  # fmt: skip
    assert len(printed) == 3
    assert set(zip(printed["events"], printed["total"], strict=True)) == {(92, 152)}


def test_shares_of_variance_by_hand(everything):
    shares = dfsp.which_choice_matters(everything)
    table = everything.table.dropna(subset="typical")
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
    assert share == (everything.table["typical_low"].dropna() > 0.4).mean()
    assert dfsp.share_above(everything, 0.999) == 0
    with pytest.raises(dfsp.DfspError, match="give a rate between 0 and 1"):
        dfsp.share_above(everything, 40)


def test_what_cannot_be_combined_is_left_out_with_its_reason():
    result = dfsp.multiverse(
        "surgery", evidence_sets=["review", "reconciled"], rules=["no event"],
        taus={"1": dfsp.HalfNormal(1)}, mus={"2": dfsp.Normal(0, 2)},
    )  # fmt: skip
    assert set(result.table["evidence_set"]) == {"reconciled"}
    of_review = result.left_out[result.left_out["evidence_set"] == "review"]
    assert len(of_review)
    assert of_review["reason"].str.contains("cannot count surgery").all()
    with pytest.raises(dfsp.DfspError, match="no combination of choices"):
        dfsp.multiverse("any_adverse_event", evidence_sets=["reconciled"])
    with pytest.raises(dfsp.DfspError, match="there is no evidence set 'mine'"):
        dfsp.multiverse(evidence_sets=["mine"])


def test_the_curve_marks_every_choice(everything):
    ax = dfsp.plot_specifications(everything)
    lower = ax.figure.axes[1]
    table = everything.table.dropna(subset="typical")
    varied = [c for c in CHOICES if table[c].nunique() > 1]
    assert len(lower.get_yticks()) == sum(table[c].nunique() for c in varied)
    drawn = ax.lines[0].get_ydata()
    assert np.all(np.diff(drawn) >= 0) and len(drawn) == len(table)
