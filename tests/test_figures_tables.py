"""Pictures of many tables in one, and of rows under their clusters."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import dfsp
from dfsp.evidence.tables import check_table


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def fits():
    table = {"study": list("ABAB"), "events": [3, 8, 1, 0], "total": [10, 20, 10, 20]}
    return dfsp.fit_by(pd.DataFrame(table | {"event": ["rash"] * 2 + ["oedema"] * 2}), by="event")


def labels(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_block_a_table(fits):
    ax = dfsp.plots.groups(fits)
    block = ["A", "B", "Typical rate", "New study (true rate)"]
    assert labels(ax) == ["rash", *block, "oedema", *block]
    weights = [tick.get_fontweight() for tick in ax.get_yticklabels()]
    assert [weight == "bold" for weight in weights] == [True, *[False] * 4] * 2
    assert {"3/10", "8/20", "1/10", "0/20", "Events/n"} <= set(texts(ax))
    # A diamond a table
    assert len(ax.patches) == 2
    left = ax.patches[0].get_xy()[:, 0].min()
    assert left == pytest.approx(100 * fits.table.loc["rash", "low"])


def test_a_caterpillar_of_tables(fits):
    ax = dfsp.plots.groups(fits, studies=False)
    assert labels(ax) == ["oedema", "rash"]  # in the order of the rates
    assert {"1/30", "11/30"} <= set(texts(ax))
    news, typical = (each.get_segments() for each in ax.collections)
    assert news[1][:, 0] == pytest.approx(100 * fits.table.loc["rash", ["new_low", "new_high"]])
    assert typical[1][:, 0] == pytest.approx(100 * fits.table.loc["rash", ["low", "high"]])


def test_many_tables_are_a_caterpillar():
    rows = [(f"s{i}", f"t{j}", j % 4 + i, 12) for j in range(12) for i in range(3)]
    frame = pd.DataFrame(rows, columns=["study", "term", "events", "total"])
    assert len(labels(dfsp.plots.groups(dfsp.fit_by(frame, by="term")))) == 12


def test_of_more_tables_than_have_room_none_has_a_name():
    """As with studies; a picture of 300 named rows would be 74 inches high."""
    rows = [(f"s{i} {j}", f"t{j}", j % 4 + i, 12) for j in range(80) for i in range(2)]
    frame = pd.DataFrame(rows, columns=["study", "term", "events", "total"])
    ax = dfsp.plots.groups(dfsp.fit_by(frame, by="term"))
    assert labels(ax) == ["80 tables,\nby their rate"] and not texts(ax)
    assert len(ax.collections[0].get_segments()) == 80
    assert ax.figure.get_size_inches()[1] < 9


def test_long_names_differ_and_leave_the_plot_room(fits):
    name = "Patients with unresectable or metastatic disease after two or more lines, cohort {}"
    table = {"study": list("ABCD"), "events": [3, 8, 1, 0], "total": [10, 20, 10, 20]}
    group = [name.format(cohort) for cohort in "XXYY"]
    ax = dfsp.plots.groups(dfsp.fit_by(pd.DataFrame(table | {"group": group}), by="group"))
    heads = [each for each in labels(ax) if each.startswith("Patients")]
    assert len(set(heads)) == 2 and all(len(each) == 44 for each in heads)
    ax.figure.draw_without_rendering()
    short = dfsp.plots.groups(fits)
    short.figure.draw_without_rendering()
    wide = [each.get_window_extent().width / each.figure.dpi for each in (ax, short)]
    assert wide[0] > 3 and wide[1] > 3  # inches


def test_a_skewed_new_study_is_drawn_at_its_median():
    """Its mean, 53 per 100,000 here with a median of 18, says little: as everywhere else."""
    table = {"study": list("ABCDE"), "events": [6, 5, 33, 3, 12]}
    table |= {"total": [52559, 21452, 119990, 40415, 103119], "ward": ["w"] * 5}
    fits = dfsp.fit_by(pd.DataFrame(table), by="ward")
    row = fits.fits["w"].summary.loc["new_study_rate"] * 1e5
    assert row["mean"] > 2 * row["q50"]
    (said,) = [each for each in texts(dfsp.plots.groups(fits)) if each.endswith(", 155]")]
    assert float(said.split()[0]) == pytest.approx(row["q50"], abs=0.05)


def test_tables_without_a_typical_rate():
    table = {"study": list("ABAB"), "events": [3, 8, 1, 0], "total": [10, 20, 10, 20]}
    frame = pd.DataFrame(table | {"event": ["rash"] * 2 + ["oedema"] * 2})
    fits = dfsp.fit_by(frame, dfsp.Model(effects="beta-binomial"), by="event")
    assert "Mean rate" in labels(dfsp.plots.groups(fits))


def test_rows_stand_under_their_cluster():
    table = pd.DataFrame(
        {
            "study": list("ABCDEF"),
            "trial": list("XYXYZF"),
            "events": [3, 8, 1, 4, 2, 1],
            "total": [10, 20, 10, 20, 9, 8],
        }
    )
    fit = dfsp.fit(check_table(table, cluster="trial"))
    ax = dfsp.plots.forest(fit)
    found = sorted(zip(ax.get_yticks(), labels(ax), strict=True))
    # One whose only row has its name needs none above it, and is as bold.
    assert [name for _, name in found[:9]] == ["X", "A", "C", "Y", "B", "D", "Z", "E", "F"]
    bold = {tick.get_text() for tick in ax.get_yticklabels() if tick.get_fontweight() == "bold"}
    assert bold == {"X", "Y", "Z", "F"}
    at = {text.get_text(): text.xy[1] for text in ax.texts}
    places = {name: place for place, name in found}
    assert at["8/20"] == places["B"]
    assert at["1/10"] == places["C"]


def test_studies_accumulate_in_the_order_of_their_years():
    """The last row is the fit of all; every row has the studies until then."""
    table = pd.DataFrame({"study": list("ABC"), "events": [9, 1, 5], "total": [10, 20, 19]})
    counts = dfsp.Counts.of(table.assign(year=[2011, 2009, 2015]))
    until = dfsp.fit_by(counts.cumulative("year"), by="until")
    ax = dfsp.plots.groups(until, studies=False, order="given")
    assert labels(ax) == ["2009: B", "2011: A", "2015: C"]
    assert until.table["total"].to_list() == [20, 30, 49]
    whole = dfsp.fit(counts).summary.at["typical_rate", "q50"]
    assert until.table["typical_rate"].iloc[-1] == pytest.approx(whole, rel=1e-12)
    with pytest.raises(dfsp.DfspError, match="date: not every study"):
        counts.cumulative("date")
