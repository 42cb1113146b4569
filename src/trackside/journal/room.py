"""How much of a disk the held files of a run may take.

A copy takes room at once. A hard link takes it only once the original is deleted, so it counts from then on.
Where no number is set, the held files take at most as much as they leave free.

Invariant: a claim costs no look at the other held files, unless these come near the limit.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from trackside.errors import ArtifactError
from trackside.journal.hidden_folders import is_hidden_folder
from trackside.redaction.redact import redact
from trackside.system.clock import steady
from trackside.text import size_text

if TYPE_CHECKING:
    from pathlib import Path

REST = 50
"""A count of all held files is made after this many times as long as the last one took."""


class Room:
    """The room for what the journal in the folder ``journal`` holds in ``files``.

    ``cap``: bytes on each disk, or None for as much as is left free.
    """

    def __init__(self, journal: Path, files: Path, cap: int | None = None) -> None:
        self._journal = str(journal)
        self._device = os.stat(journal).st_dev
        self._files = str(files)
        self._cap = cap
        self._most: dict[int, int] = {}
        """Bytes by device that the held files take at most, whatever is deleted."""
        self._taken: dict[int, int] = {}
        """Bytes by device that they take, as of the last count, with later copies."""
        self._next_count = 0.0

    def need_here(self, size: int) -> None:
        """Raise :class:`ArtifactError` if a copy of ``size`` bytes has no room in the journal."""
        self.need(self._journal, self._device, size, copied=True)

    def has_here(self, size: int) -> bool:
        """Whether a copy of ``size`` bytes has room in the journal."""
        try:
            self.need_here(size)
        except ArtifactError:
            return False
        return True

    def need(self, path: str, device: int, size: int, *, copied: bool) -> None:
        """Raise :class:`ArtifactError` if ``size`` bytes of ``path``, on ``device``, have no room there."""
        limit = self._cap if self._cap is not None else _free(path) // 2
        if self._most.get(device, 0) + size < limit:
            return
        if steady() >= self._next_count:
            self._count()
        taken, free = self._taken.get(device, 0), _free(path)
        if self._cap is None:
            limit = (free + taken) // 2
        if taken + (size if copied else 0) > limit:
            what = "it" if copied else repr(redact(path))
            mend = "have them delivered" if taken else "set TRACKSIDE_DIR to a folder on another one"
            raise ArtifactError(
                f"there is no room for {what}. Files that wait for their delivery take {size_text(taken)} of "
                f"the disk, which has {size_text(free)} free, and may take {size_text(limit)}. Make room, "
                f"{mend}, or set TRACKSIDE_HELD_FILES_CAP"
            )

    def take_here(self, size: int) -> None:
        """Note a copy of ``size`` bytes in the journal."""
        self.take(self._device, size)
        self._taken[self._device] = self._taken.get(self._device, 0) + size

    def take(self, device: int, size: int) -> None:
        """Note a claim of ``size`` bytes on ``device``."""
        self._most[device] = self._most.get(device, 0) + size

    def _count(self) -> None:
        start = steady()
        most: dict[int, int] = {}
        taken: dict[int, int] = {}
        for folder, _, names in os.walk(self._files):
            for name in names:
                status = _status(os.path.join(folder, name))
                if status is None:
                    continue
                device = status.st_dev
                most[device] = most.get(device, 0) + status.st_size
                if status.st_nlink == 1:
                    taken[device] = taken.get(device, 0) + status.st_size
        self._most, self._taken = most, taken
        now = steady()
        self._next_count = now + REST * (now - start)


def _status(path: str) -> os.stat_result | None:
    """What is held at ``path``, or None: a link to the original takes nothing, nor what is delivered."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(path)
            is_claim = is_hidden_folder(os.path.basename(os.path.dirname(target)))
            return os.lstat(target) if is_claim else None
    except OSError:
        return None
    return status


def _free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
