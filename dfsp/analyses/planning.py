"""What the evidence says about the next trial: its prior, what that is worth, what to expect.

The new-study distribution is approximated by a mixture of beta distributions, which updates in
closed form and can be handed to R. Everything here is deterministic and on the rate scale.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize
from scipy.special import bdtrc, betainc, betaln, gammaln, logsumexp, psi

from dfsp.checks import Check
from dfsp.engine.distributions import invert
from dfsp.engine.posterior import Posterior
from dfsp.engine.predictive import rate_points
from dfsp.errors import DfspError
from dfsp.fitting import Fit, require_fit
from dfsp.model.likelihood import sigmoid
from dfsp.rates import PERCENT, Unit
from dfsp.text import Result, Sentences, Table, chance, table_of
from dfsp.yardsticks import rates_about, rounded

__all__ = [
    "BetaMixture",
    "MixtureFit",
    "Plan",
    "SampleSize",
    "SampleSizes",
    "critical_events",
    "effective_sample_size",
    "fit_mixture",
    "mixture_sample_size",
    "moment_sample_size",
    "operating_characteristics",
    "plan",
    "probability_greater",
    "rate_to_exceed",
    "sample_sizes",
]


def __dir__() -> list[str]:
    return __all__


Array = npt.NDArray[np.float64]

MOST_COMPONENTS = 4  # beta components tried
CLOSE = 0.005  # difference of distribution functions that needs no further component,
CLOSE_SD = 0.02  # and relative difference of standard deviations: a tail of little weight is seen
UNLIKE = 0.05  # relative difference of two sample sizes that is said
FAR_APART = 2.0  # ratio of two definitions of a sample size whose reason is said
EXCEEDED = 0.95  # probability that a new study's rate exceeds that which nobody named
SUCCESS = 0.975  # posterior probability that a planned trial must exceed
OUTERMOST = 1e-8  # weight of nodes that are left out to see how far the outermost ones matter
STEP = 0.05  # of arcsinh, between points of the information's integral
REACHES = (30.0, 60.0, 120.0, 240.0, 480.0, 700.0)  # logit; beyond, 1/p(1 - p) overflows
NEGLIGIBLE = 1e-10  # share of an integral at its ends
GRID_ERROR = 1e-6  # relative error of the exact engine's density, an upper estimate
LOOSE = 0.1  # relative error above which a sample size is not given
RULES = (10, 16)  # Gauss-Legendre points in a panel; their difference estimates the error
PANEL = 0.25  # length of a panel in arcsinh units of a component's width
DECAY = 40.0  # exponential decay after which a tail is left out, e^-40
_PLANNED = ["n", "critical_events", "false_success", "success"]
FAR = 40.0  # logit rate beyond which a beta distribution function is a power to all digits


@dataclass(frozen=True, repr=False)
class BetaMixture(Result):
    """A mixture of beta distributions of a rate.

    Attributes
    ----------
    weight, a, b : array, shape (component,)
        Weights that add up to 1, and the parameters of the components, by falling weight.
    fault : str
        Why it does not stand for what it was fitted to; `""` if it does, or was not fitted.

    Raises
    ------
    DfspError
        The arrays are of different lengths or not all finite and positive, or the weights do not
        add up to 1.

    See Also
    --------
    fit_mixture : The mixture that stands for the rate of a new study.

    Examples
    --------
    >>> import dfsp
    >>> prior = dfsp.planning.BetaMixture([0.8, 0.2], [4, 1], [8, 1])
    >>> round(prior.mean, 3), round(prior.above(0.3), 3)
    (0.367, 0.596)
    >>> prior.update(events=5, n=20)
    0.905 Beta(9, 23.0) + 0.095 Beta(6, 16.0)
    """

    weight: Array
    a: Array
    b: Array
    fault: str = ""

    def __post_init__(self) -> None:
        named = (("weight", self.weight), ("a", self.a), ("b", self.b))
        parts = [_numbers(name, part) for name, part in named]
        for (name, _), part in zip(named, parts, strict=True):
            if part.ndim != 1 or part.shape != parts[0].shape or not len(part):
                raise DfspError("a beta mixture needs weight, a and b of one length, 1 or more")
            if not (np.isfinite(part).all() and (part > 0).all()):
                raise DfspError(f"{name} = {part.tolist()}: give finite numbers above 0")
            object.__setattr__(self, name, part)
        if abs(parts[0].sum() - 1) > 1e-6:
            raise DfspError(f"the weights add up to {parts[0].sum():g}; give weights of sum 1")

    def describe(self) -> Sentences:
        """Name the components, with no more digits than a fitted mixture has."""
        parts = zip(self.weight, self.a, self.b, strict=True)
        return Sentences(" + ".join(f"{w:.3f} Beta({_short(a)}, {_short(b)})" for w, a, b in parts))

    @property
    def mean(self) -> float:
        """Mean rate."""
        return float(self.weight @ (self.a / (self.a + self.b)))

    @property
    def variance(self) -> float:
        """Variance of the rate."""
        size = self.a + self.b
        square = self.a * (self.a + 1) / (size * (size + 1))
        return float(self.weight @ square) - self.mean**2

    def cdf(self, rate: npt.ArrayLike) -> Array:
        """Return P(rate <= `rate`), for rates from 0 to 1, of any shape.

        Raises
        ------
        DfspError
            A rate outside its range.

        Examples
        --------
        >>> import dfsp
        >>> dfsp.planning.BetaMixture([1], [4], [8]).cdf([0.2, 0.3]).round(3)
        array([0.161, 0.43 ])
        """
        at = _numbers("rate", rate)[..., None]
        if not ((at >= 0) & (at <= 1)).all():
            raise DfspError(f"rate = {rate!r}: give rates from 0 to 1")
        return np.asarray(betainc(self.a, self.b, at) @ self.weight, dtype=np.float64)

    def above(self, rate: float) -> float:
        """Return P(rate > `rate`).

        Examples
        --------
        >>> round(BetaMixture([1], [1], [1]).update(5, 20).above(0.2), 3)
        0.769

        Raises
        ------
        DfspError
            `rate` is no number from 0 to 1.
        """
        if not (_number(rate) and 0 <= rate <= 1):
            raise DfspError(f"rate = {rate!r}: give a number from 0 to 1")
        return float(betainc(self.b, self.a, 1 - rate) @ self.weight)

    def predict(self, n: int) -> Array:
        """Return the probability of each number of events among `n` patients, shape (n + 1,).

        Examples
        --------
        >>> import dfsp
        >>> dfsp.planning.BetaMixture([1], [1], [1]).predict(3).round(3)
        array([0.25, 0.25, 0.25, 0.25])
        """
        _whole("n", n, 1)
        return np.exp(logsumexp(self._log_parts(np.arange(n + 1.0), n), axis=1))

    def update(self, events: int, n: int) -> "BetaMixture":
        """Return the posterior after `events` of `n` patients.

        Raises
        ------
        DfspError
            Not 0 <= events <= n in whole numbers.

        Examples
        --------
        >>> import dfsp
        >>> dfsp.planning.BetaMixture([1], [1], [1]).update(events=5, n=20)
        1.000 Beta(6, 16.0)
        """
        _whole("n", n, 0)
        _whole("events", events, 0)
        if events > n:
            raise DfspError(f"events = {events} exceeds n = {n}")
        log_w = self._log_parts(np.array([float(events)]), n)[0]
        weight = np.exp(log_w - logsumexp(log_w))
        keep = weight > 0
        a, b = self.a + events, self.b + n - events
        return BetaMixture(weight[keep], a[keep], b[keep], self.fault)

    def robustify(self, weight: float, mean: float = 0.5) -> "BetaMixture":
        """Return the mixture with a vague component worth two patients added.

        Schmidli et al. 2014, doi:10.1111/biom.12242.

        Parameters
        ----------
        weight : float
            Prior probability that the next trial is unlike the evidence, 0 <= weight < 1.
        mean : float
            Mean rate of the vague component; 0.5 is the uniform distribution.

        Raises
        ------
        DfspError
            A weight or a mean outside its range.

        Examples
        --------
        >>> import dfsp
        >>> dfsp.planning.BetaMixture([1], [4], [8]).robustify(0.2)
        0.800 Beta(4, 8) + 0.200 Beta(1, 1)
        """
        if not (_number(weight) and 0 <= weight < 1):
            raise DfspError(f"weight = {weight!r}: give a number from 0 to below 1")
        _inside("mean", mean)
        if weight == 0:
            return self
        return BetaMixture(
            np.append(self.weight * (1 - weight), weight),
            np.append(self.a, 2 * mean),
            np.append(self.b, 2 * (1 - mean)),
            self.fault,
        )

    def as_dict(self) -> dict[str, object]:
        """Return the object that RBesT's `read_mix_json` reads."""
        names: list[str] | None = [f"comp{k}" for k in range(1, len(self.weight) + 1)]
        if len(self.weight) == 3:
            # R's jsonlite would make a matrix of two lists of three names, which are no dimnames
            names = None
        return {
            "meta": {
                "dim": [3, len(self.weight)],
                "dimnames": [["w", "a", "b"], names],
                "class": ["betaMix", "mix"],
                "link": "identity",
            },
            "comp": [self.weight.tolist(), self.a.tolist(), self.b.tolist()],
        }

    def write(self, file: str | Path, *, anyway: bool = False) -> None:
        """Write the mixture as JSON for RBesT's `read_mix_json`.

        Parameters
        ----------
        file : str or Path
        anyway : bool
            Also if it does not stand for what it was fitted to.

        Raises
        ------
        DfspError
            It does not, or the file cannot be written.

        Examples
        --------
        >>> import dfsp, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "prior.json")
        ...     dfsp.planning.BetaMixture([1], [4], [8]).write(file)
        ...     "betaMix" in file.read_text()
        True
        """
        if self.fault and not anyway:
            raise DfspError(f"{file} is not written: {self.fault}; write it with anyway=True")
        try:
            Path(file).write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise DfspError(f"{file} cannot be written: {error.strerror}") from error

    def _log_parts(self, events: Array, n: int) -> Array:
        """Log of weight times beta-binomial probability, shape (event, component)."""
        events = events[:, None]
        choose = gammaln(n + 1) - gammaln(events + 1) - gammaln(n - events + 1)
        ratio = betaln(self.a + events, self.b + n - events) - betaln(self.a, self.b)
        return np.asarray(np.log(self.weight) + choose + ratio, dtype=np.float64)


@dataclass(frozen=True, repr=False)
class MixtureFit(Result):
    """A beta mixture fitted to a new-study distribution.

    Attributes
    ----------
    mixture : BetaMixture
    error : float
        Largest difference of the two distribution functions.
    check : Check
        Whether it stands for the distribution: this difference is at most 0.005, and its standard
        deviation within 2 %.
    tried : Table
        One row a number of components: `components`, `error`, `divergence` (Kullback-Leibler,
        relative to the best one tried).

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> one = dfsp.planning.fit_mixture(dfsp.fit(table), components=1)
    >>> one.check.passed, round(one.error, 3)
    (False, 0.076)
    """

    mixture: BetaMixture
    error: float
    check: Check
    tried: Table

    def describe(self) -> Sentences:
        """Name the mixture, and say whether it stands for the distribution."""
        return Sentences(f"{self.mixture.describe()}\n{self.check}")


def _exact(fit: Fit) -> Posterior:
    """Return the exact posterior of a fit, which is what all but mixtures start from."""
    return require_fit(fit).exact


def _mixture(of: "BetaMixture | MixtureFit") -> BetaMixture:
    return of.mixture if isinstance(of, MixtureFit) else of


def fit_mixture(fit: Fit, *, components: int | None = None) -> MixtureFit:
    """Approximate the new-study distribution by a mixture of beta distributions.

    The mixture minimises the Kullback-Leibler divergence from the exact distribution, by a
    deterministic search; no draws are involved.

    Parameters
    ----------
    fit : Fit
        From the exact engine.
    components : int, optional
        1 to 4. By default the fewest whose distribution function is within 0.005 of the exact one
        and whose standard deviation within 2 %, or else the closest.

    Returns
    -------
    MixtureFit

    Raises
    ------
    DfspError
        `components` is not a whole number from 1 to 4.

    See Also
    --------
    sample_sizes : What it is worth in patients.
    plan : What a trial with it should expect.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> found = dfsp.planning.fit_mixture(dfsp.fit(table), components=2)
    >>> found.mixture
    0.713 Beta(7.9, 16.3) + 0.287 Beta(1.4, 2.2)
    >>> round(found.error, 3)
    0.007
    """
    if components is not None:
        _whole("components", components, 1, MOST_COMPONENTS)
    exact = _exact(fit).new_study_rate
    theta, point_weight = rate_points(exact)
    # Points of their own: those of the engine's table would miss the largest difference. Three
    # times as many as 4,001, which missed 1.5e-4 of it.
    ends = invert(exact.x[None], exact.cdf[None], np.array([1e-6, 1 - 1e-6]))[0]
    at = np.linspace(ends[0], ends[1], 12_001)
    cdf, rate = exact.cdf_of_points(at), sigmoid(at)
    found: list[tuple[BetaMixture, float, Check, float]] = []
    for number in range(1, MOST_COMPONENTS + 1) if components is None else [components]:
        mixture, cross_entropy = _closest(theta, point_weight, number)
        error = float(np.abs(mixture.cdf(rate) - cdf).max())
        check = _stands_for(mixture, error, exact.sd)
        found.append((mixture, error, check, cross_entropy))
        if check.passed:
            break
    best = min(entropy for *_, entropy in found)
    tried = table_of(
        {
            "components": [len(mixture.weight) for mixture, *_ in found],
            "error": [error for _, error, *_ in found],
            "divergence": [entropy - best for *_, entropy in found],
        },
        digits=3,
    )
    mixture, error, check, _ = min(found, key=lambda one: (not one[2].passed, one[1]))
    if not check.passed:
        mixture = replace(mixture, fault=check.says)
    return MixtureFit(mixture, error, check, tried)


def _stands_for(mixture: BetaMixture, error: float, sd: float) -> Check:
    """Hold a mixture against the distribution that it approximates."""
    own = float(np.sqrt(mixture.variance))
    off = abs(own / sd - 1)
    return Check(
        name="the beta mixture stands for the new-study rate",
        passed=error <= CLOSE and off <= CLOSE_SD,
        value=error,
        limit=CLOSE,
        says=f"the mixture's distribution function is within {error:.1g} of the new-study rate's "
        f"(limit {CLOSE:g}), and its standard deviation is {own / sd:.3f} times as large (limits "
        f"{1 - CLOSE_SD:g} and {1 + CLOSE_SD:g})",
    )


def _closest(theta: Array, weight: Array, number: int) -> tuple[BetaMixture, float]:
    """Minimise the cross-entropy of the mixture relative to weighted logit rates."""
    log_p, log_q = -np.logaddexp(0, -theta), -np.logaddexp(0, theta)
    # A component of size a + b about a rate p has variance 1 / ((a + b) p (1 - p)) of the logit.
    centre = float(weight @ theta)
    variance = float(weight @ (theta - centre) ** 2)

    def start(middle: Array, share: Array) -> Array:
        """Return components about logits, of these shares of the variance."""
        p = sigmoid(middle)
        size = 1 / (variance * share * p * (1 - p))
        return np.concatenate([np.zeros(number), np.log(size * p), np.log(size * (1 - p))])

    # Components spread over the quantiles, and components of one middle and unlike sizes
    spread = np.interp((np.arange(number) + 0.5) / number, np.cumsum(weight), theta)
    starts = [start(spread, np.full(number, 1 / number))]
    if number > 1:
        starts.append(start(np.full(number, centre), np.geomspace(3, 0.3, number)))
        starts.append(start((spread + centre) / 2, np.geomspace(0.25, 2.5, number)))

    def loss(x: Array) -> tuple[float, Array]:
        share, a, b = x[:number], np.exp(x[number : 2 * number]), np.exp(x[2 * number :])
        log_w = share - logsumexp(share)
        parts = log_w + np.outer(log_p, a) + np.outer(log_q, b) - betaln(a, b)
        total = logsumexp(parts, axis=1)
        responsibility = np.exp(parts - total[:, None]) * weight[:, None]
        mass = responsibility.sum(0)
        both = psi(a + b)
        gradient = np.concatenate(
            [
                mass - np.exp(log_w),
                a * (log_p @ responsibility - mass * (psi(a) - both)),
                b * (log_q @ responsibility - mass * (psi(b) - both)),
            ]
        )
        return -float(weight @ total), -gradient

    best = min(
        (
            minimize(
                loss,
                each,
                jac=True,
                method="L-BFGS-B",
                # A component of no weight goes nowhere; sizes are free.
                bounds=[(-12, 12)] * number + [(None, None)] * (2 * number),
                options={"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-9},
            )
            for each in starts
        ),
        key=lambda result: float(result.fun),
    )
    share = best.x[:number]
    mixture_weight = np.exp(share - logsumexp(share))
    a, b = np.exp(best.x[number : 2 * number]), np.exp(best.x[2 * number :])
    order = np.argsort(-mixture_weight)
    return BetaMixture(mixture_weight[order], a[order], b[order]), float(best.fun)


@dataclass(frozen=True, repr=False)
class SampleSize(Result):
    """What a distribution of a rate is worth in patients.

    Attributes
    ----------
    value : float or None
        None where it does not exist.
    error : float or None
        Estimate of the numerical error of `value`.
    says : str
        How it was computed, or why it does not exist.

    Examples
    --------
    >>> import dfsp
    >>> size = dfsp.planning.mixture_sample_size(dfsp.planning.BetaMixture([1], [4], [8]))
    >>> round(size.value, 3), size.says
    (12.0, 'beta mixture')
    """

    value: float | None
    error: float | None
    says: str

    def describe(self) -> Sentences:
        """Say how many patients, or why there is no number."""
        worth = "no number of patients" if self.value is None else _patients(self.value)
        return Sentences(f"{worth}: {self.says}")


@dataclass(frozen=True, repr=False)
class SampleSizes(Result):
    """What a new-study distribution is worth in patients, by each definition.

    Attributes
    ----------
    exact : SampleSize
        Expected local-information-ratio (ELIR), of the exact density.
    mixture : SampleSize
        The same of the mixture that stands in for it.
    moment : float
        Patients of the beta distribution with the same mean and standard deviation.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fit = dfsp.fit(table)
    >>> sizes = dfsp.planning.sample_sizes(fit, dfsp.planning.fit_mixture(fit, components=2))
    >>> sizes.table[["definition", "patients"]]
             definition patients
                   ELIR     13.2
    ELIR of the mixture     13.2
                 moment      9.5
    """

    exact: SampleSize
    mixture: SampleSize
    moment: float

    @property
    def unlike(self) -> str:
        """How the two differ, if they do by more than one in twenty; else `""`."""
        exact, mixed = self.exact.value, self.mixture.value
        if not exact or not mixed or abs(mixed / exact - 1) <= UNLIKE:
            return ""
        return f"{mixed / exact:.2f} times the density's"

    @property
    def table(self) -> Table:
        """One row a definition: `definition`, `patients`, `error`, `says`.

        Patients and error are NaN where they do not exist or are not estimated.
        """
        mixed = self.mixture
        says = ", ".join(filter(None, (mixed.says, self.unlike)))
        rows = [
            ("ELIR", self.exact.value, self.exact.error, self.exact.says),
            ("ELIR of the mixture", mixed.value, mixed.error, says),
            ("moment", self.moment, None, "exact mean and sd"),
        ]
        frame = pd.DataFrame(rows, columns=["definition", "patients", "error", "says"])
        sizes = frame.astype({"patients": float, "error": float})
        return table_of(sizes, formats={"patients": ",.1f", "error": ".1e"})

    def describe(self) -> Sentences:
        """Say what the evidence is worth for the rate of a new study."""
        worth = "no number of patients (ELIR)"
        if self.exact.value is not None:
            error = f"{self.exact.error or 0:.1g}"
            if "e+" in error:
                error = f"{float(error):,.0f}"
            worth = f"{_patients(self.exact.value)} (ELIR) with a numerical error of {error}"
        return Sentences(
            f"For the rate of a new study the evidence is worth {worth}, and "
            f"{_patients(self.moment)} by moments."
            + (f" By ELIR the mixture is worth {self.unlike}." if self.unlike else "")
            + self._apart()
        )

    def _apart(self) -> str:
        """Go on to why both are far apart; `""` where they are not, or one is missing."""
        ratio = (self.exact.value or self.moment) / self.moment
        times = max(ratio, 1 / ratio)
        if times <= FAR_APART:
            return ""
        return (
            f" The two are {times:,.{1 if times < 10 else 0}f} times apart, since the rate's "
            "distribution is not like a beta distribution: its tails rule the moments, and its "
            "peak rules ELIR."
        )


def effective_sample_size(fit: Fit) -> SampleSize:
    """Return the expected local-information-ratio sample size (ELIR) of the new-study rate.

    For a density pi on (0, 1) that vanishes at both ends it is 2 + E[(d log pi / dp)^2 p (1 - p)]
    (Neuenschwander et al. 2020, doi:10.1111/biom.13252, integrated by parts). No mixture is
    involved: the density is the exact engine's.

    Parameters
    ----------
    fit : Fit
        From the exact engine.

    Returns
    -------
    SampleSize
        Without a value where the integral diverges, which the tail of tau's prior decides, and
        where it lies so far out that its numerical error exceeds a tenth of it.

    See Also
    --------
    mixture_sample_size : The same of a mixture.
    sample_sizes : Each definition side by side.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> round(dfsp.planning.effective_sample_size(dfsp.fit(table)).value, 1)
    13.2
    """
    return exact_sample_size(_exact(fit))


def exact_sample_size(posterior: Posterior) -> SampleSize:
    """Return the ELIR sample size of an exact posterior; see `effective_sample_size`."""
    if why := posterior.model.effects.no_sample_size(posterior.model.tau):
        return SampleSize(None, None, why)
    fine, coarse, short = (
        _information(posterior, step, faint)
        for step, faint in ((STEP, 0.0), (2 * STEP, 0.0), (STEP, OUTERMOST))
    )
    value = 2 + fine
    error = abs(fine - coarse) + abs(fine - short) + GRID_ERROR * value
    if not error <= LOOSE * value:
        why = "lies too far out in the tails to be computed: its error exceeds a tenth of it"
        return SampleSize(None, None, why)
    return SampleSize(value, error, "exact density")


def _information(posterior: Posterior, step: float, faint: float) -> float:
    """Integrate (d log pi / dp)^2 p (1 - p) over logit rates; infinite where that overflows.

    Nodes of a weight below `faint` are left out.
    """
    nodes, grid = posterior.nodes, posterior.grid
    main = nodes.weight > faint
    mu, narrowness = nodes.mu[main], nodes.weight[main] / nodes.width[main] ** 2
    # Equidistant in the inverse hyperbolic sine about the peak, in units of the narrowest row's
    # standard deviation; rows of little weight may be resolved less well
    centre = float(narrowness @ mu / narrowness.sum())
    sd = np.hypot(grid.sd, grid.tau) * np.maximum(posterior.row_weight, 1e-16) ** -0.25
    unit = float(sd.min())

    def part(u: Array) -> Array:
        x = centre + unit * np.sinh(u)
        density, slope = nodes.density_and_slope(x, main)
        seen = density > 0
        over = np.square(2 * np.cosh(x / 2)) * unit * np.cosh(u) * step  # dx / p(1 - p)
        log_slope = np.divide(slope, density, out=np.zeros_like(x), where=seen)
        return np.where(seen, density * (log_slope + np.tanh(x / 2)) ** 2 * over, 0)

    for reach in REACHES:
        most = float(np.arcsinh(reach / unit))
        u = np.arange(-most, most, step)
        # In blocks, which fit into the processor's cache
        parts = np.concatenate([part(u[k : k + 64]) for k in range(0, len(u), 64)])
        total = float(parts.sum())
        if max(parts[0], parts[-1]) <= NEGLIGIBLE * total:
            return total
    return np.inf


def mixture_sample_size(mixture: BetaMixture) -> SampleSize:
    """Return the ELIR sample size of a beta mixture, defined as in `effective_sample_size`.

    Parameters
    ----------
    mixture : BetaMixture

    Returns
    -------
    SampleSize
        Without a value if a component has a or b of 1 or less, whose density does not vanish at an
        end, or not fast enough.

    Examples
    --------
    >>> import dfsp
    >>> size = dfsp.planning.mixture_sample_size(dfsp.planning.BetaMixture([1], [4], [8]))
    >>> round(size.value, 3)
    12.0
    """
    a, b = mixture.a, mixture.b
    if ((a <= 1) | (b <= 1)).any():
        return SampleSize(None, None, "a component has a or b of 1 or less")
    left, right = DECAY / (a - 1), DECAY / (b - 1)
    values = []
    for number in RULES:
        x, spacing = _logit_rule(a, b, left, right, number)
        log_p, log_q = -np.logaddexp(0, -x), -np.logaddexp(0, x)
        # Of the mixture's density over p (1 - p), component by component
        logs = np.log(mixture.weight) - betaln(a, b)
        logs = logs + np.outer(log_p, a - 1) + np.outer(log_q, b - 1)
        log_sum = logsumexp(logs, axis=1)
        responsibility = np.exp(logs - log_sum[:, None])
        # p (1 - p) d log pi / dp
        slope = np.outer(np.exp(log_q), a - 1) - np.outer(np.exp(log_p), b - 1)
        values.append(float(((responsibility * slope).sum(1) ** 2 * np.exp(log_sum)) @ spacing))
    value = 2 + values[1]
    # Logarithms of the density lose digits where the parameters are large
    rounding = 1e-9 * max(1.0, value * 1e-6) * abs(value)
    return SampleSize(value, abs(values[1] - values[0]) + rounding, "beta mixture")


def _logit_rule(a: Array, b: Array, left: Array, right: Array, number: int) -> tuple[Array, Array]:
    """Return points and weights for integrals over logit rates of beta densities.

    Panels of `number` Gauss-Legendre points are short at the mode of every component and about 0,
    where exponential tails bend, and grow with the distance up to `left` and `right` of them.
    """
    width = np.append(np.sqrt(1 / a + 1 / b), 1.0)
    middle = np.append(np.log(a / b), 0.0)
    ends = [np.arcsinh(np.append(tail, 0.0) / width + 12) for tail in (left, right)]
    edges = np.concatenate(
        [
            centre + scale * np.sinh(np.arange(-low, high + PANEL, PANEL))
            for centre, scale, low, high in zip(middle, width, *ends, strict=True)
        ]
    )
    edges = np.unique(edges)
    point, weight = np.polynomial.legendre.leggauss(number)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + point)).ravel(), (half * weight).ravel()


def moment_sample_size(mean: float, sd: float) -> float:
    """Return a + b of the beta distribution of this mean and standard deviation of a rate.

    Parameters
    ----------
    mean, sd : float
        Rate scale.

    Raises
    ------
    DfspError
        `mean` is not between 0 and 1, or no beta distribution has this `sd`.

    Examples
    --------
    >>> import dfsp
    >>> prior = dfsp.planning.BetaMixture([1], [4], [8])
    >>> round(dfsp.planning.moment_sample_size(prior.mean, prior.variance**0.5), 3)
    12.0
    """
    _inside("mean", mean)
    if not _number(sd) or not 0 < sd**2 < mean * (1 - mean):
        raise DfspError(f"sd = {sd!r}: give a number above 0 and below sqrt(mean (1 - mean))")
    return mean * (1 - mean) / sd**2 - 1


def sample_sizes(fit: Fit, mixture: "BetaMixture | MixtureFit") -> "SampleSizes":
    """Return what the new-study distribution is worth in patients, by each definition.

    Parameters
    ----------
    fit : Fit
        From the exact engine.
    mixture : BetaMixture or MixtureFit
        Its approximation, from `fit_mixture`.

    Returns
    -------
    SampleSizes

    See Also
    --------
    effective_sample_size, mixture_sample_size, moment_sample_size : Each on its own.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fit = dfsp.fit(table)
    >>> sizes = dfsp.planning.sample_sizes(fit, dfsp.planning.fit_mixture(fit, components=2))
    >>> round(sizes.exact.value, 1), round(sizes.moment, 1)
    (13.2, 9.5)
    """
    rate = _exact(fit).new_study_rate
    moment = moment_sample_size(rate.mean, rate.sd)
    return SampleSizes(effective_sample_size(fit), mixture_sample_size(_mixture(mixture)), moment)


def probability_greater(one: BetaMixture, other: BetaMixture) -> float:
    """Return the probability that an independent rate `one` exceeds a rate `other`.

    Parameters
    ----------
    one, other : BetaMixture

    Examples
    --------
    >>> import dfsp
    >>> vague = dfsp.planning.BetaMixture([1], [1], [1])
    >>> round(dfsp.planning.probability_greater(vague.update(12, 20), vague.update(6, 20)), 3)
    0.969
    """
    a, b = (np.concatenate(pair) for pair in ((one.a, other.a), (one.b, other.b)))
    x, spacing = _logit_rule(a, b, DECAY / a, DECAY / b, RULES[1])
    log_p, log_q = -np.logaddexp(0, -x), -np.logaddexp(0, x)
    logs = np.log(one.weight) - betaln(one.a, one.b)
    density = np.exp(logs + np.outer(log_p, one.a) + np.outer(log_q, one.b)).sum(1)
    # Where a or b is small, there is mass at rates that are 0 or 1 to double precision
    tail = np.concatenate([_below(x[x < 0], other.a, other.b), _below(-x[x > 0], other.b, other.a)])
    below = np.where(x[:, None] < 0, tail, 1 - tail) @ other.weight
    return float(np.clip((density * below) @ spacing, 0, 1))


def _below(x: Array, a: Array, b: Array) -> Array:
    """Return beta distribution functions at negative logit rates, shape (point, component)."""
    near = np.asarray(betainc(a, b, sigmoid(x)[:, None]), dtype=np.float64)
    far = np.exp(np.outer(x, a) - betaln(a, b) - np.log(a))
    return np.where(x[:, None] < -FAR, far, near)


def critical_events(prior: BetaMixture, n: int, p0: float) -> int:
    """Return the fewest events among `n` with P(rate > p0) above 0.975; n + 1 if none suffices.

    Parameters
    ----------
    prior : BetaMixture
        Of the trial's analysis.
    n : int
        Patients, 1 or more.
    p0 : float
        Rate to be exceeded, between 0 and 1.

    Raises
    ------
    DfspError
        `n` or `p0` outside its range.

    See Also
    --------
    operating_characteristics : How often a trial reaches them.

    Examples
    --------
    >>> import dfsp
    >>> dfsp.planning.critical_events(dfsp.planning.BetaMixture([1], [1], [1]), n=20, p0=0.2)
    8
    """
    _whole("n", n, 1)
    _inside("p0", p0)
    events = np.arange(n + 1.0)
    log_w = prior._log_parts(events, n)
    weight = np.exp(log_w - logsumexp(log_w, axis=1)[:, None])
    # As the tail of 1 - rate, P(rate > p0) keeps its digits
    beyond = betainc(prior.b + n - events[:, None], prior.a + events[:, None], 1 - p0)
    enough = (weight * beyond).sum(1) > SUCCESS
    return int(enough.argmax()) if enough.any() else n + 1


def operating_characteristics(
    prior: "BetaMixture | MixtureFit",
    *,
    n: Sequence[int],
    p0: float,
    rates: Sequence[float] | None = None,
) -> Table:
    """Return how often a single-arm trial succeeds: P(rate > p0) above 0.975 at its end.

    Parameters
    ----------
    prior : BetaMixture or MixtureFit
        Of the trial's analysis.
    n : sequence of int
        Sample sizes, each 1 or more.
    p0 : float
        Rate to be exceeded, between 0 and 1.
    rates : sequence of float, optional
        True rates, each between 0 and 1; by default tenths, or if p0 is below 0.1 or above 0.9
        those of a quarter to eight times its odds.

    Returns
    -------
    Table
        One row a sample size and true rate: `n`, `critical_events` (n + 1 if no number suffices),
        `true_rate`, `success`.

    Raises
    ------
    DfspError
        A value outside its range.

    See Also
    --------
    plan : The chance of success under today's evidence.
    dfsp.plots.plan : The picture of both.

    Examples
    --------
    >>> import dfsp
    >>> vague = dfsp.planning.BetaMixture([1], [1], [1])
    >>> dfsp.planning.operating_characteristics(vague, n=[20], p0=0.2, rates=[0.2, 0.5])
     n critical_events true_rate success
    20               8     0.200   0.032
    20               8     0.500   0.868
    """
    _several("n", n)
    _inside("p0", p0)
    rates = rates_about(p0) if rates is None else rates
    _several("rates", rates)
    for rate in rates:
        _inside("a true rate", rate)
    prior, true = _mixture(prior), np.asarray(rates, dtype=np.float64)
    pieces = []
    for size in n:
        critical = critical_events(prior, size, p0)
        success = bdtrc(critical - 1, size, true)
        row = {"n": size, "critical_events": critical, "true_rate": true, "success": success}
        pieces.append(pd.DataFrame(row))
    return table_of(pd.concat(pieces, ignore_index=True), digits=3, rates=True)


def rate_to_exceed(fit: Fit) -> float:
    """Return a rate that a trial may be planned to exceed, where nobody names one.

    Parameters
    ----------
    fit : Fit
        Today's evidence, from the exact engine.

    Returns
    -------
    float
        With one digit, the rate that a new study's exceeds with probability `EXCEEDED`.

    See Also
    --------
    plan : What a trial needs to show it.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> rare = pd.DataFrame({"study": list("AB"), "events": [30, 50], "total": [20_000, 30_000]})
    >>> dfsp.planning.rate_to_exceed(dfsp.fit(rare))
    0.0007
    """
    return rounded(float(_exact(fit).new_study_rate.quantile(1 - EXCEEDED)[0]))


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Result):
    """What a planned single-arm trial should expect, for each sample size.

    Attributes
    ----------
    table : Table
        One row a sample size: `n`, `critical_events` (the fewest that mean success),
        `false_success` (the chance of success if the true rate is p0), `success` (its probability
        under today's evidence).
    p0 : float
        Rate to be exceeded.
    unit : Unit
        In which it is said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> vague = dfsp.planning.BetaMixture([1], [1], [1])
    >>> dfsp.planning.plan(dfsp.fit(table), vague, n=20, p0=0.2)  # doctest: +NORMALIZE_WHITESPACE
    A trial of 20 patients needs 8 responders to show a rate above 20 %; under today's
    evidence it succeeds with probability 0.384, and with probability 0.032 if the true
    rate is 20 %.
    """

    table: Table
    p0: float
    unit: Unit = PERCENT

    def describe(self) -> Sentences:
        """Say of each sample size what success needs and how likely it is."""
        rows = zip(*(self.table[name].to_list() for name in _PLANNED), strict=True)
        return Sentences("\n".join(self._of(*row) for row in rows))

    def _of(self, n: int, critical: int, false_success: float, success: float) -> str:
        beyond = f"a rate above {self.unit.chosen(self.p0)}"
        trial = f"{n:,} patient{'' if n == 1 else 's'}"
        if critical > n:
            return f"No number of responders among {trial} shows {beyond}."
        needed = "no responder"
        if critical:
            needed = f"{critical:,} responder{'' if critical == 1 else 's'}"
        return (
            f"A trial of {trial} needs {needed} to show {beyond}; under today's evidence it "
            f"succeeds with probability {chance(success)}, and with probability "
            f"{chance(false_success)} if the true rate is {self.unit.chosen(self.p0)}."
        )


def plan(fit: Fit, prior: "BetaMixture | MixtureFit", *, n: int | Sequence[int], p0: float) -> Plan:
    """Return, for each sample size, what a planned single-arm trial should expect.

    Parameters
    ----------
    fit : Fit
        Today's evidence, from the exact engine; it says how likely each number of events is.
    prior : BetaMixture or MixtureFit
        Of the trial's analysis; `BetaMixture([1], [1], [1])` for one without evidence.
    n : int or sequence of int
        Patients, 1 or more.
    p0 : float
        Rate to be exceeded, between 0 and 1.

    Returns
    -------
    Plan

    Raises
    ------
    DfspError
        A value outside its range, or a fit without the exact engine.

    See Also
    --------
    operating_characteristics : The chance of success at any true rate.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 20]})
    >>> vague = BetaMixture([1], [1], [1])
    >>> plan(dfsp.fit(table), vague, n=[20], p0=0.2).table[["n", "critical_events"]]
     n critical_events
    20               8
    """
    _exact(fit)
    sizes = n if isinstance(n, Sequence) else [n]
    found = operating_characteristics(prior, n=sizes, p0=p0, rates=[p0])
    success = [
        float(fit.new_study(size).events[critical:].sum())
        for size, critical in zip(
            found["n"].to_list(), found["critical_events"].to_list(), strict=True
        )
    ]
    named = found.rename(columns={"success": "false_success"}).assign(success=success)
    return Plan(table_of(named[_PLANNED], digits=3, rates=True), p0, fit.unit)


def _patients(number: float) -> str:
    return f"{number:,.{1 if number < 1000 else 0}f} patients"


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _numbers(name: str, values: npt.ArrayLike) -> Array:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DfspError(f"{name} = {values!r}: give numbers") from None


def _several(name: str, values: object) -> None:
    if np.ndim(values) != 1 or not np.size(values):  # type: ignore[arg-type]
        raise DfspError(f"{name} = {values!r}: give a list of at least one")


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        top = f" to {most}" if most is not None else " or more"
        raise DfspError(f"{name} = {value!r}: give a whole number, {least}{top}")


def _number(value: object) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating))
    return real and not isinstance(value, bool)


def _inside(name: str, value: float) -> None:
    if not (_number(value) and 0 < value < 1):
        raise DfspError(f"{name} = {value!r}: give a number between 0 and 1")
