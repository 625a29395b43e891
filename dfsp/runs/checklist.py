"""What a run answers of two reporting guidelines.

The items are in `templates/checklist.yaml`: those of the Bayesian analysis reporting guidelines,
BARG (Kruschke 2021, doi:10.1038/s41562-021-01177-7), and those of PRISMA 2020 (Page 2021,
doi:10.1136/bmj.n71) that a synthesis can speak to. An item is answered by the record of the run,
which holds what was computed and kept, or by a text of the notebook; everything else is "not done".
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from dfsp.checks import VERDICTS
from dfsp.evidence.appraisals import NOT_ASSESSED, NOT_RECORDED, sum_up
from dfsp.runs.record import parameters_of

NOT_DONE = "not done"
MOST = 20
"""Studies that an answer names."""
DATA = Path(__file__).parents[1] / "templates" / "checklist.yaml"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One item of a guideline, and what answers it; the data file describes the fields."""

    guideline: str
    item: str
    asks: str
    says: str = ""
    text: str = ""
    parameters: Sequence[str] = ()
    tables: Sequence[str] = ()
    figures: Sequence[str] = ()
    fields: Sequence[str] = ()
    reads: str = ""


@cache
def items() -> tuple[Item, ...]:
    """Return every item of the data file, in its order."""
    import yaml

    return tuple(Item(**row) for row in yaml.safe_load(DATA.read_text(encoding="utf-8")))


def fill_checklist(cells: Sequence[Mapping[str, Any]], record: Record) -> pd.DataFrame:
    """Answer every item from a run.

    Parameters
    ----------
    cells : sequence of cells
        Of the executed notebook.
    record : mapping
        The run's `record.json`.

    Returns
    -------
    pandas.DataFrame
        `guideline`, `item`, `asks`, `answer` (`"not done"` where nothing answers), and `cell`: the
        id of the text that says it, `"record"` for the record, `""` where nothing answers.
    """
    rows = [
        (each.guideline, each.item, each.asks, *_answer(each, cells, record)) for each in items()
    ]
    return pd.DataFrame(rows, columns=["guideline", "item", "asks", "answer", "cell"])


def _answer(item: Item, cells: Sequence[Mapping[str, Any]], record: Record) -> tuple[str, str]:
    """Return the answer and where it is shown."""
    for cell in cells:
        if item.text and cell["cell_type"] == "markdown" and re.search(item.text, cell["source"]):
            return item.says or "said in the text", cell["id"]
    said = READERS[item.reads](record) if item.reads else _found(item, record)
    if not said:
        return NOT_DONE, ""
    is_open = said.removeprefix("per study: ").startswith((NOT_ASSESSED, NOT_RECORDED))
    return said, "" if is_open else "record"


def _found(item: Item, record: Record) -> str:
    """Say which of the parameters, tables, figures and fields that answer an item a run has."""
    # Of a run that failed it is not known what became of its parameters.
    has = parameters_of(record) if record["status"] == "complete" else {}
    found = [f"{name} = {has[name]!r}" for name in item.parameters if name in has]
    found += [f"{name}.csv" for name in item.tables if f"{name}.csv" in record["tables"]]
    found += [f"{name}.svg" for name in item.figures if f"{name}.svg" in record["figures"]]
    if found:
        return f"{item.says}: {', '.join(found)}"
    return item.says if any(record[field] for field in item.fields) else ""


# ---------------------------------------------------------------- answers made from the record


def _software(record: Record) -> str:
    return ", ".join(f"{name} {number}" for name, number in record["versions"].items())


def _checks(record: Record, *words: str) -> str:
    found = [
        f"{check['name']}: {VERDICTS[check['passed']]}"
        for check in record["checks"]
        if any(word in check["name"] for word in words)
    ]
    return "; ".join(found)


def _chains(record: Record, *words: str) -> str:
    exact = "no chains: the exact engine integrates" if record["engine"] == "exact" else ""
    return _checks(record, *words) or exact


def _convergence(record: Record) -> str:
    return _chains(record, "R-hat", "divergen")


def _resolution(record: Record) -> str:
    return _chains(record, "effective sample size")


def _accuracy(record: Record) -> str:
    return _checks(record, "exact:")


def _studies(record: Record) -> str:
    studies = [row["study"] for row in record["appraisal"] or ()]
    more = f" and {len(studies) - MOST} more" if len(studies) > MOST else ""
    return ", ".join(studies[:MOST]) + more


def _data(record: Record) -> str:
    return "; ".join(f"{name} SHA-256 {digest}" for name, digest in record["data"].items())


def _seed(record: Record) -> str:
    return "" if record["seed"] is None else f"seed {record['seed']}"


def _figures(record: Record) -> str:
    return ", ".join(record["figures"])


def _script(record: Record) -> str:
    git = record["git"]
    commit = f"; commit {git['commit']}{' with changes' if git['dirty'] else ''}" if git else ""
    return f"{record['notebook']} SHA-256 {record['notebook_sha256']}{commit}"


def _command(record: Record) -> str:
    given = " ".join(
        f"-p {shlex.quote(name)} {shlex.quote(str(value))}"
        for name, value in record["parameters"].items()
    )
    return (
        f"in the folder of the notebook: dfsp run {shlex.quote(record['notebook'])} {given}".strip()
    )


def _draws(record: Record) -> str:
    return f"kept: {record['draws']}" if record["draws"] else ""


def _bias(record: Record) -> str:
    return sum_up(record["appraisal"], "risk_of_bias")


def _studies_and_bias(record: Record) -> str:
    studies = _studies(record)
    return f"{studies}; risk of bias {_bias(record)}" if studies else ""


def _certainty(record: Record) -> str:
    return f"per study: {sum_up(record['appraisal'], 'certainty')}; per outcome: {NOT_DONE}"


READERS: Mapping[str, Callable[[Record], str]] = {
    "software": _software,
    "convergence": _convergence,
    "resolution": _resolution,
    "accuracy": _accuracy,
    "script": _script,
    "command": _command,
    "data": _data,
    "seed": _seed,
    "draws": _draws,
    "figures": _figures,
    "studies": _studies,
    "studies and bias": _studies_and_bias,
    "bias": _bias,
    "certainty": _certainty,
}
"""What an item's `reads` names; each returns the answer, or `""` if there is none."""
