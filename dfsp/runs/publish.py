"""How a run's folder comes to its final name: complete, and from one process alone.

A run works in `.NAME` beside its final `NAME`, under a lock on `.NAME.lock` that ends with the
process, so nobody has to clean up after one that was killed. `record.json` is written last: a
working folder that holds one is finished and only lacks its name.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from dfsp.errors import DfspError

if TYPE_CHECKING:
    from filelock import BaseFileLock

RECORD = "record.json"
LOCK = ".lock"
"""Ending of the lock's name, after that of the working folder."""
_TRASH = ".trash-"
_PART = ".part-"
_RUN = re.compile(r"\..+-[0-9a-f]{8}")
"""Names of working folders: a dot before the name of a run, which ends in a digest."""


def hold(path: Path, *, wait: bool) -> "BaseFileLock | None":
    """Lock a file until the lock is released or the process ends.

    Parameters
    ----------
    path : Path
        The file is made if need be. Whoever removes it does so while it is held.
    wait : bool
        Wait for another process, or return `None` if there is one.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        return None
    return lock


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
    make_folder(final.parent)
    lock = hold(_lock_of(work), wait=True)
    assert lock is not None
    with lock:
        try:
            if (work / RECORD).is_file():  # finished by a process that was then killed
                _leave(work)
            make_folder(work)
            for rest in work.iterdir():
                if rest.name != keep:
                    shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
            yield work
            _leave(work)
        finally:
            discard(work)
            _lock_of(work).unlink(missing_ok=True)


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
    for path in where.glob(f".*{LOCK}"):
        lock = hold(path, wait=False) if _RUN.fullmatch(path.stem) else None
        if lock is not None:
            with lock:
                _leave(path.with_name(path.stem))
                path.unlink(missing_ok=True)
    for trash in where.glob(f"{_TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)
    remove_parts(where)


def remove_parts(folder: Path) -> None:
    """Throw away half-written files of `replace_text` that a killed process has left."""
    for part in folder.glob(f"{_PART}*"):
        part.unlink(missing_ok=True)


def _lock_of(work: Path) -> Path:
    return work.with_name(f"{work.name}{LOCK}")


def _leave(work: Path) -> None:
    """Publish or discard a working folder whose lock this process holds."""
    if not (work / RECORD).is_file():
        discard(work)
        return
    final = work.with_name(work.name.removeprefix("."))
    # If the process is killed between the two moves, whoever comes next makes the second.
    discard(final)
    work.rename(final)


def discard(folder: Path) -> None:
    """Move a folder away in one step, if it is there, then delete it."""
    trash = folder.with_name(f"{_TRASH}{uuid4().hex}")
    with suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file of text so that it is never there by half; see `replace_bytes`.

    What is no character, such as half of one in a cell's last words, is written as a question mark.
    """
    replace_bytes(path, text.encode("utf-8", "replace"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is never there by half.

    Raises
    ------
    OSError
        It could not be written, for example because the disk is full. What was there before still
        is, and nothing else.
    """
    handle, temporary = tempfile.mkstemp(prefix=_PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
