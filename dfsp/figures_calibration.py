"""Pictures of calibration: positions of true values, and coverage at fixed truths."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands
from matplotlib.axes import Axes

from dfsp.calibration import ENGINES, NAMES, Calibration
from dfsp.constants import CI_PROB, SEED
from dfsp.figures import BLUE, DARK, FONT, GREY, ORANGE
from dfsp.interval_coverage import METHODS
from dfsp.seeds import generator

LABELS = {
    "mu": "mu (and typical rate)",
    "tau": "tau",
    "mean_rate": "mean rate",
    "new_study_rate": "new-study rate",
}
POINTS = 60  # of the distribution function that are compared
SIMULATIONS = 500  # behind the band
STYLES = dict(
    zip(METHODS, ((DARK, "o", "-"), (GREY, "s", ":"), (ORANGE, "^", "--"), (BLUE, "D", "-.")),
        strict=True)
)  # fmt: skip


def plot_positions(calibration: Calibration) -> Axes:
    """Draw for each quantity how far the positions of true values are from uniform.

    The grey band holds all of a uniform sample's curve with probability `CI_PROB` (Saeilynoja,
    Buerkner & Vehtari 2022, doi:10.1007/s11222-022-10090-6).

    Parameters
    ----------
    calibration : Calibration

    Returns
    -------
    matplotlib.axes.Axes
        The first of four panels.
    """
    number = len(calibration.positions)
    x = np.arange(1, POINTS) / POINTS
    rng = generator(SEED, "band")
    prob = simulate_confidence_bands(number, 1, x, CI_PROB, SIMULATIONS, rng)  # type: ignore[no-untyped-call]
    low, high = get_pointwise_confidence_band(prob, number, x)  # type: ignore[no-untyped-call]
    with sns.axes_style("ticks"):
        figure, axes = plt.subplots(
            1, len(NAMES), figsize=(10.5, 2.9), sharey=True, layout="constrained"
        )
    for ax, name in zip(axes, NAMES, strict=True):
        values = np.sort(calibration.positions[name].to_numpy())
        share = np.searchsorted(values, x, side="right") / number
        ax.fill_between(x, low - x, high - x, color="#d9d9d9", lw=0)
        ax.axhline(0, color=GREY, lw=0.8)
        ax.plot(x, share - x, color=DARK, lw=1.3)
        ax.set_title(LABELS[name], fontsize=FONT + 1)
        ax.set_xlabel("position of the true value", fontsize=FONT)
        ax.tick_params(labelsize=FONT)
        sns.despine(ax=ax)
    axes[0].set_ylabel("observed minus uniform share", fontsize=FONT)
    figure.suptitle(
        f"{number:,} simulated data sets, {ENGINES[calibration.engine]}", fontsize=FONT + 1
    )
    first: Axes = axes[0]
    return first


def plot_coverage(table: pd.DataFrame, quantity: str = "typical_rate") -> Axes:
    """Draw the coverage of each method over tau, a panel for each true typical rate.

    Parameters
    ----------
    table : pandas.DataFrame
        From `coverage`.
    quantity : {"typical_rate", "mean_rate", "new_study_rate"}

    Returns
    -------
    matplotlib.axes.Axes
        The first panel.
    """
    chosen = table[table["quantity"] == quantity]
    rates = chosen["typical_rate"].unique()
    with sns.axes_style("ticks"):
        figure, axes = plt.subplots(
            1, len(rates), figsize=(10.5, 3.2), sharey=True, squeeze=False, layout="constrained"
        )
    for ax, rate in zip(axes[0], rates, strict=True):
        panel = chosen[chosen["typical_rate"] == rate]
        ax.axhline(CI_PROB, color=GREY, lw=0.8)
        for method, (colour, marker, line) in STYLES.items():
            of_method = panel[panel["method"] == method]
            ax.plot(
                of_method["tau"], of_method["coverage"], color=colour, marker=marker, ls=line,
                lw=1.3, ms=4.5, label=method,
            )  # fmt: skip
        ax.set_title(f"typical rate {100 * rate:g} %", fontsize=FONT + 1)
        ax.set_xlabel("true tau (logit)", fontsize=FONT)
        ax.set_ylim(0, 1.02)
        ax.tick_params(labelsize=FONT)
        sns.despine(ax=ax)
    axes[0, 0].set_ylabel(f"coverage: {LABELS.get(quantity, 'typical rate')}", fontsize=FONT)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=FONT
    )
    first: Axes = axes[0, 0]
    return first
