"""The likelihood of clusters of rows, with the effects of both levels integrated out.

Rows j of a cluster have theta_j = mu + u + v_j on the logit scale, u ~ N(0, tau^2) for the cluster
and v_j ~ N(0, omega^2) for each row, so that the cluster's likelihood is

    L(mu, tau, omega) = integral of N(x | mu, tau^2) product over j of f_j(x, omega) dx,

where f_j(x, omega) is the likelihood of one row about the location x = mu + u.

**Tables.** The log f_j are computed at points of x and of omega and interpolated by polynomials
through the nearest: x = centre + core sinh(t) and omega = c sinh(s) with equidistant t and s, even
near 0 and logarithmic far out. A cluster's sum of them is all that its integral needs.

**Two rules.** The points of x are common to all mu, so that a point (mu, tau) costs one normal
density and one product for each of them. Where tau is so narrow that they would be too many,
x = mu + tau z, with z at Gauss-Hermite nodes.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial.hermite_e import hermegauss

from dfsp.engine.grid import Data
from dfsp.model.likelihood import (
    LOG_ROOT_2PI,
    SPACINGS,
    UNDERFLOW,
    Common,
    log_binomial,
    log_likelihood,
    log_sum,
    normal_exponents,
)

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

# Steps of t and of s in a table. Where the posterior is, a cluster's log likelihood errs by 1e-7 at
# the median and by 3e-4 in its tails; there by 4e-4 with 0.15 for t, by 8e-3 with 0.2 for s.
IN_T = 0.12
IN_S = 0.15
BROAD = 4.0  # logit; where own rates are farther from their middle, steps of t are as much smaller
# Logit; the longest step at 0, and n omega^2 that the first steps of s resolve: with 2.3, or
# with c of 2 events in a million, what is interpolated is above 0 far from the rate.
BEND = 1.2
NOTICED = 16.0
TAPS = 10  # points of a table that a polynomial goes through
# From powers of the distance from the middle of these points to the polynomial's weights
TO_WEIGHTS = np.linalg.inv(np.vander(np.arange(TAPS) - (TAPS - 1) / 2, increasing=True))
# Numbers of Gauss-Hermite nodes, and up to which b, as much as the rows say of x beside tau. Their
# error is (b / (2 + b))^number at a likelihood's top, and a^(2 number) number! / (2 number)! where
# the likelihood changes by a factor e^a in one tau: below 3e-9 up to a = 5 sqrt(b), which is where
# it is e^-12 of its top; with 14 nodes 2e-10 at the top.
SCORES = {4: 0.002, 6: 0.013, 9: 0.06, 14: 0.5}
SCORE_RULES = [hermegauss(number) for number in SCORES]
CLUSTER_REACH = 8.4  # how many tau from mu a table covers
# Log likelihood below a cluster's highest at which it is not integrated. Of three tables (few
# events in millions, ordinary, of all sizes) under two priors nothing moves by more than 1e-14
# with 500, by 1e-10 with 50.
FAR_BELOW = 5000.0
ROOM = 1.4  # by how much a table reaches beyond what it is first made for: a look reaches farther
CLUSTERS_AT_ONCE = 400_000  # numbers held at once: 3 MB, which stay in a cache


@dataclass(frozen=True)
class Table:
    """Log likelihoods of rows and of clusters at equidistant s and t.

    Attributes
    ----------
    centre, core, c : float
        x = centre + core sinh(t) and omega = c sinh(s), logit scale.
    first, step, step_of_s : float
        The first t, and the distances between neighbours; the first s is 0.
    rows : array, shape (distinct row, s, t)
    clusters : array, shape (cluster, s, t)
    """

    centre: float
    core: float
    c: float
    first: float
    step: float
    step_of_s: float
    rows: Array
    clusters: Array

    @property
    def covers(self) -> tuple[float, float, float]:
        """The range of x, and the largest omega."""
        in_s, in_t = self.rows.shape[1:]
        t = self.first + self.step * np.array([0, in_t - 1])
        low, high = (self.centre + self.core * np.sinh(t)).tolist()
        return low, high, float(self.c * np.sinh((in_s - 1) * self.step_of_s))

    def place(self, x: Array) -> Array:
        """Return where locations `x` are among the points of t, counted from 0."""
        t = np.arcsinh((x - self.centre) / self.core)
        return np.asarray((t - self.first) / self.step)

    def near(self, x: Array, height: Array) -> npt.NDArray[np.bool_]:
        """Return at which `x` (point,) some of log likelihoods `height` (..., t) counts.

        They are concave in x, so that a peak is next to the highest of these points.
        """
        last = height.shape[-1] - 1
        counts = height > height.max(-1, keepdims=True) - FAR_BELOW
        counts = counts.reshape(-1, last + 1).any(0)
        left = np.clip(np.floor(self.place(x)).astype(np.intp), 0, last - 1)
        return np.asarray((counts[1:] | counts[:-1])[left])

    def about(self, low: float, high: float) -> "Table":
        """Return what of it interpolates from x = `low` to `high`, which it covers."""
        start, end = self.place(np.array([low, high])).astype(np.intp)
        some = slice(max(start - TAPS, 0), end + TAPS)
        return replace(
            self,
            first=self.first + some.start * self.step,
            rows=self.rows[..., some],
            clusters=self.clusters[..., some],
        )

    def in_x(self, x: Array) -> Array:
        """Return the matrix that interpolates along t at locations `x` (point,): (point, t).

        Beyond the table, where no integrand counts, its ends stand in.
        """
        number = self.rows.shape[2]
        return _interpolation(np.clip(self.place(x), 0, number - 1), number)

    def at(self, values: Array, omega: Array) -> Array:
        """Return `values` (entry, s, t) at each omega: (omega, entry, t)."""
        # Even functions of s, which are continued to its other side
        number = values.shape[1]
        place = np.arcsinh(omega / self.c) / self.step_of_s + number - 1
        matrix = _interpolation(place, 2 * number - 1)
        matrix[:, number:] += matrix[:, number - 2 :: -1]
        return np.asarray(np.tensordot(matrix[:, number - 1 :], values, axes=(1, 1)))


def _interpolation(place: Array, number: int) -> Array:
    """Return the matrix of polynomials through the nearest `TAPS` of points 0, 1, ..., number - 1.

    Shapes: `place` (point,), result (point, number).
    """
    start = np.clip(np.floor(place).astype(np.intp) - TAPS // 2 + 1, 0, number - TAPS)
    away = place - start - (TAPS - 1) / 2
    powers = np.ones((TAPS, len(place)))
    for degree in range(1, TAPS):
        np.multiply(powers[degree - 1], away, out=powers[degree])
    matrix = np.zeros((len(place), number))
    windows = sliding_window_view(matrix, TAPS, axis=1, writeable=True)
    windows[np.arange(len(place)), start] = powers.T @ TO_WEIGHTS
    return matrix


class Clusters:
    """Clusters of two rows or more.

    Parameters
    ----------
    events, total : array, shape (row,)
    cluster : array of int, shape (row,)
        The cluster of each row, counted from 0.
    """

    def __init__(self, events: Array, total: Array, cluster: Index) -> None:
        self.data = Data.of(events, total)
        self.cluster = cluster
        self.member = np.zeros((int(cluster.max()) + 1, len(self.data.total)))
        np.add.at(self.member, (cluster, self.data.inverse), 1.0)
        p = (self.data.events + 0.5) / (self.data.total + 1)
        self.own = np.log(p / (1 - p))
        self.variance = 1 / (self.data.total * p * (1 - p))
        self._table: Table | None = None

    def __len__(self) -> int:
        return len(self.member)

    def information(self, omega: Array) -> Array:
        """Return the most that the rows of one cluster say of its location, by omega (logit^-2)."""
        most = (self.member @ (1 / (self.variance[:, None] + omega**2))).max(0)
        # The edge of the likelihood of no event in one patient is 1 wide.
        return np.asarray(np.maximum(most, 1.0), dtype=np.float64)

    def log_likelihood(self, mu: Array, tau: Array, omega: Array, level: int) -> Array:
        """Return log L of each cluster.

        Parameters
        ----------
        mu : array, shape (pair, point)
        tau, omega : array, shape (pair,)
            Logit scale; above 0.
        level : int
            As of `dfsp.model.likelihood.LEVELS`.

        Returns
        -------
        array, shape (cluster, pair, point)
        """
        table = self.table(mu, tau, omega)
        information = self.information(omega)
        values = np.empty((len(tau), len(self), mu.shape[1]))
        number = np.searchsorted([*SCORES.values()], tau**2 * information)
        for which, rule in enumerate(SCORE_RULES):
            pairs = np.flatnonzero(number == which)
            if len(pairs):
                self._by_scores(table, mu, tau, omega, pairs, rule, values)
        # Pairs that need points as dense as each other share them.
        width = (information + tau**-2.0) ** -0.5
        octave = np.where(number == len(SCORES), np.floor(np.log2(width)), np.nan)
        for each in np.unique(octave[number == len(SCORES)]):
            pairs = np.flatnonzero(octave == each)
            common = self._common(mu, tau, width, pairs, level)
            self._on_points(table, mu, tau, omega, pairs, common, values)
        return values.transpose(1, 0, 2)

    def _common(self, mu: Array, tau: Array, width: Array, pairs: Index, level: int) -> Common:
        points = mu[pairs].ravel(), np.repeat(tau[pairs], mu.shape[1])
        spacing = SPACINGS[level]
        return Common.of(self.own, *points, float(width[pairs].min()), spacing)

    def table(self, mu: Array, tau: Array, omega: Array) -> Table:
        """Return a table that covers these points; an earlier one, if it does."""
        reach = (CLUSTER_REACH * tau)[:, None]
        low = min(float((mu - reach).min()), float(self.own.min()))
        high = max(float((mu + reach).max()), float(self.own.max()))
        last = float(omega.max())
        if self._table is not None:
            covered = self._table.covers
            if covered[0] <= low and high <= covered[1] and last <= covered[2]:
                return self._table
            low, high, last = min(low, covered[0]), max(high, covered[1]), max(last, covered[2])
        self._table = self._tabulated(low, high, last)
        return self._table

    def _tabulated(self, low: float, high: float, last: float) -> Table:
        centre = float(self.own.max() + self.own.min()) / 2
        core = max(2.0, float(self.own.max()) - centre)
        c = min(float(self.variance.min()), NOTICED / float(self.data.total.max())) ** 0.5
        # As dense between rates far apart, and to where a patient's likelihood bends, at 0
        bend = float(np.hypot(core, centre))
        step = min(IN_T, IN_T * BROAD / core, BEND / bend)
        middle, half = (low + high) / 2, ROOM * (high - low) / 2
        ends = np.arcsinh((np.array([middle - half, middle + half]) - centre) / core)
        t = np.linspace(ends[0], ends[1], max(TAPS, int((ends[1] - ends[0]) / step) + 2))
        s_last = float(np.arcsinh(ROOM * last / c))
        s = np.linspace(0, s_last, max(TAPS, int(s_last / IN_S) + 2))
        x = centre + core * np.sinh(t)
        rows = np.empty((len(self.data.total), len(s), len(t)))
        counts = self.data.events, self.data.total
        # At omega = 0 the row's effect is its cluster's.
        rows[:, 0] = log_binomial(counts[0][:, None], counts[1][:, None], x)
        pairs = np.tile(x, len(s) - 1), np.repeat(c * np.sinh(s[1:]), len(t))
        inner = log_likelihood(*counts, *pairs)
        rows[:, 1:] = inner.reshape(-1, len(s) - 1, len(t))
        clusters = np.tensordot(self.member, rows, axes=1)
        steps = float(t[0]), float(t[1] - t[0]), float(s[1])
        return Table(centre, core, c, *steps, rows, clusters)

    def _by_scores(
        self,
        table: Table,
        mu: Array,
        tau: Array,
        omega: Array,
        pairs: Index,
        rule: tuple[Array, Array],
        values: Array,
    ) -> None:
        scores, weights = rule
        x = mu[pairs][:, None, :] + tau[pairs][:, None, None] * scores[:, None]
        table = table.about(float(x.min()), float(x.max()))
        size = x[0].size * (table.rows.shape[2] + len(self))
        for some in np.array_split(np.arange(len(pairs)), _pieces(len(pairs), size)):
            matrix = table.in_x(x[some].ravel()).reshape(len(some), -1, table.rows.shape[2])
            height = table.at(table.clusters, omega[pairs[some]]) @ matrix.swapaxes(1, 2)
            height = height.reshape(len(some), len(self), *x.shape[1:]).swapaxes(2, 3)
            values[pairs[some]] = log_sum(height + (np.log(weights) - LOG_ROOT_2PI))

    def _on_points(
        self,
        table: Table,
        mu: Array,
        tau: Array,
        omega: Array,
        pairs: Index,
        common: Common,
        values: Array,
    ) -> None:
        x, weight = common.points()
        if len(x) > table.rows.shape[2]:
            near = self._near(table, x, omega[pairs])
            x, weight = x[near], weight[near]
        matrix = table.in_x(x).T
        size = len(x) * (len(self) + mu.shape[1])
        for some in np.array_split(pairs, _pieces(len(pairs), size)):
            height = table.at(table.clusters, omega[some]).reshape(-1, len(matrix)) @ matrix
            height = height.reshape(len(some), len(self), len(x))
            top = height.max(-1, keepdims=True)
            width = np.repeat(tau[some], mu.shape[1])
            kernel = normal_exponents(x, mu[some].ravel(), width, common.centre)
            np.exp(kernel, out=kernel)
            kernel = kernel.reshape(len(some), -1, len(x))
            sums = (np.exp(height - top) * weight) @ kernel.swapaxes(1, 2)
            with np.errstate(divide="ignore"):
                found = np.log(sums) + top
            # Counts so far from a location that the products underflow
            pair, cluster, point = np.nonzero(sums < UNDERFLOW)
            z = (x - mu[some][pair, point, None]) / tau[some][pair, None]
            found[pair, cluster, point] = log_sum(
                height[pair, cluster] - z * z / 2 + np.log(weight)
            )
            values[some] = found - np.log(tau[some])[:, None, None] - LOG_ROOT_2PI

    def _near(self, table: Table, x: Array, omega: Array) -> npt.NDArray[np.bool_]:
        """Return at which `x` (point,) some cluster's likelihood counts at some `omega` (pair,)."""
        pieces = _pieces(len(omega), len(self) * table.rows.shape[2])
        found = [
            table.near(x, table.at(table.clusters, some)) for some in np.array_split(omega, pieces)
        ]
        return np.asarray(np.any(found, axis=0))


def _pieces(pairs: int, size: int) -> int:
    """Return into how many pieces pairs of so many numbers each are split."""
    return min(pairs, max(1, pairs * size // CLUSTERS_AT_ONCE))
