"""Generated input: only `DfspError` for what is wrong, sane numbers for what is right."""

import ast
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dfsp
from dfsp.analyses.references import Pareto
from dfsp.engine.posterior import solve
from dfsp.parameters import check
from dfsp.runs.plan import read_plan

DRAW = (Phase.explicit, Phase.generate)  # what fails is printed as drawn, not made smaller
FOLDER = Path(__file__).parents[1] / "notebooks"

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


def defaults(notebook):
    """The parameters of a notebook, as its own cell sets them."""
    cells = nbformat.read(FOLDER / f"{notebook}.ipynb", 4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    for node in ast.parse(cell.source).body:
        values[node.target.id] = ast.literal_eval(node.value)
    return values


@pytest.mark.parametrize("notebook", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_parameters_are_used_or_refused(notebook):
    parameters = defaults(notebook)
    changes = st.fixed_dictionaries({}, optional=dict.fromkeys(parameters, VALUES))

    @settings(QUIET, max_examples=25, phases=DRAW)
    @given(changes)
    def judge(changed):
        with suppress(dfsp.DfspError):
            given = check(parameters | changed)
            assert isinstance(given.model, dfsp.Model)

    judge()


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.dates(),
    st.sampled_from(["", "exact", "review", "2.0", "objective_response", "[", "\x07", "../.."]),
)  # fmt: skip
KEYS = st.sampled_from(["notebook", "parameters", "include", "exclude", "notebooks", "", 1, None])
PARAMETERS = st.sampled_from(["evidence_set", "outcome", "mu_sd", "engine", "seed", "nothing", 1])
ROW = st.dictionaries(PARAMETERS, st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=3)
ROWS = st.one_of(ROW, st.lists(st.one_of(ROW, PLAIN), max_size=3))
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)
NOTEBOOK = st.one_of(
    st.sampled_from(["notebooks/02_response.ipynb", "none.ipynb", "dfsp", "README.md"]), PLAIN
)
ENTRIES = st.fixed_dictionaries(
    {"notebook": NOTEBOOK},
    optional={"parameters": ROWS, "include": ROWS, "exclude": ROWS, "more": PLAIN},
)
PLANS = st.one_of(
    TREES.map(yaml.safe_dump),
    st.lists(ENTRIES | TREES, max_size=3).map(lambda plan: yaml.safe_dump({"notebooks": plan})),
    st.text(max_size=40),
)


@settings(QUIET, max_examples=150, phases=DRAW)
@given(PLANS)
def test_plans_are_read_or_refused(file, text):
    path = file.with_suffix(".yaml")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(dfsp.DfspError):
        assert read_plan(path)


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
    st.builds(Pareto, st.floats(0.3, 3), SCALES),
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


def few_or(many):
    """Run a test with some generated examples and, among the slow tests, with many."""
    return pytest.mark.parametrize(
        "number", [many // 20, pytest.param(many, marks=pytest.mark.slow)]
    )


@few_or(1000)
def test_results_stay_in_their_domain(number):
    """No warning either: the test configuration makes an error of each."""
    settings(QUIET, max_examples=number)(given(STUDIES, MODELS)(check_domain))()


@few_or(60)
def test_results_of_other_effects_stay_in_their_domain(number):
    settings(QUIET, max_examples=number)(given(STUDIES, OTHERS)(check_domain))()


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


@few_or(400)
def test_pooled_and_stratified_rates_rise_with_events(make, number):
    @settings(QUIET, max_examples=number)
    @given(st.one_of(SMALL, EDGE, COUNTS))
    def judge(pair):
        events, total = pair
        if events == total:
            events -= 1
        pair = [make([("A", e, total), ("B", 1, 3)]) for e in (events, events + 1)]
        for less, more in (
            [table.pooled().iloc[0] for table in pair],
            [table.observed().iloc[0] for table in pair],
        ):
            for column in ("rate", "low", "high"):
                low, high = less[column], more[column]
                assert 0 <= low <= high <= 1
                assert low < high or (column == "high" and low == high == 1)

    judge()
