"""How long the engines take on the ten cohorts of the review: `make bench`.

Absolute times belong to one machine; the ratio of the groups in one run is what counts.
"""

import os
import subprocess
import sys

import nutpie
import pymc as pm
import pytest

import dfsp
from dfsp.engine import nuts as sampling
from dfsp.engine.posterior import solve
from dfsp.fitting import QUANTITIES


@pytest.fixture(scope="module")
def counts():
    return dfsp.count(dfsp.load_evidence("review"), "objective_response")


def test_exact(benchmark, counts):
    """Everything that the JSON object holds, as numbers."""
    events, total, model = counts.table["events"], counts.table["total"], dfsp.Model()

    def run():
        posterior = solve(events, total, model)
        return [getattr(posterior, name).summary() for name in QUANTITIES]

    benchmark.pedantic(run, rounds=100, warmup_rounds=5)


def test_exact_as_json(benchmark, counts):
    """From a checked table to the object itself."""
    benchmark.pedantic(lambda: dfsp.fit(counts).as_dict(), rounds=50, warmup_rounds=5)


def test_nuts_in_a_new_process(benchmark, tmp_path):
    """Imports, compilation without any cache, and sampling of 4 x 1000 draws."""
    code = (
        "import dfsp; counts = dfsp.count(dfsp.load_evidence('review'), 'objective_response'); "
        "dfsp.fit(counts, engine='nuts', draws=1000, gate='report')"
    )
    caches = {"PYTENSOR_FLAGS": f"compiledir={tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", f"{code}"]
    benchmark.pedantic(
        subprocess.run, (command,), {"check": True, "env": os.environ | caches}, rounds=1
    )


def test_pymc_repeated(benchmark, counts):
    """`pm.sample` with nutpie, 4 x 1000 draws, after a first call that fills the caches."""
    model = sampling.build(counts.table, dfsp.Model())

    def run():
        with model:
            pm.sample(
                nuts_sampler="nutpie", chains=4, tune=1000, draws=1000, target_accept=0.99,
                random_seed=1, progressbar=False, quiet=True,
            )  # fmt: skip

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


def test_nutpie_compiled_beforehand(benchmark, counts):
    compiled = nutpie.compile_pymc_model(sampling.build(counts.table, dfsp.Model()))

    def run():
        nutpie.sample(
            compiled,
            chains=4,
            tune=1000,
            draws=1000,
            target_accept=0.99,
            seed=1,
            progress_bar=False,
        )

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


def test_nested_categories(benchmark):
    """Four questions, all rates: ten cohorts."""
    evidence = dfsp.load_evidence("review")
    benchmark.pedantic(lambda: dfsp.categories.fit(evidence).rates(), rounds=20, warmup_rounds=3)
