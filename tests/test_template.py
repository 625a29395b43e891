"""Kernels forked from a template do what cold ones do, and no run knows of another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from small import KEEP, notebook

from dfsp.runs import kernels, template
from dfsp.runs.run import execute, plan_run
from dfsp.runs.template import THREADS, NoTemplate, Template, fits, suits

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone"),
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """One thread a kernel, as a batch's workers have it, and a template that ends with the test."""
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    yield
    while template._own:
        template._own.pop().close()


@pytest.fixture
def forks(monkeypatch):
    """The kernels that were forked."""
    made = []
    fork = Template.fork

    def counted(self, **asked):
        made.append(fork(self, **asked))
        return made[-1]

    monkeypatch.setattr(Template, "fork", counted)
    return made


def run(path, where, values=None, warm=True):
    return execute(plan_run(path, values or {}), where, warm=warm)


def said(done):
    """What the last cell of a run has printed."""
    text = (done.folder / done.record["notebook"]).read_text("utf-8")
    return "".join(json.loads(text)["cells"][-1]["outputs"][0]["text"])


def test_a_forked_run_is_that_of_a_cold_kernel(tmp_path, forks):
    """Of one of the project's own notebooks: its record, tables, figures and outputs."""
    path = Path(__file__).parents[1] / "notebooks" / "02_response.ipynb"
    warm, cold = (
        run(path, tmp_path / name, {"engine": "exact"}, warm=name == "warm")
        for name in ("warm", "cold")
    )
    assert len(forks) == 1
    times = ("started", "seconds", "cell_seconds")
    first, second = ({k: v for k, v in r.record.items() if k not in times} for r in (warm, cold))
    assert first == second and first["status"] == "complete" and first["figures"]
    for name in (*first["figures"], *first["tables"]):
        assert (warm.folder / name).read_bytes() == (cold.folder / name).read_bytes(), name
    cells = [
        json.loads((done.folder / path.name).read_text("utf-8"))["cells"] for done in (warm, cold)
    ]
    for one, other in zip(*cells, strict=True):
        assert one.get("outputs") == other.get("outputs")
    assert sorted(p.name for p in warm.folder.iterdir()) == sorted(
        p.name for p in cold.folder.iterdir()
    )


def test_a_forked_kernel_shows_and_says_what_a_cold_one_does(tmp_path, forks):
    """Every option of pandas and of matplotlib, and no notice about a parent in the log."""
    path = notebook(
        tmp_path / "options.ipynb", "x: int = 0",
        "import dfsp, os, pandas as pd, matplotlib as mpl",
        "from pandas._config.config import _global_config as own",
        "print(own, {k: v for k, v in mpl.rcParams.items() if k != 'figure.hooks'})",
    )  # fmt: skip
    first, second = (run(path, tmp_path / "runs", {"x": str(x)}, warm=x < 2) for x in (1, 2))
    assert len(forks) == 1
    assert said(first) == said(second) != ""
    failing = notebook(tmp_path / "failing.ipynb", "x: int = 0", "import dfsp", "1 / 0")
    first, second = (run(failing, tmp_path / "runs", {"x": str(x)}, warm=x < 2) for x in (1, 2))
    assert len(forks) == 2
    assert first.record["log"] is None and second.record["log"] is None


def test_no_run_sees_what_another_has_done(tmp_path, forks):
    path = notebook(
        tmp_path / "state.ipynb", "x: int = 0",
        "import dfsp, os, random, sys\nimport numpy as np\n"
        "seen = dfsp.__doc__, os.environ.get('LEFT'), os.getcwd()\n"
        "dfsp.__doc__ = 'changed'\nos.environ['LEFT'] = 'here'\nos.chdir('/')\n"
        "threads = [pool['num_threads'] for pool in __import__('threadpoolctl').threadpool_info()]",
        "print([*seen, os.getsid(0) == os.getpid(), set(threads), np.random.random(),"
        " random.random(), 'pymc' in sys.modules, os.environ['DFSP_RUN_FOLDER'],"
        " '' in sys.path, sys.argv[0].endswith('ipykernel_launcher.py')])",
    )  # fmt: skip
    # The notebook names os.environ, and would be started cold.
    assert not suits(path)
    path.write_text(path.read_text("utf-8").replace("os.environ", "getattr(os, 'environ')"))
    where = tmp_path / "runs"
    first, second, cold = (
        eval(said(run(path, where, {"x": str(x)}, warm=x < 3))) for x in (1, 2, 3)
    )
    assert len(forks) == 2
    for seen in (first, second, cold):
        assert seen[1:5] == [None, str(tmp_path), True, {1}] and seen[7] is False
        assert seen[9:] == [True, True]
    assert first[0] == second[0] == cold[0] != "changed"
    # Random numbers of NumPy and of Python are nobody else's.
    assert len({first[5], second[5], cold[5]}) == len({first[6], second[6], cold[6]}) == 3
    assert len({first[8], second[8], cold[8]}) == 3


def test_what_is_written_but_not_flushed_is_kept(tmp_path, forks):
    """As Python does at its end: of a file that a module holds, and of one in a circle."""
    path = notebook(
        tmp_path / "files.ipynb", None,
        "import dfsp, atexit\ndfsp.kept = open('held.txt', 'w')\ndfsp.kept.write('held')\n"
        "circle = [open('circle.txt', 'w')]\ncircle[0].write('circle')\ncircle.append(circle)\n"
        "atexit.register(lambda: open('last.txt', 'w').write('last'))",
    )  # fmt: skip
    run(path, tmp_path / "runs")
    assert len(forks) == 1
    for name in ("held", "circle", "last"):
        assert (tmp_path / f"{name}.txt").read_text("utf-8") == name


def test_a_killed_kernel_says_so_and_the_next_is_forked_as_well(tmp_path, forks):
    path = notebook(
        tmp_path / "dies.ipynb", "x: int = 0",
        "import dfsp, os, signal\nif x == 1:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if x == 2:\n    os._exit(3)",
        KEEP + "keep(str(x))",
    )  # fmt: skip
    path.write_text(path.read_text("utf-8").replace("os.environ", "getattr(os, 'environ')"))
    where = tmp_path / "runs"
    ends = [run(path, where, {"x": str(x)}).record for x in (1, 2, 3)]
    assert [end["status"] for end in ends] == ["failed", "failed", "complete"]
    assert "killed by signal 9 (SIGKILL) in code cell" in ends[0]["reason"]
    assert "it ended with status 3 in code cell" in ends[1]["reason"]
    assert len(forks) == 3


def test_a_template_that_was_killed_is_replaced_and_takes_its_kernels_along(tmp_path, forks):
    path = notebook(tmp_path / "x.ipynb", "x: int = 0", "import dfsp\nprint(x)")
    where = tmp_path / "runs"
    assert said(run(path, where, {"x": "1"})) == "1\n"
    (first,) = template._own
    kernel = first.fork(
        arguments=["-f", str(tmp_path / "connection.json")],
        env=dict(os.environ), cwd=str(tmp_path), log=str(tmp_path / "log"),
    )  # fmt: skip
    assert kernel.poll() is None
    os.kill(first._process.pid, signal.SIGKILL)
    first._process.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{kernel.pid}/stat").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{kernel.pid}").exists()
    assert kernel.poll() == -signal.SIGKILL
    assert said(run(path, where, {"x": "2"})) == "2\n"
    assert template._own[0] is not first


def test_without_a_template_kernels_are_started_cold(tmp_path, forks, monkeypatch):
    path = notebook(tmp_path / "x.ipynb", "x: int = 0", "import dfsp\nprint(x)")

    def none(environment):
        raise NoTemplate("no more processes")

    monkeypatch.setattr(kernels, "template", none)
    assert said(run(path, tmp_path / "runs", {"x": "3"})) == "3\n"
    assert not forks


def test_modules_of_the_working_folder_are_none_of_a_template(tmp_path, monkeypatch):
    """As they are none of a kernel that is started cold, which is at home elsewhere."""
    (tmp_path / "dfsp").mkdir()
    (tmp_path / "dfsp" / "__init__.py").write_text("raise SystemExit('another')", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert template.template(os.environ).alive


def test_a_template_outlives_the_thread_that_started_it(tmp_path):
    """Linux kills with a thread what that thread has started, if asked; others need the template."""
    starts = Thread(target=template.template, args=[os.environ])
    starts.start()
    starts.join()
    (made,) = template._own
    with pytest.raises(subprocess.TimeoutExpired):
        made._process.wait(2)


def test_what_does_not_start_is_not_tried_again(tmp_path, monkeypatch):
    tried = []

    def fails(environment):
        tried.append(environment)
        raise NoTemplate("a template has one thread, and not 3")

    monkeypatch.setattr(template, "Template", fails)
    monkeypatch.setattr(template, "_failed", [])
    for _ in range(2):
        with pytest.raises(NoTemplate, match="and not 3"):
            template.template(os.environ)
    assert len(tried) == 1


def test_a_template_of_another_source_is_replaced_once_its_kernels_have_ended(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(template, "source_sha256", lambda: "a")
    first = template.template(os.environ)
    kernel = first.fork(
        arguments=["-f", str(tmp_path / "connection.json")],
        env=dict(os.environ), cwd=str(tmp_path), log=str(tmp_path / "log"),
    )  # fmt: skip
    assert template.template(os.environ) is first
    monkeypatch.setattr(template, "source_sha256", lambda: "b")
    second = template.template(os.environ)
    assert second is not first and kernel.poll() is None
    kernel.kill()
    until = time.monotonic() + 10
    while kernel.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert kernel.poll() == -signal.SIGKILL and first.alive
    assert template.template(os.environ) is second and not first.alive


def test_what_is_not_forked(tmp_path):
    one = dict.fromkeys(THREADS, "1")
    command = [sys.executable, *template.LAUNCHER, "connection.json"]
    assert fits(command, one)
    assert not fits(command, one | {"OPENBLAS_NUM_THREADS": "2"})
    assert not fits(command, {})
    assert not fits(["/usr/bin/python3", *command[1:]], one)
    assert not fits([sys.executable, "-m", "xeus", "-f", "connection.json"], one)
    assert not suits(notebook(tmp_path / "other.ipynb", "x = 1", "import numpy"))
    lines = ("os.environ['A'] = '4'", "from os import environ\nenviron['A'] = '4'", "%env A=agg")
    for line in lines:
        assert not suits(notebook(tmp_path / "env.ipynb", "x = 1", line, "import dfsp"))
    words = "# of this environment\nfrom dfsp import fit"
    assert suits(notebook(tmp_path / "ours.ipynb", "x = 1", words))
