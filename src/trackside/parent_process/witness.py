"""Which signals your command has got already: a witness in the same process group tells.

The command runs in the same process group as this process, as after ``exec``: a terminal, ``kill -- -GROUP``
and a shell's job control reach it directly. Ctrl-C at a terminal goes to the whole group. Schedulers and
service managers signal every process of a job. If such a signal were passed on, the command would get it
twice, and many programs take a second one for "stop at once". A signal that was sent to this process alone
must be passed on.

A process can't tell the two apart. So there is a second one, of the same group and the same job, that does
nothing but receive. A signal that reaches both was meant for all.

Invariants:

* The witness ends when this process ends, however it ends, and holds none of its descriptors.
* What the witness says is asked only while the command is in the group.
* Without a witness (it could not be started, or was killed), a signal that a terminal sends counts as
  sent to all while the group is in the foreground. Every other signal is passed on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from trackside.parent_process.inbox import PASSED_ON, make_pipe, read_numbers, receive_into

_PATIENCE = 0.05 if os.path.exists("/proc/self/status") else 0.2
"""Seconds that a sender which signals one process after another may take to reach the next one."""

_LATER = 2.0
"""Seconds the witness has to report a signal that is known to wait for it."""

_MEMORY = 1.0
"""Seconds for which a report counts. Two signals of one number may arrive here as one."""

_POLL = 0.003
_OF_TERMINALS = {int(number) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH)}


class Witness:
    """The witness, in the parent process."""

    def __init__(self) -> None:
        """Start it. All signals must be blocked."""
        self._reports: list[tuple[int, float]] = []
        self._read, their_end = make_pipe()
        alive, self._alive = make_pipe(blocks=True)
        self.pid: int | None = None
        with contextlib.suppress(OSError):  # no more processes
            self.pid = os.fork()
        if self.pid == 0:
            try:
                _stand_by(their_end, alive)
            finally:
                os._exit(0)
        os.close(their_end)
        os.close(alive)

    @property
    def descriptors(self) -> tuple[int, int]:
        """The ends of its pipes in this process."""
        return self._read, self._alive

    def fileno(self) -> int | None:
        """A descriptor that is readable when there is something to :meth:`note`."""
        return self._read if self.pid is not None else None

    def note(self) -> None:
        """Take in what the witness has received."""
        data = read_numbers(self._read)
        if data is None:
            self.pid = None
            return
        now = time.monotonic()
        self._reports = [one for one in self._reports if now - one[1] < _MEMORY]
        self._reports += [(number, now) for number in data]

    def has_got(self, number: int) -> bool:
        """Whether the signal that this process has just received was sent to all."""
        deadline, waits = time.monotonic() + _PATIENCE, False
        while self.pid is not None:
            self.note()
            known = [one for one in self._reports if one[0] == number]
            if known:
                self._reports = [one for one in self._reports if one[0] != number]
                return True
            if not waits and self._is_pending(number):
                deadline, waits = time.monotonic() + _LATER, True
            if time.monotonic() >= deadline:
                return waits
            select.select([self._read], [], [], _POLL)
        return number in _OF_TERMINALS and _is_in_foreground()

    def dismiss(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            os.close(self._alive)
        self.pid = None

    def _is_pending(self, number: int) -> bool:
        """Whether the signal waits for the witness, which a busy machine has not let run yet (Linux)."""
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{self.pid}/status", "rb") as file:
            for line in file:
                if line.startswith((b"SigPnd:", b"ShdPnd:")) and int(line[7:], 16) >> (number - 1) & 1:
                    return True
        return False


def _stand_by(report: int, alive: int) -> None:
    """Be the witness: report signals until the parent process is gone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    close_all_but(0, 1, 2, report, alive)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    receive_into(report, PASSED_ON)
    os.read(alive, 1)


def close_all_but(*kept: int) -> None:
    """Close all descriptors of this process but ``kept``."""
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # no /proc
        descriptors = [*range(256)]
    for descriptor in descriptors:
        if descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
