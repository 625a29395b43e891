"""The claims read from the same functions as the notebooks."""

import pytest

import dfsp
from dfsp.claims import CLAIMS, OURS, SETS


@pytest.fixture(scope="module")
def claims():
    return dfsp.compare_claims()


def test_every_percentage_of_the_review_has_its_rows(claims):
    published = dfsp.compare_published(dfsp.load_evidence("review")).set_index("quantity")
    for claim in CLAIMS:
        for name in (SETS[0], OURS.get(claim, SETS[1])):
            assert claims.loc[(claim, name), "printed"] == published.at[claim, "printed"]


def test_rates_are_those_of_the_fit(claims):
    counts = dfsp.count(dfsp.load_evidence("review"), "clinical_benefit")
    fit = dfsp.fit(counts)
    row = claims.loc[("clinical benefit (%)", "review")]
    assert (row["events"], row["total"]) == (134, 152)
    assert row["typical"] == pytest.approx(100 * fit.summary.loc["typical_rate", "q50"])
    assert row["mean"] == pytest.approx(100 * fit.summary.loc["mean_rate", "mean"])
    weighted = dfsp.patient_weighted_rate(fit, number=4000)
    assert row["patient_weighted"] == pytest.approx(100 * weighted["mean"])


def test_doses_are_the_reviews_groups(claims):
    assert claims.loc[("response at 400 mg (%)", "review"), ["events", "total"]].to_list() == [
        27,
        40,
    ]
    assert claims.loc[("response at 800 mg (%)", "review"), ["events", "total"]].to_list() == [
        49,
        73,
    ]


def test_reconciled_doses_keep_both_trials_of_the_pooled_report(claims):
    """The pooled report is one trial at 400 mg and one at 800 mg."""
    for dose in (400, 800):
        own = claims.loc[(f"response at {dose} mg (%)", "reconciled_by_dose")]
        counts = dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response")
        at_dose = counts.table[counts.table["dose_mg"] == dose]
        assert at_dose["study"].str.contains("Rutkowski 2010").any()
        assert (own["events"], own["total"]) == (at_dose["events"].sum(), at_dose["total"].sum())


def test_surgery_is_listed_and_not_averaged(claims):
    row = claims.loc[("surgery after imatinib (%)", "reconciled")]
    assert row[["events", "patient_weighted", "typical", "mean", "new_study"]].isna().all()
    assert "planned Han 2009 4 of 4" in row["note"]
    assert "salvage Wang 2015 4 of 10 (primarily unresectable)" in row["note"]


def test_the_verdict_turns_and_dropped_cohorts_are_named(claims):
    key = "partial response (%)"
    rows = claims.loc[[key]]
    inside = dfsp.describe_claims(rows)
    assert "lies inside" in inside and "(without Kérob 2010)" in inside
    assert "OUTSIDE" in dfsp.describe_claims(rows.assign(printed=rows["mean_high"] + 1))


def test_what_has_no_counts_says_so(claims):
    text = dfsp.describe_claims(claims)
    assert claims.loc[("any adverse event (%)", "review"), "note"] == "no per-cohort data"
    assert claims.loc[("severe adverse event (%)", "reconciled"), "note"] == "a single cohort"
    block = text[text.index("any adverse event") :]
    assert "no rate across studies" in block
    for claim in CLAIMS:
        assert claim.removesuffix(" (%)") in text


def test_the_later_series_and_its_extremes():
    """10 of 26 with 3 patients on another drug: 7 to 10 responders among at least 23."""
    table = dfsp.later_series()
    assert table[["events", "total"]].to_numpy().tolist() == [[10, 26], [7, 23], [10, 23]]
    evidence = dfsp.load_evidence("reconciled")
    counts = dfsp.count(evidence, "objective_response", not_evaluable="excluded")
    probability = dfsp.events_in_new_study(dfsp.fit(counts).exact, 26)
    assert table["mid_p"].iloc[0] == pytest.approx(probability[11:].sum() + probability[10] / 2)
    text = dfsp.describe_later_series(table)
    assert "30 to 43 % responded" in text and "inside what the earlier evidence" in text
    far = table.assign(events=0)
    assert "OUTSIDE" in dfsp.describe_later_series(far)
