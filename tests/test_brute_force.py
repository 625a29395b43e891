"""Random tables under each family of effects, against sums that share no code with the engine.

Study effects are integrated by trapezoidal sums over standardised effects (in closed form for the
beta-binomial), the population's two coordinates by a trapezoidal sum and a Gauss-Legendre rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from scipy import interpolate, special, stats

import dfsp
from dfsp.engine.posterior import solve

COUNTS = "log_marginal_likelihood", "mean", "sd", "rates", "left_out"


@dataclass
class Population:
    """Nodes of a family's two coordinates with their prior mass, and a study given them.

    `given` takes one node of the second coordinate, all of the first, and counts (0 of 0 for a new
    study), and returns the probability of the counts, and E[p] and E[p^2] under them, times it.
    """

    first: np.ndarray
    prior: np.ndarray
    second: np.ndarray
    mass: np.ndarray
    given: Callable


def binomial(r, n, theta):
    """Probability of counts, written out: scipy's overflows at some of the rates met here."""
    return special.binom(n, r) * np.exp(r * theta - n * np.logaddexp(0, theta))


def of_standardised(rng, effects, density, alone=None):
    """theta = mu + tau z with z of the given density; or, with probability 1/2, as `alone` says."""
    m, s, scale = rng.uniform(-1.5, 1.5), rng.uniform(0.5, 2.5), rng.uniform(0.2, 1.2)
    mu = m + np.linspace(-7, 7, 281) * s
    x, w = np.polynomial.legendre.leggauss(36)
    tau = 7 * scale * (x + 1) / 2
    step = np.linspace(-8.3, 8.3, 665)
    z = np.sinh(step)
    share = density(z) * np.cosh(step) * (step[1] - step[0])
    keep = share > 1e-18
    z, share = z[keep], share[keep]

    @lru_cache(maxsize=1)  # for all counts at a node
    def effects_at(tau):
        theta = mu[:, None] + tau * z
        return theta, np.logaddexp(0, theta), special.expit(theta)

    def given(tau, mu, r, n):
        del mu  # always the same
        theta, minus_log_q, p = effects_at(tau)
        seen = special.binom(n, r) * np.exp(r * theta - n * minus_log_q)
        first = seen * p
        sums = np.stack([seen @ share, first @ share, (first * p) @ share])
        if alone is None or n == 0:
            return sums
        own, width = alone
        theta = own + np.linspace(-8, 8, 1601) * width
        p = special.expit(theta)
        seen = binomial(r, n, theta) * stats.norm.pdf(theta, own, width) * width / 100
        return (sums + np.stack([(seen * p**k).sum() for k in (0, 1, 2)])[:, None]) / 2

    model = dfsp.Model(mu=dfsp.Normal(m, s), tau=dfsp.HalfNormal(scale), effects=effects)
    prior = stats.norm.pdf(mu, m, s) * (mu[1] - mu[0])
    mass = stats.halfnorm.pdf(tau, scale=scale) * w * 7 * scale / 2
    return model, Population(mu, prior, tau, mass, given)


def normal(rng):
    return of_standardised(rng, dfsp.NormalEffects(), stats.norm.pdf)


def student_t(rng):
    df = rng.uniform(3, 30)
    return of_standardised(rng, dfsp.StudentT(df), lambda z: stats.t.pdf(z, df))


def exnex(rng):
    own = rng.uniform(-1, 1), rng.uniform(0.5, 2)
    return of_standardised(rng, dfsp.Exnex(0.5, *own), stats.norm.pdf, own)


def beta_binomial(rng):
    a, b = rng.uniform(1, 4, size=2)
    centre, width = rng.uniform(1, 3), rng.uniform(0.5, 1.2)
    x = np.linspace(-14, 14, 801)
    mean = special.expit(x)
    log_size = centre + np.linspace(-8, 8, 161) * width

    def given(log_size, x, r, n):
        p, q, size = special.expit(x), special.expit(-x), np.exp(log_size)
        # Written out: scipy's betabinom loses digits where a parameter is tiny.
        seen = special.betaln(size * p + r, size * q + n - r) - special.betaln(size * p, size * q)
        seen = special.binom(n, r) * np.exp(seen)
        first = (size * p + r) / (size + n)
        second = first * (size * p + r + 1) / (size + n + 1)
        return np.stack([seen, seen * first, seen * second])

    effects = dfsp.BetaBinomial(a, b, dfsp.LogNormal(centre, width))
    prior = stats.beta.pdf(mean, a, b) * mean * (1 - mean) * (x[1] - x[0])
    mass = stats.norm.pdf(log_size, centre, width) * (log_size[1] - log_size[0])
    return dfsp.Model(effects=effects), Population(x, prior, log_size, mass, given)


def brute_force(events, total, population):
    pairs = sorted(set(zip(events, total, strict=True)) | {(0, 0)})
    sums = {pair: [] for pair in pairs}
    for second in population.second:
        for pair in pairs:
            sums[pair].append(population.given(second, population.first, *pair))
    by_pair = {pair: np.stack(each, axis=1) for pair, each in sums.items()}
    studies = [by_pair[pair] for pair in zip(events, total, strict=True)]
    weight = population.mass[:, None] * population.prior
    for study in studies:
        weight = weight * study[0]
    height = weight.sum()
    weight /= height
    new = by_pair[0, 0] / by_pair[0, 0][0]
    mean, square = (weight * new[1]).sum(), (weight * new[2]).sum()
    return {
        "log_marginal_likelihood": np.log(height),
        "mean": mean,
        "sd": np.sqrt(square - mean**2),
        "rates": np.array([(weight * study[1] / study[0]).sum() for study in studies]),
        "left_out": -np.log([(weight / study[0]).sum() for study in studies]),
    }


def differences(rng, family):
    """Return the largest difference in each of `COUNTS` for one random table."""
    model, population = family(rng)
    total = rng.integers(1, 40, size=rng.integers(1, 7))
    events = rng.binomial(total, rng.beta(1, 1, size=len(total)))
    found, wanted = solve(events, total, model), brute_force(events, total, population)
    ours = {
        "log_marginal_likelihood": found.log_marginal_likelihood,
        "mean": found.mean_rate.mean,
        "sd": found.new_study_rate.sd,
        "rates": found.studies[:, 0],
        "left_out": found.leave_one_out_lpd,
    }
    return [float(np.max(np.abs(ours[name] - wanted[name]))) for name in COUNTS]


@pytest.mark.parametrize("number", [2, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", [normal, student_t, exnex, beta_binomial])
def test_random_tables_agree_with_brute_force(family, number):
    """Median 3e-7, worst 2e-4, in probabilities and in logarithms of them."""
    rng = np.random.default_rng(20260611)
    found = np.array([differences(rng, family) for _ in range(number)])
    assert np.median(found) < 3e-7
    assert found.max() < 2e-4


# Studies in conflict: what is left without one of them lies far from where all of them are.
CONFLICTS = {
    "0/57 beside 54/58": ([42, 54, 35, 0], [248, 58, 228, 57], dfsp.Model(tau=dfsp.Fixed(0.56))),
    "0/135 beside 110/131": (
        [110, 9, 6, 0],
        [131, 9, 6, 135],
        dfsp.Model(mu=dfsp.Normal(-1.1, 6.7), tau=dfsp.HalfCauchy(1.1)),
    ),
    "20/59 beside 39822/62886": (
        [20, 39_822, 0, 88],
        [59, 62_886, 2, 211],
        dfsp.Model(mu=dfsp.Normal(1.7, 6.2), tau=dfsp.HalfNormal(0.23)),
    ),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_left_out_densities_are_ratios_of_marginal_likelihoods(case):
    """p(y_i | others) = p(y) / p(others), each on a grid placed for itself."""
    *counts, model = CONFLICTS[case]
    events, total = np.array(counts)
    wanted = [
        solve(events, total, model).log_marginal_likelihood
        - solve(*(np.delete(each, i) for each in (events, total)), model).log_marginal_likelihood
        for i in range(len(events))
    ]
    assert solve(events, total, model).leave_one_out_lpd == pytest.approx(wanted, abs=1e-4)


def test_studies_in_conflict_do_not_cut_the_posterior():
    """Quantiles of the mean rate against sums over mu at one tau."""
    events, total, _ = CONFLICTS["0/57 beside 54/58"]
    tau, (m, s) = 0.56, (1.5, 2.1)
    mu = np.linspace(-4, 3, 1401)
    z = np.linspace(-9, 9, 601)
    share = stats.norm.pdf(z) * (z[1] - z[0])
    theta = mu[:, None] + tau * z
    height = stats.norm.pdf(mu, m, s)
    for r, n in zip(events, total, strict=True):
        height *= binomial(r, n, theta) @ share
    cdf = interpolate.CubicSpline(mu, height).antiderivative()(mu)
    rate = special.expit(theta) @ share
    model = dfsp.Model(mu=dfsp.Normal(m, s), tau=dfsp.Fixed(tau))
    q = [0.025, 0.25, 0.5, 0.75, 0.975]
    found = solve(events, total, model).mean_rate.quantile(q)
    assert found == pytest.approx(np.interp(q, cdf / cdf[-1], rate), abs=1e-5)
