"""Published results beside ours: each file of `data/reference/` is one case."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dfsp.effects import effects_of
from dfsp.errors import DfspError
from dfsp.evidence import DATA
from dfsp.fitting import Fit, fit
from dfsp.models import Model
from dfsp.priors import Normal, Pareto, tau_prior
from dfsp.summaries import observed
from dfsp.tables import Counts, check_table

FOLDER = DATA / "reference"

_COLUMNS = ["case", "quantity", "statistic", "kind", "value", "ours", "tolerance", "reproduced"]


def compare_references(folder: str | Path = FOLDER) -> pd.DataFrame:
    """Compute every published result anew and hold it against the printed value.

    Parameters
    ----------
    folder : path
        Holds one JSON file a case: `title`, `source`, `doi`, `studies` (name, events, total),
        `model` (`mu`, `tau`, `effects` and their parameters, what is not there as by default, a
        concentration with a Pareto prior; null for intervals of single proportions), `kinds`
        (what each kind of value is, and the reason of its tolerance), and `expected` values with
        their tolerances.

    Returns
    -------
    pandas.DataFrame
        `case`, `quantity`, `statistic`, `kind`, `value` (as printed), `ours`, `tolerance`,
        `reproduced` (whether they differ by no more).

    Raises
    ------
    DfspError
        The folder holds no case, or a case names something that is not computed.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise DfspError(f"{folder}: no reference case; give a folder of JSON files")
    rows = []
    for path in paths:
        case = json.loads(path.read_text(encoding="utf-8"))
        ours = _compute(case)
        for row in case["expected"]:
            key = (row["quantity"], row["statistic"])
            if key not in ours:
                raise DfspError(f"{path.name}: {' '.join(key)} is not computed")
            close = abs(ours[key] - row["value"]) <= row["tolerance"]
            rows.append(
                [case["title"], *key, row["kind"], row["value"], ours[key], row["tolerance"], close]
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


def _compute(case: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return all that a case can be asked for, by quantity and statistic."""
    counts = check_table(pd.DataFrame(case["studies"], columns=["study", "events", "total"]))
    if case["model"] is None:
        return _by_study(observed(counts))
    model = {"effects": {}, "mu": {}, "tau": {"family": "half-normal"}} | case["model"]
    result = _fit(counts, **model)
    found = {
        (str(name), str(statistic)): float(value)
        for name, row in result.summary.to_dict("index").items()
        for statistic, value in row.items()
    }
    found["log_marginal_likelihood", "value"] = result.exact.log_marginal_likelihood
    return found | _by_study(result.studies)


def _fit(counts: Counts, effects: dict[str, Any], mu: dict[str, Any], tau: dict[str, Any]) -> Fit:
    family = effects.pop("family", "normal")
    if "concentration" in effects:
        effects["concentration"] = Pareto(**effects["concentration"])
    model = Model(Normal(**mu), tau_prior(**tau), effects_of(family, **effects))
    return fit(counts, model)


def _by_study(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    numbers = table.set_index("study").to_dict("index")
    return {
        (str(study), str(name)): float(value)
        for study, row in numbers.items()
        for name, value in row.items()
    }


def describe_sources(folder: str | Path = FOLDER) -> str:
    """Return one paragraph a case: its source, and why each tolerance is what it is."""
    lines = []
    for path in sorted(Path(folder).glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"{case['title']}: {case['source']}, doi:{case['doi']}")
        lines += [f"  {kind}: {why}" for kind, why in case["kinds"].items()]
    return "\n".join(lines)
