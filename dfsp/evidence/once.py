"""What is read and counted once while many runs are checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from dfsp.errors import DfspError

_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Within this, files are not read again, and results are shared: nobody may change them.

    Examples
    --------
    >>> from dfsp.evidence.load import load_evidence
    >>> with reading_once():
    ...     load_evidence("review") is load_evidence("review")
    True
    >>> load_evidence("review") is load_evidence("review")
    False
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def once[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Let a function, within `reading_once`, return or raise again what it did for the same."""

    @wraps(function)
    def remembering(*args: P.args, **kwargs: P.kwargs) -> R:
        kept = _kept.get()
        if kept is None:
            return function(*args, **kwargs)
        key = (function, *map(_key, args), *((name, _key(kwargs[name])) for name in sorted(kwargs)))
        if key not in kept:
            found: R | DfspError
            try:
                found = function(*args, **kwargs)
            except DfspError as error:
                found = error
            kept[key] = found, args, kwargs  # which keeps their identities from being reused
        found = kept[key][0]
        if isinstance(found, DfspError):
            raise found.with_traceback(None)
        return found

    return remembering


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_key, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value
