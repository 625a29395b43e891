"""Every subset of the studies: what the answer would be had some not been found.

All subsets share one grid and the likelihood of each study on it. The plot of rate against
heterogeneity is called GOSH (Olkin 2012, doi:10.1002/jrsm.1053).
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.constants import SEED
from dfsp.errors import DfspError
from dfsp.exact import solve
from dfsp.fitting import Fit
from dfsp.models import Model
from dfsp.predictions import events_in_new_study
from dfsp.seeds import generator
from dfsp.shared_grid import QUANTILES, SharedGrid
from dfsp.tables import Counts

Array = npt.NDArray[np.float64]

MOST = 16  # studies of which all subsets are taken
SAMPLED = 2**16


def all_subsets(counts: Counts, model: Model | None = None, *, seed: int = SEED) -> pd.DataFrame:
    """Fit every non-empty subset of the studies; of more than 16 studies a sample of them.

    Parameters
    ----------
    counts : Counts
    model : Model, optional
        With mu and tau.
    seed : int
        Of the sample, where one is drawn.

    Returns
    -------
    pandas.DataFrame
        One row a subset: one boolean column a study, `studies` (how many), `typical_rate`, `low`,
        `high` (median and 95 % interval, rate scale), `tau` (median, logit scale).

    Raises
    ------
    DfspError
        Beta-binomial effects.
    """
    model = model or Model()
    model.require_mu("subsets are drawn over")
    table = counts.table
    k = len(table)
    if k <= MOST:
        number = np.arange(1, 2**k)
        member = (number[:, None] >> np.arange(k)) & 1
    else:
        member = generator(seed, "subsets").integers(0, 2, (SAMPLED, k))
        member = member[member.any(-1)]
    counted = table[["events", "total"]].to_numpy(float)
    pairs, which = np.unique(counted, axis=0, return_inverse=True)
    times = member @ np.eye(len(pairs))[which.ravel()]
    grid = SharedGrid(pairs[:, 0], pairs[:, 1], [model])
    found = grid.solve(times, [model] * len(times))
    columns = np.column_stack([found.typical, found.tau])
    for row in np.flatnonzero(~found.resolved):
        one = table[member[row] > 0]
        own = solve(one["events"], one["total"], model)
        columns[row] = [*own.typical_rate.quantile(QUANTILES), *own.tau.quantile(0.5)]
    frame = pd.DataFrame(member.astype(bool), columns=table["study"].to_list())
    frame["studies"] = member.sum(-1)
    frame[["typical_rate", "low", "high", "tau"]] = columns
    return frame


def leave_two_out(counts: Counts, model: Model | None = None) -> pd.DataFrame:
    """Fit without each pair of studies.

    Returns
    -------
    pandas.DataFrame
        Indexed by the pair: `typical_rate`, `low`, `high`, `tau`.

    Raises
    ------
    DfspError
        Fewer than three studies.
    """
    if len(counts.table) < 3:
        raise DfspError("leaving two studies out needs three or more")
    model = model or Model()
    model.require_mu("leaving two studies out shows")
    rows = {}
    table = counts.table.reset_index(drop=True)
    for pair in combinations(range(len(table)), 2):
        rest = table.drop(index=list(pair))
        posterior = solve(rest["events"], rest["total"], model)
        middle, low, high = posterior.typical_rate.quantile([0.5, 0.025, 0.975])
        name = " and ".join(table["study"].iloc[list(pair)])
        rows[name] = [middle, low, high, float(posterior.tau.quantile(0.5)[0])]
    columns = ["typical_rate", "low", "high", "tau"]
    return pd.DataFrame(rows, index=columns).T.rename_axis("left out")


def influence(fit: Fit) -> pd.DataFrame:
    """Say what each study does to the answer, and whether the others lead one to expect it.

    Cohorts that share the study's patients leave with it.

    Parameters
    ----------
    fit : Fit
        Of two studies or more, with the exact engine.

    Returns
    -------
    pandas.DataFrame
        Indexed by study: shift of the typical rate and of tau (medians) when it is added to the
        others, the width of the new-study interval without and with it, and `mid_p`, the
        probability that a new study of its size has more events, given the others.

    Raises
    ------
    DfspError
        Fewer than two studies.
    """
    table = fit.counts.table
    if len(table) < 2:
        raise DfspError("the influence of a study needs two studies or more")
    fit.model.require_mu("the influence of a study is on")
    whole = fit.exact
    shares = table.get("shares_patients_with", pd.Series("", index=table.index))
    rows = {}
    for study, partners, events, total in zip(
        table["study"], shares, table["events"].to_list(), table["total"].to_list(), strict=True
    ):
        rest = table[~table["study"].isin([study, *partners.split("; ")])]
        others = solve(rest["events"], rest["total"], fit.model)
        probability = events_in_new_study(others, total)
        widths = [
            float(np.diff(p.new_study_rate.quantile([0.025, 0.975]))[0]) for p in (others, whole)
        ]
        rows[study] = [
            float(whole.typical_rate.quantile(0.5)[0] - others.typical_rate.quantile(0.5)[0]),
            float(whole.tau.quantile(0.5)[0] - others.tau.quantile(0.5)[0]),
            *widths,
            float(probability[events + 1 :].sum() + probability[events] / 2),
        ]
    columns = ["rate_shift", "tau_shift", "new_width_without", "new_width_with", "mid_p"]
    return pd.DataFrame(rows, index=columns).T.rename_axis("study")
