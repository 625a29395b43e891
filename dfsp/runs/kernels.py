"""Kernels of runs: shielded from what the user's machine has set, and clear about how they end.

`Engine` is papermill's engine of the runs. Its kernel knows where results go, ends with the process
that started it, sees neither `MPLBACKEND`, a matplotlibrc nor an IPython profile, and is asked
before the first cell who it is and after the last what its parameters are.
"""

import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

from dfsp.runs import light  # noqa: F401  (before others that import nbformat)

# isort: split
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

from dfsp.errors import DfspError
from dfsp.runs import inside
from dfsp.runs.record import PACKAGES
from dfsp.runs.template import NoTemplate, end_with, fits, template

KERNEL_LOG = "kernel.log"
PRIVATE = ".kernel"
"""Folder in that of a run for what is the kernel's own: its connection and IPython's folder."""
INLINE = "module://matplotlib_inline.backend_inline"
LINES, CHARACTERS = 30, 4000
"""How much of the end of a log is kept."""
_FOR_TERMINALS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_GLANCE = 0.2
"""Seconds between two looks whether the parent process is still there."""
_SAVED = 2.0
"""Seconds between two savings of a notebook at work."""
_SILENCE = 0.005
"""Seconds without a message after which a kernel that has answered is ready."""
_AGAIN = 5
"""Milliseconds after which a kernel that does not listen yet is tried again; of ZeroMQ, 100."""
_ENDING = 0.01
"""Seconds between two looks whether a kernel has ended."""


class KernelFailed(Exception):
    """The kernel did not start, is not the one that was meant, or died; the message says which."""


@dataclass
class Session:
    """What one run tells its kernel, and hears of it.

    Attributes
    ----------
    folder : Path
        The working folder of the run.
    names : sequence of str
        Of the parameters that are asked for at the end.
    environment : mapping of str to str
        Variables for the kernel.
    own : bool
        Whether only a kernel of this environment will do.
    warm : bool
        Whether the kernel may be forked from a template (`dfsp.runs.template`).
    timeout : float or None
        Seconds that the cells may take together.
    heard : dict
        The last answer of `inside.answer`; empty until there is one.
    """

    folder: Path
    names: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    own: bool = True
    warm: bool = False
    timeout: float | None = None
    heard: dict[str, Any] = field(default_factory=dict)

    @property
    def private(self) -> Path:
        return self.folder / PRIVATE

    @property
    def log(self) -> Path:
        return self.folder / KERNEL_LOG

    def shielded(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return a kernel's environment without what would change a result."""
        own = {
            "MPLBACKEND": INLINE,
            "MATPLOTLIBRC": str(Path(__file__).parents[1] / "templates" / "matplotlibrc"),
            "IPYTHONDIR": str(self.private / "ipython"),
        }
        kept = {name: value for name, value in environment.items() if name != "PYTHONSTARTUP"}
        return kept | own | dict(self.environment)


# ---------------------------------------------------------------- which kernel


def kernel_spec(name: str) -> KernelSpec:
    """Return the specification of a kernel.

    Raises
    ------
    DfspError
        There is none of this name.
    """
    manager = KernelSpecManager()
    try:
        return manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise DfspError(
            f"no kernel {name!r} is installed here; there is {known}: give one with --kernel NAME"
        ) from None


def starts_own(spec: KernelSpec) -> bool:
    """Whether a kernel is started by the Python of this environment."""
    start = spec.argv[0] if spec.argv else ""
    if start in ("python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"):
        return True  # jupyter_client puts its own in place of these
    return Path(start).is_absolute() and Path(start).parent == Path(sys.executable).parent


def refusal(name: str | None, *, own: bool) -> str | None:
    """Say why a notebook's kernel will not do; None if it will.

    Parameters
    ----------
    name : str or None
        As the notebook names it, or somebody's choice.
    own : bool
        Whether it has to be of this environment, since nobody has chosen it.
    """
    if name is None:
        return "it names no kernel; open and save it in Jupyter, or give one with --kernel NAME"
    try:
        spec = kernel_spec(name)
    except DfspError as error:
        return str(error)
    if not own or starts_own(spec):
        return None
    return (
        f"its kernel {name!r} of {spec.resource_dir} starts {' '.join(spec.argv[:1])}, which is "
        f"not this environment's {sys.executable}; give --kernel {name} to run it there all the "
        "same, which its record will say"
    )


@cache
def ask_kernel(name: str) -> dict[str, Any]:
    """Start a kernel, ask who it is, and stop it.

    Raises
    ------
    DfspError
        There is none of this name, or it does not answer.
    """
    import tempfile

    from dfsp.runs.light import nbformat

    kernel_spec(name)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder), own=False)
        notebook = nbformat.v4.new_notebook()
        client = _Client.plain(notebook, session, kernel_name=name)
        try:
            with client.setup_kernel():
                client.ask()
        except Exception as error:
            raise DfspError(f"the kernel {name!r} does not answer: {error}") from None
    return session.heard


# ---------------------------------------------------------------- running cells in it


class Engine(NBClientEngine):  # type: ignore[misc]
    """Papermill's engine of the runs; `run_session` holds their `Session`."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, run_session: Session, **options: Any
    ) -> Any:
        client = _Client(nb_man, session=run_session, kernel_name=kernel_name, log=logger)
        nb_man.save = client.saving(nb_man.save)
        try:
            done = client.execute()
        except BaseException:
            del nb_man.save  # what follows writes it whole
            raise
        nb_man.save = lambda **options: None  # papermill writes it once more
        return done


papermill_engines.register("dfsp", Engine)
# What it logs is on standard error where nobody has asked for logs; a run's reason says the same.
logger.addHandler(logging.NullHandler())


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """Executes a notebook; says how its kernel failed, if so."""

    def __init__(self, nb_man: Any, *, session: Session, **options: Any) -> None:
        session.private.mkdir(parents=True, exist_ok=True)
        manager = manager_of(session)
        super().__init__(nb_man, kernel_manager_class=manager, coalesce_streams=True, **options)
        self.session = session
        self.cell: int | None = None
        self.end: float | None = None  # when the cells have to be done
        self.unsaved = False
        self.save: Callable[..., None] = lambda **options: None

    @classmethod
    def plain(cls, notebook: Any, session: Session, **options: Any) -> "_Client":
        """Return a client for a notebook that is not papermill's."""
        from types import SimpleNamespace

        return cls(SimpleNamespace(nb=notebook), session=session, **options)

    def execute(self, **kwargs: Any) -> Any:
        kills = oom_kills()
        try:
            self.km = manager = self.create_kernel_manager()
            self.owns_km = True
            return super().execute(**kwargs)
        except (DeadKernelError, RuntimeError, OSError) as error:
            if self.cell is not None and not isinstance(error, DeadKernelError):
                raise
            raise KernelFailed(self._died(manager, kills, error)) from None

    def papermill_execute_cells(self) -> None:
        self.ask()
        own = self.session.heard["prefix"] == sys.prefix
        if self.session.own and not own:
            raise KernelFailed(
                f"the kernel {self.kernel_name!r} is {self.session.heard['python']}, which is not "
                f"of this environment ({sys.prefix}); give --kernel {self.kernel_name} to run it "
                "there all the same, which its record will say"
            )
        if self.session.timeout is not None:
            self.end = monotonic() + self.session.timeout
        super().papermill_execute_cells()
        self.end = None
        with suppress(Exception):  # whatever a notebook has made of its kernel
            self.ask()

    def _get_timeout(self, cell: Any) -> float | None:
        return None if self.end is None else max(self.end - monotonic(), 0.01)

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        self.cell = cell_index
        return super().execute_cell(cell, cell_index, **kwargs)

    def saving(self, save: Callable[..., None]) -> Callable[..., None]:
        """Let a notebook be saved once in some seconds.

        Papermill saves it twice a cell, of text too, which took a fifth of a run of many quick
        cells. It writes the whole at the end, whatever ends it but the end of this process.
        """
        last = monotonic()

        def save_sometimes(**options: Any) -> None:
            nonlocal last
            self.unsaved = monotonic() - last < _SAVED
            if not self.unsaved:
                save(**options)
                last = monotonic()

        self.save = save_sometimes
        return save_sometimes

    async def _async_poll_kernel_alive(self) -> None:
        """Watch the kernel beside a cell; save what is not saved yet if that takes its time."""
        later = asyncio.ensure_future(self._save_later())
        try:
            await super()._async_poll_kernel_alive()
        finally:
            later.cancel()

    async def _save_later(self) -> None:
        await asyncio.sleep(_SAVED)
        if self.unsaved:
            self.save()

    def ask(self) -> None:
        """Ask the kernel what `inside` answers."""
        path = self.session.private / "answer.json"
        source = Path(inside.__file__).read_text(encoding="utf-8")
        given = f"{str(path)!r}, globals(), {list(self.session.names)!r}, {list(PACKAGES)!r}"
        asked = f"(lambda own: (exec({source!r}, own), own['answer']({given}))[1])({{}})"
        message = self.kc.execute(
            "", silent=True, store_history=False, user_expressions={"asked": asked}
        )
        reply = self.wait_for_reply(message)
        try:
            self.session.heard = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            says = reply["content"].get("user_expressions", {}).get("asked", {}).get("evalue")
            raise KernelFailed(f"the kernel does not answer as Python does ({says})") from None

    def _died(self, manager: Any, kills: int | None, error: Exception) -> str:
        process = getattr(manager.provisioner, "process", None)
        code = process.poll() if process is not None else None
        now = oom_kills()
        memory = kills is not None and now is not None and now > kills
        if self.cell is None:
            says = f"the kernel did not start: {ended(code, memory=memory) if code else error}"
            last = log_end(self.session.log).splitlines()[-1:]
            return f"{says} ({last[0].strip()})" if last else says
        source = self.nb.cells[self.cell].source.strip().split("\n")[0][:60]
        number = sum(cell.cell_type == "code" for cell in self.nb.cells[: self.cell + 1])
        return f"the kernel died: {ended(code, memory=memory)} in code cell {number} ({source})"


def ended(code: int | None, *, memory: bool) -> str:
    """Say how a process has ended.

    Parameters
    ----------
    code : int or None
        Its exit status; below zero the signal that killed it; None if it is not known.
    memory : bool
        Whether the machine's kernel has meanwhile killed a process for want of memory.
    """
    if code is None:
        return "it does not answer"
    if code >= 0:
        return f"it ended with status {code}"
    if code == -signal.SIGKILL and memory:
        return "out of memory (killed by signal 9)"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    return f"killed by signal {-code} ({name})"


def oom_kills(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return how often a process of this control group was killed for want of memory.

    Parameters
    ----------
    root, own : Path
        Where Linux tells it (versions 1 and 2 of control groups).
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    for _, controllers, place in lines:
        folders = {"": (root, "memory.events"), "memory": (root / "memory", "memory.oom_control")}
        if controllers not in folders:
            continue
        top, file = folders[controllers]
        for folder in (top / place.lstrip("/"), top):  # in a container its own group is the top
            with suppress(OSError, ValueError):
                pairs = (line.split() for line in (folder / file).read_text("utf-8").splitlines())
                return int(dict(pair for pair in pairs if len(pair) == 2)["oom_kill"])
    return None


def log_end(path: Path) -> str:
    """Return the end of a kernel's log."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [
        line for line in text.splitlines() if line.strip() and "without encryption" not in line
    ]
    return "\n".join(lines[-LINES:])[-CHARACTERS:]


def _last_error(executed: Path) -> str:
    """Return the last line that a cell which failed wrote on standard error."""
    cells = json.loads(executed.read_text("utf-8"))["cells"]
    outputs = [
        output
        for cell in cells
        if cell["metadata"].get("papermill", {}).get("exception")
        for output in cell.get("outputs", [])
    ]
    texts = ["".join(each["text"]) for each in outputs if each.get("name") == "stderr"]
    return next((line for line in reversed("".join(texts).splitlines()) if line.strip()), "")


def reason_of(error: Exception, timeout: float | None = None, executed: Path | None = None) -> str:
    """Say why a run has failed, without colours and what else is meant for terminals."""
    return _FOR_TERMINALS.sub("", _reason_of(error, timeout, executed)).strip()


def _reason_of(error: Exception, timeout: float | None, executed: Path | None) -> str:
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        if executed and error.ename == "CellExecutionError" and (said := _last_error(executed)):
            return said  # of a magic that IPython does not know it tells on standard error alone
        return f"{error.ename}: {error.evalue}".removesuffix(": ")
    if isinstance(error, (KernelFailed, DfspError)):
        return str(error)
    if isinstance(error, CellTimeoutError):
        return f"stopped after {timeout:g} seconds, the most that a run may take"
    return f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------- the process


class _Prompt(AsyncZMQSocketChannel):
    async def get_msg(  # type: ignore[override]
        self, timeout: float | None = None
    ) -> dict[str, Any]:
        return await super().get_msg(None if timeout is None else min(timeout, _SILENCE))


class _KernelClient(AsyncKernelClient):
    """Waits neither a tenth of a second until a kernel listens, nor a fifth for its last word."""

    iopub_channel_class = _Prompt

    def _context_default(self) -> Any:
        context = super()._context_default()
        context.reconnect_ivl = _AGAIN
        return context


def manager_of(session: Session) -> type:
    """Return a class of kernel managers for one run."""

    class Manager(AsyncKernelManager):
        client_factory = _KernelClient

        async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
            # Not in the user's folder of Jupyter, which may be read-only.
            self.connection_file = str(session.private / "connection.json")
            command, kw = await super()._async_pre_start_kernel(**kw)
            kw["env"] = session.shielded(kw["env"])
            kw["preexec_fn"] = end_with(os.getpid())
            return command, kw

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
            if session.warm and fits(kernel_cmd, kw["env"]):
                with suppress(NoTemplate):
                    return self._fork(kernel_cmd, kw["env"], kw.get("cwd"))
            with session.log.open("ab") as log:
                await super()._async_launch_kernel(kernel_cmd, **kw, stdout=log, stderr=log)

        def _fork(self, command: list[str], env: dict[str, str], cwd: str | None) -> None:
            forked = template(env).fork(
                arguments=command[3:], env=env, cwd=cwd or str(Path.cwd()), log=str(session.log)
            )
            # As its provisioner does with the process that it starts.
            own: Any = self.provisioner
            own.process, own.pid, own.pgid = forked, forked.pid, forked.pid
            self._reconcile_connection_info(own.connection_info)

        async def _async_finish_shutdown(
            self,
            waittime: float | None = None,
            pollinterval: float = _ENDING,
            restart: bool = False,
        ) -> None:
            await super()._async_finish_shutdown(waittime, pollinterval, restart)

    return Manager


def follow(parent: int) -> None:
    """End this process soon after its parent has; nothing happens in the parent itself."""
    if parent == os.getpid() or parent in _followed:
        return
    _followed.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            sleep(_GLANCE)
        os._exit(1)

    Thread(target=watch, daemon=True, name="watch the parent process").start()


_followed: set[int] = set()
