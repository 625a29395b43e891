"""Coverage at fixed truths against what theory and enumeration give."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import dfsp
from dfsp.analyses.calibration import Table
from dfsp.analyses.interval_coverage import METHODS, coverage
from dfsp.analyses.references import _maximum_likelihood
from dfsp.engine.posterior import solve


@pytest.fixture(scope="module")
def design(make):
    return make([(f"S{i}", 1, 15) for i in range(8)])


@pytest.fixture(scope="module")
def table(design):
    return coverage(design, rates=[0.3], taus=[0.0, 1.5], number=400)


def of(table, tau, method, quantity, column="coverage"):
    row = table.query("tau == @tau and method == @method and quantity == @quantity")
    return row[column].item()


def test_pooling_without_heterogeneity_covers_as_enumeration_says(table):
    """Clopper-Pearson of 120 patients at a rate of 0.3, summed over all counts."""
    r = np.arange(121)
    low = np.where(r > 0, stats.beta.ppf(0.025, r, 121 - r), 0)
    high = np.where(r < 120, stats.beta.ppf(0.975, r + 1, 120 - r), 1)
    expected = stats.binom.pmf(r, 120, 0.3)[(low <= 0.3) & (high >= 0.3)].sum()
    found = of(table, 0.0, "complete pooling", "typical_rate")
    error = np.sqrt(expected * (1 - expected) / 400)
    assert found == pytest.approx(expected, abs=4 * error)


def test_heterogeneity_breaks_pooling_only(table):
    assert of(table, 1.5, "complete pooling", "typical_rate") < 0.7
    for quantity in ("typical_rate", "mean_rate", "new_study_rate"):
        assert of(table, 1.5, "hierarchical", quantity) > 0.9
    assert of(table, 1.5, "complete pooling", "new_study_rate") < 0.4


def test_a_new_study_is_less_certain_than_the_mean(table):
    for method in ("hierarchical", "maximum likelihood", "normal approximation"):
        assert of(table, 1.5, method, "new_study_rate", "width") > of(
            table, 1.5, method, "typical_rate", "width"
        )


@pytest.mark.slow
def test_maximum_likelihood_has_the_likelihoods_curvature(make):
    """One large study without heterogeneity: the variance of a logit is 1/(n p (1 - p))."""
    design = make([("A", 1, 400)])
    model = dfsp.Model(mu=dfsp.Normal(0, 2), tau=dfsp.HalfNormal(0.01))
    found = coverage(design, model, rates=[0.5], taus=[0.0], number=50)
    width = of(found, 0.0, "maximum likelihood", "typical_rate", "width")
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.02)


@pytest.mark.parametrize(
    ("rates", "taus"),
    [([1.0], [0.1]), ([0.3], [-1]), ([0.3], [np.inf]), ([0.3], [np.nan]), (0.3, [0.1]), ([], [0.1]),
     (["0.3"], [0.1]), ([0.3], [])],
)  # fmt: skip
def test_truths_that_are_not_possible(design, rates, taus):
    with pytest.raises(dfsp.DfspError, match=r"rates in \(0, 1\), taus 0 or more"):
        coverage(design, rates=rates, taus=taus)


@pytest.mark.parametrize("number", [0, -1, 1.5, "x", True])
def test_numbers_that_are_not_possible(design, number):
    with pytest.raises(dfsp.DfspError, match="give a whole number of 1 or more"):
        coverage(design, number=number)


def test_a_method_without_any_interval_has_no_width(design):
    """At a rate of a millionth no study has an event, and the likelihood has no maximum."""
    found = coverage(design, rates=[1e-6], taus=[0.0], number=20)
    rows = found[found["method"] == "maximum likelihood"]
    assert (rows["without"] == 20).all() and (rows["coverage"] == 0).all()
    assert rows["width"].isna().all()


@pytest.mark.parametrize("total", [[8, 12, 5], [3], [100, 100, 100]])
def test_hierarchical_intervals_are_those_of_the_exact_engine(total):
    rng = np.random.default_rng(1)
    events = rng.binomial(total, special.expit(rng.normal(0, 2, (6, len(total)))))
    found = METHODS["hierarchical"](Table(np.array(total), dfsp.Model()), events)
    for i, row in enumerate(events):
        posterior = solve(row, np.array(total), dfsp.Model())
        for name, ends in found.items():
            expected = getattr(posterior, name).quantile([0.025, 0.975])
            assert special.expit(ends[i]) == pytest.approx(expected, abs=1e-4), name


def test_maximum_likelihood_on_the_table_is_that_found_directly():
    """Where tau is far from 0, so that the profile is smooth: ends within 0.003 (rate scale)."""
    total = np.array([14, 22, 31, 10, 25, 12, 10, 4, 16, 8])
    rng = np.random.default_rng(3)
    events = rng.binomial(total, special.expit(0.5 + 0.8 * rng.standard_normal((6, 10))))
    table = Table(total, dfsp.Model())
    found = METHODS["maximum likelihood"](table, events)
    for i, row in enumerate(events):
        frame = pd.DataFrame({"study": list("abcdefghij"), "events": row, "total": total})
        direct = _maximum_likelihood(dfsp.check_table(frame))
        for name in ("typical_rate", "new_study_rate"):
            ends = [direct[name, "low"], direct[name, "high"]]
            assert special.expit(found[name][i]) == pytest.approx(ends, abs=0.003)
