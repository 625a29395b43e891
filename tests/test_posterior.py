"""The exact engine against published results, a brute-force reference, and exact identities."""

import subprocess
import sys

import dense
import numpy as np
import pytest
from scipy import integrate, special, stats

from dfsp.engine.posterior import solve
from dfsp.model.likelihood import log_likelihood
from dfsp.model.model import Model
from dfsp.model.priors import (
    Exponential,
    Fixed,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    LogNormal,
    Normal,
    Uniform,
)

PRIORS = [
    HalfNormal(1),
    HalfCauchy(1),
    HalfStudentT(3, 1),
    Exponential(1),
    Uniform(2),
    LogNormal(-1, 1),
    Fixed(0.5),
]
# metadat's dat.debruin2009: de Bruin 2009, doi:10.1037/a0015989
DEBRUIN = (
    [11, 24, 179, 82, 60, 11, 99, 9, 88, 17, 26, 23, 40],
    [29, 33, 326, 240, 110, 29, 244, 17, 215, 26, 138, 55, 54],
)


def nodes(low, high, number):
    x, w = np.polynomial.legendre.leggauss(number)
    return low + (high - low) * (x + 1) / 2, w * (high - low) / 2


def half_normal(number=40):
    tau, w = nodes(0, 7, number)
    return {"tau": tau, "tau_density": 2 * stats.norm.pdf(tau) * w}


def fixed(tau):
    return {"tau": np.array([tau]), "tau_density": np.ones(1)}


def test_ankylosing_spondylitis_as_published(ankylosing):
    """Deterministic quadrature by a dense grid, printed to four decimals, good to about 1e-3."""
    p = solve(ankylosing["events"], ankylosing["total"], Model())
    assert p.tau.summary()[[0, 1, 2, 4, 6]] == pytest.approx(
        [0.3795, 0.2107, 0.0440, 0.3529, 0.8749], abs=5e-4
    )
    assert p.mu.summary()[[0, 1, 2, 4, 6]] == pytest.approx(
        [-1.1037, 0.1893, -1.4815, -1.1047, -0.7190], abs=5e-4
    )
    assert p.typical_rate.summary()[[0, 1, 2, 4, 6]] == pytest.approx(
        [0.2507, 0.0355, 0.1852, 0.2489, 0.3276], abs=1e-4
    )
    assert p.new_study_rate.summary()[[0, 1, 2, 4, 6]] == pytest.approx(
        [0.2583, 0.0874, 0.1109, 0.2486, 0.4714], abs=1e-4
    )
    assert p.log_marginal_likelihood == pytest.approx(-26.6486, abs=1e-4)
    shrunken = [0.2275, 0.2615, 0.3145, 0.2420, 0.2711, 0.2684, 0.1741, 0.2665]
    assert p.studies[:, 0] == pytest.approx(shrunken, abs=1e-4)


def test_ankylosing_spondylitis_beside_rbest(ankylosing):
    """RBesT's printed run (one MCMC run, hence its tolerance of about four of its errors)."""
    p = solve(ankylosing["events"], ankylosing["total"], Model())
    assert p.new_study_rate.summary()[[0, 1, 4]] == pytest.approx(
        [0.2553, 0.0864, 0.2472], abs=6e-3
    )
    assert p.tau.summary()[[0, 1, 4]] == pytest.approx([0.387, 0.215, 0.359], abs=0.02)


def test_ankylosing_spondylitis_with_a_narrower_prior(ankylosing):
    p = solve(ankylosing["events"], ankylosing["total"], Model(tau=HalfNormal(0.5)))
    assert p.tau.quantile([0.5, 0.025, 0.975]) == pytest.approx([0.3162, 0.0349, 0.7276], abs=5e-4)
    new = p.new_study_rate
    assert new.mean == pytest.approx(0.2561, abs=1e-4)
    assert new.quantile([0.025, 0.975]) == pytest.approx([0.1231, 0.4405], abs=1e-4)


def test_de_bruin_beside_maximum_likelihood():
    """metafor's rma.glmm: mu -0.1118 (se 0.1880), tau^2 0.3787.

    With mu's prior flat and tau at its maximum-likelihood value the posterior of mu is the
    likelihood's own, whose mode and curvature metafor reports; 13 studies leave it near normal.
    """
    p = solve(*DEBRUIN, Model(mu=Normal(0, 100), tau=Fixed(np.sqrt(0.3787))))
    assert p.mu.mean == pytest.approx(-0.1118, abs=2e-3)
    assert p.mu.sd == pytest.approx(0.1880, abs=0.01)
    likelihood = [
        solve(*DEBRUIN, Model(mu=Normal(0, 100), tau=Fixed(np.sqrt(v)))).log_marginal_likelihood
        for v in (0.25, 0.3787, 0.55)
    ]
    assert likelihood[1] > max(likelihood[0], likelihood[2])


CASES = {
    "ten cohorts": ([7, 15, 21, 8, 9, 10, 9, 4, 5, 4], [14, 22, 31, 10, 25, 12, 10, 4, 16, 8]),
    "0/n and n/n": ([0, 20, 0, 3], [20, 20, 5, 3]),
    "n = 1": ([0, 1, 1, 0], [1, 1, 1, 1]),
    "one study": ([3], [10]),
    "one study, 0/1": ([0], [1]),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, marks=[pytest.mark.slow] * (each == "ten cohorts")) for each in CASES],
)
def test_against_brute_force(case):
    events, total = CASES[case]
    mu = np.linspace(-14, 14, 561)
    reference = dense.posterior(events, total, mu=mu, **half_normal())
    compare(solve(events, total, Model()), reference)


@pytest.mark.parametrize("tau", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("case", [([0, 4, 9], [10, 10, 10]), ([0], [1]), ([20, 20], [20, 20])])
def test_against_brute_force_with_tau_fixed(tau, case):
    mu = np.linspace(-14, 14, 701)
    reference = dense.posterior(*case, mu=mu, z_points=1201, **fixed(tau))
    compare(solve(*case, Model(tau=Fixed(tau))), reference)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.01, 1.0])
def test_large_studies_against_brute_force(tau):
    case = ([30_000, 30_400, 29_000], [100_000] * 3)
    mu = np.linspace(-6, 5, 4001) if tau == 1 else np.linspace(-1, -0.7, 2001)
    reference = dense.posterior(*case, mu=mu, z_points=6001, **fixed(tau))
    compare(solve(*case, Model(tau=Fixed(tau))), reference)


def compare(p, reference):
    assert p.error < 1e-5
    assert p.log_marginal_likelihood == pytest.approx(
        reference["log_marginal_likelihood"], abs=1e-4
    )
    assert p.mu.mean == pytest.approx(reference["mu"], abs=1e-4)
    assert p.typical_rate.mean == pytest.approx(reference["typical_rate"], abs=1e-5)
    assert p.mean_rate.mean == pytest.approx(reference["mean_rate"], abs=1e-5)
    assert p.new_study_rate.mean == pytest.approx(reference["mean_rate"], abs=1e-5)
    assert p.tau.mean == pytest.approx(reference["tau"], abs=1e-5)
    assert p.studies[:, 0] == pytest.approx(reference["rates"], abs=1e-5)
    assert p.leave_one_out_lpd == pytest.approx(reference["left_out"], abs=1e-4)
    for column, q in enumerate((0.025, 0.5, 0.975)):
        rate = float(p.typical_rate.quantile(q)[0])
        assert np.interp(rate, *reference["typical_cdf"]) == pytest.approx(q, abs=2e-5), column


@pytest.mark.slow
def test_quantiles_of_a_new_study_against_brute_force():
    events, total = CASES["ten cohorts"]
    p = solve(events, total, Model())
    # 1e-5 on the rate scale, times the density there
    for q, tolerance in ((0.025, 3e-6), (0.5, 1.5e-5), (0.975, 5e-6)):
        rate = float(p.new_study_rate.quantile(q)[0])
        reference = dense.new_study_cdf(
            events, total, rate, mu=np.linspace(-4, 5, 301), **half_normal()
        )
        assert reference == pytest.approx(q, abs=tolerance)


def test_quantiles_of_a_study_against_brute_force():
    """One study, tau fixed: theta ~ N(0, 2^2 + tau^2), so its posterior is one-dimensional."""
    p = solve([3], [10], Model(tau=Fixed(1.5)))
    theta = np.linspace(-15, 12, 200_001)
    density = stats.binom.pmf(3, 10, special.expit(theta)) * stats.norm.pdf(
        theta, 0, np.hypot(2, 1.5)
    )
    cdf = np.cumsum(density) - density / 2
    cdf /= density.sum()
    expected = 1 / (1 + np.exp(-np.interp([0.025, 0.25, 0.5, 0.75, 0.975], cdf, theta)))
    assert p.studies[0, 2:] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_zero_of_one_under_a_half_cauchy():
    """theta ~ N(0, 4 + tau^2), integrated by scipy; the posterior of tau is the prior."""

    def moment(tau):
        sd = np.hypot(2, tau)
        inner, _ = integrate.quad(
            lambda t: stats.logistic.pdf(t) * stats.norm.pdf(t / sd) / sd, -40, 40, points=[0]
        )
        return inner

    # E[p(1 - p)] = E of the logistic density under theta's prior; u = log(1 + tau)
    value, _ = integrate.quad(
        lambda u: stats.halfcauchy.pdf(np.expm1(u)) * np.exp(u) * moment(np.expm1(u)),
        0,
        30,
        limit=400,
    )
    p = solve([0], [1], Model(tau=HalfCauchy(1)))
    assert p.studies[0, 0] == pytest.approx(2 * value, abs=1e-5)
    assert p.tau.quantile([0.025, 0.5, 0.975]) == pytest.approx(
        np.tan(np.pi / 2 * np.array([0.025, 0.5, 0.975])), rel=1e-4
    )
    assert np.isnan(p.tau.mean)
    assert np.isnan(p.tau.sd)


def test_moments_of_tau_exist_only_with_information():
    """Each study with 0 < r < n adds one power of 1/tau to a half-Cauchy tail of 2."""
    for events, mean, sd in (([0, 9], False, False), ([1, 9], True, False), ([1, 8], True, True)):
        p = solve(events, [9, 9], Model(tau=HalfCauchy(1)))
        assert (not np.isnan(p.tau.mean), not np.isnan(p.tau.sd)) == (mean, sd)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_leaving_out_equals_refitting(prior, ankylosing):
    model = Model(tau=prior)
    full = solve(ankylosing["events"], ankylosing["total"], model)
    for study in (0, 6):
        rest = ankylosing.drop(index=study)
        without = solve(rest["events"], rest["total"], model).log_marginal_likelihood
        expected = full.log_marginal_likelihood - without
        assert full.leave_one_out_lpd[study] == pytest.approx(expected, abs=1e-6)


def test_leaving_out_together_equals_refitting(ankylosing):
    together = [[0, 1], [0, 1], *([study] for study in range(2, 8))]
    full = solve(ankylosing["events"], ankylosing["total"], Model(), together=together)
    rest, with_it = ankylosing.drop(index=[0, 1]), ankylosing.drop(index=1)
    expected = (
        solve(with_it["events"], with_it["total"], Model()).log_marginal_likelihood
        - solve(rest["events"], rest["total"], Model()).log_marginal_likelihood
    )
    assert full.leave_one_out_lpd[0] == pytest.approx(expected, abs=1e-6)


def test_leaving_out_studies_in_sharp_conflict_equals_refitting():
    """The posterior without a study lies where that of both has no mass at all."""
    full = solve([30_000, 0], [100_000] * 2, Model())
    for study, other in ((0, 1), (1, 0)):
        events = [30_000, 0][other]
        without = solve([events], [100_000], Model()).log_marginal_likelihood
        expected = full.log_marginal_likelihood - without
        assert full.leave_one_out_lpd[study] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_no_study_gives_the_prior(prior):
    p = solve([], [], Model(mu=Normal(0.3, 1.2), tau=prior))
    assert p.log_marginal_likelihood == pytest.approx(0, abs=1e-6)
    assert p.mu.quantile([0.025, 0.975]) == pytest.approx(
        stats.norm.ppf([0.025, 0.975], 0.3, 1.2), abs=1e-4
    )
    q = np.array([0.025, 0.5, 0.975])
    assert p.tau.quantile(q) == pytest.approx(prior.ppf(q), rel=1e-4)


def test_without_heterogeneity_all_studies_are_one():
    """Binomial counts of one rate: only the sums matter, here against a 1-d integral."""
    events, total = [7, 15, 21], [14, 22, 31]
    p = solve(events, total, Model(tau=Fixed(1e-4)))
    mu = np.linspace(-6, 6, 400_001)
    density = stats.binom.pmf(43, 67, special.expit(mu)) * stats.norm.pdf(mu, 0, 2)
    rate = 1 / (1 + np.exp(-mu))
    assert p.typical_rate.mean == pytest.approx(density @ rate / density.sum(), abs=1e-6)
    assert p.studies[:, 0] == pytest.approx(np.full(3, p.typical_rate.mean), abs=1e-6)


def test_one_study_says_little_of_tau():
    """One study tells mu and tau apart through their priors only."""
    prior, one = (solve(*counts, Model()).tau.summary() for counts in (([], []), ([7], [14])))
    assert one == pytest.approx(prior, rel=0.1)
    assert not np.allclose(one, prior, atol=1e-4)


def test_order_of_studies_does_not_matter(rng):
    events, total = (np.array(x) for x in CASES["ten cohorts"])
    order = rng.permutation(len(events))
    first, second = solve(events, total, Model()), solve(events[order], total[order], Model())
    assert second.log_marginal_likelihood == pytest.approx(first.log_marginal_likelihood, abs=1e-12)
    assert second.studies == pytest.approx(first.studies[order], abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_swapping_events_and_non_events_mirrors_every_rate(case):
    events, total = (np.array(x) for x in CASES[case])
    p, m = solve(events, total, Model()), solve(total - events, total, Model())
    assert m.log_marginal_likelihood == pytest.approx(p.log_marginal_likelihood, abs=1e-7)
    assert m.studies[:, 0] == pytest.approx(1 - p.studies[:, 0], abs=1e-6)
    assert m.studies[:, 2:] == pytest.approx(1 - p.studies[:, :1:-1], abs=1e-5)
    for name in ("typical_rate", "mean_rate", "new_study_rate"):
        one, other = getattr(p, name).summary(), getattr(m, name).summary()
        assert other[2:] == pytest.approx(1 - one[:1:-1], abs=1e-6)


def test_tail_probabilities_are_the_inverse_of_quantiles():
    p = solve(*CASES["ten cohorts"], Model())
    for name in ("mu", "tau", "typical_rate", "mean_rate", "new_study_rate"):
        distribution = getattr(p, name)
        for q in (0.025, 0.5, 0.9):
            at = float(distribution.quantile(q)[0])
            assert distribution.prob_above(at) == pytest.approx(1 - q, abs=1e-5)
    assert p.typical_rate.prob_above(0) == 1
    assert p.typical_rate.prob_above(1) == 0


def test_many_studies_equal_their_distinct_counts_repeated(rng):
    """10,000 studies, 50 distinct: the result must not depend on whether they are collected."""
    total = np.tile(rng.integers(1, 200, 50), 200)
    events = rng.binomial(total, 0.3)
    p = solve(events, total, Model())
    assert p.typical_rate.mean == pytest.approx(0.3, abs=0.01)
    assert len(p.studies) == 10_000
    assert np.all(np.diff(p.studies[:, 2:], axis=1) > 0)


@pytest.mark.parametrize(
    "case",
    [
        ([0, 0, 0], [5, 50, 500]),
        ([5, 50, 500], [5, 50, 500]),
        ([1, 0], [100_000, 1]),
        ([0], [100_000]),
        ([50_000] * 4, [100_000] * 4),
        ([30_000, 0], [100_000] * 2),
    ],
)
@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_extreme_tables_stay_in_their_domain(case, prior):
    p = solve(*case, Model(tau=prior))
    rates = np.vstack(
        [
            p.studies,
            *(getattr(p, n).summary() for n in ("typical_rate", "mean_rate", "new_study_rate")),
        ]
    )
    assert np.all((rates >= 0) & (rates <= 1))
    assert np.all(np.diff(rates[:, 2:], axis=1) >= 0)
    assert np.isfinite(p.log_marginal_likelihood)
    assert np.all(np.isfinite(p.leave_one_out_lpd))


PRINT = """
import dfsp
fit = dfsp.fit(dfsp.count(dfsp.load_evidence("review"), "objective_response"))
print(repr(fit.summary)); print(repr(fit.studies))
"""


def test_digits_do_not_depend_on_the_number_of_threads(monkeypatch):
    printed = []
    for threads in ("1", "2"):
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, threads)
        done = subprocess.run(
            [sys.executable, "-c", PRINT], capture_output=True, text=True, check=True
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert "typical_rate" in printed[0]


@pytest.mark.parametrize(
    ("events", "total", "model", "range_of_mu", "highest_tau"),
    [
        ([0, 357, 0], [9, 4132, 13], Model(Normal(-2, 5), HalfNormal(0.3)), (-6, 2), 2.5),
        (
            [44, 1, 7, 815, 0, 5],
            [54, 1, 7, 1096, 4, 6],
            Model(Normal(-2, 1), Uniform(2)),
            (-6, 4),
            2,
        ),
        ([9], [9], Model(Normal(0, 1), HalfCauchy(0.5)), (-6, 7), 1e7),
    ],
    ids=["large study left out", "narrow peak of a new study", "mass at both ends"],
)
def test_what_a_grid_can_miss(events, total, model, range_of_mu, highest_tau):
    """By plain sums over (mu, tau) of likelihoods, which are held against brute force above."""
    mu = np.linspace(*range_of_mu, 1601)
    u, weight = np.polynomial.legendre.leggauss(300)
    half = np.arcsinh(highest_tau / 0.01) / 2
    u, weight = half * (u + 1), half * weight
    tau = 0.01 * np.sinh(u)
    log_p = model.tau.logpdf(tau) + np.log(0.01 * np.cosh(u) * weight)
    log_p = log_p[:, None] + model.mu.logpdf(mu) + np.log(mu[1] - mu[0])
    counts = np.array(events, float), np.array(total, float)
    for row, scale in enumerate(tau):
        log_p[row] += log_likelihood(*counts, mu, np.full(len(mu), scale), level=3).sum(0)
    mass = np.exp(log_p)
    found = solve(events, total, model)
    assert found.log_marginal_likelihood == pytest.approx(np.log(mass.sum()), abs=1e-4)
    mass /= mass.sum()
    assert found.typical_rate.mean == pytest.approx((mass @ special.expit(mu)).sum(), abs=1e-5)
    q = np.array([0.025, 0.25, 0.5, 0.75, 0.975])
    for at, level in zip(special.logit(found.new_study_rate.quantile(q)), q, strict=True):
        below = (mass * special.ndtr((at - mu) / tau[:, None])).sum()
        assert below == pytest.approx(level, abs=2e-5)
