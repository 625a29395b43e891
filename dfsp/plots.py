"""Pictures of the evidence and of fits; every one returns matplotlib axes.

Markers differ in shape and fill as well as in colour, so that they can be told apart in grey.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dfsp.analyses.categories import Categories, study_categories
from dfsp.analyses.regression import Regression
from dfsp.engine import nuts as sampling
from dfsp.engine.distributions import Distribution
from dfsp.engine.posterior import Posterior
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import NOT_ASSESSED, appraise
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.summaries import observed, pooled

DARK, BLUE, ORANGE, GREY = "#222222", "#2166ac", "#d6604d", "#999999"
FONT = 9
FORMATS = ("svg", "png")
# The look of seaborn's style "ticks" without its import, which takes a second.
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": ".15",
    "axes.labelcolor": ".15",
    "text.color": ".15",
    "xtick.color": ".15",
    "ytick.color": ".15",
}
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


def forest(fit: Fit, *, show: Collection[str] = ("stratified",), ax: Axes | None = None) -> Axes:
    """Draw the forest plot: each study observed and under the model, and the population.

    Parameters
    ----------
    fit : Fit
    show : collection of {"stratified", "pooled"}
        `"stratified"` draws observed rates (squares, by size) with exact intervals, each study
        alone; `"pooled"` adds the row of all patients as one study.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in percent.

    Raises
    ------
    DfspError
        Something unknown in `show`.
    """
    unknown = sorted(set(show) - {"stratified", "pooled"})
    if unknown:
        raise DfspError(f"show: {', '.join(unknown)} not known; use stratified, pooled")
    table, alone = fit.studies, observed(fit.counts)
    doses = _doses(fit)
    labels = [_shorten(name) for name in table["study"]]
    below = ["Typical rate", "Mean rate", "New study (true rate)"]
    quantity = fit.model.effects.centre
    below = below if "typical_rate" in fit.model.quantities else below[1:]
    below += ["Pooled (as one study)"] if "pooled" in show else []
    rows = len(labels) + len(below)
    texts = _percentages(*(alone[name].to_list() for name in ("rate", "low", "high")))
    ends = [_population(fit, label) for label in below]
    texts += _percentages(
        *([value / 100 for value in column] for column in zip(*ends, strict=True))
    )
    columns = _columns(fit, doses, texts)
    margins = columns[-1][0] + 0.58 * FONT * max(map(len, [*labels, *below]))
    ax = ax or _axes(4.8 + margins / 72, 1.5 + 0.3 * (rows + 1))
    y = np.arange(len(labels), dtype=float)
    low, mid, high = (100 * table[name].to_numpy() for name in ("q2.5", "mean", "q97.5"))
    shift = 0.0
    if "stratified" in show:
        shift = 0.2
        size = np.maximum(8, 96 * alone["total"] / alone["total"].max())
        ax.hlines(y - shift, 100 * alone["low"], 100 * alone["high"], color=DARK, lw=1.2)
        ax.scatter(
            100 * alone["rate"], y - shift, s=size, marker="s", color=DARK, zorder=3, clip_on=False,
            label="Observed rate, exact interval (size: patients)",
        )  # fmt: skip
    ax.hlines(y + shift, low, high, color=BLUE, lw=1.6)
    ax.plot(
        mid, y + shift, "o", mfc="white", mec=BLUE, mew=1.4, ms=5.5, zorder=4, clip_on=False,
        label="Under the model (mean, interval)",
    )  # fmt: skip
    at = len(labels) + 0.6
    ax.axhline(at - 0.8, color=GREY, lw=0.8)
    middle = 100 * fit.summary.T[quantity]
    ax.axvspan(middle["q2.5"], middle["q97.5"], color=BLUE, alpha=0.08, lw=0)
    ax.axvline(middle["q50"], color=BLUE, lw=0.8, ls="--")
    places = list(y)
    for label, (centre, left, right) in zip(below, ends, strict=True):
        if label.startswith("New"):
            ax.plot([left, right], [at, at], color=ORANGE, lw=3, solid_capstyle="butt")
            ax.plot([left, right], [at, at], "|", color=ORANGE, ms=9, mew=2, clip_on=False)
            ax.plot([centre], [at], "|", color=DARK, ms=10, mew=1.6)
        else:
            inside, edge = ("white", DARK) if label.startswith("Pooled") else (BLUE, BLUE)
            corners = [left, centre, right, centre], [at, at - 0.28, at, at + 0.28]
            ax.fill(*corners, facecolor=inside, edgecolor=edge, zorder=3)
        places.append(at)
        at += 1
    _write(ax, columns, places)
    ax.set_yticks(places, [*labels, *below], fontsize=FONT, parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 100), ylim=(at - 0.4, -1.5))
    ax.set_xlabel(
        f"{fit.counts.label.capitalize()} (% of patients)", fontsize=FONT, parse_math=False
    )
    _legend(ax)
    return ax


def plot_prior(prior: Posterior, fit: Fit | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the density of a new study's rate before the data, and after it when a fit is given.

    Parameters
    ----------
    prior : Posterior
        From `dfsp.prior_of`.
    fit : Fit, optional
        With the exact engine.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in percent, y its density per point.

    Raises
    ------
    DfspError
        A prior that reaches too far to be drawn.
    """
    if prior.model.no_picture:
        raise DfspError(prior.model.no_picture)
    ax = ax or _axes(6.4, 3.2)
    x, density = _density(prior.new_study_rate)
    ax.plot(x, density, color=GREY, lw=1.8, ls="--", label="New study, prior")
    if fit is not None:
        x, density = _density(fit.exact.new_study_rate)
        ax.fill_between(x, density, color=ORANGE, alpha=0.25, lw=0)
        ax.plot(x, density, color=ORANGE, lw=1.8, label="New study, given the evidence")
        name = fit.model.effects.centre
        x, density = _density(getattr(fit.exact, name))
        label = f"{name.replace('_', ' ').capitalize()}, given the evidence"
        ax.plot(x, density, color=BLUE, lw=1.8, ls="-.", label=label)
    ax.set(xlim=(0, 100), ylim=(0, None))
    ax.set_xlabel("True rate (%)", fontsize=FONT)
    ax.set_ylabel("Density per point", fontsize=FONT)
    _legend(ax)
    return ax


def plot_agreement(fit: Fit, *, ax: Axes | None = None) -> Axes:
    """Draw how far NUTS means lie from the exact ones, in Monte Carlo standard errors.

    Parameters
    ----------
    fit : Fit
        With `engine="both"`.
    ax : Axes, optional

    Raises
    ------
    DfspError
        The fit has not both engines.
    """
    sampled = sampling.summary(fit.draws)
    names = list(sampled.index)
    exact = pd.Series([getattr(fit.exact, name).mean for name in names], index=names)
    z = (sampled["mean"] - exact) / sampled["mcse_mean"]
    ax = ax or _axes(6.4, 2.4)
    y = np.arange(len(names))
    limit = sampling.MAX_Z
    ax.axvspan(-limit, limit, color=BLUE, alpha=0.08, lw=0)
    for end in (-limit, limit):
        ax.axvline(end, color=DARK, lw=0.8, ls="--")
    ax.axvline(0, color=GREY, lw=0.8)
    ax.plot(z, y, "o", color=BLUE, ms=6)
    ax.set_yticks(y, [name.replace("_", " ") for name in names], fontsize=FONT)
    finite = z.abs()[np.isfinite(z)]
    reach = max(1.5 * limit, 1.1 * finite.max()) if len(finite) else 1.5 * limit
    ax.set(xlim=(-reach, reach), ylim=(len(y) - 0.5, -0.5))
    ax.set_xlabel("NUTS minus exact mean (Monte Carlo standard errors; band: limit)", fontsize=FONT)
    return ax


def plot_predictive(fit: Fit, check: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw observed proportions over those that the model predicts for new studies of their size.

    Parameters
    ----------
    fit : Fit
    check : pandas.DataFrame
        From `dfsp.predictive_check(fit)`.
    ax : Axes, optional
    """
    ax = ax or _axes(8.0, 1.4 + 0.28 * len(check))
    y = np.arange(len(check))
    low, high = (100 * check[end] / check["total"] for end in ("low", "high"))
    ax.hlines(y, low, high, color=ORANGE, lw=6, alpha=0.45, label="Replicated, central interval")
    ax.plot(100 * check["events"] / check["total"], y, "s", color=DARK, ms=5, label="Observed")
    for row, value in enumerate(check["mid_p"]):
        ax.text(
            1.02,
            row,
            f"{value:.2f}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=FONT,
        )
    ax.text(
        1.02,
        -1,
        "mid-p",
        transform=ax.get_yaxis_transform(),
        va="center",
        fontsize=FONT,
        weight="bold",
    )
    ax.set_yticks(y, [_shorten(name) for name in check["study"]], fontsize=FONT, parse_math=False)
    ax.set(xlim=(-2, 102), ylim=(len(check) - 0.4, -1.5))
    ax.set_xlabel(
        f"{fit.counts.label.capitalize()} (% of patients)", fontsize=FONT, parse_math=False
    )
    _legend(ax)
    return ax


def plot_responses(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
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
    """
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    if rows.empty:
        raise DfspError(f"evidence set {evidence.name!r} has no response counts to draw")
    cohorts = list(dict.fromkeys(rows["label"]))
    order = {name: place for place, name in enumerate(CATEGORY_COLOURS)}
    ax = ax or _axes(8.4, 1.6 + 0.34 * len(cohorts))
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
    handles = [
        Patch(facecolor=CATEGORY_COLOURS.get(c, GREY), edgecolor=DARK, hatch=_hatch(c), label=c)
        for c in used
    ]
    ax.set_yticks(
        range(len(cohorts)), [_shorten(c) for c in cohorts], fontsize=FONT, parse_math=False
    )
    ax.set(xlim=(0, 100), ylim=(len(cohorts) - 0.4, -0.6))
    ax.set_xlabel("Patients (%)", fontsize=FONT)
    ax.legend(
        handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1.0),
        frameon=False, fontsize=FONT, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip
    return ax


def plot_dose(counts: Counts, result: Regression, *, ax: Axes | None = None) -> Axes:
    """Draw observed rates over dose, by setting, with the typical rate of a meta-regression.

    Beside a cohort stands the median duration of its treatment in months, where that is known.

    Parameters
    ----------
    counts : Counts
        With `dose_mg` and `setting`.
    result : Regression
        On one coefficient, log2 of dose, with the exact engine.
    ax : Axes, optional
    """
    table = counts.table.dropna(subset=["dose_mg"]).reset_index(drop=True)
    alone = observed(Counts(**vars(counts) | {"table": table}))
    ax = ax or _axes(7.0, 4.2)
    ax.spines["left"].set_visible(True)
    bands = result.rates.xs("typical rate", level="rate")
    doses = sorted(table["dose_mg"].unique())
    for dose, (_, band) in zip(doses, bands.iterrows(), strict=True):
        ax.plot([dose] * 2, 100 * band[["q2.5", "q97.5"]], color=BLUE, lw=9, alpha=0.25, zorder=1)
        ax.plot(dose, 100 * band["q50"], "_", color=BLUE, ms=22, mew=2.5, zorder=2)
    ax.plot(doses, 100 * bands["q50"], color=BLUE, lw=1, ls="--", zorder=1)
    styles = {"advanced": ("s", DARK), "neoadjuvant": ("o", "white")}
    timed = "treatment_months_median" in table
    rates = 100 * alone[["rate", "low", "high"]].to_numpy(float)
    for dose in doses:
        group = [i for i in np.argsort(rates[:, 0]) if table["dose_mg"].iloc[i] == dose]
        for place, i in enumerate(group):
            # Beside the band, never on it
            x = dose + 28 * (place - (len(group) - 1) / 2) + (14 if len(group) % 2 else 0)
            marker, fill = styles.get(table["setting"].iloc[i], ("D", GREY))
            ax.plot([x, x], rates[i, 1:], color=DARK, lw=0.7, zorder=3)
            ax.scatter(
                x, rates[i, 0], s=12 + 4 * int(table["total"].iloc[i]), marker=marker,
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
    ax.set(xlim=(min(doses) - 110, max(doses) + 110), ylim=(0, 102))
    ax.set_xlabel("Starting dose (mg a day)", fontsize=FONT)
    ax.set_ylabel("Rate (%)", fontsize=FONT)
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False,
        fontsize=FONT,
    )  # fmt: skip
    return ax


def plot_scenarios(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Draw the readings of totals side by side.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        By label, what `scenarios` returns.

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = sum(len(table) + 1 for table in tables.values())
    ax = _axes(8.4, 0.9 + 0.32 * rows)
    y, places, names = 0.0, [], []
    for label, table in tables.items():
        ax.text(0, y, label, fontsize=FONT + 1, fontweight="bold", va="center")
        y += 1
        for scenario, rate, mean, low, high in table.reset_index()[
            ["scenario", "rate", "mean", "q2.5", "q97.5"]
        ].itertuples(index=False):
            new = rate == "new-study rate"
            ax.plot([100 * low, 100 * high], [y, y], color=DARK, lw=1.2, ls=":" if new else "-")
            marker, fill = ("D", "white") if new else ("s", DARK)
            ax.plot(100 * mean, y, marker, color=DARK, mfc=fill)
            places.append(y)
            names.append(f"{scenario}, {rate}" if rate != "rate" else scenario)
            y += 1
    ax.set_yticks(places, names, fontsize=FONT)
    ax.set(xlim=(0, 100), ylim=(y - 0.4, -0.7))
    ax.set_xlabel("Patients with an event (%): mean and 95 % interval", fontsize=FONT)
    return ax


def plot_categories(result: Categories, *, ax: Axes | None = None) -> Axes:
    """Draw the category rates of every cohort, as observed and under the model, and a new study's.

    A coarse count, which its source does not split, is hatched.

    Parameters
    ----------
    result : Categories
    ax : Axes, optional
    """
    table = study_categories(result)
    studies = list(dict.fromkeys(table["study"]))
    order = {name: place for place, name in enumerate(CATEGORY_COLOURS)}
    shares = {study: _observed_shares(result, study) for study in studies}
    found = {category for own in shares.values() for category in own} | {*result.categories}
    used = sorted(found, key=lambda name: order.get(name, 99))
    ax = ax or _axes(8.4, 1.5 + 0.52 * len(studies))
    for y, study in enumerate(studies):
        own = table[table["study"] == study].set_index("category")["rate"].to_dict()
        for widths, offset, height in ((shares[study], -0.2, 0.32), (own, 0.18, 0.38)):
            left = 0.0
            for category in used:
                width = 100 * widths.get(category, 0.0)
                if not width > 0:
                    continue
                ax.barh(
                    y + offset, width, height, left=left, ec=DARK, lw=0.6,
                    color=CATEGORY_COLOURS.get(category, GREY), hatch=_hatch(category),
                )  # fmt: skip
                left += width
        label = "model" if study == "new study" else "observed, model"
        ax.text(101.5, y, label, va="center", fontsize=FONT - 1, color=DARK)
    handles = [
        Patch(facecolor=CATEGORY_COLOURS.get(c, GREY), edgecolor=DARK, hatch=_hatch(c), label=c)
        for c in used
    ]
    labels = [_shorten(study) for study in studies]
    ax.set_yticks(range(len(studies)), labels, fontsize=FONT, parse_math=False)
    ax.set(xlim=(0, 100), ylim=(len(studies) - 0.4, -0.6))
    ax.set_xlabel("Rate of each category (%)", fontsize=FONT)
    ax.legend(
        handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1.0),
        frameon=False, fontsize=FONT, handlelength=1.6, columnspacing=1.2,
    )  # fmt: skip
    return ax


def _observed_shares(result: Categories, study: str) -> dict[str, float]:
    """Return a study's shares of patients as its source splits them, in the result's categories."""
    cells = {
        category: patients
        for category, patients in result.cells.get(study, {}).items()
        if patients and set(category.split("+")) & {*result.categories}
    }
    return {category: patients / sum(cells.values()) for category, patients in cells.items()}


def save(ax: Axes, path: str | Path, *, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Save a figure, the same bytes for the same picture.

    Parameters
    ----------
    ax : Axes
    path : path
        Without an ending; one is added for each format.
    formats : sequence of {"svg", "png"}

    Returns
    -------
    list of Path

    Raises
    ------
    DfspError
        An unknown format, or no such folder.
    """
    path = Path(path)
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise DfspError(f"figure format {', '.join(unknown)} not known; use {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise DfspError(f"{path.parent}: no such folder to save a figure in")
    figure, saved = ax.get_figure(root=True), []
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # the layout settles at the first drawing, and stays
    figure.set_layout_engine("none")
    for ending in formats:
        final = path.with_name(f"{path.name}.{ending}")
        with (
            tempfile.TemporaryDirectory(dir=path.parent, prefix=".figure-") as folder,
            mpl.rc_context({"svg.hashsalt": "dfsp"}),
        ):
            part = Path(folder) / final.name
            metadata = {"Date": None} if ending == "svg" else None
            figure.savefig(part, bbox_inches="tight", dpi=200, metadata=metadata)
            part.replace(final)
        saved.append(final)
    return saved


def _axes(width: float, height: float) -> Axes:
    # Not rc_context, which would also undo what a notebook's backend sets with its first figure.
    before = {name: mpl.rcParams[name] for name in _STYLE}
    mpl.rcParams.update(_STYLE)
    try:
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    finally:
        mpl.rcParams.update(before)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.tick_params(labelsize=FONT)
    return ax


def _legend(ax: Axes) -> None:
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=FONT,
        borderaxespad=0.2,
    )  # fmt: skip


def _shorten(name: str, most: int = 60) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _hatch(category: str) -> str | None:
    return "///" if "+" in category else GREY_HATCHES.get(category)


def _doses(fit: Fit) -> list[str]:
    column = fit.counts.table.get("dose_mg", pd.Series(dtype=float))
    doses = pd.to_numeric(column, errors="coerce")
    if not doses.notna().any():
        return []
    return ["–" if pd.isna(dose) else f"{dose:g}" for dose in doses]


def _percentages(rate: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[str]:
    rows = zip(rate, low, high, strict=True)
    return [f"{100 * r:.0f} [{100 * a:.0f}, {100 * b:.0f}]" for r, a, b in rows]


def _population(fit: Fit, label: str) -> tuple[float, float, float]:
    if label.startswith("Pooled"):
        all_patients = pooled(fit.counts)
        return tuple(100 * float(all_patients[name]) for name in ("rate", "low", "high"))  # type: ignore[return-value]
    quantity = {"Typical": "typical_rate", "Mean": "mean_rate", "New": "new_study_rate"}
    row = 100 * fit.summary.T[quantity[label.split()[0]]]
    centre = "q50" if label.startswith("Typical") else "mean"
    return float(row[centre]), float(row["q2.5"]), float(row["q97.5"])


def _columns(fit: Fit, doses: list[str], texts: list[str]) -> list[tuple[float, str, list[str]]]:
    """Place the text columns: points right of the plot, title and cells, ends with the width."""
    counts = [f"{e}/{n}" for e, n in zip(fit.studies["events"], fit.studies["total"], strict=True)]
    columns = [("Events/n", counts), ("Rate, % [95 % interval]", texts), ("", [])]
    if doses:
        columns.insert(0, ("Dose/mg", doses))
    judged = appraise(fit.counts.table)
    for title, name in (("Risk of bias (JBI)", "risk_of_bias"), ("Certainty", "certainty")):
        if (judged[name] != NOT_ASSESSED).any():
            columns.insert(-1, (title, judged[name].to_list()))
    placed, at = [], 14.0
    for title, cells in columns:
        placed.append((at, title, cells))
        # The widths of bold letters and of digits
        at += FONT * max(0.72 * len(title), *(0.64 * len(cell) for cell in cells), 0) + 10
    return placed


def _write(ax: Axes, columns: list[tuple[float, str, list[str]]], places: list[float]) -> None:
    for at, title, cells in columns:
        for place, cell, weight in zip(
            [-1.0, *places], [title, *cells], ["bold", *["normal"] * len(cells)], strict=False
        ):
            if cell:
                ax.annotate(
                    cell, (1, place), xycoords=ax.get_yaxis_transform(), xytext=(at, 0),
                    textcoords="offset points", va="center", fontsize=FONT, weight=weight,
                    annotation_clip=False,
                )  # fmt: skip


def _density(distribution: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """Return rates in percent and density per point, on an even grid of rates."""
    edges = np.linspace(0, 1, 201)
    below = np.array([1 - distribution.prob_above(edge) for edge in edges])
    return 50 * (edges[1:] + edges[:-1]), np.diff(below) / np.diff(100 * edges)
