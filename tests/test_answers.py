"""What a fit and its counts say of themselves."""

import re
from dataclasses import replace

import pandas as pd
import pytest

import dfsp
from dfsp.rates import PERCENT

# Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
NEWCOMBE = {
    (81, 263): (0.2527, 0.3676),
    (15, 148): (0.0578, 0.1617),
    (0, 20): (0, 0.1684),
    (1, 29): (0.0009, 0.1776),
}


@pytest.mark.parametrize("counts", NEWCOMBE)
def test_exact_intervals_as_published(counts, make):
    table = make([("A", *counts)]).observed()
    assert table.loc[0, ["low", "high"]].to_list() == pytest.approx(NEWCOMBE[counts], abs=5e-5)


def test_pooled_adds_up(review):
    pooled = review.pooled().loc["all patients"]
    assert (pooled["events"], pooled["total"]) == (92, 152)
    assert pooled["rate"] == pytest.approx(92 / 152)
    assert pooled["low"] < pooled["rate"] < pooled["high"]


def test_the_headline_names_every_rate(review_fit):
    sentence = review_fit.describe()
    assert "92 of 152 patients in 10 studies" in sentence
    for name, column in (
        ("typical_rate", "q50"),
        ("mean_rate", "mean"),
        ("new_study_rate", "q97.5"),
    ):
        assert PERCENT.rate(review_fit.summary.loc[name, column]) in sentence


def test_sentences_hold_what_the_engine_found(review_fit):
    apart = review_fit.heterogeneity()
    assert f"{apart.probability:.2f}" in apart.describe()
    new = review_fit.new_study(n=20).describe()
    assert "true rate" in new
    assert "Among 20 patients" in new
    # The unit is said once.
    many = review_fit.new_study(n=10_000).describe()
    assert "Among 10,000 patients" in many
    assert re.search(r"an observed proportion of [\d.]+ to [\d.]+ %", many)
    assert review_fit.agreement() == "all checks passed (exact engine)"


def test_leave_one_out_takes_the_same_patients_along(review_fit):
    table = review_fit.leave_one_out()
    assert table.loc["McArthur 2005", "with_it"] == "Heinrich 2008"
    assert table.loc["Han 2009", "with_it"] == "-"
    rest = review_fit.counts.table
    rest = rest[~rest["study"].isin(["McArthur 2005", "Heinrich 2008"])]
    expected = dfsp.fit(rest).summary.loc["typical_rate", "q50"]
    assert table.loc["McArthur 2005", "typical_rate"] == pytest.approx(expected, abs=1e-9)


def test_leave_one_out_needs_two_studies(make):
    with pytest.raises(dfsp.DfspError, match="two studies"):
        dfsp.fit(make([("A", 1, 2)])).leave_one_out()


def test_the_page_shows_failed_checks_and_missing_moments(make):
    page = dfsp.fit(make([("A", 0, 1)]), dfsp.Model(tau=dfsp.HalfCauchy(1))).page()
    assert "NaN" not in page
    assert "log marginal likelihood -0.6931" in page


def test_the_evidence_in_one_sentence():
    published = dfsp.review.compare_published(dfsp.load_evidence("review"))
    assert published.describe().startswith("Evidence set 'review': of 15 numbers")


def test_evidence_without_printed_numbers_says_so(own_folder):
    evidence = dfsp.load_evidence("mine", folder=own_folder)
    sentence = dfsp.review.compare_published(evidence).describe()
    assert "41 patients of 3 cohorts with response counts" in sentence
    assert "no printed number to compare them with" in sentence
    assert "0 numbers" not in sentence


def test_a_fixed_tau_has_no_interval(review):
    fit = dfsp.fit(review, dfsp.Model(tau=dfsp.Fixed(1.45)))
    said = fit.heterogeneity().describe()
    assert said.endswith("between studies is fixed at 1.45 on the logit scale.")


VAGUE = dfsp.planning.BetaMixture([1], [1], [1])
EXACT = {
    "heterogeneity": lambda fit: fit.heterogeneity(),
    "new_study": lambda fit: fit.new_study(20),
    "predictive_check": lambda fit: fit.predictive_check(),
    "draws": lambda fit: fit.draws(40),
    "sample_sizes": lambda fit: dfsp.planning.sample_sizes(fit, VAGUE),
    "plan": lambda fit: dfsp.planning.plan(fit, VAGUE, n=20, p0=0.3),
    "plots": lambda fit: dfsp.plots.prior(fit),
}


@pytest.mark.parametrize("ask", EXACT)
def test_what_needs_the_exact_engine_says_so(review_fit, ask):
    with pytest.raises(dfsp.DfspError, match="no exact posterior; fit with engine='exact'"):
        EXACT[ask](replace(review_fit, posterior=None))


COUNTS = {
    "fit": lambda counts: dfsp.fit(counts).summary,
    "all_subsets": lambda counts: dfsp.sensitivity.all_subsets(counts).table,
    "prior_grid": lambda counts: dfsp.sensitivity.prior_grid(counts),
    "leave_two_out": lambda counts: dfsp.sensitivity.leave_two_out(counts),
    "missing_outcomes": lambda counts: dfsp.sensitivity.missing_outcomes(counts, steps=2).table,
    "average": lambda counts: (
        dfsp.sensitivity.fit_with_effects(counts, dfsp.Model(), {"normal": dfsp.NormalEffects()})[
            "normal"
        ].summary
    ),
    "log2_of": lambda counts: dfsp.regression.log2_of(counts, "dose_mg", 800)[0].table,
    "share_of": lambda counts: dfsp.regression.share_of(counts, "metastatic", "enrolled")[0].table,
    "as_groups": lambda counts: dfsp.regression.as_groups(counts, "dose_mg").table,
    "regress": lambda counts: dfsp.regression.regress(counts, "year").rates,
    "multiverse": lambda counts: (
        dfsp.multiverse.fit(counts, effects={"normal": dfsp.NormalEffects()}).table
    ),
    "calibrate": lambda counts: dfsp.calibration.calibrate(counts, number=100).pit,
    "coverage": lambda counts: dfsp.calibration.coverage(counts, number=1).table,
    "without": lambda counts: dfsp.without(counts, ["McArthur 2005"]).table,
}


@pytest.mark.parametrize("take", COUNTS)
def test_what_takes_counts_takes_a_frame(review, take):
    frame = dfsp.without(review, review.table["study"].head(6)).table
    assert COUNTS[take](frame).equals(COUNTS[take](dfsp.Counts.of(frame)))


@pytest.mark.parametrize(
    "asks",
    [dfsp.sensitivity.influence, dfsp.sensitivity.power_scaling, dfsp.plots.forest,
     dfsp.plots.prior, dfsp.planning.fit_mixture],
    ids=lambda asks: asks.__name__,
)  # fmt: skip
def test_what_needs_a_fit_says_so(asks):
    table = pd.DataFrame({"study": list("AB"), "events": [3, 8], "total": [10, 20]})
    for other in (dfsp.fit(table).exact, table):
        with pytest.raises(dfsp.DfspError, match="a fit is needed, but this is a"):
            asks(other)


def test_a_frame_has_scenarios_too():
    table = pd.DataFrame({"study": list("AB"), "events": [3, 8], "total": [10, 20]})
    found = dfsp.totals.scenarios(table).table
    mean = found.loc[("studies as they are", "mean rate"), "mean"]
    assert mean == pytest.approx(dfsp.fit(table).summary.loc["mean_rate", "mean"], abs=1e-12)
