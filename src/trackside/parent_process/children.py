"""Waiting for dead processes: the command, and orphans below it, which the kernel hands to this process.

Invariants:

* What the kernel says of an end is noted before the process leaves the table of processes, so its shipper
  never looks too early (:mod:`trackside.system.parent_folder`). Where ``waitid`` is missing (macOS before
  Python 3.13), it is noted right after.
* No zombie stays, also where this process is process 1 of a container.
"""

from __future__ import annotations

import contextlib
import os

from trackside.system.parent_folder import note_end

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """Become the parent of processes below this one whose own parent dies (Linux; elsewhere init is)."""
    with contextlib.suppress(Exception):  # no ctypes, no such call: orphans go to init, as without us
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Children:
    """The children of this process. ``command`` is the one that decides how this process ends."""

    def __init__(self, command: int, folder: str | None) -> None:
        self.command = command
        self._folder = folder
        self.status: int | None = None
        """The command's wait status, once it has ended."""
        self.stopped_by: int | None = None
        """The signal that has stopped the command. None while it runs."""

    def collect(self) -> None:
        """Wait for all that have changed, without blocking."""
        self._look_for_stop()
        while (pid := self._next_dead()) is not None:
            with contextlib.suppress(ChildProcessError):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self._keep(found, status)

    def _next_dead(self) -> int | None:
        """A dead child, still to be waited for. Its end is noted."""
        if not hasattr(os, "waitid"):
            return self._wait_for_any()
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if info is None:
            return None
        exited = info.si_code == os.CLD_EXITED
        self._note(
            info.si_pid,
            exit_code=info.si_status if exited else None,
            killed_by=None if exited else info.si_status,
        )
        return int(info.si_pid)

    def _wait_for_any(self) -> int | None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return None
                killed = os.WIFSIGNALED(status)
                self._note(
                    pid,
                    exit_code=None if killed else os.WEXITSTATUS(status),
                    killed_by=os.WTERMSIG(status) if killed else None,
                )
                self._keep(pid, status)
        return None

    def _note(self, pid: int, *, exit_code: int | None, killed_by: int | None) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):  # a full disk: the shipper judges by what else it knows
                note_end(self._folder, pid, exit_code=exit_code, killed_by=killed_by)

    def _keep(self, pid: int, status: int) -> None:
        if pid == self.command:
            self.status = status

    def _look_for_stop(self) -> None:
        if self.status is not None or not hasattr(os, "waitid"):
            return
        with contextlib.suppress(ChildProcessError):
            flags = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
            while (info := os.waitid(os.P_PID, self.command, flags)) is not None:
                self.stopped_by = None if info.si_code == os.CLD_CONTINUED else info.si_status

    def is_in_group(self) -> bool:
        """Whether the command is in this process's group, as it was when it started."""
        with contextlib.suppress(OSError):  # it has ended
            return os.getpgid(self.command) == os.getpgrp()
        return True

    def signal_command(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(OSError):  # it has other rights by now (sudo)
                os.kill(self.command, number)
