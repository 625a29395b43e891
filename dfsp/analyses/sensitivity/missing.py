"""What the patients without an evaluation could do to the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import xlogy

from dfsp.constants import MEDIAN_AND_ENDS, SEED
from dfsp.engine.distributions import invert
from dfsp.engine.posterior import solve
from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.outcomes import Ambiguous, count
from dfsp.evidence.tables import Counts
from dfsp.model.likelihood import log_choose, sigmoid
from dfsp.model.model import Model
from dfsp.rates import PERCENT, Unit, unit_named
from dfsp.seeds import generator
from dfsp.text import Result, Sentences, Table, table_of

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int_]

# Ways in which the patients without an evaluation can have had the event, and how many are drawn
# for each probability where there are more.
MOST_COMPLETIONS = 1024
SAMPLED = 100
POINTS = 2001  # at which distribution functions of mu are averaged


@dataclass(frozen=True, eq=False, repr=False)
class MissingOutcomes(Result):
    """The answer by the probability of the event among patients without an evaluation.

    Attributes
    ----------
    table : Table
        Indexed by `probability`, from 0 to 1: `typical` (median), `low`, `high`, and `mean` rate;
        and `typical_most` where there are coarse counts.
    label : str
        How a sentence calls the outcome.
    missing : int
        Patients known to be without an evaluation.
    coarse : mapping of str to int
        By cohort, patients of whom it is not known.
    exact : bool
        Whether all completed counts were gone through.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp
    >>> evidence = dfsp.load_evidence("review")
    >>> found = dfsp.sensitivity.missing_outcomes(evidence, "progression", steps=2)
    >>> found.missing, found.exact
    (4, True)
    """

    table: Table
    label: str
    missing: int
    coarse: Mapping[str, int]
    exact: bool
    unit: Unit = PERCENT

    def describe(self) -> Sentences:
        """Say how far the patients without an evaluation could move the answer."""
        typical = self.table["typical"]
        first, last = self.unit.numbers(typical.loc[0.0], typical.loc[1.0])
        said = "No patient is known to be without an evaluation."
        if self.missing:
            who = "the one patient" if self.missing == 1 else f"the {self.missing} patients"
            said = (
                f"If none of {who} known to be without an evaluation had had the event "
                f"({self.label}), the typical rate would be {first} {self.unit.sign}, if all had, "
                f"{last} {self.unit.sign}."
            )
        if self.coarse:
            whose = ", ".join(f"{patients} of {study}" for study, patients in self.coarse.items())
            most = self.unit.rate(self.table["typical_most"].loc[1.0])
            said += (
                f" Of further patients ({whose}) it is not known who was evaluated; they count as "
                "without the event. Had none of them been evaluated and all had the event, it "
                f"would be {most}."
            )
        if not self.exact:
            said += f" Completed counts were drawn, {SAMPLED} for each probability."
        return Sentences(said)


def missing_outcomes(
    evidence: Evidence | Counts | pd.DataFrame,
    outcome: str = "objective_response",
    *,
    model: Model | None = None,
    steps: int = 21,
    seed: int = SEED,
    unit: str = "",
) -> MissingOutcomes:
    """Sweep the probability of the event among not-evaluable patients from 0 to 1.

    At each probability the posterior is the mixture, over how many of each cohort's patients would
    have had the event, of the posteriors of the completed counts; at 0 that of `no event`. The
    patients of a coarse count such as `SD+NE 9` are kept as without the event, since it is not
    known how many of them were not evaluable; `typical_most` takes them all as not evaluable.

    Parameters
    ----------
    evidence : Evidence, Counts or pandas.DataFrame
        Of a table of counts no patient is known to be without an evaluation.
    outcome : str
        Of the evidence.
    model : Model, optional
    steps : int
        Probabilities, 2 or more.
    seed : int
        Of the completed counts that are drawn where there are too many to go through.
    unit : str
        Name of the unit in which rates are said; by default that of the counts.

    Returns
    -------
    MissingOutcomes

    Raises
    ------
    DfspError
        Fewer than two steps, or beta-binomial effects.

    See Also
    --------
    dfsp.plots.missing : The picture of it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> missing_outcomes(table, steps=3)
    No patient is known to be without an evaluation.
    """
    model = model or Model()
    model.require_mu("the sweep needs")
    if not isinstance(steps, int) or steps < 2:
        raise DfspError(f"steps = {steps!r}; give a whole number of 2 or more")
    if isinstance(evidence, Evidence):
        counts = count(evidence, outcome)
        missing, most = (_missing(evidence, counts, ambiguous) for ambiguous in ("low", "high"))
    else:
        counts = Counts.of(evidence)
        missing = most = np.zeros(len(counts.table), dtype=int)
    probabilities = np.linspace(0, 1, steps)
    rng = generator(seed, "missing")
    answers, exact = _mixtures(counts, missing, model, probabilities, rng)
    columns = ["typical", "low", "high", "mean"]
    frame = pd.DataFrame(answers, columns=columns, index=pd.Index(probabilities))
    if (most > missing).any():
        beyond, also = _mixtures(counts, most, model, probabilities, rng)
        frame["typical_most"], exact = beyond[:, 0], exact and also
    coarse = dict(zip(counts.table["study"], (most - missing).tolist(), strict=True))
    unknown = {study: patients for study, patients in coarse.items() if patients}
    table = table_of(frame.rename_axis("probability"), rates=True)
    said_in = unit_named(unit or counts.unit)
    return MissingOutcomes(table, counts.label, int(missing.sum()), unknown, exact, said_in)


def _missing(evidence: Evidence, counts: Counts, ambiguous: Ambiguous) -> Whole:
    """Return how many patients of each cohort would have the event, were it that of all missing."""
    most = count(evidence, counts.outcome, not_evaluable="event", ambiguous=ambiguous).table
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
    cdf = gathered @ np.array([rate.cdf_of_points(x) for rate, _ in parts])
    quantiles = sigmoid(invert(x[None], np.maximum.accumulate(cdf, -1), np.array(MEDIAN_AND_ENDS)))
    return np.column_stack([quantiles, gathered @ [mean for _, mean in parts]]), exact
