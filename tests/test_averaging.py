"""Posterior probabilities of models and averages, against Bayes' theorem by hand and simulation."""

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.model.model import Model


@pytest.fixture(scope="module")
def table():
    rows = {"study": list("abcde"), "events": [3, 6, 4, 9, 7], "total": [15, 16, 4, 13, 10]}
    return dfsp.Counts.of(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def fits(table):
    return {name: dfsp.fit(table, Model(effects=name)) for name in ("normal", "beta-binomial")}


def test_probabilities_follow_from_the_marginal_likelihoods(fits):
    first, second = (each.exact.log_marginal_likelihood for each in fits.values())
    result = dfsp.sensitivity.average(fits, {"normal": 3, "beta-binomial": 1})
    odds = 3 * np.exp(first - second)
    assert result.models.loc["normal", "probability"] == pytest.approx(odds / (1 + odds))
    assert result.models["probability"].sum() == pytest.approx(1)
    assert list(result.summary.index) == ["mean_rate", "new_study_rate"]
    assert f"normal {odds / (1 + odds):.2f}" in result.describe()


def test_rates_are_the_mixture(table):
    """The distribution function of a mixture is the mixture of distribution functions."""
    fits = {str(s): dfsp.fit(table, Model(tau=dfsp.HalfNormal(s))) for s in (0.2, 2)}
    result = dfsp.sensitivity.average(fits)
    weight = result.models["probability"]
    for quantity in ("typical_rate", "mean_rate", "new_study_rate"):
        parts = {name: getattr(each.exact, quantity) for name, each in fits.items()}
        row = result.summary.loc[quantity]
        assert row["mean"] == pytest.approx(sum(weight[n] * p.mean for n, p in parts.items()))
        for q in (0.025, 0.5, 0.975):
            above = sum(weight[n] * p.prob_above(row[f"q{100 * q:g}"]) for n, p in parts.items())
            assert above == pytest.approx(1 - q, abs=1e-5)


def test_one_certain_model_is_that_model(fits):
    result = dfsp.sensitivity.average(fits, {"normal": 1, "beta-binomial": 0})
    own = fits["normal"].summary.loc[["mean_rate", "new_study_rate"]]
    assert result.summary.to_numpy() == pytest.approx(own.to_numpy(), abs=1e-5)


def test_faults(fits, table):
    with pytest.raises(dfsp.DfspError, match="two models or more"):
        dfsp.sensitivity.average({"a": fits["normal"]})
    other = dfsp.fit(dfsp.without(table, ["a"]))
    with pytest.raises(dfsp.DfspError, match="'normal' and 'other' are not of the same counts"):
        dfsp.sensitivity.average({**fits, "other": other})
    for prior in ({"normal": 1}, {"normal": -1, "beta-binomial": 1}, dict.fromkeys(fits, 0)):
        with pytest.raises(dfsp.DfspError, match="give a probability for each of normal, beta"):
            dfsp.sensitivity.average(fits, prior)


def test_other_effects_take_the_priors_of_the_model(make):
    counts = make([("A", 1, 10), ("B", 5, 10), ("C", 9, 10)])
    model = dfsp.Model(dfsp.Normal(1, 0.5), dfsp.HalfNormal(0.2))
    effects = {"normal": dfsp.NormalEffects(), "t": dfsp.StudentT(4), "beta": dfsp.BetaBinomial()}
    fits = dfsp.sensitivity.fit_with_effects(counts, model, effects)
    assert list(fits) == list(effects)
    assert fits["normal"].model == model
    assert (fits["t"].model.mu, fits["t"].model.tau) == (model.mu, model.tau)
    assert fits["beta"].model == dfsp.Model(effects="beta-binomial")
