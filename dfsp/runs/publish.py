"""How a run's folder comes to its final name: complete, and from one process alone.

A run works in `.NAME` beside its final `NAME`. It holds a lock on a file inside, which moves with
the folder and ends with the process, so nobody has to clean up after a process that was killed.
`record.json` is written last: a working folder that holds one is finished and only lacks its name.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from dfsp.errors import DfspError

RECORD = "record.json"
LOCK = ".lock"
_TRASH = ".trash-"
_PART = ".part-"
_WORKING = re.compile(r"\..+-[0-9a-f]{8}")
"""Names of working folders: a dot before the name of a run, which ends in a digest."""


def hold(path: Path, *, wait: bool) -> TextIO | None:
    """Open a file and lock it until it is closed or the process ends.

    Parameters
    ----------
    path : Path
    wait : bool
        Wait for another process, or return `None` if there is one.
    """
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        handle.close()
        return None
    return handle


@contextmanager
def working(final: Path, *, keep: str = "") -> Iterator[Path]:
    """Give the working folder of a run, to this process alone.

    At the end the folder is published under its final name, in place of an older one, if it holds
    `record.json`; otherwise it is thrown away.

    Parameters
    ----------
    final : Path
    keep : str, optional
        Name of a file that stays if a process that was killed has left it; the folder is empty
        otherwise.
    """
    work = final.with_name(f".{final.name}")
    lock = _enter(work, final, keep)
    try:
        try:
            yield work
        except BaseException:
            discard(work)
            raise
        _leave(work, final)
    finally:
        lock.close()


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    DfspError
        It cannot be made there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DfspError(
            f"{path}: this folder cannot be made ({error.strerror}); give another one"
        ) from None


def recover(where: Path) -> None:
    """Publish what processes that were killed had finished, and throw the rest away."""
    for lock in where.glob(f".*/{LOCK}"):
        work = lock.parent
        with suppress(FileNotFoundError):
            handle = hold(lock, wait=False)
            if handle is not None:
                if _is_at(handle, lock):
                    _leave(work, work.with_name(work.name[1:]))
                handle.close()
    for lock in where.glob(f"[!.]*/{LOCK}"):  # the last step of publishing was not made
        with suppress(FileNotFoundError):
            handle = hold(lock, wait=False)
            if handle is not None:
                lock.unlink()
                handle.close()
    for empty in where.glob(".*/"):  # killed before its lock was made
        if _WORKING.fullmatch(empty.name):
            with suppress(OSError):
                empty.rmdir()
    for trash in where.glob(f"{_TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)
    remove_parts(where)


def remove_parts(folder: Path) -> None:
    """Throw away half-written files of `replace_text` that a killed process has left."""
    for part in folder.glob(f"{_PART}*"):
        part.unlink(missing_ok=True)


def _enter(work: Path, final: Path, keep: str) -> TextIO:
    while True:
        make_folder(work)
        try:
            lock = hold(work / LOCK, wait=True)
        except FileNotFoundError:  # whoever had the folder has just moved it away
            continue
        assert lock is not None
        if not _is_at(lock, work / LOCK):
            lock.close()
            continue
        if (work / RECORD).is_file():
            _leave(work, final)
            lock.close()
            continue
        for rest in work.iterdir():
            if rest.name not in (LOCK, keep):
                shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
        return lock


def _is_at(handle: TextIO, path: Path) -> bool:
    """Whether the locked file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _leave(work: Path, final: Path) -> None:
    """Publish or discard a working folder whose lock this process holds."""
    if not (work / RECORD).is_file():
        discard(work)
        return
    # If the process is killed between the two moves, whoever comes next makes the second.
    if final.exists():
        discard(final)
    work.rename(final)
    (final / LOCK).unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Move a folder away in one step, then delete it."""
    if folder.exists():
        trash = folder.with_name(f"{_TRASH}{uuid4().hex}")
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that it is never there by half.

    Raises
    ------
    OSError
        It could not be written, for example because the disk is full. What was there before still
        is, and nothing else.
    """
    handle, temporary = tempfile.mkstemp(prefix=_PART, dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
