"""Whose a journal is. trackside acts on what a journal says only if the journal is yours.

A journal names an address that your credentials go to, files that are written, and a checkpoint folder that
is updated. Another user's journal would do that with your rights. It may lie in a shared folder, come with
a cloned repository, or be unpacked from an archive.

Invariants:

* A folder or file of a journal is used only if it belongs to this process's user, and only that user can
  write to it. Root is a user like any other: what another user wrote must not act with root's rights.
* Owner and mode are read from an open descriptor, and the folder is opened without following a link.
* A copy is not used either, though all of it belongs to this user (:mod:`trackside.journal.provenance`).
* A journal that this process has made or has checked is held to its owner and to links, and no longer to its
  mode: a ``chmod`` of your whole project must not stop a delivery.
* :func:`vouch_for` lifts all of this for one journal, in one process, because a person looked at it.

The folder that the journals lie in is not judged: it may be a link, or shared, as ``/tmp`` is.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

WRITABLE = "other users can write to it"

_vouched: set[str] = set()
"""The journals that a person has looked at."""


_checked: dict[str, None] = {}
"""The journals that this process has made or has checked, oldest first."""

_MOST_CHECKED = 1000


class UntrustedError(PermissionError):
    """A file or folder of a journal may be another user's work."""


def vouch_for(journal: Path) -> None:
    """Use ``journal`` in this process, whoever made it."""
    _vouched.add(str(journal))


def mark_checked(journal: Path) -> None:
    """Note that this process made or checked ``journal``: its mode no longer matters."""
    _checked[str(journal)] = None
    while len(_checked) > _MOST_CHECKED:  # of a sweep's many runs few live at a time
        del _checked[next(iter(_checked))]


def withdraw(journal: Path) -> None:
    """Take :func:`vouch_for` back."""
    _vouched.discard(str(journal))


def is_vouched_for(path: Path) -> bool:
    """Whether ``path`` is a journal that :func:`vouch_for` was called with, or lies in one."""
    return bool(_vouched) and not _vouched.isdisjoint(_with_parents(path))


def was_looked_at(journal: Path) -> bool:
    """Whether :func:`vouch_for` was called with this very journal. A journal within another one is not it."""
    return str(journal) in _vouched


def check(descriptor: int, path: Path) -> None:
    """Raise :class:`UntrustedError` if others may have written to ``descriptor``, which is at ``path``."""
    status = os.fstat(descriptor)
    reason = why_suspect(status)
    if reason is None or is_vouched_for(path):
        return
    if status.st_uid != os.geteuid() or _checked.keys().isdisjoint(_with_parents(path)):
        raise UntrustedError(errno.EPERM, f"not used, because {reason}", str(path))


def open_folder(path: Path) -> int:
    """Open the folder ``path``, for use as a ``dir_fd``. Raises :class:`UntrustedError` and ``OSError``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:
        if path.is_symlink():
            raise UntrustedError(errno.EPERM, "not used, because it is a link", str(path)) from error
        raise
    try:
        check(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def why_suspect(status: os.stat_result) -> str | None:
    """Why others may have written to a file or folder, as the end of a sentence, or None if they can't."""
    if status.st_uid != os.geteuid():
        return f"it belongs to {_name_of(status.st_uid)}"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"{WRITABLE} (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def why_not_yours(path: Path) -> str | None:
    """Why the folder or file ``path`` is not used, whatever is in it, or None if it is yours or gone."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return "it is a link"
    return why_suspect(status)


def _with_parents(path: Path) -> list[str]:
    return [str(path), *map(str, path.parents)]


def _name_of(user: int) -> str:
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"
