"""Move a choice, see the answer move: widgets over plain functions, from the exact engine.

`explain` and `Picture` need no browser; `explorer` puts ipywidgets around them.
"""

import io
import json
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dfsp.errors import DfspError
from dfsp.evidence import Evidence, load_evidence
from dfsp.figures import BLUE, DARK, FONT, GREY, ORANGE
from dfsp.fitting import Fit, fit
from dfsp.models import Model
from dfsp.outcomes import OUTCOMES, count
from dfsp.predictions import prior_of
from dfsp.priors import TAU_FAMILIES, Normal, tau_prior
from dfsp.summaries import describe_heterogeneity
from dfsp.tables import Counts

if TYPE_CHECKING:
    import ipywidgets

DEFAULTS: dict[str, Any] = {
    "evidence_set": "reconciled",
    "outcome": "objective_response",
    "not_evaluable": "no event",
    "drop": (),
    "mu_sd": 2.0,
    "tau_family": "half-normal",
    "tau_scale": 1.0,
}
RULES = ("no event", "excluded", "event")


def code_line(
    *,
    evidence_set: str,
    outcome: str,
    not_evaluable: str,
    drop: tuple[str, ...],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
) -> str:
    """Return the papermill-style command that reproduces a state of the explorer.

    Parameters
    ----------
    evidence_set, outcome, not_evaluable, drop
        As in `dfsp.count`.
    mu_sd, tau_scale : float
        Scales of the priors, logit scale.
    tau_family : str
    """
    values = {
        "evidence_set": evidence_set,
        "outcome": outcome,
        "not_evaluable": not_evaluable,
        "drop": ", ".join(drop),
        "mu_sd": mu_sd,
        "tau_family": tau_family,
        "tau_scale": tau_scale,
    }
    given = (f"-p {k} {json.dumps(v, ensure_ascii=False)}" for k, v in values.items() if v != "")
    return f"dfsp run notebooks/02_response.ipynb {' '.join(given)}"


class Picture:
    """A forest plot and the new-study density whose artists are moved, not redrawn.

    Parameters
    ----------
    most : int
        Studies that it has room for.
    """

    def __init__(self, most: int) -> None:
        self.figure: Figure
        self.figure, (self.left, self.right) = plt.subplots(1, 2, figsize=(10, 4))
        # A fixed layout: arranging the panels anew would cost more than the fit
        self.figure.subplots_adjust(left=0.2, right=0.98, bottom=0.14, top=0.97)
        self.most = most
        rows = np.arange(most + 1)
        self.spans = self.left.hlines(rows, 0, 0, color=BLUE)
        self.rates = self.left.scatter(np.zeros(most + 1), rows, color=BLUE, zorder=3)
        self.seen = self.left.scatter(np.zeros(most), rows[:-1], color=DARK, marker="|", s=90)
        (self.after,) = self.right.plot([], [], color=ORANGE, label="new-study rate")
        (self.before,) = self.right.plot([], [], color=GREY, ls="--", label="before any study")
        self.left.set(xlim=(0, 1), ylim=(most + 0.6, -0.6))
        self.left.set_xlabel("rate (bar: observed; dot: under the model)", fontsize=FONT)
        self.right.set(xlim=(0, 1))
        self.right.set_xlabel("rate of a new study", fontsize=FONT)
        self.right.set_ylabel("density", fontsize=FONT)
        self.right.legend(frameon=False, fontsize=FONT)

    def show(self, result: Fit) -> None:
        """Move the artists to what `result` (with the exact engine) says."""
        table = result.studies
        new = result.summary.loc["new_study_rate"]
        number = len(table)
        rows = np.append(np.arange(number), number)
        low, middle, high = (
            np.append(table[q].to_numpy(), new[q]) for q in ("q2.5", "q50", "q97.5")
        )
        self.spans.set_segments(
            [np.array([[a, y], [b, y]]) for a, b, y in zip(low, high, rows, strict=True)]
        )
        self.rates.set_offsets(np.column_stack([middle, rows]))
        self.seen.set_offsets(np.column_stack([table["events"] / table["total"], rows[:-1]]))
        self.left.set_yticks(rows, [*table["study"], "new study"], fontsize=FONT)
        self.left.set_ylim(number + 0.6, -0.6)
        x, density = result.exact.new_study_rate.density()
        self.after.set_data(x, density)
        x, prior = prior_of(result.model).new_study_rate.density()
        self.before.set_data(x, prior)
        self.right.set_ylim(0, 1.1 * float(density.max()))

    def png(self) -> bytes:
        """Return the picture as PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()


def answer(
    *,
    evidence_set: str,
    outcome: str,
    not_evaluable: str,
    drop: tuple[str, ...],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
) -> Fit:
    """Return the exact fit of a state of the explorer.

    Parameters
    ----------
    evidence_set, outcome, not_evaluable, drop, mu_sd, tau_family, tau_scale
        As in `code_line`.

    Raises
    ------
    DfspError
        A choice that cannot be used, or no study left.
    """
    model = Model(mu=Normal(0, mu_sd), tau=tau_prior(tau_family, scale=tau_scale))
    return fit(_counts(evidence_set, outcome, not_evaluable, tuple(drop)), model)


@lru_cache(maxsize=64)
def _counts(evidence_set: str, outcome: str, rule: Any, drop: tuple[str, ...]) -> Counts:
    return count(_evidence(evidence_set), outcome, not_evaluable=rule, drop=drop)


@lru_cache(maxsize=8)
def _evidence(name: str) -> Evidence:
    return load_evidence(name)


def explorer(*, evidence_set: str = "reconciled", tau_scale: float = 1.0) -> "ipywidgets.VBox":
    """Return widgets that show the answer to each choice, for JupyterLab.

    Parameters
    ----------
    evidence_set : str
    tau_scale : float
        Where the slider of tau's prior scale starts (logit scale), 0.1 to 3.

    Raises
    ------
    DfspError
        The set is not known.
    """
    import ipywidgets as widgets

    cohorts = answer(**DEFAULTS | {"evidence_set": evidence_set}).counts.table["study"].tolist()
    picture = Picture(len(cohorts))
    controls = {
        "outcome": widgets.Dropdown(options=list(OUTCOMES), value="objective_response"),
        "not_evaluable": widgets.Dropdown(options=RULES),
        "tau_family": widgets.Dropdown(options=list(TAU_FAMILIES), value="half-normal"),
        "tau_scale": widgets.FloatSlider(value=tau_scale, min=0.1, max=3, step=0.1),
        "mu_sd": widgets.FloatSlider(value=2.0, min=0.5, max=5, step=0.1),
        "drop": widgets.SelectMultiple(options=cohorts, rows=5),
    }
    for name, control in controls.items():
        control.description = name
    image, sentence, line = widgets.Image(), widgets.HTML(), widgets.HTML()

    def update(_: object = None) -> None:
        state = {name: control.value for name, control in controls.items()}
        state["evidence_set"] = evidence_set
        try:
            result = answer(**state)
        except DfspError as error:
            sentence.value = escape(str(error))
            return
        picture.show(result)
        image.value = picture.png()
        sentence.value = escape(describe_heterogeneity(result))
        line.value = f"<code>{escape(code_line(**state))}</code>"

    for control in controls.values():
        control.observe(update, names="value")
    update()
    plt.close(picture.figure)
    return widgets.VBox([*controls.values(), image, sentence, line])
