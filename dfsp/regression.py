"""Meta-regression of counts: the rate as a function of dose, setting, or another covariate.

theta_i ~ N(mu + sum_j b_j x_ij, tau^2) on the logit scale. One coefficient is integrated exactly,
more are sampled with NUTS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp import sampling
from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, QUANTILES, SEED, STATISTICS
from dfsp.errors import DfspError, listed
from dfsp.exact import solve
from dfsp.fitting import Engine
from dfsp.integrals import sigmoid
from dfsp.models import Model
from dfsp.priors import Fixed, Normal
from dfsp.regression_exact import Lattice, mean_and_square, solve_slope
from dfsp.seeds import generator, integer
from dfsp.tables import Counts, check_table

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

IDENTIFIED = 0.9
"""A coefficient's posterior sd above this share of its prior sd: the data hardly inform it."""

SHARE = 0.5
"""Part of a coefficient in a combination that makes it belong there."""

MARGIN = 0.1
LATTICE_EDGE = 1e-6
MAX_Z = 4.0


@dataclass(frozen=True, eq=False)
class Regression:
    """What a meta-regression says.

    Attributes
    ----------
    counts : Counts
        The studies that were used; `counts.dropped` says which were not and why.
    design : pandas.DataFrame
        One row a study, one column a coefficient.
    model : Model
        `mu` is the logit rate of the median study where every column of the design is 0.
    coefficient : Normal
        Prior of every coefficient, logit scale per unit of its column.
    engine : {"exact", "nuts", "both"}
    coefficients : pandas.DataFrame
        Indexed by `intercept`, the coefficients and `tau` (logit scale): `STATISTICS`,
        `sd_ratio` (posterior over prior sd; missing for tau) and `identified`: `no` where the
        ratio exceeds 0.9, `only together` where that of a combination with another coefficient
        does, which the data then cannot tell apart from it.
    rates : pandas.DataFrame
        Indexed by the distinct rows of the design, named `at`, and `rate` (typical, mean,
        new-study): `STATISTICS`, rate scale.
    log_marginal_likelihood : float or None
        None without the exact engine.
    checks : tuple of Check
    """

    counts: Counts
    design: pd.DataFrame
    model: Model
    coefficient: Normal
    engine: Engine
    coefficients: pd.DataFrame
    rates: pd.DataFrame
    log_marginal_likelihood: float | None
    checks: tuple[Check, ...]
    posterior: "Lattice | Draws" = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"Regression({len(self.design)} studies on {', '.join(map(str, self.design))}, "
            f"{self.engine} engine, {len(failed(self.checks))} of {len(self.checks)} checks failed)"
        )


@dataclass(frozen=True)
class Draws:
    """The sampler's draws, with what a lattice can say too; `b` is (draw, coefficient)."""

    mu: Array
    b: Array
    tau: Array

    def summary(self, values: Array) -> Array:
        """Return mean, sd and `QUANTILES`."""
        return np.array([values.mean(), values.std(), *np.quantile(values, QUANTILES)])

    def rates(self, row: Array) -> list[Array]:
        """Return summaries of typical, mean and new-study rate at a row of the design."""
        eta = self.mu + self.b @ row
        z = generator(SEED, "new study of a regression").standard_normal(len(eta))
        first, _ = mean_and_square(eta, self.tau)
        values = (sigmoid(eta), first, sigmoid(eta + self.tau * z))
        return [self.summary(each) for each in values]


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
        A numeric column is used as it is; a text column becomes one coefficient for each level
        but the one with most patients, which is the reference.
    model : Model, optional
        Priors of mu and tau; normal effects.
    coefficient : Normal, optional
        Prior of every coefficient; by default Normal(0, 1), logit scale.
    engine : {"exact", "nuts", "both"}, optional
        By default exact for one coefficient and NUTS for more.
    draws : int
        NUTS draws of each of four chains.
    seed : int

    Returns
    -------
    Regression

    Raises
    ------
    DfspError
        An unknown covariate, one with a single level, more coefficients than studies, or the
        exact engine for several coefficients.
    NotConverged
        The gate refused the NUTS draws.
    """
    counts = counts if isinstance(counts, Counts) else check_table(counts)
    model = model or Model()
    coefficient = coefficient or Normal(0, 1)
    names = [covariates] if isinstance(covariates, str) else list(covariates)
    model.require_normal("a meta-regression has")
    used, design = _design(counts, names)
    engine = engine or ("exact" if design.shape[1] == 1 else "nuts")
    if engine not in get_args(Engine):
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(get_args(Engine))}")
    if engine != "nuts" and design.shape[1] > 1:
        raise DfspError(
            f"the exact engine takes one coefficient and there are {design.shape[1]} "
            f"({', '.join(map(str, design))}); use engine='nuts'"
        )
    checks: list[Check] = []
    posterior: Lattice | Draws | None = None
    evidence = None
    if engine != "nuts":
        posterior = solve_slope(
            used.table["events"].to_numpy(float),
            used.table["total"].to_numpy(float),
            design.to_numpy()[:, 0],
            model,
            coefficient,
        )
        evidence = posterior.log_marginal_likelihood
        checks.append(_resolved(posterior))
    if engine != "exact":
        pymc_model = _build(used, design, model, coefficient)
        tree = sampling.run(pymc_model, draws, integer(seed, "regression"))
        judged = ["mu", "b"] if isinstance(model.tau, Fixed) else ["mu", "b", "tau"]
        gate = sampling.gate(tree, judged)
        sampling.require_converged(sampling.Sampled(tree, gate, ()))
        checks.extend(gate)
        if isinstance(posterior, Lattice):
            checks.extend(_agreement(posterior, tree, design))
        posterior = posterior or _drawn(tree)
    assert posterior is not None
    return Regression(
        used,
        design,
        model,
        coefficient,
        engine,
        _coefficients(posterior, design, coefficient, model),
        _rates(posterior, design),
        evidence,
        tuple(checks),
        posterior,
    )


def _design(counts: Counts, names: list[str]) -> tuple[Counts, pd.DataFrame]:
    table = counts.table
    unknown = [name for name in names if name not in table]
    if unknown:
        plain = table.columns.drop(
            ["study", "events", "total", "shares_patients_with"], errors="ignore"
        )
        found = f"covariate {', '.join(map(repr, unknown))} is not a column"
        raise DfspError(f"{found}; known: {', '.join(map(str, plain))}")
    missing = table[names].isna() | table[names].astype("string").apply(
        lambda column: column.str.strip() == ""
    )
    gone = missing.any(axis=1)
    reasons = [
        f"{', '.join(name for name in names if missing.at[i, name])} is not known"
        for i in table.index[gone]
    ]
    dropped = pd.DataFrame({"study": table.loc[gone, "study"], "reason": reasons}, dtype="str")
    table = table[~gone].reset_index(drop=True)
    columns: dict[str, Array] = {}
    faults = []
    for name in names:
        column = table[name]
        levels = list(dict.fromkeys(column))
        if len(levels) < 2:
            only = f"only {levels[0]!r}" if levels else "no value"
            faults.append(f"{name}: {only} is left; a covariate needs two different values")
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            columns[name] = column.to_numpy(float)
        else:
            reference = table.groupby(name)["total"].sum().idxmax()
            for level in (each for each in levels if each != reference):
                columns[f"{name}: {level}"] = (column == level).to_numpy(float)
    if not faults and len(columns) + 1 > len(table):
        faults.append(f"{len(columns)} coefficients for {len(table)} studies; leave some out")
    if faults:
        raise listed("covariates", "these cannot be used", faults)
    used = Counts(**vars(counts) | {
        "table": table,
        "dropped": pd.concat([counts.dropped, dropped], ignore_index=True),
    })  # fmt: skip
    return used, pd.DataFrame(columns, index=pd.Index(table["study"], name="study"))


def _resolved(lattice: Lattice) -> Check:
    return Check(
        "exact: lattice holds the posterior", lattice.edge <= LATTICE_EDGE, lattice.edge,
        LATTICE_EDGE,
        f"the edge of the lattice holds at most {lattice.edge:.0e} of a row's probability.",
    )  # fmt: skip


def _build(counts: Counts, design: pd.DataFrame, model: Model, coefficient: Normal) -> Any:
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


def _drawn(tree: "xr.DataTree") -> Draws:
    posterior = tree["posterior"].to_dataset()
    mu, tau = (posterior[name].to_numpy().ravel() for name in ("mu", "tau"))
    return Draws(mu, posterior["b"].to_numpy().reshape(len(mu), -1), tau)


def _agreement(exact: Lattice, tree: "xr.DataTree", design: pd.DataFrame) -> list[Check]:
    """Compare sampled means with exact ones, in Monte Carlo standard errors."""
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    mu, b = posterior["mu"].to_numpy(), posterior["b"].to_numpy()[..., 0]
    pairs = {
        "intercept": (mu, exact.linear((1, 0)).mean),
        f"coefficient of {design.columns[0]}": (b, exact.linear((0, 1)).mean),
        "tau": (posterior["tau"].to_numpy(), exact.of_tau.mean),
    }
    for name, row in _levels(design).items():
        rate = sigmoid(mu + b * row[0])
        pairs[f"typical rate at {name}"] = (rate, exact.typical_rate(row[0]).mean)
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
    posterior: Lattice | Draws, design: pd.DataFrame, coefficient: Normal, model: Model
) -> pd.DataFrame:
    names = ["intercept", *map(str, design), "tau"]
    if isinstance(posterior, Lattice):
        linear = [posterior.linear((1, 0)), posterior.linear((0, 1)), posterior.of_tau]
        rows = [each.summary() for each in linear]
    else:
        rows = [posterior.summary(x) for x in (posterior.mu, *posterior.b.T, posterior.tau)]
    table = pd.DataFrame(rows, index=pd.Index(names, name="coefficient"), columns=list(STATISTICS))
    prior = {str(name): coefficient.sd for name in design} | {"intercept": model.mu.sd}
    table["sd_ratio"] = table["sd"] / pd.Series(prior).reindex(table.index)
    together = _together(posterior, names[1:-1], coefficient)
    table["identified"] = [
        "-" if np.isnan(ratio) else "no" if ratio > IDENTIFIED
        else "only together" if name in together else "yes"
        for name, ratio in table["sd_ratio"].items()
    ]  # fmt: skip
    return table


def _together(posterior: Lattice | Draws, names: list[str], coefficient: Normal) -> set[str]:
    """Return the coefficients of which the data inform a combination only.

    Two confounded coefficients share what is known of their sum, so that each looks informed; the
    combination in which they differ keeps its prior.
    """
    if isinstance(posterior, Lattice):
        return set()
    ratios, directions = np.linalg.eigh(np.cov(posterior.b.T) / coefficient.sd**2)
    weak = directions[:, np.sqrt(ratios) > IDENTIFIED]
    return {names[i] for i in np.flatnonzero((np.abs(weak) > SHARE).any(-1))}


def _levels(design: pd.DataFrame) -> dict[str, Array]:
    """Return the distinct rows of the design by a name that says what they are."""
    rows = design.drop_duplicates()
    rows = rows.sort_values(rows.columns.to_list())
    found = {}
    for row in rows.to_numpy():
        parts = []
        for name, value in zip(map(str, design), row, strict=True):
            if ": " in name:
                parts += [name] if value else []
            else:
                parts.append(f"{name} = {value:.3g}")
        found["; ".join(parts) or "reference"] = row
    return found


def _rates(posterior: Lattice | Draws, design: pd.DataFrame) -> pd.DataFrame:
    rows, index = [], []
    for name, row in _levels(design).items():
        if isinstance(posterior, Lattice):
            kinds = (posterior.typical_rate, posterior.mean_rate, posterior.new_study_rate)
            rows += [kind(row[0]).summary() for kind in kinds]
        else:
            rows += posterior.rates(row)
        index += [(name, rate) for rate in ("typical rate", "mean rate", "new-study rate")]
    names = pd.MultiIndex.from_tuples(index, names=["at", "rate"])
    return pd.DataFrame(rows, index=names, columns=list(STATISTICS))


def contrast(
    result: Regression, first: str, second: str, margin: float = MARGIN
) -> "pd.Series[float]":
    """Compare the typical rates at two rows of the design.

    Parameters
    ----------
    result : Regression
    first, second : str
        Names in the index `at` of `result.rates`.
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
    levels = _levels(result.design)
    unknown = [name for name in (first, second) if name not in levels]
    if unknown:
        found = f"{', '.join(unknown)}: no such row of the design"
        raise DfspError(f"{found}; known: {', '.join(levels)}")
    if not 0 < margin < 1:
        raise DfspError(f"margin = {margin!r}; give a difference of rates between 0 and 1")
    one, two = levels[first], levels[second]
    if isinstance(result.posterior, Lattice):
        gap = result.posterior.difference(one[0], two[0])
        numbers = gap.summary()
        above, equal = gap.above(0.0), gap.above(-margin) - gap.above(margin)
    else:
        drawn = result.posterior
        apart = sigmoid(drawn.mu + drawn.b @ two) - sigmoid(drawn.mu + drawn.b @ one)
        numbers = drawn.summary(apart)
        above, equal = float((apart > 0).mean()), float((np.abs(apart) < margin).mean())
    values = [*numbers.tolist(), above, equal]
    return pd.Series(values, index=[*STATISTICS, "above", "equal"], name=f"{second} minus {first}")


def contrasts(result: Regression, margin: float = MARGIN) -> pd.DataFrame:
    """Return `contrast` of every pair of rows of the design, one a row."""
    pairs = combinations(_levels(result.design), 2)
    return pd.DataFrame([contrast(result, *pair, margin) for pair in pairs])


def bayes_factors(
    counts: Counts | pd.DataFrame,
    covariate: str,
    *,
    model: Model | None = None,
    sds: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
) -> pd.DataFrame:
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
    pandas.DataFrame
        Indexed by `prior_sd`: `log_evidence`, `log_evidence_none`, `bayes_factor` (above 1 in
        favour of an effect).
    """
    rows = []
    for sd in sds:
        effect = regress(counts, covariate, model=model, coefficient=Normal(0, sd), engine="exact")
        table = effect.counts.table
        none = solve(table["events"], table["total"], effect.model).log_marginal_likelihood
        evidence = effect.log_marginal_likelihood or 0.0
        rows.append([evidence, none, float(np.exp(evidence - none))])
    columns = ["log_evidence", "log_evidence_none", "bayes_factor"]
    return pd.DataFrame(rows, index=pd.Index(sds, name="prior_sd"), columns=columns)


def log2_of(counts: Counts, column: str, reference: float) -> tuple[Counts, str]:
    """Add log2(column / reference) as a covariate.

    Returns
    -------
    Counts, str
        With the new column, and its name. A missing value stays missing.

    Raises
    ------
    DfspError
        The column is not there or not of positive numbers.
    """
    values = _column(counts, column)
    if not pd.api.types.is_numeric_dtype(values) or not (values.dropna() > 0).all():
        raise DfspError(f"{column!r} holds something other than positive numbers")
    name = f"log2({column}/{reference:g})"
    table = counts.table.assign(**{name: np.log2(values.astype(float) / reference)})
    return Counts(**vars(counts) | {"table": table}), name


def as_groups(counts: Counts, column: str, unit: str = "") -> Counts:
    """Turn a numeric covariate into text, so that each of its values becomes a group.

    Raises
    ------
    DfspError
        The column is not there.
    """
    text = [f"{value:g}{unit}" if pd.notna(value) else None for value in _column(counts, column)]
    groups = pd.Series(text, index=counts.table.index, dtype="str")
    return Counts(**vars(counts) | {"table": counts.table.assign(**{column: groups})})


def _column(counts: Counts, column: str) -> "pd.Series[Any]":
    if column not in counts.table:
        raise DfspError(f"{column!r} is not a column; known: {', '.join(map(str, counts.table))}")
    return counts.table[column]


def describe_confounding(counts: Counts) -> str:
    """Say which doses were given in which setting, and for how long.

    Raises
    ------
    DfspError
        The counts have no dose or no setting.
    """
    missing = {"dose_mg", "setting", "treatment_months_median"} - set(counts.table)
    if missing:
        raise DfspError(f"the counts have no {', '.join(sorted(missing))}")
    lines = []
    for (dose, setting), group in counts.table.groupby(["dose_mg", "setting"]):
        months = group["treatment_months_median"].dropna()
        lasted = (
            f"median treatment {', '.join(f'{m:g}' for m in months)} months where known"
            if len(months)
            else "duration not known"
        )
        lines.append(
            f"{dose:g} mg, {setting}: {len(group)} cohorts, {group['events'].sum()} of "
            f"{group['total'].sum()} patients; {lasted}"
        )
    known = counts.table.dropna(subset=["dose_mg"])
    alone = [
        f"{dose:g} mg only {settings[0]}"
        for dose, settings in known.groupby("dose_mg")["setting"].unique().items()
        if len(settings) == 1
    ]
    said = f" Confounded: {'; '.join(alone)}." if alone else ""
    return "\n".join(lines) + said


def describe_regression(result: Regression) -> str:
    """Say which coefficients the data inform, and which only the prior."""
    said = []
    for name in map(str, result.design):
        row = result.coefficients.T[name]
        said.append(
            f"{name}: {row['q50']:.2f} ({row['q2.5']:.2f} to {row['q97.5']:.2f}, logit scale)"
            if row["identified"] == "yes"
            else f"{name}: cannot be told apart from another coefficient"
            if row["identified"] == "only together"
            else f"{name}: not identifiable, its posterior is {100 * row['sd_ratio']:.0f} % as "
            "wide as its prior"
        )
    gone = [f"{row.study}, {row.reason}" for row in result.counts.dropped.itertuples()]
    left_out = f" ({len(gone)} left out: {'; '.join(gone)})" if gone else ""
    return f"{len(result.design)} cohorts{left_out}. {'; '.join(said)}."


def describe_dose(result: Regression, margin: float = MARGIN) -> str:
    """Return the headline of a meta-regression on one number: how far its ends differ."""
    levels = list(_levels(result.design))
    first, last = levels[0], levels[-1]
    gap = contrast(result, first, last, margin)
    rates = result.rates["q50"]
    source = f" (evidence set '{result.counts.evidence_set}')" if result.counts.evidence_set else ""
    return (
        f"{result.counts.label.capitalize()}{source}, {len(result.design)} cohorts: the median "
        f"study's rate is {100 * rates[first, 'typical rate']:.1f} % at {first} and "
        f"{100 * rates[last, 'typical rate']:.1f} % at {last}; the difference lies between "
        f"{100 * gap['q2.5']:.1f} and {100 * gap['q97.5']:.1f} points (95 % interval), is positive "
        f"with probability {gap['above']:.2f}, and smaller than {100 * margin:.0f} points with "
        f"probability {gap['equal']:.2f}: these counts do not show that doses are equal unless "
        "that last probability is high."
    )
