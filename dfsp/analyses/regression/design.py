"""Covariates of a meta-regression: which can be used, and the columns that they become.

Coefficients are told per unit of a covariate. Their prior is about other columns (`Standard`), so
that it says the same whatever the unit and whichever group is the reference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.errors import DfspError, unknown
from dfsp.evidence.tables import Counts

Array = npt.NDArray[np.float64]

NO_COVARIATES = ("study", "events", "total", "shares_patients_with")
DIGITS = range(3, 18)  # of a number in the name of a row
SAME = 1e-9  # of a column's largest value: what is closer is the same


class Column(NamedTuple):
    """What a column of the design stands for.

    `level` and `reference` are empty for a number, which is measured from `centre`. An interaction
    is the product of the columns `factors`.
    """

    covariate: str
    level: str = ""
    reference: str = ""
    centre: float = 0.0
    factors: tuple[str, ...] = ()


class Standard(NamedTuple):
    """The columns that the prior is about, and what makes coefficients per unit of theirs.

    Every column has mean 0 over studies, so that mu belongs to the average of them. A number is
    counted in its standard deviation, or where it has two values, which are two groups, in the
    distance of these. Of groups, every difference of two has the prior, whichever is the reference.

    Attributes
    ----------
    z : array, shape (study, coefficient)
    back : array, shape (1 + coefficient, 1 + coefficient)
        Intercept and coefficients are `back` times mu and the coefficients of `z`.
    units : dict of str to float
        What a number is counted in, by covariate.
    """

    z: Array
    back: Array
    units: dict[str, float]


def design_of(
    counts: Counts, names: list[str]
) -> tuple[Counts, pd.DataFrame, Mapping[str, Column]]:
    """Return the studies that can be used, the design, and what its columns stand for.

    A number whose values all lie on one side of 0 is measured from about its patient-weighted
    mean, so that the prior of mu is about studies such as these and not about the year 0.

    Parameters
    ----------
    counts : Counts
    names : list of str
        Covariates, and interactions of them such as `"dose:setting"`.

    Returns
    -------
    Counts, pandas.DataFrame, dict of str to Column
        `Counts.dropped` names studies without a covariate; the design has one row a study.

    Raises
    ------
    DfspError
        No covariate, one that is not there or no covariate, an interaction without its parts, a
        number that is not finite, a single level, more coefficients than studies, or columns of
        which one follows from others.
    """
    table = counts.table
    names, products = _parts(table, names)
    missing = table[names].isna() | table[names].astype("string").apply(
        lambda column: column.str.strip() == ""
    )
    gone = missing.any(axis=1)
    reasons = [
        f"{', '.join(name for name in names if missing.at[i, name])} is not known"
        for i in table.index[gone]
    ]
    dropped = pd.DataFrame({"study": table.loc[gone, "study"], "reason": reasons}, dtype="str")
    table = table[~gone].reset_index(drop=True)
    values: dict[str, Array] = {}
    columns: dict[str, Column] = {}
    faults = []
    for name in names:
        column = table[name]
        levels = list(dict.fromkeys(column))
        number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if number and not np.isfinite(column.to_numpy(float)).all():
            bad = table.loc[~np.isfinite(column.to_numpy(float)), "study"]
            faults.append(f"{name}: not finite for {', '.join(bad)}; give a number or leave blank")
        elif len(levels) < 2:
            only = f"only {levels[0]!r}" if levels else "no value"
            faults.append(f"{name}: {only} is left; a covariate needs two different values")
        elif number:
            centre = _centre(column.to_numpy(float), table["total"].to_numpy(float))
            columns[name] = Column(name, centre=centre)
            values[name] = column.to_numpy(float) - centre
        else:
            reference = table.groupby(name)["total"].sum().idxmax()
            for level in (each for each in levels if each != reference):
                key = f"{name}: {level}"
                columns[key] = Column(name, str(level), str(reference))
                values[key] = (column == level).to_numpy(float)
    for name, parts in {} if faults else products.items():
        of_parts = [[key for key in columns if columns[key].covariate == part] for part in parts]
        for factors in product(*of_parts):
            key = ":".join(factors)
            columns[key] = Column(name, factors=factors)
            values[key] = np.prod([values[each] for each in factors], axis=0)
    if not faults and len(columns) + 1 > len(table):
        faults.append(f"{len(columns)} coefficients for {len(table)} studies; leave some out")
    faults = faults or list(_following(values))
    if faults:
        raise DfspError.of("covariates", "these cannot be used", faults)
    left_out = pd.concat([counts.dropped, dropped], ignore_index=True)
    used = replace(counts, table=table, dropped=left_out)
    return used, pd.DataFrame(values, index=pd.Index(table["study"], name="study")), columns


def _parts(table: pd.DataFrame, names: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the covariates asked for, and the parts of each interaction of them."""
    known = [str(name) for name in table if name not in NO_COVARIATES]
    listing = f"known: {', '.join(known)}"
    if not names:
        raise DfspError(f"no covariate is given; {listing}")
    # A column whose name has a colon is a column.
    products = {
        name: [part.strip() for part in name.split(":")]
        for name in names
        if name not in table and ":" in name
    }
    mains = [name for name in names if name not in products]
    asked = dict.fromkeys([*mains, *(part for parts in products.values() for part in parts)])
    strange = [name for name in asked if name not in known]
    if strange:
        what = "is not a column" if strange[0] not in NO_COVARIATES else "is no covariate"
        raise DfspError(f"covariate {', '.join(map(repr, strange))} {what}; {listing}")
    for name, parts in products.items():
        if len(parts) != 2 or len(set(parts)) != 2:
            raise DfspError(f"{name}: an interaction is one of two different columns")
        if absent := [part for part in parts if part not in mains]:
            raise DfspError(
                f"{name}: an interaction says how far the effects of its parts differ; name "
                f"{' and '.join(absent)} beside it"
            )
    return mains, products


def _following(values: Mapping[str, Array]) -> Iterator[str]:
    """Say which columns follow from those before them, so that no study tells them apart."""
    before: dict[str, Array] = {}
    for name, column in values.items():
        column = column - column.mean()
        size = np.abs(column).max()
        column = column / size if size else column
        if before:
            x = np.column_stack(list(before.values()))
            weight = np.linalg.lstsq(x, column, rcond=None)[0]
            column_left = np.abs(column - x @ weight).max()
        else:
            weight, column_left = np.empty(0), np.abs(column).max()
        if column_left > SAME:
            before[name] = column
            continue
        others = [each for each, w in zip(before, weight, strict=True) if abs(w) > SAME]
        yield f"{name} follows from {', '.join(others) or 'the intercept'}: leave one of them out"


def standard_of(design: pd.DataFrame, columns: Mapping[str, Column]) -> Standard:
    """Return the columns that the prior of coefficients is about.

    Parameters
    ----------
    design : pandas.DataFrame
    columns : mapping of str to Column
        From `design_of`.
    """
    units: dict[str, float] = {}
    blocks: dict[str, Array] = {}
    for name in dict.fromkeys(column.covariate for column in columns.values()):
        own = [key for key, column in columns.items() if column.covariate == name]
        x = design[own].to_numpy(float)
        first = columns[own[0]]
        if first.factors:
            parts = dict.fromkeys(columns[each].covariate for each in first.factors)
            block = np.ones((len(x), 1))
            for part in parts:
                block = (block[:, :, None] * blocks[part][:, None]).reshape(len(x), -1)
        elif first.level:
            # Differences of independent effects of groups: each of two has variance 1
            root = np.linalg.cholesky((np.eye(len(own)) + 1) / 2)
            block = x @ root
        else:
            distinct = np.unique(x)
            units[name] = float(np.ptp(x) if len(distinct) == 2 else x.std())
            block = x / units[name]
        blocks[name] = block - block.mean(0)
    z = np.column_stack(list(blocks.values()))
    size = np.append(1.0, np.abs(design.to_numpy(float)).max(0))
    one = np.ones((len(z), 1))
    x = np.hstack([one, design.to_numpy(float)]) / size
    back = np.linalg.lstsq(x, np.hstack([one, z]), rcond=None)[0] / size[:, None]
    return Standard(z, back, units)


def _centre(values: Array, patients: Array) -> float:
    """Return what values are measured from: 0 where their range holds it, else about their mean."""
    low, high = float(values.min()), float(values.max())
    if low <= 0 <= high:
        return 0.0
    # A round number, off the mean by at most a tenth of the range
    decimals = -int(np.floor(np.log10((high - low) / 5)))
    return round(float(values @ patients / patients.sum()), decimals)


def row_at(columns: Mapping[str, Column], at: Mapping[str, Any]) -> Array:
    """Return the row of the design at values of all covariates, numbers also as text.

    Raises
    ------
    DfspError
        A value missing or too many, a group that is not known, or no number.
    """
    own = [column for column in columns.values() if not column.factors]
    names = list(dict.fromkeys(column.covariate for column in own))
    if set(at) != set(names):
        given = ", ".join(map(str, at)) or "nothing"
        raise DfspError(f"values of {given} are given; give one of each: {', '.join(names)}")
    row: dict[str, float] = {}
    for key, column in columns.items():
        if column.factors:
            row[key] = float(np.prod([row[each] for each in column.factors]))
            continue
        value = at[column.covariate]
        if not column.level:
            try:
                row[key] = float(value) - column.centre
            except ValueError:
                row[key] = np.nan
            if not np.isfinite(row[key]):
                raise DfspError(f"{column.covariate} = {value!r}: give a number")
            continue
        levels = [column.reference]
        levels += [each.level for each in own if each.covariate == column.covariate]
        if str(value) not in levels:
            raise DfspError(f"{column.covariate}: {unknown([str(value)], levels)}")
        row[key] = float(str(value) == column.level)
    return np.array(list(row.values()))


def outside(design: pd.DataFrame, columns: Mapping[str, Column], row: Array) -> str:
    """Say where a row of the design lies outside of what was studied; `""` where it does not."""
    alike = np.ones(len(design), dtype=bool)
    for key, value in zip(columns, row, strict=True):
        if columns[key].level:
            alike &= (design[key] == value).to_numpy()
    if not alike.any():
        return "no study has these groups together"
    said = []
    groups = "" if alike.all() else " in such groups"
    for (key, column), value in zip(columns.items(), row, strict=True):
        if column.level or column.factors:
            continue
        seen = design.loc[alike, key]
        if not seen.min() <= value <= seen.max():
            ends = f"{seen.min() + column.centre:g} to {seen.max() + column.centre:g}"
            said.append(
                f"{column.covariate} = {value + column.centre:g} lies outside the studies{groups} "
                f"({ends})"
            )
    return " and ".join(said)


def levels_of(design: pd.DataFrame, columns: Mapping[str, Column]) -> dict[str, Array]:
    """Return the distinct rows of the design by a name that says what they are, sorted.

    A number has its own unit again in the name, with as many digits as tell the rows apart.
    """
    distinct = design.drop_duplicates()
    rows: list[Array] = list(distinct.sort_values(distinct.columns.to_list()).to_numpy(float))
    found: dict[str, Array] = {}
    for digits in DIGITS:
        found = {_name_of(row, columns, digits): row for row in rows}
        if len(found) == len(rows):
            break
    return found


def _name_of(row: Array, columns: Mapping[str, Column], digits: int) -> str:
    parts: dict[str, str] = {}
    for column, value in zip(columns.values(), row, strict=True):
        name = column.covariate
        if column.factors:
            continue
        if not column.level:
            number = float(value + column.centre)
            whole = abs(number - round(number)) < 1e-9 * abs(number)
            parts[name] = f"{name} = {number:.{15 if whole else digits}g}"
        elif value or name not in parts:
            parts[name] = f"{name}: {column.level if value else column.reference}"
    return "; ".join(parts.values())


def log2_of(counts: Counts | pd.DataFrame, column: str, reference: float) -> tuple[Counts, str]:
    """Add log2(column / reference) as a covariate.

    Returns
    -------
    Counts, str
        With the new column, and its name. A missing value stays missing.

    Raises
    ------
    DfspError
        The column is not there or not of positive numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> table = {"study": ["A", "B"], "events": [3, 8], "total": [10, 20], "dose_mg": [400, 800]}
    >>> counts, name = log2_of(pd.DataFrame(table), "dose_mg", 400)
    >>> name, counts.table[name].to_list()
    ('log2(dose_mg/400)', [0.0, 1.0])
    """
    counts = Counts.of(counts)
    values = _column(counts, column)
    if not pd.api.types.is_numeric_dtype(values) or not (values.dropna() > 0).all():
        raise DfspError(f"{column!r} holds something other than positive numbers")
    name = f"log2({column}/{reference:g})"
    return _with(counts, name, np.log2(values.to_numpy(float) / reference))


def share_of(counts: Counts | pd.DataFrame, part: str, whole: str) -> tuple[Counts, str]:
    """Add part / whole, such as metastatic / enrolled patients, as a covariate.

    Returns
    -------
    Counts, str
        With the new column, and its name. It is missing where either number is.

    Raises
    ------
    DfspError
        A column is not there or not of numbers.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = {"study": ["A", "B"], "events": [3, 8], "total": [10, 20], "women": [6, 5]}
    >>> counts, name = dfsp.regression.share_of(pd.DataFrame(table), "women", "total")
    >>> name, counts.table[name].to_list()
    ('women/total', [0.6, 0.25])
    """
    counts = Counts.of(counts)
    return _with(counts, f"{part}/{whole}", _numbers(counts, part) / _numbers(counts, whole))


def as_groups(counts: Counts | pd.DataFrame, column: str, unit: str = "") -> Counts:
    """Turn a numeric covariate into text, so that each of its values becomes a group.

    Raises
    ------
    DfspError
        The column is not there.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = {"study": ["A", "B"], "events": [3, 8], "total": [10, 20], "dose": [400, 800]}
    >>> counts = dfsp.regression.as_groups(pd.DataFrame(table), "dose", " mg")
    >>> counts.table["dose"].to_list()
    ['400 mg', '800 mg']
    """
    counts = Counts.of(counts)
    text = [f"{value:g}{unit}" if pd.notna(value) else None for value in _column(counts, column)]
    groups = pd.Series(text, index=counts.table.index, dtype="str")
    return _with(counts, column, groups)[0]


def _with(counts: Counts, name: str, values: "pd.Series[Any] | Array") -> tuple[Counts, str]:
    return replace(counts, table=counts.table.assign(**{name: values})), name


def _numbers(counts: Counts, column: str) -> "pd.Series[float]":
    values = _column(counts, column)
    if not pd.api.types.is_numeric_dtype(values):
        raise DfspError(f"{column!r} holds something other than numbers")
    return values.astype(float)


def _column(counts: Counts, column: str) -> "pd.Series[Any]":
    if column not in counts.table:
        raise DfspError(f"{column!r} is not a column; known: {', '.join(map(str, counts.table))}")
    return counts.table[column]
