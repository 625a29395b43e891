"""What a notebook declares: its kernel, its parameters, and how values are read as their types.

Parameters stand in the cell tagged `parameters`, one assignment each, with or without a type:

    tau_scale: float = 1.0
    groups = ["a", "b"]

A declared type is binding. Without one the default tells the type, and less is refused: a notebook
that says `n = 3` may be given 2.5 by a plan, but never the text "5".
"""

import ast
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfsp.errors import DfspError

if TYPE_CHECKING:
    from nbformat import NotebookNode

_KINDS: Mapping[str, type] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list": list,
    "dict": dict,
}
_WORDS: Mapping[str, str] = {
    "int": "whole number",
    "float": "number",
    "bool": "truth value (true or false)",
    "str": "text",
    "list": "list",
    "dict": "mapping",
}
QUOTE = "write it in quotes if a text is meant"


@dataclass(frozen=True)
class Parameter:
    """A parameter as its notebook declares it.

    Attributes
    ----------
    name : str
    default : object
        A value that JSON has, or the code of the default where it is none.
    kind : str
        `"int"`, `"float"`, `"bool"`, `"str"`, `"list"` or `"dict"`; `""` if it cannot be told.
    stated : bool
        Whether an annotation says so, and not only the default.
    optional : bool
        Whether `None` is a value of it too.
    """

    name: str
    default: Any
    kind: str = ""
    stated: bool = False
    optional: bool = False

    def from_yaml(self, value: Any) -> Any:
        """Return a value that YAML has read, as this parameter's type.

        What a declared or shown type does not forbid is passed on as papermill would.

        Raises
        ------
        DfspError
            It is none; the message says what to give.
        """
        if not _can_be_kept(value):
            raise self._refusal(value)
        if value is None:
            if self.stated and self.kind and not self.optional:
                raise self._refusal(value)
            return None
        if isinstance(value, str) and self.kind in ("int", "float", "bool"):
            return self.from_text(value)
        read = _FROM_YAML.get(self.kind)
        return read(self, value) if read else value

    def from_text(self, text: str) -> Any:
        """Return a value as typed on a command line, as this parameter's type.

        Raises
        ------
        DfspError
            It is none; the message says what to give.
        """
        if text == "None" and (self.optional or self.default is None):
            return None
        try:
            value = _FROM_TEXT.get(self.kind, _guessed)(text)
        except (ValueError, SyntaxError, OverflowError):
            raise self._refusal(text) from None
        if not _can_be_kept(value):
            raise self._refusal(text)
        return value

    def _refusal(self, value: Any, hint: str = "") -> DfspError:
        kind = _WORDS.get(self.kind, "value that is finite")
        says = f"{self.name} = {value!r}: give a {kind}"
        if isinstance(value, str) and not _can_be_kept(value):
            hint = "part of it is no character in UTF-8"
        if isinstance(value, bool):
            hint = hint or "YAML reads yes, no, on and off as true and false"
        if not self.stated and self.kind:
            hint = hint or f"the notebook's own value is {self.default!r}"
        return DfspError(f"{says} ({hint})" if hint else says)


def _whole(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, bool):
        raise parameter._refusal(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if parameter.stated and not isinstance(value, int):
        raise parameter._refusal(value)
    return value


def _number(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, bool):
        raise parameter._refusal(value)
    if isinstance(value, int):
        return float(value) if -(2**53) <= value <= 2**53 else value
    if parameter.stated and not isinstance(value, float):
        raise parameter._refusal(value)
    return value


def _truth(parameter: Parameter, value: Any) -> Any:
    if parameter.stated and not isinstance(value, bool):
        raise parameter._refusal(value)
    return value


def _text(parameter: Parameter, value: Any) -> Any:
    if isinstance(value, bool):
        raise parameter._refusal(
            value, f"YAML reads yes, no, on and off as true and false; {QUOTE}"
        )
    if isinstance(value, (int, float)):
        raise parameter._refusal(value, QUOTE)
    if parameter.stated and not isinstance(value, str):
        raise parameter._refusal(value)
    return value


def _list(parameter: Parameter, value: Any) -> Any:
    if not isinstance(value, list):
        raise parameter._refusal(
            value, "in a plan a list holds the values of several runs: write [[a, b]] for one list"
        )
    return value


def _mapping(parameter: Parameter, value: Any) -> Any:
    if not isinstance(value, dict):
        raise parameter._refusal(value)
    return value


_FROM_YAML: Mapping[str, Callable[[Parameter, Any], Any]] = {
    "int": _whole,
    "float": _number,
    "bool": _truth,
    "str": _text,
    "list": _list,
    "dict": _mapping,
}


def _whole_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # such as 1e3
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)


def _truth_of(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _nested_of(kind: type) -> Callable[[str], Any]:
    """Return a reader of lists or dicts, written as Python or JSON writes them."""

    def read(text: str) -> Any:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = json.loads(text)
        value = list(value) if isinstance(value, tuple) else value
        if not isinstance(value, kind):
            raise ValueError(text)
        json.dumps(value)
        return value

    return read


def _guessed(text: str) -> Any:
    """Return what papermill's `-p` makes of a text where nothing tells its type."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(text, text)


_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "int": _whole_of,
    "float": float,
    "bool": _truth_of,
    "str": str,
    "list": _nested_of(list),
    "dict": _nested_of(dict),
}


def _can_be_kept(value: Any) -> bool:
    """Whether JSON has a value: neither it nor what it holds is infinite, no number or no text."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):  # a command line's bytes that are not UTF-8, or "\\ud800" in YAML
        return value.encode("utf-8", "replace").decode("utf-8") == value
    if isinstance(value, dict):
        return all(_can_be_kept(each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return all(_can_be_kept(each) for each in value)
    return True


# ---------------------------------------------------------------- the notebook


@dataclass(frozen=True)
class Notebook:
    """What is known of a notebook before it is run.

    Attributes
    ----------
    path : Path
    sha256 : str
    kernel : str or None
        Name of its kernel.
    language : str
        Of the kernel.
    parameters : dict of str to Parameter
    injected : dict of str to object
        What papermill has once put into it, and what holds if nothing is given anew.
    uses_dfsp : bool
        Whether its code names this package.
    checks : bool
        Whether its code checks its parameters by `dfsp.parameters.check`.
    """

    path: Path
    sha256: str
    kernel: str | None
    language: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    injected: dict[str, Any] = field(default_factory=dict)
    uses_dfsp: bool = False
    checks: bool = False

    def effective(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with which the cells start: papermill replaces its older cell."""
        own = {name: each.default for name, each in self.parameters.items()}
        return own | (dict(given) if given else self.injected)


def read_notebook(path: Path) -> Notebook:
    """Read what a notebook declares.

    Raises
    ------
    DfspError
        The file is no notebook that can be read; the message says why.
    OSError
        There is no such file, or it cannot be read.
    """
    content = path.read_bytes()
    notebook = _cells_of(path, content)
    spec = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name") or spec.get("language")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def tagged(tag: str) -> dict[str, Parameter]:
        cells = [cell for cell in code if tag in cell.metadata.get("tags", [])]
        return _assigned(cells[0].source) if cells else {}

    python = (language or "python") == "python"
    return Notebook(
        path,
        hashlib.sha256(content).hexdigest(),
        spec.get("name"),
        language or "python",
        tagged("parameters") if python else {},
        {name: each.default for name, each in tagged("injected-parameters").items()},
        any("dfsp" in cell.source for cell in code),
        any("dfsp.parameters.check(" in cell.source for cell in code),
    )


def _cells_of(path: Path, content: bytes) -> "NotebookNode":
    """Return a notebook in the present format."""
    import warnings

    from dfsp.runs.light import nbformat

    if not content.strip():
        raise DfspError(f"{path}: the file is empty; save the notebook again in Jupyter")
    try:
        found = nbformat.reader.parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise DfspError(f"{path}: no notebook: its content is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("nbformat"), int):
        raise DfspError(f"{path}: no notebook: it does not say in which format it is written")
    if not 2 <= found["nbformat"] <= nbformat.current_nbformat:
        raise DfspError(
            f"{path}: written in notebook format {found['nbformat']}; formats 2 to "
            f"{nbformat.current_nbformat} can be read: save it again in Jupyter"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # cells without ids, which get some
            notebook: NotebookNode = nbformat.reads(json.dumps(found), as_version=4)
        for cell in notebook.cells:
            if not isinstance(cell.cell_type + cell.source, str) or cell.metadata is None:
                raise TypeError("a cell without a source")
    except Exception as error:  # each format has its own ways to be broken
        says = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise DfspError(f"{path}: not a valid notebook ({says})") from None
    return notebook


def _assigned(source: str) -> dict[str, Parameter]:
    """Return the parameters that a cell assigns; nothing if it is not Python."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return {}
    found = {}
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                found[name] = _parameter(name, value, annotation)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = _parameter(target.id, value, None)
    return found


def _parameter(name: str, value: ast.expr | None, annotation: ast.expr | None) -> Parameter:
    kinds = _kinds_of(annotation)
    stated = [kind for kind in kinds if kind in _KINDS]
    try:
        default = ast.literal_eval(value) if value else None
        default = list(default) if isinstance(default, tuple) else default
        json.dumps(default, allow_nan=False)
    except (ValueError, TypeError, SyntaxError):
        code = ast.unparse(value) if value else ""
        return Parameter(name, code, stated[0] if stated else "", bool(stated), "None" in kinds)
    shown = next((kind for kind, own in _KINDS.items() if type(default) is own), "")
    optional = "None" in kinds or (bool(stated) and default is None)
    return Parameter(name, default, stated[0] if stated else shown, bool(stated), optional)


def _kinds_of(annotation: ast.expr | None) -> list[str]:
    """Return the names of types in an annotation: `list` of list[str], two of `float | None`."""
    match annotation:
        case ast.Name(id=name):
            return [{"tuple": "list"}.get(name, name)]
        case ast.Constant(value=None):
            return ["None"]
        case ast.Constant(value=str(text)):
            try:
                return _kinds_of(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return []
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            kinds = [*_kinds_of(left), *_kinds_of(right)]
            # Of several types none is binding.
            return kinds if len([kind for kind in kinds if kind != "None"]) == 1 else ["None"]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return [*_kinds_of(inner), "None"]
        case ast.Subscript(value=outer):
            return _kinds_of(outer)
    return []
