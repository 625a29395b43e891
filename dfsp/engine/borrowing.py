"""Groups of studies whose means borrow from each other.

    mu_g ~ p N(M, T^2) + (1 - p) N(m, s^2)

The second part is the prior that a group has alone. Of the counts of a group, M and T hear no more
than its marginal likelihood as a function of its mean,

    Z_g(mu) = integral of prior(tau) product over its studies of L(mu, tau) dtau,

so that a group is to (M, T) what a study with an effect is to (mu, tau) under EXNEX effects
(Neuenschwander et al. 2016, doi:10.1002/pst.1730), and the grid that serves these serves those.
What the other groups say of mu_g is the distribution of a new group's mean, mixed with N(m, s^2):
the engine that fits one group fits each, with `MeanGiven` in the place of the prior.

**Z_g** is tabulated at points that are equidistant in arcsinh((mu - centre) / 2 sd), as columns of
a grid are. With a normal density it is integrated by the trapezoidal rule at these points, or
where T is not wide enough for them, at equidistant normal scores, between which points log Z_g is
a cubic spline and beyond which it is a straight line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dfsp.engine.grid import Data, Surface, place, place_columns, shares
from dfsp.engine.posterior import ASTRAY, Population, Posterior
from dfsp.model.effects import Exnex, NormalEffects
from dfsp.model.likelihood import LEVELS, LOG_ROOT_2PI, log_sum
from dfsp.model.model import Model
from dfsp.model.priors import Normal

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

Array = npt.NDArray[np.float64]

# With twice as many points of each, rates of three groups, one of them without an event and one
# with nothing else, move by less than 1e-6.
POINTS = 241  # of log Z
PRIOR_POINTS = 801  # of the prior that the others are
REACH = 9.0  # standard deviations that they cover: 1e-19 of a normal lies beyond
BORROWED_SCORES = np.linspace(
    -7, 7, 29
)  # normal scores of a narrow normal; the rule's error is 1e-34
WIDE = 1.5  # spacings of the points in the sd of a normal from which on they resolve it: 1e-19


@dataclass(frozen=True)
class _Curve:
    """A log density of mu: a cubic spline in t, mu = centre + 2 sd sinh(t), and straight beyond."""

    low: float
    high: float
    centre: float
    sd: float
    spline: "CubicSpline"

    @classmethod
    def points(cls, low: float, high: float, centre: float, sd: float, n: int) -> tuple[Array, ...]:
        """Return `n` points of mu and their log weights for the trapezoidal rule."""
        first, last, middle, unit = (np.full(1, each) for each in (low, high, centre, sd))
        mu, width = place_columns(shares(n), first, last, middle, unit, True)
        return mu[0], np.log(width[0] / (n - 1))

    @classmethod
    def through(cls, mu: Array, values: Array, centre: float, sd: float) -> "_Curve":
        """Interpolate."""
        from scipy.interpolate import CubicSpline  # takes a third of the time of importing dfsp

        spline = CubicSpline(np.arcsinh((mu - centre) / (2 * sd)), values)
        return cls(float(mu[0]), float(mu[-1]), centre, sd, spline)

    def __call__(self, mu: Array) -> Array:
        inside = np.clip(mu, self.low, self.high)
        t = np.arcsinh((inside - self.centre) / (2 * self.sd))
        slope = self.spline(t, 1) / (2 * self.sd * np.cosh(t))
        return np.asarray(self.spline(t) + slope * (mu - inside))


@dataclass(frozen=True)
class MeanGiven:
    """A prior of mu that other groups have informed; see `dfsp.model.priors.LocationPrior`.

    Attributes
    ----------
    alone : Normal
        The prior without them.
    curve : callable
        The log density.
    mean, sd : float
        Logit scale.
    """

    alone: Normal
    curve: _Curve = field(repr=False)
    mean: float
    sd: float

    def logpdf(self, x: Array) -> Array:
        """Log density."""
        return self.curve(np.asarray(x))

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Independent draws from the prior alone."""
        return self.alone.sample(size, rng)


@dataclass(frozen=True, eq=False)
class ToldMean(Model):
    """A model whose prior of mu has been told of other groups."""

    told = True
    given: MeanGiven = field(kw_only=True)

    @property
    def location_prior(self) -> MeanGiven:
        """Prior of mu given the counts of the others."""
        return self.given

    def log_location(self, mu: Array, tau: Array) -> Array:
        """Return the log density of that prior."""
        return self.given.logpdf(mu)


class _Told(Surface):
    """A group under that prior, which has the modes of both parts."""

    @property
    def several_modes(self) -> bool:
        return True


@dataclass(frozen=True)
class _Group:
    """What the counts of a group say of its mean: log Z, and its integral under N(m, s^2)."""

    log_z: _Curve
    mu: Array
    log_mass: Array
    alone: float

    @classmethod
    def of(cls, posterior: Posterior) -> "_Group":
        """Tabulate log Z from the posterior of a group that is fitted alone."""
        grid, model = posterior.grid, posterior.model
        centre, sd = float(grid.centre[posterior.row_weight.argmax()]), float(grid.sd.min())
        ends = float(grid.low.min()), float(grid.high.max())
        mu, log_width = _Curve.points(*ends, centre, sd, POINTS)
        tau = np.repeat(grid.rows.tau, len(mu))
        surface = Surface(posterior.data, model)
        flat = surface.log_likelihood(np.tile(mu, len(grid.rows)), tau, len(LEVELS) - 1)
        log_l = (posterior.data.times @ flat).reshape(len(grid.rows), -1)
        log_z = log_sum((log_l + grid.rows.log_mass(model.spread_prior)[:, None]).T)
        curve = _Curve.through(mu, log_z, centre, sd)
        return cls(curve, mu, log_z + log_width, posterior.log_marginal_likelihood)

    def under(self, mean: Array, sd: Array) -> Array:
        """Return the log of the integral of Z and a normal density, for each of these."""
        curve = self.log_z
        spacing = np.diff(self.mu)
        near = np.clip(np.searchsorted(self.mu, mean), 1, len(spacing)) - 1
        narrow = sd < WIDE * spacing[near]
        found = np.empty(len(mean))
        z = (self.mu - mean[~narrow, None]) / sd[~narrow, None]
        of_normal = -0.5 * z**2 - np.log(sd[~narrow, None]) - LOG_ROOT_2PI
        found[~narrow] = log_sum(of_normal + self.log_mass)
        log_weight = (
            -0.5 * BORROWED_SCORES**2
            - LOG_ROOT_2PI
            + np.log(BORROWED_SCORES[1] - BORROWED_SCORES[0])
        )
        at = mean[narrow, None] + sd[narrow, None] * BORROWED_SCORES
        found[narrow] = log_sum(curve(at) + log_weight)
        return found


class _Groups(Surface):
    """Groups in the place of studies; their counts, added up, only say where to look."""

    def __init__(self, groups: Sequence[_Group], data: Data, model: Model, share: float) -> None:
        super().__init__(data, model)
        self.groups, self.share = groups, share

    def log_likelihood(self, mu: Array, tau: Array, level: int) -> Array:
        """Return the log likelihood of M and T by group, shape (group, point)."""
        del level
        with np.errstate(divide="ignore"):
            together, alone = np.log(self.share), np.log1p(-self.share)
        return np.stack([
            np.logaddexp(together + each.under(mu, tau), alone + each.alone) for each in self.groups
        ])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Between:
    """What is known of the groups together.

    Attributes
    ----------
    share : float
        p, the prior probability that a group's mean is exchangeable with the others'.
    population : Population
        `mu` is M, `tau` is T, `typical_rate` that of the median of groups that are exchangeable,
        and `new_study_rate` the typical rate of a new one of them.
    exchangeable : array, shape (group,)
        Posterior probability of each.
    """

    share: float
    population: Population
    exchangeable: Array


def borrow(
    alone: Sequence[Posterior], share: float, model: Model
) -> tuple[list[Posterior], Between]:
    """Compute the posterior of each of several groups whose means borrow from each other.

    Parameters
    ----------
    alone : sequence of Posterior
        Of each group by itself, none of which shares patients with another; the prior of its mu is
        N(m, s^2).
    share : float
        p, 0 to 1; 0 gives what is known of each alone.
    model : Model
        Its priors of mu and tau are those of M and T.

    Returns
    -------
    posteriors : list of Posterior
        One a group, whose log marginal likelihood is given the counts of the others.
    between : Between
        The log marginal likelihood of its population is that of all counts.

    Examples
    --------
    >>> from dfsp.engine.posterior import solve
    >>> alone = [solve([7.0, 4], [15.0, 22], Model()), solve([9.0], [18.0], Model())]
    >>> posteriors, between = borrow(alone, 0.5, Model())
    >>> [float(each.typical_rate.quantile(0.5)[0].round(3)) for each in posteriors]
    [0.325, 0.476]
    """
    groups = [_Group.of(each) for each in alone]
    data = _added_up(alone)
    population, log_l = _population(groups, data, model, share)
    nodes = population.nodes
    by_node = nodes.spread(log_l)
    apart = np.exp([[group.alone] for group in groups] - by_node) @ nodes.weight
    posteriors = []
    for own, each in enumerate(alone):
        without = nodes.log_weight - by_node[own]
        told = population, np.exp(without - log_sum(without))
        if len(alone) > 1 and told[1] @ _is_edge(population) > ASTRAY:
            rest = np.delete(np.arange(len(alone)), own)
            some = Data(data.events[rest], data.total[rest], np.arange(len(rest)), data.times[rest])
            others, _ = _population([groups[i] for i in rest], some, model, share)
            told = others, others.nodes.weight
        posteriors.append(_told(each, *told, share))
    return posteriors, Between(share, population, 1 - (1 - share) * apart)


def _added_up(alone: Sequence[Posterior]) -> Data:
    """Return the counts of each group as if of one study; equal ones are not the same group."""
    events = np.array([each.events.sum() for each in alone])
    total = np.array([each.total.sum() for each in alone])
    return Data(events, total, np.arange(len(alone)), np.ones(len(alone)))


def _population(
    groups: Sequence[_Group], data: Data, model: Model, share: float
) -> tuple[Population, Array]:
    """Return what is known of M and T, and the log likelihood of each group at its grid."""
    mixture = replace(model, effects=Exnex(share))
    exist = mixture.effects.tau_moments(data.events, data.total, model.tau)
    grid = place(_Groups(groups, data, mixture, share), order=sum(exist))
    return Population(mixture, grid, exist, exist), grid.log_l


def _is_edge(population: Population) -> Array:
    """Return 1 for nodes at the ends of M or of T, 0 for others."""
    nodes, rows = population.nodes, population.grid.rows
    edge = nodes.is_end.copy()
    if not rows.known and rows.tau[-1] < 0.9 * population.model.spread_prior.upper:
        edge |= nodes.tau == rows.tau[-1]
    return edge.astype(float)


def _told(alone: Posterior, others: Population, weight: Array, share: float) -> Posterior:
    """Return the posterior of a group under the prior that others are, by `weight` of nodes."""
    own, nodes = alone.model.mu, others.nodes
    mean = float(weight @ nodes.mu)
    sd_of_mean = float(np.sqrt(weight @ (nodes.mu - mean) ** 2))
    sd = float(np.sqrt(weight @ ((nodes.mu - mean) ** 2 + nodes.tau**2)))
    low = min(own.mean - REACH * own.sd, mean - REACH * sd)
    high = max(own.mean + REACH * own.sd, mean + REACH * sd)
    unit = min(own.sd, sd_of_mean)
    x, _ = _Curve.points(low, high, mean, unit, PRIOR_POINTS)
    every = np.arange(len(nodes.mu))
    density = nodes.mixed(x, NormalEffects(), every, weight[None])[0]
    # Far out, where the mixture of finitely many nodes has no mass left
    log_together = np.log(np.maximum(density, 1e-300))
    with np.errstate(divide="ignore"):
        parts = np.log(share) + log_together, np.log1p(-share) + own.logpdf(x)
    curve = _Curve.through(x, np.logaddexp(*parts), mean, unit)
    middle = share * mean + (1 - share) * own.mean
    square = share * (sd**2 + mean**2) + (1 - share) * (own.sd**2 + own.mean**2)
    given = MeanGiven(own, curve, middle, float(np.sqrt(square - middle**2)))
    told = ToldMean(own, alone.model.tau, alone.model.effects, given=given)
    grid = place(_Told(alone.data, told), order=sum(alone.tau_moments))
    return replace(alone, model=told, grid=grid)
