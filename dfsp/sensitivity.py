"""What the prior does to the posterior, and what the patients without a response could do."""

import io
from contextlib import redirect_stderr, redirect_stdout
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaln, xlogy

from dfsp.constants import SEED
from dfsp.errors import DfspError
from dfsp.evidence import Evidence
from dfsp.exact import Posterior, solve
from dfsp.fitting import Fit
from dfsp.integrals import sigmoid
from dfsp.models import Model
from dfsp.outcomes import count
from dfsp.predictions import draws
from dfsp.robustness import PRIORS_OF_MU, PRIORS_OF_TAU
from dfsp.tables import Counts

Array = npt.NDArray[np.float64]

MOST = 256  # ways in which the patients without a response can have responded


def prior_grid(counts: Counts) -> pd.DataFrame:
    """Return prior and posterior of tau and the rates under each named prior.

    Returns
    -------
    pandas.DataFrame
        Indexed by the priors of `tau` and `mu`: prior and posterior median of tau (logit scale),
        typical rate with its interval, new-study interval, and the prior predictive interval.
    """
    table = counts.table
    rows = {}
    for (tau, of_tau), (mu, of_mu) in product(PRIORS_OF_TAU.items(), PRIORS_OF_MU.items()):
        model = Model(mu=of_mu, tau=of_tau)
        prior, after = solve([], [], model), solve(table["events"], table["total"], model)
        middle, low, high = after.typical_rate.quantile([0.5, 0.025, 0.975])
        rows[tau, mu] = [
            float(of_tau.ppf(0.5)), float(after.tau.quantile(0.5)[0]), middle, low, high,
            *after.new_study_rate.quantile([0.025, 0.975]),
            *prior.new_study_rate.quantile([0.025, 0.975]),
        ]  # fmt: skip
    columns = ["prior_tau", "tau", "typical", "low", "high", "new_low", "new_high"]
    frame = pd.DataFrame(rows, index=[*columns, "prior_low", "prior_high"]).T
    return frame.rename_axis(["tau_prior", "mu_prior"])


def power_scaling(fit: Fit, *, number: int = 4000, seed: int = SEED) -> pd.DataFrame:
    """Scale prior and likelihood by powers near one and see how far the posterior moves.

    Kallioinen et al. 2024, doi:10.1007/s11222-023-10366-5, through ArviZ, on independent draws
    from the exact posterior; the likelihood is that with study effects integrated out.

    Parameters
    ----------
    fit : Fit
        With the exact engine and a prior of tau that is not fixed.
    number : int
        Draws, a multiple of 4.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Indexed by `mu` and `tau`: `prior` and `likelihood` sensitivity, and ArviZ's `diagnosis`.
    """
    import arviz as az
    import xarray as xr

    fit.model.require_mu("power-scaling needs")
    tree = draws(fit.exact, number, seed=seed)
    posterior = tree["posterior"].to_dataset()[["mu", "tau"]]
    mu, tau = posterior["mu"].to_numpy(), posterior["tau"].to_numpy()
    counts = fit.exact.events, fit.exact.total
    log_l = fit.model.effects.log_likelihood(*counts, mu.ravel(), tau.ravel())
    groups = {
        "posterior": posterior,
        "log_prior": posterior.assign(
            mu=posterior["mu"].copy(data=fit.model.mu.logpdf(mu)),
            tau=posterior["tau"].copy(data=fit.model.tau.logpdf(tau)),
        ),
        "log_likelihood": xr.Dataset(
            {
                "events": (
                    ("chain", "draw", "study"),
                    np.moveaxis(log_l.reshape(-1, *mu.shape), 0, -1),
                )
            },
            coords={"chain": posterior["chain"], "draw": posterior["draw"]},
        ),
    }
    # ArviZ prints advice where it finds something; the table says it too.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        found = az.psense_summary(
            xr.DataTree.from_dict(groups),
            var_names=["mu", "tau"],
            prior_var_names=["mu", "tau"],
            round_to=6,
        )
    return pd.DataFrame(found)


def describe_power_scaling(table: pd.DataFrame) -> str:
    """Say in words whether prior and data disagree."""
    said = [
        f"{name}: {row['diagnosis'].replace('✓', 'no sign of it')}"
        for name, row in table.iterrows()
    ]
    return "prior against data: " + "; ".join(said)


def missing_outcomes(
    evidence: Evidence,
    outcome: str = "objective_response",
    *,
    model: Model | None = None,
    steps: int = 21,
) -> pd.DataFrame:
    """Sweep the response probability among not-evaluable patients from 0 to 1.

    At each probability the posterior is the mixture, over how many of each cohort's patients would
    have responded, of the posteriors of the completed counts.

    Parameters
    ----------
    evidence : Evidence
    outcome : str
    model : Model, optional
    steps : int
        Probabilities, 2 or more.

    Returns
    -------
    pandas.DataFrame
        Indexed by `probability`: `typical` (median), `low`, `high`, and `mean` rate. Its
        `attrs["left_out"]` names the cohorts of which it is not known how many were not evaluable.

    Raises
    ------
    DfspError
        Fewer than two steps, or too many patients without a response to go through.
    """
    model = model or Model()
    model.require_mu("the sweep needs")
    if not isinstance(steps, int) or steps < 2:
        raise DfspError(f"steps = {steps!r}; give a whole number of 2 or more")
    low = count(evidence, outcome, not_evaluable="no event").table
    high = count(evidence, outcome, not_evaluable="event").table
    both = low.merge(high[["study", "events"]], on="study", suffixes=("", "_most"))
    spare = (both["events_most"] - both["events"]).to_numpy(int)
    ways = list(product(*(range(n + 1) for n in spare)))
    if len(ways) > MOST:
        raise DfspError(
            f"{spare.sum()} patients without a response can have responded in {len(ways)} ways; "
            f"at most {MOST} are gone through"
        )
    posteriors = [
        solve(both["events"].to_numpy() + np.array(extra), both["total"], model) for extra in ways
    ]
    responded = np.array(ways)
    choose = (gammaln(spare + 1) - gammaln(responded + 1) - gammaln(spare - responded + 1)).sum(-1)
    x, cdfs = _tabulated(posteriors)
    means = np.array([each.mean_rate.mean for each in posteriors])
    rows = {}
    for p in np.linspace(0, 1, steps):
        log_weight = choose + (xlogy(responded, p) + xlogy(spare - responded, 1 - p)).sum(-1)
        weight = np.exp(log_weight)
        ends = np.interp([0.5, 0.025, 0.975], weight @ cdfs, x)
        rows[p] = [*sigmoid(ends), float(weight @ means)]
    frame = pd.DataFrame(rows, index=["typical", "low", "high", "mean"]).T
    frame.attrs["left_out"] = sorted(set(low["study"]) - set(both["study"]))
    return frame.rename_axis("probability")


def describe_missing(sweep: pd.DataFrame) -> str:
    """Say how far the patients without an evaluation could move the answer."""
    first, last = sweep["typical"].iloc[0], sweep["typical"].iloc[-1]
    gone = sweep.attrs["left_out"]
    left_out = (
        f" Without {', '.join(gone)}, of which it is not known how many were not evaluable."
        if gone
        else ""
    )
    return (
        f"If none of the patients without an evaluation had responded the typical rate would be "
        f"{100 * first:.1f} %, if all had, {100 * last:.1f} %.{left_out}"
    )


def _tabulated(posteriors: list[Posterior]) -> tuple[Array, Array]:
    """Return points of mu and each posterior's distribution function there."""
    low = min(each.mu.x[0] for each in posteriors)
    high = max(each.mu.x[-1] for each in posteriors)
    x = np.linspace(low, high, 1201)
    return x, np.array([each.mu.cdf_at(x) for each in posteriors])
