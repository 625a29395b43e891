"""Many tables in one: a fit for each value of a column, in one table.

What a table shows of each group is computed from its posterior; everything else that a fit knows
waits until it is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, ENDS, SEED, STATISTICS
from dfsp.engine.borrowing import Between
from dfsp.engine.borrowing import borrow as borrow_means
from dfsp.engine.distributions import summaries
from dfsp.engine.groups import solve_together
from dfsp.engine.posterior import Posterior
from dfsp.engine.powers import power_scaling
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts, check_tables, unit_of_tables
from dfsp.fitting import (
    CLUSTER,
    NAMES,
    RATES,
    TINY,
    Engine,
    Fit,
    check_threshold,
    exact_fit,
    posterior_of,
    resolved,
)
from dfsp.fitting import fit as fit_one
from dfsp.model.model import Model
from dfsp.model.priors import HalfNormal
from dfsp.prior_words import decisive_priors, expected_rates
from dfsp.rates import INTERVAL, Unit, stands_for
from dfsp.text import Result, Sentences, Table, as_option, chance, table_of

Array = npt.NDArray[np.float64]


class _Fits(Mapping[str, Fit]):
    """The exact fits of groups, each made when it is first asked for."""

    def __init__(
        self, counts: Mapping[str, Counts], model: Model, posteriors: Mapping[str, Posterior]
    ) -> None:
        self._counts, self._model, self._posteriors = counts, model, posteriors
        self._made: dict[str, Fit] = {}

    def __getitem__(self, group: str) -> Fit:
        if group not in self._made:
            parts = self._counts[group], self._model, self._posteriors[group]
            self._made[group] = exact_fit(*parts)
        return self._made[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


@dataclass(frozen=True, eq=False, repr=False)
class FitBy(Result):
    """Fits of several tables, one for each value of a column.

    Attributes
    ----------
    by : str
        The column.
    counts : mapping of str to Counts
        By value.
    model : Model
    engine : {"exact", "nuts", "both"}
    fits : mapping of str to Fit
        By value.
    posteriors : mapping of str to Posterior
        Of the exact engine; empty without it.
    of_model : tuple of Check
        Checks of the model, which all tables have.
    common : float or None
        Where the tables have one tau in common, the log marginal likelihood of all of them.
    between : Between or None
        Where their means borrow from each other, what is known of all of these together: M, T, the
        rate of one more table, and how probably each table is one of those that borrow.

    See Also
    --------
    fit_by : Makes one.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = {"study": list("ABCD"), "events": [3, 8, 5, 2], "total": [10, 20, 19, 9]}
    >>> result = dfsp.fit_by(pd.DataFrame(table | {"drug": list("xxyy")}), by="drug")
    >>> result.above(0.2)["typical_rate"].round(3).to_dict()
    {'x': 0.926, 'y': 0.715}
    """

    by: str
    counts: Mapping[str, Counts]
    model: Model
    engine: Engine
    fits: Mapping[str, Fit]
    posteriors: Mapping[str, Posterior]
    of_model: tuple[Check, ...] = ()
    common: float | None = None
    between: Between | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def table(self) -> Table:
        """One row a group: its counts, and what its studies together find.

        Columns: `studies`, `events`, `total`; `mean_rate` (mean, or the median of a skewed
        posterior); `typical_rate`, `low` and `high` (median and interval); `new_low` and
        `new_high`, the interval of a new study's rate; `tau` (median, logit scale). With
        beta-binomial effects the median and interval are those of the mean rate, and the
        concentration's median stands for tau. Where rows belong together,
        `groups` counts them, `studies` their clusters, and `sigma` is the total of both parts.
        Where tables borrow, `exchangeable` is how probably each does.
        """
        counted = map(_counted, self.counts.values())
        rows = [{**own, **found} for own, found in zip(counted, self._found, strict=True)]
        index = pd.Index(list(self.counts), name=self.by)
        table = table_of(rows, rates=True, index=index)
        return table if self.between is None else table.assign(exchangeable=self._exchangeable)

    @cached_property
    def _exchangeable(self) -> list[float]:
        """How probably each group borrows."""
        return [] if self.between is None else self.between.exchangeable.tolist()

    @property
    def _found(self) -> list[dict[str, float]]:
        """What the table shows of each group's posterior."""
        centre, spread = self.model.effects.centre, self.model.effects.spread
        # One quantity after the other of all groups, which takes less time than group by group
        rate, mean, new, scatter = (
            [dict(zip(STATISTICS, row, strict=True)) for row in self._numbers(name)]
            for name in (centre, "mean_rate", "new_study_rate", spread)
        )
        found = [
            {
                "mean_rate": m[stands_for(m)],
                centre: r["q50"], "low": r["q2.5"], "high": r["q97.5"],
                "new_low": n["q2.5"], "new_high": n["q97.5"], spread: s["q50"],
            }
            for r, m, n, s in zip(rate, mean, new, scatter, strict=True)
        ]  # fmt: skip
        if self.clustered:
            for row, fit in zip(found, self.fits.values(), strict=True):
                row["sigma"] = fit.summary.at["sigma", "q50"]
        return found

    def _numbers(self, name: str) -> list[Array]:
        """Return the summary of a quantity of each group's posterior."""
        if not self.posteriors:
            return [self.fits[group].numbers[name] for group in self.counts]
        return summaries([getattr(self.posteriors[group], name) for group in self.counts])

    @property
    def clustered(self) -> bool:
        """Whether rows belong together: tau is between studies then, and sigma between all rows."""
        return any(CLUSTER in counts.columns for counts in self.counts.values())

    def above(self, rate: float) -> Table:
        """Return how probably the rates of each group exceed one.

        Parameters
        ----------
        rate : float
            Strictly between 0 and 1.

        Returns
        -------
        Table
            One row a group: the probability of its typical, its mean and its new-study rate.
        """
        check_threshold(rate)
        names = [name for name in RATES if name in self.model.quantities]
        rows = [
            [getattr(self.posteriors[group], name).prob_above(rate) for name in names]
            if group in self.posteriors
            else [self.fits[group].above(rate).population[name] for name in names]
            for group in self.counts
        ]
        found = np.clip(np.array(rows), TINY, 1 - TINY)
        index = pd.Index(list(self.counts), name=self.by)
        return table_of(found, rates=True, index=index, columns=names)

    @cached_property
    def unit(self) -> Unit:
        """In which rates are said: that of every table, or where they differ of all together."""
        return unit_of_tables(self.counts.values())

    @property
    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the counts of all tables.

        With one tau in common, or means that borrow, and without: the difference says which of the
        two expects them more.
        """
        if self.common is not None:
            return self.common
        if self.between is not None:
            return self.between.population.log_marginal_likelihood
        return float(sum(each.log_marginal_likelihood for each in self.posteriors.values()))

    @property
    def checks(self) -> dict[str, tuple[Check, ...]]:
        """The checks of each group."""
        if self.engine != "exact" or self.clustered:
            return {group: (*fit.checks, *self.of_model) for group, fit in self.fits.items()}
        posteriors = self.posteriors.items()
        return {group: (resolved(each), *self.of_model) for group, each in posteriors}

    # What people ask of one fit, of each

    def each(self, ask: Callable[[Fit], pd.DataFrame]) -> Table:
        """Return what the fit of every group says, one table below the other.

        Parameters
        ----------
        ask : callable
            What is asked of a fit, such as `Fit.predictive_check`.

        Returns
        -------
        Table
            A column of the groups, by its name, and those of what was asked.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = {"study": list("ABCD"), "events": [3, 8, 5, 2], "total": [10, 20, 19, 9]}
        >>> result = dfsp.fit_by(pd.DataFrame(table | {"drug": list("xxyy")}), by="drug")
        >>> result.each(dfsp.Fit.leave_one_out)[["drug", "left_out", "typical_rate"]]
        drug left_out typical_rate
           x        A       0.4101
           x        B       0.3250
           y        C       0.2586
           y        D       0.2868
        """
        return self._below({group: ask(fit) for group, fit in self.fits.items()})

    def _below(self, found: Mapping[str, pd.DataFrame]) -> Table:
        """Return the tables of some groups below each other."""
        parts = []
        for group, own in found.items():
            numbered = isinstance(own.index, pd.RangeIndex)
            named = own.rename_axis(index=str(own.index.name or "")).reset_index(drop=numbered)
            named.insert(0, self.by, group, allow_duplicates=True)
            parts.append(named)
        first = next(iter(found.values()))
        how = {name: getattr(first, name) for name in ("digits", "formats", "rates")}
        return table_of(pd.concat(parts, ignore_index=True), **how)

    def _says(self, ask: Callable[[Fit], Result]) -> Sentences:
        """Return what the fit of every group says, a paragraph each."""
        found = {group: ask(fit).describe() for group, fit in self.fits.items()}
        return Sentences("\n".join(f"{group}: {said}" for group, said in found.items()))

    @property
    def summary(self) -> Table:
        """`Fit.summary` of each group."""
        return self.each(lambda fit: fit.summary)

    def summary_in_unit(self) -> Table:
        """Return `Fit.summary_in_unit` of each group, in the unit of all."""
        unit = self.unit.name
        return self.each(
            lambda fit: replace(fit, counts=replace(fit.counts, unit=unit)).summary_in_unit()
        )

    @property
    def studies(self) -> Table:
        """`Fit.studies` of each group."""
        return self.each(lambda fit: fit.studies.copy())

    def pooled(self) -> Table:
        """Return `Counts.pooled` of each group."""
        return self._below({group: each.pooled() for group, each in self.counts.items()})

    def predictive_check(self) -> Table:
        """Return `Fit.predictive_check` of each group."""
        return self.each(Fit.predictive_check)

    def leave_one_out(self) -> Table:
        """Return `Fit.leave_one_out` of each group of two studies or more.

        Raises
        ------
        DfspError
            There is none.
        """
        several = self.table.index[self.table["studies"] > 1]
        if several.empty:
            raise DfspError("leaving a study out needs two studies or more")
        return self._below({group: self.fits[group].leave_one_out() for group in several})

    def prior_table(self) -> Table:
        """Return `Fit.prior_table` of each group."""
        return self.each(Fit.prior_table)

    def heterogeneity(self, by: float | None = None) -> Sentences:
        """Say `Fit.heterogeneity` of each group."""
        return self._says(lambda fit: fit.heterogeneity(by))

    def new_study(self, n: int | None = None) -> Sentences:
        """Say `Fit.new_study` of each group."""
        return self._says(lambda fit: fit.new_study(n))

    def agreement(self) -> Sentences:
        """Say in one line whether the checks hold in every group, as `Fit.agreement` does."""
        said = {group: fit.agreement() for group, fit in self.fits.items()}
        different = list(dict.fromkeys(said.values()))
        if len(different) == 1:
            return different[0]
        return Sentences("; ".join(f"{group}: {each}" for group, each in said.items()))

    def answer(self) -> Sentences:
        """Say the headline, which priors decide, and what it rests on."""
        rests = [str(self.model), *filter(None, [self.together]), self.agreement()]
        said = [self.describe(), self.prior_warning(), f"It rests on {'; '.join(rests)}."]
        return Sentences("\n".join(filter(None, said)))

    def describe(self) -> Sentences:
        """Say between which groups the rates lie."""
        centre = self.model.effects.centre
        # With the digits that they have in the table, beside their intervals
        rates = {
            group: row.tolist() for group, row in self.table[[centre, "low", "high"]].T.items()
        }
        low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        least, most = (
            f"{self.unit.numbers(*rates[group])[0]} {self.unit.sign}" for group in (low, high)
        )
        runs = f"runs from {least} ({low}) to {most} ({high})"
        if low == high:
            runs = f"is {least} ({low})" if len(rates) == 1 else f"is {least} in each"
        return Sentences(f"{self._groups}: the {NAMES[centre]} {runs}.{self._of_all()}")

    def prior_warning(self, *, written: Callable[[str], str] = str) -> Sentences:
        """Say which prior decides in which tables, which way, and what to do; `""` for none.

        Parameters
        ----------
        written : callable, optional
            How the name of a parameter is written.
        """
        alone = {group: each for group, each in self.posteriors.items() if not each.model.told}
        if not alone:
            return Sentences("")
        # Rows that belong together have a prior of sigma.
        (names, *_) = (each.model.effects.prior_names for each in alone.values())
        powers = {group: power_scaling(each) for group, each in alone.items()}
        return decisive_priors(powers, names, written)

    @property
    def _groups(self) -> str:
        number = len(self.counts)
        return f"{number} {'table' if number == 1 else 'tables'} by {self.by}"

    @property
    def borrowing(self) -> str:
        """How the means of tables borrow from each other; empty if they do not."""
        if self.between is None:
            return ""
        p, of_all = self.between.share, self.between.population.model
        return (
            f"mu of each table ~ {p:g} N(M, T^2) + {1 - p:g} {self.model.mu}, M ~ {of_all.mu}, "
            f"T ~ {of_all.tau}"
        )

    @property
    def together(self) -> str:
        """What the tables have in common; empty if nothing."""
        if self.common is not None and len(self) > 1:
            return "one tau in all tables"
        return self.borrowing

    def _of_all(self) -> str:
        """Say what tables that borrow have in common, with a space before; empty if none do."""
        if self.between is None:
            return ""
        known = self.between.population
        rates = known.typical_rate.quantile([0.5, *ENDS]), known.new_study_rate.quantile(ENDS)
        (middle, low, high), (new_low, new_high) = (each.tolist() for each in rates)
        first, last = self.unit.numbers(new_low, new_high)
        return (
            f" The median of the tables that borrow has a typical rate of "
            f"{self.unit.estimate(middle, low, high, INTERVAL)}; that of one more is expected "
            f"between {first} and {last} {self.unit.sign} (T {known.tau.quantile(0.5)[0]:.2f})."
        )

    def in_unit(self, above: float | None = None) -> Table:
        """Return the table in words: rates in their unit, intervals with their middle.

        Parameters
        ----------
        above : float, optional
            A rate of interest.
        """
        table, centre = self.table, self.model.effects.centre
        unit = self.unit
        rates = table[[centre, "low", "high"]].to_numpy()
        news = table[["new_low", "new_high"]].to_numpy()
        counted = [*(["groups"] if self.clustered else []), "studies", "events", "total"]
        shown = table[counted].assign(
            **{
                f"{NAMES[centre]}, {unit.sign}": [unit.bracketed(*row) for row in rates],
                f"mean, {unit.sign}": [
                    unit.numbers(mean, *row)[0]
                    for mean, row in zip(table["mean_rate"], rates, strict=True)
                ],
                f"new study, {unit.sign}": [" to ".join(unit.numbers(*row)) for row in news],
            }
        )
        for spread in (self.model.effects.spread, "sigma", "exchangeable"):
            if spread in table:
                shown[spread] = [f"{value:.2f}" for value in table[spread]]
        if above is not None:
            found = self.above(above)
            for name in {centre: None, "new_study_rate": None}:
                what = f"P({NAMES[name].removesuffix(' rate')} > {unit.rate(above)})"
                shown[what] = [chance(value) for value in found[name]]
        return table_of(shown)

    def page(self, above: float | None = None) -> str:
        """Return the plain-text page that `dfsp fit --by` prints."""
        model = next(iter(self.fits.values())).model if self.clustered else self.model
        lines = [f"{self._groups}; {model}; {self.engine} engine"]
        if self.clustered:
            lines.append("groups belong to studies: tau is between these, sigma in all")
        lines += filter(None, [expected_rates(self.model, self.unit), self.together])
        lines += ["", repr(self.in_unit(above)), ""]
        if self.posteriors:
            lines.append(f"log marginal likelihood {self.log_marginal_likelihood:.4f}")
        for group, checks in self.checks.items():
            lines += [f"{group}: {check}" for check in checks if check.passed is not True]
        warning = self.prior_warning(written=as_option)
        return "\n".join([*lines, *filter(None, [self.describe(), warning])])

    def as_dicts(self, above: float | None = None) -> Iterator[dict[str, Any]]:
        """Return an object of schema `dfsp.fit/1` for each group, with `by` in it."""
        together: dict[str, Any] = {} if self.common is None else {"common_tau": True}
        for place, (group, fit) in enumerate(self.fits.items()):
            whole = replace(fit, checks=(*fit.checks, *self.of_model)).as_dict(above)
            if self.between is not None:
                together = {"borrow": self._borrowed(place)}
            yield {"by": {self.by: group}, **together, **whole}

    def _borrowed(self, place: int) -> dict[str, Any]:
        """Return what a group borrows as plain data."""
        assert self.between is not None
        known = self.between.population
        found = (known.mu, known.tau, known.typical_rate, known.new_study_rate)
        names = ("M", "T", "typical_rate", "new_typical_rate")
        return {
            "share": self.between.share,
            "priors": {"M": known.model.mu.as_dict(), "T": known.model.tau.as_dict()},
            "exchangeable": float(self.between.exchangeable[place]),
            **{
                name: dict(zip(STATISTICS, each.summary().tolist(), strict=True))
                for name, each in zip(names, found, strict=True)
            },
        }

    @property
    def failed(self) -> bool:
        """Whether a check of any group failed."""
        return any(failed(checks) for checks in self.checks.values())


def _counted(counts: Counts) -> dict[str, int]:
    columns = counts.filled().columns
    rows, groups = len(columns["total"]), {}
    if CLUSTER in columns:
        groups, rows = {"groups": rows}, len(set(columns[CLUSTER]))
    events, total = int(columns["events"].sum()), int(columns["total"].sum())
    return {**groups, "studies": rows, "events": events, "total": total}


def fit_by(
    tables: Mapping[str, Counts] | pd.DataFrame,
    model: Model | None = None,
    *,
    by: str,
    common_tau: bool = False,
    borrow: float | None = None,
    borrow_scale: float = 1.0,
    engine: Engine = "exact",
    draws: int = DRAWS,
    seed: int = SEED,
) -> FitBy:
    """Fit a table for each value of a column: a subgroup, an outcome, an adverse event.

    Parameters
    ----------
    tables : mapping of str to Counts, or pandas.DataFrame
        From `dfsp.read_tables`, or a frame with columns study, events, total, and `by`.
    model : Model, optional
        The same for each; by default `Model()`.
    by : str
        Name of the column.
    common_tau : bool
        Whether the studies of all tables scatter by one tau, about a mean of each table.
    borrow : float, optional
        Prior probability p, 0 to 1, that a table's mean is exchangeable with those of the others:
        mu ~ p N(M, T^2) + (1 - p) the prior of mu, which M has too (doi:10.1002/pst.1730).
    borrow_scale : float
        T ~ HalfNormal(borrow_scale), logit scale.
    engine, draws, seed
        As in `dfsp.fit`.

    Returns
    -------
    FitBy
        With `common_tau` or `borrow`, the log marginal likelihood of each fit is given the other
        tables.

    Raises
    ------
    DfspError
        Counts or an option that cannot be used.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "study": ["A", "B", "A", "B"],
    ...         "event": ["rash", "rash", "oedema", "oedema"],
    ...         "events": [3, 8, 1, 0],
    ...         "total": [10, 20, 10, 20],
    ...     }
    ... )
    >>> fit_by(table, by="event").table[["events", "total", "typical_rate", "low", "high"]]
           events total typical_rate     low    high
    event
    rash       11    30       0.3660  0.1430  0.6694
    oedema      1    30       0.0583  0.0081  0.3255
    """
    model = model or Model()
    if engine not in get_args(Engine):
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(get_args(Engine))}")
    counts = check_tables(tables, by=by) if isinstance(tables, pd.DataFrame) else dict(tables)
    if common_tau and engine != "exact":
        raise DfspError(f"engine {engine!r}: one tau in all tables has the exact engine only")
    if borrow is not None:
        if engine != "exact":
            raise DfspError(f"engine {engine!r}: tables that borrow have the exact engine only")
        if common_tau:
            raise DfspError("borrow and common_tau do not go together; give one of them")
    if engine != "exact":
        how: dict[str, Any] = {"engine": engine, "draws": draws, "seed": seed, "gate": "report"}
        fits = {group: fit_one(own, model, **how) for group, own in counts.items()}
        exact = {group: fit.exact for group, fit in fits.items() if fit.posterior is not None}
        return FitBy(by, counts, model, engine, fits, exact)
    if borrow is not None:
        posteriors, between = _borrowing(counts, model, by, borrow, borrow_scale)
        made = _Fits(counts, model, posteriors)
        return FitBy(by, counts, model, engine, made, posteriors, between=between)
    if common_tau:
        posteriors, common = _with_one_tau(counts, model, by)
        return FitBy(
            by, counts, model, engine, _Fits(counts, model, posteriors), posteriors, common=common
        )
    posteriors = _alone(counts, model)
    return FitBy(by, counts, model, engine, _Fits(counts, model, posteriors), posteriors)


def _alone(counts: Mapping[str, Counts], model: Model) -> dict[str, Posterior]:
    """Return the posterior of each table; those of equal counts, as of rare events, are one."""
    solved: dict[tuple[Any, ...], Posterior] = {}
    found = {}
    for group, own in counts.items():
        filled = own.filled()
        numbers = (filled.columns[name].tobytes() for name in ("events", "total"))
        key = (*numbers, *filled.columns.get(CLUSTER, ()), *map(tuple, filled.left_together))
        if key not in solved:
            solved[key] = posterior_of(filled, model)
        found[group] = solved[key]
    return found


def _with_one_tau(
    counts: Mapping[str, Counts], model: Model, by: str
) -> tuple[dict[str, Posterior], float]:
    """Return the posteriors of tables that have one tau, and the evidence of all."""
    require_apart(counts, by, "one tau in all tables")
    if "tau" not in model.quantities:
        raise DfspError(f"{model.effects.family} effects have no tau for all tables to have")
    if model.tau.known is not None:
        alone = {group: posterior_of(own, model) for group, own in counts.items()}
        return alone, float(sum(each.log_marginal_likelihood for each in alone.values()))
    tables = {group: own.filled().table for group, own in counts.items()}
    groups = [
        (table["events"].to_numpy(np.float64), table["total"].to_numpy(np.float64))
        for table in tables.values()
    ]
    together = [own.filled().left_together for own in counts.values()]
    found, evidence = solve_together(groups, model, together)
    return dict(zip(tables, found, strict=True)), evidence


def _borrowing(
    counts: Mapping[str, Counts], model: Model, by: str, share: float, scale: float
) -> tuple[dict[str, Posterior], Between]:
    """Return the posteriors of tables whose means borrow, and what is known of all."""
    if not 0 <= share <= 1:
        raise DfspError(f"borrow = {share!r}; give a probability, from 0 to 1")
    require_apart(counts, by, "borrowing between tables")
    model.require_mu("borrowing between tables needs")
    alone = [posterior_of(own, model) for own in counts.values()]
    found, between = borrow_means(alone, share, Model(mu=model.mu, tau=HalfNormal(scale)))
    return dict(zip(counts, found, strict=True)), between


def require_apart(counts: Mapping[str, Counts], by: str, what: str) -> None:
    """Refuse tables that share patients, and rows that belong to clusters, for `what`.

    Raises
    ------
    DfspError
        Studies that stand in several tables, or clusters.
    """
    for own in counts.values():
        own.require_independent(what)
    names = list(dict.fromkeys(name for own in counts.values() for name in own.elsewhere))
    if names:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise DfspError(
            f"{what} needs tables of different patients, and some studies stand in several values "
            f"of {by}, or share patients with one there: {some}. Outcomes of the same patients are "
            "fitted each by itself; studies that only have the same name need names of their own"
        )
