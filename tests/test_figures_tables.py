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


def test_tables_without_a_typical_rate():
    table = {"study": list("ABAB"), "events": [3, 8, 1, 0], "total": [10, 20, 10, 20]}
    frame = pd.DataFrame(table | {"event": ["rash"] * 2 + ["oedema"] * 2})
    fits = dfsp.fit_by(frame, dfsp.Model(effects="beta-binomial"), by="event")
    assert "Mean rate" in labels(dfsp.plots.groups(fits))


def test_rows_stand_under_their_cluster():
    table = pd.DataFrame(
        {
            "study": list("ABCDE"),
            "trial": list("XYXYZ"),
            "events": [3, 8, 1, 4, 2],
            "total": [10, 20, 10, 20, 9],
        }
    )
    fit = dfsp.fit(check_table(table, cluster="trial"))
    ax = dfsp.plots.forest(fit)
    found = sorted(zip(ax.get_yticks(), labels(ax), strict=True))
    assert [name for _, name in found[:8]] == ["X", "A", "C", "Y", "B", "D", "Z", "E"]
    bold = {tick.get_text() for tick in ax.get_yticklabels() if tick.get_fontweight() == "bold"}
    assert bold == {"X", "Y", "Z"}
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
