"""Run a notebook headless, and keep what it found in one folder.

A folder under `runs/` holds the executed notebook, the figures and `record.json`. It appears under
its final name only when complete; a run that failed keeps its half-executed notebook and says why.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dfsp.checks import Check
from dfsp.errors import DfspError
from dfsp.project import PROJECT_VARIABLE, project_folder
from dfsp.runs.declared import Notebook, Parameter, read_notebook
from dfsp.runs.publish import RECORD, discard, replace_text, working
from dfsp.runs.record import (
    DRAWS_VARIABLE,
    FINDINGS,
    FOLDER_VARIABLE,
    NOTHING,
    Run,
    git_state,
    read_record,
    same_data,
    sha256,
    source_sha256,
    versions,
)

if TYPE_CHECKING:
    from dfsp.runs.kernels import Session

_WHOLE = "whole:"
"""Prefix of paths that papermill writes as a whole or not at all."""

IMAGES = ("image/png", "image/svg+xml", "image/jpeg")
_CHOOSES_BACKEND = re.compile(r"matplotlib\.use\(|mpl\.use\(|switch_backend\(|%matplotlib\s")


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
    kernel : str or None
        Name of the kernel.
    own : bool
        Whether only a kernel of this environment will do, since nobody has chosen another.
    refused : str or None
        Why it cannot be run. Such a run fails with this reason.
    project : Path
        The folder of the project, also for workers that are at home elsewhere.
    """

    notebook: Path
    values: dict[str, Any]
    name: str
    effective: dict[str, Any] = field(default_factory=dict)
    draws: bool = False
    timeout: float | None = None
    kernel: str | None = None
    own: bool = True
    refused: str | None = None
    project: Path = field(default_factory=project_folder)


def find_notebook(notebook: str | Path) -> Path:
    """Return the path of a notebook: from the working directory, or else from the project's folder.

    Raises
    ------
    DfspError
        There is none.
    """
    project = project_folder()
    for path in (Path(notebook), project / notebook):
        if path.is_file() and path.suffix == ".ipynb":
            return path.resolve()
    known = ", ".join(sorted(path.name for path in (project / "notebooks").glob("*.ipynb")))
    says = (
        f"those of the project are {known}"
        if known
        else f"{project} has none: go to the folder of a project with notebooks, or name it with "
        f"--project or the variable {PROJECT_VARIABLE}"
    )
    raise DfspError(f"{notebook}: no such notebook; {says}")


def job_of(
    notebook: Notebook,
    values: Mapping[str, Any],
    *,
    draws: bool = False,
    timeout: float | None = None,
    kernel: str | None = None,
) -> tuple[Job, list[str]]:
    """Return the run of a notebook with values that have its types, and which cannot be used."""
    effective = notebook.effective(values)
    name, own, kernel = notebook.path.name, kernel is None, kernel or notebook.kernel
    no = _refused(kernel, own=own)
    job = Job(
        notebook.path, dict(values), _name(notebook.path, values), effective, draws, timeout,
        kernel, own, f"{name}: {no}" if no else None,
    )  # fmt: skip
    return job, [f"{name}: {fault}" for fault in _rule_faults(notebook, effective)]


@cache
def _refused(kernel: str | None, *, own: bool) -> str | None:
    from dfsp.runs.kernels import refusal

    return refusal(kernel, own=own)


def unreadable(
    path: Path,
    values: Mapping[str, Any],
    says: str,
    *,
    draws: bool = False,
    timeout: float | None = None,
    kernel: str | None = None,
) -> Job:
    """Return the run of a notebook that cannot be read, which will fail and say so."""
    given, name, own = dict(values), _name(path, values), kernel is None
    return Job(path, given, name, given, draws, timeout, kernel, own, says)


def _rule_faults(notebook: Notebook, parameters: Mapping[str, Any]) -> list[str]:
    """Say which values of the parameters cannot be used.

    A notebook that checks them itself gets the same verdict here, before its kernel starts. Any
    other is held to the rule of each name that it declares, since only its code knows what goes
    together, where its data are, and what None stands for; and one without dfsp may mean something
    else by a name, as it does where its own value breaks the rule.
    """
    from dfsp.parameters import by_name, faults_of

    if notebook.checks:
        return faults_of(parameters)
    given = {
        name: value
        for name, value in parameters.items()
        if name in notebook.parameters and value is not None
    }
    other = {} if notebook.uses_dfsp else by_name(notebook.effective({}))
    return [fault for name, fault in by_name(given).items() if name not in other]


def plan_run(
    notebook: str | Path,
    parameters: Mapping[str, str],
    *,
    draws: bool = False,
    timeout: float | None = None,
    kernel: str | None = None,
) -> Job:
    """Find a notebook and check parameters as typed; start nothing.

    Raises
    ------
    DfspError
        No such notebook, it or its kernel cannot be used, or a parameter's name or value cannot:
        all of them at once.
    """
    path = find_notebook(notebook)
    try:
        declared = read_notebook(path)
    except OSError as error:
        raise DfspError(f"{path}: cannot be read ({error.strerror})") from None
    faults, values = [], {}
    for name, text in parameters.items():
        if name not in declared.parameters and declared.language == "python":
            known = ", ".join(declared.parameters) or "none"
            faults.append(f"{name}: unknown parameter; this notebook has {known}")
            continue
        try:
            values[name] = declared.parameters.get(name, Parameter(name, None)).from_text(text)
        except DfspError as error:
            faults.append(str(error))
    # What can be read is checked also beside what cannot.
    job, wrong = job_of(declared, values, draws=draws, timeout=timeout, kernel=kernel)
    faults += [fault.removeprefix(f"{path.name}: ") for fault in wrong]
    if faults:
        raise DfspError.of(path.name, "parameters that cannot be used", faults)
    if job.refused:
        raise DfspError(job.refused)
    return job


def run_notebook(
    notebook: str | Path,
    parameters: Mapping[str, str],
    *,
    folder: str | Path | None = None,
    progress: bool = True,
    draws: bool = False,
    kernel: str | None = None,
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
    kernel : str, optional
        Name of another kernel than the notebook's; it may be of another environment.

    Returns
    -------
    Run
        Also when a cell or a check failed: `record["status"]` is then `"failed"`.

    Raises
    ------
    DfspError
        No such notebook, or it, its kernel, a parameter's name or value cannot be used; nothing
        was started. Or not even the record of a failure could be written.
    """
    job = plan_run(notebook, parameters, draws=draws, kernel=kernel)
    where = Path(folder) if folder else project_folder() / "runs"
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
    warm: bool = False,
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
    warm : bool
        Whether this process will do more runs, so that a template of their kernels is worth while.
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
        result = _execute(job, work, progress, warm, refused or job.refused)
        result = _write_or_make_room(result, work, final)
    return Run(final, result)


def _write_or_make_room(result: dict[str, Any], work: Path, final: Path) -> dict[str, Any]:
    """Write the record; on a full disk that of a failure, giving up more and more for it."""
    try:
        _write(work / RECORD, result)
        return result
    except OSError as error:
        full = error
    reason = result["reason"] or f"{type(full).__name__}: {full}"
    failure = {**result, **NOTHING, "status": "failed", "reason": reason}
    notebook = work / result["notebook"]
    others = [path for path in work.iterdir() if path.name != notebook.name]
    for given_up in (others, [final], [notebook]):  # `final` is an older run, which is out of date
        for path in given_up:
            discard(path) if path.is_dir() else path.unlink(missing_ok=True)
        with suppress(OSError):
            _write(work / RECORD, failure)
            return failure
    raise full


def finished(job: Job, where: Path) -> Run | None:
    """Return the run of a job if it is there, complete, and made from what is there now."""
    folder = where / job.name
    try:
        found = read_record(folder)
        same = (
            found["status"] == "complete"
            and found["parameters"] == job.values
            and found["notebook_sha256"] == sha256(job.notebook)
            and _same_kernel(found, job)
            and same_data(found["data"], job.project)
            and (found["draws"] is not None or not job.draws or not found["numbers"])
            and all((folder / name).is_file() for name in _files(found))
        )
    except (OSError, DfspError):
        return None
    return Run(folder, found) if same else None


def _same_kernel(record: Mapping[str, Any], job: Job) -> bool:
    """Whether what computed then would compute today, from the same source."""
    kernel = record["kernel"] or {"name": job.kernel, "own": True}  # as in records of old
    if kernel["name"] != job.kernel or (job.own and not kernel["own"]):
        return False
    now, source = versions(), source_sha256()
    if not kernel["own"]:
        from dfsp.runs.kernels import ask_kernel

        answer = ask_kernel(kernel["name"])
        now, source = answer["versions"], answer["source_sha256"]
    return record["versions"] == now and record["source_sha256"] in (None, source)


def _files(record: Mapping[str, Any]) -> list[str]:
    """Return the files that a run consists of beside its record."""
    kept = [record["draws"]] if record["draws"] else []
    return [record["notebook"], *record["figures"], *record["tables"], *kept]


def _name(path: Path, values: Mapping[str, Any]) -> str:
    """Return a folder name that tells runs apart and is safe whatever the values are."""
    pairs = [f"{name}={value}" for name, value in sorted(values.items())]
    plain = re.sub(r"[^A-Za-z0-9_=.-]+", "-", "_".join([path.stem, *pairs]))[:120].strip(".-")
    digest = hashlib.sha256(json.dumps([path.name, sorted(values.items())]).encode())
    return f"{plain}-{digest.hexdigest()[:8]}"


def _execute(
    job: Job, work: Path, progress: bool, warm: bool, reason: str | None
) -> dict[str, Any]:
    from dfsp.runs.kernels import KERNEL_LOG, PRIVATE, Session, log_end, reason_of
    from dfsp.runs.template import suits

    path = job.notebook
    started, clock = datetime.now(UTC), perf_counter()
    git, found = git_state(job.project), dict(NOTHING)
    before = None
    told = {
        FOLDER_VARIABLE: str(work),
        DRAWS_VARIABLE: "1" if job.draws else "",
        PROJECT_VARIABLE: str(job.project),
    }
    session = Session(
        work, tuple(job.effective), told,
        own=job.own, warm=warm and suits(path), timeout=job.timeout,
    )  # fmt: skip
    try:  # a notebook may vanish, a disk be full: the record says so
        before = sha256(path)
        if reason is None:
            reason = _run_cells(job, session, progress)
        if reason is None and sha256(path) != before:
            reason = "the notebook was changed while it ran"
        if reason is None:
            found, reason = _findings(work, path.name)
    except Exception as error:
        found, reason = dict(NOTHING), reason or reason_of(error)
    finally:
        (work / FINDINGS).unlink(missing_ok=True)
        shutil.rmtree(work / PRIVATE, ignore_errors=True)
    log = log_end(work / KERNEL_LOG)
    if reason is None or not log:
        (work / KERNEL_LOG).unlink(missing_ok=True)
    heard = session.heard
    return {
        "schema": "dfsp.run/1",
        "notebook": path.name,
        "notebook_sha256": before,
        "parameters": job.values,
        "effective_parameters": job.effective | heard.get("parameters", {}),
        "status": "failed" if reason else "complete",
        "reason": reason,
        "log": log or None if reason else None,
        "kernel": {
            "name": job.kernel,
            "python": heard.get("python"),
            "own": job.own or heard.get("prefix") == sys.prefix,
        },
        "versions": heard.get("versions", {}),
        "source_sha256": heard.get("source_sha256"),
        "git": git,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - clock, 3),
        "cell_seconds": _cell_seconds(work / path.name),
        **found,
    }


def _findings(work: Path, name: str) -> tuple[dict[str, Any], str | None]:
    """Return what the notebook has recorded, and why that is not reported, if so."""
    if not (work / FINDINGS).is_file():
        return dict(NOTHING), None
    text = (work / FINDINGS).read_text(encoding="utf-8")
    found = dict(NOTHING) | json.loads(text, parse_constant=lambda _: None)  # JSON has no NaN
    nothing: dict[str, Any] = {
        "headline": None, "prior_warning": None, "prior_sensitivity": None, "numbers": {},
        "groups": {},
    }  # fmt: skip
    bad = [check["name"] for check in found["checks"] if check["passed"] is False]
    if bad:  # numbers that a check has refused are not reported
        return found | nothing, f"checks failed: {'; '.join(bad)}"
    lacks = [figure for figure in found["figures"] if not (work / figure).is_file()]
    if lacks:
        return found | nothing, f"figures that were promised are not there: {', '.join(lacks)}"
    if found["figures"] and not _shows_images(work / name):
        says = f"the notebook promises figures ({', '.join(found['figures'])}) and shows none"
        return found | nothing, f"{says}: its kernel draws with another backend than Jupyter's"
    return found, None


def _shows_images(path: Path) -> bool:
    """Whether a notebook shows an image, or has itself chosen where they are drawn."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return bool(_CHOOSES_BACKEND.search(code)) or any(
        kind in output.get("data", {}) for output in outputs for kind in IMAGES
    )


def _run_cells(job: Job, session: "Session", progress: bool) -> str | None:
    """Execute the notebook; return why that failed, if it did."""
    from papermill import execute_notebook

    from dfsp.runs.kernels import kernel_spec, reason_of

    _write_as_a_whole()
    assert job.kernel is not None  # otherwise the job was refused
    try:
        execute_notebook(
            _escaped(job.notebook),
            _WHOLE + _escaped(session.folder / job.notebook.name),
            parameters=job.values,
            engine_name="dfsp",
            kernel_name=job.kernel,
            language=kernel_spec(job.kernel).language,
            progress_bar=progress,
            cwd=str(job.notebook.parent),
            run_session=session,
        )
    except Exception as error:  # whatever stops a notebook is what its record has to say
        return reason_of(error, job.timeout, session.folder / job.notebook.name)
    return None


def _escaped(path: Path) -> str:
    """Papermill reads braces in a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


@cache
def _write_as_a_whole() -> None:
    """Let papermill, which writes the notebook after each cell, never leave it by half."""
    from papermill.iorw import LocalHandler, papermill_io

    class Whole(LocalHandler):  # type: ignore[misc]
        def write(self, text: str, path: str) -> None:
            replace_text(Path(path.removeprefix(_WHOLE)), text)

    papermill_io.register(_WHOLE, Whole())


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
