"""Files that wait for their delivery: where they lie, how they are claimed, how they are let go.

Each has an entry in the journal's folder ``files``. The entry is the file or folder itself, or a symbolic
link to a claim elsewhere, because a hard link has to lie on the original's file system
(:mod:`trackside.journal.claims`).

Invariants:

* The entry is made before the claim, and the claim before the record. So whoever removes a journal finds all
  claims of it, at whatever moment the training process died.
* Only what lies in ``files``, or in a hidden folder of this journal's own, is ever removed.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.claims import COPY, ORIGINAL, claim_file, claim_folder
from trackside.journal.files import DIRECTORY_MODE
from trackside.journal.format import HeldFile
from trackside.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.directory import JournalDirectory


class HeldFiles:
    """The held files of ``journal``, for the training process: it takes claims.

    ``leave_out(path, reason)`` is told of each file of a folder that can't be kept.
    """

    def __init__(
        self, journal: JournalDirectory, leave_out: Callable[[str, str], None] = lambda _path, _reason: None
    ) -> None:
        self._folder = journal.path / "files"
        self._leave_out = leave_out

    def keep_bytes(self, *pieces: bytes | memoryview) -> HeldFile:
        """Keep ``pieces``, one behind the other. Raises ``OSError``."""
        name, path = self._new_entry()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        size = 0
        try:
            for piece in pieces:
                write_all(descriptor, bytes(piece), size)
                size += len(piece)
        finally:
            os.close(descriptor)
        return HeldFile(name, "copy", "", size)

    def keep_written(self, write: Callable[[Path], object]) -> HeldFile:
        """Keep the file that ``write`` writes to the path it is given. Raises what ``write`` raises."""
        name, path = self._new_entry()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            write(path)
            return HeldFile(name, COPY, "", path.stat().st_size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def hold_file(self, path: Path) -> HeldFile:
        """Claim the file at the absolute ``path``. Raises ``OSError``."""
        name, entry = self._new_entry()
        claim = claim_file(path, entry)
        return HeldFile(name, claim.way, str(path), claim.size, claim.changed_ns)

    def hold_folder(self, path: Path) -> HeldFile:
        """Claim all files under the folder at the absolute ``path``, links to files included.

        Raises ``OSError``.
        """
        name, entry = self._new_entry()
        claim = claim_folder(path, entry, self._leave_out)
        return HeldFile(name, claim.way, str(path), claim.size, claim.changed_ns)

    def _new_entry(self) -> tuple[str, Path]:
        self._folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        name = secrets.token_hex(8)
        return name, self._folder / name


def content_of(journal: JournalDirectory, held: HeldFile) -> Path:
    """Where the bytes of ``held`` are."""
    entry = journal.path / "files" / held.name
    if held.way == ORIGINAL and not os.path.lexists(entry):
        return Path(held.source)
    return entry


def has_changed(journal: JournalDirectory, held: HeldFile) -> bool:
    """Whether the file was written to after the call. Raises ``OSError``."""
    status = os.stat(content_of(journal, held))
    return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) != (
        held.size,
        held.changed_ns,
    )
