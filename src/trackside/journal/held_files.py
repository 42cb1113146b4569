"""Files that wait for their delivery, as the training process claims them.

Each has an entry in the journal's folder ``files``: the file, or a folder of such entries. A file is held by
its bytes, by a hard link, or by a symbolic link to a hard link on the original's file system
(:mod:`trackside.journal.hidden_folders`). If none of these can be had, the entry is a symbolic link to the
original.

Invariants:

* An entry is made before a claim outside of the journal, and the claim before the record. So whoever removes
  a journal finds all claims of it, at whatever moment the training process died.
* Nothing here takes a lock. A signal handler may claim a file in the midst of a claim.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.claims import COPY, Claim, Claimer, write_new
from trackside.journal.files import DIRECTORY_MODE
from trackside.journal.format import HeldFile
from trackside.journal.hidden_folders import HiddenFolders, new_token
from trackside.journal.mirrors import Mirror
from trackside.journal.releasing import FILES, release
from trackside.journal.room import Room
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.mirrors import Names


def _nowhere(_reason: str) -> None:
    """Ignore the reason."""


def _as_they_are(names: Sequence[str]) -> Sequence[str]:
    return names


class HeldFiles:
    """The held files of ``journal``, for the training process: it takes claims.

    ``cap``: the bytes they may take on a disk, or None for as much as they leave free. ``leave_out(reason)``
    is told of each file of a folder that can't be kept.
    """

    def __init__(
        self,
        journal: JournalDirectory,
        *,
        cap: int | None = None,
        leave_out: Callable[[str], None] = _nowhere,
    ) -> None:
        self._path = journal.path
        self._folder = journal.path / FILES
        self._room = Room(journal.path, self._folder, cap)
        self._claimer = Claimer(HiddenFolders(journal.path), self._room)
        self._leave_out = leave_out
        self._has_folder = False

    def keep_bytes(self, *pieces: bytes | memoryview) -> HeldFile:
        """Keep ``pieces``, one behind the other. Raises :class:`ArtifactError` and ``OSError``."""
        self._room.need_here(sum(memoryview(piece).nbytes for piece in pieces))
        name, entry = self._new_entry()
        size = write_new(entry, *pieces)
        self._room.take_here(size)
        return HeldFile(name, COPY, "", size)

    def keep_written(self, write: Callable[[Path], object]) -> HeldFile:
        """Keep the file that ``write`` writes to the path it is given. Raises what ``write`` raises."""
        self._room.need_here(0)
        name, entry = self._new_entry()
        with self._letting_go(name):
            write_new(entry)
            write(Path(entry))
            size = os.stat(entry).st_size
        self._room.take_here(size)
        return HeldFile(name, COPY, "", size)

    def hold_file(self, path: Path) -> HeldFile:
        """Claim the file at the absolute ``path``. Raises :class:`ArtifactError` and ``OSError``."""
        name, entry = self._new_entry()
        with self._letting_go(name):
            return _held(name, path, self._claimer.claim(str(path), entry))

    def hold_folder(self, path: Path, names: Names = _as_they_are) -> HeldFile:
        """Claim all files under the folder at the absolute ``path``, links to files included.

        ``names`` checks their paths below it (:data:`~trackside.journal.mirrors.Names`). Raises
        :class:`ArtifactError` and ``OSError``.
        """
        name, entry = self._new_entry()
        mirror = Mirror(self._claimer, self._path, names=names, leave_out=self._leave_out)
        with self._letting_go(name):
            return _held(name, path, mirror.make(str(path), entry))

    def let_go(self, held: HeldFile) -> None:
        """Remove a claim whose record is not in the journal."""
        release(self._path, held.name)

    @contextlib.contextmanager
    def _letting_go(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            release(self._path, name)
            raise

    def _new_entry(self) -> tuple[str, str]:
        name = new_token()
        if not self._has_folder:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, DIRECTORY_MODE)
            self._has_folder = True
        return name, str(self._folder / name)


def _held(name: str, path: Path, claim: Claim) -> HeldFile:
    source = redact(str(path)).encode("utf-8", "backslashreplace").decode()
    return HeldFile(name, claim.way, source, claim.size, claim.changed_ns, claim.writing)
