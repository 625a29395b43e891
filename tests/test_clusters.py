"""Batches on a real Dask cluster of worker processes, and what can happen to it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from command import call
from small import KEEP, notebook, plan, results

from dfsp.errors import DfspError
from dfsp.runs import cluster
from dfsp.runs.batch import RESULTS, run_batch
from dfsp.runs.plan import read_plan
from dfsp.runs.record import source_sha256, versions

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # of distributed and its processes
DFSP = [sys.executable, "-c", "from dfsp.cli import main; main()"]


@pytest.fixture(scope="module")
def two():
    """A cluster of two worker processes that gives a task up at the first worker that it kills.

    It does not give up a worker that takes its time to come back.
    """
    patient = distributed.dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"})
    with (
        patient,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as made,
    ):
        made.scheduler.allowed_failures = 0
        yield made


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A plan of four runs, one of which fails, and the table that a quiet batch makes of it."""
    folder = tmp_path_factory.mktemp("small")
    path = notebook(
        folder / "small.ipynb",
        "x: int = 1",
        KEEP
        + f"""
import pathlib, time
while x > 1 and pathlib.Path({str(folder / "wait")!r}).exists():
    time.sleep(0.1)
if x == 2:
    raise ValueError("two is too much")
keep(f"x is {{x}}")
""",
    )
    entry = {"notebook": str(path), "parameters": {"x": [1, 2, 3, 4]}}
    return plan(folder / "plan.yaml", entry)


@pytest.fixture(scope="module")
def quiet(small):
    where = small.with_name("quiet")
    end = run_batch(read_plan(small), where, workers=1)
    assert (end.done, end.failed) == (3, 1)
    return (where / RESULTS).read_text("utf-8")


def test_a_cluster_does_what_processes_do_and_not_in_the_submitting_one(
    two, small, quiet, tmp_path
):
    where = tmp_path / "there"
    end = run_batch(read_plan(small), where, scheduler=two.scheduler_address)
    assert (end.done, end.failed) == (3, 1)
    assert (where / RESULTS).read_text("utf-8") == quiet
    # Whose child is a kernel? Also one worker with one thread must not leave it to who submits.
    path = notebook(tmp_path / "who.ipynb", None, KEEP + "import os\nkeep(str(os.getppid()))")
    jobs = read_plan(plan(tmp_path / "who.yaml", {"notebook": str(path)}))
    run_batch(jobs, where, scheduler=two.scheduler_address)
    (row,) = [row for row in results(where) if row["notebook"] == "who.ipynb"]
    workers = {worker.pid for worker in two.workers.values()}
    assert int(row["headline"]) in workers and os.getpid() not in workers


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")
def test_a_worker_under_a_nanny_forks_its_kernels(two, tmp_path):
    """The kernel's parent is a template, and that one's parent the worker (/proc/PID/stat)."""
    told = (
        "import dfsp, os, pathlib\nstat = pathlib.Path(f'/proc/{os.getppid()}/stat').read_text()\n"
    )
    path = notebook(
        tmp_path / "whose.ipynb", None, told + "dfsp.record(headline=stat.rpartition(')')[2])"
    )
    where = tmp_path / "runs"
    jobs = read_plan(plan(tmp_path / "whose.yaml", {"notebook": str(path)}))
    run_batch(jobs, where, scheduler=two.scheduler_address)
    (row,) = results(where)
    workers = {worker.pid for worker in two.workers.values()}
    assert int(row["headline"].split()[1]) in workers


def test_a_run_that_kills_its_worker_has_failed_and_the_others_go_on(two, tmp_path):
    path = notebook(
        tmp_path / "poison.ipynb",
        "n: int = 0",
        KEEP + "import os, signal, time\nif n == 1:\n    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(60)\nkeep(str(n))",
    )
    entry = {"notebook": str(path), "parameters": {"n": [0, 1, 2]}}
    where = tmp_path / "runs"
    jobs = read_plan(plan(tmp_path / "plan.yaml", entry))
    end = run_batch(jobs, where, scheduler=two.scheduler_address)
    assert (end.done, end.failed) == (2, 1)
    found = {row["p.n"]: (row["status"], row["reason"]) for row in results(where)}
    assert found == {
        "0": ("complete", ""),
        "1": ("failed", "its worker process was killed"),
        "2": ("complete", ""),
    }


def test_workers_that_do_not_fit_are_named(two, small, tmp_path, monkeypatch):
    jobs, where = read_plan(small), tmp_path / "runs"
    until = time.monotonic() + 300
    with distributed.Client(two) as client:  # one may have been killed, and still be listed
        while (
            sum(isinstance(pid, int) for pid in client.run(os.getpid, on_error="return").values())
            < 2
        ):
            assert time.monotonic() < until
            time.sleep(0.1)
    for name, value, says in (
        ("versions", lambda: versions() | {"pandas": "0.1"}, r"has pandas \S+ instead of 0\.1"),
        ("source_sha256", lambda: "0" * 64, "has another source of dfsp"),
        ("sha256", lambda path: "1" * 64, r"sees another /\S+"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(cluster, name, value)
            with pytest.raises(DfspError) as raised:
                run_batch(jobs, where, scheduler=two.scheduler_address)
        text = str(raised.value)
        assert text.startswith(f"{two.scheduler_address}: workers that cannot do these runs\n")
        assert len(re.findall(says, text)) == 2, text  # both workers
    assert cluster.why_unfit('{"versions": {}, "source": "", "files": {}}') is not None
    missing = f'{{"versions": {{}}, "source": "{source_sha256()}", "files": {{"/no/such": ""}}}}'
    assert cluster.why_unfit(missing) == "does not see /no/such (No such file or directory)"


# ---------------------------------------------------------------- clusters of one's own processes


class Processes:
    """A scheduler and workers as somebody starts them."""

    def __init__(self, folder):
        self.folder = folder
        self.all = []
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(folder / "scheduler.json"),
        )  # fmt: skip
        import json

        until = time.monotonic() + 120
        while not (folder / "scheduler.json").exists() and time.monotonic() < until:
            time.sleep(0.1)
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def _start(self, word, *words, **env):
        command = [sys.executable, "-m", f"distributed.cli.{word}", *words]
        with (self.folder / f"{word}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | env,
                start_new_session=True,
            )
        self.all.append(process)
        return process

    def worker(self, *words, **env):
        words = ("--nthreads", "1", "--no-dashboard", *words)
        return self._start("dask_worker", self.address, *words, **env)

    def stop(self):
        for process in self.all:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "cluster").mkdir()
    made = Processes(tmp_path / "cluster")
    yield made
    made.stop()


def batch(small, where, address, *words):
    command = [*DFSP, "batch", str(small), "--folder", str(where), "--scheduler", address, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_no_worker_in_time_a_late_one_and_another_version(processes, small, quiet, tmp_path):
    where = tmp_path / "there"
    process = batch(small, where, processes.address, "--wait", "0.5")
    _, says = process.communicate(timeout=120)
    assert process.returncode == 2
    assert (
        says.splitlines()[-1].startswith(
            f"Error: the Dask scheduler at {processes.address} has had no worker for 0.5 seconds"
        )
        and "Traceback" not in says
    )
    # A worker that joins late does them all.
    process = batch(small, where, processes.address, "--wait", "300")
    time.sleep(3)
    worker = processes.worker()
    _, says = process.communicate(timeout=300)
    assert process.returncode == 1, says  # one of the four runs fails
    assert (where / RESULTS).read_text("utf-8") == quiet
    # A worker with another thing of this name
    os.killpg(worker.pid, signal.SIGKILL)
    # A module: of a package an editable installation would still add the parts that it lacks.
    other = tmp_path / "other" / "dfsp.py"
    other.parent.mkdir()
    other.write_text("__version__ = '0'")
    processes.worker(PYTHONPATH=str(other.parent))
    process = batch(small, tmp_path / "again", processes.address, "--wait", "300")
    _, says = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in says, says
    assert "has not this version of dfsp" in says


@pytest.mark.slow
def test_a_lost_scheduler_is_said_and_the_rest_is_taken_up(processes, small, quiet, tmp_path):
    where = tmp_path / "there"
    flag = small.with_name("wait")
    flag.touch()
    processes.worker()
    process = batch(small, where, processes.address, "--wait", "300")
    until = time.monotonic() + 300
    while not list(where.glob("[!.]*/record.json")) and time.monotonic() < until:
        time.sleep(0.05)
    processes.scheduler.kill()
    _, says = process.communicate(timeout=120)
    assert process.returncode == 2, says
    last = says.splitlines()[-1]
    assert last.startswith(f"Error: the Dask scheduler at {processes.address} was lost"), says
    assert "Traceback" not in says
    processes.stop()
    flag.unlink()
    end = run_batch(read_plan(small), where, workers=2)
    assert (end.done, end.failed) == (3, 1) and end.skipped >= 1
    assert (where / RESULTS).read_text("utf-8") == quiet


@pytest.mark.slow  # above, one is killed from inside
def test_a_worker_that_is_killed_from_outside_changes_nothing(
    two, small, quiet, tmp_path, monkeypatch
):
    where = tmp_path / "there"
    # As by default, so that both deaths may meet the same run.
    monkeypatch.setattr(two.scheduler, "allowed_failures", 3)
    # Two deaths of innocent workers at random moments: their runs are done by another one.
    stop = threading.Event()

    def kill():
        for _ in range(2):
            if stop.wait(2):
                return
            with warnings.catch_warnings(action="ignore"):
                worker = next(iter(two.workers.values()))
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        end = run_batch(read_plan(small), where, scheduler=two.scheduler_address, wait=600)
    finally:
        stop.set()
        killer.join()
    assert (end.done, end.failed) == (3, 1)
    assert (where / RESULTS).read_text("utf-8") == quiet


def test_no_scheduler_at_the_address_and_options_that_exclude_each_other(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(cluster, "ANSWER", 1.0)
    with pytest.raises(DfspError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        run_batch(read_plan(small), tmp_path / "there", scheduler="tcp://127.0.0.1:1")
    # What is no address, or asks for keys that are not there, leaves nothing that would hang.
    for address, says in (
        ("here", "missing port number"),
        ("http://127.0.0.1:80", "unknown address scheme 'http'"),
        ("tls://127.0.0.1:1", "check your TLS configuration"),
    ):
        with pytest.raises(DfspError, match=says):
            run_batch(read_plan(small), tmp_path / "there", scheduler=address)
    assert {client.status for client in distributed.Client._instances} <= {"closed"}
    words = ["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"]
    done = call("batch", small, *words)
    assert done.returncode == 2 and "give one" in done.stderr
