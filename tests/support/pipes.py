"""Reading a pipe that does not block."""

from __future__ import annotations

import contextlib
import os


def read_bytes(descriptor: int) -> bytes:
    """What is in the pipe now, up to 4096 bytes."""
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, 4096)
    return b""
