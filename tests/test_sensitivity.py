"""Priors, power-scaling and missing outcomes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import dfsp
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import prior_of


def test_the_grid_holds_the_default_fit(review, review_fit):
    table = dfsp.sensitivity.prior_grid(review)
    both = ["tau_prior", "mu_prior"]
    rows = table.xs(("HalfNormal(1)", "Normal(0, 2)"), level=both)
    prior = prior_of(dfsp.Model()).new_study_rate.quantile([0.025, 0.975])
    assert rows.index.tolist() == ["mu", "tau", "typical_rate", "mean_rate", "new_study_rate"]
    for quantity in rows.index:
        expected = review_fit.summary.loc[quantity, ["q2.5", "q50", "q97.5"]].to_numpy(float)
        found = rows.loc[quantity, ["low", "median", "high"]].to_numpy(float)
        assert found == pytest.approx(expected)
    assert rows.loc["tau", "prior"] == pytest.approx(0.6744898, abs=1e-6)
    assert rows.loc["mu", "prior_high"] == pytest.approx(2 * 1.959964, abs=1e-5)
    found = rows.loc["new_study_rate", ["prior_low", "prior_high"]].to_numpy(float)
    assert found == pytest.approx(prior)
    own = table.xs(("this analysis", "this analysis"), level=both)
    assert own.to_numpy() == pytest.approx(rows.to_numpy())


def test_the_grid_has_the_effects_and_the_priors_of_the_model(make, monkeypatch):
    monkeypatch.setattr("dfsp.analyses.sensitivity.priors.PRIORS_OF_TAU", {"a": dfsp.HalfNormal(1)})
    monkeypatch.setattr("dfsp.analyses.sensitivity.priors.PRIORS_OF_MU", {"b": dfsp.Normal(0, 2)})
    counts = make([("A", 18, 20), ("B", 9, 20), ("C", 28, 30)])
    model = dfsp.Model(dfsp.Normal(1, 0.5), dfsp.HalfNormal(0.3), dfsp.StudentT(4))
    table = dfsp.sensitivity.prior_grid(counts, model)
    own = dfsp.fit(counts, model).summary
    medians = table["median"].to_dict()
    found = medians["this analysis", "this analysis", "typical_rate"]
    assert found == pytest.approx(own.loc["typical_rate", "q50"])
    named = dfsp.Model(dfsp.Normal(0, 2), dfsp.HalfNormal(1), dfsp.StudentT(4))
    assert medians["a", "b", "tau"] == pytest.approx(
        dfsp.fit(counts, named).summary.loc["tau", "q50"]
    )


def test_a_fixed_tau_cannot_be_scaled(make):
    counts = make([("A", 18, 20), ("B", 19, 20), ("C", 28, 30)])
    table = dfsp.sensitivity.power_scaling(dfsp.fit(counts, dfsp.Model(tau=dfsp.Fixed(0.5)))).table
    assert table.index.tolist() == ["mu", "likelihood"] and table.notna().all(axis=None)


def test_a_prior_in_conflict_is_noticed(make):
    counts = make([("A", 18, 20), ("B", 19, 20), ("C", 28, 30)])
    calm = dfsp.fit(counts)
    loud = dfsp.fit(counts, dfsp.Model(mu=dfsp.Normal(-3, 0.7)))
    for fit in (calm, loud):  # the draws know nothing of the grid's derivatives
        assert dfsp.sensitivity.power_scaling(fit).agrees
    moved = [dfsp.sensitivity.power_scaling(fit).table.loc["mu", "draws"] for fit in (calm, loud)]
    assert abs(moved[1]) > 3 * abs(moved[0])
    assert "The prior of mu decides: it pulls the typical rate down" in loud.prior_warning()


def test_draws_that_the_grid_does_not_foretell_are_seen(make):
    counts = make([("A", 18, 20), ("B", 9, 20), ("C", 28, 30)])
    found = dfsp.sensitivity.power_scaling(dfsp.fit(counts))
    table = found.table.assign(grid=found.table["draws"] + 5 * found.table["error"])
    wrong = replace(found, table=table)
    assert not wrong.agrees and "do not agree" in wrong.describe()


def test_missing_outcomes_end_at_the_rules():
    """Nobody of them responded: no event. All did: event."""
    evidence = dfsp.load_evidence("review")
    found = dfsp.sensitivity.missing_outcomes(evidence, steps=3)
    sweep = found.table
    for p, rule in ((0.0, "no event"), (1.0, "event")):
        counts = dfsp.count(evidence, "objective_response", not_evaluable=rule)
        fit = dfsp.fit(counts).summary
        typical = fit.loc["typical_rate", ["q50", "q2.5", "q97.5"]].to_numpy(float)
        assert sweep.loc[p, ["typical", "low", "high"]].to_numpy(float) == pytest.approx(
            typical, abs=2e-4
        )
        assert sweep.loc[p, "mean"] == pytest.approx(fit.loc["mean_rate", "mean"], abs=1e-6)
    assert sweep["typical"].is_monotonic_increasing
    assert "34" not in replace(found, table=sweep.assign(typical=0.5)).describe()


def test_half_of_one_patient_is_the_mixture_of_both_answers():
    evidence = dfsp.load_evidence("review")
    rows = evidence.rows
    one = rows[
        (rows["measure"] == "response") & rows["cohort"].isin(["heinrich-2008", "wang-2015"])
    ]
    small = dfsp.Evidence(**vars(evidence) | {"rows": one})
    found = dfsp.sensitivity.missing_outcomes(small, steps=3)
    sweep = found.table
    ends = [
        dfsp.fit(dfsp.count(small, "objective_response", not_evaluable=rule))
        .summary.loc["mean_rate", "mean"] for rule in ("no event", "event")
    ]  # fmt: skip
    assert sweep.loc[0.5, "mean"] == pytest.approx(np.mean(ends), abs=1e-9)


def test_the_sweep_begins_with_the_primary_analysis():
    """Rutkowski 2010 (11 of 24, SD+NE 9) is one of its cohorts."""
    evidence = dfsp.load_evidence("reconciled")
    found = dfsp.sensitivity.missing_outcomes(evidence, steps=3)
    sweep = found.table
    fit = dfsp.fit(dfsp.count(evidence, "objective_response")).summary
    expected = fit.loc["typical_rate", ["q50", "q2.5", "q97.5"]].to_numpy(float)
    assert sweep.loc[0.0, ["typical", "low", "high"]].to_numpy(float) == pytest.approx(
        expected, abs=1e-6
    )
    assert sweep.loc[0.0, "typical_most"] == pytest.approx(expected[0], abs=1e-6)
    assert found.missing == 3
    assert found.coarse == {"Rutkowski 2010 (pooled)": 9}
    assert (sweep["typical_most"] > sweep["typical"]).iloc[1:].all()
    text = found.describe()
    assert "had had the event (objective response)" in text
    assert "9 of Rutkowski 2010 (pooled)" in text


def test_the_most_that_can_be_missing_ends_at_all_events():
    evidence = dfsp.load_evidence("reconciled")
    found = dfsp.sensitivity.missing_outcomes(evidence, steps=2)
    sweep = found.table
    counts = dfsp.count(evidence, "objective_response", not_evaluable="event", ambiguous="high")
    median = dfsp.fit(counts).summary.loc["typical_rate", "q50"]
    assert sweep.loc[1.0, "typical_most"] == pytest.approx(median, abs=1e-6)


def test_without_missing_patients_it_says_so(make):
    counts = make([("A", 1, 10), ("B", 5, 10)])
    for found in (
        dfsp.sensitivity.missing_outcomes(counts, steps=3),
        dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("reconciled"), "surgery", steps=3),
    ):
        assert found.describe() == "No patient is known to be without an evaluation."
        assert found.table["typical"].nunique() == 1


def nine(missing):
    """Evidence of nine cohorts alike, each with some patients not evaluable."""
    evidence = dfsp.load_evidence("review")
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    cohorts = rows["cohort"].unique()[:9]
    first = rows[rows["cohort"].isin(cohorts)].drop_duplicates("cohort")
    cells = {"PR": 5, "SD": 4, "NE": missing}
    rows = pd.concat([first.assign(category=name, count=n) for name, n in cells.items()])
    return dfsp.Evidence(**vars(evidence) | {"rows": rows})


def test_nine_cohorts_with_one_missing_patient_each_are_gone_through():
    found = dfsp.sensitivity.missing_outcomes(nine(1), steps=3)
    sweep = found.table
    assert found.exact and found.missing == 9
    # How many of the nine: ten posteriors with binomial weights
    weight = binom.pmf(range(10), 9, 0.5)
    total = np.full(9, 10)
    means = [solve(5 + (np.arange(9) < j), total, dfsp.Model()).mean_rate.mean for j in range(10)]
    assert sweep.loc[0.5, "mean"] == pytest.approx(weight @ means, abs=1e-9)


def test_more_ways_than_can_be_gone_through_are_drawn(monkeypatch):
    exact = dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("review"), steps=3)
    monkeypatch.setattr("dfsp.analyses.sensitivity.missing.MOST_COMPLETIONS", 2)
    drawn = dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("review"), steps=3)
    assert exact.exact and not drawn.exact
    for p in (0.0, 1.0):
        assert drawn.table.loc[p].to_numpy() == pytest.approx(
            exact.table.loc[p].to_numpy(), abs=1e-6
        )
    # Two patients out of four on average, 100 draws: a standard error of 0.1 patients of 152
    assert drawn.table.loc[0.5].to_numpy() == pytest.approx(
        exact.table.loc[0.5].to_numpy(), abs=0.003
    )
    assert "were drawn" in drawn.describe()


def test_steps_must_be_two_or_more():
    with pytest.raises(dfsp.DfspError, match="whole number of 2 or more"):
        dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("review"), steps=1)


def test_the_sweep_is_drawn():
    found = dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("review"), steps=3)
    sweep = found.table
    ax = dfsp.plots.missing(found)
    assert ax.lines[0].get_ydata().tolist() == (100 * sweep["typical"]).tolist()
