"""Meta-regression of counts: the rate as a function of dose, setting, or another covariate.

theta_i ~ N(mu + sum_j b_j x_ij, tau^2) on the logit scale. One coefficient is integrated exactly,
more are sampled with NUTS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.analyses.regression_design import Column, design_of, levels_of
from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, QUANTILES, SEED, STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.engine.identified import LIMIT, posterior_moments, weak_partners
from dfsp.engine.linear import Lattice, mean_and_square, solve_slope
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import Engine
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Fixed, Normal
from dfsp.seeds import generator, integer

if TYPE_CHECKING:
    import xarray as xr

Array = npt.NDArray[np.float64]

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
    columns : mapping of str to Column
        What each column of the design stands for.
    model : Model
        `mu` is the logit rate of the median study where every column of the design is 0.
    coefficient : Normal
        Prior of every coefficient, logit scale per unit of its column.
    engine : {"exact", "nuts", "both"}
    coefficients : pandas.DataFrame
        Indexed by `intercept`, the coefficients and `tau` (logit scale): `STATISTICS`,
        `sd_ratio` (posterior over prior sd, never a sampler's; missing for tau), `identified`:
        `no` where the ratio exceeds 0.9, `only together` where that of a combination with others
        does, which the data then cannot tell apart from it.
    partners : mapping of str to mapping of str to float
        By coefficient that is known only together with others, those others and the ratio of
        posterior to prior sd of the combination.
    rates : pandas.DataFrame
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
    coefficients: pd.DataFrame
    partners: Mapping[str, Mapping[str, float]]
    rates: pd.DataFrame
    log_marginal_likelihood: float | None
    checks: tuple[Check, ...]
    posterior: "Lattice | Draws" = field(repr=False)

    @property
    def levels(self) -> dict[str, Array]:
        """The distinct rows of the design by name."""
        return levels_of(self.design, self.columns)

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
        A numeric column is used as it is if its range holds 0, and is otherwise measured from
        about its mean over patients, which the coefficient's name then says (`year - 2012`). A
        text column becomes one coefficient for each level but the one with most patients, which
        is the reference.
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
        No covariate or an unknown one, numbers that are not finite, a single level, more
        coefficients than studies, or the exact engine for several coefficients.
    NotConverged
        The gate refused the NUTS draws.
    """
    counts = Counts.of(counts)
    model = model or Model()
    coefficient = coefficient or Normal(0, 1)
    names = [covariates] if isinstance(covariates, str) else list(dict.fromkeys(covariates))
    model.require_normal("a meta-regression has")
    used, design, columns = design_of(counts, names)
    engine = engine or ("exact" if design.shape[1] == 1 else "nuts")
    if engine not in get_args(Engine):
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(get_args(Engine))}")
    if engine != "nuts" and design.shape[1] > 1:
        raise DfspError(
            f"the exact engine takes one coefficient and there are {design.shape[1]} "
            f"({', '.join(map(str, design))}); use engine='nuts'"
        )
    levels = levels_of(design, columns)
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
            checks.extend(_agreement(posterior, tree, design, levels))
        posterior = posterior or _drawn(tree)
    assert posterior is not None
    return Regression(
        used,
        design,
        columns,
        model,
        coefficient,
        engine,
        *_coefficients(posterior, used, design, coefficient, model),
        _rates(posterior, levels),
        evidence,
        tuple(checks),
        posterior,
    )


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


def _agreement(
    exact: Lattice, tree: "xr.DataTree", design: pd.DataFrame, levels: Mapping[str, Array]
) -> list[Check]:
    """Compare sampled means with exact ones, in Monte Carlo standard errors."""
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    mu, b = posterior["mu"].to_numpy(), posterior["b"].to_numpy()[..., 0]
    pairs = {
        "intercept": (mu, exact.linear((1, 0)).mean),
        f"coefficient of {design.columns[0]}": (b, exact.linear((0, 1)).mean),
        "tau": (posterior["tau"].to_numpy(), exact.of_tau.mean),
    }
    for name, row in levels.items():
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
    posterior: Lattice | Draws,
    counts: Counts,
    design: pd.DataFrame,
    coefficient: Normal,
    model: Model,
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    names = ["intercept", *map(str, design), "tau"]
    partners: dict[str, dict[str, float]] = {}
    if isinstance(posterior, Lattice):
        linear = [posterior.linear((1, 0)), posterior.linear((0, 1)), posterior.of_tau]
        rows = [each.summary() for each in linear]
        sds = [each.sd for each in linear[:-1]]
    else:
        rows = [posterior.summary(x) for x in (posterior.mu, *posterior.b.T, posterior.tau)]
        events, total = (counts.table[name].to_numpy(float) for name in ("events", "total"))
        _, covariance = posterior_moments(events, total, design.to_numpy(), model, coefficient)
        sds = np.sqrt(np.diag(covariance)).tolist()
        partners = weak_partners(covariance[1:, 1:], names[1:-1], coefficient.sd)
    table = pd.DataFrame(rows, index=pd.Index(names, name="coefficient"), columns=list(STATISTICS))
    prior = [model.mu.sd, *[coefficient.sd] * design.shape[1]]
    table["sd_ratio"] = [*np.divide(sds, prior), np.nan]
    table["identified"] = [
        "-" if np.isnan(ratio) else "no" if ratio > LIMIT
        else "only together" if name in partners else "yes"
        for name, ratio in table["sd_ratio"].items()
    ]  # fmt: skip
    return table, partners


def _rates(posterior: Lattice | Draws, levels: Mapping[str, Array]) -> pd.DataFrame:
    rows, index = [], []
    for name, row in levels.items():
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
    levels = result.levels
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
    pairs = combinations(result.levels, 2)
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
