"""Pictures of many tables in one: a forest with a block a table, or a caterpillar of tables."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from dfsp.analyses.by import FitBy
from dfsp.fitting import NAMES
from dfsp.plots.fits import CATERPILLAR, MOST_NAMED, _placed, _population, _summit, _write
from dfsp.plots.style import (
    BLUE,
    DARK,
    FONT,
    GREY,
    ORANGE,
    axes,
    legend,
    on_white,
    scale,
    shortened,
)
from dfsp.rates import Unit, limits, unit_named

Rate = tuple[float, float, float]
"""A rate with its interval."""

MOST_LETTERS = 44
"""Of a name beside its row."""


@on_white
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
        row, and more than `MOST_NAMED` tables have no names. By default, if that makes at most so
        many rows.
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
    below = [NAMES[centre].capitalize(), "New study (true rate)"]
    labels: list[tuple[float, str]] = []
    rows: list[tuple[float, str, Rate, Rate | None, str]] = []
    heads: list[float] = []
    at = 0.0
    for group, fit in result.fits.items():
        heads.append(at)
        labels.append((at, shortened(group, MOST_LETTERS)))
        alone = fit.counts.observed()
        for i, row in enumerate(fit.studies.to_dict("records")):
            at += 1
            labels.append((at, shortened(str(row["study"]), MOST_LETTERS)))
            rate, low, high = (float(alone[name].iloc[i]) for name in ("rate", "low", "high"))
            seen = rate, low, high
            own = row["mean"], row["q2.5"], row["q97.5"]
            rows.append((at, "study", own, seen, f"{row['events']}/{row['total']}"))
        for label in below:
            at += 1
            labels.append((at, label))
            rows.append((at, label, _population(fit, label), None, ""))
        at += 1.4
    drawn = np.array([own for _, _, own, _, _ in rows])
    observed = np.array([seen for _, _, _, seen, _ in rows if seen])
    reach = limits(np.concatenate([drawn[:, :2].ravel(), observed.ravel()]), drawn.ravel())
    shown = [seen or own for _, _, own, seen, _ in rows]
    # Nothing is observed where nobody is.
    texts = ["–" if each[0] != each[0] else said_in.bracketed(*each) for each in shown]
    columns = _columns([events for *_, events in rows], texts, said_in)
    names = [text for _, text in labels]
    ax = ax or axes(_width(columns, names), 1.2 + 0.27 * (at + 1))
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
    ax.set_yticks([y for y, _ in labels], names, fontsize=FONT, parse_math=False)
    for tick, (y, _) in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if y in heads else "normal")
    for head in heads[1:]:
        ax.axhline(head - 0.7, color=GREY, lw=0.6)
    _write(ax, columns, [-1.0, *(place for place, *_ in rows)])
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
    many = len(table) > MOST_NAMED
    whole, y = said_in.whole, np.arange(len(table), dtype=float)
    names, columns = [], _columns([], [], said_in)
    if many:
        y = np.linspace(0, CATERPILLAR - 1, len(table))
    else:
        names = [shortened(str(name), MOST_LETTERS) for name in table.index]
        counts = [f"{e}/{n}" for e, n in zip(table["events"], table["total"], strict=True)]
        columns = _columns(counts, [said_in.bracketed(*row) for row in rates.tolist()], said_in)
    ax = ax or axes(_width(columns, names), 1.2 + 0.24 * (y[-1] + 2))
    ax.hlines(
        y, whole * news[:, 0], whole * news[:, 1], color=ORANGE, lw=0.5 if many else 1.2,
        label="New study (true rate)",
    )  # fmt: skip
    ax.hlines(
        y, whole * rates[:, 1], whole * rates[:, 2], color=BLUE, lw=0.7 if many else 3
    )  # fmt: skip
    ax.plot(
        whole * rates[:, 0], y, "D", color=BLUE, ms=1.8 if many else 4.5, zorder=4,
        label=NAMES[centre].capitalize(),
    )  # fmt: skip
    if many:
        by = "by their rate" if order == "rate" else "as given"
        ax.set_yticks([y[-1] / 2], [f"{len(y)} tables,\n{by}"], fontsize=FONT)
    else:
        ax.set_yticks(y, names, fontsize=FONT, parse_math=False)
        _write(ax, columns, [-1.0, *y.tolist()])
    _finished(ax, result, said_in, reach, float(y[-1]))
    return ax


def _columns(counts: list[str], texts: list[str], unit: Unit) -> list[tuple[float, str, list[str]]]:
    """Place the text columns beside the rows; the last one ends them."""
    return _placed([("Events/n", counts), (f"{unit.sign} [95 % interval]", texts), ("", [])])


def _width(columns: list[tuple[float, str, list[str]]], names: list[str]) -> float:
    """Return the inches that leave the plot room between names and columns."""
    widest = max(map(len, names), default=0)
    return max(7.6, 3.6 + (columns[-1][0] + 0.62 * FONT * widest) / 72)


def _finished(ax: Axes, result: FitBy, unit: Unit, reach: Sequence[float], last: float) -> None:
    """Give the axes what both kinds have."""
    ax.tick_params(axis="y", length=0, pad=7)
    scale(ax, unit, (reach[0], reach[1]))
    ax.set_ylim(last + 0.6, -1.5)
    label = next(iter(result.counts.values())).label.capitalize()
    ax.set_xlabel(f"{label} ({unit.of_patients})", fontsize=FONT, parse_math=False)
    legend(ax)
