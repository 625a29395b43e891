"""Pieces of the exact engine against integrals that scipy or a closed form gives."""

import numpy as np
import pytest
from scipy import integrate, special, stats

import dfsp
from dfsp.engine.distributions import Distribution, cumulate_vanishing
from dfsp.engine.grid import ROWS, Data, Surface, _more, place
from dfsp.engine.posterior import Nodes, solve
from dfsp.model.effects import NormalEffects
from dfsp.model.likelihood import log_likelihood


def by_quad(r, n, mu, tau):
    """log of the integral of Binomial(r | n, theta) N(theta | mu, tau^2), about its mode."""

    def height(x):
        return r * x - n * np.logaddexp(0, x) - ((x - mu) / tau) ** 2 / 2

    own = np.log((r + 0.5) / (n - r + 0.5))
    grid = np.linspace(min(mu, own) - 8 * tau, max(mu, own) + 8 * tau, 400_001)
    mode = grid[np.argmax(height(grid))]
    sd = 1 / np.sqrt(n * special.expit(mode) * special.expit(-mode) + tau**-2)
    ends = mode - 12 * sd, mode + 12 * sd
    mass = integrate.quad(
        lambda x: np.exp(height(x) - height(mode)), *ends, points=[mode], epsrel=1e-11, limit=200
    )[0]
    binomial = special.gammaln(n + 1) - special.gammaln(r + 1) - special.gammaln(n - r + 1)
    return np.log(mass / tau / np.sqrt(2 * np.pi)) + height(mode) + binomial


@pytest.mark.parametrize(
    ("r", "n", "mu", "tau"),
    [
        (9, 25, -0.3, 0.01),  # tau is narrow, and Gauss's rule is about mu
        (9, 25, 2.5, 0.03),
        (0, 8, -1.0, 0.05),
        (400, 1000, 3.0, 0.006),  # steep, so that the rule about mu is not used
        (400, 1000, -0.9, 0.8),  # the counts are narrow, and the rule is over them
        (30_000, 100_000, 1.5, 0.5),
        (30_000, 100_000, -2.0, 0.03),  # steep, so that the rule over counts is not used
        (700, 1000, 0.3, 30.0),
    ],
)
@pytest.mark.parametrize("level", [2, 3])
def test_likelihood_where_one_factor_is_narrow(r, n, mu, tau, level):
    found = log_likelihood(np.full(1, r), np.full(1, n), np.full(1, mu), np.full(1, tau), level)
    assert found[0, 0] == pytest.approx(by_quad(r, n, mu, tau), abs=2e-8)


def test_sinc_integrals_are_exact_between_points():
    """Of a normal density at points half a standard deviation apart."""
    x, fine = np.arange(-8, 8.25, 0.5), np.arange(-8, 8.125, 0.125)
    found = cumulate_vanishing(np.stack([stats.norm.pdf(x), stats.norm.pdf(x, 1)]) / 2, 4)
    expected = np.stack([special.ndtr(fine), special.ndtr(fine - 1)])
    assert found == pytest.approx(expected, abs=1e-8)


def test_a_rate_has_the_quantiles_of_its_logit():
    logit = Distribution(np.linspace(-3, 5, 81), special.ndtr(np.linspace(-4, 4, 81)), 1, 1, False)
    rate = logit.as_rate(0.7, 0.2)
    assert rate.summary()[2:] == pytest.approx(special.expit(logit.summary()[2:]), abs=1e-15)
    assert rate.summary()[:2].tolist() == [0.7, 0.2]


@pytest.mark.parametrize(
    "effects", [dfsp.NormalEffects(), dfsp.Exnex()], ids=["plain", "stretched"]
)
def test_shares_of_a_row_are_those_of_its_points(effects):
    data = Data.of(np.array([7.0, 15, 21, 8, 9]), np.array([14.0, 22, 31, 10, 25]))
    grid = place(Surface(data, dfsp.Model(effects=effects)))
    assert grid.stretched == (effects.family == "exnex")
    share = np.linspace(0.01, 0.99, 7)
    rows = np.arange(len(grid.tau)) % 5 == 1
    for row, mu in zip(np.flatnonzero(rows), grid.place(share, rows)[0], strict=True):
        one = np.arange(len(grid.tau)) == row
        assert grid.share_of(mu, one)[0] == pytest.approx(share, abs=1e-12)


def test_a_better_grid_is_chosen_by_the_error():
    """Numbers of rows: none where the error will do, one more at least, more for a large error."""
    assert _more(ROWS, 0, 1e-5, 3e-4, 0.6) == 0
    assert _more(ROWS, 0, 4e-4, 3e-4, 0.6) == 1
    assert _more(ROWS, 0, 0.2, 3e-4, 0.6) == 3
    assert _more(ROWS, len(ROWS) - 1, 1.0, 3e-4, 0.6) == len(ROWS) - 1


def test_large_studies_need_no_more_than_small_ones():
    """Rows and columns of a grid, which its time is proportional to: see tests/benchmarks."""
    rng = np.random.default_rng(1)
    rate = special.expit(rng.normal(0.5, 0.7, 10))
    sizes = [
        solve(rng.binomial(n, rate), np.full(10, n), dfsp.Model()).grid.log_joint.size
        for n in (10, 1_000, 100_000)
    ]
    assert max(sizes) <= 3 * min(sizes)


def test_a_new_study_has_its_table_where_a_known_one_needs_another():
    """0 of 1 needs a table without finer points, a new study does not."""
    model = dfsp.Model(dfsp.Normal(0, 1), dfsp.LogNormal(-0.5625, 0.59375))
    rate = solve([0.0], [1.0], model).new_study_rate
    # By symmetry the prior's median is 0.5, and none of 1 had the event.
    assert 0 < rate.quantile(0.025) < rate.quantile(0.5) < 0.5 < rate.quantile(0.975) < 1
    rest = solve([1.0], [1.0], model).new_study_rate
    assert rest.quantile(0.5) == pytest.approx(1 - rate.quantile(0.5), abs=1e-6)


def test_likelihoods_of_no_event_far_from_their_rate():
    # E[(1 - p)^n] = E[exp(-n theta)] = exp(-n mu + n^2 tau^2 / 2) where rates are all but 1, and
    # P(theta < -X), X the logit of a rate below which no event is seen, where tau is far larger.
    n = np.array([1.0, 5, 300])
    found = log_likelihood(np.zeros(3), n, np.array([3e4, 1e7]), np.array([2.0, 9.0]), 3)
    wanted = -n[:, None] * [3e4, 1e7] + n[:, None] ** 2 * np.array([4.0, 81.0]) / 2
    assert found == pytest.approx(wanted, rel=1e-9)
    found = log_likelihood(np.zeros(3), n, np.full(1, 2e6), np.full(1, 1e6), 3)
    assert found[:, 0] == pytest.approx(stats.norm.logcdf(-2), abs=1e-4)


def test_kernels_a_part_at_a_time_are_those_of_the_normals(monkeypatch):
    # Wide and narrow ones, which have a part of theta each
    width = np.repeat([2.0, 0.03, 5e-4], 40)
    mu = np.concatenate([np.linspace(-1, 1, 40), np.linspace(3, 4, 40), np.linspace(0, 0.1, 40)])
    none, one = np.zeros(120), np.ones(120)
    nodes = Nodes(
        mu, width, width, none, one / 120, np.log(one / 120), none > 0, none.astype(int), ()
    )
    theta, chosen = np.sort(np.append(np.linspace(-40, 40, 301), mu)), np.arange(120)
    monkeypatch.setattr("dfsp.engine.posterior.KERNELS_AT_ONCE", 4000)
    found = nodes.mixed(theta, NormalEffects(), chosen, np.stack([one, mu**2]))
    wanted = stats.norm.pdf(theta[:, None], mu, width)
    assert found[0] == pytest.approx(wanted.sum(1), rel=1e-9)
    assert found[1] == pytest.approx((wanted * mu**2).sum(1), rel=1e-9)


def test_width_is_taken_back_of_all_kernels_together(monkeypatch):
    """A part at a time as all at once: kernels whose width is taken back are negative in places."""
    width, mu = np.repeat([0.5, 2.0], 40), np.tile(np.linspace(-3, 3, 40), 2)
    excess, one = np.repeat([0.9, 0.0], 40), np.ones(80)
    nodes = Nodes(
        mu, width, width, excess, one / 80, np.log(one / 80), excess < 0, np.zeros(80, int), ()
    )
    theta, chosen = np.linspace(-4, 4, 201), np.arange(80)
    # Densities of a corner, as a study in conflict with the others has
    weight = np.stack([np.where(np.abs(mu) < 1, one, 1e-3), one])
    together = nodes.mixed(theta, NormalEffects(), chosen, weight)
    monkeypatch.setattr("dfsp.engine.posterior.KERNELS_AT_ONCE", 2000)
    by_parts = nodes.mixed(theta, NormalEffects(), chosen, weight)
    assert by_parts == pytest.approx(together, rel=1e-9)
