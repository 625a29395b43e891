"""Verdicts as data."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from dfsp.text import Sentences

VERDICTS = {True: "passed", False: "FAILED", None: "cannot tell"}
"""What is said of whether a check passed."""


@dataclass(frozen=True)
class Check:
    """One verdict.

    Attributes
    ----------
    name : str
    passed : bool or None
        `None` means that the check cannot tell.
    value, limit : float or None
        What was measured, and the bound it is held against, in the same unit.
    says : str
        One sentence for a reader.

    Examples
    --------
    >>> import dfsp, pandas as pd
    >>> table = pd.DataFrame({"study": list("ABC"), "events": [3, 8, 5], "total": [10, 20, 19]})
    >>> check = dfsp.fit(table).checks[0]
    >>> check.name, check.passed, check.limit
    ('exact: grid resolves the posterior', True, 1e-05)
    """

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    says: str

    def __post_init__(self) -> None:
        # NumPy's False is not False, so that its verdict would count as none, and JSON has it not.
        if self.passed is not None:
            object.__setattr__(self, "passed", bool(self.passed))

    def __str__(self) -> str:
        return f"{self.name}: {VERDICTS[self.passed]}. {self.says}"

    def _repr_markdown_(self) -> str:
        return Sentences(self)._repr_markdown_()

    def as_dict(self) -> dict[str, Any]:
        """Return the check as plain data for JSON."""
        return asdict(self)


def failed(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks that failed; a check that cannot tell has not failed."""
    return tuple(check for check in checks if check.passed is False)


def table(checks: Iterable[Check]) -> pd.DataFrame:
    """Return the checks as a table, one a row."""
    columns = ["name", "passed", "value", "limit", "says"]
    rows = [[getattr(check, column) for column in columns] for check in checks]
    return pd.DataFrame(rows, columns=columns)
