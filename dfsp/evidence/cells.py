"""What the text of a cell means: a count, events of a total, a share, a number, nothing at all.

Cells are text and judged one by one, so that nothing is converted silently: `3,5`, `23 %` or `<5`
is refused with the way out rather than guessed. A `..._fault` says what is wrong, `""` if nothing.
"""

import re

import pandas as pd

MAX_COUNT = 10**9
"""Above this a count is a slip of the keyboard: no study has a thousand million patients."""

# In lower case. A dash, "none" and "null" are not among them: they can mean that nobody had it.
_MISSING = frozenset(
    (
        "", "na", "n/a", "n.a.", "n. a.", "#n/a", "<na>", "nan", "nr", "n/r", "n.r.", "n. r.", ".",
        "?", "missing", "unknown", "not reported", "not available", "not stated", "not given",
        "k.a.", "k. a.", "keine angabe", "non rapporté", "no reportado", "non riportato",
    )
)  # fmt: skip
_NOBODY_OR_UNKNOWN = frozenset(("-", "--", "–", "—", "none", "nil", "null"))

_SPACES = re.compile("[\u00a0\u2007\u2009\u202f]")
# pandas may write 5 as 5.0; 1.000 is refused, since a point may separate thousands.
_WHOLE = re.compile(r"(\d+)([.,]0{1,2})?", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?0?\d{1,2})?", re.ASCII)
# A spreadsheet shows 123456 as 1.23E+05 and writes what it shows; R and Python write e.
_ROUNDED = re.compile(r"\d+[.,]\d+E[+-]?\d+", re.ASCII)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}([ ,.'’]\d{3})+", re.ASCII)
_PERCENTAGE = re.compile(r"(\d+(?:[.,]\d+)?) ?(?:%|percent|per cent)", re.ASCII)
_PROPORTION = re.compile(r"0?[.,]\d+", re.ASCII)
_BOUND = re.compile(
    r"(?:[<>≤≥~≈±]=? *|ca\. *|(?:up to|over|under|about|ca|circa|approx\.?|approximately|"
    r"at (?:least|most)|(?:fewer|less|more|greater) than|weniger als|mehr als|unter|über|höchstens|"
    r"mindestens|etwa|moins de|plus de|environ|menos de|más de|mais de|meno di|più di|minder dan|"
    r"meer dan) +)\S.*|\d+ *\+",
    re.ASCII | re.IGNORECASE,
)
_RANGE = re.compile(r"\d+ *(?:-|–|—|to|bis|à) *\d+", re.ASCII)
_MONTH = r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-zä]*\.?"
_DATE = re.compile(
    rf"\d{{4}}-\d\d?-\d\d?(?:[ t][\d:.]+)?|\d+/\d+/\d+|\d+[-/. ]+{_MONTH}(?:[-/. ]+\d+)?|"
    rf"{_MONTH}[-/. ]+\d+",
    re.ASCII | re.IGNORECASE,
)
_OF = r"(?P<events>\d+) *(?:/|out of|of|von|sur|de|di|van|av|z|из) *(?P<total>\d+)"
_FRACTION = re.compile(
    rf"{_OF}(?: *[,;:=]? *(?P<after>[(\[][^/]*[)\]]|\d+(?:[.,]\d+)? *%))?|"
    rf"(?P<before>\d+(?:[.,]\d+)? *%?) *[(\[] *{_OF.replace('events', 'k').replace('total', 'n')}"
    r" *[)\]]",
    re.ASCII | re.IGNORECASE,
)
_LEVEL = re.compile(r"\d+(?:[.,]\d+)? *%[- ]*(?:CI|CrI|HDI|KI|IC|BI)\b.*", re.ASCII)
_AND_MORE = re.compile(
    r"(\d+) *(?![eExX][\d+-])[a-zA-Z(\[*†‡§#^¹²³‖¶&\u2070-\u207f\u02b0-\u02ff\u1d2c-\u1d9f].*|"
    r"[=+'\"’(\[]+(\d+)[)\]'\"’]*",
    re.ASCII,
)
_IN_THOUSANDS = re.compile(r"(\d[\d.,'’]*\d|\d) *(?:/|of) *(\d[\d.,'’]*\d|\d)", re.ASCII)


def is_missing(cell: str) -> bool:
    """Say whether a cell says that there is no number, as an empty one does."""
    return cell.lower() in _MISSING or cell == "NULL"


def lacks_number(cell: str) -> bool:
    """Say whether a cell of events and total says that one of them is not known, as `NR/20`."""
    if is_missing(cell):
        return True
    parts = re.split(r" *(?:/(?![aArR]\b)| of ) *", f"{cell} " if cell.endswith(" of") else cell)
    known = [whole(part) is not None for part in parts]
    return (
        len(parts) == 2
        and all(number or is_missing(part) for number, part in zip(known, parts, strict=True))
        and not all(known)
    )


def whole(cell: str) -> int | None:
    """Return the number that a cell is, if it is a whole one; beyond `MAX_COUNT` just more."""
    if match := _WHOLE.fullmatch(cell):
        digits = match[1].lstrip("0") or "0"
        return int(digits) if len(digits) <= 10 else MAX_COUNT + 1
    if "e" in cell.lower() and _NUMBER.fullmatch(cell) and not _ROUNDED.fullmatch(cell):
        value = float(cell)
        return int(min(value, MAX_COUNT + 1)) if value >= 0 and value % 1 == 0 else None
    return None


def count_fault(cell: str) -> str:
    """Say why a cell is no count of patients."""
    if not cell:
        return "the cell is empty"
    if (count := whole(cell)) is not None:
        return f"{cell} is more than any study can have ({MAX_COUNT})" if count > MAX_COUNT else ""
    plain = _SPACES.sub(" ", cell)
    if _PERCENTAGE.fullmatch(plain):
        return f"{cell!r} is a percentage; give the number of patients"
    if _THOUSANDS.fullmatch(plain):
        digits = re.sub(r"\D", "", plain)
        return f"{cell!r} is not a whole number; write {digits} if the sign separates thousands"
    if _ROUNDED.fullmatch(plain):
        return f"{cell!r} may have been rounded by a spreadsheet; write the number in full"
    if _PROPORTION.fullmatch(plain):
        return f"{cell} is a proportion; give the number of patients"
    if _NUMBER.fullmatch(point := plain.replace(",", ".").replace("−", "-")):
        if float(point) < 0:
            return f"{cell} is negative"
        return f"{cell} is not a whole number; give the number of patients"
    return _words_fault(cell, plain)


def _words_fault(cell: str, plain: str) -> str:
    """Say what a cell looks like that is no number."""
    if is_missing(plain):
        return f"{cell!r} is not a number"
    if plain.lower() in _NOBODY_OR_UNKNOWN:
        return f"{cell!r} can mean nobody or not known; write 0 or NA"
    if _BOUND.fullmatch(plain):
        return (
            f"{cell!r} is a bound, which cannot be read yet; ask for the number of patients, or "
            "leave the study out"
        )
    if _DATE.fullmatch(plain):
        return (
            f"{cell!r} is a date, as a spreadsheet makes of 7/15; format the column as text and "
            "type the counts again"
        )
    if _RANGE.fullmatch(plain):
        return f"{cell!r} is a range; give one number of patients"
    if match := _FRACTION.fullmatch(plain):
        events = match["events"] or match["k"]
        return f"{cell!r} is events of a total; name the column with --counts, or write {events}"
    if match := _AND_MORE.fullmatch(plain):
        number = match[1] or match[2]
        return f"{cell!r} is not a number alone; write {number}, and the rest in another column"
    if re.fullmatch(r"\d{1,15}", plain):
        return f"{cell!r} is not a number in the digits 0 to 9; write {int(plain)}"
    return f"{cell!r} is not a number"


def events_of_total(cell: str) -> tuple[int, int] | str:
    """Return the two numbers of `7/15`, `7 of 15` or `7/15 (46.7 %)`, or why there are none.

    A percentage beside them must be theirs, rounded or cut at its last digit.
    """
    plain = _SPACES.sub(" ", cell)
    match = _FRACTION.fullmatch(plain)
    if match is None:
        fault = count_fault(cell) or f"{cell} has no total"
        thousands = _IN_THOUSANDS.fullmatch(plain)
        if thousands and all(_THOUSANDS.fullmatch(n) or n.isdecimal() for n in thousands.groups()):
            digits = "/".join(re.sub(r"\D", "", number) for number in thousands.groups())
            return f"{cell!r} is not a fraction; write {digits} if the signs separate thousands"
        return fault if is_missing(cell) else f"{fault}; write events and total as 7/15 or 7 of 15"
    events, total = match["events"] or match["k"], match["total"] or match["n"]
    if fault := count_fault(events) or count_fault(total):
        return fault
    k, n = int(events), int(total)
    beside = re.search(
        r"\d+(?:[.,](\d+))?", _LEVEL.sub("", match["before"] or match["after"] or ""), re.ASCII
    )
    if beside and n:
        distance = abs(100 * k / n - float(beside[0].replace(",", ".")))
        if distance > 10.0 ** -len(beside[1] or "") * (1 + 1e-9):
            return f"{cell!r}: {k} of {n} is {100 * k / n:.1f} %, which the number beside it is not"
    return k, n


def share(cell: str) -> str:
    """Say whether a cell is a `percentage` or a `proportion` and no count; `""` if neither."""
    plain = _SPACES.sub(" ", cell)
    if whole(plain) is not None:
        return ""
    if _PROPORTION.fullmatch(plain):
        return "proportion"
    decimal = _NUMBER.fullmatch(point := plain.replace(",", ".")) and 1 < float(point) <= 100
    return "percentage" if decimal or _PERCENTAGE.fullmatch(plain) else ""


def meant(cell: str, total: int) -> str:
    """Say how many of `total` a percentage or proportion would be, if it is a share of them."""
    plain = _SPACES.sub(" ", cell)
    percentage = _PERCENTAGE.fullmatch(plain)
    if not percentage and not _PROPORTION.fullmatch(plain):
        return ""
    text = (percentage[1] if percentage else plain).replace(",", ".")
    whole_of = 100 if percentage else 1
    share, digits = float(text) / whole_of, len(text.partition(".")[2])
    nearest = round(share * total)
    # Rounded or cut at its last digit; several numbers may be near a coarse one.
    near = [
        events
        for events in (nearest - 1, nearest, nearest + 1)
        if abs(whole_of * events / total - float(text)) < 10.0**-digits and 0 <= events <= total
    ]
    return f"{near[0]} of {total} would be {cell}" if len(near) == 1 else ""


def number_fault(cell: str) -> str:
    """Say why a cell is no non-negative number."""
    if not cell:
        return "the cell is empty"
    if _NUMBER.fullmatch(cell):
        return f"{cell} is negative" if cell.startswith("-") else ""
    if _NUMBER.fullmatch(cell.replace(",", ".")):
        return f"{cell!r} has a decimal comma; write {cell.replace(',', '.')}"
    return f"{cell!r} is not a number"


def typed(column: pd.Series) -> pd.Series:
    """Return a covariate as numbers if every cell that is not missing is one, else as text."""
    filled = column[~column.map(is_missing).astype(bool)]
    if column.name == "cohort" or filled.empty or not filled.str.fullmatch(_NUMBER).all():
        return column.mask(column == "NA", "")
    return pd.to_numeric(filled).reindex(column.index)
