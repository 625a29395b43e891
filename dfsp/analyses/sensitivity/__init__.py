"""How far the answer depends on studies, priors, models, and patients without an evaluation."""

from dfsp.analyses.sensitivity.averaging import Average, average, fit_with_effects
from dfsp.analyses.sensitivity.missing import MissingOutcomes, missing_outcomes
from dfsp.analyses.sensitivity.priors import PowerScaling, power_scaling, prior_grid
from dfsp.analyses.sensitivity.subsets import (
    Influence,
    Subsets,
    all_subsets,
    influence,
    leave_two_out,
)

__all__ = [
    "Average",
    "Influence",
    "MissingOutcomes",
    "PowerScaling",
    "Subsets",
    "all_subsets",
    "average",
    "fit_with_effects",
    "influence",
    "leave_two_out",
    "missing_outcomes",
    "power_scaling",
    "prior_grid",
]


def __dir__() -> list[str]:
    return __all__
