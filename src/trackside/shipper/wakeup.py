"""The pipe from the training process to the shipper: signal numbers, and nudges.

CPython's C-level signal handler writes the signal's number to the wakeup descriptor at once, even while
the main thread sits in a native call that holds the GIL; so the shipper learns of a SIGTERM that no
Python handler will ever get to run for. The trainer keeps both ends open: bytes it wrote are not lost
while a dead shipper is being replaced.
"""

from __future__ import annotations

import contextlib
import os

from trackside.shipper.channel import above_standard

NUDGE = 200
"""Look at the journal now: somebody waits for it."""

SEEN = 201
"""The trainer has read the final state; the journal may go."""

_SIGNAL_LIMIT = 65


class WakeupPipe:
    """Both ends of the pipe, in the training process; non-blocking."""

    def __init__(self) -> None:
        # A program may have closed a standard descriptor: what it prints must not end up in here.
        self.read_end, self.write_end = map(above_standard, os.pipe())
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)

    def send(self, byte: int) -> None:
        """Send one byte; a full pipe already says everything."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self.write_end, bytes((byte,)))

    def close(self) -> None:
        """Close both ends."""
        for end in (self.read_end, self.write_end):
            with contextlib.suppress(OSError):
                os.close(end)
        self.read_end = self.write_end = -1  # the numbers may soon be somebody else's


def read_bytes(descriptor: int) -> bytes:
    """Everything in the pipe now."""
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 4096)
    return b""


def signals_in(data: bytes) -> list[int]:
    """The signal numbers among ``data``."""
    return [byte for byte in data if 0 < byte < _SIGNAL_LIMIT]
