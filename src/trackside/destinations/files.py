"""Files that destinations write for people: made where they are missing, and refused with a sentence.

They get the umask's permissions, unlike the journal's: they are meant to be read by others.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError, DestinationFailedError, RetryableError
from trackside.system.files import is_disk_full

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
            f"{path} cannot be written: {reason}; choose another place, or correct this one"
        )
    advice = "; make room" if is_disk_full(error) else ""
    return RetryableError(f"{path} cannot be written: {reason}{advice}")
