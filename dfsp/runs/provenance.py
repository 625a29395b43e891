"""What a run was made from: versions, source, git, data; and whether it is still the same."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfsp.parameters import ROOT

PACKAGES = (
    "dfsp",
    "numpy",
    "scipy",
    "pandas",
    "xarray",
    "matplotlib",
    "pymc",
    "nutpie",
    "arviz",
    "papermill",
    "nbclient",
    "ipykernel",
)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers and figures depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def source_sha256() -> str:
    """Return the SHA-256 of the package's own source: its modules and schemas, by path."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".json"):
            digest.update(f"{path.relative_to(package).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def git_state() -> dict[str, Any] | None:
    """Return the commit of the project's checkout and whether files differ from it, or None."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return None


def same_data(data: Mapping[str, str]) -> bool:
    """Whether every file read still has the SHA-256 that was recorded."""
    try:
        return all(sha256(ROOT / name) == digest for name, digest in data.items())
    except OSError:
        return False
