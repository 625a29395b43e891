"""Whether intervals cover what they claim, at the user's own number and size of studies.

Simulation-based calibration (Talts et al. 2018, doi:10.48550/arXiv.1804.06788): parameters are
drawn from the prior, counts from the parameters, and the position of each true value in its
posterior must be uniform. A study of n patients has only n + 1 possible counts, so the likelihoods
of all of them on one grid over the prior serve every simulated data set.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtrc, ndtr

from dfsp.checks import Check
from dfsp.constants import SEED
from dfsp.errors import DfspError
from dfsp.exact import cumulate, solve
from dfsp.grids import legendre_rule
from dfsp.integrals import log_likelihood, sigmoid
from dfsp.models import Model
from dfsp.priors import Fixed, LogNormal
from dfsp.seeds import generator, integer
from dfsp.tables import Counts, check_table

Array = npt.NDArray[np.float64]

NAMES = ("mu", "tau", "mean_rate", "new_study_rate")
"""Quantities whose calibration is judged; the typical rate has the position of mu."""

Engine = Literal["table", "fit", "nuts"]

ENGINES: dict[Engine, str] = {
    "table": "all on one grid over the prior",
    "fit": "each with a grid of its own",
    "nuts": "each sampled with NUTS",
}

BINS = 20
SIGNIFICANCE = 1e-3
"""Probability that a verdict fails when all is well; the same seed gives the same verdict."""

LEAST = 100  # data sets
ROWS = 40  # of tau
PER_SD = 0.35  # spacing of mu in units of the narrowest posterior that the studies allow
FAR = 6.0  # prior standard deviations of mu that the table covers
TAIL = 1e-6  # prior probability of tau beyond the table
NEGLIGIBLE = 1e-10  # weight of a node that is left out
MOST = 250_000_000  # numbers in a table, 2 GB
TOGETHER = 64  # data sets computed at once
DRAWS, THIN = 1000, 10  # of NUTS for a data set


@dataclass(frozen=True)
class Truth:
    """Parameters and counts of simulated data sets.

    Attributes
    ----------
    mu, tau, new : array, shape (data set,)
        Logit scale; `new` is the effect of one more study.
    events : array, shape (data set, study)
    """

    mu: Array
    tau: Array
    new: Array
    events: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The positions of true values in their posteriors, and what they say.

    Attributes
    ----------
    positions : pandas.DataFrame
        One row a data set, one column a quantity: P(quantity <= true value | counts).
    checks : tuple of Check
        One a quantity: whether the positions are uniform (chi-square over 20 bins).
    engine : {"table", "fit", "nuts"}
    """

    positions: pd.DataFrame
    checks: tuple[Check, ...]
    engine: Engine

    def __repr__(self) -> str:
        failures = [
            check.name.removeprefix("calibration: ")
            for check in self.checks
            if check.passed is False
        ]
        verdict = f"NOT calibrated: {', '.join(failures)}" if failures else "calibrated"
        return f"{len(self.positions):,} simulated data sets, {ENGINES[self.engine]}: {verdict}"


class Table:
    """The likelihood of every possible count of every study on one grid over the prior."""

    def __init__(self, total: npt.NDArray[np.intp], model: Model) -> None:
        self.model = model
        self.total = total
        prior, tail = model.mu, model.tau
        narrow = (0.25 * self.total.sum() + prior.sd**-2) ** -0.5
        span = FAR * prior.sd
        self.mu = np.linspace(
            prior.mean - span, prior.mean + span, int(2 * span / (PER_SD * narrow)) + 2
        )
        self.spacing = float(self.mu[1] - self.mu[0])
        if isinstance(tail, Fixed):
            self.scale = float(tail.scale)
            self.u, self.u_weights = np.array([np.arcsinh(1.0)]), np.ones(1)
            self.half = 0.0
        else:
            self.scale = min(float(tail.ppf(0.5)), narrow)
            upper = min(tail.upper, float(tail.ppf(1 - TAIL)))
            nodes, weights, _ = legendre_rule(ROWS)
            self.half = float(np.arcsinh(upper / self.scale)) / 2
            self.u, self.u_weights = self.half * (nodes + 1), self.half * weights
        self.tau = self.scale * np.sinh(self.u)
        sizes, self.which = np.unique(self.total, return_inverse=True)
        number = int((sizes + 1).sum()) * self.mu.size * self.tau.size
        if number > MOST:
            raise DfspError(
                f"the likelihoods of all possible counts need {8 * number / 1e9:.0f} GB; the table "
                f"takes at most {8 * MOST / 1e9:.0f} GB: calibrate through the public fit instead"
            )
        log_prior = -0.5 * ((self.mu - prior.mean) / prior.sd) ** 2
        if len(self.tau) > 1:
            rows = tail.logpdf(self.tau) + np.log(self.scale * np.cosh(self.u))
            log_prior = log_prior + (rows + np.log(self.u_weights))[:, None]
        self.log_prior = np.broadcast_to(log_prior, (len(self.tau), len(self.mu)))
        mu, tau = np.broadcast_arrays(self.mu, self.tau[:, None])
        self.points = mu.ravel(), tau.ravel()
        self.first = np.cumsum([0, *(sizes[:-1] + 1)])
        events = np.concatenate([np.arange(n + 1) for n in sizes]).astype(float)
        totals = np.repeat(sizes, sizes + 1).astype(float)
        self.log_l = log_likelihood(events, totals, *self.points, level=1)

    @cached_property
    def mean_rates(self) -> Array:
        """Logit mean rates at the nodes, shape (row, mu)."""
        return logit_mean_rate(*self.points).reshape(len(self.tau), len(self.mu))

    def log_likelihood(self, events: npt.NDArray[np.intp]) -> Array:
        """Return the log likelihood of data sets, shape (data set, row, mu)."""
        total = np.zeros((len(events), self.log_l.shape[1]))
        for study, size in enumerate(self.which):
            total += self.log_l[self.first[size] + events[:, study]]
        return total.reshape(len(events), len(self.tau), len(self.mu))

    def weights(self, events: npt.NDArray[np.intp]) -> Array:
        """Return posterior probabilities of the nodes, shape (data set, row, mu)."""
        weight = self.log_likelihood(events) + self.log_prior
        weight -= weight.max((-1, -2), keepdims=True)
        np.exp(weight, out=weight)
        weight /= weight.sum((-1, -2), keepdims=True)
        return weight

    def positions(self, truth: Truth) -> pd.DataFrame:
        """Return P(quantity <= true value | counts) for each data set."""
        mean = self._cuts(truth)
        found = []
        for start in range(0, len(truth.mu), TOGETHER):
            block = slice(start, start + TOGETHER)
            weight = self.weights(truth.events[block])
            within = cumulate(weight, np.ones(1))
            whole = np.broadcast_to(truth.mu[block, None], mean[block].shape)
            below = [self._at(within, whole), self._below_tau(weight, truth.tau[block])]
            below += [self._at(within, mean[block]), self._below_new(weight, truth.new[block])]
            found.append(np.column_stack(below))
        return pd.DataFrame(np.concatenate(found), columns=list(NAMES))

    def _cuts(self, truth: Truth) -> Array:
        """Return the mu of each row that has the true mean rate, shape (data set, row)."""
        value = logit_mean_rate(truth.mu, np.maximum(truth.tau, 1e-9))
        columns = [np.interp(value, row, self.mu) for row in self.mean_rates]
        return np.stack(columns, axis=1)

    def _at(self, within: Array, mu: Array) -> Array:
        """Sum over rows the mass below `mu`, both (data set, row); cubic between the nodes."""
        position = np.clip((mu - self.mu[0]) / self.spacing, 0, len(self.mu) - 1)
        start = np.clip(position.astype(int) - 1, 0, len(self.mu) - 4)
        t = position - start
        around = np.take_along_axis(within, start[..., None] + np.arange(4), axis=-1)
        basis = np.stack(
            [
                -(t - 1) * (t - 2) * (t - 3) / 6,
                t * (t - 2) * (t - 3) / 2,
                -t * (t - 1) * (t - 3) / 2,
                t * (t - 1) * (t - 2) / 6,
            ],
            axis=-1,
        )
        return np.asarray(np.clip((around * basis).sum((-1, -2)), 0, 1))

    def _below_tau(self, weight: Array, tau: Array) -> Array:
        """Integrate the density of u, a polynomial through the rows, up to the true tau."""
        if len(self.tau) == 1:
            return np.full(len(tau), 0.5)
        density = weight.sum(-1) / self.u_weights
        coefficients = density @ legendre_rule(len(self.tau))[2].T
        x = np.arcsinh(tau / self.scale) / self.half - 1
        p = np.polynomial.legendre.legvander(np.clip(x, -1, 1), len(self.tau))
        degree = np.arange(1, len(self.tau))
        integral = np.column_stack([x + 1, (p[:, 2:] - p[:, :-2]) / (2 * degree + 1)])
        return np.asarray(np.clip((coefficients * integral).sum(-1) * self.half, 0, 1))

    def _below_new(self, weight: Array, new: Array) -> Array:
        flat = weight.reshape(len(new), -1)
        below = np.empty(len(new))
        for i, row in enumerate(flat):
            main = np.flatnonzero(row > NEGLIGIBLE)
            below[i] = row[main] @ ndtr((new[i] - self.points[0][main]) / self.points[1][main])
        return below


def draw_counts(
    mu: Array, tau: Array, total: npt.NDArray[np.intp], rng: np.random.Generator
) -> Truth:
    """Draw study effects, one more study's effect, and counts; `mu` and `tau` (data set,)."""
    theta = mu[:, None] + tau[:, None] * rng.standard_normal((len(mu), len(total)))
    events = rng.binomial(total, sigmoid(theta))
    return Truth(mu, tau, mu + tau * rng.standard_normal(len(mu)), events)


def logit_mean_rate(mu: Array, tau: Array) -> Array:
    """Return logit E[p] given mu and tau, from the rarer outcome, which keeps its digits."""
    one = np.ones(1)
    log_p = log_likelihood(one, one, -np.abs(mu), tau, level=1)[0]
    return np.asarray(np.where(mu < 0, 1, -1) * (log_p - np.log1p(-np.exp(log_p))))


def calibrate(
    counts: Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    number: int = 10_000,
    engine: Engine = "table",
    fitted: Model | None = None,
    seed: int = SEED,
) -> Calibration:
    """Simulate data sets of the same design from the prior, fit each, and judge the positions.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        Its number of studies and their sizes are the design; its events are not used.
    model : Model, optional
        Parameters are drawn from its priors; normal effects.
    number : int
        Simulated data sets.
    engine : {"table", "fit", "nuts"}
        `"table"` computes all posteriors on one grid over the prior; `"fit"` places a grid for
        each, as `dfsp.fit` does; `"nuts"` samples each (the model is compiled once).
    fitted : Model, optional
        Model with which the data sets are analysed, by default `model`; another one is a control
        that must fail.
    seed : int

    Returns
    -------
    Calibration

    Raises
    ------
    DfspError
        Effects other than normal, too few data sets, or a design too large for the table.
    """
    model = model or Model()
    fitted = fitted or model
    counts = counts if isinstance(counts, Counts) else check_table(counts)
    total = counts.table["total"].to_numpy(np.intp)
    for each in (model, fitted):
        each.require_normal("calibration is for")
    if not isinstance(number, int) or number < LEAST:
        raise DfspError(f"number = {number!r}; give a whole number of {LEAST} or more")
    if engine not in ENGINES:
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(ENGINES)}")
    truth = simulate(total, model, number, generator(seed, f"calibration {engine}"))
    if engine == "table":
        positions = Table(total, fitted).positions(truth)
    elif engine == "fit":
        positions = pd.DataFrame(
            [_fitted(truth, total, fitted, i) for i in range(number)], columns=list(NAMES)
        )
    else:
        positions = _sampled(truth, counts.table, fitted, seed)
    return Calibration(positions, tuple(_uniform(positions[name], name) for name in NAMES), engine)


def narrower(model: Model) -> Model:
    """Return the model with a prior of tau half as wide: a control that must fail.

    Raises
    ------
    DfspError
        tau is fixed.
    """
    tau: Any = model.tau
    if isinstance(tau, Fixed):
        raise DfspError("a fixed tau has no narrower prior; choose another family for a control")
    if isinstance(tau, LogNormal):
        return replace(model, tau=replace(tau, location=tau.location - np.log(2)))
    return replace(model, tau=replace(tau, scale=tau.scale / 2))


def simulate(
    total: npt.NDArray[np.intp], model: Model, number: int, rng: np.random.Generator
) -> Truth:
    """Draw parameters from the prior, and counts from them."""
    mu = rng.normal(model.mu.mean, model.mu.sd, number)
    tau = np.asarray(model.tau.ppf(rng.uniform(size=number)), dtype=float)
    return draw_counts(mu, np.broadcast_to(tau, mu.shape), total, rng)


def _fitted(truth: Truth, total: npt.NDArray[np.intp], model: Model, i: int) -> list[float]:
    posterior = solve(truth.events[i], total, model)
    mean = sigmoid(logit_mean_rate(truth.mu[i : i + 1], truth.tau[i : i + 1]))[0]
    values = (truth.mu[i], truth.tau[i], mean, sigmoid(truth.new[i]))
    return [
        1 - getattr(posterior, name).above(value) for name, value in zip(NAMES, values, strict=True)
    ]


def _sampled(truth: Truth, table: pd.DataFrame, model: Model, seed: int) -> pd.DataFrame:
    """Return the share of draws below each true value; one chain a data set."""
    import nutpie

    from dfsp.sampling import build, mean_rate

    compiled = nutpie.compile_pymc_model(build(table, model))
    rng = generator(seed, "positions")
    rows = []
    for i in range(len(truth.mu)):
        tree = nutpie.sample(
            compiled.with_data(counts=truth.events[i].astype(np.int64)),
            chains=1, tune=500, draws=DRAWS, target_accept=0.95,
            seed=integer(seed, f"calibration {i}"), progress_bar=False,
        )  # fmt: skip
        draws = tree["posterior"].to_dataset()
        mu, tau = draws["mu"].to_numpy()[0], draws["tau"].to_numpy()[0]
        new = mu + tau * rng.standard_normal(len(mu))
        drawn = (mu, tau, np.asarray(mean_rate(mu, tau)), new)
        at = truth.mu[i : i + 1], truth.tau[i : i + 1]
        true = (truth.mu[i], truth.tau[i], sigmoid(logit_mean_rate(*at))[0], truth.new[i])
        # Every THIN-th draw is nearly independent; ties do not occur.
        below = [np.sum(d[::THIN] < t) for d, t in zip(drawn, true, strict=True)]
        rows.append((np.array(below) + rng.uniform(size=len(below))) / (DRAWS // THIN + 1))
    return pd.DataFrame(rows, columns=list(NAMES))


def _uniform(position: "pd.Series[float]", name: str) -> Check:
    """Judge positions by Pearson's chi-square over equal bins."""
    bins = min(BINS, len(position) // 10)
    observed = np.histogram(position, bins=bins, range=(0, 1))[0]
    expected = len(position) / bins
    statistic = float(((observed - expected) ** 2 / expected).sum())
    p = float(chdtrc(bins - 1, statistic))
    verdict = "are spread evenly" if p >= SIGNIFICANCE else "are NOT spread evenly"
    return Check(
        name=f"calibration: {name}",
        passed=p >= SIGNIFICANCE,
        value=p,
        limit=SIGNIFICANCE,
        says=f"the positions of {len(position)} true values in their posteriors {verdict} over "
        f"{bins} bins (chi-square {statistic:.1f}, p = {p:.3g}).",
    )
