"""Rows of a table that add up others: a pooled line that would count every patient twice."""

import re
from bisect import bisect_left
from collections.abc import Collection, Sequence

LARGE = 10
"""Patients with and without the event from which on a sum is no coincidence, see `sums`."""
ENOUGH = 5
"""Rows from which on patients alone tell a sum, where all or none had the event: of so many random
sizes one is the sum of all others in 1 % of tables if they are tens up to 100, and in 0.5 % if not;
of three it is in 13 and 2 %."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# English, German, French, Spanish, Italian, Portuguese, Dutch, Scandinavian, Polish, Russian,
# Chinese. A name that starts with one of the first, or ends with one of the second, is a total's;
# one that starts with any of these is, if it goes on with them or with `_OF` alone.
_SUBTOTAL = _words("""
    subtotal subtotals sub-total sub-totals zwischensumme teilsumme teilergebnis
    sous-total subtotale subtotaal delsumma delsum подытог
""")
_TOTAL = _SUBTOTAL | _words("""
    total totals gesamt gesamtsumme gesamtergebnis gesamtzahl ergebnis insgesamt totaux totales
    totale totali totais totaal eindtotaal totalt ogółem razem łącznie celkem összesen yhteensä
    toplam σύνολο итого всего итог
""")
_ALL = _words("""
    overall pooled sum summary combined all summe alle alles allen gepoolt ensemble somme tous
    toutes suma conjunto todos todas general global somma tutti tutte complessivo globale soma geral
    som gezamenlijk summa samlet samtliga alla wszystkie сумма все σ zusammen
    zusammengefasst 合并 汇总 总和 全部 总体 计 計 全体
""")
_OF = _words("""
    of for the in and n no number above events orr analysis analyses dl reml grand
    study studies trial trials cohort cohorts patient patients subjects
    participants arm arms group groups data result results rate rates response estimate estimates
    effect effects model random fixed population prevalence proportion phase i ii iii iv
    des studien patienten études essais les général générale estudios pacientes los studi pazienti
    gli estudos os patiënten studier patienter badania pacjenci исследования общий
""")
_PHRASES = frozenset(
    (
        "d l overall", "i v overall", "m h overall", "re model", "fe model", "common effect model",
        "random effects model", "fixed effect model", "fixed effects model",
        "i alt", "ialt", "i allt", "suma częściowa",
    )
)  # fmt: skip
_SIGNS = ("合计", "总计", "小计", "总数", "合計", "総計", "小計", "總計", "합계", "총계", "소계")
"""Chinese, Japanese and Korean, which put no space around them."""


def called_total(name: str) -> bool:
    """Say whether a study's name is that of a total, in one of a dozen languages.

    Examples
    --------
    >>> [called_total(name) for name in ("Total (95 % CI)", "Summe", "Phase II total", "Totaro")]
    [True, True, True, False]
    """
    if any(sign in name for sign in _SIGNS):
        return True
    plain = re.sub(r"[(\[（【].*", "", name.casefold())
    plain = re.sub(r"[^\w-]+|_", " ", plain.replace("∑", " σ "))
    # Numbers beside a total are counts or studies; those of four digits are years.
    words = re.sub(r"(?<!\S)\d{1,3}(?!\S)", " ", plain).strip(" -").split()
    if not words:
        return False
    phrase = " ".join(words).replace("-", " ")
    if words[0] in _SUBTOTAL or words[-1] in _TOTAL or phrase in _PHRASES:
        return True
    return words[0] in _TOTAL | _ALL and _OF.union(_TOTAL, _ALL).issuperset(words)


def sums(
    events: Sequence[int],
    total: Sequence[int],
    starts: Collection[int] = (),
    named: Collection[int] = (),
) -> dict[int, list[int]]:
    """Find the rows that are the sum of at least two others, in events and in total.

    Of all other rows, wherever the row stands, but not of fewer than `ENOUGH` rows in which all or
    none had the event, since only the numbers of patients tell then; or of a run of neighbours that
    ends right before it or begins right after it. Such a run must end, away from the row, where the
    table, a block or another sum ends, and the row must have patients with the event and without; a
    run that ends anywhere is one only if the row has `LARGE` of both, since small numbers often
    happen to be the sum of neighbours. Rows that are sums belong to no further sum.

    How often the rule is wrong: of simulated tables without sums, 0.1 to 1.4 % of those with 4 to
    20 studies of 15 to 60 patients on average have such a row, 3 % with 40 studies of 15 patients,
    4 % with three studies of 8 patients among whom the event is rare, and 0.1 % at most with 200
    patients a study; of 25 published tables (779 rows) none has.

    Parameters
    ----------
    events, total : sequence of int
        Patients by row; every total is above 0.
    starts : collection of int
        Rows before which there is a gap in the table: another block starts there.
    named : collection of int
        Rows that are no studies anyway, such as those called a total.

    Returns
    -------
    dict of int to list of int
        By row, the rows that it is the sum of.

    Examples
    --------
    >>> sums([7, 4, 9, 20], [15, 22, 18, 55])
    {3: [0, 1, 2]}
    """
    found: dict[int, list[int]] = {}
    rows = range(len(total))
    _add_whole(found, rows, events, total, named)
    _add_runs(found, rows, events, total, set(starts), named)
    _add_runs(found, rows[::-1], events, total, {row - 1 for row in starts}, named)
    _add_whole(found, rows, events, total, named)
    return dict(sorted(found.items()))


def perhaps_sum(events: Sequence[int], total: Sequence[int]) -> int | None:
    """Return the row that has the patients of all others together, where nothing else tells.

    All or none had the event, and there are fewer than `ENOUGH` rows.

    Examples
    --------
    >>> perhaps_sum([0, 0, 0], [30, 50, 20]), perhaps_sum([1, 1, 2], [30, 20, 50])
    (1, None)
    """
    told = len(total) < 3 or len(total) >= ENOUGH or sum(events) not in (0, sum(total))
    largest = max(range(len(total)), key=total.__getitem__, default=0)
    return None if told or 2 * total[largest] != sum(total) else largest


def _add_whole(
    found: dict[int, list[int]],
    rows: Sequence[int],
    events: Sequence[int],
    total: Sequence[int],
    named: Collection[int],
) -> None:
    """Add the row that is the sum of all others that are no sums."""
    left = [row for row in rows if row not in found and row not in named]
    both = sum(events[row] for row in left), sum(total[row] for row in left)
    for row in named:
        if row not in found and len(left) > 1 and both == (events[row], total[row]):
            found[row] = left
    least = ENOUGH if both[0] in (0, both[1]) else 3
    for row in left:
        if len(left) >= least and both == (2 * events[row], 2 * total[row]):
            found[row] = [other for other in left if other != row]
            return


def _add_runs(
    found: dict[int, list[int]],
    rows: Sequence[int],
    events: Sequence[int],
    total: Sequence[int],
    starts: set[int],
    named: Collection[int],
) -> None:
    """Add the rows that are the sum of a run of those gone through right before them."""
    gone: list[int] = []
    happened, counted = [0], [0]  # sums of the first rows gone through
    edges = {0}
    for row in rows:
        if row in starts:
            edges.add(len(gone))
        if row not in found:
            wanted = counted[-1] - total[row]
            first = bisect_left(counted, wanted)
            same = counted[first] == wanted if wanted >= 0 else False
            same = same and happened[-1] - happened[first] == events[row]
            least = 1 if first in edges else LARGE
            if same and len(gone) - first > 1 and least <= events[row] <= total[row] - least:
                found[row] = sorted(gone[first:])
            elif row not in named:
                gone.append(row)
                happened.append(happened[-1] + events[row])
                counted.append(counted[-1] + total[row])
                continue
        edges.add(len(gone))
