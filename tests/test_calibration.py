"""Simulation-based calibration: the shared table against the exact engine, and verdicts that fail."""

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.calibration import NAMES, Table, calibrate, narrower, simulate
from dfsp.exact import solve
from dfsp.integrals import sigmoid


@pytest.fixture(scope="module")
def small(make):
    return make([("A", 1, 8), ("B", 5, 12), ("C", 3, 5)])


def test_the_table_gives_the_positions_of_the_exact_engine(small, rng):
    """`solve` has a grid of its own and is tested against brute force elsewhere."""
    total = small.table["total"].to_numpy()
    model = dfsp.Model()
    truth = simulate(total, model, 20, rng)
    positions = Table(total, model).positions(truth)
    for i, row in positions.iterrows():
        posterior = solve(truth.events[i], total, model)
        assert row["mu"] == pytest.approx(1 - posterior.mu.above(truth.mu[i]), abs=5e-4)
        assert row["tau"] == pytest.approx(1 - posterior.tau.above(truth.tau[i]), abs=5e-4)
        new = 1 - posterior.new_study_rate.above(sigmoid(truth.new[i]))
        assert row["new_study_rate"] == pytest.approx(new, abs=3e-3)
        theta = truth.mu[i] + truth.tau[i] * np.sqrt(2) * HERMITE[0]
        mean = (HERMITE[1] / np.sqrt(np.pi)) @ sigmoid(theta)
        assert row["mean_rate"] == pytest.approx(1 - posterior.mean_rate.above(mean), abs=1e-3)


HERMITE = np.polynomial.hermite.hermgauss(60)


@pytest.mark.parametrize("family", ["half-normal", "uniform", "log-normal", "exponential"])
def test_right_priors_pass_and_wrong_ones_fail(small, family):
    model = dfsp.Model(tau=dfsp.tau_prior(family))
    assert all(c.passed for c in calibrate(small, model, number=1500).checks)
    control = calibrate(small, model, number=1500, fitted=dfsp.Model(mu=dfsp.Normal(1.5, 1)))
    assert control.checks[0].passed is False


def test_the_public_fit_is_judged_too(small):
    right = calibrate(small, number=150, engine="fit")
    assert list(right.positions) == list(NAMES)
    assert all(check.passed for check in right.checks)
    assert "calibrated" in repr(right) and "NOT" not in repr(right)
    wrong = calibrate(small, number=150, engine="fit", fitted=dfsp.Model(mu=dfsp.Normal(4, 0.5)))
    assert "NOT calibrated: mu" in repr(wrong)


def test_nuts_is_judged_too(small):
    result = calibrate(small, number=100, engine="nuts")
    assert all(check.passed for check in result.checks)
    # The same data sets through the exact table: positions differ by Monte Carlo error only.
    truth = simulate(
        small.table["total"].to_numpy(), dfsp.Model(), 100,
        dfsp.seeds.generator(dfsp.constants.SEED, "calibration nuts"),
    )  # fmt: skip
    exact = Table(small.table["total"].to_numpy(), dfsp.Model()).positions(truth)
    assert np.abs(result.positions["mu"] - exact["mu"]).mean() < 0.05


def test_equal_seeds_give_equal_positions(small):
    first, again = (calibrate(small, number=100, seed=3).positions for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(calibrate(small, number=100, seed=4).positions)


def test_narrower_halves_the_prior():
    assert narrower(dfsp.Model()).tau == dfsp.HalfNormal(0.5)
    halved = narrower(dfsp.Model(tau=dfsp.LogNormal(-1, 1))).tau
    assert float(halved.ppf(0.5)) == pytest.approx(np.exp(-1) / 2)
    with pytest.raises(dfsp.DfspError, match="fixed tau has no narrower prior"):
        narrower(dfsp.Model(tau=dfsp.Fixed(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 99}, "whole number of 100 or more"),
        ({"number": 1.5}, "whole number of 100 or more"),
        ({"engine": "stan"}, "engine 'stan' is not known"),
    ],
)
def test_options_that_cannot_be_used(small, options, message):
    with pytest.raises(dfsp.DfspError, match=message):
        calibrate(small, **options)


def test_a_design_too_large_for_the_table(make):
    with pytest.raises(dfsp.DfspError, match="calibrate through the public fit instead"):
        calibrate(make([("A", 1, 100_000), ("B", 2, 50_000)]), number=100)
