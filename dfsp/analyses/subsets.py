"""Every subset of the studies: what the answer would be had some not been found.

All subsets share one grid and the likelihood of each study on it. The plot of rate against
heterogeneity is called GOSH (Olkin 2012, doi:10.1002/jrsm.1053).
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.constants import MEDIAN_AND_ENDS, SEED
from dfsp.engine.many import SharedGrid
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.model.model import Model
from dfsp.predictions import events_in_new_study
from dfsp.seeds import generator

Array = npt.NDArray[np.float64]

MOST_STUDIES = 16  # studies of which all subsets are taken
SAMPLED = 2**16
COLUMNS = ["typical_rate", "low", "high", "tau"]


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
        One row a subset, none twice: one boolean column a study, `studies` (how many),
        `typical_rate`, `low`, `high` (median and 95 % interval, rate scale), `tau` (median, logit
        scale). A sample begins with all studies.

    Raises
    ------
    DfspError
        Beta-binomial effects, or a study with the name of one of these columns.
    """
    counts.require_independent("a fit of all subsets")
    model = model or Model()
    model.require_mu("subsets are drawn over")
    table = counts.table
    k = len(table)
    if taken := [study for study in table["study"] if study in ("studies", *COLUMNS)]:
        raise DfspError(
            f"study {taken[0]!r}: a column of the subsets has this name ({', '.join(COLUMNS)}, "
            "studies); give the study another"
        )
    if k <= MOST_STUDIES:
        number = np.arange(1, 2**k)
        member = (number[:, None] >> np.arange(k)) & 1
    else:
        drawn = generator(seed, "subsets").integers(0, 2, (SAMPLED, k))
        both = np.vstack([np.ones((1, k), dtype=drawn.dtype), drawn[drawn.any(-1)]])
        _, first = np.unique(both, axis=0, return_index=True)
        member = both[np.sort(first)]
    counted = table[["events", "total"]].to_numpy(float)
    pairs, which = np.unique(counted, axis=0, return_inverse=True)
    times = member @ np.eye(len(pairs))[which.ravel()]
    grid = SharedGrid(pairs[:, 0], pairs[:, 1], [model])
    found = grid.solve(times)
    columns = np.column_stack([found.typical, found.tau])
    for row in np.flatnonzero(~found.resolved):
        one = table[member[row] > 0]
        own = solve(one["events"], one["total"], model)
        columns[row] = [*own.typical_rate.quantile(MEDIAN_AND_ENDS), *own.tau.quantile(0.5)]
    frame = pd.DataFrame(member.astype(bool), columns=table["study"].to_list())
    frame["studies"] = member.sum(-1)
    frame[COLUMNS] = columns
    return frame


def leave_two_out(counts: Counts, model: Model | None = None) -> pd.DataFrame:
    """Fit without each pair of studies, and without the cohorts that share their patients.

    Parameters
    ----------
    counts : Counts
    model : Model, optional
        With mu and tau.

    Returns
    -------
    pandas.DataFrame
        Indexed by the pair: `with_it` (studies that leave too), `typical_rate`, `low`, `high`,
        `tau`. Pairs that leave no study are not there.

    Raises
    ------
    DfspError
        Fewer than three studies, or none is left whatever pair leaves.
    """
    counts.require_independent("leaving two studies out")
    if len(counts.table) < 3:
        raise DfspError("leaving two studies out needs three or more")
    model = model or Model()
    model.require_mu("leaving two studies out shows")
    table = counts.table
    shares = dict(zip(table["study"], _partners(table), strict=True))
    rows = {}
    for pair in combinations(table["study"], 2):
        also = [each for study in pair for each in shares[study] if each not in pair]
        rest = table[~table["study"].isin([*pair, *also])]
        if rest.empty:
            continue
        posterior = solve(rest["events"], rest["total"], model)
        rates = posterior.typical_rate.quantile(MEDIAN_AND_ENDS)
        tau = float(posterior.tau.quantile(0.5)[0])
        rows[" and ".join(pair)] = ["; ".join(dict.fromkeys(also)) or "-", *rates, tau]
    if not rows:
        raise DfspError("leaving two studies out: all others share their patients")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["with_it", *COLUMNS]).rename_axis(
        "left out"
    )


def _partners(table: pd.DataFrame) -> list[list[str]]:
    """Return for each study the others with some of its patients."""
    shares = table.get("shares_patients_with", pd.Series("", index=table.index))
    return [[name for name in cell.split("; ") if name] for cell in shares]


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
    fit.counts.require_independent("the influence of each study")
    table = fit.counts.table
    if len(table) < 2:
        raise DfspError("the influence of a study needs two studies or more")
    fit.model.require_mu("the influence of a study is on")
    whole = fit.exact
    rows = {}
    for study, partners, events, total in zip(
        table["study"], _partners(table), table["events"].to_list(), table["total"].to_list(),
        strict=True,
    ):  # fmt: skip
        rest = table[~table["study"].isin([study, *partners])]
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


def describe_influence(table: pd.DataFrame, fit: Fit) -> str:
    """Say whether one study carries the result.

    Parameters
    ----------
    table : pandas.DataFrame
        From `influence`.
    fit : Fit
        The same.
    """
    shift = table["rate_shift"]
    study = str(shift.abs().idxmax())
    _, low, high = fit.exact.typical_rate.quantile(MEDIAN_AND_ENDS)
    others = float(fit.exact.typical_rate.quantile(0.5)[0]) - shift[study]
    inside = low < others < high
    return (
        f"Of the studies one at a time (with those that share its patients) {study} moves the "
        f"typical rate most, by {100 * shift[study]:+.1f} percentage points; without it the rate "
        f"is {100 * others:.1f} %, {'inside' if inside else 'outside'} the 95 % interval of all "
        f"studies: {'no study' if inside else study} carries the result alone."
    )
