"""All subsets against fitting each alone with its own grid."""

import numpy as np
import pytest

import dfsp
from dfsp.analyses.sensitivity import Subsets
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import probability_of_events


@pytest.fixture(scope="module")
def subsets(review):
    return dfsp.sensitivity.all_subsets(review).table


def test_every_subset_once(review, subsets):
    studies = review.table["study"].to_list()
    assert len(subsets) == 2**10 - 1
    assert not subsets[studies].duplicated().any()
    assert (subsets[studies].sum(axis=1) == subsets["studies"]).all()


def test_the_sentence_about_subsets_holds_their_ends(subsets):
    said = Subsets(subsets).describe()
    assert said.startswith("1,023 subsets")
    for value in (subsets["typical_rate"].min(), subsets["typical_rate"].max()):
        assert f"{100 * value:.1f}" in said


def test_results_are_those_of_separate_fits(review, subsets, rng):
    """A random sample and the extreme subsets, each with a grid placed for it alone."""
    studies = review.table["study"].to_list()
    extremes = [subsets["typical_rate"].idxmin(), subsets["typical_rate"].idxmax(),
                subsets["tau"].idxmin(), subsets["tau"].idxmax(), len(subsets) - 1,
                *np.flatnonzero(subsets["studies"] == 1)]  # fmt: skip
    for i in [*extremes, *rng.choice(len(subsets), 20, replace=False)]:
        row = subsets.iloc[i]
        table = review.table[row[studies].to_numpy(bool)]
        own = solve(table["events"], table["total"], dfsp.Model())
        rates = row[["typical_rate", "low", "high"]].to_numpy(float)
        assert rates == pytest.approx(own.typical_rate.quantile([0.5, 0.025, 0.975]), abs=1e-5)
        assert row["tau"] == pytest.approx(float(own.tau.quantile(0.5)[0]), abs=1e-4)


def test_many_studies_are_sampled(make, monkeypatch):
    counts = make([(f"S{i}", 1 + i % 3, 6) for i in range(17)])
    monkeypatch.setattr("dfsp.analyses.sensitivity.subsets.SAMPLED", 200)
    found = dfsp.sensitivity.all_subsets(counts)
    first = found.table
    assert first.equals(dfsp.sensitivity.all_subsets(counts).table)
    assert 0 < len(first) <= 201 and (first["studies"] > 0).all()
    # All studies are among them, once, and are what the picture marks.
    assert first["studies"].iloc[0] == 17 and (first["studies"] == 17).sum() == 1
    whole = dfsp.fit(counts).summary.loc["typical_rate", "q50"]
    assert first["typical_rate"].iloc[0] == pytest.approx(whole, abs=1e-5)
    ax = dfsp.plots.subsets(found, "S3")
    assert ax.lines[2].get_ydata() == pytest.approx([100 * whole], abs=1e-3)
    some = dfsp.plots.subsets(Subsets(first[first["studies"] < 17]), "S3")
    assert len(some.lines[2].get_ydata()) == 0


def test_a_small_sample_has_no_subset_twice(make, monkeypatch):
    counts = make([("A", 1, 5), ("B", 2, 5), ("C", 4, 5)])
    monkeypatch.setattr("dfsp.analyses.sensitivity.subsets.MOST_STUDIES", 2)
    monkeypatch.setattr("dfsp.analyses.sensitivity.subsets.SAMPLED", 100)
    table = dfsp.sensitivity.all_subsets(counts).table
    assert len(table) == 7 and not table[["A", "B", "C"]].duplicated().any()


@pytest.mark.parametrize("name", ["tau", "low", "high", "studies", "typical_rate"])
def test_a_study_named_as_a_column_is_refused(make, name):
    with pytest.raises(dfsp.DfspError, match=f"study '{name}': a column of the subsets"):
        dfsp.sensitivity.all_subsets(make([("A", 1, 5), (name, 2, 5)]))


def test_leave_two_out(make):
    counts = make([("A", 1, 10), ("B", 5, 10), ("C", 9, 10)])
    table = dfsp.sensitivity.leave_two_out(counts)
    alone = solve([9], [10], dfsp.Model()).typical_rate.quantile(0.5)[0]
    assert table.loc["A and B", "typical_rate"] == pytest.approx(alone)
    with pytest.raises(dfsp.DfspError, match="needs three or more"):
        dfsp.sensitivity.leave_two_out(make([("A", 1, 10), ("B", 5, 10)]))


def test_cohorts_that_share_patients_leave_with_a_pair(review):
    table = dfsp.sensitivity.leave_two_out(review)
    assert table.loc["McArthur 2005 and Han 2009", "with_it"] == "Heinrich 2008"
    assert table.loc["Ugurel 2014 and Han 2009", "with_it"] == "-"
    out = ["McArthur 2005", "Heinrich 2008", "Han 2009"]
    rest = review.table[~review.table["study"].isin(out)]
    alone = solve(rest["events"], rest["total"], dfsp.Model()).typical_rate.quantile(0.5)[0]
    assert table.loc["McArthur 2005 and Han 2009", "typical_rate"] == pytest.approx(alone)
    assert table.loc["Heinrich 2008 and Han 2009", "typical_rate"] == pytest.approx(alone)


def test_the_study_that_moves_the_rate_most_is_named(make):
    fit = dfsp.fit(dfsp.count(dfsp.load_evidence("reconciled"), "objective_response"))
    found = dfsp.sensitivity.influence(fit)
    said, table = found.describe(), found.table
    assert found.most == "Kérob 2010"
    assert "Kérob 2010 moves the typical rate most" in said
    assert f"{100 * table.loc['Kérob 2010', 'rate_shift']:+.1f} points" in said
    assert "no study carries the result alone" in said
    fit = dfsp.fit(make([("A", 1, 100), ("B", 195, 200)]), dfsp.Model(tau=dfsp.HalfNormal(0.1)))
    assert "B carries the result alone" in dfsp.sensitivity.influence(fit).describe()


def test_influence(review, review_fit):
    table = dfsp.sensitivity.influence(review_fit).table
    rest = review.table[~review.table["study"].isin(["McArthur 2005", "Heinrich 2008"])]
    others = solve(rest["events"], rest["total"], dfsp.Model())
    shift = review_fit.exact.typical_rate.quantile(0.5)[0] - others.typical_rate.quantile(0.5)[0]
    # The two share patients: each leaves with the other.
    assert table.loc["McArthur 2005", "rate_shift"] == pytest.approx(shift)
    assert table.loc["Heinrich 2008", "rate_shift"] == pytest.approx(shift)
    probability = probability_of_events(others.new_study_rate, 10)
    expected = probability[10:].sum() + probability[9] / 2
    assert table.loc["McArthur 2005", "mid_p"] == pytest.approx(expected)


def test_one_study_has_no_influence_to_speak_of(make):
    with pytest.raises(dfsp.DfspError, match="needs two studies or more"):
        dfsp.sensitivity.influence(dfsp.fit(make([("A", 1, 10)])))


def test_the_picture_divides_by_a_study(subsets):
    ax = dfsp.plots.subsets(Subsets(subsets), "Han 2009")
    assert sum(len(line.get_xdata()) for line in ax.lines[:2]) == len(subsets)
    with pytest.raises(dfsp.DfspError, match="none of the studies"):
        dfsp.plots.subsets(Subsets(subsets), "Nobody 1999")
