"""Pictures of a fit: forest plot, prior and posterior, checks of the engines and of the model.

Markers differ in shape and fill as well as in colour, so that they can be told apart in grey.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dfsp.engine import nuts as sampling
from dfsp.engine.distributions import Distribution
from dfsp.engine.predictive import prior_of
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import NOT_ASSESSED, appraise
from dfsp.fitting import Fit
from dfsp.model.model import Model
from dfsp.plots.style import BLUE, DARK, FONT, GREY, ORANGE, axes, legend, shortened


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

    See Also
    --------
    dfsp.plots.save : Keeps a picture.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.forest(dfsp.fit(table))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['A', 'B', 'C', 'Typical rate', 'Mean rate', 'New study (true rate)']
    """
    unknown = sorted(set(show) - {"stratified", "pooled"})
    if unknown:
        raise DfspError(f"show: {', '.join(unknown)} not known; use stratified, pooled")
    table, alone = fit.studies, fit.counts.observed()
    doses = _doses(fit)
    labels = [shortened(name) for name in table["study"]]
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
    ax = ax or axes(4.8 + margins / 72, 1.5 + 0.3 * (rows + 1))
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
    legend(ax)
    return ax


def prior(of: Model | Fit, *, ax: Axes | None = None) -> Axes:
    """Draw the density of a new study's rate before the data, and of a fit after it too.

    Parameters
    ----------
    of : Model or Fit
        A fit has the exact engine.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in percent, y its density per point.

    Raises
    ------
    DfspError
        A prior that reaches too far to be drawn.

    Examples
    --------
    >>> import dfsp
    >>> ax = dfsp.plots.prior(dfsp.Model(tau=dfsp.HalfNormal(0.5)))
    >>> ax.get_xlabel(), [line.get_label() for line in ax.lines]
    ('True rate (%)', ['New study, prior'])
    """
    model = of.model if isinstance(of, Fit) else of
    if model.no_picture:
        raise DfspError(model.no_picture)
    ax = ax or axes(6.4, 3.2)
    x, density = _density(prior_of(model).new_study_rate)
    ax.plot(x, density, color=GREY, lw=1.8, ls="--", label="New study, prior")
    if isinstance(of, Fit):
        x, density = _density(of.exact.new_study_rate)
        ax.fill_between(x, density, color=ORANGE, alpha=0.25, lw=0)
        ax.plot(x, density, color=ORANGE, lw=1.8, label="New study, given the evidence")
        name = model.effects.centre
        x, density = _density(getattr(of.exact, name))
        label = f"{name.replace('_', ' ').capitalize()}, given the evidence"
        ax.plot(x, density, color=BLUE, lw=1.8, ls="-.", label=label)
    ax.set(xlim=(0, 100), ylim=(0, None))
    ax.set_xlabel("True rate (%)", fontsize=FONT)
    ax.set_ylabel("Density per point", fontsize=FONT)
    legend(ax)
    return ax


def agreement(fit: Fit, *, ax: Axes | None = None) -> Axes:
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

    Examples
    --------
    NUTS takes some seconds:

    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.agreement(dfsp.fit(table, engine="both"))  # doctest: +SKIP
    >>> ax.get_yticklabels()[0].get_text()  # doctest: +SKIP
    'mu'
    """
    if fit.sampled is None or fit.posterior is None:
        raise DfspError("this fit has not both engines to compare; fit with engine='both'")
    sampled = sampling.summary(fit.sampled.draws)
    names = list(sampled.index)
    exact = pd.Series([getattr(fit.exact, name).mean for name in names], index=names)
    z = (sampled["mean"] - exact) / sampled["mcse_mean"]
    ax = ax or axes(6.4, 2.4)
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


def predictive(fit: Fit, *, ax: Axes | None = None) -> Axes:
    """Draw observed proportions over those that the model predicts for new studies of their size.

    Parameters
    ----------
    fit : Fit
        With the exact engine.
    ax : Axes, optional

    See Also
    --------
    dfsp.Fit.predictive_check : The numbers behind it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.predictive(dfsp.fit(table))
    >>> [text.get_text() for text in ax.texts]
    ['0.54', '0.33', '0.64', 'mid-p']
    """
    check = fit.predictive_check()
    ax = ax or axes(8.0, 1.4 + 0.28 * len(check))
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
    ax.set_yticks(y, [shortened(name) for name in check["study"]], fontsize=FONT, parse_math=False)
    ax.set(xlim=(-2, 102), ylim=(len(check) - 0.4, -1.5))
    ax.set_xlabel(
        f"{fit.counts.label.capitalize()} (% of patients)", fontsize=FONT, parse_math=False
    )
    legend(ax)
    return ax


def _doses(fit: Fit) -> list[str]:
    column = fit.counts.table.get("dose_mg", pd.Series(dtype=float))
    doses = pd.to_numeric(column, errors="coerce")
    if not doses.notna().any():
        return []
    return ["–" if pd.isna(dose) else f"{dose:g}" for dose in doses]


def _percentages(rate: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[str]:
    rows = zip(rate, low, high, strict=True)
    # Nothing is observed where nobody is.
    return ["–" if r != r else f"{100 * r:.0f} [{100 * a:.0f}, {100 * b:.0f}]" for r, a, b in rows]


def _population(fit: Fit, label: str) -> tuple[float, float, float]:
    if label.startswith("Pooled"):
        rate, low, high = 100 * fit.counts.pooled()[["rate", "low", "high"]].to_numpy()[0]
        return float(rate), float(low), float(high)
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
