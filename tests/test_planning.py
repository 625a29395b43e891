"""The next trial: mixture, effective sample size, updates, operating characteristics, export."""

import json
import time
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import betaln
from scipy.stats import beta, betabinom, binom

import dfsp
from dfsp.analyses import planning
from dfsp.analyses.planning import exact_sample_size
from dfsp.engine.predictive import prior_of
from dfsp.project import project_folder

# The mixture that RBesT's introduction prints for its AS data
PRINTED = dfsp.planning.BetaMixture(
    np.array([0.4612914, 0.1917812, 0.1893896, 0.1575378]),
    np.array([33.9513487, 19.4400089, 12.2692310, 2.2521243]),
    np.array([103.0146367, 41.5205219, 55.9202833, 5.4812202]),
)


@pytest.fixture(scope="module")
def spondylitis():
    return dfsp.fit(dfsp.read_table(project_folder() / "data/examples/ankylosing_spondylitis.csv"))


@pytest.fixture(scope="module")
def fitted(spondylitis):
    return dfsp.planning.fit_mixture(spondylitis)


def test_published_sample_sizes(spondylitis, fitted):
    # By an independent quadrature: 36.99 and 24.07; RBesT prints 38 and 24 for a mixture of draws
    size = dfsp.planning.effective_sample_size(spondylitis)
    assert size.value == pytest.approx(36.99, abs=0.006)
    assert size.error < 1e-3
    table = dfsp.planning.sample_sizes(spondylitis, fitted).table.set_index("definition")[
        "patients"
    ]
    assert table["moment"] == pytest.approx(24.07, abs=0.006)
    assert table["ELIR of the mixture"] == pytest.approx(38, abs=2)


FAR_OUT = [
    # Brute force over mu, tau and theta; one study or two
    ([500], [1000], dfsp.Model(tau=dfsp.Fixed(5)), 105_792, 1e-4),
    ([30_000, 31_000], [100_000] * 2, dfsp.Model(tau=dfsp.Fixed(1e-3)), 188_000, 1e-3),
    ([30_000, 30_100], [100_000] * 2, dfsp.Model(tau=dfsp.HalfNormal(0.01)), 61_685, 1e-3),
    ([3, 5], [9, 12], dfsp.Model(), 6.41, 3e-3),
]


@pytest.mark.parametrize(("events", "total", "model", "expected", "rel"), FAR_OUT)
def test_sample_sizes_of_narrow_and_wide_rates(events, total, model, expected, rel):
    size = exact_sample_size(dfsp.engine.posterior.solve(events, total, model))
    assert size.value == pytest.approx(expected, rel=rel)
    assert size.error < 2 * rel * expected


@pytest.mark.parametrize("mu_sd", [5, 10])
def test_a_sample_size_beyond_the_grid_is_not_given(mu_sd):
    model = dfsp.Model(mu=dfsp.Normal(0, mu_sd))
    size = exact_sample_size(dfsp.engine.posterior.solve([0, 0], [5, 6], model))
    assert size.value is None
    assert "its error exceeds a tenth" in size.says


def test_one_normal_by_algebra():
    # mu all but known: E[1 / (p (1 - p))] / tau^2 = (2 + 2 cosh(mu) exp(tau^2 / 2)) / tau^2
    for tau in (0.5, 2.0):
        model = dfsp.Model(mu=dfsp.Normal(-1, 1e-3), tau=dfsp.Fixed(tau))
        size = exact_sample_size(prior_of(model))
        expected = (2 + 2 * np.cosh(1) * np.exp(tau**2 / 2)) / tau**2
        assert size.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1.5, 7), (2, 5), (30.5, 80), (1.01, 50), (1e6, 1e6), (1e5, 2e5), (1e4, 1.2)],
)
def test_the_sample_size_of_one_beta_is_its_parameters_sum(a, b):
    size = dfsp.planning.mixture_sample_size(dfsp.planning.BetaMixture([1], [a], [b]))
    assert size.value == pytest.approx(a + b, rel=1e-6)
    mean, sd = beta(a, b).mean(), beta(a, b).std()
    assert dfsp.planning.moment_sample_size(mean, sd) == pytest.approx(a + b)


def test_no_sample_size_where_a_density_does_not_vanish_at_an_end():
    for a, b in ((1, 1), (1, 7), (7, 1), (0.5, 2)):
        size = dfsp.planning.mixture_sample_size(
            dfsp.planning.BetaMixture([0.5, 0.5], [a, 3], [b, 3])
        )
        assert (size.value, size.says) == (None, "a component has a or b of 1 or less")


def test_the_sample_size_of_components_of_unlike_widths():
    # A narrow component stands out of a wide one; independent quadrature on the rate scale
    mixture = dfsp.planning.BetaMixture([0.5, 0.5], [2e4, 2], [1e4, 2])
    p = np.unique(
        np.concatenate([np.linspace(0, 1, 20_001), 2 / 3 + np.linspace(-0.04, 0.04, 200_001)])
    )[1:-1]
    densities = [beta.pdf(p, a, b) for a, b in ((2e4, 1e4), (2, 2))]
    slopes = [(a - 1) / p - (b - 1) / (1 - p) for a, b in ((2e4, 1e4), (2, 2))]
    density = sum(densities) / 2
    slope = sum(d * s for d, s in zip(densities, slopes, strict=True)) / 2
    expected = 2 + np.trapezoid(slope**2 / density * p * (1 - p), p)
    size = dfsp.planning.mixture_sample_size(mixture)
    assert size.value == pytest.approx(expected, rel=1e-4)


def test_a_sample_size_that_does_not_exist_has_a_reason():
    events = {"study": ["A", "B"], "events": [3, 5], "total": [9, 12]}
    for tau in (dfsp.HalfNormal(1.01), dfsp.HalfCauchy(0.5), dfsp.Exponential(0.5)):
        fit = dfsp.fit(pd.DataFrame(events), dfsp.Model(tau=tau))
        size = dfsp.planning.effective_sample_size(fit)
        assert size.value is None
        assert "diverges" in size.says


def test_the_mixture_is_close_and_repeatable(spondylitis, fitted):
    assert fitted.error <= 0.005
    assert list(fitted.tried["components"]) == list(range(1, len(fitted.tried) + 1))
    assert fitted.mixture.mean == pytest.approx(spondylitis.exact.new_study_rate.mean, abs=1e-3)
    for q in (0.025, 0.5, 0.975):
        rate = spondylitis.exact.new_study_rate.quantile(q)[0]
        assert fitted.mixture.cdf(rate) == pytest.approx(q, abs=0.0051)
    again = dfsp.planning.fit_mixture(spondylitis).mixture
    assert (again.a == fitted.mixture.a).all()
    assert (again.weight == fitted.mixture.weight).all()


RARE = pd.DataFrame({"study": ["A", "B", "C"], "events": [2, 3, 4], "total": [1_000_000] * 3})


def test_the_mixture_of_a_rare_rate():
    # Moments by quadrature of others' making, of 2, 3 and 4 events in a million each
    model = dfsp.Model(mu=dfsp.Normal(0, 10), tau=dfsp.HalfNormal(0.2))
    exact = dfsp.fit(RARE, model).exact.new_study_rate
    found = dfsp.planning.fit_mixture(dfsp.fit(RARE, model))
    assert found.check.passed and found.error <= 0.005
    assert found.mixture.mean == pytest.approx(3.09e-6, rel=2e-3)
    sd = np.sqrt(found.mixture.variance)
    assert sd == pytest.approx(1.3e-6, rel=0.05) == exact.sd
    assert sd == pytest.approx(exact.sd, rel=0.02)


def test_a_mixture_that_does_not_stand_for_the_rate_is_not_written(tmp_path):
    found = dfsp.planning.fit_mixture(dfsp.fit(RARE))  # half of it prior, over six decades
    assert found.check.passed is False and found.error > 0.005
    file = tmp_path / "mix.json"
    for mixture in (found.mixture, found.mixture.robustify(0.2), found.mixture.update(1, 9)):
        with pytest.raises(dfsp.DfspError, match=r"mix\.json is not written: the mixture's dist"):
            mixture.write(file)
        assert not file.exists()
    found.mixture.write(file, anyway=True)
    assert file.exists()


def test_a_tail_that_the_distribution_function_hides_fails_the_check(spondylitis, fitted):
    assert fitted.check.passed
    sd = spondylitis.exact.new_study_rate.sd
    assert planning._stands_for(fitted.mixture, 0.004, sd).passed
    assert not planning._stands_for(fitted.mixture, 0.004, sd / 1.03).passed
    assert not planning._stands_for(fitted.mixture, 0.006, sd).passed


def test_sample_sizes_that_differ_say_so(spondylitis, fitted):
    one = dfsp.planning.fit_mixture(spondylitis, components=1).mixture
    sizes = [dfsp.planning.sample_sizes(spondylitis, each) for each in (fitted, one)]
    says = [each.table["says"][1] for each in sizes]
    ratio = (
        dfsp.planning.mixture_sample_size(one).value
        / dfsp.planning.effective_sample_size(spondylitis).value
    )
    assert says == ["beta mixture", f"beta mixture, {ratio:.2f} times the density's"]


@pytest.mark.parametrize("components", [1, 3])
def test_the_error_of_a_mixture_is_that_between_the_points_too(spondylitis, components):
    found = dfsp.planning.fit_mixture(spondylitis, components=components)
    at = np.linspace(-6, 3, 40_001)
    apart = np.abs(
        found.mixture.cdf(1 / (1 + np.exp(-at)))
        - spondylitis.exact.new_study_rate.cdf_of_points(at)
    )
    assert found.error == pytest.approx(apart.max(), rel=1e-4)


def test_what_is_printed_of_a_mixture_bears_a_change_of_the_engine(spondylitis, fitted):
    rate = spondylitis.exact.new_study_rate
    moved = rate.cdf + 4e-6 * np.sin(2 * rate.x) * rate.cdf * (1 - rate.cdf)
    other = copy(spondylitis.exact)
    vars(other)["new_study_rate"] = replace(rate, cdf=moved)
    again = dfsp.planning.fit_mixture(replace(spondylitis, posterior=other))
    assert (again.mixture.a != fitted.mixture.a).all()
    assert str(again.mixture) == str(fitted.mixture)
    assert f"{again.error:.3f}" == f"{fitted.error:.3f}"


def test_a_fitted_mixture_is_taken_as_it_comes(spondylitis, fitted):
    sizes = [dfsp.planning.sample_sizes(spondylitis, each) for each in (fitted, fitted.mixture)]
    assert sizes[0].table.equals(sizes[1].table)
    plans = [
        dfsp.planning.plan(spondylitis, each, n=[20], p0=0.2) for each in (fitted, fitted.mixture)
    ]
    assert plans[0].table.equals(plans[1].table)


def test_what_is_no_fit_is_refused(fitted):
    for ask in (
        dfsp.planning.fit_mixture,
        dfsp.planning.effective_sample_size,
        lambda mixture: dfsp.planning.sample_sizes(mixture, mixture),
        lambda mixture: dfsp.planning.plan(mixture, mixture, n=[20], p0=0.2),
    ):
        with pytest.raises(dfsp.DfspError, match="a fit is needed, but this is a MixtureFit"):
            ask(fitted)


def test_sample_sizes_print_whole_at_80_columns(spondylitis, fitted):
    text = repr(dfsp.planning.sample_sizes(spondylitis, fitted).table)
    assert "..." not in text
    assert max(map(len, text.split("\n"))) < 80


def test_more_components_are_no_worse(spondylitis):
    one, two = (dfsp.planning.fit_mixture(spondylitis, components=k) for k in (1, 2))
    assert two.error < one.error


def test_published_probability_that_treatment_is_better():
    # RBesT, introduction: robust prior updated with 1/6 against Beta(0.5, 1) updated with 14/24
    placebo = PRINTED.robustify(0.2).update(1, 6)
    treatment = dfsp.planning.BetaMixture([1], [0.5], [1]).update(14, 24)
    assert dfsp.planning.probability_greater(treatment, placebo) == pytest.approx(
        0.9917197, abs=2e-7
    )


@pytest.mark.parametrize("shape", [0.05, 1e-3])
def test_probability_that_a_rate_is_greater_where_rates_are_almost_0(shape):
    # P(p > q) for q ~ Beta(1, 3) is 1 - E[(1 - p)^3]
    one, other = (
        dfsp.planning.BetaMixture([1], [shape], [0.5]),
        dfsp.planning.BetaMixture([1], [1], [3]),
    )
    expected = 1 - np.exp(betaln(shape, 3.5) - betaln(shape, 0.5))
    assert dfsp.planning.probability_greater(one, other) == pytest.approx(expected, rel=1e-8)
    assert dfsp.planning.probability_greater(other, one) == pytest.approx(1 - expected, rel=1e-8)
    alike = dfsp.planning.BetaMixture([1], [shape], [shape])
    assert dfsp.planning.probability_greater(alike, alike) == pytest.approx(0.5, abs=1e-8)


def test_update_and_prediction_by_brute_force():
    p = (np.arange(200_000) + 0.5) / 200_000
    density = sum(
        w * beta.pdf(p, a, b) for w, a, b in zip(PRINTED.weight, PRINTED.a, PRINTED.b, strict=True)
    )
    posterior = density * binom.pmf(7, 12, p)
    assert PRINTED.predict(12)[7] == pytest.approx(posterior.mean(), rel=1e-8)
    posterior /= posterior.sum()
    assert PRINTED.update(7, 12).mean == pytest.approx(posterior @ p, rel=1e-8)
    assert PRINTED.update(7, 12).above(0.4) == pytest.approx(posterior[p > 0.4].sum(), abs=1e-5)
    assert PRINTED.variance == pytest.approx(density @ p**2 / 2e5 - (density @ p / 2e5) ** 2)


def test_operating_characteristics_of_a_flat_prior():
    flat = dfsp.planning.BetaMixture([1], [1], [1])
    table = dfsp.planning.operating_characteristics(flat, n=[10, 30], p0=0.3, rates=[0.3, 0.6])
    for row in table.itertuples():
        enough = [r for r in range(row.n + 1) if beta.sf(0.3, 1 + r, 1 + row.n - r) > 0.975]
        assert row.critical_events == min(enough)
        assert row.success == pytest.approx(binom.pmf(enough, row.n, row.true_rate).sum())
    assert dfsp.planning.critical_events(flat, 1, 0.9) == 2  # no number of events suffices


def test_probability_of_success_under_the_evidence(spondylitis, fitted):
    prior = fitted.mixture.robustify(0.2)
    plan = dfsp.planning.plan(spondylitis, prior, n=[20, 60], p0=0.2)
    for row in plan.table.itertuples():
        events = np.arange(row.critical_events, row.n + 1)
        m = fitted.mixture
        chance = sum(
            w * betabinom.pmf(events, row.n, a, b).sum()
            for w, a, b in zip(m.weight, m.a, m.b, strict=True)
        )
        assert row.success == pytest.approx(chance, abs=0.005)
    sizes = dfsp.planning.sample_sizes(spondylitis, prior)
    text = sizes.describe()
    assert "37.0 patients (ELIR)" in text
    # An estimate, whose digit depends on where the grid lies
    assert 1e-6 < sizes.exact.error < 1e-3
    assert f"numerical error of {sizes.exact.error:.1g}" in text
    first, second = plan.describe().split("\n")
    assert first.startswith("A trial of 20 patients needs")
    assert second.startswith("A trial of 60 patients needs")


def test_the_headline_where_a_trial_cannot_succeed_or_always_does(spondylitis):
    flat = dfsp.planning.BetaMixture([1], [1], [1])
    text = dfsp.planning.plan(spondylitis, flat, n=1, p0=0.9).describe()
    assert text == ("No number of responders among 1 patient shows a rate above 90 %.")
    text = dfsp.planning.plan(spondylitis, flat, n=1, p0=0.02).describe()
    assert "A trial of 1 patient needs 1 responder to show" in text
    text = dfsp.planning.plan(spondylitis, flat, n=10_000, p0=0.2).describe()
    assert text.startswith("A trial of 10,000 patients needs 2,0")  # 2,000 and two sd of 40
    text = dfsp.planning.plan(spondylitis, flat, n=40, p0=0.8).describe()
    assert "0.000" not in text
    assert "probability below 0.001" in text


def test_a_table_of_400_cells_is_quick():
    start = time.perf_counter()
    rates = np.linspace(0.05, 0.95, 20)
    table = dfsp.planning.operating_characteristics(
        PRINTED, n=range(10, 210, 10), p0=0.3, rates=rates
    )
    assert len(table) == 400
    assert time.perf_counter() - start < 5


def test_export_has_the_shape_that_rbest_reads(tmp_path):
    # read_mix_json: `comp` becomes a matrix of rows w, a, b, and `meta` its attributes
    PRINTED.write(tmp_path / "mix.json")
    found = json.loads((tmp_path / "mix.json").read_text())
    assert found["meta"]["dim"] == list(np.shape(found["comp"])) == [3, 4]
    assert found["meta"]["dimnames"] == [["w", "a", "b"], ["comp1", "comp2", "comp3", "comp4"]]
    assert found["meta"]["class"] == ["betaMix", "mix"]
    assert found["meta"]["link"] == "identity"
    assert found["comp"] == [PRINTED.weight.tolist(), PRINTED.a.tolist(), PRINTED.b.tolist()]
    three = dfsp.planning.BetaMixture([0.5, 0.3, 0.2], [1, 2, 3], [3, 2, 1]).as_dict()
    assert three["meta"]["dimnames"] == [["w", "a", "b"], None]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dfsp.planning.BetaMixture([1], [1, 2], [1]), "of one length"),
        (lambda: dfsp.planning.BetaMixture([1], [-1], [1]), "a = .*above 0"),
        (lambda: dfsp.planning.BetaMixture([0.5], [1], [1]), "add up to 0.5"),
        (lambda: PRINTED.update(7, 6), "exceeds n = 6"),
        (lambda: PRINTED.update(1.5, 6), "events = 1.5"),
        (lambda: PRINTED.predict(0), "n = 0"),
        (lambda: PRINTED.robustify(1), "weight = 1"),
        (lambda: PRINTED.robustify(0.1, 1.5), "mean = 1.5"),
        (lambda: PRINTED.write("/no/such/folder/mix.json"), "cannot be written"),
        (lambda: dfsp.planning.critical_events(PRINTED, 10, 1), "p0 = 1"),
        (lambda: dfsp.planning.moment_sample_size(0.5, 0.6), "sd = 0.6"),
        (lambda: dfsp.planning.BetaMixture(["a"], [1], [1]), "weight = .*give numbers"),
        (lambda: PRINTED.above(1.5), "rate = 1.5"),
        (lambda: PRINTED.above("a"), "rate = 'a'"),
        (lambda: PRINTED.cdf([-1, 2]), "rates from 0 to 1"),
        (lambda: PRINTED.cdf(float("nan")), "rate = nan: give rates"),
        (lambda: PRINTED.robustify("a"), "weight = 'a'"),
        (lambda: dfsp.planning.moment_sample_size("a", 1), "mean = 'a'"),
        (lambda: dfsp.planning.moment_sample_size(0.5, "a"), "sd = 'a'"),
        (lambda: dfsp.planning.critical_events(PRINTED, 10, "a"), "p0 = 'a'"),
        (
            lambda: dfsp.planning.operating_characteristics(PRINTED, n=20, p0=0.2, rates=[0.3]),
            "n = 20: give a list",
        ),
        (
            lambda: dfsp.planning.operating_characteristics(PRINTED, n=[5], p0=0.2, rates=["a"]),
            "true rate = 'a'",
        ),
        (
            lambda: dfsp.planning.operating_characteristics(PRINTED, n=[5], p0=0.2, rates=[]),
            "at least one",
        ),
        (
            lambda: dfsp.planning.operating_characteristics(PRINTED, n=[5], p0=0.2, rates=[2]),
            "true rate = 2",
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, match):
    with pytest.raises(dfsp.DfspError, match=match):
        call()


def test_the_number_of_components_is_checked(spondylitis):
    with pytest.raises(dfsp.DfspError, match="components = 5: give a whole number, 1 to 4"):
        dfsp.planning.fit_mixture(spondylitis, components=5)


CERTAIN = [("A", 9985, 10_000), ("B", 4991, 5000), ("C", 19_960, 20_000)]


def test_of_a_near_certain_rate_the_picture_is_of_what_may_be_seen(make):
    """Of 5,000 patients the last 40 numbers, and true rates where success becomes certain."""
    fit = dfsp.fit(make(CERTAIN))
    vague = dfsp.planning.BetaMixture([1], [1], [1])
    ax = dfsp.plots.plan(fit, vague, n=5000, p0=0.993)
    critical = dfsp.planning.critical_events(vague, 5000, 0.993)
    low, high = ax.get_xlim()
    assert critical - 100 < low < critical < high == 5001
    first, second = ax.patches
    assert first.get_data().edges[-1] == second.get_data().edges[0] == critical - 0.5
    probability = fit.new_study(5000).events
    drawn = np.concatenate([each.get_data().values for each in (first, second)])
    assert f"(others: probability {1 - drawn.sum():.2f})" in ax.get_xlabel()
    assert drawn == pytest.approx(probability[-len(drawn) :])
    right = ax.get_figure().axes[1]
    assert 99 < right.get_xlim()[0] < 99.3 and right.get_xlim()[1] == 100
    success = right.get_lines()[0].get_ydata()
    assert success[0] < 0.01 and success[-1] > 0.99


def test_two_sizes_that_are_far_apart_are_said_to_be(make):
    """Where the tails of a rate are not a beta distribution's, which ELIR hardly sees."""
    fit = dfsp.fit(make(CERTAIN))
    sizes = dfsp.planning.sample_sizes(fit, dfsp.planning.BetaMixture([1], [2], [2]))
    ratio = sizes.exact.value / sizes.moment
    assert ratio > 100
    text = sizes.describe()
    assert f"The two are {ratio:,.0f} times apart, since the rate's distribution" in text
    assert f"worth {sizes.exact.value:,.0f} patients (ELIR)" in text
    ordinary = replace(sizes, moment=sizes.exact.value / 1.9)
    assert "apart" not in ordinary.describe()
    large = replace(sizes, exact=replace(sizes.exact, error=3123.4))
    assert "with a numerical error of 3,000, and" in large.describe()
