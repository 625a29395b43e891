"""How study effects scatter: the families that `Model` knows, as both engines need them.

Every family is handled through two coordinates of its population, `mu` and `tau`, at which one
grid serves them all. For beta-binomial effects these are logit(mean) and 1/sqrt(concentration).
"""

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev
from scipy.special import betainc, betaincinv, betaln, digamma, gammaln, ndtr, polygamma, stdtr

from dfsp.errors import DfspError
from dfsp.model.likelihood import LOG_ROOT_2PI, log_choose, log_likelihood, modes, sigmoid, softplus
from dfsp.model.priors import LARGE, SMALL, Fixed, LogNormal, Normal, Prior

Array = npt.NDArray[np.float64]

Family = Literal["normal", "student-t", "beta-binomial", "exnex"]

DEPTH = 18.0  # log weight at which the scales of a Student-t end
FARTHEST = -15.0  # log precision that a tail of 1,000 tau and more takes,
MANY = 160  # within so many steps
FINEST = 0.5  # largest spacing of their logarithms: the trapezoidal rule is then exact to 1e-8
CONCENTRATION = (2.0, 1.5)
"""Location and scale of the default log-normal prior of a concentration."""
IN_LOG_TAU = 200
"""Chebyshev nodes of log(tau) between which likelihoods are interpolated, to 1e-5 or better"""
MOST = 400
"""for studies of at most so many patients."""
Z = np.arange(-12, 13) * 0.7
PHI = 0.7 * np.exp(-0.5 * Z * Z) / np.sqrt(2 * np.pi)
Components = list[tuple[float, Array, Array]]


@dataclass(frozen=True)
class Effects:
    """What a family of study effects can do; see the families below for their parameters."""

    family: ClassVar[Family]
    several_modes: ClassVar[bool] = False
    """Whether `mu` given `tau` can have more than one mode."""
    reach: ClassVar[float] = 8.5
    """How many `tau` from `mu` the effects end."""

    @property
    def new(self) -> "Effects":
        """The effects among which a new study's is one."""
        return self

    def components(self, mu: Array, tau: Array) -> Components:
        """Return log weight, mean and standard deviation of the normals whose mixture this is."""
        raise NotImplementedError

    def log_likelihood(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        """Return log L of each study at each point with its effect integrated out.

        Shapes: `events`, `total` (study,); `mu`, `tau` (point,); result (study, point).
        """
        return _mixture(events, total, self.components(mu, tau), len(mu), level)

    def log_likelihood_of_all(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        """Return log L at every pair of `mu` (column,) and `tau` (row,): (study, row, column)."""
        pairs = np.tile(mu, len(tau)), np.repeat(tau, len(mu))
        flat = self.log_likelihood(events, total, *pairs, level)
        return flat.reshape(len(events), len(tau), len(mu))

    def log_density(self, theta: Array, mu: Array, tau: Array) -> Array:
        """Return the log density of effects `theta` (logit scale)."""
        raise NotImplementedError

    def density(self, theta: Array, mu: Array, tau: Array) -> Array:
        """Return the density of effects `theta` (logit scale)."""
        return np.asarray(np.exp(self.log_density(theta, mu, tau)))

    def cdf(self, theta: Array, mu: Array, tau: Array) -> Array:
        """Return the probability of an effect below `theta` (logit scale)."""
        raise NotImplementedError

    def moments(self, mu: Array, tau: Array) -> tuple[Array, Array]:
        """Return E[p] and E[p^2] of a rate, with all their digits where `mu` is at most 0.

        Given mu and tau these are the likelihoods of 1 of 1 and of 2 of 2.
        """
        both = np.array([1.0, 2.0])
        first, second = np.exp(self.log_likelihood(both, both, mu, tau))
        return first, second

    def draw(self, mu: Array, tau: Array, rng: np.random.Generator) -> Array:
        """Draw an effect (logit scale) for each `mu` and `tau`."""
        raise NotImplementedError

    def draw_given(
        self, events: float, total: float, mu: Array, tau: Array, rng: np.random.Generator
    ) -> Array:
        """Draw the effect of a study with these counts for each `mu` and `tau`."""
        parts = self.components(mu, tau)
        if len(parts) == 1:
            return _draw_normal(events, total, mu, tau, rng)
        counts = np.full(1, events), np.full(1, total)
        mean, sd = (
            np.stack([np.broadcast_to(part[i], mu.shape) for part in parts]) for i in (1, 2)
        )
        log_p = np.stack(
            [weight + log_likelihood(*counts, m, s)[0] + 0 * mu for weight, m, s in parts]
        )
        cdf = np.cumsum(np.exp(log_p - log_p.max(0)), axis=0)
        chosen = (cdf < rng.uniform(size=len(mu)) * cdf[-1]).sum(0)
        at = chosen, np.arange(len(mu))
        return _draw_normal(events, total, mean[at], sd[at], rng)

    def as_dict(self) -> dict[str, Any]:
        """Return the family's parameters as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value:g}" for name, value in asdict(self).items())
        return f"{self.family} effects" + (f" ({values})" if values else "")


@dataclass(frozen=True)
class NormalEffects(Effects):
    """theta_i ~ N(mu, tau^2)."""

    family = "normal"

    def components(self, mu: Array, tau: Array) -> Components:
        return [(0.0, mu, tau)]

    def log_likelihood(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        return log_likelihood(events, total, mu, tau, level)

    def log_density(self, theta: Array, mu: Array, tau: Array) -> Array:
        z = (theta - mu) / tau
        z *= z
        z *= -0.5
        z -= np.log(tau) + LOG_ROOT_2PI
        return z

    def density(self, theta: Array, mu: Array, tau: Array) -> Array:
        z = (theta - mu) / tau
        z *= z
        z *= -0.5
        np.exp(z, out=z)
        z /= tau * np.sqrt(2 * np.pi)
        return z

    def cdf(self, theta: Array, mu: Array, tau: Array) -> Array:
        return np.asarray(ndtr((theta - mu) / tau))

    def moments(self, mu: Array, tau: Array) -> tuple[Array, Array]:
        first, second = np.empty_like(mu), np.empty_like(mu)
        wide = tau > 1
        first[wide], second[wide] = super().moments(mu[wide], tau[wide])
        # A trapezoidal sum over a narrow normal is exact to 1e-12, and takes a tenth of the time.
        rate = sigmoid(mu[~wide, None] + tau[~wide, None] * Z)
        first[~wide] = rate @ PHI
        rate *= rate
        second[~wide] = rate @ PHI
        return first, second

    def draw(self, mu: Array, tau: Array, rng: np.random.Generator) -> Array:
        return np.asarray(mu + tau * rng.standard_normal(mu.shape))


@dataclass(frozen=True)
class StudentT(Effects):
    """theta_i = mu + tau t_i with t_i ~ Student-t: heavy tails, so that one study can be far off.

    `tau` is the scale, not the standard deviation, which is tau sqrt(df / (df - 2)).

    Parameters
    ----------
    df : float
        Degrees of freedom, 1 or more, fixed.
    """

    family = "student-t"
    several_modes = True
    reach = np.inf
    df: float = 4.0

    def __post_init__(self) -> None:
        _check(self, "df", 1, LARGE)

    @cached_property
    def _scales(self) -> tuple[Array, Array]:
        """Log weights and scales of the normals, from narrow to wide."""
        # t is N(0, 1 / x) with x ~ Gamma(df/2, df/2), a trapezoidal sum over log x.
        half, depth = self.df / 2, DEPTH / (self.df / 2)
        step = min(FINEST, 0.8 / np.sqrt(half))
        low, high = -depth + FARTHEST, np.log1p(depth + np.sqrt(2 * depth))
        y = step * np.arange(np.ceil(high / step), max(low / step, -MANY), -1)
        log_weight = half * (y - np.expm1(y))
        return log_weight - np.log(np.exp(log_weight).sum()), np.exp(-y / 2)

    def log_likelihood(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        log_weight, scales = self._scales
        main = int((log_weight > -DEPTH).nonzero()[0][-1]) + 1
        parts = [(float(w), mu, s * tau) for w, s in zip(log_weight, scales, strict=True)]
        value = _mixture(events, total, parts[:main], len(mu), level)
        # Studies in conflict see the tail only: there the wide normals count, however rare.
        for weight, _, wide in parts[main:]:
            points = np.flatnonzero((value < weight + DEPTH).any(0))
            if not len(points):
                break
            piece = log_likelihood(events, total, mu[points], wide[points], level)
            value[:, points] = np.logaddexp(value[:, points], weight + piece)
        return value

    def components(self, mu: Array, tau: Array) -> Components:
        return [(float(w), mu, s * tau) for w, s in zip(*self._scales, strict=True)]

    def log_likelihood_of_all(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        if total.max() > MOST:
            return super().log_likelihood_of_all(events, total, mu, tau, level)
        # Every scale times every tau: the normal likelihood is smooth in log tau, and interpolated.
        log_weight, scales = (
            each[self._scales[1] < np.exp(-FARTHEST / 2)] for each in self._scales
        )
        low, high = np.log(tau.min() * scales.min()), np.log(tau.max() * scales.max())
        x = chebyshev.chebpts2(IN_LOG_TAU)
        at = np.exp(low + (high - low) * (x + 1) / 2)
        table = NormalEffects().log_likelihood_of_all(events, total, mu, at, level)
        coefficients = np.linalg.solve(chebyshev.chebvander(x, IN_LOG_TAU - 1), table)
        value = np.full((len(events), len(tau), len(mu)), -np.inf)
        for weight, scale in zip(log_weight, scales, strict=True):
            place = 2 * (np.log(tau * scale) - low) / (high - low) - 1
            piece = chebyshev.chebvander(place, IN_LOG_TAU - 1) @ coefficients
            np.logaddexp(value, weight + piece, out=value)
        return value

    def log_density(self, theta: Array, mu: Array, tau: Array) -> Array:
        z = (theta - mu) / tau
        norm = gammaln((self.df + 1) / 2) - gammaln(self.df / 2) - 0.5 * np.log(self.df * np.pi)
        return np.asarray(norm - np.log(tau) - (self.df + 1) / 2 * np.log1p(z * z / self.df))

    def cdf(self, theta: Array, mu: Array, tau: Array) -> Array:
        return np.asarray(stdtr(self.df, (theta - mu) / tau))

    def draw(self, mu: Array, tau: Array, rng: np.random.Generator) -> Array:
        return np.asarray(mu + tau * rng.standard_t(self.df, mu.shape))


@dataclass(frozen=True)
class Exnex(Effects):
    """Each study exchangeable with the others, or on its own (doi:10.1002/pst.1730).

    theta_i ~ N(mu, tau^2) with probability `exchangeable`, else N(mean, sd^2) with these fixed.
    A new study is an exchangeable one: typical, mean and new-study rate are of such studies.

    Parameters
    ----------
    exchangeable : float
        Prior probability of each study, 0 to 1.
    mean, sd : float
        Of the effect of a study on its own, logit scale.
    """

    family = "exnex"
    several_modes = True
    exchangeable: float = 0.5
    mean: float = 0.0
    sd: float = 2.0

    def __post_init__(self) -> None:
        _check(self, "exchangeable", 0, 1)
        _check(self, "mean", -100, 100)
        _check(self, "sd", SMALL, LARGE)

    @property
    def new(self) -> Effects:
        return NormalEffects()

    def components(self, mu: Array, tau: Array) -> Components:
        parts = []
        if self.exchangeable > 0:
            parts.append((float(np.log(self.exchangeable)), mu, tau))
        if self.exchangeable < 1:
            alone = np.full(1, self.mean), np.full(1, self.sd)
            parts.append((float(np.log1p(-self.exchangeable)), *alone))
        return parts

    def log_alone(self, events: Array, total: Array) -> Array:
        """Return log of (1 - `exchangeable`) times the likelihood of studies on their own."""
        if self.exchangeable == 1:
            return np.full(len(events), -np.inf)
        weight, mean, sd = self.components(np.zeros(1), np.ones(1))[-1]
        return np.asarray(weight + log_likelihood(events, total, mean, sd)[:, 0])


@dataclass(frozen=True)
class BetaBinomial(Effects):
    """p_i ~ Beta(mean x concentration, (1 - mean) x concentration), on the rate scale.

    It has no mu and tau, and no study at the median effect: typical rate, mu and tau are null.

    Parameters
    ----------
    a, b : float
        mean ~ Beta(a, b).
    concentration : Prior
        A prior of a positive number. The default has median 7.4, which at a rate of one half
        scatters rates as tau = 0.7 does.
    """

    family = "beta-binomial"
    reach = np.inf
    a: float = 1.0
    b: float = 1.0
    concentration: Prior = field(default_factory=lambda: LogNormal(*CONCENTRATION))

    def __post_init__(self) -> None:
        _check(self, "a", 0.01, 1e6)
        _check(self, "b", 0.01, 1e6)
        kind = self.concentration
        if not isinstance(kind, Prior) or isinstance(kind, (Normal, Fixed)):
            raise DfspError(
                f"BetaBinomial: concentration = {kind!r}; give a prior of a positive number, such "
                "as LogNormal(location, scale)"
            )

    def _shapes(self, mu: Array, tau: Array) -> tuple[Array, Array]:
        concentration = tau**-2.0
        return sigmoid(mu) * concentration, sigmoid(-mu) * concentration

    def log_likelihood(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int = 2
    ) -> Array:
        a, b = self._shapes(mu, tau)
        events, total = events[:, None], total[:, None]
        # Rising factorials, which keep their digits where the concentration is huge
        return np.asarray(
            log_choose(events, total)
            + _log_rising(a, events)
            + _log_rising(b, total - events)
            - _log_rising(a + b, total)
        )

    def log_density(self, theta: Array, mu: Array, tau: Array) -> Array:
        a, b = self._shapes(mu, tau)
        return np.asarray(a * theta - (a + b) * softplus(theta) - betaln(a, b))

    def cdf(self, theta: Array, mu: Array, tau: Array) -> Array:
        # From the nearer end, so that a rate that rounds to 1 keeps what lies beyond it
        a, b = self._shapes(mu, tau)
        upper = theta > 0
        tail = betainc(np.where(upper, b, a), np.where(upper, a, b), sigmoid(-np.abs(theta)))
        return np.where(upper, 1 - tail, tail)

    def draw(self, mu: Array, tau: Array, rng: np.random.Generator) -> Array:
        return self.draw_given(0, 0, mu, tau, rng)

    def draw_given(
        self, events: float, total: float, mu: Array, tau: Array, rng: np.random.Generator
    ) -> Array:
        a, b = self._shapes(mu, tau)
        # Log of gamma draws: a beta draw itself may round to 0 or 1.
        return _log_gamma(a + events, rng) - _log_gamma(b + total - events, rng)

    def as_dict(self) -> dict[str, Any]:
        return {"a": self.a, "b": self.b, "concentration": self.concentration.as_dict()}

    def __str__(self) -> str:
        return (
            f"beta-binomial effects (mean ~ Beta({self.a:g}, {self.b:g}), concentration ~ "
            f"{self.concentration})"
        )


FAMILIES: dict[str, type[Effects]] = {
    kind.family: kind for kind in (NormalEffects, StudentT, BetaBinomial, Exnex)
}
assert set(FAMILIES) == set(get_args(Family))


@dataclass(frozen=True)
class LogitBeta:
    """The logit of a Beta(a, b): what `Normal` is for mu, with its mean and standard deviation."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """Mean on the logit scale."""
        return float(digamma(self.a) - digamma(self.b))

    @property
    def sd(self) -> float:
        """Standard deviation on the logit scale."""
        return float(np.sqrt(polygamma(1, self.a) + polygamma(1, self.b)))

    def logpdf(self, x: Array) -> Array:
        """Log density on the logit scale."""
        return np.asarray(self.a * x - (self.a + self.b) * softplus(x) - betaln(self.a, self.b))

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws (logit scale)."""
        p = betaincinv(self.a, self.b, rng.uniform(size=size))
        return np.asarray(np.log(p) - np.log1p(-p))


@dataclass(frozen=True)
class Spread:
    """The prior of 1/sqrt(concentration) that a prior of the concentration is."""

    concentration: Prior
    tail_power: ClassVar[float] = 0.0

    @property
    def upper(self) -> float:
        """Where the support ends."""
        lower = self.concentration.lower
        return float(lower**-0.5) if lower > 0 else np.inf

    def logpdf(self, x: npt.ArrayLike) -> Array:
        """Log density."""
        x = np.maximum(np.asarray(x, dtype=np.float64), 1e-150)
        return np.asarray(self.concentration.logpdf(x**-2.0) + np.log(2) - 3 * np.log(x))

    def ppf(self, q: npt.ArrayLike) -> Array:
        """Quantiles."""
        return np.asarray(self.concentration.ppf(1 - np.asarray(q, dtype=np.float64)) ** -0.5)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws."""
        return np.asarray(self.concentration.sample(size, rng) ** -0.5)


def concentration_prior(location: float | None, scale: float | None) -> LogNormal | None:
    """Return the log-normal prior of a concentration; None if nothing is given."""
    if location is None and scale is None:
        return None
    given = zip((location, scale), CONCENTRATION, strict=True)
    return LogNormal(*(default if value is None else value for value, default in given))


def effects_of(family: object, **parameters: float | Prior | None) -> Effects:
    """Return the effects that a name and parameters describe; None takes the family's default.

    Raises
    ------
    DfspError
        Unknown family, a parameter that the family does not have, or a value out of range.
    """
    if not isinstance(family, str) or family not in FAMILIES:
        raise DfspError(f"effects {family!r} are not known; use one of {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    given = {name: value for name, value in parameters.items() if value is not None}
    known = [each.name for each in fields(kind)]
    extra = [name for name in given if name not in known]
    if extra:
        has = f"they take {', '.join(known)}" if known else "they take no parameter"
        raise DfspError(f"{family} effects have no {' or '.join(extra)}; {has}")
    return kind(**given)


def _mixture(events: Array, total: Array, parts: Components, points: int, level: int) -> Array:
    """Return the log likelihood of a mixture of normals, with means and sds (point,) or (1,)."""
    sizes = [len(means) for _, means, _ in parts]
    means, sds = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    flat = log_likelihood(events, total, means, sds, level)
    pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    value = np.full((len(events), points), -np.inf)
    for (weight, _, _), piece in zip(parts, pieces, strict=True):
        value = np.logaddexp(value, weight + piece)
    return value


def _check(effects: Effects, name: str, low: float, high: float) -> None:
    value = getattr(effects, name)
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, bool) or not low <= value <= high:
        raise DfspError(
            f"{type(effects).__name__}: {name} = {value!r}; give a number from {low:g} to {high:g}"
        )
    object.__setattr__(effects, name, float(value))


def _log_rising(a: Array, n: Array) -> Array:
    """Return log of a (a + 1) ... (a + n - 1); for large a by Stirling's series."""
    far = a > 1e4
    with np.errstate(invalid="ignore"):
        near = gammaln(a + n) - gammaln(a)
    x = np.asarray(np.where(far, a, 1e4))
    y = x + n
    series = (x - 0.5) * np.log1p(n / x) + n * np.log(y) - n + (1 / y - 1 / x) / 12
    return np.asarray(np.where(far, series, near))


def _log_gamma(shape: Array, rng: np.random.Generator) -> Array:
    # Gamma(s) is Gamma(s + 1) U^(1/s): small shapes would underflow.
    return np.asarray(np.log(rng.gamma(shape + 1)) + np.log(rng.uniform(size=shape.shape)) / shape)


def _draw_normal(
    events: float, total: float, mu: Array, tau: Array, rng: np.random.Generator
) -> Array:
    """Draw a study's effect given mu and tau, by inverting its distribution on a grid."""
    steps = np.linspace(0, 1, 241)
    mode, scale = modes(np.full(1, events), np.full(1, total), mu, tau)
    left = np.minimum(8 * tau, 8 * scale + 20 / max(events, 0.1))
    right = np.minimum(8 * tau, 8 * scale + 20 / max(total - events, 0.1))
    x = (mode - left)[:, None] + (left + right)[:, None] * steps
    height = events * x - total * softplus(x) - 0.5 * ((x - mu[:, None]) / tau[:, None]) ** 2
    density = np.exp(height - height.max(-1, keepdims=True))
    cdf = np.cumsum((density[:, 1:] + density[:, :-1]) / 2, axis=-1)
    cdf = np.pad(cdf, ((0, 0), (1, 0)))
    level = rng.uniform(size=len(mu)) * cdf[:, -1]
    after = np.clip((cdf < level[:, None]).sum(-1), 1, len(steps) - 1)
    row = np.arange(len(mu))
    low, high = cdf[row, after - 1], cdf[row, after]
    share = (level - low) / np.where(high > low, high - low, 1)
    return np.asarray(x[row, after - 1] + share * (x[row, after] - x[row, after - 1]))
