"""What is assumed, as data: one description that both engines read."""

from dataclasses import dataclass, field
from typing import Any

from dfsp.errors import DfspError
from dfsp.model.effects import BetaBinomial, Effects, LogitBeta, NormalEffects, Spread, effects_of
from dfsp.model.priors import TAU_FAMILIES, HalfNormal, Normal, Prior


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
        `NormalEffects()`, `StudentT(df)`, `Exnex(exchangeable, mean, sd)` or `BetaBinomial(a, b,
        concentration)`, or the name of one with its default parameters: `"normal"`,
        `"student-t"`, `"exnex"`, `"beta-binomial"`. The last has no mu and tau.

    Raises
    ------
    DfspError
        A prior of the wrong kind, effects that are not known, or a prior that they do not have.
    """

    mu: Normal = field(default_factory=Normal)
    tau: Prior = field(default_factory=HalfNormal)
    effects: Effects = field(default_factory=NormalEffects)

    def __post_init__(self) -> None:
        if not isinstance(self.mu, Normal):
            raise DfspError(f"mu = {self.mu!r}; give a Normal(mean, sd)")
        if not isinstance(self.tau, tuple(TAU_FAMILIES.values())):
            names = ", ".join(prior.__name__ for prior in TAU_FAMILIES.values())
            raise DfspError(f"tau = {self.tau!r}; give one of {names}")
        given: object = self.effects
        if not isinstance(given, Effects):
            object.__setattr__(self, "effects", effects_of(given))
        if isinstance(self.effects, BetaBinomial) and (self.mu, self.tau) != (
            Normal(),
            HalfNormal(),
        ):
            raise DfspError(
                "beta-binomial effects have no mu and tau; give priors of the mean and the "
                "concentration, such as BetaBinomial(a=1, b=1, concentration=LogNormal(2, 1.5))"
            )

    @property
    def location(self) -> Normal | LogitBeta:
        """Prior of the first coordinate of the population: mu, or logit(mean)."""
        own = self.effects
        return LogitBeta(own.a, own.b) if isinstance(own, BetaBinomial) else self.mu

    @property
    def scale(self) -> Prior | Spread:
        """Prior of the second coordinate: tau, or 1/sqrt(concentration)."""
        own = self.effects
        return Spread(own.concentration) if isinstance(own, BetaBinomial) else self.tau

    def require_mu(self, what: str) -> None:
        """Refuse effects without mu and tau, for what needs these; `what` begins the message.

        Raises
        ------
        DfspError
            Beta-binomial effects.
        """
        if isinstance(self.effects, BetaBinomial):
            raise DfspError(f"{what} mu and tau, which beta-binomial effects do not have")

    def require_normal(self, what: str) -> None:
        """Refuse effects other than normal, for what is computed with these only.

        Raises
        ------
        DfspError
            Other effects.
        """
        if not isinstance(self.effects, NormalEffects):
            raise DfspError(f"{self.effects.family} effects: {what} normal effects")

    def as_dict(self) -> dict[str, Any]:
        """Return the model as plain data for JSON."""
        plain: dict[str, Any] = {"effects": self.effects.family}
        if parameters := self.effects.as_dict():
            plain["effects_parameters"] = parameters
        if isinstance(self.effects, BetaBinomial):
            return plain | {"mu": None, "tau": None}
        return plain | {"mu": self.mu.as_dict(), "tau": self.tau.as_dict()}

    def __str__(self) -> str:
        if isinstance(self.effects, BetaBinomial):
            return str(self.effects)
        return f"mu ~ {self.mu}, tau ~ {self.tau}, {self.effects}"
