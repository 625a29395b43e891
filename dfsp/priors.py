"""The closed family of priors that both engines know.

`Normal` is for the population mean `mu`; all others are for the between-study standard deviation
`tau`, both on the logit scale.
"""

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from dfsp.errors import DfspError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """What every prior can do; see the families below for parameters."""

    family: ClassVar[str]
    tail_power: ClassVar[float] = np.inf

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float, np.integer, np.floating))
            if not number or isinstance(value, bool) or not np.isfinite(value):
                raise DfspError(
                    f"{type(self).__name__}: {field.name} = {value!r}; give a finite number"
                )
            if field.name not in ("mean", "location") and value <= 0:
                raise DfspError(
                    f"{type(self).__name__}: {field.name} = {value!r}; give a number above 0"
                )
            object.__setattr__(self, field.name, float(value))

    @cached_property
    def distribution(self) -> Any:
        """The frozen `scipy.stats` distribution."""
        raise NotImplementedError

    def logpdf(self, x: Array) -> Array:
        """Log density at `x` (logit scale), normalised."""
        return np.asarray(self.distribution.logpdf(x), dtype=np.float64)

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles (logit scale)."""
        return np.asarray(self.distribution.ppf(q), dtype=np.float64)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws (logit scale)."""
        return np.asarray(self.distribution.rvs(size=size, random_state=rng), dtype=np.float64)

    @property
    def upper(self) -> float:
        """Where the support ends."""
        return float(self.distribution.support()[1])

    def as_dict(self) -> dict[str, Any]:
        """Family and parameters as plain data."""
        return {"family": self.family, **asdict(self)}

    def __str__(self) -> str:
        parameters = ", ".join(
            f"{field.name} {getattr(self, field.name):g}" for field in fields(self)
        )
        return f"{type(self).__name__}({parameters})"


@dataclass(frozen=True)
class Normal(Prior):
    """Normal prior of `mu`: mean and standard deviation on the logit scale."""

    family = "normal"
    mean: float = 0.0
    sd: float = 2.0

    @cached_property
    def distribution(self) -> Any:
        return stats.norm(self.mean, self.sd)


@dataclass(frozen=True)
class HalfNormal(Prior):
    """A normal of mean 0 folded at 0; `scale` is that normal's standard deviation."""

    family = "half-normal"
    scale: float = 1.0

    @cached_property
    def distribution(self) -> Any:
        return stats.halfnorm(scale=self.scale)


@dataclass(frozen=True)
class HalfCauchy(Prior):
    """A Cauchy folded at 0; its mean does not exist."""

    family = "half-cauchy"
    tail_power = 1.0
    scale: float = 1.0

    @cached_property
    def distribution(self) -> Any:
        return stats.halfcauchy(scale=self.scale)


@dataclass(frozen=True)
class HalfStudentT(Prior):
    """A Student-t with `df` degrees of freedom folded at 0."""

    family = "half-student-t"
    df: float = 4.0
    scale: float = 1.0

    @property
    def tail_power(self) -> float:  # type: ignore[override]
        """Moments below this order exist."""
        return self.df

    @cached_property
    def distribution(self) -> Any:
        return FoldedT(self.df, self.scale)


class FoldedT:
    """Student-t folded at 0, with the part of the `scipy.stats` interface that priors use."""

    def __init__(self, df: float, scale: float) -> None:
        self.whole = stats.t(df, scale=scale)

    def logpdf(self, x: npt.ArrayLike) -> Array:
        x = np.asarray(x, dtype=np.float64)
        return np.where(x >= 0, np.log(2) + self.whole.logpdf(x), -np.inf)

    def cdf(self, x: npt.ArrayLike) -> Array:
        return np.asarray(2 * self.whole.cdf(np.maximum(x, 0)) - 1, dtype=np.float64)

    def ppf(self, q: npt.ArrayLike) -> Array:
        return np.asarray(self.whole.isf((1 - np.asarray(q)) / 2), dtype=np.float64)

    def rvs(self, size: int, random_state: np.random.Generator) -> Array:
        return np.abs(self.whole.rvs(size=size, random_state=random_state))

    def support(self) -> tuple[float, float]:
        return 0.0, np.inf


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential; `scale` is its mean, the inverse of the rate parameter."""

    family = "exponential"
    scale: float = 1.0

    @cached_property
    def distribution(self) -> Any:
        return stats.expon(scale=self.scale)


@dataclass(frozen=True)
class Uniform(Prior):
    """Uniform from 0 to `scale`."""

    family = "uniform"
    scale: float = 2.0

    @cached_property
    def distribution(self) -> Any:
        return stats.uniform(0, self.scale)


@dataclass(frozen=True)
class LogNormal(Prior):
    """`log(tau)` is normal with mean `location` and standard deviation `scale`."""

    family = "log-normal"
    location: float = -1.0
    scale: float = 1.0

    @cached_property
    def distribution(self) -> Any:
        return stats.lognorm(self.scale, scale=np.exp(self.location))


@dataclass(frozen=True)
class Fixed(Prior):
    """`tau` known to be `scale`."""

    family = "fixed"
    scale: float = 1.0

    def logpdf(self, x: Array) -> Array:
        return np.where(np.asarray(x) == self.scale, 0.0, -np.inf)

    def ppf(self, q: npt.ArrayLike) -> Array:
        return np.full(np.shape(q), self.scale)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        return np.full(size, self.scale)

    @property
    def upper(self) -> float:
        return self.scale


TAU_FAMILIES: dict[str, type[Prior]] = {
    prior.family: prior
    for prior in (HalfNormal, HalfCauchy, HalfStudentT, Exponential, Uniform, LogNormal, Fixed)
}


def tau_prior(
    family: str,
    *,
    scale: float | None = None,
    df: float | None = None,
    location: float | None = None,
) -> Prior:
    """Return the prior of tau that a name and parameters describe.

    Parameters
    ----------
    family : str
        One of `TAU_FAMILIES`.
    scale, df, location : float, optional
        The family's parameters (logit scale); one that is not given takes the family's default,
        one that the family does not have is refused.

    Raises
    ------
    DfspError
        Unknown family, a parameter that the family does not have, or a value out of range.
    """
    if family not in TAU_FAMILIES:
        raise DfspError(f"tau family {family!r} is not known; use one of {', '.join(TAU_FAMILIES)}")
    prior = TAU_FAMILIES[family]
    known = [field.name for field in fields(prior)]
    given = {"scale": scale, "df": df, "location": location}
    given = {name: value for name, value in given.items() if value is not None}
    extra = [name for name in given if name not in known]
    if extra:
        raise DfspError(
            f"tau family {family!r} has no {' or '.join(extra)}; it takes {', '.join(known)}"
        )
    return prior(**given)
