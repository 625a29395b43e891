"""Pictures of calibration show the numbers they are given."""

import numpy as np
import pandas as pd

from dfsp.calibration import NAMES, Calibration
from dfsp.figures_calibration import POINTS, plot_coverage, plot_positions


def test_positions_are_drawn_as_differences_from_uniform():
    even = (np.arange(1000) + 0.5) / 1000
    frame = pd.DataFrame(dict.fromkeys(NAMES, even) | {"tau": even**2})
    axes = plot_positions(Calibration(frame, (), "table")).figure.axes
    assert len(axes) == len(NAMES)
    curves = {ax.get_title(): ax.lines[1].get_ydata() for ax in axes}
    assert np.abs(curves["mean rate"]).max() < 0.002
    x = np.arange(1, POINTS) / POINTS
    assert np.abs(curves["tau"] - (np.sqrt(x) - x)).max() < 0.002


def test_coverage_has_a_panel_for_each_rate_and_a_line_for_each_method():
    rows = [
        (rate, tau, method, "typical_rate", 0.9)
        for rate in (0.2, 0.5)
        for tau in (0, 1)
        for method in (
            "hierarchical",
            "complete pooling",
            "normal approximation",
            "maximum likelihood",
        )
    ]
    columns = ["typical_rate", "tau", "method", "quantity", "coverage"]
    figure = plot_coverage(pd.DataFrame(rows, columns=columns)).figure
    assert [ax.get_title() for ax in figure.axes] == ["typical rate 20 %", "typical rate 50 %"]
    assert all(len(ax.lines) == 5 for ax in figure.axes)
    assert len(figure.legends[0].get_texts()) == 4
