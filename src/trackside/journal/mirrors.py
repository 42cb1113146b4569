"""A claim on a folder: the same folders in the journal, with a claim on each file.

Links to files are followed. Links to folders are not, as they may lead in a circle or out of your project.
What can't be kept is left out and told, and the rest is kept.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

from trackside.errors import ArtifactError
from trackside.journal.claims import COPY, LINK, ORIGINAL, Claim
from trackside.journal.files import DIRECTORY_MODE
from trackside.redaction.redact import redact
from trackside.settings import DEFAULT_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trackside.journal.claims import Claimer

_ORDER = (COPY, LINK, ORIGINAL)


Names: TypeAlias = "Callable[[Sequence[str]], Sequence[str | ArtifactError]]"
"""Checks the paths of files below a folder. Returns for each the one it is kept under, or what is wrong."""

MOST_COPIES = 100
"""Small files of a folder that are copied. A copy takes several times as long as a hard link."""


class Mirror:
    """The claim on one folder. ``names`` checks the paths of its files."""

    def __init__(
        self,
        claimer: Claimer,
        journal: Path,
        *,
        names: Names,
        leave_out: Callable[[str], None],
    ) -> None:
        self._claimer = claimer
        self._journal = os.stat(journal)
        self._names = names
        self._leave_out = leave_out

    def make(self, source: str, entry: str) -> Claim:
        """Claim all files under ``source``, as ``entry``. Raises :class:`ArtifactError` and ``OSError``."""
        os.mkdir(entry, DIRECTORY_MODE)
        files, size, changed_ns, writing, way = 0, 0, 0, False, COPY
        copies = 0
        found = list(self._files(source))
        for below, name in zip(found, self._names(found), strict=True):
            path = os.path.join(source, below)
            try:
                if isinstance(name, ArtifactError):
                    raise name
                claim = self._claimer.claim(path, _place(entry, name), may_copy=copies < MOST_COPIES)
            except ArtifactError as error:
                self._leave_out(str(error))
            except OSError as error:
                self._leave_out(f"{_shown(path)}: {error.strerror or error}")
            else:
                files += 1
                size += claim.size
                changed_ns = max(changed_ns, claim.changed_ns)
                writing = writing or claim.writing
                way = max(way, claim.way, key=_ORDER.index)
                copies += claim.way == COPY
        if not files:
            raise ArtifactError(f"there is nothing to keep in the folder {_shown(source)}")
        return Claim(way, size, changed_ns, writing)

    def _files(self, source: str) -> Iterator[str]:
        """The path below ``source`` of each file under it."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(source, folder)) as entries:
                    found = list(entries)
            except OSError as error:
                if not folder:
                    raise
                self._leave_out(f"{_shown(os.path.join(source, folder))}: {error.strerror}")
                continue
            for item in found:
                below = f"{folder}/{item.name}" if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    if not self._is_ours(item):
                        folders.append(below)
                elif item.is_symlink() and _is_folder(item):
                    self._leave_out(f"{_shown(item.path)} is a link to a folder. Log that folder by itself")
                else:
                    yield below

    def _is_ours(self, folder: os.DirEntry[str]) -> bool:
        """Whether it is a journal, or where journals or claims lie."""
        name = folder.name
        if name == DEFAULT_DIRECTORY or name.startswith(f"{DEFAULT_DIRECTORY}-"):
            return True
        return folder.inode() == self._journal.st_ino and folder.stat().st_dev == self._journal.st_dev


def _place(entry: str, name: str) -> str:
    """The place of the file ``name`` in ``entry``, with the folders that it is in."""
    place = os.path.join(entry, name)
    if "/" in name:
        os.makedirs(os.path.dirname(place), DIRECTORY_MODE, exist_ok=True)
    return place


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(item.stat().st_mode)
    except OSError:  # a link to nothing: the claim says so
        return False


def _shown(path: str) -> str:
    return repr(redact(path))
