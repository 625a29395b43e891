"""Meta-regression of counts: the rate as a function of dose, setting, or another covariate.

theta_i ~ N(mu + sum_j b_j z_ij, tau^2) on the logit scale, with a prior of mu and one of every b_j,
Normal(0, 2.5) unless another is given; z are columns of mean 0 in which a number is counted in its
standard deviation and groups do not depend on which is the reference
(`dfsp.analyses.regression.design.Standard`). What is told is per unit of a covariate. Up to
`MOST_COEFFICIENTS` are integrated exactly (`dfsp.engine.linear`), more are sampled with NUTS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.analyses.regression.design import (
    Column,
    Standard,
    design_of,
    levels_of,
    outside,
    row_at,
    standard_of,
)
from dfsp.analyses.regression.studies import of_studies
from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, QUANTILES, SEED, STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.engine.distributions import Distribution
from dfsp.engine.grid import chebyshev_shares
from dfsp.engine.linear import MOST_COEFFICIENTS, LinearPosterior
from dfsp.engine.posterior import Population, solve
from dfsp.engine.powers import (
    LIKELIHOOD,
    Powers,
    PowerScaling,
    power_of_location,
    power_scaling,
)
from dfsp.engine.room import make_room
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts, Missing
from dfsp.fitting import CLUSTER, Engine
from dfsp.model.effects import Effects
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Normal
from dfsp.prior_words import LOCATION_LIMIT, decisive_priors
from dfsp.rates import INTERVAL, Unit
from dfsp.seeds import generator, integer
from dfsp.text import Result, Sentences, Table, chance, table_of
from dfsp.yardsticks import POINTS_EQUAL, TIMES_EQUAL, is_ordinary

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

SD = 2.5
"""Standard deviation of the default prior of coefficients, logit scale.

Coverage of the 95 % interval at fixed true coefficients (of a difference of two groups or of one
standard deviation of a number), 50 data sets of 10 to 60 patients a study for each of 47 designs:
two groups of 4, 8, 15 and 30 studies and four doses of 4 and 8, tau 0.2 and 0.8. The worst design
is in brackets. `tests/coefficient_coverage.py` measures it.

| sd of the prior | true 0 | true 1 | true 2 | true 3 |
|---|---|---|---|---|
| 1 | 0.98 | 0.96 | 0.92 (0.72) | 0.76 (0.44) |
| 1.25 | 0.97 | 0.96 | 0.96 (0.84) | 0.90 (0.74) |
| 2.5 | 0.97 (0.90) | 0.95 (0.90) | 0.98 (0.94) | 0.97 (0.94) |
| 5 | 0.97 (0.90) | 0.95 (0.90) | 0.97 (0.92) | 0.97 (0.92) |
"""

FACTORS = (0.5, 1.0, 2.0)
"""Of the prior's standard deviation: coefficients are told beside those under half and twice it."""

EQUAL = 0.95
"""Probability of a difference within the margin from which rates are called practically equal."""

LOG_TIMES = float(np.log(TIMES_EQUAL))

GRID_ERROR = 1e-5
"""Limit of the exact regression's own estimate of its error, as of a single fit's."""

KINDS = ("typical rate", "mean rate", "new-study rate")
FEW = 10
"""Studies a coefficient: the least that the Cochrane Handbook advises."""

MAX_Z = 4.0
LIMIT = 0.9
"""Posterior sd over prior sd, of a coefficient or a combination of them, that is not informed."""

SHARE = 0.5
"""Part of a coefficient in a combination that makes it belong there."""


@dataclass(frozen=True)
class Draws:
    """The sampler's draws, with what an exact posterior can say too.

    Attributes
    ----------
    beta : array, shape (draw, 1 + coefficient)
        Intercept and coefficients, per unit of their columns.
    tau : array, shape (draw,)
    theta : array, shape (draw, study)
        The studies' effects, logit scale.
    chains : int
        The draws are those of one after the other.
    effects : Effects
    """

    beta: Array
    tau: Array
    theta: Array
    chains: int
    effects: Effects

    def summary(self, values: Array) -> Array:
        """Return mean, sd and `QUANTILES`."""
        return np.array([values.mean(), values.std(), *np.quantile(values, QUANTILES)])

    def rates(self, row: Array) -> list[Array]:
        """Return summaries of typical, mean and new-study rate at a row of the design."""
        eta = self.beta @ _at(row)
        z = generator(SEED, "new study of a regression").standard_normal(len(eta))
        first, _ = self.effects.moments(eta, self.tau)
        values = (sigmoid(eta), first, sigmoid(eta + self.tau * z))
        return [self.summary(each) for each in values]

    def location(self, row: Array) -> Array:
        """Return the summary of the linear predictor at a row of the design."""
        return self.summary(self.beta @ _at(row))

    def table(self) -> pd.DataFrame:
        """Return `STATISTICS` and Monte Carlo errors of intercept, coefficients and tau."""
        import xarray as xr

        every = np.column_stack([self.beta, self.tau])
        drawn = every.reshape(self.chains, -1, every.shape[1])
        array = xr.DataArray(drawn, dims=("chain", "draw", "coefficient"))
        named = array.assign_coords(coefficient=np.arange(every.shape[1]))
        return sampling.summarise(named, "coefficient")


@dataclass(frozen=True)
class Exact:
    """The exact posterior, asked about the intercept and the coefficients per unit.

    Attributes
    ----------
    posterior : LinearPosterior
        Of mu and the coefficients of the columns that the prior is about.
    back : array
        As in `Standard`.
    """

    posterior: LinearPosterior
    back: Array

    @classmethod
    def of(cls, counts: Counts, standard: Standard, model: Model, coefficient: Normal) -> "Exact":
        """Place the posterior."""
        events, total = (counts.table[name].to_numpy(float) for name in ("events", "total"))
        posterior = LinearPosterior(events, total, standard.z, model, coefficient)
        return cls(posterior, standard.back)

    def population(self, v: npt.ArrayLike) -> Population:
        """Return what is known of studies with the linear predictor v . beta."""
        return self.posterior.population(np.asarray(v, dtype=np.float64) @ self.back)

    def coefficient(self, v: Array) -> tuple[Array, PowerScaling]:
        """Return summaries of v . beta under `FACTORS`, and what its prior does to it.

        Returns
        -------
        array, shape (factor, statistic)
            Mean, sd and `QUANTILES` where the standard deviation of its prior is so many times as
            large, and the others' are what they are; no quantiles without a lattice.
        PowerScaling
        """
        # In units of its prior, whatever the covariate's own
        unit = float(np.sqrt(v @ self.prior_covariance @ v))
        if self.posterior.is_exact:
            found = self.population(v / unit)
            rows = [_with_prior(found, factor).mu.summary() for factor in FACTORS]
            return unit * np.array(rows), power_of_location(found)
        # As if the likelihood were normal: a prior to a power near one adds its precision.
        mean, covariance = self.moments
        at, sd = float(v @ mean) / unit, float(np.sqrt(v @ covariance @ v)) / unit
        prior = float(v @ self.prior_mean) / unit
        rows = []
        for factor in FACTORS:
            more = factor**-2 - 1
            variance = 1 / (sd**-2 + more)
            middle = variance * (at * sd**-2 + prior * more)
            rows.append(np.array([middle, np.sqrt(variance), *[np.nan] * len(QUANTILES)]))
        return unit * np.array(rows), PowerScaling((prior - at) * sd, -0.5 * sd**2)

    def rates(self, row: Array) -> list[Array]:
        """Return summaries of typical, mean and new-study rate at a row of the design."""
        at = self.population(_at(row))
        return [kind.summary() for kind in (at.typical_rate, at.mean_rate, at.new_study_rate)]

    def location(self, row: Array) -> Array:
        """Return the summary of the linear predictor at a row of the design."""
        return self.population(_at(row)).mu.summary()

    def difference(self, first: npt.ArrayLike, second: npt.ArrayLike) -> Distribution:
        """Return the distribution of the typical rate at `second` minus that at `first`."""
        ends = (np.asarray(each, dtype=np.float64) @ self.back for each in (first, second))
        return self.posterior.difference(*ends)

    @property
    def moments(self) -> tuple[Array, Array]:
        """Posterior mean and covariance of intercept and coefficients."""
        mean, covariance = self.posterior.moments
        return self.back @ mean, self.back @ covariance @ self.back.T

    @property
    def prior_mean(self) -> Array:
        """Prior mean of intercept and coefficients."""
        return np.asarray(self.back @ self.posterior.mean)

    @property
    def prior_covariance(self) -> Array:
        """Prior covariance of intercept and coefficients."""
        return np.asarray((self.back * self.posterior.sd**2) @ self.back.T)

    @property
    def log_marginal_likelihood(self) -> float:
        """Log marginal likelihood of the counts, binomial coefficients included."""
        return self.posterior.log_marginal_likelihood

    @property
    def error(self) -> float:
        """Estimate of the relative error of all grids asked for so far."""
        return self.posterior.error


@dataclass(frozen=True, eq=False, repr=False)
class Regression(Result):
    """What a meta-regression says.

    Attributes
    ----------
    counts : Counts
        The studies that were used; `counts.dropped` says which were not and why.
    design : pandas.DataFrame
        One row a study, one column a coefficient.
    columns : mapping of str to Column
        What each column of the design stands for.
    model : Model
        `mu` is the logit rate of a median study that is as all studies are on average.
    coefficient : Normal
        Prior of the difference of two groups, and of that between numbers one standard deviation
        apart (or of a number that has two values, between these), logit scale.
    engine : {"exact", "nuts", "both"}
    coefficients : Table
        Indexed by `intercept` (where every column of the design is 0), the coefficients and `tau`
        (logit scale): `STATISTICS`, of draws their Monte Carlo errors (`mcse_mean`, ...),
        `prior_sd`, `location` and `width` (what the prior of each does to it, see
        `dfsp.engine.powers`), `sd_ratio` (posterior over prior sd, never a sampler's; missing for
        tau), `identified`: `no` where the ratio exceeds 0.9, `only together` where that of a
        combination with others does, which the data then cannot tell apart from it.
    partners : mapping of str to mapping of str to float
        By coefficient that is known only together with others, those others and the ratio of
        posterior to prior sd of the combination.
    other_priors : Table
        Indexed by `coefficient` and `factor`: `STATISTICS` where the standard deviation of its own
        prior is 0.5, 1 or 2 times as large; exact, without quantiles of more coefficients than
        `MOST_COEFFICIENTS`.
    log_marginal_likelihood : float or None
        None without the exact engine.
    checks : tuple of Check

    See Also
    --------
    regress : Makes one.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.regression.regress(table.assign(dose=[400, 400, 800]), "dose")
    >>> result.contrast("dose = 400", "dose = 800")[["q2.5", "q97.5", "above"]].round(2).to_dict()
    {'q2.5': -0.43, 'q97.5': 0.34, 'above': 0.31}
    """

    counts: Counts
    design: pd.DataFrame
    columns: Mapping[str, Column]
    model: Model
    coefficient: Normal
    engine: Engine
    coefficients: Table
    partners: Mapping[str, Mapping[str, float]]
    other_priors: Table
    log_marginal_likelihood: float | None
    checks: tuple[Check, ...]
    posterior: Exact | Draws = field(repr=False)

    @cached_property
    def levels(self) -> dict[str, Array]:
        """The distinct rows of the design by name."""
        return levels_of(self.design, self.columns)

    @cached_property
    def rates(self) -> Table:
        """Indexed by the distinct rows of the design, named `at`, and `rate`.

        For each a typical, a mean and a new-study rate: `STATISTICS`, rate scale.
        """
        return _rates(self.posterior, self.levels)

    @cached_property
    def standard(self) -> Standard:
        """The columns that the prior of coefficients is about."""
        return standard_of(self.design, self.columns)

    @property
    def moderators(self) -> list[str]:
        """Covariates and their interactions."""
        return list(dict.fromkeys(column.covariate for column in self.columns.values()))

    def location(self, row: Array) -> "pd.Series[float]":
        """Return `STATISTICS` of the typical logit rate at a row of the design."""
        return pd.Series(self.posterior.location(row), index=list(STATISTICS))

    @cached_property
    def average(self) -> Table:
        """Indexed by `rate`: those of a study that is as all are on average, as in `rates`."""
        return _rates(self.posterior, {"average study": self._average}).droplevel("at")

    @property
    def _average(self) -> Array:
        return self.design.mean().to_numpy(float)

    @cached_property
    def summary(self) -> Table:
        """Indexed by `mu`, `tau` and the rates of a study that is as all are on average."""
        rows = [self.posterior.location(self._average), self.coefficients.loc["tau", [*STATISTICS]]]
        rows += [self.average.loc[kind] for kind in KINDS]
        names = ["mu", "tau", *(kind.replace(" ", "_").replace("-", "_") for kind in KINDS)]
        return table_of(np.array(rows, dtype=float), index=names, columns=list(STATISTICS))

    @cached_property
    def studies(self) -> Table:
        """One row a study: counts, `STATISTICS` of its rate under the model, `leave_one_out_lpd`.

        The last is missing without the exact engine.
        """
        table = self.counts.table[["study", "events", "total"]].reset_index(drop=True)
        if isinstance(self.posterior, Draws):
            rates = np.array(
                [self.posterior.summary(each) for each in sigmoid(self.posterior.theta).T]
            )
            lpd = np.full(len(table), np.nan)
        else:
            counts = table[["events", "total"]].to_numpy(float).T
            rates, lpd = of_studies(self.posterior.posterior, self.standard.z, counts)
        known = dict(zip(STATISTICS, rates.T, strict=True))
        return table_of(table.assign(**known, leave_one_out_lpd=lpd))

    def predict(self, at: Mapping[str, Any]) -> "Prediction":
        """Predict the rates at values of the covariates, which nobody need have studied.

        Parameters
        ----------
        at : mapping of str to float or str
            A value of each covariate.

        Returns
        -------
        Prediction

        Raises
        ------
        DfspError
            A value missing or too many, a group that is not known, or no number.

        Examples
        --------
        >>> import pandas as pd
        >>> table = {"study": list("ABC"), "events": [3, 8, 5], "total": [9, 20, 19]}
        >>> regress(pd.DataFrame(table | {"x": [1, 2, 3]}), "x").predict({"x": 5}).outside
        'x = 5 lies outside the studies (1 to 3)'
        """
        row = row_at(self.columns, at)
        name = "; ".join(f"{key} = {value}" for key, value in at.items())
        rates = _rates(self.posterior, {name: row}).droplevel("at")
        far = outside(self.design, self.columns, row)
        return Prediction(dict(at), name, rates, far, self.counts.rates_in)

    def few(self) -> Sentences:
        """Say so where there are fewer than ten studies a coefficient; `""` where there are not."""
        studies, coefficients = self.design.shape
        if studies >= FEW * coefficients:
            return Sentences("")
        many = "1 coefficient" if coefficients == 1 else f"{coefficients} coefficients"
        return Sentences(
            f"{studies} studies for {many}: the Cochrane Handbook (chapter 10) advises at least "
            f"{FEW} studies for each characteristic that is modelled, and warns that even these "
            "are too few where the characteristic is unevenly distributed over the studies."
        )

    @property
    def prior(self) -> str:
        """What the prior of coefficients is, and what it is about."""
        counted = [f"{unit:.3g} in {name}" for name, unit in self.standard.units.items()]
        groups = any(column.level for column in self.columns.values())
        about = [*(["of two groups"] if groups else []), *(f"of {each}" for each in counted)]
        return f"coefficients ~ {self.coefficient} for a difference {' or '.join(about)}"

    def prior_warning(self, *, written: Callable[[str], str] = str) -> Sentences:
        """Say which priors decide: of mu and tau for the average study, of coefficients.

        `""` if none does, or if it is not known.

        Parameters
        ----------
        written : callable, optional
            How the name of a parameter is written.
        """
        said = self._of_average(written), self._of_coefficients()
        return Sentences(" ".join(filter(None, said)))

    @cached_property
    def prior_sensitivity(self) -> Powers | None:
        """How the average study's quantities move when the prior of mu or of tau is raised.

        As `dfsp.Fit.prior_sensitivity`, without the likelihood, which is known here with the
        coefficients integrated out; how these move stands in `coefficients`. None if sampled.
        """
        drawn = self.posterior
        if isinstance(drawn, Draws) or not drawn.posterior.is_exact:
            return None
        powers = power_scaling(drawn.population(_at(self._average)))
        return {
            quantity: {name: each for name, each in moved.items() if name != LIKELIHOOD}
            for quantity, moved in powers.items()
        }

    def _of_average(self, written: Callable[[str], str]) -> Sentences:
        """Say which prior decides the rates of the average study, at which mu is the predictor."""
        if self.prior_sensitivity is None:
            return Sentences()
        powers = {"the average study": self.prior_sensitivity}
        return decisive_priors(powers, self.model.effects.prior_names, written)

    def _of_coefficients(self) -> Sentences:
        pulled = {
            str(name): power
            for name, power in self.coefficients["location"].items()
            if name in self.design and abs(power) > LOCATION_LIMIT
        }
        if not pulled:
            return Sentences("")
        said = [
            f"{name} {'up' if power > 0 else 'down'} (location {power:+.2f}, limit "
            f"{LOCATION_LIMIT:g})"
            for name, power in pulled.items()
        ]
        return Sentences(
            f"The prior of coefficients decides: it pulls {', '.join(said)}; choose its standard "
            "deviation from knowledge other than these counts, and report more than one."
        )

    def describe(self, *, written: Callable[[str], str] = str) -> Sentences:
        """Say what each coefficient is, and which of them the data do not inform.

        Parameters
        ----------
        written : callable, optional
            How the name of a parameter is written.
        """
        said = []
        for name in map(str, self.design):
            row = self.coefficients.T[name]
            centre = self.columns[name].centre
            origin = f" from {centre:g}" if centre else ""
            narrow, _, wide = self.other_priors.xs(name, level="coefficient")[_told(self)]
            told = row["q50"], row["q2.5"], row["q97.5"], narrow, wide
            middle, low, high, half, twice = _rounded(*told)
            text = (
                f"{name}{origin}: {middle} ({low} to {high}, logit scale; {half} and {twice} "
                "under half and twice the prior's standard deviation)"
            )
            if row["identified"] == "no":
                text += (
                    f", not identifiable, its posterior is {100 * row['sd_ratio']:.0f} % as wide "
                    "as its prior"
                )
            said.append(text)
        dropped = self.counts.dropped
        gone = [
            f"{', '.join(group['study'])}, {reason}"
            for reason, group in dropped.groupby("reason", sort=False)
        ]
        left_out = f" ({len(dropped)} left out: {'; '.join(gone)})" if gone else ""
        first = f"{len(self.design)} cohorts{left_out}; {self.prior}. {'; '.join(said)}."
        warned = filter(None, [self.prior_warning(written=written), self.few()])
        return Sentences(" ".join([first, *warned, *self._told_apart()]))

    def identification(self) -> Sentences:
        """Say which coefficients the data inform: verdicts without a digit of a sampler."""
        table = self.coefficients.loc[list(self.design)]
        known = [str(name) for name in table.index[table["identified"] == "yes"]]
        prior = [
            f"{name} is not identifiable: its posterior is {100 * ratio:.1f} % as wide as its "
            "prior."
            for name, ratio in table.loc[table["identified"] == "no", "sd_ratio"].items()
        ]
        first = f"The data inform {', '.join(known)}." if known else ""
        return Sentences(" ".join(part for part in [first, *prior, *self._told_apart()] if part))

    def agreement(self) -> Sentences:
        """Say in one line whether the checks hold."""
        bad = ", ".join(check.name for check in failed(self.checks))
        return Sentences(f"checks failed: {bad}" if bad else "all checks passed")

    def contrast(self, first: str, second: str, margin: float | None = None) -> "pd.Series[float]":
        """Compare the typical rates at two rows of the design.

        Parameters
        ----------
        first, second : str
            Names in the index `at` of `rates`.
        margin : float, optional
            Rates that differ by less are called practically equal; rate scale, 0 to 1. By default
            10 points, or where the average study's rate is below 10 or above 90 %, and points say
            nothing, rates whose odds are within 1.5 times each other's.

        Returns
        -------
        pandas.Series
            `STATISTICS` of rate(second) - rate(first), `above` = P(difference > 0), and `equal` =
            P(|difference| < margin), or of the odds.

        Raises
        ------
        DfspError
            A name that is not there, or a margin outside (0, 1).
        """
        levels = self.levels
        unknown = [name for name in (first, second) if name not in levels]
        if unknown:
            found = f"{', '.join(unknown)}: no such row of the design"
            raise DfspError(f"{found}; known: {', '.join(levels)}")
        near = self.margin_of(margin)
        one, two = _at(levels[first]), _at(levels[second])
        drawn = self.posterior
        if isinstance(drawn, Draws):
            apart = sigmoid(drawn.beta @ two) - sigmoid(drawn.beta @ one)
            numbers, above = drawn.summary(apart), float((apart > 0).mean())
            of, within = (drawn.beta @ (two - one), LOG_TIMES) if near is None else (apart, near)
            equal = float((np.abs(of) < within).mean())
        else:
            gap = drawn.difference(one, two)
            numbers, above = gap.summary(), gap.prob_above(0.0)
            if near is None:
                shift = drawn.population(two - one).mu
                equal = shift.prob_above(-LOG_TIMES) - shift.prob_above(LOG_TIMES)
            else:
                equal = gap.prob_above(-near) - gap.prob_above(near)
        values, names = [*numbers.tolist(), above, equal], [*STATISTICS, "above", "equal"]
        return pd.Series(values, index=names, name=f"{second} minus {first}")

    def margin_of(self, margin: float | None) -> float | None:
        """Return the difference of rates that makes none; None where odds are compared instead.

        Raises
        ------
        DfspError
            A margin outside (0, 1).
        """
        if margin is None:
            middle = float(self.average["q50"]["typical rate"])
            return POINTS_EQUAL if is_ordinary(middle) else None
        if not 0 < margin < 1:
            raise DfspError(f"margin = {margin!r}; give a difference of rates between 0 and 1")
        return margin

    def contrasts(self, margin: float | None = None) -> Table:
        """Return `contrast` of every pair of rows of the design, one a row."""
        pairs = combinations(self.levels, 2)
        rows = pd.DataFrame([self.contrast(*pair, margin) for pair in pairs])
        return table_of(rows, rates=True)

    def difference(self, margin: float | None = None) -> "Difference":
        """Return how far the typical rates at the first and the last row of the design differ."""
        levels = list(self.levels)
        return Difference(self, levels[0], levels[-1], self.margin_of(margin))

    def dose_at(self, level: str) -> str:
        """Return the dose at a row of a design that is about dose alone, else the row's name."""
        if not all("dose_mg" in column.covariate for column in self.columns.values()):
            return level
        here = (self.design == self.levels[level]).all(axis=1).to_numpy()
        doses = self.counts.table.loc[here, "dose_mg"].unique()
        if len(doses) != 1 or pd.isna(doses[0]):
            return level
        return str(doses[0]) if isinstance(doses[0], str) else f"{doses[0]:g} mg"

    def _told_apart(self) -> list[str]:
        """Return one sentence a pair of coefficients that are known only together."""
        said: list[str] = []
        pairs: set[frozenset[str]] = set()
        for first, partners in self.partners.items():
            for second, ratio in partners.items():
                if (pair := frozenset((first, second))) in pairs:
                    continue
                pairs.add(pair)
                why = separators(self.counts, self.design, self.columns, first, second)
                said.append(
                    f"{first} and {second} cannot be told apart{': ' if why else ''}{why}; a "
                    f"combination of the two is {100 * ratio:.1f} % as wide as its prior."
                )
        return said


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Result):
    """The rates that a regression predicts at values of its covariates.

    Attributes
    ----------
    at : mapping of str to float or str
        The values.
    name : str
        How they are called.
    rates : Table
        Indexed by `rate` (typical, mean, new-study): `STATISTICS`, rate scale.
    outside : str
        Where they lie outside of what was studied; empty where they do not.
    unit : Unit
        In which rates are said.
    """

    at: Mapping[str, Any]
    name: str
    rates: Table
    outside: str
    unit: Unit

    def describe(self) -> Sentences:
        """Say the typical rate and what a new study should expect there."""
        typical, new = (self.rates.T[kind] for kind in (KINDS[0], KINDS[2]))
        low, high = self.unit.numbers(new["q2.5"], new["q97.5"])
        rate = self.unit.estimate(typical["q50"], typical["q2.5"], typical["q97.5"], INTERVAL)
        text = (
            f"At {self.name} the rate of a typical study is {rate}; the true rate of a new study "
            f"is expected between {low} and {high} {self.unit.sign}."
        )
        far = ""
        if self.outside:
            far = f" This is an extrapolation, which rests on the model alone: {self.outside}."
        return Sentences(text + far)


@dataclass(frozen=True, eq=False, repr=False)
class Difference(Result):
    """How far the typical rates at two rows of the design of a regression differ.

    Attributes
    ----------
    regression : Regression
    first, last : str
        Names of the rows.
    margin : float or None
        Rates that differ by less are practically equal; None: those whose odds are within
        `dfsp.yardsticks.TIMES_EQUAL` times each other's.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> result = dfsp.regression.regress(table.assign(dose_mg=[400, 400, 800]), "dose_mg")
    >>> result.difference(margin=0.2)  # doctest: +NORMALIZE_WHITESPACE
    Event, 3 cohorts: the median study's rate is 36.0 % at 400 mg and 26.8 % at 800 mg;
    the difference lies between -42.7 and 33.9 points (95% interval), is positive with
    probability 0.31, and smaller than 20 points with probability 0.68: these counts do
    not show that the rates are equal.
    """

    regression: Regression
    first: str
    last: str
    margin: float | None

    def describe(self) -> Sentences:
        """Return the headline of a meta-regression on one covariate."""
        result, margin = self.regression, self.margin
        gap, rates = result.contrast(self.first, self.last, margin), result.rates["q50"]
        counts, unit = result.counts, result.counts.rates_in
        one, two = (
            f"{unit.rate(rates[row, 'typical rate'])} at {result.dose_at(row)}"
            for row in (self.first, self.last)
        )
        low, high = unit.differences(gap["q2.5"], gap["q97.5"])
        if margin is None:
            close = f"within {TIMES_EQUAL:g} times each other's"
            closer, within = f"odds {close}", f"the odds are {close}"
        else:
            size = unit.chosen(margin, apart=True)
            closer, within = f"closer than {size}", f"smaller than {size}"
        equal = chance(gap["equal"], 2)
        source = f" (evidence set '{counts.evidence_set}')" if counts.evidence_set else ""
        verdict = (
            f"the rates are practically equal ({closer}) with probability {equal}."
            if gap["equal"] >= EQUAL
            else f"{within} with probability {equal}: these counts do not show that the rates are "
            "equal."
        )
        return Sentences(
            f"{counts.label.capitalize()}{source}, {len(result.design)} cohorts: the median "
            f"study's rate is {one} and {two}; the difference lies between {low} and "
            f"{high} {unit.steps} ({INTERVAL}), is positive with "
            f"probability {chance(gap['above'], 2)}, and {verdict}"
        )


def regress(
    counts: Counts | pd.DataFrame,
    covariates: str | Sequence[str],
    *,
    model: Model | None = None,
    coefficient: Normal | None = None,
    engine: Engine | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
    missing: Missing = "drop",
) -> Regression:
    """Fit a meta-regression.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        With the covariates as columns.
    covariates : str or sequence of str
        A numeric column is used as it is if its range holds 0, and is otherwise measured from
        about its mean over patients (`columns[name].centre`). A
        text column becomes one coefficient for each level but the one with most patients, which
        is the reference. `"a:b"` is the interaction of two that are named too.
    model : Model, optional
        Priors of mu and tau; normal effects. mu is about a study that is as all are on average.
    coefficient : Normal, optional
        Prior of the difference of two groups, and of one standard deviation of a number (of a
        number with two values, which are groups, their distance); its mean is 0. By default
        Normal(0, 2.5), logit scale.
    engine : {"exact", "nuts", "both"}, optional
        By default exact for up to three coefficients and NUTS for more.
    draws : int
        NUTS draws of each of four chains.
    seed : int
    missing : {"drop", "refuse"}
        What to do with a study of which a covariate is not known: leave it out and name it in
        `counts.dropped`, or refuse the table.

    Returns
    -------
    Regression

    Raises
    ------
    DfspError
        No covariate or an unknown one, numbers that are not finite, a single level, more
        coefficients than studies, columns of which one follows from others, a prior whose mean is
        not 0, or the exact engine for more coefficients than it holds.
    NotConverged
        The gate refused the NUTS draws.

    See Also
    --------
    dfsp.regression.log2_of, dfsp.regression.as_groups : Doses as numbers and as groups.

    Examples
    --------
    >>> import pandas as pd
    >>> table = {"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19], "x": [-1, 0, 1]}
    >>> regress(pd.DataFrame(table), "x").coefficients.loc["x", "identified"]
    'yes'
    """
    counts = Counts.of(counts, clusters=True)
    if CLUSTER in counts.table:
        raise DfspError(
            "a meta-regression does not model clusters: rows that belong together would count as "
            "studies of their own. Where a covariate is the same in all rows of a cluster, add "
            "these up and name no clusters; groups can be fitted one by one, each with its "
            "clusters (--by COLUMN --cluster COLUMN, dfsp.fit_by). Without clusters the rows are "
            "taken for independent, and the intervals of coefficients are not those of clusters"
        )
    model = model or Model()
    coefficient = coefficient or Normal(0, SD)
    if coefficient.mean:
        raise DfspError(
            f"coefficient = {coefficient}: its sign would depend on which group is the reference; "
            "give a mean of 0"
        )
    names = [covariates] if isinstance(covariates, str) else list(dict.fromkeys(covariates))
    model.require_linear("a meta-regression has")
    used, design, columns = design_of(counts, names)
    gone = used.dropped.iloc[len(counts.dropped) :]
    if missing == "refuse" and len(gone):
        faults = [f"study {row.study!r}: {row.reason}" for row in gone.itertuples()]
        faults.append("such studies are left out with --missing drop (missing='drop')")
        raise DfspError.of("moderators", "a value is missing", faults)
    engine = engine or ("exact" if design.shape[1] <= MOST_COEFFICIENTS else "nuts")
    if engine not in get_args(Engine):
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(get_args(Engine))}")
    if engine != "nuts" and design.shape[1] > MOST_COEFFICIENTS:
        raise DfspError(
            f"the exact engine takes up to {MOST_COEFFICIENTS} coefficients and there are "
            f"{design.shape[1]} ({', '.join(map(str, design))}); use engine='nuts'"
        )
    checks: list[Check] = []
    standard = standard_of(design, columns)
    exact = Exact.of(used, standard, model, coefficient)
    posterior: Exact | Draws = exact
    if engine != "exact":
        pymc_model = _build(used, standard, model, coefficient)
        tree = sampling.run(pymc_model, draws, integer(seed, "regression"))
        judged = ["mu", "b", *(["tau"] if model.tau.known is None else [])]
        gate = sampling.gate(tree, judged)
        sampling.require_converged(sampling.Sampled(tree, gate, ()))
        checks.extend(gate)
        if engine == "both":
            checks.extend(_agreement(exact, tree, design, levels_of(design, columns)))
        else:
            posterior = _drawn(tree, standard, model.effects)
    coefficients, other_priors, partners = _coefficients(posterior, exact, design)
    if engine != "nuts":
        checks.insert(0, _resolved(exact))
    return Regression(
        used,
        design,
        columns,
        model,
        coefficient,
        engine,
        coefficients,
        partners,
        other_priors,
        exact.log_marginal_likelihood if engine != "nuts" else None,
        tuple(checks),
        posterior,
    )


def _resolved(exact: Exact) -> Check:
    return Check(
        "exact: grids resolve the posterior", exact.error <= GRID_ERROR, exact.error, GRID_ERROR,
        f"the grids of the regression are off by about {exact.error:.0e}, relative to the largest "
        "density.",
    )  # fmt: skip


def _build(counts: Counts, standard: Standard, model: Model, coefficient: Normal) -> Any:
    make_room()
    import pymc as pm

    table = counts.table
    coords = {"study": table["study"].to_list(), "coefficient": range(standard.z.shape[1])}
    with pm.Model(coords=coords) as result:
        mu = pm.Normal("mu", model.mu.mean, model.mu.sd)
        b = pm.Normal("b", coefficient.mean, coefficient.sd, dims="coefficient")
        tau = sampling.positive_variable(pm, model.tau, "tau")
        z = pm.Normal("z", dims="study")
        theta = pm.Deterministic("theta", mu + standard.z @ b + tau * z, dims="study")
        pm.Binomial(
            "events", n=table["total"].to_numpy(np.int64), logit_p=theta,
            observed=table["events"].to_numpy(np.int64), dims="study",
        )  # fmt: skip
    return result


def _beta(tree: "xr.DataTree", back: Array) -> Array:
    """Return draws of intercept and coefficients per unit, (chain, draw, coefficient)."""
    posterior = tree["posterior"].to_dataset()
    mu, b = (posterior[name].to_numpy() for name in ("mu", "b"))
    return np.asarray(np.concatenate([mu[..., None], b], axis=-1) @ back.T)


def _drawn(tree: "xr.DataTree", standard: Standard, effects: Effects) -> Draws:
    beta = _beta(tree, standard.back)
    tau, theta = (tree["posterior"][name].to_numpy() for name in ("tau", "theta"))
    flat = (each.reshape(tau.size, -1) for each in (beta, theta))
    drawn, effect = flat
    return Draws(drawn, tau.ravel(), effect, len(tau), effects)


def _units(design: pd.DataFrame) -> dict[str, Array]:
    """Return by name what picks the intercept and each coefficient out of beta."""
    names = ["intercept", *map(str, design)]
    return dict(zip(names, np.eye(len(names)), strict=True))


def _at(row: Array) -> Array:
    """Return a row of the design with its 1 for the intercept."""
    return np.append(1.0, row)


def _agreement(
    exact: Exact, tree: "xr.DataTree", design: pd.DataFrame, levels: Mapping[str, Array]
) -> list[Check]:
    """Compare sampled means with exact ones, in Monte Carlo standard errors."""
    import arviz as az

    beta, tau = _beta(tree, exact.back), tree["posterior"]["tau"].to_numpy()
    pairs = {
        name if name == "intercept" else f"coefficient of {name}": (
            beta @ unit,
            exact.coefficient(unit)[0][1, 0],
        )
        for name, unit in _units(design).items()
    }
    of_tau = exact.population(_at(np.zeros(design.shape[1]))).tau
    if of_tau.sd:
        pairs["tau"] = (tau, of_tau.mean)
    for name, row in levels.items():
        rate = exact.population(_at(row)).typical_rate.mean
        pairs[f"typical rate at {name}"] = (sigmoid(beta @ _at(row)), rate)
    checks = []
    for name, (sampled, value) in pairs.items():
        error = float(az.mcse(sampled, method="mean"))
        z = abs(float(sampled.mean()) - value) / error if error else 0.0
        checks.append(
            Check(
                f"agreement of {name}",
                z <= MAX_Z,
                z,
                MAX_Z,
                f"The sampled mean is {z:.1f} Monte Carlo standard errors from the exact one.",
            )
        )
    return checks


def _coefficients(
    posterior: Exact | Draws, exact: Exact, design: pd.DataFrame
) -> tuple[Table, Table, dict[str, dict[str, float]]]:
    """Summarise the coefficients, and say which of them the counts do not inform.

    That verdict must not hang on a sampler's seed: it comes from `exact`, whatever the engine.
    """
    units = _units(design)
    found = [exact.coefficient(unit) for unit in units.values()]
    names = list(units)
    index = pd.Index([*names, "tau"], name="coefficient")
    if isinstance(posterior, Draws):
        drawn = posterior.table()
        table = table_of(drawn.to_numpy(), index=index, columns=list(drawn))
    else:
        rows = [each[FACTORS.index(1.0)] for each, _ in found]
        rows.append(posterior.population(units["intercept"]).tau.summary())
        table = table_of(rows, index=index, columns=list(STATISTICS))
    covariance, prior = exact.moments[1], exact.prior_covariance
    prior_sds = np.sqrt(np.diag(prior))
    table["prior_sd"] = [*prior_sds, np.nan]
    for name in PowerScaling._fields:
        table[name] = [*(getattr(power, name) for _, power in found), np.nan]
    table["sd_ratio"] = [*np.sqrt(np.diag(covariance)) / prior_sds, np.nan]
    # In the units of the prior, as close to the coefficients as they can be
    variances, axes = np.linalg.eigh(prior[1:, 1:])
    whiten = (axes / np.sqrt(variances)) @ axes.T
    partners = weak_partners(whiten @ covariance[1:, 1:] @ whiten, names[1:], 1.0)
    table["identified"] = [
        "-" if np.isnan(ratio) else "no" if ratio > LIMIT
        else "only together" if name in partners else "yes"
        for name, ratio in table["sd_ratio"].items()
    ]  # fmt: skip
    under = pd.MultiIndex.from_product([names[1:], FACTORS], names=["coefficient", "factor"])
    others = np.concatenate([each for each, _ in found[1:]])
    return table, table_of(others, index=under, columns=list(STATISTICS)), partners


def _with_prior(population: Population, factor: float) -> Population:
    """Return what is known where the sd of the location's prior is `factor` times as large."""
    grid, prior = population.grid, population.model.mu
    mu, _ = grid.place(chebyshev_shares(grid.columns))
    other = replace(prior, sd=factor * prior.sd)
    log_joint = grid.log_joint + (other.logpdf(mu) - prior.logpdf(mu))
    return replace(population, grid=replace(grid, log_joint=log_joint))


def _rates(posterior: Exact | Draws, levels: Mapping[str, Array]) -> Table:
    rows = [summary for row in levels.values() for summary in posterior.rates(row)]
    names = pd.MultiIndex.from_product([levels, KINDS], names=["at", "rate"])
    return table_of(rows, rates=True, index=names, columns=list(STATISTICS))


def covariate(
    counts: Counts | pd.DataFrame,
    name: str,
    *,
    model: Model | None = None,
    coefficient: Normal | None = None,
) -> Sentences:
    """Say what a regression on one covariate finds, or why these counts cannot tell.

    See Also
    --------
    regress : The same as numbers.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> said = dfsp.regression.covariate(table.assign(dose=400), "dose")
    >>> print(said)  # doctest: +NORMALIZE_WHITESPACE
    Nothing can be said of dose: covariates: these cannot be used dose: only 400 is left;
    a covariate needs two different values
    """
    try:
        found = regress(counts, name, model=model, coefficient=coefficient, engine="exact")
    except DfspError as error:
        return Sentences(f"Nothing can be said of {name}: {error}")
    return found.describe()


def compare(
    tables: Mapping[str, Counts | pd.DataFrame],
    covariate: str,
    *,
    model: Model | None = None,
    coefficient: Normal | None = None,
) -> Table:
    """Regress several tables of counts on the same covariate, which has a single coefficient.

    Parameters
    ----------
    tables : mapping of str to Counts or pandas.DataFrame
    covariate : str
    model : Model, optional
    coefficient : Normal, optional
        As in `regress`.

    Returns
    -------
    Table
        Indexed by the names of the tables: `cohorts`, `STATISTICS` of the coefficient, and
        `prior_sd`, its prior's standard deviation; all per unit of the covariate.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> table = table.assign(dose=[400, 400, 800])
    >>> tables = {"all": table, "without A": table.tail(2)}
    >>> dfsp.regression.compare(tables, "dose")["cohorts"].to_dict()
    {'all': 3, 'without A': 2}
    """
    rows = {}
    for name, counts in tables.items():
        found = regress(counts, covariate, model=model, coefficient=coefficient, engine="exact")
        (row,) = (
            found.coefficients.loc[list(found.design), [*STATISTICS, "prior_sd"]]
            .to_numpy()
            .tolist()
        )
        rows[name] = [len(found.design), *row]
    columns = ["cohorts", *STATISTICS, "prior_sd"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table_of(frame.rename_axis("table"), digits=3)


def bayes_factors(
    counts: Counts | pd.DataFrame,
    covariate: str,
    *,
    model: Model | None = None,
    sds: Sequence[float] = (0.5, 1.0, SD, 2 * SD),
) -> Table:
    """Weigh an effect of the covariate against none, on identical studies.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    covariate : str
        One that has a single coefficient.
    model : Model, optional
    sds : sequence of float
        Standard deviations of the coefficient's normal prior about 0, as `coefficient` in
        `regress`, logit scale.

    Returns
    -------
    Table
        Indexed by `prior_sd`: `log_marginal_likelihood`, `log_marginal_likelihood_none`,
        `bayes_factor` (above 1 in favour of an effect).

    Raises
    ------
    DfspError
        A prior of tau under which log marginal likelihoods cannot be compared; or as `regress`.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> table = table.assign(dose=[400, 400, 800])
    >>> found = dfsp.regression.bayes_factors(table, "dose", sds=[0.5, 1])
    >>> found["bayes_factor"].round(2).to_dict()
    {0.5: 0.9, 1.0: 0.73}
    """
    rows = []
    for sd in sds:
        effect = regress(counts, covariate, model=model, coefficient=Normal(0, sd), engine="exact")
        if effect.model.no_comparison:
            raise DfspError(effect.model.no_comparison)
        table = effect.counts.table
        none = solve(table["events"], table["total"], effect.model).log_marginal_likelihood
        log_ml = effect.log_marginal_likelihood or 0.0
        rows.append([log_ml, none, float(np.exp(log_ml - none))])
    columns = ["log_marginal_likelihood", "log_marginal_likelihood_none", "bayes_factor"]
    return table_of(rows, index=pd.Index(sds, name="prior_sd"), columns=columns)


def weak_partners(
    covariance: Array, names: list[str], prior_sd: float
) -> dict[str, dict[str, float]]:
    """Return the coefficients of which the data inform a combination only, with their partners.

    Two confounded coefficients share what is known of their sum, so that each looks informed; the
    combination in which they differ keeps its prior.

    Parameters
    ----------
    covariance : array, shape (coefficient, coefficient)
    names : list of str
    prior_sd : float

    Returns
    -------
    dict of str to dict of str to float
        By coefficient and partner, posterior over prior sd of the combination.
    """
    if len(names) < 2:
        return {}
    variances, directions = np.linalg.eigh(covariance / prior_sd**2)
    partners: dict[str, dict[str, float]] = {}
    for ratio, direction in zip(np.sqrt(variances), np.abs(directions).T, strict=True):
        if ratio <= LIMIT:
            continue
        most = set(np.argsort(direction)[-2:]) | set(np.flatnonzero(direction > SHARE))
        for i in sorted(most):
            for j in sorted(most - {i}):
                partners.setdefault(names[i], {})[names[j]] = float(ratio)
    return partners


def separators(
    counts: Counts, design: pd.DataFrame, columns: Mapping[str, Column], first: str, second: str
) -> str:
    """Say which cohorts alone tell two groups apart; empty if one of them is a number.

    Two groups go together in most patients, or exclude each other in most; the cohorts in which
    they do not are all that separates them.
    """
    if not (columns[first].level and columns[second].level):
        return ""
    if columns[first].covariate == columns[second].covariate:
        return ""
    table = counts.table
    alike = (design[first] == design[second]).to_numpy()
    usual = table.loc[alike, "total"].sum() * 2 >= table["total"].sum()
    rare = table[alike != usual]
    if rare.empty:
        return "no cohort separates them"
    cohorts = ", ".join(f"{row.study} ({row.total} patients)" for row in rare.itertuples())
    return f"only {cohorts} separate{'s' if len(rare) == 1 else ''} them"


def _told(result: Regression) -> str:
    """Return which statistic tells a coefficient: the median, or the mean where that is all."""
    exact = len(result.design.columns) <= MOST_COEFFICIENTS
    return "q50" if exact else "mean"


def _rounded(*values: float) -> list[str]:
    """Return numbers as text, with as many decimals as their range needs."""
    spread = max(values) - min(values)
    decimals = 2 if not spread > 0 else max(2, 1 - int(np.floor(np.log10(spread / 2))))
    return [f"{value:z.{decimals}f}" for value in values]
