"""What a run's kernel sees, what its record says of it, and how it says that it has failed."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import nbformat
import pytest
from PIL import Image
from small import notebook, plan, results

from dfsp.errors import DfspError
from dfsp.runs import inside, kernels
from dfsp.runs.kernels import ended, log_end, oom_kills, refusal, starts_own
from dfsp.runs.record import source_sha256, versions
from dfsp.runs.run import execute, finished, plan_run, run_notebook
from dfsp.schemas import schema

DFSP = [sys.executable, "-c", "from dfsp.cli import main; main()"]


def kernelspec(folder, name, *argv, **env):
    """Write the specification of a kernel."""
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    spec = {"argv": list(argv), "display_name": name, "language": "python", "env": env}
    (place / "kernel.json").write_text(json.dumps(spec), "utf-8")
    return folder


def launch(python):
    return (python, "-m", "ipykernel_launcher", "-f", "{connection_file}")


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Kernels of another environment: the same interpreter, seen as one of another prefix."""
    env = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    packages = next((env / "lib").glob("python*/site-packages"))
    # What this environment has, but for one version.
    (packages / "nutpie-0.0.1.dist-info").mkdir()
    (packages / "nutpie-0.0.1.dist-info" / "METADATA").write_text("Name: nutpie\nVersion: 0.0.1")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "here.pth").write_text("\n".join(here), "utf-8")
    python = str(env / "bin" / "python")
    kernelspec(tmp_path / "jupyter", "python3", *launch(python))
    kernelspec(tmp_path / "jupyter", "elsewhere", *launch(python))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    kernels_refused.cache_clear()
    yield python
    kernels_refused.cache_clear()


from dfsp.runs.run import _refused as kernels_refused  # noqa: E402

# ---------------------------------------------------------------- the record describes what ran


def test_parameters_are_those_that_the_kernel_has_at_the_end(tmp_path):
    path = notebook(
        tmp_path / "end.ipynb",
        "x: int = 1\ny = 2\nz = (1, 2)\nw = None",
        "import math\nfrom fractions import Fraction\ny = x * 10\nw = Fraction(1, 3)\ndel z\n"
        "x = math.nan if x == 3 else x",
    )
    record = run_notebook(path, {"x": "2"}, folder=tmp_path / "runs", progress=False).record
    jsonschema.validate(record, schema("run"))
    assert record["parameters"] == {"x": 2}
    # z is gone, so what it started with is all that is known
    shown = {"x": 2, "y": 20, "z": [1, 2], "w": "Fraction(1, 3)"}
    assert record["effective_parameters"] == shown
    assert record["kernel"] == {"name": "python3", "python": sys.executable, "own": True}
    assert record["versions"] == versions()
    assert record["source_sha256"] is None  # it did not import dfsp


def test_an_executed_notebook_is_recorded_with_what_was_injected(tmp_path):
    path = notebook(tmp_path / "e.ipynb", "x: int = 1\ny: int = 2", "x = 5", "print(x, y)")
    made = nbformat.read(path, 4)
    made.cells[1].metadata["tags"] = ["injected-parameters"]
    nbformat.write(made, path)
    run = run_notebook(path, {}, folder=tmp_path / "runs", progress=False)
    assert run.record["effective_parameters"] == {"x": 5, "y": 2}
    (said,) = nbformat.read(run.folder / path.name, 4).cells[-1].outputs
    assert said.text == "5 2\n"


def test_a_failed_run_tells_its_parameters_too(tmp_path):
    path = notebook(tmp_path / "bad.ipynb", "x: int = 1", "x = 7", "1 / 0")
    run = run_notebook(path, {}, folder=tmp_path / "runs", progress=False)
    assert run.record["status"] == "failed"
    assert run.record["effective_parameters"] == {"x": 7}


def test_a_kernel_of_another_environment_is_refused_or_recorded_as_such(other, tmp_path):
    path = notebook(tmp_path / "k.ipynb", "x: int = 1", "import sys\nprint(sys.executable)")
    where = tmp_path / "runs"
    with pytest.raises(DfspError, match="which is not this environment's") as raised:
        run_notebook(path, {}, folder=where, progress=False)
    assert other in str(raised.value) and "--kernel python3" in str(raised.value)
    assert not where.exists()
    with pytest.raises(
        DfspError, match="no kernel 'nowhere' is installed here; there is elsewhere"
    ):
        run_notebook(path, {}, folder=where, progress=False, kernel="nowhere")
    run = run_notebook(path, {}, folder=where, progress=False, kernel="elsewhere")
    jsonschema.validate(run.record, schema("run"))
    assert run.record["status"] == "complete", run.record["reason"]
    assert run.record["kernel"] == {"name": "elsewhere", "python": other, "own": False}
    assert run.record["versions"]["nutpie"] == "0.0.1" != versions()["nutpie"]
    # It is unchanged as long as that kernel is; one of this environment would be another run.
    chosen = plan_run(path, {}, kernel="elsewhere")
    assert finished(chosen, where)
    told = json.loads((run.folder / "record.json").read_text("utf-8"))
    (run.folder / "record.json").write_text(
        json.dumps(told | {"versions": told["versions"] | {"numpy": "0"}}), "utf-8"
    )
    assert finished(chosen, where) is None
    (run.folder / "record.json").write_text(json.dumps(told), "utf-8")
    (tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json").unlink()
    kernels_refused.cache_clear()
    assert finished(plan_run(path, {}), where) is None


def test_which_kernels_are_of_this_environment():
    def spec(*argv):
        from jupyter_client.kernelspec import KernelSpec

        return KernelSpec(argv=list(argv), language="python")

    here = Path(sys.executable).parent
    assert starts_own(spec("python3")) and starts_own(spec(sys.executable))
    assert starts_own(spec(str(here / "python")))
    assert not starts_own(spec("/somewhere/else/bin/python3"))
    assert not starts_own(spec("conda", "run")) and not starts_own(spec())
    assert refusal(None, own=True) == refusal(None, own=False)
    assert "it names no kernel" in refusal(None, own=True)


def test_the_source_is_that_which_the_kernel_imported(tmp_path):
    path = notebook(tmp_path / "s.ipynb", "x: int = 1", "import dfsp")
    run = run_notebook(path, {}, folder=tmp_path / "runs", progress=False)
    assert run.record["source_sha256"] == source_sha256()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), "nan"),
        ({"a": (1, 2.5, None)}, {"a": [1, 2.5, None]}),
        ({1: 2}, "{1: 2}"),
        (True, True),
        ("x" * 2000, "x" * 2000),
        (range(10**6), "range(0, 1000000)"),
    ],
)
def test_values_that_json_does_not_have_are_kept_as_texts(value, kept):
    assert inside.plain(value) == kept


def test_odd_values_of_parameters():
    import numpy as np

    class Odd:
        def __repr__(self):
            raise RuntimeError("no")

    assert inside.plain(np.float64(0.5)) == 0.5 and inside.plain(np.int32(3)) == 3
    assert type(inside.plain(np.int32(3))) is int
    assert inside.plain(Odd()) == "Odd: cannot be shown (RuntimeError)"
    deep = []
    deep.append(deep)
    assert "[...]" in json.dumps(inside.plain(deep))


# ---------------------------------------------------------------- what the kernel does not see

DRAWS = """
import matplotlib, matplotlib.pyplot as plt, os
fig, ax = plt.subplots()
ax.plot([1, 2])
print(matplotlib.rcParams["text.color"], matplotlib.rcParams["axes.facecolor"])
"""


def test_what_a_user_has_set_changes_nothing(tmp_path, monkeypatch):
    dark = tmp_path / "matplotlibrc"
    dark.write_text("text.color: white\naxes.facecolor: black\nbackend: agg\n", "utf-8")
    profile = tmp_path / "ipython" / "profile_default" / "startup"
    profile.mkdir(parents=True)
    (profile / "00.py").write_text("started = 'profile'", "utf-8")
    (tmp_path / "startup.py").write_text("started = 'python'", "utf-8")
    for name, value in {
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": dark,
        "IPYTHONDIR": tmp_path / "ipython",
        "PYTHONSTARTUP": tmp_path / "startup.py",
    }.items():
        monkeypatch.setenv(name, str(value))
    path = notebook(tmp_path / "d" / "d.ipynb", None, DRAWS + "print('started' in globals())")
    run = run_notebook(path, {}, folder=tmp_path / "runs", progress=False)
    outputs = nbformat.read(run.folder / path.name, 4).cells[0].outputs
    assert outputs[0].text == "black white\nFalse\n"
    assert [kind for each in outputs for kind in each.get("data", {})] == [
        "image/png",
        "text/plain",
    ]
    assert sorted(each.name for each in run.folder.iterdir()) == ["d.ipynb", "record.json"]


SHOWS = """
import dfsp
ax = dfsp.plots.prior(dfsp.Model())
dfsp.record(headline="h", prior_warning="", figures={"prior": ax})
"""


def test_a_notebook_shows_the_file_that_is_saved_at_the_size_of_the_figure(tmp_path):
    """200 dots an inch, shown as 100."""
    path = notebook(tmp_path / "s.ipynb", None, SHOWS)
    run = run_notebook(path, {}, folder=tmp_path / "runs", progress=False)
    saved = (run.folder / "prior.png").read_bytes()
    (shown,) = (
        output
        for output in nbformat.read(run.folder / path.name, 4).cells[0].outputs
        if "image/png" in output.get("data", {})
    )
    assert base64.b64decode(shown.data["image/png"]) == saved
    with Image.open(run.folder / "prior.png") as image:
        halves = [round(side / 2) for side in image.size]
    assert [shown.metadata["image/png"][name] for name in ("width", "height")] == halves


PROMISES = """
import os, json, pathlib
{}
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
folder = pathlib.Path(os.environ["DFSP_RUN_FOLDER"])
fig.savefig(folder / "f.png")
found = dict(headline="h", engine=None, seed=None, model=None, numbers={{}}, checks=[], data={{}})
found |= dict(figures=["f.png", {}], tables=[], draws=None, appraisal=None)
(folder / "findings.json").write_text(json.dumps(found))
"""


def test_figures_that_were_promised_and_are_not_there_fail_a_run(tmp_path):
    def end(text, more=""):
        path = notebook(tmp_path / "p.ipynb", None, PROMISES.format(text, more))
        return run_notebook(path, {}, folder=tmp_path / "runs", progress=False).record

    assert end("")["status"] == "complete"
    lost = end("os.environ['MPLBACKEND'] = 'agg'")
    assert lost["status"] == "failed" and lost["headline"] is None
    assert "promises figures (f.png) and shows none" in lost["reason"]
    assert "not there: g.png" in end("", "'g.png'")["reason"]


# ---------------------------------------------------------------- how it fails


def test_a_kernel_that_does_not_start_says_why(tmp_path, monkeypatch):
    (tmp_path / "crash.py").write_text("raise SystemExit('no such licence')", "utf-8")
    kernelspec(tmp_path / "j", "crash", sys.executable, str(tmp_path / "crash.py"))
    kernelspec(tmp_path / "j", "gone", str(Path(sys.executable).parent / "no-such-python"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "j"))
    for name, says in (
        ("crash", "the kernel did not start: it ended with status 1 (no such licence)"),
        ("gone", "the kernel did not start: [Errno 2] No such file or directory"),
    ):
        path = notebook(tmp_path / f"{name}.ipynb", None, "1", kernel=name)
        run = execute(plan_run(path, {}), tmp_path / "runs")
        jsonschema.validate(run.record, schema("run"))
        assert run.record["status"] == "failed" and says in run.record["reason"]
        assert run.record["kernel"]["python"] is None and run.record["versions"] == {}
    assert run.record["log"] is None
    assert run.record["effective_parameters"] == {}


def test_a_kernel_that_died_says_by_which_signal_in_which_cell_and_its_last_words(tmp_path):
    text = (
        "import os, sys\nos.write(2, b'last words')\nos.kill(os.getpid(), x) if x else os._exit(3)"
    )
    path = notebook(tmp_path / "die.ipynb", "x: int = 0", "# first\n1", text)
    for value, says in (
        (9, "killed by signal 9 (SIGKILL) in code cell 4 (import os, sys)"),
        (0, "it ended with status 3 in code cell 3"),
    ):
        given = {"x": str(value)} if value else {}
        run = run_notebook(path, given, folder=tmp_path / "runs", progress=False)
        assert says in run.record["reason"], run.record["reason"]
        assert run.record["log"] == "last words"
        assert (run.folder / "kernel.log").read_text("utf-8").endswith("last words")
        assert run.record["kernel"]["python"] == sys.executable  # it had answered before


@pytest.mark.slow
def test_a_reason_is_plain_text_and_nothing_else_is_logged(tmp_path):
    """A cell's message may be made for a terminal; a line of the batch is one line all the same."""
    red = notebook(
        tmp_path / "red.ipynb",
        None,
        "raise ValueError('\\x1b[1;31mred\\x1b[0m\\x00\\nand' + 999 * ' more')",
    )
    dies = notebook(tmp_path / "dies.ipynb", None, "import os\nos._exit(3)")
    silent = notebook(tmp_path / "silent.ipynb", None, "raise KeyboardInterrupt")
    entries = [{"notebook": str(path)} for path in (red, dies, silent)]
    where = tmp_path / "runs"
    words = ["batch", plan(tmp_path / "plan.yaml", *entries), "--folder", where, "--jobs", "1"]
    done = subprocess.run([*DFSP, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    assert first.startswith("3 runs") and len(lines) == 3, done.stderr
    assert all(len(line) < 400 and line.isprintable() for line in lines)
    reasons = {row["notebook"]: row["reason"] for row in results(where)}
    assert reasons["red.ipynb"] == "ValueError: red\nand" + 999 * " more"
    assert reasons["silent.ipynb"] == "KeyboardInterrupt"
    assert "ended with status 3 in code cell 1" in reasons["dies.ipynb"]


@pytest.mark.parametrize("line", ["%notamagic", "%%nosuch"])
def test_a_magic_that_is_not_known_is_the_reason(tmp_path, line):
    """IPython says so on standard error alone."""
    done = execute(plan_run(notebook(tmp_path / "magic.ipynb", "print(1)", line), {}), tmp_path)
    assert done.record["status"] == "failed"
    kind = "Cell magic `%%nosuch`" if line[1] == "%" else "Line magic function `%notamagic`"
    assert done.record["reason"] == f"UsageError: {kind} not found."


def test_memory_is_to_blame_only_where_linux_says_so(tmp_path):
    assert ended(-9, memory=True) == "out of memory (killed by signal 9)"
    assert ended(-9, memory=False) == "killed by signal 9 (SIGKILL)"
    assert ended(-signal.SIGSEGV, memory=True) == "killed by signal 11 (SIGSEGV)"
    assert ended(3, memory=True) == "it ended with status 3"
    # Version 2 of control groups, in a container and outside
    own, root = tmp_path / "own", tmp_path / "cgroup"
    own.write_text("0::/a/b\n", "utf-8")
    root.mkdir()
    assert oom_kills(root, own) is None
    (root / "memory.events").write_text("low 0\noom 3\noom_kill 2\n", "utf-8")
    assert oom_kills(root, own) == 2
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "memory.events").write_text("oom_kill 5\noom_group_kill 0\n", "utf-8")
    assert oom_kills(root, own) == 5
    # Version 1
    own.write_text("12:cpu:/x\n9:memory:/y\n", "utf-8")
    (root / "memory" / "y").mkdir(parents=True)
    (root / "memory" / "y" / "memory.oom_control").write_text(
        "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "utf-8"
    )
    assert oom_kills(root, own) == 7
    assert oom_kills(root, tmp_path / "missing") is None


def test_of_a_long_log_the_end_is_kept(tmp_path):
    path = tmp_path / "kernel.log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)), "utf-8")
    kept = log_end(path).splitlines()
    assert len(kept) == kernels.LINES and kept[-1] == "line 999"
    path.write_text("x" * 10**6, "utf-8")
    assert len(log_end(path)) == kernels.CHARACTERS


def test_a_home_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()  # a path below a file can neither be made nor read
    path = notebook(tmp_path / "h.ipynb", None, "print('well')")
    words = ["run", str(path), "--folder", str(tmp_path / "runs"), "--no-progress"]
    gone = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [*DFSP, *words], env=gone | {"HOME": str(tmp_path / "file" / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
