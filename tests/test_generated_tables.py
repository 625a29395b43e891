"""A thousand tables as people write them, against what they were made from.

Each is drawn as counts, which are the truth, and then written in one of many ways. A table is either
read to its truth or refused with a message; what has nothing wrong with it is read.
"""

import csv
import io
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dfsp

SETTINGS = settings(
    max_examples=1000, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyzäéøñšÅÖ"
NAMES = st.lists(
    st.builds(
        lambda name, year, comma: name.capitalize() + comma + str(year),
        st.text(LETTERS, min_size=3, max_size=8), st.integers(1990, 2026),
        st.sampled_from([" ", ", ", " et al. "]),
    ),
    min_size=2, max_size=8, unique=True,
)  # fmt: skip
HEADERS = st.sampled_from(
    [
        ("study", "events", "total"),
        ("author", "r", "n"),
        ("Étude", "Réponses", "Patients"),
        ("first author, year", "CR; PR", "N (evaluable)"),
        ("study\nname", "objective\nresponse", "total"),
    ]
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
FURTHER = st.lists(st.sampled_from(["", "note", "dose", "total dose", "% male"]), max_size=3)


@dataclass
class Written:
    """A table as bytes, the options it is read with, and what it was made from."""

    content: bytes
    options: dict[str, str]
    truth: list[tuple[str, int, int]]
    wrong: list[str] = field(default_factory=list)


def cell(draw, number):
    """Write a number of patients as programs and people do; say so where that cannot be read."""
    how = draw(st.sampled_from(["plain"] * 12 + ["float", "spaces", "power", "thousands", "words"]))
    if how == "float":
        return f"{number}.0", ""
    if how == "spaces":
        return f"  {number} ", ""
    if how == "power":
        return f"{number:.6e}" if number < 10_000_000 else str(number), ""
    if how == "thousands" and number >= 1000:
        return f"{number:,}", "thousands"
    if how == "words":
        return draw(st.sampled_from(["<5", "NR", "", "12 %", "4-6", "five", "-1", "7*"])), "words"
    return str(number), ""


def total_row(draw, rows):
    """Return a row that is no study: the sum of all."""
    events, total = (sum(row[place] for row in rows) for place in (1, 2))
    name = draw(
        st.sampled_from(["Total", "All", "Pooled", "Gesamt", "Summe", "Total général", "X"])
    )
    return [name, str(events), str(total)]


@st.composite
def tables(draw):
    names = draw(NAMES)
    totals = [draw(st.integers(1, 2000)) for _ in names]
    truth = [(name, draw(st.integers(0, n)), n) for name, n in zip(names, totals, strict=True)]
    wrong = []
    header = list(draw(HEADERS))
    together = draw(st.booleans())
    percentages = not together and draw(st.integers(0, 9)) == 0
    if percentages:
        header[1] = draw(st.sampled_from(["ORR (%)", "percent", "response rate"]))
        wrong.append("percentages")
    further = draw(FURTHER)
    rows = []
    for name, events, total in truth:
        if together:
            share = draw(st.sampled_from(["{}/{}", "{} of {}", "{}/{} ({:.1f}%)", "{} / {}"]))
            cells = [share.format(events, total, 100 * events / total)]
        elif percentages:
            share = 100 * events / total
            cells = [
                draw(st.sampled_from([f"{share:.0f}", f"{share:.1f}", f"{share:.0f} %"])),
                total,
            ]
        else:
            cells, faults = zip(*(cell(draw, number) for number in (events, total)), strict=True)
            wrong += [fault for fault in faults if fault]
        rows.append([name, *cells, *(draw(st.sampled_from(["", "x", "400"])) for _ in further)])
    if draw(st.integers(0, 9)) == 0 and len(truth) > 1:
        name, events, total = total_row(draw, truth)
        cells = [f"{events}/{total}"] if together else [events, total]
        rows.append([name, *cells, *("" for _ in further)])
        wrong.append("total")
    named = [header[0], "ORR" if together else header[1], *([] if together else [header[2]])]
    options = {"study": header[0].replace("\n", " ")}
    if together:
        options["counts"] = "ORR"
    else:
        options |= {"events": header[1].replace("\n", " "), "total": header[2]}
    separator = draw(st.sampled_from(",;\t"))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\n")
    writer.writerow([*named, *further])
    writer.writerows(rows)
    text = out.getvalue()
    if draw(st.integers(0, 4)) == 0:
        text = "Table 2\n\n" + text
    if separator == ";" and draw(st.booleans()) and not text.startswith("Table"):
        text = "sep=;\n" + text
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    encoding = draw(ENCODINGS)
    content = text.encode(encoding, "strict")
    return Written(content, options, truth, wrong)


@pytest.mark.slow
def test_a_table_is_read_to_its_truth_or_refused(tmp_path):
    file = tmp_path / "table.csv"
    seen = {"read": 0, "refused": 0}

    @SETTINGS
    @given(tables())
    def check(table):
        file.write_bytes(table.content)
        says = ""
        try:
            found = dfsp.read_table(file, **table.options).table
        except dfsp.DfspError as error:
            says = str(error)
        if says:
            # A drawn row can be the sum of others by chance.
            assert table.wrong or "is the sum of" in says, says
        else:
            assert not table.wrong
            rows = zip(found["study"], found["events"], found["total"], strict=True)
            assert list(rows) == table.truth
        seen["refused" if says else "read"] += 1

    check()
    assert seen["read"] > 300 and seen["refused"] > 100
