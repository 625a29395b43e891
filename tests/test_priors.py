"""Densities and quantiles beside scipy.stats, which the priors do not use."""

import numpy as np
import pytest
from scipy import stats

import dfsp
from dfsp.engine.predictive import prior_of

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


@pytest.mark.parametrize(("shape", "scale"), [(0.001, 0.001), (0.3, 2.0), (5.0, 0.1)])
def test_an_inverse_gamma_of_the_square(shape, scale):
    prior, square = dfsp.InverseGamma(shape, scale), stats.invgamma(shape, scale=scale)
    x = np.array([0.05, 0.6, 2.5, 40.0, 1e20])
    assert prior.logpdf(x) == pytest.approx(square.logpdf(x**2) + np.log(2 * x), rel=1e-10)
    # P(tau <= t) = P(1 / tau^2 >= 1 / t^2), by SciPy's gamma
    t = np.array([0.1, 0.7, 30.0])
    q = stats.gamma(shape, scale=1 / scale).sf(t**-2)
    inside = (q > 1e-9) & (q < 1 - 1e-9)
    assert prior.ppf(q[inside]) == pytest.approx(t[inside], rel=1e-6)
    assert prior.scaled(2).ppf(0.1) == pytest.approx(2 * prior.ppf(0.1))
    assert prior.tail_power == 2 * shape
    assert np.isfinite([prior.near, prior.far]).all() and prior.near < prior.far < 1e5


def test_a_vague_prior_of_which_the_counts_make_nothing(make):
    """BUGS' habit: with shape 0.001 a tenth of the prior lies beyond 1e300."""
    vague = dfsp.InverseGamma(0.001, 0.001)
    assert vague.ppf(0.9) > 1e300
    assert np.isfinite(vague.sample(100, np.random.default_rng(1))).all()
    empty = make([("A", 0, 12), ("B", 0, 9), ("C", 7, 7)])
    for engine in ("exact", "nuts"):
        with pytest.raises(
            dfsp.DfspError, match=r"the posterior of tau given these counts reaches"
        ):
            dfsp.fit(empty, dfsp.Model(tau=vague), engine=engine)
    with pytest.raises(dfsp.DfspError, match=r"the prior reaches beyond 1e100: .* HalfNormal\(1\)"):
        prior_of(dfsp.Model(tau=vague))
    # One study with events and non-events is enough for a posterior, though not for a mean of tau.
    one = dfsp.fit(make([("A", 3, 12), ("B", 0, 9)]), dfsp.Model(tau=vague))
    assert one.checks[0].passed
    assert one.summary.loc["tau", ["mean", "sd"]].notna().tolist() == [True, False]
    # EXNEX lets that study be on its own: then nothing bounds tau.
    with pytest.raises(dfsp.DfspError, match="reaches beyond 1e100"):
        dfsp.fit(one.counts, dfsp.Model(tau=vague, effects="exnex"))


def test_what_an_inverse_gamma_refuses(make):
    model = dfsp.Model(tau=dfsp.InverseGamma(2, 1))
    with pytest.raises(dfsp.DfspError, match=r"the prior cannot be drawn under tau ~ InverseGamma"):
        dfsp.plots.prior(model)
    counts = make([("A", 3, 12), ("B", 5, 9), ("C", 4, 7)])
    fits = {"inverse": dfsp.fit(counts, model), "normal": dfsp.fit(counts)}
    said = (
        r"'inverse': log marginal likelihoods cannot be compared under tau ~ InverseGamma\(shape 2"
    )
    with pytest.raises(dfsp.DfspError, match=said):
        dfsp.sensitivity.average(fits)
    with pytest.raises(dfsp.DfspError, match="give a prior of a positive number"):
        dfsp.BetaBinomial(concentration=dfsp.InverseGamma())


def test_scaled_priors():
    """A prior of c tau has c times the quantiles."""
    priors = [prior for prior, _ in SAME] + [dfsp.HalfStudentT(3, 0.7), dfsp.Fixed(0.7)]
    for prior in priors:
        assert prior.scaled(3).ppf([0.2, 0.9]) == pytest.approx(3 * prior.ppf([0.2, 0.9]))


def test_what_is_known_of_a_prior():
    assert dfsp.Fixed(0.4).known == 0.4
    assert {prior.known for prior, _ in SAME} == {None}
    # How slowly tails fall: not at all beyond an end, as a normal's, or more slowly
    tails = [prior.tail_sd for prior, _ in SAME[1:]]
    assert tails == [0.7, np.inf, np.inf, 0, np.inf]


def test_draws_follow_the_quantiles(rng):
    for prior, _ in [*SAME, (dfsp.InverseGamma(0.3, 2), None)]:
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
    with pytest.raises(dfsp.DfspError, match=r"'no-such' is not known; use one of half-normal"):
        dfsp.tau_prior("no-such")
    with pytest.raises(dfsp.DfspError, match="'half-normal' has no df; it takes scale"):
        dfsp.tau_prior("half-normal", df=3)
    with pytest.raises(dfsp.DfspError, match="'inverse-gamma' has no df; it takes shape, scale"):
        dfsp.tau_prior("inverse-gamma", df=3)
    with pytest.raises(dfsp.DfspError, match="'uniform' has no location"):
        dfsp.tau_prior("uniform", location=1)


def test_a_model_takes_priors_only():
    with pytest.raises(dfsp.DfspError, match="give a Normal"):
        dfsp.Model(mu=2)
    with pytest.raises(dfsp.DfspError, match="give one of HalfNormal"):
        dfsp.Model(tau=dfsp.Normal(0, 1))
    with pytest.raises(dfsp.DfspError, match="effects 'no-such' are not known"):
        dfsp.Model(effects="no-such")


def test_a_model_says_what_it_assumes():
    model = dfsp.Model(tau=dfsp.HalfStudentT(3, 0.5))
    assert (
        str(model)
        == "mu ~ Normal(mean 0, sd 2), tau ~ HalfStudentT(df 3, scale 0.5), normal effects"
    )
    assert model.as_dict()["tau"] == {"family": "half-student-t", "df": 3, "scale": 0.5}
