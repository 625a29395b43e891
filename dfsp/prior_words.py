"""What the priors did to a result, as a table and as the sentence that names one that decides."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from dfsp.checks import Check
from dfsp.constants import MEDIAN_AND_ENDS
from dfsp.engine.powers import Powers, PowerScaling
from dfsp.engine.predictive import prior_of
from dfsp.errors import DfspError
from dfsp.model.model import Model
from dfsp.rates import PERCENT, Unit
from dfsp.text import Sentences, Table, chance, table_of

# Power-scaling from which on a prior is named. What the prior of mu does to the mean is nearly
# proportional to its power alpha, and a normal prior ten times as wide is one to the power 0.01: a
# location of 0.25 foretells that it would move the rate by about a quarter of a posterior standard
# deviation the other way.
LOCATION_LIMIT = 0.25
WIDTH_LIMIT = 0.15
NAMED = 4
"""Of more results a prior is said to decide by their number, and which of them it moves most."""
LEAST = 0.05
"""Probability that the priors must give to each side that was named beforehand."""
PRIOR = "prior: "
"""Beginning of the names of checks of the priors."""
ADVICE = {
    "mu": "choose a centre and {an_end} end from knowledge other than these counts "
    "({rate_centre}, {rate_end}), or widen with {mu_sd}, and report both",
    **dict.fromkeys(
        ("tau", "sigma"),
        "choose a scale from knowledge other than these counts, or change it with {tau_scale}, "
        "and report both",
    ),
    **dict.fromkeys(
        ("alpha", "beta"),
        "choose another scale of alpha and beta from knowledge other than these counts, and "
        "report both",
    ),
}
"""What to do about a prior that decides, with the names of parameters."""


def table_of_powers(powers: Powers) -> Table:
    """Return how each quantity moves with each density, one row a quantity.

    Returns
    -------
    Table
        Indexed by `quantity`. For each prior and for the likelihood two columns, such as
        `mu location`, in posterior standard deviations, and `mu width`, of the logarithm of the
        width of the 95 % interval, both for each unit of ln(alpha); NaN for a prior that is fixed.

    See Also
    --------
    dfsp.engine.powers.power_scaling : What the numbers are.
    """
    nothing = PowerScaling(np.nan, np.nan)
    rows = {
        quantity: {
            f"{density} {name}": value
            for density, power in by_density.items()
            for name, value in (power or nothing)._asdict().items()
        }
        for quantity, by_density in powers.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("quantity")
    return table_of(frame, digits=3)


def plain_powers(powers: Powers | None) -> dict[str, Any] | None:
    """Return how each quantity moves as plain data, None for what is not a number."""
    if powers is None:
        return None
    return {
        quantity: {
            name: power
            and {key: None if isnan(value) else value for key, value in power._asdict().items()}
            for name, power in by_density.items()
        }
        for quantity, by_density in powers.items()
    }


def table_of_several(powers: Mapping[str, Powers], what: str) -> Table:
    """Return the tables of several results, indexed by `what` they are of and by `quantity`."""
    frames = {name: table_of_powers(each) for name, each in powers.items()}
    return table_of(pd.concat(frames, names=[what]), digits=3)


def decisive_priors(
    powers: Mapping[str, Powers], priors: Sequence[str], written: Callable[[str], str] = str
) -> Sentences:
    """Say which prior decides, which way, and what to do; `""` if none does.

    Parameters
    ----------
    powers : mapping of str to Powers
        By what each is of; `""` for the only one.
    priors : sequence of str
        Names of the priors, which are the same for all.
    written : callable, optional
        How the name of a parameter is written.

    Examples
    --------
    >>> from dfsp.engine.posterior import solve
    >>> from dfsp.engine.powers import power_scaling
    >>> from dfsp.model.model import Model
    >>> powers = power_scaling(solve([0], [200], Model()))
    >>> decisive_priors({"": powers}, ["mu"]).partition(";")[0]
    'The prior of mu decides: it pulls the mean rate up (location +1.55, limit 0.25)'
    """
    said = []
    for prior in priors:
        does: list[tuple[float, str]] = []
        for name, each in powers.items():
            moved = {quantity: by_prior[prior] for quantity, by_prior in each.items()}
            if parts := [*_pulls(moved), *_stretches(moved)]:
                limits, words = zip(*parts, strict=True)
                of = f"for {name} " if name else ""
                does.append((max(limits), f"{of}it {' and '.join(words)}"))
        if does:
            pulls = [part for _, part in does if "pulls" in part]
            down = bool(pulls) and all("down" in part for part in pulls)  # from near certainty
            advice = _advice(prior, "lower" if down else "upper", written)
            where = ""
            if len(does) > NAMED:
                where = f" for {len(does)} of {len(powers)}, most of all"
                does = sorted(does, key=itemgetter(0), reverse=True)[:NAMED]
            parts_said = ", ".join(part for _, part in does)
            said.append(f"The prior of {prior} decides{where}: {parts_said}; {advice}.")
    return Sentences(" ".join(said))


def _advice(prior: str, end: str, written: Callable[[str], str]) -> str:
    """Say what to do about a prior; `end` is the end of its interval that needs knowledge."""
    advice = ADVICE.get(prior, "choose it from knowledge other than these counts")
    names = {name: written(name) for name in ("rate_centre", "mu_sd", "tau_scale")}
    article = "an" if end == "upper" else "a"
    return advice.format(an_end=f"{article} {end}", rate_end=written(f"rate_{end}"), **names)


def expected_rates(model: Model, unit: Unit = PERCENT) -> Sentences:
    """Say which rates the priors expect; `""` where they cannot be integrated.

    Examples
    --------
    >>> expected_rates(Model())
    before these counts: typical rate 50.0 % (1.9 to 98.1 %), new-study rate 50.0 % (1.2 to 98.8 %)
    """
    try:
        prior = prior_of(model)
        names = [name for name in ("typical_rate", "new_study_rate") if name in model.quantities]
        ends = [getattr(prior, name).quantile(MEDIAN_AND_ENDS) for name in names]
    except DfspError:
        return Sentences()
    parts = [
        f"{_words(name)} {unit.estimate(*rates)}" for name, rates in zip(names, ends, strict=True)
    ]
    return Sentences(f"before these counts: {', '.join(parts)}")


def criterion(
    model: Model,
    *,
    below: float | None = None,
    above: float | None = None,
    unit: Unit = PERCENT,
) -> tuple[Check, ...]:
    """Check what was asked of the priors before the fit.

    Parameters
    ----------
    model : Model
    below, above : float, optional
        Rates, written down beforehand: that of a new study must be able to lie below the one and
        above the other, with a prior predictive probability of `LEAST` each.
    unit : Unit
        In which the checks say these rates.

    Raises
    ------
    DfspError
        A rate outside (0, 1), or the two in the wrong order.

    Examples
    --------
    >>> [(each.name, each.passed) for each in criterion(Model(), below=0.001, above=0.9)]
    [('prior: a new study below 0.10 %', False), ('prior: a new study above 90.0 %', True)]
    """
    if below is not None and above is not None and below >= above:
        raise DfspError(f"below {below:g} and above {above:g}: the first rate is to be the lower")
    checks = []
    for side, rate in (("below", below), ("above", above)):
        if rate is None:
            continue
        if not 0 < rate < 1:
            raise DfspError(f"{rate:g}: give a rate between 0 and 1")
        name, probability = f"{PRIOR}a new study {side} {unit.rate(rate)}", None
        try:
            over = prior_of(model).new_study_rate.prob_above(rate)
            probability = over if side == "above" else 1 - over
            says = f"The priors give this probability {chance(probability)}"
        except DfspError as error:
            says = str(error)
        passed = None if probability is None else probability >= LEAST
        checks.append(Check(name, passed, probability, LEAST, f"{says}; {LEAST:g} was asked for."))
    return tuple(checks)


def _words(quantity: str) -> str:
    """Return how sentences call a rate."""
    return quantity.replace("_rate", " rate").replace("new_study", "new-study")


def _pulls(moved: Mapping[str, PowerScaling | None]) -> list[tuple[float, str]]:
    """Say which way a prior pulls the rate that it moves most, if beyond the limit: how far."""
    found = {
        quantity: power.location
        for quantity in ("typical_rate", "mean_rate")
        if (power := moved.get(quantity)) and abs(power.location) > LOCATION_LIMIT
    }
    if not found:
        return []
    most = max(found, key=lambda quantity: abs(found[quantity]))
    way = "up" if found[most] > 0 else "down"
    says = f"pulls the {_words(most)} {way} (location {_over(found[most], LOCATION_LIMIT)})"
    return [(abs(found[most]) / LOCATION_LIMIT, says)]


def _stretches(moved: Mapping[str, PowerScaling | None]) -> list[tuple[float, str]]:
    """Say what a prior does to a new study's interval, if beyond the limit: how far."""
    power = moved["new_study_rate"]
    if power is None or not abs(power.width) > WIDTH_LIMIT:  # not where it is not a number
        return []
    what = "widens" if power.width > 0 else "narrows"
    says = f"{what} the interval of a new study's rate (width {_over(power.width, WIDTH_LIMIT)})"
    return [(abs(power.width) / WIDTH_LIMIT, says)]


def _over(value: float, limit: float) -> str:
    """Return a number of a size over its limit, with the decimals that show that, and the limit.

    Examples
    --------
    >>> _over(0.4406, 0.25), _over(-0.1507, 0.15)
    ('+0.44, limit 0.25', '-0.151, limit 0.15')
    """
    texts = (f"{value:+.{digits}f}" for digits in range(2, 9))
    text = next((each for each in texts if abs(float(each)) > limit), f"{value:+g}")
    return f"{text}, limit {limit:g}"
