"""Priors: of the population mean `mu`, of the spread `tau`, of a beta-binomial's concentration.

`Normal` is for `mu`; the others are for the between-study standard deviation `tau`, both on the
logit scale, and most of them for a concentration too. A prior is one class, which declares all
that the engines and the messages need: parameters and their limits, density, quantiles, support,
tail, where a grid over `tau` begins, and its PyMC variable. A class that is defined anywhere is
known everywhere: by name in `tau_prior`, on the command line, and in messages.

The inverse gamma is one of tau^2: 1 / tau^2 ~ Gamma(shape, rate = scale), of density

    p(tau) = 2 scale^shape / Gamma(shape) tau^(-2 shape - 1) exp(-scale / tau^2).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammainccinv, gammaln, logit, ndtri, stdtrit

from dfsp.constants import ENDS
from dfsp.errors import DfspError
from dfsp.model.likelihood import LOG_ROOT_2PI

Array = npt.NDArray[np.float64]

LOG_2 = np.log(2)
SMALL, LARGE = 1e-9, 1e9
BEYOND = 1e300
"""Draws beyond this count as this, lest a sum or a product of them overflow."""

TAU_FAMILIES: dict[str, type["Prior"]] = {}
"""The priors that tau can have, by name; each class adds itself when it is defined."""


class LocationPrior(Protocol):
    """What the engines ask of the prior of the first coordinate, `mu` or logit(mean)."""

    @property
    def mean(self) -> float:
        """Mean, logit scale."""

    @property
    def sd(self) -> float:
        """Standard deviation, logit scale."""

    def logpdf(self, x: Array) -> Array:
        """Log density, logit scale."""

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws, logit scale."""


class SpreadPrior(Protocol):
    """What the engines ask of the prior of the second coordinate, `tau` or 1/sqrt(concentration).

    The properties and methods are those of `Prior`.
    """

    @property
    def upper(self) -> float:
        """Where the support ends."""

    @property
    def known(self) -> float | None:
        """The value, if it is known; else None."""

    @property
    def near(self) -> float:
        """Where a grid begins to resolve."""

    @property
    def far(self) -> float:
        """Where a look for the posterior begins."""

    @property
    def tail_power(self) -> float:
        """Moments below this order exist."""

    def logpdf(self, x: npt.ArrayLike) -> Array:
        """Log density."""

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles."""

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws."""


@dataclass(frozen=True)
class Prior:
    """What every prior can do; see the families below for their parameters.

    A family of one's own is a frozen dataclass with `family`, its parameters as fields,
    `_log_density`, `_quantile` and `pymc`, and what differs from the defaults here.
    """

    family: ClassVar[str]
    for_tau: ClassVar[bool] = True
    """Whether `tau` can have it."""
    lower: ClassVar[float] = 0.0
    """Where the support begins."""
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"df": (0.1, LARGE)}
    """By parameter, what makes sense and can be computed; `SMALL` to `LARGE` if not here."""
    no_picture: ClassVar[str] = ""
    """Why it can be neither drawn nor drawn from; empty if it can."""
    no_comparison: ClassVar[str] = ""
    """Why log marginal likelihoods under it cannot be compared; empty if they can be."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.for_tau:
            register(cls, TAU_FAMILIES)

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
    def known(self) -> float | None:
        """The value that has all the mass; None if there is no such value."""
        return None

    @property
    def tail_power(self) -> float:
        """Moments below this order exist; infinite where the tail falls faster than any power."""
        return np.inf

    @property
    def tail_sd(self) -> float:
        """Standard deviation of a normal whose tail falls as slowly as this one's.

        0 where the support ends; infinite where the tail is heavier than any normal's.
        """
        return 0.0 if self.upper < np.inf else np.inf

    @property
    def near(self) -> float:
        """Where a grid over tau begins to resolve: evenly spaced below, logarithmic above."""
        return float(self.ppf(0.5))

    @property
    def far(self) -> float:
        """Where a look for the posterior of tau begins; counts in conflict with it lie beyond."""
        return float(self.ppf(1 - 1e-15))

    def scaled(self, factor: float) -> Self:
        """Return the prior of `factor` times what this is the prior of.

        Raises
        ------
        DfspError
            A prior without a parameter `scale` that has no method of its own for this.
        """
        if "scale" not in {field.name for field in fields(self)}:
            raise DfspError(f"{type(self).__name__} has no scale; give it a method scaled(factor)")
        return replace(self, scale=factor * self.scale)  # type: ignore[call-arg, attr-defined]

    def logpdf(self, x: npt.ArrayLike) -> Array:
        """Log density at `x` (logit scale), normalised; minus infinity outside the support."""
        x = np.asarray(x, dtype=np.float64)
        inside = (x >= self.lower) & (x <= self.upper)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(inside, self._log_density(x), -np.inf)

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles (logit scale)."""
        return np.asarray(self._quantile(np.asarray(q, dtype=np.float64)), dtype=np.float64)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws (logit scale)."""
        return self.ppf(rng.uniform(size=size))

    def pymc(self, pm: Any, name: str) -> Any:
        """Return a variable of the PyMC model at hand with this prior; `pm` is the module.

        Raises
        ------
        DfspError
            A family that does not say what its variable is.
        """
        raise DfspError(
            f"{type(self).__name__} has no PyMC variable: use the exact engine, or give it a "
            f"method pymc(pm, name) to sample {name}"
        )

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


def register[T: type](kind: T, known: dict[str, T]) -> None:
    """Add a class under its `family`, if it has a name of its own; defined anew, it is replaced.

    Raises
    ------
    DfspError
        Another class has the name.
    """
    name = vars(kind).get("family")
    if name is None:
        return
    other = known.get(name)
    if other and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
        raise DfspError(
            f"{kind.__name__}: the name {name!r} is that of {other.__name__}; give it another"
        )
    known[name] = kind


@dataclass(frozen=True)
class Normal(Prior):
    """Normal prior of `mu`: mean and standard deviation on the logit scale.

    See Also
    --------
    Normal.of_rates : A prior from rates.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.Normal(0, 2).ppf([0.025, 0.975]).round(2)
    array([-3.92,  3.92])
    """

    family = "normal"
    for_tau = False
    lower = -np.inf
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"mean": (-100.0, 100.0)}
    mean: float = 0.0
    sd: float = 2.0

    @classmethod
    def of_rates(
        cls,
        centre: float,
        *,
        upper: float | None = None,
        lower: float | None = None,
        sd: float | None = None,
        written: Callable[[str], str] = str,
    ) -> "Normal":
        """Return the prior of mu that says this of the typical rate.

        That of a new study's rate is wider, by what the prior of tau adds.

        Parameters
        ----------
        centre : float
            Its median, a rate.
        upper, lower : float, optional
            One of them: the rate that it exceeds with probability 0.025, or falls short of.
        sd : float, optional
            Instead of them, standard deviation on the logit scale; by default 2.
        written : callable, optional
            How messages write the name of a parameter.

        Raises
        ------
        DfspError
            More than one of the three, or not 0 < lower < centre < upper < 1.

        Examples
        --------
        >>> prior = Normal.of_rates(0.001, upper=0.01)
        >>> round(prior.mean, 4), round(prior.sd, 4)
        (-6.9068, 1.1794)
        """
        if sum(each is not None for each in (upper, lower, sd)) > 1:
            raise DfspError(
                "a prior of rates has one upper end, or one lower end, or a standard deviation; "
                "give one of them"
            )
        end = lower if upper is None else upper
        given = {"lower": lower, "centre": centre, "upper": upper}
        found = {written(name): rate for name, rate in given.items() if rate is not None}
        rates = list(found.values())
        if any(isinstance(rate, bool) or not isinstance(rate, (int, float)) for rate in rates) or (
            not all(a < b for a, b in pairwise([0, *rates, 1]))
        ):
            said = ", ".join(f"{name} = {rate!r}" for name, rate in found.items())
            raise DfspError(f"{said}: give rates with 0 < {' < '.join(found)} < 1")
        mean = float(logit(centre))
        if end is not None:
            sd = abs(float(logit(end)) - mean) / float(ndtri(1 - ENDS[0]))
        return cls(mean, 2.0 if sd is None else sd)

    @property
    def tail_sd(self) -> float:
        return self.sd

    def scaled(self, factor: float) -> "Normal":
        return Normal(factor * self.mean, factor * self.sd)

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.Normal(name, self.mean, self.sd)

    def _log_density(self, x: Array) -> Any:
        return -0.5 * ((x - self.mean) / self.sd) ** 2 - np.log(self.sd) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return self.mean + self.sd * ndtri(q)


@dataclass(frozen=True)
class HalfNormal(Prior):
    """A normal of mean 0 folded at 0; `scale` is that normal's standard deviation.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.HalfNormal(0.5).ppf([0.5, 0.95]).round(3)
    array([0.337, 0.98 ])
    """

    family = "half-normal"
    scale: float = 1.0

    @property
    def tail_sd(self) -> float:
        return self.scale

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.HalfNormal(name, self.scale)

    def _log_density(self, x: Array) -> Any:
        return LOG_2 - 0.5 * (x / self.scale) ** 2 - np.log(self.scale) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return -self.scale * ndtri((1 - q) / 2)


@dataclass(frozen=True)
class HalfCauchy(Prior):
    """A Cauchy folded at 0; its mean does not exist.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.HalfCauchy(0.5).ppf([0.5, 0.95]).round(3)
    array([0.5  , 6.353])
    """

    family = "half-cauchy"
    scale: float = 1.0

    @property
    def tail_power(self) -> float:
        return 1.0

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.HalfCauchy(name, self.scale)

    def _log_density(self, x: Array) -> Any:
        return np.log(2 / (np.pi * self.scale)) - 2 * np.log(np.hypot(1, x / self.scale))

    def _quantile(self, q: Array) -> Any:
        return self.scale / np.tan(np.pi / 2 * (1 - q))


@dataclass(frozen=True)
class HalfStudentT(Prior):
    """A Student-t with `df` degrees of freedom folded at 0.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.HalfStudentT(df=4, scale=0.5).ppf([0.5, 0.95]).round(3)
    array([0.37 , 1.388])
    """

    family = "half-student-t"
    df: float = 4.0
    scale: float = 1.0

    @property
    def tail_power(self) -> float:
        return self.df

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.HalfStudentT(name, nu=self.df, sigma=self.scale)

    def _log_density(self, x: Array) -> Any:
        root = np.sqrt(self.df)
        norm = LOG_2 - np.log(root * self.scale) - betaln(0.5, self.df / 2)
        return norm - (self.df + 1) * np.log(np.hypot(1, x / self.scale / root))

    def _quantile(self, q: Array) -> Any:
        return -self.scale * stdtrit(self.df, (1 - q) / 2)


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential; `scale` is its mean, the inverse of the rate parameter.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.Exponential(0.5).ppf([0.5, 0.95]).round(3)
    array([0.347, 1.498])
    """

    family = "exponential"
    scale: float = 1.0

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.Exponential(name, scale=self.scale)

    def _log_density(self, x: Array) -> Any:
        return -x / self.scale - np.log(self.scale)

    def _quantile(self, q: Array) -> Any:
        return -self.scale * np.log1p(-q)


@dataclass(frozen=True)
class Uniform(Prior):
    """Uniform from 0 to `scale`.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.Uniform(2).ppf([0.5, 0.95])
    array([1. , 1.9])
    """

    family = "uniform"
    scale: float = 2.0

    @property
    def upper(self) -> float:
        return self.scale

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.Uniform(name, 0, self.scale)

    def _log_density(self, x: Array) -> Any:
        return np.full(x.shape, -np.log(self.scale))

    def _quantile(self, q: Array) -> Any:
        return self.scale * q


@dataclass(frozen=True)
class LogNormal(Prior):
    """`log(tau)` is normal with mean `location` and standard deviation `scale`.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.LogNormal(location=-1, scale=1).ppf([0.5, 0.95]).round(3)
    array([0.368, 1.906])
    """

    family = "log-normal"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "location": (-20.0, 20.0),
        "scale": (1e-3, 8.0),
    }
    location: float = -1.0
    scale: float = 1.0

    @property
    def near(self) -> float:
        # Its density vanishes at 0: it changes over several orders of magnitude below the median
        return float(self.ppf(0.01))

    def scaled(self, factor: float) -> "LogNormal":
        return replace(self, location=self.location + float(np.log(factor)))

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.LogNormal(name, self.location, self.scale)

    def _log_density(self, x: Array) -> Any:
        log_x = np.log(np.maximum(x, 1e-300))
        z = (log_x - self.location) / self.scale
        return -0.5 * z**2 - log_x - np.log(self.scale) - LOG_ROOT_2PI

    def _quantile(self, q: Array) -> Any:
        return np.exp(self.location + self.scale * ndtri(q))


@dataclass(frozen=True)
class InverseGamma(Prior):
    """An inverse gamma of tau^2: 1 / tau^2 ~ Gamma(`shape`, rate `scale`), as BUGS writes it.

    With both constants small it is meant to say nothing, but the density of log(tau) is nearly flat
    over all orders of magnitude above sqrt(scale), so that the prior itself lies far beyond any tau
    that counts can tell apart (doi:10.1214/06-BA117A).

    Parameters
    ----------
    shape, scale : float
        `scale` is the rate of the gamma, in units of tau^2.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.InverseGamma(shape=2, scale=0.5).ppf([0.5, 0.95]).round(3)
    array([0.546, 1.186])
    """

    family = "inverse-gamma"
    # The standard deviation of log(tau) is about 1 / (2 sqrt(shape)), of a log-normal 1e-3 or more
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {"shape": (SMALL, 1e5)}
    no_picture = "its quantiles lie beyond 1e100 where the shape is small"
    no_comparison = "they vanish as its shape does, whatever the counts"
    shape: float = 1e-3
    scale: float = 1e-3

    @property
    def tail_power(self) -> float:
        return 2 * self.shape

    @property
    def near(self) -> float:
        # Not from quantiles, the lowest of which may be 1e4. The density of log(tau), proportional
        # to tau^(-2 shape) exp(-scale / tau^2), ends below its mode sqrt(scale / shape) where
        # scale / tau^2 exceeds shape + 5: there it is less than e^-5 of its plateau. Any number
        # from 0.2 to 50 gives the same results to 3e-6, from 2 to 10 with the fewest rows.
        return float(np.sqrt(self.scale / (self.shape + 5)))

    @property
    def far(self) -> float:
        # Nor here: above the mode the density of log(tau) hardly falls, and only counts end it.
        # These are done by tau = 1,000 on the logit scale, if the prior lets them.
        return 1e3 * max(1.0, float(np.sqrt(self.scale / self.shape)))

    def scaled(self, factor: float) -> "InverseGamma":
        return replace(self, scale=factor**2 * self.scale)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        return np.minimum(super().sample(size, rng), BEYOND)

    def pymc(self, pm: Any, name: str) -> Any:
        precision = pm.Gamma(f"{name}_precision", alpha=self.shape, beta=self.scale)
        return pm.Deterministic(name, precision**-0.5)

    def _log_density(self, x: Array) -> Any:
        log_x = np.log(np.maximum(x, 1e-300))
        norm = LOG_2 + self.shape * np.log(self.scale) - gammaln(self.shape)
        return norm - (2 * self.shape + 1) * log_x - self.scale * np.exp(-2 * log_x)

    def _quantile(self, q: Array) -> Any:
        with np.errstate(divide="ignore", over="ignore"):
            return np.sqrt(self.scale / gammainccinv(self.shape, q))


@dataclass(frozen=True)
class Fixed(Prior):
    """`tau` known to be `scale`: all mass at one point, where `logpdf` is 0.

    Examples
    --------
    With tau of almost nothing the studies have one rate, as if all patients were of one study:

    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fit = dfsp.fit(table, dfsp.Model(tau=dfsp.Fixed(0.001)))
    >>> fit.studies["mean"].round(3).to_list()
    [0.33, 0.33, 0.33]
    """

    family = "fixed"
    scale: float = 1.0

    @property
    def upper(self) -> float:
        return self.scale

    @property
    def known(self) -> float:
        return self.scale

    def pymc(self, pm: Any, name: str) -> Any:
        return pm.Deterministic(name, pm.math.constant(np.float64(self.scale)))

    def _log_density(self, x: Array) -> Any:
        return np.where(x == self.scale, 0.0, -np.inf)

    def _quantile(self, q: Array) -> Any:
        return np.full(q.shape, self.scale)


def mu_prior(
    mu_mean: float | None = None,
    mu_sd: float | None = None,
    rate_centre: float | None = None,
    rate_upper: float | None = None,
    rate_lower: float | None = None,
    *,
    written: Callable[[str], str] = str,
) -> Normal:
    """Return the prior of mu that options describe, on the logit scale or as rates.

    Parameters
    ----------
    mu_mean, mu_sd : float, optional
        Logit scale; by default 0 and 2.
    rate_centre, rate_upper, rate_lower : float, optional
        Instead; see `Normal.of_rates`.
    written : callable, optional
        How messages write the name of an option.

    Raises
    ------
    DfspError
        Options that do not go together, or rates that are none.

    Examples
    --------
    >>> print(mu_prior(rate_centre=0.5, mu_sd=1))
    Normal(mean 0, sd 1)
    """
    centre = written("rate_centre")
    if rate_centre is None:
        if rate_upper is not None or rate_lower is not None:
            ends = " and ".join(map(written, ("rate_upper", "rate_lower")))
            raise DfspError(f"{ends} need {centre} beside them")
        return Normal(0.0 if mu_mean is None else mu_mean, 2.0 if mu_sd is None else mu_sd)
    if mu_mean is not None:
        raise DfspError(f"{written('mu_mean')} and {centre} say the same thing; give one of them")
    return Normal.of_rates(
        rate_centre,
        upper=rate_upper,
        lower=rate_lower,
        sd=mu_sd,
        written=lambda end: written(f"rate_{end}"),
    )


def tau_prior(family: str, **parameters: float | None) -> Prior:
    """Return the prior of tau that a name and parameters describe.

    Parameters
    ----------
    family : str
        One of `TAU_FAMILIES`.
    **parameters : float, optional
        The family's parameters (logit scale), such as `scale`; one that is not given or None takes
        the family's default, one that the family does not have is refused.

    Raises
    ------
    DfspError
        Unknown family, a parameter that the family does not have, or a value out of range.

    Examples
    --------
    >>> print(tau_prior("half-student-t", df=3, scale=0.5))
    HalfStudentT(df 3, scale 0.5)
    """
    if not isinstance(family, str) or family not in TAU_FAMILIES:
        raise DfspError(f"tau family {family!r} is not known; use one of {', '.join(TAU_FAMILIES)}")
    prior = TAU_FAMILIES[family]
    known = [field.name for field in fields(prior)]
    given = {name: value for name, value in parameters.items() if value is not None}
    extra = [name for name in given if name not in known]
    if extra:
        raise DfspError(
            f"tau family {family!r} has no {' or '.join(extra)}; it takes {', '.join(known)}"
        )
    return prior(**given)
