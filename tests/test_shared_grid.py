"""Many analyses on one grid, against the grid that each places for itself."""

import numpy as np
import pytest
from scipy.special import betaln, expit

import dfsp
from dfsp.engine.many import SharedGrid
from dfsp.engine.posterior import solve
from dfsp.model.model import Model

EVENTS, TOTAL = np.array([0.0, 5, 9, 24]), np.array([6.0, 5, 13, 37])


@pytest.mark.parametrize("tau", [dfsp.Fixed(0.3), dfsp.LogNormal(-1, 1), dfsp.HalfStudentT(3, 1)])
def test_answers_are_those_of_separate_fits(tau):
    model = Model(dfsp.Normal(0.5, 1.5), tau)
    grid = SharedGrid(EVENTS, TOTAL, [model])
    times = np.array([[1, 1, 1, 1], [0, 2, 1, 1], [1, 0, 0, 0], [0, 0, 0, 3]], float)
    found = grid.solve(times)
    assert found.resolved.all()
    for i, row in enumerate(times.astype(int)):
        own = solve(np.repeat(EVENTS, row), np.repeat(TOTAL, row), model)
        q = [0.5, 0.025, 0.975]
        mean = [own.mean_rate.mean, *own.mean_rate.quantile(q[1:])]
        assert found.typical[i] == pytest.approx(own.typical_rate.quantile(q), abs=1e-5)
        assert found.mean[i] == pytest.approx(mean, abs=1e-5)
        assert found.new[i] == pytest.approx(own.new_study_rate.quantile(q), abs=1e-5)
        assert found.tau[i] == pytest.approx(own.tau.quantile(0.5)[0], abs=1e-5)
        evidence = found.log_marginal_likelihood[i]
        assert evidence == pytest.approx(own.log_marginal_likelihood, abs=1e-5)


def test_nodes_too_coarse_for_an_analysis_are_noticed():
    """A large study far from the centre of the grid."""
    model = Model(tau=dfsp.Fixed(0.001))
    grid = SharedGrid(EVENTS, TOTAL, [model])
    assert grid.solve(np.eye(4)[1:]).resolved.all()
    events, total = np.array([500_000.0, 100]), np.array([1_000_000.0, 10_000])
    grid = SharedGrid(events, total, [model])
    assert not grid.solve(np.eye(2)).resolved[1]


@pytest.mark.slow
def test_subsets_with_large_studies_are_fitted_by_themselves(make):
    counts = make([("A", 500_000, 1_000_000), ("B", 100, 10_000), ("C", 7, 10)])
    model = Model(tau=dfsp.HalfNormal(0.01))
    table = dfsp.sensitivity.all_subsets(counts, model).table
    for row in table.to_dict("records"):
        own = counts.table[[row[study] for study in "ABC"]]
        rate = solve(own["events"], own["total"], model).typical_rate
        found = [row["typical_rate"], row["low"], row["high"]]
        assert found == pytest.approx(rate.quantile([0.5, 0.025, 0.975]), abs=1e-5)


def test_priors_that_end_at_different_places_need_a_grid_each():
    models = [Model(tau=dfsp.Uniform(1)), Model(tau=dfsp.Uniform(2))]
    with pytest.raises(dfsp.DfspError, match="need a grid each"):
        SharedGrid(EVENTS, TOTAL, models)


def dense_means(events, total, a, b, location, scale):
    """Ends of the interval of a beta-binomial's mean rate, by sums over a dense grid."""
    mu, s = np.linspace(-25, 25, 10_001)[:, None], np.linspace(-6, 8, 201)
    one, other = (expit(x) * np.exp(s) for x in (mu, -mu))
    log_p = a * np.log(expit(mu)) + b * np.log(expit(-mu)) - 0.5 * ((s - location) / scale) ** 2
    for r, n in zip(events, total, strict=True):
        log_p = log_p + betaln(one + r, other + n - r) - betaln(one, other)
    mass = np.exp(log_p - log_p.max()).sum(1)
    cdf = (np.cumsum(mass) - mass / 2) / mass.sum()
    return expit(np.interp([0.025, 0.975], cdf, mu[:, 0]))


def test_a_beta_binomial_has_a_grid_too():
    model = Model(effects=dfsp.BetaBinomial(2, 1, dfsp.LogNormal(1, 1)))
    times = np.array([[1, 1, 1, 1], [0, 2, 1, 1], [1, 0, 0, 0], [0, 0, 0, 3]], float)
    found = SharedGrid(EVENTS, TOTAL, [model]).solve(times)
    assert found.resolved.all()
    assert np.isnan(found.typical).all() and np.isnan(found.tau).all()
    for i, row in enumerate(times.astype(int)):
        counts = np.repeat(EVENTS, row), np.repeat(TOTAL, row)
        own = solve(*counts, model)
        assert found.mean[i, 0] == pytest.approx(own.mean_rate.mean, abs=1e-6)
        assert found.mean[i, 1:] == pytest.approx(dense_means(*counts, 2, 1, 1, 1), abs=1e-5)
        new = own.new_study_rate.quantile([0.5, 0.025, 0.975])
        assert found.new[i] == pytest.approx(new, abs=1e-5)
        evidence = found.log_marginal_likelihood[i]
        assert evidence == pytest.approx(own.log_marginal_likelihood, abs=1e-5)
