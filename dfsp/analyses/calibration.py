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
from scipy.special import chdtrc, logit

from dfsp.checks import Check
from dfsp.constants import SEED
from dfsp.engine.distributions import Distribution, cumulate
from dfsp.engine.grid import legendre_rule
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import fit
from dfsp.model.effects import BetaBinomial, Effects, Exnex, NormalEffects
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.model.priors import Fixed, LogNormal, Prior
from dfsp.seeds import generator, integer

Array = npt.NDArray[np.float64]

NAMES = ("mu", "tau", "concentration", "mean_rate", "new_study_rate")
"""Quantities whose calibration is judged, where the effects have them and the prior does not fix
them; the typical rate has the position of mu."""

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
AT_ONCE = 32  # possible counts whose likelihoods are computed at once
NARROWEST = 1e-9  # tau, where the truth is 0
DRAWS, THIN = 1000, 10  # of NUTS for a data set


@dataclass(frozen=True)
class Truth:
    """Parameters and counts of simulated data sets.

    Attributes
    ----------
    mu, tau : array, shape (data set,)
        Of the population, as the effects understand them (`dfsp.model.effects`).
    mean, new : array, shape (data set,)
        The mean rate and the rate of one more study, logit scale.
    events : array, shape (data set, study)
    """

    mu: Array
    tau: Array
    mean: Array
    new: Array
    events: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The positions of true values in their posteriors, and what they say.

    Attributes
    ----------
    positions : pandas.DataFrame
        One row a data set, one column a quantity of `NAMES`: P(quantity <= true value | counts).
    checks : tuple of Check
        One a quantity: whether the positions are uniform (chi-square over 20 bins, or fewer where
        data sets are few).
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
        prior, tail = model.location, model.scale
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
        log_prior = prior.logpdf(self.mu)
        if len(self.tau) > 1:
            rows = tail.logpdf(self.tau) + np.log(self.scale * np.cosh(self.u))
            log_prior = log_prior + (rows + np.log(self.u_weights))[:, None]
        self.log_prior = np.broadcast_to(log_prior, (len(self.tau), len(self.mu)))
        mu, tau = np.broadcast_arrays(self.mu, self.tau[:, None])
        self.points = mu.ravel(), tau.ravel()
        self.first = np.cumsum([0, *(sizes[:-1] + 1)])
        events = np.concatenate([np.arange(n + 1) for n in sizes]).astype(float)
        totals = np.repeat(sizes, sizes + 1).astype(float)
        self.log_l = np.empty((len(events), mu.size))
        for start in range(0, len(events), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            found = model.effects.log_likelihood_of_all(
                events[some], totals[some], self.mu, self.tau, level=1
            )
            self.log_l[some] = found.reshape(len(found), -1)

    @cached_property
    def mean_rates(self) -> Array:
        """Logit mean rates at the nodes, shape (row, mu)."""
        rates = logit_mean_rate(*self.points, self.model.effects.new)
        return rates.reshape(len(self.tau), len(self.mu))

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

    def positions(self, truth: Truth) -> dict[str, Array]:
        """Return P(quantity <= true value | counts) by quantity, each for all data sets."""
        cuts = self.cuts(truth.mean)
        blocks = []
        for start in range(0, len(truth.mu), TOGETHER):
            block = slice(start, start + TOGETHER)
            weight = self.weights(truth.events[block])
            within = cumulate(weight, np.ones(1))
            whole = np.broadcast_to(truth.mu[block, None], cuts[block].shape)
            tau = self._below_tau(weight, truth.tau[block])
            mean = self._at(within, cuts[block])
            new = self._below_new(weight, truth.new[block])
            blocks.append((self._at(within, whole), tau, 1 - tau, mean, new))
        return dict(zip(NAMES, map(np.concatenate, zip(*blocks, strict=True)), strict=True))

    def cuts(self, mean: Array) -> Array:
        """Return the mu of each row that has a mean rate (logit scale), shape (mean, row)."""
        return np.stack([np.interp(mean, row, self.mu) for row in self.mean_rates], axis=1)

    def around(self, mu: Array) -> tuple[npt.NDArray[np.intp], Array]:
        """Return the four nodes of mu about each point and their weights in a cubic."""
        position = np.clip((mu - self.mu[0]) / self.spacing, 0, len(self.mu) - 1)
        start = np.clip(position.astype(int) - 1, 0, len(self.mu) - 4)
        t = position - start
        basis = np.stack(
            [
                -(t - 1) * (t - 2) * (t - 3) / 6,
                t * (t - 2) * (t - 3) / 2,
                -t * (t - 1) * (t - 3) / 2,
                t * (t - 1) * (t - 2) / 6,
            ],
            axis=-1,
        )
        return start[..., None] + np.arange(4), basis

    def _at(self, within: Array, mu: Array) -> Array:
        """Sum over rows the mass below `mu`, both (data set, row)."""
        nodes, basis = self.around(mu)
        around = np.take_along_axis(within, nodes, axis=-1)
        return np.asarray(np.clip((around * basis).sum((-1, -2)), 0, 1))

    def _below_tau(self, weight: Array, tau: Array) -> Array:
        """Integrate the density of u, a polynomial through the rows, up to the true tau."""
        if len(self.tau) == 1:
            return np.asarray(tau >= self.tau, dtype=float)
        density = weight.sum(-1) / self.u_weights
        coefficients = density @ legendre_rule(len(self.tau))[2].T
        x = np.arcsinh(tau / self.scale) / self.half - 1
        p = np.polynomial.legendre.legvander(np.clip(x, -1, 1), len(self.tau))
        degree = np.arange(1, len(self.tau))
        integral = np.column_stack([x + 1, (p[:, 2:] - p[:, :-2]) / (2 * degree + 1)])
        return np.asarray(np.clip((coefficients * integral).sum(-1) * self.half, 0, 1))

    def _below_new(self, weight: Array, new: Array) -> Array:
        effects = self.model.effects.new
        flat = weight.reshape(len(new), -1)
        below = np.empty(len(new))
        for i, row in enumerate(flat):
            main = np.flatnonzero(row > NEGLIGIBLE)
            below[i] = row[main] @ effects.cdf(new[i], *(each[main] for each in self.points))
        return below


def draw_counts(
    mu: Array, tau: Array, total: npt.NDArray[np.intp], effects: Effects, rng: np.random.Generator
) -> Truth:
    """Draw study effects, one more study's effect, and counts; `mu` and `tau` (data set,)."""
    shape = (len(mu), len(total))
    each = np.broadcast_to(mu[:, None], shape), np.broadcast_to(tau[:, None], shape)
    theta = effects.new.draw(*each, rng)
    if isinstance(effects, Exnex):
        alone = effects.mean + effects.sd * rng.standard_normal(shape)
        theta = np.where(rng.uniform(size=shape) < effects.exchangeable, theta, alone)
    events = rng.binomial(total, sigmoid(theta))
    mean = logit_mean_rate(mu, np.maximum(tau, NARROWEST), effects.new)
    return Truth(mu, tau, mean, effects.new.draw(mu, tau, rng), events)


def logit_mean_rate(mu: Array, tau: Array, effects: Effects | None = None) -> Array:
    """Return logit E[p] given mu and tau, from the rarer outcome, which keeps its digits.

    `effects` (normal by default) are symmetric about mu, or have their mean at logit^-1(mu).
    """
    one = np.ones(1)
    log_p = (effects or NormalEffects()).log_likelihood(one, one, -np.abs(mu), tau, level=1)[0]
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
        Parameters are drawn from its priors, study effects from its effects; any of either.
    number : int
        Simulated data sets.
    engine : {"table", "fit", "nuts"}
        `"table"` computes all posteriors on one grid over the prior; `"fit"` calls `dfsp.fit` for
        each, which places a grid of its own; `"nuts"` samples each (the model is compiled once).
    fitted : Model, optional
        Model with which the data sets are analysed, by default `model`; another one is a control
        that must fail.
    seed : int

    Returns
    -------
    Calibration
        Of the quantities that both models have and leave open: with beta-binomial effects the
        concentration instead of mu and tau, no tau where its prior fixes it.

    Raises
    ------
    DfspError
        A model or an option that cannot be used, or a design too large for the table.
    """
    model = model or Model()
    fitted = fitted or model
    counts = Counts.of(counts)
    total = counts.table["total"].to_numpy(np.intp)
    for each in (model, fitted):
        if not isinstance(each, Model):
            raise DfspError(f"model {each!r}; give a dfsp.Model(mu, tau, effects)")
    whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
    if not whole or number < LEAST:
        raise DfspError(f"number = {number!r}; give a whole number of {LEAST} or more")
    if engine not in ENGINES:
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(ENGINES)}")
    truth = simulate(total, model, number, generator(seed, f"calibration {engine}"))
    if engine == "table":
        found = Table(total, fitted).positions(truth)
    elif engine == "fit":
        found = _fitted(truth, counts, fitted, generator(seed, "positions"))
    else:
        found = _sampled(truth, counts.table, fitted, seed)
    names = [name for name in judged(fitted) if name in judged(model)]
    positions = pd.DataFrame({name: found[name] for name in names})
    return Calibration(positions, tuple(_uniform(positions[name], name) for name in names), engine)


def judged(model: Model) -> tuple[str, ...]:
    """Return the quantities of `NAMES` that a model has and leaves open."""
    if isinstance(model.effects, BetaBinomial):
        absent = {"mu", "tau"}
    else:
        absent = {"concentration", *(["tau"] if isinstance(model.tau, Fixed) else [])}
    return tuple(name for name in NAMES if name not in absent)


def narrower(model: Model) -> Model:
    """Return the model with a prior of tau half as wide: a control that must fail.

    With beta-binomial effects the prior of the concentration is four times as wide, since
    1/sqrt(concentration) is what tau is for the others.

    Raises
    ------
    DfspError
        tau is fixed.
    """
    effects = model.effects
    if isinstance(effects, BetaBinomial):
        larger = _scaled(effects.concentration, 4)
        return replace(model, effects=replace(effects, concentration=larger))
    if isinstance(model.tau, Fixed):
        raise DfspError("a fixed tau has no narrower prior; choose another family for a control")
    return replace(model, tau=_scaled(model.tau, 0.5))


def _scaled(prior: Any, factor: float) -> Prior:
    if isinstance(prior, LogNormal):
        return replace(prior, location=prior.location + float(np.log(factor)))
    scaled: Prior = replace(prior, scale=factor * prior.scale)
    return scaled


def simulate(
    total: npt.NDArray[np.intp], model: Model, number: int, rng: np.random.Generator
) -> Truth:
    """Draw parameters from the prior, and counts from them."""
    mu = model.location.sample(number, rng)
    tau = np.broadcast_to(model.scale.sample(number, rng), mu.shape)
    return draw_counts(mu, tau, total, model.effects, rng)


def _fitted(
    truth: Truth, counts: Counts, model: Model, rng: np.random.Generator
) -> dict[str, Array]:
    names = judged(model)
    values = _by_name(truth.mu, truth.tau, sigmoid(truth.mean), sigmoid(truth.new))
    found = {name: np.empty(len(truth.mu)) for name in names}
    for i, events in enumerate(truth.events):
        simulated = replace(counts, table=counts.table.assign(events=events))
        posterior = fit(simulated, model).exact
        for name in names:
            found[name][i] = _position(getattr(posterior, name), values[name][i], rng.uniform())
    return found


def _position(posterior: Distribution, value: float, share: float) -> float:
    """Return P(quantity <= value); rates that round to 0 or to 1 are taken apart by `share`."""
    low, high = float(posterior.cdf[0]), float(posterior.cdf[-1])
    below = 1 - posterior.prob_above(value)
    return share * low if below < low else high + share * (1 - high) if below > high else below


def _by_name(mu: Array, tau: Array, mean: Array, new: Array) -> dict[str, Array]:
    return dict(zip(NAMES, (mu, tau, tau**-2.0, mean, new), strict=True))


def _sampled(truth: Truth, table: pd.DataFrame, model: Model, seed: int) -> dict[str, Array]:
    """Return the share of draws below each true value; one chain a data set."""
    import nutpie

    from dfsp.engine.nuts import build

    compiled = nutpie.compile_pymc_model(build(table, model))
    rng = generator(seed, "positions")
    effects, names = model.effects.new, judged(model)
    true = _by_name(truth.mu, truth.tau, truth.mean, truth.new)
    found = {name: np.empty(len(truth.mu)) for name in names}
    for i, events in enumerate(truth.events):
        tree = nutpie.sample(
            compiled.with_data(counts=events.astype(np.int64)),
            chains=1, tune=500, draws=DRAWS, target_accept=0.95,
            seed=integer(seed, f"calibration {i}"), progress_bar=False,
        )  # fmt: skip
        draws = {name: each.to_numpy()[0] for name, each in tree["posterior"].data_vars.items()}
        if isinstance(effects, BetaBinomial):
            mu, tau = logit(draws["mean_rate"]), draws["concentration"] ** -0.5
        else:
            mu, tau = draws["mu"], draws["tau"]
        drawn = _by_name(mu, tau, logit_mean_rate(mu, tau, effects), effects.draw(mu, tau, rng))
        for name in names:
            # Every THIN-th draw is nearly independent; ties do not occur.
            below = np.sum(drawn[name][::THIN] < true[name][i])
            found[name][i] = (below + rng.uniform()) / (DRAWS // THIN + 1)
    return found


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
