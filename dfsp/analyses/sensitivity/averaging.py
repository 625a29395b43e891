"""Several models of the same counts: how probable each is given these, and their average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dfsp.analyses.dimensions import EFFECTS
from dfsp.constants import STATISTICS
from dfsp.engine.distributions import Distribution
from dfsp.errors import DfspError
from dfsp.evidence.tables import Counts
from dfsp.fitting import RATES, Fit, fit
from dfsp.model.effects import Effects
from dfsp.model.model import Model
from dfsp.rates import INTERVAL, PERCENT, Unit, stands_for
from dfsp.text import Result, Sentences, Table, table_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Average(Result):
    """Models weighed by how well they predicted the counts.

    Attributes
    ----------
    models : Table
        Indexed by `model`: `log_marginal_likelihood`, `prior` and `probability` (posterior).
    summary : Table
        Indexed by `quantity`, columns `STATISTICS`: rates averaged over the models. A rate that a
        model does not have is averaged over none, and left out.
    unit : Unit
        In which rates are said.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fits = {f"tau {s}": dfsp.fit(table, dfsp.Model(tau=dfsp.Fixed(s))) for s in (0.1, 2)}
    >>> dfsp.sensitivity.average(fits)  # doctest: +NORMALIZE_WHITESPACE
    Posterior probabilities: tau 0.1 0.91, tau 2 0.09. Averaged over them the mean rate is
    33.8 % (95% interval 20.3 to 52.1 %).
    """

    models: Table
    summary: Table
    unit: Unit = PERCENT

    def describe(self) -> Sentences:
        """Say which model the counts favour, and what all of them together say of the mean rate."""
        models = self.models.sort_values("probability", ascending=False)
        shares = ", ".join(f"{name} {p:.2f}" for name, p in models["probability"].items())
        mean = self.summary.T["mean_rate"]
        rates = mean[stands_for(mean)], mean["q2.5"], mean["q97.5"]
        return Sentences(
            f"Posterior probabilities: {shares}. Averaged over them the mean rate is "
            f"{self.unit.estimate(*rates, INTERVAL)}."
        )


def average(fits: Mapping[str, Fit], prior: Mapping[str, float] | None = None) -> Average:
    """Return posterior probabilities of models, and rates averaged with them.

    The posterior probability of a model is proportional to its prior probability times its marginal
    likelihood. Marginal likelihoods depend on the priors of each model, and more so the vaguer
    these are.

    Parameters
    ----------
    fits : mapping of str to Fit
        Two or more of the same counts, with the exact engine.
    prior : mapping of str to float, optional
        Prior probability of each, of any sum; by default all alike.

    Returns
    -------
    Average

    Raises
    ------
    DfspError
        Fewer than two fits, counts that differ, a prior under which marginal likelihoods cannot be
        compared, or prior probabilities that cannot be used.

    See Also
    --------
    fit_with_effects : Fits of the same counts with each family of effects.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> fits = {f"tau {s}": dfsp.fit(table, dfsp.Model(tau=dfsp.Fixed(s))) for s in (0.1, 2)}
    >>> dfsp.sensitivity.average(fits).models["probability"].round(3).to_dict()
    {'tau 0.1': 0.909, 'tau 2': 0.091}
    """
    if len(fits) < 2:
        raise DfspError("an average needs two models or more; give a mapping of names to fits")
    (first, reference), *others = fits.items()
    for name, each in others:
        if _counts(each) != _counts(reference):
            raise DfspError(
                f"models {first!r} and {name!r} are not of the same counts; marginal likelihoods "
                "can be compared on identical counts only"
            )
    for name, each in fits.items():
        if each.model.no_comparison:
            raise DfspError(f"model {name!r}: {each.model.no_comparison}")
    weight = np.array([1.0 if prior is None else prior.get(name, -1.0) for name in fits])
    named = prior is None or set(prior) == set(fits)
    if not named or not (weight >= 0).all() or not weight.sum():
        raise DfspError(
            f"prior = {dict(prior or {})!r}; give a probability for each of {', '.join(fits)}"
        )
    log_ml = np.array([each.exact.log_marginal_likelihood for each in fits.values()])
    probability = weight * np.exp(log_ml - log_ml.max())
    probability /= probability.sum()
    models = table_of(
        {
            "log_marginal_likelihood": log_ml,
            "prior": weight / weight.sum(),
            "probability": probability,
        },
        digits=3,
        index=pd.Index(fits, name="model"),
    )
    rows = {}
    for quantity in RATES:
        parts = [getattr(each.exact, quantity) for each in fits.values()]
        if all(np.isfinite(part.mean) for part in parts):
            rows[quantity] = _mixture(parts, probability).summary()
    summary = pd.DataFrame(rows, index=list(STATISTICS)).T.rename_axis("quantity")
    return Average(models, table_of(summary, rates=True), reference.unit)


def fit_with_effects(
    counts: Counts | pd.DataFrame, model: Model, effects: Mapping[str, Effects] = EFFECTS
) -> dict[str, Fit]:
    """Fit the same counts with each family of effects, under the priors of one model.

    Parameters
    ----------
    counts : Counts or pandas.DataFrame
    model : Model
        Its priors of mu and tau; beta-binomial effects have none, and keep their own.
    effects : mapping of str to Effects

    Returns
    -------
    dict of str to Fit

    See Also
    --------
    average : How probable each is, and all together.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> effects = {"normal": dfsp.NormalEffects(), "beta-binomial": dfsp.BetaBinomial()}
    >>> for name, fit in dfsp.sensitivity.fit_with_effects(table, dfsp.Model(), effects).items():
    ...     print(name, fit.agrees, round(float(fit.summary.loc["mean_rate", "q50"]), 3))
    normal True 0.335
    beta-binomial True 0.342
    """
    return {name: fit(counts, model.with_effects(each)) for name, each in effects.items()}


def _counts(fit: Fit) -> list[tuple[int, int]]:
    return sorted(zip(fit.studies["events"].to_list(), fit.studies["total"].to_list(), strict=True))


def _mixture(parts: Sequence[Distribution], weight: Array) -> Distribution:
    x = np.unique(np.concatenate([part.x for part in parts]))
    cdf = np.stack([part.cdf_of_points(x) for part in parts])
    mean = float(weight @ [part.mean for part in parts])
    square = float(weight @ [part.sd**2 + part.mean**2 for part in parts])
    whole = np.maximum.accumulate(weight @ cdf)
    return Distribution(x, whole, mean, float(np.sqrt(square - mean**2)), True)
