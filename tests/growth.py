"""What a larger problem costs: python tests/growth.py measures, draws, and keeps both.

With R and packages that fit the same tables, `python tests/growth.py peers` measures those anew.

Each size is a process of its own with one thread, so that its time is that of one core and its peak
memory nobody else's; imports, and a first small call that fills caches, are left out of the time.
The figure holds what it shows; `table` is that of notebooks/README.md.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from frozen import freeze
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import dfsp
from dfsp.analyses.dimensions import PRIORS_OF_TAU

freeze()

ROOT = Path(__file__).parents[1]
FIGURE, PAGE = ROOT / "notebooks/growth.png", ROOT / "notebooks/README.md"
KEY = "measured"
PEERS = "RBesT", "metafor", "brms"
PATIENCE = 120  # seconds of a core, after which a package is stopped


def drawn(studies, patients):
    """Counts of studies whose logit rates have mean 0.5 and standard deviation 0.7."""
    rng = np.random.default_rng(1)
    rate = 1 / (1 + np.exp(-rng.normal(0.5, 0.7, studies)))
    names = [f"S{i}" for i in range(studies)]
    events = rng.binomial(patients, rate)
    return pd.DataFrame({"study": names, "events": events, "total": patients})


def studies(size):
    dfsp.fit(drawn(size, 20)).as_dict()


def patients(size):
    dfsp.fit(drawn(10, size)).as_dict()


def analyses(size):
    """The default ones are 3,025 of 55 tables; each further prior of tau adds 495."""
    further = {f"HalfNormal({x / 100})": dfsp.HalfNormal(x / 100) for x in range(51, 66)}
    how = {
        55: {"effects": {"normal": dfsp.NormalEffects()}, "taus": {"usual": dfsp.HalfNormal(1)},
             "mus": {"usual": dfsp.Normal(0, 2)}},
        3_025: {},
        10_450: {"taus": PRIORS_OF_TAU | further},
    }  # fmt: skip
    assert len(dfsp.multiverse.fit(**how[size]).table) == size


def data_sets(size):
    dfsp.calibration.calibrate(drawn(10, 15), number=size)


def draws(size):
    dfsp.fit(drawn(10, 20), engine="nuts", draws=size // 4, gate="report")


def runs(size):
    """A report of one run and its copies under other priors."""
    from dfsp.runs.report import write_report
    from dfsp.runs.run import run_notebook

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notebook = ROOT / "notebooks/02_response.ipynb"
        made = run_notebook(notebook, {"engine": "exact"}, folder=folder, progress=False)
        record = json.loads((made.folder / "record.json").read_text("utf-8"))
        for number in range(size - 1):
            copy = folder / f"02_response_{number}-{number:08x}"
            shutil.copytree(made.folder, copy, copy_function=os.link)
            (copy / "record.json").unlink()
            own = record | {"parameters": {"engine": "exact", "mu_sd": 1 + number / 1000}}
            (copy / "record.json").write_text(json.dumps(own), "utf-8")
        with timed() as spent:
            write_report(folder)
    return spent


CASES = {
    "studies of 20 patients": (studies, (10, 100, 1_000, 10_000), "one exact fit, as JSON"),
    "patients in each of 10 studies": (patients, (10, 100, 1_000, 10_000, 100_000),
                                       "one exact fit, as JSON"),
    "analyses": (analyses, (55, 3_025, 10_450), "`dfsp.multiverse.fit`"),
    "simulated data sets": (data_sets, (100, 1_000, 10_000), "`dfsp.calibration.calibrate`"),
    "NUTS draws": (draws, (2_000, 20_000), '`dfsp.fit(engine="nuts")`, compilation included'),
    "runs in a report": (runs, (10, 100, 1_000, 5_000), "`dfsp report`"),
}  # fmt: skip


class timed:  # noqa: N801
    """Seconds of processor time of this process."""

    def __enter__(self):
        self.start = time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.process_time() - self.start


def one(case, size):
    """Do a size of a case here; return its time (s of one core) and this process' memory (MB)."""
    work, sizes, _ = CASES[case]
    if work is runs:
        seconds = runs(size).seconds
    else:
        work(sizes[0])
        seconds, until = np.inf, time.process_time() + 1
        while not np.isfinite(seconds) or time.process_time() < until:
            with timed() as spent:
                work(size)
            seconds = min(seconds, spent.seconds)
    unit = 1e6 if sys.platform == "darwin" else 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"size": size, "seconds": seconds, "megabytes": peak}


def measured(case, size):
    """Return what `one` says in a process of its own."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, case, str(size)],
        env=os.environ | threads, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def peers(case, size):
    """Return how long each package of R takes for the table of a case, in seconds of a core.

    None where it was stopped.
    """
    many, each = (size, 20) if case == "studies of 20 patients" else (10, size)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "studies.csv"
        drawn(many, each).to_csv(path, index=False)
        found = {}
        for package in PEERS:
            command = ["Rscript", str(ROOT / "tests/peers.R"), package, str(path)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE)),
            )  # fmt: skip
            stopped = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
            found[package] = None if stopped else json.loads(done.stdout)["seconds"]
    return found


def draw(found):
    """Draw time over size, both logarithmic, each case named at the end of its line."""
    figure, ax = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    colours = ["#2166ac", "#4393c3", "#d6604d", "#e08214", "#762a83", "#333333"]
    marks = "osD^vP"
    for (case, rows), colour, mark in zip(found.items(), colours, marks, strict=True):
        size, seconds = zip(*((row["size"], row["seconds"]) for row in rows), strict=True)
        ax.plot(size, seconds, color=colour, marker=mark, ms=4, lw=1.3)
        ax.annotate(
            case, (size[-1], seconds[-1]), (6, 0), textcoords="offset points", va="center",
            color=colour, fontsize=9,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="how many", ylabel="seconds of one core")
    ax.set_xlim(7, 2.5e6)
    ax.set_xticks([10.0**k for k in range(1, 6)], ["10", "100", "1,000", "10,000", "100,000"])
    ticks = {0.01: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s", 100: "100 s"}
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return figure


def shown(seconds):
    """Return a time with a unit that suits it, to two digits."""
    value, unit = (1000 * seconds, "ms") if seconds < 1 else (seconds, "s")
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def table(found):
    """Return rows of Markdown: the least and the greatest size of each case."""
    titles = ["of what", "how many", "time of one core", "memory", *PEERS]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (3 + len(PEERS))]
    for case, rows in found.items():
        for row in (rows[0], rows[-1]):
            cells = [f"{row['size']:,}", shown(row["seconds"]), f"{row['megabytes']:,.0f} MB"]
            for package in PEERS:
                seconds = row.get("peers", {}).get(package, "")
                over = f"more than {PATIENCE} s"
                cells.append(seconds and shown(seconds) if seconds is not None else over)
            lines.append(f"| {case}: {CASES[case][2]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def kept():
    """Return what the figure shows."""
    with Image.open(FIGURE) as image:
        return json.loads(image.text[KEY])


def main():
    """Measure all but what is of R, draw, and put the table into the page."""
    found, before = {}, kept()
    for case, (_, sizes, _) in CASES.items():
        found[case] = [measured(case, size) for size in sizes]
        print(case, *found[case], sep="\n  ", flush=True)
        for row, old in zip(found[case], before[case], strict=True):
            if "peers" in old:
                row["peers"] = old["peers"]
    keep(found)


def measure_peers():
    """Measure what is of R, and keep it beside the rest."""
    found = kept()
    for case in list(CASES)[:2]:
        for row in (found[case][0], found[case][-1]):
            row["peers"] = peers(case, row["size"])
            print(case, row["size"], row["peers"], flush=True)
    keep(found)


def keep(found):
    """Write the figure, with the numbers inside, and the table of the page."""
    before = PAGE.read_text("utf-8")
    if table(kept()) in before:
        PAGE.write_text(before.replace(table(kept()), table(found)), "utf-8")
    data = PngInfo()
    data.add_text(KEY, json.dumps(found))
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        draw(found).savefig(file.name, dpi=150)
        with Image.open(file.name) as image:
            image.convert("P", palette=Image.Palette.ADAPTIVE).save(
                FIGURE, pnginfo=data, optimize=True
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["peers"]:
        measure_peers()
    elif len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
