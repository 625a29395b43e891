"""The binomial likelihood under Student-t effects: their normals where narrow, else the t itself.

theta = mu + tau t, where t is a mixture of normals of scales s_k and weights w_k. Integrals over
theta share points theta = centre + core sinh(x), x equidistant, for all studies and all mu. They
resolve a likelihood, but no kernel that is narrow beside it. So the kernel is taken apart,

    f(t) = sum over s_k tau < b of w_k N(t | 0, s_k^2) + the rest,

with b a part of the narrowest likelihood. The first sum is integrated over t = sqrt(df) sinh(x)
about mu, where no likelihood bends much within it. The rest is smooth on the scale of b; with
nothing narrow it is the t itself, which has poles at t = +-i sqrt(df).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, stdtr, xlogy

from dfsp.model.likelihood import (
    FARTHEST_LOGIT,
    FLOOR,
    INTEGRANDS_AT_ONCE,
    LOG_ROOT_2PI,
    log_choose,
    narrowest,
    softplus,
)

Array = npt.NDArray[np.float64]

# Spacings are of levels 0 to 3, the first of which serves to place a grid. Log likelihoods of six
# tables, from 0 of 5 to 3 of 100,000 and 900 of 1,000, under 1 and 2 degrees of freedom are within
# 2e-8 of those of half these spacings at level 2, for mu from -6 to 5 and tau from 0.005 to 20.
NARROW_NORMAL = 0.3  # b, in units of the narrowest likelihood
STEP_ABOUT_MU = (1.1, 0.9, 0.9, 0.7)  # spacing about mu, in units of the narrowest normal
STEP_OF_TABLE = (1.0, 0.85, 0.85, 0.65)  # of the table, in units of the narrowest integrand
STEP_TO_POLE = (0.45, 0.4, 0.4, 0.3)  # and of the distance of the poles from the real axis
WITHIN = 6.5  # scales of a normal beyond which it is negligible
OCTAVES = 2.0  # log2 of the range of tau that is done at once, where points are more than
FEW_MORE = 50
MOST_POINTS = 8_000  # of a table: larger studies are left to another way, which takes as long then
SEEN = 60.0
"""Below its maximum (log) a likelihood is resolved so far; what lies deeper may be summed wrongly,
and is no more than exp(-60) of the maximum."""
TOLD = 38.0
"""So far an integral of it is told: to a relative exp(38 - 60) = 3e-10."""
GREGORY = np.array([95 / 288, 317 / 240, 23 / 30, 793 / 720, 157 / 160])
"""Weights of the points at an end where an integrand does not vanish."""


@dataclass(frozen=True)
class StudentKernel:
    """The standard t and the normals whose mixture it is.

    Attributes
    ----------
    df : float
    log_weight, scale : array, shape (normal,)
        From narrow to wide.
    """

    df: float
    log_weight: Array
    scale: Array

    def density(self, square: Array) -> Array:
        """Return the density of t from the squares of t, which it overwrites."""
        norm = gammaln((self.df + 1) / 2) - gammaln(self.df / 2) - 0.5 * np.log(self.df * np.pi)
        square *= 1 / self.df
        square += 1
        np.log(square, out=square)
        square *= -(self.df + 1) / 2
        square += norm
        return np.exp(square, out=square)

    def log_likelihood(
        self, events: Array, total: Array, mu: Array, tau: Array, level: int
    ) -> Array:
        """Return log L, (study, point); -inf or NaN where it is not to be had so."""
        sums = np.full((len(events), len(mu)), np.nan)
        if not len(events):
            return sums
        # In units of the likelihoods' maxima
        p = events / total
        top = np.asarray(xlogy(events, p) + xlogy(total - events, 1 - p), dtype=np.float64)
        width = _narrowest(events, total)
        narrow = NARROW_NORMAL * width
        # From here on no normal is narrow.
        low, high = 0.0, narrow / float(self.scale[0])
        octaves = OCTAVES if len(mu) > FEW_MORE else np.inf
        while low < tau.max():
            points = np.flatnonzero((tau > low) & (tau <= high))
            if len(points):
                of = _Counts(events, total, top, mu[points], tau[points], narrow, level)
                sums[:, points] = self._over_table(of, width)
                if low == 0:
                    self._add_about_mu(sums, points, of)
            low, high = high, high * 2**octaves
        if width > narrowest(total):
            sums[sums < np.exp(-TOLD)] = np.nan
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(sums) + (top + log_choose(events, total))[:, None])

    def _over_table(self, of: "_Counts", width: float) -> Array:
        """Return L of the kernel without its narrow normals."""
        tau, split = of.tau, of.tau.min() * self.scale[0] < of.narrow
        own = (of.events + 0.5) / (of.total + 1)
        own = np.log(own / (1 - own))
        kernel = np.maximum(of.narrow, self.scale[0] * tau) * STEP_OF_TABLE[of.level]
        if not split:
            kernel = np.minimum(kernel, STEP_TO_POLE[of.level] * np.sqrt(self.df) * tau)
        spacing = (kernel.min() ** -2 + (STEP_OF_TABLE[of.level] * width) ** -2) ** -0.5
        centre = (own.max() + own.min()) / 2
        # Beyond the core spacings grow, but not to more than a kernel that is there needs.
        far = np.minimum(np.abs(of.mu - centre) + 3 * tau, FARTHEST_LOGIT)
        core = far / np.sqrt(np.maximum((1.1 * kernel / spacing) ** 2 - 1, 0.2))
        core = max(2.0, own.max() - centre + 1, float(core.max()))
        reach = np.arcsinh((FARTHEST_LOGIT + abs(centre)) / core)
        number = int(2 * reach * core / spacing) + 2
        if number > MOST_POINTS:
            return np.full((len(own), len(tau)), np.nan)
        x, step = np.linspace(-reach, reach, number), 2 * reach / (number - 1)
        theta, weight = centre + core * np.sinh(x), core * step * np.cosh(x)
        weight[: len(GREGORY)] *= GREGORY
        weight[-len(GREGORY) :] *= GREGORY[::-1]
        height = of.likelihood(theta) * weight
        value = np.empty((len(own), len(tau)))
        block = max(1, INTEGRANDS_AT_ONCE // number)
        for start in range(0, len(tau), block):
            some = slice(start, start + block)
            z = (theta[:, None] - of.mu[some]) * (1 / tau[some])
            z *= z
            rest = self._rest(z, tau[some], of.narrow) if split else self.density(z)
            rest *= 1 / tau[some]
            value[:, some] = height @ rest
        # A study without events has a likelihood of 1 below the table, one without others above.
        for all_there, away in (
            (of.events == 0, of.mu - theta[0]),
            (of.events == of.total, theta[-1] - of.mu),
        ):
            if all_there.any():
                value[all_there] += stdtr(self.df, -away / tau)
        return value

    def _rest(self, square: Array, tau: Array, narrow: float) -> Array:
        """Return the density at `square` = z^2, (point, tau), without normals that are narrow."""
        near = np.nonzero(square < (WITHIN * narrow / tau) ** 2)
        half, scaled = -0.5 * square[near], tau[near[1]]
        number = int(np.searchsorted(self.scale, narrow / tau.min()))
        scale, log_weight = self.scale[:number, None], self.log_weight[:number, None]
        narrow_ones = np.empty(len(half))
        blocks = number * len(half) // INTEGRANDS_AT_ONCE + 1
        for some in np.array_split(np.arange(len(half)), blocks):
            piece = half[some] / scale**2
            np.maximum(piece, FLOOR, out=piece)
            piece += log_weight - np.log(scale) - LOG_ROOT_2PI
            np.exp(piece, out=piece)
            piece *= scale * scaled[some] < narrow
            narrow_ones[some] = piece.sum(0)
        rest = self.density(square)
        rest[near] = np.maximum(rest[near] - narrow_ones, 0)
        return rest

    def _add_about_mu(self, sums: Array, points: npt.NDArray[np.intp], of: "_Counts") -> None:
        """Add to `sums` at `points` L of the narrow normals of the kernel."""
        step = STEP_ABOUT_MU[of.level] * self.scale[0] / np.sqrt(self.df)
        octave = np.floor(np.log2(of.tau) / OCTAVES)
        for same in (np.flatnonzero(octave == each) for each in np.unique(octave)):
            widest = of.narrow / of.tau[same].min()
            number = int(np.searchsorted(self.scale, widest))
            scale, log_weight = self.scale[:number], self.log_weight[:number, None]
            reach = np.arcsinh(WITHIN * min(widest, self.scale[-1]) / np.sqrt(self.df))
            x = step * np.arange(-np.ceil(reach / step), np.ceil(reach / step) + 1)
            z = np.sqrt(self.df) * np.sinh(x)
            normals = np.maximum(log_weight - 0.5 * (z / scale[:, None]) ** 2, FLOOR)
            normals = np.exp(normals) / scale[:, None]
            normals *= step * np.sqrt(self.df / (2 * np.pi)) * np.cosh(x)
            block = max(1, INTEGRANDS_AT_ONCE // (len(z) * len(of.events)))
            for start in range(0, len(same), block):
                some = same[start : start + block]
                theta = of.mu[some, None] + of.tau[some, None] * z
                share = (scale * of.tau[some, None] < of.narrow) @ normals
                sums[:, points[some]] += np.einsum("spz,pz->sp", of.likelihood(theta), share)


def _narrowest(events: Array, total: Array) -> float:
    """Return the least width (logit) of a likelihood where it is within `SEEN` of its maximum.

    Its curvature is n p (1 - p), and of the rarer outcome r, whose likelihood is at most that of a
    Poisson number, n p is r + sqrt(2 r h) + h or less at a height of -h.
    """
    rarer = np.minimum(events, total - events)
    curvature = np.minimum(total / 4, rarer + np.sqrt(2 * SEEN * rarer) + SEEN)
    return float(curvature.max(initial=0.25) ** -0.5)


class _Counts(NamedTuple):
    """Counts of studies and the points at which their likelihood is wanted.

    `top` is the log of each likelihood's maximum.
    """

    events: Array
    total: Array
    top: Array
    mu: Array
    tau: Array
    narrow: float
    level: int

    def likelihood(self, theta: Array) -> Array:
        """Return the likelihoods in units of their maxima, (study, *theta)."""
        terms = np.stack([self.events, -self.total, -self.top], axis=1)
        heights = np.stack([theta.ravel(), softplus(theta).ravel(), np.ones(theta.size)])
        height = terms @ heights
        return np.exp(np.maximum(height, FLOOR, out=height), out=height).reshape(-1, *theta.shape)
