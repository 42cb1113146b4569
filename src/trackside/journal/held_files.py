"""Files that wait for their delivery: where they lie, how they are claimed, how they are let go.

Each has an entry in the journal's folder ``files``. The entry is the file itself, or a symbolic link to a
claim on it beside the original, because a hard link has to lie on the original's file system.

Invariants:

* The entry is made before the claim, and the claim before the record. So whoever removes a journal finds all
  claims of it, at whatever moment the training process died.
* Only what lies in ``files``, or in a folder of this journal's own beside an original, is ever removed.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from trackside.journal.files import DIRECTORY_MODE
from trackside.journal.format import HeldFile
from trackside.system.files import write_all

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


class HeldFiles:
    """The held files of ``journal``, for the training process: it takes claims."""

    def __init__(self, journal: JournalDirectory) -> None:
        self._folder = journal.path / "files"

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

    def _new_entry(self) -> tuple[str, Path]:
        self._folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        name = secrets.token_hex(8)
        return name, self._folder / name


def content_of(journal: JournalDirectory, held: HeldFile) -> Path:
    """Where the bytes of ``held`` are."""
    return journal.path / "files" / held.name
