"""What a run asks of its kernel: who it is, and the parameters as it has them.

The text of this file is sent to the kernel, which may be of another environment without dfsp. So it
needs the standard library alone, and leaves nothing behind in the notebook's own names.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST = 1000
"""Characters of what is kept of a parameter that JSON does not have."""
DEEPEST = 8


def answer(
    path: str, own: Mapping[str, Any], names: Sequence[str], packages: Sequence[str]
) -> None:
    """Write to a file what is asked.

    Parameters
    ----------
    path : str
    own : mapping
        The notebook's global names.
    names : sequence of str
        Of its parameters.
    packages : sequence of str
        Whose versions are asked.
    """
    record = sys.modules.get("dfsp.runs.record")
    found = {
        "python": sys.executable,
        "prefix": sys.prefix,
        "versions": record.versions() if record else versions(packages),
        "source_sha256": getattr(record, "SOURCE_SHA256", None),
        "parameters": {name: plain(own[name]) for name in names if name in own},
    }
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(found, file)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any, deep: int = 0) -> Any:
    """Return a value as JSON has it, or else a text that shows it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if deep < DEEPEST and isinstance(value, (list, tuple)):
        return [plain(each, deep + 1) for each in value]
    if deep < DEEPEST and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(each, deep + 1) for key, each in value.items()}
    try:
        if getattr(value, "shape", None) == ():  # a number of NumPy's
            return plain(value.item(), DEEPEST)
        return repr(value)[:LONGEST]
    except Exception as error:  # what somebody's class does when it is shown
        return f"{type(value).__name__}: cannot be shown ({type(error).__name__})"
