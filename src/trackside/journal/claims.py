"""A claim on a file: a copy of a small one, else a hard link, else a link to where it lies.

A reflink would also hold what a program then writes into the file, but it is not made here: the kernel first
writes the file to the disk, and the loop would wait for that. The shipper makes it
(:mod:`trackside.journal.securing`).

Invariants:

* What is claimed is the file that the path names during the call, with its content or its inode.
* A file that is still being written to is never copied: the copy would be a part of it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from trackside.errors import ArtifactError
from trackside.redaction.redact import redact
from trackside.system.files import is_disk_full, write_all
from trackside.system.writers import has_writer

if TYPE_CHECKING:
    from trackside.journal.hidden_folders import HiddenFolders
    from trackside.journal.room import Room

COPY = "copy"
LINK = "link"
ORIGINAL = "original"

SMALL = 64 * 1024
"""Bytes. A file up to this size is copied in the call, which takes a quarter of a millisecond."""

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class Claim(NamedTuple):
    """How a file is held, its bytes, when it was last written to, and whether it still is."""

    way: str
    size: int
    changed_ns: int
    writing: bool


class Claimer:
    """Takes claims on files. ``hidden`` and ``room`` are those of the journal."""

    def __init__(self, hidden: HiddenFolders, room: Room) -> None:
        self._hidden = hidden
        self._room = room

    def claim(self, source: str, entry: str, *, may_copy: bool = True) -> Claim:
        """Have what the absolute path ``source`` names under ``entry``, which is in the journal.

        ``may_copy``: whether a small file is copied. Raises :class:`ArtifactError` and ``OSError``.
        """
        descriptor = _open(source)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _no_file(source)
            writing = has_writer(descriptor) is True
            is_small = may_copy and status.st_size <= SMALL and not writing
            if is_small and self._copy(descriptor, status, entry):
                return Claim(COPY, status.st_size, status.st_mtime_ns, writing=False)
        finally:
            os.close(descriptor)
        self._room.need(source, status.st_dev, status.st_size, copied=False)
        way, status = self._link(source, status, entry)
        self._room.take(status.st_dev, status.st_size)
        return Claim(way, status.st_size, status.st_mtime_ns, writing)

    def _copy(self, descriptor: int, status: os.stat_result, entry: str) -> bool:
        """Copy the file. Returns False if it has changed meanwhile, or the journal has no room."""
        if not self._room.has_here(status.st_size):
            return False
        content = os.pread(descriptor, SMALL + 1, 0)
        after = os.fstat(descriptor)
        if len(content) != status.st_size or after.st_mtime_ns != status.st_mtime_ns:
            return False
        try:
            write_new(entry, content)
        except OSError as error:
            if not is_disk_full(error):
                raise
            return False
        os.utime(entry, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._room.take_here(len(content))
        return True

    def _link(self, source: str, status: os.stat_result, entry: str) -> tuple[str, os.stat_result]:
        """Link to the file ``source``. Returns the way, and what was linked to."""
        try:
            linked = _link(source, entry)
        except OSError as error:
            found = os.path.realpath(source)
            if error.errno != errno.EXDEV or not self._hidden.link(found, status.st_dev, entry):
                os.symlink(found, entry)
                return ORIGINAL, status
            linked = os.stat(entry)
        if not stat.S_ISREG(linked.st_mode):  # the file was replaced just now
            raise _no_file(source)
        return LINK, linked


def _link(source: str, entry: str) -> os.stat_result:
    """Make ``entry`` a hard link to the file that ``source`` names, and return it. Raises ``OSError``."""
    os.link(source, entry)
    linked = os.lstat(entry)
    if stat.S_ISLNK(linked.st_mode):  # ``source`` is a symbolic link, and the system has linked to that
        os.unlink(entry)
        os.link(os.path.realpath(source), entry)
        linked = os.lstat(entry)
    return linked


def write_new(path: str, *pieces: bytes | memoryview) -> int:
    """Make the file ``path`` of ``pieces``, and return its size. Leaves nothing behind if it can't."""
    descriptor = os.open(path, _NEW, 0o600)
    size = 0
    try:
        for piece in pieces:
            write_all(descriptor, bytes(piece), size)
            size += len(piece)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return size


def _open(source: str) -> int:
    try:
        return os.open(source, _READ)
    except FileNotFoundError:
        if os.path.islink(source):
            raise ArtifactError(f"{_shown(source)} is a link to a file that is not there") from None
        raise ArtifactError(f"there is no file at {_shown(source)}. Log it after it is written") from None
    except PermissionError:
        raise ArtifactError(f"you may not read {_shown(source)}. Change its permissions") from None
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENODEV}:  # a socket, a device
            raise _no_file(source) from None
        if error.errno == errno.ELOOP:
            raise ArtifactError(f"{_shown(source)} is a link in a circle of links") from None
        raise


def _no_file(source: str) -> ArtifactError:
    return ArtifactError(
        f"{_shown(source)} is no ordinary file. Folders, pipes, sockets and devices are not kept as files"
    )


def _shown(path: str) -> str:
    return repr(redact(path))
