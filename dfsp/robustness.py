"""Every defensible analysis at once: which choices were made, and which of them matter.

The dimensions are data: `PRIORS_OF_TAU`, `PRIORS_OF_MU`, `EFFECTS` and `RULES` grow by a line.
Overlapping cohorts are handled in each way that `overlaps.csv` allows.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import get_args

import numpy as np
import pandas as pd

from dfsp.effects import BetaBinomial, Effects, Exnex, NormalEffects, StudentT
from dfsp.errors import DfspError
from dfsp.evidence import Evidence, load_evidence
from dfsp.exact import Posterior, solve
from dfsp.models import Model
from dfsp.outcomes import NotEvaluable, count
from dfsp.priors import Exponential, HalfCauchy, HalfNormal, Normal, Prior, Uniform
from dfsp.shared_grid import SharedGrid

PRIORS_OF_TAU: dict[str, Prior] = {
    "HalfNormal(0.5)": HalfNormal(0.5),
    "HalfNormal(1)": HalfNormal(1),
    "HalfNormal(2)": HalfNormal(2),
    "HalfCauchy(0.5)": HalfCauchy(0.5),
    "Uniform(0, 2)": Uniform(2),
    "Exponential(1)": Exponential(1),
}
PRIORS_OF_MU: dict[str, Normal] = {
    "Normal(0, 1)": Normal(0, 1),
    "Normal(0, 2)": Normal(0, 2),
    "Normal(0, 5)": Normal(0, 5),
}
EFFECTS: dict[str, Effects] = {
    "normal": NormalEffects(),
    "Student-t, df 4": StudentT(4),
    "EXNEX, half exchangeable": Exnex(0.5),
    "beta-binomial": BetaBinomial(),
}
RULES: tuple[NotEvaluable, ...] = get_args(NotEvaluable)
EVIDENCE_SETS = ("review", "reconciled", "reconciled_by_dose")
NO_PRIOR = "none"
_Counts = tuple[tuple[int, int], ...]
CHOICES = ("evidence_set", "overlap", "not_evaluable", "tau", "mu", "effects")


@dataclass(frozen=True, eq=False)
class Multiverse:
    """All analyses, one a row.

    Attributes
    ----------
    table : pandas.DataFrame
        `CHOICES`, `studies`, `events`, `total`, and of `typical`, `mean`, `new` (median; of the
        mean rate the mean) with `_low` and `_high` (rate scale), `tau` median as `tau_median`.
        Beta-binomial effects have no typical rate and tau (NaN), and no priors of these.
    left_out : pandas.DataFrame
        `evidence_set`, `overlap`, `not_evaluable`, `reason`.
    """

    table: pd.DataFrame
    left_out: pd.DataFrame

    def __repr__(self) -> str:
        low, high = self.table["typical"].min(), self.table["typical"].max()
        return (
            f"Multiverse({len(self.table)} analyses, typical rate {low:.3f} to {high:.3f}; "
            f"{len(self.left_out)} combinations left out)"
        )


def overlap_options(
    evidence: Evidence, pool: Mapping[str, pd.DataFrame]
) -> list[tuple[str, Evidence]]:
    """Return every way to handle the overlaps of a set that their `handling` allows.

    Parameters
    ----------
    evidence : Evidence
    pool : mapping of str to pandas.DataFrame
        By cohort, response rows that can be swapped in.

    Returns
    -------
    list of (str, Evidence)
        What was done, in words, and the evidence after it.
    """
    members = set(evidence.rows.loc[evidence.rows["measure"] == "response", "cohort"])
    labels = evidence.cohorts.set_index("cohort")["label"]
    options: list[list[tuple[str, str, str]]] = []
    for cohort, other, handling in _pairs(evidence):
        first, second = labels[cohort], labels[other]
        ways = []
        if {cohort, other} <= members:
            reproduces = "only to reproduce the review" in handling and evidence.name == "review"
            if "keep both" in handling or reproduces:
                ways.append((f"{first} and {second} kept", "", ""))
            if "drop cohort" in handling or "drop either" in handling:
                ways.append((f"without {first}", cohort, ""))
            if "swap" in handling or "drop either" in handling:
                ways.append((f"without {second}", other, ""))
        elif other in members and "swap" in handling and cohort in pool:
            ways.append((f"{second} kept", "", ""))
            ways.append((f"{first} for {second}", other, cohort))
        if ways:
            options.append(ways)
    found = []
    for combination in product(*options):
        out = {gone for _, gone, _ in combination if gone}
        rows = evidence.rows[~evidence.rows["cohort"].isin(out)]
        added = [pool[cohort] for _, _, cohort in combination if cohort]
        changed = pd.concat([rows, *added], ignore_index=True)
        words = "; ".join(said for said, _, _ in combination) or "no overlap"
        found.append((words, Evidence(**vars(evidence) | {"rows": changed})))
    return found


def _pairs(evidence: Evidence) -> list[tuple[str, str, str]]:
    table = evidence.all_overlaps
    return list(zip(table["cohort"], table["other_cohort"], table["handling"], strict=True))


def multiverse(
    outcome: str = "objective_response",
    *,
    evidence_sets: Iterable[str] = EVIDENCE_SETS,
    rules: Iterable[NotEvaluable] = RULES,
    taus: Mapping[str, Prior] = PRIORS_OF_TAU,
    mus: Mapping[str, Normal] = PRIORS_OF_MU,
    effects: Mapping[str, Effects] = EFFECTS,
) -> Multiverse:
    """Fit every combination of choices exactly.

    Parameters
    ----------
    outcome : str
    evidence_sets, rules : iterable of str
    taus, mus, effects : mapping of str to Prior, Normal and Effects

    Returns
    -------
    Multiverse

    Raises
    ------
    DfspError
        A set or an outcome that is not known, or no combination makes sense.
    """
    tables, left_out = _tables(outcome, [load_evidence(name) for name in evidence_sets], rules)
    if not tables:
        raise DfspError(f"no combination of choices can count {outcome}")
    distinct = list(dict.fromkeys(counts for *_, counts in tables))
    known: dict[tuple[_Counts, str, str, str], list[float]] = {}
    sharing: dict[tuple[str, float, bool], list[str]] = {}
    for effect, kind in effects.items():
        if isinstance(kind, BetaBinomial):
            reason = f"{effect} effects have no tau and mu: one analysis for all priors of these"
            left_out.append(["every", "every", "every", reason])
            continue
        for name, prior in taus.items():
            # Priors that end at the same place, and have tails alike, share a grid.
            key = (effect, prior.upper, bool(np.isfinite(prior.tail_power)))
            sharing.setdefault(key, []).append(name)

    def share(item: tuple[tuple[str, float, bool], list[str]]) -> None:
        (effect, *_), names = item
        chosen = {name: taus[name] for name in names}
        found = _share(distinct, effects[effect], chosen, mus)
        known.update({(counts, tau, mu, effect): each for (counts, tau, mu), each in found})

    with ThreadPoolExecutor() as pool:
        list(pool.map(share, sharing.items()))
    rows: list[list[object]] = []
    for *choices, counts in tables:
        events, total = np.array(counts).T
        sums = [len(counts), int(events.sum()), int(total.sum())]
        for effect, kind in effects.items():
            if isinstance(kind, BetaBinomial):
                only = (counts, NO_PRIOR, NO_PRIOR, effect)
                if only not in known:
                    known[only] = _numbers(solve(events, total, Model(effects=kind)))
                rows.append([*choices, *only[1:], *sums, *known[only]])
                continue
            for tau, mu in product(taus, mus):
                rows.append([*choices, tau, mu, effect, *sums, *known[counts, tau, mu, effect]])
    numbers = [
        f"{name}{end}" for name in ("typical", "mean", "new") for end in ("", "_low", "_high")
    ]
    columns = [*CHOICES, "studies", "events", "total", *numbers, "tau_median"]
    reasons = pd.DataFrame(
        left_out, columns=["evidence_set", "overlap", "not_evaluable", "reason"], dtype="str"
    )
    return Multiverse(pd.DataFrame(rows, columns=columns), reasons)


def _tables(
    outcome: str, evidences: list[Evidence], rules: Iterable[NotEvaluable]
) -> tuple[list[tuple[str, str, str, _Counts]], list[list[str]]]:
    """Return the counts of every choice of studies and rule, and what cannot be counted."""
    pool: dict[str, pd.DataFrame] = {}
    for evidence in evidences:
        responses = evidence.rows[evidence.rows["measure"] == "response"]
        for cohort, of_cohort in responses.groupby("cohort", sort=False):
            pool.setdefault(str(cohort), of_cohort)
    tables: list[tuple[str, str, str, _Counts]] = []
    left_out: list[list[str]] = []
    rules = list(rules)
    for evidence in evidences:
        options = [(words, changed.rows) for words, changed in overlap_options(evidence, pool)]
        # A cohort is counted in the same way whatever the others are: all once for each rule.
        rows = pd.concat([each for _, each in options], ignore_index=True).drop_duplicates()
        whole = Evidence(**vars(evidence) | {"rows": rows})
        for rule in rules:
            try:
                counted = count(whole, outcome, not_evaluable=rule).table
            except DfspError as error:
                reason = str(error).splitlines()[0]
                left_out += [[evidence.name, words, rule, reason] for words, _ in options]
                continue
            pairs_of = {
                cohort: (events, total)
                for cohort, events, total in zip(
                    counted["cohort"], counted["events"].to_list(), counted["total"].to_list(),
                    strict=True,
                )
            }  # fmt: skip
            for words, each in options:
                pairs = [pairs_of[c] for c in each["cohort"].unique() if c in pairs_of]
                if pairs:
                    tables.append((evidence.name, words, rule, tuple(sorted(pairs))))
                else:
                    left_out.append([evidence.name, words, rule, "no cohort is left to count"])
    return tables, left_out


def _share(
    distinct: list[_Counts], effects: Effects, taus: Mapping[str, Prior], mus: Mapping[str, Normal]
) -> Iterator[tuple[tuple[_Counts, str, str], list[float]]]:
    """Analyse all counts under all priors on one grid, by themselves where it is too coarse."""
    studies = sorted({pair for counts in distinct for pair in counts})
    times = np.array([[counts.count(pair) for pair in studies] for counts in distinct], float)
    choices = list(product(taus, mus))
    pairs = np.array(studies, float)
    priors = list(mus.values()), list(taus.values())
    grid = SharedGrid(pairs[:, 0], pairs[:, 1], effects, *priors)
    found = grid.solve(
        np.repeat(times, len(choices), axis=0),
        [(mus[mu], taus[tau]) for tau, mu in choices] * len(distinct),
    )
    numbers = np.column_stack([found.typical, found.mean, found.new, found.tau]).tolist()
    for i, (counts, (tau, mu)) in enumerate(product(distinct, choices)):
        if not found.resolved[i]:
            model = Model(mus[mu], taus[tau], effects)
            events, total = np.array(counts).T
            numbers[i] = _numbers(solve(events, total, model))
        yield (counts, tau, mu), numbers[i]


def _numbers(posterior: Posterior) -> list[float]:
    typical, new = (
        posterior.typical_rate.quantile([0.5, 0.025, 0.975]),
        posterior.new_study_rate.quantile([0.5, 0.025, 0.975]),
    )
    ends = posterior.mean_rate.quantile([0.025, 0.975])
    tau = float(posterior.tau.quantile(0.5)[0])
    return [*typical, posterior.mean_rate.mean, *ends, *new, tau]


def which_choice_matters(result: Multiverse, quantity: str = "typical") -> "pd.Series[float]":
    """Return for each choice the share of the variance between analyses that it explains alone.

    Shares need not add up to one: choices interact, and an evidence set limits its overlaps.
    """
    table = result.table.dropna(subset=quantity)
    values = table[quantity]
    whole = float(values.var(ddof=0))
    shares = {
        choice: float(
            values.groupby(table[choice]).transform("mean").var(ddof=0) / whole
        ) if whole else 0.0
        for choice in CHOICES if table[choice].nunique() > 1
    }  # fmt: skip
    return pd.Series(shares, name="share of variance").sort_values(ascending=False)


def share_above(result: Multiverse, threshold: float, quantity: str = "typical") -> float:
    """Return the share of analyses whose 95 % interval lies above a rate: no probability.

    Raises
    ------
    DfspError
        The threshold lies outside (0, 1).
    """
    if not 0 < threshold < 1:
        raise DfspError(f"threshold = {threshold!r}; give a rate between 0 and 1")
    return float((result.table[f"{quantity}_low"].dropna() > threshold).mean())


def describe_multiverse(result: Multiverse, threshold: float = 0.4) -> str:
    """Say how far the answer moves, which choice moves it most, and what all analyses share."""
    table = result.table
    shares = which_choice_matters(result)
    first = (
        f"the choice that explains most of the differences is {shares.index[0].replace('_', ' ')} "
        f"({100 * shares.iloc[0]:.0f} % of their variance)"
        if len(shares) else "no choice varies"
    )  # fmt: skip
    return (
        f"{len(table)} analyses: the typical rate lies between {100 * table['typical'].min():.1f} "
        f"and {100 * table['typical'].max():.1f} %, the mean rate between "
        f"{100 * table['mean'].min():.1f} and {100 * table['mean'].max():.1f} %; {first}. In "
        f"{100 * share_above(result, threshold):.0f} % of the analyses the whole interval of the "
        f"typical rate lies above {100 * threshold:.0f} %: a share of analyses, not a probability."
    )
