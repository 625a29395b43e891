"""Risk of bias and certainty of each study, where somebody has judged them; never filled by us.

Columns of the cohorts table, or of one's own table: `jbi_1` to `jbi_10` for the items of the JBI
critical appraisal checklist for case series (Munn 2020, doi:10.11124/JBISRIR-D-19-00099), and
`certainty`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from dfsp.errors import DfspError, unknown

JBI_ASKS = (
    "clear criteria of inclusion",
    "condition measured in a standard way",
    "condition identified validly",
    "consecutive inclusion",
    "complete inclusion",
    "demographics reported",
    "clinical information reported",
    "outcomes reported",
    "sites reported",
    "appropriate statistics",
)
"""What each item asks for, shortened."""
JBI_ITEMS = tuple(f"jbi_{number}" for number in range(1, len(JBI_ASKS) + 1))
JBI_ANSWERS = ("yes", "no", "unclear", "not applicable")
CERTAINTIES = ("high", "moderate", "low", "very low")
NOT_ASSESSED = "not assessed"
NOT_RECORDED = "not recorded by this notebook"
HIGH_RISK = (
    "At high risk is here a study with a no to any item. That is a convention of dfsp: JBI sets no "
    "threshold and leaves it to the reviewers. It follows RoB 2, where one domain at high risk "
    "makes the study so (Sterne 2019, doi:10.1136/bmj.l4898)."
)
"""What makes a study one at high risk of bias, and who says so."""


def appraise(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up what is judged of each study.

    Parameters
    ----------
    table : pandas.DataFrame
        With a column `study`, and any of `JBI_ITEMS` and `certainty`; blank means not judged.

    Returns
    -------
    pandas.DataFrame
        `study`, `risk_of_bias` (how many of the ten items have which answer, and which have a no),
        `certainty`, as text; `"not assessed"` where nothing is filled.
    """
    rows, levels = [], _texts(table, "certainty")
    for study, own, level in zip(table["study"], jbi_answers(table), levels, strict=True):
        answers = Counter(own)
        blank = answers.pop("", 0)
        which = {"no": f" ({items_refused(own)})"}
        said = [f"{number} {answer}{which.get(answer, '')}" for answer, number in answers.items()]
        said += [f"{blank} {NOT_ASSESSED}"] if said and blank else []
        rows.append((study, ", ".join(said) or NOT_ASSESSED, level or NOT_ASSESSED))
    return pd.DataFrame(rows, columns=["study", "risk_of_bias", "certainty"])


def jbi_answers(table: pd.DataFrame) -> list[list[str]]:
    """Return each study's answers to `JBI_ITEMS`; `""` where nobody has judged.

    Raises
    ------
    DfspError
        An answer that the checklist does not have.
    """
    columns = (_texts(table, name) for name in JBI_ITEMS)
    found = [[text.lower() for text in own] for own in zip(*columns, strict=True)]
    for study, own in zip(table["study"], found, strict=True):
        for name, answer in zip(JBI_ITEMS, own, strict=True):
            if answer and answer not in JBI_ANSWERS:
                raise DfspError(f"{name} of {study}: {unknown([answer], JBI_ANSWERS)}")
    return found


def items_refused(answers: Sequence[str]) -> str:
    """Name the items that are answered no."""
    asked = zip(JBI_ASKS, answers, strict=True)
    items = (f"item {i}, {asks}" for i, (asks, own) in enumerate(asked, 1) if own == "no")
    return "; ".join(items)


def high_risk(table: pd.DataFrame) -> dict[str, str]:
    """Return the studies of which an item of the checklist is answered no, and which items are.

    See Also
    --------
    HIGH_RISK : Whose convention that is.
    """
    answers = zip(table["study"], jbi_answers(table), strict=True)
    return {study: items_refused(own) for study, own in answers if "no" in own}


def sum_up(studies: Sequence[Mapping[str, str]] | None, column: str) -> str:
    """Say of how many studies something is judged.

    Parameters
    ----------
    studies : sequence of mappings, or None
        Rows of `appraise`; `None` if none were recorded.
    column : {"risk_of_bias", "certainty"}
    """
    if not studies:
        return NOT_RECORDED
    judged = [study[column] for study in studies if study[column] != NOT_ASSESSED]
    partly = sum(NOT_ASSESSED in each for each in judged)
    if not judged:
        return NOT_ASSESSED
    of = f"of {len(studies)} studies"
    if not partly:
        return f"complete for {len(judged)} {of}"
    return f"complete for {len(judged) - partly}, partly for {partly} {of}"


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    cells = table[column].tolist() if column in table else [None] * len(table)
    return ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
