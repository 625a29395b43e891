"""The evidence of the tests: a copy of `data/*.csv` that a new study in `data/` does not change.

Numbers that a test expects belong to `tests/evidence/`. Tests about `data/` itself name its folder.
"""

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import dfsp
from dfsp.project import data_folder

EVIDENCE = Path(__file__).parent / "evidence"
REAL = data_folder()
STAY = ("dfsp.project", "dfsp.analyses.calibration.store", "dfsp.analyses.references")


def freeze() -> None:
    """Make `tests/evidence/` the folder that this process reads where none is named.

    `calibration.json` and the references are no evidence and stay where they are.
    """
    for module in pkgutil.walk_packages(dfsp.__path__, "dfsp."):
        import_module(module.name)
    for name, module in list(sys.modules.items()):
        own = name.split(".")[0] == "dfsp" and name not in STAY
        if own and vars(module).get("data_folder") is data_folder:
            module.data_folder = lambda: EVIDENCE
