"""What a meta-regression and its covariates come to, in sentences."""

import numpy as np
import pandas as pd

from dfsp.analyses.regression import MARGIN, Regression, contrast, regress, separators
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.model.model import Model
from dfsp.model.priors import Normal

EQUAL = 0.95
"""Probability of a difference within the margin from which rates are called practically equal."""


def describe_confounding(counts: Counts) -> str:
    """Say which doses were given in which setting, and for how long.

    Raises
    ------
    DfspError
        The counts have no dose or no setting.
    """
    needed = ["dose_mg", "setting", "treatment_months_median"]
    missing = set(needed) - set(counts.table)
    if missing:
        raise DfspError(f"the counts have no {', '.join(sorted(missing))}")
    table = counts.table
    nowhere = table["setting"].fillna("").str.strip() == ""
    known = table[table["dose_mg"].notna() & ~nowhere]
    lines = []
    for (dose, setting), group in known.groupby(["dose_mg", "setting"]):
        months = group["treatment_months_median"].dropna()
        lasted = (
            f"median treatment {', '.join(f'{m:g}' for m in months)} months where known"
            if len(months)
            else "duration not known"
        )
        cohorts = "1 cohort" if len(group) == 1 else f"{len(group)} cohorts"
        lines.append(
            f"{dose:g} mg, {setting}: {cohorts}, {group['events'].sum()} of "
            f"{group['total'].sum()} patients; {lasted}."
        )
    rest = table.drop(known.index)
    for row, dose in zip(rest.itertuples(), rest["dose_mg"], strict=True):
        lacks = "dose" if pd.isna(dose) else "setting"
        lines.append(f"No {lacks}: {row.study}, {row.events} of {row.total} patients.")
    lines.append(_confounded(known))
    return "\n".join(lines)


def _confounded(known: pd.DataFrame) -> str:
    """Say at which doses settings can be compared, and by whom."""
    settings = known["setting"].unique()
    if len(settings) < 2:
        return f"The setting does not vary: {', '.join(settings) or 'none is known'}."
    alone, compared = [], []
    for dose, group in known.groupby("dose_mg"):
        patients = group.groupby("setting")["total"].sum().sort_values()
        if len(patients) == 1:
            alone.append(f"{dose:g} mg only {patients.index[0]}")
            continue
        rare = group[group["setting"] != patients.index[-1]]
        compared += [f"{row.study} ({row.total} patients, {dose:g} mg, {row.setting})"
                     for row in rare.itertuples()]  # fmt: skip
    if not alone:
        return "Each dose was given in more than one setting."
    said = f"Confounded: {'; '.join(alone)}."
    if not compared:
        return f"{said} No cohort tells dose and setting apart."
    verb = "tells" if len(compared) == 1 else "tell"
    return f"{said} Only {', '.join(compared)} {verb} dose and setting apart."


def describe_regression(result: Regression) -> str:
    """Say what each coefficient is, and which of them the data do not inform."""
    said = []
    for name in map(str, result.design):
        row = result.coefficients.T[name]
        middle, low, high = _numbers(row["q50"], row["q2.5"], row["q97.5"])
        text = f"{name}: {middle} ({low} to {high}, logit scale)"
        if row["identified"] == "no":
            text += (
                f", not identifiable, its posterior is {100 * row['sd_ratio']:.0f} % as wide as "
                "its prior"
            )
        said.append(text)
    told = _told_apart(result)
    dropped = result.counts.dropped
    gone = [
        f"{', '.join(group['study'])}, {reason}"
        for reason, group in dropped.groupby("reason", sort=False)
    ]
    left_out = f" ({len(dropped)} left out: {'; '.join(gone)})" if gone else ""
    return " ".join([f"{len(result.design)} cohorts{left_out}. {'; '.join(said)}.", *told])


def describe_covariate(
    counts: Counts, covariate: str, *, model: Model | None = None, coefficient: Normal | None = None
) -> str:
    """Say what a covariate with one coefficient is worth, or why these counts cannot tell."""
    try:
        result = regress(counts, covariate, model=model, coefficient=coefficient, engine="exact")
    except DfspError as error:
        return f"Nothing can be said of {covariate}: {error}"
    return describe_regression(result)


def describe_identification(result: Regression) -> str:
    """Say which coefficients the data inform: verdicts without a digit of a sampler."""
    table = result.coefficients.loc[list(result.design)]
    informed = [str(name) for name in table.index[table["identified"] == "yes"]]
    prior = [
        f"{name} is not identifiable: its posterior is {100 * ratio:.1f} % as wide as its prior."
        for name, ratio in table.loc[table["identified"] == "no", "sd_ratio"].items()
    ]
    first = f"The data inform {', '.join(informed)}." if informed else ""
    said = [first, *prior, *_told_apart(result)]
    return " ".join(part for part in said if part)


def _told_apart(result: Regression) -> list[str]:
    """Return one sentence a pair of coefficients that are known only together."""
    said: list[str] = []
    pairs: set[frozenset[str]] = set()
    for first, partners in result.partners.items():
        for second, ratio in partners.items():
            if (pair := frozenset((first, second))) in pairs:
                continue
            pairs.add(pair)
            why = separators(result.counts, result.design, result.columns, first, second)
            said.append(
                f"{first} and {second} cannot be told apart{': ' if why else ''}{why}; a "
                f"combination of the two is {100 * ratio:.1f} % as wide as its prior."
            )
    return said


def _numbers(*values: float) -> list[str]:
    """Return numbers as text, with as many decimals as their range needs."""
    spread = max(values) - min(values)
    decimals = 2 if not spread > 0 else max(2, 1 - int(np.floor(np.log10(spread))))
    return [f"{value:z.{decimals}f}" for value in values]


def describe_dose(result: Regression, margin: float = MARGIN) -> str:
    """Return the headline of a meta-regression on one covariate: how far its ends differ."""
    levels = list(result.levels)
    first, last = levels[0], levels[-1]
    gap = contrast(result, first, last, margin)
    rates = result.rates["q50"]
    source = f" (evidence set '{result.counts.evidence_set}')" if result.counts.evidence_set else ""
    equal = (
        f"the rates are practically equal (closer than {100 * margin:.0f} points) with probability "
        f"{gap['equal']:.2f}."
        if gap["equal"] >= EQUAL
        else f"smaller than {100 * margin:.0f} points with probability {gap['equal']:.2f}: these "
        "counts do not show that the rates are equal."
    )
    return (
        f"{result.counts.label.capitalize()}{source}, {len(result.design)} cohorts: the median "
        f"study's rate is {100 * rates[first, 'typical rate']:.1f} % at {_dose(result, first)} and "
        f"{100 * rates[last, 'typical rate']:.1f} % at {_dose(result, last)}; the difference lies "
        f"between {100 * gap['q2.5']:.1f} and {100 * gap['q97.5']:.1f} points (95 % interval), is "
        f"positive with probability {gap['above']:.2f}, and {equal}"
    )


def _dose(result: Regression, level: str) -> str:
    """Return the dose at a row of a design that is about dose alone, else the row's name."""
    if not all("dose_mg" in column.covariate for column in result.columns.values()):
        return level
    here = (result.design == result.levels[level]).all(axis=1).to_numpy()
    doses = result.counts.table.loc[here, "dose_mg"].unique()
    if len(doses) != 1 or pd.isna(doses[0]):
        return level
    return str(doses[0]) if isinstance(doses[0], str) else f"{doses[0]:g} mg"
