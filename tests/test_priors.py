"""Densities and quantiles beside scipy.stats, which the priors do not use."""

import numpy as np
import pytest
from scipy import stats

import dfsp

SAME = [
    (dfsp.Normal(0.3, 1.7), stats.norm(0.3, 1.7)),
    (dfsp.HalfNormal(0.7), stats.halfnorm(scale=0.7)),
    (dfsp.HalfCauchy(0.7), stats.halfcauchy(scale=0.7)),
    (dfsp.Exponential(0.7), stats.expon(scale=0.7)),
    (dfsp.Uniform(3), stats.uniform(0, 3)),
    (dfsp.LogNormal(-1, 0.7), stats.lognorm(0.7, scale=np.exp(-1))),
]


@pytest.mark.parametrize(("prior", "same"), SAME, ids=lambda value: getattr(value, "family", ""))
def test_density_and_quantiles(prior, same):
    x = np.array([-1.0, 0.05, 0.6, 2.5, 40.0])
    assert prior.logpdf(x) == pytest.approx(same.logpdf(x), rel=1e-10)
    q = np.array([1e-6, 0.025, 0.5, 0.975, 1 - 1e-9])
    assert prior.ppf(q) == pytest.approx(same.ppf(q), rel=1e-6)
    assert prior.upper == same.support()[1]


@pytest.mark.parametrize("df", [0.5, 1, 4, 30])
def test_a_folded_student_t(df):
    prior, whole = dfsp.HalfStudentT(df, 0.7), stats.t(df, scale=0.7)
    x = np.array([0.0, 0.6, 40.0])
    assert prior.logpdf(x) == pytest.approx(np.log(2) + whole.logpdf(x), rel=1e-10)
    assert prior.ppf([0.1, 0.975]) == pytest.approx(whole.ppf([0.55, 0.9875]), rel=1e-6)


def test_draws_follow_the_quantiles(rng):
    for prior, _ in SAME:
        draws = prior.sample(20_000, rng)
        share = np.mean(draws < prior.ppf(0.3))
        assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 20_000)), prior
    assert set(dfsp.Fixed(0.4).sample(3, rng)) == {0.4}


@pytest.mark.parametrize("value", [np.nan, np.inf, "1", None, True, 0, -1])
@pytest.mark.parametrize("family", ["half-normal", "uniform", "fixed"])
def test_scales_that_cannot_be_used(family, value):
    if value is None:
        assert dfsp.tau_prior(family, scale=None).family == family
        return
    with pytest.raises(dfsp.DfspError, match=r"scale = .*; give a (finite number|number above 0)"):
        dfsp.tau_prior(family, scale=value)


def test_unknown_families_and_parameters_are_refused():
    with pytest.raises(dfsp.DfspError, match=r"'gamma' is not known; use one of half-normal"):
        dfsp.tau_prior("gamma")
    with pytest.raises(dfsp.DfspError, match="'half-normal' has no df; it takes scale"):
        dfsp.tau_prior("half-normal", df=3)
    with pytest.raises(dfsp.DfspError, match="'uniform' has no location"):
        dfsp.tau_prior("uniform", location=1)


def test_a_model_takes_priors_only():
    with pytest.raises(dfsp.DfspError, match="give a Normal"):
        dfsp.Model(mu=2)
    with pytest.raises(dfsp.DfspError, match="give one of HalfNormal"):
        dfsp.Model(tau=dfsp.Normal(0, 1))
    with pytest.raises(dfsp.DfspError, match="effects 'laplace' are not known"):
        dfsp.Model(effects="laplace")


def test_a_model_says_what_it_assumes():
    model = dfsp.Model(tau=dfsp.HalfStudentT(3, 0.5))
    assert (
        str(model)
        == "mu ~ Normal(mean 0, sd 2), tau ~ HalfStudentT(df 3, scale 0.5), normal effects"
    )
    assert model.as_dict()["tau"] == {"family": "half-student-t", "df": 3, "scale": 0.5}
