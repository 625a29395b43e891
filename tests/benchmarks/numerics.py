"""What each constant of the exact engine is worth: its errors with that constant coarser and finer.

    python tests/benchmarks/numerics.py

Random tables (sizes 1 to 100,000, counts of 0 and n among them, six kinds of prior) are solved with
the constants as they are, with one of them changed, and with all of them finer; the last is the
reference, whose own agreement with brute force is tested in `tests/test_brute_force.py`. Subsets on
a shared grid are compared with fits of their own, regressions with a finer lattice. Printed
are the largest and the median error over tables of rates (probabilities) and of log densities, and
the time in units of that with the constants as they are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

import dfsp
from dfsp.engine import distributions, grid, linear, many, posterior
from dfsp.engine.posterior import Posterior, solve
from dfsp.model import likelihood

REVIEW = (
    np.array([7.0, 15, 21, 8, 9, 10, 9, 4, 5, 4]),
    np.array([14.0, 22, 31, 10, 25, 12, 10, 4, 16, 8]),
)
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
CHANGES: list[tuple[Any, str, tuple[Any, ...]]] = [
    (grid, "DROP", (14.0, 20.0, 40.0)),
    (grid, "DROP_WITHOUT", (9.0, 13.0, 26.0)),
    (grid, "FAR", (7.0, 28.0)),
    (grid, "LOOK", (6, 14)),
    (grid, "TOLERANCE", (1e-4, 1e-5, 1e-7)),
    (grid, "ROW_TOLERANCE", (1e-2, 1e-3, 1e-4)),
    (posterior, "MIXTURE_POINTS", ((45, 177), (177, 705))),
    (distributions, "MIXTURE_SCORES", (4.5, 6.5)),
    (posterior, "DENSITY_STEP", (0.3, 0.2, 0.14)),
    (posterior, "CORE", (1.0, 4.0)),
    (posterior, "PLAIN", ((49, 161), (193, 641))),
    (
        posterior,
        "SIZES",
        (tuple(12 * 2**k + 1 for k in range(11)), tuple(48 * 2**k + 1 for k in range(11))),
    ),
    (posterior, "ASTRAY", (1e-4, 1e-8)),
    (posterior, "LIGHT", (1e-7, 1e-8, 1e-11)),
    (posterior, "FAINT", (1e-10, 1e-18)),
    (posterior, "LOOSE", (1e-3, 1e-7)),
    (posterior, "INNER", (2, 8)),
    (likelihood, "SPACINGS", ((1.8, 1.2, 1.1, 0.9), (1.0, 0.8, 0.7, 0.6))),
    (likelihood, "BY_PARTS_ABOVE", (0.4, np.inf)),
]
FINER = {
    (grid, "DROP"): 36.0,
    (grid, "DROP_WITHOUT"): 26.0,
    (grid, "TOLERANCE"): 1e-8,
    (grid, "ROW_TOLERANCE"): 1e-5,
    (posterior, "MIXTURE_POINTS"): (353, 1409),
    (distributions, "MIXTURE_SCORES"): 6.5,
    (posterior, "DENSITY_STEP"): 0.1,
    (posterior, "PLAIN"): (641, 1601),
    (posterior, "LIGHT"): 1e-13,
    (posterior, "SIZES"): tuple(48 * 2**k + 1 for k in range(11)),
}


@contextmanager
def changed(values: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Set constants of modules, and set them back."""
    before = {key: getattr(*key) for key in values}
    for (module, name), value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)


def tables(number: int) -> list[tuple[np.ndarray, np.ndarray, dfsp.Model]]:
    rng = np.random.default_rng(20260612)
    found = []
    for _ in range(number):
        k = int(rng.integers(1, 11))
        total = np.ceil(10 ** rng.uniform(0, rng.choice([1.5, 2.5, 5.0]), size=k))
        p = rng.choice([0.0, 1.0, *rng.beta(1, 1, size=6)], size=k)
        scale = 10 ** rng.uniform(-1, 0.5)
        tau = [
            dfsp.HalfNormal(scale),
            dfsp.HalfCauchy(scale),
            dfsp.Exponential(scale),
            dfsp.Uniform(2 * scale),
            dfsp.LogNormal(-1, 1),
            dfsp.Fixed(scale),
        ][rng.integers(6)]
        mu = dfsp.Normal(rng.uniform(-2, 2), 10 ** rng.uniform(-0.5, 1))
        found.append((rng.binomial(total.astype(int), p), total, dfsp.Model(mu=mu, tau=tau)))
    return found


def numbers(p: Posterior) -> tuple[np.ndarray, np.ndarray]:
    rates = [each.summary() for each in (p.typical_rate, p.mean_rate, p.new_study_rate)]
    logs = [np.log(p.tau.quantile(QUANTILES)), p.leave_one_out_lpd, [p.log_marginal_likelihood]]
    return np.concatenate([*rates, p.studies.ravel()]), np.concatenate(logs)


OF_MANY: list[tuple[Any, str, tuple[Any, ...]]] = [
    (many, "SHARED_LEVEL", (2,)),
    (many, "DIGITS", (14.0, 28.0)),
    (many, "PRIOR_SDS", (5.0, 10.0)),
    (many, "FINE_COLUMNS", ((161, 201), (481, 601))),
    (many, "TABLE_POINTS", ({"mu": 141, "mean_rate": 141, "new_study_rate": 71},
                      {"mu": 561, "mean_rate": 561, "new_study_rate": 281})),
    (many, "LEAST", (1e-6, 1e-12)),
    (many, "TABLE_SCORES", (4.5, 8.0)),
    (many, "SMOOTH", (0.3, 2.0)),
    (many, "MOST_COLUMNS", (650, 2600)),
    (grid, "BEYOND_ROWS", (1e-4, 1e-10)),
    (grid, "PER_U", (3, 8)),
]  # fmt: skip
OF_LINEAR: list[tuple[Any, str, tuple[Any, ...]]] = [
    (linear, "LATTICE_STEP", (1.0, 0.7)),
    (linear, "APART", (0.5, 0.2)),
    (linear, "MOST_RADIUS", (10.0,)),
    (linear, "SHARE", (1e-8, 1e-10)),
    (linear, "PLACES", (6, 24)),
    (linear, "NO_SAY", (6.0, 18.0)),
    (linear, "AT", (1e-3, 1e-7)),
    (linear, "TABLE_CELLS", (128, 256, 1024)),
    (linear, "PREDICTOR_SDS", (8.0, 16.0)),
    (linear, "TABLE_ERROR", (1e-6, 1e-11)),
    (linear, "NEGLIGIBLE", (14.0, 30.0)),
]
FINER_LINEAR = {
    (linear, "LATTICE_STEP"): 0.6,
    (linear, "APART"): 0.2,
    (linear, "SHARE"): 1e-12,
    (linear, "PLACES"): 24,
    (linear, "TABLE_CELLS"): 1024,
    (linear, "ROWS"): (56, 80, 128),
    (linear, "NEGLIGIBLE"): 30.0,
}


def subsets(model: dfsp.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return rates and logarithms of 60 subsets of the review's cohorts, on one grid."""
    times = np.random.default_rng(1).integers(0, 2, size=(60, 10))
    times[times.sum(1) == 0] = 1
    found = many.SharedGrid(*REVIEW, [model]).solve(times.astype(float))
    rates = np.concatenate([found.typical, found.mean, found.new], axis=1)
    return rates.ravel(), np.append(np.log(found.tau), found.log_marginal_likelihood)


def alone(model: dfsp.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return what `subsets` does, each subset solved by itself."""
    times = np.random.default_rng(1).integers(0, 2, size=(60, 10))
    times[times.sum(1) == 0] = 1
    q = [0.5, 0.025, 0.975]
    rates, taus, logs = [], [], []
    for row in times:
        p = solve(*(np.repeat(each, row) for each in REVIEW), model)
        mean = [p.mean_rate.mean, *p.mean_rate.quantile(q[1:])]
        rates += [p.typical_rate.quantile(q), mean, p.new_study_rate.quantile(q)]
        taus.append(np.log(p.tau.quantile(0.5)[0]))
        logs.append(p.log_marginal_likelihood)
    return np.concatenate(rates), np.array(taus + logs)


def lines(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rates and coefficients of a regression on random counts, doses and settings."""
    for cached in (linear._taylor, linear._lattice):
        cached.cache_clear()
    rng = np.random.default_rng(seed)
    k = int(rng.integers(5, 12))
    setting = np.where(np.arange(k) % 2, "late", "early")
    dose, total = rng.uniform(-1, 2, size=k), rng.integers(3, 60, size=k)
    events = rng.binomial(total, 1 / (1 + np.exp(-rng.normal(0.5 * dose, 0.7))))
    table = pd.DataFrame({"study": [f"S{i}" for i in range(k)], "events": events, "total": total})
    fit = dfsp.regression.regress(table.assign(dose=dose, setting=setting), ["dose", "setting"])
    coefficient = fit.coefficients[["mean", "q2.5", "q50", "q97.5"]].to_numpy(float).ravel()
    return fit.rates.to_numpy(dtype=float).ravel(), coefficient


def study(
    given: list[Any],
    solved: Callable[[Any], tuple[np.ndarray, np.ndarray]],
    changes: list[tuple[Any, str, tuple[Any, ...]]],
    wanted: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Print the errors of what is solved with each of the changes."""

    def report(what: str, values: dict[tuple[Any, str], Any], unit: float = 0.0) -> float:
        with changed(values):
            start = time.perf_counter()
            found = [solved(each) for each in given]
            spent = time.perf_counter() - start
        errors = np.array([[np.abs(a - b).max() for a, b in zip(one, other, strict=True)]
                           for one, other in zip(found, wanted, strict=True)])  # fmt: skip
        worst, median = errors.max(0), np.median(errors, axis=0)
        print(f"{what:52} rates {worst[0]:.0e} {median[0]:.0e}  logs {worst[1]:.0e} {median[1]:.0e}"
              f"  time {spent / (unit or spent):.2f}", flush=True)  # fmt: skip
        return spent

    unit = report("as they are", {})
    for module, name, values in changes:
        for value in values:
            what = f"{module.__name__.split('.')[-1]}.{name} = {str(value)[:30]}"
            report(what, {(module, name): value}, unit)


def main() -> None:
    def one(table: tuple[np.ndarray, np.ndarray, dfsp.Model]) -> tuple[np.ndarray, np.ndarray]:
        return numbers(solve(*table))

    given = tables(60)
    with changed(FINER):
        wanted = [one(each) for each in given]
    study(given, one, CHANGES, wanted)
    models = [dfsp.Model(), dfsp.Model(tau=dfsp.HalfCauchy(0.5)), dfsp.Model(effects="exnex")]
    study(models, subsets, OF_MANY, [alone(model) for model in models])
    with changed(FINER_LINEAR):
        wanted = [lines(seed) for seed in range(8)]
    study(list(range(8)), lines, OF_LINEAR, wanted)


if __name__ == "__main__":
    main()
