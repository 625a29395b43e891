"""Other random effects, against brute-force sums, limits with known answers, and NUTS."""

import itertools
import json
from collections import Counter

import arviz as az
import numpy as np
import pandas as pd
import pytest
from dense import binomials
from frozen import REAL
from scipy import integrate, special, stats

import dfsp
from dfsp.analyses.references import Pareto
from dfsp.constants import SEED
from dfsp.engine.many import SharedGrid
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import draw, prior_of, prob_rates_differ
from dfsp.model.effects import FAMILIES, effects_of
from dfsp.model.likelihood import log_choose
from dfsp.model.model import Model

EVENTS = np.array([2.0, 0, 4, 9, 7, 11])
TOTAL = np.array([15.0, 6, 4, 13, 10, 24])
T4 = dfsp.StudentT(4)
HALF = dfsp.Exnex(0.5, -0.5, 1.5)
ROUND = dfsp.BetaBinomial(2, 1, dfsp.LogNormal(1.5, 1))
RATES = ("typical_rate", "mean_rate", "new_study_rate")


@pytest.fixture(scope="module")
def table():
    return dfsp.Counts.of(pd.DataFrame({"study": list("abcdef"), "events": EVENTS, "total": TOTAL}))


def summary(posterior, names=RATES):
    return np.stack([getattr(posterior, name).summary() for name in names])


def binomial(events, total, theta):
    """Probability of counts, written out: scipy's overflows at the rates met here."""
    log_p, log_q = -np.logaddexp(0, -theta), -np.logaddexp(0, theta)
    return special.binom(total, events) * np.exp(events * log_p + (total - events) * log_q)


def brute_force(effects, density):
    """Sums over mu, tau and standardised effects; `density` is that of the last."""
    mu = np.linspace(-12, 12, 241)
    nodes, weights = np.polynomial.legendre.leggauss(50)
    tau = 5.5 * (nodes + 1) / 2
    step = np.linspace(-6, 6, 401)
    z = np.sinh(step)
    share = density(z) * np.cosh(step) * (step[1] - step[0])
    log_prior = stats.norm.logpdf(mu, 0, 2)[:, None] + np.log(mu[1] - mu[0])
    log_prior = log_prior + stats.halfnorm.logpdf(tau) + np.log(weights * 5.5 / 2)
    theta = mu[:, None, None] + tau[:, None] * z
    p = special.expit(theta)
    pairs = list(zip(EVENTS, TOTAL, strict=True))
    exact, rate = np.empty((2, len(pairs), *theta.shape[:-1]))
    for i, seen in enumerate(binomials(EVENTS, TOTAL, theta)):
        exact[i] = seen @ share
        seen *= p
        rate[i] = seen @ share
    own = np.zeros((2, len(EVENTS), 1, 1))
    if isinstance(effects, dfsp.Exnex):
        x = np.linspace(-12, 12, 2401)
        alone = stats.norm.pdf(x, effects.mean, effects.sd) * (x[1] - x[0])
        q = special.expit(x)
        for i, (r, n) in enumerate(pairs):
            both = binomial(r, n, x) * alone
            own[:, i, 0, 0] = 0.5 * both.sum(), 0.5 * (both * q).sum()
        exact, rate = 0.5 * exact, 0.5 * rate
    by_study = exact + own[0]
    weight = by_study.prod(0) * np.exp(log_prior)
    evidence = weight.sum()
    weight /= evidence
    return {
        "log_marginal_likelihood": np.log(evidence),
        "mean": (weight * (p @ share)).sum(),
        "square": (weight * (p**2 @ share)).sum(),
        "rates": (weight * (rate + own[1]) / by_study).sum((1, 2)),
        "left_out": -np.log((weight / by_study).sum((1, 2))),
        "alone": (weight * own[0] / by_study).sum((1, 2)),
    }


@pytest.mark.parametrize(
    ("effects", "density"),
    [(T4, lambda z: stats.t.pdf(z, 4)), (HALF, stats.norm.pdf)],
    ids=["student-t", "exnex"],
)
def test_families_of_mu_and_tau_agree_with_brute_force(effects, density):
    found = solve(EVENTS, TOTAL, Model(effects=effects))
    dense = brute_force(effects, density)
    assert found.log_marginal_likelihood == pytest.approx(
        dense["log_marginal_likelihood"], abs=1e-5
    )
    assert found.mean_rate.mean == pytest.approx(dense["mean"], abs=1e-5)
    sd = np.sqrt(dense["square"] - dense["mean"] ** 2)
    assert found.new_study_rate.sd == pytest.approx(sd, abs=1e-5)
    assert found.studies[:, 0] == pytest.approx(dense["rates"], abs=1e-5)
    assert found.leave_one_out_lpd == pytest.approx(dense["left_out"], abs=1e-5)
    if effects is HALF:
        assert found.exchangeable == pytest.approx(1 - dense["alone"], abs=1e-5)
    assert found.error < 1e-5


def test_beta_binomial_agrees_with_brute_force():
    """Sums over mean and log concentration with scipy's own beta-binomial; rates to 1e-5."""
    model = Model(effects=ROUND)
    found = solve(EVENTS, TOTAL, model)
    x = np.linspace(-9, 9, 601)[:, None]
    size = np.exp(np.linspace(-9, 14, 801))
    mean = special.expit(x)
    a, b = mean * size, (1 - mean) * size
    log_p = stats.beta.logpdf(mean, 2, 1) + np.log(mean * (1 - mean) * (x[1] - x[0]))
    log_p = log_p + stats.norm.logpdf(np.log(size), 1.5, 1) + np.log(np.log(size[1] / size[0]))
    rows = [stats.betabinom.logpmf(r, n, a, b) for r, n in zip(EVENTS, TOTAL, strict=True)]
    weight = np.exp(sum(rows) + log_p)
    evidence = weight.sum()
    weight /= evidence
    assert found.log_marginal_likelihood == pytest.approx(np.log(evidence), abs=1e-6)
    assert found.mean_rate.mean == pytest.approx((weight * mean).sum(), abs=1e-6)
    assert found.concentration.mean == pytest.approx((weight * size).sum(), rel=1e-4)
    shrunken = [(weight * (a + r) / (size + n)).sum() for r, n in zip(EVENTS, TOTAL, strict=True)]
    assert found.studies[:, 0] == pytest.approx(shrunken, abs=1e-5)
    for q in (0.025, 0.5, 0.975):
        below = (weight * special.betainc(a, b, float(found.new_study_rate.quantile(q)[0]))).sum()
        assert below == pytest.approx(q, abs=2e-5)
        r, n = EVENTS[0], TOTAL[0]
        at = found.studies[0, 2 + [0.025, 0.25, 0.5, 0.75, 0.975].index(q)]
        assert (weight * special.betainc(a + r, b + n - r, at)).sum() == pytest.approx(q, abs=2e-5)
        size_at = float(found.concentration.quantile(q)[0])
        marginal = np.cumsum(weight.sum(0)) - weight.sum(0) / 2
        assert np.interp(np.log(size_at), np.log(size), marginal) == pytest.approx(q, abs=1e-4)
    assert found.tau.quantile(0.5) != found.tau.quantile(0.5)  # not a number


def test_rare_events_of_a_beta_binomial_by_brute_force():
    """The mode of mu leaps with the concentration: from the studies' rates to where all are 0 or 1.

    Log posterior densities are log-concave in neither, so that sums over both are the reference.
    """
    events, total = [2, 3, 4, 5, 3], [200_000, 300_000, 400_000, 500_000, 300_000]
    found = solve(events, total, Model(effects="beta-binomial"))
    x = np.linspace(-30, 14, 1101)[:, None]
    log_size = np.linspace(-6, 16, 551)
    size, mean, rest = np.exp(log_size), special.expit(x), special.expit(-x)
    log_p = np.log(mean * rest * (x[1] - x[0]))  # a uniform mean
    log_p = log_p + stats.norm.logpdf(log_size, 2, 1.5) + np.log(log_size[1] - log_size[0])
    for r, n in zip(events, total, strict=True):
        log_p = log_p + log_choose(np.float64(r), np.float64(n))
        log_p += special.betaln(mean * size + r, rest * size + n - r)
        log_p -= special.betaln(mean * size, rest * size)
    weight = np.exp(log_p)
    evidence = weight.sum()
    weight /= evidence
    assert found.log_marginal_likelihood == pytest.approx(np.log(evidence), abs=1e-5)
    assert found.mean_rate.mean == pytest.approx((weight * mean).sum(), rel=1e-5)
    below = np.cumsum(weight.sum(1)) - weight.sum(1) / 2
    for q in (0.5, 0.975):
        at = special.logit(float(found.mean_rate.quantile(q)[0]))
        assert np.interp(at, x[:, 0], below) == pytest.approx(q, abs=2e-5)


@pytest.mark.parametrize(
    ("counts", "scale"),
    [
        ((EVENTS, TOTAL), 5),
        ((EVENTS, TOTAL), 0.5),
        (([0], [200]), 20),
        (([], []), 5),
        # Far from what the prior expects: from the study's own rate to the mode of logit(mean)
        # the density is all but a straight line.
        (([3], [100_000]), 5),
        (([3], [3_000_000]), 5),
        (([2_999_997], [3_000_000]), 5),
    ],
)
def test_half_normal_shapes_agree_with_sums_over_both(counts, scale):
    """Sums over the logarithms of alpha and beta themselves with scipy's own beta-binomial."""
    found = solve(*counts, Model(effects=dfsp.BetaBinomialShapes(scale)))
    log = np.linspace(-25, 2.1, 501)
    a, b = scale * np.exp(log)[:, None], scale * np.exp(log)
    prior = stats.halfnorm.pdf(a, scale=scale) * a * stats.halfnorm.pdf(b, scale=scale) * b
    rows = [stats.betabinom.pmf(r, n, a, b) for r, n in zip(*counts, strict=True)]
    weight = prior * (log[1] - log[0]) ** 2 * np.prod([np.ones_like(prior), *rows], axis=0)
    evidence = weight.sum()
    weight /= evidence
    assert found.log_marginal_likelihood == pytest.approx(np.log(evidence), abs=1e-6)
    for quantity, value in ((found.mean_rate, a / (a + b)), (found.concentration, a + b)):
        mean = (weight * value).sum()
        assert quantity.mean == pytest.approx(mean, rel=1e-5)
        assert quantity.sd == pytest.approx(((weight * (value - mean) ** 2).sum()) ** 0.5, rel=1e-4)
    shrunken = [(weight * (a + r) / (a + b + n)).sum() for r, n in zip(*counts, strict=True)]
    assert found.studies[:, 0] == pytest.approx(shrunken, abs=1e-5)
    for q in (0.025, 0.5, 0.975):
        at = float(found.new_study_rate.quantile(q)[0])
        if 1e-18 < at < 1 - 1e-15:  # a rate that rounds to 0 or 1 has no place
            assert (weight * special.betainc(a, b, at)).sum() == pytest.approx(q, abs=2e-5)


def test_half_normal_shapes_on_a_shared_grid_and_drawn():
    """Many analyses on one grid against one by one; draws against P(concentration < c)."""
    model = Model(effects=dfsp.BetaBinomialShapes())
    shared = SharedGrid(np.array(EVENTS, float), np.array(TOTAL, float), [model])
    found = shared.solve(np.ones((1, len(EVENTS))))
    one = solve(EVENTS, TOTAL, model)
    assert found.resolved.all()
    assert found.new[0] == pytest.approx(one.new_study_rate.quantile([0.5, 0.025, 0.975]), abs=1e-5)
    mu, tau = model.draw_population(4000, np.random.default_rng(1))
    assert stats.kstest(special.erf(tau**-2.0 / 10) ** 2, "uniform").pvalue > 1e-3
    # alpha / beta, a ratio of half-normals, is half-Cauchy.
    assert stats.kstest(np.exp(mu), stats.halfcauchy.cdf).pvalue > 1e-3


def test_student_t_with_many_degrees_of_freedom_is_normal():
    """The t density is normal times 1 + O(1 / df)."""
    normal, t = (
        solve(EVENTS, TOTAL, Model()),
        solve(EVENTS, TOTAL, Model(effects=dfsp.StudentT(1e7))),
    )
    assert summary(t) == pytest.approx(summary(normal), abs=1e-5)
    assert t.log_marginal_likelihood == pytest.approx(normal.log_marginal_likelihood, abs=1e-6)
    assert t.studies == pytest.approx(normal.studies, abs=1e-5)


def test_all_exchangeable_is_the_plain_hierarchy():
    normal, exnex = (
        solve(EVENTS, TOTAL, Model()),
        solve(EVENTS, TOTAL, Model(effects=dfsp.Exnex(1))),
    )
    assert summary(exnex) == pytest.approx(summary(normal), abs=1e-5)
    assert exnex.studies == pytest.approx(normal.studies, abs=1e-5)
    assert exnex.exchangeable == pytest.approx(np.ones(6), abs=1e-9)


@pytest.mark.parametrize("sd", [0.05, 1.5])
def test_none_exchangeable_is_the_stratified_analysis(sd):
    """Each study alone: a normal prior of its logit rate, integrated here by adaptive quadrature."""
    from scipy.integrate import quad

    found = solve(EVENTS, TOTAL, Model(effects=dfsp.Exnex(0, -0.5, sd)))
    evidence = 0.0
    for i, (r, n) in enumerate(zip(EVENTS, TOTAL, strict=True)):

        def height(x, power, r=r, n=n):
            p = special.expit(x)
            return stats.binom.pmf(r, n, p) * stats.norm.pdf(x, -0.5, sd) * p**power

        mass, first, second = (
            quad(height, -0.5 - 10 * sd, -0.5 + 10 * sd, args=(k,), epsabs=1e-13)[0]
            for k in (0, 1, 2)
        )
        mean = first / mass
        assert found.studies[i, 0] == pytest.approx(mean, abs=1e-5)
        assert found.studies[i, 1] == pytest.approx(np.sqrt(second / mass - mean**2), abs=1e-5)
        evidence += np.log(mass)
    assert found.log_marginal_likelihood == pytest.approx(evidence, abs=1e-7)
    prior = solve([], [], Model())
    assert summary(found) == pytest.approx(summary(prior), abs=1e-5)
    assert found.exchangeable == pytest.approx(np.zeros(6), abs=1e-9)


def test_no_scatter_and_a_uniform_mean_is_the_beta_of_all_patients():
    """92 of 152 patients, whatever the studies: Beta(93, 61)."""
    table = dfsp.count(dfsp.load_evidence("review"), "objective_response").table
    pooled = Model(effects=dfsp.BetaBinomial(1, 1, dfsp.LogNormal(18, 0.1)))
    found = solve(table["events"], table["total"], pooled).mean_rate
    q = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert found.quantile(q) == pytest.approx(stats.beta(93, 61).ppf(q), abs=1e-5)
    assert found.mean == pytest.approx(93 / 154, abs=1e-6)


def test_student_t_effects_are_the_same_for_the_mirrored_rate():
    """Events and non-events change places, also where a table of logits is its own mirror image."""
    model = Model(effects=dfsp.StudentT(df=4))
    assert solve([0, 50], [50, 50], model).typical_rate.quantile(0.5) == pytest.approx(
        0.5, abs=1e-6
    )
    events = np.array([0, 12, 20, 20])
    one, other = (solve(each, [20] * 4, model) for each in (events, 20 - events))
    assert one.log_marginal_likelihood == pytest.approx(other.log_marginal_likelihood, abs=1e-8)
    ends = one.typical_rate.quantile([0.025, 0.975]), other.typical_rate.quantile([0.975, 0.025])
    assert ends[0] == pytest.approx(1 - ends[1], abs=1e-7)


def test_heavy_tails_let_a_study_be_far_off():
    """A large study in conflict with nine others is shrunken less, and moves them less."""
    events, total = np.array([*[6.0] * 9, 95]), np.array([*[20.0] * 9, 100])
    tau = dfsp.HalfNormal(0.3)
    normal, t = (
        solve(events, total, Model(tau=tau, effects=effects))
        for effects in (dfsp.NormalEffects(), dfsp.StudentT(2))
    )
    assert abs(t.typical_rate.mean - 0.3) < abs(normal.typical_rate.mean - 0.3)
    assert t.studies[-1, 0] > normal.studies[-1, 0]
    apart = solve(events, total, Model(tau=tau, effects=dfsp.Exnex()))
    assert apart.exchangeable[-1] < 0.05 < apart.exchangeable[:-1].min()


@pytest.mark.parametrize(
    "family",
    [
        pytest.param("student-t", marks=pytest.mark.slow),
        "exnex",
        "beta-binomial",
        pytest.param("beta-binomial-shapes", marks=pytest.mark.slow),
    ],
)
def test_both_engines_agree(table, family):
    result = dfsp.fit(table, Model(effects=effects_of(family)), engine="both", draws=1000)
    assert result.agrees, [str(check) for check in result.checks if check.passed is not True]
    # Within five Monte Carlo standard errors, which allow for the draws' autocorrelation
    wanted = {"rate": "mean"} | ({"exchangeable": "exchangeable"} if family == "exnex" else {})
    sampled = result.sampled.draws["posterior"].to_dataset()[list(wanted)]
    error = az.mcse(sampled)
    for name, column in wanted.items():
        off = sampled[name].mean(("chain", "draw")) - result.studies[column].to_numpy()
        assert (np.abs(off) < 5 * error[name]).all(), name


@pytest.mark.parametrize(
    "effects",
    [pytest.param(T4, marks=pytest.mark.slow), HALF, ROUND],
    ids=lambda each: each.family,
)
def test_draws_follow_the_exact_posterior(effects):
    """Means of 20,000 independent draws, within five standard errors."""
    found = solve(EVENTS, TOTAL, Model(effects=effects))
    drawn = draw(found, 20_000, SEED)["posterior"].to_dataset()
    flat = drawn["rate"].to_numpy().reshape(-1, 6)
    error = flat.std(0) / np.sqrt(20_000)
    assert (np.abs(flat.mean(0) - found.studies[:, 0]) < 5 * error + 1e-4).all()
    new = drawn["new_study_rate"].to_numpy().ravel()
    assert new.mean() == pytest.approx(found.new_study_rate.mean, abs=5 * new.std() / 141 + 1e-4)
    apart = np.abs(new[::2] - new[1::2])  # two studies that do not share mu and tau differ more
    assert 0 < prob_rates_differ(found, 0.2) < (apart > 0.2).mean() + 0.02


def test_two_new_studies_of_a_beta_binomial():
    """By simulation from the posterior of mean and concentration, within five standard errors."""
    found = solve(EVENTS, TOTAL, Model(effects=ROUND))
    drawn = draw(found, 40_000, SEED)["posterior"].to_dataset()
    mean, size = (drawn[name].to_numpy().ravel() for name in ("mean_rate", "concentration"))
    rng = np.random.default_rng(1)
    one, two = (rng.beta(mean * size, (1 - mean) * size) for _ in range(2))
    share = (np.abs(one - two) > 0.2).mean()
    assert prob_rates_differ(found, 0.2) == pytest.approx(share, abs=5 * 0.5 / 200)


def test_rat_tumours_by_brute_force():
    """The two values that the source prints cut: sums over log(a / b) and log(a + b)."""
    case = json.loads((REAL / "reference" / "rat_tumours.json").read_text())
    y, n = (np.array([row[i] for row in case["studies"]], float) for i in (1, 2))
    x, v = np.linspace(-2.6, -1, 500)[:, None], np.linspace(0.5, 9, 700)
    a, b = special.expit(x) * np.exp(v), special.expit(-x) * np.exp(v)
    log_p = -2.5 * v + np.log(a) + np.log(b)
    log_p -= len(y) * special.betaln(a, b)
    for (r, t), times in Counter(zip(y, n, strict=True)).items():
        log_p += times * special.betaln(a + r, b + t - r)
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    effects = dfsp.BetaBinomial(concentration=Pareto(0.5, 1e-4))
    found = solve(y, n, Model(effects=effects))
    end = float(found.mean_rate.quantile(0.975)[0])
    rows = weight.sum(1)
    assert np.interp(special.logit(end), x[:, 0], np.cumsum(rows) - rows / 2) == pytest.approx(
        0.975, abs=1e-4
    )
    low = found.studies[-1, 2]
    assert (weight * special.betainc(a + 4, b + 10, low)).sum() == pytest.approx(0.025, abs=1e-4)
    assert round(end, 5) == 0.17196
    assert round(float(low), 5) == 0.08653
    assert np.isnan(found.concentration.mean)  # the prior's tail has none


@pytest.mark.parametrize("df", [2, 4, 47])
@pytest.mark.parametrize("counts", [(0, 455), (12, 24), (95, 100), (400, 1000)])
@pytest.mark.parametrize("tau", [0.02, 0.5, 4])
def test_the_likelihood_under_heavy_tails_by_adaptive_quadrature(df, counts, tau):
    """Also where only the tail reaches the counts: mu = 0 is 100 tau away from some of them."""
    from scipy.integrate import quad

    r, n = counts
    peak = special.logit((r + 0.5) / (n + 1))
    sd = 1 / np.sqrt(n * special.expit(peak) * special.expit(-peak))

    def height(x):
        return binomial(r, n, x) * stats.t.pdf(x / tau, df) / tau

    breaks = sorted({-45.0, peak - 8 * sd, peak, peak + 8 * sd, -6 * tau, 0.0, 6 * tau, 45.0})
    breaks = [b for b in breaks if abs(b) <= 45]
    pieces = itertools.pairwise(breaks)
    mass = sum(quad(height, a, b, epsabs=0, epsrel=1e-9, limit=200)[0] for a, b in pieces)
    if r == 0:
        mass += stats.t.cdf(-45 / tau, df)  # where the rate is 0 to double precision
    found = dfsp.StudentT(df).log_likelihood(
        np.array([r], float), np.array([n], float), np.zeros(1), np.full(1, tau), 3
    )
    assert found[0, 0] == pytest.approx(np.log(mass), abs=2e-6)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_without_any_study_the_prior_stands(family):
    found = prior_of(Model(effects=family))
    assert found.log_marginal_likelihood == pytest.approx(0, abs=1e-7)
    assert found.mean_rate.mean == pytest.approx(0.5, abs=1e-6)  # by symmetry
    assert found.new_study_rate.quantile(0.5)[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.slow
def test_huge_and_tiny_studies_stay_in_range():
    for effects in (T4, HALF, ROUND):
        found = solve([0, 1, 99_999, 50_000], [1, 1, 100_000, 100_000], Model(effects=effects))
        assert np.isfinite(found.studies).all()
        assert ((found.studies >= 0) & (found.studies <= 1)).all()
        assert (np.diff(found.studies[:, 2:], axis=1) >= 0).all()
        assert (np.diff(found.new_study_rate.quantile([0.025, 0.5, 0.975])) > 0).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Model(effects="no-such"), "'no-such' are not known; use one of normal, student-t"),
        (lambda: dfsp.StudentT(0.5), "df = 0.5; give a number from 1"),
        (lambda: dfsp.StudentT(True), "df = True"),
        (lambda: dfsp.Exnex(1.1), "exchangeable = 1.1; give a number from 0 to 1"),
        (lambda: dfsp.Exnex(0.5, 0, 0), "sd = 0"),
        (lambda: dfsp.BetaBinomial(a=0), "a = 0"),
        (lambda: dfsp.BetaBinomial(concentration=dfsp.Normal()), "prior of a positive number"),
        (lambda: Model(mu=dfsp.Normal(0, 1), effects="beta-binomial"), "have no mu and tau; give"),
        (lambda: Model(tau=dfsp.Fixed(1), effects="beta-binomial"), "priors of the mean and the"),
        (lambda: effects_of("exnex", df=3), "exnex effects have no df; they take exchangeable"),
        (lambda: effects_of("normal", df=3), "they take no parameter"),
    ],
)
def test_faults(make, says):
    with pytest.raises(dfsp.DfspError, match=says):
        make()


def test_what_needs_mu_or_normal_effects_says_so(table):
    result = dfsp.fit(table, Model(effects="beta-binomial"))
    for function in (dfsp.sensitivity.influence, dfsp.sensitivity.power_scaling):
        with pytest.raises(dfsp.DfspError, match="beta-binomial effects do not have"):
            function(result)
    with pytest.raises(dfsp.DfspError, match="student-t effects: "):
        dfsp.calibration.coverage(table, model=Model(effects="student-t"))
    without = result.leave_one_out()
    assert list(without.columns) == ["with_it", "mean_rate", "low", "high", "concentration"]
    assert without["mean_rate"].between(0, 1).all()
    size = dfsp.planning.effective_sample_size(result)
    assert size.value is None


@pytest.mark.parametrize("family", list(FAMILIES))
def test_results_as_data_and_text(table, family):
    import jsonschema

    from dfsp.schemas import schema

    result = dfsp.fit(table, Model(effects=family))
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    jsonschema.validate(found, schema("fit"))
    assert found["model"]["effects"] == family
    assert ("concentration" in found) == family.startswith("beta-binomial")
    assert (found["typical_rate"]["q50"] is None) == family.startswith("beta-binomial")
    assert ("exchangeable" in found["studies"][0]) == (family == "exnex")
    text = result.page()
    assert "nan" not in text.lower()
    assert ("rate of a typical study" in text) == (not family.startswith("beta-binomial"))
    assert f"{100 * found['mean_rate']['mean']:.1f}" in text
    assert "nan" not in result.heterogeneity().describe()
    assert family in repr(result)


@pytest.mark.parametrize("tau", [1e-9, 0.01, 0.9, 1.1, 5.0])
def test_moments_of_a_rate_by_quadrature(tau):
    # SciPy's adaptive rule over the standard normal effect
    for mu in (-4.0, 0.3):
        found = dfsp.model.effects.NormalEffects().moments(np.full(1, mu), np.full(1, tau))
        for power, moment in zip((1, 2), found, strict=True):
            value, _ = integrate.quad(
                lambda z, mu=mu, power=power: special.expit(mu + tau * z) ** power * stats.norm.pdf(z),
                -12, 12, points=[-mu / tau] if tau > 0.5 else None, epsabs=1e-12, limit=200,
            )  # fmt: skip
            assert moment[0] == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("df", [1, 4, 30])
def test_moments_of_a_rate_under_student_t_by_sums(df):
    """All at once, as a grid asks for them: rare rates that are of the tail, and others."""
    mu, tau = (x.ravel() for x in np.meshgrid([-30.0, -8, -1, 0], [1e-3, 0.3, 1.0, 4.0]))
    found = dfsp.StudentT(df).moments(mu, tau)
    # Sums over t = sqrt(df) sinh(x), fine enough for the narrowest rate
    x = np.linspace(-30, 60, 60_001) if df < 30 else np.linspace(-3, 12, 60_001)
    weight = np.exp(-df * np.log(np.cosh(x)))
    weight /= weight.sum()
    for each in range(len(mu)):
        rate = special.expit(mu[each] + tau[each] * np.sqrt(df) * np.sinh(x))
        wanted = [rate @ weight, rate**2 @ weight]
        assert [one[each] for one in found] == pytest.approx(wanted, rel=2e-7)


@pytest.mark.parametrize(
    ("events", "total"),
    [
        ([0, 40, 600], [200_000, 1_000_000, 3_000_000]),
        ([999_998, 4_999], [1_000_000, 5_000]),
        ([100, 900, 40], [1_000, 1_000, 5_000]),
    ],
)
def test_large_studies_of_student_t_effects_have_the_quick_way(events, total):
    """Against the sum over normals, study by study, which holds 3e-8; rare events are few points."""
    events, total = np.array(events, float), np.array(total, float)
    rng = np.random.default_rng(1)
    tau = np.exp(rng.uniform(-6, 1, 30))
    mu = rng.normal(np.log(events.sum() / (total - events).sum()), 1, 30)
    effects = dfsp.StudentT(4)
    quick = effects._kernel.log_likelihood(events, total, mu, tau, 2)
    slow = effects._by_normals(events, total, mu, tau, 3)
    told = np.isfinite(quick)
    assert told.all(0).mean() > 0.5  # in the tail of a narrow study it does not tell
    assert np.abs(quick - slow)[told].max() < 5e-8
    assert (slow[~told] < slow.max(1).min()).all()


@pytest.mark.parametrize(
    ("events", "total", "mu", "tau"),
    [(3, 10, 0.0, 1.0), (0, 200, -5.0, 2.0), (3, 1e6, -12.0, 1.0), (5, 10, 0.0, 0.05)],
)
def test_an_effect_is_drawn_from_its_distribution(events, total, mu, tau):
    """The share below each draw, by sums over fine points, is the level that it was drawn for."""
    number = 1000
    drawn = dfsp.NormalEffects().draw_given(
        events, total, np.full(number, mu), np.full(number, tau), np.random.default_rng(4)
    )
    x = np.linspace(mu - 12 * tau, mu + 12 * tau, 200_001)
    height = events * x - total * np.logaddexp(0, x) - ((x - mu) / tau) ** 2 / 2
    below = integrate.cumulative_trapezoid(np.exp(height - height.max()), x, initial=0)
    level = np.random.default_rng(4).uniform(size=number)
    assert np.interp(drawn, x, below / below[-1]) == pytest.approx(level, abs=1.2e-4)
