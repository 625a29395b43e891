"""The NUTS engine; draws are compared within Monte Carlo error only."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import integrate

import dfsp
from dfsp.checks import failed
from dfsp.engine import nuts as sampling
from dfsp.engine.posterior import solve

ROWS = pd.DataFrame({"study": ["A", "B", "C"], "events": [0, 4, 9], "total": [5, 10, 9]})


@pytest.fixture(scope="session")
def both(ankylosing):
    return dfsp.fit(ankylosing, engine="both", seed=11)


def tree(rng, *, shift=0.0, diverging=0, stuck=False, energy=None, draws=500):
    """Made draws: independent normals, made worse in one way at a time."""
    shape = (4, draws)
    values = {name: rng.normal(size=shape) for name in ("mu", "tau")}
    values["mu"][0] += shift
    if stuck:
        values["tau"] = np.cumsum(values["tau"], axis=1) / 50
    divergent = np.zeros(shape, dtype=bool)
    divergent[0, :diverging] = True
    dims = ("chain", "draw")
    coords = {"chain": range(4), "draw": range(draws)}
    posterior = xr.Dataset({name: (dims, value) for name, value in values.items()}, coords)
    posterior["theta"] = (("chain", "draw", "study"), rng.normal(size=(*shape, 2)))
    statistics = xr.Dataset(
        {
            "diverging": (dims, divergent),
            "energy": (dims, rng.normal(size=shape) if energy is None else energy),
        },
        coords,
    )
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics})


def test_both_engines_agree_on_published_data(both):
    assert both.agrees is True, [str(check) for check in failed(both.checks)]
    assert len(both.checks) > 5
    assert both.sampled.draws["posterior"].sizes["chain"] == 4


def test_the_tree_holds_every_group_named(both):
    groups = set(both.sampled.draws.children)
    assert {
        "posterior", "sample_stats", "observed_data", "constant_data", "log_likelihood",
        "prior", "prior_predictive", "posterior_predictive",
    } <= groups  # fmt: skip
    assert both.sampled.draws["posterior"]["rate"].dims == ("chain", "draw", "study")
    assert (
        both.sampled.draws["posterior"]["study"].to_numpy().tolist()
        == both.studies["study"].to_list()
    )


def test_replicates_draw_a_new_effect_each(both):
    """Their spread is that of new studies, wider than with the fitted effect kept."""
    events = both.sampled.draws["posterior_predictive"]["events"]
    share = (events / both.sampled.draws["constant_data"]["total"]).sel(study="Davis")
    new = both.summary.loc["new_study_rate"]
    expected = np.sqrt(new["sd"] ** 2 + (new["mean"] * (1 - new["mean"]) - new["sd"] ** 2) / 139)
    assert float(share.std()) == pytest.approx(expected, rel=0.1)
    kept = both.studies.set_index("study").loc["Davis", "sd"]
    assert float(share.std()) > 1.5 * kept


def test_a_poor_sample_cannot_pass_as_agreement(both):
    drawn = sampling.summary(both.sampled.draws)
    moved = both.summary.copy()
    moved.loc["mu"] += 6 * drawn.loc["mu", "mcse_mean"]
    assert failed(sampling.agreement(drawn, moved))
    loose = drawn.copy()
    loose[[c for c in loose if c.startswith("mcse")]] *= 50
    assert failed(sampling.agreement(loose, both.summary))


def test_a_mean_that_few_draws_decide_is_no_poor_sample_where_its_median_is_known(both):
    """As of rates near 1, whose mean hangs on the draws that stray."""
    drawn = sampling.summary(both.sampled.draws)
    of_rate = drawn.index == "mean_rate"
    drawn.loc[of_rate, "mcse_mean"] = 0.1 * both.summary["sd"]["mean_rate"]
    assert not failed(sampling.agreement(drawn, both.summary))
    drawn.loc[of_rate, "mcse_q50"] = 0.1 * both.summary["sd"]["mean_rate"]
    assert [each.name for each in failed(sampling.agreement(drawn, both.summary))] == [
        "Monte Carlo error"
    ]


def test_a_moment_that_does_not_exist_cannot_be_compared(both):
    drawn, exact = sampling.summary(both.sampled.draws), both.summary.copy()
    exact.loc["tau", ["mean", "sd"]] = np.nan
    checks = sampling.agreement(drawn, exact)
    assert not failed(checks)
    assert any(check.passed is None for check in checks)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({}, None),
        ({"diverging": 3}, sampling.DIVERGENCES),
        ({"shift": 1.0}, sampling.RHAT),
        ({"stuck": True}, sampling.BULK_ESS),
    ],
)
def test_each_fault_trips_the_gate(rng, fault, name):
    names = {check.name for check in failed(sampling.gate(tree(rng, **fault)))}
    assert (name in names) if name else not names


def test_slow_energy_trips_the_gate(rng):
    energy = np.cumsum(rng.normal(size=(4, 500)), axis=1)
    names = {check.name for check in failed(sampling.gate(tree(rng, energy=energy)))}
    assert names == {sampling.BFMI}


def test_a_refused_gate_raises_with_value_limit_and_advice(rng):
    made = tree(rng, diverging=3)
    refused = sampling.Sampled(made, sampling.gate(made))
    assert refused.refused
    with pytest.raises(dfsp.NotConverged, match=r"(?s)divergen.* 3, limit 0.*What to do"):
        sampling.require_converged(refused)
    sampling.require_converged(replace(refused, checks=()))


@pytest.mark.parametrize(("first", "runs"), [({"shift": 1.0}, 2), ({"diverging": 1}, 1), ({}, 1)])
def test_only_rhat_or_ess_is_tried_again_and_once(monkeypatch, rng, first, runs):
    asked = []

    def run(model, draws, seed):
        asked.append((draws, seed))
        return tree(rng, draws=draws, **first)

    monkeypatch.setattr(sampling, "run", run)
    monkeypatch.setattr(sampling, "_complete", lambda made, *rest: made)
    sampled = sampling.sample(ROWS, dfsp.Model(), draws=500)
    assert len(asked) == runs
    assert sampled.reran == (runs == 2)
    if runs == 2:
        assert (asked[0][0], asked[1][0]) == (500, 1000)
        assert asked[0][1] != asked[1][1]


@pytest.mark.parametrize(
    "prior",
    [
        dfsp.HalfNormal(0.7), dfsp.HalfCauchy(0.7), dfsp.HalfStudentT(3, 0.7),
        dfsp.Exponential(0.7), dfsp.Uniform(3), dfsp.LogNormal(-1, 0.7),
    ],
    ids=lambda prior: prior.family,
)  # fmt: skip
def test_both_engines_mean_the_same_prior(prior):
    import pymc as pm

    x = np.array([0.1, 0.6, 2.5])
    variable = sampling.build(ROWS, dfsp.Model(tau=prior))["tau"]
    # PyTensor may evaluate in single precision
    assert pm.logp(variable, x).eval() == pytest.approx(prior.logpdf(x), rel=2e-6)
    total, _ = integrate.quad(lambda t: np.exp(prior.logpdf(np.array(t))), 0, prior.upper)
    assert total == pytest.approx(1, abs=1e-6)


def test_zero_and_all_events_with_tau_known():
    model = dfsp.Model(tau=dfsp.Fixed(0.5))
    sampled = sampling.sample(ROWS, model, draws=500, seed=2)
    assert np.all(sampled.draws["posterior"]["tau"] == 0.5)
    exact = solve(ROWS["events"], ROWS["total"], model)
    drawn = sampling.study_rates(sampled.draws)
    z = (drawn["mean"].to_numpy() - exact.studies[:, 0]) / drawn["mcse_mean"].to_numpy()
    assert np.abs(z).max() < 5


@pytest.mark.parametrize("draws", [0, -5, 2.5, True])
def test_a_number_of_draws_that_cannot_be_used(draws):
    with pytest.raises(dfsp.DfspError, match=r"draws = .*; give a whole number"):
        sampling.sample(ROWS, dfsp.Model(), draws=draws)


PROGRAM = """
import pandas as pd, dfsp
table = pd.DataFrame({"study": ["A", "B"], "events": [3, 5], "total": [10, 12]})
fit = dfsp.fit(table, engine="both", draws=1000, gate="report")
assert fit.sampled is not None
"""


def test_sampling_prints_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_verdicts_hold_on_a_generic_processor(monkeypatch):
    """Draws differ without fused multiply-add; whether the engines agree must not."""
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    program = PROGRAM.replace("draws=1000", "draws=2000") + "print(fit.agrees)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def test_nuts_alone_reports_no_moment_that_does_not_exist():
    fit = dfsp.fit(ROWS, dfsp.Model(tau=dfsp.HalfStudentT(0.9, 0.2)), engine="nuts", draws=2000)
    # One study informs (4 of 10): tau has a mean (0.9 + 1 > 1) and no variance (0.9 + 1 < 2).
    assert fit.summary.loc["tau"].isna().to_list() == [False, True, *[False] * 5]
    assert fit.as_dict()["log_marginal_likelihood"] is None
    assert fit.as_dict()["studies"][0]["leave_one_out_lpd"] is None
