"""Posteriors that lie where the prior hardly reaches, and priors alone, against brute force."""

import numpy as np
import pytest
from scipy import stats

import dfsp
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import prior_of


def brute_force(events, total, model, mu, tau):
    """Means of mu and tau, and moments of a new study's rate, on a dense grid; theta by sums."""
    z = np.linspace(-9, 9, 241)
    phi = np.exp(-0.5 * z * z)
    phi /= phi.sum()
    log_p = stats.norm.logpdf(mu, model.mu.mean, model.mu.sd)[:, None] + model.tau.logpdf(tau)
    first, second = np.empty_like(log_p), np.empty_like(log_p)
    for j, sd in enumerate(tau):
        theta = mu[:, None] + sd * z
        p, log_q = 1 / (1 + np.exp(-theta)), -np.logaddexp(0, theta)
        first[:, j], second[:, j] = p @ phi, p**2 @ phi
        for r, n in zip(events, total, strict=True):
            height = r * theta + n * log_q
            top = height.max(-1, keepdims=True)
            log_p[:, j] += np.log(np.exp(height - top) @ phi) + top[:, 0]
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    mean = (weight * first).sum()
    sd = np.sqrt((weight * second).sum() - mean**2)
    return (weight.sum(1) @ mu), (weight.sum(0) @ tau), mean, sd


CONFLICTS = {
    "two opposite studies": ([0, 200, 100], [200, 200, 200], 0, 2, 0.05, (-4, 4), (0.1, 1.2)),
    "5 and 95 of 100": ([5, 95], [100, 100], 0, 2, 0.05, (-5, 5), (0.001, 0.9)),
    "mu far above": ([7, 4], [15, 22], 20, 0.5, 0.5, (14, 23), (1.0, 8.0)),
    "mu very far above": ([7, 4], [15, 22], 50, 2, 1, (25, 62), (3.0, 14.0)),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            each, marks=[pytest.mark.slow] * (each not in ("5 and 95 of 100", "mu far above"))
        )
        for each in CONFLICTS
    ],
)
def test_counts_in_conflict_with_the_prior_of_tau(case):
    events, total, mean, sd, scale, mus, taus = CONFLICTS[case]
    model = dfsp.Model(dfsp.Normal(mean, sd), dfsp.HalfNormal(scale))
    mu, tau = np.linspace(*mus, 401), np.linspace(*taus, 401)
    of_mu, of_tau, rate, spread = brute_force(events, total, model, mu, tau)
    posterior = solve(events, total, model)
    assert posterior.mu.mean == pytest.approx(of_mu, abs=2e-4)
    assert posterior.tau.mean == pytest.approx(of_tau, abs=2e-4)
    assert posterior.new_study_rate.mean == pytest.approx(rate, abs=2e-5)
    assert posterior.new_study_rate.sd == pytest.approx(spread, abs=2e-5)


@pytest.mark.parametrize(("mean", "sd", "scale"), [(0, 2, 1), (1, 2, 1), (0, 1, 1), (-3, 5, 2)])
def test_moments_of_the_prior_predictive(mean, sd, scale):
    """Given tau a rate's logit is N(mean, sd^2 + tau^2): one integral over tau, one over theta."""
    z = np.linspace(-9, 9, 1441)
    phi = np.exp(-0.5 * z * z)
    phi /= phi.sum()
    t, w = np.polynomial.legendre.leggauss(80)
    tau = 4.5 * scale * (t + 1)
    density = stats.halfnorm(scale=scale).pdf(tau) * w
    density /= density.sum()
    p = 1 / (1 + np.exp(-(mean + np.sqrt(sd**2 + tau[:, None] ** 2) * z)))
    first, second = density @ (p @ phi), density @ (p**2 @ phi)
    prior = prior_of(dfsp.Model(dfsp.Normal(mean, sd), dfsp.HalfNormal(scale)))
    assert prior.new_study_rate.mean == pytest.approx(first, abs=1e-5)
    assert prior.new_study_rate.sd == pytest.approx(np.sqrt(second - first**2), abs=1e-5)
    assert prior.mean_rate.mean == pytest.approx(first, abs=1e-5)


def test_a_prior_of_almost_no_spread(make):
    counts = make([("A", 3, 10), ("B", 5, 10)])
    fit = dfsp.fit(counts, dfsp.Model(mu=dfsp.Normal(0, 0.001), tau=dfsp.Fixed(0.001)))
    assert fit.exact.new_study_rate.sd == pytest.approx(0.25 * np.sqrt(2e-6), rel=1e-3)


@pytest.mark.parametrize(
    ("make_prior", "message"),
    [
        (lambda: dfsp.Normal(200, 2), "mean = 200 on the logit scale is out of reach"),
        (lambda: dfsp.Normal(0, 1e-300), "sd = 1e-300 on the logit scale is out of reach"),
        (lambda: dfsp.HalfNormal(1e-300), "give a number from 1e-09 to 1e"),
        (lambda: dfsp.Uniform(1e300), "scale = 1e+300".replace("+", ".")),
        (lambda: dfsp.Fixed(1e-12), "scale = 1e-12 on"),
        (lambda: dfsp.LogNormal(-100, 1), "give a number from -20 to 20"),
        (lambda: dfsp.LogNormal(0, 20), "give a number from 0.001 to 8"),
        (lambda: dfsp.HalfStudentT(1e-9, 1), "df = 1e-09"),
    ],
)
def test_priors_out_of_reach_are_refused(make_prior, message):
    with pytest.raises(dfsp.DfspError, match=message):
        make_prior()


@pytest.mark.parametrize(
    "prior",
    [
        dfsp.LogNormal(-20, 1), dfsp.LogNormal(20, 1), dfsp.LogNormal(0, 8),
        dfsp.HalfNormal(1e-9), dfsp.HalfNormal(1e9), dfsp.HalfCauchy(1e-9), dfsp.HalfCauchy(1e9),
        dfsp.Uniform(1e-9), dfsp.Uniform(1e9), dfsp.Fixed(1e-9), dfsp.Fixed(1e9),
        dfsp.Exponential(1e-9), dfsp.Exponential(1e9), dfsp.HalfStudentT(0.1, 1),
    ],
    ids=str,
)  # fmt: skip
def test_priors_at_their_limits_are_answered(prior):
    """No traceback, no warning, rates that are rates; the check says where it is not exact."""
    posterior = solve([7, 15, 9], [14, 22, 10], dfsp.Model(tau=prior))
    for name in ("typical_rate", "mean_rate", "new_study_rate"):
        numbers = getattr(posterior, name).summary()
        assert np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers <= 1).all()
    assert np.isfinite(posterior.error)


@pytest.mark.parametrize("mean", [-100, 100])
def test_means_at_their_limits_are_answered(mean):
    posterior = solve([7, 15, 9], [14, 22, 10], dfsp.Model(mu=dfsp.Normal(mean, 2)))
    assert np.isfinite(posterior.mu.summary()).all()
    assert np.isfinite(posterior.studies).all()


def test_heavy_tails_reach_to_the_mean_of_the_prior_only_where_it_can_count():
    """Rates near 25 per 100,000 (logit -8.3) under Normal(0, 2), whose mean is out of their reach.

    The expected values are of rows that all reach to 0, as they do for few patients.
    """
    rare = [47, 66, 99, 105, 73, 110], [177413, 234396, 532302, 371698, 301283, 420374]
    found = solve(*rare, dfsp.Model(effects="student-t"))
    assert found.grid.high[found.grid.tau < 0.1].max() < -7
    assert found.log_marginal_likelihood == pytest.approx(-37.41267615678765, abs=1e-7)
    expected = [-3.435653154302, -3.851154825019, -6.525656626186]
    assert found.leave_one_out_lpd[:3] == pytest.approx(expected, abs=1e-7)
    few = solve([0, 1], [5, 5], dfsp.Model(effects="student-t"))
    assert few.grid.high.min() >= 0
