"""The sampling engine: NUTS, its convergence gate, and its agreement with the exact engine.

PyMC and ArviZ cost seconds to import, so they load when a function first needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from dfsp import constants
from dfsp.checks import Check, failed
from dfsp.engine.powers import NORMAL_WIDTH
from dfsp.engine.room import make_room
from dfsp.errors import DfspError, NotConverged
from dfsp.model.effects import Effects, known_quantities
from dfsp.model.model import Model
from dfsp.model.priors import Prior
from dfsp.seeds import check_seed, generator, integer
from dfsp.text import Result, Sentences

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

Array = npt.NDArray[np.float64]

PARAMETERS = ("mu", "tau", "theta")
"""What the convergence gate judges unless a model says otherwise."""

NAMED_ENDS = {f"q{100 * q:g}": q for q in constants.ENDS}
"""The columns of a summary that bound its interval, and their probabilities."""

DIVERGENCES, RHAT, BFMI = "divergences", "R-hat", "E-BFMI"
BULK_ESS, TAIL_ESS = "bulk effective sample size", "tail effective sample size"
CURED_BY_DRAWS = {RHAT, BULK_ESS, TAIL_ESS}
"""Names of the gate's checks; more draws can cure those in the last set."""

MIN_DRAWS = 100  # a chain: fewer cannot pass the gate
MAX_RHAT, MIN_ESS, MIN_BFMI = 1.01, 400, 0.3
MAX_Z, MAX_Z_ENDS, MAX_MCSE = 4, 5, 0.05
"""Limits of the gate and of the agreement with the exact engine."""


@dataclass(frozen=True, repr=False)
class Sampled(Result):
    """Draws of the posterior and the verdicts of the convergence gate.

    Attributes
    ----------
    draws : xarray.DataTree
        `posterior` (`mu`, `tau`, `theta`, `theta_new` on the logit scale; `rate`, `typical_rate`,
        `mean_rate`, `new_study_rate`; with EXNEX effects `exchangeable`, the probability of each
        study given the draw; beta-binomial effects have `concentration` and no `mu`, `tau` and
        `typical_rate`), `sample_stats`, `observed_data`, `constant_data`,
        `log_likelihood` (of each study's events given its own theta), `prior`,
        `prior_predictive` and `posterior_predictive` (replicated events, each with a new theta).
    checks : tuple of Check
        The gate.
    first_checks : tuple of Check
        The gate of a first run that only R-hat or the effective sample size refused, after which
        sampling was repeated once with twice the draws; empty if there was one run.
    """

    draws: xr.DataTree
    checks: tuple[Check, ...]
    first_checks: tuple[Check, ...] = ()

    @property
    def reran(self) -> bool:
        """Whether sampling was repeated with twice the draws."""
        return bool(self.first_checks)

    @property
    def refused(self) -> bool:
        """Whether a check of the gate failed: then the draws are not to be reported."""
        return bool(failed(self.checks))

    def describe(self) -> Sentences:
        """Say what was drawn, and whether the gate lets it pass."""
        sizes = self.draws["posterior"].sizes
        verdict = ", ".join(check.name for check in failed(self.checks))
        studies = "1 study" if sizes["study"] == 1 else f"{sizes['study']} studies"
        return Sentences(
            f"{sizes['chain']} chains of {sizes['draw']} draws of the rates of "
            f"{studies}{', after a first run with half as many' * self.reran}; "
            f"{f'refused by the gate: {verdict}' if verdict else 'the gate lets them pass'}."
        )


def build(table: pd.DataFrame, model: Model) -> pm.Model:
    """Return the PyMC model, non-centred: `theta` = `mu` + `tau` `z` on the logit scale.

    Beta-binomial effects are integrated out; with EXNEX effects a study's counts are a mixture over
    `theta` and its effect `alone`.

    Parameters
    ----------
    table : DataFrame
        One row a study: `study`, `events`, `total`.
    model : Model

    Returns
    -------
    pymc.Model
        Dimension `study`; observed `events`; `rate` and `typical_rate` beside the parameters.
    """
    make_room()
    import pymc as pm

    with pm.Model(coords={"study": table["study"].to_list()}) as result:
        total = pm.Data("total", table["total"].to_numpy(np.int64), dims="study")
        # Data, so that the compiled model can be given other counts
        observed = pm.Data("counts", table["events"].to_numpy(np.int64), dims="study")
        seen = {"observed": observed, "dims": "study"}
        model.effects.pymc(pm, model.mu, model.tau, total, seen)
    return result


def positive_variable(pm: Any, prior: Prior, name: str) -> Any:
    """Return a variable of the PyMC model at hand with a prior above 0."""
    return prior.pymc(pm, name)


def sample(
    table: pd.DataFrame,
    model: Model,
    *,
    draws: int = constants.DRAWS,
    seed: int = constants.SEED,
) -> Sampled:
    """Draw from the posterior with NUTS and judge the draws.

    If R-hat or an effective sample size is all that the gate refuses, sampling is repeated once,
    with twice the draws and another seed. Nothing is raised here: see `require_converged`.

    Parameters
    ----------
    table : DataFrame
        One row a study: `study`, `events`, `total`.
    model : Model
    draws : int
        Draws of each of the `constants.CHAINS` chains, after `constants.TUNE` of tuning.
    seed : int
        The run's seed; every random step derives its own from it by name.

    Returns
    -------
    Sampled

    Raises
    ------
    DfspError
        `draws` or `seed` cannot be used.
    """
    check_options(draws, seed)
    model.require_tail(table["events"], table["total"])
    judged = model.effects.judged(model.tau)
    pymc_model = build(table, model)
    tree = run(pymc_model, int(draws), integer(seed, "nuts"))
    checks = gate(tree, judged)
    first_checks: tuple[Check, ...] = ()
    faults = {check.name for check in failed(checks)}
    if faults and faults <= CURED_BY_DRAWS:
        tree = run(pymc_model, 2 * int(draws), integer(seed, "nuts, twice the draws"))
        first_checks, checks = checks, gate(tree, judged)
    return Sampled(_complete(tree, pymc_model, model, seed), checks, first_checks)


def check_options(draws: int, seed: int) -> None:
    """Refuse a number of draws or a seed that cannot be used, whatever the engine."""
    whole = isinstance(draws, (int, np.integer)) and not isinstance(draws, bool)
    if not whole or draws < MIN_DRAWS:
        raise DfspError(f"draws = {draws!r}; give a whole number of {MIN_DRAWS} or more")
    check_seed(seed)


def gate(tree: xr.DataTree, names: Sequence[str] = PARAMETERS) -> tuple[Check, ...]:
    """Judge whether the chains have converged.

    Parameters
    ----------
    tree : DataTree
        `posterior` and `sample_stats` of several chains.
    names : sequence of str
        The parameters that are judged. R-hat and the effective sample sizes depend on ranks only,
        so that `mu` speaks for the typical rate too, and `theta` for the rates.

    Returns
    -------
    tuple of Check
        Divergences, R-hat, bulk and tail effective sample size, and E-BFMI; the last is the
        estimated fraction of the energy's variance that a new momentum can bring about.

    Notes
    -----
    The limits are those of Vehtari et al. 2021 (doi 10.1214/20-BA1221) for R-hat and the
    effective sample sizes, and of Betancourt 2016 (arXiv 1604.00695) for E-BFMI. A value that is
    not a number, as from a chain that never moved, fails.
    """
    import arviz as az

    kept = tree["posterior"].to_dataset()[list(names)]
    diverging = tree["sample_stats"]["diverging"]
    divergent = int(diverging.sum())
    with np.errstate(invalid="ignore"):  # a chain that never moved is 0 / 0
        rhat, rhat_at = _worst(az.rhat(kept, method="rank"), np.argmax)
        bulk, bulk_at = _worst(az.ess(kept, method="bulk"), np.argmin)
        tail, tail_at = _worst(az.ess(kept, method="tail", prob=constants.CI_PROB), np.argmin)
        bfmi = float(az.bfmi(tree)["energy"].min())
    enough = f"below {MIN_ESS}, 100 a chain, R-hat and the Monte Carlo errors cannot be trusted"
    return (
        Check(
            DIVERGENCES,
            divergent == 0,
            divergent,
            0,
            f"{divergent} of {diverging.size} draws diverged: where they do, the sampler misses "
            "part of the posterior.",
        ),
        Check(
            RHAT,
            rhat <= MAX_RHAT,
            rhat,
            MAX_RHAT,
            f"The largest R-hat is {rhat:.4f}, of {rhat_at}: above {MAX_RHAT} the chains disagree.",
        ),
        Check(
            BULK_ESS,
            bulk >= MIN_ESS,
            bulk,
            MIN_ESS,
            f"The smallest bulk effective sample size is {bulk:.0f}, of {bulk_at}: {enough}.",
        ),
        Check(
            TAIL_ESS,
            tail >= MIN_ESS,
            tail,
            MIN_ESS,
            f"The smallest effective sample size at the ends of the interval is {tail:.0f}, "
            f"of {tail_at}: {enough}.",
        ),
        Check(
            BFMI,
            bfmi >= MIN_BFMI,
            bfmi,
            MIN_BFMI,
            f"The smallest E-BFMI of a chain is {bfmi:.2f}: below {MIN_BFMI} it moves too slowly "
            "between the body and the tails of the posterior.",
        ),
    )


def require_converged(sampled: Sampled) -> None:
    """Raise if the gate refused the draws.

    Raises
    ------
    NotConverged
        Each failed check with its value and limit, and what to do.
    """
    faults = failed(sampled.checks)
    if not faults:
        return
    what = "the draws are not reported"
    if sampled.reran:
        what += ", and twice the draws did not help"
    lines = [
        f"{check.name} {check.value:.4g}, limit {check.limit:g}: {check.says}" for check in faults
    ]
    cured = {check.name for check in faults} <= CURED_BY_DRAWS
    advice = "raise draws" if cured else "give tau a prior with a smaller scale or lighter tails"
    lines.append(f"What to do: {advice}, or use the exact engine.")
    raise NotConverged("\n  ".join([f"NUTS has not converged: {what}", *lines]))


def summary(tree: xr.DataTree) -> pd.DataFrame:
    """Summarise the population's quantities.

    Parameters
    ----------
    tree : DataTree
        As in `Sampled.draws`.

    Returns
    -------
    DataFrame
        One row for each quantity that the effects have; columns `constants.STATISTICS`,
        `mcse_mean`, for each of `NAMED_ENDS` its Monte Carlo error (`mcse_q2.5`, `mcse_q97.5`), and
        that of the median (`mcse_q50`).
    """
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    names = [name for name in known_quantities() if name in posterior]
    draws = posterior[names].to_dataarray("quantity")
    of_median = az.mcse(draws.to_dataset(name="x"), method="quantile", prob=0.5)["x"].to_numpy()
    return summarise(draws, "quantity").assign(mcse_q50=of_median)


def study_rates(tree: xr.DataTree) -> pd.DataFrame:
    """Summarise the shrunken rates; columns as in `summary`, one row a study, in data order."""
    return summarise(tree["posterior"].to_dataset()["rate"], "study")


def agreement(sampled: pd.DataFrame, exact: pd.DataFrame) -> tuple[Check, ...]:
    """Compare the sampler with the exact engine.

    Parameters
    ----------
    sampled : DataFrame
        From `summary`.
    exact : DataFrame
        The exact engine's numbers: same index, columns `constants.STATISTICS`; a moment that
        does not exist is NaN. A quantity that is known (`sd` 0) is left out.

    Returns
    -------
    tuple of Check
        For each quantity, the distance of its mean from the exact one in Monte Carlo standard
        errors; the largest such distance of an end of an interval; and the largest Monte Carlo
        standard error in posterior standard deviations, so that a poor sample cannot agree by
        being vague. `None` where the moments do not exist.

    Notes
    -----
    The standard error is that of the mean, or of the median if that is less: of rates near 0 or 1 a
    few draws far out decide the mean, and however many there are it stays vague.
    """
    exact = exact.loc[sampled.index]
    exact = exact[exact["sd"] != 0]
    sampled = sampled.loc[exact.index]
    # Without a standard deviation the Monte Carlo error of a mean means nothing.
    z = _distance(sampled["mean"], exact["mean"], sampled["mcse_mean"]).where(exact["sd"].notna())
    low, high = (exact[end] for end in NAMED_ENDS)
    of_median = sampled["mcse_q50"] * NORMAL_WIDTH / (high - low)
    share = pd.DataFrame([sampled["mcse_mean"] / exact["sd"], of_median]).min()
    at_ends = pd.concat(
        [_distance(sampled[end], exact[end], sampled[f"mcse_{end}"]) for end in NAMED_ENDS]
    )
    return (
        *(
            Check(
                f"agreement of {name}",
                None,
                None,
                MAX_Z,
                f"Under this prior {name} has no mean and standard deviation to compare.",
            )
            if np.isnan(z[name])
            else Check(
                f"agreement of {name}",
                bool(z[name] <= MAX_Z),
                float(z[name]),
                MAX_Z,
                f"The sampled mean of {name} is {z[name]:.1f} Monte Carlo standard errors from the "
                "exact one.",
            )
            for name in exact.index
        ),
        Check(
            "agreement of interval ends",
            bool(at_ends.max() <= MAX_Z_ENDS),
            float(at_ends.max()),
            MAX_Z_ENDS,
            f"The ends of the sampled intervals are at most {at_ends.max():.1f} Monte Carlo "
            f"standard errors from the exact ones; the farthest is one of {at_ends.idxmax()}.",
        ),
        Check(
            "Monte Carlo error",
            bool(share.max() <= MAX_MCSE),
            float(share.max()),
            MAX_MCSE,
            "The largest Monte Carlo standard error of a mean (of a skewed one: of the median) is "
            f"{100 * share.max():.1f} % of its posterior standard deviation, for {share.idxmax()}.",
        ),
    )


def _distance(sampled: pd.Series, exact: pd.Series, mcse: pd.Series) -> pd.Series:
    """Return the absolute difference in Monte Carlo standard errors."""
    # Chains that never moved have an error of 0: any difference is then infinitely far.
    return (sampled - exact).abs() / mcse


def _worst(values: xr.Dataset, pick: Callable[[Array], np.intp]) -> tuple[float, str]:
    """Return a diagnostic where `pick` finds it worst, or not a number, and for which parameter."""
    flat = {}
    for name, array in values.data_vars.items():
        for entry in array.stack(entry=array.dims) if array.dims else [array]:
            of = "".join(f" of {entry[dim].item()}" for dim in array.dims)
            flat[f"{name}{of}"] = float(entry)
    index = pick(np.array(list(flat.values())))
    return list(flat.values())[index], list(flat)[index]


def summarise(draws: xr.DataArray, dim: str) -> pd.DataFrame:
    """Summarise the draws of each entry of a dimension; exact quantiles of all chains' draws.

    Parameters
    ----------
    draws : DataArray
        Dims `dim`, chain, draw.
    dim : str

    Returns
    -------
    DataFrame
        Columns as in `summary`.
    """
    import arviz as az

    draws = draws.transpose(dim, "chain", "draw")
    data = draws.to_dataset(name="x")
    values = draws.to_numpy().reshape(draws.sizes[dim], -1)
    quantiles = np.quantile(values, constants.QUANTILES, axis=1)
    columns = [values.mean(1), values.std(1, ddof=1), *quantiles]
    result = pd.DataFrame(dict(zip(constants.STATISTICS, columns, strict=True)))
    result.index = pd.Index(draws[dim].to_numpy(), name=dim)
    result["mcse_mean"] = az.mcse(data, method="mean")["x"].to_numpy()
    for end, probability in NAMED_ENDS.items():
        error = az.mcse(data, method="quantile", prob=probability)
        result[f"mcse_{end}"] = error["x"].to_numpy()
    return result


def run(model: pm.Model, draws: int, seed: int) -> xr.DataTree:
    """Sample with nutpie and the package's settings."""
    import pymc as pm

    with _quiet():
        tree: xr.DataTree = pm.sample(
            draws,
            tune=constants.TUNE,
            chains=constants.CHAINS,
            target_accept=constants.TARGET_ACCEPT,
            nuts_sampler="nutpie",  # named, so that its absence is an error
            random_seed=seed,
            progressbar=False,
            quiet=True,
            model=model,
        )
    return tree


def _complete(tree: xr.DataTree, pymc_model: pm.Model, model: Model, seed: int) -> xr.DataTree:
    """Add what follows from the draws, and the predictions."""
    import pymc as pm
    import xarray as xr

    with _quiet():
        pm.compute_log_likelihood(
            tree, model=pymc_model, extend_inferencedata=True, progressbar=False
        )
    groups = {str(name): node.to_dataset() for name, node in tree.children.items()}
    posterior, total = groups["posterior"], groups["constant_data"]["total"]
    effects = model.effects
    effects.add_effects(
        posterior, groups["observed_data"]["events"], total, generator(seed, "effects")
    )
    mu, tau = effects.coordinates(posterior)
    flat = mu.to_numpy().ravel(), tau.to_numpy().ravel()
    if "mean_rate" not in posterior:
        mean = effects.new.moments(*flat)[0]
        posterior["mean_rate"] = mu.copy(data=mean.reshape(mu.shape))
    new = effects.new.draw(mu.to_numpy(), tau.to_numpy(), generator(seed, "new study"))
    posterior["theta_new"] = mu.copy(data=new)
    posterior["new_study_rate"] = xr.apply_ufunc(expit, posterior["theta_new"])
    rng = generator(seed, "prior")
    first, second = model.draw_population(mu.size, rng)
    values = effects.population(first[None], second[None])
    prior = xr.Dataset(
        {name: (("chain", "draw"), each) for name, each in values.items()},
        coords={"chain": [0], "draw": np.arange(mu.size)},
    )
    groups["prior"] = prior
    for name, draws, stream in (
        ("prior_predictive", prior, "prior replicates"),
        ("posterior_predictive", posterior, "replicates"),
    ):
        groups[name] = _replicate(draws, total, effects, generator(seed, stream))
    return xr.DataTree.from_dict(groups)


def _replicate(
    draws: xr.Dataset, total: xr.DataArray, effects: Effects, rng: np.random.Generator
) -> xr.Dataset:
    """Draw events of every study, each with a new theta, for each draw of the population."""
    import xarray as xr

    mu, tau = (xr.broadcast(each, total)[0] for each in effects.coordinates(draws))
    theta = effects.new.draw(mu.to_numpy(), tau.to_numpy(), rng)
    return xr.Dataset({"events": mu.copy(data=rng.binomial(total.to_numpy(), expit(theta)))})


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyMC's reports of progress from standard error; its warnings still pass."""
    logger = logging.getLogger("pymc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
