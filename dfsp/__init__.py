"""Response rates of a handful of small single-arm studies, and how far to trust them.

PyMC, ArviZ and matplotlib load only when something that needs them is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dfsp.analyses.averaging import Average, average, describe_average, fit_with_effects
from dfsp.analyses.calibration import Calibration, calibrate, coverage, describe_trust, narrower
from dfsp.analyses.calibration_store import describe_store
from dfsp.analyses.categories import (
    Categories,
    category_draws,
    category_rates,
    compare_orders,
    describe_categories,
    describe_orders,
    fit_categories,
    informed,
    question_priors,
    study_categories,
    tau_sensitivity,
    weighted_categories,
)
from dfsp.analyses.dimensions import EFFECTS, Dimension
from dfsp.analyses.multiverse import (
    Multiverse,
    describe_left_out,
    describe_multiverse,
    multiverse,
    share_above,
    which_choice_matters,
)
from dfsp.analyses.ordinal import (
    compare_response,
    cumulative_rates,
    describe_cumulative,
    fit_cumulative,
    proportional_odds,
)
from dfsp.analyses.planning import (
    BetaMixture,
    describe_plan,
    effective_sample_size,
    fit_mixture,
    least_events,
    mixture_sample_size,
    moment_sample_size,
    operating_characteristics,
    plan,
    probability_greater,
    sample_sizes,
)
from dfsp.analyses.references import compare_references, describe_sources
from dfsp.analyses.regression import Regression, bayes_factors, contrast, contrasts, regress
from dfsp.analyses.regression_design import as_groups, log2_of, share_of
from dfsp.analyses.regression_reports import (
    describe_confounding,
    describe_covariate,
    describe_dose,
    describe_identification,
    describe_regression,
)
from dfsp.analyses.review import (
    compare_claims,
    compare_published,
    describe_claims,
    describe_evidence,
    describe_later_series,
    later_series,
)
from dfsp.analyses.sensitivity import (
    describe_missing,
    describe_power_scaling,
    missing_outcomes,
    power_scaling,
    prior_grid,
)
from dfsp.analyses.subsets import all_subsets, describe_influence, influence, leave_two_out
from dfsp.analyses.totals import (
    both_known,
    describe_nested,
    describe_totals,
    later_safety,
    scenarios,
    severe_in_any,
    surgery,
    total_of,
)
from dfsp.checks import Check
from dfsp.errors import DfspError, NotConverged
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import Counts, check_table, read_table, without
from dfsp.fitting import Fit, fit
from dfsp.model.effects import BetaBinomial, Exnex, NormalEffects, StudentT
from dfsp.model.model import Model
from dfsp.model.priors import (
    Exponential,
    Fixed,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Normal,
    Uniform,
    tau_prior,
)
from dfsp.predictions import (
    draws,
    events_in_new_study,
    patient_weighted_rate,
    predictive_check,
    prior_of,
    rates_differ,
)
from dfsp.project import data_folder
from dfsp.runs.record import record
from dfsp.summaries import (
    conclude,
    describe_agreement,
    describe_heterogeneity,
    describe_new_study,
    leave_one_out,
    observed,
    pooled,
    shown,
    wrapped,
)

if TYPE_CHECKING:
    from dfsp import parameters
    from dfsp.plots import (
        forest,
        plot_agreement,
        plot_categories,
        plot_dose,
        plot_predictive,
        plot_prior,
        plot_responses,
        plot_scenarios,
        save,
    )
    from dfsp.plots_calibration import plot_coverage, plot_positions
    from dfsp.plots_planning import plot_plan
    from dfsp.plots_robustness import plot_missing, plot_specifications, plot_subsets

__version__ = version("dfsp")

_LAZY = {
    "plots": (
        "forest",
        "plot_agreement",
        "plot_categories",
        "plot_dose",
        "plot_predictive",
        "plot_prior",
        "plot_responses",
        "plot_scenarios",
        "save",
    ),
    "plots_calibration": ("plot_coverage", "plot_positions"),
    "plots_planning": ("plot_plan",),
    "plots_robustness": ("plot_missing", "plot_specifications", "plot_subsets"),
}
_FIGURES = {name: module for module, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "DATA":  # of the project at hand, which is known when it is asked for
        return data_folder()
    if name in _FIGURES:
        return getattr(import_module(f"dfsp.{_FIGURES[name]}"), name)
    if name == "parameters":  # loads pydantic
        return import_module("dfsp.parameters")
    raise AttributeError(f"module 'dfsp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FIGURES, "DATA", "parameters"])


__all__ = [
    "DATA",
    "EFFECTS",
    "OUTCOMES",
    "Average",
    "BetaBinomial",
    "BetaMixture",
    "Calibration",
    "Categories",
    "Check",
    "Counts",
    "DfspError",
    "Dimension",
    "Evidence",
    "Exnex",
    "Exponential",
    "Fit",
    "Fixed",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "InverseGamma",
    "LogNormal",
    "Model",
    "Multiverse",
    "Normal",
    "NormalEffects",
    "NotConverged",
    "Regression",
    "StudentT",
    "Uniform",
    "all_subsets",
    "as_groups",
    "average",
    "bayes_factors",
    "both_known",
    "calibrate",
    "category_draws",
    "category_rates",
    "check_table",
    "compare_claims",
    "compare_orders",
    "compare_published",
    "compare_references",
    "compare_response",
    "conclude",
    "contrast",
    "contrasts",
    "count",
    "coverage",
    "cumulative_rates",
    "describe_agreement",
    "describe_average",
    "describe_categories",
    "describe_claims",
    "describe_confounding",
    "describe_covariate",
    "describe_cumulative",
    "describe_dose",
    "describe_evidence",
    "describe_heterogeneity",
    "describe_identification",
    "describe_influence",
    "describe_later_series",
    "describe_left_out",
    "describe_missing",
    "describe_multiverse",
    "describe_nested",
    "describe_new_study",
    "describe_orders",
    "describe_plan",
    "describe_power_scaling",
    "describe_regression",
    "describe_sources",
    "describe_store",
    "describe_totals",
    "describe_trust",
    "draws",
    "effective_sample_size",
    "events_in_new_study",
    "fit",
    "fit_categories",
    "fit_cumulative",
    "fit_mixture",
    "fit_with_effects",
    "forest",
    "influence",
    "informed",
    "later_safety",
    "later_series",
    "least_events",
    "leave_one_out",
    "leave_two_out",
    "load_evidence",
    "log2_of",
    "missing_outcomes",
    "mixture_sample_size",
    "moment_sample_size",
    "multiverse",
    "narrower",
    "observed",
    "operating_characteristics",
    "parameters",
    "patient_weighted_rate",
    "plan",
    "plot_agreement",
    "plot_categories",
    "plot_coverage",
    "plot_dose",
    "plot_missing",
    "plot_plan",
    "plot_positions",
    "plot_predictive",
    "plot_prior",
    "plot_responses",
    "plot_scenarios",
    "plot_specifications",
    "plot_subsets",
    "pooled",
    "power_scaling",
    "predictive_check",
    "prior_grid",
    "prior_of",
    "probability_greater",
    "proportional_odds",
    "question_priors",
    "rates_differ",
    "read_table",
    "record",
    "regress",
    "sample_sizes",
    "save",
    "scenarios",
    "severe_in_any",
    "share_above",
    "share_of",
    "shown",
    "study_categories",
    "surgery",
    "tau_prior",
    "tau_sensitivity",
    "total_of",
    "weighted_categories",
    "which_choice_matters",
    "without",
    "wrapped",
]
