"""Tables and sentences: every number in a sentence is computed here and typed nowhere."""

import textwrap

import pandas as pd
from scipy.special import betaincinv

from dfsp.checks import failed
from dfsp.constants import CI_PROB, QUANTILES, STATISTICS
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import CLUSTER, EXCHANGEABLE, Fit
from dfsp.predictions import interval_of_events, rates_differ

LINE = 112
"""Characters in a line of text; JupyterLab breaks longer ones inside words."""


def percent(value: float) -> str:
    """Return a rate as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def _interval(low: float, high: float) -> str:
    return f"{CI_PROB:.0%} interval {100 * low:.1f} to {percent(high)}"


def _row(fit: Fit, quantity: str) -> dict[str, float]:
    return dict(zip(STATISTICS, fit.summary.T[quantity].to_list(), strict=True))


def _clopper_pearson(events: int, total: int) -> tuple[float, float]:
    tail = (1 - CI_PROB) / 2
    low = betaincinv(events, total - events + 1, tail) if events else 0.0
    high = betaincinv(events + 1, total - events, 1 - tail) if events < total else 1.0
    return float(low), float(high)


def observed(counts: Counts) -> pd.DataFrame:
    """Return the stratified estimates: each study alone.

    Returns
    -------
    pandas.DataFrame
        `study`, `events`, `total`, `rate`, `low`, `high`: observed rate and its exact interval
        (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404), rate scale.
    """
    table = counts.table[["study", "events", "total"]].reset_index(drop=True)
    pairs = zip(table["events"].to_list(), table["total"].to_list(), strict=True)
    ends = [_clopper_pearson(events, total) for events, total in pairs]
    low, high = zip(*ends, strict=True)
    return table.assign(rate=table["events"] / table["total"], low=low, high=high)


def pooled(counts: Counts) -> "pd.Series[float]":
    """Return the estimate that treats all patients as one study.

    Returns
    -------
    pandas.Series
        `events`, `total`, `rate`, `low`, `high` (Clopper-Pearson), rate scale.
    """
    events, total = int(counts.table["events"].sum()), int(counts.table["total"].sum())
    low, high = _clopper_pearson(events, total)
    values = {"events": events, "total": total, "rate": events / total, "low": low, "high": high}
    return pd.Series(values, name="pooled", dtype=float)


def shown(table: "pd.DataFrame | pd.Series[float]", digits: int = 6) -> str:
    """Return a table of exact numbers as text with a fixed number of decimals.

    Columns beyond the width of a notebook follow below the others.
    """
    frame = table.to_frame() if isinstance(table, pd.Series) else table

    def text(value: float) -> str:
        return f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.000 for what rounds to 0

    return frame.to_string(float_format=text, line_width=LINE)


def wrapped(text: str) -> str:
    """Return sentences in lines that fit into a notebook.

    Parameters
    ----------
    text : str
        Its own line breaks and indents are kept.
    """
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def conclude(fit: Fit) -> str:
    """Return the headline: what the studies together say."""
    typical, mean, new = (
        _row(fit, name) for name in ("typical_rate", "mean_rate", "new_study_rate")
    )
    first = (
        f"the rate of a typical study is {percent(typical['q50'])} "
        f"({_interval(typical['q2.5'], typical['q97.5'])}), "
    )
    if "typical_rate" not in fit.model.quantities:
        first = ""
    counts = fit.counts
    source = f" (evidence set '{counts.evidence_set}')" if counts.evidence_set else ""
    return (
        f"{counts.label.capitalize()}{source}, {int(counts.table['events'].sum())} of "
        f"{int(counts.table['total'].sum())} patients in {counts.groups}: {first}the mean "
        f"over studies {percent(mean['mean'])} ({_interval(mean['q2.5'], mean['q97.5'])}); the "
        f"true rate of a new study is expected between {100 * new['q2.5']:.1f} and "
        f"{percent(new['q97.5'])}."
    )


def describe_heterogeneity(fit: Fit, by: float = 0.2) -> str:
    """Say in plain words how much studies differ."""
    effects, known = fit.model.effects, fit.model.spread_prior.known
    where = f" {effects.spread_scale}" if effects.spread_scale else ""
    row = _row(fit, effects.spread)
    found = (
        f"is {row['q50']:.2f}{where} "
        f"({CI_PROB:.0%} interval {row['q2.5']:.2f} to {row['q97.5']:.2f})"
    )
    if known is not None:
        found = f"is fixed at {row['q50']:g}{where}"
    return (
        f"Two new studies would have true rates more than {100 * by:.0f} points apart with "
        f"probability {rates_differ(fit.exact, by):.2f}. The "
        f"{effects.spread_words} {found}."
    )


def describe_new_study(fit: Fit, n: int = 20) -> str:
    """Say what a new study of n patients should expect: its true rate, and its observed count."""
    new = _row(fit, "new_study_rate")
    low, high = interval_of_events(fit.exact, n)
    return (
        f"The true rate of a new study has mean {percent(new['mean'])} "
        f"({_interval(new['q2.5'], new['q97.5'])}). Among {n} patients of such a study, "
        f"{low} to {high} are expected to have the outcome, an observed proportion of "
        f"{percent(low / n)} to {percent(high / n)} (at least {CI_PROB:.0%} probability): the "
        "second interval adds the chance of sampling patients to the first."
    )


def describe_agreement(fit: Fit) -> str:
    """Say in one line whether the checks hold; no digit of a sampler is in it."""
    bad = failed(fit.checks)
    if bad:
        return "checks failed: " + "; ".join(check.name for check in bad)
    if fit.engine != "both":
        return f"all checks passed ({fit.engine} engine)"
    unsure = [check.name for check in fit.checks if check.passed is None]
    rest = f"; cannot tell: {'; '.join(unsure)}" if unsure else ""
    return f"exact and NUTS engines agree within Monte Carlo error: True{rest}"


def report(fit: Fit) -> str:
    """Return the plain-text page that `dfsp fit` prints."""
    names = {
        "typical_rate": "typical rate", "mean_rate": "mean rate",
        "new_study_rate": "new-study rate", "mu": "mu (logit)", "tau": "tau (logit)",
        "sigma": "sigma (logit)", "omega": "omega (logit)",
    }  # fmt: skip
    names |= {name: name.replace("_", " ") for name in fit.summary.index if name not in names}
    rates = fit.summary.reindex(list(names)).dropna(how="all")
    columns = ["mean", "sd", "q2.5", "q50", "q97.5"]
    summary = rates[columns].rename(index=names).rename_axis(index=None)
    studies = fit.studies.set_index("study")
    studies["observed"] = studies["events"] / studies["total"]
    kept = ["events", "total", "observed", "mean", "q2.5", "q97.5"]
    kept = [CLUSTER] * (CLUSTER in studies) + kept + [EXCHANGEABLE] * (EXCHANGEABLE in studies)
    studies = studies[kept]
    lines = [f"{fit.counts.groups}; {fit.model}; {fit.engine} engine", ""]
    lines += [shown(summary, 4), "", shown(studies, 4), ""]
    if fit.posterior is not None:
        lines.append(f"log marginal likelihood {fit.posterior.log_marginal_likelihood:.4f}")
    lines += [str(check) for check in fit.checks if check.passed is not True]
    lines += [conclude(fit)]
    return "\n".join(line.replace("NaN", "  -") for line in lines)


def leave_one_out(fit: Fit) -> pd.DataFrame:
    """Fit again without each study in turn, and without those that share its patients.

    Parameters
    ----------
    fit : Fit
        Of two studies or more, with the exact engine.

    Returns
    -------
    pandas.DataFrame
        Indexed by `left_out`; `with_it` (studies that leave too), and the quantiles 0.025, 0.5 and
        0.975 of the typical rate and the median of tau; with beta-binomial effects, of the mean
        rate and the concentration.

    Raises
    ------
    DfspError
        Fewer than two studies.
    """
    fit.counts.require_independent("leaving studies out one by one")
    if len(fit.studies) < 2:
        raise DfspError("leaving a study out needs two studies or more")
    table = fit.counts.table
    centre, spread = fit.model.effects.centre, fit.model.effects.spread
    rows = []
    for study, shared in zip(table["study"], _shared(table), strict=True):
        rest = table[~table["study"].isin([study, *shared])]
        posterior = solve(rest["events"], rest["total"], fit.model)
        ends = [QUANTILES[0], 0.5, QUANTILES[-1]]
        low, middle, high = getattr(posterior, centre).quantile(ends)
        median = float(getattr(posterior, spread).quantile(0.5)[0])
        rows.append((study, "; ".join(shared) or "-", middle, low, high, median))
    columns = ["left_out", "with_it", centre, "low", "high", spread]
    return pd.DataFrame(rows, columns=columns).set_index("left_out")


def _shared(table: pd.DataFrame) -> list[list[str]]:
    if "shares_patients_with" not in table:
        return [[] for _ in range(len(table))]
    return [[name for name in cell.split("; ") if name] for cell in table["shares_patients_with"]]


def chance(probability: float) -> str:
    """Return a probability with three decimals, never as 0 or 1 where it is neither."""
    if 0 < probability < 0.001:
        return "below 0.001"
    return "above 0.999" if 0.999 < probability < 1 else f"{probability:.3f}"
