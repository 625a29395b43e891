"""What the prior does to the posterior, and what the patients without a response could do."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import xlogy

from dfsp.analyses.dimensions import PRIORS_OF_MU, PRIORS_OF_TAU
from dfsp.constants import ENDS, MEDIAN_AND_ENDS, SEED
from dfsp.engine.distributions import invert
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.outcomes import Straddling, count
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.model.likelihood import log_choose, sigmoid
from dfsp.model.model import Model
from dfsp.predictions import draws
from dfsp.seeds import generator

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int_]


# Ways in which the patients without an evaluation can have had the event, and how many are drawn
# for each probability where there are more.
MOST_COMPLETIONS = 1024
SAMPLED = 100
POINTS = 2001  # at which distribution functions of mu are averaged
OWN = "this analysis"


def prior_grid(counts: Counts, model: Model | None = None) -> pd.DataFrame:
    """Return prior and posterior of mu, tau and the rates under each named prior.

    Parameters
    ----------
    counts : Counts
    model : Model, optional
        Its effects are those of every row, its priors those of the rows `OWN`.

    Returns
    -------
    pandas.DataFrame
        Indexed by the priors of `tau` and `mu` and by `quantity` (mu and tau on the logit scale):
        median with the ends of the 95 % interval, of the prior as `prior_low`, `prior` and
        `prior_high`, of the posterior as `low`, `median` and `high`.

    Raises
    ------
    DfspError
        Beta-binomial effects.
    """
    counts.require_independent("a grid of priors")
    model = model or Model()
    model.require_mu("a grid of priors is over those of")
    table = counts.table
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
    return pd.DataFrame(rows, index=columns).T.rename_axis(["tau_prior", "mu_prior", "quantity"])


def power_scaling(fit: Fit, *, number: int = 4000, seed: int = SEED) -> pd.DataFrame:
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
    pandas.DataFrame
        Indexed by `mu` and, unless it is fixed, `tau`: `prior` and `likelihood` sensitivity, and
        ArviZ's `diagnosis`.
    """
    import arviz as az
    import xarray as xr

    fit.model.require_mu("power-scaling needs")
    tree = draws(fit.exact, number, seed=seed)
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
    return pd.DataFrame(found)


def describe_power_scaling(table: pd.DataFrame) -> str:
    """Say in words whether prior and data disagree."""
    said = "; ".join(
        f"{name}: {row['diagnosis'].replace('✓', 'no sign of a conflict')}"
        for name, row in table.iterrows()
    )
    return f"Prior against data, by power-scaling: {said}."


def missing_outcomes(
    evidence: Evidence | Counts,
    outcome: str = "objective_response",
    *,
    model: Model | None = None,
    steps: int = 21,
    seed: int = SEED,
) -> pd.DataFrame:
    """Sweep the probability of the event among not-evaluable patients from 0 to 1.

    At each probability the posterior is the mixture, over how many of each cohort's patients would
    have had the event, of the posteriors of the completed counts; at 0 that of `no event`. The
    patients of a coarse count such as `SD+NE 9` are kept as without the event, since it is not
    known how many of them were not evaluable; `typical_most` takes them all as not evaluable.

    Parameters
    ----------
    evidence : Evidence or Counts
        Of a table of counts no patient is known to be without an evaluation.
    outcome : str
        Of the evidence.
    model : Model, optional
    steps : int
        Probabilities, 2 or more.
    seed : int
        Of the completed counts that are drawn where there are too many to go through.

    Returns
    -------
    pandas.DataFrame
        Indexed by `probability`: `typical` (median), `low`, `high`, and `mean` rate; and
        `typical_most` where there are coarse counts. Its `attrs` say the `label` of the outcome,
        how many patients are `missing`, by cohort the `coarse` counts, and whether all completed
        counts were gone through (`exact`).

    Raises
    ------
    DfspError
        Fewer than two steps, or beta-binomial effects.
    """
    model = model or Model()
    model.require_mu("the sweep needs")
    if not isinstance(steps, int) or steps < 2:
        raise DfspError(f"steps = {steps!r}; give a whole number of 2 or more")
    if isinstance(evidence, Counts):
        counts = evidence
        missing = most = np.zeros(len(counts.table), dtype=int)
    else:
        counts = count(evidence, outcome)
        missing, most = (_missing(evidence, counts, straddling) for straddling in ("low", "high"))
    probabilities = np.linspace(0, 1, steps)
    rng = generator(seed, "missing")
    answers, exact = _mixtures(counts, missing, model, probabilities, rng)
    columns = ["typical", "low", "high", "mean"]
    frame = pd.DataFrame(answers, columns=columns, index=pd.Index(probabilities))
    if (most > missing).any():
        beyond, also = _mixtures(counts, most, model, probabilities, rng)
        frame["typical_most"], exact = beyond[:, 0], exact and also
    coarse = dict(zip(counts.table["study"], (most - missing).tolist(), strict=True))
    frame.attrs = {
        "label": counts.label,
        "missing": int(missing.sum()),
        "coarse": {study: patients for study, patients in coarse.items() if patients},
        "exact": exact,
    }
    return frame.rename_axis("probability")


def describe_missing(sweep: pd.DataFrame) -> str:
    """Say how far the patients without an evaluation could move the answer."""
    missing, coarse = sweep.attrs["missing"], sweep.attrs["coarse"]
    first, last = sweep["typical"].iloc[0], sweep["typical"].iloc[-1]
    said = "No patient is known to be without an evaluation."
    if missing:
        who = "the one patient" if missing == 1 else f"the {missing} patients"
        said = (
            f"If none of {who} known to be without an evaluation had had the event "
            f"({sweep.attrs['label']}), the typical rate would be {100 * first:.1f} %, if all had, "
            f"{100 * last:.1f} %."
        )
    if coarse:
        whose = ", ".join(f"{patients} of {study}" for study, patients in coarse.items())
        said += (
            f" Of further patients ({whose}) it is not known who was evaluated; they count as "
            f"without the event. Had none of them been evaluated and all had the event, it would "
            f"be {100 * sweep['typical_most'].iloc[-1]:.1f} %."
        )
    if not sweep.attrs["exact"]:
        said += f" Completed counts were drawn, {SAMPLED} for each probability."
    return said


def _missing(evidence: Evidence, counts: Counts, straddling: Straddling) -> Whole:
    """Return how many patients of each cohort would have the event, were it that of all missing."""
    most = count(evidence, counts.outcome, not_evaluable="event", straddling=straddling).table
    events = most.set_index("study")["events"]
    spare: Whole = events[counts.table["study"]].to_numpy(int, copy=True)
    spare -= counts.table["events"].to_numpy(int)
    return spare


def _mixtures(
    counts: Counts, missing: Whole, model: Model, probabilities: Array, rng: np.random.Generator
) -> tuple[Array, bool]:
    """Return typical rate, its interval and the mean rate at each probability."""
    exact = float(np.prod(missing + 1.0)) <= MOST_COMPLETIONS
    if exact:
        had = np.array(list(product(*(range(n + 1) for n in missing))))
        p = probabilities[:, None, None]
        log_weights = (
            log_choose(had.astype(float), missing.astype(float))
            + xlogy(had, p)
            + xlogy(missing - had, 1 - p)
        )
        weights = np.exp(log_weights.sum(-1))
    else:
        # The same uniform numbers at each probability, for a curve without jitter
        uniform = rng.uniform(size=(SAMPLED, len(missing), 1, missing.max()))
        counted = np.arange(missing.max()) < missing[:, None, None]
        drawn = ((uniform < probabilities[:, None]) & counted).sum(-1)
        flat = np.moveaxis(drawn, -1, 0).reshape(-1, len(missing))
        had, which = np.unique(flat, axis=0, return_inverse=True)
        weights = np.zeros((len(probabilities), len(had)))
        step = np.repeat(np.arange(len(probabilities)), SAMPLED)
        np.add.at(weights, (step, which.ravel()), 1 / SAMPLED)
    events, total = counts.table["events"].to_numpy(), counts.table["total"].to_numpy()
    # Cohorts alike make completed counts alike.
    alike: dict[tuple[tuple[int, int], ...], int] = {}
    place = [
        alike.setdefault(tuple(sorted(zip(row, total.tolist(), strict=True))), len(alike))
        for row in (events + had).tolist()
    ]
    gathered = np.zeros((len(probabilities), len(alike)))
    np.add.at(gathered.T, place, weights.T)
    # A rate alone is read: Posterior keeps much more, thousands of which would fill the memory.
    parts = []
    for pairs in alike:
        completed = np.array(pairs)
        one = solve(completed[:, 0], completed[:, 1], model)
        parts.append((one.typical_rate, one.mean_rate.mean))
    x = np.unique(np.concatenate([rate.x for rate, _ in parts]))
    x = x[np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int)]
    cdf = gathered @ np.array([rate.cdf_at(x) for rate, _ in parts])
    quantiles = sigmoid(invert(x[None], np.maximum.accumulate(cdf, -1), np.array(MEDIAN_AND_ENDS)))
    return np.column_stack([quantiles, gathered @ [mean for _, mean in parts]]), exact
