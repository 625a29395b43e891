"""Runs on a Dask cluster, whose workers see the same files under the same paths.

What can go wrong there ends in one message or in one failed run, never in a batch that waits for
ever: no scheduler or none any more, no workers, workers with another version of this package or
without the files, and a run that kills its worker.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from dfsp.errors import DfspError
from dfsp.runs.batch import Outcome, do, refuse
from dfsp.runs.record import sha256, source_sha256, versions
from dfsp.runs.run import Job

ANSWER = 10.0
"""Seconds within which a scheduler has to answer, also when it was lost."""
WAIT = 60.0
"""Seconds within which a worker has to be there."""
_GLANCE = 0.1
"""Seconds between two looks at what is done."""


def outcomes(
    jobs: Sequence[Job], where: Path, address: str, *, wait: float = WAIT
) -> Iterator[Outcome]:
    """Do jobs on the workers of a scheduler; yield how each ended, in the order in which they do.

    Parameters
    ----------
    jobs : sequence of Job
    where : Path
        The folder of run folders.
    address : str
        Of the scheduler.
    wait : float
        Seconds within which a worker has to be there, at the start and whenever all are gone.

    Raises
    ------
    DfspError
        The cluster cannot do the runs, or cannot go on; runs that are complete are kept.
    """
    try:
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise DfspError(
            "--scheduler needs the package distributed: pip install dfsp[dask]"
        ) from None
    with _quiet():
        try:
            with warnings.catch_warnings(action="ignore"):  # versions that differ are told by us
                client = _client(address)
        except OSError as error:
            raise DfspError(f"no Dask scheduler answers at {address}: {error}") from None
        try:
            with client:
                yield from _Cluster(client, address, where, wait).do(jobs)
        except (CancelledError, CommClosedError):
            raise DfspError(
                f"the Dask scheduler at {address} was lost; runs that are complete are kept: "
                "start it again and give the same command"
            ) from None


def _client(address: str) -> Any:
    """Return a client of the scheduler at an address.

    Raises
    ------
    OSError
        There is none, or the address is none.
    """
    from distributed import Client

    class Closing(Client):
        async def _ensure_connected(self, timeout: Any = None) -> None:
            try:
                await super()._ensure_connected(timeout)  # type: ignore[no-untyped-call]
            except OSError:
                raise
            except Exception as error:  # of these a client does not close itself, and hangs at exit
                raise OSError(str(error)) from None

    return Closing(  # type: ignore[no-untyped-call]
        address, timeout=ANSWER, set_as_default=False
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tracebacks that Dask logs from those who get one message of ours."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Cluster:
    def __init__(self, client: Any, address: str, where: Path, wait: float) -> None:
        self.client = client
        self.address = address
        self.where = where
        self.wait = wait
        self.seen = time.monotonic()  # when there was a worker

    def do(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        from distributed import KilledWorker

        try:
            self.client.wait_for_workers(1, timeout=self.wait)
        except TimeoutError:
            raise self._no_workers() from None
        with NamedTemporaryFile(dir=self.where, prefix=".part-shared-") as shared:
            # That a worker has this file tells that its folder of runs is ours.
            files = {str(path): sha256(path) for path in {job.notebook for job in jobs}}
            files[shared.name] = sha256(Path(shared.name))
            expected = {"versions": versions(), "source": source_sha256(), "files": files}
            self._check(expected)
            suspects = []
            for job, found in self._together(jobs, expected):
                if isinstance(found, KilledWorker):
                    suspects.append(job)
                else:
                    yield found
            # Alone, so that only who is to blame has failed.
            for suspect in suspects:
                for job, found in self._together([suspect], expected):
                    if isinstance(found, KilledWorker):
                        yield refuse(job, self.where, "its worker process was killed")
                    else:
                        yield found

    def _check(self, expected: Mapping[str, Any]) -> None:
        text = json.dumps(expected)
        found = self.client.run(why_unfit, text, on_error="return")
        # A worker that was lost while it was asked is none; each that remains judges itself again.
        unfit = {worker: says for worker, says in found.items() if not isinstance(says, OSError)}
        faults = [f"{worker}: {_says(says)}" for worker, says in unfit.items() if says is not None]
        if faults:
            raise DfspError.of(self.address, "workers that cannot do these runs", faults)

    def _together(
        self, jobs: Sequence[Job], expected: Mapping[str, Any]
    ) -> Iterator[tuple[Job, Any]]:
        """Yield each job and its outcome, or how the scheduler gave it up."""
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        text = json.dumps(expected)
        left = {self.client.submit(_remote, job, self.where, text, pure=False): job for job in jobs}
        try:
            while left:
                done = [future for future in left if future.done()]
                for future in done:
                    job = left.pop(future)
                    try:
                        yield job, future.result()
                    except KilledWorker as error:
                        yield job, error
                    except (CancelledError, CommClosedError, DfspError):
                        raise
                    except Exception as error:  # whatever keeps a worker from beginning
                        raise DfspError(f"{self.address}: {_says(error)}") from None
                if not done:
                    self._look()
                    time.sleep(_GLANCE)
        finally:
            with suppress(CancelledError, TimeoutError):
                self.client.cancel(list(left))

    def _look(self) -> None:
        """Give up where all workers have been gone for too long."""
        now = time.monotonic()
        if self.client.scheduler_info(n_workers=1)["workers"]:
            self.seen = now
        elif now - self.seen > self.wait:
            raise self._no_workers()

    def _no_workers(self) -> DfspError:
        return DfspError(
            f"the Dask scheduler at {self.address} has had no worker for {self.wait:g} seconds: "
            f"start some with `dask worker {self.address}`, or give a longer --wait"
        )


def _says(found: object) -> str:
    if "ModuleNotFoundError" in repr(found):  # in whatever Dask has wrapped it
        return f"has not this version of dfsp ({found})"
    if isinstance(found, DfspError):
        return str(found)
    return f"{type(found).__name__}: {found}" if isinstance(found, BaseException) else str(found)


def why_unfit(expected: str) -> str | None:
    """Say, on a worker, why it cannot do the runs; None if it can.

    Parameters
    ----------
    expected : str
        As JSON: versions, the hash of the source, and that of files by path.
    """
    wanted = json.loads(expected)
    own = versions()
    other = [
        f"{name} {own.get(name, 'missing')} instead of {number}"
        for name, number in wanted["versions"].items()
        if own.get(name) != number
    ]
    if other:
        return f"has {', '.join(other)}"
    if source_sha256() != wanted["source"]:
        return "has another source of dfsp"
    for path, digest in wanted["files"].items():
        try:
            same = sha256(Path(path)) == digest
        except OSError as error:
            return f"does not see {path} ({error.strerror})"
        if not same:
            return f"sees another {path}"
    return None


_why_unfit = cache(why_unfit)


def _remote(job: Job, where: Path, expected: str) -> Outcome:
    """Do a job on a worker, which may have joined after the others were checked."""
    says = _why_unfit(expected)
    if says is not None:
        from distributed import get_worker

        raise DfspError(f"the worker {get_worker().address} {says}")
    return do(job, where)
