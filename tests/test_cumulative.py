"""The cumulative model: its cells, its probabilities, and parameters that come back."""

import numpy as np
import pytest
from scipy.special import expit

import dfsp
from dfsp.analyses.ordinal import (
    PARAMETERS,
    Cells,
    cells_of,
    fit,
    probabilities,
    proportional_odds,
)


@pytest.fixture(scope="module")
def review():
    return dfsp.load_evidence("review")


@pytest.fixture(scope="module")
def fitted(review):
    return fit(review, draws=1000)


def test_coarse_cells_are_sums_and_hidden_ones_drop_the_cohort():
    cells = cells_of(dfsp.load_evidence("reconciled"))
    kerob = cells.study.index("Kérob 2010")
    members = cells.member[cells.row == kerob].tolist()
    assert members == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert cells.count[cells.row == kerob].tolist() == [9, 16]
    assert cells.dropped.to_numpy().tolist() == [
        ["Rutkowski 2010 (pooled)", "SD+NE hides how many were evaluable"]
    ]
    assert cells.total[cells.study.index("Ugurel 2014")] == 14


def test_probabilities_are_those_of_a_cumulative_logit():
    theta, complete, progression = 0.4, 1.5, 0.7
    found = probabilities(theta, complete, progression)
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(expit(theta - complete))
    assert found[:2].sum() == pytest.approx(expit(theta))
    assert found[:3].sum() == pytest.approx(expit(theta + progression))


def test_the_model_has_the_likelihood_of_its_cells():
    """Log probability of the potential at one point, by hand."""
    cells = cells_of(dfsp.load_evidence("reconciled"))
    model = dfsp.analyses.ordinal.build(cells, dfsp.Model())
    point = model.initial_point()
    z = np.linspace(-1, 1, len(cells.study))
    point |= {"mu": 0.3, "tau_log__": np.log(0.8), "z": z}
    point |= {"complete_step_log__": np.log(2.0), "progression_step_log__": np.log(1.1)}
    shares = probabilities(0.3 + 0.8 * z, 2.0, 1.1)
    inside = (shares[cells.row] * cells.member).sum(-1)
    expected = (cells.count * np.log(inside)).sum()
    logp = model.compile_logp(vars=model.potentials[0], sum=True)
    assert float(logp(point)) == pytest.approx(expected)


def test_the_review_under_proportional_odds(fitted):
    """Independent fits of both models to these counts gave about 0.70 and 0.66."""
    assert not fitted.refused
    table = fitted.response()
    assert table.loc["binary (exact)", "q50"] == pytest.approx(0.66, abs=0.005)
    assert table.loc["cumulative (NUTS)", "q50"] == pytest.approx(0.70, abs=0.015)
    rates = fitted.rates()
    assert rates["mean"].iloc[:4].sum() == pytest.approx(1)
    odds = proportional_odds(fitted)
    checks = odds.checks
    assert [check.passed for check in checks] == [True] * 4
    assert "nothing speaks against" in odds.describe()


def test_effects_that_differ_between_steps_are_noticed():
    """Half of the cohorts only complete responses or progressions, the others none of either."""
    extremes, middles = [30, 0, 0, 30], [0, 30, 30, 0]
    counts = np.array([extremes, middles] * 4).ravel()
    cells = Cells(
        [f"S{i}" for i in range(8)], np.repeat(np.arange(8), 4), np.tile(np.eye(4), (8, 1)),
        counts, dfsp.analyses.ordinal.pd.DataFrame(columns=["study", "reason"]),
    )  # fmt: skip
    tree = dfsp.engine.nuts.run(dfsp.analyses.ordinal.build(cells, dfsp.Model()), 500, 1)
    result = dfsp.analyses.ordinal.Cumulative(cells, dfsp.Model(), tree, ())
    odds = proportional_odds(result)
    checks = odds.checks
    assert checks[0].passed is False
    assert "doubtful: spread of categories" in odds.describe()


def sampled(patients):
    """The cumulative model of counts in single categories, one row a study."""
    studies = len(patients)
    cells = Cells(
        [f"S{i}" for i in range(studies)], np.repeat(np.arange(studies), 4),
        np.tile(np.eye(4), (studies, 1)), np.asarray(patients).ravel(),
        dfsp.analyses.ordinal.pd.DataFrame(columns=["study", "reason"]),
    )  # fmt: skip
    tree = dfsp.engine.nuts.run(dfsp.analyses.ordinal.build(cells, dfsp.Model()), 500, 1)
    return dfsp.analyses.ordinal.Cumulative(cells, dfsp.Model(), tree, ())


def test_studies_that_cross_are_noticed():
    """Where more respond, more progress too: no single effect moves a study so."""
    high, low = [[0, 16, 0, 4], [0, 15, 0, 5]], [[0, 4, 16, 0], [0, 5, 15, 0]]
    result = sampled([high[0], low[0], high[1], low[1]] * 2)
    odds = proportional_odds(result)
    check = odds.checks[2]
    assert check.name == "proportional odds: response and progression"
    assert check.passed is False
    assert "doubtful" in odds.describe()


@pytest.mark.slow
def test_studies_of_proportional_odds_do_not_cross():
    rng = np.random.default_rng(20190303)
    shares = probabilities(0.3 + 1.0 * rng.standard_normal(8), 2.0, 1.2)
    assert proportional_odds(sampled(rng.multinomial(20, shares))).checks[2].passed is True


def test_response_rates_that_contradict_each_other_are_noticed(fitted):
    """Draws of the typical rate moved by two of the binary model's posterior sds."""
    moved = fitted.draws.copy(deep=True)
    moved["posterior"]["typical_rate"] -= 0.2
    bent = dfsp.analyses.ordinal.Cumulative(fitted.cells, fitted.model, moved, fitted.checks)
    odds = proportional_odds(bent)
    checks = odds.checks
    assert checks[3].passed is False
    assert checks[3].value > 1
    assert "doubtful: response rate" in odds.describe()


def test_coarse_counts_alone_cannot_tell(fitted):
    """28 of 40 respond, as the draws have it: that agrees, and the rest has no cell."""
    halves = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    cells = Cells(
        list("ABCD"), np.repeat(np.arange(4), 2), np.tile(halves, (4, 1)),
        np.array([7, 3, 6, 4, 7, 3, 8, 2]), fitted.cells.dropped,
    )  # fmt: skip
    coarse = dfsp.analyses.ordinal.Cumulative(cells, fitted.model, fitted.draws, ())
    odds = proportional_odds(coarse)
    checks = odds.checks
    assert [check.passed for check in checks[:3]] == [None] * 3
    assert "cannot tell" in odds.describe()


def test_a_fixed_tau_is_not_judged(review):
    fixed = fit(review, model=dfsp.Model(tau=dfsp.Fixed(0.7)), draws=500)
    assert not fixed.refused


def test_refused_draws_say_nothing(fitted):
    bad = dfsp.checks.Check("R-hat", False, 2.0, 1.01, "chains disagree")
    refused = dfsp.analyses.ordinal.Cumulative(fitted.cells, fitted.model, fitted.draws, (bad,))
    assert "did not converge" in proportional_odds(refused).describe()
    assert "refused" in repr(refused)


def test_no_cohort_is_left(review):
    rows = review.rows[review.rows["measure"] != "response"]
    with pytest.raises(dfsp.DfspError, match="no cohort with response counts"):
        cells_of(dfsp.Evidence(**vars(review) | {"rows": rows}))


def test_cohorts_that_say_nothing_are_named(review):
    rows = review.rows[review.rows["measure"] == "response"].copy()
    rows.loc[rows["cohort"] == "han-2009", "category"] = "NE"
    rows = rows[(rows["cohort"] != "han-2009") | (rows["count"] > 0)]
    cohorts = review.cohorts
    kind = cohorts["kind"].mask(cohorts["cohort"] == "wang-2015", "aggregate")
    table = {"rows": rows, "cohorts": cohorts.assign(kind=kind)}
    cells = cells_of(dfsp.Evidence(**vars(review) | table))
    assert dict(cells.dropped.to_numpy()) == {
        "Wang 2015": "a total over unknown cohorts",
        "Han 2009": "no evaluable patient",
    }
    only = table | {"rows": rows[rows["cohort"] == "han-2009"]}
    with pytest.raises(dfsp.DfspError, match="no cohort with response counts"):
        cells_of(dfsp.Evidence(**vars(review) | only))


def test_the_gate_judges_all_parameters(fitted):
    assert set(PARAMETERS) <= set(fitted.draws["posterior"].data_vars)
    assert len(fitted.checks) == 5


@pytest.mark.slow
def test_parameters_come_back_from_simulated_counts():
    """100 data sets with parameters from the prior, each third cohort coarse: 80 to 98 covered.

    A right 90 % interval covers a binomial number of 100, between 80 and 98 with probability 0.998.
    """
    import nutpie

    rng = np.random.default_rng(20190302)
    fine, coarse = np.eye(4), np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    blocks = [coarse if i % 3 == 2 else fine for i in range(8)]
    cells = Cells(
        [f"S{i}" for i in range(8)], np.repeat(np.arange(8), [len(b) for b in blocks]),
        np.concatenate(blocks), np.zeros(sum(len(b) for b in blocks), dtype=np.int64),
        dfsp.analyses.ordinal.pd.DataFrame(columns=["study", "reason"]),
    )  # fmt: skip
    model = dfsp.Model()
    compiled = nutpie.compile_pymc_model(dfsp.analyses.ordinal.build(cells, model))
    covered = dict.fromkeys(PARAMETERS, 0)
    for i in range(100):
        truth = {
            "mu": rng.normal(0, 2), "tau": abs(rng.normal()),
            "complete_step": abs(rng.normal(0, dfsp.analyses.ordinal.STEP_SD)),
            "progression_step": abs(rng.normal(0, dfsp.analyses.ordinal.STEP_SD)),
        }  # fmt: skip
        theta = truth["mu"] + truth["tau"] * rng.standard_normal(8)
        shares = probabilities(theta, truth["complete_step"], truth["progression_step"])
        patients = rng.multinomial(20, shares)
        counts = np.concatenate([block @ patients[s] for s, block in enumerate(blocks)])
        tree = nutpie.sample(
            compiled.with_data(count=counts.astype(np.int64)), chains=2, tune=500, draws=500,
            target_accept=0.95, seed=i, progress_bar=False,
        )  # fmt: skip
        for name in PARAMETERS:
            low, high = np.quantile(tree["posterior"][name].to_numpy(), [0.05, 0.95])
            covered[name] += low <= truth[name] <= high
    assert all(80 <= number <= 98 for number in covered.values()), covered
