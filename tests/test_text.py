"""How results show themselves."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from nbconvert.filters import markdown2html_mistune

import dfsp
from dfsp.rates import PERCENT, UNITS
from dfsp.text import LINE, MOST_ROWS, Sentences, chance, table_of


def test_a_line_fits_into_a_notebook(review_fit):
    sentence = review_fit.describe()
    lines = repr(Sentences(f"a title\n\n  {sentence}")).split("\n")
    assert lines[:2] == ["a title", ""]
    assert all(line.startswith("  ") and len(line) <= LINE for line in lines[2:])
    assert " ".join(line.strip() for line in lines[2:]) == sentence
    assert max(map(len, repr(review_fit.studies).split("\n"))) <= LINE


def test_what_rounds_to_zero_has_no_sign():
    table = table_of({"x": [-1e-17, -4e-7, -6e-7, 1.0]}, digits=6)
    assert repr(table).split() == ["x", "0.000000", "0.000000", "-0.000001", "1.000000"]


def test_a_table_keeps_every_digit_and_is_a_frame(tmp_path):
    table = table_of({"study": ["A", "B"], "rate": [1 / 3, np.nan]}, digits=2)
    table.to_csv(tmp_path / "table.csv", index=False)
    assert pd.read_csv(tmp_path / "table.csv")["rate"][0] == pytest.approx(1 / 3, abs=1e-15)
    assert repr(table).split() == ["study", "rate", "A", "0.33", "B", "-"]
    assert (table["rate"][0], pickle.loads(pickle.dumps(table)).digits) == (1 / 3, 2)


SELECTED = {
    "columns": lambda table: table[["rate", "size"]],
    "first": lambda table: table.head(1),
    "some": lambda table: table[table["size"] > 1],
    "named": lambda table: table.set_index("study"),
    "less": lambda table: table.drop(columns="study"),
    "sorted": lambda table: table.sort_values("rate"),
}


@pytest.mark.parametrize("select", SELECTED)
def test_what_is_selected_shows_itself_in_the_same_way(select):
    table = table_of(
        {"study": ["A", "B"], "rate": [1 / 3, 0.5], "size": [1e-7, 20.0]},
        digits=2, formats={"size": ".0e"},
    )  # fmt: skip
    assert SELECTED[select](table).digits == 2
    assert SELECTED[select](table).formats == {"size": ".0e"}


def test_html_has_a_line_a_row_and_neither_style_nor_script():
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["first", "second"])
    table = table_of({"x": range(4), "name": ["<b>", "&", "ok", None]}, index=index)
    html = table._repr_html_()
    rows = [line for line in html.split("\n") if "<tr" in line]
    assert len(rows) == 2 + 4
    assert all(row.count("<tr") == 1 and row.endswith("</tr>") for row in rows)
    assert "&lt;b&gt;" in html and "<b>" not in html
    for word in ("<style", "<script", " id="):
        assert word not in html


def test_a_table_without_rows_says_so():
    table = table_of({"x": []})
    assert (repr(table), table._repr_html_()) == ("none", "<p>none</p>")


def test_of_a_long_table_the_first_and_the_last_rows_are_shown():
    table = table_of({"x": range(1000)})
    assert MOST_ROWS <= len(repr(table).split("\n")) < MOST_ROWS + 5
    assert table._repr_html_().count("<tr") < MOST_ROWS + 5


NASTY = [
    "*Adams* 2001_2 [x](y) `code` $a$ <b>bold</b> & #1 | \\",
    "- no list", "+ none", "1. no number", "2) nor this", "# no title",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_markdown_shows_the_text_and_nothing_else(text):
    """As nbconvert renders it, which escapes what HTML needs."""
    html = markdown2html_mistune(Sentences(text)._repr_markdown_()).strip()
    shown = html.removeprefix("<p>").removesuffix("</p>")
    for code, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(code, character)
    assert shown == text


def test_lines_are_paragraphs_and_indented_ones_a_list_below():
    said = Sentences("One.\nTwo:\n  first\n  second\nThree.")
    html = markdown2html_mistune(said._repr_markdown_())
    assert [html.count(tag) for tag in ("<p>", "<ul>", "<li>")] == [3, 1, 2]


def test_chances_are_never_certain_where_they_are_not():
    assert [chance(p) for p in (0, 1e-9, 0.5, 1 - 1e-9, 1)] == [
        "0.000", "below 0.001", "0.500", "above 0.999", "1.000",
    ]  # fmt: skip


SHOWS = """
import dfsp
fit = dfsp.fit(dfsp.count(dfsp.load_evidence("reconciled"), "objective_response"))
new = fit.new_study(12)
print(repr(new), new._repr_markdown_(), fit.summary._repr_html_(), repr(fit.studies))
"""


def test_results_show_the_same_bytes_in_every_process():
    seen = {
        subprocess.run(
            [sys.executable, "-c", SHOWS],
            env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1 and "Among 12 patients" in seen.pop()


SHOWN = {
    "fit": lambda fit: (fit, fit.answer()),
    "model": lambda fit: (fit.model, str(fit.model)),
    "check": lambda fit: (fit.checks[0], str(fit.checks[0])),
    "evidence": lambda fit: (evidence := dfsp.load_evidence("review"), evidence.describe()),
    "mixture": lambda fit: (mixture := dfsp.planning.fit_mixture(fit), mixture.describe()),
    "beta": lambda fit: (beta := dfsp.planning.BetaMixture([1], [4], [8]), repr(beta)),
    "size": lambda fit: (
        size := dfsp.planning.effective_sample_size(fit),
        f"{size.value:.1f} patients: exact density",
    ),
}


@pytest.mark.parametrize("what", SHOWN)
def test_a_notebook_shows_what_a_result_says(review_fit, what):
    shown, said = SHOWN[what](review_fit)
    assert shown._repr_markdown_() == Sentences(said)._repr_markdown_()


def test_a_notebook_shows_counts_as_a_table_with_what_was_left_out():
    table = pd.DataFrame({"study": ["A<b>"], "events": [3], "total": [9]})
    dropped = pd.DataFrame({"study": ["B"], "reason": ["a & b"]})
    counts = dfsp.Counts(table, dropped)
    html = counts._repr_html_()
    assert "Event in 3 of 9 patients of 1 study." in html and "<td>A&lt;b&gt;</td>" in html
    assert "shares" not in html and html.count("<li>dropped: B: a &amp; b</li>") == 1


def test_the_face_fits_on_one_screen():
    assert len(dfsp.__all__) <= 45
    assert all(hasattr(dfsp, name) for name in dfsp.__all__)
    assert not [name for name in dfsp.__all__ if name.startswith("describe")]


def test_a_table_is_shown_in_a_unit_and_keeps_its_numbers():
    """An interval has the decimals that half its width needs; `sd` is no part of it."""
    table = table_of(
        {"n": [5, 7], "mean": [2.2e-4, 0.01], "sd": [3e-6, 0.2], "q97.5": [2.3e-4, np.nan]},
        index=["a", "b"], rates=True,
    )  # fmt: skip
    shown = table.in_unit(UNITS["per-100000"], "mean", "sd", "q97.5")
    assert shown.columns.name == "rates per 100,000"
    assert shown.loc["a"].to_list() == [5, "22.00", "0.30", "23.00"]
    assert shown.loc["b"].to_list() == [7, "1,000", "20,000", "-"]
    assert table.loc["a", "mean"] == 2.2e-4
    assert table[["mean"]].in_unit(PERCENT).to_numpy().tolist() == [["0.022"], ["1.0"]]


def test_what_lacks_of_one_by_rounding_is_one():
    shares = table_of({"sum": [1 - 2**-53, 1 - 1e-9]}, digits=4, rates=True)
    assert repr(shares).split()[1:] == ["1.0000", "0.9999999990"]


def test_differences_of_rates_are_said_in_the_unit_of_the_page():
    """-0.13 per 1,000 and 0.05 per 1,000 by hand."""
    columns = {"shift": [-1.3e-4, 5e-5], "mid_p": [0.8, 0.2]}
    rare = table_of(columns, digits=3, index=["A", "B"])
    shown = rare.in_unit(UNITS["per-1000"], "shift", apart=True)
    assert shown["shift"].to_list() == ["-0.1", "0.05"] and shown["mid_p"].to_list() == [0.8, 0.2]
    assert repr(shown).splitlines()[0].split() == ["differences", "per", "1,000", "shift", "mid_p"]
