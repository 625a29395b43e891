"""Fit counts with one engine or both; what people ask a fit, the fit answers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.checks import Check, failed
from dfsp.constants import CI_PROB, DRAWS, MEDIAN_AND_ENDS, QUANTILES, SEED, STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.engine import predictive
from dfsp.engine.distributions import LEAST_RATE, summaries
from dfsp.engine.nested import Nested, identified, solve_nested, with_share
from dfsp.engine.posterior import Posterior, solve
from dfsp.engine.powers import Powers, power_scaling
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts, partners
from dfsp.model.effects import Effects
from dfsp.model.model import Model
from dfsp.prior_words import (
    PRIOR,
    decisive_priors,
    expected_rates,
    plain_powers,
    table_of_powers,
)
from dfsp.rates import INTERVAL, Unit, stands_for
from dfsp.text import Result, Sentences, Table, as_option, chance, in_unit, table_of
from dfsp.yardsticks import POINTS_APART, TIMES_APART, is_ordinary, patients_for

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

Array = npt.NDArray[np.float64]
Engine = Literal["exact", "nuts", "both"]

QUANTITIES = Effects.quantities
"""Rows of every summary: `mu` and `tau` on the logit scale, the others rates. Effects may lack some
of them, and may have others too, such as the concentration of beta-binomial ones."""

NAMES = {
    "typical_rate": "typical rate",
    "mean_rate": "mean rate",
    "new_study_rate": "new-study rate",
    "mu": "mu (logit)",
    "tau": "tau (logit)",
    "sigma": "sigma (logit)",
    "omega": "omega (logit)",
}
"""How a page calls the quantities, in its order."""
RATES = ("typical_rate", "mean_rate", "new_study_rate")
"""The rates of the population, as the forest plot, the report and a comparison have them."""

MEDIANS = ("typical_rate", "tau")
"""Quantities that are told by their median, whatever their posterior looks like."""

RHO_PRIORS = {"Uniform(0, 1)": (1, 1), "Beta(2, 1)": (2, 1), "Beta(1, 2)": (1, 2)}
"""Priors of the share of the variance between clusters that are compared."""
EXCHANGEABLE = "exchangeable"
TINY = 1e-12  # probability beyond the ends of a table
PAGE = ["mean", "sd", "q2.5", "q50", "q97.5"]
"""Columns of the quantities on a page."""
CENTRES = {"mean": "mean", "q50": "median"}
MEANS = {"mean": "mean over studies", "q50": "mean over studies (median of a skewed posterior)"}
CLUSTER = "cluster"
MOST_NAMED = 10
"""Studies that a sentence names."""
GRID_ERROR = 1e-5
DIGITS = 4  # shown of exact numbers: two significant ones of a standard deviation of 0.01


@dataclass(frozen=True, eq=False, repr=False)
class Heterogeneity(Result):
    """How much studies differ.

    Attributes
    ----------
    by : float or None
        A difference of rates.
    times : float or None
        Instead: a ratio of odds.
    probability : float
        That the true rates of two new studies differ by more.
    spread : pandas.Series
        `STATISTICS` of the quantity that says how studies scatter.
    model : Model
    piles : Sentences
        What is said where a new study's rate piles up at both ends; `""` where it does not.
    unit : Unit
        In which rates are said.
    """

    by: float | None
    times: float | None
    probability: float
    spread: "pd.Series[float]"
    model: Model
    piles: Sentences
    unit: Unit

    def describe(self) -> Sentences:
        """Say in plain words how much studies differ."""
        effects, row = self.model.effects, self.spread
        where = f" {effects.spread_scale}" if effects.spread_scale else ""
        found = f"is fixed at {row['q50']:g}{where}"
        if self.model.spread_prior.known is None:
            ends = f"{INTERVAL} {row['q2.5']:.2f} to {row['q97.5']:.2f}"
            found = f"is {row['q50']:.2f}{where} ({ends})"
        if self.by is None:
            apart = f"Of two new studies one would have over {self.times:g} times the other's odds"
        else:
            difference = self.unit.chosen(self.by, apart=True)
            apart = f"Two new studies would have true rates more than {difference} apart"
        probability = chance(self.probability, 2)
        said = f"{apart} with probability {probability}. The {effects.spread_words} {found}."
        return Sentences("\n".join(filter(None, [said, self.piles])))


@dataclass(frozen=True, eq=False, repr=False)
class NewStudy(Result):
    """What a new study should expect: its true rate, and what is seen among its patients.

    Attributes
    ----------
    n : int
        Its patients.
    rate : pandas.Series
        `STATISTICS` of its true rate.
    events : array, shape (n + 1,)
        The probability of each number of patients with the outcome.
    low, high : int
        The central interval (`CI_PROB`) of that number.
    unit : Unit
        In which rates are said.
    """

    n: int
    rate: "pd.Series[float]"
    events: npt.NDArray[np.float64]
    low: int
    high: int
    unit: Unit

    def describe(self) -> Sentences:
        """Say what the true rate is expected to be, and the observed count."""
        centre = stands_for(self.rate)
        return Sentences(
            f"The true rate of a new study has {CENTRES[centre]} "
            f"{_estimate(self.unit, self.rate, centre)}. Among {self.n:,} patients of such "
            f"a study, {self.low:,} to {self.high:,} are expected to have the outcome, an observed "
            f"proportion of {self.unit.span(self.low / self.n, self.high / self.n)} "
            f"(at least {CI_PROB:.0%} probability): the second interval adds the chance of "
            "sampling patients to the first."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Above(Result):
    """How probably rates exceed one.

    Attributes
    ----------
    rate : float
    population : mapping of str to float
        The probability of the typical, the mean and the new-study rate, as far as they have a
        meaning.
    studies : Table
        One row a study: `study`, `cluster` where rows belong to clusters, `events`, `total`, and
        `above`, the probability.
    unit : Unit
        In which the rate is said.
    """

    rate: float
    population: Mapping[str, float]
    studies: Table
    unit: Unit

    def describe(self) -> Sentences:
        """Say how probably the population's rates exceed the one given."""
        said = [f"{NAMES[name]} {chance(value)}" for name, value in self.population.items()]
        return Sentences(f"P(rate > {self.unit.rate(self.rate)}): {', '.join(said)}.")


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Result):
    """What a model says about counts; its methods answer what people ask.

    In a notebook it shows its `answer`.

    Attributes
    ----------
    counts : Counts
    model : Model
    engine : {"exact", "nuts", "both"}
    numbers : mapping of str to array, shape (statistic,)
        `STATISTICS` by quantity (`QUANTITIES`, then others of the effects); NaN where one does not
        exist. From the exact engine unless `engine` is `"nuts"`.
    columns : mapping of str to sequence
        The columns of `studies`.
    summary : Table
        One row a quantity, columns `STATISTICS`.
    studies : Table
        One row a study: `study`, `events`, `total`, `STATISTICS` of its rate under the model, and
        `leave_one_out_lpd` (NaN without the exact engine, and for a row of a cluster of several,
        which is left out as a whole); with EXNEX effects `exchangeable`, the posterior probability
        that the study is; where rows belong to clusters, `cluster`. A study without patients has
        its predictive distribution and no density.
    checks : tuple of Check
    posterior : Posterior or None
        The exact engine's result.
    sampled : sampling.Sampled or None
        The NUTS engine's result.

    See Also
    --------
    fit : Makes one.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.fit(table)
    >>> round(float(result.summary.loc["typical_rate", "q50"]), 3), result.agrees
    (0.327, True)
    >>> result.studies[["study", "events", "total", "mean"]]
    study events total   mean
        A      3    10 0.3227
        B      8    20 0.3585
        C      5    19 0.3044
    """

    counts: Counts
    model: Model
    engine: Engine
    numbers: Mapping[str, npt.NDArray[np.float64]]
    columns: Mapping[str, Any]
    checks: tuple[Check, ...]
    posterior: Posterior | None
    sampled: sampling.Sampled | None

    @cached_property
    def summary(self) -> Table:
        """One row a quantity, columns `STATISTICS`; what is computed waits for no frame."""
        index = pd.Index([*self.numbers], name="quantity")
        return table_of(
            [*self.numbers.values()], digits=DIGITS, rates=True, index=index, columns=STATISTICS
        )

    @cached_property
    def studies(self) -> Table:
        """One row a study: its counts and its rate under the model."""
        return table_of(dict(self.columns), digits=DIGITS, rates=True)

    @property
    def exact(self) -> Posterior:
        """The exact posterior.

        Raises
        ------
        DfspError
            The fit was made with `engine="nuts"`.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> round(dfsp.fit(table).exact.new_study_rate.prob_above(0.2), 3)
        0.865
        """
        if self.posterior is None:
            raise DfspError("this fit has no exact posterior; fit with engine='exact' or 'both'")
        return self.posterior

    def describe(self) -> Sentences:
        """Say what the studies together find: typical, mean and new-study rate.

        See Also
        --------
        heterogeneity : How much studies differ.
        new_study : What the next one should expect.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).describe()  # doctest: +NORMALIZE_WHITESPACE
        Event, 16 of 49 patients in 3 studies: the rate of a typical study is 32.7 % (95%
        interval 16.2 to 55.0 %), the mean over studies 34.2 % (95% interval 18.6 to 54.2 %);
        the true rate of a new study is expected between 8.7 and 71.6 %.
        """
        typical, mean, new = (
            self.summary.T[name] for name in ("typical_rate", "mean_rate", "new_study_rate")
        )
        first = f"the rate of a typical study is {_estimate(self.unit, typical, 'q50')}, "
        if "typical_rate" not in self.model.quantities:
            first = ""
        counts, centre = self.counts, stands_for(mean)
        source = f" (evidence set '{counts.evidence_set}')" if counts.evidence_set else ""
        low, high = self.unit.numbers(new["q2.5"], new["q97.5"])
        return Sentences(
            f"{counts.label.capitalize()}{source}, {int(counts.table['events'].sum()):,} of "
            f"{int(counts.table['total'].sum()):,} patients in {counts.groups}: {first}the "
            f"{MEANS[centre]} {_estimate(self.unit, mean, centre)}; the true rate of a new study "
            f"is expected between {low} and {high} {self.unit.sign}."
        )

    @property
    def unit(self) -> Unit:
        """In which rates are said."""
        return self.counts.rates_in

    @cached_property
    def prior_sensitivity(self) -> Powers | None:
        """How each quantity moves when a prior, or the likelihood, is raised to a power near one.

        See `dfsp.engine.powers.power_scaling`: by quantity and by what is raised, `location` and
        `width`; None for a prior that is fixed. None as a whole without an exact posterior, and
        where the counts of other tables are in the prior of tau. Of rows in clusters the prior is
        that of sigma.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> fit = dfsp.fit(pd.DataFrame({"study": ["A"], "events": [0], "total": [200]}))
        >>> round(fit.prior_sensitivity["typical_rate"]["mu"].location, 1)
        1.5
        """
        if self.posterior is None or self.posterior.model.told:
            return None
        return power_scaling(self.posterior)

    def prior_table(self) -> Table:
        """Return `prior_sensitivity` as a table, one row a quantity.

        Raises
        ------
        DfspError
            There is none.
        """
        if self.prior_sensitivity is None:
            raise DfspError(
                "the prior sensitivity is not known: it is of the exact engine, and not of several "
                "tables with one tau"
            )
        return table_of_powers(self.prior_sensitivity)

    def prior_warning(self, *, written: Callable[[str], str] = str) -> Sentences:
        """Say which prior decides, which way, and what to do; `""` if none does.

        Parameters
        ----------
        written : callable, optional
            How the name of a parameter is written.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> none_of_200 = pd.DataFrame({"study": ["A"], "events": [0], "total": [200]})
        >>> print(dfsp.fit(none_of_200).prior_warning().partition(":")[0])
        The prior of mu decides
        """
        if self.prior_sensitivity is None:
            return Sentences()
        return decisive_priors(
            {"": self.prior_sensitivity}, self.model.effects.prior_names, written
        )

    def _repr_markdown_(self) -> str:
        return self.answer()._repr_markdown_()

    def answer(self) -> Sentences:
        """Say the headline, what to make of it, and what it rests on: where a notebook begins.

        See Also
        --------
        describe : The headline alone.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> print(dfsp.fit(table).answer().rpartition("effects; ")[2])
        all checks passed (exact engine).
        """
        rests = f"It rests on {self.model}; {self.agreement().rstrip('.')}."
        return Sentences("\n".join(filter(None, [self.describe(), *self._cautions(), rests])))

    def _cautions(self, written: Callable[[str], str] = str) -> list[Sentences]:
        """Return what is to be known beside the headline, each empty where there is nothing."""
        piles = self.piles() if self.posterior is not None else Sentences()
        return [piles, self.prior_warning(written=written)]

    def agreement(self) -> Sentences:
        """Say in one line whether the checks hold; no digit of a sampler is in it.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).agreement()
        all checks passed (exact engine)
        """
        bad = failed(self.checks)
        if bad:
            return Sentences("checks failed: " + "; ".join(check.name for check in bad))
        if self.engine != "both":
            return Sentences(f"all checks passed ({self.engine} engine)")
        unsure = [check.name for check in self.checks if check.passed is None]
        rest = f"; cannot tell: {'; '.join(unsure)}" if unsure else ""
        return Sentences(f"exact and NUTS engines agree within Monte Carlo error{rest}")

    def heterogeneity(
        self, by: float | None = None, *, times: float | None = None
    ) -> Heterogeneity:
        """Return how much studies differ, from the exact engine.

        Parameters
        ----------
        by : float, optional
            Difference of two new studies' true rates, between 0 and 1; both share mu and tau.
        times : float, optional
            Instead, the ratio of their odds, above 1. By default 20 points, or twice the odds if
            the rate is below 10 or above 90 %, where points say nothing.

        Raises
        ------
        DfspError
            `by` lies outside (0, 1) or `times` is not above 1, both are given, or the fit has no
            exact posterior.

        Examples
        --------
        >>> import dfsp
        >>> counts = dfsp.count(dfsp.load_evidence("review"), "objective_response")
        >>> round(dfsp.fit(counts).heterogeneity(by=0.2).probability, 2)
        0.38
        """
        if by is not None and times is not None:
            raise DfspError("a difference of rates and a ratio of odds are both given; give one")
        if by is None and times is None:
            points_tell = is_ordinary(self.middle)
            by, times = (POINTS_APART, None) if points_tell else (None, TIMES_APART)
        probability = (
            predictive.prob_rates_differ(self.exact, by)
            if by is not None
            else predictive.prob_odds_differ(self.exact, times or TIMES_APART)
        )
        spread = self.summary.T[self.model.effects.spread]
        return Heterogeneity(by, times, probability, spread, self.model, self.piles(), self.unit)

    @property
    def middle(self) -> float:
        """The median of the rate to speak of first: of a typical study, or the mean over studies.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> round(dfsp.fit(table).middle, 3)
        0.327
        """
        return float(self.numbers[self.model.effects.centre][STATISTICS.index("q50")])

    def piles(self) -> Sentences:
        """Say that a new study's rate piles up at both ends, and name the studies of either side.

        Returns
        -------
        Sentences
            `""` where it does not (see `dfsp.engine.predictive.piles_at_both_ends`), or where a
            side has no study.

        Raises
        ------
        DfspError
            The fit has no exact posterior.
        """
        found = predictive.piles_at_both_ends(self.exact)
        if found is None:
            return Sentences()
        low = self.studies["mean"] < found.valley
        fewest = min(low.sum(), (~low).sum())
        if not fewest:
            return Sentences()
        sides = (self.studies.loc[each, "study"].tolist() for each in (low, ~low))
        below, above = (_named(side) for side in sides)
        seen = "two groups" if fewest > 1 else "one study apart from the rest"
        (valley,) = self.unit.numbers(found.valley, least=0)
        return Sentences(
            f"A new study's rate piles up at both ends: below {self.unit.chosen(0.1)} with "
            f"probability {found.low:.2f} and above {self.unit.chosen(0.9)} with "
            f"{found.high:.2f}, least near {valley} {self.unit.sign}. Its mean "
            f"and its interval describe neither pile: what was seen is {seen} rather than one "
            f"population. Low: {below}; high: {above}. Ask what tells them apart."
        )

    def new_study(self, n: int | None = None) -> NewStudy:
        """Return what a new study of n patients should expect, from the exact engine.

        Parameters
        ----------
        n : int, optional
            By default 20, or if the rate is below 10 or above 90 % so many that 10 of them have
            the rarer outcome, at most 10,000.

        Raises
        ------
        DfspError
            `n` is not a whole number above 0, or the fit has no exact posterior.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 20]})
        >>> new = dfsp.fit(table).new_study(n=10)
        >>> new.low, new.high, round(float(new.events.sum()), 6)
        (0, 9, 1.0)
        """
        n = patients_for(self.middle) if n is None else n
        events = predictive.probability_of_events(self.exact.new_study_rate, n)
        ends = predictive.interval_of_events(events)
        return NewStudy(n, self.summary.T["new_study_rate"], events, *ends, self.unit)

    def predictive_check(self) -> Table:
        """Compare each study's events with what the model predicts for a new study of its size.

        Replicates draw a new study effect each: replicates that keep the fitted effect always look
        good.

        Returns
        -------
        Table
            One row a study: `study`, `events`, `total`, `low`, `high` (central interval of
            replicated events, probability `CI_PROB`), `mid_p` (P(replicate > events) +
            P(replicate = events) / 2).

        Raises
        ------
        DfspError
            The fit has no exact posterior.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).predictive_check()
        study events total low high  mid_p
            A      3    10   0    8 0.5443
            B      8    20   1   15 0.3343
            C      5    19   1   14 0.6440
        """
        rate = self.exact.new_study_rate
        rows = []
        for row in self._filled()[["study", "events", "total"]].to_dict("records"):
            low, high, mid_p = predictive.replicated(rate, row["total"], row["events"])
            rows.append({**row, "low": low, "high": high, "mid_p": mid_p})
        return table_of(rows, digits=DIGITS)

    def leave_one_out(self) -> Table:
        """Fit again without each study in turn, and without those that share its patients.

        Rows that belong to a cluster leave together.

        Returns
        -------
        Table
            Indexed by `left_out`; `with_it` (studies, or clusters, that leave too), and median,
            `low` and `high` (`CI_PROB`) of the typical rate and the median of tau, or of sigma with
            clusters; with beta-binomial effects, of the mean rate and the concentration.

        Raises
        ------
        DfspError
            Fewer than two studies.

        See Also
        --------
        dfsp.sensitivity.influence : What each study does to the answer.
        dfsp.sensitivity.leave_two_out : Without each pair of studies.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).leave_one_out()[["with_it", "typical_rate"]]
                 with_it typical_rate
        left_out
        A              -       0.3376
        B              -       0.2855
        C              -       0.3660
        """
        counts = self.counts.filled()
        table = counts.table
        unit = CLUSTER if CLUSTER in table else "study"
        if table[unit].nunique() < 2:
            raise DfspError("leaving a study out needs two studies or more")
        centre, spread = self.model.effects.centre, self.model.effects.spread
        of_study = dict(zip(table["study"], table[unit], strict=True))
        with_it: dict[str, dict[str, None]] = {name: {} for name in table[unit]}
        for name, shared in zip(table[unit], partners(table), strict=True):
            others = (of_study[study] for study in shared if study in of_study)
            with_it[name] |= dict.fromkeys(other for other in others if other != name)
        rows = []
        for study, others_out in with_it.items():
            rest = replace(counts, table=table[~table[unit].isin([study, *others_out])])
            posterior = posterior_of(rest, self.exact.model)
            rates = getattr(posterior, centre).quantile(MEDIAN_AND_ENDS)
            median = float(getattr(posterior, spread).quantile(0.5)[0])
            rows.append((study, "; ".join(others_out) or "-", *rates, median))
        columns = ["left_out", "with_it", centre, "low", "high", spread]
        return table_of(pd.DataFrame(rows, columns=columns).set_index("left_out"), rates=True)

    def draws(self, number: int = 4000, *, seed: int = SEED) -> "xr.DataTree":
        """Return independent draws from the exact posterior; `sampled.draws` are those of NUTS.

        Parameters
        ----------
        number : int
            Draws in all, a multiple of 4; they come as 4 chains, as ArviZ reads them.
        seed : int

        Returns
        -------
        xarray.DataTree
            Group `posterior`: `mu`, `tau`, `theta` (study) on the logit scale, `typical_rate`,
            `rate` (study), `new_study_rate`; group `log_likelihood`: `events` (study), of each
            study's events given `mu` and `tau`, its own effect integrated out; dims chain, draw.

        Raises
        ------
        DfspError
            `number` is not a multiple of 4 above 0, or the fit has no exact posterior.

        Notes
        -----
        The same calls take these draws and `sampled.draws`. The log likelihood of the latter is
        conditional on each study's own effect, with which leaving studies out by importance
        sampling fails.

        Examples
        --------
        Three lines that go on in ArviZ:

        >>> import arviz as az  # doctest: +SKIP
        >>> az.plot_forest(fit.draws(), var_names=["rate"], combined=True)  # doctest: +SKIP
        >>> az.loo(fit.draws(), var_name="events")  # doctest: +SKIP
        >>> az.compare({"normal": fit.draws(), "other": other.draws()})  # doctest: +SKIP

        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> rate = dfsp.fit(table).draws(400)["posterior"]["rate"]
        >>> dict(rate.sizes)
        {'chain': 4, 'draw': 100, 'study': 3}
        """
        return predictive.draw(self.exact, number, seed, self._filled()["study"].to_list())

    def pymc_model(self) -> "pm.Model":
        """Return the PyMC model that the NUTS engine samples; it shows itself in LaTeX.

        See Also
        --------
        draws : What ArviZ takes, from the exact engine.

        Examples
        --------
        PyMC takes a second to import:

        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).pymc_model().free_RVs  # doctest: +SKIP
        [mu, tau, z]
        """
        return sampling.build(self.counts.table, self.model)

    def prior(self) -> Posterior:
        """Return what the model says before any study is seen, as a posterior of no studies.

        Its `new_study_rate` is the prior predictive distribution of a rate.

        See Also
        --------
        prior_warning : Whether a prior decides.
        dfsp.plots.prior : The picture of it.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).prior().new_study_rate.quantile([0.025, 0.5, 0.975]).round(3)
        array([0.012, 0.5  , 0.988])
        """
        return predictive.prior_of(self.model)

    def patient_weighted_rate(
        self, *, number: int = 20_000, seed: int = SEED
    ) -> "pd.Series[float]":
        """Summarise sum(n_i p_i) / sum(n_i): what adding patients up estimates.

        Parameters
        ----------
        number : int
            Independent draws behind the standard deviation and the quantiles; the mean is exact.
        seed : int

        Returns
        -------
        pandas.Series
            Indexed by `STATISTICS`, on the rate scale.

        See Also
        --------
        Counts.pooled : All patients as one study.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> round(float(dfsp.fit(table).patient_weighted_rate(number=400)["mean"]), 3)
        0.33
        """
        share = self.exact.total / self.exact.total.sum()
        rate = self.draws(number, seed=seed)["posterior"]["rate"].to_numpy().reshape(number, -1)
        weighted = rate @ share
        mean = share @ self.exact.studies[:, 0]
        values = [mean, weighted.std(), *np.quantile(weighted, QUANTILES)]
        return pd.Series(values, index=list(STATISTICS), name="patient_weighted_rate")

    def above(self, rate: float) -> Above:
        """Return how probably each study's rate, and the population's rates, exceed one.

        Parameters
        ----------
        rate : float
            Strictly between 0 and 1.

        Raises
        ------
        DfspError
            Another `rate`.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 20]})
        >>> dfsp.fit(table).above(0.2)
        P(rate > 20.0 %): typical rate 0.926, mean rate 0.956, new-study rate 0.863.
        """
        check_threshold(rate)
        rates = [name for name in RATES if name in self.model.quantities]
        if self.posterior is None:
            assert self.sampled is not None
            drawn = self.sampled.draws["posterior"].to_dataset()
            of = {name: float((drawn[name] > rate).mean()) for name in rates}
            probability = (drawn["rate"] > rate).mean(("chain", "draw")).to_numpy()
        else:
            of = {name: getattr(self.posterior, name).prob_above(rate) for name in rates}
            probability = _of_all_rows(
                self.posterior,
                self.columns,
                lambda posterior: posterior.prob_above(rate),
                lambda posterior: np.asarray(posterior.unseen_rate.prob_above(rate)),
                lambda posterior: posterior.prob_new_rows_above(rate),
            )
            # What lies beyond the ends of a table is little, but not nothing.
            of = {name: min(max(each, TINY), 1 - TINY) for name, each in of.items()}
            probability = np.clip(probability, TINY, 1 - TINY)
        kept = [name for name in ("study", CLUSTER, "events", "total") if name in self.columns]
        table = self.studies[kept].assign(above=probability)
        return Above(rate, of, table_of(table, rates=True), self.unit)

    def page(self, above: float | None = None) -> str:
        """Return the plain-text page that `dfsp fit` prints, with `above` a rate of interest.

        All rates of a page are in one unit.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> print(dfsp.fit(table).page().partition(";")[0])
        3 studies
        """
        found = None if above is None else self.above(above)
        lines = [f"{self.counts.groups}; {self.model}; {self.engine} engine"]
        lines += [*filter(None, [expected_rates(self.model, self.unit)]), ""]
        lines += [repr(self.summary_in_unit()), "", repr(self.studies_in_unit(found)), ""]
        if self.prior_sensitivity is not None:
            moved = self.prior_table().rename(index=self._names).rename_axis(index=None)
            lines += ["when a prior or the likelihood is raised to a power:", repr(moved), ""]
        if self.posterior is not None:
            lines.append(f"log marginal likelihood {self.posterior.log_marginal_likelihood:.4f}")
        lines += [str(check) for check in self.checks if _is_told(check)]
        said = found.describe() if found else ""
        lines += filter(None, [self.describe(), said, *self._cautions(as_option)])
        return "\n".join(lines)

    def summary_in_unit(self) -> Table:
        """Return what a page shows of `summary`: rates as texts in the unit of the counts.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> rare = pd.DataFrame({"study": list("AB"), "events": [3, 8], "total": [9000, 20_000]})
        >>> dfsp.fit(rare).summary_in_unit().loc["typical rate", "q50"]
        '78.8'
        """
        names = self._names
        rows = self.summary.reindex(list(names)).dropna(how="all")[PAGE]
        of_rate = [str(name).endswith("_rate") for name in rows.index]
        said = in_unit(rows[of_rate], self.unit, PAGE)
        shown = rows.astype(object).rename_axis(columns=str(said.columns.name))
        shown.loc[of_rate] = said
        return table_of(shown.rename(index=names).rename_axis(index=None))

    def studies_in_unit(self, above: Above | None = None) -> Table:
        """Return what a page shows of `studies`: rates as texts in the unit of the counts.

        Parameters
        ----------
        above : Above, optional
            From `Fit.above`; a column more.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> rare = pd.DataFrame({"study": list("AB"), "events": [3, 8], "total": [9000, 20_000]})
        >>> dfsp.fit(rare).studies_in_unit()[["observed", "mean"]]
        rates per 100,000 observed  mean
        study
        A                     33.3  43.1
        B                     40.0  44.0
        """
        studies = self.studies.set_index("study")
        studies["observed"] = studies["events"] / studies["total"]
        rates = ["observed", "mean", "q2.5", "q97.5"]
        kept = ["events", "total", *rates]
        kept = [CLUSTER] * (CLUSTER in studies) + kept + [EXCHANGEABLE] * (EXCHANGEABLE in studies)
        shown = in_unit(studies[kept], self.unit, rates)
        if above:
            shown[f"P(> {self.unit.rate(above.rate)})"] = [*map(chance, above.studies["above"])]
        return table_of(shown)

    @property
    def _names(self) -> dict[str, str]:
        """How the page calls the quantities, in its order."""
        others = [name for name in self.summary.index if name not in NAMES]
        return NAMES | {name: name.replace("_", " ") for name in others}

    def __repr__(self) -> str:
        name = self.model.effects.centre
        rate = self.summary.T[name]
        return (
            f"Fit({self.counts.groups}, {self.engine} engine, {self.model}: "
            f"{name.replace('_', ' ')} "
            f"{self.unit.estimate(rate['q50'], rate['q2.5'], rate['q97.5'])}, "
            f"{len(failed(self.checks))} of {len(self.checks)} checks failed)"
        )

    @property
    def agrees(self) -> bool | None:
        """Whether every check passed; None if none failed and some cannot tell.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> dfsp.fit(table).agrees
        True
        """
        verdicts = [check.passed for check in self.checks]
        return False if False in verdicts else None if None in verdicts else True

    def new_rows(self) -> Table:
        """Summarise the rate of one more row of each cluster, from the exact engine.

        Returns
        -------
        Table
            Indexed by `cluster`, columns `STATISTICS`, rate scale.

        Raises
        ------
        DfspError
            The fit has no exact posterior, or no clusters.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> from dfsp.evidence.tables import check_table
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> counts = check_table(table.assign(trial=["x", "x", "y"]), cluster="trial")
        >>> fit = dfsp.fit(counts)  # doctest: +SKIP
        >>> fit.new_rows()["q50"].round(2).to_dict()  # doctest: +SKIP
        {'x': 0.33, 'y': 0.31}
        """
        posterior = self._of_clusters()
        names = self._filled()[CLUSTER].unique()
        index = pd.Index(names, name=CLUSTER)
        return table_of(
            posterior.new_rows, digits=DIGITS, rates=True, index=index, columns=STATISTICS
        )

    def _of_clusters(self) -> Nested:
        """Return the exact posterior of a fit that has clusters; refuse one that has none."""
        if not isinstance(self.exact, Nested):
            raise DfspError("this fit has no clusters; name the column of clusters when reading")
        return self.exact

    def rho_priors(self) -> Table:
        """Compare priors of rho, the share of the variance between clusters: how far it decides.

        Returns
        -------
        Table
            One row a prior, of which the first is the model's: the typical rate with its interval
            (`CI_PROB`), the ends of the new-study rate's, the medians of sigma and rho, and the log
            marginal likelihood.

        Raises
        ------
        DfspError
            The fit has no exact posterior, or no clusters.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> counts = dfsp.evidence.tables.check_table(table.assign(t=list("xxy")), cluster="t")
        >>> dfsp.fit(counts).rho_priors()["rho"].round(1).to_list()
        [0.5, 0.7, 0.3]
        """
        own, rows = self._of_clusters(), {}
        for name, (a, b) in RHO_PRIORS.items():
            posterior = with_share(own, a, b)
            middle, low, high = posterior.typical_rate.quantile(MEDIAN_AND_ENDS)
            new_low, new_high = posterior.new_study_rate.quantile(MEDIAN_AND_ENDS)[1:]
            sigma, rho = (each.quantile(0.5)[0] for each in (posterior.sigma, posterior.rho))
            evidence = posterior.log_marginal_likelihood
            rows[name] = (middle, low, high, new_low, new_high, sigma, rho, evidence)
        columns = ["typical_rate", "low", "high", "new_low", "new_high", "sigma", "rho"]
        columns.append("log_marginal_likelihood")
        index = pd.Index(rows, name="prior of rho")
        return table_of([*rows.values()], digits=DIGITS, index=index, columns=columns)

    def _filled(self) -> Table:
        """Return the rows of studies with patients."""
        return self.studies[self.studies["total"] > 0]

    def _elpd(self) -> float | None:
        """Return the sum of the leave-one-out densities: of clusters, where rows belong to them."""
        if isinstance(self.posterior, Nested):
            return float(sum(self.posterior.leave_one_cluster_out_lpd.tolist()))
        lpd, total = (np.asarray(self.columns[name]) for name in ("leave_one_out_lpd", "total"))
        return _plain(sum(lpd[total > 0].tolist()))

    def as_dict(self, above: float | None = None) -> dict[str, Any]:
        """Return the fit as the object of schema `dfsp.fit/1`, with `above` a rate of interest.

        Examples
        --------
        >>> import dfsp, pandas as pd
        >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
        >>> found = dfsp.fit(table).as_dict()
        >>> found["schema"], round(found["typical_rate"]["q50"], 3)
        ('dfsp.fit/1', 0.327)
        """
        found = None if above is None else self.above(above)
        evidence = self.posterior and self.posterior.log_marginal_likelihood
        columns = {name: np.asarray(column).tolist() for name, column in self.columns.items()}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        studies = list(rows)
        filled = [row for row in studies if row["total"]]
        if found:
            for row, probability in zip(studies, found.studies["above"], strict=True):
                row["above"] = float(probability)
        return {
            "schema": "dfsp.fit/1",
            "engine": self.engine,
            "n_studies": len(filled),
            **({"n_clusters": len({row[CLUSTER] for row in filled})} if CLUSTER in columns else {}),
            "model": self.model.as_dict(),
            "log_marginal_likelihood": evidence,
            "elpd_leave_one_study_out": self._elpd(),
            **{
                name: _numbers(
                    dict(zip(STATISTICS, row.tolist(), strict=True)),
                    LEAST_RATE if name == "new_study_rate" else -math.inf,
                )
                for name, row in self.numbers.items()
            },
            "studies": [
                {
                    "study": row["study"],
                    **{name: row[name] for name in (CLUSTER,) if name in row},
                    "events": row["events"],
                    "total": row["total"],
                    "rate": _numbers(row, LEAST_RATE),
                    "leave_one_out_lpd": _plain(row["leave_one_out_lpd"]),
                    **{name: row[name] for name in (EXCHANGEABLE, "above") if name in row},
                }
                for row in studies
            ],
            **({"above": {"rate": found.rate, **found.population}} if found else {}),
            "prior_sensitivity": plain_powers(self.prior_sensitivity),
            "checks": [check.as_dict() for check in self.checks],
        }


def require_fit(of: Any) -> Fit:
    """Return a fit, for what users give; refuse anything else in words.

    Raises
    ------
    DfspError
        Not a fit.
    """
    if not isinstance(of, Fit):
        raise DfspError(f"a fit is needed, but this is a {type(of).__name__}; give fit(...)")
    return of


def fit(
    counts: Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    engine: Engine = "exact",
    draws: int = DRAWS,
    seed: int = SEED,
    leave_out: Literal["overlapping", "alone"] = "overlapping",
    gate: Literal["raise", "report"] = "raise",
) -> Fit:
    """Fit a hierarchical model to counts.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        From `dfsp.count` or `dfsp.read_table`, or any frame with columns study, events, total.
        Where a column of clusters was named, their effects are fitted too, `NestedNormal`.
    model : Model, optional
        By default `Model()`.
    engine : {"exact", "nuts", "both"}
        `"exact"` is deterministic; `"nuts"` samples with PyMC; `"both"` does both and checks that
        they agree within Monte Carlo error.
    draws : int
        NUTS draws in each of four chains, after tuning.
    seed : int
        Every random number of the NUTS engine derives from it.
    leave_out : {"overlapping", "alone"}
        Whether a study that is left out takes those that share its patients out with it.
    gate : {"raise", "report"}
        What to do when the convergence gate refuses the NUTS draws: raise, or keep the failed
        checks in the result and compare nothing with the draws.

    Returns
    -------
    Fit

    Raises
    ------
    DfspError
        Counts or an option that cannot be used.
    NotConverged
        The gate refused and `gate` is `"raise"`, or there is no exact result beside it.

    See Also
    --------
    dfsp.count, dfsp.read_table : Where counts come from.
    Fit : What can be asked of the result.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = fit(table, dfsp.Model(tau=dfsp.HalfNormal(0.5)))
    >>> result.summary.loc["typical_rate", ["q2.5", "q50", "q97.5"]].round(3).to_list()
    [0.184, 0.326, 0.503]
    """
    model = model or Model()
    for name, value, allowed in (
        ("engine", engine, get_args(Engine)),
        ("leave_out", leave_out, ("overlapping", "alone")),
        ("gate", gate, ("raise", "report")),
    ):
        if value not in allowed:
            raise DfspError(f"{name} {value!r} is not known; use one of {', '.join(allowed)}")
    sampling.check_options(draws, seed)
    counts = Counts.of(counts, clusters=True, empty=True)
    exact = None
    if engine != "nuts":
        exact = exact_fit(counts, model, posterior_of(counts, model, leave_out=leave_out))
    if exact is not None and engine == "exact":
        return exact
    model = _own_model(counts, model)
    sampled = sampling.sample(counts.table, model, draws=draws, seed=seed)
    if gate == "raise" or exact is None:
        sampling.require_converged(sampled)
    if exact is None:
        numbers, columns = _drawn(counts, model, sampled)
        checks = (*_identified(counts), *sampled.checks)
        return Fit(counts, model, engine, numbers, columns, checks, None, sampled)
    checks = (*exact.checks, *sampled.checks)
    if not sampled.refused:
        ours = pd.DataFrame.from_dict(dict(exact.numbers), orient="index", columns=STATISTICS)
        checks += sampling.agreement(sampling.summary(sampled.draws), ours)
    return replace(exact, engine=engine, sampled=sampled, checks=checks)


def posterior_of(
    counts: Counts, model: Model, *, leave_out: Literal["overlapping", "alone"] = "overlapping"
) -> Posterior:
    """Return the exact posterior of the rows with patients."""
    counts = counts.filled()
    together = counts.left_together if leave_out == "overlapping" else None
    columns = counts.columns
    both = columns["events"], columns["total"]
    if CLUSTER not in columns:
        return solve(*both, model, together=together)
    return solve_nested(*both, columns[CLUSTER], model, together=together)


def exact_fit(counts: Counts, model: Model, posterior: Posterior) -> Fit:
    """Return what an exact posterior says of counts.

    Parameters
    ----------
    counts : Counts
    model : Model
        As it was given; the posterior may have been told of other counts too.
    posterior : Posterior
        Of the rows with patients.
    """
    checks = (*_identified(counts), resolved(posterior))
    model = _own_model(counts, model)
    rows = _rows_of(model)
    numbers = dict(zip(rows, summaries([getattr(posterior, name) for name in rows]), strict=True))
    own = _own_columns(counts)
    found = _of_all_rows(
        posterior,
        own,
        lambda posterior: posterior.studies,
        lambda posterior: posterior.unseen_rate.summary(),
        lambda posterior: posterior.new_rows,
    )
    full = np.asarray(own["total"]) > 0
    lpd = np.full(len(full), np.nan)
    lpd[full] = posterior.leave_one_out_lpd
    rates = dict(zip(STATISTICS, found.T, strict=True))
    columns = own | rates | {"leave_one_out_lpd": lpd}
    if posterior.exchangeable is not None:
        assert model.effects.alone is not None
        columns[EXCHANGEABLE] = np.full(len(full), 1 - model.effects.alone.share)
        columns[EXCHANGEABLE][full] = posterior.exchangeable
    return Fit(counts, model, "exact", numbers, columns, checks, posterior, None)


def _own_model(counts: Counts, model: Model) -> Model:
    """Return the model with the clusters of the counts, if they have any."""
    return model.nested(counts.columns[CLUSTER]) if CLUSTER in counts.columns else model


def _own_columns(counts: Counts) -> dict[str, Any]:
    """Return the columns of counts that a fit shows."""
    names = ("study", CLUSTER, "events", "total")
    return {name: counts.columns[name] for name in names if name in counts.columns}


def _identified(counts: Counts) -> tuple[Check, ...]:
    """Return the check of what clusters can tell, where there are any."""
    columns = counts.filled().columns
    return (identified(columns[CLUSTER]),) if CLUSTER in columns else ()


def _drawn(
    counts: Counts, model: Model, sampled: sampling.Sampled
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return numbers and columns of a fit from draws."""
    own = _own_columns(counts)
    drawn = sampling.summary(sampled.draws)[list(STATISTICS)].reindex(_rows_of(model))
    both = np.asarray(own["events"]), np.asarray(own["total"])
    exist = model.effects.spread_moments(*both, model.tau)
    # Draws always have a mean, also where the distribution has none.
    missing = [m for m, exists in zip(("mean", "sd"), exist, strict=True) if not exists]
    drawn.loc[model.effects.spread, missing] = float("nan")
    rates = sampling.study_rates(sampled.draws)
    columns = own | {name: np.asarray(rates[name]) for name in STATISTICS}
    columns["leave_one_out_lpd"] = np.full(len(counts.table), np.nan)
    draws_of = sampled.draws["posterior"].to_dataset()
    if EXCHANGEABLE in draws_of:
        columns[EXCHANGEABLE] = draws_of[EXCHANGEABLE].mean(("chain", "draw")).to_numpy()
    return dict(zip(drawn.index, drawn.to_numpy(), strict=True)), columns


def centre_of(quantity: str, row: "Mapping[str, float] | pd.Series[float]") -> str:
    """Return the statistic by which a quantity is told, `"q50"` or `"mean"`."""
    return "q50" if quantity in MEDIANS else stands_for(row)


def check_threshold(rate: float) -> None:
    """Refuse what no rate is held against.

    Raises
    ------
    DfspError
        It is not strictly between 0 and 1.
    """
    if not 0 < rate < 1:
        raise DfspError(f"above = {rate!r}; give a rate above 0 and below 1")


def _of_all_rows(
    posterior: Posterior,
    columns: Mapping[str, Any],
    known: Callable[[Posterior], Array],
    unseen: Callable[[Posterior], Array],
    new_rows: Callable[[Nested], Array],
) -> Array:
    """Return what a posterior says of each row, along the first axis.

    Of a row with patients that is `known`; of one without what is said of one more row of its
    cluster, `new_rows`, if others are in it, else `unseen`.
    """
    full = np.asarray(columns["total"]) > 0
    of_full = known(posterior)
    if full.all():
        return of_full
    found = np.empty((len(full), *of_full.shape[1:]))
    found[full], found[~full] = of_full, unseen(posterior)
    if isinstance(posterior, Nested):
        cluster = np.asarray(columns[CLUSTER])
        by_cluster = dict(zip(dict.fromkeys(cluster[full]), new_rows(posterior), strict=True))
        for row in np.flatnonzero(~full):
            found[row] = by_cluster.get(cluster[row], found[row])
    return found


def resolved(posterior: Posterior) -> Check:
    """Return the verdict on the numerical error that the grid estimates of itself."""
    passed = posterior.error <= GRID_ERROR
    return Check(
        name="exact: grid resolves the posterior",
        passed=passed,
        value=float(posterior.error),
        limit=GRID_ERROR,
        says=f"the last coefficients of the grid are {posterior.error:.0e} of the largest"
        + ("." if passed else "; the numbers may be less exact than they are printed."),
    )


def _rows_of(model: Model) -> list[str]:
    return list(dict.fromkeys([*QUANTITIES, *model.quantities]))


def _named(studies: list[str]) -> str:
    """Return the names of studies, of many the first."""
    more = len(studies) - MOST_NAMED
    return ", ".join(studies[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"


def _is_told(check: Check) -> bool:
    """Whether a page shows a verdict: it is no plain yes, or it was asked for."""
    return check.passed is not True or check.name.startswith(PRIOR)


def _estimate(unit: Unit, row: "pd.Series[float]", centre: str) -> str:
    return unit.estimate(row[centre], row["q2.5"], row["q97.5"], INTERVAL)


def _numbers(row: Mapping[str, Any], least: float = -math.inf) -> dict[str, float | None]:
    """Return statistics as plain data, None for what does not exist or is only known as a bound."""
    return {name: _plain(row[name]) if row[name] > least else None for name in STATISTICS}


def _plain(value: float) -> float | None:
    """JSON has no NaN: what does not exist is null."""
    return None if math.isnan(value) else float(value)
