"""Exact results of the notebooks' functions on the tests' evidence; `exact_results.json` keeps them.

`make notebooks` makes that file anew and says what changed.
"""

from typing import get_args

import pandas as pd
from frozen import freeze

import dfsp
from dfsp.evidence.outcomes import NotEvaluable


def results(quick=False):
    """Return numbers by name; `quick` leaves out what takes seconds."""
    freeze()
    found = {}

    def keep(name, table):
        frame = table.to_frame() if isinstance(table, pd.Series) else table
        for row, values in frame.select_dtypes("number").to_dict("index").items():
            key = "/".join(map(str, row if isinstance(row, tuple) else (row,)))
            found.update({f"{name}/{key}/{column}": float(v) for column, v in values.items()})

    for set_name in ("review", "reconciled", "reconciled_by_dose"):
        evidence = dfsp.load_evidence(set_name)
        for rule in get_args(NotEvaluable):
            fit = dfsp.fit(dfsp.count(evidence, "objective_response", not_evaluable=rule))
            keep(f"response/{set_name}/{rule}", fit.summary)
            keep(f"studies/{set_name}/{rule}", fit.studies.set_index("study"))
    counts = dfsp.count(dfsp.load_evidence("reconciled"), "objective_response")
    fit = dfsp.fit(counts)
    for effects in ("student-t", "exnex", "beta-binomial"):
        other = dfsp.fit(counts, dfsp.Model(effects=effects))
        keep(f"effects/{effects}", other.summary)
        found[f"evidence/{effects}"] = other.exact.log_marginal_likelihood
    evidence = dfsp.load_evidence("reconciled")
    categories = dfsp.fit_categories(evidence)
    keep("categories", dfsp.category_rates(categories))
    keep("question priors", dfsp.question_priors(categories))
    keep("tau of categories", dfsp.tau_sensitivity(evidence, categories))
    other_order = dfsp.fit_categories(evidence, order="progression first")
    keep("categories, progression first", dfsp.category_rates(other_order))
    keep("pooled", dfsp.pooled(counts))
    keep("influence", dfsp.influence(fit))
    keep("left out", dfsp.leave_one_out(fit))
    keep("predictive", dfsp.predictive_check(fit).set_index("study"))
    if quick:
        return found
    keep("claims", dfsp.compare_claims())
    keep("later", dfsp.later_series().set_index(["study", "reading"]))
    keep("prior", dfsp.prior_grid(counts))
    keep("missing", dfsp.missing_outcomes(dfsp.load_evidence("reconciled"), steps=3))
    keep("subsets", dfsp.all_subsets(counts)[["typical_rate", "low", "high", "tau"]].describe())
    doses, x = dfsp.log2_of(
        dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response"), "dose_mg", 800
    )
    regression = dfsp.regress(doses, x)
    keep("dose", regression.rates)
    keep("contrasts", dfsp.contrasts(regression, 0.1))
    keep("coefficients", regression.coefficients)
    keep("bayes factors", dfsp.bayes_factors(doses, x))
    subgroups = dfsp.read_table(dfsp.DATA / "subgroups.csv")
    keep("subgroups", dfsp.observed(subgroups).set_index("study"))
    mixture = dfsp.fit_mixture(fit.exact).mixture
    sizes = dfsp.plan(fit.exact, mixture.robustify(0.2), n=[20, 40], p0=0.2)
    keep("plan", sizes.set_index("n"))
    keep("sample sizes", dfsp.sample_sizes(fit.exact, mixture))
    robust = mixture.robustify(0.2)
    keep("operating", dfsp.operating_characteristics(robust, n=[20, 40], p0=0.2, rates=[0.2, 0.4]))
    keep("published", dfsp.compare_published(dfsp.load_evidence("review")))
    everything = dfsp.multiverse("objective_response")
    keep("multiverse", everything.table.describe())
    keep("choices", dfsp.which_choice_matters(everything))
    others = {name: dfsp.fit(counts, dfsp.Model(effects=e)) for name, e in dfsp.EFFECTS.items()}
    average = dfsp.average(others)
    keep("models", average.models)
    keep("average", average.summary)
    keep("left out two", dfsp.leave_two_out(counts).describe())
    totals = dfsp.load_evidence("review")
    for measure in ("any_adverse_event", "severe_adverse_event"):
        keep(measure, dfsp.scenarios(dfsp.total_of(totals, measure)))
    keep("surgery", dfsp.surgery(dfsp.load_evidence("reconciled")))
    keep("references", dfsp.compare_references())
    done = dfsp.calibrate(counts, number=500)
    found.update({check.name: check.value for check in done.checks})
    keep("calibration", done.pit.describe())
    covered = dfsp.coverage(counts, rates=[0.3, 0.85], taus=[0.0, 1.0], number=50)
    keep("coverage", covered.drop(columns=["typical_rate", "tau"]))
    return found
