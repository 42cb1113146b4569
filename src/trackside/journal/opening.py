"""Opening the files of a journal. Every read and every write of one begins here.

Another user may have put anything under a name that trackside reads: a FIFO, a folder, a device, a link to
a device or to a file of yours, a sparse file of a terabyte.

Invariants:

* Only a regular file is opened, and the descriptor itself is checked. A link is not followed
  (``O_NOFOLLOW``). Opening never waits for a FIFO's other end (``O_NONBLOCK``).
* A file that is read whole has a maximal size, which depends on its kind. A larger one is not read at all.
* What another user may have written is not read, and nothing is written where another user may write
  (:func:`open_own`). A training writes the segments of its own new journal without that check.
* What is refused raises :class:`UnfitFileError`, an ``OSError``: whoever survives a disk that fails survives
  this, too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.trust import UntrustedError, check, open_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE_MODE = 0o600

MAX_WORD = 1 << 16
"""Bytes: exit codes, the scoreboard, a parent's run id, a run's label."""

MAX_NOTE = 1 << 24
"""Bytes: another rank's crash note, with its traceback."""

MAX_STATE = 1 << 26
"""Bytes: ``meta.json``, ``state.json`` and cursors: what a shipper needs to start."""

MAX_TEXT = 1 << 28
"""Bytes: artifacts, waiting configurations and dead letters hold what the training gave."""

_ALWAYS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KIND = 0o170000
"""The bits of a mode that say what kind of file it is."""

_CHUNK = 1 << 20


class UnfitFileError(OSError):
    """The path names no regular file, or one that is larger than its kind ever is."""


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """Open the file ``path`` of a journal, which must be this user's own (:mod:`trackside.journal.trust`).

    As :func:`open_file`, and raises :class:`~trackside.journal.trust.UntrustedError`.
    """
    place = Path(path)
    folder = open_folder(place.parent)
    try:
        descriptor = open_file(place, flags, folder=folder)
    finally:
        os.close(folder)
    try:
        check(descriptor, place)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_file(
    path: str | os.PathLike[str], flags: int, *, follow_links: bool = False, folder: int | None = None
) -> int:
    """Open the regular file ``path`` as ``os.open`` does. A new one gets the mode 0600.

    ``follow_links`` is for files that are the user's own and not a journal's. ``folder``: the open folder
    that the file is in. Raises ``OSError``, and :class:`UnfitFileError` for a link, a folder, a FIFO or a
    device.
    """
    try:
        links = 0 if follow_links else os.O_NOFOLLOW
        name = path if folder is None else os.path.basename(path)
        descriptor = os.open(name, flags | links | _ALWAYS, FILE_MODE, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:  # a link, a folder, or a FIFO or a socket
            raise _not_a_file(path) from error
        raise
    if os.fstat(descriptor).st_mode & _KIND != stat.S_IFREG:  # no call: signals come in at calls
        os.close(descriptor)
        raise _not_a_file(path)
    return descriptor


def read_file(path: str | os.PathLike[str], limit: int, *, follow_links: bool = False) -> bytes:
    """Return all bytes of the regular file ``path``.

    Raises ``OSError``, and :class:`UnfitFileError` for a file of more than ``limit`` bytes.
    """
    descriptor = (
        open_file(path, os.O_RDONLY, follow_links=True) if follow_links else open_own(path, os.O_RDONLY)
    )
    try:
        size = os.fstat(descriptor).st_size
        parts: list[bytes] = []
        left = limit + 1
        # The size first: a sparse file costs nothing to make, and gigabytes to read.
        while size <= limit and left > 0:
            part = os.read(descriptor, min(left, max(_CHUNK, size)))
            if not part:
                return b"".join(parts)
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    raise UnfitFileError(errno.EOVERFLOW, f"larger than {limit} bytes", os.fspath(path))


def read_tail(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the last ``limit`` bytes of the regular file ``path``, or all of them if they are fewer."""
    descriptor = open_own(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, min(size, limit), max(0, size - limit))
    finally:
        os.close(descriptor)


def require_readable(paths: Iterable[Path]) -> None:
    """Raise ``OSError`` if a file is there and can't be opened.

    A file that can't be read now is not missing. A shipper that finds no state makes a new run, and one that
    finds no cursor delivers everything again. Neither may follow from a lack of descriptors, or from a disk
    that fails for a moment.
    """
    for path in paths:
        try:
            os.close(open_own(path, os.O_RDONLY))
        except (FileNotFoundError, UnfitFileError, UntrustedError):
            continue


def _not_a_file(path: str | os.PathLike[str]) -> UnfitFileError:
    return UnfitFileError(errno.EINVAL, "not a regular file", os.fspath(path))
