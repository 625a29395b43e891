"""The choices of an analysis as data: each dimension has a name and levels, one a line."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

from dfsp.errors import DfspError
from dfsp.evidence.outcomes import NotEvaluable
from dfsp.model.effects import BetaBinomial, Effects, Exnex, NormalEffects, StudentT
from dfsp.model.model import Model
from dfsp.model.priors import Exponential, HalfCauchy, HalfNormal, Normal, Prior, Uniform

PRIORS_OF_TAU: dict[str, Prior] = {
    "HalfNormal(0.5)": HalfNormal(0.5),
    "HalfNormal(1)": HalfNormal(1),
    "HalfNormal(2)": HalfNormal(2),
    "HalfCauchy(0.5)": HalfCauchy(0.5),
    "Uniform(0, 2)": Uniform(2),
    "Exponential(1)": Exponential(1),
}
PRIORS_OF_MU: dict[str, Normal] = {
    "Normal(0, 1)": Normal(0, 1),
    "Normal(0, 2)": Normal(0, 2),
    "Normal(0, 5)": Normal(0, 5),
}
EFFECTS: dict[str, Effects] = {
    "normal": NormalEffects(),
    "Student-t, df 4": StudentT(4),
    "EXNEX, half exchangeable": Exnex(0.5),
    "beta-binomial": BetaBinomial(),
}
RULES: tuple[NotEvaluable, ...] = get_args(NotEvaluable)
DOES_NOT_ARISE = "does not arise"
"""The level of a choice that another one leaves no room for."""

What = Literal["counts", "model"]


@dataclass(frozen=True)
class Dimension:
    """A choice: what each of its levels makes of the counts, or of the model.

    Parameters
    ----------
    name : str
        The column of the choice.
    levels : mapping of str to callable
        Each takes `Counts` (or a `Model`) and returns another, or None where the level does not
        exist; a level of counts that cannot be used raises a `DfspError` that says why.
    of : {"counts", "model"}
        What the levels change.

    Raises
    ------
    DfspError
        No level, a level that cannot be called, or something else to change.

    See Also
    --------
    dfsp.multiverse.fit : Takes any number of them as `further`.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> levels = {"kept": lambda all: all, "left out": lambda all: dfsp.without(all, ["A"])}
    >>> small = dfsp.multiverse.Dimension("smallest study", levels)
    >>> result = dfsp.multiverse.fit(
    ...     table, effects={"normal": dfsp.NormalEffects()}, taus={"1": dfsp.HalfNormal(1)},
    ...     mus={"2": dfsp.Normal(0, 2)}, further=[small],
    ... )
    >>> result.table[["smallest study", "studies", "typical"]].round(3)
      smallest study  studies  typical
    0           kept        3    0.327
    1       left out        2    0.338
    """

    name: str
    levels: Mapping[str, Callable[[Any], Any]]
    of: What = "counts"

    def __post_init__(self) -> None:
        if self.of not in get_args(What):
            raise DfspError(f"dimension {self.name!r}: of = {self.of!r}; use counts or model")
        require_levels(f"dimension {self.name!r}: levels", self.levels)
        for level, change in self.levels.items():
            if not callable(change):
                raise DfspError(
                    f"dimension {self.name!r}, level {level!r}: {change!r} is no function; give "
                    f"one that takes the {self.of} and returns other {self.of}"
                )


def require_levels(name: str, given: object) -> None:
    """Refuse what is no mapping of names to levels, or an empty one.

    Raises
    ------
    DfspError
    """
    if not isinstance(given, Mapping) or not given:
        raise DfspError(f"{name} = {given!r}; give a mapping with one level or more, by name")


def model_dimensions(
    effects: Mapping[str, Effects], taus: Mapping[str, Prior], mus: Mapping[str, Normal]
) -> list[Dimension]:
    """Return the dimensions of the model: effects, and the priors of tau and mu.

    Raises
    ------
    DfspError
        A mapping without levels, or a level that is no such part of a model.
    """
    found = []
    parts: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        ("effects", "effects", effects),
        ("tau", "taus", taus),
        ("mu", "mus", mus),
    )
    for part, name, given in parts:
        require_levels(name, given)
        for level, value in given.items():
            try:
                Model(**{part: value})
            except DfspError as error:
                raise DfspError(f"{name}[{level!r}]: {error}") from None
        levels = {level: partial(_with, **{part: value}) for level, value in given.items()}
        found.append(Dimension(part, levels, "model"))
    return found


def _with(model: Model, **part: Any) -> Model | None:
    """Return the model with another part; None where its effects have no such part."""
    if "effects" not in part and model.effects.own_priors:
        return None
    return replace(model, **part)


def combine[T](
    start: T, dimensions: Iterable[Dimension], refuse: Callable[[str, DfspError], None]
) -> list[tuple[dict[str, str], T]]:
    """Return every combination of levels, with what they make of `start`.

    Parameters
    ----------
    start : Counts or Model
    dimensions : iterable of Dimension
        Of the kind of `start`; each is applied to what the ones before it made.
    refuse : callable
        Told of a level that cannot be used: its name and the error.
    """
    found: list[tuple[dict[str, str], T]] = [({}, start)]
    for dimension in dimensions:
        longer = []
        for labels, before in found:
            made, refused = {}, False
            for level, change in dimension.levels.items():
                try:
                    after = change(before)
                except DfspError as error:
                    refuse(f"{dimension.name}: {level}", error)
                    refused = True
                else:
                    if after is not None:
                        made[level] = after
            if not made and not refused:
                made[DOES_NOT_ARISE] = before
            longer += [({**labels, dimension.name: level}, after) for level, after in made.items()]
        found = longer
    return found
