"""What the prior does to the posterior: other priors, and powers of prior and likelihood."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from dfsp.analyses.dimensions import PRIORS_OF_MU, PRIORS_OF_TAU
from dfsp.constants import ENDS, SEED
from dfsp.engine.posterior import solve
from dfsp.engine.powers import LIKELIHOOD, NORMAL_WIDTH
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit, require_fit
from dfsp.model.model import Model
from dfsp.text import Result, Sentences, Table, table_of

OWN = "this analysis"
APART = 4.0
"""Monte Carlo errors within which two numbers agree."""


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

    See Also
    --------
    power_scaling : One number a parameter instead of a grid.
    dfsp.multiverse.fit : Priors beside all other choices.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 20]})
    >>> grid = dfsp.sensitivity.prior_grid(table)
    >>> grid.xs("typical_rate", level="quantity")["median"].agg(["min", "max"]).round(3).to_dict()
    {'min': 0.356, 'max': 0.395}
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
    return table_of(frame, digits=3, rates=True)


@dataclass(frozen=True, eq=False, repr=False)
class PowerScaling(Result):
    """The grid's power-scaling of the typical rate beside that of weighted draws.

    Attributes
    ----------
    table : Table
        Indexed by what is raised to a power: `grid`, the location of `Fit.prior_sensitivity`,
        `draws`, the same from draws, and `error`, the Monte Carlo error of the latter.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.sensitivity.power_scaling(dfsp.fit(table), number=400).table.columns.to_list()
    ['grid', 'draws', 'error']
    """

    table: Table

    @property
    def agrees(self) -> bool:
        """Whether the two are within `APART` Monte Carlo errors."""
        apart = (self.table["grid"] - self.table["draws"]).abs()
        return bool((apart <= APART * self.table["error"]).all())

    def describe(self) -> Sentences:
        """Say whether the two agree; no digit of a draw is in it."""
        return Sentences(
            "Power-scaling by the grid and by weighted draws "
            f"{'agree' if self.agrees else 'do not agree'} within Monte Carlo error."
        )


def power_scaling(fit: Fit, *, number: int = 4000, seed: int = SEED) -> PowerScaling:
    """Weigh draws by powers of prior and likelihood, and compare with the grid's derivatives.

    The mean of mu over draws weighted by p^(alpha - 1), where p is a prior or the likelihood with
    study effects integrated out, has the derivative Cov(mu, log p) at alpha = 1 (Kallioinen et al.
    2024, doi:10.1007/s11222-023-10366-5). The same draws serve all.

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

    Raises
    ------
    DfspError
        Effects without mu and tau, or a fit without an exact posterior.

    See Also
    --------
    dfsp.Fit.prior_sensitivity : The same of every quantity, without draws.
    prior_grid : The posterior under other priors.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.sensitivity.power_scaling(dfsp.fit(table), number=400).table.index.to_list()
    ['mu', 'tau', 'likelihood']
    """
    require_fit(fit).model.require_mu("power-scaling needs")
    posterior = fit.draws(number, seed=seed)["posterior"]
    mu, tau = (posterior[name].to_numpy().ravel() for name in ("mu", "tau"))
    of_mu, of_tau = fit.model.effects.log_priors(fit.model.mu, fit.model.tau, mu, tau)
    counts = fit.exact.events, fit.exact.total
    logs = {
        "mu": of_mu,
        "tau": of_tau,
        LIKELIHOOD: fit.model.effects.log_likelihood(*counts, mu, tau).sum(0),
    }
    ends = fit.exact.typical_rate.points(np.array(ENDS))
    scale = NORMAL_WIDTH / float(ends[1] - ends[0])
    rows = {}
    for name, power in (fit.prior_sensitivity or {})["typical_rate"].items():
        if power is None:  # a tau that is fixed cannot move
            continue
        products = (mu - mu.mean()) * (logs[name] - logs[name].mean())
        error = products.std() / np.sqrt(number)
        rows[name] = [power.location, scale * products.mean(), scale * error]
    return PowerScaling(
        table_of(pd.DataFrame.from_dict(rows, orient="index", columns=["grid", "draws", "error"]))
    )
