import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dfsp
from dfsp.engine.predictive import (
    interval_of_events,
    mid_p,
    prior_of,
    probability_of_events,
    replicated,
)


@pytest.fixture(scope="module")
def drawn(review_fit):
    """40,000 independent draws."""
    return review_fit.draws(40_000)["posterior"]


def test_draws_agree_with_the_exact_posterior(review_fit, drawn):
    """Means of the draws lie within four standard errors."""
    for name in ("mu", "tau", "typical_rate", "new_study_rate"):
        exact = review_fit.summary.loc[name]
        values = drawn[name].to_numpy().ravel()
        assert abs(values.mean() - exact["mean"]) < 4 * exact["sd"] / 200, name
        for q in (0.025, 0.975):
            below = np.mean(values < exact[f"q{100 * q:g}"])
            assert abs(below - q) < 4 * np.sqrt(q * (1 - q) / 40_000), (name, q)
    rates = drawn["rate"].to_numpy().reshape(40_000, -1)
    studies = review_fit.exact.studies
    error = np.abs(rates.mean(0) - studies[:, 0]) / (studies[:, 1] / 200)
    assert error.max() < 4.5


def test_draws_leave_studies_out_as_the_exact_engine_does(ankylosing):
    """Importance sampling, 1 / mean(1 / L) over draws, is within four standard errors."""
    fit = dfsp.fit(ankylosing)
    log_l = fit.draws(40_000)["log_likelihood"]["events"]
    assert log_l["study"].to_numpy().tolist() == fit.studies["study"].to_list()
    inverse = np.exp(-log_l.to_numpy().reshape(40_000, -1))
    error = inverse.std(0) / inverse.mean(0) / 200
    distance = -np.log(inverse.mean(0)) - fit.studies["leave_one_out_lpd"].to_numpy()
    assert (np.abs(distance) < 4 * error).all() and error.max() < 0.02


@pytest.mark.slow
def test_draws_go_on_in_arviz(ankylosing):
    import arviz as az

    fit, other = dfsp.fit(ankylosing), dfsp.fit(ankylosing, dfsp.Model(effects="student-t"))
    elpd = az.loo(fit.draws(), var_name="events").elpd
    assert elpd == pytest.approx(fit.as_dict()["elpd_leave_one_study_out"], abs=0.1)
    assert set(az.compare({"normal": fit.draws(), "other": other.draws()}).index) == {
        "normal",
        "other",
    }
    assert az.plot_forest(fit.draws(), var_names=["rate"], combined=True).viz["figure"].item()


def test_draws_are_repeatable_and_counted(review_fit):
    first, second = (review_fit.draws(80, seed=3)["posterior"]["mu"] for _ in range(2))
    assert first.shape == (4, 20)
    assert np.array_equal(first, second)
    with pytest.raises(dfsp.DfspError, match="multiple of 4"):
        review_fit.draws(7)


def test_draws_of_tau_known(ankylosing):
    fixed = dfsp.fit(ankylosing, dfsp.Model(tau=dfsp.Fixed(0.4)))
    assert np.all(fixed.draws(40)["posterior"]["tau"] == 0.4)


def test_events_in_a_new_study_are_a_distribution(review_fit):
    probability = review_fit.new_study(20).events
    assert probability.shape == (21,)
    assert probability.sum() == pytest.approx(1)
    assert probability @ np.arange(21) / 20 == pytest.approx(
        review_fit.exact.new_study_rate.mean, abs=1e-4
    )


def test_events_in_a_new_study_without_data_or_spread(ankylosing):
    """Fixed tau and a wide prior: theta is normal, and the sum a one-dimensional integral."""
    model = dfsp.Model(tau=dfsp.Fixed(1.0))
    theta = np.linspace(-20, 20, 40_001)
    weight = stats.norm.pdf(theta, 0, np.hypot(2, 1)) * (theta[1] - theta[0])
    expected = stats.binom.pmf(np.arange(8)[:, None], 7, 1 / (1 + np.exp(-theta))) @ weight
    for prior in (prior_of(model), dfsp.fit(ankylosing, model).prior()):
        found = probability_of_events(prior.new_study_rate, 7)
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_a_number_of_patients_that_cannot_be_used(review_fit, n):
    with pytest.raises(dfsp.DfspError, match="whole number of patients"):
        review_fit.new_study(n)


def test_predictive_check_by_simulation(review_fit, drawn, rng):
    """mid-p of each study beside 40,000 replicates (four standard errors are 0.01) with a new effect each."""
    table = review_fit.predictive_check()
    rate = drawn["new_study_rate"].to_numpy().ravel()
    for row in table.itertuples():
        replicates = rng.binomial(row.total, rate)
        mid_p = np.mean(replicates > row.events) + np.mean(replicates == row.events) / 2
        assert row.mid_p == pytest.approx(mid_p, abs=0.01), row.study
        assert 0 <= row.low <= row.high <= row.total


def test_two_new_studies_differ_by_simulation(review_fit, drawn, rng):
    mu, tau = (drawn[name].to_numpy().ravel() for name in ("mu", "tau"))
    first, second = (1 / (1 + np.exp(-rng.normal(mu, tau))) for _ in range(2))
    expected = np.mean(np.abs(first - second) > 0.2)
    assert review_fit.heterogeneity(0.2).probability == pytest.approx(expected, abs=0.01)
    assert review_fit.heterogeneity(0.01).probability > 0.9
    for by in (0, 1, -0.2):
        with pytest.raises(dfsp.DfspError, match="difference of rates"):
            review_fit.heterogeneity(by)


def test_two_new_studies_with_heavy_tails_each_have_their_own(review, rng):
    fit = dfsp.fit(review, dfsp.Model(effects=dfsp.StudentT(df=4)))
    nodes, number = fit.exact.nodes, 200_000
    at = rng.choice(len(nodes.weight), number, p=nodes.weight / nodes.weight.sum())
    effects = rng.standard_t(4, (2, number)) * nodes.tau[at] + nodes.mu[at]
    first, second = 1 / (1 + np.exp(-effects))
    expected = np.mean(np.abs(first - second) > 0.2)
    assert fit.heterogeneity(0.2).probability == pytest.approx(expected, abs=0.005)


def test_patient_weighted_rate(review_fit):
    weighted = review_fit.patient_weighted_rate()
    total = review_fit.studies["total"]
    assert weighted["mean"] == pytest.approx(total @ review_fit.studies["mean"] / total.sum())
    # What adding up estimates: 92 of 152, drawn a little towards the others
    assert weighted["mean"] == pytest.approx(92 / 152, abs=0.02)
    assert weighted["q2.5"] < weighted["mean"] < weighted["q97.5"]


def test_interval_of_events_holds_its_probability(review_fit):
    new = review_fit.new_study(20)
    assert (new.low, new.high) == interval_of_events(new.events)
    assert new.events[new.low : new.high + 1].sum() >= 0.95
    assert new.events[: new.low].sum() <= 0.025 <= new.events[: new.low + 1].sum()


def test_a_distribution_function_and_its_tail_take_the_same_rates(review_fit):
    rate = review_fit.exact.new_study_rate
    at = [0.2, 0.5, 0.9]
    assert rate.cdf_at(at) == pytest.approx([1 - rate.prob_above(each) for each in at], abs=1e-12)
    assert rate.cdf_at([0, 1]).tolist() == [0, 1]
    assert rate.cdf_at(rate.quantile([0.1, 0.7])) == pytest.approx([0.1, 0.7], abs=1e-6)
    tau = review_fit.exact.tau
    assert tau.cdf_at(tau.quantile([0.5]))[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_replicates_are_those_of_the_table_of_all_numbers(review_fit, n):
    rate = review_fit.exact.new_study_rate
    table = probability_of_events(rate, n)
    for events in range(n + 1):
        *ends, p = replicated(rate, n, events)
        assert tuple(ends) == interval_of_events(table)
        assert p == mid_p(rate, n, events)
        assert p == pytest.approx(table[events + 1 :].sum() + table[events] / 2, abs=1e-9)


def test_replicates_of_a_million_patients():
    """Nearly all that varies is the rate: the interval is that of the rate times the patients."""
    table = pd.DataFrame(
        {"study": list("ABC"), "events": [200, 300, 400], "total": [1_000_000] * 3}
    )
    fit = dfsp.fit(table)
    check = fit.predictive_check().set_index("study").loc["B"]
    low, high = fit.exact.new_study_rate.quantile((0.025, 0.975)) * 1_000_000
    assert check["low"] == pytest.approx(low, rel=0.05)
    assert check["high"] == pytest.approx(high, rel=0.02)
    assert 0.3 < check["mid_p"] < 0.7
