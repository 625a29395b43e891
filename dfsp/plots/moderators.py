"""Pictures of a meta-regression: bubbles over a number, a forest by group."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from scipy.interpolate import CubicSpline

from dfsp.analyses.regression import Regression
from dfsp.errors import DfspError, unknown
from dfsp.evidence.tables import Counts
from dfsp.model.likelihood import sigmoid
from dfsp.plots.style import BLUE, DARK, FONT, GREY, axes, legend, on_white, scale, shortened
from dfsp.rates import limits

Array = npt.NDArray[np.float64]

PLACES = 9
"""Values of a number at which the curve is computed; its logit is nearly straight between them."""
ENDS = ["q50", "q2.5", "q97.5"]


@on_white
def moderator(result: Regression, name: str = "", *, ax: Axes | None = None) -> Axes:
    """Draw the rate over one moderator: bubbles over a number, a forest by group.

    The model's typical rate stands beside the studies; other moderators are as they are on average.

    Parameters
    ----------
    result : Regression
    name : str
        The moderator; by default the first.
    ax : Axes, optional

    Returns
    -------
    Axes
        Of a number, x is its value and y the rate; of groups, x is the rate. In the counts' unit.

    Raises
    ------
    DfspError
        No such moderator.

    See Also
    --------
    dfsp.regression.regress : The fit that it draws.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.regression.regress(table.assign(dose=[400, 400, 800]), "dose")
    >>> ax = dfsp.plots.moderator(result)
    >>> ax.get_xlabel(), len(ax.get_legend().get_texts())
    ('dose', 3)
    """
    known = [column.covariate for column in result.columns.values() if not column.factors]
    name = name or known[0]
    if name not in known:
        raise DfspError(f"moderator: {unknown([name], list(dict.fromkeys(known)))}")
    own = [key for key, column in result.columns.items() if column.covariate == name]
    draw = _by_group if result.columns[own[0]].level else _bubbles
    return draw(result, name, own, ax)


def moderators(result: Regression) -> dict[str, Axes]:
    """Draw `moderator` of every moderator, by a name that a file can have.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.regression.regress(table.assign(dose=[400, 400, 800]), "dose")
    >>> list(dfsp.plots.moderators(result))
    ['moderator_1']
    """
    known = dict.fromkeys(
        column.covariate for column in result.columns.values() if not column.factors
    )
    return {f"moderator_{i + 1}": moderator(result, name) for i, name in enumerate(known)}


def _bubbles(result: Regression, name: str, own: list[str], ax: Axes | None) -> Axes:
    (key,) = own
    ax = ax or axes(6.6, 4.2)
    ax.spines["left"].set_visible(True)
    centre, seen = result.columns[key].centre, result.design[key].to_numpy(float)
    places = np.linspace(seen.min(), seen.max(), PLACES)
    typical = np.array([_typical(result, {key: place}) for place in places])
    x = np.linspace(seen.min(), seen.max(), 200)
    unit = result.counts.rates_in
    middle, low, high = unit.whole * sigmoid(CubicSpline(places, typical)(x)).T
    ax.fill_between(x + centre, low, high, color=BLUE, alpha=0.15, lw=0, label="95 % interval")
    ax.plot(x + centre, middle, color=BLUE, lw=1.6, label="Typical rate")
    alone = _observed(result)
    size = np.maximum(10, 320 * alone["total"] / alone["total"].max())
    ax.scatter(
        seen + centre, unit.whole * alone["rate"], s=size, facecolor="none", edgecolor=DARK, lw=1.0,
        clip_on=False, zorder=3, label="Observed rate (area: patients)",
    )  # fmt: skip
    drawn = [*alone["rate"], *low / unit.whole, *high / unit.whole]
    least, most = limits(drawn)
    scale(ax, unit, (least, 1.02 * most), up=True)
    ax.set_xlabel(name, fontsize=FONT, parse_math=False)
    ax.set_ylabel(_label(result), fontsize=FONT, parse_math=False)
    legend(ax)
    return ax


def _by_group(result: Regression, name: str, own: list[str], ax: Axes | None) -> Axes:
    alone = _observed(result)
    levels = {result.columns[own[0]].reference: dict.fromkeys(own, 0.0)}
    levels |= {result.columns[key].level: {each: float(each == key) for each in own} for key in own}
    member = result.counts.table[name].astype(str).to_numpy()
    rows = len(alone) + 3 * len(levels)
    ax = ax or axes(7.2, 1.2 + 0.26 * rows)
    unit = result.counts.rates_in
    most, at = float(alone["total"].max()), 0.0
    drawn: list[float] = []
    places: list[float] = []
    labels: list[str] = []
    for level, values in levels.items():
        rates = sigmoid(_typical(result, values))
        middle, low, high = unit.whole * rates
        drawn += [*rates]
        studies = alone[member == level]
        ax.text(
            0, at, shortened(f"{name}: {level}"), transform=ax.get_yaxis_transform(), fontsize=FONT,
            weight="bold", va="center", parse_math=False,
        )  # fmt: skip
        for study in studies.to_dict("records"):
            at += 1
            ends = unit.whole * study["low"], unit.whole * study["high"]
            ax.plot(ends, [at, at], color=DARK, lw=1.1)
            size = max(8.0, 80 * study["total"] / most)
            ax.scatter(unit.whole * study["rate"], at, s=size, marker="s", color=DARK, zorder=3)
            places.append(at)
            labels.append(shortened(f"{study['study']} ({study['events']}/{study['total']})"))
            drawn += [study["low"], study["high"]]
        at += 1
        corners = [low, middle, high, middle], [at, at - 0.3, at, at + 0.3]
        ax.fill(*corners, facecolor=BLUE, edgecolor=BLUE, zorder=3)
        places.append(at)
        labels.append("Typical rate")
        at += 1.6
    ax.set_yticks(places, labels, fontsize=FONT, parse_math=False)
    ax.tick_params(axis="y", length=0)
    scale(ax, unit, limits(drawn))
    ax.set_ylim(at - 0.6, -0.8)
    for tick, label in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set_color(BLUE if label == "Typical rate" else DARK)
    ax.grid(axis="x", color=GREY, alpha=0.25, lw=0.6)
    ax.set_xlabel(_label(result), fontsize=FONT, parse_math=False)
    return ax


def _observed(result: Regression) -> pd.DataFrame:
    return Counts.of(result.counts).observed()


def _typical(result: Regression, values: dict[str, float]) -> Array:
    """Return median and ends of the typical logit rate at values of some columns of the design."""
    row = dict(zip(result.columns, result.design.mean(), strict=True)) | values
    for key, column in result.columns.items():
        if column.factors:
            row[key] = float(np.prod([row[each] for each in column.factors]))
    found = result.location(np.array(list(row.values()), dtype=float))
    return np.asarray(found[ENDS], dtype=np.float64)


def _label(result: Regression) -> str:
    return f"{result.counts.label.capitalize()} ({result.counts.rates_in.of_patients})"
