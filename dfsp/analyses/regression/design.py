"""Covariates of a meta-regression: which can be used, and the columns that they become."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.errors import DfspError, listed
from dfsp.evidence.tables import Counts

Array = npt.NDArray[np.float64]

NO_COVARIATES = ("study", "events", "total", "shares_patients_with")
DIGITS = range(3, 18)  # of a number in the name of a row


class Column(NamedTuple):
    """What a column of the design stands for.

    `level` and `reference` are empty for a number, which is measured from `centre`.
    """

    covariate: str
    level: str = ""
    reference: str = ""
    centre: float = 0.0


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
        Covariates.

    Returns
    -------
    Counts, pandas.DataFrame, dict of str to Column
        `Counts.dropped` names studies without a covariate; the design has one row a study.

    Raises
    ------
    DfspError
        No covariate, one that is not there or no covariate, a number that is not finite, a single
        level, or more coefficients than studies.
    """
    table = counts.table
    known = [name for name in table if name not in NO_COVARIATES]
    if not names:
        raise DfspError(f"no covariate is given; known: {', '.join(map(str, known))}")
    unknown = [name for name in names if name not in known]
    if unknown:
        what = "is not a column" if unknown[0] not in NO_COVARIATES else "is no covariate"
        found = f"covariate {', '.join(map(repr, unknown))} {what}"
        raise DfspError(f"{found}; known: {', '.join(map(str, known))}")
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
    if not faults and len(columns) + 1 > len(table):
        faults.append(f"{len(columns)} coefficients for {len(table)} studies; leave some out")
    if faults:
        raise listed("covariates", "these cannot be used", faults)
    used = Counts(**vars(counts) | {
        "table": table,
        "dropped": pd.concat([counts.dropped, dropped], ignore_index=True),
    })  # fmt: skip
    return used, pd.DataFrame(values, index=pd.Index(table["study"], name="study")), columns


def _centre(values: Array, patients: Array) -> float:
    """Return what values are measured from: 0 where their range holds it, else about their mean."""
    low, high = float(values.min()), float(values.max())
    if low <= 0 <= high:
        return 0.0
    # A round number, off the mean by at most a tenth of the range
    decimals = -int(np.floor(np.log10((high - low) / 5)))
    return round(float(values @ patients / patients.sum()), decimals)


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
    """
    counts = Counts.of(counts)
    return _with(counts, f"{part}/{whole}", _numbers(counts, part) / _numbers(counts, whole))


def as_groups(counts: Counts | pd.DataFrame, column: str, unit: str = "") -> Counts:
    """Turn a numeric covariate into text, so that each of its values becomes a group.

    Raises
    ------
    DfspError
        The column is not there.
    """
    counts = Counts.of(counts)
    text = [f"{value:g}{unit}" if pd.notna(value) else None for value in _column(counts, column)]
    groups = pd.Series(text, index=counts.table.index, dtype="str")
    return _with(counts, column, groups)[0]


def _with(counts: Counts, name: str, values: "pd.Series[Any] | Array") -> tuple[Counts, str]:
    return Counts(**vars(counts) | {"table": counts.table.assign(**{name: values})}), name


def _numbers(counts: Counts, column: str) -> "pd.Series[float]":
    values = _column(counts, column)
    if not pd.api.types.is_numeric_dtype(values):
        raise DfspError(f"{column!r} holds something other than numbers")
    return values.astype(float)


def _column(counts: Counts, column: str) -> "pd.Series[Any]":
    if column not in counts.table:
        raise DfspError(f"{column!r} is not a column; known: {', '.join(map(str, counts.table))}")
    return counts.table[column]
