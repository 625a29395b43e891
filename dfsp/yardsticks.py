"""What rates, differences and sizes are held against, where nobody says: as the rate asks.

From 10 to 90 % differences are told in points. Nearer to 0 or 1 points say nothing, since all rates
that are likely lie within a few of each other; odds do.
"""

import numpy as np

ORDINARY = (0.1, 0.9)
"""Rates between which differences are told in points."""
POINTS_APART = 0.2
TIMES_APART = 2.0
"""A difference worth naming: of rates, or the ratio of odds."""
THRESHOLD = 0.4
"""A rate that the analyses of ordinary rates are held against; of others it is one of `ODDS` times
smaller odds than theirs."""
ODDS = 2.5
PATIENTS = 20
EVENTS = 10
"""Patients of a new study of an ordinary rate; of others there are so many of the rarer outcome."""
MOST_PATIENTS = 10_000


def is_ordinary(rate: float) -> bool:
    """Whether differences from this rate are told in points."""
    return ORDINARY[0] <= rate <= ORDINARY[1]


def patients_for(rate: float) -> int:
    """Return patients of a new study that has something to show.

    Examples
    --------
    >>> patients_for(0.3), patients_for(0.015), patients_for(0.9985), patients_for(2e-6)
    (20, 700, 7000, 10000)
    """
    if is_ordinary(rate):
        return PATIENTS
    needed = EVENTS / max(min(rate, 1 - rate), EVENTS / MOST_PATIENTS)
    return int(_one_digit(needed))


def threshold_for(rate: float) -> float:
    """Return a rate that is worth comparing analyses with, of which this is the typical result.

    Examples
    --------
    >>> threshold_for(0.6), threshold_for(0.00022), threshold_for(0.98)
    (0.4, 9e-05, 0.95)
    """
    if is_ordinary(rate):
        return THRESHOLD
    odds = rate / (1 - rate) / ODDS
    threshold = odds / (1 + odds)
    return _one_digit(threshold) if rate < ORDINARY[0] else 1 - _one_digit(1 - threshold)


def _one_digit(value: float) -> float:
    """Return a number rounded to one digit."""
    return float(np.format_float_positional(value, 1, fractional=False))
