"""The socket between the trainer and its shipper: the shipper's word one way, credentials the other.

The trainer keeps both ends open, so a message waits while a dead shipper is being replaced. Nothing
here blocks, and nothing is written to disk. Messages are datagrams: each arrives whole or not at all.

The shipper says :data:`READY` once it has the journal, :data:`LOCKED` when another shipper has it, and
:data:`DONE` before it removes a journal that is delivered. These words tell what an exit code can't: a
program may ignore SIGCHLD or wait for all its children, and then nobody knows their exit codes.
"""

from __future__ import annotations

import os
import socket

from trackside.system.descriptors import OwnDescriptor

READY = b"ready"
LOCKED = b"locked"
DONE = b"done"

LARGEST = 1 << 18
"""Bytes of a message. The environment of a process that has changed is far smaller."""


class Channel:
    """Both ends, in the training process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours, self._theirs = Line(ours.detach()), Line(theirs.detach())

    def is_open(self) -> bool:
        """Whether both ends are. The program may have closed them."""
        return self._ours.fileno() >= 0 and self.shipper_end >= 0

    @property
    def shipper_end(self) -> int:
        """The descriptor for the shipper."""
        return self._theirs.fileno()

    def send(self, message: bytes) -> bool:
        """Send a message to the shipper. False when it can't be taken now."""
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
    """One end of a channel. Non-blocking. ``descriptor`` belongs to it."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._end = OwnDescriptor(descriptor)

    def fileno(self) -> int:
        """Its descriptor; -1 once it is closed, by us or by the program."""
        return self._end.fileno()

    def send(self, message: bytes) -> bool:
        """Send a message. False when the other side is full, or gone."""
        end = self.fileno()
        if end < 0:
            return False
        try:
            os.write(end, message)  # of a socket of datagrams: all, or nothing
        except OSError:
            return False
        return True

    def receive(self) -> list[bytes]:
        """All messages that wait."""
        found: list[bytes] = []
        end = self.fileno()
        try:
            while end >= 0 and (message := os.read(end, LARGEST)):
                found.append(message)
        except OSError:  # there are no more
            pass
        return found

    def close(self) -> None:
        """Close this end."""
        self._end.close()
