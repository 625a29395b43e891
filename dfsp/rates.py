"""How a rate is said: in which unit, with which digits, and by which number of its distribution."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from dfsp.constants import CI_PROB
from dfsp.errors import DfspError

if TYPE_CHECKING:
    import pandas as pd

MOST_DECIMALS = 15
TINY = 1e-6
"""How near to 0 or to the whole a number is only said to be nearer: doubles end about there."""
NOISE = 1e-6
"""Share of a rate, or of what is missing to 1, up to which rates are the same: rounding does it."""
LEAST = 0.5
"""What a rate is at least in the unit that is chosen for it."""
SKEWED = 2.0
"""Times the odds of its median from which on the mean of a posterior is no summary of it."""
NEAR = 0.25
"""How near to 0 or to 1 all rates of a figure are where its axis does not reach from 0 to 1."""
ROOM = 1.05


@dataclass(frozen=True)
class Unit:
    """A unit of rates, and how numbers are written in it.

    Attributes
    ----------
    name : str
        As a reader gives it.
    sign : str
        What stands behind a number.
    whole : int
        What a rate of 1 is.
    """

    name: str
    sign: str
    whole: int

    def numbers(self, *rates: float, least: int = 1) -> list[str]:
        """Return rates that stand together, such as an interval and its middle.

        Each has the decimals that half the range of all of them needs, and as many as tell it from
        0 and from the whole.

        Parameters
        ----------
        *rates : float
            From 0 to 1; NaN is "-".
        least : int
            Decimals of an ordinary number; one more significant digit is shown of half the range
            and of what is missing from 0 or from the whole.

        Examples
        --------
        >>> PERCENT.numbers(0.628, 0.479, 0.787), PERCENT.numbers(0.0024, 0.0003, 0.9995)
        (['62.8', '47.9', '78.7'], ['0.24', '0.030', '99.950'])
        >>> PERCENT.numbers(0.9134, 0.9122, 0.9143), UNITS["per-100000"].numbers(2.23e-4, 0.0154)
        (['91.34', '91.22', '91.43'], ['22.3', '1,540'])
        """
        known = [rate for rate in rates if rate == rate]
        half = (max(known) - min(known)) / 2 if known else 0.0
        same = half <= NOISE * min((min(rate, 1 - rate) for rate in known), default=0.0)
        narrow = -MOST_DECIMALS if same else decimals(self.whole * half, 1 + least)
        return [self._number(rate, narrow, least) for rate in rates]

    def _number(self, rate: float, narrow: int, least: int) -> str:
        if rate != rate:
            return "-"
        value = self.whole * rate
        if 0 < value < TINY:
            return f"<{TINY:.6f}"
        if 0 < self.whole - value < TINY:
            return f">{self.whole - TINY:,.6f}"
        gap = min(value, self.whole - value)
        own = least
        if 0 < gap < 1:
            own = decimals(gap, 1 + least)
        elif gap > 100:
            own = decimals(gap, 3)
        shown = min(max(own, narrow), MOST_DECIMALS)
        return f"{round(value, shown):,.{max(shown, 0)}f}"

    def number(self, rate: float) -> str:
        """Return a rate without its unit.

        Examples
        --------
        >>> [PERCENT.number(rate) for rate in (0.1234, 2.8e-6, 0.99987, 0.0)]
        ['12.3', '0.00028', '99.987', '0.0']
        >>> PERCENT.numbers(3e-20, 0.5, 1 - 1e-16)
        ['<0.000001', '50.0', '>99.999999']
        """
        return self.numbers(rate)[0]

    def rate(self, rate: float) -> str:
        """Return a rate with its unit.

        Examples
        --------
        >>> PERCENT.rate(0.1234), UNITS["per-100000"].rate(2.234e-4)
        ('12.3 %', '22.3 per 100,000')
        """
        return f"{self.number(rate)} {self.sign}"

    def span(self, low: float, high: float) -> str:
        """Return where rates lie.

        Examples
        --------
        >>> PERCENT.span(0.1, 0.25)
        '10.0 to 25.0 %'
        """
        first, last = self.numbers(low, high)
        return f"{first} to {last} {self.sign}"

    def estimate(self, middle: float, low: float, high: float, of: str = "") -> str:
        """Return a rate with its interval.

        Parameters
        ----------
        middle, low, high : float
        of : str
            What the interval is called, such as "95% interval".

        Examples
        --------
        >>> PERCENT.estimate(0.2, 0.1, 0.25, INTERVAL), PERCENT.estimate(0.2, 0.1, 0.25)
        ('20.0 % (95% interval 10.0 to 25.0 %)', '20.0 % (10.0 to 25.0 %)')
        >>> UNITS["per-1000"].estimate(0.002, 0.001, 0.004)
        '2.0 per 1,000 (1.0 to 4.0)'
        """
        centre, first, last = self.numbers(middle, low, high)
        again = f" {self.sign}" if self == PERCENT else ""
        ends = f"{of} {first} to {last}{again}".lstrip()
        return f"{centre} {self.sign} ({ends})"

    def bracketed(self, middle: float, low: float, high: float, *, least: int = 1) -> str:
        """Return a rate with its interval in brackets, without the unit.

        Examples
        --------
        >>> PERCENT.bracketed(0.2, 0.1, 0.25), PERCENT.bracketed(0.2, 0.1, 0.25, least=0)
        ('20.0 [10.0, 25.0]', '20 [10, 25]')
        """
        centre, first, last = self.numbers(middle, low, high, least=least)
        return f"{centre} [{first}, {last}]"

    def differences(self, *values: float, sign: bool = False) -> list[str]:
        """Return differences of rates, with the decimals that half their range needs.

        Examples
        --------
        >>> PERCENT.differences(-0.263, 0.255), PERCENT.differences(-0.0011, 0.0009)
        (['-26.3', '25.5'], ['-0.11', '0.09'])
        """
        half = self.whole * (max(values) - min(values)) / 2
        shown = max(1, decimals(half, 2)) if half > 0 else self._of_one(values[0])
        return [f"{self.whole * value:{'+' * sign}z,.{shown}f}" for value in values]

    def _of_one(self, difference: float) -> int:
        """Return the decimals that tell a difference from 0."""
        size = self.whole * abs(difference)
        return min(max(1, decimals(size, 1)), MOST_DECIMALS) if size > 0 else 1

    def apart(self, difference: float, *, sign: bool = False) -> str:
        """Return a difference of rates, which in percent is one of points.

        Examples
        --------
        >>> PERCENT.apart(-0.0384, sign=True), UNITS["per-1000"].apart(0.0021)
        ('-3.8 points', '2.1 per 1,000')
        >>> PERCENT.apart(0.000193, sign=True)
        '+0.02 points'
        """
        return f"{self.differences(difference, sign=sign)[0]} {self.steps}"

    def chosen(self, rate: float, *, apart: bool = False) -> str:
        """Return a rate, or a difference of rates, that somebody chose: without further digits.

        Examples
        --------
        >>> PERCENT.chosen(0.2), PERCENT.chosen(0.2, apart=True), UNITS["per-1000"].chosen(0.0025)
        ('20 %', '20 points', '2.5 per 1,000')
        """
        return f"{self.whole * rate:,.6g} {self.steps if apart else self.sign}"

    @property
    def of_patients(self) -> str:
        """What a number of patients with the outcome is said of, for an axis."""
        return f"{self.sign}{' of' * (self == PERCENT)} patients"

    @property
    def steps(self) -> str:
        """What a difference of rates is called."""
        return "points" if self == PERCENT else self.sign


PERCENT = Unit("percent", "%", 100)
UNITS: Mapping[str, Unit] = MappingProxyType(
    {
        unit.name: unit
        for unit in (
            PERCENT,
            Unit("per-1000", "per 1,000", 1000),
            Unit("per-10000", "per 10,000", 10_000),
            Unit("per-100000", "per 100,000", 100_000),
            Unit("per-1000000", "per 1,000,000", 1_000_000),
        )
    }
)
"""By the name that a reader gives; per 10,000 is never chosen for him."""
INTERVAL = f"{CI_PROB:.0%} interval"


def unit_named(name: str) -> Unit:
    """Return a unit.

    Raises
    ------
    DfspError
        There is none of this name.
    """
    if name not in UNITS:
        raise DfspError(f"unit {name!r} is not known; use one of {', '.join(UNITS)}")
    return UNITS[name]


def unit_of(rate: float) -> Unit:
    """Return the first unit in which a rate is at least a half.

    Examples
    --------
    >>> [unit_of(rate).name for rate in (0.6, 0.004, 2.2e-4, 3e-6, 0)]
    ['percent', 'per-1000', 'per-100000', 'per-1000000', 'percent']
    """
    large = [
        unit
        for unit in UNITS.values()
        if unit.name != "per-10000" and (rate == 0 or unit.whole * rate >= LEAST)
    ]
    return large[0] if large else [*UNITS.values()][-1]


def stands_for(summary: "Mapping[str, float] | pd.Series[float]") -> Literal["mean", "q50"]:
    """Return which number stands for a posterior: its mean, or the median of a skewed one.

    Parameters
    ----------
    summary : mapping of str to float, or pandas.Series
        With mean, q25, q50 and q75. A mean is no summary that lies outside the middle half, or has
        over `SKEWED` times the odds of the median, or its the mean's.

    Examples
    --------
    >>> stands_for({"mean": 0.62, "q25": 0.58, "q50": 0.63, "q75": 0.67})
    'mean'
    >>> stands_for({"mean": 0.0224, "q25": 6e-5, "q50": 0.0023, "q75": 0.01})
    'q50'
    """
    mean, median = summary["mean"], summary["q50"]
    ours, its = mean * (1 - median), median * (1 - mean)  # the odds, both times the same
    skewed = ours > SKEWED * its or its > SKEWED * ours
    return "mean" if summary["q25"] <= mean <= summary["q75"] and not skewed else "q50"


def decimals(value: float, significant: int) -> int:
    """Return the decimals that show so many significant digits of a number above 0.

    Examples
    --------
    >>> decimals(0.00234, 2), decimals(0.0996, 2), decimals(1234.0, 3)
    (4, 2, -1)
    """
    rounded = f"{value:.{significant - 1}e}"
    return significant - 1 - int(rounded.partition("e")[2])


def limits(ends: npt.ArrayLike, others: npt.ArrayLike = ()) -> tuple[float, float]:
    """Return the limits of an axis of rates: 0 and 1, or nearer ones where all that is drawn is.

    Parameters
    ----------
    ends : array
        Rates that are drawn, from 0 to 1.
    others : array
        Rates that are drawn as far as they lie within twice the reach of `ends`.

    Examples
    --------
    >>> limits([0.2, 0.7]), limits([0.9, 0.99])
    ((0.0, 1.0), (0.895, 1.0))
    >>> limits([0.0001, 0.0002], [0.3])
    (0.0, 0.00042)
    """
    own, beyond = (np.asarray(each, dtype=np.float64) for each in (ends, others))
    if np.nanmax(own) <= NEAR:
        beyond = np.minimum(beyond, 2 * np.nanmax(own))
    elif np.nanmin(own) >= 1 - NEAR:
        beyond = np.maximum(beyond, 1 - 2 * (1 - np.nanmin(own)))
    known = np.concatenate([own.ravel(), beyond.ravel()])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    if high <= NEAR:
        return 0.0, ROOM * high
    if low >= 1 - NEAR:
        return 1 - ROOM * (1 - low), 1.0
    return 0.0, 1.0
