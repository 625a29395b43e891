"""The errors that dfsp raises on purpose."""

from collections.abc import Iterable, Sequence
from typing import Self


class DfspError(ValueError):
    """An input, an option or a parameter cannot be used; the message says where and what to do.

    Attributes
    ----------
    faults : tuple of str
        Each fault on its own, where the message lists several.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": ["A", "B"], "events": [3, 8], "total": [10, 7]})
    >>> try:
    ...     dfsp.fit(table)
    ... except dfsp.DfspError as error:
    ...     print(error.faults[0])
    row 1 (study 'B'): events = 8 exceeds total = 7
    """

    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, where: str, what: str, faults: Sequence[str]) -> Self:
        """Return one error that lists every fault of a place, one a line."""
        error = cls("\n  ".join([f"{where}: {what}", *faults]))
        error.faults = tuple(faults)
        return error


class NotConverged(DfspError):
    """The sampler's convergence gate refused the draws.

    Examples
    --------
    It can be caught as what it is, or as any fault that dfsp names:

    >>> import dfsp
    >>> issubclass(dfsp.NotConverged, dfsp.DfspError)
    True
    """


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names most like one that is not known, at most three."""
    from difflib import get_close_matches

    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(each.casefold(), each)
    return [folded[each] for each in get_close_matches(name.casefold(), folded)]


def unknown(names: Sequence[str], known: Iterable[str], most: int = 20) -> str:
    """Say that names are not known, which are near, and which there are.

    Known names are separated by `|`, as they are where several are given.
    """
    known = list(known)
    said = []
    for name in names:
        near = " or ".join(repr(each) for each in nearest(name, known))
        said.append(f"{name!r} is not known" + (f" (did you mean {near}?)" if near else ""))
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return f"{'; '.join(said)}; known: {' | '.join(known[:most])}{more}"
