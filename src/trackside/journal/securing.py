"""Making a claim independent of its original, in the shipper, as soon as it reads the record.

A hard link shares its bytes with the original, so a program that writes into the file in place changes them
(``torch.save`` to the same path does). A reflink does not, and takes no room, where the file system has it
(XFS, Btrfs). A link to the original itself becomes a reflink, or a copy.

Invariants:

* Nothing is replaced by a copy unless the original had the same size and time before and after it.
* A copy has the time of the original, so that :func:`~trackside.journal.held_content.fingerprint` tells of
  one as of the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.claims import COPY, ORIGINAL
from trackside.journal.held_content import content_of, files_under
from trackside.journal.hidden_folders import is_hidden_folder, is_own_claim
from trackside.system.files import temporary_beside

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import HeldFile

_CLONE = 0x40049409
"""FICLONE: the file shares the blocks of another one until either is written to."""

_CHUNK = 1 << 20


def secure(journal: JournalDirectory, held: HeldFile) -> bool:
    """Make the claim independent of its original, where that can be done. Raises ``OSError``.

    Returns whether it now is, so that nothing a program does can change it. A file that was being written to
    at the time of the call is left as it is.
    """
    if held.way == COPY:
        return True
    if held.writing:
        return False
    done = [_secure(path, journal, held) for path in files_under(content_of(journal, held))]
    return all(done)


def _secure(path: Path, journal: JournalDirectory, held: HeldFile) -> bool:
    status = os.stat(path)
    is_link = os.path.islink(path)
    if status.st_nlink == 1 and not is_link:
        return True  # a copy, or the original is deleted
    if not is_link:
        return _replace(path, path, status, may_copy=False)
    target = Path(os.readlink(path))
    if is_hidden_folder(target.parent.name):
        # Beside the claim: a reflink has to lie on the same file system.
        return is_own_claim(target, journal.path) and (
            status.st_nlink == 1 or _replace(target, target, status, may_copy=False)
        )
    return _replace(path, target, status, may_copy=held.way == ORIGINAL)


def _replace(path: Path, source: Path, before: os.stat_result, *, may_copy: bool) -> bool:
    """Replace ``path`` by a reflink of ``source``, or a copy. Returns whether that was done."""
    temporary = temporary_beside(path)
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(before.st_mode):
            return False
        if not _clone(descriptor, temporary) and not (may_copy and _copy(descriptor, temporary)):
            return False
        after = os.fstat(descriptor)
        if _state(after) != _state(before):  # it was written to, or replaced
            return False
        os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(temporary, path)
        return True
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _clone(source: int, path: Path) -> bool:
    with open(path, "xb", opener=_private) as file, contextlib.suppress(OSError):
        fcntl.ioctl(file, _CLONE, source)
        return True
    return False


def _copy(source: int, path: Path) -> bool:
    with open(path, "wb", opener=_private) as file:
        offset = 0
        while piece := os.pread(source, _CHUNK, offset):
            file.write(piece)
            offset += len(piece)
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
