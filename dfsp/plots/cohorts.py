"""Pictures of what cohorts report: response categories, doses, totals."""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dfsp.analyses.categories import Categories
from dfsp.analyses.regression import Regression
from dfsp.analyses.totals import Scenarios
from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import Counts
from dfsp.plots.style import BLUE, DARK, FONT, GREY, ORANGE, axes, on_white, scale, shortened
from dfsp.rates import PERCENT, Unit, limits

CATEGORY_COLOURS = {
    "CR": "#08306b",
    "PR": "#4292c6",
    "CR+PR": "#2a6cab",
    "SD": "#d9d9d9",
    "SD+PD": "#c8a08c",
    "SD+NE": "#e8e8e8",
    "PD": "#a50f15",
    "NE": "#ffffff",
}
GREY_HATCHES = {"CR": None, "PR": None, "SD": None, "PD": "xxx", "NE": None}
"""Progression is as dark as partial response in grey; a hatch tells them apart."""
LARGE = 60
"""Patients of the largest cohort beyond which markers grow less."""


@on_white
def responses(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw the recorded response categories of every cohort as shares of its patients.

    Parameters
    ----------
    evidence : Evidence
        With response counts; coarse categories are hatched.
    ax : Axes, optional

    Raises
    ------
    DfspError
        The set has no response counts.

    Examples
    --------
    >>> import dfsp
    >>> ax = dfsp.plots.responses(dfsp.load_evidence("reconciled"))
    >>> ax.get_xlabel(), ax.get_yticklabels()[0].get_text()
    ('Patients (%)', 'Ugurel 2014')
    """
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    if rows.empty:
        raise DfspError(f"evidence set {evidence.name!r} has no response counts to draw")
    cohorts = list(dict.fromkeys(rows["label"]))
    order = {name: place for place, name in enumerate(CATEGORY_COLOURS)}
    ax = ax or axes(8.4, 1.6 + 0.34 * len(cohorts))
    used = sorted(set(rows["category"]), key=lambda name: order.get(name, 99))
    for y, cohort in enumerate(cohorts):
        own = rows[rows["label"] == cohort]
        total, left = own["count"].sum(), 0.0
        for category in used:
            count = own.loc[own["category"] == category, "count"].sum()
            if not count:
                continue
            width = 100 * count / total
            colour = CATEGORY_COLOURS.get(category, GREY)
            hatch = _hatch(category)
            ax.barh(y, width, left=left, color=colour, hatch=hatch, ec=DARK, lw=0.6)
            light = sum(mpl.colors.to_rgb(colour)) > 1.5
            box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if hatch else None
            ax.text(
                left + width / 2, y, str(count), ha="center", va="center", fontsize=FONT,
                color=DARK if light else "white", bbox=box,
            )  # fmt: skip
            left += width
        ax.text(101.5, y, f"n = {total}", va="center", fontsize=FONT)
    _label_bars(ax, cohorts, used, "Patients (%)")
    return ax


@on_white
def dose(counts: Counts | pd.DataFrame, result: Regression, *, ax: Axes | None = None) -> Axes:
    """Draw observed rates over dose, by setting, with the typical rate of a meta-regression.

    Beside a cohort stands the median duration of its treatment in months, where that is known.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        With `dose_mg` and `setting`.
    result : Regression
        On one coefficient, log2 of dose, with the exact engine.
    ax : Axes, optional

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> table = table.assign(dose_mg=[400, 400, 800], setting="advanced")
    >>> counts, name = dfsp.regression.log2_of(table, "dose_mg", 400)
    >>> ax = dfsp.plots.dose(counts, dfsp.regression.regress(counts, name))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['400', '800']
    """
    counts = Counts.of(counts)
    table = counts.table.dropna(subset=["dose_mg"]).reset_index(drop=True)
    alone, unit = replace(counts, table=table).observed(), counts.rates_in
    ax = ax or axes(7.0, 4.2)
    ax.spines["left"].set_visible(True)
    bands = result.rates.xs("typical rate", level="rate")
    doses = sorted(table["dose_mg"].unique())
    for dose, (_, band) in zip(doses, bands.iterrows(), strict=True):
        ends = unit.whole * band[["q2.5", "q97.5"]]
        ax.plot([dose] * 2, ends, color=BLUE, lw=9, alpha=0.25, zorder=1)
        ax.plot(dose, unit.whole * band["q50"], "_", color=BLUE, ms=22, mew=2.5, zorder=2)
    ax.plot(doses, unit.whole * bands["q50"], color=BLUE, lw=1, ls="--", zorder=1)
    styles = {"advanced": ("s", DARK), "neoadjuvant": ("o", "white")}
    timed = "treatment_months_median" in table
    rates = unit.whole * alone[["rate", "low", "high"]].to_numpy(float)
    area = 4 * min(1, LARGE / int(table["total"].max()))
    room = 0.7 * float(np.diff(doses).min(initial=400))
    for dose in doses:
        group = [i for i in np.argsort(rates[:, 0]) if table["dose_mg"].iloc[i] == dose]
        for place, i in enumerate(group):
            # Beside the band, never on it
            step = min(28, room / len(group))
            x = dose + step * (place - (len(group) - 1) / 2 + len(group) % 2 / 2)
            marker, fill = styles.get(table["setting"].iloc[i], ("D", GREY))
            ax.plot([x, x], rates[i, 1:], color=DARK, lw=0.7, zorder=3)
            ax.scatter(
                x, rates[i, 0], s=12 + area * int(table["total"].iloc[i]), marker=marker,
                facecolor=fill, edgecolor=DARK, zorder=4,
            )  # fmt: skip
            months = table["treatment_months_median"].iloc[i] if timed else None
            if pd.notna(months):
                ax.text(x + 9, rates[i, 0], f"{months:g}", fontsize=FONT - 1, va="center", zorder=5)
    handles = [
        Line2D([], [], marker=m, color=DARK, mfc=f, ls="", label=name)
        for name, (m, f) in styles.items() if name in set(table["setting"])
    ]  # fmt: skip
    handles.append(Line2D([], [], color=BLUE, marker="_", ms=12, mew=2.5, ls="--",
                          label="typical rate and 95 % interval"))  # fmt: skip
    ax.set_xticks(doses, [f"{dose:g}" for dose in doses])
    ax.set_xlim(min(doses) - 110, max(doses) + 110)
    low, high = limits([*rates.ravel() / unit.whole, *bands[["q2.5", "q97.5"]].to_numpy().ravel()])
    scale(ax, unit, (low, 1.02 * high), up=True)
    ax.set_xlabel("Starting dose (mg a day)", fontsize=FONT)
    ax.set_ylabel(f"Rate ({unit.sign})", fontsize=FONT)
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False,
        fontsize=FONT,
    )  # fmt: skip
    return ax


@on_white
def scenarios(*readings: Scenarios) -> Axes:
    """Draw the readings of totals side by side.

    Parameters
    ----------
    *readings : Scenarios
        From `dfsp.totals.scenarios`, one a total.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import dfsp, numpy as np
    >>> total = dfsp.totals.Total("severe adverse event", 4, 30, np.array([10, 20, 30]))
    >>> ax = dfsp.plots.scenarios(dfsp.totals.scenarios(total))
    >>> len(ax.get_yticklabels()), ax.texts[0].get_text()
    (5, 'Severe adverse event')
    """
    rows = sum(len(each.table) + 1 for each in readings)
    unit = readings[0].unit
    ax = axes(8.4, 0.9 + 0.32 * rows)
    y, places, names = 0.0, [], []
    for each in readings:
        ax.text(
            0, y, each.total.label.capitalize(), fontsize=FONT + 1, fontweight="bold", va="center",
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
        y += 1
        for scenario, rate, mean, low, high in each.table.reset_index()[
            ["scenario", "rate", "mean", "q2.5", "q97.5"]
        ].itertuples(index=False):
            new = rate == "new-study rate"
            ends = [unit.whole * low, unit.whole * high]
            # As in a forest plot: as one study, over studies, of a new one.
            colour = ORANGE if new else DARK if rate == "rate" else BLUE
            ax.plot(ends, [y, y], color=colour, lw=1.6, ls=":" if new else "-")
            marker, fill = ("D", "white") if new else ("s", colour)
            ax.plot(unit.whole * mean, y, marker, color=colour, mfc=fill)
            places.append(y)
            names.append(f"{scenario}, {rate}" if rate != "rate" else scenario)
            y += 1
    ax.set_yticks(places, names, fontsize=FONT)
    scale(ax, unit, limits(pd.concat([each.table[["mean", "q2.5", "q97.5"]] for each in readings])))
    ax.set_ylim(y - 0.4, -0.7)
    ax.set_xlabel(f"Patients with an event ({unit.sign}): mean and 95 % interval", fontsize=FONT)
    return ax


@on_white
def categories(result: Categories, *, ax: Axes | None = None) -> Axes:
    """Draw the category rates of every cohort, as observed and under the model, and a new study's.

    A coarse count, which its source does not split, is hatched.

    Parameters
    ----------
    result : Categories
    ax : Axes, optional

    Examples
    --------
    >>> import dfsp
    >>> result = dfsp.categories.fit(dfsp.load_evidence("reconciled"), not_evaluable="excluded")
    >>> ax = dfsp.plots.categories(result)
    >>> ax.get_yticklabels()[-1].get_text()
    'new study'
    """
    table = result.by_study()
    studies = list(dict.fromkeys(table["study"]))
    order = {name: place for place, name in enumerate(CATEGORY_COLOURS)}
    shares = {study: _observed_shares(result, study) for study in studies}
    found = {category for own in shares.values() for category in own} | {*result.categories}
    used = sorted(found, key=lambda name: order.get(name, 99))
    ax = ax or axes(8.4, 1.5 + 0.52 * len(studies))
    for y, study in enumerate(studies):
        own = table[table["study"] == study].set_index("category")["rate"].to_dict()
        for widths, offset, height in ((shares[study], -0.2, 0.32), (own, 0.18, 0.38)):
            left = 0.0
            for category in used:
                width = result.unit.whole * widths.get(category, 0.0)
                if not width > 0:
                    continue
                ax.barh(
                    y + offset, width, height, left=left, ec=DARK, lw=0.6,
                    color=CATEGORY_COLOURS.get(category, GREY), hatch=_hatch(category),
                )  # fmt: skip
                left += width
        label = "model" if study == "new study" else "observed, model"
        ax.text(
            1.015 * result.unit.whole, y, label, va="center", fontsize=FONT - 1, color=DARK
        )  # fmt: skip
    across = f"Rate of each category ({result.unit.sign})"
    _label_bars(ax, studies, used, across, result.unit)
    return ax


def _label_bars(
    ax: Axes, names: Sequence[str], used: Sequence[str], across: str, unit: Unit = PERCENT
) -> None:
    """Name the bars of categories, one a study, and the categories above them."""
    handles = [
        Patch(facecolor=CATEGORY_COLOURS.get(c, GREY), edgecolor=DARK, hatch=_hatch(c), label=c)
        for c in used
    ]
    labels = [shortened(name) for name in names]
    ax.set_yticks(range(len(names)), labels, fontsize=FONT, parse_math=False)
    ax.set(xlim=(0, unit.whole), ylim=(len(names) - 0.4, -0.6))
    ax.set_xlabel(across, fontsize=FONT)
    ax.legend(
        handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1.0),
        frameon=False, fontsize=FONT, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip


def _observed_shares(result: Categories, study: str) -> dict[str, float]:
    """Return a study's shares of patients as its source splits them, in the result's categories."""
    cells = {
        category: patients
        for category, patients in result.cells.get(study, {}).items()
        if patients and set(category.split("+")) & {*result.categories}
    }
    return {category: patients / sum(cells.values()) for category, patients in cells.items()}


def _hatch(category: str) -> str | None:
    return "///" if "+" in category else GREY_HATCHES.get(category)
