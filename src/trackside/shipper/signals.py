"""The signals a shipper gets: some ask it to leave, all others are not for it.

A scheduler that warns a job (``--signal=USR1@60``), suspends it or counts its processor time signals every
process of the job, and most default actions are to die. So the trainer starts the shipper with all signals
blocked, and the shipper's first act is to ignore those that are not for it. There is no moment at which one
of them could kill it.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAVE = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU})
"""What asks a shipper to leave. SIGXCPU announces a SIGKILL."""

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
_FAULTS |= {signal.SIGSYS}
_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD, *_FAULTS}
"""Can't be ignored, mustn't be (``subprocess`` waits for its children), or tell of a fault of our own."""


def ignored() -> frozenset[int]:
    """The signals that are not for a shipper, real-time signals among them."""
    return frozenset(map(int, signal.valid_signals())) - frozenset(map(int, LEAVE | _KEPT))


def ignore_foreign_signals() -> None:
    """Ignore what is not for us, block nothing: a shipper starts the same whatever its parent had set.

    A signal that asks to leave stays blocked until :func:`on_request_to_leave`.
    """
    for number in ignored():
        with contextlib.suppress(OSError, ValueError):  # the C library keeps some for itself
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide the exit codes of our own children
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, LEAVE)


def on_request_to_leave(handler: Callable[[int, Any], None]) -> None:
    """Call ``handler`` for a signal that asks to leave, also for one that came before."""
    for number in LEAVE:
        signal.signal(number, handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)


@contextlib.contextmanager
def all_blocked() -> Iterator[None]:
    """Block all signals: a process started now inherits that. This thread's come once it is over."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
