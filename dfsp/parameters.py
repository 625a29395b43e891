"""What the notebooks' parameters mean, and whether their values can be used.

`Parameters` holds one rule for each name: type, bounds, meaning. `dfsp run` holds every notebook
that declares a name to its rule before a kernel starts. A notebook's second cell calls `check`,
which also sees which values cannot go together and whether the data named are there.

pydantic takes a while to import: only what checks parameters imports this module.
"""

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, cast, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from dfsp.analyses.regression.design import design_of
from dfsp.analyses.totals import ANY, reported
from dfsp.checks import Check
from dfsp.constants import DRAWS, SEED
from dfsp.engine.nuts import MIN_DRAWS
from dfsp.errors import DfspError, unknown
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.outcomes import NotEvaluable, count
from dfsp.evidence.tables import (
    Counts,
    read_table,
    read_tables,
    require_independent,
    split_names,
    unit_of_tables,
    without,
    without_in,
)
from dfsp.model.effects import FAMILIES, effects_of
from dfsp.model.model import Model
from dfsp.model.priors import LARGE, TAU_FAMILIES, Normal, mu_prior, tau_prior
from dfsp.prior_words import criterion, expected_rates
from dfsp.project import project_folder
from dfsp.rates import PERCENT, UNITS, Unit, unit_named
from dfsp.text import Sentences

__all__ = ["Parameters", "as_markdown", "by_name", "check", "faults_of", "rules"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True)
class OneOf:
    """The rule that a text is one of those known, which may become more while Python runs."""

    known: Collection[str]

    def __call__(self, value: str) -> str:
        """Return the text, if it is known."""
        if value not in self.known:
            raise ValueError(unknown([value], [each or '""' for each in self.known]))
        return value


Positive = Annotated[float, Field(gt=0, le=LARGE)]
RateOrNone = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[int, Field(ge=1)]
Simulated = Annotated[int, Field(ge=100)]


_OF_MU = ("mu_mean", "mu_sd", "rate_centre", "rate_upper", "rate_lower")


class Parameters(BaseModel):
    """The parameters of notebooks, each with its rule, and what follows from them.

    A notebook declares some of them; the others have the values that are written here.

    See Also
    --------
    check : Makes them from what a notebook declares.

    Examples
    --------
    >>> import dfsp
    >>> given = dfsp.parameters.Parameters(tau_scale=0.5, patients=40)
    >>> print(given.model)
    mu ~ Normal(mean 0, sd 2), tau ~ HalfNormal(scale 0.5), normal effects
    >>> given.counts.groups, given.patients
    ('8 studies', 40)
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    evidence_set: str = "reconciled"
    """Set named in data/evidence_sets.csv."""
    totals_set: str = "review"
    """Set with adverse events, as totals or by study."""
    folder: str = ""
    """Folder with evidence tables, instead of data/."""
    table: str = ""
    """Table with study, events, total, instead of the evidence."""
    by: str = ""
    """Column of the table: the rows with one value of it are a table, fitted by itself."""
    common_tau: bool = False
    """With by and engine exact: studies of all these tables scatter by one tau."""
    borrow: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The same: prior probability that a table's mean borrows from the others'; 0 for none."""
    outcome: Annotated[str, AfterValidator(OneOf([*OUTCOMES, ""]))] = "objective_response"
    """What is counted; empty with a table."""
    not_evaluable: Annotated[str, AfterValidator(OneOf([*get_args(NotEvaluable), ""]))] = "no event"
    """What a patient who could not be evaluated counts as; empty with a table."""
    unit: Annotated[str, AfterValidator(OneOf([*UNITS, ""]))] = ""
    """Unit of rates in sentences, tables and figures; empty: by the size of the rates."""
    drop: str | list[str] | tuple[str, ...] = ()
    """Studies left out; in one text, a vertical bar stands between them."""
    moderators: str | list[str] | tuple[str, ...] = "dose_mg"
    """Columns that the rate may depend on, and a:b for an interaction; separated as in drop."""
    study: str = ""
    """Study marked in figures; empty: the one that moves the typical rate most."""
    mu_mean: Annotated[float, Field(ge=-100, le=100)] = 0.0
    """Mean of the normal prior of mu, logit scale."""
    mu_sd: Positive = 2.0
    """Standard deviation of the normal prior of mu, logit scale."""
    rate_centre: RateOrNone = 0.0
    """Instead of mu_mean: prior median of the typical rate; 0 for none."""
    rate_upper: RateOrNone = 0.0
    """Instead of mu_sd: rate that the typical one exceeds with probability 0.025; 0 for none."""
    rate_lower: RateOrNone = 0.0
    """Or: rate that the typical one falls short of with probability 0.025; 0 for none."""
    prior_below: RateOrNone = 0.0
    """The priors must give a new study 5 % to be below this rate; 0 for no such criterion."""
    prior_above: RateOrNone = 0.0
    """The priors must give a new study 5 % to be above this rate; 0 for no such criterion."""
    tau_family: Annotated[str, AfterValidator(OneOf(TAU_FAMILIES))] = "half-normal"
    """Family of the prior of tau."""
    tau_scale: Positive = 1.0
    """Scale of the prior of tau, logit scale."""
    tau_shape: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Shape of an inverse-gamma prior of tau^2, whose rate is tau_scale; 0: its default."""
    effects: Annotated[str, AfterValidator(OneOf(FAMILIES))] = "normal"
    """Family of the study effects, with its default parameters."""
    coefficient_sd: Positive = 2.5
    """Standard deviation (logit) of the prior of a difference of groups; for one sd of a number."""
    margin: RateOrNone = 0.0
    """Rates closer than this are equal; 0: 0.1, or of rates beyond 0.1 and 0.9 odds within 1.5."""
    threshold: RateOrNone = 0.0
    """Rate that the analyses are held against; 0: 0.4, or of rates beyond 0.1 and 0.9 their own."""
    patients: Annotated[int, Field(ge=0)] = 0
    """Newly treated patients; 0: 20, or of rates beyond 0.1 and 0.9 more."""
    apart: RateOrNone = 0.0
    """Difference of two studies' rates; 0: 0.2, or of rates beyond 0.1 and 0.9 twice the odds."""
    n: Annotated[int, Field(ge=0)] = 0
    """Patients of the planned trial; 0: 20, or of rates beyond 0.1 and 0.9 more."""
    robust_weight: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Probability that the next trial is unlike the evidence."""
    p0: RateOrNone = 0.0
    """Rate that the planned trial is to exceed; 0: one that 95 % of new studies exceed."""
    data_sets: Simulated = 10_000
    """Data sets simulated for the calibration."""
    through_fit: Simulated = 500
    """Those of these designs that are also fitted one by one."""
    at_each_truth: Whole = 200
    """Data sets simulated at each fixed truth for the coverage."""
    draws: Annotated[int, Field(ge=MIN_DRAWS)] = DRAWS
    """NUTS draws in each of 4 chains."""
    seed: Annotated[int, Field(ge=0)] = SEED
    """Every random number derives from it."""
    engine: Annotated[str, AfterValidator(OneOf(["exact", "both"]))] = "both"
    """Exact numbers alone, or draws of NUTS beside them."""

    @property
    def place(self) -> Path | None:
        """The folder of the evidence; None for the project's own."""
        return project_folder() / self.folder if self.folder else None

    @cached_property
    def evidence(self) -> Evidence:
        """The evidence set."""
        return load_evidence(self.evidence_set, folder=self.place)

    @cached_property
    def totals(self) -> Evidence:
        """The evidence set with adverse events, as totals or by study."""
        return load_evidence(self.totals_set, folder=self.place)

    @cached_property
    def counts(self) -> Counts:
        """Events and totals of the studies: of the table if there is one, else of the evidence."""
        if not self.table:
            rule = cast(NotEvaluable, self.not_evaluable)
            return self._said(
                count(self.evidence, self.outcome, not_evaluable=rule, drop=self.drop)
            )
        return self._said(without(read_table(self._own), self.drop))

    @cached_property
    def tables(self) -> dict[str, Counts]:
        """The same of each value of `by` in the table."""
        found = without_in(read_tables(self._own, by=self.by), self.drop)
        return {value: self._said(counts) for value, counts in found.items()}

    @property
    def _own(self) -> Path:
        """Where the table is, which says what is counted."""
        said = self.model_fields_set
        if ("outcome" in said and self.outcome) or ("not_evaluable" in said and self.not_evaluable):
            raise DfspError(
                "with a table of one's own, outcome and not_evaluable say nothing: "
                "set both to an empty string"
            )
        if self.folder:
            raise DfspError("table and folder are both given; leave one of them empty")
        return project_folder() / self.table

    def _said(self, counts: Counts) -> Counts:
        """Return counts whose rates are said in the unit that the reader chose, if he did."""
        return replace(counts, unit=self.unit or counts.unit)

    @property
    def terms(self) -> list[str]:
        """The moderators."""
        return split_names(self.moderators)

    @property
    def source(self) -> Evidence | Counts:
        """What the counts are made from: the evidence, or the table itself."""
        return self.counts if self.table else self.evidence

    @cached_property
    def model(self) -> Model:
        """Priors and study effects."""
        prior = tau_prior(self.tau_family, scale=self.tau_scale, shape=self.tau_shape or None)
        # What a notebook leaves as it is has not been given.
        given = {
            name: value
            for name in _OF_MU
            if (value := getattr(self, name)) != type(self).model_fields[name].default
        }
        return Model(mu_prior(**given), prior, effects_of(self.effects))

    @property
    def rates_in(self) -> Unit:
        """The unit in which rates are said: that of the counts, where they are of one outcome.

        Else that of adverse events of any kind, where a notebook is about them.
        """
        if self.unit:
            return unit_named(self.unit)
        if self.by:
            return unit_of_tables(self.tables.values())
        if self.table or "outcome" in self.model_fields_set:
            return self.counts.rates_in
        if "totals_set" in self.model_fields_set:
            return reported(self.totals, ANY).rates_in
        return PERCENT

    @property
    def priors(self) -> Sentences:
        """What is assumed, and which rates the priors expect."""
        said = [str(self.model), expected_rates(self.model, self.rates_in)]
        return Sentences("\n".join(filter(None, said)))

    @cached_property
    def prior_criterion(self) -> tuple[Check, ...]:
        """Whether the priors give enough to the rates that were named beforehand."""
        below, above = (rate or None for rate in (self.prior_below, self.prior_above))
        return criterion(self.model, below=below, above=above, unit=self.rates_in)

    @cached_property
    def coefficient(self) -> Normal:
        """The prior of every coefficient, logit scale."""
        return Normal(0, self.coefficient_sd)


# ---------------------------------------------------------------- one rule a name


def by_name(values: Mapping[str, object]) -> dict[str, str]:
    """Say which values their own rules refuse.

    Parameters
    ----------
    values : mapping of str to object
        By name; names without a rule may be anything.

    Returns
    -------
    dict of str to str
        By name, what was found and what is allowed.

    Examples
    --------
    >>> by_name({"tau_scale": -5, "whatever": -5})
    {'tau_scale': 'tau_scale = -5: give a number above 0 and at most 1e+09'}
    """
    try:
        Parameters.model_validate(_known(values))
    except ValidationError as error:
        wrong = {str(each["loc"][0]): each.get("ctx", {}) for each in error.errors()}
    else:
        return {}
    return {
        name: f"{name}: {found['error']}" if "error" in found else _refusal(name, values[name])
        for name, found in wrong.items()
    }


def _known(values: Mapping[str, object]) -> dict[str, object]:
    return {name: values[name] for name in Parameters.model_fields if name in values}


def _refusal(name: str, value: object) -> str:
    kind, bounds = _kind_and_bounds(Parameters.model_fields[name])
    return f"{name} = {value!r}: give a {kind} {bounds}".rstrip()


def _kind_and_bounds(field: FieldInfo) -> tuple[str, str]:
    """Return the words for the type of a parameter and for its bounds, which it may not have."""
    kinds = {str: "text", float: "number", int: "whole number", bool: "truth value"}
    kind = kinds.get(cast(type, field.annotation), "text or a list of texts")
    words = {"gt": "above {:g}", "ge": "of {:g} or more", "lt": "below {:g}", "le": "at most {:g}"}
    bounds = [
        word.format(getattr(each, name))
        for name, word in words.items()
        for each in field.metadata
        if hasattr(each, name)
    ]
    return kind, " and ".join(bounds)


def rules() -> list[tuple[str, str, str, str]]:
    """Return the name of every parameter, its type, which values it may have, and its meaning.

    Examples
    --------
    >>> [row[:3] for row in rules() if row[0] == "n"]
    [('n', 'whole number', '0 or more')]
    """
    rows = []
    for name, field in Parameters.model_fields.items():
        kind, bounds = _kind_and_bounds(field)
        for each in field.metadata:
            if isinstance(each, AfterValidator) and isinstance(each.func, OneOf):
                bounds = ", ".join(name or '""' for name in each.func.known)
        rows.append((name, kind, bounds.removeprefix("of "), field.description or ""))
    return rows


def as_markdown() -> str:
    """Return a table of every rule, which can be read as it is and as Markdown.

    See Also
    --------
    rules : The same as data.

    Examples
    --------
    >>> import dfsp
    >>> print(dfsp.parameters.as_markdown().splitlines()[0][:44])
    | parameter      | type                    |
    """
    rows = [("parameter", "type", "allowed", "meaning"), *rules()]
    rows.insert(1, ("---",) * 4)
    # Long lists go over their column, so that the rest stays on a screen.
    widths = [min(max(map(len, column)), 26) for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


# ---------------------------------------------------------------- values that go together


Refusal = Callable[[Parameters, Set[str]], None]
"""Raises a DfspError for parameters that do not go together; told which a notebook declares."""

_TOGETHER: list[tuple[frozenset[str], Refusal]] = []
"""Each beside the names whose values have to be usable before it can tell."""


def check(values: Mapping[str, object]) -> Parameters:
    """Return a notebook's parameters, if they can be used; its second cell gives `globals()`.

    Parameters
    ----------
    values : mapping of str to object
        By name; what is no parameter is left aside.

    Raises
    ------
    DfspError
        With everything that cannot be used.

    Examples
    --------
    >>> given = check({"tau_scale": 0.5, "outcome": "progression", "evidence_set": "reconciled"})
    >>> print(given.model)
    mu ~ Normal(mean 0, sd 2), tau ~ HalfNormal(scale 0.5), normal effects
    >>> given.counts.label
    'progression'
    """
    given, faults = _judged(values)
    if faults:
        raise DfspError.of("parameters", "these cannot be used", faults)
    return given


def faults_of(values: Mapping[str, object]) -> list[str]:
    """Return everything that `check` refuses, one fault each.

    See Also
    --------
    check : Raises them.
    by_name : What each value's own rule says.

    Examples
    --------
    >>> import dfsp
    >>> for fault in dfsp.parameters.faults_of({"p0": 2, "tau_scale": -5}):
    ...     print(fault)
    tau_scale = -5: give a number above 0 and at most 1e+09
    p0 = 2: give a number of 0 or more and below 1
    """
    return _judged(values)[1]


def _judged(values: Mapping[str, object]) -> tuple[Parameters, list[str]]:
    """Return the parameters that can be used on their own, and all faults, each once."""
    declared, wrong = _known(values), by_name(values)
    given = Parameters.model_validate(
        {name: value for name, value in declared.items() if name not in wrong}
    )
    faults = list(wrong.values())
    for names, refuse in _TOGETHER:
        if not wrong.keys() & names:
            try:
                refuse(given, declared.keys())
            except DfspError as error:
                faults.append(str(error))
    return given, list(dict.fromkeys(faults))


def _together(*names: str) -> Callable[[Refusal], Refusal]:
    """Let a function refuse values of these names, where each can be used on its own."""

    def enter(refuse: Refusal) -> Refusal:
        _TOGETHER.append((frozenset(names), refuse))
        return refuse

    return enter


_PRIORS = (*_OF_MU, "tau_family", "tau_scale", "tau_shape", "effects")
_EVIDENCE = ("evidence_set", "folder", "table")


@_together(*_PRIORS)
def _model(given: Parameters, declared: Set[str]) -> None:
    try:
        _ = given.model
    except DfspError as error:
        names = (name for name in _PRIORS if name in declared)
        raise DfspError(f"{', '.join(names)}: {error}") from None


@_together("coefficient_sd")
def _coefficient(given: Parameters, declared: Set[str]) -> None:
    _ = given.coefficient


@_together("tau_family")
def _known_tau(given: Parameters, declared: Set[str]) -> None:
    for name, why in (
        ("threshold", "a fixed tau has no sensitivity"),
        ("data_sets", "the control needs a prior of tau"),
    ):
        if name in declared and given.tau_family == "fixed":
            raise DfspError(f"tau_family = 'fixed': {why}; use another family")


@_together("outcome")
def _averaged(given: Parameters, declared: Set[str]) -> None:
    if "margin" in declared and given.outcome == "surgery":
        raise DfspError(
            "outcome = 'surgery': planned and salvage surgery are different outcomes and are not "
            "averaged; 05_safety_and_surgery shows them apart"
        )


@_together("not_evaluable")
def _categories(given: Parameters, declared: Set[str]) -> None:
    asked = "not_evaluable" in declared and "outcome" not in declared
    if asked and given.not_evaluable not in ("no event", "excluded"):
        raise DfspError(
            f"not_evaluable = {given.not_evaluable!r}: use no event or excluded; a patient who "
            "could not be evaluated is in no category"
        )


@_together(*_EVIDENCE)
def _measured(given: Parameters, declared: Set[str]) -> None:
    """Refuse a set that is not there, or that does not measure what is asked without an outcome."""
    if "evidence_set" in declared and not given.table:
        evidence = given.evidence
        if not declared & {"outcome", "totals_set"}:
            _needs("evidence_set", evidence, "response")


@_together("evidence_set", "folder")
def _independent(given: Parameters, declared: Set[str]) -> None:
    """Refuse cohorts that belong together, where a notebook's analyses do not model that."""
    of_categories = "not_evaluable" in declared and "outcome" not in declared
    if given.table:
        return
    if of_categories or declared & {"moderators", "totals_set", "study", "data_sets"}:
        require_independent(given.evidence.cohorts, "this notebook")


@_together("totals_set", "folder")
def _totals(given: Parameters, declared: Set[str]) -> None:
    if "totals_set" in declared:
        _needs("totals_set", given.totals, "any_adverse_event")


def _needs(name: str, evidence: Evidence, measure: str) -> None:
    if not (evidence.rows["measure"] == measure).any():
        raise DfspError(f"{name} = {evidence.name!r}: it has no counts of {measure}")


@_together(*_EVIDENCE, "outcome", "not_evaluable", "drop", "moderators")
def _moderated(given: Parameters, declared: Set[str]) -> None:
    if "moderators" in declared:
        design_of(given.counts, given.terms)


@_together(*_EVIDENCE, "by", "common_tau", "borrow", "engine")
def _several(given: Parameters, declared: Set[str]) -> None:
    asked = [name for name in ("common_tau", "borrow") if getattr(given, name)]
    if given.by and not given.table:
        raise DfspError(f"by = {given.by!r}: it names a column of a table of one's own; give table")
    if asked and not given.by:
        raise DfspError(f"{asked[0]} needs by, which says what the tables are")
    if len(asked) > 1:
        raise DfspError("borrow and common_tau do not go together; give one of them")
    if asked and given.engine != "exact":
        raise DfspError(f"{asked[0]} has the exact engine only; set engine to exact")


@_together(*_EVIDENCE, "by", "outcome", "not_evaluable", "drop", "study")
def _counted(given: Parameters, declared: Set[str]) -> None:
    if given.by and "by" in declared:
        _ = given.tables if given.table else None
        return
    if "outcome" not in declared and not given.table:
        return
    studies = given.counts.table["study"].to_list()
    if given.study and given.study not in studies:
        raise DfspError(f"study: {unknown([given.study], studies)}")
    if "study" in declared and len(studies) < 3:
        raise DfspError(f"{len(studies)} studies: leaving two out needs three or more")
