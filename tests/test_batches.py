"""Batches on small notebooks: checked first, taken up again, and honest whatever happens."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from command import call
from small import KEEP, notebook, plan, results

from dfsp.errors import DfspError
from dfsp.runs import run as runs
from dfsp.runs.batch import (
    BATCH_LOCK,
    RESULTS,
    Progress,
    _parallel,
    run_batch,
    write_results,
)
from dfsp.runs.plan import read_plan
from dfsp.runs.publish import LOCK, hold, recover, working
from dfsp.runs.record import read_record
from dfsp.runs.report import write_report
from dfsp.runs.run import execute, plan_run, run_notebook
from dfsp.runs.template import THREADS
from dfsp.schemas import schema

KILLS = int(os.environ.get("DFSP_KILLS", "2"))
DFSP = [sys.executable, "-c", "from dfsp.cli import main; main()"]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


# ---------------------------------------------------------------- what can happen to a run

WORK = KEEP + "keep(f'x is {x}')"


def by_status(where):
    return {row["p.kind"]: (row["status"], row["reason"]) for row in results(where)}


@pytest.mark.slow
def test_every_way_to_fail_is_recorded_and_the_others_go_on(tmp_path):
    path = notebook(
        tmp_path / "ways.ipynb",
        'kind: str = "good"',
        KEEP
        + """
import os, signal, time
if kind == "cell":
    1 / 0
if kind == "kernel":
    os._exit(3)
if kind == "slow":
    time.sleep(60)
if kind == "worker":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
if kind == "gate":
    check = dict(name="R-hat", passed=False, value=1.2, limit=1.01, says="chains disagree")
    keep("refused", checks=[check])
else:
    keep(f"{kind} done")
""",
        "print('reached')",
    )
    kinds = ["worker", "good", "cell", "kernel", "slow", "gate", "also good"]
    entry = {"notebook": str(path), "parameters": {"kind": kinds}}
    jobs = read_plan(plan(tmp_path / "plan.yaml", entry), timeout=5)
    where = tmp_path / "runs"
    heard = []
    end = run_batch(jobs, where, workers=2, tell=lambda now, outcome: heard.append(outcome))
    assert (end.done, end.failed, end.left) == (2, 5, 0)
    assert sorted(each.name for each in heard[1:]) == sorted(job.name for job in jobs)
    found = by_status(where)
    assert found["good"] == found["also good"] == ("complete", "")
    for kind, says in {
        "cell": "ZeroDivisionError: division by zero",
        "kernel": "the kernel died",
        "slow": "stopped after 5 seconds",
        "worker": "its worker process was killed (SIGKILL(-9)",
        "gate": "checks failed: R-hat",
    }.items():
        status, reason = found[kind]
        assert (status, says in reason) == ("failed", True), (kind, reason)
    for job in jobs:
        record = json.loads((where / job.name / "record.json").read_text())
        jsonschema.validate(record, schema("run"))
        if record["status"] == "failed":
            assert record["headline"] is None
        if job.values["kind"] in ("cell", "kernel", "slow", "worker"):  # half executed
            text = (where / job.name / "ways.ipynb").read_text()
            assert "injected-parameters" in text and "reached\\n" not in text
    assert {path.name for path in where.iterdir()} == {
        RESULTS, BATCH_LOCK, *(job.name for job in jobs)
    }  # fmt: skip


def test_what_nobody_has_set_is_in_the_record_and_in_the_table(tmp_path):
    path = notebook(tmp_path / "a.ipynb", 'x: int = 1\ny: str = "b"', WORK)
    where = tmp_path / "runs"
    run = execute(plan_run(path, {"x": "2"}), where)
    assert run.record["parameters"] == {"x": 2}
    assert run.record["effective_parameters"] == {"x": 2, "y": "b"}
    write_results(where)
    (row,) = results(where)
    assert (row["p.x"], row["p.y"]) == ("2", "b")


def test_a_notebook_that_vanishes_or_ruins_its_findings_leaves_a_record(tmp_path):
    gone = notebook(
        tmp_path / "gone.ipynb",
        "x: int = 1",
        f"import os\nos.remove({str(tmp_path / 'gone.ipynb')!r})",
    )
    ruin = """
import os, pathlib
pathlib.Path(os.environ["DFSP_RUN_FOLDER"], "findings.json").write_text("{")
"""
    jobs = [plan_run(gone, {}), plan_run(notebook(tmp_path / "ruin.ipynb", "x: int = 1", ruin), {})]
    end = run_batch(jobs, tmp_path / "runs", workers=1)
    assert (end.done, end.failed) == (0, 2)
    reasons = {row["notebook"]: row["reason"] for row in results(tmp_path / "runs")}
    assert "No such file" in reasons["gone.ipynb"] and "JSONDecodeError" in reasons["ruin.ipynb"]
    # Also if it is not even there at the start
    end = run_batch(jobs[:1], tmp_path / "runs", workers=1)
    assert end.failed == 1
    record = json.loads((tmp_path / "runs" / jobs[0].name / "record.json").read_text())
    assert record["notebook_sha256"] is None and "No such file" in record["reason"]
    jsonschema.validate(record, schema("run"))


def test_a_full_disk_is_the_reason_in_the_record(tmp_path, monkeypatch):
    path = notebook(tmp_path / "a.ipynb", "x: int = 1", WORK)
    write, calls = runs._write, []

    def full_once(target, content):
        calls.append(target)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        write(target, content)

    monkeypatch.setattr(runs, "_write", full_once)
    run = execute(plan_run(path, {}), tmp_path / "runs")
    assert run.record["status"] == "failed"
    assert "No space left on device" in run.record["reason"]
    jsonschema.validate(run.record, schema("run"))

    def always_full(target, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "_write", always_full)
    with pytest.raises(OSError, match="No space left"):
        execute(plan_run(path, {"x": "2"}), tmp_path / "runs")
    assert [each.name for each in (tmp_path / "runs").iterdir()] == [run.folder.name]


@pytest.fixture
def tiny(tmp_path):
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@linux_only
def test_a_disk_that_is_really_full(tiny, tmp_path):
    # What is kept was saved before, once in two seconds.
    loud = "import os, time\ntime.sleep(3 * (x == 40))\nfor _ in range(x):\n    print(os.urandom(50_000).hex())\n"
    path = notebook(
        tmp_path / "loud.ipynb",
        "x: int = 1",
        "print('whole')",
        loud,
        KEEP + "keep('done')",
    )
    where = tiny / "runs"
    jobs = [plan_run(path, {"x": str(x)}) for x in (1, 40, 2)]
    end = run_batch(jobs, where, workers=1)
    assert (end.done, end.failed) == (2, 1)
    found = {row["p.x"]: row for row in results(where)}
    assert found["1"]["status"] == found["2"]["status"] == "complete"
    assert found["40"]["status"] == "failed"
    assert "No space left on device" in found["40"]["reason"]
    kept = json.loads((where / jobs[1].name / "loud.ipynb").read_text())  # the last whole state
    assert "whole\n" in kept["cells"][2]["outputs"][0]["text"]
    assert not list(where.glob("*/.part-*"))
    # Nothing fits any more: each run is still told, the older table stays, there is no traceback.
    before = (where / RESULTS).read_text()
    with (tiny / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    entry = {"notebook": str(path), "parameters": {"x": [3, 4]}}
    done = subprocess.run(
        [*DFSP, "batch", str(plan(tmp_path / "plan.yaml", entry)), "--folder", str(where)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"Error: {where / RESULTS}: cannot be written (No"
    )
    assert sum("no record could be written" in line for line in done.stderr.splitlines()) == 2
    assert (where / RESULTS).read_text() == before
    with pytest.raises(DfspError, match=r"no record could be written \(No space"):
        run_notebook(path, {"x": "5"}, folder=where, progress=False)
    with pytest.raises(DfspError, match=r"the report cannot be written \(No space"):
        write_report(where)
    # A run without a record is in the table all the same, instead of an older one of its name.
    (tiny / "filler").unlink()
    write_results(where, [(jobs[0], "no record could be written")])
    (row,) = [row for row in results(where) if row["p.x"] == "1"]
    assert (row["status"], row["headline"]) == ("failed", "")


def test_a_text_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    script = f"""
import resource, pathlib
from dfsp.runs.publish import replace_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
replace_text(pathlib.Path({str(tmp_path / "a.txt")!r}), "x" * 5000)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "OSError" in done.stderr
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_reason_that_is_no_text_is_told_all_the_same(tmp_path):
    """Halves of characters, as undecodable bytes become in Python, have no place in UTF-8."""
    path = notebook(tmp_path / "a.ipynb", "s: str = ''", "s = chr(0xd800)")
    run = execute(plan_run(path, {}), tmp_path / "runs")
    assert run.record["status"] == "complete"
    assert read_record(run.folder)["effective_parameters"] == {"s": "?"}
    write_results(tmp_path / "runs", [(plan_run(path, {"s": "b"}), chr(0xDCFF))])
    assert [row["reason"] for row in results(tmp_path / "runs")] == ["", "?"]


# ---------------------------------------------------------------- taking up again


@pytest.fixture
def small(tmp_path):
    """A plan of three runs, one of which fails, and its folder."""
    (tmp_path / "data.csv").write_text("1\n")
    path = notebook(
        tmp_path / "small.ipynb",
        "x: int = 1",
        KEEP
        + f"""
import hashlib, pathlib
data = pathlib.Path({str(tmp_path / "data.csv")!r})
digest = hashlib.sha256(data.read_bytes()).hexdigest()
if x == 2 and data.read_text() == "1\\n":
    raise ValueError("two is too much")
keep(f"x is {{x}}", data={{str(data): digest}})
""",
    )
    entry = {"notebook": str(path), "parameters": {"x": [1, 2, 3]}}
    return plan(tmp_path / "plan.yaml", entry), tmp_path / "runs"


@pytest.mark.slow
def test_complete_runs_are_skipped_until_something_changes(small, tmp_path, monkeypatch):
    path, where = small

    def batch():
        """Do the batch; return which runs were done, and their reasons."""
        done = {}
        run_batch(
            read_plan(path), where, workers=1,
            tell=lambda now, outcome: outcome and done.update({outcome.name: outcome.reason}),
        )  # fmt: skip
        return {name.split("-")[0]: reason for name, reason in done.items()}

    failure = {"small_x=2": "ValueError: two is too much"}
    everything = {"small_x=1": None, "small_x=2": None, "small_x=3": None}
    assert batch() == everything | failure
    before = (where / RESULTS).read_text()
    assert batch() == failure  # a failed run is done again
    assert (where / RESULTS).read_text() == before
    # Data that a run has read
    (tmp_path / "data.csv").write_text("2\n")
    assert batch() == everything
    assert batch() == {}
    # A record that is not one, a notebook that was lost
    (one,) = where.glob("small_x=1-*")
    (one / "record.json").write_text("{")
    assert batch() == {"small_x=1": None}
    kept = json.loads((one / "record.json").read_text())
    lacks = {key: value for key, value in kept.items() if key != "parameters"}
    for damaged in ([], lacks, kept | {"data": None}, kept | {"status": "done"}):
        (one / "record.json").write_text(json.dumps(damaged))
        assert batch() == {"small_x=1": None}, damaged
    (one / "small.ipynb").unlink()
    assert batch() == {"small_x=1": None}
    # A table that its record names
    kept = json.loads((one / "record.json").read_text())
    (one / "record.json").write_text(json.dumps(kept | {"tables": ["t.csv"]}))
    assert batch() == {"small_x=1": None}
    # The versions of packages, and the package's own source where a run has imported it
    kept = json.loads((one / "record.json").read_text())
    assert kept["source_sha256"] is None
    (one / "record.json").write_text(json.dumps(kept | {"source_sha256": runs.source_sha256()}))
    (job,) = [job for job in read_plan(path) if job.name == one.name]
    assert runs.finished(job, where)
    old = runs.versions()
    for name, changed in {
        "versions": lambda: old | {"numpy": "0"},
        "source_sha256": lambda: "0" * 64,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(runs, name, changed)
            assert runs.finished(job, where) is None
    # The notebook
    notebook(tmp_path / "small.ipynb", "x: int = 1", WORK)
    assert batch() == everything


def test_draws_are_kept_when_asked_for(tmp_path):
    path = notebook(
        tmp_path / "fit.ipynb",
        "x: int = 1",
        """
import dfsp, pandas as pd
fit = dfsp.fit(pd.DataFrame({"study": ["A", "B"], "events": [x, 4], "total": [9, 9]}))
dfsp.record(fit=fit, tables={"more": fit.studies})
""",
    )
    where = tmp_path / "runs"
    plain = plan_run(path, {})
    assert execute(plain, where).record["draws"] is None
    asked = plan_run(path, {}, draws=True)
    assert runs.finished(plain, where) and not runs.finished(asked, where)
    run = execute(asked, where, again=False)
    assert run.record["draws"] == "draws.nc"
    assert run.record["tables"] == [
        "summary.csv", "studies.csv", "prior_sensitivity.csv", "more.csv",
    ]  # fmt: skip
    assert runs.finished(plain, where) and runs.finished(asked, where)
    import xarray as xr

    with xr.open_datatree(run.folder / "draws.nc", engine="h5netcdf") as tree:
        assert tree["posterior"]["mu"].shape == (4, 1000)
    row = results(write_results(where).parent)[0]
    summary = run.record["numbers"]["mean_rate"]
    assert float(row["mean_rate.q97.5"]) == summary["q97.5"]


# ---------------------------------------------------------------- more than one process


def test_a_second_batch_on_the_folder_says_so_and_stops(small):
    path, where = small
    where.mkdir()
    with hold(where / BATCH_LOCK, wait=False):
        (where / BATCH_LOCK).write_text("process 17 on host\n")
        done = call("batch", path, "--folder", where)
    assert done.returncode == 2
    assert "another batch (process 17 on host) is at work in this folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in where.iterdir()] == [BATCH_LOCK]


def test_whoever_waits_for_a_run_finds_it_done(small, monkeypatch):
    path, where = small
    job = read_plan(path)[0]
    first = execute(job, where)
    monkeypatch.setattr(runs, "_execute", lambda *_: pytest.fail("was run again"))
    assert execute(job, where, again=False).record == first.record


def test_a_finished_folder_without_its_name_is_published_by_who_comes_next(tmp_path):
    final = tmp_path / "run-0123abcd"
    for text in ("old", "new"):
        with working(final) as work:
            (work / "record.json").write_text(text)
    assert (final / "record.json").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == [final.name]
    final.rename(tmp_path / f".{final.name}")  # as if killed between the two moves
    # Killed at work, before the working folder was made, and at work still
    names = [f"{name}-0123abcd" for name in ("run", "half", "before", "held")]
    for name in names:
        (tmp_path / f".{name}{LOCK}").touch()
    for name in names[1::2]:
        (tmp_path / f".{name}").mkdir()
    (tmp_path / ".git").mkdir()  # of somebody else
    (tmp_path / ".git.lock").touch()
    with hold(tmp_path / f".held-0123abcd{LOCK}", wait=False):
        recover(tmp_path)
    assert (final / "record.json").read_text() == "new"
    assert {each.name for each in tmp_path.iterdir()} == {
        final.name, ".held-0123abcd", f".held-0123abcd{LOCK}", ".git", ".git.lock"
    }  # fmt: skip
    # The same run finds what was finished, too.
    final.rename(tmp_path / f".{final.name}")
    with working(final):
        assert (final / "record.json").read_text() == "new"


def test_nobody_works_on_a_run_that_somebody_else_works_on(tmp_path):
    final = tmp_path / "run-0123abcd"
    with working(final):
        assert hold(tmp_path / f".{final.name}{LOCK}", wait=False) is None
    assert not list(tmp_path.iterdir())  # without a record nothing is published


def family(tag):
    """The processes with a mark in their environment."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (each / "environ").read_bytes():
                found.append(each.name)
        except OSError:
            continue
    return found


def assert_no_family(tag):
    until = time.monotonic() + 30
    while (left := family(tag)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def attend():
    """Mind Ctrl-C also where the tests run in the background of a shell, which has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(path, where, tag):
    return subprocess.Popen(
        [*DFSP, "batch", str(path), "--folder", str(where), "--jobs", "2"],
        env=os.environ | {"DFSP_TEST_TAG": tag},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=attend,
    )  # fmt: skip


@pytest.mark.slow
@linux_only
def test_after_kills_at_random_moments_the_results_are_those_of_a_quiet_batch(small, tmp_path):
    path, where = small
    tag, rng = f"kill-{os.getpid()}-{tmp_path.name}", random.Random(20261123)
    quiet = tmp_path / "quiet"
    clock = time.monotonic()
    process = start(path, quiet, tag)
    process.communicate(timeout=600)
    assert process.returncode == 1  # one of the three runs fails
    length = time.monotonic() - clock
    kept = set()
    for _ in range(KILLS):
        process = start(path, where, tag)
        try:
            process.communicate(timeout=rng.uniform(0.2, 1.1) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert_no_family(tag)
        there = {each.name for each in where.glob("[!.]*/")}
        unnamed = {path.parent.name[1:] for path in where.glob(".*/record.json")}
        assert kept <= there | unnamed
        for name in there:
            record = json.loads((where / name / "record.json").read_text())
            jsonschema.validate(record, schema("run"))
            json.loads((where / name / "small.ipynb").read_text())
        kept = there
        if len(there) == 3 and (where / RESULTS).exists():
            assert (where / RESULTS).read_text() == (quiet / RESULTS).read_text()
            where.rename(tmp_path / f"done-{rng.random()}")
            kept = set()
    process = start(path, where, tag)
    process.communicate(timeout=600)
    assert (where / RESULTS).read_text() == (quiet / RESULTS).read_text()
    assert {each.name for each in where.iterdir()} == {each.name for each in quiet.iterdir()}


@linux_only
def test_a_worker_that_never_had_a_task_ends_with_its_batch(tmp_path):
    path = notebook(tmp_path / "long.ipynb", "x: int = 1", "import time\ntime.sleep(300)")
    where, tag = tmp_path / "runs", f"idle-{os.getpid()}-{tmp_path.name}"
    process = start(plan(tmp_path / "plan.yaml", {"notebook": str(path)}), where, tag)
    until = time.monotonic() + 300
    while not list(where.glob(".long*/kernel.log")) and time.monotonic() < until:
        time.sleep(0.05)
    # One worker has the run, the other none; beside them the batch, a tracker and the kernel.
    assert len(family(tag)) >= 4
    process.kill()
    process.wait()  # and not for what a worker could still write to its standard error
    assert_no_family(tag)
    process.communicate()


@pytest.mark.slow
@linux_only
def test_ctrl_c_stops_everything_and_says_how_to_go_on(tmp_path):
    path = notebook(tmp_path / "long.ipynb", "x: int = 1", "import time\ntime.sleep(60 * (x > 1))")
    entry = {"notebook": str(path), "parameters": {"x": [1, 2, 3, 4]}}
    where, tag = tmp_path / "runs", f"stop-{os.getpid()}-{tmp_path.name}"
    process = start(plan(tmp_path / "plan.yaml", entry), where, tag)
    until = time.monotonic() + 300
    while not list(where.glob("long_x=1-*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, says = process.communicate(timeout=30)
    assert process.returncode == 130, says
    assert "stopped; the same command takes up the rest" in says
    assert "Traceback" not in says
    assert_no_family(tag)
    assert [row["status"] for row in results(where)] == ["complete"]
    assert not list(where.glob(".long*"))


# ---------------------------------------------------------------- what one sees


def test_progress_in_words():
    now = Progress(total=10, done=4, failed=1, skipped=2, started=time.perf_counter() - 3671)
    assert str(now) == "4 done, 1 failed, 5 left, 1:01:11"


@pytest.mark.slow
def test_plain_lines_off_a_terminal(small):
    path, where = small
    done = call("batch", path, "--folder", where)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "3 runs, 0 of them complete and unchanged"
    assert len(lines) == 4, done.stderr
    assert re.match(r"2 done, 1 failed, 0 left, 0:\d\d:\d\d: small_x=", lines[-1])
    assert "\r" not in done.stderr
    assert done.stdout.startswith("2 done, 1 failed, 0 left")


def test_kernels_have_one_thread_however_few_work(monkeypatch, tmp_path):
    """Else they could not be forked: see `dfsp.runs.template.fits`."""
    asked = {}

    def pool(workers, *, env, **options):
        asked.update(env, workers=workers)
        raise KeyboardInterrupt

    monkeypatch.setattr("joblib.externals.loky.get_reusable_executor", pool)
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyboardInterrupt):
        next(_parallel([], tmp_path, 1))
    assert asked == dict.fromkeys(THREADS, "1") | {"workers": 1}
