"""Pictures of robustness: all analyses, all subsets, missing outcomes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dfsp.errors import DfspError
from dfsp.figures import BLUE, DARK, FONT, GREY, ORANGE, _axes, _shorten
from dfsp.robustness import CHOICES, Multiverse


def plot_specifications(result: Multiverse) -> Axes:
    """Draw the typical rate of every analysis that has one, in order, and its choices beneath.

    Returns
    -------
    matplotlib.axes.Axes
        The upper panel.
    """
    table = result.table.dropna(subset="typical").sort_values("typical", kind="stable")
    marks = [
        (choice, level)
        for choice in CHOICES
        if table[choice].nunique() > 1
        for level in table[choice].unique()
    ]
    height = 0.17 * len(marks)
    _, (upper, lower) = plt.subplots(
        2, 1, figsize=(9.5, 3.2 + height), sharex=True, layout="constrained",
        height_ratios=[3.0, max(height, 0.5)],
    )  # fmt: skip
    x = np.arange(len(table))
    upper.fill_between(x, 100 * table["typical_low"], 100 * table["typical_high"], color="#d9d9d9")
    upper.plot(x, 100 * table["typical"], color=DARK, lw=1.4)
    upper.set_ylim(0, 100)
    upper.set_ylabel("typical rate, 95 % interval (%)", fontsize=FONT)
    for y, (choice, level) in enumerate(marks):
        here = x[(table[choice] == level).to_numpy()]
        lower.plot(here, np.full(len(here), y), "|", color=DARK, ms=3.5, mew=0.5)
    changes = [i - 0.5 for i in range(1, len(marks)) if marks[i][0] != marks[i - 1][0]]
    for change in changes:
        lower.axhline(change, color=GREY, lw=0.6)
    lower.set_yticks(range(len(marks)), [_shorten(level, 72) for _, level in marks], fontsize=6.5)
    lower.set_ylim(len(marks) - 0.4, -0.6)
    lower.set_xlabel("analyses, in order of the rate", fontsize=FONT)
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="x", labelsize=FONT)
    first: Axes = upper
    return first


def plot_subsets(subsets: pd.DataFrame, study: str) -> Axes:
    """Draw the typical rate of every subset over its tau, by whether a study is in it.

    Parameters
    ----------
    subsets : pandas.DataFrame
        From `all_subsets`.
    study : str

    Raises
    ------
    DfspError
        The study is not there.
    """
    if study not in subsets:
        raise DfspError(f"{study!r} is none of the studies of these subsets")
    ax = _axes(7.0, 4.4)
    ax.spines["left"].set_visible(True)
    for inside, marker, colour, label in (
        (False, "o", GREY, f"without {study}"), (True, "x", BLUE, f"with {study}"),
    ):  # fmt: skip
        own = subsets[subsets[study] == inside]
        ax.plot(
            own["tau"], 100 * own["typical_rate"], marker, color=colour, ms=3.2, mew=0.8, ls="",
            mfc="none", label=label, alpha=0.8,
        )  # fmt: skip
    whole = subsets[subsets["studies"] == subsets["studies"].max()].iloc[0]
    ax.plot(
        whole["tau"],
        100 * whole["typical_rate"],
        "s",
        color=ORANGE,
        mec=DARK,
        ms=8,
        label="all studies",
    )
    ax.set_xlabel("tau (median, logit scale)", fontsize=FONT)
    ax.set_ylabel("typical rate (median, %)", fontsize=FONT)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=FONT)
    return ax


def plot_missing(sweep: pd.DataFrame) -> Axes:
    """Draw the typical rate over the response probability among not-evaluable patients.

    Parameters
    ----------
    sweep : pandas.DataFrame
        From `missing_outcomes`.
    """
    ax = _axes(6.0, 3.4)
    ax.spines["left"].set_visible(True)
    x = 100 * sweep.index.to_numpy(float)
    ax.fill_between(x, 100 * sweep["low"], 100 * sweep["high"], color="#d9d9d9")
    ax.plot(x, 100 * sweep["typical"], color=DARK, lw=1.5, label="typical rate, 95 % interval")
    ax.plot(x, 100 * sweep["mean"], color=DARK, lw=1.2, ls="--", label="mean rate")
    ax.set(xlim=(0, 100), ylim=(0, 100))
    ax.set_xlabel("response probability of patients not evaluable (%)", fontsize=FONT)
    ax.set_ylabel("rate (%)", fontsize=FONT)
    ax.legend(loc="lower left", frameon=False, fontsize=FONT)
    return ax
