"""Differences, sizes and thresholds that fit the rate, and rates that pile up at both ends."""

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.analyses.regression import regress
from dfsp.analyses.totals import Total, scenarios
from dfsp.engine.predictive import piles_at_both_ends
from dfsp.model.effects import BetaBinomial, Effects, NormalEffects, StudentT
from dfsp.seeds import generator
from dfsp.yardsticks import patients_for, rates_about, threshold_for


def fit(events, total, **model):
    table = pd.DataFrame({"study": [f"S{i}" for i in range(len(events))], "events": events})
    return dfsp.fit(table.assign(total=total), dfsp.Model(**model))


def test_ordinary_rates_keep_points_patients_and_threshold(review_fit):
    found = review_fit.heterogeneity()
    assert (found.by, found.times) == (0.2, None)
    assert found.probability == review_fit.heterogeneity(0.2).probability
    assert "more than 20 points apart" in found.describe() and found.piles == ""
    assert review_fit.new_study().n == 20
    assert threshold_for(0.1) == threshold_for(0.9) == 0.4


@pytest.mark.parametrize("flip", [False, True])
def test_rare_and_near_certain_rates_are_told_in_odds(flip):
    events = np.array([40, 55, 31])
    total = 200_000
    result = fit(total - events if flip else events, [total] * 3)
    found = result.heterogeneity()
    assert (found.by, found.times) == (None, 2.0)
    assert "over 2 times the other's odds with probability 0." in found.describe()
    assert "probability 0.00." not in found.describe()
    # Points would have said nothing.
    assert found.probability > 20 * result.heterogeneity(0.2).probability
    assert result.new_study().n == 10_000  # 10 of 2 in 10,000 would need 50,000


def test_a_ratio_and_a_difference_are_not_both_given(review_fit):
    with pytest.raises(dfsp.DfspError, match="both given"):
        review_fit.heterogeneity(0.2, times=2)
    with pytest.raises(dfsp.DfspError, match="above 1"):
        review_fit.heterogeneity(times=1.0)


def test_sizes_and_thresholds_follow_the_rate():
    for rate in (0.05, 0.003, 2e-3):
        assert patients_for(rate) == patients_for(1 - rate)
        assert 5 <= patients_for(rate) * rate <= 15  # one digit of 10 / rate
        assert 0.2 * rate < threshold_for(rate) < rate
        assert 1 - threshold_for(1 - rate) > rate
    assert scenarios(Total("event", 2, 1000, np.array([400, 600, 500]))).patients == 5000


@pytest.mark.parametrize("tau", [0.05, 0.7, 3.0])
@pytest.mark.parametrize("mu", [-12.0, 0.3])
def test_the_ratio_of_odds_of_any_family_and_of_the_normal_one(mu, tau):
    """theta' - theta is N(0, 2 tau^2); the general sum knows the distribution function alone."""
    at = np.array([mu]), np.array([tau])
    normal = NormalEffects()
    exact = normal.apart_in_odds(*at, 2.0)
    assert Effects.apart_in_odds(normal, *at, 2.0) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("effects", [StudentT(4), BetaBinomial()])
def test_the_ratio_of_odds_against_draws(effects):
    mu, tau = np.full(200_000, -2.0), np.full(200_000, 0.4)
    rng = np.random.default_rng(1)
    apart = np.abs(effects.draw(mu, tau, rng) - effects.draw(mu, tau, rng)) > np.log(2)
    found = effects.apart_in_odds(mu[:1], tau[:1], 2.0)
    assert found == pytest.approx(apart.mean(), abs=0.006)  # five Monte Carlo errors


def test_two_groups_are_said_and_named():
    """Five studies where nobody and five where everybody has the event."""
    result = fit([0] * 5 + [20] * 5, [20] * 10)
    found = piles_at_both_ends(result.exact)
    rate = result.draws(40_000, seed=3)["posterior"]["new_study_rate"].to_numpy()
    assert found.low == pytest.approx((rate < 0.1).mean(), abs=0.012)
    assert found.high == pytest.approx((rate > 0.9).mean(), abs=0.012)
    said = result.piles()
    assert "two groups" in said
    assert "Low: S0, S1, S2, S3, S4; high: S5, S6, S7, S8, S9." in said
    assert said in result.page() and said in result.heterogeneity().describe()
    assert repr(said) in repr(dfsp.record(fit=result))  # and so in the index of a report
    assert fit([0] * 12 + [20] * 12, [20] * 24).piles().count("and 2 more") == 2


@pytest.mark.parametrize(
    ("events", "total"),
    [([0, 20], [20, 20]), ([90, 2], [100, 100_000]), ([2, 3, 1, 90], [10**5] * 3 + [100])],
)
def test_one_study_apart_is_said_to_be_one(events, total):
    said = fit(events, total).piles()
    assert "one study apart from the rest" in said and f"high: S{np.argmax(events)}." in said


@pytest.mark.parametrize(("tau", "two"), [(1.3, False), (3.0, True)])
def test_a_logit_normal_has_two_piles_from_a_tau_of_the_root_of_two(tau, two):
    """The density of a rate whose logit is N(0, tau^2) has two modes if and only if tau^2 > 2."""
    result = fit([10], [20], mu=dfsp.Normal(0, 1e-3), tau=dfsp.Fixed(tau))
    assert (piles_at_both_ends(result.exact) is not None) == two


@pytest.mark.parametrize(
    ("events", "total"),
    [([0], [200]), ([0, 1], [1, 1]), ([0] * 6, [20] * 6), ([2, 5, 9], [20] * 3)],
)
def test_one_group_is_not_called_two(events, total):
    result = fit(events, total)
    assert result.piles() == "" and "piles" not in result.page()


def test_doses_of_a_rare_event_are_compared_by_odds():
    """Two doses of one rate, 20 per 100,000: all points lie within 10 of each other, odds do not."""
    table = pd.DataFrame(
        {
            "study": list("ABCD"),
            "events": [20, 22, 19, 80],
            "total": [100_000] * 3 + [400_000],
            "dose_mg": [400, 400, 800, 800],
        }
    )
    rare = regress(dfsp.Counts.of(table), "dose_mg")
    first, second = rare.levels
    draws = generator(1, "odds")
    shift = rare.posterior.population([0, 400])  # the coefficient of 400 mg
    mu, _ = shift.draw(40_000, draws)
    inside = float((np.abs(mu) < np.log(1.5)).mean())
    assert rare.contrast(first, second)["equal"] == pytest.approx(inside, abs=0.012)
    said = rare.difference().describe()
    assert "the odds are within 1.5 times each other's with probability" in said
    assert "points" not in said and "probability 0.00" not in said
    assert rare.contrast(first, second, 0.1)["equal"] > 0.999  # which says nothing
    ordinary = regress(dfsp.Counts.of(table.assign(total=[40] * 3 + [160])), "dose_mg")
    assert "smaller than 10 points" in ordinary.difference().describe()
    assert ordinary.margin_of(None) == 0.1 and rare.margin_of(None) is None


@pytest.mark.parametrize(
    ("events", "total"), [([2, 3, 5], [10_000] * 3), ([5, 9, 12], [20] * 3), ([98, 97], [100] * 2)]
)
def test_a_trial_is_planned_against_a_rate_that_most_studies_exceed(events, total):
    """One digit of the 5 % point of a new study's rate, by its own distribution function."""
    result = fit(events, total)
    p0 = dfsp.planning.rate_to_exceed(result)
    assert result.exact.new_study_rate.prob_above(p0) == pytest.approx(0.95, abs=0.035)
    about = rates_about(p0)
    assert about == sorted(about) and about[0] <= p0 < about[-1]


def test_subgroups_of_several_sizes_of_rates_are_told_in_the_unit_of_all():
    """9 of 3 million are told per 1,000,000, 450 of 2 million per 100,000, all 459 per 100,000."""
    table = pd.DataFrame(
        {"study": list("ABC"), "events": [4, 5, 450], "total": [1_500_000] * 2 + [2_000_000]}
    )
    groups = dfsp.fit_by(table.assign(g=list("xxy")), by="g")
    assert [counts.unit for counts in groups.counts.values()] == ["per-1000000", "per-100000"]
    assert groups.unit.name == "per-100000"
    few = table.assign(events=[4, 5, 900_000])
    assert dfsp.fit_by(few.assign(g=list("xxy")), by="g").unit.name == "percent"


def test_a_total_of_a_rare_event_is_told_by_its_median():
    """9 of 30,000, 30 per 100,000: the prior of mu takes the mean of the mean rate to 862."""
    found = scenarios(Total("event", 9, 30_000, np.array([8000, 10_000, 12_000])))
    mean = found.table.loc[("sum over sets of cohorts", "mean rate")]
    assert mean["mean"] > 5 * mean["q50"]
    said = found.describe()
    assert f"has median {found.unit.numbers(*mean[['q50', 'q2.5', 'q97.5']])[0]} per" in said
    assert "above" not in said  # 20 % is out of the question
