"""Meta-regression of counts: the rate as a function of dose, setting, or another covariate.

theta_i ~ N(mu + sum_j b_j x_ij, tau^2) on the logit scale. Up to `MOST_COEFFICIENTS` are
integrated exactly (`dfsp.engine.linear`), more are sampled with NUTS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.analyses.regression.design import Column, design_of, levels_of
from dfsp.checks import Check, failed
from dfsp.constants import CI_PROB, DRAWS, QUANTILES, SEED, STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.engine.linear import MOST_COEFFICIENTS, LinearPosterior
from dfsp.engine.posterior import solve
from dfsp.engine.room import make_room
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import Engine
from dfsp.model.effects import Effects
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Normal
from dfsp.seeds import generator, integer
from dfsp.text import Result, Sentences, Table, percent, table_of

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

MARGIN = 0.1
EQUAL = 0.95
"""Probability of a difference within the margin from which rates are called practically equal."""

GRID_ERROR = 1e-5
"""Limit of the exact regression's own estimate of its error, as of a single fit's."""

MAX_Z = 4.0
LIMIT = 0.9
"""Posterior sd over prior sd, of a coefficient or a combination of them, that is not informed."""

SHARE = 0.5
"""Part of a coefficient in a combination that makes it belong there."""


@dataclass(frozen=True)
class Draws:
    """The sampler's draws, with what an exact posterior can say too; `b` is (draw, coefficient)."""

    mu: Array
    b: Array
    tau: Array
    effects: Effects

    def summary(self, values: Array) -> Array:
        """Return mean, sd and `QUANTILES`."""
        return np.array([values.mean(), values.std(), *np.quantile(values, QUANTILES)])

    def rates(self, row: Array) -> list[Array]:
        """Return summaries of typical, mean and new-study rate at a row of the design."""
        eta = self.mu + self.b @ row
        z = generator(SEED, "new study of a regression").standard_normal(len(eta))
        first, _ = self.effects.moments(eta, self.tau)
        values = (sigmoid(eta), first, sigmoid(eta + self.tau * z))
        return [self.summary(each) for each in values]


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
        `mu` is the logit rate of the median study where every column of the design is 0.
    coefficient : Normal
        Prior of every coefficient, logit scale per unit of its column.
    engine : {"exact", "nuts", "both"}
    coefficients : Table
        Indexed by `intercept`, the coefficients and `tau` (logit scale): `STATISTICS`,
        `sd_ratio` (posterior over prior sd, never a sampler's; missing for tau), `identified`:
        `no` where the ratio exceeds 0.9, `only together` where that of a combination with others
        does, which the data then cannot tell apart from it.
    partners : mapping of str to mapping of str to float
        By coefficient that is known only together with others, those others and the ratio of
        posterior to prior sd of the combination.
    rates : Table
        Indexed by the distinct rows of the design, named `at`, and `rate` (typical, mean,
        new-study): `STATISTICS`, rate scale.
    log_marginal_likelihood : float or None
        None without the exact engine.
    checks : tuple of Check
    """

    counts: Counts
    design: pd.DataFrame
    columns: Mapping[str, Column]
    model: Model
    coefficient: Normal
    engine: Engine
    coefficients: Table
    partners: Mapping[str, Mapping[str, float]]
    rates: Table
    log_marginal_likelihood: float | None
    checks: tuple[Check, ...]
    posterior: "LinearPosterior | Draws" = field(repr=False)

    @property
    def levels(self) -> dict[str, Array]:
        """The distinct rows of the design by name."""
        return levels_of(self.design, self.columns)

    def describe(self) -> Sentences:
        """Say what each coefficient is, and which of them the data do not inform."""
        said = []
        for name in map(str, self.design):
            row = self.coefficients.T[name]
            middle, low, high = _rounded(row["q50"], row["q2.5"], row["q97.5"])
            centre = self.columns[name].centre
            origin = f" from {centre:g}" if centre else ""
            text = f"{name}{origin}: {middle} ({low} to {high}, logit scale)"
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
        first = f"{len(self.design)} cohorts{left_out}. {'; '.join(said)}."
        return Sentences(" ".join([first, *self._told_apart()]))

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

    def contrast(self, first: str, second: str, margin: float = MARGIN) -> "pd.Series[float]":
        """Compare the typical rates at two rows of the design.

        Parameters
        ----------
        first, second : str
            Names in the index `at` of `rates`.
        margin : float
            Rates that differ by less are called practically equal; rate scale, 0 to 1.

        Returns
        -------
        pandas.Series
            `STATISTICS` of rate(second) - rate(first), `above` = P(difference > 0), and `equal` =
            P(|difference| < margin).

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
        if not 0 < margin < 1:
            raise DfspError(f"margin = {margin!r}; give a difference of rates between 0 and 1")
        one, two = levels[first], levels[second]
        drawn = self.posterior
        if isinstance(drawn, Draws):
            apart = sigmoid(drawn.mu + drawn.b @ two) - sigmoid(drawn.mu + drawn.b @ one)
            numbers = drawn.summary(apart)
            above, equal = float((apart > 0).mean()), float((np.abs(apart) < margin).mean())
        else:
            gap = drawn.difference(_at(one), _at(two))
            numbers = gap.summary()
            above, equal = gap.prob_above(0.0), gap.prob_above(-margin) - gap.prob_above(margin)
        values, names = [*numbers.tolist(), above, equal], [*STATISTICS, "above", "equal"]
        return pd.Series(values, index=names, name=f"{second} minus {first}")

    def contrasts(self, margin: float = MARGIN) -> Table:
        """Return `contrast` of every pair of rows of the design, one a row."""
        pairs = combinations(self.levels, 2)
        return table_of(pd.DataFrame([self.contrast(*pair, margin) for pair in pairs]))

    def difference(self, margin: float = MARGIN) -> "Difference":
        """Return how far the typical rates at the first and the last row of the design differ."""
        levels = list(self.levels)
        return Difference(self, levels[0], levels[-1], margin)

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
class Difference(Result):
    """How far the typical rates at two rows of the design of a regression differ.

    Attributes
    ----------
    regression : Regression
    first, last : str
        Names of the rows.
    margin : float
        Rates that differ by less are practically equal.
    """

    regression: Regression
    first: str
    last: str
    margin: float

    def describe(self) -> Sentences:
        """Return the headline of a meta-regression on one covariate."""
        result, margin = self.regression, self.margin
        gap, rates = result.contrast(self.first, self.last, margin), result.rates["q50"]
        one, two = (
            f"{percent(rates[row, 'typical rate'])} at {result.dose_at(row)}"
            for row in (self.first, self.last)
        )
        counts = result.counts
        source = f" (evidence set '{counts.evidence_set}')" if counts.evidence_set else ""
        equal = (
            f"the rates are practically equal (closer than {100 * margin:.0f} points) with "
            f"probability {gap['equal']:.2f}."
            if gap["equal"] >= EQUAL
            else f"smaller than {100 * margin:.0f} points with probability {gap['equal']:.2f}: "
            "these counts do not show that the rates are equal."
        )
        return Sentences(
            f"{counts.label.capitalize()}{source}, {len(result.design)} cohorts: the median "
            f"study's rate is {one} and {two}; the difference lies between {100 * gap['q2.5']:.1f} "
            f"and {100 * gap['q97.5']:.1f} points ({CI_PROB:.0%} interval), is positive with "
            f"probability {gap['above']:.2f}, and {equal}"
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
        is the reference.
    model : Model, optional
        Priors of mu and tau; normal effects.
    coefficient : Normal, optional
        Prior of every coefficient; by default Normal(0, 1), logit scale.
    engine : {"exact", "nuts", "both"}, optional
        By default exact for up to three coefficients and NUTS for more.
    draws : int
        NUTS draws of each of four chains.
    seed : int

    Returns
    -------
    Regression

    Raises
    ------
    DfspError
        No covariate or an unknown one, numbers that are not finite, a single level, more
        coefficients than studies, or the exact engine for more coefficients than it holds.
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
    counts = Counts.of(counts)
    model = model or Model()
    coefficient = coefficient or Normal(0, 1)
    names = [covariates] if isinstance(covariates, str) else list(dict.fromkeys(covariates))
    model.require_linear("a meta-regression has")
    used, design, columns = design_of(counts, names)
    engine = engine or ("exact" if design.shape[1] <= MOST_COEFFICIENTS else "nuts")
    if engine not in get_args(Engine):
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(get_args(Engine))}")
    if engine != "nuts" and design.shape[1] > MOST_COEFFICIENTS:
        raise DfspError(
            f"the exact engine takes up to {MOST_COEFFICIENTS} coefficients and there are "
            f"{design.shape[1]} ({', '.join(map(str, design))}); use engine='nuts'"
        )
    levels = levels_of(design, columns)
    checks: list[Check] = []
    exact = LinearPosterior(
        used.table["events"].to_numpy(float),
        used.table["total"].to_numpy(float),
        design.to_numpy(float),
        model,
        coefficient,
    )
    posterior: LinearPosterior | Draws = exact
    if engine != "exact":
        pymc_model = _build(used, design, model, coefficient)
        tree = sampling.run(pymc_model, draws, integer(seed, "regression"))
        judged = ["mu", "b", *(["tau"] if model.tau.known is None else [])]
        gate = sampling.gate(tree, judged)
        sampling.require_converged(sampling.Sampled(tree, gate, ()))
        checks.extend(gate)
        if engine == "both":
            checks.extend(_agreement(exact, tree, design, levels))
        else:
            posterior = _drawn(tree, model.effects)
    coefficients, partners = _coefficients(posterior, exact, design, coefficient, model)
    rates = _rates(posterior, levels)
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
        rates,
        exact.log_marginal_likelihood if engine != "nuts" else None,
        tuple(checks),
        posterior,
    )


def _resolved(exact: LinearPosterior) -> Check:
    return Check(
        "exact: grids resolve the posterior", exact.error <= GRID_ERROR, exact.error, GRID_ERROR,
        f"the grids of the regression are off by about {exact.error:.0e}, relative to the largest "
        "density.",
    )  # fmt: skip


def _build(counts: Counts, design: pd.DataFrame, model: Model, coefficient: Normal) -> Any:
    make_room()
    import pymc as pm

    table = counts.table
    coords = {"study": table["study"].to_list(), "coefficient": list(design)}
    with pm.Model(coords=coords) as result:
        mu = pm.Normal("mu", model.mu.mean, model.mu.sd)
        b = pm.Normal("b", coefficient.mean, coefficient.sd, dims="coefficient")
        tau = sampling.positive_variable(pm, model.tau, "tau")
        z = pm.Normal("z", dims="study")
        theta = pm.Deterministic("theta", mu + design.to_numpy() @ b + tau * z, dims="study")
        pm.Binomial(
            "events", n=table["total"].to_numpy(np.int64), logit_p=theta,
            observed=table["events"].to_numpy(np.int64), dims="study",
        )  # fmt: skip
    return result


def _drawn(tree: "xr.DataTree", effects: Effects) -> Draws:
    posterior = tree["posterior"].to_dataset()
    mu, tau = (posterior[name].to_numpy().ravel() for name in ("mu", "tau"))
    return Draws(mu, posterior["b"].to_numpy().reshape(len(mu), -1), tau, effects)


def _units(design: pd.DataFrame) -> dict[str, Array]:
    """Return by name what picks the intercept and each coefficient out of beta."""
    names = ["intercept", *map(str, design)]
    return dict(zip(names, np.eye(len(names)), strict=True))


def _at(row: Array) -> Array:
    """Return a row of the design with its 1 for the intercept."""
    return np.append(1.0, row)


def _agreement(
    exact: LinearPosterior, tree: "xr.DataTree", design: pd.DataFrame, levels: Mapping[str, Array]
) -> list[Check]:
    """Compare sampled means with exact ones, in Monte Carlo standard errors."""
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    mu, b, tau = (posterior[name].to_numpy() for name in ("mu", "b", "tau"))
    beta = np.concatenate([mu[..., None], b], axis=-1)
    pairs = {
        name if name == "intercept" else f"coefficient of {name}": (
            beta @ unit,
            exact.population(unit).mu.mean,
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
    posterior: LinearPosterior | Draws,
    exact: LinearPosterior,
    design: pd.DataFrame,
    coefficient: Normal,
    model: Model,
) -> tuple[Table, dict[str, dict[str, float]]]:
    """Summarise the coefficients, and say which of them the counts do not inform.

    That verdict must not hang on a sampler's seed: it comes from `exact`, whatever the engine.
    """
    units = _units(design)
    if isinstance(posterior, Draws):
        rows = [posterior.summary(x) for x in (posterior.mu, *posterior.b.T, posterior.tau)]
    else:
        of = {name: posterior.population(unit) for name, unit in units.items()}
        rows = [each.mu.summary() for each in of.values()]
        rows.append(of["intercept"].tau.summary())
    _, covariance = exact.moments
    sds = np.sqrt(np.diag(covariance)).tolist()
    names = list(units)
    partners = weak_partners(covariance[1:, 1:], names[1:], coefficient.sd)
    index = pd.Index([*names, "tau"], name="coefficient")
    table = table_of(rows, index=index, columns=list(STATISTICS))
    prior = [model.mu.sd, *[coefficient.sd] * design.shape[1]]
    table["sd_ratio"] = [*np.divide(sds, prior), np.nan]
    table["identified"] = [
        "-" if np.isnan(ratio) else "no" if ratio > LIMIT
        else "only together" if name in partners else "yes"
        for name, ratio in table["sd_ratio"].items()
    ]  # fmt: skip
    return table, partners


def _rates(posterior: LinearPosterior | Draws, levels: Mapping[str, Array]) -> Table:
    rows, index = [], []
    for name, row in levels.items():
        if isinstance(posterior, Draws):
            rows += posterior.rates(row)
        else:
            at = posterior.population(_at(row))
            kinds = (at.typical_rate, at.mean_rate, at.new_study_rate)
            rows += [kind.summary() for kind in kinds]
        index += [(name, rate) for rate in ("typical rate", "mean rate", "new-study rate")]
    names = pd.MultiIndex.from_tuples(index, names=["at", "rate"])
    return table_of(rows, index=names, columns=list(STATISTICS))


def covariate(
    counts: Counts | pd.DataFrame,
    name: str,
    *,
    model: Model | None = None,
    coefficient: Normal | None = None,
) -> Sentences:
    """Say what a regression on one covariate finds, or why these counts cannot tell."""
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
        Indexed by the names of the tables: `cohorts`, and `STATISTICS` of the coefficient.
    """
    rows = {}
    for name, counts in tables.items():
        found = regress(counts, covariate, model=model, coefficient=coefficient, engine="exact")
        (row,) = found.coefficients.loc[list(found.design), list(STATISTICS)].to_numpy().tolist()
        rows[name] = [len(found.design), *row]
    columns = ["cohorts", *STATISTICS]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table_of(frame.rename_axis("table"), digits=3)


def bayes_factors(
    counts: Counts | pd.DataFrame,
    covariate: str,
    *,
    model: Model | None = None,
    sds: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
) -> Table:
    """Weigh an effect of the covariate against none, on identical studies.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    covariate : str
        One that has a single coefficient.
    model : Model, optional
    sds : sequence of float
        Standard deviations of the coefficient's normal prior about 0, logit scale.

    Returns
    -------
    Table
        Indexed by `prior_sd`: `log_marginal_likelihood`, `log_marginal_likelihood_none`,
        `bayes_factor` (above 1 in favour of an effect).

    Raises
    ------
    DfspError
        A prior of tau under which log marginal likelihoods cannot be compared; or as `regress`.
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


def _rounded(*values: float) -> list[str]:
    """Return numbers as text, with as many decimals as their range needs."""
    spread = max(values) - min(values)
    decimals = 2 if not spread > 0 else max(2, 1 - int(np.floor(np.log10(spread))))
    return [f"{value:z.{decimals}f}" for value in values]
