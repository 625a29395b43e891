"""What is made from `data/` and kept beside it; `make notebooks` makes it anew, says what changed.

On one machine with one set of versions a second call changes no byte: nothing is kept that hangs
on the time or on chance.
"""

import base64
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import exact_results
import nbformat
import readme_figure
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

import dfsp
from dfsp.analyses.calibration import store
from dfsp.engine import VERSION

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RESULTS = ROOT / "tests/exact_results.json"
WIDGETS = "application/vnd.jupyter.widget-state+json"
DIGITS = 7  # kept of exact results, which a test compares to 6
SHOWN = 3  # changed lines of a cell, or changed numbers of a file


def execute(notebook):
    """Return the notebook executed in its own folder, by the Python that runs this."""
    done = deepcopy(notebook)
    client = NotebookClient(
        done, kernel_name="python3", timeout=1800, record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    )  # fmt: skip
    client.execute(stderr=subprocess.DEVNULL)  # where kernels warn of how they talk to us
    return normalised(done)


def normalised(notebook):
    """Return the notebook without what differs between two executions of the same code."""
    text = nbformat.writes(notebook)
    # Widgets' ids are drawn at random; their order is that in which the widgets were made.
    for number, name in enumerate(states(notebook)):
        text = text.replace(name, f"{number:032x}")
    found = nbformat.reads(text, as_version=4)
    found.metadata.get("language_info", {}).pop("version", None)
    for cell in found.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = in_few_colours(output.data["image/png"])
    for state in states(found).values():
        if state["model_name"] == "ImageModel":
            for buffer in state["buffers"]:
                buffer["data"] = in_few_colours(buffer["data"])
    return found


def in_few_colours(picture):
    """Return a picture (PNG, base64) in 64 colours, which take a quarter of the bytes.

    Our figures have a few colours, and the shades of their edges.
    """
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        if image.mode == "P":
            return picture
        file = io.BytesIO()
        own = {name: image.info[name] for name in ("dpi",) if name in image.info}
        image.convert("RGB").quantize(64).save(file, "PNG", optimize=True, **own)
    return base64.b64encode(file.getvalue()).decode()


def states(notebook):
    """Return the kept states of widgets by id."""
    return notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})


def lines_of(cell):
    """Return the outputs of a cell as lines of text; a picture is one line."""
    lines = []
    for output in cell.get("outputs", []):
        lines += output.get("text", "").splitlines()
        for kind, content in sorted(output.get("data", {}).items()):
            lines += content.splitlines() if kind == "text/plain" else [f"{kind} {content}"]
    return lines


def changes_of_notebook(before, after):
    """Yield what changed, a line each: the number of the cell and some lines of its output."""
    for number, (old, new) in enumerate(zip(before.cells, after.cells, strict=True)):
        was, now = lines_of(old), lines_of(new)
        if was == now:
            continue
        pairs = [pair for pair in zip(was, now, strict=False) if pair[0] != pair[1]]
        yield f"cell {number}: {len(pairs) + abs(len(was) - len(now))} lines of output"
        for pair in pairs[:SHOWN]:
            yield from (f"  {sign} {line[:100]}" for sign, line in zip("-+", pair, strict=True))


def changes_of_numbers(before, after):
    """Yield which names came and went, and the numbers that changed most."""
    for words, names in (("new", after.keys() - before), ("gone", before.keys() - after)):
        if names:
            yield f"{len(names)} {words}: {', '.join(sorted(names)[:SHOWN])}"
    moved = {name: abs(after[name] - before[name]) for name in before.keys() & after}
    moved = {name: by for name, by in moved.items() if by > 0}
    if moved:
        yield f"{len(moved)} of {len(after)} numbers changed"
    for name in sorted(moved, key=moved.get, reverse=True)[:SHOWN]:
        yield f"  {name}: {before[name]} -> {after[name]}"


def say(name, changes):
    """Print what changed."""
    found = list(changes)
    print(name if found else f"{name}: unchanged", *found, sep="\n  ", flush=True)


def remake_calibration():
    """Make `data/calibration.json` anew where the engine or the studies' sizes are others."""
    counts = dfsp.count(dfsp.load_evidence(store.EVIDENCE, folder=dfsp.DATA), "objective_response")
    kept = store.stored()
    same = (kept["engine_version"], kept["totals"]) == (VERSION, counts.table["total"].to_list())
    if not same:
        print("data/calibration.json is made anew (some minutes)", flush=True)
        store.remake()
    say("data/calibration.json", [] if same else [store.kept()])


def remake_figure():
    """Draw the README's figure."""
    before = readme_figure.FIGURE.read_bytes()
    readme_figure.remake()
    changed = readme_figure.FIGURE.read_bytes() != before
    say(readme_figure.FIGURE.relative_to(ROOT), ["drawn anew"] if changed else [])


def remake_notebook(path):
    """Execute a notebook in place; return why it could not be, or an empty text."""
    before = nbformat.read(path, 4)
    try:
        after = execute(before)
    except CellExecutionError as error:
        return f"{path.name}: left as it was: {error}"
    text = nbformat.writes(after) + "\n"
    changes = list(changes_of_notebook(normalised(before), after))
    if text != path.read_text("utf-8"):
        path.write_text(text, "utf-8")
        changes = changes or ["the same outputs, kept in another form"]
    say(path.name, changes)
    return ""


def remake_results():
    """Compute the kept results of the tests' evidence."""
    before = json.loads(RESULTS.read_text("utf-8"))
    # Adding 0 makes -0.0 and 0.0 one.
    found = exact_results.results()
    after = {name: round(value, DIGITS) + 0.0 for name, value in found.items()}
    RESULTS.write_text(json.dumps(after, indent=0) + "\n", "utf-8")
    say(RESULTS.relative_to(ROOT), changes_of_numbers(before, after))


def main():
    """Make everything anew, two notebooks at a time; what the notebooks show comes first."""
    remake_calibration()
    remake_figure()
    with ThreadPoolExecutor(2) as pool:
        faults = list(filter(None, pool.map(remake_notebook, NOTEBOOKS)))
    remake_results()  # last, since from then on this process reads the tests' evidence
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
