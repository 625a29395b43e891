"""Simulation-based calibration: the shared table against the exact engine, and verdicts that fail."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import dfsp
from dfsp.analyses.calibration.simulation import (
    METHODS,
    DataSets,
    _fitted,
    calibrate,
    coverage,
    draw_counts,
    judged,
    on_one_grid,
    simulate,
)
from dfsp.analyses.references import _maximum_likelihood
from dfsp.engine.posterior import solve
from dfsp.model.likelihood import sigmoid
from dfsp.model.priors import TAU_FAMILIES


@pytest.fixture(scope="module")
def small(make):
    return make([("A", 1, 8), ("B", 5, 12), ("C", 3, 5)])


@pytest.mark.parametrize(
    ("effects", "number"), [("normal", 20), ("student-t", 5), ("exnex", 10), ("beta-binomial", 20)]
)
def test_the_table_gives_the_positions_of_the_exact_engine(small, rng, effects, number):
    """`fit` has a grid of its own and is tested against brute force elsewhere."""
    total = small.table["total"].to_numpy()
    model = dfsp.Model(effects=effects)
    truth = simulate(total, model, number, rng)
    # Rates of beta-binomial studies can be 0 or 1 to double precision: one atom to `fit`.
    inner = np.abs(truth.new) < 25
    expected = _fitted(truth, small, model, rng)
    found = on_one_grid(truth, total, model)
    assert set(expected) == set(judged(model))
    for name, positions in expected.items():
        error = 3e-3 if name == "new_study_rate" else 5e-4
        assert found[name][inner] == pytest.approx(positions[inner], abs=error), name
    assert all(((p > 0) & (p < 1)).all() for p in expected.values())


def test_true_mean_rates_are_those_of_a_sum_over_effects(small, rng):
    truth = simulate(small.table["total"].to_numpy(), dfsp.Model(), 20, rng)
    x, weight = np.polynomial.hermite.hermgauss(80)
    theta = truth.mu[:, None] + truth.tau[:, None] * np.sqrt(2) * x
    assert sigmoid(truth.mean) == pytest.approx(sigmoid(theta) @ weight / np.sqrt(np.pi), abs=1e-4)


@pytest.mark.parametrize("effects", ["normal", "student-t", "exnex", "beta-binomial"])
def test_counts_are_drawn_as_the_effects_say(effects):
    """The share of each possible count is its likelihood, at one population."""
    model = dfsp.Model(effects=effects)
    mu, tau = np.full(40_000, 0.5), np.full(40_000, 0.8)
    rng = np.random.default_rng(5)
    truth = draw_counts(mu, tau, np.array([4]), model.effects, rng)
    share = np.bincount(truth.events[:, 0], minlength=5) / 40_000
    events, total = np.arange(5.0), np.full(5, 4.0)
    expected = np.exp(model.effects.log_likelihood(events, total, mu[:1], tau[:1]))[:, 0]
    assert share == pytest.approx(expected, abs=0.01)


DRAWN = [name for name, prior in TAU_FAMILIES.items() if not prior.no_picture]


@pytest.mark.parametrize("family", DRAWN)
def test_right_priors_pass_and_wrong_ones_fail(small, family):
    model = dfsp.Model(tau=dfsp.tau_prior(family))
    assert all(c.passed for c in calibrate(small, model, number=1500).checks)
    control = calibrate(small, model, number=1500, fitted=dfsp.Model(mu=dfsp.Normal(1.5, 1)))
    assert control.checks[0].passed is False


@pytest.mark.parametrize("effects", ["student-t", "exnex", "beta-binomial"])
def test_other_effects_pass_and_fail_too(small, effects):
    model = dfsp.Model(effects=effects)
    assert all(c.passed for c in calibrate(small, model, number=1500).checks)
    control = calibrate(small, model, number=1500, fitted=model.narrowed())
    assert False in [check.passed for check in control.checks]


def test_what_is_fixed_or_absent_is_not_judged(small):
    fixed = calibrate(small, dfsp.Model(tau=dfsp.Fixed(0.5)), number=100)
    assert list(fixed.pit) == ["mu", "mean_rate", "new_study_rate"]
    shares = calibrate(small, dfsp.Model(effects="beta-binomial"), number=100)
    assert list(shares.pit) == ["concentration", "mean_rate", "new_study_rate"]
    both = calibrate(small, dfsp.Model(), number=100, fitted=dfsp.Model(effects="beta-binomial"))
    assert list(both.pit) == ["mean_rate", "new_study_rate"]


def test_the_public_fit_is_judged_too(small, monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return dfsp.fit(*arguments, **options)

    monkeypatch.setattr("dfsp.analyses.calibration.simulation.fit", counted)
    right = calibrate(small, number=150, engine="fit")
    assert len(calls) == 150
    assert list(right.pit) == ["mu", "tau", "mean_rate", "new_study_rate"]
    assert all(check.passed for check in right.checks)
    assert "calibrated" in repr(right) and "NOT" not in repr(right)
    wrong = calibrate(small, number=150, engine="fit", fitted=dfsp.Model(mu=dfsp.Normal(4, 0.5)))
    assert "NOT calibrated: mu" in repr(wrong)


@pytest.mark.slow
def test_nuts_is_judged_too(small):
    result = calibrate(small, number=100, engine="nuts")
    assert all(check.passed for check in result.checks)
    # The same data sets through the exact table: positions differ by Monte Carlo error only.
    truth = simulate(
        small.table["total"].to_numpy(), dfsp.Model(), 100,
        dfsp.seeds.generator(dfsp.constants.SEED, "calibration nuts"),
    )  # fmt: skip
    exact = on_one_grid(truth, small.table["total"].to_numpy(), dfsp.Model())
    assert np.abs(result.pit["mu"] - exact["mu"]).mean() < 0.05


def test_equal_seeds_give_equal_positions(small):
    first, again = (calibrate(small, number=100, seed=3).pit for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(calibrate(small, number=100, seed=4).pit)


def test_narrower_halves_the_prior():
    assert dfsp.Model().narrowed().tau == dfsp.HalfNormal(0.5)
    halved = dfsp.Model(tau=dfsp.LogNormal(-1, 1)).narrowed().tau
    assert float(halved.ppf(0.5)) == pytest.approx(np.exp(-1) / 2)
    shares = dfsp.Model(effects=dfsp.BetaBinomial(concentration=dfsp.HalfCauchy(5))).narrowed()
    assert shares.effects.concentration == dfsp.HalfCauchy(20)
    with pytest.raises(dfsp.DfspError, match="fixed tau has no narrower prior"):
        dfsp.Model(tau=dfsp.Fixed(1)).narrowed()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 99}, "whole number of 100 or more"),
        ({"number": 1.5}, "whole number of 100 or more"),
        ({"number": True}, "whole number of 100 or more"),
        ({"engine": "stan"}, "engine 'stan' is not known"),
        ({"model": "normal"}, "model 'normal'; give a dfsp.Model"),
        ({"fitted": "normal"}, "model 'normal'; give a dfsp.Model"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_options_that_cannot_be_used(small, options, message):
    with pytest.raises(dfsp.DfspError, match=message):
        calibrate(small, **options)


def test_a_design_too_large_for_the_table(make):
    with pytest.raises(dfsp.DfspError, match="fit each by itself instead"):
        calibrate(make([("A", 1, 100_000), ("B", 2, 50_000)]), number=2000)


@pytest.fixture(scope="module")
def design(make):
    return make([(f"S{i}", 1, 15) for i in range(8)])


@pytest.fixture(scope="module")
def table(design):
    return coverage(design, rates=[0.3], taus=[0.0, 1.5], number=400).table


def of(table, tau, method, quantity, column="coverage"):
    row = table.query("tau == @tau and method == @method and quantity == @quantity")
    return row[column].item()


def test_pooling_without_heterogeneity_covers_as_enumeration_says(table):
    """Clopper-Pearson of 120 patients at a rate of 0.3, summed over all counts."""
    r = np.arange(121)
    low = np.where(r > 0, stats.beta.ppf(0.025, r, 121 - r), 0)
    high = np.where(r < 120, stats.beta.ppf(0.975, r + 1, 120 - r), 1)
    expected = stats.binom.pmf(r, 120, 0.3)[(low <= 0.3) & (high >= 0.3)].sum()
    found = of(table, 0.0, "complete pooling", "typical_rate")
    error = np.sqrt(expected * (1 - expected) / 400)
    assert found == pytest.approx(expected, abs=4 * error)


def test_heterogeneity_breaks_pooling_only(table):
    assert of(table, 1.5, "complete pooling", "typical_rate") < 0.7
    for quantity in ("typical_rate", "mean_rate", "new_study_rate"):
        assert of(table, 1.5, "hierarchical", quantity) > 0.9
    assert of(table, 1.5, "complete pooling", "new_study_rate") < 0.4


def test_a_new_study_is_less_certain_than_the_mean(table):
    for method in ("hierarchical", "maximum likelihood", "normal approximation"):
        assert of(table, 1.5, method, "new_study_rate", "width") > of(
            table, 1.5, method, "typical_rate", "width"
        )


@pytest.mark.slow
def test_maximum_likelihood_has_the_likelihoods_curvature(make):
    """One large study without heterogeneity: the variance of a logit is 1/(n p (1 - p))."""
    design = make([("A", 1, 400)])
    model = dfsp.Model(mu=dfsp.Normal(0, 2), tau=dfsp.HalfNormal(0.01))
    found = coverage(design, model, rates=[0.5], taus=[0.0], number=50).table
    width = of(found, 0.0, "maximum likelihood", "typical_rate", "width")
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.02)


@pytest.mark.parametrize(
    ("rates", "taus"),
    [([1.0], [0.1]), ([0.3], [-1]), ([0.3], [np.inf]), ([0.3], [np.nan]), (0.3, [0.1]), ([], [0.1]),
     (["0.3"], [0.1]), ([0.3], [])],
)  # fmt: skip
def test_truths_that_are_not_possible(design, rates, taus):
    with pytest.raises(dfsp.DfspError, match=r"rates in \(0, 1\), taus 0 or more"):
        coverage(design, rates=rates, taus=taus)


@pytest.mark.parametrize("number", [0, -1, 1.5, "x", True])
def test_numbers_that_are_not_possible(design, number):
    with pytest.raises(dfsp.DfspError, match="give a whole number of 1 or more"):
        coverage(design, number=number)


def test_a_method_without_any_interval_has_no_width(design):
    """At a rate of a millionth no study has an event, and the likelihood has no maximum."""
    found = coverage(design, rates=[1e-6], taus=[0.0], number=20).table
    rows = found[found["method"] == "maximum likelihood"]
    assert (rows["without"] == 20).all() and (rows["coverage"] == 0).all()
    assert rows["width"].isna().all()


@pytest.mark.parametrize("total", [[8, 12, 5], [3], [100, 100, 100]])
def test_hierarchical_intervals_are_those_of_the_exact_engine(total):
    rng = np.random.default_rng(1)
    events = rng.binomial(total, special.expit(rng.normal(0, 2, (6, len(total)))))
    found = METHODS["hierarchical"](DataSets(events, np.array(total), dfsp.Model()))
    for i, row in enumerate(events):
        posterior = solve(row, np.array(total), dfsp.Model())
        for name, ends in found.items():
            expected = getattr(posterior, name).quantile([0.025, 0.975])
            assert special.expit(ends[i]) == pytest.approx(expected, abs=1e-4), name


def test_maximum_likelihood_on_the_table_is_that_found_directly():
    """Where tau is far from 0, so that the profile is smooth: ends within 0.003 (rate scale)."""
    total = np.array([14, 22, 31, 10, 25, 12, 10, 4, 16, 8])
    rng = np.random.default_rng(3)
    events = rng.binomial(total, special.expit(0.5 + 0.8 * rng.standard_normal((6, 10))))
    found = METHODS["maximum likelihood"](DataSets(events, total, dfsp.Model()))
    for i, row in enumerate(events):
        frame = pd.DataFrame({"study": list("abcdefghij"), "events": row, "total": total})
        direct = _maximum_likelihood(dfsp.Counts.of(frame))
        for name in ("typical_rate", "new_study_rate"):
            ends = [direct[name, "low"], direct[name, "high"]]
            assert special.expit(found[name][i]) == pytest.approx(ends, abs=0.003)


def test_a_grid_of_more_columns_than_narrow_rows_are_spread_over(small, monkeypatch):
    """As that for studies of 10,000 patients, which takes a minute."""
    monkeypatch.setattr("dfsp.engine.many.MOST_COLUMNS", 10)
    assert all(check.passed for check in calibrate(small, number=400).checks)


def test_coverage_is_asked_for_at_rates_about_those_that_are_seen():
    """3 of 3,000: not at 10 to 85 %, which nobody sees there, but at a thousandth and about it."""
    rare = pd.DataFrame({"study": list("AB"), "events": [1, 2], "total": [1000, 2000]})
    found = dfsp.calibration.coverage(rare, taus=[0.3], number=20)
    truths = sorted(set(found.table["typical_rate"]))
    assert truths == [pytest.approx(each) for each in (0.0003, 0.001, 0.005)]
    usual = rare.assign(total=[10, 20], events=[4, 9])
    found = dfsp.calibration.coverage(usual, taus=[0.3], number=20)
    assert sorted(set(found.table["typical_rate"])) == [0.1, 0.3, 0.6, 0.85]


def test_patients_too_many_for_one_grid_are_calibrated_one_by_one(small, monkeypatch):
    monkeypatch.setattr("dfsp.engine.many.MOST_VALUES", 1000)
    with pytest.raises(dfsp.DfspError, match="engine='fit' or fewer data sets"):
        calibrate(small, number=100)
    found, control = dfsp.calibration.both_ways(small, dfsp.Model(), number=5000, through_fit=100)
    assert [(each.engine, len(each.pit)) for each in (*found, control)] == [("fit", 100)] * 2
    assert control.pit["tau"].ne(found[0].pit["tau"]).any()


def test_coverage_of_patients_too_many_for_one_grid_is_the_same_but_for_a_method(
    small, monkeypatch
):
    how = {"rates": [0.2], "taus": [0.0, 0.5], "number": 10}
    together = coverage(small, **how).table
    monkeypatch.setattr("dfsp.engine.many.MOST_VALUES", 1000)
    alone = coverage(small, **how).table
    kept = together[together["method"] != "maximum likelihood"].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.DataFrame(alone), pd.DataFrame(kept), rtol=0, atol=1e-4)
