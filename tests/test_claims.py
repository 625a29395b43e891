"""The claims read from the same functions as the notebooks."""

import pytest

import dfsp
from dfsp.claims import CLAIMS, SETS


@pytest.fixture(scope="module")
def claims():
    return dfsp.compare_claims()


def test_every_percentage_of_the_review_has_its_rows(claims):
    published = dfsp.compare_published(dfsp.load_evidence("review")).set_index("quantity")
    for claim in CLAIMS:
        for name in SETS:
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


def test_what_has_no_counts_says_so(claims):
    text = dfsp.describe_claims(claims)
    assert claims.loc[("any adverse event (%)", "review"), "note"] == "no per-cohort data"
    assert claims.loc[("severe adverse event (%)", "reconciled"), "note"] == "a single cohort"
    block = text[text.index("any adverse event") :]
    assert "cannot be modelled across studies" in block
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
