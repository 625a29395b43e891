"""What a run answers of two reporting guidelines, from its own cells and record.

The Bayesian analysis reporting guidelines, BARG (Kruschke 2021, doi:10.1038/s41562-021-01177-7),
by the steps and letters of its Table 1 (step 6 without letters), and those items of PRISMA 2020
(Page 2021, doi:10.1136/bmj.n71) that a synthesis can speak to. An item is answered only by a cell
that was executed and shows something, by a text of the notebook, or by the record of the run;
everything else is "not done".
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dfsp.evidence.appraisals import NOT_ASSESSED, NOT_RECORDED, sum_up

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
        The answer from the record of the run, where no cell answers; `""` if it holds none.
    beside : callable, optional
        What the record adds to the answer of a cell.
    """

    guideline: str
    number: str
    asks: str
    says: str = ""
    code: str = ""
    text: str = ""
    recorded: Callable[[Record], str] | None = None
    beside: Callable[[Record], str] | None = None


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


def _command(record: Record) -> str:
    given = " ".join(
        f"-p {shlex.quote(name)} {shlex.quote(str(value))}"
        for name, value in record["parameters"].items()
    )
    return (
        f"in the folder of the notebook: dfsp run {shlex.quote(record['notebook'])} {given}".strip()
    )


def _draws(record: Record) -> str:
    return f"kept: {record['draws']}" if record["draws"] else ""


def _bias(record: Record) -> str:
    return sum_up(record["appraisal"], "risk_of_bias")


def _bias_beside(record: Record) -> str:
    return f"; risk of bias {_bias(record)}"


def _certainty(record: Record) -> str:
    return f"per study: {sum_up(record['appraisal'], 'certainty')}; per outcome: {NOT_DONE}"


# Where a notebook checks its parameters, `dfsp.NAME_analysis(` is no analysis of that name.
_CHECKING = r"dfsp\.\w+_analysis\("

_COUNTS = (
    r"(?m:^(print\()?(counts|evidence)\)?$)"
    r"|dfsp\.(count|load_evidence|read_table|totals\.total_of)\(|\.(observed|question_counts)\(\)"
)
_POSTERIOR = (
    r"fit\.(summary|studies|describe)\b|\.(rates|coefficients)\b|\.contrasts\("
    r"|\b(slope|average|any_event|severe)\.describe\("
)
_FIGURE = r"dfsp\.plots\.(?!prior\b)\w+\("
_PRIORS = (
    r"dfsp\.(categories\.tau_sensitivity|multiverse\.fit|sensitivity\.(prior_grid|power_scaling))\("
    r"|\beverything\.describe\("
)
_MODELS = r"dfsp\.(sensitivity\.average|regression\.bayes_factors)\("
_OTHERS = (
    rf"{_PRIORS}|\.leave_one_out\(\)"
    r"|dfsp\.(sensitivity\.(leave_two_out|all_subsets)|totals\.scenarios)\("
)
_COVARIATES = (
    r"dfsp\.(regression\.(regress|confounding)|plots\.dose)\(|\.contrasts\(|\bslope\.describe\("
)
_BINOMIAL = r"\\mathrm\{Binomial\}"

ITEMS = (
    Item("BARG", "Preamble A", "why Bayesian", "said in the text", text=r"(?i)\bwhy bayes"),
    Item("BARG", "Preamble B", "goals of the analysis", "the question", text=r"\*\*Question\.\*\*"),
    Item("BARG", "Step 1 A", "data variables", "the counts and where they come from", _COUNTS),
    Item("BARG", "Step 1 B", "likelihood and parameters", "the model's equations", text=_BINOMIAL),
    Item(
        "BARG",
        "Step 1 C",
        "prior distribution",
        "the model as computed",
        r"(?m:^(print\()?model\)?$)|\.priors\(\)",
    ),
    Item(
        "BARG",
        "Step 1 C",
        "reasons for the prior distribution",
        "said in the text",
        text=r"(?i)\bpriors?\b([^.\n]|\n(?!\n))*\b(advice|because|meant for|justif\w*|reasons?)\b",
    ),
    Item("BARG", "Step 1 D", "formal specification", "the model's equations", text=_BINOMIAL),
    Item(
        "BARG",
        "Step 1 E",
        "prior predictive check",
        "a new study's rate under the prior",
        r"dfsp\.(plots\.prior|sensitivity\.prior_grid)\(|\.priors\(\)",
    ),
    Item("BARG", "Step 2 A", "software", recorded=_software),
    Item("BARG", "Step 2 B", "convergence of the chains", recorded=_chains("R-hat", "divergen")),
    Item("BARG", "Step 2 C", "resolution of the chains", recorded=_chains("effective sample size")),
    Item("BARG", "Step 2 D", "if not MCMC: accuracy", recorded=_checks("exact:")),
    Item(
        "BARG",
        "Step 3 A",
        "posterior predictive check",
        "replicated beside observed counts",
        r"dfsp\.(plots\.predictive|ordinal\.proportional_odds)\(|\.predictive_check\(\)",
    ),
    Item("BARG", "Step 3 B", "summary of the posterior", "estimates with intervals", _POSTERIOR),
    Item(
        "BARG",
        "Step 3 C",
        "Bayes factors and posterior model probabilities",
        "models weighed by their marginal likelihoods",
        _MODELS,
    ),
    Item(
        "BARG",
        "Step 4 A",
        "why decisions are made, and by which criteria",
        "when a planned trial succeeds",
        r"dfsp\.planning\.plan\(",
    ),
    Item("BARG", "Step 4 B", "loss function"),
    Item(
        "BARG",
        "Step 4 C",
        "limits of a region of practical equivalence",
        "the margin within which rates are practically equal",
        r"\.contrasts\(",
    ),
    Item("BARG", "Step 4 D", "thresholds of Bayes factors"),
    Item(
        "BARG",
        "Step 4 E",
        "estimated values beside decisions",
        "estimates with intervals",
        _POSTERIOR,
    ),
    Item("BARG", "Step 5 A", "sensitivity: broad priors", "other priors", _PRIORS),
    Item("BARG", "Step 5 B", "sensitivity: informed priors"),
    Item("BARG", "Step 5 C", "sensitivity: default priors"),
    Item(
        "BARG",
        "Step 5 D",
        "sensitivity: Bayes factors and model probabilities",
        "a grid of priors of the coefficient",
        r"dfsp\.regression\.bayes_factors\(",
    ),
    Item(
        "BARG",
        "Step 5 E",
        "sensitivity: decisions",
        "the share of analyses that support a threshold",
        r"\beverything\.describe\(|\.share_above\(",
    ),
    Item("BARG", "Step 6", "software and installation", recorded=_software),
    Item("BARG", "Step 6", "scripts that people can read", recorded=_script),
    Item("BARG", "Step 6", "scripts that run", recorded=_command),
    Item("BARG", "Step 6", "data and other files", recorded=_data),
    Item("BARG", "Step 6", "seeds of random numbers", recorded=_seed),
    Item("BARG", "Step 6", "chains or draws", recorded=_draws),
    Item("BARG", "Step 6", "figures as files", recorded=_figures),
    Item(
        "PRISMA 2020",
        "11",
        "methods: risk of bias, with which tool and by whom",
        "said in the text",
        text=r"\b(JBI|ROBINS-I|Newcastle-Ottawa)\b",
    ),
    Item("PRISMA 2020", "13a", "which studies are in the synthesis", "the counts", _COUNTS),
    Item(
        "PRISMA 2020",
        "13b",
        "preparing the data: missing and conflicting counts",
        "the rule for patients not evaluable, cohorts left out, sources that differ",
        r"(?m:^(print\()?counts\)?$)|evidence\.conflicts|\.uninformed\(\)|\.missing_outcomes\(",
    ),
    Item(
        "PRISMA 2020",
        "13c",
        "tables and figures of the results",
        "the figure",
        _FIGURE,
        recorded=_figures,
    ),
    Item("PRISMA 2020", "13d", "methods of synthesis", "the model's equations", text=_BINOMIAL),
    Item(
        "PRISMA 2020",
        "13e",
        "methods: why results differ between studies",
        "covariates or subgroups",
        _COVARIATES,
    ),
    Item(
        "PRISMA 2020",
        "13f",
        "methods: sensitivity analyses",
        "studies left out, or other choices",
        _OTHERS,
    ),
    Item("PRISMA 2020", "14", "methods: bias from missing results"),
    Item(
        "PRISMA 2020",
        "15",
        "methods: certainty of the evidence, with which tool",
        "said in the text",
        text=r"\bGRADE\b",
    ),
    Item("PRISMA 2020", "18", "risk of bias of each study", recorded=_bias),
    Item(
        "PRISMA 2020",
        "20a",
        "studies of each synthesis: characteristics and risk of bias",
        "counts",
        rf"fit\.studies|dfsp\.plots\.forest\(|{_COUNTS}",
        beside=_bias_beside,
    ),
    Item(
        "PRISMA 2020",
        "20b",
        "results of the synthesis, and heterogeneity",
        "rates with intervals, and how much studies differ",
        r"\.heterogeneity\(|fit\.(summary|describe)\b|\.rates\(\)|\bslope\.describe\(",
    ),
    Item(
        "PRISMA 2020",
        "20c",
        "results: why results differ between studies",
        "covariates or subgroups",
        _COVARIATES,
    ),
    Item(
        "PRISMA 2020",
        "20d",
        "results: sensitivity analyses",
        "studies left out, or other choices",
        _OTHERS,
    ),
    Item("PRISMA 2020", "21", "bias from missing results"),
    Item("PRISMA 2020", "22", "certainty of the evidence", recorded=_certainty),
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
    rows = [(*item[:3], *_answer(item, cells, record)) for item in ITEMS]
    return pd.DataFrame(rows, columns=["guideline", "item", "asks", "answer", "cell"])


def _answer(item: Item, cells: Sequence[Mapping[str, Any]], record: Record) -> tuple[str, str]:
    """Return the answer and where it is shown."""
    shown = next((cell for cell in cells if _answers(item, cell)), None)
    if shown is not None:
        return item.says + (item.beside(record) if item.beside else ""), shown["id"]
    said = item.recorded(record) if item.recorded else ""
    if not said:
        return NOT_DONE, ""
    is_open = said.removeprefix("per study: ").startswith((NOT_ASSESSED, NOT_RECORDED))
    return said, "" if is_open else "record"


def _answers(item: Item, cell: Mapping[str, Any]) -> bool:
    if cell["cell_type"] == "markdown":
        return bool(item.text and re.search(item.text, cell["source"]))
    if cell["cell_type"] != "code" or not item.code:
        return False
    if not re.search(item.code, re.sub(_CHECKING, "(", cell["source"])):
        return False
    outputs = cell["outputs"]
    return bool(outputs) and all(output["output_type"] != "error" for output in outputs)
