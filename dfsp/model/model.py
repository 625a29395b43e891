"""What is assumed, as data: one description that both engines read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dfsp.errors import DfspError
from dfsp.model.effects import Effects, NormalEffects, effects_of
from dfsp.model.priors import (
    TAU_FAMILIES,
    HalfNormal,
    LocationPrior,
    Normal,
    Prior,
    SpreadPrior,
)
from dfsp.text import Sentences

Array = npt.NDArray[np.float64]

LIGHTEST = 0.1
"""Power of the tail of tau below which more than 1e-10 of it lies beyond 1e100."""


@dataclass(frozen=True)
class Model:
    """Binomial counts with study effects on the logit scale.

    events_i ~ Binomial(total_i, logit^-1(theta_i)), theta_i ~ N(mu, tau^2) or as `effects` say.

    Parameters
    ----------
    mu : Normal
        Prior of the population mean, logit scale.
    tau : Prior
        Prior of the between-study standard deviation, logit scale; any of `TAU_FAMILIES`. The
        default is RBesT's advice for rates of 20 to 80 %.
    effects : Effects or str
        `NormalEffects()`, `StudentT(df)`, `Exnex(exchangeable, mean, sd)`, `BetaBinomial(a, b,
        concentration)` or `BetaBinomialShapes(scale)`, or the name of one with its default
        parameters: `"normal"`, `"student-t"`, `"exnex"`, `"beta-binomial"`,
        `"beta-binomial-shapes"`. The last two have no mu and tau.

    Raises
    ------
    DfspError
        A prior of the wrong kind, effects that are not known, or a prior that they do not have.

    Examples
    --------
    >>> print(Model(tau=HalfNormal(0.5)))
    mu ~ Normal(mean 0, sd 2), tau ~ HalfNormal(scale 0.5), normal effects
    """

    told: ClassVar[bool] = False
    """Whether the counts of other tables are in its priors."""

    mu: Normal = field(default_factory=Normal)
    tau: Prior = field(default_factory=HalfNormal)
    effects: Effects = field(default_factory=NormalEffects)

    def __post_init__(self) -> None:
        if not isinstance(self.mu, Normal):
            raise DfspError(f"mu = {self.mu!r}; give a Normal(mean, sd)")
        if not isinstance(self.tau, Prior) or not self.tau.for_tau:
            names = ", ".join(prior.__name__ for prior in TAU_FAMILIES.values())
            raise DfspError(f"tau = {self.tau!r}; give one of {names}")
        given: object = self.effects
        if not isinstance(given, Effects):
            object.__setattr__(self, "effects", effects_of(given))
        own = self.effects.own_priors
        if own and (self.mu, self.tau) != (Normal(), HalfNormal()):
            raise DfspError(f"{self.effects.family} effects have no mu and tau; {own}")

    @property
    def location_prior(self) -> LocationPrior:
        """Prior of the first coordinate of the population: mu, or logit(mean)."""
        return self.effects.location_prior(self.mu)

    def log_location(self, mu: Array, tau: Array) -> Array:
        """Return the log prior density of the first coordinate, given the second."""
        return self.effects.log_location(self.mu, mu, tau)

    def draw_population(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw both coordinates of the population from their priors, shapes (draw,)."""
        return self.effects.draw_population(self.mu, self.tau, number, rng)

    @property
    def spread_prior(self) -> SpreadPrior:
        """Prior of the second coordinate: tau, or 1/sqrt(concentration)."""
        return self.effects.spread_prior(self.tau)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What the population has, in the order in which tables and checks show it."""
        return self.effects.quantities

    @property
    def no_comparison(self) -> str:
        """Why log marginal likelihoods cannot be compared; empty if they can be."""
        return self._without("log marginal likelihoods cannot be compared", self.tau.no_comparison)

    @property
    def no_picture(self) -> str:
        """Why the prior can be neither drawn nor drawn from; empty if it can."""
        return self._without("the prior cannot be drawn", self.tau.no_picture)

    def _without(self, what: str, reason: str) -> str:
        if self.effects.own_priors or not reason:
            return ""
        return f"{what} under tau ~ {self.tau}: {reason}; give tau another prior for this"

    def with_effects(self, effects: Effects) -> "Model":
        """Return the model with other effects, and without priors that these do not have."""
        return Model(effects=effects) if effects.own_priors else replace(self, effects=effects)

    def nested(self, cluster: Sequence[str]) -> "Model":
        """Return the model of rows that belong to clusters, one name a row.

        Raises
        ------
        DfspError
            Other than normal effects.
        """
        return replace(self, effects=self.effects.nested(cluster))

    def narrowed(self) -> "Model":
        """Return the model with priors of half the spread between studies.

        Raises
        ------
        DfspError
            tau is fixed.
        """
        effects, tau = self.effects.narrowed(self.tau)
        return replace(self, tau=tau, effects=effects)

    def require_mu(self, what: str) -> None:
        """Refuse effects without mu and tau, for what needs these; `what` begins the message.

        Raises
        ------
        DfspError
            Effects with priors of their own.
        """
        if self.effects.own_priors:
            raise DfspError(f"{what} mu and tau, which {self.effects.family} effects do not have")

    def require_linear(self, what: str) -> None:
        """Refuse effects that have no linear predictor; `what` is in the message.

        Raises
        ------
        DfspError
            Other effects.
        """
        if not self.effects.linear_predictor:
            raise DfspError(f"{self.effects.family} effects: {what} normal effects")

    def require_tail(self, events: npt.ArrayLike, total: npt.ArrayLike) -> None:
        """Refuse a posterior of tau that reaches beyond any number; no count gives the prior.

        Raises
        ------
        DfspError
            A prior whose tail hardly falls, and counts that do not end it.
        """
        if self.effects.own_priors:
            return
        counts = np.asarray(events, np.float64), np.asarray(total, np.float64)
        if self.effects.tail_of_tau(*counts, self.tau) < LIGHTEST:
            what = "the posterior of tau given these counts" if len(counts[0]) else "the prior"
            raise DfspError(
                f"under tau ~ {self.tau} {what} reaches beyond 1e100: no study with both events "
                "and non-events bounds it; give tau another prior, such as HalfNormal(1)"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the model as plain data for JSON."""
        plain: dict[str, Any] = {"effects": self.effects.family}
        if parameters := self.effects.as_dict():
            plain["effects_parameters"] = parameters
        if self.effects.own_priors:
            return plain | {"mu": None, "tau": None}
        return plain | {"mu": self.mu.as_dict(), "tau": self.tau.as_dict()}

    def _repr_markdown_(self) -> str:
        return Sentences(self)._repr_markdown_()

    def __str__(self) -> str:
        if self.effects.own_priors:
            return str(self.effects)
        first, second = self.effects.prior_names
        return f"{first} ~ {self.mu}, {second} ~ {self.tau}, {self.effects}"
