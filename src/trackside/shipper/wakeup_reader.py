"""The shipper's end of the trainer's wakeup pipe, which several threads read.

Invariant: what one thread reads is taken in before another reads on. A signal that came before a record is in
the pipe before that record is in the journal. So whoever reads the pipe and then judges a record knows the
signal, even if the main thread has had no time to look.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 4096


class WakeupReader:
    """Hands what is in the pipe to ``take``. Without a ``descriptor``, nothing ever is."""

    def __init__(self, descriptor: int | None, take: Callable[[bytes], object]) -> None:
        self.descriptor = descriptor
        self._take = take
        self._lock = threading.Lock()

    def read(self) -> bool:
        """Take in what is there now. False once nothing ever comes again. Raises nothing."""
        if self.descriptor is None:
            return False
        with self._lock:
            try:
                while data := os.read(self.descriptor, _CHUNK):
                    self._take(data)
            except BlockingIOError:
                return True
            except OSError:
                return False
        return False
