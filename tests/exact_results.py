"""Exact results of the notebooks, by the functions they call; `exact_results.json` keeps them.

python tests/exact_results.py > tests/exact_results.json makes that file anew.
"""

import json
from typing import get_args

import pandas as pd

import dfsp
from dfsp.outcomes import NotEvaluable


def results(quick=False):
    """Return numbers by name; `quick` leaves out what takes seconds."""
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
    keep("categories", dfsp.category_rates(dfsp.fit_categories(dfsp.load_evidence("reconciled"))))
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
    mixture = dfsp.fit_mixture(fit.exact).mixture
    sizes = dfsp.plan(fit.exact, mixture.robustify(0.2), n=[20, 40], p0=0.2)
    keep("plan", sizes.set_index("n") if "n" in sizes else sizes)
    return found


if __name__ == "__main__":
    print(json.dumps({name: round(value, 7) for name, value in results().items()}, indent=0))
