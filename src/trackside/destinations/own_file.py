"""A file that one destination writes alone, and that holds exactly what was acknowledged after a crash.

Whatever is behind the acknowledged bytes when it is opened came from a batch that will come again: it is
cut off. The file's name must derive from the journal, so that no other run writes to it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trackside.destinations.files import open_failed, prepare_file
from trackside.system.files import write_all

if TYPE_CHECKING:
    from pathlib import Path


class OwnFile:
    """An open file. ``end``: how many bytes it holds."""

    def __init__(self, path: Path, acknowledged: int) -> None:
        """Open ``path``, made when it is missing, and cut it to ``acknowledged`` bytes.

        Raises what :func:`open_failed` makes of an ``OSError``. A file that is shorter stays so, as
        ``end`` tells.
        """
        self.path = path
        try:
            prepare_file(path)
            self._descriptor = os.open(path, os.O_RDWR)
            size = os.fstat(self._descriptor).st_size
            self.end = min(size, acknowledged)
            if size > self.end:
                os.ftruncate(self._descriptor, self.end)
        except OSError as error:
            raise open_failed(path, error) from error

    def append(self, data: bytes) -> None:
        """Write ``data``, all or (on an error) nothing of it."""
        try:
            write_all(self._descriptor, data, self.end)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.end)
            raise open_failed(self.path, error) from error
        self.end += len(data)

    def read(self) -> bytes:
        """All it holds."""
        return os.pread(self._descriptor, self.end, 0)

    def sync(self) -> None:
        """Have it survive a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close it. More than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
