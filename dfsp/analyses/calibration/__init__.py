"""Whether intervals cover what they claim, and what adding patients up costs."""

from dfsp.analyses.calibration.simulation import (
    Calibration,
    Coverage,
    both_ways,
    calibrate,
    coverage,
    verdict,
)
from dfsp.analyses.calibration.store import kept

__all__ = ["Calibration", "Coverage", "both_ways", "calibrate", "coverage", "kept", "verdict"]


def __dir__() -> list[str]:
    return __all__
