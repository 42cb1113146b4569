"""The pipe from the training process to the shipper: signal numbers, and nudges.

CPython's C-level signal handler writes the signal's number to the wakeup descriptor at once, even while
the main thread sits in a native call that holds the GIL. So the shipper learns of a SIGTERM that no
Python handler will ever get to run for. The trainer keeps both ends open: bytes it wrote are not lost
while a dead shipper is being replaced.
"""

from __future__ import annotations

import contextlib
import os

from trackside.system.descriptors import OwnDescriptor

NUDGE = 200
"""Look at the journal now, because the trainer waits for it."""

SEEN = 201
"""The trainer has read the final state. The journal may go."""

PROVE = 202
"""Everything is acknowledged, and the trainer waits until the destinations are seen to have it."""

_SIGNAL_LIMIT = 65


class WakeupPipe:
    """Both ends of the pipe, in the training process. Non-blocking."""

    def __init__(self) -> None:
        self._read, self._write = _open()

    @property
    def read_end(self) -> int:
        """The descriptor for the shipper; -1 once it is closed, by us or by the program."""
        return self._read.fileno()

    @property
    def write_end(self) -> int:
        """The descriptor for the system, which writes signal numbers to it; -1 once it is closed."""
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


def read_bytes(descriptor: int) -> bytes:
    """Everything in the pipe now."""
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 4096)
    return b""


def signals_in(data: bytes) -> list[int]:
    """The signal numbers among ``data``."""
    return [byte for byte in data if 0 < byte < _SIGNAL_LIMIT]
