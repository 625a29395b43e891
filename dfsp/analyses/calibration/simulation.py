"""Whether intervals cover what they claim, at the user's own number and size of studies.

*Simulation-based calibration* (Talts et al. 2018, doi:10.48550/arXiv.1804.06788): parameters are
drawn from the prior, counts from the parameters; the posterior's distribution function at each true
value (its probability integral transform, PIT) must be uniform.

*Coverage* at fixed truths, of four ways to pool, is a description and no verdict: a Bayesian
interval covers nominally on average over its prior, and need not at any fixed truth.

Studies of given sizes have few possible counts, whose likelihoods on one grid over the prior serve
all simulated data sets (`dfsp.engine.many`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import betaincinv, chdtrc, logit, ndtr, ndtri

from dfsp.checks import Check, failed
from dfsp.constants import CI_PROB, ENDS, SEED
from dfsp.engine.distributions import Distribution
from dfsp.engine.many import SharedGrid, TooLarge, distinct_counts
from dfsp.engine.posterior import AT_ONCE, solve
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import fit
from dfsp.model.effects import Effects, NormalEffects
from dfsp.model.likelihood import sigmoid
from dfsp.model.model import Model
from dfsp.seeds import generator, integer
from dfsp.text import Result, Sentences, Table, table_of
from dfsp.yardsticks import truths_about

Array = npt.NDArray[np.float64]
Intervals = dict[str, Array]
"""By quantity, the ends on the logit scale, shape (data set, 2); NaN if there is none."""

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
NARROWEST = 1e-9  # tau, where the truth is 0
DRAWS, THIN = 1000, 10  # of NUTS for a data set: every tenth draw is nearly independent

Z = float(ndtri(ENDS[1]))
SMALLEST, LARGEST = 1e-6, 100.0  # true rate, true tau
TAUS = (0.0, 0.3, 0.6, 1.0, 1.5)


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
class DataSets:
    """Simulated counts of one design, and the model they are analysed with.

    Attributes
    ----------
    events : array, shape (data set, study)
    total : array, shape (study,)
    model : Model
    """

    events: npt.NDArray[np.intp]
    total: npt.NDArray[np.intp]
    model: Model

    @cached_property
    def shared(self) -> tuple[SharedGrid, csr_array]:
        """The grid of all of them, and how often each has the grid's counts."""
        events, total, times = distinct_counts(self.events, self.total)
        return SharedGrid(events, total, [self.model], float(self.total.sum())), times


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Result):
    """Where true values lie in their posteriors, and what that says.

    Attributes
    ----------
    pit : pandas.DataFrame
        One row a data set, one column a quantity (`judged`): P(quantity <= true value | counts).
    checks : tuple of Check
        One a quantity: whether these are uniform (chi-square over 20 bins, or fewer where data sets
        are few).
    engine : {"table", "fit", "nuts"}

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> dfsp.calibration.calibrate(table, number=100)
    100 simulated data sets, all on one grid over the prior: calibrated
    """

    pit: pd.DataFrame
    checks: tuple[Check, ...]
    engine: Engine

    def describe(self) -> Sentences:
        """Say whether the posteriors are calibrated, and of which quantities not."""
        bad = [check.name.removeprefix("calibration: ") for check in failed(self.checks)]
        verdict = f"NOT calibrated: {', '.join(bad)}" if bad else "calibrated"
        number = f"{len(self.pit):,} simulated data sets"
        return Sentences(f"{number}, {ENGINES[self.engine]}: {verdict}")


def calibrate(
    counts: Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    number: int = 10_000,
    engine: Engine = "table",
    fitted: Model | None = None,
    seed: int = SEED,
) -> Calibration:
    """Simulate data sets of the same design from the prior, fit each, and judge the true values.

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
        A model or an option that cannot be used, a prior that has no use for draws, or a design
        too large for one grid.

    See Also
    --------
    coverage : What intervals hold at fixed truths.
    dfsp.plots.pit : The picture of it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> result = dfsp.calibration.calibrate(table, number=100)
    >>> [check.passed for check in result.checks]
    [True, True, True, True]
    """
    model = model or Model()
    fitted = fitted or model
    counts = Counts.of(counts)
    total = counts.table["total"].to_numpy(np.intp)
    for each in (model, fitted):
        if not isinstance(each, Model):
            raise DfspError(f"model {each!r}; give a dfsp.Model(mu, tau, effects)")
        if each.no_picture:
            raise DfspError(
                f"{each}: true values cannot be drawn from it, nor judged: {each.no_picture}"
            )
    _require_whole(number, LEAST)
    if engine not in ENGINES:
        raise DfspError(f"engine {engine!r} is not known; use one of {', '.join(ENGINES)}")
    truth = simulate(total, model, number, generator(seed, f"calibration {engine}"))
    if engine == "table":
        found = on_one_grid(truth, total, fitted)
    elif engine == "fit":
        found = _fitted(truth, counts, fitted, generator(seed, "positions"))
    else:
        found = _sampled(truth, counts.table, fitted, seed)
    pit = pd.DataFrame({name: found[name] for name in judged(fitted) if name in judged(model)})
    return Calibration(pit, tuple(_uniform(pit[name], name) for name in map(str, pit)), engine)


def both_ways(
    counts: Counts | pd.DataFrame,
    model: Model,
    *,
    number: int = 10_000,
    through_fit: int = 500,
    seed: int = SEED,
) -> tuple[list[Calibration], Calibration]:
    """Calibrate on one grid and through `dfsp.fit`, beside a control that must fail.

    Parameters
    ----------
    counts, model
        As in `calibrate`.
    number : int
        Data sets on one grid, and of the control.
    through_fit : int
        Data sets that are fitted one by one. Where the patients are too many for one grid these
        are all, and as many those of the control.
    seed : int

    Returns
    -------
    calibrations : list of Calibration
        On one grid, unless there is none, and through `dfsp.fit`.
    control : Calibration
        Analysed under a prior of tau that is half as wide.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> found, control = dfsp.calibration.both_ways(
    ...     table, dfsp.Model(), number=1000, through_fit=100
    ... )
    >>> [len(each.pit) for each in (*found, control)]
    [1000, 100, 1000]
    """
    one_by_one: dict[str, Any] = {"number": through_fit, "engine": "fit", "seed": seed}
    together: dict[str, Any] = {"number": number, "seed": seed}
    through = calibrate(counts, model, **one_by_one)
    wrong = model.narrowed()
    try:
        found = [calibrate(counts, model, **together), through]
    except TooLarge:
        return [through], calibrate(counts, model, fitted=wrong, **one_by_one)
    return found, calibrate(counts, model, fitted=wrong, **together)


def judged(model: Model) -> tuple[str, ...]:
    """Return the quantities that are judged: what a model has and leaves open.

    The typical rate is where mu is.
    """
    spread = model.effects.spread
    open_ones = ("mu", *([spread] if model.spread_prior.known is None else []))
    return tuple(
        name for name in (*open_ones, "mean_rate", "new_study_rate") if name in model.quantities
    )


def simulate(
    total: npt.NDArray[np.intp], model: Model, number: int, rng: np.random.Generator
) -> Truth:
    """Draw parameters from the prior, and counts from them."""
    return draw_counts(*model.draw_population(number, rng), total, model.effects, rng)


def draw_counts(
    mu: Array, tau: Array, total: npt.NDArray[np.intp], effects: Effects, rng: np.random.Generator
) -> Truth:
    """Draw study effects, one more study's effect, and counts; `mu` and `tau` (data set,)."""
    shape = (len(mu), len(total))
    each = np.broadcast_to(mu[:, None], shape), np.broadcast_to(tau[:, None], shape)
    events = rng.binomial(total, sigmoid(effects.draw_study(*each, rng)))
    mean = effects.new.logit_mean_rate(mu, np.maximum(tau, NARROWEST))
    return Truth(mu, tau, mean, effects.new.draw(mu, tau, rng), events)


def on_one_grid(truth: Truth, total: npt.NDArray[np.intp], model: Model) -> dict[str, Array]:
    """Return the PIT values of `judged` quantities, all posteriors computed on one grid."""
    grid, times = DataSets(truth.events, total, model).shared
    names, effects = judged(model), model.effects
    # On the grid's own coordinates, which a concentration falls with
    own = {effects.spread: "tau"}
    values = {
        "mu": truth.mu, "tau": truth.tau, "mean_rate": truth.mean, "new_study_rate": truth.new,
    }  # fmt: skip
    found: dict[str, list[Array]] = {name: [] for name in names}
    start = 0
    for tables in grid.tables(times):
        block = slice(start, start + len(tables.mean))
        start = block.stop
        for name in names:
            key = own.get(name, name)
            found[name].append(tables.below(key, values[key][block]))
    pit = {name: np.concatenate(each) for name, each in found.items()}
    one, two = effects.reported(np.array([1.0, 2.0]))
    return {name: 1 - p if name == effects.spread and two < one else p for name, p in pit.items()}


def _fitted(
    truth: Truth, counts: Counts, model: Model, rng: np.random.Generator
) -> dict[str, Array]:
    names = judged(model)
    values = _by_name(model.effects, truth.mu, truth.tau, sigmoid(truth.mean), sigmoid(truth.new))
    found = {name: np.empty(len(truth.mu)) for name in names}
    for i, events in enumerate(truth.events):
        simulated = replace(counts, table=counts.table.assign(events=events))
        posterior = fit(simulated, model).exact
        for name in names:
            found[name][i] = _pit(getattr(posterior, name), values[name][i], rng.uniform())
    return found


def _pit(posterior: Distribution, value: float, share: float) -> float:
    """Return P(quantity <= value); rates that round to 0 or to 1 are taken apart by `share`."""
    low, high = float(posterior.cdf[0]), float(posterior.cdf[-1])
    below = 1 - posterior.prob_above(value)
    return share * low if below < low else high + share * (1 - high) if below > high else below


def _by_name(effects: Effects, mu: Array, tau: Array, mean: Array, new: Array) -> dict[str, Array]:
    spread = effects.reported(tau)
    return {"mu": mu, effects.spread: spread, "mean_rate": mean, "new_study_rate": new}


def _sampled(truth: Truth, table: pd.DataFrame, model: Model, seed: int) -> dict[str, Array]:
    """Return the share of draws below each true value; one chain a data set."""
    import nutpie

    from dfsp.engine.nuts import build

    compiled = nutpie.compile_pymc_model(build(table, model))
    rng = generator(seed, "positions")
    effects, names = model.effects, judged(model)
    true = _by_name(effects, truth.mu, truth.tau, truth.mean, truth.new)
    found = {name: np.empty(len(truth.mu)) for name in names}
    for i, events in enumerate(truth.events):
        tree = nutpie.sample(
            compiled.with_data(counts=events.astype(np.int64)),
            chains=1, tune=500, draws=DRAWS, target_accept=0.95,
            seed=integer(seed, f"calibration {i}"), progress_bar=False,
        )  # fmt: skip
        draws = {name: each.to_numpy()[0] for name, each in tree["posterior"].data_vars.items()}
        mu, tau = effects.coordinates(draws)
        mean, new = effects.new.logit_mean_rate(mu, tau), effects.new.draw(mu, tau, rng)
        drawn = _by_name(effects, mu, tau, mean, new)
        for name in names:
            # Ties do not occur.
            below = np.sum(drawn[name][::THIN] < true[name][i])
            found[name][i] = (below + rng.uniform()) / (DRAWS // THIN + 1)
    return found


def _uniform(pit: "pd.Series[float]", name: str) -> Check:
    """Judge PIT values by Pearson's chi-square over equal bins."""
    bins = min(BINS, len(pit) // 10)
    observed = np.histogram(pit, bins=bins, range=(0, 1))[0]
    expected = len(pit) / bins
    statistic = float(((observed - expected) ** 2 / expected).sum())
    p = float(chdtrc(bins - 1, statistic))
    verdict = "are spread evenly" if p >= SIGNIFICANCE else "are NOT spread evenly"
    return Check(
        name=f"calibration: {name}",
        passed=p >= SIGNIFICANCE,
        value=p,
        limit=SIGNIFICANCE,
        says=f"the positions of {len(pit)} true values in their posteriors {verdict} over "
        f"{bins} bins (chi-square {statistic:.1f}, p = {p:.3g}).",
    )


@dataclass(frozen=True, eq=False, repr=False)
class Coverage(Result):
    """How often the intervals of several methods hold a fixed truth.

    Attributes
    ----------
    table : Table
        `typical_rate`, `tau` (the truth), `method`, `quantity` (`typical_rate`, `mean_rate`,
        `new_study_rate`), `coverage` (share of data sets; for a new study the probability that
        its true rate is inside, averaged), `width` (mean over the data sets with an interval, rate
        scale; NaN if there is none), `without` (data sets in which the method gives no interval;
        they count as not covered).

        Methods: `hierarchical`; `complete pooling` with the Clopper-Pearson interval, used for
        all three; `normal approximation` of the logits with 0.5 added, DerSimonian & Laird
        (1986, doi:10.1016/0197-2456(86)90046-2); `maximum likelihood` of the binomial-normal
        model with an interval from the curvature of its profile, unless the patients are too many
        for one grid over all data sets. The last two have no mean rate
        of their own: their typical rate is used.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> found = dfsp.calibration.coverage(table, rates=[0.3], taus=[0.5], number=20)
    >>> found.means().loc["typical_rate"].index.to_list()
    ['complete pooling', 'hierarchical', 'maximum likelihood', 'normal approximation']
    """

    table: Table

    def means(self) -> Table:
        """Return coverage and width averaged over the truths, and how often there was no interval.

        Indexed by `quantity` and `method`.
        """
        groups = self.table.groupby(["quantity", "method"])
        found = groups[["coverage", "width"]].mean().assign(without=groups["without"].sum())
        return table_of(found, digits=2)

    def describe(self) -> Sentences:
        """Say what adding patients up would have cost."""
        held = self.table.groupby(["method", "quantity"])["coverage"].mean()
        ours, added = (
            [f"{100 * held[method, name]:.0f} %" for name in ("typical_rate", "new_study_rate")]
            for method in ("hierarchical", "complete pooling")
        )
        return Sentences(
            f"Averaged over the fixed truths, {100 * CI_PROB:.0f} % intervals hold the typical "
            f"rate in {ours[0]} of data sets and a new study's rate with probability {ours[1]} "
            f"(hierarchical), against {added[0]} and {added[1]} when patients are added up."
        )


def coverage(
    counts: Counts | pd.DataFrame,
    model: Model | None = None,
    *,
    rates: Sequence[float] | None = None,
    taus: Sequence[float] = TAUS,
    number: int = 400,
    seed: int = SEED,
) -> Coverage:
    """Simulate data sets at fixed truths and see which intervals hold them.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
        Its number of studies and their sizes are the design.
    model : Model, optional
        Of the hierarchical analysis; normal effects.
    rates : sequence of float, optional
        True typical rates, between 0 and 1; by default 0.1, 0.3, 0.6 and 0.85, or if the counts'
        own is below 0.1 or above 0.9 that one, and a quarter and four times its odds.
    taus : sequence of float
        True standard deviations between studies, logit scale, 0 or more.
    number : int
        Data sets at each truth.
    seed : int

    Returns
    -------
    Coverage

    Raises
    ------
    DfspError
        A truth or a number of data sets that is not possible, or effects other than normal.

    See Also
    --------
    calibrate : Whether the posteriors are calibrated on average over the prior.
    dfsp.plots.coverage : The picture of it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> found = dfsp.calibration.coverage(table, rates=[0.3], taus=[0.5], number=20)
    >>> found.table["method"].unique().tolist()
    ['hierarchical', 'complete pooling', 'normal approximation', 'maximum likelihood']
    """
    model = model or Model()
    counts = Counts.of(counts)
    model.require_linear("coverage is computed for")
    _require_whole(number, 1)
    events, patients = counts.table["events"].sum(), counts.table["total"].sum()
    seen = truths_about(float((events + 0.5) / (patients + 1)))
    rates = np.unique(np.clip(seen, SMALLEST, 1 - SMALLEST)).tolist() if rates is None else rates
    possible = _within(rates, SMALLEST, 1 - SMALLEST) and _within(taus, 0, LARGEST)
    if not possible:
        raise DfspError(
            f"rates = {rates!r}, taus = {taus!r}; give one or more of each, rates in (0, 1), taus "
            f"0 or more (to {LARGEST:g})"
        )
    total = counts.table["total"].to_numpy(np.intp)
    rng = generator(seed, "coverage")
    truths = [(rate, tau) for rate in rates for tau in taus]
    drawn = []
    for rate, tau in truths:
        mu, spread = np.full(number, float(logit(rate))), np.full(number, float(tau))
        drawn.append(draw_counts(mu, spread, total, NormalEffects(), rng))
    data = DataSets(np.concatenate([truth.events for truth in drawn]), total, model)
    found = {method: compute(data) for method, compute in METHODS.items()}
    rows = []
    for i, (of_truth, truth) in enumerate(zip(truths, drawn, strict=True)):
        own = slice(i * number, (i + 1) * number)
        for method, intervals in found.items():
            for name, ends in intervals.items():
                held, width = _held(name, ends[own], truth)
                without = int(np.isnan(ends[own]).any(-1).sum())
                rows.append((*of_truth, method, name, held, width, without))
    columns = ["typical_rate", "tau", "method", "quantity", "coverage", "width", "without"]
    return Coverage(table_of(rows, digits=2, columns=columns))


def verdict(calibrations: Sequence[Calibration], control: Calibration) -> Sentences:
    """Say whether the posteriors are calibrated, and whether a wrong prior is caught.

    Parameters
    ----------
    calibrations : sequence of Calibration
    control : Calibration
        Of a wrong prior.

    Returns
    -------
    Sentences

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [1, 2], "total": [4, 4]})
    >>> good = dfsp.calibration.calibrate(table, number=100)
    >>> wrong = dfsp.Model(mu=dfsp.Normal(3, 0.5))
    >>> control = dfsp.calibration.calibrate(table, number=100, fitted=wrong)
    >>> dfsp.calibration.verdict([good], control)  # doctest: +NORMALIZE_WHITESPACE
    In 100 simulated data sets of this design the posteriors are calibrated, and a wrong
    prior is caught.
    """
    good = not any(failed(each.checks) for each in calibrations)
    sets = " and ".join(f"{len(each.pit):,}" for each in calibrations)
    return Sentences(
        f"In {sets} simulated data sets of this design the posteriors are "
        f"{'calibrated' if good else 'NOT calibrated'}, and a wrong prior is "
        f"{'caught' if failed(control.checks) else 'NOT caught'}."
    )


def _require_whole(number: object, least: int) -> None:
    whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
    if not whole or number < least:  # type: ignore[operator]
        raise DfspError(f"number = {number!r}; give a whole number of {least} or more")


def _within(values: Sequence[float], low: float, high: float) -> bool:
    array = np.asarray(values)
    numbers = array.ndim == 1 and array.size > 0 and array.dtype.kind in "iuf"
    return bool(numbers and ((array >= low) & (array <= high)).all())


def _held(name: str, ends: Array, truth: Truth) -> tuple[float, float]:
    mu, tau = truth.mu[0], truth.tau[0]
    low, high = ends.T
    widths = (sigmoid(high) - sigmoid(low))[~np.isnan(low)]
    width = float(widths.mean()) if len(widths) else float("nan")
    if name == "new_study_rate" and tau > 0:
        return float(np.nan_to_num(ndtr((high - mu) / tau) - ndtr((low - mu) / tau)).mean()), width
    value = truth.mean[0] if name == "mean_rate" else mu
    return float(np.mean((low <= value) & (value <= high))), width


def _hierarchical(data: DataSets) -> Intervals:
    try:
        grid, times = data.shared
    except TooLarge:
        return _one_by_one(data)
    own = {"typical_rate": "mu", "mean_rate": "mean_rate", "new_study_rate": "new_study_rate"}
    parts = [
        {name: some.quantiles(key, ENDS) for name, key in own.items()}
        for some in grid.tables(times)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in own}


def _one_by_one(data: DataSets) -> Intervals:
    names = "typical_rate", "mean_rate", "new_study_rate"
    ends = np.empty((len(names), len(data.events), 2))
    for i, events in enumerate(data.events):
        posterior = solve(events, data.total, data.model)
        ends[:, i] = [logit(getattr(posterior, name).quantile(ENDS)) for name in names]
    return dict(zip(names, ends, strict=True))


def _complete_pooling(data: DataSets) -> Intervals:
    r, n = data.events.sum(-1), data.total.sum()
    low = np.where(r > 0, betaincinv(np.maximum(r, 1), n - r + 1, ENDS[0]), 0)
    high = np.where(r < n, betaincinv(r + 1, np.maximum(n - r, 1), ENDS[1]), 1)
    ends = logit(np.stack([low, high], axis=-1))
    return dict.fromkeys(("typical_rate", "mean_rate", "new_study_rate"), ends)


def _normal_approximation(data: DataSets) -> Intervals:
    r, n = data.events + 0.5, data.total + 1.0
    y, weight = np.log(r / (n - r)), 1 / (1 / r + 1 / (n - r))
    sums = weight.sum(-1)
    fixed = (weight * y).sum(-1) / sums
    q = (weight * (y - fixed[:, None]) ** 2).sum(-1)
    spare = sums - (weight**2).sum(-1) / sums
    excess = q - (len(data.total) - 1)
    tau2 = np.where(spare > 0, np.maximum(excess, 0) / np.where(spare > 0, spare, 1), 0)
    weight = 1 / (1 / weight + tau2[:, None])
    mu = (weight * y).sum(-1) / weight.sum(-1)
    return _wald(mu, 1 / weight.sum(-1), tau2)


def _maximum_likelihood(data: DataSets) -> Intervals:
    """Maximise over the grid; near its maximum the profile of mu is a parabola in t.

    mu = 2 sinh(t) is that of `SharedGrid`; the slope is 0 there, so that the curvature in mu is
    that in t over (dmu/dt)^2.
    """
    try:
        grid, times = data.shared
    except TooLarge:
        return {}
    t = np.arcsinh(grid.mu / 2)
    spacing = t[1] - t[0]
    u = grid.rows.u
    number = times.shape[0]
    mu, variance, tau2 = (np.empty(number) for _ in range(3))
    step = max(1, AT_ONCE // grid.log_l.shape[1])
    for start in range(0, number, step):
        block = slice(start, start + step)
        height = grid.log_likelihood(times[block])
        profile = height.max(1)
        best = profile.argmax(-1)
        inner = (best > 0) & (best < len(t) - 1)
        at = np.clip(best, 1, len(t) - 2)
        rows = np.arange(len(at))
        row = height[rows, :, at].argmax(-1)
        (left, _), (middle, best_u), (right, _) = (
            _highest(height[rows, :, at + step], u, row) for step in (-1, 0, 1)
        )
        slope, bend = (right - left) / 2, left - 2 * middle + right
        good = inner & (bend < 0)
        bend = np.where(good, bend, -1.0)
        peak = np.where(good, t[at] - slope / bend * spacing, np.nan)
        mu[block] = 2 * np.sinh(peak)
        variance[block] = -((2 * np.cosh(peak) * spacing) ** 2) / bend
        tau2[block] = (grid.rows.c * np.sinh(best_u)) ** 2
    return _wald(mu, variance, tau2)


def _highest(height: Array, u: Array, row: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the maximum over tau, shape (data set,), and its u, by a parabola about `row`."""
    if len(u) == 1:
        return height[:, 0], np.broadcast_to(u, len(height))
    rows, k = np.arange(len(height)), np.clip(row, 1, len(u) - 2)
    (x0, y0), (x1, y1), (x2, y2) = ((u[k + i], height[rows, k + i]) for i in (-1, 0, 1))
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = np.minimum((second - first) / (x2 - x0), -1e-12)
    at = np.clip((x0 + x1) / 2 - first / (2 * bend), x0, x2)
    return y0 + (at - x0) * (first + bend * (at - x1)), at


def _wald(mu: Array, variance: Array, tau2: Array) -> Intervals:
    def interval(spread: Array) -> Array:
        return np.stack([mu - Z * np.sqrt(spread), mu + Z * np.sqrt(spread)], axis=-1)

    own = interval(variance)
    return {"typical_rate": own, "mean_rate": own, "new_study_rate": interval(variance + tau2)}


METHODS: dict[str, Callable[[DataSets], Intervals]] = {
    "hierarchical": _hierarchical,
    "complete pooling": _complete_pooling,
    "normal approximation": _normal_approximation,
    "maximum likelihood": _maximum_likelihood,
}
