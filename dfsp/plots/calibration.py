"""Pictures of calibration: true values in their posteriors, and coverage at fixed truths."""

import numpy as np
from matplotlib.axes import Axes

from dfsp.analyses.calibration.simulation import ENGINES, METHODS, Calibration, Coverage
from dfsp.constants import CI_PROB, SEED
from dfsp.plots.style import BLUE, DARK, FONT, GREY, ORANGE, on_white, panels
from dfsp.rates import PERCENT, unit_named
from dfsp.seeds import generator

LABELS = {
    "mu": "mu (and typical rate)",
    "tau": "tau",
    "concentration": "concentration",
    "mean_rate": "mean rate",
    "new_study_rate": "new-study rate",
}
POINTS = 60  # of the distribution function that are compared
SIMULATIONS = 500  # behind the band
STYLES = dict(
    zip(METHODS, ((BLUE, "o", "-"), (DARK, "s", ":"), (ORANGE, "^", "--"), (GREY, "D", "-.")),
        strict=True)
)  # fmt: skip


@on_white
def pit(calibration: Calibration) -> Axes:
    """Draw for each quantity how far the PIT of true values is from uniform.

    The grey band, computed by ArviZ, holds all of a uniform sample's curve with probability
    `CI_PROB` (Saeilynoja, Buerkner & Vehtari 2022, doi:10.1007/s11222-022-10090-6).

    Parameters
    ----------
    calibration : Calibration

    Returns
    -------
    matplotlib.axes.Axes
        The first panel.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> ax = dfsp.plots.pit(dfsp.calibration.calibrate(table, number=100))
    >>> ax.get_title(), ax.get_ylabel()
    ('mu (and typical rate)', 'observed minus uniform share')
    """
    # Neither is needed by other pictures, and each takes a second.
    import seaborn as sns
    from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands

    values = calibration.pit
    number = len(values)
    x = np.arange(1, POINTS) / POINTS
    rng = generator(SEED, "band")
    prob = simulate_confidence_bands(number, 1, x, CI_PROB, SIMULATIONS, rng)  # type: ignore[no-untyped-call]
    low, high = get_pointwise_confidence_band(prob, number, x)  # type: ignore[no-untyped-call]
    # All curves and the band begin and end at 0.
    ends = np.concatenate([[0], x, [1]])
    low, high = (np.concatenate([[0], each - x, [0]]) for each in (low, high))
    axes = panels(8.6, 2.5, columns=values.shape[1], sharey=True)[0]
    figure = axes[0].figure
    for ax, name in zip(axes, map(str, values), strict=True):
        share = np.searchsorted(np.sort(values[name].to_numpy()), ends, side="right") / number
        ax.fill_between(ends, low, high, color="#d9d9d9", lw=0)
        ax.axhline(0, color=GREY, lw=0.8)
        ax.plot(ends, share - ends, color=DARK, lw=1.3)
        ax.set_title(LABELS[name], fontsize=FONT + 1)
        ax.set_xlabel("PIT of the true value", fontsize=FONT)
        sns.despine(ax=ax)
    axes[0].set_ylabel("observed minus uniform share", fontsize=FONT)
    figure.suptitle(
        f"{number:,} simulated data sets, {ENGINES[calibration.engine]}", fontsize=FONT + 1
    )
    first: Axes = axes[0]
    return first


@on_white
def coverage(found: Coverage, quantity: str = "typical_rate", *, unit: str = "percent") -> Axes:
    """Draw coverage and width of each method over tau, a column for each true typical rate.

    Parameters
    ----------
    found : Coverage
        From `dfsp.calibration.coverage`.
    quantity : {"typical_rate", "mean_rate", "new_study_rate"}
    unit : str
        Name of the unit in which the true rates and the widths are said.

    Returns
    -------
    matplotlib.axes.Axes
        The first panel.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> found = dfsp.calibration.coverage(table, rates=[0.3], taus=[0.5], number=20)
    >>> ax = dfsp.plots.coverage(found)
    >>> ax.get_title(), len(ax.get_figure().axes)
    ('typical rate 30 %', 2)
    """
    import seaborn as sns

    table, said = found.table, unit_named(unit)
    chosen = table[table["quantity"] == quantity]
    rates = chosen["typical_rate"].unique()
    axes = panels(8.4, 3.9, rows=2, columns=len(rates), sharex=True, sharey="row")
    figure = axes[0, 0].figure
    for column, rate in zip(axes.T, rates, strict=True):
        panel = chosen[chosen["typical_rate"] == rate]
        column[0].axhline(CI_PROB, color=GREY, lw=0.8)
        for ax, shown in zip(column, ("coverage", "width"), strict=True):
            for method, of_method in panel.groupby("method", sort=False):
                colour, marker, line = STYLES[str(method)]
                height = of_method[shown] * (said.whole if shown == "width" else 1)
                ax.plot(
                    of_method["tau"], height, color=colour, marker=marker, ls=line,
                    lw=1.3, ms=4.5, label=str(method),
                )  # fmt: skip
            sns.despine(ax=ax)
        column[0].set_title(f"typical rate {said.chosen(rate)}", fontsize=FONT + 1)
        column[1].set_xlabel("true tau (logit)", fontsize=FONT)
    # Once all is drawn: a limit that is set holds for the whole row from then on.
    for ax, most in zip(axes[:, 0], (1.02, None), strict=True):
        ax.set_ylim(0, most)
    axes[0, 0].set_ylabel("coverage", fontsize=FONT)
    axes[1, 0].set_ylabel(f"mean width, {said.sign}", fontsize=FONT)
    name = quantity.replace("_", " ").replace("new study", "new-study")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), frameon=False,
        fontsize=FONT, title=f"{PERCENT.chosen(CI_PROB)} intervals of the {name}",
        title_fontsize=FONT + 1,
    )  # fmt: skip
    first: Axes = axes[0, 0]
    return first
