"""How the exact fit grows with the number of studies and of their patients: `make bench`."""

import numpy as np
import pytest

import dfsp
from dfsp.engine.posterior import solve


def drawn(studies, patients):
    """Counts of studies whose logit rates have mean 0.5 and standard deviation 0.7."""
    rng = np.random.default_rng(1)
    rate = 1 / (1 + np.exp(-rng.normal(0.5, 0.7, studies)))
    total = np.full(studies, float(patients))
    return rng.binomial(patients, rate).astype(float), total


@pytest.mark.parametrize("studies", [10, 100, 1_000, 10_000])
def test_studies(benchmark, studies):
    """Of 20 patients each: at most 21 counts differ."""
    counts = drawn(studies, 20)
    benchmark.pedantic(solve, (*counts, dfsp.Model()), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("studies", [10, 100, 1_000])
def test_studies_that_all_differ(benchmark, studies):
    """Of 1,000 patients each: hardly any two counts are the same."""
    counts = drawn(studies, 1_000)
    benchmark.pedantic(solve, (*counts, dfsp.Model()), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("patients", [10, 100, 1_000, 10_000, 100_000])
def test_patients(benchmark, patients):
    """In each of 10 studies."""
    counts = drawn(10, patients)
    benchmark.pedantic(solve, (*counts, dfsp.Model()), rounds=10, warmup_rounds=2)
