"""Calibration results that are kept: when they were made, by which engine, and whether intact.

`make calibrate` makes them anew.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dfsp.analyses.calibration.simulation import ENGINES, Engine, calibrate, coverage
from dfsp.constants import SEED
from dfsp.engine import VERSION
from dfsp.errors import DfspError
from dfsp.evidence.load import load_evidence
from dfsp.evidence.outcomes import count
from dfsp.model.effects import effects_of
from dfsp.model.model import Model
from dfsp.model.priors import HalfNormal
from dfsp.project import data_folder
from dfsp.text import Sentences

EVIDENCE = "reconciled"
NUMBERS: dict[Engine, int] = {"table": 10_000, "fit": 1_000, "nuts": 200}
OTHER_EFFECTS = ("student-t", "exnex", "beta-binomial")
WRONG = HalfNormal(0.5)
WORDS: dict[str, str] = {
    **{str(engine): words for engine, words in ENGINES.items()},
    "control": f"control, analysed with tau ~ {WRONG} instead",
}
_KEYS = {
    "made", "engine_version", "seed", "evidence_set", "totals", "model", "results", "sha256",
}  # fmt: skip


def stored(path: Path | None = None) -> dict[str, Any]:
    """Return the kept results.

    Returns
    -------
    dict
        `made` (date), `engine_version`, `seed`, `evidence_set`, `totals`, `model`, `sha256` of
        all else, and `results`: `checks` by engine and by effects other than normal (through the
        table), those of a `control` analysed with a wrong prior, and `coverage` as records.

    Raises
    ------
    DfspError
        There are none, or the file was changed by hand.
    """
    path = path or _store()
    if not path.is_file():
        raise DfspError(f"{path}: no calibration is kept; `make calibrate` makes it")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DfspError(f"{path}: not JSON ({error}); `make calibrate` makes it anew") from None
    if not isinstance(content, dict) or set(content) != _KEYS:
        keys = ", ".join(sorted(_KEYS))
        raise DfspError(f"{path}: give an object of {keys}; `make calibrate` makes it anew")
    if content["sha256"] != checksum(content):
        raise DfspError(
            f"{path}: the content does not have its checksum; `make calibrate` makes it anew"
        )
    return content


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of all that is kept but the checksum itself."""
    return _sha256(json.dumps({key: content[key] for key in sorted(content) if key != "sha256"}))


def remake(path: Path | None = None) -> dict[str, Any]:
    """Make the results anew and keep them; some minutes."""
    counts = count(load_evidence(EVIDENCE), "objective_response")
    model = Model()
    results: dict[str, Any] = {}
    for engine, number in NUMBERS.items():
        done = calibrate(counts, model, number=number, engine=engine)
        results[engine] = {"number": number, "checks": [c.as_dict() for c in done.checks]}
    for effects in OTHER_EFFECTS:
        done = calibrate(counts, Model(effects=effects_of(effects)), number=NUMBERS["table"])
        results[effects] = {
            "number": NUMBERS["table"],
            "checks": [check.as_dict() for check in done.checks],
        }
    control = calibrate(counts, model, number=NUMBERS["fit"], fitted=Model(tau=WRONG))
    results["control"] = {
        "number": NUMBERS["fit"],
        "fitted": str(Model(tau=WRONG)),
        "checks": [check.as_dict() for check in control.checks],
    }
    results["coverage"] = coverage(counts, model).table.round(6).to_dict("records")
    content: dict[str, Any] = {
        "made": datetime.now(UTC).date().isoformat(),
        "engine_version": VERSION,
        "seed": SEED,
        "evidence_set": EVIDENCE,
        "totals": counts.table["total"].to_list(),
        "model": model.as_dict(),
        "results": results,
    }
    content["sha256"] = checksum(content)
    path = path or _store()
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def stored_checks(path: Path | None = None) -> pd.DataFrame:
    """Return the kept verdicts: `engine` (or effects), `data_sets`, `quantity`, `p`, `passed`."""
    results = stored(path)["results"]
    rows = [
        (engine, part["number"], check["name"].removeprefix("calibration: "), check["value"],
         check["passed"])
        for engine, part in results.items() if engine != "coverage"
        for check in part["checks"]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["engine", "data_sets", "quantity", "p", "passed"])


def kept(path: Path | None = None) -> Sentences:
    """Say what is kept, from when, and whether the engine is still the same.

    Parameters
    ----------
    path : Path, optional
        The project's `data/calibration.json` if not given.

    Returns
    -------
    Sentences

    Raises
    ------
    DfspError
        Nothing is kept, or the file was changed by hand.

    See Also
    --------
    calibrate : Makes such results for studies of one's own.

    Examples
    --------
    >>> import dfsp
    >>> said = dfsp.calibration.kept().splitlines()
    >>> "NOT" in said[1], said[1].partition(":")[0]
    (False, 'all on one grid over the prior')
    """
    content = stored(path)
    same = "has not changed" if content["engine_version"] == VERSION else "HAS CHANGED"
    lines = [
        f"Made on {content['made']} with seed {content['seed']}, for {len(content['totals'])} "
        f"studies of {', '.join(map(str, content['totals']))} patients; the engine "
        f"{same} since."
    ]
    for engine, part in content["results"].items():
        if engine != "coverage":
            bad = [check["name"] for check in part["checks"] if check["passed"] is False]
            verdict = f"failed for {len(bad)} of {len(part['checks'])}" if bad else "passed for all"
            name = WORDS.get(engine, f"{engine} effects, all on one grid")
            lines.append(f"{name}: {part['number']:,} data sets, uniform positions {verdict}")
    return Sentences("\n".join(lines))


def _store() -> Path:
    return data_folder() / "calibration.json"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
