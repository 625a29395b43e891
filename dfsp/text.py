"""How results show themselves: as HTML or Markdown in a notebook, as plain text elsewhere.

Each has one rich form, without styles, scripts or identifiers drawn at random: the same result
gives the same bytes, and a notebook that nobody trusts yet shows it too.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dfsp.rates import PERCENT, TINY, Unit, decimals

LINE = 112
"""Characters in a line of text; JupyterLab breaks longer ones inside words."""

ROUNDING = 1e-14
"""What a sum of rates, such as those of all categories, may lack of 1 by rounding alone."""

MOST_ROWS = 200
"""Rows that a table shows; of more, the first and the last."""

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|$~#&])")
_LIST = re.compile(r"^([-+]|\d+(?=[.)]))")


class Sentences(str):
    r"""What a result says, a paragraph a line; lines that are indented belong to the one above.

    A text like any other, which shows itself in lines that fit into a notebook.

    Examples
    --------
    >>> Sentences("Two studies differ:\n  Adams 2001 has 3 of 9\n  Brown 2002 has 8 of 9")
    Two studies differ:
      Adams 2001 has 3 of 9
      Brown 2002 has 8 of 9
    """

    def __repr__(self) -> str:
        lines = []
        for line in self.split("\n"):
            indent = line[: len(line) - len(line.lstrip())]
            lines += textwrap.wrap(
                line, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            ) or [""]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        blocks = [
            ("- " if line[0].isspace() else "\n") + _escaped(line.strip())
            for line in self.split("\n")
            if line.strip()
        ]
        return "\n".join(blocks).lstrip("\n")


def _escaped(line: str) -> str:
    """Return a line whose characters Markdown takes as they are: names are not ours."""
    return _LIST.sub(r"\\\1" if line[0] in "-+" else r"\1\\", _MARKUP.sub(r"\\\1", line))


class Table(pd.DataFrame):
    """A table that keeps every digit and shows some of them.

    A `pandas.DataFrame` in all that is computed with it. What is selected from it shows itself in
    the same way.

    Attributes
    ----------
    digits : int
        Decimals shown of what is not whole.
    formats : mapping of str to str
        By column, a format of its own (`"g"`, `".1e"`) for numbers that have other sizes.
    rates : bool
        Whether it holds rates: what lies nearer to 0 or to 1 than the decimals show has more.

    See Also
    --------
    table_of : How one is made.

    Examples
    --------
    >>> table_of({"study": ["Adams", "Brown"], "rate": [1 / 3, None]}, digits=2)
    study rate
    Adams 0.33
    Brown    -
    """

    _metadata = ["digits", "formats", "rates"]  # noqa: RUF012  (pandas reads it from the class)
    digits: int = 4
    formats: Mapping[str, str] = {}
    rates: bool = False

    @property
    def _constructor(self) -> "type[Table]":
        return Table

    def __repr__(self) -> str:
        if self.empty:
            return "none"
        text = self._texts().to_string(index=self._named_rows, line_width=LINE, max_rows=MOST_ROWS)
        return "\n".join(line.rstrip() for line in text.split("\n"))

    def _repr_html_(self) -> str:
        """Return the table with a line a row, since what is compared is compared by lines."""
        if self.empty:
            return "<p>none</p>"
        html = self._texts().to_html(index=self._named_rows, border=0, max_rows=MOST_ROWS)
        return re.sub(r"\n\s+", "\n", re.sub(r"\n\s*(?=<t[hd]|</tr)", "", html))

    def in_unit(self, unit: Unit, *columns: str, apart: bool = False) -> "Table":
        """Return the table to be shown, with its rates as texts in a unit, which its corner names.

        Parameters
        ----------
        unit : Unit
        *columns : str
            Those of rates, by default all. What stands in them in a row stands together, as an
            interval and its middle do; `sd` stands alone.
        apart : bool
            Whether these are differences of rates.

        Examples
        --------
        >>> from dfsp.rates import UNITS
        >>> rates = table_of({"n": [5], "low": [1.2e-4], "high": [2.23e-3]}, index=["Adams"])
        >>> rates.in_unit(UNITS["per-1000"], "low", "high")
        rates per 1,000  n   low high
        Adams            5  0.12  2.2
        """
        said = in_unit(self, unit, columns or [*map(str, self.columns)], apart=apart)
        return table_of(said, digits=self.digits, formats=self.formats, rates=self.rates)

    @property
    def _named_rows(self) -> bool:
        """Whether the rows have names; their numbers are not shown."""
        return not isinstance(self.index, pd.RangeIndex)

    def _texts(self) -> pd.DataFrame:
        """Return every number as it is shown."""
        plain = pd.DataFrame(self)
        texts = {
            i: [
                _shown(value, self.formats.get(str(name), self.digits), self.rates)
                for value in plain.iloc[:, i]
            ]
            for i, name in enumerate(plain.columns)
        }
        found = pd.DataFrame(texts, index=plain.index, dtype=object)
        found.columns = plain.columns
        return found


def show_frames(holder: object) -> None:
    """Let every frame that a frozen dataclass holds show itself, for its `__post_init__`."""
    for name, value in vars(holder).items():
        if isinstance(value, pd.DataFrame) and not isinstance(value, Table):
            object.__setattr__(holder, name, Table(value))


def table_of(
    data: Any,
    *,
    digits: int = 4,
    formats: Mapping[str, str] | None = None,
    rates: bool = False,
    **frame: Any,
) -> Table:
    """Return a table that shows itself.

    Parameters
    ----------
    data
        As for `pandas.DataFrame`, and so are further arguments.
    digits : int
        Decimals shown of what is not whole.
    formats : mapping of str to str, optional
        By column, a format of its own.
    rates : bool
        Whether it holds rates, none of which is to be shown as 0 or 1 where it is neither.

    Examples
    --------
    >>> table_of({"low": [0.0, 2.23e-4], "high": [0.5, 0.9988]}, digits=3, rates=True)
        low   high
      0.000  0.500
    0.00022 0.9988
    """
    table = Table(data, **frame)
    table.digits, table.formats, table.rates = digits, dict(formats or {}), rates
    return table


def in_unit(
    frame: pd.DataFrame, unit: Unit, columns: Sequence[str], *, apart: bool = False
) -> pd.DataFrame:
    """Return a frame whose columns of rates are texts in a unit, which its corner names.

    Parameters
    ----------
    frame : pandas.DataFrame
    unit : Unit
    columns : sequence of str
        What stands in them in a row stands together, as an interval and its middle do; `sd` stands
        alone.
    apart : bool
        Whether these are differences of rates.

    Examples
    --------
    >>> from dfsp.rates import PERCENT
    >>> in_unit(pd.DataFrame({"n": [5], "low": [0.1], "high": [0.25]}), PERCENT, ["low", "high"])
    rates in %  n   low  high
    0           5  10.0  25.0
    >>> in_unit(pd.DataFrame({"shift": [-0.05]}), PERCENT, ["shift"], apart=True)
    differences in points shift
    0                      -5.0
    """
    together = [name for name in columns if name != "sd"]
    written = unit.differences if apart else unit.numbers
    texts = [written(*row) for row in frame[together].to_numpy(float)]
    said = dict(zip(together, zip(*texts, strict=True), strict=True)) if texts else {}
    if "sd" in columns:
        said["sd"] = tuple(map(unit.number, frame["sd"]))
    whole = pd.DataFrame(frame).assign(**said)
    what, of = ("differences", unit.steps) if apart else ("rates", unit.sign)
    return whole.rename_axis(columns=f"{what} {'in ' * (unit == PERCENT)}{of}")


def _shown(value: Any, how: int | str, rates: bool) -> str:
    if value is None or value is pd.NA or value != value:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if isinstance(how, str):
        return format(value, how)
    if rates and TINY <= abs(value) < 1 - ROUNDING:
        how = max(how, decimals(min(abs(value), 1 - abs(value)), max(2, how // 2)))
    elif rates and 0 < value < TINY:
        return f"{value:.{max(1, how // 2 - 1)}e}"
    return f"{round(value, how) + 0.0:.{how}f}"  # no -0.000 for what rounds to 0


class Result:
    """What shows itself as the sentences that describe it."""

    def describe(self) -> Sentences:
        """Say what was found, with every number computed here."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return repr(self.describe())

    def _repr_markdown_(self) -> str:
        return self.describe()._repr_markdown_()


def as_option(name: str) -> str:
    """Return how the command line writes the name of a parameter.

    Examples
    --------
    >>> as_option("mu_sd")
    '--mu-sd'
    """
    return f"--{name.replace('_', '-')}"


def chance(probability: float, digits: int = 3) -> str:
    """Return a probability with at most three decimals, never as 0 or 1 where it is neither.

    Examples
    --------
    >>> chance(0.25), chance(1e-9), chance(0.25, 2), chance(0.9985, 2)
    ('0.250', 'below 0.001', '0.25', '0.999')
    """
    shown = f"{probability:.{digits}f}"
    if float(shown) not in (0, 1):
        return shown
    if 0 < probability < 0.001:
        return "below 0.001"
    return "above 0.999" if 0.999 < probability < 1 else f"{probability:.3f}"
