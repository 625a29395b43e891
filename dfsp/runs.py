"""Run a notebook headless, and keep what it found in one folder.

A folder under `runs/` holds the executed notebook, the figures and `record.json`. It appears under
its final name only when complete; a run that failed keeps its half-executed notebook and says why.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dfsp.checks import Check
from dfsp.errors import DfspError, listed
from dfsp.fitting import QUANTITIES, Fit
from dfsp.parameters import ANALYSES, ROOT
from dfsp.summaries import conclude

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER_VARIABLE = "DFSP_RUN_FOLDER"
"""Environment variable through which a run tells its notebook where results go."""

FINDINGS = "findings.json"
PACKAGES = ("dfsp", "numpy", "scipy", "pandas", "pymc", "nutpie", "arviz", "papermill")


@dataclass(frozen=True)
class Run:
    """Where a run's results are, and what its record says."""

    folder: Path
    record: dict[str, Any]


def record(
    *,
    fit: Fit | None = None,
    headline: str | None = None,
    checks: Sequence[Check] = (),
    data: Mapping[str, str] | None = None,
    figures: Mapping[str, "Axes"] | None = None,
    seed: int | None = None,
) -> str:
    """Keep what a notebook found, when it is run by `dfsp run`; elsewhere do nothing.

    Parameters
    ----------
    fit : Fit, optional
        Its checks, headline numbers and data are recorded.
    headline : str, optional
        The sentence to print at the end; by default `conclude(fit)`.
    checks : sequence of Check
        Verdicts beside those of the fit.
    data : mapping of str to str, optional
        SHA-256 of each file read; by default those of the fit's counts.
    figures : mapping of str to Axes, optional
        Saved under these names as SVG and PNG.
    seed : int, optional

    Returns
    -------
    str
        The headline.
    """
    headline = headline or (conclude(fit) if fit else "")
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return headline
    names = []
    for name, axes in (figures or {}).items():
        from dfsp.figures import save

        names += [path.name for path in save(axes, Path(folder) / name)]
    numbers = fit.as_dict() if fit else {}
    findings = {
        "headline": headline,
        "engine": fit.engine if fit else None,
        "seed": seed,
        "numbers": {name: numbers[name] for name in QUANTITIES if name in numbers},
        "checks": [check.as_dict() for check in (*(fit.checks if fit else ()), *checks)],
        "data": dict(data if data is not None else fit.counts.files if fit else {}),
        "figures": names,
    }
    Path(folder, FINDINGS).write_text(json.dumps(findings), encoding="utf-8")
    return headline


def run_notebook(
    notebook: str | Path,
    parameters: Mapping[str, str],
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Execute a notebook with parameters.

    Parameters
    ----------
    notebook : path
        Relative to the working directory, or else to the project's folder.
    parameters : mapping of str to str
        Values as typed; each is read as the type of the notebook's own parameter.
    folder : path, optional
        Where run folders are made; by default `runs` in the project's folder.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Run
        Also when a cell failed: `record["status"]` is then `"failed"`.

    Raises
    ------
    DfspError
        No such notebook, or a parameter's name or value cannot be used; nothing was started.
    """
    path = _find(notebook)
    values = _parameters(path, parameters)
    where = Path(folder) if folder else ROOT / "runs"
    final = where / _name(path, parameters)
    where.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{final.name[:40]}-", dir=where))
    try:
        result = _execute(path, values, work, progress)
        (work / FINDINGS).unlink(missing_ok=True)
        _write(work / "record.json", result)
        _replace(work, final)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Run(final, result)


def _find(notebook: str | Path) -> Path:
    for path in (Path(notebook), ROOT / notebook):
        if path.is_file() and path.suffix == ".ipynb":
            return path.resolve()
    known = ", ".join(sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")))
    raise DfspError(f"{notebook}: no such notebook; those of the project are {known}")


def _parameters(path: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Read the given values as the types that the notebook declares, and check them all."""
    from papermill import inspect_notebook

    declared = inspect_notebook(_escaped(path))
    faults, values = [], {}
    for name, text in given.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            faults.append(f"{name}: unknown parameter; this notebook has {known}")
            continue
        kind = declared[name]["inferred_type_name"]
        try:
            values[name] = _READERS.get(kind, str)(text)
        except ValueError:
            faults.append(f"{name} = {text!r}: give a {kind}")
    if faults:
        raise listed(path.name, "parameters that cannot be used", faults)
    analysis = ANALYSES.get(path.stem)
    if analysis is not None:
        defaults = {name: _literal(entry["default"]) for name, entry in declared.items()}
        analysis(**{**defaults, **values})
    return values


def _escaped(path: Path) -> str:
    """Papermill reads braces in a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_READERS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": _truth}


def _literal(text: str) -> Any:
    from ast import literal_eval

    return literal_eval(text)


def _name(path: Path, parameters: Mapping[str, str]) -> str:
    """Return a folder name that tells runs apart and is safe whatever the values are."""
    pairs = [f"{name}={value}" for name, value in sorted(parameters.items())]
    plain = re.sub(r"[^A-Za-z0-9_=.-]+", "-", "_".join([path.stem, *pairs]))[:80].strip(".-")
    digest = hashlib.sha256(json.dumps([path.name, sorted(parameters.items())]).encode())
    return f"{plain}-{digest.hexdigest()[:8]}"


def _execute(path: Path, values: dict[str, Any], work: Path, progress: bool) -> dict[str, Any]:
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    started, clock = datetime.now(UTC), perf_counter()
    status, reason = "complete", None
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(work)
    try:
        execute_notebook(
            _escaped(path),
            _escaped(work / path.name),
            parameters=values,
            progress_bar=progress,
            log_output=False,
            cwd=str(path.parent),
        )
    except PapermillExecutionError as error:
        status, reason = "failed", f"{error.ename}: {error.evalue}"
    except DeadKernelError as error:
        status, reason = "failed", f"the kernel died: {error}"
    finally:
        if before is None:
            del os.environ[FOLDER_VARIABLE]
        else:
            os.environ[FOLDER_VARIABLE] = before
    found: dict[str, Any] = {
        "headline": None,
        "engine": None,
        "seed": None,
        "numbers": {},
        "checks": [],
        "data": {},
        "figures": [],
    }
    if status == "complete" and (work / FINDINGS).is_file():
        found = json.loads((work / FINDINGS).read_text(encoding="utf-8"))
    return {
        "schema": "dfsp.run/1",
        "notebook": path.name,
        "notebook_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": values,
        "status": status,
        "reason": reason,
        "versions": {name: version(name) for name in PACKAGES},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - clock, 3),
        **found,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _replace(work: Path, final: Path) -> None:
    """Move a finished folder to its final name; the one it replaces goes last."""
    old = work.with_name(work.name + "-old")
    if final.exists():
        final.rename(old)
    work.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def failed_checks(run: Run) -> list[Check]:
    """Return the checks of a run that failed."""
    return [Check(**check) for check in run.record["checks"] if check["passed"] is False]
