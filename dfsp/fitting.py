"""Fit counts with one engine or both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from dfsp.checks import Check, failed
from dfsp.constants import DRAWS, SEED, STATISTICS
from dfsp.engine import nuts as sampling
from dfsp.engine.nested import Nested, identified, solve_nested
from dfsp.engine.posterior import Posterior, solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.model.effects import Effects
from dfsp.model.model import Model

if TYPE_CHECKING:
    import xarray as xr

Engine = Literal["exact", "nuts", "both"]

QUANTITIES = Effects.quantities
"""Rows of every summary: `mu` and `tau` on the logit scale, the others rates. Effects may lack some
of them, and may have others too, such as the concentration of beta-binomial ones."""

EXCHANGEABLE = "exchangeable"
CLUSTER = "cluster"
GRID_ERROR = 1e-5


@dataclass(frozen=True, eq=False)
class Fit:
    """What a model says about counts.

    Attributes
    ----------
    counts : Counts
    model : Model
    engine : {"exact", "nuts", "both"}
    summary : pandas.DataFrame
        One row a quantity (`QUANTITIES`, then others of the effects), columns `STATISTICS`; NaN
        where it does not exist. From the exact engine unless `engine` is `"nuts"`.
    studies : pandas.DataFrame
        One row a study: `study`, `events`, `total`, `STATISTICS` of its rate under the model, and
        `leave_one_out_lpd` (NaN without the exact engine, and for a row of a cluster of several,
        which is left out as a whole); with EXNEX effects `exchangeable`, the posterior probability
        that the study is; where rows belong to clusters, `cluster`.
    checks : tuple of Check
    posterior : Posterior or None
        The exact engine's result.
    sampled : sampling.Sampled or None
        The NUTS engine's result.
    """

    counts: Counts
    model: Model
    engine: Engine
    summary: pd.DataFrame
    studies: pd.DataFrame
    checks: tuple[Check, ...]
    posterior: Posterior | None
    sampled: sampling.Sampled | None

    @property
    def exact(self) -> Posterior:
        """The exact posterior.

        Raises
        ------
        DfspError
            The fit was made with `engine="nuts"`.
        """
        if self.posterior is None:
            raise DfspError("this fit has no exact posterior; fit with engine='exact' or 'both'")
        return self.posterior

    @property
    def draws(self) -> "xr.DataTree":
        """The NUTS engine's draws.

        Raises
        ------
        DfspError
            The fit was made with `engine="exact"`; `dfsp.draws` gives independent draws.
        """
        if self.sampled is None:
            raise DfspError("this fit has no NUTS draws; fit with engine='nuts' or 'both'")
        return self.sampled.draws

    @property
    def agrees(self) -> bool | None:
        """Whether every check passed; None if none failed and some cannot tell."""
        verdicts = [check.passed for check in self.checks]
        return False if False in verdicts else None if None in verdicts else True

    def __repr__(self) -> str:
        name = self.model.effects.centre
        rate = self.summary.loc[name]
        return (
            f"Fit({self.counts.groups}, {self.engine} engine, {self.model}: "
            f"{name.replace('_', ' ')} "
            f"{rate['q50']:.3f} [{rate['q2.5']:.3f}, {rate['q97.5']:.3f}], "
            f"{len(failed(self.checks))} of {len(self.checks)} checks failed)"
        )

    def new_rows(self) -> pd.DataFrame:
        """Summarise the rate of one more row of each cluster, from the exact engine.

        Returns
        -------
        pandas.DataFrame
            Indexed by `cluster`, columns `STATISTICS`, rate scale.

        Raises
        ------
        DfspError
            The fit has no exact posterior, or no clusters.
        """
        if not isinstance(self.exact, Nested):
            raise DfspError("this fit has no clusters; name the column of clusters when reading")
        names = self.studies[CLUSTER].unique()
        return pd.DataFrame(
            self.exact.new_rows, index=pd.Index(names, name=CLUSTER), columns=STATISTICS
        )

    def _elpd(self) -> float | None:
        """Return the sum of the leave-one-out densities: of clusters, where rows belong to them."""
        if isinstance(self.posterior, Nested):
            return float(sum(self.posterior.leave_one_cluster_out_lpd.tolist()))
        return _plain(sum(self.studies["leave_one_out_lpd"].tolist()))

    def as_dict(self) -> dict[str, Any]:
        """Return the fit as the object of schema `dfsp.fit/1`."""
        evidence = self.posterior and self.posterior.log_marginal_likelihood
        columns = {str(name): column.tolist() for name, column in self.studies.items()}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        studies = list(rows)
        summary = zip(self.summary.index, self.summary.to_numpy().tolist(), strict=True)
        return {
            "schema": "dfsp.fit/1",
            "engine": self.engine,
            "n_studies": len(studies),
            **({"n_clusters": len(set(columns[CLUSTER]))} if CLUSTER in columns else {}),
            "model": self.model.as_dict(),
            "log_marginal_likelihood": evidence,
            "elpd_leave_one_study_out": self._elpd(),
            **{name: _numbers(dict(zip(STATISTICS, row, strict=True))) for name, row in summary},
            "studies": [
                {
                    "study": row["study"],
                    **{name: row[name] for name in (CLUSTER,) if name in row},
                    "events": row["events"],
                    "total": row["total"],
                    "rate": _numbers(row),
                    "leave_one_out_lpd": _plain(row["leave_one_out_lpd"]),
                    **{name: row[name] for name in (EXCHANGEABLE,) if name in row},
                }
                for row in studies
            ],
            "checks": [check.as_dict() for check in self.checks],
        }


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
    counts = Counts.of(counts, clusters=True)
    table = counts.table
    cluster = table[CLUSTER].to_list() if CLUSTER in table else None
    checks: list[Check] = []
    posterior = sampled = None
    if cluster is not None:
        model = model.nested(cluster)
        checks.append(identified(cluster))
    if engine != "nuts":
        together = _together(table) if leave_out == "overlapping" else None
        columns = table["events"], table["total"]
        posterior = (
            solve(*columns, model, together=together)
            if cluster is None
            else solve_nested(*columns, cluster, model, together=together)
        )
        checks.append(resolved(posterior))
        summary, studies = _exact_tables(posterior, table)
    if engine != "exact":
        sampled = sampling.sample(table, model, draws=draws, seed=seed)
        checks.extend(sampled.checks)
        if gate == "raise" or posterior is None:
            sampling.require_converged(sampled)
        if posterior is None:
            summary = sampling.summary(sampled.draws)[list(STATISTICS)].reindex(_rows_of(model))
            seen = table["events"].to_numpy(), table["total"].to_numpy()
            exist = model.effects.spread_moments(*seen, model.tau)
            # Draws always have a mean, also where the distribution has none.
            missing = [m for m, exists in zip(("mean", "sd"), exist, strict=True) if not exists]
            summary.loc[model.effects.spread, missing] = float("nan")
            studies = _with_counts(table, sampling.study_rates(sampled.draws), float("nan"))
            own = sampled.draws["posterior"].to_dataset()
            if EXCHANGEABLE in own:
                studies[EXCHANGEABLE] = own[EXCHANGEABLE].mean(("chain", "draw")).to_numpy()
        elif not sampled.refused:
            checks.extend(sampling.agreement(sampling.summary(sampled.draws), summary))
    return Fit(counts, model, engine, summary, studies, tuple(checks), posterior, sampled)


def _together(table: pd.DataFrame) -> list[list[int]]:
    """For each study, the rows that leave with it: itself and those that share its patients."""
    row = {study: index for index, study in enumerate(table["study"])}
    partners = table.get("shares_patients_with", pd.Series("", index=table.index))
    return [
        [index, *(row[name] for name in shared.split("; ") if name in row)]
        for index, shared in enumerate(partners)
    ]


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


def _exact_tables(posterior: Posterior, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = _rows_of(posterior.model)
    rows = [getattr(posterior, name).summary() for name in names]
    summary = pd.DataFrame(rows, index=pd.Index(names, name="quantity"), columns=STATISTICS)
    rates = dict(zip(STATISTICS, posterior.studies.T, strict=True))
    studies = _with_counts(table, rates, posterior.leave_one_out_lpd)
    if posterior.exchangeable is not None:
        studies[EXCHANGEABLE] = posterior.exchangeable
    return summary, studies


def _rows_of(model: Model) -> list[str]:
    return list(dict.fromkeys([*QUANTITIES, *model.quantities]))


def _with_counts(table: pd.DataFrame, rates: Any, lpd: Any) -> pd.DataFrame:
    """Put counts, `rates` by `STATISTICS` and leave-one-out densities side by side."""
    own = [name for name in ("study", CLUSTER, "events", "total") if name in table]
    columns = {name: table[name].array for name in own}
    columns |= {name: np.asarray(rates[name]) for name in STATISTICS}
    return pd.DataFrame(columns | {"leave_one_out_lpd": lpd})


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _plain(row[name]) for name in STATISTICS}


def _plain(value: float) -> float | None:
    """JSON has no NaN: what does not exist is null."""
    return None if math.isnan(value) else float(value)
