"""What the priors did: derivatives by their powers, against fits with the priors themselves changed."""

from dataclasses import replace

import numpy as np
import pytest

import dfsp
from dfsp.constants import ENDS
from dfsp.engine.grid import chebyshev_shares
from dfsp.engine.nested import solve_nested
from dfsp.engine.posterior import Population, solve
from dfsp.engine.powers import NORMAL_WIDTH, power_scaling
from dfsp.model.effects import FAMILIES
from dfsp.model.likelihood import log_sum
from dfsp.model.model import Model

REVIEW = ([7, 15, 21, 8, 9, 10, 9, 4, 5, 4], [14, 22, 31, 10, 25, 12, 10, 4, 16, 8])
TABLES = {
    "review": REVIEW,
    "rare": ([2, 3, 4], [1_000_000] * 3),
    "none of 200": ([0], [200]),
    "two groups": ([0, 10, 0, 12], [10, 10, 11, 12]),
}
CLUSTERS = ([7, 4, 9, 3, 8], [15, 22, 18, 12, 11], list("AABBC"))
SPREADS = ("tau", "sigma")
H = 0.01


def ends(posterior, quantity):
    if quantity in SPREADS:
        return np.log(posterior.spread.points(np.array(ENDS)))
    return getattr(posterior, quantity).points(np.array(ENDS))


def mean(posterior, quantity):
    """E[Q], of what Q is expected to be at each node."""
    nodes, effects = posterior.nodes, posterior.model.effects.new
    if quantity in SPREADS:
        inner = posterior.spread.x > 0
        x, cdf = posterior.spread.x[inner], posterior.spread.cdf[inner]
        # The distribution function is proportional to tau before the first point.
        return np.trapezoid(np.log(x), cdf) + cdf[0] * (np.log(x[0]) - 1)
    values = {
        "typical_rate": nodes.mu,
        "mean_rate": effects.logit_mean_rate(nodes.mu, nodes.tau),
        "new_study_rate": effects.mean_effect(nodes.mu, nodes.tau),
    }
    return nodes.weight @ values[quantity]


def difference(found, lower, upper, h, quantity):
    """Return location and width by central differences."""
    width = np.diff(ends(found, quantity))[0]
    wide, narrow = (np.diff(ends(each, quantity))[0] for each in (upper, lower))
    moved = (mean(upper, quantity) - mean(lower, quantity)) / (2 * h)
    return moved * NORMAL_WIDTH / width, np.log(wide / narrow) / (2 * h)


@pytest.mark.parametrize("table", [*TABLES, pytest.param("clusters", marks=pytest.mark.slow)])
@pytest.mark.parametrize("prior", ["mu", "tau"])
def test_fits_under_other_priors_move_as_foretold(table, prior):
    """A normal or half-normal to the power alpha has its sd divided by the root of alpha."""

    def fitted(power):
        scale = 1 / np.sqrt(power)
        changed = {"mu": dfsp.Normal(0, 2 * scale), "tau": dfsp.HalfNormal(scale)}[prior]
        model = replace(Model(), **{prior: changed})
        if table == "clusters":
            return solve_nested(*CLUSTERS, model)
        return solve(*TABLES[table], model)

    found = fitted(1.0)
    foretold = power_scaling(found)
    name = found.model.effects.prior_names[prior == "tau"]
    for quantity, by in foretold.items():
        # Richardson's extrapolation of two central differences, whose error is of order h^4
        near, far = (
            np.array(difference(found, fitted(np.exp(-h)), fitted(np.exp(h)), h, quantity))
            for h in (H, 2 * H)
        )
        wanted = (4 * near - far) / 3
        # Log tau has no bound below, and its mean is not known to the digits of a difference.
        compared = slice(1, 2) if quantity in SPREADS else slice(2)
        assert by[name][compared] == pytest.approx(wanted[compared], rel=1e-4, abs=1e-4), quantity


def test_half_normal_shapes_move_as_foretold():
    """Both priors to the power alpha are the same with the scale divided by the root of alpha."""

    def fitted(power):
        return solve(*REVIEW, Model(effects=dfsp.BetaBinomialShapes(5 / np.sqrt(power))))

    found = fitted(1.0)
    for quantity, by in power_scaling(found).items():
        if quantity == "concentration":
            continue
        near, far = (
            np.array(difference(found, fitted(np.exp(-h)), fitted(np.exp(h)), h, quantity))
            for h in (H, 2 * H)
        )
        both = np.array(by["alpha"]) + np.array(by["beta"])
        assert both == pytest.approx((4 * near - far) / 3, abs=1e-4), quantity


def raised(posterior, which, h):
    """The same grid, with the prior of the first or second parameter or the likelihood raised."""
    grid, model = posterior.grid, posterior.model
    mu, _ = grid.place(chebyshev_shares(grid.columns))
    tau = np.broadcast_to(grid.tau[:, None], mu.shape)
    logs = [*model.effects.log_priors(model.mu, model.tau, mu, tau)]
    logs.append(grid.log_joint - model.log_location(mu, tau))
    return Population(model, replace(grid, log_joint=grid.log_joint + h * logs[which]))


@pytest.mark.parametrize("effects", list(FAMILIES))
def test_every_density_of_every_family(effects):
    posterior = solve(*REVIEW, Model(effects=effects))
    foretold = power_scaling(posterior)
    names = [*posterior.model.effects.prior_names, "likelihood"]
    for which, name in enumerate(names):
        lower, upper = (raised(posterior, which, h) for h in (-1e-3, 1e-3))
        for quantity in foretold:
            if quantity == "concentration":
                continue
            wanted = difference(posterior, lower, upper, 1e-3, quantity)
            assert foretold[quantity][name] == pytest.approx(wanted, abs=1e-4), (name, quantity)


def test_the_likelihood_of_clusters_is_raised_before_rho_is_integrated_out():
    """The joint density at every node of rho, times the likelihood there to a small power."""
    found = solve_nested(*CLUSTERS, Model())
    grid, phi = found.grid, found.placed.phi
    mu, _ = grid.place(chebyshev_shares(grid.columns))
    prior_of_rho = np.log(np.sin(2 * phi.u) * phi.weights)[:, None, None]
    log_l = found.placed.by_phi - prior_of_rho - found.model.mu.logpdf(mu)

    def fitted(h):
        log_joint = log_sum(np.moveaxis(found.placed.by_phi + h * log_l, 0, -1))
        return Population(found.model, replace(grid, log_joint=log_joint))

    for quantity, by in power_scaling(found).items():
        wanted = difference(found, fitted(-1e-3), fitted(1e-3), 1e-3, quantity)
        assert by["likelihood"] == pytest.approx(wanted, abs=1e-4), quantity


def test_a_fixed_prior_has_no_power():
    found = power_scaling(solve(*REVIEW, Model(tau=dfsp.Fixed(0.5))))
    assert set(found) == {"typical_rate", "mean_rate", "new_study_rate"}
    assert all(by["tau"] is None and by["mu"] is not None for by in found.values())


def test_ten_times_as_wide_a_prior_moves_about_as_location_says():
    """alpha = 0.01; the table of Kallioinen et al. is about small powers, this is a rough guide."""
    found, wide = (solve(*REVIEW, Model(mu=dfsp.Normal(0, sd))) for sd in (2, 20))
    moved = (wide.mu.mean - found.mu.mean) / found.mu.sd
    assert power_scaling(found)["typical_rate"]["mu"].location == pytest.approx(-moved, abs=0.1)


def test_what_has_no_mean_or_lies_beyond_double_precision_is_not_a_number():
    """E[1 / alpha] diverges where alpha's density is positive at 0: without any event."""
    none, sizes = [0, 0, 0], [10, 50, 400]
    shapes = Model(effects=dfsp.BetaBinomialShapes(5))
    found = solve(none, sizes, shapes)
    assert found.new_study_rate.cdf[0] > ENDS[0]  # more than that below a logit of -45
    assert np.isnan(power_scaling(found)["new_study_rate"]["beta"]).all()
    effects = (dfsp.BetaBinomial(), dfsp.BetaBinomial(a=1.5), shapes.effects, dfsp.NormalEffects())
    counts = [np.array(each) for each in (none, [1, 0, 0], sizes)]
    exists = [[each.has_mean(events, np.array(sizes)) for events in counts] for each in effects]
    assert exists == [[False, True, False], [True, True, False], [False, True, False], [True] * 3]
    half = dfsp.BetaBinomial(2, 2, dfsp.HalfNormal(5))  # positive where both shapes are 0
    apart, mixed = (np.array(each) for each in ([0, 10], [0, 5]))
    assert [half.has_mean(each, np.array([10, 10])) for each in (apart, mixed)] == [False, True]
    assert dfsp.BetaBinomial(2, 2).has_mean(apart, np.array([10, 10]))
    concentrated = Model(effects=dfsp.BetaBinomial(concentration=dfsp.LogNormal(6, 0.5)))
    power = power_scaling(solve([0], [10], concentrated))["new_study_rate"]["likelihood"]
    assert np.isnan(power.location) and np.isfinite(power.width)
