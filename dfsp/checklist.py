"""What a run answers of two reporting guidelines, from its own cells and record.

The Bayesian analysis reporting guidelines, BARG (Kruschke 2021, doi:10.1038/s41562-021-01177-7), by
their steps, and those items of PRISMA 2020 (Page 2021, doi:10.1136/bmj.n71) that a synthesis can
speak to. An item is answered only by a cell that was executed and has an output, by a text of the
notebook, or by the record of the run; everything else is "not done".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dfsp.appraisals import NOT_ASSESSED

NOT_DONE = "not done"

Record = Mapping[str, Any]


class Item(NamedTuple):
    """One item of a guideline, and what answers it.

    Attributes
    ----------
    guideline, number, asks : str
    says : str
        The answer, where a cell or text answers.
    code, text : str
        Regular expressions for the source of a code cell or of a text.
    recorded : callable, optional
        The answer from the record of the run; `""` if it holds none.
    """

    guideline: str
    number: str
    asks: str
    says: str = ""
    code: str = ""
    text: str = ""
    recorded: Callable[[Record], str] | None = None


def _software(record: Record) -> str:
    return ", ".join(f"{name} {number}" for name, number in record["versions"].items())


def _checks(*words: str) -> Callable[[Record], str]:
    def recorded(record: Record) -> str:
        verdict = {True: "passed", False: "FAILED", None: "cannot tell"}
        found = [
            f"{check['name']}: {verdict[check['passed']]}"
            for check in record["checks"]
            if any(word in check["name"] for word in words)
        ]
        return "; ".join(found)

    return recorded


def _chains(*words: str) -> Callable[[Record], str]:
    def recorded(record: Record) -> str:
        exact = "no chains: the exact engine integrates" if record["engine"] == "exact" else ""
        return _checks(*words)(record) or exact

    return recorded


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


def _judged(column: str) -> Callable[[Record], str]:
    def recorded(record: Record) -> str:
        studies = record["appraisal"]
        filled = sum(row[column] != NOT_ASSESSED for row in studies)
        return f"{filled} of {len(studies)} studies assessed" if filled else NOT_ASSESSED

    return recorded


_COUNTS = r"dfsp\.(\w+_analysis|count|load_evidence|read_table)\("
_FIT = r"fit\.(summary|studies)|dfsp\.category_rates\("
_FIGURE = r"dfsp\.(forest|plot_categories)\("
_PRIORS = r"dfsp\.\w*(sensitivit|robust|multiverse)\w*\("
_MODELS = r"dfsp\.(average|bayes_factors)\("
_LEFT_OUT = r"dfsp\.leave_one_out\("
_BINOMIAL = r"\\mathrm\{Binomial\}"

ITEMS = (
    Item("BARG", "Preamble", "why Bayesian", "said in the text", text=r"(?i)\bwhy bayes"),
    Item("BARG", "Preamble", "goals of the analysis", "the question", text=r"\*\*Question\.\*\*"),
    Item("BARG", "Step 1", "data variables", "the counts and where they come from", _COUNTS),
    Item("BARG", "Step 1", "likelihood and parameters", "the model's equations", text=_BINOMIAL),
    Item("BARG", "Step 1", "prior distribution", "the model as computed", r"print\(model\)"),
    Item("BARG", "Step 1", "formal specification", "the model's equations", text=_BINOMIAL),
    Item(
        "BARG",
        "Step 1",
        "prior predictive check",
        "a new study's rate under the prior",
        r"dfsp\.plot_prior\(",
    ),
    Item("BARG", "Step 2", "software", recorded=_software),
    Item("BARG", "Step 2", "convergence of the chains", recorded=_chains("R-hat", "divergen")),
    Item("BARG", "Step 2", "resolution of the chains", recorded=_chains("effective sample size")),
    Item("BARG", "Step 2", "if not MCMC: accuracy", recorded=_checks("exact:")),
    Item(
        "BARG",
        "Step 3",
        "posterior predictive check",
        "replicated beside observed counts",
        r"dfsp\.(plot_predictive|predictive_check)\(",
    ),
    Item("BARG", "Step 3", "summary of the posterior", "means and intervals", _FIT),
    Item(
        "BARG",
        "Step 3",
        "Bayes factors and posterior model probabilities",
        "models weighed by their marginal likelihoods",
        _MODELS,
    ),
    Item("BARG", "Step 4", "why decisions are made, and by which criteria"),
    Item("BARG", "Step 4", "loss function"),
    Item(
        "BARG",
        "Step 4",
        "limits of a region of practical equivalence",
        "the margin within which rates are practically equal",
        r"dfsp\.contrasts\(",
    ),
    Item("BARG", "Step 4", "thresholds of Bayes factors"),
    Item("BARG", "Step 4", "estimated values beside decisions", "means and intervals", _FIT),
    Item("BARG", "Step 5", "sensitivity to the prior", "other priors", _PRIORS),
    Item(
        "BARG",
        "Step 5",
        "sensitivity of Bayes factors",
        "a grid of priors of the coefficient",
        r"dfsp\.bayes_factors\(",
    ),
    Item(
        "BARG",
        "Step 5",
        "sensitivity of decisions",
        "the share of analyses that support a threshold",
        r"dfsp\.(describe_multiverse|share_above)\(",
    ),
    Item("BARG", "Step 6", "software and installation", recorded=_software),
    Item("BARG", "Step 6", "scripts", recorded=_script),
    Item("BARG", "Step 6", "data and other files", recorded=_data),
    Item("BARG", "Step 6", "seeds of random numbers", recorded=_seed),
    Item("BARG", "Step 6", "figures as files", recorded=_figures),
    Item("PRISMA 2020", "11", "methods: risk of bias", recorded=_judged("risk_of_bias")),
    Item("PRISMA 2020", "13a", "which studies are in the synthesis", "the counts", _COUNTS),
    Item(
        "PRISMA 2020",
        "13b",
        "preparing the data: missing and conflicting counts",
        "the rule for patients not evaluable, and cohorts left out",
        r"dfsp\.(\w+_analysis|count)\(",
    ),
    Item("PRISMA 2020", "13c", "tables and figures of the results", "the figure", _FIGURE),
    Item("PRISMA 2020", "13d", "methods of synthesis", "the model's equations", text=_BINOMIAL),
    Item(
        "PRISMA 2020",
        "13e",
        "methods: why results differ between studies",
        "covariates or subgroups",
        r"dfsp\.\w*(regress|covariate|dose|subgroup|contrast)\w*\(",
    ),
    Item(
        "PRISMA 2020",
        "13f",
        "methods: sensitivity analyses",
        "studies left out, or other choices",
        f"{_LEFT_OUT}|{_PRIORS}",
    ),
    Item("PRISMA 2020", "14", "methods: bias from missing results"),
    Item("PRISMA 2020", "15", "methods: certainty of the evidence", recorded=_judged("certainty")),
    Item("PRISMA 2020", "18", "risk of bias of each study", recorded=_judged("risk_of_bias")),
    Item(
        "PRISMA 2020",
        "20a",
        "studies of each synthesis",
        "each study's counts and rate",
        r"fit\.studies|dfsp\.(forest|informed)\(",
    ),
    Item(
        "PRISMA 2020",
        "20b",
        "results of the synthesis, and heterogeneity",
        "rates with intervals, and how much studies differ",
        r"describe_heterogeneity\(|fit\.summary|dfsp\.category_rates\(",
    ),
    Item(
        "PRISMA 2020",
        "20c",
        "results: why results differ between studies",
        "covariates or subgroups",
        r"dfsp\.\w*(regress|covariate|dose|subgroup|contrast)\w*\(",
    ),
    Item(
        "PRISMA 2020",
        "20d",
        "results: sensitivity analyses",
        "studies left out, or other choices",
        f"{_LEFT_OUT}|{_PRIORS}",
    ),
    Item("PRISMA 2020", "21", "bias from missing results"),
    Item("PRISMA 2020", "22", "certainty of the evidence", recorded=_judged("certainty")),
)


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
        id of the cell that shows it, `"record"` for the record, `""` where nothing answers.
    """
    rows = []
    for item in ITEMS:
        answer, where = NOT_DONE, ""
        if item.recorded is not None:
            said = item.recorded(record)
            if said:
                answer, where = said, "" if said == NOT_ASSESSED else "record"
        else:
            shown = next((cell for cell in cells if _answers(item, cell)), None)
            if shown is not None:
                answer, where = item.says, shown["id"]
        rows.append((item.guideline, item.number, item.asks, answer, where))
    return pd.DataFrame(rows, columns=["guideline", "item", "asks", "answer", "cell"])


def _answers(item: Item, cell: Mapping[str, Any]) -> bool:
    if cell["cell_type"] == "markdown":
        return bool(item.text and re.search(item.text, cell["source"]))
    if cell["cell_type"] != "code" or not item.code or not re.search(item.code, cell["source"]):
        return False
    outputs = cell["outputs"]
    return bool(outputs) and all(output["output_type"] != "error" for output in outputs)
