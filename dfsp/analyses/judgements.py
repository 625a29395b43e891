"""What an estimate is of, and how certain it is: what the data say, and what nobody has judged.

The estimand has the attributes of ICH E9(R1), the certainty the five domains of GRADE (Guyatt 2011,
doi:10.1016/j.jclinepi.2010.07.015). What is in no table is `"not stated"` or `"not judged"`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dfsp.constants import STATISTICS
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import appraise, high_risk, sum_up
from dfsp.evidence.load import OUTCOMES
from dfsp.evidence.tables import Counts, without
from dfsp.fitting import Fit
from dfsp.rates import INTERVAL
from dfsp.text import Sentences, Table, table_of

NOT_STATED = "not stated"
NOT_JUDGED = "not judged"
MEDIAN = STATISTICS.index("q50")
TIMES = 10
"""Times larger studies for which I^2 is told too."""

STRATEGIES = {
    "no event": "counted, as patients without the event (composite strategy)",
    "event": "counted, as patients with the event (composite strategy)",
    "excluded": "left out: the rate is of those who could be evaluated",
    "": NOT_STATED,
}
"""What happens to patients without an evaluation, in the words of ICH E9(R1)."""

CONFIRMED, ASSESSED = "confirmed", "assessed"
"""Columns of the cohorts, or of one's own table: whether responses were confirmed, and when the
outcome was assessed."""

__all__ = ["certainty", "estimand", "i_squared", "without_high_risk"]


def __dir__() -> list[str]:
    return __all__


def estimand(counts: Counts) -> Table:
    """State what a rate of these counts is of.

    Parameters
    ----------
    counts : Counts
        Columns that tell: `setting`, `dose_mg`, `enrolled`, `confirmed`, `assessed`.

    Returns
    -------
    Table
        Indexed by `attribute`; `stated`.

    Examples
    --------
    >>> import dfsp
    >>> counts = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    >>> stated = dfsp.judgements.estimand(counts)["stated"]
    >>> stated["patients without evaluation"]
    'counted, as patients without the event (composite strategy)'
    >>> stated["confirmation"], stated["time"]
    ('not stated', 'not stated')
    """
    table = counts.table
    total = int(table["total"].sum())
    outcome = OUTCOMES.get(counts.outcome)
    event = f" ({' or '.join(outcome.events)})" if outcome and outcome.measure == "response" else ""
    dose = _counted(table, "dose_mg")
    enrolled = table.get("enrolled", pd.Series([None]))
    of = "" if enrolled.isna().any() else f" of {int(enrolled.sum())} enrolled"
    stated = {
        "population": f"{_counted(table, 'setting')}, in {counts.groups}",
        "treatment": dose if dose == NOT_STATED else f"start dose (mg): {dose}",
        "outcome": f"{counts.label}{event}",
        "confirmation": _counted(table, CONFIRMED),
        "time": _counted(table, ASSESSED),
        "denominator": f"{total} patients whose category is recorded{of}",
        "patients without evaluation": STRATEGIES[counts.not_evaluable],
        "summary measure": "the share of patients with the outcome: its median and mean over "
        f"studies, and that of a new study; {INTERVAL}",
    }
    return _told(stated, "attribute", "stated")


def certainty(fit: Fit) -> Table:
    """Return what a fit can say of the five domains of GRADE; judging them is for people.

    Returns
    -------
    Table
        Indexed by `domain`; `says`.

    Examples
    --------
    >>> import dfsp
    >>> counts = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    >>> dfsp.judgements.certainty(dfsp.fit(counts))["says"]["indirectness"]
    'not judged'
    """
    rate = fit.summary.T[fit.model.effects.centre]
    low, high = fit.unit.numbers(rate["q2.5"], rate["q97.5"])
    total = int(fit.counts.table["total"].sum())
    differ = fit.heterogeneity().describe() if fit.posterior is not None else NOT_JUDGED
    judged = appraise(fit.counts.table)["risk_of_bias"]
    risky = high_risk(fit.counts.table)
    bias = sum_up([{"risk_of_bias": str(each)} for each in judged], "risk_of_bias").replace(
        "not assessed", NOT_JUDGED
    )
    says = {
        "risk of bias": bias + _named(risky),
        "inconsistency": differ,
        "indirectness": NOT_JUDGED,
        "imprecision": f"{total:,} patients; {INTERVAL} {low} to {high} {fit.unit.sign}",
        "publication bias": NOT_JUDGED,
    }
    return _told(says, "domain", "says")


def without_high_risk(counts: Counts) -> Counts | None:
    """Return the counts without studies at high risk of bias; None if that leaves all or none.

    At high risk is a study with the answer no to an item of the JBI checklist, by a convention of
    this package: JBI sets no threshold.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> counts = dfsp.Counts.of(table.assign(jbi_1=["yes", "no", ""]))
    >>> dfsp.judgements.without_high_risk(counts).table["study"].to_list()
    ['A', 'C']
    """
    risky = high_risk(counts.table)
    return without(counts, [*risky]) if 0 < len(risky) < len(counts.table) else None


def i_squared(fit: Fit) -> Sentences:
    """Say what I^2 is, for those who are asked for it, and why it misleads.

    It is tau^2 / (tau^2 + s^2) with the median of tau and s^2 the typical sampling variance of a
    study's logit rate (Higgins and Thompson 2002, doi:10.1002/sim.1186, equation 9). Counts have
    no such variance of their own: it hangs on the rate and on how many patients a study has.

    Raises
    ------
    DfspError
        Fewer than two studies, or effects without tau.

    Examples
    --------
    >>> import dfsp
    >>> counts = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    >>> print(dfsp.judgements.i_squared(dfsp.fit(counts)).partition(":")[0])
    I^2 is 65 %
    """
    patients = fit.counts.filled().table["total"].to_numpy(np.float64)
    if len(patients) < 2 or "tau" not in fit.model.quantities:
        raise DfspError("I^2 needs two studies or more, and effects that have tau")
    rate, tau = (fit.numbers[name][MEDIAN] for name in ("typical_rate", "tau"))
    weight = patients * rate * (1 - rate)
    typical = (len(weight) - 1) * weight.sum() / (weight.sum() ** 2 - (weight**2).sum())
    now, larger = (tau**2 / (tau**2 + typical / times) for times in (1, TIMES))
    return Sentences(
        f"I^2 is {now:.0%}: of the variance of observed logit rates, the share that is between "
        "studies. It says how large studies are as much as how they differ: with the same tau of "
        f"{tau:.2f} and {TIMES} times the patients it would be {larger:.0%}. tau, and the "
        "interval of a new study's rate, say how much studies differ.".replace("%", " %")
    )


def _counted(table: pd.DataFrame, column: str) -> str:
    """Say of how many studies a column has which value."""
    values = table.get(column, pd.Series(dtype=object)).replace("", None).dropna()
    if values.empty:
        return NOT_STATED
    said = [f"{value:g}" if isinstance(value, float) else str(value) for value in values.unique()]
    numbers = values.value_counts(sort=False).to_list()
    parts = [
        f"{name} ({number} of {len(table)})" for name, number in zip(said, numbers, strict=True)
    ]
    return ", ".join(parts)


def _named(risky: Mapping[str, str]) -> str:
    """Name the studies at high risk of bias, with the items that make them so."""
    if not risky:
        return ""
    named = ", ".join(f"{study} ({items})" for study, items in risky.items())
    return f"; at high risk (a no to any item): {named}"


def _told(said: dict[str, str], index: str, column: str) -> Table:
    return table_of([*said.values()], index=pd.Index(said, name=index), columns=[column])
