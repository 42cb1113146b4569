"""Ending this process as the command ended: with its exit code, or by the same signal."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

BY_SIGNAL = 128
"""A shell shows the death by signal ``n`` as this and ``n``."""


def leave_as(status: int) -> NoReturn:
    """End this process as the wait status ``status`` says.

    The kernel does not let process 1 of a container die by its own signal. It exits with 128 and the number.
    """
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    _leave_no_core()
    with contextlib.suppress(OSError, ValueError):
        if number not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(BY_SIGNAL + number)


def _leave_no_core() -> None:
    """The command has written its own core file. One of this process would take its place."""
    with contextlib.suppress(Exception):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
