"""The look that all pictures share, and how they are saved."""

import io
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from matplotlib.transforms import Affine2D, Transform, TransformedPath
from scipy.special import expit, logit

from dfsp.engine.distributions import Distribution
from dfsp.errors import DfspError
from dfsp.rates import Unit, limits

DARK, BLUE, ORANGE, GREY = "#222222", "#2166ac", "#d6604d", "#999999"
FONT = 9
FORMATS = ("svg", "png")
DPI = 200
"""Of what is saved, and shown in notebooks at the size of the figure."""
_COMPRESSION = 3
"""Of PNG. Of a forest in half of the time of 6, and 1.1 of its bytes."""
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "dfsp",
    # Letters as shapes, which are the same wherever they are shown.
    "svg.fonttype": "path",
    # Text in two thirds of the time; at this resolution it is as sharp.
    "text.hinting": "no_hinting",
    # What somebody's own would lay out once more.
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    # The colour of a figure itself.
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
}
MOST_TICKS = 8
"""Ticks of decades beside which one half has no room."""
RAREST, BESIDE = 1e-9, 0.3
"""Of an axis by decades: how near to 0 and to 1 it reaches, and the room beside what is drawn
(logit)."""
AT_AN_END = 0.02
"""Share of an axis of rates within which of an end of it a middle tells nothing."""
TAIL = 4.0
"""Times the upper quartile, as far as which a density is drawn at most."""
# The look of seaborn's style "ticks" without its import, which takes a second.
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": ".15",
    "axes.labelcolor": ".15",
    "text.color": ".15",
    "xtick.color": ".15",
    "ytick.color": ".15",
}
_COLOURS = dict(mpl.rcParamsDefault.find_all(r"colors?$|prop_cycle$"))
"""Dark on white, where somebody's own may be for a dark screen."""


def save(ax: Axes, path: str | Path, *, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Save a figure, the same bytes for the same picture.

    Parameters
    ----------
    ax : Axes
    path : path
        Without an ending; one is added for each format.
    formats : sequence of {"svg", "png"}

    Returns
    -------
    list of Path

    Raises
    ------
    DfspError
        An unknown format, or no such folder.

    Examples
    --------
    >>> import dfsp, tempfile
    >>> ax = dfsp.plots.prior(dfsp.Model())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in dfsp.plots.save(ax, f"{folder}/prior", formats=["svg"])]
    ['prior.svg']
    """
    return _save(_Made, ax, path, formats)


def save_as_shown(ax: Axes, path: str | Path) -> list[Path]:
    """Save a figure as `save` does, without drawing it again if a notebook has shown it.

    Only what matplotlib tells of a change since then makes it drawn anew; it does not tell of all.

    Parameters
    ----------
    ax : Axes
    path : path

    Returns
    -------
    list of Path
    """
    return _save(lambda f: f.as_shown() if isinstance(f, Picture) else _Made(f), ax, path, FORMATS)


def _save(
    make: "Callable[[Figure], _Made]", ax: Axes, path: str | Path, formats: Sequence[str]
) -> list[Path]:
    path = Path(path)
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise DfspError(f"figure format {', '.join(unknown)} not known; use {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise DfspError(f"{path.parent}: no such folder to save a figure in")
    figure, saved = ax.get_figure(root=True), []
    assert isinstance(figure, Figure)
    made = make(figure)
    for ending in formats:
        final = path.with_name(f"{path.name}.{ending}")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".figure-") as folder:
            part = Path(folder) / final.name
            part.write_bytes(made(ending))
            part.replace(final)
        saved.append(final)
    return saved


class _Made:
    """A figure as files, laid out and drawn once for all of them.

    Matplotlib lays a figure out anew, and draws it twice, for each format.
    """

    def __init__(self, figure: Figure) -> None:
        before, engine, canvas = figure.dpi, figure.get_layout_engine(), figure.canvas
        own = _Canvas(figure)
        try:
            figure.dpi = DPI
            with mpl.rc_context(_SETTINGS), Path(os.devnull).open("wb") as nowhere:
                if engine is not None:
                    engine.execute(figure)
                # As bbox_inches="tight" has it.
                box = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
                figure.set_layout_engine(None)
                figure.savefig(nowhere, format="rgba", bbox_inches=box, dpi=DPI)
            self._files = {"png": png_of(np.asarray(own.renderer.buffer_rgba()), DPI)}
        finally:
            figure.dpi = before
            figure.set_layout_engine(engine)
            figure.set_canvas(canvas)
        self._calls, self._size = own.renderer.calls, 72 * box.size

    def __call__(self, ending: str) -> bytes:
        """Return the file of a format."""
        if ending not in self._files:
            self._files[ending] = self._svg()
        return self._files[ending]

    def _svg(self) -> bytes:
        file = io.StringIO()
        with mpl.rc_context(_SETTINGS):
            svg: Any = _SVG(*self._size, file, image_dpi=DPI, metadata={"Date": None})
            for name, args, options in self._calls:
                getattr(svg, name)(*args, **options)
            svg.finalize()
        return file.getvalue().encode()


class _Canvas(FigureCanvasAgg):
    """Where a figure is laid out and drawn, its texts being measured once for both."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        self._measures: _Measures = {}
        self.renderer: Any = None

    def get_renderer(self) -> "_Drawing":
        """Return what draws the figure in the size that it has now."""
        size = self.get_width_height(physical=True)
        if self.renderer is None or size != self.renderer.get_canvas_width_height():
            self.renderer = _Drawing(*size, self._measures)
        drawing: _Drawing = self.renderer
        return drawing


class _Drawing:
    """A renderer that draws pixels, and notes what it draws as one of SVG would be told to.

    To draw a figure is for the most part to find out where its texts are.
    """

    def __init__(self, width: int, height: int, measures: "_Measures") -> None:
        self._agg: Any = _AGG(width, height, DPI)
        self._measures = measures
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        does = getattr(self._agg, name)
        if not name.startswith(("draw_", "open_", "close_")):
            return does

        def noting(*args: Any, **options: Any) -> None:
            does(*args, **options)
            told = [_in_points(each) for each in args]
            if name in _PLACED:
                told[1:3] = (each * _POINTS for each in args[1:3])
            self.calls.append((name, tuple(told), options))

        return noting

    def clear(self) -> None:
        """Begin anew."""
        self._agg.clear()
        self.calls.clear()

    def get_text_width_height_descent(
        self, s: str, prop: Any, ismath: Any
    ) -> tuple[float, float, float]:
        """Return the measures of a text."""
        if (s, prop, ismath) not in self._measures:
            measures = self._agg.get_text_width_height_descent(s, prop, ismath)
            self._measures[s, prop.copy(), ismath] = measures
        return self._measures[s, prop, ismath]


_AGG: Any = RendererAgg
_SVG: Any = RendererSVG
_Measures = dict[Any, tuple[float, float, float]]
_POINTS = 72 / DPI
_PLACED = ("draw_text", "draw_tex", "draw_image")
"""What is drawn at a place, which follows the graphics context."""


def _in_points(told: Any) -> Any:
    """Return what a renderer is told in pixels, as it is now and in points."""
    scale: Any = Affine2D().scale(_POINTS)
    if isinstance(told, Transform):
        return told.frozen() + scale
    if isinstance(told, GraphicsContextBase):
        context = GraphicsContextBase()
        context.copy_properties(told)
        if (inside := told.get_clip_rectangle()) is not None:
            context.set_clip_rectangle(inside.transformed(scale))
        path: Any
        path, transform = told.get_clip_path()
        if path is not None:
            context.set_clip_path(TransformedPath(path, _in_points(transform)))
        return context
    return told


def png_of(pixels: npt.NDArray[np.uint8], dpi: float) -> bytes:
    """Return the file of an image, in a third of the time that Pillow takes.

    It tries five filters on each line, for photographs; drawings are smaller without.

    Parameters
    ----------
    pixels : array of uint8, shape (height, width, 4)
        Red, green, blue and opacity.
    dpi : float
        Pixels in an inch.

    Returns
    -------
    bytes
    """
    height, width, depth = pixels.shape
    lines = np.zeros((height, 1 + width * depth), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    chunks = {
        b"IHDR": struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0),
        b"tEXt": f"Software\0Matplotlib {mpl.__version__}, https://matplotlib.org/".encode(),
        b"pHYs": struct.pack(">2IB", *[round(dpi / 0.0254)] * 2, 1),  # in a metre
        b"IDAT": zlib.compress(lines, _COMPRESSION),
        b"IEND": b"",
    }
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        file += struct.pack(">I", len(data)) + name + data
        file += struct.pack(">I", zlib.crc32(name + data))
    return file


class Picture(Figure):
    """A figure of this package, which notebooks show by the file that is saved."""

    _shown: _Made | None = None
    _shown_with: tuple[Any, ...] = ()

    def shown(self) -> tuple[bytes, dict[str, int]]:
        """Return the PNG for a notebook, and the size at which it is shown (pixels)."""
        made = _Made(self)
        for part in self.findobj():  # what is not visible is not drawn
            part.stale = False
        self._shown, self._shown_with = made, self._with()
        data = made("png")
        width, height = (round(self.dpi / DPI * int.from_bytes(data[i : i + 4])) for i in (16, 20))
        return data, {"width": width, "height": height}

    def as_shown(self) -> _Made:
        """Return the figure as it was shown, if nothing tells of a change since."""
        # Its own word that nothing has changed lacks what changes in the parts of its axes.
        changed = self._shown_with != self._with() or any(part.stale for part in self.findobj())
        return _Made(self) if changed or not self._shown else self._shown

    def _with(self) -> tuple[Any, ...]:
        """Return what a drawing depends on beside the parts of the figure."""
        engine = self.get_layout_engine()
        saving = dict(mpl.rcParams.find_all(r"^savefig\."))
        return engine, dict(engine.get()) if engine else None, saving

    def draw(self, renderer: RendererBase) -> None:
        """Draw, after which nothing tells of a change."""
        self._shown = None
        super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save on the colour of the figure, whatever that of what is saved is by default."""
        super().savefig(fname, **{"facecolor": "auto", "edgecolor": "auto"} | options)


def drawn_ends(distribution: Distribution) -> list[float]:
    """Return the rates between which a density is drawn; of a long tail its beginning."""
    first, low, high, last = distribution.quantile([0.005, 0.25, 0.75, 0.995]).tolist()
    return [max(first, 1 - TAIL * (1 - low)), min(last, TAIL * high)]


def scale(ax: Axes, unit: Unit, reach: tuple[float, float], *, up: bool = False) -> None:
    """Give an axis of rates its limits and the numbers of its unit.

    Parameters
    ----------
    ax : Axes
    unit : Unit
    reach : tuple of float
        Its limits, from 0 to 1.
    up : bool
        Whether rates go up instead of to the right.
    """
    low, high = (unit.whole * end for end in reach)
    (ax.set_ylim if up else ax.set_xlim)(low, high)
    (ax.yaxis if up else ax.xaxis).set_major_formatter(StrMethodFormatter("{x:,.7g}"))


def decades(ax: Axes, unit: Unit, reach: tuple[float, float], *, up: bool = False) -> None:
    """Give an axis of rates the scale of logits, on which decades are equally long.

    What lies beyond the limits is drawn at them.

    Parameters
    ----------
    ax : Axes
    unit : Unit
    reach : tuple of float
        Its limits, above 0 and below 1.
    up : bool
        Whether rates go up instead of to the right.
    """

    def to(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(logit(np.clip(np.asarray(x) / unit.whole, *reach)))

    functions = to, lambda x: unit.whole * expit(x)
    (ax.set_yscale if up else ax.set_xscale)("function", functions=functions)
    rare = 10.0 ** -np.arange(1, 16)
    ticks = np.array([*rare[::-1], 0.5, *(1 - rare)])
    ticks = ticks[(ticks >= reach[0]) & (ticks <= reach[1])]
    if len(ticks) > MOST_TICKS:
        ticks = ticks[ticks != 0.5]  # nearer to its neighbours than these are to theirs
    places = unit.whole * ticks
    (ax.set_yticks if up else ax.set_xticks)(places, [_plain(place) for place in places])
    (ax.set_ylim if up else ax.set_xlim)(*(unit.whole * end for end in reach))


def reach_of(
    ends: npt.NDArray[np.float64],
    middles: Sequence[float],
    others: npt.ArrayLike = (),
) -> tuple[tuple[float, float], bool]:
    """Return the limits of an axis of rates, and whether it goes by decades.

    The limits are those of all that is drawn, but not far beyond `ends`. Where a middle lies
    further off, or at an end, decades show both, and the limits hold all but 0 and 1.

    Parameters
    ----------
    ends, others : array
        As of `dfsp.rates.limits`.
    middles : sequence of float
        Rates that must have room on both sides.
    """
    reach = limits(ends, others)
    if all(shows(reach, middle) for middle in middles):
        return reach, False
    every = np.append(ends, others)
    inner = logit(every[(every > RAREST) & (every < 1 - RAREST)])
    low, high = expit([inner.min() - BESIDE, inner.max() + BESIDE])
    return (float(low), float(high)), True


def shows(reach: tuple[float, float], middle: float) -> bool:
    """Whether an axis has room on both sides of a middle."""
    edge = AT_AN_END * (reach[1] - reach[0])
    return reach[0] + edge <= middle <= reach[1] - edge


def _plain(value: float) -> str:
    """Return a number without needless zeros and without an exponent.

    Examples
    --------
    >>> [_plain(value) for value in (0.001, 10.0, 99.9, 100_000.0)]
    ['0.001', '10', '99.9', '100,000']
    """
    return f"{value:,.12f}".rstrip("0").rstrip(".")


def on_white[**P, R](draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw dark on white, whatever colours somebody's own style has.

    On axes that it is given, it draws in the style of whoever made these.

    Parameters
    ----------
    draw : callable

    Returns
    -------
    callable
    """

    @wraps(draw)
    def drawing(*args: P.args, **options: P.kwargs) -> R:
        if options.get("ax") is not None:
            return draw(*args, **options)
        with _style(_COLOURS):
            return draw(*args, **options)

    return drawing


@contextmanager
def _style(these: Mapping[Any, Any]) -> Iterator[None]:
    """Set parameters of matplotlib for a while.

    Not rc_context, which would also undo what a notebook's backend sets with its first figure.
    """
    before = {name: mpl.rcParams[name] for name in these}
    mpl.rcParams.update(these)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def axes(width: float, height: float) -> Axes:
    """Return axes of a figure of this size (inches)."""
    ax: Axes = panels(width, height)[0, 0]
    ax.spines[["left", "right", "top"]].set_visible(False)
    return ax


def panels(
    width: float, height: float, *, rows: int = 1, columns: int = 1, **options: Any
) -> npt.NDArray[np.object_]:
    """Return the axes of a figure of this size (inches) in rows and columns.

    Parameters
    ----------
    width, height : float
    rows, columns : int
    **options
        Further ones of `matplotlib.pyplot.subplots`.

    Returns
    -------
    array of Axes, shape (rows, columns)
    """
    with _style(_STYLE):
        _, made = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False,
            FigureClass=Picture, **options,
        )  # fmt: skip
    _show_in_notebooks(made[0, 0].get_figure())
    for ax in made.flat:
        ax.tick_params(labelsize=FONT)
    return np.asarray(made)


def _show_in_notebooks(figure: Picture) -> None:
    """Let a notebook that shows figures as PNG show this one by what is saved of it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    png = shell.display_formatter.formatters["image/png"].type_printers
    if Figure not in png:  # the backend is another, or somebody has chosen another format
        png.pop(Picture, None)
        return
    png[Picture] = Picture.shown
    if type(figure.canvas) is FigureCanvasAgg:  # which pyplot has draw after a cell, for nobody
        figure.canvas.draw_idle = lambda: None  # type: ignore[method-assign, misc]


def legend(ax: Axes) -> None:
    """Put the legend above the axes, where no data are."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=FONT,
        borderaxespad=0.2,
    )  # fmt: skip


def shortened(name: str, most: int = 60) -> str:
    """Return a name of at most so many characters; what differs is often at its end, so that stays.

    Examples
    --------
    >>> shortened("Patients after two lines of therapy: cohort A", 20)
    'Patients a… cohort A'
    """
    end = most // 2 - 1
    return name if len(name) <= most else f"{name[: most - end - 1]}…{name[-end:]}"
