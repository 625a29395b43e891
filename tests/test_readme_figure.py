"""The figure of the README shows today's answer, that of growth what its table says."""

import growth
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


def test_the_table_of_growth_is_that_of_its_figure():
    measured = growth.kept()
    assert list(measured) == list(growth.CASES), "python tests/growth.py"
    assert growth.table(measured) in growth.PAGE.read_text("utf-8"), "python tests/growth.py"
    for rows, (_, sizes, _) in zip(measured.values(), growth.CASES.values(), strict=True):
        assert [row["size"] for row in rows] == list(sizes)
