"""The picture of a planned trial: responders expected, and when it succeeds."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from scipy.special import betaincinv

from dfsp.analyses.planning import BetaMixture, critical_events, operating_characteristics
from dfsp.fitting import Fit
from dfsp.plots.style import BLUE, DARK, FONT, GREY, legend, on_white, panels, scale
from dfsp.rates import limits
from dfsp.text import chance

MOST_DRAWN = 100
"""Patients of a trial up to which every number of responders is drawn."""
UNSEEN = 0.0025
"""Probability of what is left out at either end of a larger one, and of a curve's two ends."""
REACHED = 4
"""Times the distance of the quartiles, as far from them as numbers of responders are drawn."""
SAID = 0.01
"""Probability of numbers that are not drawn from which on it is said."""


@on_white
def plan(fit: Fit, prior: BetaMixture, *, n: int, p0: float) -> Axes:
    """Draw the responders expected among n patients, and the chance of success by true rate.

    Parameters
    ----------
    fit : Fit
        Today's evidence, from the exact engine.
    prior : BetaMixture
        Of the planned trial's analysis.
    n : int
    p0 : float
        Rate to be exceeded, between 0 and 1.

    Returns
    -------
    matplotlib.axes.Axes
        The left of two panels.

    Raises
    ------
    DfspError
        A value outside its range.

    See Also
    --------
    dfsp.planning.plan : The numbers behind it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> vague = dfsp.planning.BetaMixture([1], [1], [1])
    >>> ax = dfsp.plots.plan(dfsp.fit(table), vague, n=20, p0=0.2)
    >>> ax.get_xlabel(), [patch.get_label() for patch in ax.patches]
    ('responders among 20 patients', ['no success', 'success'])
    """
    import seaborn as sns  # takes a second

    probability = fit.new_study(n).events
    least = critical_events(prior, n, p0)
    unit = fit.unit
    # Where the chance of success begins and ends to rise
    ends = [UNSEEN, 1 - UNSEEN] if 0 < least <= n else []
    rise = betaincinv(least, n - least + 1, ends)
    reach = limits([*rise, p0])
    rates = np.linspace(*reach, 201)[1:-1]
    table = operating_characteristics(prior, n=[n], p0=p0, rates=rates.tolist())
    left: Axes
    right: Axes
    left, right = panels(9.5, 3.2, columns=2)[0]
    first, last = _seen(probability, least) if n > MOST_DRAWN else (0, n)
    wins = min(max(least, first), last + 1)
    for start, stop, colour, label in (
        (first, wins, "#d0d0d0", "no success"), (wins, last + 1, BLUE, "success"),
    ):  # fmt: skip
        if start == stop:
            continue
        edges = np.arange(start, stop + 1) - 0.5
        left.stairs(probability[start:stop], edges, fill=True, color=colour, label=label)
    left.set_xlim(first - 1, last + 1)
    left.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    beyond = 1 - float(probability[first : last + 1].sum())
    others = f" (others: probability {chance(beyond, 2)})" if beyond > SAID else ""
    left.set_xlabel(f"responders among {n:,} patients{others}", fontsize=FONT)
    left.set_ylabel("probability", fontsize=FONT)
    legend(left)
    right.plot(unit.whole * rates, table["success"], color=DARK)
    right.axvline(unit.whole * p0, color=GREY, lw=0.8, ls="--", label="rate to be exceeded")
    scale(right, unit, reach)
    right.set_ylim(0, 1.02)
    right.set_xlabel(f"true rate ({unit.sign})", fontsize=FONT)
    right.set_ylabel("probability of success", fontsize=FONT)
    legend(right)
    for ax in (left, right):
        sns.despine(ax=ax)
    return left


def _seen(probability: npt.NDArray[np.float64], least: int) -> tuple[int, int]:
    """Return the first and last number of responders that is likely, and where success begins."""
    below = probability.cumsum()
    ends = (UNSEEN, 0.25, 0.75, 1 - UNSEEN)
    first, low, high, last = (int(np.searchsorted(below, q)) for q in ends)
    far = REACHED * (high - low + 1)
    first, last = max(first, low - far), min(last, high + far)
    if least < len(probability):
        first, last = min(first, least - 1), max(last, least)
    return max(first, 0), min(last, len(probability) - 1)
