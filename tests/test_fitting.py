import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp import fitting
from dfsp.checks import Check, failed
from dfsp.constants import STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.schemas import schema


@pytest.mark.parametrize("effects", ["normal", "student-t", "exnex", "beta-binomial"])
def test_the_first_published_schema_still_holds(review, effects):
    """`fit_schema_1.json` is dfsp.fit/1 as it was first, but for keys that it did not know."""
    first = json.loads((Path(__file__).parent / "fit_schema_1.json").read_text(encoding="utf-8"))
    jsonschema.validate(dfsp.fit(review, dfsp.Model(effects=effects)).as_dict(), first)


def test_the_result_follows_its_schema(review_fit):
    jsonschema.validate(review_fit.as_dict(), schema("fit"))


def test_what_does_not_exist_is_null():
    fit = dfsp.fit(one("A", 0, 1), dfsp.Model(tau=dfsp.HalfCauchy(1)))
    result = fit.as_dict()
    jsonschema.validate(result, schema("fit"))
    assert result["tau"]["mean"] is None
    assert result["tau"]["sd"] is None
    assert result["tau"]["q50"] == pytest.approx(1, rel=1e-4)


def one(study, events, total):
    return pd.DataFrame({"study": [study], "events": [events], "total": [total]})


def test_with_one_study_leaving_it_out_is_the_prior_predictive():
    fit = dfsp.fit(one("A", 3, 10))
    result = fit.as_dict()
    assert result["elpd_leave_one_study_out"] == pytest.approx(
        result["log_marginal_likelihood"], abs=1e-9
    )


def test_tables_hold_what_they_say(review_fit):
    assert list(review_fit.summary.index) == list(fitting.QUANTITIES)
    assert list(review_fit.summary.columns) == list(STATISTICS)
    assert review_fit.studies["events"].sum() == 92
    assert review_fit.studies["total"].sum() == 152
    assert review_fit.agrees is True
    assert "10 studies" in repr(review_fit)


def test_cohorts_that_share_patients_leave_together(review):
    """McArthur 2005 and Heinrich 2008 report the same trial."""
    together, alone = dfsp.fit(review), dfsp.fit(review, leave_out="alone")
    differs = ~np.isclose(together.studies["leave_one_out_lpd"], alone.studies["leave_one_out_lpd"])
    assert set(together.studies["study"][differs]) == {"McArthur 2005", "Heinrich 2008"}


@pytest.mark.parametrize("option", ["engine", "leave_out", "gate"])
def test_unknown_options_are_refused(option, review):
    with pytest.raises(dfsp.DfspError, match=f"{option} 'x' is not known; use one of"):
        dfsp.fit(review, **{option: "x"})


def test_a_refused_gate_hides_the_draws_only(monkeypatch, ankylosing):
    bad = Check("divergences", False, 7.0, 0.0, "7 divergent transitions.")

    class Refused:
        draws = None
        checks = (bad,)
        refused = True

    def refuse(sampled):
        raise dfsp.NotConverged("divergences 7, limit 0")

    monkeypatch.setattr(sampling, "sample", lambda *args, **options: Refused())
    monkeypatch.setattr(sampling, "require_converged", refuse)
    fit = dfsp.fit(ankylosing, engine="both", gate="report")
    assert fit.agrees is False
    assert fit.summary.loc["typical_rate", "mean"] == pytest.approx(0.2507, abs=1e-4)
    for engine, gate in (("both", "raise"), ("nuts", "report")):
        with pytest.raises(dfsp.NotConverged):
            dfsp.fit(ankylosing, engine=engine, gate=gate)


def test_a_grid_that_does_not_resolve_fails_its_check(monkeypatch, ankylosing):
    monkeypatch.setattr(fitting, "GRID_ERROR", 0.0)
    assert dfsp.fit(ankylosing).agrees is False


def test_a_verdict_of_numpy_is_one():
    check = Check("grid", np.float64(2) <= 1.0, 2.0, 1.0, "")
    assert failed([check]) == (check,)
    assert json.loads(json.dumps(check.as_dict()))["passed"] is False
