"""Claims on files of another file system: hidden folders of one journal's own, beside the originals.

A hard link has to lie on the original's file system. A hidden folder is as far up as possible, because
whoever rotates checkpoints removes whole folders.

Invariants:

* The name of a hidden folder holds the inode number of the journal's folder, which no copy of a journal has.
  So a copy never removes the claims of the journal that it was made of.
* The names of claims are random, and others can't look into the folder. So another user's journal can't name
  a claim of yours.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING

from trackside.journal.files import DIRECTORY_MODE
from trackside.journal.trust import why_not_yours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = ".trackside-"
_NAME = re.compile(r"\.trackside-([0-9]+)-.+")
TOKEN = re.compile(r"[0-9a-f]{16}")
"""The name of a claim, and of an entry in ``files``."""


def new_token() -> str:
    """A name that can't be guessed."""
    return secrets.token_hex(8)


def is_hidden_folder(name: str) -> bool:
    """Whether a folder of that name is some journal's."""
    return _NAME.fullmatch(name) is not None


def is_claim(target: Path) -> bool:
    """Whether ``target``, which a link in a journal names, is a claim in a hidden folder of this user."""
    folder = target.parent
    return (
        TOKEN.fullmatch(target.name) is not None
        and is_hidden_folder(folder.name)
        and os.path.isabs(target)
        and os.path.normpath(target) == str(target)
        and why_not_yours(folder) is None
        and not os.path.islink(target)
    )


def is_own_claim(target: Path, journal: Path) -> bool:
    """Whether ``target`` is a claim that the journal in the folder ``journal`` has made there."""
    match = _NAME.fullmatch(target.parent.name)
    return match is not None and match[1] == str(os.lstat(journal).st_ino) and is_claim(target)


def remove_claim(target: Path) -> None:
    """Remove a claim, and its hidden folder with the last one. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    with contextlib.suppress(OSError):
        os.rmdir(target.parent)


class HiddenFolders:
    """The hidden folders of the journal in the folder ``journal``, for the training process."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._known: dict[int, str] = {}
        """Where a claim was made, by device."""

    def link(self, source: str, device: int, entry: str) -> bool:
        """Claim ``source``, a file on ``device``, by a hard link. ``entry`` becomes a link to the claim.

        Returns False, and leaves nothing behind, where there is no place for one.
        """
        known = self._known.get(device)
        if known is not None and self._link_in(known, source, entry):
            return True
        for folder in _places(source, device):
            if self._link_in(folder, source, entry):
                self._known[device] = folder
                return True
        return False

    def _link_in(self, folder: str, source: str, entry: str) -> bool:
        hidden = os.path.join(folder, f"{PREFIX}{os.lstat(self._journal).st_ino}-{self._journal.name}")
        target = os.path.join(hidden, new_token())
        try:
            os.mkdir(hidden, DIRECTORY_MODE)
        except FileExistsError:
            if not _is_folder(hidden):
                return False
        except OSError:
            return False
        try:
            os.symlink(target, entry)
        except OSError:
            return False
        try:
            os.link(source, target)
        except OSError:
            os.unlink(entry)
            with contextlib.suppress(OSError):
                os.rmdir(hidden)
            return False
        return True


def _places(source: str, device: int) -> Iterator[str]:
    """Where a hidden folder for ``source`` may lie, best first: up the path, then beside it."""
    beside = os.path.dirname(source)
    best, folder = None, beside
    while True:
        parent = os.path.dirname(folder)
        try:
            is_topmost = parent == folder or os.lstat(parent).st_dev != device
            # Not the topmost folder of a disk, which others share. It must be this user's, as the claim is.
            if is_topmost or os.lstat(folder).st_uid != os.geteuid():
                break
        except OSError:
            break
        best, folder = folder, parent
    if best is not None and best != beside:
        yield best
    yield beside


def _is_folder(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
