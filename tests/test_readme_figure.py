"""The figure of the README shows today's answer."""

import matplotlib.pyplot as plt
import pytest
from readme_figure import draw, drawn, kept


def test_the_readme_shows_what_would_be_drawn_today():
    ax = draw()
    today, shown = drawn(ax), kept()
    plt.close(ax.get_figure())
    assert shown["texts"] == today["texts"], "make notebooks"
    assert len(today["numbers"]) > 100
    assert shown["numbers"] == pytest.approx(today["numbers"], abs=2e-4), "make notebooks"
