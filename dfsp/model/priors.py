"""The closed family of priors that both engines know.

`Normal` is for the population mean `mu`; the others are for the between-study standard deviation
`tau`, both on the logit scale, and most of them for a beta-binomial's concentration too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, ndtri, stdtrit

from dfsp.errors import DfspError

Array = npt.NDArray[np.float64]

LOG_2 = np.log(2)
SMALL, LARGE = 1e-9, 1e9
LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class Prior:
    """What every prior can do; see the families below for their parameters."""

    family: ClassVar[str]
    lower: ClassVar[float] = 0.0
    """Where the support begins."""
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"df": (0.1, LARGE)}
    """By parameter, what makes sense and can be computed; `SMALL` to `LARGE` if not here."""

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
            low, high = self.limits.get(field.name, (SMALL, LARGE))
            if not low <= value <= high:
                raise DfspError(
                    f"{type(self).__name__}: {field.name} = {value!r} on the logit scale is out of "
                    f"reach; give a number from {low:g} to {high:g}"
                )
            object.__setattr__(self, field.name, float(value))

    @property
    def upper(self) -> float:
        """Where the support ends."""
        return np.inf

    @property
    def tail_power(self) -> float:
        """Moments below this order exist."""
        return np.inf

    def logpdf(self, x: npt.ArrayLike) -> Array:
        """Log density at `x` (logit scale), normalised; minus infinity outside the support."""
        x = np.asarray(x, dtype=np.float64)
        inside = (x >= self.lower) & (x <= self.upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(inside, self._log_density(x), -np.inf)

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles (logit scale)."""
        return np.asarray(self._quantile(np.asarray(q, dtype=np.float64)), dtype=np.float64)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws (logit scale)."""
        return self.ppf(rng.uniform(size=size))

    def _log_density(self, x: Array) -> Any:
        raise NotImplementedError

    def _quantile(self, q: Array) -> Any:
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Family and parameters as plain data."""
        return {"family": self.family, **asdict(self)}

    def __str__(self) -> str:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        parameters = ", ".join(f"{name} {value:g}" for name, value in values)
        return f"{type(self).__name__}({parameters})"


@dataclass(frozen=True)
class Normal(Prior):
    """Normal prior of `mu`: mean and standard deviation on the logit scale."""

    family = "normal"
    lower = -np.inf
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"mean": (-100.0, 100.0)}
    mean: float = 0.0
    sd: float = 2.0

    def _log_density(self, x: Array) -> Any:
        return -0.5 * ((x - self.mean) / self.sd) ** 2 - np.log(self.sd) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return self.mean + self.sd * ndtri(q)


@dataclass(frozen=True)
class HalfNormal(Prior):
    """A normal of mean 0 folded at 0; `scale` is that normal's standard deviation."""

    family = "half-normal"
    scale: float = 1.0

    def _log_density(self, x: Array) -> Any:
        return LOG_2 - 0.5 * (x / self.scale) ** 2 - np.log(self.scale) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return -self.scale * ndtri((1 - q) / 2)


@dataclass(frozen=True)
class HalfCauchy(Prior):
    """A Cauchy folded at 0; its mean does not exist."""

    family = "half-cauchy"
    scale: float = 1.0

    @property
    def tail_power(self) -> float:
        return 1.0

    def _log_density(self, x: Array) -> Any:
        return np.log(2 / (np.pi * self.scale)) - 2 * np.log(np.hypot(1, x / self.scale))

    def _quantile(self, q: Array) -> Any:
        return self.scale / np.tan(np.pi / 2 * (1 - q))


@dataclass(frozen=True)
class HalfStudentT(Prior):
    """A Student-t with `df` degrees of freedom folded at 0."""

    family = "half-student-t"
    df: float = 4.0
    scale: float = 1.0

    @property
    def tail_power(self) -> float:
        return self.df

    def _log_density(self, x: Array) -> Any:
        root = np.sqrt(self.df)
        norm = LOG_2 - np.log(root * self.scale) - betaln(0.5, self.df / 2)
        return norm - (self.df + 1) * np.log(np.hypot(1, x / self.scale / root))

    def _quantile(self, q: Array) -> Any:
        return -self.scale * stdtrit(self.df, (1 - q) / 2)


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential; `scale` is its mean, the inverse of the rate parameter."""

    family = "exponential"
    scale: float = 1.0

    def _log_density(self, x: Array) -> Any:
        return -x / self.scale - np.log(self.scale)

    def _quantile(self, q: Array) -> Any:
        return -self.scale * np.log1p(-q)


@dataclass(frozen=True)
class Uniform(Prior):
    """Uniform from 0 to `scale`."""

    family = "uniform"
    scale: float = 2.0

    @property
    def upper(self) -> float:
        return self.scale

    def _log_density(self, x: Array) -> Any:
        return np.full(x.shape, -np.log(self.scale))

    def _quantile(self, q: Array) -> Any:
        return self.scale * q


@dataclass(frozen=True)
class LogNormal(Prior):
    """`log(tau)` is normal with mean `location` and standard deviation `scale`."""

    family = "log-normal"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "location": (-20.0, 20.0),
        "scale": (1e-3, 8.0),
    }
    location: float = -1.0
    scale: float = 1.0

    def _log_density(self, x: Array) -> Any:
        log_x = np.log(np.maximum(x, 1e-300))
        z = (log_x - self.location) / self.scale
        return -0.5 * z**2 - log_x - np.log(self.scale) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return np.exp(self.location + self.scale * ndtri(q))


@dataclass(frozen=True)
class Pareto(Prior):
    """Density falling as x^-(shape + 1) from `scale` on: for concentrations, never for tau."""

    family = "pareto"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"shape": (0.1, 100.0)}
    shape: float = 0.5
    scale: float = 1.0

    @property
    def lower(self) -> float:  # type: ignore[override]
        return self.scale

    @property
    def tail_power(self) -> float:
        return self.shape

    def _log_density(self, x: Array) -> Any:
        log_x = np.log(np.maximum(x, 1e-300))
        return np.log(self.shape) + self.shape * np.log(self.scale) - (self.shape + 1) * log_x

    def _quantile(self, q: Array) -> Any:
        return self.scale * (1 - q) ** (-1 / self.shape)


@dataclass(frozen=True)
class Fixed(Prior):
    """`tau` known to be `scale`: all mass at one point, where `logpdf` is 0."""

    family = "fixed"
    scale: float = 1.0

    @property
    def upper(self) -> float:
        return self.scale

    def _log_density(self, x: Array) -> Any:
        return np.where(x == self.scale, 0.0, -np.inf)

    def _quantile(self, q: Array) -> Any:
        return np.full(q.shape, self.scale)


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
    if not isinstance(family, str) or family not in TAU_FAMILIES:
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
