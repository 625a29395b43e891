"""Pictures of calibration show the numbers they are given."""

import numpy as np
import pandas as pd

import dfsp
from dfsp.analyses.calibration import Calibration, Coverage
from dfsp.plots.calibration import LABELS, POINTS


def test_positions_are_drawn_as_differences_from_uniform():
    even = (np.arange(1000) + 0.5) / 1000
    names = ["mu", "tau", "mean_rate", "new_study_rate"]
    frame = pd.DataFrame(dict.fromkeys(names, even) | {"tau": even**2})
    axes = dfsp.plots.pit(Calibration(frame, (), "table")).figure.axes
    assert len(axes) == len(names)
    curves = {ax.get_title(): ax.lines[1].get_ydata() for ax in axes}
    assert np.abs(curves["mean rate"]).max() < 0.002
    x = np.arange(POINTS + 1) / POINTS
    assert np.abs(curves["tau"] - (np.sqrt(x) - x)).max() < 0.002


def test_the_band_holds_uniform_samples_as_a_whole():
    """Simultaneously: about 95 % of samples stay inside everywhere."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({name: rng.uniform(size=1000) for name in map(str, range(4))})
    figure = dfsp.plots.pit(
        Calibration(frame.set_axis(list(LABELS)[:4], axis=1), (), "table")
    ).figure
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    x = np.arange(POINTS + 1) / POINTS
    high = np.array([edge[np.isclose(edge[:, 0], each), 1].max() for each in x])
    low = np.array([edge[np.isclose(edge[:, 0], each), 1].min() for each in x])
    samples = np.sort(rng.uniform(size=(1000, 1000)), axis=1)
    share = np.stack([np.searchsorted(row, x, side="right") / 1000 - x for row in samples])
    inside = ((share >= low - 1e-9) & (share <= high + 1e-9)).all(1).mean()
    assert 0.92 < inside < 0.98


def test_coverage_has_a_panel_for_each_rate_and_a_line_for_each_method():
    rows = [
        (rate, tau, method, "typical_rate", 0.9, 0.3)
        for rate in (0.2, 0.5)
        for tau in (0, 1)
        for method in (
            "hierarchical",
            "complete pooling",
            "normal approximation",
            "maximum likelihood",
        )
    ]
    columns = ["typical_rate", "tau", "method", "quantity", "coverage", "width"]
    figure = dfsp.plots.coverage(Coverage(pd.DataFrame(rows, columns=columns))).figure
    titles = ["typical rate 20 %", "typical rate 50 %"]
    assert [ax.get_title() for ax in figure.axes] == [*titles, "", ""]
    assert [len(ax.lines) for ax in figure.axes] == [5, 5, 4, 4]
    assert set(figure.axes[2].lines[0].get_ydata()) == {30.0}  # a width of 0.3, in per cent
    assert figure.axes[2].get_ylabel() == "mean width, %"
    assert len(figure.legends[0].get_texts()) == 4
