"""The evidence of the tests: a copy of `data/*.csv` that a new study in `data/` does not change.

Numbers that a test expects belong to `tests/evidence/`. Tests about `data/` itself name its folder.
"""

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import dfsp

EVIDENCE = Path(__file__).parent / "evidence"
REAL = dfsp.DATA


def freeze() -> None:
    """Make `tests/evidence/` the folder that this process reads where none is named.

    Every module is imported beforehand, so that what they derive from `DATA` (`calibration.json`,
    the references) stays where it is, whatever a test imports first.
    """
    for module in pkgutil.walk_packages(dfsp.__path__, "dfsp."):
        import_module(module.name)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "dfsp" and vars(module).get("DATA") == REAL:
            module.DATA = EVIDENCE
