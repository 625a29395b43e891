"""The errors that dfsp raises on purpose."""

from collections.abc import Sequence


class DfspError(ValueError):
    """An input, an option or a parameter cannot be used; the message says where and what to do.

    Attributes
    ----------
    faults : tuple of str
        Each fault on its own, where the message lists several.
    """

    faults: tuple[str, ...] = ()


class NotConverged(DfspError):
    """The sampler's convergence gate refused the draws."""


def listed(where: str, what: str, faults: Sequence[str]) -> DfspError:
    """Return one error that lists every fault of a place, one a line."""
    error = DfspError("\n  ".join([f"{where}: {what}", *faults]))
    error.faults = tuple(faults)
    return error
