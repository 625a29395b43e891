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
POINTS_EQUAL = 0.1
TIMES_EQUAL = 1.5
"""A difference that makes none: of rates, or the ratio of odds, which 50 and 60 % have."""
THRESHOLD = 0.4
"""A rate that the analyses of ordinary rates are held against; of others it is one of `ODDS` times
smaller odds than theirs."""
ODDS = 2.5
TRUTHS = (0.1, 0.3, 0.6, 0.85)
"""True rates where ordinary rates are seen."""
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
    return rounded(_divided(rate, ODDS))


def rates_about(rate: float) -> list[float]:
    """Return true rates among which one tries what a test against this rate does.

    Examples
    --------
    >>> rates_about(0.3)
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    >>> [round(each, 6) for each in rates_about(6e-5)]
    [1.5e-05, 3e-05, 6e-05, 9e-05, 0.00012, 0.00018, 0.00024, 0.00036, 0.00048]
    """
    if is_ordinary(rate):
        return [step / 10 for step in range(1, 10)]
    return [_divided(rate, 1 / times) for times in (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8)]


def truths_about(rate: float) -> list[float]:
    """Return true rates at which one asks how a method does where about this rate is seen.

    Examples
    --------
    >>> truths_about(0.4), truths_about(0.0007), truths_about(0.998)
    ([0.1, 0.3, 0.6, 0.85], [0.0002, 0.0007, 0.003], [0.992, 0.998, 0.9995])
    """
    if is_ordinary(rate):
        return [*TRUTHS]
    return [rounded(_divided(rate, 1 / times)) for times in (0.25, 1, 4)]


def _divided(rate: float, by: float) -> float:
    """Return the rate of so many times smaller odds."""
    odds = rate / (1 - rate) / by
    return odds / (1 + odds)


def rounded(rate: float) -> float:
    """Return a rate with one digit of what is rarer, it or its opposite.

    Examples
    --------
    >>> rounded(0.27), rounded(0.000166), rounded(0.982)
    (0.3, 0.0002, 0.98)
    """
    return _one_digit(rate) if rate <= 0.5 else 1 - _one_digit(1 - rate)


def _one_digit(value: float) -> float:
    """Return a number rounded to one digit."""
    return float(np.format_float_positional(value, 1, fractional=False))
