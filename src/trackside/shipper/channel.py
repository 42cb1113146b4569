"""The socket between the trainer and its shipper: the shipper's word one way, credentials the other.

The trainer keeps both ends open, so a message waits while a dead shipper is being replaced. Nothing
here blocks, and nothing is written to disk. Messages are datagrams: each arrives whole or not at all.

The shipper says :data:`READY` once it has the journal, :data:`LOCKED` when another shipper has it, and
:data:`DONE` before it removes a journal that is delivered. These words tell what an exit code can't: a
program may ignore SIGCHLD or wait for all its children, and then nobody knows their exit codes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

READY = b"ready"
LOCKED = b"locked"
DONE = b"done"

LARGEST = 1 << 18
"""Bytes of a message; the environment of a process that has changed is far smaller."""

FIRST_DESCRIPTOR = 3
"""Below are the standard descriptors, which a program may have closed."""


class Channel:
    """Both ends, in the training process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours, self._theirs = Line(above_standard(ours.detach())), Line(above_standard(theirs.detach()))

    @property
    def shipper_end(self) -> int:
        """The descriptor for the shipper."""
        return self._theirs.fileno()

    def send(self, message: bytes) -> bool:
        """Send a message to the shipper; False when it can't be taken now."""
        return self._ours.send(message)

    def words(self) -> list[bytes]:
        """What the shipper has said since the last call."""
        return self._ours.receive()

    def forget(self) -> None:
        """Drop what was said to or by a shipper that is dead."""
        self._ours.receive()
        self._theirs.receive()

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


class Line:
    """One end of a channel; non-blocking. ``descriptor`` belongs to it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def send(self, message: bytes) -> bool:
        """Send a message; False when the other side is full, or gone."""
        try:
            self._socket.send(message)
        except OSError:
            return False
        return True

    def receive(self) -> list[bytes]:
        """All messages that wait."""
        found: list[bytes] = []
        with contextlib.suppress(OSError):
            while message := self._socket.recv(LARGEST):
                found.append(message)
        return found

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def above_standard(descriptor: int) -> int:
    """``descriptor``, or a copy of it that is no standard descriptor's number."""
    if descriptor >= FIRST_DESCRIPTOR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    finally:
        os.close(descriptor)
