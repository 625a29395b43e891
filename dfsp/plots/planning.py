"""The picture of a planned trial: responders expected, and when it succeeds."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from dfsp.analyses.planning import BetaMixture, critical_events, operating_characteristics
from dfsp.constants import ENDS
from dfsp.fitting import Fit
from dfsp.plots.style import BLUE, DARK, FONT, GREY, scale
from dfsp.rates import limits

FAR = 3.0
"""Times the rate to be exceeded, or what is missing from it to 1, that is drawn at least."""
SEEN = 0.995
"""Probability of the numbers of responders that are drawn, where they are few of all patients."""


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
    >>> ax.get_xlabel(), len(ax.patches)
    ('responders among 20 patients', 21)
    """
    import seaborn as sns  # takes a second

    probability = fit.new_study(n).events
    least = critical_events(prior, n, p0)
    unit, new = fit.unit, fit.exact.new_study_rate.quantile(ENDS).tolist()
    reach = limits([*new, 1 - FAR * (1 - p0), FAR * p0])
    rates = np.linspace(*reach, 201)[1:-1]
    table = operating_characteristics(prior, n=[n], p0=p0, rates=rates.tolist())
    left: Axes
    right: Axes
    with sns.axes_style("ticks"):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    # Of a large trial, the numbers of responders that may be seen
    most = max(int(np.searchsorted(probability.cumsum(), SEEN)), least % (n + 1))
    shown = most + 2 if most < n / 2 else n + 1
    events, probability = np.arange(shown), probability[:shown]
    wins = events >= least
    left.bar(events[~wins], probability[~wins], color="#d0d0d0", label="no success")
    left.bar(events[wins], probability[wins], color=BLUE, label="success")
    left.set_xlabel(f"responders among {n} patients", fontsize=FONT)
    left.set_ylabel("probability", fontsize=FONT)
    left.legend(frameon=False, fontsize=FONT)
    right.plot(unit.whole * rates, table["success"], color=DARK)
    right.axvline(unit.whole * p0, color=GREY, lw=0.8, ls="--", label="rate to be exceeded")
    scale(right, unit, reach)
    right.set_ylim(0, 1.02)
    right.set_xlabel(f"true rate ({unit.sign})", fontsize=FONT)
    right.set_ylabel("probability of success", fontsize=FONT)
    right.legend(frameon=False, fontsize=FONT, loc="lower right")
    for ax in (left, right):
        ax.tick_params(labelsize=FONT)
    sns.despine(figure)
    return left
