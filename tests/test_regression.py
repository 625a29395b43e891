"""Meta-regression against brute force, NUTS, and what must be refused."""

import coefficient_coverage
import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline
from scipy.special import expit, gammaln, logit

import dfsp
from dfsp.analyses.regression.design import Column, levels_of, standard_of
from dfsp.analyses.regression.fitting import Exact, weak_partners
from dfsp.engine.linear import LinearPosterior, _lattice, _sequence, _taylor


@pytest.fixture(scope="module")
def dosed(review):
    return dfsp.regression.log2_of(review, "dose_mg", 800)


@pytest.fixture(scope="module")
def both(dosed):
    return dfsp.regression.regress(*dosed, engine="both")


def brute_force(events, total, x):
    """Density of (tau, mu, b) on a dense grid, study effects by Gauss-Hermite; default priors.

    Those are Normal(0, 2) at the mean of x and Normal(0, 2.5) for one standard deviation of it.
    """
    mu, b = np.linspace(-4.5, 6, 71), np.linspace(-7, 8, 151)
    centre, unit = np.mean(x), np.std(x) / 2.5
    t, w = np.polynomial.legendre.leggauss(30)
    tau, w = 3 * (t + 1), 3 * w
    z, wz = np.polynomial.hermite_e.hermegauss(60)
    wz = wz / wz.sum()
    m, s = np.meshgrid(mu, b, indexing="ij")
    log_p = np.empty((30, *m.shape))
    for k, sd in enumerate(tau):
        log_p[k] = -0.5 * ((m + s * centre) / 2) ** 2 - 0.5 * (s * unit) ** 2 - 0.5 * sd**2
        log_p[k] += np.log(w[k] * unit) + np.log(2) - 1.5 * np.log(2 * np.pi) - np.log(2)
        for xi in np.unique(x):
            theta = (m + s * xi)[..., None] + sd * z
            log_no = -np.logaddexp(0, theta)
            for r, n in zip(events[x == xi], total[x == xi], strict=True):
                choose = gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)
                log_p[k] += np.log(np.exp(choose + r * theta + n * log_no) @ wz)
    top = log_p.max()
    p = np.exp(log_p - top)
    evidence = top + np.log(p.sum() * (mu[1] - mu[0]) * (b[1] - b[0]))
    return mu, b, tau, p / p.sum(), evidence


@pytest.fixture(scope="module")
def dense(dosed):
    counts, name = dosed
    return brute_force(counts.table["events"], counts.table["total"], counts.table[name])


def test_against_brute_force(dosed, both, dense):
    _, name = dosed
    mu, b, tau, p, evidence = dense
    assert both.log_marginal_likelihood == pytest.approx(evidence, abs=1e-4)
    for row, axis, values in (("intercept", (0, 2), mu), (name, (0, 1), b)):
        marginal = p.sum(axis)
        mean = marginal @ values
        own = both.coefficients.loc[row]
        assert own["mean"] == pytest.approx(mean, abs=1e-4)
        assert own["sd"] == pytest.approx(np.sqrt(marginal @ (values - mean) ** 2), abs=1e-4)
        # The integral of a spline of the density, at the quantiles found
        cdf = CubicSpline(values, marginal / (values[1] - values[0])).antiderivative()
        assert cdf(own[["q2.5", "q50", "q97.5"]].astype(float)) == pytest.approx(
            [0.025, 0.5, 0.975], abs=1e-4
        )
    spread = p.sum((1, 2))
    assert both.coefficients.loc["tau", "mean"] == pytest.approx(spread @ tau, abs=1e-4)
    for level, x in (("-1", -1.0), ("0", 0.0)):
        rate = 1 / (1 + np.exp(-(mu[:, None] + b * x)))
        exact = (p.sum(0) * rate).sum()
        own = both.rates.loc[(f"{name} = {level}", "typical rate"), "mean"]
        assert own == pytest.approx(exact, abs=1e-5)


def test_nuts_agrees(both):
    """Intercept, slope, tau and the rate at each dose within 4 Monte Carlo standard errors."""
    agreement = [check for check in both.checks if check.name.startswith("agreement")]
    assert len(agreement) == 6
    assert all(check.passed for check in both.checks)


def test_a_finer_lattice_changes_little(dosed, monkeypatch):
    rough = dfsp.regression.regress(*dosed)
    rates, apart = rough.rates, rough.contrasts()  # computed when asked for, so before the change
    finer = {"LATTICE_STEP": 0.5, "SHARE": 1e-13, "PLACES": 50, "TABLE_CELLS": 1024}
    finer |= {"ROWS": (56, 80, 128)}
    for name, value in finer.items():
        monkeypatch.setattr(f"dfsp.engine.linear.{name}", value)
    _taylor.cache_clear()
    _lattice.cache_clear()
    fine = dfsp.regression.regress(*dosed)
    assert np.abs(rates - fine.rates).max().max() < 1e-5
    assert np.abs(apart - fine.contrasts()).max().max() < 1e-5
    _taylor.cache_clear()
    _lattice.cache_clear()


def test_a_difference_against_brute_force(both, dense):
    """Sums over a dense grid of (tau, mu, b): no line, no interpolation."""
    mu, b, _, p, _ = dense
    weight = p.sum(0)
    apart = 1 / (1 + np.exp(-mu[:, None])) - 1 / (1 + np.exp(-(mu[:, None] - b)))
    row = both.contrast(*[n for n in both.levels if not n.endswith("-0.415")])
    assert row["mean"] == pytest.approx((weight * apart).sum(), abs=1e-5)
    square = (weight * apart**2).sum() - (weight * apart).sum() ** 2
    assert row["sd"] == pytest.approx(np.sqrt(square), abs=1e-5)
    # Rates closer than 0.1: at each mu between two values of b, of a spline's integral
    equal = 0.0
    for at, density in zip(mu, weight / (b[1] - b[0]), strict=True):
        rates = np.clip(expit(at) + np.array([-0.1, 0.1]), 0, 1)
        high, low = np.clip(at - logit(rates), b[0], b[-1])
        equal += CubicSpline(b, density).integrate(low, high)
    assert row["equal"] == pytest.approx(equal, abs=1e-4)
    turned = both.contrast(row.name.split(" minus ")[0], row.name.split(" minus ")[1])
    assert turned["q2.5"] == pytest.approx(-row["q97.5"], abs=1e-6)
    assert turned["above"] == pytest.approx(1 - row["above"], abs=1e-6)


def test_no_effect_is_the_plain_hierarchy(dosed, review):
    tiny = dfsp.regression.regress(*dosed, coefficient=dfsp.Normal(0, 1e-4))
    plain = dfsp.fit(review)
    assert tiny.log_marginal_likelihood == pytest.approx(
        plain.exact.log_marginal_likelihood, abs=1e-5
    )
    at = tiny.rates.index[0][0]
    for kind, quantity in (
        ("typical rate", "typical_rate"),
        ("mean rate", "mean_rate"),
        ("new-study rate", "new_study_rate"),
    ):
        own = tiny.rates.loc[(at, kind)].to_numpy(float)
        assert own == pytest.approx(plain.summary.loc[quantity].to_numpy(float), abs=3e-4)
    factors = dfsp.regression.bayes_factors(*dosed, sds=(1e-4, 1.0))
    assert factors.loc[1e-4, "bayes_factor"] == pytest.approx(1, abs=1e-5)
    assert factors.loc[1.0, "bayes_factor"] < 1


NO_EFFECT = {
    "all or none": ([0, 10, 0, 12, 0, 11], [10, 10, 12, 12, 11, 11], dfsp.HalfCauchy(1)),
    "one event in 10": ([0, 1, 0], [10, 10, 10], dfsp.HalfNormal(1)),
    "large and small": ([300, 2, 0, 40], [1000, 3, 5, 70], dfsp.Exponential(0.5)),
    "tau known": ([3, 5, 9, 1], [12, 12, 20, 8], dfsp.Fixed(0.7)),
}


@pytest.mark.parametrize("case", NO_EFFECT)
def test_a_coefficient_without_room_leaves_the_single_fit(case, make):
    """A prior of sd 1e-6: every quantile and moment is that of `fit`, whose own tests are dense."""
    events, total, tau = NO_EFFECT[case]
    rows = [(f"S{i}", r, n) for i, (r, n) in enumerate(zip(events, total, strict=True))]
    counts = dfsp.Counts.of(make(rows).table.assign(x=np.arange(len(events)) % 2 - 0.5))
    model = dfsp.Model(tau=tau)
    found = dfsp.regression.regress(counts, "x", model=model, coefficient=dfsp.Normal(0, 1e-6))
    plain = dfsp.fit(counts, model).exact
    assert found.log_marginal_likelihood == pytest.approx(plain.log_marginal_likelihood, abs=2e-5)
    for (_, rate), row in found.rates.iterrows():
        own = getattr(plain, rate.replace(" ", "_").replace("-", "_")).summary()
        assert row.to_numpy(float) == pytest.approx(own, abs=2e-5)
    for name, quantity in (("intercept", "mu"), ("tau", "tau")):
        own = getattr(plain, quantity).summary()
        row = found.coefficients.loc[name, list(found.rates)].to_numpy(float)
        assert row == pytest.approx(own, rel=2e-5, abs=2e-5, nan_ok=True)


def test_the_reviews_groups(review):
    sums = review.table.groupby("dose_mg")[["events", "total"]].sum()
    assert sums.loc[400].to_list() == [27, 40]
    assert sums.loc[800].to_list() == [49, 73]
    assert sums.loc[600].to_list() == [16, 39]


@pytest.fixture(scope="module")
def by_dose():
    return dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response")


@pytest.fixture(scope="module")
def beside(by_dose):
    groups = dfsp.regression.as_groups(by_dose, "dose_mg", " mg")
    how = {"engine": "both", "draws": 1000, "coefficient": dfsp.Normal(0, 1)}
    return dfsp.regression.regress(groups, ["dose_mg", "setting"], **how)


@pytest.fixture(scope="module")
def crossed(by_dose):
    """600 mg and neoadjuvant treatment together: two coefficients that are hard to tell apart."""
    table = by_dose.table
    table = table.assign(
        high=(table["dose_mg"] == 600).astype(float),
        before=(table["setting"] == "neoadjuvant").astype(float),
    )
    prior = dfsp.Normal(0, 1)
    return dfsp.regression.regress(dfsp.Counts.of(table), ["high", "before"], coefficient=prior)


def test_two_coefficients_against_brute_force(crossed):
    """Sums over (tau, mu, b_1, b_2) with one spacing for all, so that predictors are on one grid."""
    table = crossed.counts.table
    step = 0.1
    mu, b = np.arange(-60, 61) * step, np.arange(-50, 51) * step
    eta = np.arange(-160, 161) * step
    t, w = np.polynomial.legendre.leggauss(30)
    tau, w = 2.75 * (t + 1), 2.75 * w
    z, wz = np.polynomial.hermite_e.hermegauss(80)
    wz = wz / wz.sum()
    # Two groups each, whose difference is Normal(0, 1); mu belongs to the average study.
    first, second = table[["high", "before"]].mean()
    middle = mu[:, None, None] + first * b[:, None] + second * b
    prior = -0.5 * (middle / 2) ** 2 - 0.5 * b[:, None] ** 2 - 0.5 * b**2
    prior = prior - np.log(2) - 1.5 * np.log(2 * np.pi) + 3 * np.log(step)
    mass, sums = np.empty(len(tau)), np.empty((len(tau), 5))
    tops = np.empty(len(tau))
    for k, sd in enumerate(tau):
        log_p = prior + np.log(2 * w[k]) - 0.5 * sd**2 - 0.5 * np.log(2 * np.pi)
        for r, n, x, y in table[["events", "total", "high", "before"]].itertuples(index=False):
            theta = eta[:, None] + sd * z
            choose = gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)
            own = np.log(np.exp(choose + r * theta - n * np.logaddexp(0, theta)) @ wz)
            place = np.arange(-60, 61)[:, None, None] + x * np.arange(-50, 51)[:, None]
            place = (place + y * np.arange(-50, 51) + 160).astype(int)
            log_p = log_p + own[place]
        tops[k] = log_p.max()
        p = np.exp(log_p - tops[k])
        mass[k] = p.sum()
        first, second = p.sum((0, 2)) @ b, p.sum((0, 1)) @ b
        rate = p.sum((1, 2)) @ (1 / (1 + np.exp(-mu)))
        sums[k] = p.sum((1, 2)) @ mu, first, second, rate, p.sum((0, 2)) @ b**2
    weight = mass * np.exp(tops - tops.max())
    log_total = np.log(weight.sum()) + tops.max()
    means = (weight / mass) @ sums / weight.sum()
    found = crossed.coefficients
    assert crossed.engine == "exact"
    assert crossed.log_marginal_likelihood == pytest.approx(log_total, abs=1e-4)
    assert found["mean"].iloc[:3].to_numpy(float) == pytest.approx(means[:3], abs=1e-4)
    assert found["sd"].iloc[1] == pytest.approx(np.sqrt(means[4] - means[1] ** 2), abs=1e-4)
    assert found.loc["tau", "mean"] == pytest.approx(weight @ tau / weight.sum(), abs=1e-4)
    at = crossed.rates.loc[("high = 0; before = 0", "typical rate"), "mean"]
    assert at == pytest.approx(means[3], abs=1e-5)
    assert crossed.checks[0].value < 1e-5


def test_every_predictor_gives_the_same_mass(crossed):
    """Lines in any direction sum to one log marginal likelihood and one distribution of tau."""
    posterior = crossed.posterior
    whole = posterior.log_marginal_likelihood
    for v in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]):
        own = posterior.population(v)
        assert own.log_marginal_likelihood == pytest.approx(whole, abs=1e-6)
        assert own.tau.mean == pytest.approx(posterior.population([1, 0, 0]).tau.mean, abs=1e-7)


def test_confounded_coefficients_are_known_only_together(beside):
    """All 600 mg cohorts are neoadjuvant, and only four patients at 800 mg are so too."""
    assert beside.engine == "both" and all(check.passed for check in beside.checks)
    table = beside.coefficients["identified"]
    first, second = "dose_mg: 600 mg", "setting: neoadjuvant"
    assert table[first] == table[second] == "only together"
    assert table["dose_mg: 400 mg"] == "yes"
    assert {name: list(other) for name, other in beside.partners.items()} == {
        first: [second],
        second: [first],
    }
    assert beside.partners[first][second] == pytest.approx(0.930, abs=0.002)
    for text in (beside.describe(), beside.identification()):
        assert (
            f"{first} and {second} cannot be told apart: only Han 2009 (4 patients) separates them;"
        ) in text
    assert f"{first}: -0." in beside.describe()


@pytest.mark.slow
def test_identifiability_is_the_same_whatever_the_seed(by_dose, beside):
    groups = dfsp.regression.as_groups(by_dose, "dose_mg", " mg")
    again = dfsp.regression.regress(
        groups, ["dose_mg", "setting"], engine="nuts", draws=1000, seed=7,
        coefficient=dfsp.Normal(0, 1),
    )  # fmt: skip
    same = ["sd_ratio", "identified"]
    pd.testing.assert_frame_equal(again.coefficients[same], beside.coefficients[same])
    sampled = (again.coefficients["sd"] / again.coefficients["prior_sd"]).iloc[:-1]
    ratio = beside.coefficients["sd_ratio"].iloc[:-1]
    assert ratio.to_numpy() == pytest.approx(sampled.to_numpy(), rel=0.06)


def test_moments_of_more_coefficients_than_a_lattice_holds(dosed, monkeypatch):
    """The same three coefficients by lattice and by sequence, and by four times the points."""
    events, total = (dosed[0].table[c].to_numpy(float) for c in ("events", "total"))
    design = np.random.default_rng(1).normal(size=(len(events), 3))

    def moments():
        _sequence.cache_clear()
        return LinearPosterior(events, total, design, dfsp.Model(), dfsp.Normal(0, 1)).moments

    lattice = moments()
    monkeypatch.setattr("dfsp.engine.linear.MOST_COEFFICIENTS", 2)
    few = moments()
    monkeypatch.setattr("dfsp.engine.linear.IN_SEQUENCE", 16384)
    many = moments()
    _sequence.cache_clear()
    for one, two, three in zip(lattice, few, many, strict=True):
        assert two == pytest.approx(one, abs=5e-3)
        assert three == pytest.approx(one, abs=5e-3)


def test_partners_are_those_of_the_weak_direction():
    """Sum of the first two known, their difference not."""
    turn = np.array([[1, 1, 0], [1, -1, 0], [0, 0, 2**0.5]]) / 2**0.5
    covariance = turn.T @ np.diag([0.1, 0.95, 0.2]) @ turn
    found = weak_partners(covariance, list("abc"), 1.0)
    assert {name: list(other) for name, other in found.items()} == {"a": ["b"], "b": ["a"]}
    assert found["a"]["b"] == pytest.approx(0.95**0.5)
    assert weak_partners(covariance, list("abc"), 2.0) == {}


def test_confounding_is_said_from_the_counts(by_dose, make):
    text = dfsp.regression.confounding(by_dose)
    assert "600 mg only neoadjuvant.\n" not in text and "\nConfounded: 400 mg only" in text
    assert "Only Han 2009 (4 patients, 800 mg, neoadjuvant) tells dose and setting apart." in text
    assert "800 mg, neoadjuvant: 1 cohort, 4 of 4" in text
    pooled = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    assert "No dose: Rutkowski 2010 (pooled), 11 of 24 patients." in dfsp.regression.confounding(
        pooled
    )
    rows = [(name, 3, 9) for name in "ABCD"]
    table = make(rows).table.assign(
        dose_mg=[400, 400, 800, 800], setting="advanced", treatment_months_median=np.nan
    )
    same = dfsp.regression.confounding(dfsp.Counts.of(table))
    assert "The setting does not vary: advanced." in same and "Confounded" not in same
    crossed = table.assign(setting=["advanced", "neoadjuvant"] * 2)
    assert "more than one setting" in dfsp.regression.confounding(dfsp.Counts.of(crossed))
    nested = table.assign(setting=["advanced", "advanced", "neoadjuvant", "neoadjuvant"])
    assert "No cohort tells" in dfsp.regression.confounding(dfsp.Counts.of(nested))


@pytest.fixture(scope="module")
def years(make):
    rows = [("A", 8, 40), ("B", 12, 40), ("C", 16, 40), ("D", 20, 40), ("E", 24, 40), ("F", 28, 40)]
    return dfsp.Counts.of(make(rows).table.assign(year=range(2010, 2016), far=np.arange(6) - 2))


def test_numbers_far_from_0_are_centred(years):
    """The prior of mu must not fix the slope; a covariate that holds 0 stays as it is."""
    result = dfsp.regression.regress(years, "year")
    assert list(result.design) == ["year"] and result.columns["year"].centre == 2012
    table = years.table.assign(by_hand=years.table["year"] - 2012)
    by_hand = dfsp.regression.regress(dfsp.Counts.of(table), "by_hand")
    numbers = ["mean", "sd", "q2.5", "q97.5"]
    assert result.coefficients.iloc[1][numbers].to_list() == pytest.approx(
        by_hand.coefficients.iloc[1][numbers].to_list()
    )
    assert result.coefficients.loc["year", "q2.5"] > 0.15
    assert list(result.levels) == [f"year = {year}" for year in range(2010, 2016)]
    assert list(dfsp.regression.regress(years, "far").design) == ["far"]
    assert "year from 2012: 0.4" in result.describe()


def test_a_centre_is_near_the_mean_and_round(make):
    rows = [("A", 3, 10), ("B", 4, 10), ("C", 5, 20), ("D", 6, 20)]
    for values, centre in (
        ([400, 400, 800, 800], 670),
        ([-5.03, -5.02, -5.01, -5.0], -5.012),
        ([1, 2, 3, 4], 2.8),
    ):
        found = dfsp.regression.regress(make(rows).table.assign(x=values), "x")
        assert found.columns["x"].centre == centre
        assert found.coefficients.index.to_list() == ["intercept", "x", "tau"]
        assert f"x from {centre:g}: " in found.describe()


def test_small_slopes_have_digits(by_dose):
    text = dfsp.regression.regress(by_dose, "dose_mg").describe()
    assert "0.00 (-0.00 to 0.00" not in text
    assert "0.0002 (-0.0039 to 0.0048" in text


def test_close_values_stay_apart(make):
    """Eight values that agree in three digits are eight rows."""
    rows = [(name, i + 1, 12) for i, name in enumerate("ABCDEFGH")]
    values = 0.001 * np.arange(8) - 0.002 + np.array([0, *[1.0] * 7])
    result = dfsp.regression.regress(dfsp.Counts.of(make(rows).table.assign(x=values)), "x")
    assert len(result.rates.xs("typical rate", level="rate")) == 8


def test_a_number_with_a_colon_in_its_name_is_no_group(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9), ("D", 6, 9)]).table
    table = table.assign(**{"arm: b": [-1.0, 0.0, 1.0, 2.0]})
    result = dfsp.regression.regress(dfsp.Counts.of(table), "arm: b")
    assert list(result.levels) == [f"arm: b = {x}" for x in (-1, 0, 1, 2)]


def test_rows_of_groups_are_named_by_their_levels(beside):
    names = list(levels_of(beside.design, beside.columns))
    assert "dose_mg: 800 mg; setting: advanced" in names
    assert "dose_mg: 600 mg; setting: neoadjuvant" in names
    assert len(names) == 4


def test_infinite_covariates_are_refused(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9)]).table.assign(x=[0.0, np.inf, 1.0])
    with pytest.raises(dfsp.DfspError, match="x: not finite for B"):
        dfsp.regression.regress(dfsp.Counts.of(table), "x")


@pytest.mark.parametrize("name", ["study", "events", "total", "shares_patients_with"])
def test_counts_are_no_covariates(review, name):
    with pytest.raises(dfsp.DfspError, match=f"'{name}' is no covariate; known: cohort, dose_mg"):
        dfsp.regression.regress(review, name)
    with pytest.raises(dfsp.DfspError, match="no covariate is given; known: cohort, dose_mg"):
        dfsp.regression.regress(review, [])


def test_the_share_of_metastatic_patients(review):
    counts, name = dfsp.regression.share_of(review, "metastatic", "enrolled")
    shares = counts.table.set_index("study")[name]
    assert shares["Wang 2015"] == pytest.approx(12 / 22)
    result = dfsp.regression.regress(counts, name)
    assert set(result.design.index) == set(shares.dropna().index)
    text = result.describe()
    assert "(5 left out: Kérob 2010, Heinrich 2008, Han 2009, " in text
    assert text.count("metastatic/enrolled is not known") == 1
    assert dfsp.regression.covariate(counts, name) == result.describe()
    few = dfsp.without(counts, result.design.index[1:])
    assert dfsp.regression.covariate(few, name).startswith(f"Nothing can be said of {name}: ")
    with pytest.raises(dfsp.DfspError, match="'setting' holds something other than numbers"):
        dfsp.regression.share_of(review, "setting", "enrolled")


def test_two_doses_as_groups_are_exact(by_dose):
    """The review's own question: 400 mg against 800 mg is one coefficient."""
    both_doses = dfsp.without(by_dose, ["Ugurel 2014", "Kérob 2010"])
    groups = dfsp.regression.as_groups(both_doses, "dose_mg", " mg")
    result = dfsp.regression.regress(groups, "dose_mg")
    assert result.engine == "exact"
    (row,) = result.contrasts(0.1).itertuples()
    assert row.Index == "dose_mg: 400 mg minus dose_mg: 800 mg"
    text = result.difference(0.1).describe()
    assert "at 800 mg" in text and "at 400 mg" in text and "do not show" in text
    wide = result.difference(0.6).describe()
    assert "practically equal (closer than 60 points)" in wide and "do not show" not in wide
    factors = dfsp.regression.bayes_factors(groups, "dose_mg")
    assert (factors["bayes_factor"] < 1).all()


def test_headlines_name_doses(dosed):
    text = dfsp.regression.regress(*dosed).difference().describe()
    assert "% at 400 mg and" in text and "% at 800 mg;" in text


def test_a_coefficient_without_information_is_not_identifiable(make):
    table = make([("A", 1, 2), ("B", 1, 2), ("C", 1, 2)]).table.assign(x=[0.0, 0.0, 1.0])
    result = dfsp.regression.regress(table, "x", coefficient=dfsp.Normal(0, 0.1))
    assert result.coefficients.loc["x", "identified"] == "no"
    text = result.describe()
    assert "not identifiable" in text and "x: 0.00 (-0.20 to 0.20" in text
    assert result.identification().startswith("x is not identifiable")


def test_missing_covariates_are_reported_and_not_imputed(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9), ("D", 6, 9)]).table
    table = table.assign(x=[1.0, 2.0, np.nan, 3.0])
    result = dfsp.regression.regress(dfsp.Counts.of(table), "x")
    assert len(result.design) == 3
    assert result.counts.dropped.to_numpy().tolist() == [["C", "x is not known"]]
    assert "1 left out: C, x is not known" in result.describe()


@pytest.fixture(scope="module")
def doses(make):
    rows = [("A", 3, 20), ("B", 7, 24), ("C", 9, 18), ("D", 4, 30), ("E", 12, 31), ("F", 6, 11)]
    table = make(rows).table
    return table.assign(mg=[100.0, 200.0, 400.0, 100.0, 300.0, 400.0], arm=[*"abcabc"])


def test_a_slope_is_the_same_in_every_unit(doses):
    """Per mg, per g and per picogram; its prior, its sensitivity and the rates are those of one."""
    one = dfsp.regression.regress(doses, "mg")
    row, rates = one.coefficients.iloc[1], one.rates.to_numpy(float)
    for factor in (1e-3, 1e9):
        table = doses.assign(mg=doses["mg"] * factor)
        other = dfsp.regression.regress(table, "mg")
        own = other.coefficients.iloc[1]
        for name in ("mean", "sd", "q2.5", "q50", "q97.5", "prior_sd"):
            assert own[name] * factor == pytest.approx(row[name], rel=1e-7)
        for name in ("location", "width", "sd_ratio"):
            assert own[name] == pytest.approx(row[name], rel=1e-7)
        assert other.rates.to_numpy(float) == pytest.approx(rates, abs=1e-9)
    assert row["prior_sd"] == pytest.approx(2.5 / doses["mg"].std(ddof=0))


def with_reference(table, reference):
    """The exact posterior of three arms, told from one of them; rows of the design by arm."""
    levels = [level for level in "abc" if level != reference]
    columns = {level: Column("arm", level, reference) for level in levels}
    design = pd.DataFrame({level: (table["arm"] == level).astype(float) for level in levels})
    standard = standard_of(design, columns)
    exact = Exact.of(dfsp.Counts(table), standard, dfsp.Model(), dfsp.Normal(0, 2.5))
    return exact, {arm: [1.0, *(float(arm == level) for level in levels)] for arm in "abc"}


def test_groups_do_not_depend_on_the_reference(doses):
    """Rates, differences and the log marginal likelihood are those of every other reference."""
    one, rows = with_reference(doses, "a")
    for reference in "bc":
        other, turned = with_reference(doses, reference)
        assert other.log_marginal_likelihood == pytest.approx(one.log_marginal_likelihood, abs=1e-7)
        for arm in "abc":
            own, again = one.population(rows[arm]), other.population(turned[arm])
            assert again.typical_rate.summary() == pytest.approx(
                own.typical_rate.summary(), abs=1e-6
            )
        for pair in ("ab", "ac", "bc"):
            (own, power), (again, other_power) = (
                exact.coefficient(np.subtract(at[pair[0]], at[pair[1]]))
                for exact, at in ((one, rows), (other, turned))
            )
            assert again == pytest.approx(own, abs=1e-5)
            assert other_power == pytest.approx(power, abs=1e-6)


def test_every_difference_of_groups_has_the_prior(doses):
    exact, rows = with_reference(doses, "a")
    for pair in ("ab", "ac", "bc"):
        v = np.subtract(rows[pair[0]], rows[pair[1]])
        assert v @ exact.prior_covariance @ v == pytest.approx(2.5**2)


# Nine studies, a strong effect of a group: the published table of a review, names replaced.
INFECTION = (
    [100, 20, 150, 30, 200, 350, 50, 20, 70],
    [200, 500, 900, 1600, 800, 500, 120, 500, 650],
    [1, 0, 1, 0, 1, 1, 1, 0, 0],
)


@pytest.fixture(scope="module")
def infection():
    table = pd.DataFrame(dict(zip(("events", "total", "status"), INFECTION, strict=True)))
    return table.assign(study=[f"Study{i}" for i in range(1, 10)])


def test_a_strong_effect_of_a_group_is_not_pulled_to_0(infection):
    """Maximum likelihood: 2.67 (1.63 to 3.71), which a wide prior must come to.

    With the other group as reference it is that with its sign turned.
    """
    found = dfsp.regression.regress(infection, "status")
    row = found.coefficients.loc["status"]
    assert row["q50"] == pytest.approx(2.51, abs=0.005)
    turned = dfsp.regression.regress(infection.assign(status=1 - infection["status"]), "status")
    ends = ["q2.5", "q50", "q97.5"]
    own, other = (each.coefficients.loc["status"] for each in (found, turned))
    assert other[ends].to_numpy(float) == pytest.approx(-own[ends[::-1]].to_numpy(float), abs=1e-6)
    named = infection.assign(status=infection["status"].map({0: "no", 1: "yes"}))
    words = dfsp.regression.regress(named, "status").coefficients.loc["status: yes"]
    assert words[ends].to_numpy(float) == pytest.approx(own[ends].to_numpy(float), abs=1e-9)
    wide = dfsp.regression.regress(infection, "status", coefficient=dfsp.Normal(0, 100))
    assert wide.coefficients.loc["status", "q50"] == pytest.approx(2.67, abs=0.01)
    text = found.describe()
    assert "coefficients ~ Normal(mean 0, sd 2.5) for a difference of 1 in status" in text
    assert "2.10 and 2.63 under half and twice the prior's standard deviation" in text


def test_what_other_priors_give_is_what_they_give_when_fitted(infection):
    """And the derivative by the power of the prior is a central difference of refits.

    The prior of sd s to the power a is the one of sd s / sqrt(a).
    """
    prior, h = dfsp.Normal(0, 1), 0.01

    def fitted(sd):
        found = dfsp.regression.regress(infection, "status", coefficient=dfsp.Normal(0, sd))
        return found.coefficients.loc["status"]

    found = dfsp.regression.regress(infection, "status", coefficient=prior)
    for factor in (0.5, 1.0, 2.0):
        own = found.other_priors.loc[("status", factor)].to_numpy(float)
        again = fitted(factor).iloc[: len(own)].to_numpy(float)
        assert own == pytest.approx(again, abs=2e-4)
    up, down = (fitted(np.exp(-h * sign / 2)) for sign in (1, -1))
    width = found.coefficients.loc["status", "q97.5"] - found.coefficients.loc["status", "q2.5"]
    location = (up["mean"] - down["mean"]) / (2 * h) * 3.92 / width
    widths = [row["q97.5"] - row["q2.5"] for row in (up, down)]
    row = found.coefficients.loc["status"]
    assert row["location"] == pytest.approx(location, abs=2e-4)
    assert row["width"] == pytest.approx(np.log(widths[0] / widths[1]) / (2 * h), abs=2e-4)
    warned = found.prior_warning()
    assert f"pulls status down (location {row['location']:+.2f}, limit 0.25)" in warned
    assert warned in found.describe()


@pytest.mark.slow
def test_large_effects_are_covered():
    """A part of what the default prior rests on: 4 studies, true 3, where Normal(0, 1) fails.

    Of 60 intervals that cover with 0.95, 50 or fewer hold the truth with probability 0.0007.
    """
    found = coefficient_coverage.covered("two groups", 4, 3.0, 0.2, -1.0, 60)["coverage"]
    assert found[2.5] > 50 / 60
    assert found[1.0] < 50 / 60


def test_a_prior_that_hangs_on_the_reference_is_refused(infection):
    with pytest.raises(dfsp.DfspError, match="give a mean of 0"):
        dfsp.regression.regress(infection, "status", coefficient=dfsp.Normal(1, 1))


def test_two_levels_are_one_coefficient(make):
    table = make([("A", 30, 90), ("B", 32, 90), ("C", 60, 90), ("D", 62, 90)]).table
    result = dfsp.regression.regress(
        dfsp.Counts.of(table.assign(arm=["old", "old", "new", "new"])), "arm"
    )
    assert list(result.design) in (["arm: new"], ["arm: old"])
    row = result.contrasts().iloc[0]
    assert abs(row["q50"]) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("covariates", "options", "message"),
    [
        ("dosis", {}, "covariate 'dosis' is not a column; known: cohort, dose_mg"),
        (
            ["dose_mg", "setting", "year", "enrolled"],
            {"engine": "exact"},
            "takes up to 3 coefficients and there are 4",
        ),
        ("setting", {"engine": "stan"}, "engine 'stan' is not known"),
    ],
)
def test_what_cannot_be_used(review, covariates, options, message):
    with pytest.raises(dfsp.DfspError, match=message):
        dfsp.regression.regress(review, covariates, **options)


def test_levels_and_studies_must_suffice(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9)]).table
    same = dfsp.Counts.of(table.assign(x=[1, 1, 1]))
    with pytest.raises(dfsp.DfspError, match="only 1 is left; a covariate needs two"):
        dfsp.regression.regress(same, "x")
    with pytest.raises(dfsp.DfspError, match="no value is left"):
        dfsp.regression.regress(dfsp.Counts.of(table.assign(x=["", "", ""])), "x")
    many = dfsp.Counts.of(table.assign(x=["a", "b", "c"], y=[1, 2, 5]))
    with pytest.raises(dfsp.DfspError, match="3 coefficients for 3 studies"):
        dfsp.regression.regress(many, ["x", "y"])


def test_columns_that_follow_from_others_are_refused(doses):
    table = doses.assign(g=doses["mg"] / 1000, high=["no", "no", "yes", "no", "no", "yes"])
    table = table.assign(late=table["high"].map({"no": 0, "yes": 1}))
    for names, message in (
        (["mg", "g"], "g follows from mg: leave one of them out"),
        (["arm", "high"], "high: yes follows from arm: [abc]"),
        (["late", "high"], "high: (yes|no) follows from late"),
    ):
        with pytest.raises(dfsp.DfspError, match=message):
            dfsp.regression.regress(table, names)


def test_contrasts_refuse_what_is_not_there(both):
    first, second = list(both.levels)[:2]
    with pytest.raises(dfsp.DfspError, match="no such row of the design; known"):
        both.contrast(first, "1200 mg")
    with pytest.raises(dfsp.DfspError, match="difference of rates between 0 and 1"):
        both.contrast(first, second, 1.5)


def test_log2_of_refuses(review):
    with pytest.raises(dfsp.DfspError, match="is not a column"):
        dfsp.regression.log2_of(review, "dose", 800)
    with pytest.raises(dfsp.DfspError, match="other than positive numbers"):
        dfsp.regression.log2_of(review, "setting", 800)


def test_without_forgets_the_others_partners(review):
    rest = dfsp.without(review, ["McArthur 2005"])
    shares = rest.table.set_index("study")["shares_patients_with"]
    assert shares["Heinrich 2008"] == ""
    with pytest.raises(dfsp.DfspError, match="'Nobody 1999' is not known"):
        dfsp.without(review, ["Nobody 1999"])
    with pytest.raises(dfsp.DfspError, match="no study is left"):
        dfsp.without(review, review.table["study"])


def test_subgroups_add_up_to_their_study(review):
    parts = dfsp.read_table(dfsp.DATA / "subgroups.csv").table
    sums = parts.groupby("cohort")[["events", "total"]].sum()
    whole = review.table.set_index("cohort")[["events", "total"]]
    pd.testing.assert_frame_equal(sums, whole.loc[sums.index], check_dtype=False)


def test_the_figure_shows_every_cohort(review, both):
    ax = dfsp.plots.dose(review, both)
    assert len(ax.collections) == len(review.table)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["400", "600", "800"]


# Germination on 21 plates, 2 x 2 with an interaction: Crowder 1978 (doi:10.2307/2346223), as in the
# BUGS examples, volume 1.
SEEDS = (
    ([10, 23, 23, 26, 17], [39, 62, 81, 51, 39], 0, 0),
    ([5, 53, 55, 32, 46, 10], [6, 74, 72, 51, 79, 13], 0, 1),
    ([8, 10, 8, 23, 0], [16, 30, 28, 45, 4], 1, 0),
    ([3, 22, 15, 32, 3], [12, 41, 30, 51, 7], 1, 1),
)


@pytest.fixture(scope="module")
def seeds():
    rows = [
        (r, n, seed, extract)
        for events, total, seed, extract in SEEDS
        for r, n in zip(events, total, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["events", "total", "seed", "extract"])
    table.insert(0, "study", [f"plate {i + 1}" for i in range(len(table))])
    return dfsp.Counts.of(table)


def germination(seeds, tau, engine):
    model = dfsp.Model(dfsp.Normal(0, 1000**0.5), tau)
    names = ["seed", "extract", "seed:extract"]
    coefficient = dfsp.Normal(0, 1000**0.5)
    return dfsp.regression.regress(
        seeds, names, model=model, coefficient=coefficient, engine=engine
    )


def test_an_interaction_of_words_is_that_of_numbers(seeds):
    table = seeds.table.assign(
        seed=seeds.table["seed"].map({0: "a", 1: "b"}),
        extract=seeds.table["extract"].map({0: "c", 1: "d"}),
    )
    names = ["seed", "extract", "seed:extract"]
    one = dfsp.regression.regress(seeds, names)
    two = dfsp.regression.regress(dfsp.Counts.of(table), names)
    assert list(one.design) == names
    assert list(one.levels) == [
        f"seed = {a}; extract = {b}" for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert two.log_marginal_likelihood == pytest.approx(one.log_marginal_likelihood, abs=1e-6)
    rates = [each.rates["q50"].xs("typical rate", level="rate") for each in (one, two)]
    assert sorted(rates[1]) == pytest.approx(sorted(rates[0]), abs=1e-6)
    last = [each.coefficients.iloc[3] for each in (one, two)]
    assert abs(last[1]["mean"]) == pytest.approx(abs(last[0]["mean"]), abs=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["seed", "seed:extract"], "seed:extract: .*; name extract beside it"),
        (["seed", "seed:seed"], "an interaction is one of two different columns"),
        (["seed", "seed:plate"], "covariate 'plate' is not a column; known: seed, extract"),
    ],
)
def test_interactions_that_cannot_be_used(seeds, names, message):
    with pytest.raises(dfsp.DfspError, match=message):
        dfsp.regression.regress(seeds, names)


def test_seeds_with_a_uniform_tau(seeds):
    """JAGS, 80,000 draws under the same priors; both engines agree within 4 of their errors."""
    found = germination(seeds, dfsp.Uniform(10), "both")
    assert all(check.passed for check in found.checks)
    assert found.coefficients["mean"].to_numpy(float) == pytest.approx(
        [-0.549, 0.061, 1.363, -0.836, 0.356], abs=0.01
    )


def test_seeds_as_bugs_prints_them(seeds):
    """One MCMC run printed in the manual, of an older program: within 0.2 posterior sds."""
    found = germination(seeds, dfsp.InverseGamma(0.001, 0.001), "exact").coefficients
    mean, sd = [-0.542, 0.028, 1.37, -0.79, 0.29], [0.18, 0.34, 0.25, 0.43, 0.15]
    apart = (found["mean"].to_numpy(float) - mean) / sd
    assert np.abs(apart).max() < 0.2
    assert found["sd"].to_numpy(float) == pytest.approx(sd, rel=0.15)


def test_rates_and_studies_integrate_each_row_of_the_design_once(monkeypatch):
    doses = [0.1, 0.3, 0.7, 1.1, 1.3]
    table = pd.DataFrame({"study": list("ABCDE"), "events": 3, "total": 10, "dose": doses})
    fit = dfsp.regression.regress(table, "dose")
    integrated, grid = [], LinearPosterior._grid
    monkeypatch.setattr(LinearPosterior, "_grid", lambda *at: integrated.append(at) or grid(*at))
    assert len(fit.rates.droplevel("rate").index.unique()) == len(fit.studies) == len(doses)
    assert len(integrated) <= len(doses)
