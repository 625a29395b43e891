"""Response rates of a handful of small single-arm studies, and how far to trust them.

Load counts, say what is assumed, fit, and ask the fit. What a further question needs is in a
chapter of its own, which loads when it is first used, as PyMC, ArviZ and matplotlib do.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dfsp.analyses.by import FitBy, fit_by
from dfsp.errors import DfspError, NotConverged
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import Counts, read_table, read_tables, without
from dfsp.fitting import Fit, fit
from dfsp.model.effects import BetaBinomial, BetaBinomialShapes, Exnex, NormalEffects, StudentT
from dfsp.model.model import Model
from dfsp.model.priors import (
    Exponential,
    Fixed,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Normal,
    Uniform,
    tau_prior,
)
from dfsp.project import data_folder
from dfsp.runs.record import record

if TYPE_CHECKING:
    from dfsp import parameters, plots
    from dfsp.analyses import (
        calibration,
        categories,
        judgements,
        multiverse,
        ordinal,
        planning,
        references,
        regression,
        review,
        sensitivity,
        totals,
    )

__version__ = version("dfsp")

__all__ = [
    "DATA",
    "OUTCOMES",
    "BetaBinomial",
    "BetaBinomialShapes",
    "Counts",
    "DfspError",
    "Evidence",
    "Exnex",
    "Exponential",
    "Fit",
    "FitBy",
    "Fixed",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "InverseGamma",
    "LogNormal",
    "Model",
    "Normal",
    "NormalEffects",
    "NotConverged",
    "StudentT",
    "Uniform",
    "calibration",
    "categories",
    "count",
    "fit",
    "fit_by",
    "judgements",
    "load_evidence",
    "multiverse",
    "ordinal",
    "parameters",
    "planning",
    "plots",
    "read_table",
    "read_tables",
    "record",
    "references",
    "regression",
    "review",
    "sensitivity",
    "tau_prior",
    "totals",
    "without",
]

_CHAPTERS = frozenset(
    {
        "calibration",
        "categories",
        "judgements",
        "multiverse",
        "ordinal",
        "planning",
        "references",
        "regression",
        "review",
        "sensitivity",
        "totals",
    }
)


def __getattr__(name: str) -> Any:
    if name == "DATA":  # of the project at hand, which is known when it is asked for
        return data_folder()
    if name in _CHAPTERS:
        return import_module(f"dfsp.analyses.{name}")
    if name in ("parameters", "plots"):
        return import_module(f"dfsp.{name}")
    raise AttributeError(f"module 'dfsp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
