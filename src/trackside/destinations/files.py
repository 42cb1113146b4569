"""Files that destinations write for people: made where they are missing, and refused with a sentence.

They get the umask's permissions, unlike the journal's: they are meant to be read by others.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError, DestinationFailedError, RetryableError
from trackside.system.files import is_disk_full, write_all

if TYPE_CHECKING:
    from pathlib import Path


_NEVER = {
    errno.EACCES,
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,  # though the directories above were made: a place such as /proc
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def prepare_file(path: Path) -> None:
    """Make ``path`` an empty file, with the directories above it, unless it is there."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))


def open_failed(path: object, error: OSError) -> DeliveryError:
    """What an error with ``path`` means: for ever, or until there is room again."""
    reason = error.strerror or str(error)
    if error.errno in _NEVER:
        return DestinationFailedError(
            f"{path} cannot be written: {reason}. Choose another place, or correct this one"
        )
    advice = ". Make room" if is_disk_full(error) else ""
    return RetryableError(f"{path} cannot be written: {reason}{advice}")


class OwnFile:
    """A file that one destination writes alone, and that holds exactly what was acknowledged after a crash.

    Whatever is behind the acknowledged bytes when it is opened came from a batch that will come again: it is
    cut off. The file's name must derive from the journal, so that no other run writes to it. ``end``: how
    many bytes it holds.
    """

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
