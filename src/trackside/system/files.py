"""Writing files: whole or not at all, and so that a power cut does not take them back.

Invariant: what a function here calls durable has been handed to the disk by ``fsync``, and so has the name in
its folder, when the function returns. Nothing in the training process asks for it but ``start()``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_NOT_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}
"""What file systems say that sync no folders, and folders that this user may not list."""


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` that no other thread or process uses, nor a dead one has left."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}")


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """The name of a file to make in the block, which then becomes ``path`` in one step.

    A reader sees the old file or the new one at any moment. If ``durable``, the new one survives a power cut
    once this returns. If the block raises, ``path`` stays as it was. Raises ``OSError``.
    """
    temporary = temporary_beside(path)  # in the same folder: a rename is atomic within one file system only
    try:
        yield temporary
        if durable:
            sync_file(temporary)  # before the rename, or a power cut may keep the name and lose the bytes
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Have what was written to ``path`` survive a power cut. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames and deletions in ``path`` durable, where the file system can. Raises ``OSError``."""
    try:
        sync_file(path)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """``pwrite`` until all is written: a nearly full disk takes a part first, then refuses."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def is_disk_full(error: OSError) -> bool:
    """Whether ``error`` says there is no room, rather than that something is broken."""
    return error.errno in _FULL


def is_of_the_system(error: OSError) -> bool:
    """Whether a system call failed. A signal handler may raise a ``TimeoutError("...")`` of its own."""
    return error.errno is not None
