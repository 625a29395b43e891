"""Coverage at fixed truths against what theory and enumeration give."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import dfsp
from dfsp.calibration import Table
from dfsp.interval_coverage import METHODS, coverage
from dfsp.references import _maximum_likelihood


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


def test_maximum_likelihood_has_the_likelihoods_curvature(make):
    """One large study without heterogeneity: the variance of a logit is 1/(n p (1 - p))."""
    design = make([("A", 1, 400)])
    model = dfsp.Model(mu=dfsp.Normal(0, 2), tau=dfsp.HalfNormal(0.01))
    found = coverage(design, model, rates=[0.5], taus=[0.0], number=200)
    width = of(found, 0.0, "maximum likelihood", "typical_rate", "width")
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.02)


def test_truths_that_are_not_possible(design):
    with pytest.raises(dfsp.DfspError, match=r"rates in \(0, 1\), taus 0 or more"):
        coverage(design, rates=[1.0])
    with pytest.raises(dfsp.DfspError, match=r"rates in \(0, 1\), taus 0 or more"):
        coverage(design, taus=[-1])


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
