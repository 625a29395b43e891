"""Risk of bias and certainty of each study, where somebody has judged them; never filled by us.

Columns of the cohorts table, or of one's own table: `jbi_1` to `jbi_10` for the items of the JBI
critical appraisal checklist for case series (Munn 2020, doi:10.11124/JBISRIR-D-19-00099), and
`certainty`.
"""

from collections import Counter

import pandas as pd

JBI_ITEMS = tuple(f"jbi_{number}" for number in range(1, 11))
JBI_ANSWERS = ("yes", "no", "unclear", "not applicable")
CERTAINTIES = ("high", "moderate", "low", "very low")
NOT_ASSESSED = "not assessed"


def appraise(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up what is judged of each study.

    Parameters
    ----------
    table : pandas.DataFrame
        With a column `study`, and any of `JBI_ITEMS` and `certainty`; blank means not judged.

    Returns
    -------
    pandas.DataFrame
        `study`, `risk_of_bias` (how many items have which answer), `certainty`, as text; `"not
        assessed"` where nothing is filled.
    """
    items = [name for name in JBI_ITEMS if name in table]
    rows = []
    for row in table.to_dict("records"):
        answers = Counter(_text(row[name]) for name in items)
        blank = answers.pop("", 0)
        said = [f"{number} {answer}" for answer, number in answers.items()]
        said += [f"{blank} {NOT_ASSESSED}"] if said and blank else []
        certainty = _text(row.get("certainty", ""))
        bias = ", ".join(said) or NOT_ASSESSED
        rows.append((row["study"], bias, certainty or NOT_ASSESSED))
    return pd.DataFrame(rows, columns=["study", "risk_of_bias", "certainty"])


def _text(cell: object) -> str:
    return "" if cell is None or cell != cell else str(cell).strip()
