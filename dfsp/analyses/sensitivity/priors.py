"""What the prior does to the posterior: other priors, and powers of prior and likelihood."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from dfsp.analyses.dimensions import PRIORS_OF_MU, PRIORS_OF_TAU
from dfsp.constants import ENDS, SEED
from dfsp.engine.posterior import solve
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.model.model import Model
from dfsp.text import Result, Sentences, Table, table_of

OWN = "this analysis"


def prior_grid(counts: Counts | pd.DataFrame, model: Model | None = None) -> Table:
    """Return prior and posterior of mu, tau and the rates under each named prior.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    model : Model, optional
        Its effects are those of every row, its priors those of the rows `OWN`.

    Returns
    -------
    Table
        Indexed by the priors of `tau` and `mu` and by `quantity` (mu and tau on the logit scale):
        median with the ends of the 95 % interval, of the prior as `prior_low`, `prior` and
        `prior_high`, of the posterior as `low`, `median` and `high`.

    Raises
    ------
    DfspError
        Beta-binomial effects.
    """
    model = model or Model()
    model.require_mu("a grid of priors is over those of")
    table = Counts.of(counts).table
    chosen = {(OWN, OWN): model} | {
        (tau, mu): replace(model, mu=of_mu, tau=of_tau)
        for (tau, of_tau), (mu, of_mu) in product(PRIORS_OF_TAU.items(), PRIORS_OF_MU.items())
    }
    rows = {}
    for names, each in chosen.items():
        prior, after = solve([], [], each), solve(table["events"], table["total"], each)
        for quantity in ("mu", "tau", "typical_rate", "mean_rate", "new_study_rate"):
            rows[*names, quantity] = [
                *getattr(prior, quantity).quantile((ENDS[0], 0.5, ENDS[1])),
                *getattr(after, quantity).quantile((ENDS[0], 0.5, ENDS[1])),
            ]
    columns = ["prior_low", "prior", "prior_high", "low", "median", "high"]
    frame = pd.DataFrame(rows, index=columns).T.rename_axis(["tau_prior", "mu_prior", "quantity"])
    return table_of(frame, digits=3)


@dataclass(frozen=True, eq=False, repr=False)
class PowerScaling(Result):
    """How far the posterior moves with powers of prior and likelihood near one.

    Attributes
    ----------
    table : Table
        Indexed by `mu` and, unless it is fixed, `tau`: `prior` and `likelihood` sensitivity, and
        ArviZ's `diagnosis`.
    """

    table: Table

    def describe(self) -> Sentences:
        """Say in words whether prior and data disagree."""
        said = "; ".join(
            f"{name}: {row['diagnosis'].replace('✓', 'no sign of a conflict')}"
            for name, row in self.table.iterrows()
        )
        return Sentences(f"Prior against data, by power-scaling: {said}.")


def power_scaling(fit: Fit, *, number: int = 4000, seed: int = SEED) -> PowerScaling:
    """Scale prior and likelihood by powers near one and see how far the posterior moves.

    Kallioinen et al. 2024, doi:10.1007/s11222-023-10366-5, through ArviZ, on independent draws
    from the exact posterior; the likelihood is that with study effects integrated out.

    Parameters
    ----------
    fit : Fit
        With the exact engine.
    number : int
        Draws, a multiple of 4.
    seed : int

    Returns
    -------
    PowerScaling
    """
    import arviz as az
    import xarray as xr

    fit.model.require_mu("power-scaling needs")
    tree = fit.draws(number, seed=seed)
    # A tau that is fixed cannot move.
    names = ["mu"] if fit.model.tau.known is not None else ["mu", "tau"]
    posterior = tree["posterior"].to_dataset()[["mu", "tau"]]
    mu, tau = posterior["mu"].to_numpy(), posterior["tau"].to_numpy()
    counts = fit.exact.events, fit.exact.total
    log_l = fit.model.effects.log_likelihood(*counts, mu.ravel(), tau.ravel())
    groups = {
        "posterior": posterior[names],
        "log_prior": posterior.assign(
            mu=posterior["mu"].copy(data=fit.model.mu.logpdf(mu)),
            tau=posterior["tau"].copy(data=fit.model.tau.logpdf(tau)),
        )[names],
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
            var_names=names,
            prior_var_names=names,
            round_to=6,
        )
    return PowerScaling(table_of(found))
