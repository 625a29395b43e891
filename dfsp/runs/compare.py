"""What changed between two folders of runs: counts, parameters, versions, numbers and verdicts.

Runs are the same analysis if their notebook and the parameters that were given are, which is what
their folders are named after. What a study that was added did to each conclusion is then read off
two batches of the same plan.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfsp.checks import VERDICTS
from dfsp.engine.distributions import LEAST_RATE
from dfsp.errors import DfspError
from dfsp.fitting import MEDIANS, NAMES, RATES, centre_of
from dfsp.rates import INTERVAL, Unit
from dfsp.runs.batch import records
from dfsp.runs.publish import RECORD
from dfsp.runs.record import parameters_of, read_record, unit_of_runs
from dfsp.text import Result, Sentences

COMPARED = (*RATES, "tau")
KEPT = (
    "status", "reason", "data", "versions", "source_sha256", "unit", "checks", "estimand",
    "headline", "prior_warning",
)  # fmt: skip
"""What else is compared of a record, beside its parameters and `COMPARED`."""

State = Mapping[str, Any]

SAME = 0.005  # of an interval's width: a shift or a change of width below this is none
STUDIES = "studies.csv"


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """What changed from one folder of runs to another.

    Attributes
    ----------
    changes : mapping of str to tuple of str
        By run that both have, a sentence a change; none where nothing did.
    gone, new : tuple of str
        Runs that only the first, only the second has.
    """

    changes: Mapping[str, tuple[str, ...]]
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def describe(self) -> Sentences:
        """Say what changed, a paragraph a run, and how many did not."""
        lines = []
        for name, changes in self.changes.items():
            if changes:
                lines += [f"{name}:", *(f"  {' '.join(change.split())}" for change in changes)]
        for word, names in (("Gone", self.gone), ("New", self.new)):
            if names:
                lines += [f"{word}:", *(f"  {name}" for name in names)]
        same = sum(not changes for changes in self.changes.values())
        runs = "run is" if same == 1 else "runs are"
        return Sentences("\n".join([*lines, f"{same} {runs} the same in both."]))


def compare_runs(before: str | Path, after: str | Path) -> Comparison:
    """Compare two folders of runs, or two runs.

    Parameters
    ----------
    before, after : path
        Folders that `dfsp batch` or `dfsp run` wrote to, or the folders of two runs, which are then
        compared whatever they are called.

    Raises
    ------
    DfspError
        A folder has no runs, or no run is in both.
    """
    before, after = Path(before), Path(after)
    if (before / RECORD).is_file() and (after / RECORD).is_file():
        name = before.name if before.name == after.name else f"{before.name} -> {after.name}"
        old, new = (state_of(each, read_record(each)) for each in (before, after))
        return Comparison({name: tuple(_changes(old, new))}, (), ())
    found = compare_states(_states(before), _states(after))
    if not found.changes:
        raise DfspError(
            f"{before} and {after} have no run in common: runs are the same analysis if their "
            "notebook and the parameters given are; two others are compared by their own folders"
        )
    return found


def compare_states(before: Mapping[str, State], after: Mapping[str, State]) -> Comparison:
    """Compare what runs found, by the names of their folders."""
    return Comparison(
        {name: tuple(_changes(before[name], after[name])) for name in before if name in after},
        tuple(name for name in before if name not in after),
        tuple(name for name in after if name not in before),
    )


def state_of(folder: Path, record: Mapping[str, Any]) -> State:
    """Return what is compared of a run, as plain data.

    Parameters
    ----------
    folder : Path
        Of the run.
    record : mapping
        What its record says.
    """
    own = {
        "parameters": parameters_of(record),
        "counts": _counts(folder),
        "numbers": _compared(record["numbers"]),
        "groups": {group: _compared(found) for group, found in record["groups"].items()},
    }
    return {name: record[name] for name in KEPT} | own


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in COMPARED if name in found}


def _states(where: Path) -> dict[str, State]:
    found, _ = records(where)
    if not found:
        raise DfspError(f"{where}: no runs here; make some with dfsp run or dfsp batch")
    return {name: state_of(where / name, record) for name, record in found.items()}


def _changes(old: State, new: State) -> Iterator[str]:
    """Yield a sentence a change: what was put in, what was found, what it was made with."""
    if old["status"] != new["status"]:
        reason = f" ({new['reason']})" if new["reason"] else ""
        yield f"the run is {new['status']}{reason}, and was {old['status']}"
    yield from _of_counts(old["counts"], new["counts"])
    yield from _of_values("parameter", old["parameters"], new["parameters"])
    yield from _of_values("estimand,", old["estimand"] or {}, new["estimand"] or {})
    unit = unit_of_runs([old, new])
    yield from _of_estimates(unit, old["numbers"], new["numbers"])
    for group in [each for each in old["groups"] if each in new["groups"]]:
        for change in _of_estimates(unit, old["groups"][group], new["groups"][group]):
            yield f"{group}: {change}"
    if old["headline"] != new["headline"] and not _restates(new, unit):
        yield f"it says now: {new['headline']} It said: {old['headline'] or 'nothing'}"
    if old["prior_warning"] != new["prior_warning"]:
        yield new["prior_warning"] or "no prior decides any more"
    yield from _of_verdicts(old["checks"], new["checks"])
    yield from _of_files(old["data"], new["data"])
    yield from _of_values("version of", old["versions"], new["versions"])
    if old["source_sha256"] != new["source_sha256"]:
        yield "the source of dfsp is another"


def _restates(state: State, unit: Unit) -> bool:
    """Whether a headline holds the mean rate, whose change is said by itself."""
    found = state["numbers"].get("mean_rate")
    if not found or found["mean"] is None:
        return False
    middle, low, high = (found[name] for name in (centre_of("mean_rate", found), "q2.5", "q97.5"))
    return unit.estimate(middle, low, high, INTERVAL) in (state["headline"] or "")


def _counts(folder: Path) -> dict[str, str]:
    """Return what the run counted, by study; nothing where it kept no such table."""
    try:
        with (folder / STUDIES).open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            # Of several tables, which are told apart by the first column
            first, *_ = rows.fieldnames or [""]
            return {
                row["study"] + f" ({row[first]})" * (first != "study"): (
                    f"{row['events']} of {row['total']}"
                )
                for row in rows
            }
    except (OSError, KeyError):
        return {}


def _of_counts(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for study in (*old, *(study for study in new if study not in old)):
        if study not in new:
            yield f"{study} ({old[study]}) is left out"
        elif study not in old:
            yield f"{study} ({new[study]}) is new"
        elif old[study] != new[study]:
            yield f"{study} has {new[study]}, and had {old[study]}"


def _of_values(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name] != new[name]:
            was, now = (repr(each[name]) if name in each else "none" for each in (old, new))
            yield f"{what} {name}: {was} -> {now}"


def _of_files(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for word, names in (
        ("other contents", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
        ("no longer read", old.keys() - new.keys()),
        ("read too", new.keys() - old.keys()),
    ):
        if names:
            yield f"data, {word}: {', '.join(sorted(names))}"


def _of_estimates(unit: Unit, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say how far the estimates of a fit moved."""
    for name in COMPARED:
        was, now = old.get(name), new.get(name)
        needed = "q50" if name in MEDIANS else "mean"
        if was and now and was[needed] is not None and now[needed] is not None:
            yield from _of_numbers(name, unit, was, now)


def _of_numbers(
    name: str, unit: Unit, old: Mapping[str, float], new: Mapping[str, float]
) -> Iterator[str]:
    """Say how far an estimate moved, against the interval that it had."""
    old, new = ({key: row[key] or LEAST_RATE for key in row} for row in (old, new))
    centre = "q50" if "q50" in (centre_of(name, old), centre_of(name, new)) else "mean"
    width = old["q97.5"] - old["q2.5"]
    shift, wider = new[centre] - old[centre], new["q97.5"] - new["q2.5"] - width
    if not width or max(abs(shift), abs(wider)) <= SAME * width:
        return
    moved = 100 * abs(shift) / width
    moves = ["in its place"]
    if abs(shift) > SAME * width:
        moves = [f"{'up' if shift > 0 else 'down'} by {moved:.0f} % of the interval's width"]
    if abs(wider) > SAME * width:
        more = 100 * abs(wider) / width
        moves.append(f"the interval {more:.0f} % {'wider' if wider > 0 else 'narrower'}")
    rows = [(found[centre], found["q2.5"], found["q97.5"]) for found in (old, new)]
    said = [_plain(*row) if name == "tau" else unit.estimate(*row, INTERVAL) for row in rows]
    yield f"{NAMES[name]}: {' -> '.join(said)}: {', '.join(moves)}"


def _plain(middle: float, low: float, high: float) -> str:
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _of_verdicts(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    was, now = ({check["name"]: check["passed"] for check in checks} for checks in (old, new))
    for name in (*was, *(name for name in now if name not in was)):
        if name not in now or name not in was or was[name] != now[name]:
            first, second = (
                VERDICTS[each[name]].lower() if name in each else "not made" for each in (was, now)
            )
            yield f"check {name}: {first} -> {second}"
