"""Pictures of many tables in one: a forest with a block a table, or a caterpillar of tables."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from dfsp.analyses.by import FitBy
from dfsp.fitting import NAMES
from dfsp.plots.fits import MOST_NAMED, _summit, _write
from dfsp.plots.style import BLUE, DARK, FONT, GREY, ORANGE, axes, legend, scale, shortened
from dfsp.rates import Unit, limits, unit_named

Rate = tuple[float, float, float]
"""A rate with its interval."""


def groups(
    result: FitBy,
    *,
    studies: bool | None = None,
    order: Literal["rate", "given"] = "rate",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the fits of several tables.

    Parameters
    ----------
    result : FitBy
    studies : bool, optional
        Whether each table is a block of its studies with its population below; otherwise it is one
        row. By default, if that makes at most `MOST_NAMED` rows.
    order : {"rate", "given"}
        Of tables that are one row each: by their rates, or as they are, such as by year.
    unit : str
        Name of the unit of the axis; by default that of the tables.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in the unit.

    See Also
    --------
    dfsp.fit_by : Fits them.
    dfsp.plots.forest : One table.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = {"study": list("ABCD"), "events": [3, 8, 5, 2], "total": [10, 20, 19, 9]}
    >>> fits = dfsp.fit_by(pd.DataFrame(table | {"drug": list("xxyy")}), by="drug")
    >>> [text.get_text() for text in groups(fits).get_yticklabels()][:4]
    ['x', 'A', 'B', 'Typical rate']
    """
    if studies is None:
        rows = sum(len(counts.table) + 3 for counts in result.counts.values())
        studies = rows <= MOST_NAMED
    return _blocks(result, unit, ax) if studies else _caterpillar(result, order, unit, ax)


def _blocks(result: FitBy, unit: str, ax: Axes | None) -> Axes:
    """Draw a block a table: its name, its studies, and what they together find."""
    said_in = unit_named(unit) if unit else result.unit
    centre = result.model.effects.centre
    below = {NAMES[centre].capitalize(): centre, "New study (true rate)": "new_study_rate"}
    labels: list[tuple[float, str]] = []
    rows: list[tuple[float, str, Rate, Rate | None, str]] = []
    heads: list[float] = []
    at = 0.0
    for group, fit in result.fits.items():
        heads.append(at)
        labels.append((at, shortened(group)))
        alone = fit.counts.observed()
        for i, row in enumerate(fit.studies.to_dict("records")):
            at += 1
            labels.append((at, shortened(str(row["study"]))))
            rate, low, high = (float(alone[name].iloc[i]) for name in ("rate", "low", "high"))
            seen = rate, low, high
            own = row["mean"], row["q2.5"], row["q97.5"]
            rows.append((at, "study", own, seen, f"{row['events']}/{row['total']}"))
        for label, quantity in below.items():
            at += 1
            labels.append((at, label))
            found = fit.summary.T[quantity]
            middle = found["mean" if quantity == "new_study_rate" else "q50"]
            rows.append((at, label, (middle, found["q2.5"], found["q97.5"]), None, ""))
        at += 1.4
    drawn = np.array([own for _, _, own, _, _ in rows])
    observed = np.array([seen for _, _, _, seen, _ in rows if seen])
    reach = limits(np.concatenate([drawn[:, :2].ravel(), observed.ravel()]), drawn.ravel())
    ax = ax or axes(7.6, 1.2 + 0.27 * (at + 1))
    whole = said_in.whole
    ends = [whole * end for end in reach]
    for place, kind, under, alone_rate, _ in rows:
        middle, low, high = (whole * value for value in under)
        if alone_rate is None:
            _summit(ax, kind, [middle, low, high], place, ends)
            continue
        rate, left, right = (whole * value for value in alone_rate)
        ax.hlines(place - 0.18, left, right, color=DARK, lw=1.1)
        ax.plot([rate], [place - 0.18], "s", color=DARK, ms=4, zorder=3, clip_on=False)
        ax.hlines(place + 0.18, low, high, color=BLUE, lw=1.5)
        ax.plot([middle], [place + 0.18], "o", mfc="white", mec=BLUE, mew=1.3, ms=5, zorder=4)
    ax.plot([], [], "s", color=DARK, ms=4, label="Observed rate, exact interval")
    ax.plot([], [], "o", mfc="white", mec=BLUE, mew=1.3, ms=5, label="Under the model")
    ax.set_yticks(
        [y for y, _ in labels], [text for _, text in labels], fontsize=FONT, parse_math=False
    )
    for tick, (y, _) in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if y in heads else "normal")
    for head in heads[1:]:
        ax.axhline(head - 0.7, color=GREY, lw=0.6)
    shown = [seen or own for _, _, own, seen, _ in rows]
    # Nothing is observed where nobody is.
    texts = ["–" if each[0] != each[0] else said_in.bracketed(*each) for each in shown]
    places = [-1.0, *(place for place, *_ in rows)]
    counts = [events for *_, events in rows]
    columns = [(14.0, "Events/n", counts), (84.0, f"{said_in.sign} [95 % interval]", texts)]
    _write(ax, columns, places)
    _finished(ax, result, said_in, reach, at - 1.4)
    return ax


def _caterpillar(result: FitBy, order: str, unit: str, ax: Axes | None) -> Axes:
    """Draw a row a table."""
    said_in = unit_named(unit) if unit else result.unit
    centre = result.model.effects.centre
    table = result.table
    table = table.sort_values(centre, kind="stable") if order == "rate" else table
    rates = table[[centre, "low", "high"]].to_numpy(np.float64)
    news = table[["new_low", "new_high"]].to_numpy(np.float64)
    reach = limits(rates, news)
    ax = ax or axes(7.6, 1.2 + 0.24 * (len(table) + 1))
    whole, y = said_in.whole, np.arange(len(table), dtype=float)
    ax.hlines(
        y,
        whole * news[:, 0],
        whole * news[:, 1],
        color=ORANGE,
        lw=1.2,
        label="New study (true rate)",
    )
    ax.hlines(y, whole * rates[:, 1], whole * rates[:, 2], color=BLUE, lw=3)
    ax.plot(
        whole * rates[:, 0], y, "D", color=BLUE, ms=4.5, zorder=4, label=NAMES[centre].capitalize()
    )
    ax.set_yticks(
        y, [shortened(str(name)) for name in table.index], fontsize=FONT, parse_math=False
    )
    counts = [f"{e}/{n}" for e, n in zip(table["events"], table["total"], strict=True)]
    texts = [said_in.bracketed(*row) for row in rates.tolist()]
    width = FONT * max(0.72 * 8, *(0.64 * len(text) for text in counts)) + 24
    columns = [(14.0, "Events/n", counts), (width, f"{said_in.sign} [95 % interval]", texts)]
    _write(ax, columns, [-1.0, *y.tolist()])
    _finished(ax, result, said_in, reach, float(len(table) - 1))
    return ax


def _finished(ax: Axes, result: FitBy, unit: Unit, reach: Sequence[float], last: float) -> None:
    """Give the axes what both kinds have."""
    ax.tick_params(axis="y", length=0, pad=7)
    scale(ax, unit, (reach[0], reach[1]))
    ax.set_ylim(last + 0.6, -1.5)
    label = next(iter(result.counts.values())).label.capitalize()
    ax.set_xlabel(f"{label} ({unit.of_patients})", fontsize=FONT, parse_math=False)
    legend(ax)
