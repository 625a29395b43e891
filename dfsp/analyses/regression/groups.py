"""What else differs between the dose groups of a table of counts."""

import pandas as pd

from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.text import Sentences


def confounding(counts: Counts | pd.DataFrame) -> Sentences:
    """Say which doses were given in which setting, and for how long.

    Raises
    ------
    DfspError
        The counts have no dose or no setting.

    See Also
    --------
    regress : With both as covariates, says what cannot be told apart.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> table = table.assign(dose_mg=[400, 400, 800], treatment_months_median=[6, None, 3])
    >>> table["setting"] = ["advanced", "advanced", "neoadjuvant"]
    >>> print(dfsp.regression.confounding(table).splitlines()[-1])  # doctest: +NORMALIZE_WHITESPACE
    Confounded: 400 mg only advanced; 800 mg only neoadjuvant. No cohort tells dose and
    setting apart.
    """
    needed = ["dose_mg", "setting", "treatment_months_median"]
    table = Counts.of(counts).table
    missing = set(needed) - set(table)
    if missing:
        raise DfspError(f"the counts have no {', '.join(sorted(missing))}")
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
        lines.append(f"No {lacks}: {row.study}, {row.events:,} of {row.total:,} patients.")
    lines.append(_confounded(known))
    return Sentences("\n".join(lines))


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
