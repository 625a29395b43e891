"""Pictures of robustness: all analyses, all subsets, missing outcomes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dfsp.analyses.multiverse import RATES, TITLES, Multiverse
from dfsp.analyses.sensitivity import MissingOutcomes, Subsets
from dfsp.errors import DfspError
from dfsp.plots.style import (
    BLUE,
    DARK,
    FONT,
    GREY,
    ORANGE,
    axes,
    decades,
    on_white,
    panels,
    reach_of,
    scale,
    shortened,
)
from dfsp.rates import limits


@on_white
def specifications(result: Multiverse) -> Axes:
    """Draw the rate of every analysis, in order, and its choices beneath.

    The typical rate; where no analysis has one, the mean rate.

    Returns
    -------
    matplotlib.axes.Axes
        The upper panel.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.multiverse.fit(table, effects={"normal": dfsp.NormalEffects()})
    >>> ax = dfsp.plots.specifications(result)
    >>> ax.get_ylabel()
    'typical rate, 95 % interval (%)'
    """
    quantity = result.central
    table = result.table.dropna(subset=quantity).sort_values(quantity, kind="stable")
    rows: list[tuple[str, str, str]] = []
    for choice in result.choices:
        if table[choice].nunique() > 1:
            rows.append((TITLES.get(choice, choice), choice, ""))
            levels = [each for each in result.table[choice].unique() if each in set(table[choice])]
            rows += [(level, choice, level) for level in levels]
    height = 0.165 * len(rows)
    ratios = [3.0, max(height, 0.5)]
    upper, lower = panels(9.5, 3.2 + height, rows=2, sharex=True, height_ratios=ratios)[:, 0]
    x = np.arange(len(table))
    unit, rates = result.unit, [table[f"{quantity}{end}"] for end in ("_low", "", "_high")]
    low, middle, high = (unit.whole * each for each in rates)
    upper.fill_between(x, low, high, color="#d9d9d9")
    upper.plot(x, middle, color=DARK, lw=1.4)
    reach, far = reach_of(np.ravel(rates), table[quantity].quantile([0.25, 0.5, 0.75]).to_list())
    (decades if far else scale)(upper, unit, reach, up=True)
    of = f"\n({unit.sign}, by decades)" if far else f" ({unit.sign})"
    upper.set_ylabel(f"{RATES[quantity]}, 95 % interval{of}", fontsize=FONT)
    for y, (_, choice, level) in enumerate(rows):
        if level:
            here = x[(table[choice] == level).to_numpy()]
            lower.plot(here, np.full(len(here), y), "|", color=DARK, ms=3.5, mew=0.5)
        elif y:
            lower.axhline(y - 0.5, color=GREY, lw=0.6)
    lower.set_yticks(
        range(len(rows)), [shortened(text, 60) for text, *_ in rows], fontsize=FONT - 1
    )
    for label, (*_, level) in zip(lower.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if level else "bold")
    lower.tick_params(axis="y", length=0)
    lower.set_ylim(len(rows) - 0.4, -0.6)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.set_xlabel("analyses, in order of the rate", fontsize=FONT)
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
    first: Axes = upper
    return first


@on_white
def subsets(found: Subsets, study: str) -> Axes:
    """Draw the typical rate of every subset over its tau, by whether a study is in it.

    Parameters
    ----------
    found : Subsets
        From `dfsp.sensitivity.all_subsets`.
    study : str

    Raises
    ------
    DfspError
        The study is not there.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.subsets(dfsp.sensitivity.all_subsets(table), "B")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['without B', 'with B', 'all studies']
    """
    table, unit = found.table, found.unit
    if study not in table:
        raise DfspError(f"{study!r} is none of the studies of these subsets")
    ax = axes(7.0, 4.4)
    ax.spines["left"].set_visible(True)
    for inside, marker, colour, label in (
        (False, "o", GREY, f"without {study}"), (True, "x", BLUE, f"with {study}"),
    ):  # fmt: skip
        own = table[table[study] == inside]
        ax.plot(
            own["tau"], unit.whole * own["typical_rate"], marker, color=colour, ms=3.2, mew=0.8,
            ls="", mfc="none", label=label, alpha=0.8,
        )  # fmt: skip
    k = table.select_dtypes("bool").shape[1]
    whole = table[table["studies"] == k]
    ax.plot(
        whole["tau"], unit.whole * whole["typical_rate"], "s", color=ORANGE, mec=DARK, ms=8, ls="",
        label="all studies",
    )  # fmt: skip
    ax.set_xlabel("tau (median, logit scale)", fontsize=FONT)
    ax.set_ylabel(f"typical rate (median, {unit.sign})", fontsize=FONT)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=FONT)
    return ax


@on_white
def missing(found: MissingOutcomes) -> Axes:
    """Draw the typical rate over the probability of an event among patients not evaluable.

    Parameters
    ----------
    found : MissingOutcomes
        From `dfsp.sensitivity.missing_outcomes`.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.missing(dfsp.sensitivity.missing_outcomes(table, steps=2))
    >>> ax.get_ylabel()
    'event, rate (%)'
    """
    unit, label = found.unit, found.label
    sweep = unit.whole * found.table
    ax = axes(6.0, 3.4)
    ax.spines["left"].set_visible(True)
    x = 100 * sweep.index.to_numpy(float)
    ax.fill_between(x, sweep["low"], sweep["high"], color="#d9d9d9")
    ax.plot(x, sweep["typical"], color=DARK, lw=1.5, label="typical rate, 95 % interval")
    ax.plot(x, sweep["mean"], color=DARK, lw=1.2, ls="--", label="mean rate")
    if "typical_most" in sweep:
        ax.plot(
            x, sweep["typical_most"], color=BLUE, lw=1.2, ls=":",
            label="typical rate if all that may be not evaluable are",
        )  # fmt: skip
    ax.set_xlim(0, 100)
    scale(ax, unit, limits(found.table), up=True)
    ax.set_xlabel(f"probability of {label} among patients not evaluable (%)", fontsize=FONT)
    ax.set_ylabel(f"{label}, rate ({unit.sign})", fontsize=FONT)
    ax.legend(loc="lower left", frameon=False, fontsize=FONT)
    return ax
