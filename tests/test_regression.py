"""Meta-regression against brute force, NUTS, and what must be refused."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln

import dfsp
from dfsp.regression import _levels
from dfsp.regression_exact import Lattice


@pytest.fixture(scope="module")
def dosed(review):
    return dfsp.log2_of(review, "dose_mg", 800)


@pytest.fixture(scope="module")
def both(dosed):
    return dfsp.regress(*dosed, engine="both")


def brute_force(events, total, x):
    """Density of (tau, mu, b) on a dense grid, study effects by Gauss-Hermite; default priors."""
    mu, b = np.linspace(-3, 4.5, 101), np.linspace(-4.5, 4.5, 101)
    t, w = np.polynomial.legendre.leggauss(30)
    tau, w = 3 * (t + 1), 3 * w
    z, wz = np.polynomial.hermite_e.hermegauss(60)
    wz = wz / wz.sum()
    m, s = np.meshgrid(mu, b, indexing="ij")
    log_p = np.empty((30, 101, 101))
    for k, sd in enumerate(tau):
        log_p[k] = -0.5 * (m / 2) ** 2 - 0.5 * s**2 - 0.5 * sd**2 + np.log(w[k])
        log_p[k] += np.log(2) - 1.5 * np.log(2 * np.pi) - np.log(2)
        for r, n, xi in zip(events, total, x, strict=True):
            theta = (m + s * xi)[..., None] + sd * z
            choose = gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)
            inside = np.exp(choose + r * theta - n * np.logaddexp(0, theta)) @ wz
            log_p[k] += np.log(inside)
    top = log_p.max()
    p = np.exp(log_p - top)
    evidence = top + np.log(p.sum() * (mu[1] - mu[0]) * (b[1] - b[0]))
    return mu, b, tau, p / p.sum(), evidence


def test_against_brute_force(dosed, both):
    counts, name = dosed
    table = counts.table
    mu, b, tau, p, evidence = brute_force(table["events"], table["total"], table[name])
    assert both.log_marginal_likelihood == pytest.approx(evidence, abs=1e-4)
    for row, axis, values in (("intercept", (0, 2), mu), (name, (0, 1), b)):
        marginal = p.sum(axis)
        mean = marginal @ values
        own = both.coefficients.loc[row]
        assert own["mean"] == pytest.approx(mean, abs=1e-4)
        assert own["sd"] == pytest.approx(np.sqrt(marginal @ (values - mean) ** 2), abs=1e-4)
        # A trapezoid of the density between grid points, inverted at the quantiles found
        cdf = np.concatenate([[0], np.cumsum((marginal[1:] + marginal[:-1]) / 2)])
        assert np.interp(own[["q2.5", "q50", "q97.5"]].astype(float), values, cdf) == pytest.approx(
            [0.025, 0.5, 0.975], abs=2e-3
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


def test_a_lattice_with_more_points_changes_little(dosed, monkeypatch):
    rough = dfsp.regress(*dosed)
    for name, value in (("ALONG", 161), ("STEP", 0.4), ("REACH", 22), ("ROWS", 48)):
        monkeypatch.setattr(f"dfsp.regression_exact.{name}", value)
    fine = dfsp.regress(*dosed)
    assert np.abs(rough.rates - fine.rates).max().max() < 1e-4
    assert np.abs(dfsp.contrasts(rough) - dfsp.contrasts(fine)).max().max() < 1e-4


def test_a_difference_against_the_joint_posterior(both):
    """The same lattice summed point by point: no line, no interpolation."""
    lattice = both.posterior
    assert isinstance(lattice, Lattice)
    mu, b, weight = lattice.nodes
    apart = 1 / (1 + np.exp(-mu)) - 1 / (1 + np.exp(-(mu - b)))
    row = dfsp.contrast(both, *[n for n in _levels(both.design) if not n.endswith("-0.415")])
    assert row["mean"] == pytest.approx((weight * apart).sum(), abs=1e-6)
    assert row["equal"] == pytest.approx(weight[np.abs(apart) < 0.1].sum(), abs=0.02)
    turned = dfsp.contrast(both, row.name.split(" minus ")[0], row.name.split(" minus ")[1])
    assert turned["q2.5"] == pytest.approx(-row["q97.5"], abs=1e-9)
    assert turned["above"] == pytest.approx(1 - row["above"], abs=1e-9)


def test_no_effect_is_the_plain_hierarchy(dosed, review):
    tiny = dfsp.regress(*dosed, coefficient=dfsp.Normal(0, 1e-4))
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
    factors = dfsp.bayes_factors(*dosed, sds=(1e-4, 1.0))
    assert factors.loc[1e-4, "bayes_factor"] == pytest.approx(1, abs=1e-5)
    assert factors.loc[1.0, "bayes_factor"] < 1


def test_the_reviews_groups(review):
    sums = review.table.groupby("dose_mg")[["events", "total"]].sum()
    assert sums.loc[400].to_list() == [27, 40]
    assert sums.loc[800].to_list() == [49, 73]
    assert sums.loc[600].to_list() == [16, 39]


def test_confounded_coefficients_are_known_only_together():
    """All 600 mg cohorts are neoadjuvant, and only four patients at 800 mg are so too."""
    counts = dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response")
    groups = dfsp.as_groups(counts, "dose_mg", " mg")
    result = dfsp.regress(groups, ["dose_mg", "setting"], draws=1000)
    table = result.coefficients["identified"]
    assert table["dose_mg: 600 mg"] == table["setting: neoadjuvant"] == "only together"
    assert table["dose_mg: 400 mg"] == "yes"
    assert "cannot be told apart" in dfsp.describe_regression(result)
    assert "600 mg only neoadjuvant" in dfsp.describe_confounding(counts)


def test_a_coefficient_without_information_is_not_identifiable(make):
    table = make([("A", 1, 2), ("B", 1, 2), ("C", 1, 2)]).table.assign(x=[0.0, 0.0, 0.001])
    result = dfsp.regress(dfsp.check_table(table), "x")
    assert result.coefficients.loc["x", "identified"] == "no"
    assert "not identifiable" in dfsp.describe_regression(result)


def test_missing_covariates_are_reported_and_not_imputed(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9), ("D", 6, 9)]).table
    table = table.assign(x=[1.0, 2.0, np.nan, 3.0])
    result = dfsp.regress(dfsp.check_table(table), "x")
    assert len(result.design) == 3
    assert result.counts.dropped.to_numpy().tolist() == [["C", "x is not known"]]
    assert "1 left out: C, x is not known" in dfsp.describe_regression(result)


def test_two_levels_are_one_coefficient(make):
    table = make([("A", 30, 90), ("B", 32, 90), ("C", 60, 90), ("D", 62, 90)]).table
    result = dfsp.regress(dfsp.check_table(table.assign(arm=["old", "old", "new", "new"])), "arm")
    assert list(result.design) in (["arm: new"], ["arm: old"])
    row = dfsp.contrasts(result).iloc[0]
    assert abs(row["q50"]) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("covariates", "options", "message"),
    [
        ("dosis", {}, "covariate 'dosis' is not a column; known: cohort, dose_mg"),
        (["dose_mg", "setting"], {"engine": "exact"}, "takes one coefficient and there are 2"),
        ("setting", {"engine": "stan"}, "engine 'stan' is not known"),
    ],
)
def test_what_cannot_be_used(review, covariates, options, message):
    with pytest.raises(dfsp.DfspError, match=message):
        dfsp.regress(review, covariates, **options)


def test_levels_and_studies_must_suffice(make):
    table = make([("A", 3, 9), ("B", 4, 9), ("C", 5, 9)]).table
    same = dfsp.check_table(table.assign(x=[1, 1, 1]))
    with pytest.raises(dfsp.DfspError, match="only 1 is left; a covariate needs two"):
        dfsp.regress(same, "x")
    with pytest.raises(dfsp.DfspError, match="no value is left"):
        dfsp.regress(dfsp.check_table(table.assign(x=["", "", ""])), "x")
    many = dfsp.check_table(table.assign(x=["a", "b", "c"], y=[1, 2, 5]))
    with pytest.raises(dfsp.DfspError, match="3 coefficients for 3 studies"):
        dfsp.regress(many, ["x", "y"])


def test_contrasts_refuse_what_is_not_there(both):
    first, second = list(_levels(both.design))[:2]
    with pytest.raises(dfsp.DfspError, match="no such row of the design; known"):
        dfsp.contrast(both, first, "1200 mg")
    with pytest.raises(dfsp.DfspError, match="difference of rates between 0 and 1"):
        dfsp.contrast(both, first, second, 1.5)


def test_log2_of_refuses(review):
    with pytest.raises(dfsp.DfspError, match="is not a column"):
        dfsp.log2_of(review, "dose", 800)
    with pytest.raises(dfsp.DfspError, match="other than positive numbers"):
        dfsp.log2_of(review, "setting", 800)


def test_without_forgets_the_others_partners(review):
    rest = dfsp.without(review, ["McArthur 2005"])
    shares = rest.table.set_index("study")["shares_patients_with"]
    assert shares["Heinrich 2008"] == ""
    with pytest.raises(dfsp.DfspError, match="not in the table"):
        dfsp.without(review, ["Nobody 1999"])
    with pytest.raises(dfsp.DfspError, match="no study is left"):
        dfsp.without(review, review.table["study"])


def test_subgroups_add_up_to_their_study(review):
    parts = dfsp.read_table(dfsp.DATA / "subgroups.csv").table
    sums = parts.groupby("cohort")[["events", "total"]].sum()
    whole = review.table.set_index("cohort")[["events", "total"]]
    pd.testing.assert_frame_equal(sums, whole.loc[sums.index], check_dtype=False)


def test_the_figure_shows_every_cohort(review, both):
    ax = dfsp.plot_dose(review, both)
    assert len(ax.collections) == len(review.table)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["400", "600", "800"]
