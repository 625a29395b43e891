"""Run a notebook headless, and keep what it found in one folder.

A folder under `runs/` holds the executed notebook, the figures and `record.json`. It appears under
its final name only when complete; a run that failed keeps its half-executed notebook and says why.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dfsp.checks import Check
from dfsp.errors import DfspError, listed
from dfsp.evidence.appraisals import appraise
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.model.effects import known_quantities
from dfsp.parameters import ANALYSES, ROOT
from dfsp.predictions import draws
from dfsp.runs.kernels import kernel_manager
from dfsp.runs.provenance import git_state, same_data, sha256, source_sha256, versions
from dfsp.runs.publish import LOCK, RECORD, discard, replace_text, working
from dfsp.schemas import schema
from dfsp.summaries import conclude

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FOLDER_VARIABLE = "DFSP_RUN_FOLDER"
"""Environment variable through which a run tells its notebook where results go."""

DRAWS_VARIABLE = "DFSP_RUN_DRAWS"
"""Environment variable that asks a notebook to keep draws."""

_WHOLE = "whole:"
"""Prefix of paths that papermill writes as a whole or not at all."""

FINDINGS = "findings.json"
KERNEL_LOG = "kernel.log"
NOTHING: Mapping[str, Any] = {
    "headline": None,
    "engine": None,
    "seed": None,
    "numbers": {},
    "checks": [],
    "data": {},
    "figures": [],
    "tables": [],
    "draws": None,
    "appraisal": None,
}
"""What the record of a run says that found nothing."""

# What records of runs made before these keys existed do not hold.
_LATER: Mapping[str, Any] = {
    **NOTHING,
    "git": None,
    "source_sha256": None,
    "cell_seconds": [],
    "effective_parameters": {},
}


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
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    seed: int | None = None,
    appraisal: "Evidence | Counts | None" = None,
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
    tables : mapping of str to pandas.DataFrame, optional
        Saved under these names as CSV, beside `summary` and `studies` of the fit. An index that
        has a name becomes a column.
    seed : int, optional
    appraisal : Evidence or Counts, optional
        Studies whose risk of bias and certainty are recorded, as far as somebody has judged them;
        by default those of the fit.

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
        from dfsp.plots import save

        names += [path.name for path in save(axes, Path(folder) / name)]
    frames = {"summary": fit.summary, "studies": fit.studies} if fit else {}
    frames |= tables or {}
    for name, frame in frames.items():
        if any(frame.index.names):
            frame = frame.reset_index()
        frame.to_csv(Path(folder) / f"{name}.csv", index=False, lineterminator="\n")
    keeps = fit is not None and bool(os.environ.get(DRAWS_VARIABLE))
    if fit is not None and keeps:
        tree = fit.sampled.draws if fit.sampled else draws(fit.exact)
        tree.to_netcdf(Path(folder) / "draws.nc")
    numbers = fit.as_dict() if fit else {}
    findings = {
        "headline": headline,
        "engine": fit.engine if fit else None,
        "seed": seed,
        "numbers": {name: numbers[name] for name in known_quantities() if name in numbers},
        "checks": [check.as_dict() for check in (*(fit.checks if fit else ()), *checks)],
        "data": dict(data if data is not None else fit.counts.files if fit else {}),
        "figures": names,
        "tables": [f"{name}.csv" for name in frames],
        "draws": "draws.nc" if keeps else None,
        "appraisal": _appraised(appraisal or (fit.counts if fit else None)),
    }
    Path(folder, FINDINGS).write_text(json.dumps(findings), encoding="utf-8")
    return headline


def _appraised(studies: Evidence | Counts | None) -> list[dict[str, Any]] | None:
    if studies is None:
        return None
    if isinstance(studies, Counts):
        table = studies.table
    else:
        table = studies.cohorts[studies.cohorts["cohort"].isin(studies.rows["cohort"])]
        table = table.drop(columns="study", errors="ignore").rename(columns={"label": "study"})
    return [{str(key): row[key] for key in row} for row in appraise(table).to_dict("records")]


@dataclass(frozen=True)
class Job:
    """A notebook with checked parameters: what is run, and under which name.

    Attributes
    ----------
    notebook : Path
    values : dict
        The parameters given, as the types that the notebook declares.
    name : str
        Of the run's folder.
    effective : dict
        All parameters: those given, and the notebook's own values of the others.
    draws : bool
        Whether the draws of a fit are kept too.
    timeout : float or None
        Seconds that the cells may take together.
    """

    notebook: Path
    values: dict[str, Any]
    name: str
    effective: dict[str, Any] = field(default_factory=dict)
    draws: bool = False
    timeout: float | None = None


def plan_run(
    notebook: str | Path,
    parameters: Mapping[str, str],
    *,
    draws: bool = False,
    timeout: float | None = None,
) -> Job:
    """Find a notebook and check parameters as typed; start nothing.

    Raises
    ------
    DfspError
        No such notebook, or a parameter's name or value cannot be used: all of them at once.
    """
    path = _find(notebook)
    values, effective = _parameters(path, parameters)
    return Job(path, values, _name(path, values), effective, draws, timeout)


def run_notebook(
    notebook: str | Path,
    parameters: Mapping[str, str],
    *,
    folder: str | Path | None = None,
    progress: bool = True,
    draws: bool = False,
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
    draws : bool
        Keep the draws of a recorded fit as NetCDF: those of NUTS, else independent exact ones.

    Returns
    -------
    Run
        Also when a cell or a check failed: `record["status"]` is then `"failed"`.

    Raises
    ------
    DfspError
        No such notebook, or a parameter's name or value cannot be used; nothing was started. Or
        not even the record of a failure could be written.
    """
    job = plan_run(notebook, parameters, draws=draws)
    where = Path(folder) if folder else ROOT / "runs"
    try:
        return execute(job, where, progress=progress)
    except OSError as error:
        raise DfspError(f"{where}: no record could be written ({error.strerror})") from None


def execute(
    job: Job,
    where: Path,
    *,
    progress: bool = False,
    again: bool = True,
    refused: str | None = None,
) -> Run:
    """Run a job and publish its folder in `where`.

    Parameters
    ----------
    job : Job
    where : Path
    progress : bool
    again : bool
        Also when the folder is there, complete and unchanged.
    refused : str, optional
        Do not run, and record this as the reason.

    Returns
    -------
    Run

    Raises
    ------
    OSError
        Not even the record of a failure could be written.
    """
    final = where.absolute() / job.name  # the kernel is at home elsewhere
    with working(final, keep=job.notebook.name if refused else "") as work:
        # Whoever held the folder before may have finished just this run.
        done = None if again else finished(job, where)
        if done is not None:
            return done
        result = _execute(job, work, progress, refused)
        (work / FINDINGS).unlink(missing_ok=True)
        result = _write_or_make_room(result, work, final)
    return Run(final, result)


def _write_or_make_room(result: dict[str, Any], work: Path, final: Path) -> dict[str, Any]:
    """Write the record; on a full disk that of a failure, giving up more and more for it."""
    try:
        _write(work / RECORD, result)
        return result
    except OSError as error:
        full = error
    reason = result["reason"] or _reason(full)
    failure = {**result, **NOTHING, "status": "failed", "reason": reason}
    notebook = work / result["notebook"]
    others = [path for path in work.iterdir() if path.name not in (notebook.name, LOCK)]
    for given_up in (others, [final], [notebook]):  # `final` is an older run, which is out of date
        for path in given_up:
            discard(path) if path.is_dir() else path.unlink(missing_ok=True)
        with suppress(OSError):
            _write(work / RECORD, failure)
            return failure
    raise full


def read_record(folder: Path) -> dict[str, Any]:
    """Return what the record of a run says.

    Parameters
    ----------
    folder : Path
        Of the run.

    Raises
    ------
    OSError
        No record is there.
    DfspError
        What is there is no record of a run; the message says why.
    """
    from jsonschema import Draft202012Validator

    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DfspError(f"{folder / RECORD}: no JSON ({error})") from None
    if isinstance(content, dict):
        content = {**_LATER, **content}
    faults = [
        f"{'.'.join(map(str, fault.absolute_path))}: {fault.message}".removeprefix(": ")
        for fault in Draft202012Validator(_schema()).iter_errors(content)
    ]
    if faults:
        more = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
        raise DfspError(f"{folder / RECORD}: no record of a run ({faults[0][:200]}{more})")
    record: dict[str, Any] = content
    return record


def parameters_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a run: those given, and the notebook's own values of the others."""
    return {**record["effective_parameters"], **record["parameters"]}


@cache
def _schema() -> dict[str, Any]:
    return schema("run")


def finished(job: Job, where: Path) -> Run | None:
    """Return the run of a job if it is there, complete, and made from what is there now."""
    folder = where / job.name
    try:
        found = read_record(folder)
        same = (
            found["status"] == "complete"
            and found["parameters"] == job.values
            and found["notebook_sha256"] == sha256(job.notebook)
            and found["versions"] == versions()
            and found["source_sha256"] == source_sha256()
            and same_data(found["data"])
            and (found["draws"] is not None or not job.draws or not found["numbers"])
            and all((folder / name).is_file() for name in _files(found))
        )
    except (OSError, DfspError):
        return None
    return Run(folder, found) if same else None


def _files(record: Mapping[str, Any]) -> list[str]:
    """Return the files that a run consists of beside its record."""
    kept = [record["draws"]] if record["draws"] else []
    return [record["notebook"], *record["figures"], *record["tables"], *kept]


def _find(notebook: str | Path) -> Path:
    for path in (Path(notebook), ROOT / notebook):
        if path.is_file() and path.suffix == ".ipynb":
            return path.resolve()
    known = ", ".join(sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")))
    raise DfspError(f"{notebook}: no such notebook; those of the project are {known}")


def _parameters(path: Path, given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the given values as the types that the notebook declares, and check them all.

    Returns
    -------
    values, effective : dict
        The given ones; all, with the notebook's own values of the others.
    """
    declared = _declared(path, sha256(path))
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
    effective = {name: _literal(entry["default"]) for name, entry in declared.items()} | values
    analysis = ANALYSES.get(path.stem)
    if analysis is not None:  # the readable values are checked also beside others that are not
        try:
            analysis(**effective)
        except DfspError as error:
            own = str(error).startswith("parameters:")  # and not a table's, which says where it is
            faults += error.faults if own else [str(error)]
    if faults:
        raise listed(path.name, "parameters that cannot be used", faults)
    return values, effective


@cache
def _declared(path: Path, digest: str) -> dict[str, Any]:
    """Return the parameters that a notebook declares; `digest` tells its versions apart."""
    from papermill import inspect_notebook

    found: dict[str, Any] = inspect_notebook(_escaped(path))
    return found


def _escaped(path: Path) -> str:
    """Papermill reads braces in a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_READERS: dict[str, Callable[[str], Any]] = {"int": int, "float": _finite, "bool": _truth}


def _literal(text: str) -> Any:
    """Return a default as a value that JSON has; the code itself where it is none."""
    from ast import literal_eval

    try:
        value = literal_eval(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError):
        return text
    return value


def _name(path: Path, values: Mapping[str, Any]) -> str:
    """Return a folder name that tells runs apart and is safe whatever the values are."""
    pairs = [f"{name}={value}" for name, value in sorted(values.items())]
    plain = re.sub(r"[^A-Za-z0-9_=.-]+", "-", "_".join([path.stem, *pairs]))[:120].strip(".-")
    digest = hashlib.sha256(json.dumps([path.name, sorted(values.items())]).encode())
    return f"{plain}-{digest.hexdigest()[:8]}"


def _execute(job: Job, work: Path, progress: bool, reason: str | None) -> dict[str, Any]:
    path = job.notebook
    started, clock = datetime.now(UTC), perf_counter()
    git, found = git_state(), dict(NOTHING)
    before = None
    try:  # a notebook may vanish, a disk be full: the record says so
        before = sha256(path)
        if reason is None:
            reason = _run_cells(job, work, progress)
        if reason is None and sha256(path) != before:
            reason = "the notebook was changed while it ran"
        if reason is None:
            found, reason = _findings(work)
        if reason is None:
            (work / KERNEL_LOG).unlink(missing_ok=True)
    except Exception as error:
        found, reason = dict(NOTHING), reason or _reason(error)
    return {
        "schema": "dfsp.run/1",
        "notebook": path.name,
        "notebook_sha256": before,
        "parameters": job.values,
        "effective_parameters": job.effective,
        "status": "failed" if reason else "complete",
        "reason": reason,
        "versions": versions(),
        "source_sha256": source_sha256(),
        "git": git,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - clock, 3),
        "cell_seconds": _cell_seconds(work / path.name),
        **found,
    }


def _findings(work: Path) -> tuple[dict[str, Any], str | None]:
    """Return what the notebook has recorded, and why that is not reported, if so."""
    if not (work / FINDINGS).is_file():
        return dict(NOTHING), None
    text = (work / FINDINGS).read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda _: None)  # JSON proper has no NaN
    bad = [check["name"] for check in found["checks"] if check["passed"] is False]
    if bad:  # numbers that a check has refused are not reported
        return found | {"headline": None, "numbers": {}}, f"checks failed: {'; '.join(bad)}"
    return found, None


def _run_cells(job: Job, work: Path, progress: bool) -> str | None:
    """Execute the notebook; return why that failed, if it did."""
    from papermill import execute_notebook

    _write_as_a_whole()
    told = {FOLDER_VARIABLE: str(work), DRAWS_VARIABLE: "1" if job.draws else ""}
    deadline = perf_counter() + (job.timeout or 0)
    limit = {"timeout_func": lambda _: max(deadline - perf_counter(), 0.01)} if job.timeout else {}
    try:
        with (work / KERNEL_LOG).open("wb") as log:
            execute_notebook(
                _escaped(job.notebook),
                _WHOLE + _escaped(work / job.notebook.name),
                parameters=job.values,
                progress_bar=progress,
                log_output=False,
                cwd=str(job.notebook.parent),
                kernel_manager_class=kernel_manager(told, log),
                **limit,
            )
    except Exception as error:  # whatever stops a notebook is what its record has to say
        return _reason(error, job.timeout)
    return None


@cache
def _write_as_a_whole() -> None:
    """Let papermill, which writes the notebook after each cell, never leave it by half."""
    from papermill.iorw import LocalHandler, papermill_io

    class Whole(LocalHandler):  # type: ignore[misc]
        def write(self, text: str, path: str) -> None:
            replace_text(Path(path.removeprefix(_WHOLE)), text)

    papermill_io.register(_WHOLE, Whole())


def _reason(error: Exception, timeout: float | None = None) -> str:
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, DeadKernelError):
        return f"the kernel died: {error}"
    if isinstance(error, CellTimeoutError):
        return f"stopped after {timeout:g} seconds, the most that a run may take"
    return f"{type(error).__name__}: {error}"


def _cell_seconds(path: Path) -> list[float | None]:
    """Return how long each cell of an executed notebook took; None for those that did not run."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return []
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return [cell["metadata"].get("papermill", {}).get("duration") for cell in code]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    replace_text(path, text + "\n")


def failed_checks(run: Run) -> list[Check]:
    """Return the checks of a run that failed."""
    return [Check(**check) for check in run.record["checks"] if check["passed"] is False]
