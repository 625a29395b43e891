"""The binomial likelihood of a study with its own effect integrated out.

For events r of n patients, with theta ~ N(mu, tau^2) on the logit scale,

    L(mu, tau) = integral of Binomial(r | n, logit^-1(theta)) N(theta | mu, tau^2) d theta

is computed by the trapezoidal rule in t after theta = centre + scale sinh(b t) / b. The rule
converges geometrically for such analytic bell-shaped integrands (Trefethen & Weideman 2014,
doi:10.1137/130932132); the centre is the integrand's mode and the scale its curvature there.

For r = 0 the integrand at large tau is no bell but a wide plateau with one steep edge.
Integration by parts turns it back into one:

    L(mu, tau) = integral of n logit^-1(theta) (1 - logit^-1(theta))^n Phi((theta - mu) / tau)

and r = n is its mirror image.

Where one factor is narrow beside the other it is the weight of a Gauss rule, and the other factor
is all but a polynomial: about mu where tau is narrow, and over the counts where every likelihood
is, which is then near a normal.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import digamma, erfcx, gammaln, log_ndtr, zeta

Array = npt.NDArray[np.float64]

LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)
ROOT_2_BY_PI = (2 / np.pi) ** 0.5
FARTHEST_LOGIT = 45.0  # a logit rate beyond this is 0 or 1 to double precision
BY_PARTS_ABOVE = 1.0  # below this tau the plain integrand of r = 0 is the narrower bell
# Edges of the ranges of tau that have a table each, of few, more, and many points
TABLES = ((0.01, np.inf), (0.03, 0.3, np.inf), (0.03, 0.3, 1.0, np.inf))
FEW = (20, 1000)  # the numbers up to which points are few, and more
SPACINGS = (1.5, 1.0, 0.9, 0.75)
"""Of a table for all studies, by level, in units of its narrowest integrand. The first, which only
places a grid, leaves an error of 2e-4 of a normal integrand, exp(-2 pi^2 / 1.5^2)."""
WIDENED = 0.3  # least tau with which a grid is placed, in units of the narrowest likelihood
# Gauss's rules of the two normals: errors of log L are below 3e-9 over 1 to 100,000 patients, mu
# from -6 to 4 and tau from a thousandth of the narrowest likelihood to 100.
NARROW_TAU = 0.25  # tau below which one is used, in units of the narrowest likelihood
STEEP_LIKELIHOOD = 2.0  # change of a log likelihood in one tau, up to which
ABOUT_MU = hermegauss(13)
MANY_EVENTS = 200  # events and non-events of each study from which on the other is,
WIDE_TAU = 3.0  # tau, in units of the widest likelihood,
STEEP_NORMAL = 2.0  # and change of the log normal density in one width of a likelihood, up to which
OVER_COUNTS = hermegauss(13)
CHEAP = 100  # points of such a table for each study above which it does not pay
FLOOR = -600.0  # logarithms below this count as this, and
UNDERFLOW = 1e-240  # sums below this are computed study by study
MOST_STEPS = 1000  # of at most 2 to a mode, which can be a thousand away
# Of Newton's steps d, after which they are log(1 + |d|) long, which cannot go to and fro for ever:
# Sun & Tran-Dinh 2019, doi:10.1007/s10107-018-1282-4
FREE_STEPS = 30
INTEGRANDS_AT_ONCE = 100_000  # integrand values held at once: 0.8 MB, however many studies


@dataclass(frozen=True)
class Rule:
    """Nodes and weights in units of the integrand's curvature scale, about its mode."""

    nodes: Array
    log_weights: Array

    @classmethod
    def sinh(cls, number: int, reach: float, stretch: float) -> "Rule":
        """Return `number` equidistant points of t in [-reach, reach], stretched by sinh."""
        t = np.linspace(-reach, reach, number)
        weights = (t[1] - t[0]) * np.cosh(stretch * t)
        return cls(np.sinh(stretch * t) / stretch, np.log(weights))


@dataclass(frozen=True)
class Common:
    """Points theta = centre + core sinh(t) that all studies and all mu share, t equidistant.

    Attributes
    ----------
    centre, core : float
        Logit scale.
    reach : float
        Largest |t|.
    number : int
    """

    centre: float
    core: float
    reach: float
    number: int

    @classmethod
    def of(cls, own: Array, mu: Array, tau: Array, width: float, spacing: float) -> "Common":
        """Choose points for integrands N(theta | mu, tau^2) L(theta) at each `mu` and `tau`.

        Parameters
        ----------
        own : array
            Where the studies' likelihoods are (logit).
        mu, tau : array, shape (point,)
            Logit scale.
        width : float
            Of the narrowest integrand, logit scale.
        spacing : float
            In units of `width`.
        """
        centre = (own.max() + own.min()) / 2
        far = np.abs(mu - centre)
        # Spacings grow beyond the core, where only the normal density needs them small.
        needed = (far + 3 * tau) / np.sqrt((1.1 * tau / width) ** 2 - 1)
        core = max(2.0, own.max() - centre + 1, needed.max())
        reach = np.arcsinh((np.max(far + 6.5 * tau) + core) / core)
        return cls(centre, core, reach, int(2 * reach * core / (width * spacing)) + 2)

    def points(self) -> tuple[Array, Array]:
        """Return the points and their weights."""
        spacing = 2 * self.reach / (self.number - 1)
        grows = np.exp(spacing * np.arange(self.number) - self.reach)
        falls = 1 / grows
        half = self.core / 2  # np.sinh and np.cosh take several times as long
        return self.centre + half * (grows - falls), half * spacing * (grows + falls)


# For tau up to 0.4, up to 1, and beyond; each level is finer than the one before.
# Largest errors of log L over 0/1 to 30,000/100,000, mu from -6 to 4 and tau from 0.01 to 100:
# 3e-6 at level 1, 3e-8 at level 2, below 1e-9 at level 3; level 0 serves to place a grid.
# On a table for all studies, 1/1 and 2/2 at tau from 1 to 100 are off by 5e-7 at level 2, and by
# 5e-8 at level 3.
EDGES = (0.0, 0.4, 1.0, np.inf)
COARSE, ENOUGH, FINEST = 0, 2, 3
LEVELS = (
    (Rule.sinh(11, 4.5, 0.3),),
    (Rule.sinh(15, 5.5, 0.2), Rule.sinh(21, 5.0, 0.4), Rule.sinh(25, 5.0, 0.5)),
    (Rule.sinh(21, 5.5, 0.3), Rule.sinh(31, 5.2, 0.5), Rule.sinh(41, 5.0, 0.6)),
    (Rule.sinh(31, 6.0, 0.4), Rule.sinh(47, 5.6, 0.55), Rule.sinh(75, 5.2, 0.65)),
)


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)) without overflow."""
    tail = np.abs(x)
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    np.log1p(tail, out=tail)
    tail += np.maximum(x, 0)
    return tail


def sigmoid(x: Array) -> Array:
    """Return the inverse logit; saves the call to `scipy.special.expit`, which is slower."""
    value = np.exp(-np.maximum(x, -700))
    value += 1
    return 1 / value


def log_binomial(events: Array, total: Array, theta: Array) -> Array:
    """Return the log probability of the counts at logit rates `theta`, with its coefficient."""
    return log_choose(events, total) + events * theta - total * softplus(theta)


def log_choose(events: Array, total: Array) -> Array:
    """Return the logarithm of the binomial coefficient."""
    return np.asarray(
        gammaln(total + 1) - gammaln(events + 1) - gammaln(total - events + 1), dtype=np.float64
    )


def modes(events: Array, total: Array, mu: Array, tau: Array) -> tuple[Array, Array]:
    """Return mode and curvature scale of a study's effect given mu and tau (logit, broadcast)."""
    precision = tau**-2.0
    rate = (events + 0.5) / (total + 1)
    information = total * rate * (1 - rate)
    theta = information * np.log(rate / (1 - rate)) + precision * mu
    theta /= information + precision
    for number in range(MOST_STEPS):
        p = sigmoid(theta)
        expected = total * p
        curvature = expected * (1 - p)
        curvature += precision
        step = (events - expected - (theta - mu) * precision) / curvature
        if number > FREE_STEPS:
            step = np.copysign(np.log1p(np.abs(step)), step)
        # np.clip takes several times as long
        np.minimum(step, 2, out=step)
        np.maximum(step, -2, out=step)
        theta += step
        # The rule needs a centre near the mode only; the last step brings it much nearer still.
        if (step * step * curvature).max(initial=0) <= 0.25:
            break
    p = sigmoid(theta)
    return theta, 1 / np.sqrt(total * p * (1 - p) + precision)


def log_likelihood(
    events: Array, total: Array, mu: Array, tau: Array, level: int = ENOUGH
) -> Array:
    """Return log L of each study at each point.

    Parameters
    ----------
    events, total : array, shape (study,)
    mu, tau : array, shape (point,)
        Logit scale; tau above 0.
    level : int
        Index of `LEVELS`.

    Returns
    -------
    array, shape (study, point)
    """
    values = np.empty((len(events), len(mu)))
    if not len(events):
        return values
    rest = np.ones(len(mu), dtype=bool)
    tables = TABLES[np.searchsorted(FEW, len(mu))]
    if level == COARSE:
        # To place a grid, what is far narrower than the likelihoods may be a part of their width.
        tau = np.maximum(tau, WIDENED * narrowest(total))
        tables = (0.0, np.inf)
    else:
        _about_mu(events, total, mu, tau, values, rest)
    _over_counts(events, total, mu, tau, values, rest)
    for lower, upper in pairwise(tables):
        points = np.flatnonzero(rest & (tau > lower) & (tau <= upper))
        if len(points):
            _on_one_table(events, total, mu, tau, level, points, values, rest)
    if rest.any():
        points = np.flatnonzero(rest)
        values[:, points] = _study_by_study(events, total, mu[points], tau[points], level)
    values += log_choose(events, total)[:, None]
    return values


def normal_exponents(theta: Array, mu: Array, width: Array, middle: float) -> Array:
    """Return -((theta - mu) / width)^2 / 2 at every pair of `mu` and `theta`: (mu, theta).

    It is a product of matrices, about a point in the middle, which keeps its digits: normals that
    are narrow beside their distance from it are none whose shape matters.
    """
    at, mu, half_precision = theta - middle, mu - middle, -0.5 * width**-2
    # Of a list of arrays np.stack would take twice as long
    terms = np.array([half_precision, -2 * mu * half_precision, mu * mu * half_precision])
    return np.asarray(terms.T @ np.array([at * at, at, np.ones(len(at))]))


def narrowest(total: Array) -> float:
    """Return the least width (logit) that a likelihood of so many patients can have."""
    return float(2 * total.max(initial=1) ** -0.5)


def _about_mu(
    events: Array, total: Array, mu: Array, tau: Array, values: Array, rest: npt.NDArray[np.bool_]
) -> None:
    """Fill in `values` where tau is narrow, as means at mu + tau z; strike off `rest`."""
    narrow = np.flatnonzero(tau < NARROW_TAU * narrowest(total))
    slope = np.abs(events[:, None] - total[:, None] * sigmoid(mu[narrow])).max(0)
    narrow = narrow[slope * tau[narrow] < STEEP_LIKELIHOOD]
    z, weight = ABOUT_MU
    step = max(1, INTEGRANDS_AT_ONCE // (len(z) * len(events)))
    for start in range(0, len(narrow), step):
        some = narrow[start : start + step]
        theta = mu[some, None] + tau[some, None] * z
        height = events[:, None, None] * theta - total[:, None, None] * softplus(theta)
        middle = height[..., len(z) // 2, None]  # at mu itself, to which the others are near
        height = np.exp(height - middle)
        values[:, some] = np.log(height @ weight) + (middle[..., 0] - LOG_ROOT_2PI)
    rest[narrow] = False


def _over_counts(
    events: Array, total: Array, mu: Array, tau: Array, values: Array, rest: npt.NDArray[np.bool_]
) -> None:
    """Fill in `values` where all likelihoods are narrow, near normals; strike off `rest`."""
    if np.minimum(events, total - events).min() < MANY_EVENTS:
        return
    own = np.log(events / (total - events))[:, None]
    sd = (events * (1 - events / total))[:, None] ** -0.5
    far = np.flatnonzero(rest & (tau > WIDE_TAU * sd.max()))
    tilt = (own - mu[far]) * sd / tau[far] ** 2
    far = far[np.abs(tilt).max(0) < STEEP_NORMAL]
    z, weight = OVER_COUNTS
    theta = own + sd * z
    height = events[:, None] * theta - total[:, None] * softplus(theta)
    top = height.max(-1, keepdims=True)
    mass = (np.exp(height - top + z * z / 2) * weight).T
    step = max(1, INTEGRANDS_AT_ONCE // theta.size)
    for start in range(0, len(far), step):
        some = far[start : start + step]
        # The normal density at theta in units of that at the likelihood's own maximum
        away, width = own - mu[some], sd / tau[some]
        terms = np.stack([width**2 / 2, width * away / tau[some]]).reshape(2, -1)
        ratio = np.exp(-np.stack([z * z, z], axis=1) @ terms).reshape(len(z), *away.shape)
        sums = (mass[..., None] * ratio).sum(0)
        log_height = top - 0.5 * (away / tau[some]) ** 2 - LOG_ROOT_2PI
        values[:, some] = np.log(sums * width) + log_height
    rest[far] = False


def _study_by_study(events: Array, total: Array, mu: Array, tau: Array, level: int) -> Array:
    """Return log L, without its coefficient, by a rule about each integrand's own mode."""
    if level == COARSE:
        value = _plain(events[:, None], total[:, None], mu, tau, LEVELS[COARSE][0])
        _raise_plateaus(value, events, total, mu, tau)
        return value
    values = np.empty((len(events), len(mu)))
    # All-event studies are 0-event studies of the mirrored rate, and are integrated as such.
    mirrored = (events == total) & (total > 0)
    sign = np.where(mirrored, -1.0, 1.0)
    counted = np.where(mirrored, 0.0, events)
    edge = (counted == 0) & (total > 0)
    for (lower, upper), rule in zip(pairwise(EDGES), LEVELS[level], strict=False):
        points = np.flatnonzero((tau > lower) & (tau <= upper))
        by_parts = edge if lower >= BY_PARTS_ABOVE else np.zeros_like(edge)
        for method, chosen in ((_plain, ~by_parts), (_by_parts, by_parts)):
            studies = np.flatnonzero(chosen)
            if not len(points) or not len(studies):
                continue
            step = max(1, INTEGRANDS_AT_ONCE // (len(points) * len(rule.nodes)))
            for start in range(0, len(studies), step):
                block = studies[start : start + step]
                values[np.ix_(block, points)] = method(
                    counted[block, None],
                    total[block, None],
                    sign[block, None] * mu[points],
                    np.broadcast_to(tau[points], (len(block), len(points))),
                    rule,
                )
    return values


def _raise_plateaus(value: Array, events: Array, total: Array, mu: Array, tau: Array) -> None:
    """Raise what a rule about the mode gives for r = 0 and r = n to the area of the plateau.

    (1 - logit^-1(theta))^n is the probability that X > theta where X is the logit of a Beta(1, n)
    variable, of mean psi(1) - psi(n) and variance psi'(1) + psi'(n); so L(mu, tau) is the
    probability that X > N(mu, tau^2), here as if X were normal too.
    """
    edge = np.flatnonzero((total > 0) & ((events == 0) | (events == total)))
    far = np.flatnonzero(tau > BY_PARTS_ABOVE)
    if not len(edge) or not len(far):
        return
    n = total[edge, None]
    sign = np.where(events[edge, None] > 0, -1.0, 1.0)
    # psi'(n) is Hurwitz's zeta function of 2.
    sd = np.sqrt(tau[far] ** 2 + np.pi**2 / 6 + zeta(2.0, n))
    plateau = log_ndtr((digamma(1) - digamma(n) - sign * mu[far]) / sd)
    some = np.ix_(edge, far)
    value[some] = np.maximum(value[some], plateau)


def _on_one_table(
    events: Array,
    total: Array,
    mu: Array,
    tau: Array,
    level: int,
    points: npt.NDArray[np.intp],
    values: Array,
    rest: npt.NDArray[np.bool_],
) -> None:
    """Fill in `values` at `points` from one table of theta for all studies; strike off `rest`.

    The trapezoidal rule again, after theta = centre + core sinh(t): the normal density of each
    point is evaluated once, not once for each study. It is left undone where the table would be
    too long to pay, and where a study's counts are so far off that its sum underflows.
    """
    rate = (events + 0.5) / (total + 1)
    own = np.log(rate / (1 - rate))
    # The edge of the likelihood of no event in one patient is 1 wide.
    width = min(1.0, (total.max() / 4 + tau[points].min() ** -2.0) ** -0.5)
    common = Common.of(own, mu[points], tau[points], width, SPACINGS[level])
    if common.number > CHEAP * len(events):
        return
    theta, weight = common.points()
    height = events[:, None] * theta - total[:, None] * softplus(theta)
    top = height.max(-1, keepdims=True)
    height = np.exp(np.maximum(height - top, FLOOR)) * weight
    step = max(1, INTEGRANDS_AT_ONCE // common.number)
    for start in range(0, len(points), step):
        block = points[start : start + step]
        half = normal_exponents(theta, mu[block], tau[block], common.centre)
        np.maximum(half, FLOOR, out=half)
        sums = height @ np.exp(half, out=half).T
        seen = sums.min(0) > UNDERFLOW
        values[:, block[seen]] = (
            np.log(sums[:, seen]) + top - np.log(tau[block[seen]]) - LOG_ROOT_2PI
        )
        rest[block[seen]] = False


def _plain(events: Array, total: Array, mu: Array, tau: Array, rule: Rule) -> Array:
    centre, scale = modes(events, total, mu, tau)
    theta = centre[..., None] + scale[..., None] * rule.nodes
    height = softplus(theta)
    height *= -total[..., None]
    height += events[..., None] * theta
    theta -= mu[..., None]
    theta /= tau[..., None]
    theta *= theta
    theta *= 0.5
    height -= theta
    return np.asarray(_log_sum(height, rule) + np.log(scale / tau) - LOG_ROOT_2PI)


def _by_parts(events: Array, total: Array, mu: Array, tau: Array, rule: Rule) -> Array:
    del events  # all are 0
    # (n + 1) p = 1 + hazard / tau, where the hazard is at most 0.8 above max(-a, 0); where no p is
    # as large, all rates near the mode are 1
    most = (1 + 0.8 / tau + np.maximum(mu + np.log(total), 0) / tau**2) / (total + 1)
    theta = np.where(
        most < 0.9, -np.log(1 / np.minimum(most, 0.9) - 1), np.maximum(mu - total * tau**2, 2.0)
    )
    for _ in range(MOST_STEPS):
        p = sigmoid(theta)
        a = (theta - mu) / tau
        # phi / Phi, and its slope, from 1 to 0, which cancels where a is far below 0
        hazard = ROOT_2_BY_PI / erfcx(-a / np.sqrt(2))
        slope = np.clip(hazard * (hazard + a), 0, 1)
        curvature = (total + 1) * p * (1 - p) + slope / tau**2
        step = (1 - (total + 1) * p + hazard / tau) / curvature
        theta = theta + np.clip(step, -2, 2)
        if np.all(np.abs(step) <= 0.1 / np.sqrt(curvature)):
            break
    scale = 1 / np.sqrt(curvature)
    nodes = theta[..., None] + scale[..., None] * rule.nodes
    height = nodes - (total[..., None] + 1) * softplus(nodes)
    nodes -= mu[..., None]
    nodes /= tau[..., None]
    height += log_ndtr(nodes)
    return np.asarray(_log_sum(height, rule) + np.log(scale * total))


def log_sum(values: Array) -> Array:
    """Return the log of the sum of exponentials along the last axis; quicker than SciPy's."""
    top = values.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(-1)) + top[..., 0], dtype=np.float64)


def _log_sum(height: Array, rule: Rule) -> Array:
    height += rule.log_weights
    top = height.max(-1)
    height -= top[..., None]
    np.exp(height, out=height)
    return np.asarray(np.log(height.sum(-1)) + top, dtype=np.float64)
