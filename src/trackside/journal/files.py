"""Small files and private directories: made, replaced whole, read back.

Directories are 0700 and files 0600 whatever the umask: a run's configuration is nobody else's
business. Files are opened and read as :mod:`trackside.journal.opening` says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, TypeVar

import msgspec

from trackside.journal import lossless_json
from trackside.journal.opening import FILE_MODE, MAX_STATE, open_own, read_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "DIRECTORY_MODE",
    "FILE_MODE",
    "is_disk_full",
    "is_of_the_system",
    "make_private_directory",
    "read_json",
    "sync_directory",
    "temporary_beside",
    "write_all",
    "write_atomically",
    "write_even_when_full",
]

DIRECTORY_MODE = 0o700

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_T = TypeVar("_T")


def make_private_directory(path: Path) -> None:
    """Make ``path``, and what is missing above it, as private directories; raises ``OSError``."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except FileNotFoundError:  # not mkdir(parents=True): the umask decides the mode of the parents
        if path.parent == path:
            raise
        make_private_directory(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` that no other thread or process uses, nor a dead one has left."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}")


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """``pwrite`` until all is written: a nearly full disk takes a part first, then refuses."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace ``path`` by ``data`` in one step; ``durable`` survives a power cut once this returns.

    Raises ``OSError``, and ``path`` is then as it was.
    """
    temporary = temporary_beside(path)
    try:
        _write_file(temporary, os.O_CREAT | os.O_EXCL, data, durable=durable)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def write_even_when_full(path: Path, data: bytes, *, durable: bool = False) -> None:
    """:func:`write_atomically` or, on a full disk, the same in place, in the blocks the file has.

    ``data`` is padded with spaces there, so it must be JSON. A power cut in the middle may leave it
    damaged; but a cursor that can't be kept would keep segments from being deleted, and the disk
    full for ever.
    """
    try:
        write_atomically(path, data, durable=durable)
    except OSError as error:
        if not is_disk_full(error) or _room_of(path) < len(data):
            raise
        old = path.stat().st_size
        # Padded, so that there is no moment with the end of the old text behind the new.
        _write_file(path, 0, data.ljust(old), durable=durable)


def sync_directory(path: Path) -> None:
    """Make renames and deletions in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, kind: type[_T], limit: int = MAX_STATE) -> _T | None:
    """Decode ``path`` as ``kind``; None when it isn't there or isn't what it should be."""
    try:
        return lossless_json.decode(read_file(path, limit), kind)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):  # ValueError: also a name with NUL
        return None


def is_disk_full(error: OSError) -> bool:
    """Whether ``error`` says there is no room, rather than that something is broken."""
    return error.errno in _FULL


def is_of_the_system(error: OSError) -> bool:
    """Whether a system call failed; a ``TimeoutError("...")`` of somebody's signal handler is none."""
    return error.errno is not None


def _room_of(path: Path) -> int:
    """Bytes that fit into the blocks the file has; 0 without a file."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _write_file(path: Path, flags: int, data: bytes, *, durable: bool) -> None:
    descriptor = open_own(path, os.O_WRONLY | flags)
    try:
        write_all(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
