"""Figures are tested by their parts, not by their pixels."""

import io
import re
from xml.etree import ElementTree

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

import dfsp
from dfsp.analyses.calibration import Calibration, Coverage
from dfsp.analyses.calibration.simulation import METHODS
from dfsp.plots.style import _STYLE, png_of
from dfsp.runs.record import FOLDER_VARIABLE


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


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (150, 7)])
def test_an_image_is_written_as_it_is(shape):
    """Pillow, which reads it, is another implementation."""
    drawn = np.random.default_rng(1).integers(0, 256, (*shape, 4), dtype=np.uint8)
    with Image.open(io.BytesIO(png_of(drawn, 96))) as image:
        assert image.info["dpi"] == pytest.approx((96, 96), abs=0.02)  # whole numbers in a metre
        assert np.array_equal(np.asarray(image), drawn)


def shapes(file):
    """The elements of an SVG: each without its numbers, and these."""
    found, number = [], re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    for each in ElementTree.fromstring(file).iter():
        told = {
            k: v
            for k, v in each.attrib.items()
            if k not in ("id", "clip-path", "{http://www.w3.org/1999/xlink}href")
        }
        numbers = [float(n) for value in told.values() for n in number.findall(value)]
        found.append((each.tag, number.sub("", str(told)), numbers))
    return found


def clipped_by_a_circle(_):
    _, ax = plt.subplots(layout="constrained")
    ax.pcolormesh(np.arange(12.0).reshape(3, 4))
    (line,) = ax.plot([0, 4], [0, 3], "o-")
    line.set_clip_path(Circle((2, 1.5), 1, transform=ax.transData))
    ax.imshow(np.eye(3), extent=(1, 2, 1, 2), aspect="auto")
    ax.set_ylabel("$x^2$ and more")
    return ax


@pytest.mark.parametrize("draw", [dfsp.plots.forest, clipped_by_a_circle])
def test_an_svg_is_what_matplotlib_makes_of_the_same_figure(review_fit, draw, tmp_path):
    """Its elements, and their places to half a point, since it measures texts otherwise."""
    ours, again = (draw(review_fit) for _ in range(2))
    (path,) = dfsp.plots.save(ours, tmp_path / "ours", formats=["svg"])
    expected = io.BytesIO()
    again.get_figure().savefig(expected, format="svg", dpi=200, bbox_inches="tight")
    elements = shapes(path.read_bytes())
    others = [each for each in shapes(expected.getvalue()) if "date" not in each[0]]
    assert len(elements) == len(others) > 50
    for (*kind, numbers), (*other, places) in zip(elements, others, strict=True):
        assert kind == other
        assert numbers == pytest.approx(places, abs=0.5)


@pytest.fixture
def drawings(monkeypatch):
    """What is appended to with every drawing of a figure."""
    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda *args: (drawn.append(1), draw(*args)))
    return drawn


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A function: the PNG and the SVG of a figure that a run records."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))

    def record(ax):
        dfsp.record(headline="A figure", figures={"figure": ax})
        return [(tmp_path / f"figure.{ending}").read_bytes() for ending in ("png", "svg")]

    return record


def saved(ax, folder):
    (path,) = dfsp.plots.save(ax, folder / "saved", formats=["png"])
    return path.read_bytes()


def displayed(ax):
    """The image that a notebook shows."""
    return ax.get_figure().shown()[0]


def test_a_figure_is_laid_out_as_matplotlib_does_and_drawn_once_for_all_formats(
    drawings, recorded, tmp_path
):
    """Expected are the pixels of matplotlib's own `bbox_inches="tight"`."""
    ax, again = (dfsp.plots.prior(dfsp.Model()) for _ in range(2))
    dfsp.plots.save(ax, tmp_path / "saved")
    assert len(drawings) == 1
    first = displayed(ax)
    assert len(drawings) == 2
    png, svg = recorded(ax)  # of what a notebook has shown
    assert png == first and len(drawings) == 2
    assert first == (tmp_path / "saved.png").read_bytes()
    assert svg == (tmp_path / "saved.svg").read_bytes()
    expected = io.BytesIO()
    with mpl.rc_context({"text.hinting": "no_hinting"}):
        again.get_figure().savefig(expected, format="png", dpi=200, bbox_inches="tight")
    assert np.array_equal(pixels(first), pixels(expected.getvalue()))


CHANGES = {
    "title": lambda ax: ax.set_title("Priors"),
    "label of an axis": lambda ax: ax.xaxis.label.set_text("another"),
    "background": lambda ax: ax.patch.set_facecolor("yellow"),
    "label of a tick": lambda ax: ax.xaxis.get_major_ticks()[1].label1.set_fontweight("bold"),
    "layout": lambda ax: ax.get_figure().get_layout_engine().set(w_pad=1),
}
SILENT = {
    "box of a text": lambda ax: ax.texts[0].set_bbox({"facecolor": "red"}),
    "place of a text": lambda ax: setattr(ax.texts[0], "xy", (0.5, 1)),
    "format": lambda ax: setattr(ax.xaxis.get_major_formatter(), "fmt", "{x:.2f}"),
    "font": lambda ax: ax.texts[0].get_fontproperties().set_size(20),
}
"""Changes of which matplotlib does not say that they make a figure stale."""


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_figure_that_has_changed_since_it_was_shown_is_recorded_anew(recorded, change, drawn):
    """As one that was so from the beginning; also where somebody has drawn it since."""
    ax, other = (dfsp.plots.prior(dfsp.Model()) for _ in range(2))
    before = displayed(ax)
    for each in (ax, other):
        change(each)
        if drawn:
            each.get_figure().canvas.draw()
    assert before != recorded(ax)[0] == displayed(other)


@pytest.mark.parametrize("change", (CHANGES | SILENT).values(), ids=CHANGES | SILENT)
def test_a_figure_is_drawn_anew_whenever_it_is_saved_or_shown(make, tmp_path, change):
    """As one that was so from the beginning."""
    fit = dfsp.fit(make([("A", 3, 10), ("B", 8, 20)]))
    ax, other = (dfsp.plots.forest(fit) for _ in range(2))
    before = saved(ax, tmp_path)
    assert displayed(ax) == before
    for each in (ax, other):
        change(each)
    after = saved(other, tmp_path)
    assert before != displayed(ax) == after
    assert saved(ax, tmp_path) == after


def test_a_figure_of_ones_own_is_saved_too(tmp_path):
    _, ax = plt.subplots(layout="tight")
    ax.plot([1, 2])
    assert len(dfsp.plots.save(ax, tmp_path / "own")) == 2
    assert ax.get_figure().get_layout_engine() is not None


def test_densities_integrate_to_one(review_fit):
    ax = dfsp.plots.prior(review_fit)
    for line in ax.get_lines():
        assert np.trapezoid(*line.get_data()[::-1]) == pytest.approx(1, abs=1e-3), line.get_label()


@pytest.mark.parametrize(
    "rows",
    [
        [("A", 2, 1_000_000), ("B", 3, 1_000_000)],  # a few per million, or what the prior expects
        [(f"L{i}", 0, 20) for i in range(4)] + [(f"H{i}", 20, 20) for i in range(4)],
    ],
)
def test_densities_that_a_rate_would_squeeze_to_an_end_go_by_decades(make, rows):
    """Their logits are drawn, each of which has an area of one, over all that is drawn."""
    ax = dfsp.plots.prior(dfsp.fit(make(rows)))
    unit = 1_000_000 if len(rows) == 2 else 100
    assert "by decades" in ax.get_xlabel() and "logit" in ax.get_ylabel()
    for line in ax.get_lines():
        x, y = line.get_data()
        assert np.trapezoid(y, np.log(x / (unit - x))) == pytest.approx(1, abs=0.02)
    assert ax.get_xlim()[1] > 0.98 * unit


def test_no_power_of_ten_stands_in_the_legend_and_decades_have_no_needless_zeros(make):
    before = dfsp.plots.prior(dfsp.Model(), unit="per-1000000")
    before.get_figure().canvas.draw()
    assert not before.yaxis.get_offset_text().get_text()
    assert {"0", "1e\N{MINUS SIGN}06"} <= {text.get_text() for text in before.get_yticklabels()}
    after = dfsp.plots.prior(dfsp.fit(make([("A", 2, 1_000_000), ("B", 3, 1_000_000)])))
    texts = [label.get_text() for label in after.get_xticklabels()]
    assert texts[:4] == ["1", "10", "100", "1,000"] and texts[-1] == "990,000"


def test_densities_are_drawn_on_points_that_resolve_them(make):
    """The typical rate is nearly normal: its peak is 1 / (sqrt(2 pi) sd), 430 a point and more."""
    fit = dfsp.fit(make([(f"S{i}", 220 + i, 1_000_000) for i in range(20)]))
    ax = dfsp.plots.prior(fit, unit="percent")
    _, new, typical = ax.get_lines()
    expected = 1 / np.sqrt(2 * np.pi) / (100 * fit.summary.loc["typical_rate", "sd"])
    assert expected > 430
    assert typical.get_ydata().max() == pytest.approx(expected, rel=0.05)
    for line, name in ((typical, "typical_rate"), (new, "new_study_rate")):
        x, y = line.get_data()
        assert np.trapezoid(y, x) == pytest.approx(1, abs=5e-3)
        at = fit.summary.loc[name, "q50"] * 100
        assert np.trapezoid(y[x < at], x[x < at]) == pytest.approx(0.5, abs=0.02)
    assert ax.get_xlim()[1] < 0.05 and "%" in ax.get_xlabel()


BIRTHS = [("A", 47, 177_413), ("B", 2, 10_000), ("C", 397, 1_673_791), ("D", 6, 37_649)]


def test_the_axis_reaches_as_far_as_what_is_drawn(make):
    births = dfsp.fit(make(BIRTHS))
    ax = dfsp.plots.forest(births)
    furthest = 100_000 * births.summary.loc["mean_rate", "q97.5"]
    assert 72.2 < furthest < 2 * 72.2  # where the exact interval of 2 of 10,000 ends
    assert ax.get_xlim() == (0, pytest.approx(1.05 * furthest))
    assert "20.0 [2.4, 72.2]" in texts(ax) and ax.get_xlabel() == "Event (per 100,000 patients)"
    assert "Rate, per 100,000 [95 % interval]" in texts(ax)
    near = dfsp.fit(make([("A", 198, 200), ("B", 499, 500), ("C", 300, 300)]))
    low, high = dfsp.plots.forest(near).get_xlim()
    assert high == 100 and 90 < low < 97
    low, high = dfsp.plots.predictive(births).get_xlim()
    assert -5 < low < 0 and 30 < high < 200
    assert dfsp.plots.predictive(near).get_xlim()[0] > 75


def test_the_reader_may_choose_the_unit_of_a_figure(make):
    fit = dfsp.fit(make(BIRTHS))
    assert "0.0200 [0.0024, 0.0722]" not in texts(dfsp.plots.forest(fit))
    ax = dfsp.plots.forest(fit, unit="percent")
    assert "0.020 [0.0024, 0.072]" in texts(ax) and ax.get_xlim()[1] < 0.2
    with pytest.raises(dfsp.DfspError, match="unit 'dozen' is not known"):
        dfsp.plots.forest(fit, unit="dozen")


@pytest.mark.parametrize(("events", "total"), [([0], 100), ([0], 200)])
def test_what_runs_off_the_axis_ends_in_an_arrow(make, events, total):
    fit = dfsp.fit(make([(f"S{i}", k, total) for i, k in enumerate(events)]))
    ax = dfsp.plots.forest(fit)
    arrows = [line for line in ax.get_lines() if line.get_marker() == ">"]
    assert len(arrows) == 3  # typical, mean and new-study rate reach beyond all studies
    assert {line.get_xdata()[0] for line in arrows} == {ax.get_xlim()[1]}
    furthest = 100 * fit.counts.observed()["high"].max()
    assert ax.get_xlim()[1] == pytest.approx(2.1 * furthest)


@pytest.mark.parametrize("k", [1, 60, 61, 300])
def test_a_forest_of_any_number_of_studies_can_be_read(make, k):
    ax = dfsp.plots.forest(dfsp.fit(make([(f"S{i}", i % 9, 12) for i in range(k)])))
    figure = ax.get_figure()
    figure.canvas.draw()
    assert figure.get_size_inches()[1] < 22
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    heights = np.sort([box.y0 for box in boxes])
    assert np.all(np.diff(heights) >= min(box.height for box in boxes) * 0.9)
    named = labels(ax)[:-3]
    assert labels(ax)[-3:] == ["Typical rate", "Mean rate", "New study (true rate)"]
    assert named == ([f"S{i}" for i in range(k)] if k <= 60 else [f"{k} studies,\nby their rate"])
    cells = [text for text in texts(ax) if "[" in text and "%" not in text]
    assert len(cells) == (k if k <= 60 else 0) + 3
    drawn = next(line for line in ax.get_lines() if line.get_label().startswith("Under"))
    rates = drawn.get_xdata()
    assert len(rates) == k and (k <= 60 or (np.diff(rates) >= 0).all())


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
    for draw in (dfsp.plots.ranks, dfsp.plots.energy):
        with pytest.raises(dfsp.DfspError, match="no draws of NUTS"):
            draw(review_fit)


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


@pytest.mark.parametrize("flipped", [False, True])
def test_summaries_far_from_the_studies_are_drawn_by_decades(flipped):
    """2, 3 and 4 of a million under a prior that expects one half: typical 141 per million."""
    events = [1_000_000 - n if flipped else n for n in (2, 3, 4)]
    table = pd.DataFrame({"study": list("ABC"), "events": events, "total": 1_000_000})
    ax = dfsp.plots.forest(dfsp.fit(table))
    low, high = ax.get_xlim()
    ends = [x for line in ax.lines for x in np.atleast_1d(line.get_xdata()) if x not in (0, 1)]
    assert all(low <= x <= high for x in ends)
    assert not any(line.get_marker() in "<>" for line in ax.lines)  # no arrow
    assert "by decades" in ax.get_xlabel()
    plain = dfsp.plots.forest(dfsp.fit(table, dfsp.Model(mu=dfsp.Normal(0, 20))))
    assert "by decades" not in plain.get_xlabel()


def test_markers_of_large_cohorts_do_not_cover_the_doses():
    """Areas of 4 square points a patient, for up to 60 of them: 252 with the least."""
    table = pd.DataFrame({"study": list("ABCD"), "events": [20, 30, 25, 400]})
    table = table.assign(total=[90_000, 100_000, 80_000, 1_600_000], dose_mg=[400, 400, 800, 800])
    counts = dfsp.Counts.of(table.assign(setting="advanced"))
    doubled, log_dose = dfsp.regression.log2_of(counts, "dose_mg", 800)
    ax = dfsp.plots.dose(counts, dfsp.regression.regress(doubled, log_dose))
    sizes = [each.get_sizes()[0] for each in ax.collections if len(each.get_offsets()) == 1]
    assert len(sizes) == 4 and max(sizes) == pytest.approx(252)


def test_the_look_is_that_of_seaborn():
    """It is written down, since its import takes a second; seaborn says what it must be."""
    import seaborn as sns

    ticks = sns.axes_style("ticks")
    assert {name: ticks[name] for name in _STYLE} == _STYLE


def test_no_point_of_coverage_lies_beyond_its_panel(make):
    """Widths rise to a rate of 50 %: those of the second panel exceed those of the first."""
    table = make([("A", 3, 10), ("B", 8, 20), ("C", 5, 19)])
    found = dfsp.calibration.coverage(table, rates=[0.3, 0.5], taus=[0.5, 1], number=20)
    for ax in dfsp.plots.coverage(found).get_figure().axes:
        low, high = ax.get_ylim()
        assert low == 0
        assert max(np.nanmax(line.get_ydata()) for line in ax.lines) <= high


SMALL = pd.DataFrame(
    {
        "study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19],
        "group": ["x", "x", "y"], "dose_mg": [400, 400, 800], "setting": "advanced",
        "treatment_months_median": [3, None, 5],
    }
)  # fmt: skip


def doses():
    counts, name = dfsp.regression.log2_of(SMALL, "dose_mg", 400)
    return dfsp.plots.dose(counts, dfsp.regression.regress(counts, name))


def coverage():
    rows = [(0.2, tau, m, "typical_rate", 0.9, 0.3) for tau in (0, 1) for m in METHODS]
    columns = ["typical_rate", "tau", "method", "quantity", "coverage", "width"]
    return dfsp.plots.coverage(Coverage(pd.DataFrame(rows, columns=columns)))


FIGURES = {
    "forest": lambda fit: dfsp.plots.forest(fit, show=("stratified", "pooled")),
    "prior": dfsp.plots.prior,
    "predictive": dfsp.plots.predictive,
    "groups": lambda _: dfsp.plots.groups(dfsp.fit_by(SMALL, by="group")),
    "caterpillar": lambda _: dfsp.plots.groups(dfsp.fit_by(SMALL, by="group"), studies=False),
    "responses": lambda _: dfsp.plots.responses(dfsp.load_evidence("reconciled")),
    "categories": lambda _: dfsp.plots.categories(
        dfsp.categories.fit(dfsp.load_evidence("reconciled"), not_evaluable="excluded")
    ),
    "dose": lambda _: doses(),
    "scenarios": lambda _: dfsp.plots.scenarios(
        dfsp.totals.scenarios(dfsp.totals.Total("event", 4, 30, np.array([10, 20, 30])))
    ),
    "moderator": lambda _: dfsp.plots.moderator(dfsp.regression.regress(SMALL, "dose_mg")),
    "groups of a moderator": lambda _: dfsp.plots.moderator(
        dfsp.regression.regress(SMALL, "group")
    ),
    "plan": lambda fit: dfsp.plots.plan(
        fit, dfsp.planning.BetaMixture([1], [1], [1]), n=20, p0=0.2
    ),
    "specifications": lambda _: dfsp.plots.specifications(
        dfsp.multiverse.fit(SMALL, effects={"normal": dfsp.NormalEffects()})
    ),
    "subsets": lambda _: dfsp.plots.subsets(dfsp.sensitivity.all_subsets(SMALL), "B"),
    "missing": lambda _: dfsp.plots.missing(dfsp.sensitivity.missing_outcomes(SMALL, steps=2)),
    "pit": lambda _: dfsp.plots.pit(
        Calibration(pd.DataFrame({"mu": np.linspace(0.01, 0.99, 50)}), (), "table")
    ),
    "coverage": lambda _: coverage(),
}
DARK_STYLE = [
    "dark_background",
    {
        "savefig.facecolor": "black", "savefig.edgecolor": "black", "legend.labelcolor": "white",
        "axes.titlecolor": "white", "xtick.labelcolor": "white", "ytick.labelcolor": "white",
        "hatch.color": "white",
    },
]  # fmt: skip


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_dark_on_white_whatever_the_style(review_fit, tmp_path, draw):
    """The same file as in matplotlib's own style, also by its own `savefig`."""

    def files():
        ax, own = draw(review_fit), io.BytesIO()
        ax.get_figure().savefig(own, dpi=50)
        return saved(ax, tmp_path), own.getvalue()

    expected = files()
    with plt.style.context(DARK_STYLE):
        mine = dict(mpl.rcParams)
        assert files() == expected
        assert dict(mpl.rcParams) == mine


@pytest.mark.slow  # for its draws
@pytest.mark.parametrize("draw", [dfsp.plots.agreement, dfsp.plots.ranks, dfsp.plots.energy])
def test_a_figure_of_draws_is_dark_on_white_whatever_the_style(both, tmp_path, draw):
    expected = saved(draw(both), tmp_path)
    with plt.style.context(DARK_STYLE):
        assert saved(draw(both), tmp_path) == expected


@pytest.fixture(scope="module")
def both():
    return dfsp.fit(SMALL, engine="both")


def test_axes_of_ones_own_keep_their_style(review_fit):
    with plt.style.context("dark_background"):
        _, ax = plt.subplots()
        dfsp.plots.forest(review_fit, ax=ax)
    assert {text.get_color() for text in ax.get_legend().get_texts()} == {"white"}
