"""Posteriors of rows in clusters are calibrated: simulated truths have uniform ranks in them.

In a file of its own, so that it is one process's and the other tests of clusters another's.
"""

import numpy as np
import pytest
from scipy.stats import kstest

from dfsp.engine.nested import solve_nested
from dfsp.model.model import Model
from dfsp.model.priors import HalfNormal

DESIGNS = 1000


@pytest.mark.slow
def test_posteriors_of_simulated_clusters_are_calibrated():
    rng = np.random.default_rng(20190301)
    model = Model(tau=HalfNormal(0.7))
    found = {name: [] for name in ("mu", "sigma", "tau", "omega", "rho")}
    for _ in range(DESIGNS):
        cluster = np.repeat(np.arange(5), rng.integers(1, 5, 5))
        mu, sigma = rng.normal(0, 2), np.abs(rng.normal(0, 0.7))
        rho = rng.uniform()
        tau, omega = sigma * rho**0.5, sigma * (1 - rho) ** 0.5
        theta = mu + tau * rng.normal(size=5)[cluster] + omega * rng.normal(size=len(cluster))
        total = rng.integers(5, 41, len(cluster))
        posterior = solve_nested(
            rng.binomial(total, 1 / (1 + np.exp(-theta))), total, cluster.tolist(), model
        )
        truth = {"mu": mu, "sigma": sigma, "tau": tau, "omega": omega, "rho": rho}
        for name, value in truth.items():
            found[name].append(getattr(posterior, name).prob_above(value))
    for name, probabilities in found.items():
        # Uniform if calibrated; a miss by chance in one of 200 runs of the test
        assert kstest(probabilities, "uniform").pvalue > 0.001, name
