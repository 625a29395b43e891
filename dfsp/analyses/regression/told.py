"""A meta-regression as a page of text and as plain data, for whoever asks at the command line."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dfsp.analyses.regression.fitting import KINDS, Draws, Prediction, Regression
from dfsp.constants import STATISTICS
from dfsp.fitting import NAMES
from dfsp.prior_words import plain_powers, table_of_powers
from dfsp.text import Sentences, as_option, in_unit, table_of

MOST_LEVELS = 12
"""Rows of the design whose rates a page shows; of more, the average study and what is asked for."""
AVERAGE = "average study"


def page(result: Regression, predictions: Sequence[Prediction] = ()) -> str:
    """Return the plain-text page that `dfsp fit --moderator` prints."""
    by = ", ".join(result.moderators)
    shown = ["mean", "sd", "q2.5", "q50", "q97.5"]
    errors = [name for name in map(str, result.coefficients) if name.startswith("mcse")]
    columns = [*shown, *errors, "prior_sd", "location", "identified"]
    coefficients = result.coefficients[columns].rename_axis(index=None)
    studies = result.studies.set_index("study")
    studies["observed"] = studies["events"] / studies["total"]
    kept = ["events", "total", "observed", "mean", "q2.5", "q97.5"]
    lines = [
        f"{result.counts.groups} by {by}; {result.model}; {result.engine} engine",
        result.prior,
        "",
        repr(coefficients),
        "",
        repr(_rates(result, predictions)),
        "",
        repr(table_of(in_unit(studies[kept], result.counts.rates_in, kept[2:]))),
        "",
    ]
    if result.prior_sensitivity is not None:
        moved = table_of_powers(result.prior_sensitivity).rename(index=NAMES)
        lines.append(f"when a prior is raised to a power ({AVERAGE}):")
        lines += [repr(moved.rename_axis(index=None)), ""]
    if result.log_marginal_likelihood is not None:
        lines.append(f"log marginal likelihood {result.log_marginal_likelihood:.4f}")
    lines += [str(check) for check in result.checks if check.passed is not True]
    lines += [result.describe(written=as_option), *(each.describe() for each in predictions)]
    return "\n".join(repr(line) if isinstance(line, Sentences) else line for line in lines)


def _rates(result: Regression, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return typical and new-study rates where studies are, on average, and where asked for."""
    tables: dict[str, pd.DataFrame] = {AVERAGE: result.average}
    if len(result.levels) <= MOST_LEVELS:
        for level, table in result.rates.groupby(level="at", sort=False):
            tables[str(level)] = table.droplevel("at")
    tables |= {each.name: each.rates for each in predictions}
    rows = {
        (name, kind): table.loc[kind, ["q2.5", "q50", "q97.5"]]
        for name, table in tables.items()
        for kind in (KINDS[0], KINDS[2])
    }
    shown = pd.DataFrame(rows).T
    return table_of(in_unit(shown, result.counts.rates_in, [*map(str, shown)]))


def as_dict(result: Regression, predictions: Sequence[Prediction] = ()) -> dict[str, Any]:
    """Return the regression as the object of schema `dfsp.fit/1`, with `moderators`."""
    studies = [
        {
            "study": row["study"],
            "events": row["events"],
            "total": row["total"],
            "rate": _numbers(row),
            "leave_one_out_lpd": _plain(row["leave_one_out_lpd"]),
        }
        for row in result.studies.to_dict("records")
    ]
    elpd = float(result.studies["leave_one_out_lpd"].sum())
    return {
        "schema": "dfsp.fit/1",
        "engine": result.engine,
        "n_studies": len(studies),
        "model": result.model.as_dict(),
        "log_marginal_likelihood": result.log_marginal_likelihood,
        "elpd_leave_one_study_out": None if isinstance(result.posterior, Draws) else elpd,
        **{str(name): _numbers(row) for name, row in result.summary.to_dict("index").items()},
        "moderators": {
            "names": result.moderators,
            "prior": result.coefficient.as_dict(),
            "counted_in": result.standard.units,
            "coefficients": _coefficients(result),
            "predictions": [_prediction(each) for each in predictions],
            "notes": [*filter(None, [result.prior_warning(written=as_option), result.few()])],
        },
        "studies": studies,
        "prior_sensitivity": plain_powers(result.prior_sensitivity),
        "checks": [check.as_dict() for check in result.checks],
    }


def _coefficients(result: Regression) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, row in result.coefficients.drop(index="tau").to_dict("index").items():
        column = result.columns.get(str(name))
        errors = {str(key): value for key, value in row.items() if str(key).startswith("mcse")}
        others: dict[str, Any] = {}
        if column is not None:
            under = result.other_priors.xs(name, level="coefficient")
            others = {
                f"{factor:g}": _numbers(under.loc[factor]) for factor in map(float, under.index)
            }
        found.append({
            "name": name,
            "moderator": column.covariate if column else None,
            "from": column.centre if column and not (column.level or column.factors) else None,
            "reference": (column.reference or None) if column else None,
            **_numbers(row),
            **errors,
            **{key: _plain(row[key]) for key in ("prior_sd", "location", "width", "sd_ratio")},
            "identified": row["identified"],
            "under_times_the_prior_sd": others,
        })  # fmt: skip
    return found


def _prediction(each: Prediction) -> dict[str, Any]:
    rates = {
        str(kind).replace(" ", "_").replace("-", "_"): _numbers(row)
        for kind, row in each.rates.to_dict("index").items()
    }
    return {"at": dict(each.at), "outside": each.outside or None, **rates}


def _numbers(row: Any) -> dict[str, float | None]:
    return {name: _plain(row[name]) for name in STATISTICS}


def _plain(value: float) -> float | None:
    """JSON has no NaN: what does not exist is null."""
    return None if pd.isna(value) else float(value)
