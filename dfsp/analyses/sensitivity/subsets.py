"""Every subset of the studies: what the answer would be had some not been found.

All subsets share one grid and the likelihood of each study on it. The plot of rate against
heterogeneity is called GOSH (Olkin 2012, doi:10.1002/jrsm.1053).
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.constants import MEDIAN_AND_ENDS, SEED
from dfsp.engine.many import SharedGrid
from dfsp.engine.posterior import solve
from dfsp.engine.predictive import mid_p
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts, partners
from dfsp.fitting import Fit, require_fit
from dfsp.model.model import Model
from dfsp.rates import INTERVAL, PERCENT, Unit
from dfsp.seeds import generator
from dfsp.text import Result, Sentences, Table, table_of

Array = npt.NDArray[np.float64]

MOST_STUDIES = 16  # studies of which all subsets are taken
SAMPLED = 2**16
COLUMNS = ["typical_rate", "low", "high", "tau"]


@dataclass(frozen=True, eq=False, repr=False)
class Subsets(Result):
    """The answer of every subset of the studies.

    Attributes
    ----------
    table : Table
        One row a subset, none twice: one boolean column a study, `studies` (how many),
        `typical_rate`, `low`, `high` (median and 95 % interval, rate scale), `tau` (median, logit
        scale). A sample begins with all studies.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.sensitivity.all_subsets(table)  # doctest: +NORMALIZE_WHITESPACE
    7 subsets of the studies: the typical rate lies between 28.6 and 41.0 % (half of them
    above 32.7 %), tau between 0.38 and 0.63 on the logit scale.
    """

    table: Table
    unit: Unit = PERCENT

    def describe(self) -> Sentences:
        """Say how far the answer moves from subset to subset."""
        rate, tau = self.table["typical_rate"], self.table["tau"]
        least, most, half = self.unit.numbers(rate.min(), rate.max(), rate.median())
        return Sentences(
            f"{len(self.table):,} subsets of the studies: the typical rate lies between "
            f"{least} and {most} {self.unit.sign} (half of them above {half} {self.unit.sign}), "
            f"tau between {tau.min():.2f} and {tau.max():.2f} on the logit scale."
        )


def all_subsets(
    counts: Counts | pd.DataFrame, model: Model | None = None, *, seed: int = SEED
) -> Subsets:
    """Fit every non-empty subset of the studies; of more than 16 studies a sample of them.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    model : Model, optional
        With mu and tau.
    seed : int
        Of the sample, where one is drawn.

    Returns
    -------
    Subsets

    Raises
    ------
    DfspError
        Beta-binomial effects, or a study with the name of one of these columns.

    See Also
    --------
    influence, leave_two_out : One study, or two, at a time.
    dfsp.plots.subsets : The picture of it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> len(all_subsets(table).table)
    7
    """
    model = model or Model()
    model.require_mu("subsets are drawn over")
    counts = Counts.of(counts)
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
    found = grid.solve(times, only_mu=True)
    columns = np.column_stack([found.typical, found.tau])
    for row in np.flatnonzero(~found.resolved):
        one = table[member[row] > 0]
        own = solve(one["events"], one["total"], model)
        columns[row] = [*own.typical_rate.quantile(MEDIAN_AND_ENDS), *own.tau.quantile(0.5)]
    frame = pd.DataFrame(member.astype(bool), columns=table["study"].to_list())
    frame["studies"] = member.sum(-1)
    frame[COLUMNS] = columns
    return Subsets(table_of(frame, rates=True), counts.rates_in)


def leave_two_out(counts: Counts | pd.DataFrame, model: Model | None = None) -> Table:
    """Fit without each pair of studies, and without the cohorts that share their patients.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    model : Model, optional
        With mu and tau.

    Returns
    -------
    Table
        Indexed by the pair, by ascending rate: `with_it` (studies that leave too),
        `typical_rate`, `low`, `high`, `tau`. Pairs that leave no study are not there.

    Raises
    ------
    DfspError
        Fewer than three studies, or none is left whatever pair leaves.

    See Also
    --------
    influence : Each study alone.
    all_subsets : Every set of studies.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.sensitivity.leave_two_out(table)["typical_rate"].round(3).to_dict()
    {'A and B': 0.287, 'B and C': 0.325, 'A and C': 0.41}
    """
    table = Counts.of(counts).table
    if len(table) < 3:
        raise DfspError("leaving two studies out needs three or more")
    model = model or Model()
    model.require_mu("leaving two studies out shows")
    shares = dict(zip(table["study"], partners(table), strict=True))
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
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["with_it", *COLUMNS])
    ordered = frame.rename_axis("left out").sort_values("typical_rate", kind="stable")
    return table_of(ordered, rates=True)


@dataclass(frozen=True, eq=False, repr=False)
class Influence(Result):
    """What each study does to the answer.

    Attributes
    ----------
    table : Table
        Indexed by study: shift of the typical rate and of tau (medians) when it is added to the
        others, the width of the new-study interval without and with it, and `mid_p`, the
        probability that a new study of its size has more events, given the others.
    rate : pandas.Series
        `STATISTICS` of the typical rate of all studies.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> dfsp.sensitivity.influence(dfsp.fit(table)).table[["rate_shift", "mid_p"]]
          rate_shift  mid_p
    study
    A         -0.011  0.560
    B          0.041  0.281
    C         -0.039  0.697
    """

    table: Table
    rate: "pd.Series[float]"
    unit: Unit

    @property
    def most(self) -> str:
        """The study that moves the typical rate most."""
        return str(self.table["rate_shift"].abs().idxmax())

    def describe(self) -> Sentences:
        """Say whether one study carries the result."""
        study, shift = self.most, float(self.table["rate_shift"].loc[self.most])
        others = float(self.rate["q50"]) - shift
        moved = self.unit.apart(shift, sign=True)
        inside = bool(self.rate["q2.5"] < others < self.rate["q97.5"])
        return Sentences(
            f"Of the studies one at a time (with those that share its patients) {study} moves the "
            f"typical rate most, by {moved}; without it the rate "
            f"is {self.unit.rate(others)}, {'inside' if inside else 'outside'} the {INTERVAL} of "
            f"all studies: {'no study' if inside else study} carries the result alone."
        )


def influence(fit: Fit) -> Influence:
    """Say what each study does to the answer, and whether the others lead one to expect it.

    Cohorts that share the study's patients leave with it.

    Parameters
    ----------
    fit : Fit
        Of two studies or more, with the exact engine.

    Returns
    -------
    Influence

    Raises
    ------
    DfspError
        Fewer than two studies.

    See Also
    --------
    leave_two_out : Without each pair of studies.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> influence(dfsp.fit(table)).most
    'B'
    """
    require_fit(fit).counts.require_independent("the influence of each study")
    table = fit.counts.table
    if len(table) < 2:
        raise DfspError("the influence of a study needs two studies or more")
    fit.model.require_mu("the influence of a study is on")
    whole = fit.exact
    rows = {}
    for study, shared, events, total in zip(
        table["study"], partners(table), table["events"].to_list(), table["total"].to_list(),
        strict=True,
    ):  # fmt: skip
        rest = table[~table["study"].isin([study, *shared])]
        others = solve(rest["events"], rest["total"], fit.model)
        widths = [
            float(np.diff(p.new_study_rate.quantile([0.025, 0.975]))[0]) for p in (others, whole)
        ]
        rows[study] = [
            float(whole.typical_rate.quantile(0.5)[0] - others.typical_rate.quantile(0.5)[0]),
            float(whole.tau.quantile(0.5)[0] - others.tau.quantile(0.5)[0]),
            *widths,
            mid_p(others.new_study_rate, total, events),
        ]
    columns = ["rate_shift", "tau_shift", "new_width_without", "new_width_with", "mid_p"]
    frame = pd.DataFrame(rows, index=columns).T.rename_axis("study")
    table = table_of(frame, digits=3, rates=True)
    return Influence(table, fit.summary.T["typical_rate"], fit.unit)
