"""Every defensible analysis at once: which choices were made, and which of them matter.

The dimensions are data (`dfsp.analyses.dimensions`): a line more is a choice more. Overlapping
cohorts are handled in each way that `overlaps.csv` allows (`dfsp.evidence.overlaps`).
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dfsp.analyses.dimensions import (
    DOES_NOT_ARISE,
    EFFECTS,
    PRIORS_OF_MU,
    PRIORS_OF_TAU,
    RULES,
    Dimension,
    combine,
    model_dimensions,
)
from dfsp.constants import ENDS, MEDIAN_AND_ENDS
from dfsp.engine.many import SharedGrid
from dfsp.engine.posterior import Posterior, solve
from dfsp.errors import DfspError
from dfsp.evidence.files import read_cells
from dfsp.evidence.load import OUTCOMES, load_evidence
from dfsp.evidence.outcomes import NotEvaluable, count
from dfsp.evidence.overlaps import Option, overlap_options
from dfsp.evidence.tables import Counts, without
from dfsp.model.effects import Effects
from dfsp.model.model import Model
from dfsp.model.priors import Normal, Prior
from dfsp.project import data_folder
from dfsp.rates import PERCENT, Unit, unit_named
from dfsp.text import Result, Sentences, Table, table_of
from dfsp.yardsticks import threshold_for

__all__ = ["EFFECTS", "PRIORS_OF_MU", "PRIORS_OF_TAU", "RULES", "Dimension", "Multiverse", "fit"]


def __dir__() -> list[str]:
    return __all__


EVERY = "every"
RATES = {"typical": "typical rate", "mean": "mean rate", "new": "new-study rate"}
TITLES = {
    "evidence_set": "evidence set",
    "not_evaluable": "patients not evaluable",
    "effects": "study effects",
    "tau": "prior of tau",
    "mu": "prior of mu",
}
"""How choices are called; any other by its own name."""
_NUMBERS = [f"{name}{end}" for name in RATES for end in ("", "_low", "_high")]
_SIZES = ["studies", "events", "total", "dropped"]
_Pairs = tuple[tuple[int, int], ...]
_Tables = list[tuple[dict[str, str], Counts]]
_Refuse = Callable[[str, str, str, str], None]


@dataclass(frozen=True, eq=False, repr=False)
class Multiverse(Result):
    """All analyses, one a row.

    Attributes
    ----------
    table : pandas.DataFrame
        A column a choice; `studies`, `events`, `total`, `dropped` (cohorts that the choices keep
        and the rule cannot count), and of `typical`, `mean`, `new` (median; of the mean rate the
        mean) with `_low` and `_high` (rate scale), `tau` median as `tau_median`.
        Beta-binomial effects have no typical rate and tau (NaN), and no priors of these.
    choices : tuple of str
        The columns of the choices: the evidence set, each pair of cohorts that may share patients,
        the rule for patients not evaluable, further dimensions of the counts, effects, priors of
        tau and mu, and further dimensions of the model.
    pairs : tuple of str
        Those of them that are pairs of cohorts.
    left_out : pandas.DataFrame
        `evidence_set`, `choice`, `not_evaluable`, `reason`.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.multiverse.fit(table, effects={"normal": dfsp.NormalEffects()})
    >>> result.choices, len(result.table)
    (('effects', 'tau', 'mu'), 18)
    >>> result.share_above(0.1)
    1.0
    """

    table: pd.DataFrame
    choices: tuple[str, ...]
    pairs: tuple[str, ...]
    left_out: pd.DataFrame
    unit: Unit = PERCENT

    @property
    def central(self) -> str:
        """The quantity to speak of: "typical", or "mean" if no analysis has a typical rate."""
        return "typical" if self.table["typical"].notna().any() else "mean"

    def describe(self, threshold: float | None = None, *, within: str = "") -> Sentences:
        """Say how far the answer moves, which choice moves it most, and what all analyses share.

        Parameters
        ----------
        threshold : float, optional
            A rate; by default 40 %, or what suits a rate below 10 or above 90 %.
        within : str
            An evidence set for which it is said too which choice moves the answer most.
        """
        table, quantity = self.table, self.central
        ranges = []
        for name in dict.fromkeys((quantity, "mean")):
            low, high = self.unit.numbers(table[name].min(), table[name].max())
            lies = "lies " if name == quantity else ""
            ranges.append(f"{RATES[name]} {lies}between {low} and {high} {self.unit.sign}")
        said = [self._most(quantity, "")]
        if within:
            said.append(self._most(quantity, within))
        if threshold is None:
            threshold = threshold_for(float(table[quantity].median()))
        number = int(table[quantity].notna().sum())
        analyses = "analyses"
        if number < len(table):
            analyses = f"{number} analyses that have a typical rate"
        return Sentences(
            f"{len(table)} analyses: the {', the '.join(ranges)}. {' '.join(said)} In "
            f"{100 * self.share_above(threshold, quantity):.0f} % of the {analyses} the whole "
            f"interval of the {RATES[quantity]} lies above {self.unit.chosen(threshold)}: a "
            "share of analyses, not a probability."
        )

    def choices_that_matter(self, quantity: str = "typical", *, within: str = "") -> Table:
        """Return for each choice the share of the variance that lies between its levels alone.

        Analyses are compared that agree in all other choices. An evidence set has overlaps of its
        own: sets are compared by their means over these. Shares need not add up to one, since
        choices interact and not all combinations exist.

        Parameters
        ----------
        quantity : {"typical", "mean", "new"}
        within : str
            An evidence set whose analyses alone are looked at; all of them if empty.

        Returns
        -------
        Table
            Indexed by `choice`, the largest `share_of_variance` first.

        Raises
        ------
        DfspError
            A quantity that is not known, or a set without analyses.
        """
        _require_quantity(quantity)
        table = self.table
        if within:
            if "evidence_set" not in table or within not in set(table["evidence_set"]):
                raise DfspError(f"within = {within!r}: no analysis is of this evidence set")
            table = table[table["evidence_set"] == within]
        table = table.dropna(subset=quantity)
        whole = float(table[quantity].var(ddof=0))
        shares = {}
        for choice in self.choices:
            if table[choice].nunique() > 1:
                others = [each for each in self.choices if each != choice]
                values = table[quantity]
                if choice == "evidence_set":
                    others = [each for each in others if each not in self.pairs]
                    values = _means(table, values, [choice, *others])
                alone = ((values - _means(table, values, others)) ** 2).mean()
                shares[choice] = float(alone / whole) if whole else 0.0
        found = pd.Series(shares, name="share_of_variance", dtype=float).rename_axis("choice")
        return table_of(found.sort_values(ascending=False).to_frame(), digits=3)

    def share_above(self, threshold: float, quantity: str = "typical") -> float:
        """Return the share of analyses whose 95 % interval lies above a rate: no probability.

        Of the analyses that have the quantity.

        Raises
        ------
        DfspError
            The threshold lies outside (0, 1), or a quantity that is not known.
        """
        _require_quantity(quantity)
        if not 0 < threshold < 1:
            raise DfspError(f"threshold = {threshold!r}; give a rate between 0 and 1")
        return float((self.table[f"{quantity}_low"].dropna() > threshold).mean())

    def without_sense(self) -> Sentences:
        """Say which combinations make no sense, and why, one a line."""
        lines = [
            f"set {row.evidence_set}; {row.choice}; not evaluable {row.not_evaluable}: {row.reason}"
            for row in self.left_out.itertuples()
        ]
        return Sentences("\n".join(lines) or "none")

    def _most(self, quantity: str, within: str) -> str:
        where = f"Of the analyses of {within!r}" if within else "Of all analyses"
        shares = self.choices_that_matter(quantity, within=within)["share_of_variance"]
        if shares.empty:
            return f"{where} no choice varies."
        choice = str(shares.idxmax())
        return (
            f"{where} the choice that matters most is {TITLES.get(choice, choice)}: between those "
            f"that differ in nothing else lies {100 * shares.max():.0f} % of the variance."
        )


def fit(
    outcome: str | Counts | pd.DataFrame = "objective_response",
    *,
    evidence_sets: Iterable[str] | None = None,
    rules: Iterable[NotEvaluable] = RULES,
    effects: Mapping[str, Effects] = EFFECTS,
    taus: Mapping[str, Prior] = PRIORS_OF_TAU,
    mus: Mapping[str, Normal] = PRIORS_OF_MU,
    further: Iterable[Dimension] = (),
    folder: str | Path | None = None,
    unit: str = "",
) -> Multiverse:
    """Fit every combination of choices exactly.

    Parameters
    ----------
    outcome : str, Counts or pandas.DataFrame
        One of `dfsp.OUTCOMES`; or a table of counts, whose analyses differ in the model only.
    evidence_sets : iterable of str, optional
        All sets of the folder if not given.
    rules : iterable of str
        What patients not evaluable count as. A rule that counts as another does is left out.
    effects, taus, mus : mapping of str to Effects, Prior and Normal
        By the name that the tables show.
    further : iterable of Dimension
        Choices of one's own.
    folder : str or Path, optional
        As in `load_evidence`.
    unit : str
        Name of the unit in which rates are said; by default that of the first counts.

    Returns
    -------
    Multiverse

    Raises
    ------
    DfspError
        An option that is not known, or no combination makes sense.

    See Also
    --------
    dfsp.sensitivity.prior_grid : Priors alone, with what they say before the counts.
    dfsp.plots.specifications : The picture of all analyses.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fit(table, effects={"normal": dfsp.NormalEffects()}).choices_that_matter()
           share_of_variance
    choice
    mu                 0.993
    tau                0.027
    """
    further = list(further)
    reasons: dict[tuple[str, str, str, str], None] = {}

    def refuse(evidence_set: str, choice: str, rule: str, reason: str) -> None:
        reasons[evidence_set, choice, rule, reason] = None

    def refuse_model(level: str, error: DfspError) -> None:
        refuse(EVERY, level, EVERY, str(error).splitlines()[0])

    of_model = [*model_dimensions(effects, taus, mus), *(d for d in further if d.of == "model")]
    models = combine(Model(), of_model, refuse_model)
    of_counts = [dimension for dimension in further if dimension.of == "counts"]
    pairs: tuple[str, ...] = ()
    if not isinstance(outcome, str):
        outcome = Counts.of(outcome)
        tables: _Tables = [({}, outcome)]
    else:
        tables, pairs = _tables(outcome, evidence_sets, rules, folder, refuse)
    tables = [each for table in tables for each in _further(*table, of_counts, refuse)]
    for labels, model in models:
        if model.effects.own_priors:
            reason = "no tau and mu: one analysis for all priors of these"
            refuse(EVERY, f"effects: {labels['effects']}", EVERY, reason)
    left_out = pd.DataFrame(
        list(reasons), columns=["evidence_set", "choice", "not_evaluable", "reason"], dtype="str"
    )
    if not tables:
        said = "; ".join(left_out["reason"].unique())
        name = outcome if isinstance(outcome, str) else outcome.label
        raise DfspError(f"no combination of choices can count {name}: {said}")
    pairs_of = [_pairs(counts) for _, counts in tables]
    known = _analyses(pairs_of, [model for _, model in models])
    choices = list(dict.fromkeys(name for choice, _ in [*tables, *models] for name in choice))
    numbers = [*_NUMBERS, "tau_median"]
    rows = []
    for (of_counts_, counts), pairs_ in zip(tables, pairs_of, strict=True):
        size = {
            "studies": len(counts.table),
            "events": int(counts.table["events"].sum()),
            "total": int(counts.table["total"].sum()),
            "dropped": "; ".join(counts.dropped["study"]),
        }
        for labels, model in models:
            found = dict(zip(numbers, known[pairs_, model], strict=True))
            rows.append({**labels, **of_counts_, **size, **found})
    table = pd.DataFrame(rows, columns=[*choices, *_SIZES, *_NUMBERS, "tau_median"])
    table[choices] = table[choices].fillna(DOES_NOT_ARISE)
    said_in = unit_named(unit or tables[0][1].unit)
    return Multiverse(table, tuple(choices), pairs, left_out, said_in)


def _tables(
    outcome: str,
    evidence_sets: Iterable[str] | None,
    rules: Iterable[NotEvaluable],
    folder: str | Path | None,
    refuse: _Refuse,
) -> tuple[_Tables, tuple[str, ...]]:
    """Return the counts of every choice of studies and rule, and the pairs that overlap."""
    chosen_rules = _known("rules", rules, RULES)
    if outcome not in OUTCOMES:
        known = ", ".join(OUTCOMES)
        raise DfspError(f"outcome {outcome!r} is not known; use Counts or one of {known}")
    measure = OUTCOMES[outcome].measure
    names = _sets(folder)
    chosen = names if evidence_sets is None else _known("evidence_sets", evidence_sets, names)
    # All sets of the folder, since what is swapped in may be in none of the chosen.
    sets = {name: load_evidence(name, folder=folder) for name in names}
    pool: dict[str, pd.DataFrame] = {}
    for evidence in sets.values():
        of_measure = evidence.rows[evidence.rows["measure"] == measure]
        for cohort, rows in of_measure.groupby("cohort", sort=False):
            pool.setdefault(str(cohort), rows)
    tables: _Tables = []
    pairs: dict[str, None] = {}
    for name in chosen:
        if not (sets[name].rows["measure"] == measure).any():
            refuse(name, EVERY, EVERY, f"no cohort has counts of {measure.replace('_', ' ')}")
            continue
        options, missing = overlap_options(sets[name], measure, pool)
        for words, reason in missing.items():
            refuse(name, words, EVERY, reason)
        of_set = _of_set(outcome, options, chosen_rules, refuse)
        tables += of_set
        if of_set:
            pairs |= dict.fromkeys(options[0].handled)
    order = ["evidence_set", *pairs, "not_evaluable"]
    filled = [
        ({name: labels.get(name, DOES_NOT_ARISE) for name in order}, counts)
        for labels, counts in tables
    ]
    return filled, tuple(pairs)


def _of_set(outcome: str, options: list[Option], rules: list[str], refuse: _Refuse) -> _Tables:
    """Return the counts of every way to handle the overlaps of one set, under every rule."""
    # A cohort is counted in the same way whatever the others are: all once for each rule.
    rows = pd.concat([option.evidence.rows for option in options], ignore_index=True)
    whole = replace(options[0].evidence, rows=rows.drop_duplicates())
    tables: _Tables = []
    counted: dict[str, Counts] = {}
    failed: dict[str, str] = {}
    for rule in rules:
        try:
            counts = count(whole, outcome, not_evaluable=rule)  # type: ignore[arg-type]
        except DfspError as error:
            failed[rule] = "; ".join(line.strip() for line in str(error).splitlines()[1:])
            continue
        same = [other for other, each in counted.items() if _alike(counts, each)]
        if same:
            reason = f"no patient is without an evaluation: counts as under {same[0]}"
            refuse(whole.name, EVERY, rule, reason)
            continue
        counted[rule] = counts
        for option in options:
            tables += _of_option(option, counts, refuse)
    if len(set(failed.values())) == 1 and len(failed) == len(rules):
        failed = {EVERY: failed[rules[0]]}
    for rule, reason in failed.items():
        refuse(whole.name, EVERY, rule, f"no cohort can be counted: {reason}")
    return tables


def _of_option(option: Option, counts: Counts, refuse: _Refuse) -> _Tables:
    """Return the counts of one way to handle the overlaps, if all that it keeps is counted."""
    cohorts = set(option.evidence.rows["cohort"])
    labels = option.evidence.cohorts.set_index("cohort")["label"]
    reasons = dict(zip(counts.dropped["study"], counts.dropped["reason"], strict=True))
    rule = counts.not_evaluable
    uncounted = [
        (pair, study) for pair, kept in option.kept.items() for study in kept if study in reasons
    ]
    for pair, study in uncounted:
        said = f"{study} cannot be counted under {rule}: {reasons[study]}"
        refuse(counts.evidence_set, f"{pair}: {option.handled[pair]}", rule, said)
    if uncounted:
        return []
    table = counts.table
    gone = table.loc[~table["cohort"].isin(cohorts), "study"]
    if len(gone) == len(table):
        refuse(counts.evidence_set, _words(option.handled), rule, "no cohort is left to count")
        return []
    members = {labels[cohort] for cohort in cohorts}
    rest = without(counts, gone)
    dropped = counts.dropped[counts.dropped["study"].isin(members)].reset_index(drop=True)
    choice = {"evidence_set": counts.evidence_set, **option.handled, "not_evaluable": rule}
    return [(choice, replace(rest, dropped=dropped))]


def _further(
    choice: dict[str, str], counts: Counts, dimensions: list[Dimension], refuse: _Refuse
) -> _Tables:
    """Return what further dimensions make of one table of counts."""

    def refuse_level(level: str, error: DfspError) -> None:
        where = choice.get("evidence_set", EVERY), level, choice.get("not_evaluable", EVERY)
        refuse(*where, str(error).splitlines()[0])

    return [
        ({**choice, **labels}, changed)
        for labels, changed in combine(counts, dimensions, refuse_level)
    ]


def _words(handled: Mapping[str, str]) -> str:
    return "; ".join(f"{pair}: {words}" for pair, words in handled.items()) or "no overlap"


def _alike(counts: Counts, other: Counts) -> bool:
    columns = ["cohort", "events", "total"]
    return counts.table[columns].equals(other.table[columns])


def _known(name: str, given: object, known: Iterable[str]) -> list[str]:
    """Return a text or several as a list without repetitions, all of them known."""
    known = list(known)
    values = [given] if isinstance(given, str) else given
    listed = list(dict.fromkeys(values)) if isinstance(values, Iterable) else []
    unknown = [value for value in listed if value not in known]
    if unknown or not listed:
        raise DfspError(f"{name} = {unknown or given!r}; use one or more of {', '.join(known)}")
    return listed


def _sets(folder: str | Path | None) -> list[str]:
    """Return the names of the evidence sets of a folder."""
    file = (data_folder() if folder is None else Path(folder)) / "evidence_sets.csv"
    try:
        table, *_ = read_cells(file.read_bytes())
        return list(table["evidence_set"].unique())
    except OSError as error:
        raise DfspError(f"{file}: the file cannot be read ({error.strerror})") from None
    except KeyError:
        raise DfspError(f"{file}: the column 'evidence_set' is missing") from None


def _pairs(counts: Counts) -> _Pairs:
    table = counts.table
    return tuple(sorted(zip(table["events"].to_list(), table["total"].to_list(), strict=True)))


def _analyses(tables: list[_Pairs], models: list[Model]) -> dict[tuple[_Pairs, Model], list[float]]:
    """Fit all counts with all models, those that can share a grid on one."""
    distinct = list(dict.fromkeys(tables))
    sharing: dict[tuple[object, ...], list[Model]] = {}
    for model in dict.fromkeys(models):
        # Priors that end at the same place, and have tails alike, share a grid.
        prior = model.spread_prior
        key = (model.effects, prior.upper, bool(np.isfinite(prior.tail_power)))
        sharing.setdefault(key, []).append(model)
    # Effects that take longest start first, so that the cores end together: those that give mu
    # several modes, and of these, and of the others, those with heavy tails
    groups = sorted(
        sharing.values(),
        key=lambda group: (group[0].effects.several_modes, group[0].effects.reach),
        reverse=True,
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda group: _share(distinct, group), groups)
    return {key: numbers for each in found for key, numbers in each.items()}


def _share(distinct: list[_Pairs], models: list[Model]) -> dict[tuple[_Pairs, Model], list[float]]:
    """Analyse all counts with all models on one grid, by themselves where it is too coarse."""
    studies = sorted({pair for counts in distinct for pair in counts})
    times = np.array([[counts.count(pair) for pair in studies] for counts in distinct], float)
    events, total = np.array(studies, float).T
    grid = SharedGrid(events, total, models)
    which = np.tile(np.arange(len(models)), len(distinct))
    found = grid.solve(np.repeat(times, len(models), axis=0), which)
    keys = [(counts, model) for counts in distinct for model in models]
    numbers = np.column_stack([found.typical, found.mean, found.new, found.tau]).tolist()
    for i in np.flatnonzero(~found.resolved):
        counts, model = keys[i]
        events, total = np.array(counts).T
        model.require_tail(events, total)
        numbers[i] = _numbers(solve(events, total, model))
    return dict(zip(keys, numbers, strict=True))


def _numbers(posterior: Posterior) -> list[float]:
    typical, new = (
        posterior.typical_rate.quantile(MEDIAN_AND_ENDS),
        posterior.new_study_rate.quantile(MEDIAN_AND_ENDS),
    )
    ends = posterior.mean_rate.quantile(ENDS)
    tau = float(posterior.tau.quantile(0.5)[0])
    return [*typical, posterior.mean_rate.mean, *ends, *new, tau]


def _means(table: pd.DataFrame, values: "pd.Series[float]", by: list[str]) -> "pd.Series[float]":
    if not by:
        return pd.Series(values.mean(), index=values.index)
    return values.groupby([table[each] for each in by]).transform("mean")


def _require_quantity(quantity: str) -> None:
    if quantity not in RATES:
        raise DfspError(f"quantity = {quantity!r}; use one of {', '.join(RATES)}")
