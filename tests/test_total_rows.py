"""Rows that add up others: found wherever they stand, and small numbers that only look so."""

import pytest

from dfsp.evidence.tables import read_table
from dfsp.evidence.total_rows import LARGE, called_total, sums

TOTALS = """Total|TOTAL|Total:|*Total*|Totals|Overall|Pooled|Pooled estimate|Sum|Subtotal|Sub-total
Sub total|All|All studies|All patients (n = 55)|Total (95 % CI)|Grand total|Combined|Summary
RE Model|Random effects model|Phase II total|Subtotal: phase II|Total, n
Gesamt|Summe|Insgesamt|Zwischensumme|Alle Studien|Total général|Sous-total|Ensemble|Toutes les études
Suma|Subtotal|Todos los estudios|Global|Totale|Somma|Tutti gli studi|Total geral|Soma|Todos os estudos
Totaal|Subtotaal|Totalt|Summa|Sum|I alt|Razem|Suma|Ogółem|Итого|Всего|Общий итог
合计|总计|小计|合計|総計|计|総計（3試験）|合并|汇总|소계|합계|총계|Toplam|Celkem|Összesen|Yhteensä|Σύνολο
Gesamtergebnis|Gesamt Ergebnis|Phase I Ergebnis|Teilergebnis|Teilsumme|Gesamtzahl|Zusammen
Zusammengefasst|Eindtotaal|Sub-totals|Σ|∑|Pooled analysis|Pooled ORR|Overall ORR|Overall: 20/55
Total=55|Total 55|total_all|All 3 studies|Overall, DL (I² = 40%)|D+L Overall|I-V Overall|Sum of above
Random-effects model|Common effect model|Total no. of patients|Total events|Ensemble des études"""
STUDIES = """Totaro 2001|Total care 2010|Allen 2001|All et al. 2001|Alle 2002|Sum 2004|Pool 2009
Overall survival 2011|Somma et al. 2012|Razemon 2003|Phase II|Study 1|Ensemble-2 2019|All 2019|Overall 2010|DL Jones 2001|Summers 2001"""


@pytest.mark.parametrize("name", dict.fromkeys("|".join(TOTALS.split("\n")).split("|")))
def test_names_of_totals(name):
    assert called_total(name)


@pytest.mark.parametrize("name", ["", "*", *"|".join(STUDIES.split("\n")).split("|")])
def test_names_of_studies(name):
    assert not called_total(name)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        # Of the whole table, at its end, its start and in between; in a table of two studies.
        ([(7, 15), (4, 22), (9, 18), (20, 55)], {3: [0, 1, 2]}),
        ([(20, 55), (7, 15), (4, 22), (9, 18)], {0: [1, 2, 3]}),
        ([(7, 15), (20, 55), (4, 22), (9, 18)], {1: [0, 2, 3]}),
        ([(7, 15), (4, 22), (11, 37)], {2: [0, 1]}),
        # Nobody had the event, or all had: patients alone tell, of the whole table, and of few
        # rows they do not.
        ([(0, 10), (0, 20), (0, 31), (0, 8), (0, 69)], {4: [0, 1, 2, 3]}),
        ([(69, 69), (10, 10), (20, 20), (31, 31), (8, 8)], {0: [1, 2, 3, 4]}),
        ([(0, 10), (0, 20), (0, 31), (0, 61)], {}),
        ([(0, 30), (0, 50), (0, 20)], {}),
        ([(30, 30), (50, 50), (20, 20)], {}),
        ([(0, 10), (0, 20), (0, 30), (1, 9)], {}),
        # Sums of blocks below and above them, and of all blocks.
        (
            [(7, 15), (4, 22), (11, 37), (9, 18), (3, 20), (12, 38), (23, 75)],
            {2: [0, 1], 5: [3, 4], 6: [0, 1, 3, 4]},
        ),
        (
            [(23, 75), (11, 37), (7, 15), (4, 22), (12, 38), (9, 18), (3, 20)],
            {0: [2, 3, 5, 6], 1: [2, 3], 4: [5, 6]},
        ),
        # The sum of some neighbours: only numbers too large to be so by chance.
        ([(3, 10), (4, 12), (LARGE - 4, 20), (4, 22), (LARGE, 42)], {4: [2, 3]}),
        ([(3, 10), (4, 12), (LARGE - 5, 20), (4, 22), (LARGE - 1, 42)], {}),
        # No sum: two alike, one row alone, events or totals only.
        ([(3, 5), (3, 5)], {}),
        ([(3, 5)], {}),
        ([], {}),
        ([(7, 15), (4, 22), (11, 38)], {}),
        ([(7, 15), (4, 22), (12, 37)], {}),
    ],
)
def test_which_rows_are_sums(rows, found):
    events, total = ([row[i] for row in rows] for i in (0, 1))
    assert sums(events, total) == found


def test_a_block_starts_after_a_gap():
    events, total = [3, 4, 2, 1, 3], [10, 12, 8, 9, 17]
    assert sums(events, total) == {}
    assert sums(events, total, starts=[2]) == {4: [2, 3]}


def test_a_row_called_a_total_belongs_to_no_sum():
    events, total = [7, 4, 11, 9, 20], [15, 22, 40, 18, 55]
    assert sums(events, total) == {}
    assert sums(events, total, named=[2]) == {4: [0, 1, 3]}


@pytest.mark.parametrize("events", [("0", "0", "0"), ("30", "50", "20")])
def test_of_few_rows_that_only_patients_would_tell_from_a_total_that_is_said(tmp_path, events):
    """0 of 50 is 0 of 30 and 0 of 20: as well a study as a total, so it is one, with a word."""
    file = tmp_path / "none.csv"
    rows = zip("ABC", events, ("30", "50", "20"), strict=True)
    file.write_text("study,events,total\n" + "".join(f"{','.join(row)}\n" for row in rows))
    (note,) = read_table(file).notes
    assert note.startswith("row 3 (study 'B') has as many patients as all others together")
    assert f"{events[1]} of 50 do not tell" in note
    assert read_table(file, keep_totals=True).notes == ()
