"""Kernels that know where their results go, and end with the process that started them."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from threading import Thread
from time import sleep
from typing import IO, Any

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_GLANCE = 0.2


def kernel_manager(environment: Mapping[str, str], log: IO[bytes]) -> type:
    """Return a class of kernel managers for nbclient.

    Parameters
    ----------
    environment : mapping of str to str
        Variables that the kernel gets beside those of this process, which stay as they are:
        several runs may share a process.
    log : binary file
        Gets what the kernel's process itself prints, for example why it died.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
            command, kw = await super()._async_pre_start_kernel(**kw)
            kw["env"] = {**kw.get("env", os.environ), **environment}
            kw["stdout"] = kw["stderr"] = log
            kw["preexec_fn"] = _end_with(os.getpid())
            return command, kw

    return Manager


def _end_with(parent: int) -> Callable[[], None] | None:
    """Ask Linux to kill the kernel with its parent; elsewhere ipykernel looks every second."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked
            os._exit(1)

    return ask


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
