import pandas as pd
import pytest

import dfsp
from dfsp.summaries import LINE, percent, report, shown

# Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
NEWCOMBE = {
    (81, 263): (0.2527, 0.3676),
    (15, 148): (0.0578, 0.1617),
    (0, 20): (0, 0.1684),
    (1, 29): (0.0009, 0.1776),
}


@pytest.mark.parametrize("counts", NEWCOMBE)
def test_exact_intervals_as_published(counts, make):
    table = dfsp.observed(make([("A", *counts)]))
    assert table.loc[0, ["low", "high"]].to_list() == pytest.approx(NEWCOMBE[counts], abs=5e-5)


def test_pooled_adds_up(review):
    pooled = dfsp.pooled(review)
    assert (pooled["events"], pooled["total"]) == (92, 152)
    assert pooled["rate"] == pytest.approx(92 / 152)
    assert pooled["low"] < pooled["rate"] < pooled["high"]


def test_the_headline_names_every_rate(review_fit):
    sentence = dfsp.conclude(review_fit)
    assert "92 of 152 patients in 10 studies" in sentence
    for name, column in (
        ("typical_rate", "q50"),
        ("mean_rate", "mean"),
        ("new_study_rate", "q97.5"),
    ):
        assert percent(review_fit.summary.loc[name, column]) in sentence


def test_sentences_hold_what_the_engine_found(review_fit):
    assert f"{dfsp.rates_differ(review_fit.exact):.2f}" in dfsp.describe_heterogeneity(review_fit)
    new = dfsp.describe_new_study(review_fit, n=20)
    assert "true rate" in new
    assert "Among 20 patients" in new
    assert dfsp.describe_agreement(review_fit) == "all checks passed (exact engine)"


def test_leave_one_out_takes_the_same_patients_along(review_fit):
    table = dfsp.leave_one_out(review_fit)
    assert table.loc["McArthur 2005", "with_it"] == "Heinrich 2008"
    assert table.loc["Han 2009", "with_it"] == "-"
    rest = review_fit.counts.table
    rest = rest[~rest["study"].isin(["McArthur 2005", "Heinrich 2008"])]
    expected = dfsp.fit(rest).summary.loc["typical_rate", "q50"]
    assert table.loc["McArthur 2005", "typical_rate"] == pytest.approx(expected, abs=1e-9)


def test_leave_one_out_needs_two_studies(make):
    with pytest.raises(dfsp.DfspError, match="two studies"):
        dfsp.leave_one_out(dfsp.fit(make([("A", 1, 2)])))


def test_the_page_shows_failed_checks_and_missing_moments(make):
    fit = dfsp.fit(make([("A", 0, 1)]), dfsp.Model(tau=dfsp.HalfCauchy(1)))
    page = report(fit)
    assert "NaN" not in page
    assert "log marginal likelihood -0.6931" in page


def test_the_evidence_in_one_sentence():
    sentence = dfsp.describe_evidence(dfsp.load_evidence("review"))
    assert sentence.startswith("Evidence set 'review': of 15 numbers")


def test_evidence_without_printed_numbers_says_so(own_folder):
    sentence = dfsp.describe_evidence(dfsp.load_evidence("mine", folder=own_folder))
    assert "41 patients of 3 cohorts with response counts" in sentence
    assert "no printed number to compare them with" in sentence
    assert "0 numbers" not in sentence


def test_a_fixed_tau_has_no_interval(review):
    said = dfsp.describe_heterogeneity(dfsp.fit(review, dfsp.Model(tau=dfsp.Fixed(1.45))))
    assert said.endswith("between studies is fixed at 1.45 on the logit scale.")


def test_a_line_fits_into_a_notebook(review_fit):
    sentence = dfsp.conclude(review_fit)
    lines = dfsp.wrapped(f"a title\n\n  {sentence}").split("\n")
    assert lines[:2] == ["a title", ""]
    assert all(line.startswith("  ") and len(line) <= LINE for line in lines[2:])
    assert " ".join(line.strip() for line in lines[2:]) == sentence
    assert max(map(len, dfsp.shown(review_fit.studies).split("\n"))) <= LINE


def test_what_rounds_to_zero_has_no_sign():
    table = pd.DataFrame({"x": [-1e-17, -4e-7, -6e-7, 1.0]})
    assert shown(table).split() == [
        "x",
        "0",
        "0.000000",
        "1",
        "0.000000",
        "2",
        "-0.000001",
        "3",
        "1.000000",
    ]
