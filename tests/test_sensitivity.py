"""Priors, power-scaling and missing outcomes."""

import numpy as np
import pytest

import dfsp


def test_the_grid_holds_the_default_fit(review, review_fit):
    table = dfsp.prior_grid(review)
    row = table.loc[("HalfNormal(1)", "Normal(0, 2)")]
    assert row["typical"] == pytest.approx(review_fit.summary.loc["typical_rate", "q50"])
    assert row["tau"] == pytest.approx(review_fit.summary.loc["tau", "q50"])
    assert row["prior_tau"] == pytest.approx(0.6744898, abs=1e-6)
    prior = dfsp.prior_of(dfsp.Model()).new_study_rate.quantile([0.025, 0.975])
    assert row[["prior_low", "prior_high"]].to_numpy(float) == pytest.approx(prior)


def test_a_prior_in_conflict_is_noticed(make):
    counts = make([("A", 18, 20), ("B", 19, 20), ("C", 28, 30)])
    calm = dfsp.power_scaling(dfsp.fit(counts))
    loud = dfsp.power_scaling(dfsp.fit(counts, dfsp.Model(mu=dfsp.Normal(-3, 0.7))))
    assert loud.loc["mu", "prior"] > 3 * calm.loc["mu", "prior"]
    assert "conflict" in dfsp.describe_power_scaling(loud)


def test_missing_outcomes_end_at_the_rules():
    """Nobody of them responded: no event. All did: event."""
    evidence = dfsp.load_evidence("review")
    sweep = dfsp.missing_outcomes(evidence, steps=3)
    for p, rule in ((0.0, "no event"), (1.0, "event")):
        counts = dfsp.count(evidence, "objective_response", not_evaluable=rule)
        fit = dfsp.fit(counts).summary
        typical = fit.loc["typical_rate", ["q50", "q2.5", "q97.5"]].to_numpy(float)
        assert sweep.loc[p, ["typical", "low", "high"]].to_numpy(float) == pytest.approx(
            typical, abs=2e-4
        )
        assert sweep.loc[p, "mean"] == pytest.approx(fit.loc["mean_rate", "mean"], abs=1e-6)
    assert sweep["typical"].is_monotonic_increasing
    assert "34" not in dfsp.describe_missing(sweep.assign(typical=0.5))


def test_half_of_one_patient_is_the_mixture_of_both_answers():
    evidence = dfsp.load_evidence("review")
    rows = evidence.rows
    one = rows[
        (rows["measure"] == "response") & rows["cohort"].isin(["heinrich-2008", "wang-2015"])
    ]
    small = dfsp.Evidence(**vars(evidence) | {"rows": one})
    sweep = dfsp.missing_outcomes(small, steps=3)
    ends = [
        dfsp.fit(dfsp.count(small, "objective_response", not_evaluable=rule))
        .summary.loc["mean_rate", "mean"] for rule in ("no event", "event")
    ]  # fmt: skip
    assert sweep.loc[0.5, "mean"] == pytest.approx(np.mean(ends), abs=1e-9)


def test_cohorts_whose_missing_are_not_known_are_named():
    sweep = dfsp.missing_outcomes(dfsp.load_evidence("reconciled"), steps=2)
    assert sweep.attrs["left_out"] == ["Rutkowski 2010 (pooled)"]
    assert "Without Rutkowski 2010 (pooled)" in dfsp.describe_missing(sweep)


def test_steps_must_be_two_or_more():
    with pytest.raises(dfsp.DfspError, match="whole number of 2 or more"):
        dfsp.missing_outcomes(dfsp.load_evidence("review"), steps=1)


def test_the_sweep_is_drawn():
    sweep = dfsp.missing_outcomes(dfsp.load_evidence("review"), steps=3)
    ax = dfsp.plot_missing(sweep)
    assert ax.lines[0].get_ydata().tolist() == (100 * sweep["typical"]).tolist()
