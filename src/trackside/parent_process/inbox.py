"""The signals that reach the parent process: numbers in a pipe, written by CPython's own C handler.

Invariants:

* Every signal that can be passed on is received, also one that was ignored or blocked when this process
  started. Your command inherits what it was: its own handler for an ignored SIGHUP counts.
* Nothing happens in signal context.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from typing import Any

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
_OWN = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, *_FAULTS}
"""What no process can receive, what is about this process alone, and what tells of a fault of its own."""

_FIRST_OF_OURS = 3

PASSED_ON = frozenset(map(int, signal.valid_signals())) - frozenset(map(int, _OWN))
"""The signals that are passed on, real-time signals among them."""


def block_all() -> set[int]:
    """Block the signals that are received here, and return those that were blocked before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    return set(map(int, before))


def do_nothing(_number: int, _frame: Any) -> None:
    """Stand in for a signal's default action. The C handler has written the number to the pipe by then."""


def receive_into(descriptor: int, numbers: frozenset[int]) -> None:
    """Have the numbers of signals written to ``descriptor``, which does not block, from now on."""
    signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, do_nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def make_pipe(*, blocks: bool = False) -> tuple[int, int]:
    """A pipe that programs do not inherit. Its ends are never 0, 1 or 2, which may have been closed."""
    low = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_OF_OURS) for end in low)
    for end in low:
        os.close(end)
    for end in (read, write):
        os.set_blocking(end, blocks)
    return read, write


def read_numbers(descriptor: int) -> bytes | None:
    """The signal numbers that wait in the pipe. None once its other end is closed."""
    try:
        data = os.read(descriptor, 4096)
    except BlockingIOError:
        return b""
    except OSError:
        return None
    return data or None


class Inbox:
    """Receives the signals of this process."""

    def __init__(self) -> None:
        self._read, self._write = make_pipe()

    @property
    def descriptors(self) -> tuple[int, int]:
        """Both ends of its pipe."""
        return self._read, self._write

    def open(self) -> None:
        """Receive from now on, what waited included."""
        receive_into(self._write, PASSED_ON | {int(signal.SIGCHLD)})

    def wait(self, seconds: float | None, also: int | None = None) -> list[int]:
        """Wait for signals, or until ``also`` can be read. Returns each number once, in order."""
        watched = [self._read] if also is None else [self._read, also]
        ready, _, _ = select.select(watched, [], [], seconds)
        data = (read_numbers(self._read) or b"") if self._read in ready else b""
        return list(dict.fromkeys(data))
