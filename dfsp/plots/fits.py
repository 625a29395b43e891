"""Pictures of a fit: forest plot, prior and posterior, checks of the engines and of the model.

Markers differ in shape and fill as well as in colour, so that they can be told apart in grey.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter
from scipy.special import expit, logit, ndtr

from dfsp.engine import nuts as sampling
from dfsp.engine.distributions import Distribution
from dfsp.engine.predictive import prior_of
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import NOT_ASSESSED, appraise, jbi_answers
from dfsp.fitting import CLUSTER, RATES, Fit, centre_of, require_fit
from dfsp.model.model import Model
from dfsp.plots.style import (
    BLUE,
    DARK,
    FONT,
    GREY,
    ORANGE,
    RAREST,
    axes,
    decades,
    drawn_ends,
    legend,
    on_white,
    reach_of,
    scale,
    shortened,
    shows,
)
from dfsp.rates import PERCENT, Unit, limits, unit_named, unit_of
from dfsp.yardsticks import ORDINARY

MOST_NAMED = 60
"""Studies that a forest plot names."""
CATERPILLAR = 24
"""Rows whose height the studies of a caterpillar share."""
ARVIZ = {"figsize": (8.0, 2.4)}
"""Inches of ArviZ's figures."""
BIAS = "Risk of bias (JBI, items 1 to 10)"
LIGHTS = {
    "yes": ("+", "#1b7837"),
    "no": ("\N{MINUS SIGN}", "#b2182b"),
    "unclear": ("?", "#9a6a00"),
    "not applicable": ("/", GREY),
    "": (" ", "#dddddd"),
}
"""Sign and colour of each answer to an item; the last of one that is not assessed."""
LEVELS = ndtr(np.linspace(-4.5, 4.5, 541))
"""Levels of the quantiles between which densities are drawn, even in normal scores."""


@on_white
def forest(
    fit: Fit, *, show: Collection[str] = ("stratified",), unit: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the forest plot: each study observed and under the model, and the population.

    More than `MOST_NAMED` studies are drawn as a caterpillar, in the order of their rates and
    without names, above the rows of the population.

    Parameters
    ----------
    fit : Fit
    show : collection of {"stratified", "pooled"}
        `"stratified"` draws observed rates (squares, by size) with exact intervals, each study
        alone; `"pooled"` adds the row of all patients as one study.
    unit : str
        Name of the unit of the axis; by default that of the counts.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in the unit. What reaches further than twice as far as the studies ends in an
        arrow; if the middle of a summary does, x is the logit of the rate.

    Raises
    ------
    DfspError
        Something unknown in `show`, or a unit that is not known.

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
    said_in = unit_named(unit) if unit else require_fit(fit).unit
    fit = _by_cluster(require_fit(fit))
    below = ["Typical rate", "Mean rate", "New study (true rate)"]
    below = below if "typical_rate" in fit.model.quantities else below[1:]
    below += ["Pooled (as one study)"] if "pooled" in show else []
    population = [_population(fit, label) for label in below]
    reach, far = _reach(fit, population, "stratified" in show)
    many = len(fit.studies) > MOST_NAMED
    alone = fit.counts.observed()
    rates = [] if many else list(zip(alone["rate"], alone["low"], alone["high"], strict=True))
    least = 0 if reach == (0.0, 1.0) and said_in == PERCENT else 1
    # Nothing is observed where nobody is.
    texts = [
        "–" if row[0] != row[0] else said_in.bracketed(*row, least=least)
        for row in [*rates, *population]
    ]
    names = [] if many else [shortened(name) for name in fit.studies["study"]]
    columns = _columns(fit, texts, said_in, named=not many)
    widest = max(map(len, [*names, *below]))
    margins = columns[-1][0] + 0.58 * FONT * widest
    first, single = ({}, []) if many else _heads(fit)
    heads = {name: float(row + i) for i, (name, row) in enumerate(first.items())}
    rows = (CATERPILLAR if many else len(names) + len(heads)) + len(below)
    ax = ax or axes(4.8 + margins / 72, 1.5 + 0.3 * (rows + 1))
    draw = _caterpillar if many else _rows
    places = draw(ax, fit, said_in, "stratified" in show)
    at = places[-1] + 1.6
    ax.axhline(at - 0.8, color=GREY, lw=0.8)
    middle = said_in.whole * fit.summary.T[fit.model.effects.centre]
    ax.axvspan(middle["q2.5"], middle["q97.5"], color=BLUE, alpha=0.08, lw=0)
    ax.axvline(middle["q50"], color=BLUE, lw=0.8, ls="--")
    summits = [at + row for row in range(len(below))]
    ends = [said_in.whole * end for end in reach]
    for label, rate, y in zip(below, population, summits, strict=True):
        _summit(ax, label, [said_in.whole * each for each in rate], y, ends)
    if many:
        ax.set_yticks(
            [places[-1] / 2, *summits], [f"{len(places)} studies,\nby their rate", *below],
            fontsize=FONT, parse_math=False,
        )  # fmt: skip
        places = []
    else:
        ticks = [*heads.values(), *places, *summits]
        above = [shortened(name) for name in heads]
        ax.set_yticks(ticks, [*above, *names, *below], fontsize=FONT, parse_math=False)
        labels = ax.get_yticklabels()
        for tick in [*range(len(heads)), *(len(heads) + row for row in single)]:
            labels[tick].set_fontweight("bold")
    top = min([*heads.values(), *places], default=at)
    _write(ax, columns, [top - 1, *places, *summits])
    for left in (left for left, title, _ in columns if title == BIAS):
        _lights(ax, left, fit.counts.table, places)
    ax.tick_params(axis="y", length=0, pad=7)  # beside the marker of a rate at the end
    (decades if far else scale)(ax, said_in, reach)
    ax.set_ylim(summits[-1] + 0.6, -1.5)
    label = f"{fit.counts.label.capitalize()} ({said_in.of_patients}{', by decades' * far})"
    ax.set_xlabel(label, fontsize=FONT, parse_math=False)
    legend(ax)
    return ax


def _by_cluster(fit: Fit) -> Fit:
    """Return a fit with the rows of a cluster beside each other, in the order of the clusters."""
    if CLUSTER not in fit.columns:
        return fit
    first = {name: i for i, name in enumerate(dict.fromkeys(fit.columns[CLUSTER]))}
    order = np.argsort([first[name] for name in fit.columns[CLUSTER]], kind="stable")
    columns = {name: np.asarray(values)[order] for name, values in fit.columns.items()}
    counts = replace(fit.counts, table=fit.counts.table.iloc[order].reset_index(drop=True))
    return replace(fit, counts=counts, columns=columns)


def _heads(fit: Fit) -> tuple[dict[str, int], list[int]]:
    """Return the first row of each cluster whose name stands above its rows, and the other rows.

    These are of clusters of one row, which has the same name.
    """
    cluster = pd.Series([str(name) for name in fit.columns.get(CLUSTER, ())], dtype=object)
    alone = ~cluster.duplicated(keep=False) & (cluster == fit.studies["study"][: len(cluster)])
    named = cluster[~alone].drop_duplicates()
    return dict(zip(named, named.index.tolist(), strict=True)), cluster.index[alone].tolist()


def _reach(
    fit: Fit, population: Sequence[tuple[float, float, float]], stratified: bool
) -> tuple[tuple[float, float], bool]:
    """Return the limits of a forest plot, and whether it is one by decades."""
    own = [fit.studies[["q2.5", "q97.5"]].to_numpy()]
    if stratified:
        names = ["rate"] if len(fit.studies) > MOST_NAMED else ["low", "high"]
        own.append(fit.counts.observed()[names].to_numpy())
    ends = np.concatenate([each.ravel() for each in own])
    return reach_of(ends, [middle for middle, _, _ in population], np.ravel(population))


def _rows(ax: Axes, fit: Fit, unit: Unit, stratified: bool) -> list[float]:
    """Draw a row a study, observed and under the model, and return their places."""
    table, alone, whole = fit.studies, fit.counts.observed(), unit.whole
    rows, first = np.arange(len(table)), [*_heads(fit)[0].values()]
    y = (rows + np.searchsorted(first, rows, side="right")).astype(np.float64)
    shift = 0.0
    if stratified:
        shift = 0.2
        size = np.maximum(8, 96 * alone["total"] / alone["total"].max())
        ax.hlines(y - shift, whole * alone["low"], whole * alone["high"], color=DARK, lw=1.2)
        ax.scatter(
            whole * alone["rate"], y - shift, s=size, marker="s", color=DARK, zorder=3,
            clip_on=False, label="Observed rate, exact interval (size: patients)",
        )  # fmt: skip
    ax.hlines(y + shift, whole * table["q2.5"], whole * table["q97.5"], color=BLUE, lw=1.6)
    ax.plot(
        whole * table["mean"], y + shift, "o", mfc="white", mec=BLUE, mew=1.4, ms=5.5, zorder=4,
        clip_on=False, label="Under the model (mean, interval)",
    )  # fmt: skip
    return [float(place) for place in y]


def _caterpillar(ax: Axes, fit: Fit, unit: Unit, stratified: bool) -> list[float]:
    """Draw many studies in the order of their rates under the model, and return their places."""
    table = fit.studies.sort_values("mean", kind="stable")
    y = np.linspace(0, CATERPILLAR - 1, len(table))
    ax.hlines(y, unit.whole * table["q2.5"], unit.whole * table["q97.5"], color=BLUE, lw=0.7)
    ax.plot(
        unit.whole * table["mean"], y, "o", color=BLUE, ms=1.8, zorder=4,
        label="Under the model (mean, interval)",
    )  # fmt: skip
    if stratified:
        seen = unit.whole * table["events"] / table["total"]
        ax.plot(seen, y, "s", color=DARK, ms=1.8, zorder=3, clip_on=False, label="Observed rate")
    return y.tolist()


def _summit(ax: Axes, label: str, rate: Sequence[float], at: float, ends: Sequence[float]) -> None:
    """Draw one row of the population, with an arrow where it runs off the axis."""
    centre, left, right = rate
    if label.startswith("New"):
        ax.plot([left, right], [at, at], color=ORANGE, lw=3, solid_capstyle="butt")
        caps = [end for end in (left, right) if ends[0] <= end <= ends[1]]
        ax.plot(caps, [at] * len(caps), "|", color=ORANGE, ms=9, mew=2, clip_on=False)
        ax.plot([centre], [at], "|", color=DARK, ms=10, mew=1.6)
    else:
        inside, edge = ("white", DARK) if label.startswith("Pooled") else (BLUE, BLUE)
        corners = [left, centre, right, centre], [at, at - 0.28, at, at + 0.28]
        ax.fill(*corners, facecolor=inside, edgecolor=edge, zorder=3)
    colour = ORANGE if label.startswith("New") else DARK if label.startswith("Pooled") else BLUE
    for end, marker, off in ((ends[0], "<", left < ends[0]), (ends[1], ">", right > ends[1])):
        if off:
            ax.plot([end], [at], marker, color=colour, ms=6, clip_on=False, zorder=5)


@on_white
def prior(of: Model | Fit, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """Draw the density of a new study's rate before the data, and of a fit after it too.

    Parameters
    ----------
    of : Model or Fit
        A fit has the exact engine.
    unit : str
        Name of the unit of the axis; by default that of the counts, or of the prior's median.
    ax : Axes, optional

    Returns
    -------
    Axes
        x is the rate in the unit, y its density. If a middle lies at the end of that axis, or half
        of the rates at both of its ends, x goes by decades and y is the density of the logit rate.

    Raises
    ------
    DfspError
        A prior that reaches too far to be drawn, or a unit that is not known.

    Examples
    --------
    >>> import dfsp
    >>> ax = dfsp.plots.prior(dfsp.Model(tau=dfsp.HalfNormal(0.5)))
    >>> ax.get_xlabel(), [line.get_label() for line in ax.lines]
    ('True rate (%)', ['New study, prior'])
    """
    model = of if isinstance(of, Model) else require_fit(of).model
    if model.no_picture:
        raise DfspError(model.no_picture)
    ax = ax or axes(6.4, 3.2)
    before = prior_of(model).new_study_rate
    after = []
    if isinstance(of, Fit):
        own = unit_named(unit) if unit else of.unit
        after = [of.exact.new_study_rate, getattr(of.exact, model.effects.centre)]
    else:
        own = unit_named(unit) if unit else unit_of(float(before.quantile(0.5)[0]))
    reach = limits([drawn_ends(each) for each in after or [before]])
    quartiles = [each.quantile([0.25, 0.5, 0.75]).tolist() for each in after or [before]]
    far = not all(shows(reach, middle) for _, middle, _ in quartiles)
    far |= any(low < ORDINARY[0] and high > ORDINARY[1] for low, _, high in quartiles)
    if far:
        ends = np.concatenate([each.quantile([0.005, 0.995]) for each in (before, *after)])
        reach = (max(ends.min(), RAREST), min(ends.max(), 1 - RAREST))
    (decades if far else scale)(ax, own, reach)
    x, density = _density(before, reach, own, far)
    ax.plot(x, density, color=GREY, lw=1.8, ls="--", label="New study, prior")
    if after:
        x, density = _density(after[0], reach, own, far)
        ax.fill_between(x, density, color=ORANGE, alpha=0.25, lw=0)
        ax.plot(x, density, color=ORANGE, lw=1.8, label="New study, given the evidence")
        x, density = _density(after[1], reach, own, far)
        name = model.effects.centre.replace("_", " ").capitalize()
        ax.plot(x, density, color=BLUE, lw=1.8, ls="-.", label=f"{name}, given the evidence")
    ax.set_ylim(0, None)
    if own != PERCENT:  # a common power of ten would lie under the legend
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    ax.set_xlabel(f"True rate ({own.sign}{', by decades' * far})", fontsize=FONT)
    of_what = " of the logit" if far else " per point" * (own == PERCENT)
    ax.set_ylabel(f"Density{of_what}", fontsize=FONT)
    legend(ax)
    return ax


@on_white
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


@on_white
def ranks(fit: Fit) -> Axes:
    """Draw ArviZ's rank plot: whether the chains rank the population's quantities alike.

    Lines that stay together are chains that agree; p is that of a test of it.

    Parameters
    ----------
    fit : Fit
        With NUTS draws.

    Returns
    -------
    Axes
        The first panel; one a quantity.

    Raises
    ------
    DfspError
        The fit has no draws of NUTS.

    Examples
    --------
    NUTS takes some seconds:

    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.ranks(dfsp.fit(table, engine="both"))  # doctest: +SKIP
    >>> len(ax.get_figure().axes)  # doctest: +SKIP
    2
    """
    import arviz as az

    effects = fit.model.effects
    # Neighbouring draws are alike: unthinned, the test refuses chains that have converged.
    names = [effects.centre, effects.spread]
    drawn = az.plot_rank(_drawn(fit), var_names=names, thin=True, figure_kwargs=ARVIZ)
    return _first_axes(drawn)


@on_white
def energy(fit: Fit) -> Axes:
    """Draw ArviZ's energy plot: E-BFMI of each chain, and the energies behind it.

    Parameters
    ----------
    fit : Fit
        With NUTS draws.

    Returns
    -------
    Axes
        The first panel.

    Raises
    ------
    DfspError
        The fit has no draws of NUTS.

    Examples
    --------
    NUTS takes some seconds:

    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> ax = dfsp.plots.energy(dfsp.fit(table, engine="both"))  # doctest: +SKIP
    >>> len(ax.get_figure().axes)  # doctest: +SKIP
    2
    """
    import arviz as az

    return _first_axes(az.plot_energy(_drawn(fit), figure_kwargs=ARVIZ))


def _drawn(fit: Fit) -> Any:
    if require_fit(fit).sampled is None:
        raise DfspError("this fit has no draws of NUTS; fit with engine='both'")
    assert fit.sampled is not None
    return fit.sampled.draws


def _first_axes(drawn: Any) -> Axes:
    """Return matplotlib's axes of a figure of ArviZ."""
    first: Axes = drawn.viz["figure"].item().axes[0]
    return first


@on_white
def predictive(fit: Fit, *, unit: str = "", ax: Axes | None = None) -> Axes:
    """Draw observed proportions over those that the model predicts for new studies of their size.

    Parameters
    ----------
    fit : Fit
        With the exact engine.
    unit : str
        Name of the unit of the axis; by default that of the counts.
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
    check, said_in = fit.predictive_check(), unit_named(unit) if unit else fit.unit
    ax = ax or axes(8.0, 1.4 + 0.28 * len(check))
    y = np.arange(len(check))
    low, seen, high = (check[name] / check["total"] for name in ("low", "events", "high"))
    reach = limits([low, seen, high])
    ax.hlines(
        y, said_in.whole * low, said_in.whole * high, color=ORANGE, lw=6, alpha=0.45,
        label="Replicated, central interval",
    )  # fmt: skip
    ax.plot(said_in.whole * seen, y, "s", color=DARK, ms=5, label="Observed")
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
    room = 0.02 * (reach[1] - reach[0])
    scale(ax, said_in, (reach[0] - room, reach[1] + room))
    ax.set_ylim(len(check) - 0.4, -1.5)
    ax.set_xlabel(
        f"{fit.counts.label.capitalize()} ({said_in.of_patients})", fontsize=FONT, parse_math=False
    )
    legend(ax)
    return ax


def _doses(fit: Fit) -> list[str]:
    column = fit.counts.table.get("dose_mg", pd.Series(dtype=float))
    doses = pd.to_numeric(column, errors="coerce")
    if not doses.notna().any():
        return []
    return ["–" if pd.isna(dose) else f"{dose:g}" for dose in doses]


def _population(fit: Fit, label: str) -> tuple[float, float, float]:
    """Return the rate that a row of the population shows, and its interval."""
    if label.startswith("Pooled"):
        rate, low, high = fit.counts.pooled()[["rate", "low", "high"]].to_numpy()[0]
        return float(rate), float(low), float(high)
    quantity = next(name for name in RATES if name.startswith(label.split()[0].lower()))
    row = fit.summary.T[quantity]
    return float(row[centre_of(quantity, row)]), float(row["q2.5"]), float(row["q97.5"])


def _columns(
    fit: Fit, texts: list[str], unit: Unit, *, named: bool
) -> list[tuple[float, str, list[str]]]:
    """Place the text columns: points right of the plot, title and cells, ends with the width."""
    columns: list[tuple[str, list[str]]] = [(f"Rate, {unit.sign} [95 % interval]", texts), ("", [])]
    if named:
        pairs = zip(fit.studies["events"], fit.studies["total"], strict=True)
        columns.insert(0, ("Events/n", [f"{events}/{total}" for events, total in pairs]))
        if doses := _doses(fit):
            columns.insert(0, ("Dose/mg", doses))
        judged = appraise(fit.counts.table)
        if (judged["risk_of_bias"] != NOT_ASSESSED).any():
            columns.insert(-1, (BIAS, []))  # as wide as its lights are; see _lights
        if (judged["certainty"] != NOT_ASSESSED).any():
            columns.insert(-1, ("Certainty", judged["certainty"].to_list()))
    return _placed(columns)


def _placed(columns: Sequence[tuple[str, list[str]]]) -> list[tuple[float, str, list[str]]]:
    """Place columns of a title and cells: points right of the plot."""
    placed, at = [], 14.0
    for title, cells in columns:
        placed.append((at, title, cells))
        # The widths of bold letters and of digits
        at += FONT * max(0.72 * len(title), *(0.64 * len(cell) for cell in cells), 0) + 10
    return placed


def _write(ax: Axes, columns: list[tuple[float, str, list[str]]], places: list[float]) -> None:
    for at, title, cells in columns:
        for place, cell, weight in zip(
            places, [title, *cells], ["bold", *["normal"] * len(cells)], strict=False
        ):
            if cell:
                ax.annotate(
                    cell, (1, place), xycoords=ax.get_yaxis_transform(), xytext=(at, 0),
                    textcoords="offset points", va="center", fontsize=FONT, weight=weight,
                    annotation_clip=False,
                )  # fmt: skip


def _lights(ax: Axes, at: float, table: pd.DataFrame, places: Sequence[float]) -> None:
    """Draw a light for each item of the checklist, told apart by its sign too."""
    for place, answers in zip(places, jbi_answers(table), strict=True):
        for item, answer in enumerate(answers):
            sign, colour = LIGHTS[answer]
            ax.annotate(
                sign, (1, place), xycoords=ax.get_yaxis_transform(), va="center", ha="center",
                xytext=(at + 6 + 14 * item, 0), textcoords="offset points", fontsize=FONT - 2,
                color="white", annotation_clip=False,
                bbox={"boxstyle": "circle,pad=0.2", "fc": colour, "ec": "none"},
            )  # fmt: skip


def _density(
    distribution: Distribution, reach: tuple[float, float], unit: Unit, far: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return rates in a unit and their density, or that of the logits, where it is resolved."""
    own = distribution.quantile(LEVELS)
    edges = np.unique([reach[0], *own[(own > reach[0]) & (own < reach[1])], reach[1]])
    at = logit(edges) if far else unit.whole * edges
    middle, density = (at[1:] + at[:-1]) / 2, np.diff(distribution.cdf_at(edges)) / np.diff(at)
    return unit.whole * expit(middle) if far else middle, density
