"""Many runs: a plan that is checked before anything starts, done in parallel, taken up again.

A plan is a YAML file. Under each notebook, lists of parameter values multiply; `include` and
`exclude` add and remove rows as in the matrix of GitHub's workflows:

    notebooks:
      - notebook: notebooks/02_response.ipynb
        parameters:
          engine: exact
          outcome: [objective_response, clinical_benefit]
          evidence_set: [review, reconciled]
        exclude:
          - {outcome: clinical_benefit, evidence_set: review}
        include:
          - {outcome: complete_response, not_evaluable: excluded}
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from dfsp.errors import DfspError, listed
from dfsp.fitting import CONCENTRATION, QUANTITIES
from dfsp.kernels import follow
from dfsp.publishing import RECORD, hold, make_folder, recover, replace_text
from dfsp.runs import NOTHING, Job, execute, finished, plan_run

RESULTS = "results.csv"
BATCH_LOCK = ".batch.lock"
ANSWER = 10.0
"""Seconds within which a Dask scheduler has to answer."""

COLUMNS = ("mean", "q2.5", "q50", "q97.5")
"""Statistics of each quantity in the table of results."""

Row = dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """How one run of a batch ended."""

    name: str
    status: str
    reason: str | None
    seconds: float


@dataclass
class Progress:
    """Where a batch is.

    Attributes
    ----------
    total, done, failed, skipped : int
        `done` counts complete runs, those that were there already (`skipped`) among them.
    started : float
        As told by `time.perf_counter`.
    """

    total: int
    done: int
    failed: int
    skipped: int
    started: float

    @property
    def left(self) -> int:
        """How many runs have not ended."""
        return self.total - self.done - self.failed

    def __str__(self) -> str:
        seconds = round(perf_counter() - self.started)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{self.done} done, {self.failed} failed, {self.left} left, {clock}"


# ---------------------------------------------------------------- the plan


def read_plan(path: str | Path, *, draws: bool = False, timeout: float | None = None) -> list[Job]:
    """Read a plan and check every run in it; start nothing.

    Parameters
    ----------
    path : path
        A YAML file; see the module's description.
    draws, timeout
        As in `Job`, for all runs.

    Returns
    -------
    list of Job
        In the order of the plan.

    Raises
    ------
    DfspError
        With every fault of the plan: its structure, unknown notebooks, names and values of
        parameters, runs that would have the same name.
    """
    import yaml

    try:
        plan = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DfspError(f"{path}: cannot be read as YAML: {error}") from None
    entries = plan.get("notebooks") if isinstance(plan, dict) else None
    if not isinstance(entries, list) or not entries or set(plan) != {"notebooks"}:
        raise DfspError(f"{path}: a plan has one key, `notebooks`, with a list of at least one")
    faults: dict[str, list[str]] = {}  # what is wrong, and with which runs
    jobs: list[Job] = []
    for number, entry in enumerate(entries, start=1):
        where = f"notebook {number}"
        rows, wrong = _rows(entry)
        for fault in wrong:
            faults.setdefault(f"{where}: {fault}", [])
        for row in rows if not wrong else []:
            try:
                jobs.append(plan_run(entry["notebook"], row, draws=draws, timeout=timeout))
            except DfspError as error:
                says = str(error).replace("\n", "\n  ")
                faults.setdefault(f"{where}: {says}", []).append(_said(row))
    names = Counter(job.name for job in jobs)
    for name, times in names.items():
        if times > 1:
            places = {str(job.notebook) for job in jobs if job.name == name}
            faults.setdefault(
                f"{times} runs have the name {name} ({', '.join(sorted(places))}); "
                "remove all but one, or give the notebooks different file names",
                [],
            )
    if faults:
        raise listed(str(path), "the plan cannot be run", [_told(*each) for each in faults.items()])
    return jobs


def _told(fault: str, rows: Sequence[str]) -> str:
    if not rows:
        return fault
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{fault}\n    (run with {rows[0]}{more})"


def _said(row: Row) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in row.items()) or "the defaults"


def _rows(entry: Any) -> tuple[list[Row], list[str]]:
    """Return the parameters of each run of an entry, and what is wrong with the entry."""
    allowed = ("notebook", "parameters", "include", "exclude")
    if not isinstance(entry, dict) or not isinstance(entry.get("notebook"), str):
        return [], ["an entry names a file under `notebook`"]
    faults = [f"{key!r} is not known; use {', '.join(allowed)}" for key in {*entry} - {*allowed}]
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        return [], [*faults, "`parameters` holds names and values"]
    axes: dict[str, list[str]] = {}
    for name, given in parameters.items():
        if given == []:
            faults.append(f"{name}: the list is empty; give at least one value")
        values = given if isinstance(given, list) else [given]
        axes[str(name)] = _texts(str(name), values, faults)
    extra = {}
    for key in ("include", "exclude"):
        rows = entry.get(key) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row for row in rows):
            faults.append(f"`{key}` is a list of rows, each with names and values")
            rows = []
        extra[key] = [
            {str(name): _texts(str(name), [value], faults)[0] for name, value in row.items()}
            for row in rows
        ]
    for row in extra["exclude"]:
        if unknown := set(row) - set(axes):
            faults.append(f"exclude: {', '.join(sorted(unknown))} is not under `parameters`")
    if faults:
        return [], faults
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    kept = [row for row in rows if not any(out.items() <= row.items() for out in extra["exclude"])]
    if not kept and not extra["include"]:
        return [], ["`exclude` leaves no run"]
    return _included(kept if axes or not extra["include"] else [], extra["include"], axes), []


def _texts(name: str, values: Sequence[Any], faults: list[str]) -> list[str]:
    """Return values as they would be typed; `false` and `true` for truth values."""
    texts = []
    for value in values:
        if not isinstance(value, str | bool | int | float):
            faults.append(f"{name} = {value!r}: give a text, a number, true or false")
        texts.append(str(value).lower() if isinstance(value, bool) else str(value))
    return texts


def _included(rows: list[Row], include: Sequence[Row], axes: Mapping[str, Any]) -> list[Row]:
    """Extend the rows that a row of `include` does not contradict, or else add it as a run."""
    extended = [dict(row) for row in rows]
    added = []
    for more in include:
        fits = [
            now
            for now, row in zip(extended, rows, strict=True)
            if all(row[name] == value for name, value in more.items() if name in axes)
        ]
        for now in fits:
            now.update(more)
        if not fits:
            added.append(dict(more))
    return extended + added


# ---------------------------------------------------------------- running it


def run_batch(
    jobs: Sequence[Job],
    where: Path,
    *,
    workers: int = -1,
    scheduler: str | None = None,
    tell: Callable[[Progress, Outcome | None], None] = lambda progress, outcome: None,
) -> Progress:
    """Do every run that is not there yet, complete and unchanged.

    Parameters
    ----------
    jobs : sequence of Job
        From `read_plan`.
    where : Path
        The folder of run folders; `results.csv` is written there at the end.
    workers : int
        Processes on this machine; -1 for as many as cores.
    scheduler : str, optional
        Address of a Dask scheduler instead. Its workers see the same files under the same paths.
    tell : callable
        Called with the progress at the start (with no outcome) and after each run.

    Returns
    -------
    Progress
        At the end.

    Raises
    ------
    DfspError
        Another batch holds the folder, or no cluster answers at the address.
    KeyboardInterrupt
        After Ctrl-C: workers and kernels have been stopped and the table of results written.
    """
    where = where.absolute()  # workers and kernels are at home elsewhere
    make_folder(where)
    with _alone(where):
        recover(where)
        (where / RESULTS).unlink(missing_ok=True)  # until the end it would be an old one
        todo = [job for job in jobs if finished(job, where) is None]
        there = len(jobs) - len(todo)
        progress = Progress(len(jobs), there, 0, there, perf_counter())
        tell(progress, None)
        try:
            with _backend(scheduler):
                for outcome in _outcomes(todo, where, workers, follows=scheduler is None):
                    if outcome.status == "complete":
                        progress.done += 1
                    else:
                        progress.failed += 1
                    tell(progress, outcome)
        finally:
            recover(where)
            write_results(where)
    return progress


@contextmanager
def _alone(where: Path) -> Iterator[None]:
    lock = hold(where / BATCH_LOCK, wait=False)
    if lock is None:
        holder = (where / BATCH_LOCK).read_text(encoding="utf-8").strip()
        raise DfspError(
            f"{where}: another batch ({holder or 'just started'}) is at work in this folder; "
            "wait until it ends, or give another --folder"
        )
    with lock:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        lock.flush()
        yield


@contextmanager
def _backend(scheduler: str | None) -> Iterator[None]:
    if scheduler is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise DfspError(
            "--scheduler needs the package distributed: pip install dfsp[dask]"
        ) from None
    from joblib import parallel_config

    try:
        client = Client(scheduler, timeout=ANSWER)
    except (OSError, ValueError) as error:
        raise DfspError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client, parallel_config(backend="dask"):
        yield


def _outcomes(
    jobs: Sequence[Job], where: Path, workers: int, *, follows: bool
) -> Iterator[Outcome]:
    """Do the jobs in parallel; yield how each ended, in the order in which they do."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    left = {job.name: job for job in jobs}
    parent = os.getpid() if follows else None

    def together(names: Sequence[str], workers: int) -> Iterator[Outcome]:
        for outcome in _parallel([left[name] for name in names], where, workers, parent):
            del left[outcome.name]
            yield outcome

    while left:
        try:
            yield from together(list(left), workers)
        except BrokenProcessPool:
            # Something killed a worker, and the pool took the others down. What was at work gets
            # a second chance, one at a time, so that only who is to blame has failed.
            suspects = [name for name in left if (where / f".{name}").exists()]
            recover(where)
            for name in suspects or list(left)[:1]:
                try:
                    yield from together([name], 2)
                except BrokenProcessPool:
                    recover(where)
                    yield _task(left.pop(name), where, None, "its worker process was killed")


def _parallel(
    jobs: Sequence[Job], where: Path, workers: int, parent: int | None
) -> Iterator[Outcome]:
    from joblib import Parallel, delayed

    pool = Parallel(workers, return_as="generator_unordered", batch_size=1)
    with closing(pool(delayed(_task)(job, where, parent) for job in jobs)) as outcomes:
        yield from outcomes


def _task(job: Job, where: Path, parent: int | None, refused: str | None = None) -> Outcome:
    clock = perf_counter()
    if parent is not None:
        follow(parent)
    try:
        run = execute(job, where, again=False, refused=refused)
    except Exception as error:  # the others go on, whatever happened to this one
        says = f"no record could be written: {type(error).__name__}: {error}"
        return Outcome(job.name, "failed", says, perf_counter() - clock)
    status, reason = run.record["status"], run.record["reason"]
    return Outcome(job.name, status, reason, perf_counter() - clock)


# ---------------------------------------------------------------- results


# What records of runs made before these keys existed do not hold.
_LATER: Mapping[str, Any] = {**NOTHING, "git": None, "source_sha256": "not recorded"}


def records(where: Path) -> dict[str, dict[str, Any]]:
    """Return the record of every run in a folder, by the name of its folder."""
    found = {}
    for path in sorted(where.glob(f"[!.]*/{RECORD}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and str(content.get("schema")).startswith("dfsp.run/"):
            found[path.parent.name] = {**_LATER, **content}
    return found


def write_results(where: Path) -> Path:
    """Gather all runs of a folder in one table, `results.csv`; it says nothing about times.

    Returns
    -------
    Path
        Of the table: one row a run, sorted by name, with `p.NAME` for each parameter that was
        given and `QUANTITY.STATISTIC` for the numbers. What a run does not have is empty.
    """
    found = records(where)
    parameters = sorted({name for record in found.values() for name in record["parameters"]})
    some = any(CONCENTRATION in record["numbers"] for record in found.values())
    quantities = (*QUANTITIES, CONCENTRATION) if some else QUANTITIES
    numbers = [(quantity, column) for quantity in quantities for column in COLUMNS]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["run", "notebook", "status", "reason", "engine", "seed"]
        + [f"p.{name}" for name in parameters]
        + [f"{quantity}.{column}" for quantity, column in numbers]
        + ["headline"]
    )
    for name, record in found.items():
        cells = [record[key] for key in ("notebook", "status", "reason", "engine", "seed")]
        cells += [record["parameters"].get(parameter) for parameter in parameters]
        cells += [record["numbers"].get(quantity, {}).get(column) for quantity, column in numbers]
        table.writerow([name, *cells, record["headline"]])
    replace_text(where / RESULTS, text.getvalue())
    return where / RESULTS
