"""The command line in this process: another one costs a start of Python and its imports."""

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

import dfsp.cli


class Done(NamedTuple):
    """How a command has ended, named as by `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str


def call(*words, text="", folder="."):
    """Run `dfsp` with these words in a folder, `text` on its standard input."""
    given = io.TextIOWrapper(io.BytesIO(text.encode()))
    out, said = io.StringIO(), io.StringIO()
    with (
        chdir(folder), redirect_stdout(out), redirect_stderr(said),
        patch.object(sys, "argv", ["dfsp", *map(str, words)]), patch.object(sys, "stdin", given),
    ):  # fmt: skip
        try:
            dfsp.cli.main()
        except SystemExit as end:
            return Done(end.code, out.getvalue(), said.getvalue())
    raise AssertionError("main ended without an exit status")
