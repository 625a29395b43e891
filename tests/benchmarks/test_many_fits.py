"""How long thousands of analyses take: `make bench`."""

import numpy as np
import pandas as pd
import pytest

import dfsp
from dfsp.analyses.dimensions import PRIORS_OF_TAU


@pytest.fixture(scope="module")
def counts():
    return dfsp.count(dfsp.load_evidence("review"), "objective_response")


def test_all_1023_subsets(benchmark, counts):
    found = benchmark.pedantic(dfsp.sensitivity.all_subsets, (counts,), rounds=5, warmup_rounds=1)
    assert len(found.table) == 1023


def test_a_table_of_40_terms(benchmark):
    rng = np.random.default_rng(3)
    total = np.tile(np.arange(20, 76, 7), 40)
    rate = np.repeat(rng.beta(0.5, 3, size=40), 8)
    table = {
        "study": [f"S{number % 8}" for number in range(320)],
        "term": [f"term {number // 8}" for number in range(320)],
        "events": rng.binomial(total, rate),
        "total": total,
    }
    tables = pd.DataFrame(table)
    found = benchmark.pedantic(
        lambda: dfsp.fit_by(tables, by="term").table, rounds=10, warmup_rounds=1
    )
    assert len(found) == 40


def test_multiverse_of_10000_analyses(benchmark):
    scales = {f"HalfNormal({scale})": dfsp.HalfNormal(scale) for scale in np.arange(20, 36) / 25}
    everything = benchmark.pedantic(
        dfsp.multiverse.fit, kwargs={"taus": PRIORS_OF_TAU | scales}, rounds=2, warmup_rounds=1
    )
    assert len(everything.table) > 10_000


def test_calibration_of_10000_data_sets(benchmark, counts):
    result = benchmark.pedantic(
        dfsp.calibration.calibrate, (counts,), {"number": 10_000}, rounds=2, warmup_rounds=0
    )
    assert len(result.pit) == 10_000


def test_calibration_of_nuts_with_200_data_sets(benchmark, counts):
    result = benchmark.pedantic(
        dfsp.calibration.calibrate, (counts,), {"number": 200, "engine": "nuts"}, rounds=1
    )
    assert len(result.pit) == 200


def test_coverage_grid(benchmark, counts):
    found = benchmark.pedantic(dfsp.calibration.coverage, (counts,), rounds=1)
    assert len(found.table) == 4 * 5 * 4 * 3  # rates, taus, methods, quantities


def test_operating_characteristics_of_400_designs(benchmark, counts):
    prior = dfsp.planning.fit_mixture(dfsp.fit(counts)).mixture.robustify(0.2)
    sizes, rates = list(range(10, 210, 10)), np.linspace(0.05, 0.95, 20)
    benchmark.pedantic(
        dfsp.planning.operating_characteristics, (prior,),
        {"n": sizes, "rates": rates, "p0": 0.2}, rounds=5, warmup_rounds=1,
    )  # fmt: skip
