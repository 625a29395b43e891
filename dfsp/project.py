"""The folder of the project at hand: its data, its notebooks, its runs.

A project is a folder whose `data` holds tables of evidence. The package may be installed anywhere
else; what is relative in a notebook's parameters starts at the project.
"""

import json
import os
import shlex
from pathlib import Path

from dfsp.errors import DfspError

PROJECT_VARIABLE = "DFSP_PROJECT"
"""Environment variable that names the folder, as `--project` does."""

_MARK = Path("data", "evidence_sets.csv")
_EVIDENCE = Path(__file__).parent / "templates" / "evidence"
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


def new_folder(where: str | Path) -> Path:
    """Write a small evidence folder that all notebooks can read, to be filled with studies.

    Parameters
    ----------
    where : str or Path
        A folder that is not there yet, or is empty.

    Returns
    -------
    Path
        Its absolute path, which its plan names too.

    Raises
    ------
    DfspError
        Something is there, or the folder cannot be written.

    See Also
    --------
    dfsp.load_evidence : Reads it, with `folder=`.
    """
    folder = Path(where).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DfspError(f"{folder} is there already; name a new folder, or an empty one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in _EVIDENCE.iterdir():
            # In YAML a name is quoted as in JSON, in a command as the shell wants it.
            named = json.dumps(str(folder)) if path.suffix == ".yaml" else shlex.quote(str(folder))
            text = path.read_text(encoding="utf-8").replace("FOLDER", named)
            (folder / path.name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DfspError(f"{folder} cannot be written ({error.strerror})") from None
    return folder
