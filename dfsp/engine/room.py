"""Where compiled models go when the home folder cannot be written to."""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

_FLAGS = "PYTENSOR_FLAGS"


@cache
def make_room() -> None:
    """See that PyMC can be imported: PyTensor, which it compiles with, needs a folder to write to.

    Where its own, `~/.pytensor`, cannot be made, it gets a temporary one until the process ends,
    and one line says so. What the user has set by `PYTENSOR_FLAGS` is left alone.
    """
    flags = os.environ.get(_FLAGS, "")
    if "compiledir" in flags:
        return
    home = Path("~/.pytensor").expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return
    except OSError as error:
        folder = tempfile.mkdtemp(prefix="dfsp-pytensor-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[_FLAGS] = ",".join(filter(None, [flags, f"base_compiledir={folder}"]))
        print(
            f"note: {home} cannot be written to ({error.strerror}); compiled models go to {folder}",
            file=sys.stderr,
        )
