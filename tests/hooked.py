"""What a run hooks into in its process, to be compared before and after."""

from __future__ import annotations

import logging
import signal
import sys
import threading


def wakeup_descriptor() -> int:
    """The process that has it now, or -1."""
    current = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(current)
    return current


def everything_hooked() -> dict[str, object]:
    """All that hooks touch, but for ``atexit``, which does not tell."""
    return {
        "excepthook": sys.excepthook,
        "threading": threading.excepthook,
        "exit": sys.exit,
        "SIGTERM": signal.getsignal(signal.SIGTERM),
        "SIGUSR1": signal.getsignal(signal.SIGUSR1),
        "SIGINT": signal.getsignal(signal.SIGINT),
        "wakeup": wakeup_descriptor(),
        "asyncio": list(logging.getLogger("asyncio").filters),
    }
