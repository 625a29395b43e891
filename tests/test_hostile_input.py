"""Generated input: only `DfspError` for what is wrong, sane numbers for what is right."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dfsp
from dfsp.exact import solve

QUIET = settings(
    max_examples=400, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip

NAMES = ["study", "events", "total", "Study", "n", "", "trial"]
CELLS = st.one_of(
    st.integers(-5, 200).map(str),
    st.floats().map(str),
    st.sampled_from(["", "12 %", "3.0", "n/a", "NaN", "inf", "1e400", "²", "\x00", '"', "=1", "A"]),
    st.text(max_size=6),
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=8), st.just([1])
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile") / "table.csv"


@QUIET
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    st.lists(st.lists(CELLS, max_size=5), max_size=6),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_is_read_or_refused(file, columns, rows, separator, encoding):
    lines = [separator.join(row) for row in [columns, *rows]]
    file.write_bytes("\n".join(lines).encode(encoding, "surrogatepass"))
    with suppress(dfsp.DfspError):
        table = dfsp.read_table(file).table
        assert ((table["events"] >= 0) & (table["events"] <= table["total"])).all()
        assert table["study"].is_unique and (table["total"] > 0).all()


@QUIET
@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(file, content):
    file.write_bytes(content)
    with suppress(dfsp.DfspError):
        dfsp.read_table(file)


@QUIET
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("evidence_set", "table", "outcome", "not_evaluable", "drop", "mu_sd", "tau_family", "tau_scale", "draws", "seed", "engine", "effects", "folder"), VALUES)))  # fmt: skip
def test_parameters_are_used_or_refused(changes):
    parameters = {
        "evidence_set": "reconciled", "table": "", "outcome": "objective_response",
        "not_evaluable": "no event", "drop": "", "mu_sd": 2.0, "tau_family": "half-normal",
        "tau_scale": 1.0, "draws": 2000, "seed": 1, "engine": "exact", "effects": "normal",
        "folder": "",
    }  # fmt: skip
    with suppress(dfsp.DfspError):
        dfsp.response_analysis(**parameters | changes)


COUNTS = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SMALL = st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
EDGE = st.integers(1, 500).flatmap(lambda n: st.sampled_from([(0, n), (n, n), (1, n)]))
STUDIES = st.lists(st.one_of(SMALL, SMALL, EDGE, COUNTS), min_size=1, max_size=6)
SCALES = st.floats(-2, 1).map(lambda power: 10**power)
TAUS = st.one_of(
    SCALES.map(dfsp.HalfNormal), SCALES.map(dfsp.HalfCauchy), SCALES.map(dfsp.Exponential),
    SCALES.map(dfsp.Uniform), SCALES.map(dfsp.Fixed),
    st.builds(dfsp.HalfStudentT, st.floats(1, 10), SCALES),
    st.builds(dfsp.LogNormal, st.floats(-3, 1), st.floats(0.1, 1.5)),
)  # fmt: skip
MODELS = st.builds(dfsp.Model, st.builds(dfsp.Normal, st.floats(-3, 3), SCALES), TAUS)


EFFECTS = st.one_of(
    st.builds(dfsp.StudentT, st.floats(1, 50)),
    st.builds(dfsp.Exnex, st.floats(0, 1), st.floats(-3, 3), SCALES),
)
CONCENTRATIONS = st.one_of(
    st.builds(dfsp.LogNormal, st.floats(-2, 5), st.floats(0.1, 3)),
    st.builds(dfsp.Pareto, st.floats(0.3, 3), SCALES),
    SCALES.map(dfsp.HalfCauchy),
    SCALES.map(dfsp.Uniform),
)
OTHERS = st.one_of(
    st.builds(dfsp.Model, st.builds(dfsp.Normal, st.floats(-3, 3), SCALES), TAUS, EFFECTS),
    st.builds(
        lambda a, b, prior: dfsp.Model(effects=dfsp.BetaBinomial(a, b, prior)),
        st.floats(0.2, 5), st.floats(0.2, 5), CONCENTRATIONS,
    ),
)  # fmt: skip


@settings(QUIET, max_examples=1000)
@given(STUDIES, MODELS)
def test_results_stay_in_their_domain(studies, model):
    """No warning either: the test configuration makes an error of each."""
    check_domain(studies, model)


@settings(QUIET, max_examples=60)
@given(STUDIES, OTHERS)
def test_results_of_other_effects_stay_in_their_domain(studies, model):
    check_domain(studies, model)


def check_domain(studies, model):
    events, total = np.array(studies).T
    posterior = solve(events, total, model)
    without_mu = isinstance(model.effects, dfsp.BetaBinomial)
    if posterior.exchangeable is not None:
        assert ((posterior.exchangeable >= -1e-6) & (posterior.exchangeable <= 1 + 1e-6)).all()
    for name in ("typical_rate", "mean_rate", "new_study_rate")[without_mu:]:
        numbers = getattr(posterior, name).summary()
        assert np.isfinite(numbers).all(), name
        assert (numbers >= 0).all() and (numbers <= 1).all(), name
        assert (np.diff(numbers[2:]) >= -1e-12).all(), name
    assert np.isfinite(posterior.studies).all()
    assert (posterior.studies >= 0).all() and (posterior.studies <= 1).all()
    assert (np.diff(posterior.studies[:, 2:], axis=1) >= -1e-12).all()
    spread = posterior.concentration if without_mu else posterior.tau
    assert (np.diff(spread.quantile([0.025, 0.25, 0.5, 0.75, 0.975])) >= 0).all()
    assert np.isfinite(posterior.leave_one_out_lpd).all()
    assert (posterior.leave_one_out_lpd < 1e-6).all()
    assert posterior.log_marginal_likelihood < 1e-6


@QUIET
@given(SMALL)
def test_pooled_and_stratified_rates_rise_with_events(make, pair):
    events, total = pair
    if events == total:
        return
    tables = [make([("A", e, total), ("B", 1, 3)]) for e in (events, events + 1)]
    for column in ("rate", "low", "high"):
        less, more = (dfsp.pooled(table)[column] for table in tables)
        assert less < more or (column == "high" and less == more == 1)
        less, more = (dfsp.observed(table).loc[0, column] for table in tables)
        assert less < more or (column == "high" and less == more == 1)
