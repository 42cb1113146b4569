"""Stopping with the command: a shell sees a stopped job only if the process that it started is stopped.

Invariant: this process stops only if it was itself asked to (Ctrl-Z, a read from the terminal in the
background) *and* the command has stopped. A command that handles Ctrl-Z keeps running, and so does this
process. If another process stops and continues the command, this process is never left stopped.
"""

from __future__ import annotations

import os
import signal
import time

from trackside.parent_process.inbox import do_nothing

STOPS = {int(number) for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)}

_MEMORY = 10.0
"""Seconds the command has to stop after it was asked. Some first put the terminal in order."""


class JobControl:
    """Follows the command into a stop."""

    def __init__(self) -> None:
        self._asked: tuple[int, float] | None = None

    def take(self, number: int) -> None:
        """Take in a signal that this process has got."""
        if number in STOPS:
            self._asked = (number, time.monotonic())
        elif number == signal.SIGCONT:
            self._asked = None

    def follow(self, stopped_by: int | None) -> bool:
        """Stop this process if it was asked to and the command has stopped. True after the stop."""
        if self._asked is None or stopped_by is None:
            return False
        (number, at), self._asked = self._asked, None
        if time.monotonic() - at > _MEMORY:
            return False
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # returns when this process continues
        signal.signal(number, do_nothing)
        return True
