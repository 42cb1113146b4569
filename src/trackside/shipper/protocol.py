"""What the training process and its shipper agree on: a pipe for signals and nudges, a socket for words.

CPython's C-level signal handler writes the signal's number to the wakeup descriptor at once, even while
the main thread sits in a native call that holds the GIL. So the shipper learns of a SIGTERM that no
Python handler will ever get to run for.

On the socket, the shipper's word goes one way and credentials go the other. The shipper says :data:`READY`
once it has the journal, :data:`LOCKED` when another shipper has it, and :data:`DONE` before it removes a
journal that is delivered. These words tell what an exit code can't: a program may ignore SIGCHLD or wait for
all its children, and their exit codes are then lost. Messages are datagrams: each arrives whole or not at
all.

The trainer keeps both ends of either open, so nothing is lost while a dead shipper is being replaced. Nothing
here blocks, and nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TypeAlias

import msgspec

from trackside.system.descriptors import OwnDescriptor

LINGER = 3600.0
"""Seconds a shipper keeps trying after the training process has ended. Then run ``trackside sync``."""

READY = b"ready"
LOCKED = b"locked"
DONE = b"done"

LARGEST = 1 << 18
"""Bytes of a message. The environment of a process that has changed is far smaller."""

NUDGE = 200
"""Look at the journal now, because the trainer waits for it."""

SEEN = 201
"""The trainer knows what became of the run. The journal may go."""

PROVE = 202
"""Everything is acknowledged, and the trainer waits until the destinations are seen to have it."""

LEFT = 203
"""The trainer continues without waiting, and learns later what became of the run."""

EXIT_DONE, EXIT_REFUSED, EXIT_UNFINISHED, EXIT_LOCKED = 0, 3, 4, 5
"""What a shipper leaves with."""

LOST = -int(signal.SIGKILL)
"""The exit code of a shipper that could not be started, or whose server died before it could tell."""

MOST = 64
"""Forked shippers of a training that run at the same time, if as many of its runs last for long."""

_SIGNAL_LIMIT = 65

DESCRIPTORS = ("--pipe", "--hold", "--channel")
"""The options of a shipper that name descriptors."""


class ShipperRequest(msgspec.Struct, frozen=True, tag=True):
    """Asks the fork server for a shipper.

    ``descriptors`` are the options that name the descriptors which come with the message, in that order.
    ``environment`` is what differs from the environment that the server was started with.
    """

    number: int
    arguments: list[str]
    descriptors: tuple[str, ...]
    log: str
    working_directory: str
    environment: dict[str, str | None]


class Over(msgspec.Struct, frozen=True, tag=True):
    """Tells the fork server that a run is over. ``closed``: descriptors that its shipper no longer needs."""

    number: int
    closed: tuple[str, ...]


class Started(msgspec.Struct, frozen=True, tag=True):
    """The fork server says that a shipper runs."""

    number: int
    pid: int


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The fork server says that a shipper has left. ``code`` is negative for a signal."""

    number: int
    code: int


class HeldUp(msgspec.Struct, frozen=True, tag=True):
    """The fork server says that a run has to continue without a shipper: :data:`MOST` others have theirs."""

    number: int


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """The fork server says that it leaves, because it was not needed for long."""


Question: TypeAlias = ShipperRequest | Over
Answer: TypeAlias = Started | Ended | HeldUp | Leaving


class Channel:
    """Both ends of the socket, in the training process."""

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
        """Its descriptor, or -1 once we or the program have closed it."""
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


class WakeupPipe:
    """Both ends of the pipe, in the training process. Non-blocking."""

    def __init__(self) -> None:
        self._read, self._write = _open()

    @property
    def read_end(self) -> int:
        """The descriptor for the shipper, or -1 once we or the program have closed it."""
        return self._read.fileno()

    @property
    def write_end(self) -> int:
        """The descriptor that the system writes signal numbers to, or -1 once it is closed."""
        return self._write.fileno()

    def reopen_if_lost(self) -> None:
        """Make a new pipe, if the program has closed this one. Raises ``OSError``."""
        if -1 in {self.read_end, self.write_end}:
            self.close()
            self._read, self._write = _open()

    def send(self, byte: int) -> None:
        """Send one byte. A full pipe already says everything."""
        end = self.write_end
        if end >= 0:
            with contextlib.suppress(OSError):
                os.write(end, bytes((byte,)))

    def close(self) -> None:
        """Close both ends."""
        self._read.close()
        self._write.close()


def _open() -> tuple[OwnDescriptor, OwnDescriptor]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return OwnDescriptor(ends[0]), OwnDescriptor(ends[1])


def signals_in(data: bytes) -> list[int]:
    """The signal numbers among ``data``."""
    return [byte for byte in data if 0 < byte < _SIGNAL_LIMIT]
