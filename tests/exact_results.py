"""Exact results of the notebooks' functions on the tests' evidence; `exact_results.json` keeps them.

`make notebooks` makes that file anew and says what changed.
"""

from typing import get_args

from frozen import freeze

import dfsp
from dfsp.evidence.outcomes import NotEvaluable

NAMES = {"critical_events": "least_events", "share_of_variance": "share of variance"}
"""How the file has always called these columns."""


def results(quick=False):
    """Return numbers by name; `quick` leaves out what takes seconds."""
    freeze()
    found = {}

    def keep(name, table):
        frame = table.rename(columns=NAMES)
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
    categories = dfsp.categories.fit(evidence)
    keep("categories", categories.rates())
    keep("question priors", categories.priors())
    keep("tau of categories", dfsp.categories.tau_sensitivity(evidence, categories))
    other_order = dfsp.categories.fit(evidence, order="progression first")
    keep("categories, progression first", other_order.rates())
    keep("pooled", counts.pooled().T.set_axis(["pooled"], axis="columns"))
    keep("influence", dfsp.sensitivity.influence(fit).table)
    keep("left out", fit.leave_one_out())
    keep("predictive", fit.predictive_check().set_index("study"))
    if quick:
        return found
    keep("claims", dfsp.review.compare_claims().table)
    keep("later", dfsp.review.later_series().table)
    keep("prior", dfsp.sensitivity.prior_grid(counts))
    missing = dfsp.sensitivity.missing_outcomes(dfsp.load_evidence("reconciled"), steps=3)
    keep("missing", missing.table)
    subsets = dfsp.sensitivity.all_subsets(counts).table
    keep("subsets", subsets[["typical_rate", "low", "high", "tau"]].describe())
    doses, x = dfsp.regression.log2_of(
        dfsp.count(dfsp.load_evidence("reconciled_by_dose"), "objective_response"), "dose_mg", 800
    )
    regression = dfsp.regression.regress(doses, x)
    keep("dose", regression.rates)
    keep("contrasts", regression.contrasts(0.1))
    keep("coefficients", regression.coefficients)
    keep("bayes factors", dfsp.regression.bayes_factors(doses, x))
    subgroups = dfsp.read_table(dfsp.DATA / "subgroups.csv")
    keep("subgroups", subgroups.observed().set_index("study"))
    mixture = dfsp.planning.fit_mixture(fit).mixture
    plan = dfsp.planning.plan(fit, mixture.robustify(0.2), n=[20, 40], p0=0.2)
    keep("plan", plan.table.set_index("n"))
    keep("sample sizes", dfsp.planning.sample_sizes(fit, mixture).table)
    robust = mixture.robustify(0.2)
    keep(
        "operating",
        dfsp.planning.operating_characteristics(robust, n=[20, 40], p0=0.2, rates=[0.2, 0.4]),
    )
    keep("published", dfsp.review.compare_published(dfsp.load_evidence("review")).table)
    everything = dfsp.multiverse.fit("objective_response")
    keep("multiverse", everything.table.describe())
    keep("choices", everything.choices_that_matter())
    others = {
        name: dfsp.fit(counts, dfsp.Model(effects=e)) for name, e in dfsp.multiverse.EFFECTS.items()
    }
    average = dfsp.sensitivity.average(others)
    keep("models", average.models)
    keep("average", average.summary)
    keep("left out two", dfsp.sensitivity.leave_two_out(counts).describe())
    totals = dfsp.load_evidence("review")
    for measure in ("any_adverse_event", "severe_adverse_event"):
        keep(measure, dfsp.totals.scenarios(dfsp.totals.total_of(totals, measure)).table)
    keep("surgery", dfsp.totals.surgery(dfsp.load_evidence("reconciled")))
    keep("references", dfsp.references.compare().table.reset_index())
    done = dfsp.calibration.calibrate(counts, number=500)
    found.update({check.name: check.value for check in done.checks})
    keep("calibration", done.pit.describe())
    covered = dfsp.calibration.coverage(counts, rates=[0.3, 0.85], taus=[0.0, 1.0], number=50).table
    keep("coverage", covered.drop(columns=["typical_rate", "tau"]))
    return found
