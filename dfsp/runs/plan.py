"""The plan of a batch: a YAML file that is checked as a whole before anything starts.

Under each notebook, a list of values is an axis of a matrix and anything else holds in every run.
`include` and `exclude` add and remove runs as in the matrix of GitHub's workflows:

    notebooks:
      - notebook: notebooks/02_response.ipynb
        parameters:
          engine: exact
          outcome: [objective_response, clinical_benefit]
          evidence_set: [review, reconciled]
        exclude:
          - {outcome: clinical_benefit, evidence_set: review}
        include:
          - {outcome: complete_response, not_evaluable: excluded}

Values are compared as the type of their parameter: 2 is 2.0 where the notebook has a number.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfsp.errors import DfspError
from dfsp.evidence.once import reading_once
from dfsp.runs.declared import Notebook, Parameter
from dfsp.runs.run import Job, find_notebook, job_of, unreadable

if TYPE_CHECKING:
    from dfsp.runs.models import Entry

Values = dict[str, Any]

MOST_RUNS = 1_000_000
"""Runs of an entry: as many take a gigabyte to list, and weeks to do."""


def read_plan(
    path: str | Path,
    *,
    draws: bool = False,
    timeout: float | None = None,
    kernel: str | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Job]:
    """Read a plan and check every run in it; start nothing.

    Parameters
    ----------
    path : path
        A YAML file; see the module's description.
    draws, timeout, kernel
        As in `Job`, for all runs.
    tell : callable
        Called with the number of runs that were checked, and that of all runs.

    Returns
    -------
    list of Job
        In the order of the plan. A notebook that cannot be read makes runs that will fail with
        its reason, so that it keeps no other run from being done.

    Raises
    ------
    DfspError
        With every fault of the plan, each once: its structure, keys or values given twice,
        notebooks that are not there, names and values of parameters, rules without effect, runs
        that would have the same name.
    """
    faults = _Faults()
    found = [
        _matrix(entry, faults.at(number))
        for number, entry in enumerate(_loaded(path, faults), start=1)
        if entry is not None
    ]
    total, jobs = sum(len(matrix.rows) for matrix in found), []
    with reading_once():
        for matrix in found:
            for row in matrix.rows:
                job, wrong = matrix.job(row, draws=draws, timeout=timeout, kernel=kernel)
                for fault in wrong:
                    matrix.faults.add(fault, row)
                jobs.append(job)
                tell(len(jobs), total)
    if not faults.some:  # where others are, it is not known which runs are meant
        _check_names(jobs, faults)
    if faults.some:
        raise DfspError.of(str(path), "the plan cannot be run", faults.told())
    return jobs


def duplicate_runs(jobs: Sequence[Job]) -> list[str]:
    """Say which runs of a plan would do the same, one line each: all their parameters are equal."""
    same: dict[tuple[Path, str], list[Job]] = {}
    for job in jobs:
        same.setdefault((job.notebook, repr(sorted(job.effective.items()))), []).append(job)
    return [
        f"{group[0].notebook.name}: {len(group)} runs do the same, with "
        + " and with ".join(_said(job.values) for job in group)
        + "; all but one may be left out"
        for group in same.values()
        if len(group) > 1
    ]


def _check_names(jobs: Sequence[Job], faults: "_Faults") -> None:
    for name, times in Counter(job.name for job in jobs).items():
        if times > 1:
            places = {str(job.notebook) for job in jobs if job.name == name}
            faults.add(
                f"{times} runs have the name {name} ({', '.join(sorted(places))}); "
                "remove all but one, or give the notebooks different file names"
            )


class _Faults:
    """What is wrong with a plan, each fault once, and with which of the runs."""

    def __init__(self) -> None:
        self._found: dict[str, list[Values]] = {}
        self._place = ""

    @property
    def some(self) -> bool:
        return bool(self._found)

    def at(self, number: int) -> "_Faults":
        """Return the same faults, for what is wrong with one entry."""
        own = _Faults()
        own._found, own._place = self._found, f"notebook {number}: "
        return own

    def add(self, fault: str, row: Values | None = None) -> None:
        rows = self._found.setdefault(self._place + fault.replace("\n", "\n  "), [])
        if row is not None:
            rows.append(row)

    def told(self) -> list[str]:
        return [_told(fault, rows) for fault, rows in self._found.items()]


def _told(fault: str, rows: Sequence[Values]) -> str:
    if not rows:
        return fault
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{fault}\n    (run with {_said(rows[0])}{more})"


def _said(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in row.items()) or "the defaults"


# ---------------------------------------------------------------- from the file to its entries


def _loaded(path: str | Path, faults: _Faults) -> "Iterator[Entry | None]":
    """Read the file; yield the entries that have the right form, and None for those that do not."""
    import yaml
    from pydantic import ValidationError

    from dfsp.runs.models import Plan

    try:
        content, twice = _yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DfspError(f"{path}: cannot be read as YAML: {error}") from None
    for line in twice:
        faults.add(line)
    try:
        yield from Plan.model_validate(content).notebooks
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    else:
        return
    entries = content.get("notebooks") if isinstance(content, dict) else None
    if not isinstance(entries, list) or any(len(fault["loc"]) < 2 for fault in wrong):
        raise DfspError(f"{path}: a plan has one key, `notebooks`, with a list of at least one")
    bad = set()
    for fault in wrong:
        number = fault["loc"][1]
        assert isinstance(number, int)
        bad.add(number)
        faults.at(number + 1).add(_worded(fault))
    for number, entry in enumerate(entries):
        # What is wrong with one entry hides nothing of the others.
        yield None if number in bad else Plan.model_validate({"notebooks": [entry]}).notebooks[0]


def _worded(fault: Mapping[str, Any]) -> str:
    """Say in the words of a plan what pydantic has found wrong with an entry."""
    from dfsp.runs.models import Entry

    inside = fault["loc"][2:]
    if not inside or inside[0] == "notebook":
        return "an entry names a file under `notebook`"
    if fault["type"] == "extra_forbidden":
        return f"{inside[0]!r} is not known; use {', '.join(Entry.model_fields)}"
    if inside[-1] == "[key]":
        return f"`{inside[0]}`: {fault['input']!r} is no name of a parameter"
    if len(inside) > (1 if inside[0] == "parameters" else 2):
        name = next(str(each) for each in inside[1:] if isinstance(each, str))
        return f"{name} = {fault['input']!r}: give a text, a number, true or false, or a list"
    if inside[0] == "parameters":
        return "`parameters` holds names and values"
    return f"`{inside[0]}` is a list of rows, each with names and values"


def _yaml(text: str) -> tuple[Any, list[str]]:
    """Return what a YAML text holds, dates as texts, and which keys stand in it twice."""
    import yaml

    twice: list[str] = []

    class Loader(yaml.SafeLoader):
        # As papermill does: a date is the text that somebody typed.
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            lines: dict[Any, int] = {}
            for key, _ in node.value:
                name, line = key.value, key.start_mark.line + 1
                if isinstance(name, str) and name != "<<" and name in lines:
                    twice.append(
                        f"line {line}: `{name}` is given twice, first in line {lines[name]}; "
                        "only the last would count"
                    )
                elif isinstance(name, str):
                    lines[name] = line
            return super().construct_mapping(node, deep=deep)

    return yaml.load(text, Loader), twice


# ---------------------------------------------------------------- from an entry to its runs


@dataclass
class _Matrix:
    """The runs of one entry."""

    notebook: Notebook
    faults: _Faults
    broken: str | None = None
    rows: list[Values] = field(default_factory=list)

    def job(self, row: Values, **settings: Any) -> tuple[Job, list[str]]:
        if self.broken is not None:
            return unreadable(self.notebook.path, row, self.broken, **settings), []
        return job_of(self.notebook, row, **settings)


def _matrix(entry: "Entry", faults: _Faults) -> _Matrix:
    """Return the runs that an entry means; what is wrong with it is added to `faults`."""
    try:
        path = find_notebook(entry.notebook)
    except DfspError as error:
        faults.add(str(error))
        return _Matrix(Notebook(Path(entry.notebook), "", None, ""), faults)
    notebook, broken = _readable(path)
    read = _Reader(notebook, faults, known=broken is None)
    held, axes = read.parameters(entry.parameters or {})
    exclude = [row for given in entry.exclude or [] if len(row := read.row(given)) == len(given)]
    include = [read.row(row) for row in entry.include or []]
    # Without an axis there is no combination that could be extended.
    empty = bool(include) and not axes
    whole = [
        held | dict(zip(axes, row, strict=True))
        for row in ([] if empty else product(*axes.values()))
    ]
    kept = whole
    for row in exclude:
        left = [each for each in kept if not _has(each, row)]
        if unknown := [name for name in row if name not in (entry.parameters or {})]:
            faults.add(f"exclude: {', '.join(unknown)} is not under `parameters`")
        elif read.good and len(left) == len(kept):
            gone = any(_has(each, row) for each in whole)
            says = "the rows before it have removed every run with" if gone else "no run has"
            faults.add(f"exclude: {says} {_said(row)}; remove or correct this row")
        kept = left
    if whole and not kept and not include:
        faults.add("`exclude` leaves no run")
    # Where values are faulty it is not known what a rule does; the others are checked all the same.
    rows = _included(kept, include, held, faults if read.good else _Faults())
    return _Matrix(notebook, faults, broken, rows)


def _readable(path: Path) -> tuple[Notebook, str | None]:
    from dfsp.runs.declared import read_notebook

    try:
        return read_notebook(path), None
    except DfspError as error:
        return Notebook(path, "", None, ""), str(error)
    except OSError as error:
        return Notebook(path, "", None, ""), f"{path}: cannot be read ({error.strerror})"


class _Reader:
    """Reads the values of an entry as the types that its notebook declares.

    `good` turns false when one of them is faulty, which is then left out.
    """

    def __init__(self, notebook: Notebook, faults: _Faults, *, known: bool) -> None:
        self.notebook = notebook
        self.faults = faults
        self.known = known and notebook.language == "python"  # whether its parameters are
        self.good = True

    def parameters(self, given: Mapping[str, Any]) -> tuple[Values, dict[str, list[Any]]]:
        """Return the values that hold in every run, and the axes of the matrix."""
        held: Values = {}
        axes: dict[str, list[Any]] = {}
        for name, value in given.items():
            if not isinstance(value, list):
                held |= self.row({name: value})
            elif not value:
                self._fault(f"{name}: the list is empty; give at least one value")
            elif found := [row[name] for row in (self.row({name: each}) for each in value) if row]:
                axes[name] = self._once(name, found)
        if (number := prod(map(len, axes.values()))) > MOST_RUNS:
            self._fault(f"the lists make {number:,} runs; shorten them to at most {MOST_RUNS:,}")
            axes = {}
        return held, axes

    def _once(self, name: str, values: Sequence[Any]) -> list[Any]:
        different: dict[Any, Any] = {}
        for value in values:
            different.setdefault(_key(value), value)
        for key, times in Counter(map(_key, values)).items():
            if times > 1:
                value = different[key]
                self._fault(f"{name}: the value {value!r} is given {times} times; give it once")
        return list(different.values())

    def row(self, given: Mapping[str, Any]) -> Values:
        """Return the values of a row that can be read."""
        found = {}
        for name, value in given.items():
            parameter = self.notebook.parameters.get(name)
            if parameter is None and self.known:
                known = ", ".join(self.notebook.parameters) or "none"
                about = f"{self.notebook.path.name}: {name}: unknown parameter"
                self._fault(f"{about}; this notebook has {known}")
                continue
            try:
                found[name] = (parameter or Parameter(name, None)).from_yaml(value)
            except DfspError as error:
                self._fault(f"{self.notebook.path.name}: {error}")
        return found

    def _fault(self, says: str) -> None:
        self.good = False
        self.faults.add(says)


def _included(
    rows: Sequence[Values], include: Sequence[Values], held: Values, faults: _Faults
) -> list[Values]:
    """Extend the combinations that a row of `include` does not contradict, or else add a run.

    In `rows` stands what holds in every run, too.
    """
    runs = [dict(row) for row in rows]
    sources: list[dict[str, int]] = [{} for _ in rows]  # by run, which rule has given a value
    for rule, more in enumerate(include):
        fits = [
            number
            for number, row in enumerate(rows)
            if _has(row, {name: value for name, value in more.items() if name in row})
        ]
        for number in fits:
            added = {name: value for name, value in more.items() if name not in rows[number]}
            runs[number] |= added
            sources[number] |= dict.fromkeys(added, rule)
        if not fits:
            runs.append(held | more)
            sources.append(dict.fromkeys(more, rule))
    effective = {rule for source in sources for rule in source.values()}
    for rule, more in enumerate(include):
        if rule not in effective:
            faults.add(f"include: the row with {_said(more)} changes no run; remove or correct it")
    return runs


def _has(row: Values, values: Values) -> bool:
    return all(name in row and _key(row[name]) == _key(value) for name, value in values.items())


def _key(value: Any) -> Any:
    """Return what is the same, and has the same hash, for equal values; for Python, True is 1."""
    if isinstance(value, list):
        return "list", *map(_key, value)
    if isinstance(value, dict):
        return "dict", frozenset((name, _key(each)) for name, each in value.items())
    return isinstance(value, bool), value
