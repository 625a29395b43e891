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
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from dfsp.errors import DfspError, listed
from dfsp.fitting import QUANTITIES
from dfsp.model.effects import known_quantities
from dfsp.runs.kernels import follow
from dfsp.runs.publish import RECORD, hold, make_folder, recover, replace_text
from dfsp.runs.run import NOTHING, Job, execute, finished, parameters_of, plan_run, read_record

RESULTS = "results.csv"
BATCH_LOCK = ".batch.lock"
ANSWER = 10.0
"""Seconds within which a Dask scheduler has to answer."""

COLUMNS = ("mean", "q2.5", "q50", "q97.5")
"""Statistics of each quantity in the table of results."""

Row = dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """How one run of a batch ended; `recorded` is false if not even that could be written."""

    name: str
    status: str
    reason: str | None
    seconds: float
    recorded: bool = True


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
        With every fault of the plan, each once: its structure, unknown notebooks, names and
        values of parameters, runs that would have the same name.
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
        for row in rows:
            try:
                job = plan_run(entry["notebook"], row, draws=draws, timeout=timeout)
                if not wrong:  # of other entries it is not known which runs are meant
                    jobs.append(job)
            except DfspError as error:
                about, _, _ = str(error).partition(": parameters that cannot be used")
                says = [f"{about}: {fault}" for fault in error.faults] or [str(error)]
                for each in says:
                    fault = each.replace("\n", "\n  ")
                    faults.setdefault(f"{where}: {fault}", []).append(_said(row))
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


def twins(jobs: Sequence[Job]) -> list[str]:
    """Say which runs of a plan would do the same, one line each: all their parameters are equal."""
    same: dict[tuple[Path, str], list[Job]] = {}
    for job in jobs:
        same.setdefault((job.notebook, repr(sorted(job.effective.items()))), []).append(job)
    return [
        f"{group[0].notebook.name}: {len(group)} runs do the same, with "
        + " and with ".join(_said(job.values) for job in group)
        + "; all but one may be left out"
        for group in same.values()
        if len(group) > 1
    ]


def _told(fault: str, rows: Sequence[str]) -> str:
    if not rows:
        return fault
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{fault}\n    (run with {rows[0]}{more})"


def _said(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in row.items()) or "the defaults"


def _rows(entry: Any) -> tuple[list[Row], list[str]]:
    """Return the parameters of the runs of an entry that can be read, and what is wrong with it."""
    allowed = ("notebook", "parameters", "include", "exclude")
    if not isinstance(entry, dict) or not isinstance(entry.get("notebook"), str):
        return [], ["an entry names a file under `notebook`"]
    faults = [f"{key!r} is not known; use {', '.join(allowed)}" for key in {*entry} - {*allowed}]
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        faults.append("`parameters` holds names and values")
        parameters = {}
    axes: dict[str, list[str]] = {}
    for name, given in parameters.items():
        if given == []:
            faults.append(f"{name}: the list is empty; give at least one value")
        values = _texts(str(name), given if isinstance(given, list) else [given], faults)
        if values:
            axes[str(name)] = values
    extra: dict[str, list[Row]] = {}
    for key in ("include", "exclude"):
        rows = entry.get(key) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row for row in rows):
            faults.append(f"`{key}` is a list of rows, each with names and values")
            rows = []
        extra[key] = []
        for row in rows:
            texts = {str(name): _texts(str(name), [value], faults) for name, value in row.items()}
            if all(texts.values()):
                extra[key].append({name: text for name, (text,) in texts.items()})
    for row in extra["exclude"]:
        if unknown := set(row) - {str(name) for name in parameters}:
            faults.append(f"exclude: {', '.join(sorted(unknown))} is not under `parameters`")
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    kept = [row for row in rows if not any(out.items() <= row.items() for out in extra["exclude"])]
    if not kept and not extra["include"]:
        faults.append("`exclude` leaves no run")
    return _included(kept if axes or not extra["include"] else [], extra["include"], axes), faults


def _texts(name: str, values: Sequence[Any], faults: list[str]) -> list[str]:
    """Return values as they would be typed; `false` and `true` for truth values."""
    texts = []
    for value in values:
        if isinstance(value, str | bool | int | float):
            texts.append(str(value).lower() if isinstance(value, bool) else str(value))
        else:
            faults.append(f"{name} = {value!r}: give a text, a number, true or false")
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
        Another batch holds the folder, no cluster answers at the address, or the table of results
        cannot be written (the runs stay).
    KeyboardInterrupt
        After Ctrl-C: workers and kernels have been stopped and the table of results written.
    """
    where = where.absolute()  # workers and kernels are at home elsewhere
    make_folder(where)
    with _alone(where):
        recover(where)
        todo = [job for job in jobs if finished(job, where) is None]
        there = len(jobs) - len(todo)
        progress = Progress(len(jobs), there, 0, there, perf_counter())
        tell(progress, None)
        lost = {}
        try:
            with _backend(scheduler):
                for outcome in _outcomes(todo, where, workers, follows=scheduler is None):
                    if outcome.status == "complete":
                        progress.done += 1
                    else:
                        progress.failed += 1
                    if not outcome.recorded:
                        lost[outcome.name] = outcome.reason
                    tell(progress, outcome)
        finally:
            recover(where)
            write_results(where, [(job, lost[job.name]) for job in todo if job.name in lost])
    return progress


@contextmanager
def _alone(where: Path) -> Iterator[None]:
    try:
        lock = hold(where / BATCH_LOCK, wait=False)
    except OSError as error:
        raise DfspError(f"{where}: cannot be written to ({error.strerror})") from None
    if lock is None:
        holder = (where / BATCH_LOCK).read_text(encoding="utf-8").strip()
        raise DfspError(
            f"{where}: another batch ({holder or 'just started'}) is at work in this folder; "
            "wait until it ends, or give another --folder"
        )
    with lock:
        lock.truncate(0)
        with suppress(OSError):  # on a full disk: it only says who
            os.write(lock.fileno(), f"process {os.getpid()} on {os.uname().nodename}\n".encode())
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
                except BrokenProcessPool:  # what it has left, its record will hold
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
        return Outcome(job.name, "failed", says, perf_counter() - clock, recorded=False)
    status, reason = run.record["status"], run.record["reason"]
    return Outcome(job.name, status, reason, perf_counter() - clock)


# ---------------------------------------------------------------- results


def records(where: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what is known of the runs in a folder.

    Returns
    -------
    found : dict of str to dict
        The record of every run, by the name of its folder.
    damaged : list of str
        Of every `record.json` that is none, where it is and what is wrong with it.
    """
    found, damaged = {}, []
    for path in sorted(where.glob(f"[!.]*/{RECORD}")):
        try:
            found[path.parent.name] = read_record(path.parent)
        except (OSError, DfspError) as error:
            damaged.append(str(error))
    return found, damaged


def write_results(where: Path, lost: Sequence[tuple[Job, str | None]] = ()) -> Path:
    """Gather all runs of a folder in one table, `results.csv`; it says nothing about times.

    Parameters
    ----------
    where : Path
    lost : sequence of (Job, str)
        Runs that failed without leaving a record, and why; they replace older runs of their name.

    Returns
    -------
    Path
        Of the table: one row a run, sorted by name, with `p.NAME` for each parameter, given or
        not, and `QUANTITY.STATISTIC` for the numbers. What a run does not have is empty.

    Raises
    ------
    DfspError
        It cannot be written; an older table stays.
    """
    found, _ = records(where)
    for job, reason in lost:
        failure = {**NOTHING, "notebook": job.notebook.name, "status": "failed", "reason": reason}
        own = {"parameters": job.values, "effective_parameters": job.effective}
        found[job.name] = {**failure, **own}
    every = {name: parameters_of(record) for name, record in found.items()}
    parameters = sorted({parameter for values in every.values() for parameter in values})
    some = {name for record in found.values() for name in record["numbers"]}
    quantities = [name for name in known_quantities() if name in QUANTITIES or name in some]
    numbers = [(quantity, column) for quantity in quantities for column in COLUMNS]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["run", "notebook", "status", "reason", "engine", "seed"]
        + [f"p.{name}" for name in parameters]
        + [f"{quantity}.{column}" for quantity, column in numbers]
        + ["headline"]
    )
    for name, record in sorted(found.items()):
        cells = [record[key] for key in ("notebook", "status", "reason", "engine", "seed")]
        cells += [every[name].get(parameter) for parameter in parameters]
        cells += [record["numbers"].get(quantity, {}).get(column) for quantity, column in numbers]
        table.writerow([name, *cells, record["headline"]])
    try:
        replace_text(where / RESULTS, text.getvalue())
    except OSError as error:
        raise DfspError(
            f"{where / RESULTS}: cannot be written ({error.strerror}); the runs are kept: "
            "mend that and give the same command again"
        ) from None
    return where / RESULTS
