"""Kernels in a fraction of the time: forked from a process that has imported what notebooks need.

A batch's worker starts one such process, `Template`, and asks it for a kernel a run. A forked
kernel is a process of its own like any other, with the environment, working folder, session and log
that it would have had, and dies with its template, which dies with its worker. What makes a fork
safe is that the template

- has one thread (it counts them, and gives up if there are more): no lock can be held by a thread
  that the child does not have. Linear algebra is therefore told to use one thread, and Arrow's
  allocator to do without its own;
- has no socket, no event loop, no figure and no backend: the child makes its own, as Jupyter does.
  matplotlib's backend is named by the environment and loaded by the first figure;
- holds no random state that children would share: the child takes fresh seeds.

What cannot be had like this is started cold: kernels of another kind or environment, several
threads, systems other than Linux (`fits`), and notebooks that do not use this package and may set
an environment variable before an import.
"""

import atexit
import ctypes
import gc
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from io import BufferedWriter, TextIOWrapper
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from dfsp.errors import DfspError
from dfsp.evidence.load import load_evidence
from dfsp.runs.record import source_sha256, versions

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that tell libraries how many threads to use; Dask sets them for workers."""
ONE_THREAD = dict.fromkeys((*THREADS, "NUMEXPR_NUM_THREADS"), "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false"
}
START = 60.0
"""Seconds within which a template has to be ready."""
FORK = 10.0
"""Seconds within which it has to answer."""
_SETS_ENVIRONMENT = re.compile(r"\.environ\b|\bimport\b[^\n]*\benviron\b|\bputenv\b|%(set_)?env\b")
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
SERVE = (
    "import builtins, sys; del sys.path[: sys.path[0] == '']; "
    "builtins.get_ipython = type('Shell', (), {'kernel': None}); "
    "from dfsp.runs.template import serve; del builtins.get_ipython; serve()"
)
"""What a template does; modules of the working folder are none of its own. When it is imported,
pandas asks whether its tables are shown in a kernel or in a terminal."""
LAUNCHER = ("-m", "ipykernel_launcher", "-f")
"""What starts a kernel of this environment after its Python, before the connection file."""


class NoTemplate(Exception):
    """No kernel can be forked; the message says why."""


# ---------------------------------------------------------------- in the process that asks


class Forked:
    """A forked kernel, with what `subprocess.Popen` has and Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, template: "Template", pid: int) -> None:
        self.pid = pid
        self._template = template

    def poll(self) -> int | None:
        """Return how the kernel has ended, as `subprocess` does; None while it is at work."""
        return self._template.ended(self.pid)

    def wait(self) -> int | None:
        """Return how it has ended; Jupyter asks once it has."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Template:
    """A process from which kernels are forked, seen from the one that has started it.

    Attributes
    ----------
    source : str
        SHA-256 of the source of this package when it was started.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.source = source_sha256()
        self._lock = Lock()
        self._at_work: set[int] = set()
        self._ended: dict[int, int] = {}
        self._buffer = b""
        # Linux kills it with the thread that has started it, which therefore is one of its own.
        self._thread = ThreadPoolExecutor(1)
        self._process = self._thread.submit(
            subprocess.Popen[bytes],
            [sys.executable, "-c", SERVE],
            env=dict(environment) | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            preexec_fn=end_with(os.getpid()),
        ).result()
        try:
            with self._lock:
                self._answer("ready", START)
        except NoTemplate:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def fork(self, **asked: Any) -> Forked:
        """Return a kernel.

        Parameters
        ----------
        **asked
            `arguments` of the kernel's command, its `env`, `cwd`, and the path of its `log`.

        Raises
        ------
        NoTemplate
            The template has died, or does not answer.
        """
        with self._lock:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            except OSError as error:
                raise NoTemplate(str(error)) from None
            pid = self._answer("forked", FORK)
            self._at_work.add(pid)
            return Forked(self, pid)

    def ended(self, pid: int) -> int | None:
        """Return how a kernel has ended; None if it has not."""
        with self._lock:
            with suppress(NoTemplate):
                while self._read(0.0):
                    pass
            if pid not in self._ended and not self.alive:
                self._ended[pid] = -signal.SIGKILL  # as Linux does with what it has forked
            if pid in self._ended:
                self._at_work.discard(pid)
            return self._ended.get(pid)

    @property
    def idle(self) -> bool:
        """Whether all that it has forked has ended."""
        return all(self.ended(pid) is not None for pid in list(self._at_work))

    def _answer(self, kind: str, seconds: float) -> int:
        """Wait for an answer of a kind."""
        while message := self._read(seconds):
            if kind in message:
                return int(message[kind])
        self._process.kill()
        raise NoTemplate(f"it was not {kind} within {seconds:g} seconds")

    def _read(self, seconds: float) -> dict[str, int]:
        """Return the next message, or an empty one if there is none within some seconds."""
        out = self._process.stdout
        assert out is not None
        while b"\n" not in self._buffer:
            if not select.select([out], [], [], seconds)[0]:
                return {}
            data = os.read(out.fileno(), 65536)
            if not data:
                raise NoTemplate("it has ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, int] = json.loads(line)
        if "ended" in message:
            self._ended[message["ended"]] = message["status"]
        return message

    def close(self) -> None:
        """End it, and with it what it has forked."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._thread.shutdown()


_own: list[Template] = []
_failed: list[NoTemplate] = []
"""Why one has not started; the next would not either, and each run would wait for it."""
_starting = Lock()


def template(environment: Mapping[str, str]) -> Template:
    """Return this process's template; one that is dead or of an older source is replaced.

    Raises
    ------
    NoTemplate
        It does not start.
    """
    with _starting:
        source = source_sha256()
        for each in list(_own):
            if not each.alive or (each.source != source and each.idle):
                _own.remove(each)
                each.close()
        for each in _own:
            if each.source == source:
                return each
        if _failed:
            raise _failed[0]
        try:
            _own.append(Template(environment))
        except NoTemplate as error:
            _failed.append(error)
            raise
        return _own[-1]


def fits(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a kernel that is started by a command could as well be forked.

    Parameters
    ----------
    command : sequence of str
        Of a kernel.
    environment : mapping of str to str
        The kernel's.
    """
    return (
        sys.platform == "linux"
        and command[0] == sys.executable
        and tuple(command[1:4]) == LAUNCHER
        and all(environment.get(name) == "1" for name in THREADS)
    )


def suits(notebook: Path) -> bool:
    """Whether a notebook finds in a forked kernel what it would in one started cold.

    It does if it imports this package, as a template has, and has no environment variables for what
    it imports.
    """
    try:
        text = notebook.read_text(encoding="utf-8", errors="replace")
    except OSError:  # as its run will find
        return False
    return _suits(text)


@lru_cache(8)
def _suits(text: str) -> bool:
    uses = "import dfsp" in text or "from dfsp" in text
    return uses and not _SETS_ENVIRONMENT.search(text)


# ---------------------------------------------------------------- in the template

NEEDED = (
    "dfsp.analyses.judgements",
    "dfsp.parameters",
    "dfsp.plots",
    "dfsp.runs.record",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.core.pylabtools",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "pandas.core.methods.to_dict",
    "pandas.io.formats.csvs",
    "pandas.io.formats.html",
    "pandas.io.formats.string",
    "psutil",
    "seaborn",
    "sqlite3",
    "tornado.platform.asyncio",
    "zmq.utils.garbage",
)
"""What kernels and notebooks import; no PyMC, which starts threads and which many do without."""


def serve() -> None:
    """Be the template: import, then fork a kernel for each line of standard input."""
    for name in NEEDED:
        import_module(name)
    versions()
    with suppress(DfspError):  # what a first reading sets up takes a fifth of a second
        load_evidence("review")
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads > 1:
        sys.exit(f"a template has one thread, and not {threads}")
    gc.collect()
    gc.freeze()  # children share what is here, and their collector does not write to it
    out = os.dup(1)
    os.dup2(2, 1)
    told, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    last_words = end_with(os.getpid())
    _tell(out, ready=os.getpid())
    given = b""
    while True:
        ready, _, _ = select.select([0, told], [], [])
        if told in ready:
            os.read(told, 65536)
            for pid, status in _ended():
                _tell(out, ended=pid, status=status)
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:  # whoever asks is gone
            return
        *lines, given = (given + data).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                for number in (out, told, wake):
                    os.close(number)
                _be_kernel(json.loads(line), last_words)
                _end()
            _tell(out, forked=pid)


def _tell(out: int, **message: int) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")


def _ended() -> Iterator[tuple[int, int]]:
    """Yield the children that have ended and how: status, or below zero the signal."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])


def _be_kernel(asked: Mapping[str, Any], last_words: Callable[[], None]) -> None:
    """Be what a kernel is that was started cold."""
    import ipykernel_launcher
    import numpy as np
    import pandas as pd
    from ipykernel import iostream, kernelapp

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    last_words()
    log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, place in ((null, 0), (log, 1), (log, 2)):
        os.dup2(number, place)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    np.random.seed()  # noqa: NPY002  (the generator that notebooks share; Python's own sees to itself)
    sys.argv = [ipykernel_launcher.__file__, *asked["arguments"]]
    pd.set_option("display.encoding", iostream.OutStream.encoding)
    # ipykernel has read the environment at its import.
    os.environ["JPY_PARENT_PID"] = parent = str(os.getppid())
    argv = [*asked["arguments"], f"--IPKernelApp.parent_handle={parent}"]
    kernelapp.launch_new_instance(argv=argv)


def _end() -> NoReturn:
    """End as a process does, but for the clearing up of memory, which takes a tenth of a second.

    As processes that `multiprocessing` has forked do.
    """
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    # Once ipykernel has ended what sends, as it does first, this thread can wait for it in vain.
    control = app.control_thread
    if control and control.is_alive():
        control.stop()
        control.join()
    if app.shell:  # whose last words would collect what is dropped only after them
        app.shell.displayhook.do_full_cache = False
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # Not the kernel's own streams, whose thread has ended. Those in a circle must not be collected:
    # what a file writes to would be closed before it as often as after it.
    files = [each for each in gc.get_objects() if type(each) in (TextIOWrapper, BufferedWriter)]
    gc.collect()
    for file in (sys.__stdout__, sys.__stderr__, *files):
        with suppress(OSError, ValueError, AttributeError):
            file.flush()
    ctypes.CDLL(None).fflush(None)  # files of C
    os._exit(0)


def end_with(parent: int) -> Callable[[], None]:
    """Return what asks Linux, in a child, to kill it with its parent.

    Elsewhere it asks nothing: there ipykernel looks every second.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked
            os._exit(1)

    return ask
