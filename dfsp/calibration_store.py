"""Calibration results that are kept: when they were made, from which code, and whether intact.

`make calibrate` makes them anew.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dfsp.calibration import Engine, calibrate
from dfsp.constants import SEED
from dfsp.errors import DfspError
from dfsp.evidence import DATA, load_evidence
from dfsp.interval_coverage import coverage
from dfsp.models import Model
from dfsp.outcomes import count
from dfsp.priors import HalfNormal

STORE = DATA / "calibration.json"
SOURCES = (
    "calibration",
    "effects",
    "exact",
    "grids",
    "integrals",
    "interval_coverage",
    "models",
    "priors",
    "sampling",
)
"""Modules whose code the results depend on."""

EVIDENCE = "reconciled"
NUMBERS: dict[Engine, int] = {"table": 10_000, "fit": 1_000, "nuts": 200}
WRONG = HalfNormal(0.5)


def source_sha256() -> str:
    """Return the SHA-256 of the modules that the results depend on."""
    folder = Path(__file__).parent
    texts = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in SOURCES]
    return _sha256("\n".join(texts))


def stored(path: Path = STORE) -> dict[str, Any]:
    """Return the kept results.

    Returns
    -------
    dict
        `made` (date), `source_sha256`, `seed`, `evidence_set`, `totals`, `model`, `sha256` of
        the results, and `results`: `checks` by engine, those of a `control` analysed with a wrong
        prior, and `coverage` as records.

    Raises
    ------
    DfspError
        There are none, or the file was changed by hand.
    """
    if not path.is_file():
        raise DfspError(f"{path}: no calibration is kept; `make calibrate` makes it")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content["sha256"] != _sha256(json.dumps(content["results"])):
        raise DfspError(f"{path}: the results do not have their checksum; make them anew")
    return content


def remake(path: Path = STORE) -> dict[str, Any]:
    """Make the results anew and keep them; about two minutes."""
    counts = count(load_evidence(EVIDENCE), "objective_response")
    model = Model()
    results: dict[str, Any] = {}
    for engine, number in NUMBERS.items():
        done = calibrate(counts, model, number=number, engine=engine)
        results[engine] = {"number": number, "checks": [c.as_dict() for c in done.checks]}
    control = calibrate(counts, model, number=NUMBERS["fit"], fitted=Model(tau=WRONG))
    results["control"] = {
        "number": NUMBERS["fit"],
        "fitted": str(Model(tau=WRONG)),
        "checks": [check.as_dict() for check in control.checks],
    }
    results["coverage"] = coverage(counts, model).round(6).to_dict("records")
    content = {
        "made": datetime.now(UTC).date().isoformat(),
        "source_sha256": source_sha256(),
        "seed": SEED,
        "evidence_set": EVIDENCE,
        "totals": counts.table["total"].to_list(),
        "model": model.as_dict(),
        "sha256": _sha256(json.dumps(results)),
        "results": results,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def stored_checks(path: Path = STORE) -> pd.DataFrame:
    """Return the kept verdicts: `engine`, `data_sets`, `quantity`, `p`, `passed`."""
    results = stored(path)["results"]
    rows = [
        (engine, part["number"], check["name"].removeprefix("calibration: "), check["value"],
         check["passed"])
        for engine, part in results.items() if engine != "coverage"
        for check in part["checks"]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["engine", "data_sets", "quantity", "p", "passed"])


def describe_store(path: Path = STORE) -> str:
    """Say what is kept, from when, and whether the code is still the same."""
    content = stored(path)
    same = "has not changed" if content["source_sha256"] == source_sha256() else "HAS CHANGED"
    lines = [f"Made on {content['made']}; the code that it depends on {same} since."]
    for engine, part in content["results"].items():
        if engine != "coverage":
            bad = [check["name"] for check in part["checks"] if check["passed"] is False]
            verdict = f"failed for {len(bad)} of {len(part['checks'])}" if bad else "passed for all"
            lines.append(f"{engine}: {part['number']:,} data sets, uniform positions {verdict}")
    return "\n".join(lines)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
