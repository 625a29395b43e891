"""Pictures of the evidence and of what is computed; each returns matplotlib axes."""

from dfsp.plots.calibration import coverage, pit
from dfsp.plots.cohorts import categories, dose, responses, scenarios
from dfsp.plots.fits import agreement, energy, forest, predictive, prior, ranks
from dfsp.plots.moderators import moderator, moderators
from dfsp.plots.planning import plan
from dfsp.plots.robustness import missing, specifications, subsets
from dfsp.plots.style import save
from dfsp.plots.tables import groups

__all__ = [
    "agreement",
    "categories",
    "coverage",
    "dose",
    "energy",
    "forest",
    "groups",
    "missing",
    "moderator",
    "moderators",
    "pit",
    "plan",
    "predictive",
    "prior",
    "ranks",
    "responses",
    "save",
    "scenarios",
    "specifications",
    "subsets",
]


def __dir__() -> list[str]:
    return __all__
