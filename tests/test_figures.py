"""Figures are tested by their parts, not by their pixels."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import dfsp


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_forest_names_every_row_and_count(review_fit):
    ax = dfsp.plots.forest(review_fit)
    assert labels(ax)[:10] == review_fit.studies["study"].to_list()
    assert labels(ax)[10:] == ["Typical rate", "Mean rate", "New study (true rate)"]
    assert {"Dose/mg", "Events/n", "15/22", "400", "68 [45, 86]"} <= set(texts(ax))
    assert ax.get_xlim() == (0, 100)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text.split()[0] for text in legend] == ["Observed", "Under"]


def test_pooled_and_stratified_on_request(review_fit):
    ax = dfsp.plots.forest(review_fit, show=("pooled",))
    assert labels(ax)[-1] == "Pooled (as one study)"
    assert len(ax.get_legend().get_texts()) == 1
    with pytest.raises(dfsp.DfspError, match="funnel not known; use stratified, pooled"):
        dfsp.plots.forest(review_fit, show=("funnel",))


@pytest.mark.parametrize("k", [1, 2, 40])
def test_the_forest_grows_with_its_rows_and_clips_no_text(make, k):
    name = "A study with a very long name, many authors and a place "
    ax = dfsp.plots.forest(dfsp.fit(make([(f"{name}{i}", i % 5, 5 + i) for i in range(k)])))
    figure = ax.get_figure()
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    heights = np.sort([box.y0 for box in boxes])
    assert np.all(np.diff(heights) >= boxes[0].height * 0.9)
    assert min(box.x0 for box in boxes) >= 0
    assert "Dose/mg" not in texts(ax)


def test_hostile_labels_are_plain_text(make, tmp_path):
    ax = dfsp.plots.forest(dfsp.fit(make([("$x^2$", 1, 5), ("<b>&", 2, 9), ("$", 3, 9)])))
    assert labels(ax)[:3] == ["$x^2$", "<b>&", "$"]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    dfsp.plots.save(ax, tmp_path / "hostile")


def test_saved_files_are_the_same_twice_and_whole(review_fit, tmp_path):
    ax = dfsp.plots.forest(review_fit)
    first = dfsp.plots.save(ax, tmp_path / "one")
    assert [path.name for path in first] == ["one.svg", "one.png"]
    second = dfsp.plots.save(ax, tmp_path / "two")
    assert first[0].read_bytes() == second[0].read_bytes()
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(dfsp.DfspError, match="no such folder"):
        dfsp.plots.save(ax, tmp_path / "missing" / "one")
    with pytest.raises(dfsp.DfspError, match="gif not known; use svg, png"):
        dfsp.plots.save(ax, tmp_path / "one", formats=["gif"])


def test_densities_integrate_to_one(review_fit):
    ax = dfsp.plots.prior(review_fit)
    for line in ax.get_lines():
        x, y = line.get_data()
        assert y.sum() * (x[1] - x[0]) == pytest.approx(1, abs=1e-3), line.get_label()


def test_the_predictive_check_shows_mid_p(review_fit):
    check = review_fit.predictive_check()
    ax = dfsp.plots.predictive(review_fit)
    assert texts(ax) == [*(f"{value:.2f}" for value in check["mid_p"]), "mid-p"]


def test_responses_fill_every_bar():
    evidence = dfsp.load_evidence("reconciled")
    ax = dfsp.plots.responses(evidence)
    rows = evidence.rows[(evidence.rows["measure"] == "response") & (evidence.rows["count"] > 0)]
    assert sum(patch.get_width() for patch in ax.patches) == pytest.approx(100 * len(labels(ax)))
    assert len(ax.patches) == len(rows)
    hatched = [patch for patch in ax.patches if patch.get_hatch() == "///"]
    assert len(hatched) == rows["category"].str.contains("+", regex=False).sum()


def test_agreement_needs_both_engines(review_fit):
    with pytest.raises(dfsp.DfspError, match="not both engines"):
        dfsp.plots.agreement(review_fit)


def test_text_columns_do_not_overlap(make):
    rows = [(f"{i} {'long name ' * 5}", 1000 * i, 90_000 + i) for i in range(40)]
    counts = make(rows)
    counts.table["dose_mg"] = [400.0 if i % 3 else None for i in range(40)]
    ax = dfsp.plots.forest(dfsp.fit(counts), show=("stratified", "pooled"))
    ax.get_figure().canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    apart = [not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert all(apart)
    assert max(box.x1 for box in boxes) <= ax.get_figure().bbox.x1
    assert min(box.x0 for box in boxes) > ax.get_window_extent().x1
    assert ax.get_window_extent().width > 4 * ax.get_figure().dpi
