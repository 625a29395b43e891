"""The README's figure: `make notebooks` draws it anew, with what it shows kept inside the file."""

import json
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from frozen import REAL
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import dfsp

FIGURE = Path(__file__).parents[1] / "notebooks/forest.png"
KEY = "drawn"


def draw():
    """Draw the forest plot of the primary analysis."""
    evidence = dfsp.load_evidence("reconciled", folder=REAL)
    return dfsp.plots.forest(dfsp.fit(dfsp.count(evidence, "objective_response")))


def drawn(ax):
    """Return the texts and the numbers that axes show, in percent."""
    paths = [path.vertices for each in ax.collections for path in each.get_paths()]
    points = [np.asarray(each.get_offsets()) for each in ax.collections]
    places = [patch.get_xy() for patch in ax.patches if hasattr(patch, "get_xy")]
    lines = [line.get_xydata() for line in ax.get_lines()]
    numbers = [np.ravel(each) for each in (*paths, *points, *places, *lines)]
    legend = ax.get_legend().get_texts()
    return {
        "texts": [text.get_text() for text in (*ax.get_yticklabels(), *ax.texts, *legend)],
        "numbers": np.concatenate(numbers).round(4).tolist(),
    }


def kept():
    """Return what the figure in the project shows."""
    with Image.open(FIGURE) as image:
        return json.loads(image.text[KEY])


def remake():
    """Write the figure."""
    ax = draw()
    with tempfile.TemporaryDirectory() as folder:
        (file,) = dfsp.plots.save(ax, Path(folder) / "forest", formats=["png"])
        data = PngInfo()
        data.add_text(KEY, json.dumps(drawn(ax)))
        with Image.open(file) as image:
            dpi = image.info["dpi"]
            image.save(FIGURE, pnginfo=data, dpi=dpi, optimize=True)
    plt.close(ax.get_figure())
