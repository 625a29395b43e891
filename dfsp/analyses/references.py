"""Published results beside ours: each file of `data/reference/` is one case."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize
from scipy.special import ndtri

from dfsp.analyses.planning import (
    BetaMixture,
    SampleSize,
    exact_sample_size,
    mixture_sample_size,
    moment_sample_size,
    probability_greater,
)
from dfsp.constants import CI_PROB
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts, check_table
from dfsp.fitting import Fit, fit
from dfsp.model.effects import effects_of
from dfsp.model.likelihood import LEVELS, log_likelihood, sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Normal, Prior, tau_prior
from dfsp.project import data_folder
from dfsp.text import Result, Sentences, Table, table_of

__all__ = ["Comparison", "compare"]


def __dir__() -> list[str]:
    return __all__


Array = npt.NDArray[np.float64]

_COLUMNS = ["case", "quantity", "statistic", "kind", "value", "ours", "tolerance", "reproduced"]


@dataclass(frozen=True)
class Pareto(Prior):
    """Density falling as x^-(shape + 1) from `scale` on: for concentrations, never for tau."""

    family = "pareto"
    for_tau = False
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"shape": (0.1, 100.0)}
    shape: float = 0.5
    scale: float = 1.0

    @property
    def lower(self) -> float:  # type: ignore[override]
        return self.scale

    @property
    def tail_power(self) -> float:
        return self.shape

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.Pareto(name, self.shape, self.scale)

    def _log_density(self, x: Array) -> Any:
        log_x = np.log(np.maximum(x, 1e-300))
        return np.log(self.shape) + self.shape * np.log(self.scale) - (self.shape + 1) * log_x

    def _quantile(self, q: Array) -> Any:
        return self.scale * (1 - q) ** (-1 / self.shape)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Published results, computed anew.

    Attributes
    ----------
    table : Table
        Indexed by `case`, `quantity` and `statistic`: `kind`, `value` (as printed), `ours`,
        `tolerance`, `reproduced` (whether they differ by no more).
    sources : Sentences
        A paragraph a case: its source, and why each tolerance is what it is.

    Examples
    --------
    >>> import dfsp, shutil, tempfile
    >>> from dfsp.project import project_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = shutil.copy(project_folder() / "data/reference/one_proportion.json", folder)
    ...     found = dfsp.references.compare(folder)
    >>> len(found.table), bool(found.table["reproduced"].all())
    (16, True)
    """

    table: Table
    sources: Sentences

    def describe(self) -> Sentences:
        """Say how many of the published values are reproduced."""
        good, number = int(self.table["reproduced"].sum()), len(self.table)
        return Sentences(f"{good} of {number} published values are reproduced.")


def compare(folder: str | Path | None = None) -> Comparison:
    """Compute every published result anew and hold it against the printed value.

    Parameters
    ----------
    folder : path, optional
        The project's `data/reference` if not given. It holds one JSON file a case: `title`,
        `source`, `doi`, `studies` (name, events, total), `analyses` with their arguments
        (`hierarchical` and `next trial`: `mu`, `tau`, `effects` and their parameters, what is not
        there as by default, a concentration with a Pareto prior; `maximum likelihood`; `single
        proportions`; `mixture`), `kinds` (what each kind of value is, and the reason of its
        tolerance), and `expected` values with their tolerances.

    Returns
    -------
    Comparison

    Raises
    ------
    DfspError
        The folder holds no case, or a case names an analysis or a value that is not computed.

    Examples
    --------
    One case of the project's; all of them take some seconds:

    >>> import dfsp, shutil, tempfile
    >>> from dfsp.project import project_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = shutil.copy(project_folder() / "data/reference/one_proportion.json", folder)
    ...     dfsp.references.compare(folder)
    16 of 16 published values are reproduced.
    """
    folder = folder or data_folder() / "reference"
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise DfspError(f"{folder}: no reference case; give a folder of JSON files")
    rows, sources = [], []
    for path in paths:
        case = json.loads(path.read_text(encoding="utf-8"))
        sources.append(f"{case['title']}: {case['source']}, doi:{case['doi']}")
        sources += [f"  {kind}: {why}" for kind, why in case["kinds"].items()]
        ours = _compute(case, path.name)
        for row in case["expected"]:
            key = (row["quantity"], row["statistic"])
            if key not in ours:
                raise DfspError(f"{path.name}: {' '.join(key)} is not computed")
            close = abs(ours[key] - row["value"]) <= row["tolerance"]
            rows.append(
                [case["title"], *key, row["kind"], row["value"], ours[key], row["tolerance"], close]
            )
    frame = pd.DataFrame(rows, columns=_COLUMNS).set_index(_COLUMNS[:3])
    return Comparison(table_of(frame, formats={"tolerance": "g"}), Sentences("\n".join(sources)))


def _compute(case: dict[str, Any], file: str) -> dict[tuple[str, str], float]:
    """Return all that a case can be asked for, by quantity and statistic."""
    counts = check_table(pd.DataFrame(case["studies"], columns=["study", "events", "total"]))
    found: dict[tuple[str, str], float] = {}
    for name, arguments in case["analyses"].items():
        if name not in _ANALYSES:
            known = ", ".join(_ANALYSES)
            raise DfspError(f"{file}: analysis {name!r} is not known; use {known}")
        found |= _ANALYSES[name](counts, **arguments)
    return found


def _hierarchical(counts: Counts, **model: Any) -> dict[tuple[str, str], float]:
    result = _fit(counts, **model)
    found = _by_name(result.summary) | _by_name(result.studies.set_index("study"))
    found["log_marginal_likelihood", "value"] = result.exact.log_marginal_likelihood
    if result.model.effects.own_priors:
        found |= _mode(counts, result.model)
    return found


def _mode(counts: Counts, model: Model) -> dict[tuple[str, str], float]:
    """Return where the joint density of the centre's logit and the spread's log is highest."""
    effects = model.effects
    events, total = counts.table[["events", "total"]].to_numpy(float).T

    def height(x: Array) -> float:
        mu, tau = x[:1], np.exp(x[1:])
        # The density of log(tau), and of the logarithm of any power of it up to a constant
        log_prior = model.log_location(mu, tau) + model.spread_prior.logpdf(tau) + x[1:]
        return float(-(effects.log_likelihood(events, total, mu, tau).sum() + log_prior[0]))

    at = _lowest(height, [0.0, -0.5])
    spread = float(np.log(effects.reported(np.exp(at[1:])))[0])
    names = f"logit({effects.centre})", f"log({effects.spread})"
    return {(names[0], "mode"): float(at[0]), (names[1], "mode"): spread}


def _lowest(height: Callable[[Array], float], start: list[float]) -> Array:
    found = minimize(height, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    return np.asarray(found.x, dtype=np.float64)


def _maximum_likelihood(counts: Counts) -> dict[tuple[str, str], float]:
    """Maximise the binomial-normal likelihood; errors from its curvature (Wald intervals)."""
    events, total = counts.table[["events", "total"]].to_numpy(float).T

    def height(x: Array) -> float:
        points = np.asarray(x[:1]), np.exp(x[1:])
        return -float(log_likelihood(events, total, *points, len(LEVELS) - 1).sum())

    at = _lowest(height, [0.0, -0.5])
    step = 1e-2 * np.eye(2)
    bend = [
        [
            sum(
                one * other * height(at + one * a + other * b)
                for one in (1, -1)
                for other in (1, -1)
            )
            for b in step
        ]
        for a in step
    ]
    error = float(np.sqrt(np.linalg.inv(np.array(bend) / 4e-4)[0, 0]))
    mu, tau = float(at[0]), float(np.exp(at[1]))
    found = {("mu", "estimate"): mu, ("mu", "error"): error, ("tau^2", "estimate"): tau**2}
    found["typical_rate", "estimate"] = float(sigmoid(at[0]))
    z = ndtri((1 + CI_PROB) / 2)
    for name, sd in (("typical_rate", error), ("new_study_rate", np.hypot(error, tau))):
        found[name, "low"], found[name, "high"] = sigmoid(mu + np.array([-z, z]) * sd).tolist()
    return found


def _proportions(counts: Counts) -> dict[tuple[str, str], float]:
    from scipy.stats import binomtest  # costs a third of a second to import

    found = _by_name(counts.observed().set_index("study"))
    for study, events, total in counts.table[["study", "events", "total"]].to_numpy().tolist():
        wilson = binomtest(events, total).proportion_ci(CI_PROB, method="wilson")
        found |= {(study, "Wilson low"): wilson.low, (study, "Wilson high"): wilson.high}
    return found


def _next_trial(counts: Counts, **model: Any) -> dict[tuple[str, str], float]:
    posterior = _fit(counts, **model).exact
    rate = posterior.new_study_rate
    return {
        ("new_study_rate", "ELIR"): _number(exact_sample_size(posterior)),
        ("new_study_rate", "moment sample size"): moment_sample_size(rate.mean, rate.sd),
    }


def _number(size: SampleSize) -> float:
    return float("nan") if size.value is None else size.value


def _mixture(
    counts: Counts,
    parts: list[list[float]],
    robust: float,
    update: list[int],
    other: dict[str, Any],
) -> dict[tuple[str, str], float]:
    """Return what a printed mixture is worth, and P(another rate is higher) after its update."""
    prior = BetaMixture(*np.transpose(parts))
    posterior = prior.robustify(robust).update(*update)
    better = BetaMixture(*np.transpose(other["parts"])).update(*other["update"])
    return {
        ("printed mixture", "ELIR"): _number(mixture_sample_size(prior)),
        ("printed mixture", "moment sample size"): moment_sample_size(
            prior.mean, prior.variance**0.5
        ),
        ("treatment above placebo", "probability"): probability_greater(better, posterior),
    }


_ANALYSES: dict[str, Callable[..., dict[tuple[str, str], float]]] = {
    "hierarchical": _hierarchical,
    "maximum likelihood": _maximum_likelihood,
    "single proportions": _proportions,
    "next trial": _next_trial,
    "mixture": _mixture,
}


def _fit(
    counts: Counts,
    *,
    effects: Mapping[str, Any] = MappingProxyType({}),
    mu: Mapping[str, Any] = MappingProxyType({}),
    tau: Mapping[str, Any] = MappingProxyType({"family": "half-normal"}),
) -> Fit:
    kind = dict(effects)
    if "concentration" in kind:
        kind["concentration"] = Pareto(**kind["concentration"])
    family = kind.pop("family", "normal")
    return fit(counts, Model(Normal(**mu), tau_prior(**tau), effects_of(family, **kind)))


def _by_name(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {
        (str(row), str(column)): float(value)
        for row, values in table.to_dict("index").items()
        for column, value in values.items()
    }
