"""Move a choice, see the answer move: widgets over plain functions, from the exact engine.

`answer` and `Picture` need no browser; `explorer` puts ipywidgets around them.
"""

import io
import json
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import logit, ndtr
from threadpoolctl import ThreadpoolController

from dfsp.engine.distributions import NOTHING, Distribution, interpolate
from dfsp.engine.posterior import Posterior
from dfsp.engine.predictive import prior_of
from dfsp.errors import DfspError
from dfsp.evidence.load import OUTCOMES, Evidence, load_evidence
from dfsp.evidence.outcomes import count
from dfsp.evidence.tables import Counts, read_table, without
from dfsp.fitting import Fit, fit
from dfsp.model.effects import FAMILIES, NormalEffects, effects_of
from dfsp.model.likelihood import FARTHEST_LOGIT
from dfsp.model.model import Model
from dfsp.model.priors import TAU_FAMILIES, Normal, tau_prior
from dfsp.parameters import Parameters, check
from dfsp.plots.fits import forest
from dfsp.plots.style import BLUE, DARK, FONT, ORANGE, drawn_ends, png_of, save
from dfsp.project import project_folder
from dfsp.rates import Unit, limits

if TYPE_CHECKING:
    import ipywidgets

STATE = (
    "evidence_set", "folder", "table", "outcome", "not_evaluable", "drop", "mu_sd", "tau_family",
    "tau_scale", "effects",
)  # fmt: skip
"""Parameters that make a state of the explorer."""
RULES = ("no event", "excluded", "event")
OF_EVIDENCE = ("evidence_set", "outcome", "not_evaluable")
"""Choices that a table of one's own does not have."""
OF_TAU = ("mu_sd", "tau_family", "tau_scale")
"""Choices that effects with priors of their own do not have."""
MOST_TAU = 3.0
"""End of the axis of tau: there a study one tau off has twentyfold odds."""
BINS = 120
DPI = 96
SAVED = "explored"
"""Name of the figure that the button saves."""
FAR = 18.0  # logit rates between which the prior of a rate is tabulated
LEVELS = 400
"""Quantiles of tau that stand for its prior in the drawing."""


def start(given: Parameters) -> dict[str, Any]:
    """Return the state that the explorer starts from: what is given, and no outcome with a table.

    Raises
    ------
    DfspError
        There is nothing to count.
    """
    state = given.model_dump(include=set(STATE))
    if given.table:
        state |= dict.fromkeys(OF_EVIDENCE, "")
    return check(state).model_dump(include=set(STATE))


def code_line(
    *,
    evidence_set: str,
    folder: str,
    table: str,
    outcome: str,
    not_evaluable: str,
    drop: tuple[str, ...],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    effects: str,
) -> str:
    """Return the line of Python that reproduces a state of the explorer, for a notebook.

    Parameters
    ----------
    evidence_set, outcome, not_evaluable, drop
        As in `dfsp.count`.
    folder, table : str
        One's own, or empty; a relative path starts at the project's folder.
    mu_sd, tau_scale : float
        Scales of the priors, logit scale.
    tau_family, effects : str
        Beta-binomial effects have no mu and tau, and do without priors of them.
    """
    left_out = f", drop={_quoted(list(drop))}" if drop else ""
    own = f", folder={_quoted(str(project_folder() / folder))}" if folder else ""
    counts = (
        f"dfsp.count(dfsp.load_evidence({_quoted(evidence_set)}{own}), {_quoted(outcome)}, "
        f"not_evaluable={_quoted(not_evaluable)}{left_out})"
    )
    if table:
        counts = f"dfsp.read_table({_quoted(str(project_folder() / table))})"
        counts = f"dfsp.without({counts}, {_quoted(list(drop))})" if drop else counts
    choices = [
        f"mu=dfsp.Normal(0, {mu_sd})",
        f"tau=dfsp.tau_prior({_quoted(tau_family)}, scale={tau_scale})",
    ]
    if FAMILIES[effects].own_priors:
        choices = []
    if effects != NormalEffects.family:
        choices.append(f"effects={_quoted(effects)}")
    return f"dfsp.fit({counts}, dfsp.Model({', '.join(choices)}))"


def command_line(**state: Any) -> str:
    """Return the papermill-style command that reproduces a state of the explorer.

    Parameters
    ----------
    **state
        As in `code_line`.
    """
    values = state | {"drop": " | ".join(state["drop"])}
    if FAMILIES[state["effects"]].own_priors:
        values |= {"mu_sd": "", "tau_family": "", "tau_scale": ""}
    if state["table"]:
        values.pop("evidence_set")
    # The notebook's own outcome and rule must go where a table is given
    said = {n for n, v in values.items() if v != "" or (state["table"] and n in OF_EVIDENCE)}
    given = (f"-p {name} {_quoted(value)}" for name, value in values.items() if name in said)
    return f"dfsp run notebooks/02_response.ipynb {' '.join(given)}"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


class Before(NamedTuple):
    """What is drawn of the prior: the distributions of tau and of a new study's rate."""

    tau: Distribution
    new_study_rate: Distribution


def forest_png(result: Fit) -> bytes:
    """Return the forest plot of a fit as PNG; it is that of the notebooks."""
    ax = forest(result)
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    fast: dict[str, Any] = {"compress_level": 1}
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pil_kwargs=fast)
    plt.close(figure)
    return buffer.getvalue()


class Picture:
    """Densities of tau and of the new-study rate, whose artists are moved and not drawn anew.

    What stays (axes, ticks, names) is drawn once and kept as pixels; it costs more than the fit.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(10, 2.1), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self._still: Any = None
        self.tau = _Densities(self.figure.add_axes((0.04, 0.24, 0.42, 0.6)), MOST_TAU, BLUE)
        self.tau.ax.set_xlabel("tau, between studies (logit scale)", fontsize=FONT)
        self.new = _Densities(self.figure.add_axes((0.55, 0.24, 0.42, 0.6)), 1, ORANGE)
        self.scale: tuple[Any, ...] = ()
        for ax in (self.tau.ax, self.new.ax):
            ax.tick_params(labelsize=FONT)
        self.moving = [*self.tau.artists, *self.new.artists]
        for artist in self.moving:
            artist.set_animated(True)

    def show(self, result: Fit, prior: Posterior | Before) -> None:
        """Move the artists to what `result` (with the exact engine) and its prior say."""
        self._scale(result.unit, limits(drawn_ends(result.exact.new_study_rate)))
        family = result.model.effects.family
        self.tau.show(result.exact.tau, prior.tau, family)
        self.new.show(result.exact.new_study_rate, prior.new_study_rate, family)

    def _scale(self, unit: Unit, reach: tuple[float, float]) -> None:
        """Give the axis of rates its unit and limits, if these are others than before."""
        if (unit, reach) == self.scale:
            return
        self.scale, self._still = (unit, reach), None
        self.new.between(*reach)
        self.new.ax.xaxis.set_major_formatter(lambda rate, _: f"{unit.whole * rate:,.6g}")
        self.new.ax.set_xlabel(f"true rate of a new study, {unit.sign}", fontsize=FONT)

    def png(self) -> bytes:
        """Return the picture as PNG."""
        canvas: Any = self.figure.canvas  # its methods have no types
        if self._still is None:
            canvas.draw()
            self._still = canvas.copy_from_bbox(self.figure.bbox)
        canvas.restore_region(self._still)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        return png_of(np.asarray(canvas.buffer_rgba()), DPI)


class _Densities:
    """A density before and after the studies; without a scale, which would have to be redrawn."""

    def __init__(self, ax: Axes, most: float, colour: str) -> None:
        self.ax = ax
        self.between(0, most)
        (self.area,) = ax.fill([0], [0], color=colour, alpha=0.25, lw=0)
        (self.after,) = ax.plot([], [], color=colour, lw=1.6, label="given the studies")
        (self.before,) = ax.plot([], [], color=DARK, lw=1.2, ls="--", label="before any study")
        self.nothing = ax.text(
            0.5, 0.5, "", transform=ax.transAxes, ha="center", va="center", fontsize=FONT
        )
        self.artists = [self.area, self.after, self.before, self.nothing]
        ax.set_yticks([])
        ax.set_ylabel("density", fontsize=FONT)
        # Above the panel, since a curve may pass anywhere in it
        ax.legend(
            frameon=False, fontsize=FONT, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2
        )

    def between(self, low: float, high: float) -> None:
        """Set the ends of the axis, and bins between them."""
        self.edges = np.linspace(low, high, BINS + 1)
        self.middles = (self.edges[1:] + self.edges[:-1]) / 2
        self.ax.set_xlim(low, high)

    def show(self, after: Distribution, before: Distribution, effects: str) -> None:
        """Move the artists; `effects` name the family that may have no such quantity."""
        self.nothing.set_text(f"no tau under {effects} effects" if after is NOTHING else "")
        if after is NOTHING:
            for line in (self.after, self.before):
                line.set_data([], [])
            self.area.set_xy(np.zeros((1, 2)))
            return
        density = self._binned(after)
        self.after.set_data(self.middles, density)
        corners = np.column_stack([self.middles, density])
        self.area.set_xy([(self.middles[0], 0), *corners, (self.middles[-1], 0)])
        self.before.set_data(self.middles, self._binned(before))
        self.ax.set_ylim(0, 1.1 * float(density.max()))

    def _binned(self, distribution: Distribution) -> npt.NDArray[np.float64]:
        """Return the probability of each bin; a density may be infinite at an end."""
        x, edges = distribution.x, self.edges
        if x[0] == x[-1]:
            return np.diff(np.asarray(edges >= x[0], dtype=float))
        at = np.clip(logit(edges) if distribution.is_rate else edges, x[0], x[-1])
        return np.asarray(np.diff(interpolate(x[None], distribution.cdf[None], at)[0]))


def answer(
    *,
    evidence_set: str,
    folder: str,
    table: str,
    outcome: str,
    not_evaluable: str,
    drop: tuple[str, ...],
    mu_sd: float,
    tau_family: str,
    tau_scale: float,
    effects: str,
) -> Fit:
    """Return the exact fit of a state of the explorer.

    Parameters
    ----------
    evidence_set, folder, table, outcome, not_evaluable, drop, mu_sd, tau_family, tau_scale, effects
        As in `code_line`.

    Raises
    ------
    DfspError
        A choice that cannot be used, or no study left.
    """
    priors = Normal(0, mu_sd), tau_prior(tau_family, scale=tau_scale)
    model = Model(*priors).with_effects(effects_of(effects))
    source = evidence_set, folder, table
    return fit(_counts(*source, outcome, not_evaluable, tuple(drop)), model)


@lru_cache(maxsize=64)
def _counts(
    evidence_set: str, folder: str, table: str, outcome: str, rule: Any, drop: tuple[str, ...]
) -> Counts:
    if table:
        return without(_table(table), drop)
    return count(_evidence(evidence_set, folder), outcome, not_evaluable=rule, drop=drop)


@lru_cache(maxsize=8)
def _evidence(name: str, folder: str) -> Evidence:
    return load_evidence(name, folder=project_folder() / folder if folder else None)


@lru_cache(maxsize=8)
def _table(table: str) -> Counts:
    return read_table(project_folder() / table)


# Ticking a study in or out leaves the prior as it was
@lru_cache(maxsize=64)
def before(model: Model) -> Before:
    """Return the prior of tau and of a new study's rate, as exact as can be drawn.

    `prior_of` takes as long as a fit. Here mu is normal and so is an effect or each part of its
    scale mixture, given tau: their sum is normal, and only tau is left to average over.

    Raises
    ------
    DfspError
        A prior that reaches too far to be drawn.
    """
    if model.no_picture:
        raise DfspError(model.no_picture)
    effects = model.effects.new
    if model.effects.own_priors or not effects.components(np.zeros(1), np.ones(1)):
        prior = prior_of(model)
        return Before(prior.tau, prior.new_study_rate)
    level = (np.arange(LEVELS) + 0.5) / LEVELS
    tau = model.tau.ppf(level)
    ends = np.concatenate([[tau[0]], tau, [tau[-1]]])
    of_tau = Distribution(ends, np.concatenate([[0.0], level, [1.0]]), np.nan, np.nan, False)
    even = logit(np.linspace(0, 1, BINS + 1)[1:-1])
    theta = np.union1d(even, np.linspace(-FAR, FAR, BINS))  # rates near 0 and 1 too
    cdf = np.zeros_like(theta)
    for log_weight, mean, sd in effects.components(np.full(LEVELS, model.mu.mean), tau):
        z = (theta[:, None] - mean) / np.hypot(model.mu.sd, sd)
        cdf += np.exp(log_weight) * ndtr(z).mean(-1)
    x = np.concatenate([[-FARTHEST_LOGIT], theta, [FARTHEST_LOGIT]])
    cdf = np.concatenate([[0.0], cdf, [1.0]])
    return Before(of_tau, Distribution(x, cdf, np.nan, np.nan, True))


def explorer(
    *, evidence_set: str = "reconciled", tau_scale: float = 1.0, folder: str = "", table: str = ""
) -> "ipywidgets.VBox":
    """Return widgets that show the answer to each choice, for JupyterLab.

    Parameters
    ----------
    evidence_set : str
    tau_scale : float
        Where the slider of tau's prior scale starts (logit scale).
    folder : str
        Evidence tables of one's own instead of `data/`; a relative path starts at the project's
        folder.
    table : str
        Instead: a CSV with study, events, total; it has no set, no outcome and no rule.

    Raises
    ------
    DfspError
        What is given cannot be used.
    """
    import ipywidgets as widgets

    given = {"evidence_set": evidence_set, "tau_scale": tau_scale, "folder": folder, "table": table}
    first = start(check(given))
    picture = Picture()
    controls = {}
    if not table:
        controls = {
            "evidence_set": widgets.Dropdown(
                options=_evidence(evidence_set, folder).sets, value=evidence_set
            ),
            "outcome": widgets.Dropdown(options=list(OUTCOMES), value="objective_response"),
            "not_evaluable": widgets.Dropdown(options=RULES),
        }
    controls |= {
        "mu_sd": widgets.FloatSlider(value=2.0, min=0.5, max=5, step=0.1),
        "tau_family": widgets.Dropdown(options=list(TAU_FAMILIES), value="half-normal"),
        "tau_scale": widgets.FloatSlider(
            value=tau_scale, min=min(0.1, tau_scale), max=max(3, tau_scale), step=0.1
        ),
        "effects": widgets.Dropdown(options=list(FAMILIES)),
    }
    for name, control in controls.items():
        control.description = name.replace("_", " ")
        control.style.description_width = "8em"
    ticks: dict[str, widgets.Checkbox] = {}
    columns = widgets.Layout(
        grid_template_columns="repeat(2, max-content)",
        grid_gap="0 2em",
        align_content="flex-start",
        margin="0 0 0 2em",
    )
    studies = widgets.GridBox(layout=columns)
    images = widgets.Image(), widgets.Image()
    sentence, code, saved = widgets.HTML(), widgets.HTML(), widgets.HTML()
    button = widgets.Button(
        description="Save the forest plot", layout=widgets.Layout(width="max-content")
    )
    shown: list[Fit] = []

    def tick(cohort: str, study: str) -> widgets.Checkbox:
        if cohort not in ticks:
            ticks[cohort] = widgets.Checkbox(
                value=True, description=study, indent=False, layout=widgets.Layout(width="auto")
            )
            ticks[cohort].observe(update, names="value")
        return ticks[cohort]

    # The arrays are small: beside anything else that runs, threads that wait for one another
    # take three times as long
    threads = ThreadpoolController()

    def update(_: object = None) -> None:
        with threads.limit(limits=1):
            show()

    def show() -> None:
        state = first | {name: control.value for name, control in controls.items()}
        for name in OF_TAU:
            controls[name].disabled = bool(FAMILIES[state["effects"]].own_priors)
        try:
            source = ("evidence_set", "folder", "table", "outcome", "not_evaluable")
            chosen = [state[name] for name in source]
            every = _counts(*chosen, ())
            offered = every.table
            names = offered["study" if table else "cohort"].to_list()
            boxes = [tick(*each) for each in zip(names, offered["study"], strict=True)]
            studies.children = boxes
            out = zip(names, boxes, strict=True)
            state["drop"] = tuple(name for name, box in out if not box.value)
            result = answer(**state)
            prior = before(result.model)
        except DfspError as error:
            sentence.value = f"<b>{escape(str(error))}</b> What is shown answers the choice before."
            return
        picture.show(result, prior)
        shown[:] = [result]
        said = f"<b>{escape(result.describe())}</b> {escape(result.heterogeneity().describe())}"
        if len(every.dropped):
            reasons = "; ".join(f"{row.study}: {row.reason}" for row in every.dropped.itertuples())
            said += f"<br>Not counted: {escape(reasons)}."
        for image, png in zip(images, (forest_png(result), picture.png()), strict=True):
            image.value = png
        saved.value = ""
        sentence.value = said
        lines = (code_line(**state), command_line(**state))
        code.value = "".join(_copyable(line) for line in lines)

    def keep(_: object) -> None:
        ax = forest(*shown)
        paths = save(ax, Path(SAVED))
        plt.close(ax.get_figure(root=True))
        saved.value = f"saved as {escape(' and '.join(str(path.resolve()) for path in paths))}"

    button.on_click(keep)
    for control in controls.values():
        control.observe(update, names="value")
    update()
    choices = widgets.HBox([widgets.VBox([*controls.values()]), studies])
    keeping = widgets.HBox([button, saved])
    return widgets.VBox([choices, sentence, *images, keeping, code])


def _copyable(line: str) -> str:
    """Return a line of code as HTML that wraps, and that one click selects."""
    style = "white-space: pre-wrap; line-height: 1.4; user-select: all; margin: 4px 0"
    return f'<pre style="{style}">{escape(line)}</pre>'
