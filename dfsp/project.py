"""The folder of the project at hand: its data, its notebooks, its runs.

A project is a folder whose `data` holds tables of evidence. The package may be installed anywhere
else; what is relative in a notebook's parameters starts at the project.
"""

import os
from pathlib import Path

from dfsp.errors import DfspError

PROJECT_VARIABLE = "DFSP_PROJECT"
"""Environment variable that names the folder, as `--project` does."""

_MARK = Path("data", "evidence_sets.csv")
_CHECKOUT = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """Return the folder of the project's own evidence, which may be missing."""
    return project_folder() / "data"


def project_folder() -> Path:
    """Return the project's folder.

    It is the one named by the environment variable `DFSP_PROJECT`; else the nearest one from the
    working directory upwards; else the checkout that this package is in; else the working
    directory, which then lacks the evidence but not what needs none.

    Raises
    ------
    DfspError
        The folder named is none.

    Examples
    --------
    >>> from dfsp.project import project_folder
    >>> project_folder().is_absolute()
    True
    """
    named = os.environ.get(PROJECT_VARIABLE)
    if named:
        folder = Path(named).expanduser().absolute()
        if not folder.is_dir():
            raise DfspError(f"{PROJECT_VARIABLE} = {named!r}: there is no such folder")
        return folder
    here = Path.cwd()
    for folder in (here, *here.parents, _CHECKOUT):
        if (folder / _MARK).is_file():
            return folder
    return here
