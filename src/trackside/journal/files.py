"""Small files and private directories: made, replaced whole, read back.

Directories are 0700 and files 0600 whatever the umask: only you may read a run's
configuration. Files are opened and read as :mod:`trackside.journal.opening` says.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import msgspec

from trackside.journal import lossless_json
from trackside.journal.opening import MAX_STATE, open_own, read_file
from trackside.journal.version import is_newer
from trackside.system.files import is_disk_full, replacing, sync_file, write_all

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_MODE = 0o700

_T = TypeVar("_T")


def make_private_directory(path: Path) -> None:
    """Make ``path``, and what is missing above it, as private directories. Raises ``OSError``."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except FileNotFoundError:  # not mkdir(parents=True): the umask decides the mode of the parents
        if path.parent == path:
            raise
        make_private_directory(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace ``path`` by ``data`` in one step. ``durable`` survives a power cut once this returns.

    Raises ``OSError``, and ``path`` is then as it was.
    """
    with replacing(path, durable=durable) as temporary:
        _write_file(temporary, os.O_CREAT | os.O_EXCL, data)


def write_even_when_full(path: Path, data: bytes, *, durable: bool = False) -> None:
    """:func:`write_atomically` or, on a full disk, the same in place, in the blocks the file has.

    ``data`` is padded with spaces there, so it must be JSON. A power cut in the middle may leave it
    damaged. But a cursor that can't be saved would keep segments from being deleted, and the disk would stay
    full.
    """
    try:
        write_atomically(path, data, durable=durable)
    except OSError as error:
        if not is_disk_full(error) or _room_of(path) < len(data):
            raise
        old = path.stat().st_size
        # Padded, so that there is no moment with the end of the old text behind the new.
        _write_file(path, 0, data.ljust(old))
        if durable:
            sync_file(path)


def read_json(path: Path, kind: type[_T], limit: int = MAX_STATE) -> _T | None:
    """Decode ``path`` as ``kind``, or None if it is not there, damaged or in a newer format."""
    try:
        data = read_file(path, limit)
        return None if is_newer(path, data) else lossless_json.decode(data, kind)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):  # ValueError: also a name with NUL
        return None


def _room_of(path: Path) -> int:
    """Bytes that fit into the blocks the file has. 0 without a file."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _write_file(path: Path, flags: int, data: bytes) -> None:
    descriptor = open_own(path, os.O_WRONLY | flags)
    try:
        write_all(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
