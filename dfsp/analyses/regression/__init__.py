"""Meta-regression: the rate as a function of dose, setting, or another covariate."""

from dfsp.analyses.regression.design import as_groups, log2_of, share_of
from dfsp.analyses.regression.fitting import (
    Difference,
    Regression,
    bayes_factors,
    compare,
    covariate,
    regress,
)
from dfsp.analyses.regression.groups import confounding

__all__ = [
    "Difference",
    "Regression",
    "as_groups",
    "bayes_factors",
    "compare",
    "confounding",
    "covariate",
    "log2_of",
    "regress",
    "share_of",
]


def __dir__() -> list[str]:
    return __all__
