"""What is assumed, as data: one description that both engines read."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dfsp.errors import DfspError
from dfsp.priors import TAU_FAMILIES, HalfNormal, Normal, Prior

Effects = Literal["normal"]
"""How study effects scatter about `mu`."""


@dataclass(frozen=True)
class Model:
    """Binomial counts with exchangeable study effects on the logit scale.

    events_i ~ Binomial(total_i, logit^-1(theta_i)), theta_i ~ N(mu, tau^2).

    Parameters
    ----------
    mu : Normal
        Prior of the population mean, logit scale.
    tau : Prior
        Prior of the between-study standard deviation, logit scale; any of the families in
        `dfsp.priors` but `Normal`. The default is RBesT's advice for rates of 20 to 80 %.
    effects : {"normal"}
        Distribution of the study effects.

    Raises
    ------
    DfspError
        A prior of the wrong kind, or effects that are not known.
    """

    mu: Normal = field(default_factory=Normal)
    tau: Prior = field(default_factory=HalfNormal)
    effects: Effects = "normal"

    def __post_init__(self) -> None:
        if not isinstance(self.mu, Normal):
            raise DfspError(f"mu = {self.mu!r}; give a Normal(mean, sd)")
        if not isinstance(self.tau, tuple(TAU_FAMILIES.values())):
            names = ", ".join(prior.__name__ for prior in TAU_FAMILIES.values())
            raise DfspError(f"tau = {self.tau!r}; give one of {names}")
        if self.effects not in get_args(Effects):
            raise DfspError(
                f"effects {self.effects!r} are not known; use one of {', '.join(get_args(Effects))}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the model as plain data for JSON."""
        return {"effects": self.effects, "mu": self.mu.as_dict(), "tau": self.tau.as_dict()}

    def __str__(self) -> str:
        return f"mu ~ {self.mu}, tau ~ {self.tau}, {self.effects} effects"
