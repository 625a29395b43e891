"""The four categories as steps of one scale: a cumulative logit with a study effect, by NUTS.

P(response) = logit^-1(theta_i), P(complete response) = logit^-1(theta_i - c) and P(no progression)
= logit^-1(theta_i + d): a study's effect moves all three by the same amount (proportional odds).
Coarse counts enter as sums of probabilities. Patients who could not be evaluated are left out.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp import constants
from dfsp.checks import Check, failed, table
from dfsp.constants import ENDS
from dfsp.engine import nuts as sampling
from dfsp.engine.posterior import solve
from dfsp.engine.room import make_room
from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import require_independent
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.seeds import generator, integer
from dfsp.text import Result, Sentences, Table, show_frames, table_of

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

__all__ = ["Cumulative", "ProportionalOdds", "fit", "proportional_odds"]


def __dir__() -> list[str]:
    return __all__


Array = npt.NDArray[np.float64]

ORDER = ("CR", "PR", "SD", "PD")
STEP_SD = 3.0
"""Scale of the half-normal priors of the two steps c and d, logit scale."""

PARAMETERS = ("mu", "tau", "complete_step", "progression_step")
PREFIX = "proportional odds: "
FEWEST = 3  # cohorts that a covariance between them needs


@dataclass(frozen=True, eq=False)
class Cells:
    """Counts of cohorts in categories, coarse ones included.

    Attributes
    ----------
    study : list of str
    row : array of int, shape (cell,)
        Index of the cell's study.
    member : array, shape (cell, 4)
        1 where the cell includes the category.
    count : array of int, shape (cell,)
    dropped : pandas.DataFrame
        `study`, `reason`.
    """

    study: list[str]
    row: npt.NDArray[np.int64]
    member: Array
    count: npt.NDArray[np.int64]
    dropped: pd.DataFrame

    def __post_init__(self) -> None:
        show_frames(self)

    @cached_property
    def total(self) -> npt.NDArray[np.int64]:
        """Patients of each study."""
        return np.bincount(self.row, self.count, len(self.study)).astype(np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class ProportionalOdds(Result):
    """Whether one study effect can move all categories alike.

    Attributes
    ----------
    checks : tuple of Check
        None where the sampler did not converge.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.ordinal.ProportionalOdds(())
    the sampler did not converge, so nothing is said about proportional odds
    """

    checks: tuple[Check, ...]

    @property
    def table(self) -> Table:
        """The checks, one a row."""
        return table_of(table(self.checks), digits=2)

    def describe(self) -> Sentences:
        """Say in one line whether proportional odds is tenable; no digit of a sampler is in it."""
        return Sentences(self._verdict())

    def _verdict(self) -> str:
        bad = [c.name.removeprefix(PREFIX) for c in failed(self.checks)]
        if not self.checks:
            return "the sampler did not converge, so nothing is said about proportional odds"
        if bad:
            return (
                f"proportional odds is doubtful: {', '.join(bad)}; the nested model does not need "
                "it"
            )
        if any(check.passed is None for check in self.checks):
            return "coarse counts alone cannot tell whether proportional odds is tenable"
        return "nothing speaks against proportional odds here, with as few cohorts as these"


@dataclass(frozen=True, eq=False)
class Cumulative:
    """Draws of the cumulative model.

    Attributes
    ----------
    cells : Cells
    model : Model
    draws : xarray.DataTree
    checks : tuple of Check
        The convergence gate.

    Examples
    --------
    >>> import dfsp
    >>> result = dfsp.ordinal.fit(dfsp.load_evidence("reconciled"))  # doctest: +SKIP
    >>> result.refused  # doctest: +SKIP
    False
    >>> result.rates().columns.to_list()  # doctest: +SKIP
    ['mean', 'q2.5', 'q50', 'q97.5']
    """

    cells: Cells
    model: Model
    draws: "xr.DataTree"
    checks: tuple[Check, ...]

    @property
    def refused(self) -> bool:
        """Whether the gate refused the draws, whose numbers are then not to be used."""
        return any(check.passed is False for check in self.checks)

    def rates(self) -> Table:
        """Return the category rates of the median study.

        Returns
        -------
        Table
            Indexed by category, with `response` last; columns mean, q2.5, q50, q97.5, rate scale.
        """
        typical = _stack(self.draws)
        rates = probabilities(typical["mu"], typical["complete_step"], typical["progression_step"])
        table = pd.DataFrame(rates, columns=list(ORDER))
        table["response"] = table["CR"] + table["PR"]
        quantiles = table.quantile([ENDS[0], 0.5, ENDS[1]]).T
        quantiles.columns = ["q2.5", "q50", "q97.5"]
        found = pd.concat([table.mean().rename("mean"), quantiles], axis=1)
        return table_of(found, digits=2, rates=True)

    def response(self) -> Table:
        """Return the response rate of the median study under both models, on the same cohorts.

        Returns
        -------
        Table
            Indexed by model; columns q2.5, q50, q97.5, rate scale.
        """
        _, counts = _binary(self.cells)
        at = [ENDS[0], 0.5, ENDS[1]]
        exact = solve(*counts, self.model).typical_rate.quantile(at)
        own = np.quantile(_stack(self.draws)["typical_rate"], at)
        index = pd.Index(["binary (exact)", "cumulative (NUTS)"], name="model")
        columns = ["q2.5", "q50", "q97.5"]
        return table_of([exact, own], digits=2, rates=True, index=index, columns=columns)

    def __repr__(self) -> str:
        verdict = "refused" if self.refused else "converged"
        return f"Cumulative({len(self.cells.study)} studies: {verdict})"


def cells_of(evidence: Evidence) -> Cells:
    """Collect the evaluable patients of each cohort by category.

    A coarse count with NE, such as `SD+NE 9`, hides how many were evaluable: its cohort is dropped,
    as is one without evaluable patients.

    Raises
    ------
    DfspError
        No cohort is left.
    """
    require_independent(evidence.cohorts, "the cumulative model")
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    kinds = evidence.cohorts.set_index("cohort")["kind"]
    study: list[str] = []
    row, member, count, dropped = [], [], [], []
    for cohort in rows["cohort"].unique():
        own = rows[rows["cohort"] == cohort]
        label = str(own["label"].iloc[0])
        cells = [
            (category.split("+"), int(patients))
            for category, patients in zip(own["category"], own["count"], strict=True)
        ]
        hidden = ["+".join(p) for p, patients in cells if "NE" in p and len(p) > 1 and patients]
        if kinds[cohort] == "aggregate":
            dropped.append((label, "a total over unknown cohorts"))
        elif hidden:
            dropped.append((label, f"{', '.join(hidden)} hides how many were evaluable"))
        elif not sum(patients for parts, patients in cells if "NE" not in parts):
            dropped.append((label, "no evaluable patient"))
        else:
            for parts, patients in cells:
                if "NE" not in parts:
                    row.append(len(study))
                    member.append([float(c in parts) for c in ORDER])
                    count.append(patients)
            study.append(label)
    if not study:
        raise DfspError(
            f"evidence set {evidence.name!r} has no cohort with response counts of evaluable "
            "patients for the cumulative model"
        )
    return Cells(
        study, np.array(row), np.array(member), np.array(count),
        pd.DataFrame(dropped, columns=["study", "reason"], dtype="str"),
    )  # fmt: skip


def probabilities(theta: Any, complete: Any, progression: Any) -> Array:
    """Return the probabilities of CR, PR, SD, PD (last axis) at study effects (logit)."""
    above = [sigmoid(theta - complete), sigmoid(theta), sigmoid(theta + progression)]
    steps = [above[0], above[1] - above[0], above[2] - above[1], 1 - above[2]]
    return np.stack(np.broadcast_arrays(*steps), axis=-1)


def build(cells: Cells, model: Model) -> "pm.Model":
    """Return the PyMC model, non-centred; `row`, `member`, `count` are data."""
    make_room()
    import pymc as pm

    with pm.Model(coords={"study": cells.study, "category": list(ORDER)}) as result:
        row = pm.Data("row", cells.row)
        member = pm.Data("member", cells.member)
        count = pm.Data("count", cells.count)
        mu, tau = model.mu.pymc(pm, "mu"), model.tau.pymc(pm, "tau")
        complete = pm.HalfNormal("complete_step", STEP_SD)
        progression = pm.HalfNormal("progression_step", STEP_SD)
        z = pm.Normal("z", dims="study")
        theta = mu + tau * z
        above = [pm.math.invlogit(x) for x in (theta - complete, theta, theta + progression)]
        steps = [above[0], above[1] - above[0], above[2] - above[1], 1 - above[2]]
        shares = pm.Deterministic(
            "shares", pm.math.stack(steps, axis=-1), dims=("study", "category")
        )
        inside = (shares[row] * member).sum(axis=-1)
        pm.Deterministic("typical_rate", pm.math.invlogit(mu))
        # A probability that rounds to 0 must not make a count of 0 undefined.
        pm.Potential("cells", (count * pm.math.log(pm.math.maximum(inside, 1e-300))).sum())
    return result


def fit(
    evidence: Evidence,
    *,
    model: Model | None = None,
    draws: int = constants.DRAWS,
    seed: int = constants.SEED,
) -> Cumulative:
    """Sample the cumulative model and judge the draws.

    Parameters
    ----------
    evidence : Evidence
        With response counts.
    model : Model, optional
        Priors of mu (logit of the typical response rate) and tau; normal effects.
    draws : int
        Of each of four chains.
    seed : int

    Returns
    -------
    Cumulative

    Raises
    ------
    DfspError
        No cohort is left.

    See Also
    --------
    proportional_odds : Whether its assumption is tenable.
    dfsp.categories.fit : The same without this assumption, exactly.

    Examples
    --------
    NUTS takes some seconds:

    >>> import dfsp
    >>> dfsp.ordinal.fit(dfsp.load_evidence("reconciled"))  # doctest: +SKIP
    Cumulative(7 studies: converged)
    """
    model = model or Model()
    cells = cells_of(evidence)
    tree = sampling.run(build(cells, model), draws, integer(seed, "cumulative"))
    # A fixed tau has nothing to converge.
    judged = [n for n in PARAMETERS if n != "tau" or model.tau.known is None]
    return Cumulative(cells, model, tree, sampling.gate(tree, judged))


def proportional_odds(result: Cumulative, *, seed: int = constants.SEED) -> ProportionalOdds:
    """Ask whether one study effect can move all categories alike.

    Replicated cohorts draw a new study effect each. Three discrepancies are compared with their
    replicates (mid-p): the chi-square distance of all counts from what the posterior expects of a
    new study, the number of complete responses, and the covariance between studies of the share
    that responds and the share that progresses, which a single effect can only make negative. The
    response rate is then held against that of the binary model on the same patients, which does
    not assume proportional odds. What is only known in coarse cells cannot be told: cohorts
    without any other cell have no replicates, and the covariance is that of cohorts without any.

    Parameters
    ----------
    result : Cumulative
    seed : int

    Returns
    -------
    ProportionalOdds

    Examples
    --------
    >>> import dfsp
    >>> result = dfsp.ordinal.fit(dfsp.load_evidence("reconciled"))  # doctest: +SKIP
    >>> dfsp.ordinal.proportional_odds(result)  # doctest: +SKIP
    nothing speaks against proportional odds here, with as few cohorts as these
    """
    if result.refused:
        return ProportionalOdds(())
    rng = generator(seed, "proportional odds")
    drawn = _stack(result.draws)
    cells, number = result.cells, len(drawn["mu"])
    fine = np.flatnonzero(cells.member.sum(-1) == 1)
    studies = np.unique(cells.row[fine])
    theta = drawn["mu"][:, None] + drawn["tau"][:, None] * rng.standard_normal(
        (number, len(studies))
    )
    steps = drawn["complete_step"][:, None], drawn["progression_step"][:, None]
    shares = probabilities(theta, *steps)
    observed = np.zeros((len(studies), len(ORDER)))
    place = {study: i for i, study in enumerate(studies)}
    for cell in fine:
        observed[place[cells.row[cell]]] += cells.member[cell] * cells.count[cell]
    replicated = rng.multinomial(observed.sum(-1).astype(np.int64), shares).astype(float)
    expected = shares.mean(0) * observed.sum(-1, keepdims=True)

    def distance(counts: Array) -> Array:
        return np.asarray(((counts - expected) ** 2 / expected).sum((-1, -2)))

    # Replicates of nobody are all alike.
    spread = complete = crossing = None
    whole = observed.sum(-1) == cells.total[studies]
    if whole.sum() >= FEWEST:
        crossing = _mid_p(
            _covariance(replicated[:, whole]), float(_covariance(observed[None, whole])[0])
        )
    if len(studies):
        spread = _mid_p(distance(replicated), float(distance(observed)))
        complete = _mid_p(replicated[..., 0].sum(-1), float(observed[:, 0].sum()))
    binary, counts = _binary(cells)
    posterior = solve(*counts, result.model)
    own = float(np.median(drawn["typical_rate"]))
    other, sd = float(posterior.typical_rate.quantile(0.5)[0]), posterior.typical_rate.sd
    apart = abs(own - other) / sd
    return ProportionalOdds((
        _within(
            f"{PREFIX}spread of categories", spread,
            "the distance of all counts from a new study's expectation",
        ),
        _within(
            f"{PREFIX}complete responses", complete, "the number of complete responses"
        ),
        _within(
            f"{PREFIX}response and progression", crossing,
            "the covariance between studies of the shares that respond and progress",
            f"Fewer than {FEWEST} cohorts have all their counts in single categories.",
        ),
        Check(
            f"{PREFIX}response rate",
            apart <= 1,
            apart,
            1.0,
            f"the median response rate of the cumulative model differs by {apart:.1f} posterior "
            f"standard deviations from that of the binary model on the same {binary} cohorts"
            + ". The patients are the same, so assuming proportional odds alone moves it"
            + (
                ", by less than the uncertainty it has anyway."
                if apart <= 1
                else ": what the other categories say of a study contradicts its response rate."
            ),
        ),
    ))  # fmt: skip


def _binary(cells: Cells) -> tuple[int, tuple[Array, Array]]:
    """Return responders and patients of the cohorts whose cells tell responders from others."""
    events, total = np.zeros(len(cells.study)), cells.total.astype(float)
    mixed = set()
    for row, member, count in zip(cells.row, cells.member, cells.count, strict=True):
        responded = member[:2].any(), member[2:].any()
        if all(responded) and count:
            mixed.add(row)
        events[row] += count if responded[0] else 0
    keep = [i for i in range(len(events)) if i not in mixed and total[i] > 0]
    return len(keep), (events[keep], total[keep])


def _stack(tree: "xr.DataTree") -> dict[str, Array]:
    posterior = tree["posterior"].to_dataset()
    names = [*PARAMETERS, "typical_rate"]
    return {name: posterior[name].to_numpy().ravel() for name in names}


def _covariance(counts: Array) -> Array:
    """Return the covariance over studies of the shares that respond and that progress.

    Shapes: `counts` (draw, study, category), result (draw,).
    """
    shares = counts / counts.sum(-1, keepdims=True)
    responding, progressing = shares[..., :2].sum(-1), shares[..., 3]
    apart = responding - responding.mean(-1, keepdims=True)
    return np.asarray((apart * progressing).mean(-1))


def _mid_p(replicated: Array, observed: float) -> float:
    return float(np.mean(replicated > observed) + np.mean(replicated == observed) / 2)


def _within(
    name: str,
    p: float | None,
    what: str,
    unknown: str = "No cohort has a count of one category alone.",
) -> Check:
    if p is None:
        return Check(name, None, None, ENDS[0], unknown)
    passed = ENDS[0] <= p <= ENDS[1]
    return Check(
        name, passed, p, ENDS[0],
        f"{what} lies {'inside' if passed else 'OUTSIDE'} the central 95 % of its replicates.",
    )  # fmt: skip
