"""Coverage of the intervals of one coefficient at fixed true values, by the sd of its prior.

`python tests/coefficient_coverage.py NUMBER` simulates that many data sets of every kind and prints
a table; a test does a part of it.
"""

import sys
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import expit

import dfsp
from dfsp.analyses.regression.design import standard_of
from dfsp.analyses.regression.fitting import Exact, _with_prior

SDS = (1.0, 1.25, 2.5, 5.0)
TRUE = (0.0, 1.0, 2.0, 3.0)
STUDIES = (4, 8, 15, 30)
TAUS = (0.2, 0.8)
CENTRES = (-1.0,)  # mean logit rate of the studies


def design(kind, studies):
    """Return what is known of the studies: halves in two groups, or one of four numbers."""
    values = np.arange(studies) % (2 if kind == "two groups" else 4)
    return pd.DataFrame({"x": values.astype(float)})


def simulated(kind, studies, slope, tau, centre, number):
    """Yield `number` tables of counts; the slope is that of a column as the prior counts it."""
    frame = design(kind, studies)
    columns = {"x": dfsp.analyses.regression.design.Column("x")}
    standard = standard_of(frame, columns)
    rng = np.random.default_rng([studies, int(10 * slope), int(10 * tau), int(-10 * centre)])
    for _ in range(number):
        total = rng.integers(10, 61, studies)
        theta = centre + slope * standard.z[:, 0] + tau * rng.standard_normal(studies)
        events = rng.binomial(total, expit(theta))
        names = [f"S{i}" for i in range(studies)]
        table = pd.DataFrame({"study": names, "events": events, "total": total})
        yield dfsp.Counts(table), standard


def covered(kind, studies, slope, tau, centre, number):
    """Return by sd of the prior the share of intervals that hold the slope, bias and width."""
    found = []
    for counts, standard in simulated(kind, studies, slope, tau, centre, number):
        exact = Exact.of(counts, standard, dfsp.Model(), dfsp.Normal(0, SDS[2]))
        population = exact.posterior.population([0, 1])
        for sd in SDS:
            low, middle, high = _with_prior(population, sd / SDS[2]).mu.quantile(
                [0.025, 0.5, 0.975]
            )
            found.append([sd, low <= slope <= high, middle - slope, high - low])
    return pd.DataFrame(found, columns=["sd", "coverage", "bias", "width"]).groupby("sd").mean()


def main(number):
    """Print coverage, bias and width of every kind of design."""
    kinds = ("two groups", "number")
    pieces = {}
    for key in product(kinds, STUDIES, TRUE, TAUS, CENTRES):
        pieces[key] = covered(*key, number)
        print(*key, pieces[key]["coverage"].round(3).to_dict(), flush=True)
    names = ["kind", "studies", "true", "tau", "centre"]
    every = pd.concat(pieces, names=names)
    for by in (["sd", "true"], ["sd", "studies", "true"]):
        print(every.groupby(by).mean().unstack("true").round(3).to_string())
    print(every["coverage"].groupby("sd").min())


if __name__ == "__main__":
    main(int(sys.argv[1]))
