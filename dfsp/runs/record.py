"""What a notebook keeps of a run, what the run was made from, and what its record says.

`record` is called in the notebook's kernel. The rest is for those who run notebooks: a record is
written last into a run's folder, and read again to see whether the run is still that of today.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfsp.checks import Check
from dfsp.errors import DfspError
from dfsp.evidence.appraisals import appraise
from dfsp.evidence.load import Evidence
from dfsp.evidence.tables import Counts
from dfsp.fitting import Fit
from dfsp.model.effects import known_quantities
from dfsp.rates import PERCENT, Unit, unit_named
from dfsp.runs import inside
from dfsp.runs.publish import RECORD
from dfsp.text import Sentences

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from dfsp.analyses.by import FitBy

FOLDER_VARIABLE = "DFSP_RUN_FOLDER"
"""Environment variable through which a run tells its notebook where results go."""

DRAWS_VARIABLE = "DFSP_RUN_DRAWS"
"""Environment variable that asks a notebook to keep draws."""

FINDINGS = "findings.json"
NOTHING: Mapping[str, Any] = {
    "headline": None,
    "prior_warning": None,
    "prior_sensitivity": None,
    "engine": None,
    "seed": None,
    "model": None,
    "numbers": {},
    "groups": {},
    "unit": None,
    "checks": [],
    "data": {},
    "figures": [],
    "tables": [],
    "draws": None,
    "appraisal": None,
    "estimand": None,
    "certainty": None,
}
"""What the record of a run says that found nothing."""

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
"""Packages that numbers and figures depend on."""


@dataclass(frozen=True)
class Run:
    """Where a run's results are, and what its record says."""

    folder: Path
    record: dict[str, Any]


def record(
    *,
    fit: "Fit | FitBy | None" = None,
    headline: str | None = None,
    prior_warning: str | None = None,
    checks: Sequence[Check] = (),
    data: Mapping[str, str] | None = None,
    figures: Mapping[str, "Axes"] | None = None,
    tables: "Mapping[str, pd.DataFrame] | None" = None,
    seed: int | None = None,
    appraisal: "Evidence | Counts | None" = None,
) -> Sentences:
    """Keep what a notebook found, when it is run by `dfsp run`; elsewhere do nothing.

    Parameters
    ----------
    fit : Fit or FitBy, optional
        Its checks, headline numbers and data are recorded; of several tables, those of each.
    headline : str, optional
        The sentence to print at the end; by default `fit.describe()`, and `fit.piles()`.
    prior_warning : str, optional
        Which priors decide, `""` for none; by default `fit.prior_warning()`.
    checks : sequence of Check
        Verdicts beside those of the fit.
    data : mapping of str to str, optional
        SHA-256 of each file read; by default those of the fit's counts.
    figures : mapping of str to Axes, optional
        Saved under these names as SVG and PNG.
    tables : mapping of str to pandas.DataFrame, optional
        Saved under these names as CSV, beside `summary`, `studies` and `prior_sensitivity` of the
        fit, and `groups` of several tables. An index that has a name becomes a column.
    seed : int, optional
    appraisal : Evidence or Counts, optional
        Studies whose risk of bias and certainty are recorded, as far as somebody has judged them,
        and of counts what the rate is of; by default those of the fit.

    Returns
    -------
    Sentences
        The headline, and which priors decide.

    Examples
    --------
    Outside a run nothing is kept, and the headline is all there is:

    >>> import dfsp
    >>> dfsp.record(headline="three studies of one drug")
    three studies of one drug
    """
    from dfsp.analyses.judgements import certainty, estimand

    headline = headline or (_headline(fit) if fit else "")
    if prior_warning is None:
        prior_warning = fit.prior_warning() if fit else ""
    said = Sentences("\n".join(filter(None, [headline, prior_warning])))
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return said
    names = []
    for name, axes in (figures or {}).items():
        from dfsp.plots.style import save_as_shown

        names += [path.name for path in save_as_shown(axes, Path(folder) / name)]
    found = _found(fit, Path(folder))
    frames: dict[str, pd.DataFrame] = found.pop("frames", {}) | dict(tables or {})
    for name, frame in frames.items():
        if any(frame.index.names):
            frame = frame.reset_index()
        frame.to_csv(Path(folder) / f"{name}.csv", index=False, lineterminator="\n")
    studies = appraisal or (fit.counts if isinstance(fit, Fit) else None)
    findings = {
        **found,
        "headline": headline,
        "prior_warning": prior_warning,
        "seed": seed,
        "checks": [*found.get("checks", ()), *(check.as_dict() for check in checks)],
        "data": dict(data if data is not None else found.get("data", {})),
        "figures": names,
        "tables": [f"{name}.csv" for name in frames],
        "appraisal": _appraised(studies),
        "estimand": dict(estimand(studies)["stated"]) if isinstance(studies, Counts) else None,
        "certainty": dict(certainty(fit)["says"]) if isinstance(fit, Fit) else None,
    }
    Path(folder, FINDINGS).write_text(json.dumps(findings), encoding="utf-8")
    return said


def _headline(fit: "Fit | FitBy") -> str:
    """Return the sentence of a fit, and that its new-study rate piles up at both ends if so."""
    piles = fit.piles() if isinstance(fit, Fit) and fit.posterior is not None else ""
    return "\n".join(filter(None, [fit.describe(), piles]))


def _found(fit: "Fit | FitBy | None", folder: Path) -> dict[str, Any]:
    """Return what is recorded of a fit; its draws are written, where they are asked for."""
    if fit is None:
        return {}
    if not isinstance(fit, Fit):
        return _found_of_tables(fit)
    frames: dict[str, pd.DataFrame] = {"summary": fit.summary, "studies": fit.studies}
    if fit.prior_sensitivity is not None:
        frames["prior_sensitivity"] = fit.prior_table()
    keeps = bool(os.environ.get(DRAWS_VARIABLE))
    if keeps:
        tree = fit.sampled.draws if fit.sampled else fit.draws()
        tree.to_netcdf(folder / "draws.nc")
    told = fit.as_dict()
    return {
        "frames": frames,
        "prior_sensitivity": told["prior_sensitivity"],
        "engine": fit.engine,
        "model": told["model"],
        "numbers": _numbers(told),
        "unit": fit.counts.unit,
        "checks": [check.as_dict() for check in fit.checks],
        "data": fit.counts.files,
        "draws": "draws.nc" if keeps else None,
    }


def _found_of_tables(fit: "FitBy") -> dict[str, Any]:
    """Return the same of several tables, of which the names of groups tell the checks apart."""
    return {
        "frames": {"groups": fit.table, "summary": fit.summary, "studies": fit.studies},
        "engine": fit.engine,
        "model": fit.model.as_dict(),
        "groups": {told["by"][fit.by]: _numbers(told) for told in fit.as_dicts()},
        "unit": fit.unit.name,
        "checks": [
            check.as_dict() | {"name": f"{group}: {check.name}"}
            for group, checks in fit.checks.items()
            for check in checks
        ],
        "data": next(iter(fit.counts.values())).files,
    }


def _numbers(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quantities of an object of schema `dfsp.fit/1`."""
    return {name: told[name] for name in known_quantities() if name in told}


def _appraised(studies: Evidence | Counts | None) -> list[dict[str, Any]] | None:
    if studies is None:
        return None
    if isinstance(studies, Counts):
        table = studies.table
    else:
        table = studies.cohorts[studies.cohorts["cohort"].isin(studies.rows["cohort"])]
        table = table.drop(columns="study", errors="ignore").rename(columns={"label": "study"})
    return [{str(key): row[key] for key in row} for row in appraise(table).to_dict("records")]


# ---------------------------------------------------------------- what a run was made from


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_sha256() -> str:
    """Return the SHA-256 of the package's own source as it is now: modules and schemas, by path."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".json"):
            digest.update(f"{path.relative_to(package).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


SOURCE_SHA256 = source_sha256()
"""The same when this process imported it, which is what it computes with."""


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers and figures depend on."""
    return inside.versions(PACKAGES)


def git_state(project: Path) -> dict[str, Any] | None:
    """Return the commit of a project's checkout and whether files differ from it, or None."""
    words = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(project), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    commit, _, changed = done.stdout.strip().partition("-")
    return {"commit": commit, "dirty": bool(changed)}


def same_data(data: Mapping[str, str], project: Path) -> bool:
    """Whether every file read still has the SHA-256 that was recorded."""
    try:
        return all(sha256(project / name) == digest for name, digest in data.items())
    except OSError:
        return False


# ---------------------------------------------------------------- reading it again


def read_record(folder: Path) -> dict[str, Any]:
    """Return what the record of a run says.

    Parameters
    ----------
    folder : Path
        Of the run.

    Raises
    ------
    OSError
        No record is there.
    DfspError
        What is there is no record of a run; the message says why.
    """
    from pydantic import ValidationError

    from dfsp.runs.models import Record

    path = folder / RECORD
    try:
        found = Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_context=False)
        where = ".".join(map(str, first["loc"]))
        says = f"{where}: {first['msg']}".removeprefix(": ")[:200]
        more = f", and {len(others)} more faults" if others else ""
        raise DfspError(f"{path}: no record of a run ({says}{more})") from None
    return found.model_dump(by_alias=True)


def parameters_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a run: those given, and the notebook's own values of the others.

    Beside a table, which stands for it, an evidence set says nothing and is left out.
    """
    found = {**record["parameters"], **record["effective_parameters"]}
    if found.get("table"):
        found.pop("evidence_set", None)
    return found


def unit_of_runs(runs: Iterable[Mapping[str, Any]]) -> Unit:
    """Return the unit in which all runs say rates, else percent."""
    names = {record["unit"] for record in runs if record["unit"]}
    return unit_named(names.pop()) if len(names) == 1 else PERCENT
