"""What the notebooks' parameters mean, and whether their values can be used.

Each notebook hands all its parameters to one function here, in the cell after they are set;
`dfsp run` calls the same function before it starts a kernel.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from dfsp.errors import DfspError, listed, unknown
from dfsp.evidence.load import Evidence, load_evidence
from dfsp.evidence.outcomes import NotEvaluable, count
from dfsp.evidence.tables import Counts, read_table, without
from dfsp.fitting import Engine
from dfsp.model.effects import NormalEffects, effects_of
from dfsp.model.model import Model
from dfsp.model.priors import Normal, tau_prior
from dfsp.project import project_folder

EXPLORER_START: dict[str, Any] = {
    "evidence_set": "reconciled",
    "folder": "",
    "table": "",
    "outcome": "objective_response",
    "not_evaluable": "no event",
    "drop": (),
    "mu_sd": 2.0,
    "tau_family": "half-normal",
    "tau_scale": 1.0,
    "effects": "normal",
}


def evidence_analysis(*, evidence_set: str, folder: str = "") -> Evidence:
    """Return the evidence that `01_evidence` is about.

    Parameters
    ----------
    evidence_set : str
    folder : str
        A folder with one's own evidence tables; a relative path starts at the project's folder.
        The project's own if empty.

    Raises
    ------
    DfspError
        The set is not known or its tables are faulty.
    """
    return _evidence(evidence_set, folder)


def response_analysis(
    *,
    evidence_set: str,
    table: str,
    outcome: str,
    not_evaluable: NotEvaluable | Literal[""],
    drop: str | Sequence[str],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    draws: int,
    seed: int,
    engine: Engine,
    folder: str = "",
    effects: str = "normal",
) -> tuple[Counts, Model]:
    """Return the counts and the model that `02_response` is about.

    Parameters
    ----------
    evidence_set, outcome, not_evaluable, drop
        As in `dfsp.count`; `drop` holds names separated by `|`, or is a list of them.
    table : str
        Instead: a CSV with columns study, events, total. A relative path starts at the project's
        folder. `outcome` and `not_evaluable` are then left empty.
    mu_sd, tau_scale : float
        Scales of the priors on the logit scale.
    tau_family : str
    draws, seed : int
    engine : {"exact", "nuts", "both"}
    folder : str
        As in `evidence_analysis`.
    effects : str
        Family of the study effects with its default parameters, see `dfsp.Model`.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults: list[str] = []
    if engine not in get_args(Engine):
        faults.append(f"engine = {engine!r}: use one of {', '.join(get_args(Engine))}")
    elif engine == "nuts":
        faults.append("engine = 'nuts': this notebook needs the exact engine; use exact or both")
    faults += _whole_faults(draws=(draws, 100), seed=(seed, 0))
    model = _model(mu_sd, tau_family, tau_scale, faults, effects)
    counts = _counts(evidence_set, table, outcome, not_evaluable, drop, faults, folder)
    if counts is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    return counts, model


def categories_analysis(
    *,
    evidence_set: str,
    not_evaluable: str,
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    draws: int,
    seed: int,
    engine: str,
) -> tuple[Evidence, Model]:
    """Return the evidence and the model of every question that `03_categories` is about.

    Parameters
    ----------
    evidence_set, mu_sd, tau_family, tau_scale, draws, seed
        As in `response_analysis`.
    not_evaluable : {"no event", "excluded"}
    engine : {"exact", "both"}
        `"both"` samples the cumulative model too.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(draws=(draws, 100), seed=(seed, 0))
    if engine not in ("exact", "both"):
        faults.append(f"engine = {engine!r}: use exact or both")
    if not_evaluable not in ("no event", "excluded"):
        faults.append(
            f"not_evaluable = {not_evaluable!r}: use no event or excluded; a patient who could not "
            "be evaluated is in no category"
        )
    model = _model(mu_sd, tau_family, tau_scale, faults)
    evidence = None
    try:
        evidence = load_evidence(evidence_set)
        if not (evidence.rows["measure"] == "response").any():
            faults.append(f"evidence_set = {evidence_set!r}: it has no response counts")
    except DfspError as error:
        faults.append(str(error))
    if evidence is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    return evidence, model


def dose_analysis(
    *,
    evidence_set: str,
    outcome: str,
    not_evaluable: NotEvaluable,
    drop: str | Sequence[str],
    coefficient_sd: float,
    margin: float,
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    draws: int,
    seed: int,
    engine: str,
) -> tuple[Counts, Model, Normal]:
    """Return the counts, the model and the coefficients' prior that `04_dose` is about.

    Parameters
    ----------
    evidence_set, outcome, not_evaluable, drop, mu_sd, tau_family, tau_scale, draws, seed
        As in `response_analysis`.
    coefficient_sd : float
        Standard deviation of the normal prior of every coefficient, logit scale.
    margin : float
        Rates closer than this are practically equal; between 0 and 1.
    engine : {"exact", "both"}

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(draws=(draws, 100), seed=(seed, 0))
    if engine not in ("exact", "both"):
        faults.append(f"engine = {engine!r}: use exact or both")
    if outcome == "surgery":
        faults.append(
            "outcome = 'surgery': planned and salvage surgery are different outcomes and are not "
            "averaged; 05_safety_and_surgery shows them apart"
        )
    if not isinstance(margin, float) or not 0 < margin < 1:
        faults.append(f"margin = {margin!r}: give a difference of rates between 0 and 1")
    coefficient = Normal(0, 1)
    try:
        coefficient = Normal(0, coefficient_sd)
    except DfspError as error:
        faults.append(f"coefficient_sd: {error}")
    model = _model(mu_sd, tau_family, tau_scale, faults)
    counts = _counts(evidence_set, "", outcome, not_evaluable, drop, faults)
    if counts is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    return counts, model, coefficient


def safety_analysis(
    *,
    evidence_set: str,
    totals_set: str,
    patients: int,
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
) -> tuple[Evidence, Evidence, Model]:
    """Return per-cohort evidence, that of the totals, and the model of `05_safety_and_surgery`.

    Parameters
    ----------
    evidence_set, totals_set : str
        Sets with surgery counts by cohort, and with the totals of adverse events.
    patients : int
        Newly treated, 1 or more.
    mu_sd, tau_family, tau_scale
        As in `response_analysis`.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(patients=(patients, 1))
    model = _model(mu_sd, tau_family, tau_scale, faults)
    found = []
    for name, value, measure in (
        ("evidence_set", evidence_set, "surgery"),
        ("totals_set", totals_set, "any_adverse_event"),
    ):
        try:
            evidence = load_evidence(value)
            if not (evidence.rows["measure"] == measure).any():
                faults.append(f"{name} = {value!r}: it has no counts of {measure}")
            found.append(evidence)
        except DfspError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise listed("parameters", "these cannot be used", faults)
    return found[0], found[1], model


def robustness_analysis(
    *,
    evidence_set: str,
    table: str = "",
    outcome: str,
    not_evaluable: NotEvaluable | Literal[""],
    study: str,
    threshold: float,
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    seed: int,
    folder: str = "",
) -> tuple[Evidence | Counts, Counts, Model, Path | None]:
    """Return what `06_robustness` starts from.

    Parameters
    ----------
    evidence_set, table, outcome, not_evaluable, mu_sd, tau_family, tau_scale, seed, folder
        As in `response_analysis`.
    study : str
        The study that is marked in the picture of all subsets; empty: the one that moves the
        typical rate most.
    threshold : float
        A rate between 0 and 1.

    Returns
    -------
    source : Evidence or Counts
        The evidence; with a table of one's own its counts.
    counts : Counts
    model : Model
    place : Path or None
        The folder of the evidence; None for the project's own.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(seed=(seed, 0))
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        faults.append(f"threshold = {threshold!r}: give a rate between 0 and 1")
    if tau_family == "fixed":
        faults.append("tau_family = 'fixed': a fixed tau has no sensitivity; use another family")
    model = _model(mu_sd, tau_family, tau_scale, faults)
    counts = _counts(evidence_set, table, outcome, not_evaluable, "", faults, folder)
    name: object = study  # a notebook's parameters are of any type
    if not isinstance(name, str):
        faults.append(f"study = {study!r}: give a text")
    elif counts is not None and study and study not in set(counts.table["study"]):
        faults.append(f"study: {unknown([study], counts.table['study'])}")
    if counts is not None and len(counts.table) < 3:
        faults.append(f"{len(counts.table)} studies: leaving two out needs three or more")
    if counts is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    source = counts if table else _evidence(evidence_set, folder)
    return source, counts, model, project_folder() / folder if folder else None


def calibration_analysis(
    *,
    evidence_set: str,
    table: str,
    outcome: str,
    not_evaluable: NotEvaluable | Literal[""],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    data_sets: int,
    through_fit: int,
    at_each_truth: int,
    seed: int,
) -> tuple[Counts, Model]:
    """Return the design and the model that `07_calibration` is about.

    Parameters
    ----------
    evidence_set, table, outcome, not_evaluable, mu_sd, tau_family, tau_scale, seed
        As in `response_analysis`; the events of the counts are not used.
    data_sets, through_fit, at_each_truth : int
        How many data sets are simulated.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(
        data_sets=(data_sets, 100),
        through_fit=(through_fit, 100),
        at_each_truth=(at_each_truth, 1),
        seed=(seed, 0),
    )
    model = _model(mu_sd, tau_family, tau_scale, faults)
    if tau_family == "fixed":
        faults.append("tau_family = 'fixed': the control needs a prior of tau; use another family")
    counts = _counts(evidence_set, table, outcome, not_evaluable, "", faults)
    if counts is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    return counts, model


def explorer_analysis(
    *, evidence_set: str, tau_scale: float, folder: str = "", table: str = ""
) -> dict[str, Any]:
    """Return the state that `explore` starts from.

    Parameters
    ----------
    evidence_set, folder, table
        As in `response_analysis`; a table has no outcome and no rule for patients not evaluable.
    tau_scale : float
        Scale of the half-normal prior of tau (logit scale), 0.1 to 3.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults: list[str] = []
    if not (_number(tau_scale) and 0.1 <= tau_scale <= 3):
        faults.append(f"tau_scale = {tau_scale!r}: give a number from 0.1 to 3")
    start = EXPLORER_START | {"evidence_set": evidence_set, "tau_scale": tau_scale}
    start |= {"folder": folder, "table": table}
    if table:
        start |= {"evidence_set": "", "outcome": "", "not_evaluable": ""}
    outcome, rule = start["outcome"], start["not_evaluable"]
    _counts(start["evidence_set"], table, outcome, rule, "", faults, folder)
    if faults:
        raise listed("parameters", "these cannot be used", faults)
    return start


def planning_analysis(
    *,
    evidence_set: str,
    table: str,
    outcome: str,
    not_evaluable: str,
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    robust_weight: float,
    n: int,
    p0: float,
    folder: str = "",
    drop: str | Sequence[str] = "",
    effects: str = "normal",
) -> tuple[Counts, Model]:
    """Return the counts and the model that `08_planning` starts from.

    Parameters
    ----------
    evidence_set, table, outcome, not_evaluable, mu_sd, tau_family, tau_scale, folder, drop, effects
        As in `response_analysis`.
    robust_weight : float
        Prior probability that the next trial is unlike the evidence, 0 to below 1.
    n : int
        Patients of the planned trial, 1 or more.
    p0 : float
        Rate to be exceeded, between 0 and 1.

    Raises
    ------
    DfspError
        With every parameter that cannot be used.
    """
    faults = _whole_faults(n=(n, 1))
    for name, value, good, allowed in (
        (
            "robust_weight",
            robust_weight,
            _number(robust_weight) and 0 <= robust_weight < 1,
            "from 0 to below 1",
        ),
        ("p0", p0, _number(p0) and 0 < p0 < 1, "between 0 and 1"),
    ):
        if not good:
            faults.append(f"{name} = {value!r}: give a number {allowed}")
    model = _model(mu_sd, tau_family, tau_scale, faults, effects)
    counts = _counts(evidence_set, table, outcome, not_evaluable, drop, faults, folder)
    if counts is None or faults:
        raise listed("parameters", "these cannot be used", faults)
    return counts, model


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole_faults(**limits: tuple[int, int]) -> list[str]:
    """Say which values are no whole numbers of at least their limit; name=(value, limit)."""
    return [
        f"{name} = {value!r}: give a whole number of {least} or more"
        for name, (value, least) in limits.items()
        if not isinstance(value, int) or isinstance(value, bool) or value < least
    ]


def _model(
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    faults: list[str],
    effects: str = "normal",
) -> Model:
    """Return the model; what cannot be used is added to `faults`."""
    try:
        own = effects_of(effects)
    except DfspError as error:
        faults.append(f"effects: {error}")
        own = NormalEffects()
    try:
        return Model(Normal(0, mu_sd), tau_prior(tau_family, scale=tau_scale), own)
    except DfspError as error:
        faults.append(f"mu_sd, tau_family, tau_scale: {error}")
        return Model()


def _counts(
    evidence_set: str,
    table: str,
    outcome: str,
    not_evaluable: str,
    drop: str | Sequence[str],
    faults: list[str],
    folder: str = "",
) -> Counts | None:
    """Return the counts; what cannot be used is added to `faults`."""
    texts = {
        "evidence_set": evidence_set,
        "table": table,
        "outcome": outcome,
        "not_evaluable": not_evaluable,
        "drop": drop,
        "folder": folder,
    }
    if isinstance(drop, (list, tuple)) and all(isinstance(name, str) for name in drop):
        del texts["drop"]
    no_texts = [f"{n} = {v!r}: give a text" for n, v in texts.items() if not isinstance(v, str)]
    if no_texts:
        faults += no_texts
        return None
    try:
        if table:
            if outcome or not_evaluable:
                raise DfspError(
                    "with a table of one's own, outcome and not_evaluable say nothing: "
                    "set both to an empty string"
                )
            if folder:
                raise DfspError("table and folder are both given; leave one of them empty")
            return without(read_table(project_folder() / table), drop)
        rule = cast(NotEvaluable, not_evaluable)
        return count(_evidence(evidence_set, folder), outcome, not_evaluable=rule, drop=drop)
    except DfspError as error:
        faults.append(str(error))
        return None


def _evidence(evidence_set: str, folder: str) -> Evidence:
    if not isinstance(folder, str):
        raise DfspError(f"folder = {folder!r}: give a text")
    return load_evidence(evidence_set, folder=project_folder() / folder if folder else None)


ANALYSES: Mapping[str, Callable[..., Any]] = {
    "01_evidence": evidence_analysis,
    "02_response": response_analysis,
    "03_categories": categories_analysis,
    "04_dose": dose_analysis,
    "05_safety_and_surgery": safety_analysis,
    "06_robustness": robustness_analysis,
    "07_calibration": calibration_analysis,
    "08_planning": planning_analysis,
    "explore": explorer_analysis,
}
"""By notebook, the function that its second cell calls with all its parameters."""
