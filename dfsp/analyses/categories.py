"""Complete and partial response, stable disease and progression together, as nested questions.

Each question is a yes or no with a hierarchical model of its own: responded or not; complete given
a response; progressed given none. The likelihood is the product of theirs, so the exact engine
answers each, and every category's rate is a product of answers. Study effects of different
questions are independent; `ORDERS` holds another order of asking, as a sensitivity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.checks import Check
from dfsp.constants import ENDS, QUANTILES, SEED, STATISTICS
from dfsp.engine.distributions import product
from dfsp.engine.posterior import Posterior, solve
from dfsp.engine.powers import Powers, power_scaling
from dfsp.engine.predictive import draw, prior_of
from dfsp.errors import DfspError
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import require_independent
from dfsp.fitting import resolved
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import HalfNormal
from dfsp.prior_words import decisive_priors, table_of_several
from dfsp.rates import PERCENT, Unit, unit_named
from dfsp.seeds import generator
from dfsp.text import Result, Sentences, Table, table_of

__all__ = ["Categories", "Orders", "compare_orders", "fit", "tau_sensitivity"]


def __dir__() -> list[str]:
    return __all__


Array = npt.NDArray[np.float64]

CATEGORIES = {
    "excluded": ("CR", "PR", "SD", "PD"),
    "no event": ("CR", "PR", "SD", "PD", "NE"),
}
"""The categories whose rates sum to one, by what a not-evaluable patient counts as."""

NAMES = {
    "CR": "complete response",
    "PR": "partial response",
    "SD": "stable disease",
    "PD": "progression",
    "NE": "not evaluable",
}
SCALES = {
    "typical_rate": "at typical effects",
    "mean_rate": "mean rate",
    "new_study_rate": "new-study rate",
}


class Question(NamedTuple):
    """Which categories answer yes, which no; the others are not asked."""

    name: str
    yes: tuple[str, ...]
    no: tuple[str, ...]


_COMPLETE = Question("complete given response", ("CR",), ("PR",))
ORDERS: dict[str, dict[str, tuple[Question, ...]]] = {
    "response first": {
        "excluded": (
            Question("response", ("CR", "PR"), ("SD", "PD")),
            _COMPLETE,
            Question("progression given no response", ("PD",), ("SD",)),
        ),
        "no event": (
            Question("response", ("CR", "PR"), ("SD", "PD", "NE")),
            _COMPLETE,
            Question("evaluable given no response", ("SD", "PD"), ("NE",)),
            Question("progression given evaluable without response", ("PD",), ("SD",)),
        ),
    },
    "progression first": {
        "excluded": (
            Question("progression", ("PD",), ("CR", "PR", "SD")),
            Question("response given no progression", ("CR", "PR"), ("SD",)),
            _COMPLETE,
        ),
        "no event": (
            Question("progression", ("PD",), ("CR", "PR", "SD", "NE")),
            Question("response given no progression", ("CR", "PR"), ("SD", "NE")),
            _COMPLETE,
            Question("stable given neither", ("SD",), ("NE",)),
        ),
    },
}
"""By order and by rule for not-evaluable patients, the questions from first to last."""


@dataclass(frozen=True, eq=False, repr=False)
class Categories(Result):
    """What the nested questions say together.

    Attributes
    ----------
    questions : tuple of Question
    informs : Table
        One row a cohort and question: `study`, `question`, `events`, `total` (missing where the
        cohort does not inform it), `reason`.
    posteriors : dict of str to Posterior
        By question; that of a question without any patient is the prior.
    studies : dict of str to list of str
        By question, the studies behind its posterior, in its order.
    cells : dict of str to dict of str to int
        By study, its counts as its source splits them.
    model : Model
        Of every question.
    not_evaluable, evidence_set : str
    files : dict of str to str
        SHA-256 of each file read.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp
    >>> result = dfsp.categories.fit(dfsp.load_evidence("reconciled"), not_evaluable="excluded")
    >>> result  # doctest: +NORMALIZE_WHITESPACE
    Mean rates over studies (evidence set 'reconciled', evaluable patients): complete
    response 6.9 % (1.8 to 17.4 %); partial response 59.3 % (43.2 to 73.7 %); stable
    disease 22.3 % (11.3 to 35.4 %); progression 11.5 % (4.5 to 22.0 %).
    """

    questions: tuple[Question, ...]
    informs: Table
    posteriors: dict[str, Posterior]
    studies: dict[str, list[str]]
    cells: dict[str, dict[str, int]]
    model: Model
    not_evaluable: str
    evidence_set: str
    files: dict[str, str] = field(default_factory=dict)
    unit: Unit = PERCENT

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories whose rates sum to one."""
        return CATEGORIES[self.not_evaluable]

    def uninformed(self) -> Table:
        """Return why a cohort does not inform a question: `study`, `question`, `reason`."""
        silent = self.informs[self.informs["reason"] != ""]
        return silent[["study", "question", "reason"]].reset_index(drop=True)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Whether the grid of each question resolves its posterior."""
        return tuple(
            Check(**resolved(p).as_dict() | {"name": f"{resolved(p).name}: {name}"})
            for name, p in self.posteriors.items()
        )

    def describe(self) -> Sentences:
        """Return the headline: the mean rates, which sum to one."""
        means = self.rates().loc["mean rate"]
        rows = zip(means["mean"], means["q2.5"], means["q97.5"], strict=True)
        parts = [
            f"{NAMES[category]} {self.unit.estimate(*row)}"
            for category, row in zip(self.categories, rows, strict=True)
        ]
        whom = "evaluable patients" if self.not_evaluable == "excluded" else "all patients"
        return Sentences(
            f"Mean rates over studies (evidence set '{self.evidence_set}', {whom}): "
            f"{'; '.join(parts)}."
        )

    def question_counts(self) -> Table:
        """Return which cohort informs which question, as `events/total` or `-`.

        Returns
        -------
        Table
            One row a cohort, one column a question.
        """
        table = self.informs
        text = table["events"].astype("string") + "/" + table["total"].astype("string")
        wide = table.assign(text=text.fillna("-")).pivot_table(
            index="study", columns="question", values="text", aggfunc="first", sort=False
        )
        return table_of(wide[[question.name for question in self.questions]])

    def rates(self) -> Table:
        """Return the rate of each category, which sum to one in their means.

        A product of typical rates is called 'at typical effects': a study at the median of every
        question. It is not the median study of the category, since medians do not multiply.

        Returns
        -------
        Table
            Indexed by `rate` (at typical effects, mean rate, new-study rate) and `category`;
            columns `STATISTICS`, rate scale.
        """
        rows, index = [], []
        for quantity, label in SCALES.items():
            answers = {name: getattr(p, quantity) for name, p in self.posteriors.items()}
            for category in self.categories:
                path = [
                    answers[q.name] if category in q.yes else answers[q.name].complement()
                    for q in self.questions
                    if category in q.yes + q.no
                ]
                distribution = path[0]
                for factor in path[1:]:
                    distribution = product(distribution, factor)
                rows.append(distribution.summary())
                index.append((label, category))
        names = pd.MultiIndex.from_tuples(index, names=["rate", "category"])
        return table_of(rows, digits=5, rates=True, index=names, columns=list(STATISTICS))

    def priors(self) -> Table:
        """Return the prior predictive and the posterior new-study rate of each question.

        Returns
        -------
        Table
            Indexed by question: `prior_low`, `prior_high`, `low`, `median`, `high` (interval of a
            new study's rate), and `tau` (posterior median, logit scale).
        """
        prior = prior_of(self.model).new_study_rate.quantile(ENDS)
        rows = []
        for posterior in self.posteriors.values():
            low, median, high = posterior.new_study_rate.quantile((ENDS[0], 0.5, ENDS[1]))
            rows.append([*prior, low, median, high, float(posterior.tau.quantile(0.5)[0])])
        columns = ["prior_low", "prior_high", "low", "median", "high", "tau"]
        index = pd.Index(self.posteriors, name="question")
        return table_of(rows, rates=True, index=index, columns=columns)

    def prior_table(self) -> Table:
        """Return how the rates of each question move when a prior is raised to a power.

        Returns
        -------
        Table
            Indexed by `question` and `quantity`; the columns of `dfsp.Fit.prior_table`.
        """
        return table_of_several(self._powers, "question")

    def prior_warning(self) -> Sentences:
        """Say which prior decides, of which questions, and what to do; `""` if none does."""
        return decisive_priors(self._powers, self.model.effects.prior_names)

    @cached_property
    def _powers(self) -> dict[str, Powers]:
        return {name: power_scaling(posterior) for name, posterior in self.posteriors.items()}

    def by_study(self) -> Table:
        """Return observed shares and rates under the model of every cohort, and of a new study.

        Returns
        -------
        Table
            `study`, `category`, `observed` (share of the cohort's patients; missing where its
            source does not split that far), `rate` (posterior mean; a question that the
            cohort does not inform is answered as for a new study). The last rows are of a
            `new study`.
        """
        rows = []
        counted = self.informs.dropna(subset="total")
        keys = zip(counted["study"], counted["question"], strict=True)
        pairs = zip(counted["events"].to_list(), counted["total"].to_list(), strict=True)
        known = dict(zip(keys, pairs, strict=True))
        for study in [*self.informs["study"].unique(), "new study"]:
            for category in self.categories:
                rate, share = 1.0, 1.0
                for question in self.questions:
                    if category not in question.yes + question.no:
                        continue
                    yes, seen = self._answer(question.name, study), np.nan
                    if counts := known.get((study, question.name)):
                        seen = counts[0] / counts[1] if counts[1] else 0.0
                    rate *= yes if category in question.yes else 1 - yes
                    share *= seen if category in question.yes else 1 - seen
                rows.append([study, category, share, rate])
        return table_of(rows, rates=True, columns=["study", "category", "observed", "rate"])

    def patient_weighted_rates(self, *, number: int = 4000, seed: int = SEED) -> Table:
        """Return sum(n_i p_i) / sum(n_i) of each category: what adding patients up estimates.

        A question that a cohort does not inform is answered as for a new study.

        Parameters
        ----------
        number : int
            Independent draws behind the standard deviation and the quantiles; the mean is exact.
        seed : int

        Returns
        -------
        Table
            Indexed by category; columns `STATISTICS`, rate scale.
        """
        studies = list(self.cells)
        patients = np.array(
            [
                sum(
                    n
                    for category, n in cells.items()
                    if set(category.split("+")) & {*self.categories}
                )
                for cells in self.cells.values()
            ]
        )
        share = patients / patients.sum()
        effects = self.model.effects
        answers = {}
        for place, (name, posterior) in enumerate(self.posteriors.items()):
            drawn = draw(posterior, number, seed + place)["posterior"]
            flat = {
                key: drawn[key].to_numpy().reshape(number, -1) for key in map(str, drawn.data_vars)
            }
            if "mu" in flat:
                mu, tau = flat["mu"][:, 0], flat["tau"][:, 0]
            else:
                mean = flat["mean_rate"][:, 0]
                mu, tau = np.log(mean / (1 - mean)), flat["concentration"][:, 0] ** -0.5
            rng = generator(seed + place, "studies that a question does not ask")
            answers[name] = np.stack([
                flat["rate"][:, self.studies[name].index(study)]
                if study in self.studies[name]
                else sigmoid(effects.new.draw(mu, tau, rng))
                for study in studies
            ])  # fmt: skip
        means = self.by_study().pivot_table(index="study", columns="category", values="rate")
        rows = []
        for category in self.categories:
            rate = np.ones((len(studies), number))
            for question in self.questions:
                if category in question.yes + question.no:
                    yes = answers[question.name]
                    rate = rate * (yes if category in question.yes else 1 - yes)
            weighted = share @ rate
            mean = float(share @ means.loc[studies, category].to_numpy())
            rows.append([mean, weighted.std(), *np.quantile(weighted, QUANTILES)])
        index = pd.Index(self.categories, name="category")
        return table_of(rows, rates=True, index=index, columns=list(STATISTICS))

    def draws(self, number: int = 4000, *, seed: int = SEED) -> dict[str, pd.DataFrame]:
        """Return independent draws of the categories' rates; each row sums to one.

        Parameters
        ----------
        number : int
            A multiple of 4.
        seed : int

        Returns
        -------
        dict of str to pandas.DataFrame
            `at typical effects` and `new-study rate`: one row a draw, one column a category.
        """
        # Each question has a seed of its own, since their posteriors are independent.
        drawn = {
            name: draw(posterior, number, seed + place)["posterior"]
            for place, (name, posterior) in enumerate(self.posteriors.items())
        }
        found = {}
        for quantity in ("typical_rate", "new_study_rate"):
            columns = {}
            for category in self.categories:
                rate = np.ones(number)
                for question in self.questions:
                    if category in question.yes + question.no:
                        yes = drawn[question.name][quantity].to_numpy().ravel()
                        rate = rate * (yes if category in question.yes else 1 - yes)
                columns[category] = rate
            found[SCALES[quantity]] = pd.DataFrame(columns)
        return found

    def _answer(self, question: str, study: str) -> float:
        posterior = self.posteriors[question]
        if study in self.studies[question]:
            return float(posterior.studies[self.studies[question].index(study), 0])
        return posterior.new_study_rate.mean


def fit(
    evidence: Evidence,
    *,
    not_evaluable: str = "no event",
    order: str = "response first",
    model: Model | None = None,
    unit: str = "percent",
) -> Categories:
    """Answer the nested questions with the exact engine.

    Parameters
    ----------
    evidence : Evidence
        With response counts. A coarse count informs the questions that all its categories answer
        alike, and keeps its cohort out of those that they answer differently.
    not_evaluable : {"no event", "excluded"}
        `"excluded"`: questions are asked of evaluable patients and four rates sum to one;
        `"no event"`: of all patients, a further question splits off NE, and five do.
    order : {"response first", "progression first"}
    model : Model, optional
        Priors and effects of every question.
    unit : str
        Name of the unit in which rates are said; one of the categories is never rare.

    Returns
    -------
    Categories

    Raises
    ------
    DfspError
        Another rule or order, or a set without response counts.

    See Also
    --------
    compare_orders, tau_sensitivity : What another order of asking, and another prior of tau, do.
    dfsp.ordinal.fit : One study effect for all categories, instead of one a question.
    dfsp.plots.categories : The picture of it.

    Examples
    --------
    >>> import dfsp
    >>> result = fit(dfsp.load_evidence("reconciled"))
    >>> result.question_counts().loc["Wang 2015", "response"]
    '15/22'
    >>> round(float(result.rates().loc["mean rate", "mean"].sum()), 6)
    1.0
    """
    if not_evaluable not in CATEGORIES:
        raise DfspError(
            f"not_evaluable {not_evaluable!r} cannot be used for categories: a patient who could "
            f"not be evaluated is in none of them; use one of {', '.join(CATEGORIES)}"
        )
    said_in = unit_named(unit)
    if order not in ORDERS:
        raise DfspError(f"order {order!r} is not known; use one of {', '.join(ORDERS)}")
    require_independent(evidence.cohorts, "the model of nested questions")
    rows = evidence.rows[evidence.rows["measure"] == "response"]
    if rows.empty:
        raise DfspError(f"evidence set {evidence.name!r} has no response counts")
    model = model or Model()
    questions = ORDERS[order][not_evaluable]
    found = _informs(evidence, rows, questions)
    posteriors, studies = {}, {}
    for question in questions:
        own = [row for row in found if row[1] == question.name and row[3]]
        names, _, events, total, _ = zip(*own, strict=True) if own else ((),) * 5
        posteriors[question.name] = solve(events, total, model)
        studies[question.name] = list(names)
    columns = ["study", "question", "events", "total", "reason"]
    frame = pd.DataFrame(found, columns=columns).astype({"events": "Int64", "total": "Int64"})
    informs = table_of(frame)
    return Categories(
        questions, informs, posteriors, studies, cells_of_cohorts(rows), model, not_evaluable,
        evidence.name, dict(evidence.files), said_in,
    )  # fmt: skip


def cells_of_cohorts(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return the counts of each cohort by category, as its source splits them; keys are labels."""
    cells: dict[str, dict[str, int]] = {}
    columns = (rows[name].to_list() for name in ("label", "category", "count"))
    for label, category, patients in zip(*columns, strict=True):
        cells.setdefault(label, {})[category] = patients
    return cells


def _informs(
    evidence: Evidence, rows: pd.DataFrame, questions: tuple[Question, ...]
) -> list[tuple[str, str, int | None, int | None, str]]:
    """Return study, question, yes, asked and the reason why not, cohort by cohort."""
    kinds = dict(zip(evidence.cohorts["cohort"], evidence.cohorts["kind"], strict=True))
    cohorts: dict[tuple[str, str], dict[str, int]] = {}
    whole: dict[str, bool] = {}
    columns = (
        rows[name].to_list() for name in ("cohort", "label", "category", "count", "population")
    )
    for cohort, label, category, patients, population in zip(*columns, strict=True):
        cohorts.setdefault((cohort, label), {})[category] = patients
        whole[cohort] = whole.get(cohort, True) and population == "all"
    found = []
    for (cohort, label), cells in cohorts.items():
        # Where the row is of all patients, nobody was not evaluable if nobody is recorded as such.
        if whole[cohort] and not any("NE" in c.split("+") for c in cells):
            cells["NE"] = 0
        for question in questions:
            answer = _answers(cells, question)
            if kinds[cohort] == "aggregate":
                answer = None, None, "a total over unknown cohorts"
            found.append((label, question.name, *answer))
    return found


def _answers(cells: dict[str, int], question: Question) -> tuple[int | None, int | None, str]:
    """Return yes and asked, or why a cohort does not inform the question."""
    yes = no = 0
    recorded: set[str] = set()
    for category, patients in cells.items():
        parts = set(category.split("+"))
        answers = {p in question.yes if p in question.yes + question.no else None for p in parts}
        if len(answers) > 1 and patients:
            return None, None, f"{category} {patients} cannot be divided"
        # Nobody in a coarse cell is nobody in each of its categories.
        recorded |= parts
        yes += patients if True in answers else 0
        no += patients if False in answers else 0
    for side in (question.yes, question.no):
        if not recorded & set(side):
            return None, None, f"no count of {', '.join(side)} is recorded"
    return yes, yes + no, ""


def tau_sensitivity(
    evidence: Evidence, result: Categories, scales: Sequence[float] = (0.5, 1.0, 2.0)
) -> Table:
    """Answer the questions again with other scales of the half-normal prior of tau.

    Parameters
    ----------
    evidence : Evidence
        What `result` was fitted to.
    result : Categories
    scales : sequence of float
        Logit scale.

    Returns
    -------
    Table
        Indexed by `category`; for each scale its mean rate and the upper end of its interval, rate
        scale.

    Raises
    ------
    DfspError
        A scale that is not a number above 0.

    Examples
    --------
    >>> import dfsp
    >>> evidence = dfsp.load_evidence("reconciled")
    >>> result = dfsp.categories.fit(evidence, not_evaluable="excluded")
    >>> dfsp.categories.tau_sensitivity(evidence, result, scales=[0.5])
             mean, tau scale 0.5 97.5 %, tau scale 0.5
    category
    CR                    0.0551                0.1216
    PR                    0.6047                0.7296
    SD                    0.2293                0.3444
    PD                    0.1109                0.2007
    """
    order = _order_of(result)
    columns = {}
    for scale in scales:
        model = replace(result.model, tau=HalfNormal(scale))
        again = fit(evidence, not_evaluable=result.not_evaluable, order=order, model=model)
        means = again.rates().loc["mean rate"]
        columns[f"mean, tau scale {scale:g}"] = means["mean"]
        columns[f"97.5 %, tau scale {scale:g}"] = means["q97.5"]
    return table_of(columns, rates=True)


@dataclass(frozen=True, eq=False, repr=False)
class Orders(Result):
    """Mean rates in two orders of asking.

    A coarse count may inform one order and not the other. What a change of order does is seen on
    cohorts that inform both only; the rest is what those left out do.

    Attributes
    ----------
    order : str
        The other order.
    table : Table
        Indexed by category, mean rates: `other` in that order, and `own` in the first one, of the
        cohorts that inform both; `all` in the first one, of all cohorts.
    left_out : list of str
        Cohorts that do not inform both.
    unit : Unit
        In which differences are said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> rates = {"other": [0.6, 0.4], "own": [0.61, 0.39], "all": [0.61, 0.39]}
    >>> rates = pd.DataFrame(rates, index=["CR", "PD"])
    >>> dfsp.categories.Orders("progression first", rates, [])  # doctest: +NORMALIZE_WHITESPACE
    On identical cohorts, asking progression first moves no mean rate by more than 1.0
    points (CR: -1.0 points).
    """

    order: str
    table: Table
    left_out: list[str]
    unit: Unit = PERCENT

    def describe(self) -> Sentences:
        """Say how far another order moves a mean rate, on identical cohorts."""
        unit = self.unit
        shift = self.table["other"] - self.table["own"]
        most = str(shift.abs().idxmax())
        text = (
            f"On identical cohorts, asking {self.order} moves no mean rate by more than "
            f"{unit.apart(abs(shift[most]))} ({most}: {unit.apart(shift[most], sign=True)})."
        )
        if not self.left_out:
            return Sentences(text)
        left = self.table["own"] - self.table["all"]
        most = str(left.abs().idxmax())
        return Sentences(
            f"{text} That order hears nothing from {', '.join(self.left_out)}, whose coarse counts "
            f"answer its questions both ways; leaving them out moves {most} by "
            f"{unit.apart(left[most], sign=True)}, whatever the order."
        )


def compare_orders(
    evidence: Evidence, result: Categories, order: str = "progression first"
) -> Orders:
    """Return mean rates in another order of asking, and in this one on the same cohorts.

    Parameters
    ----------
    evidence : Evidence
        What `result` was fitted to.
    result : Categories
    order : {"progression first", "response first"}
        The other order.

    Returns
    -------
    Orders

    Raises
    ------
    DfspError
        Another order.

    Examples
    --------
    >>> import dfsp
    >>> from dataclasses import replace
    >>> evidence = dfsp.load_evidence("reconciled")
    >>> few = replace(evidence, rows=evidence.rows.head(9))
    >>> result = dfsp.categories.fit(few, not_evaluable="excluded")
    >>> dfsp.categories.compare_orders(few, result).table
               other     own     all
    category
    CR        0.0700  0.0750  0.0750
    PR        0.5026  0.5380  0.5380
    SD        0.3150  0.3018  0.3018
    PD        0.1124  0.0853  0.0853
    """
    own = _order_of(result)

    def answered(rows: pd.DataFrame, asked: str) -> Categories:
        chosen = replace(evidence, rows=rows)
        rule = result.not_evaluable
        return fit(chosen, not_evaluable=rule, order=asked, model=result.model)

    rows = evidence.rows
    both = [
        set(each.informs.dropna(subset="total")["study"])
        for each in (result, answered(rows, order))
    ]
    same = rows[rows["label"].isin(both[0] & both[1])]
    fits = {"other": answered(same, order), "own": answered(same, own), "all": result}
    means = {name: each.rates().loc["mean rate", "mean"] for name, each in fits.items()}
    gone = [study for study in result.cells if study not in both[0] & both[1]]
    return Orders(order, table_of(means, rates=True), gone, result.unit)


def _order_of(result: Categories) -> str:
    """Return the order in which the questions of a result are asked."""
    return next(name for name, rules in ORDERS.items() if result.questions in rules.values())
