"""Cells: which texts are counts, fractions and numbers, and what is said of the others."""

import pandas as pd
import pytest

from dfsp.evidence.cells import (
    MAX_COUNT,
    count_fault,
    events_of_total,
    is_missing,
    lacks_number,
    meant,
    number_fault,
    typed,
    whole,
)


@pytest.mark.parametrize("cell", ["0", "5", "5.0", "5.00", "007", str(MAX_COUNT)])
def test_whole_numbers_are_counts(cell):
    assert count_fault(cell) == ""


@pytest.mark.parametrize(
    ("cell", "says"),
    [("", "empty"), ("-1", "negative"), ("3,5", "decimal comma; write 3.5"), ("x", "not a number")],
)
def test_what_is_no_number(cell, says):
    assert says in number_fault(cell)
    assert number_fault("3.5") == ""


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1e+05", 100_000), ("1e5", 100_000), ("2.5e+07", 25_000_000), ("15.0", 15), ("15,0", 15),
        ("1e3", 1000), ("1e-1", None), ("3.5", None), ("1.23E+05", None), ("-1e3", None),
        ("1e99", MAX_COUNT + 1),
    ],
)  # fmt: skip
def test_which_texts_are_whole_numbers(cell, number):
    assert whole(cell) == number


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("<5", "is a bound, which cannot be read yet"),
        ("fewer than 5", "is a bound"),
        ("Fewer than five", "is a bound"),
        ("≤ 5", "is a bound"),
        ("weniger als 5", "is a bound"),
        ("5+", "is a bound"),
        ("1-4", "is a range"),
        ("3–5", "is a range"),
        ("2024-07-15", "is a date, as a spreadsheet makes of 7/15"),
        ("15-Jul", "is a date"),
        ("Jul-15", "is a date"),
        ("7/15", "is events of a total; name the column with --counts, or write 7"),
        ("7 of 15", "name the column with --counts, or write 7"),
        ("7 (46.7 %)", "is not a number alone; write 7"),
        ("7*", "is not a number alone; write 7"),
        ("1.23E+05", "may have been rounded by a spreadsheet"),
        ("0.467", "is a proportion; give the number of patients"),
        (".5", "is a proportion"),
        ("-", "can mean nobody or not known; write 0 or NA"),
        ("none", "can mean nobody or not known"),
        ("1\u00a0234", "write 1234 if the sign separates thousands"),
        ("1e400", "'1e400' is not a number"),
        ("７", "'７' is not a number in the digits 0 to 9; write 7"),
        ("٣", "'٣' is not a number in the digits 0 to 9; write 3"),
        ("²", "'²' is not a number"),
        ("7ᵃ", "is not a number alone; write 7"),
        ("7 ‖", "is not a number alone; write 7"),
        ('="7"', "is not a number alone; write 7"),
        ("'7", "is not a number alone; write 7"),
        ("+7", "is not a number alone; write 7"),
        ("(7)", "is not a number alone; write 7"),
        ("−3", "−3 is negative"),
    ],
)
def test_what_is_said_of_a_text_that_is_no_count(cell, says):
    assert says in count_fault(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "7/15", "7 / 15", "7 of 15", "7 out of 15", "7 von 15", "7 sur 15", "7/15 (46.7%)",
        "7/15 (46.7 %)", "7/15 (46,7 %)", "7/15 (46.6)", "7/15 (47%)", "7/15 (46%)", "7/15, 46.7%",
        "7/15 [46.7%; 95% CI 21.3-73.4]", "7/15 (95% CI 21-73)", "46.7% (7/15)", "46.7 (7/15)",
        "7/15\u00a0(46.7\u00a0%)",
    ],
)  # fmt: skip
def test_seven_of_fifteen(cell):
    """46.7 % is rounded and 46.6 % cut, as 47 % and 46 % are."""
    assert events_of_total(cell) == (7, 15)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("7/15 (64.7%)", "7 of 15 is 46.7 %, which the number beside it is not"),
        ("7/15 (48%)", "7 of 15 is 46.7 %"),
        ("7", "7 has no total; write events and total as 7/15 or 7 of 15"),
        ("46.7%", "'46.7%' is a percentage"),
        ("7/15/2008", "is a date"),
        ("<5/15", "is a bound"),
        ("1,234/5,000", "write 1234/5000 if the signs separate thousands"),
        ("1.234 of 12", "write 1234/12 if the signs separate thousands"),
        ("", "the cell is empty"),
        ("NR", "'NR' is not a number"),
        (f"1/{10**10}", "more than any study can have"),
    ],
)
def test_what_is_no_fraction(cell, says):
    assert says in events_of_total(cell)


@pytest.mark.parametrize(
    "cell", ["", "NA", "n/a", "NR", "n.r.", "not reported", "NaN", "NULL", "."]
)
def test_what_says_that_there_is_no_number(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["NR/20", "3/NR", "NA of 20", "/20", "7 /", "n/a / 20", "NR", ""])
def test_a_fraction_without_one_of_its_numbers_is_missing(cell):
    assert lacks_number(cell)


@pytest.mark.parametrize("cell", ["7/15", "-/20", "x/20", "7", "7/15 (NR)", "</15"])
def test_a_fraction_with_something_else_is_not(cell):
    assert not lacks_number(cell)


@pytest.mark.parametrize("cell", ["0", "-", "–", "none", "Null", "nil", "A"])
def test_what_may_mean_nobody_is_not_missing(cell):
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("cell", "total", "says"),
    [
        ("0.467", 15, "7 of 15 would be 0.467"),
        ("46.7 %", 15, "7 of 15 would be 46.7 %"),
        ("46.6%", 15, "7 of 15 would be 46.6%"),
        ("47%", 150, ""),  # 70 and 71 of 150
        ("0.5", 15, ""),  # 7 and 8 of 15
        ("0.9", 15, ""),
        ("120%", 10, ""),
        ("3.5", 15, ""),
    ],
)
def test_how_many_a_share_may_be(cell, total, says):
    assert meant(cell, total) == says


def test_a_covariate_is_numbers_if_all_that_is_not_missing_is():
    numbers = typed(pd.Series(["400", "NR", "", "1.5"], name="dose", dtype="str"))
    assert numbers.isna().to_list() == [False, True, True, False] and numbers[3] == 1.5
    assert typed(pd.Series(["400", "NR", "high"], dtype="str")).to_list() == ["400", "NR", "high"]
    assert typed(pd.Series(["1", "NA"], name="cohort", dtype="str")).to_list() == ["1", ""]
