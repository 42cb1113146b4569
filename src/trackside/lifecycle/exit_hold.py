"""Hold the process's exit until the shipper has set the status: in a container, they die together.

A training that is process 1 of a container takes the shipper with it. The same happens a moment later if
its parent is process 1 and ends, too. The exit code is known only after everything of Python is gone
(:mod:`trackside.lifecycle.exit_code`), and by then the shipper has to act on it before the process ends.

So one more function of the C library is registered with ``on_exit``: ``putw`` to a stream that blocks, since
it is open on a socket whose buffer is full. The shipper reads the exit code from its file, sets the status
and closes the other end of the socket. Then ``exit`` continues.

Invariants:

* The process never hangs: the write ends after a few seconds (``SO_SNDTIMEO``), or at once if the shipper has
  died. Its failure changes nothing about the exit.
* A forked child may have inherited the shipper's end. So the shipper does not only close it, it empties it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct

from trackside.lifecycle.exit_code import load_library, on_exit_putw
from trackside.system.descriptors import OwnDescriptor, move_up

_INITIAL_NAMESPACE = "pid:[4026531836]"
"""``PROC_PID_INIT_INO`` of Linux's include/linux/proc_ns.h: the processes of the machine, in no container."""

_BUFFER = 4096
"""Bytes asked for as the socket's buffer. The kernel gives at least twice its minimum."""


class ExitHold:
    """The training's side. ``shipper_end`` is the descriptor to pass on to the shipper."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ours, self._theirs = OwnDescriptor(ours.detach()), OwnDescriptor(theirs.detach())

    @classmethod
    def if_needed(cls) -> ExitHold | None:
        """A hold if this process is in a container, and its C library allows it, or None."""
        if not in_container() or load_library() is None:
            return None
        try:
            return cls()
        except OSError:  # out of descriptors: the status is then right only if the shipper is fast
            return None

    @property
    def shipper_end(self) -> int:
        """The descriptor that the shipper closes to let the process exit, or -1 once the hold is armed."""
        return self._theirs.fileno()

    def arm(self, timeout: float) -> bool:
        """Make ``exit`` wait for the shipper, at most ``timeout`` seconds. Returns whether it will.

        Call it at the interpreter's exit.
        """
        library = load_library()
        self._theirs.close()  # or we would wait for ourselves
        if library is None or (signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL and os.getpid() != 1):
            self.close()  # a shipper that has died would kill us by SIGPIPE, to which process 1 is immune
            return False
        number = self._ours.detach()
        if number < 0:  # the program has closed it
            return False
        stream = 0
        with contextlib.suppress(OSError), socket.socket(fileno=number) as ours:
            _fill(ours)
            ours.setblocking(True)
            seconds, rest = divmod(timeout, 1)
            limit = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            stream = int(library.fdopen(move_up(os.dup(number)), b"wb") or 0)
        return bool(stream) and on_exit_putw(library, stream)

    def close(self) -> None:
        """Let go of both ends."""
        self._ours.close()
        self._theirs.close()


def _fill(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    end.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while end.send(b"\0"):
            pass


def let_go(descriptor: int) -> None:
    """In the shipper: let the training's process exit."""
    with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as end:
        end.setblocking(False)
        while end.recv(_BUFFER):
            pass


def in_container() -> bool:
    """Whether this process is in a namespace of processes that ends with its process 1."""
    try:
        return os.getpid() == 1 or os.readlink("/proc/self/ns/pid") != _INITIAL_NAMESPACE
    except OSError:
        return False
