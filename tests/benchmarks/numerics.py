"""What each constant of the exact engine is worth: its errors with that constant coarser and finer.

    python tests/benchmarks/numerics.py

Random tables (sizes 1 to 100,000, counts of 0 and n among them, six kinds of prior) are solved with
the constants as they are, with one of them changed, and with all of them finer; the last is the
reference, whose own agreement with brute force is tested in `tests/test_brute_force.py`. Printed
are the largest and the median error over tables of rates (probabilities) and of log densities, and
the time in units of that with the constants as they are.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import dfsp
from dfsp.engine import distributions, grid, posterior
from dfsp.engine.posterior import Posterior, solve
from dfsp.model import likelihood

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
CHANGES: list[tuple[Any, str, tuple[Any, ...]]] = [
    (grid, "DROP", (14.0, 20.0, 40.0)),
    (grid, "DROP_WITHOUT", (9.0, 13.0, 26.0)),
    (grid, "FAR", (7.0, 28.0)),
    (grid, "LOOK", (6, 14)),
    (grid, "TOLERANCE", (1e-4, 1e-5, 1e-7)),
    (grid, "ROW_TOLERANCE", (1e-2, 1e-3, 1e-4)),
    (distributions, "POINTS", ((45, 177), (177, 705))),
    (distributions, "REACH_OF_SCORES", (4.5, 6.5)),
    (posterior, "STEP", (0.3, 0.2, 0.14)),
    (posterior, "CORE", (1.0, 4.0)),
    (posterior, "PLAIN", ((81, 201), (321, 801))),
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
    (likelihood, "SPACINGS", ((1.2, 1.1, 0.9), (0.8, 0.7, 0.6))),
    (likelihood, "BY_PARTS_ABOVE", (0.4, np.inf)),
]
FINER = {
    (grid, "DROP"): 36.0,
    (grid, "DROP_WITHOUT"): 26.0,
    (grid, "TOLERANCE"): 1e-8,
    (grid, "ROW_TOLERANCE"): 1e-5,
    (distributions, "POINTS"): (353, 1409),
    (distributions, "REACH_OF_SCORES"): 6.5,
    (posterior, "STEP"): 0.1,
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


def main() -> None:
    given = tables(60)

    def run(values: dict[tuple[Any, str], Any]) -> tuple[list[tuple[np.ndarray, ...]], float]:
        with changed(values):
            start = time.perf_counter()
            found = [numbers(solve(*each)) for each in given]
            return found, time.perf_counter() - start

    run({})
    wanted, _ = run(FINER)
    _, unit = run({})

    def report(what: str, values: dict[tuple[Any, str], Any]) -> None:
        found, spent = run(values)
        errors = np.array(
            [
                [np.abs(a - b).max() for a, b in zip(one, other, strict=True)]
                for one, other in zip(found, wanted, strict=True)
            ]
        )
        worst, median = errors.max(0), np.median(errors, axis=0)
        print(
            f"{what:58} rates {worst[0]:.0e} {median[0]:.0e}  logs {worst[1]:.0e} {median[1]:.0e}"
            f"  time {spent / unit:.2f}",
            flush=True,
        )

    report("as they are", {})
    for module, name, values in CHANGES:
        for value in values:
            shown = str(value)[:30]
            report(f"{module.__name__.split('.')[-1]}.{name} = {shown}", {(module, name): value})


if __name__ == "__main__":
    main()
