"""Many runs: done in parallel, taken up again, and gathered in one table."""

import csv
import io
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from dfsp.errors import DfspError
from dfsp.fitting import QUANTITIES
from dfsp.model.effects import known_quantities
from dfsp.runs.publish import RECORD, hold, make_folder, recover, replace_text
from dfsp.runs.record import NOTHING, parameters_of, read_record
from dfsp.runs.run import Job, execute, finished
from dfsp.runs.template import THREADS

RESULTS = "results.csv"
BATCH_LOCK = ".batch.lock"

COLUMNS = ("mean", "q2.5", "q50", "q97.5")
"""Statistics of each quantity in the table of results."""


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


# ---------------------------------------------------------------- running it


def run_batch(
    jobs: Sequence[Job],
    where: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    wait: float = 60.0,
    tell: Callable[[Progress, Outcome | None], None] = lambda progress, outcome: None,
) -> Progress:
    """Do every run that is not there yet, complete and unchanged.

    Parameters
    ----------
    jobs : sequence of Job
        From `dfsp.runs.plan.read_plan`.
    where : Path
        The folder of run folders; `results.csv` is written there at the end.
    workers : int, optional
        Processes on this machine; as many as cores if not given.
    scheduler : str, optional
        Address of a Dask scheduler instead. Its workers see the same files under the same paths.
    wait : float
        Seconds within which that scheduler has to have a worker.
    tell : callable
        Called with the progress at the start (with no outcome) and after each run.

    Returns
    -------
    Progress
        At the end.

    Raises
    ------
    DfspError
        Another batch holds the folder, the cluster cannot do the runs, or the table of results
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
            for outcome in _chosen(todo, where, workers, scheduler, wait):
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
        holder = ""
        with suppress(OSError):  # where what is locked cannot be read
            holder = (where / BATCH_LOCK).read_text(encoding="utf-8").strip()
        raise DfspError(
            f"{where}: another batch ({holder or 'just started'}) is at work in this folder; "
            "wait until it ends, or give another --folder"
        )
    with lock:
        with suppress(OSError):  # on a full disk: it only says who
            says = f"process {os.getpid()} on {platform.node()}\n"
            (where / BATCH_LOCK).write_text(says, encoding="utf-8")
        yield


def _chosen(
    jobs: Sequence[Job], where: Path, workers: int | None, scheduler: str | None, wait: float
) -> Iterator[Outcome]:
    if not jobs:
        return iter(())
    if scheduler is not None:
        from dfsp.runs.cluster import outcomes

        return outcomes(jobs, where, scheduler, wait=wait)
    from joblib import cpu_count

    return _outcomes(jobs, where, workers or cpu_count())


def _outcomes(jobs: Sequence[Job], where: Path, workers: int) -> Iterator[Outcome]:
    """Do the jobs in processes; yield how each ended, in the order in which they do."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    left = {job.name: job for job in jobs}

    def together(names: Sequence[str]) -> Iterator[Outcome]:
        for outcome in _parallel([left[name] for name in names], where, workers):
            del left[outcome.name]
            yield outcome

    while left:
        try:
            yield from together(list(left))
        except BrokenProcessPool:
            # Something killed a worker, and the pool took the others down. What was at work gets
            # a second chance, one at a time, so that only who is to blame has failed.
            suspects = [name for name in left if (where / f".{name}").exists()]
            recover(where)
            for name in suspects or list(left)[:1]:
                try:
                    yield from together([name])
                except BrokenProcessPool as error:  # what it has left, its record will hold
                    yield refuse(left.pop(name), where, _killed(error))


def _killed(error: Exception) -> str:
    """Say how a worker process has ended, as far as its pool knows."""
    codes = re.search(r"exit codes of the workers are \{([^}]*)\}", str(error))
    return "its worker process was killed" + (f" ({codes[1]})" if codes else "")


def _parallel(jobs: Sequence[Job], where: Path, workers: int) -> Iterator[Outcome]:
    from concurrent.futures import as_completed

    from joblib.externals.loky import get_reusable_executor

    from dfsp.runs.kernels import follow

    # A worker follows its parent from its start, also if it never gets a task.
    pool = get_reusable_executor(
        workers,
        initializer=follow,
        initargs=(os.getpid(),),
        # One thread for linear algebra in each kernel, as one that is forked has
        env={name: os.environ.get(name, "1") for name in THREADS},
    )
    futures = [pool.submit(do, job, where) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise


def do(job: Job, where: Path, refused: str | None = None) -> Outcome:
    """Do one run of a batch in this process, unless somebody has; say how it ended."""
    clock = perf_counter()
    try:
        run = execute(job, where, again=False, warm=True, refused=refused)
    except Exception as error:  # the others go on, whatever happened to this one
        says = f"no record could be written: {type(error).__name__}: {error}"
        return Outcome(job.name, "failed", says, perf_counter() - clock, recorded=False)
    status, reason = run.record["status"], run.record["reason"]
    return Outcome(job.name, status, reason, perf_counter() - clock)


def refuse(job: Job, where: Path, reason: str) -> Outcome:
    """Record that a run has failed for a reason that its own process could not tell."""
    return do(job, where, reason)


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
