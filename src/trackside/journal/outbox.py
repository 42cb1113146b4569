"""Artifacts that wait to be uploaded: files in the journal, so a restart finds them.

They travel apart from the metrics, because an artifact store that is down or misconfigured must not
hold up the points behind it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.files import DIRECTORY_MODE, write_atomically
from trackside.journal.opening import MAX_TEXT, read_file
from trackside.journal.trust import UntrustedError, open_folder

if TYPE_CHECKING:
    from pathlib import Path


def folders(destination: str | None = None) -> tuple[str, str]:
    """The names of two folders: where artifacts wait, and where the rejected ones are kept."""
    suffix = "" if destination is None else f"-{destination}"
    return f"artifacts{suffix}", f"refused-artifacts{suffix}"


class Outbox:
    """Small text artifacts by name, of the run itself or of ``destination``."""

    def __init__(self, journal: Path, destination: str | None = None) -> None:
        self._directory, self._refused = (journal / name for name in folders(destination))

    def put(self, name: str, text: str) -> None:
        """Keep ``text`` to be uploaded as ``name``, in place of an older one of that name."""
        # Not make_private_directory: that would bring back a journal that was removed.
        self._directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        write_atomically(self._directory / name, text.encode("utf-8", "backslashreplace"))

    def has_place(self) -> bool:
        """Whether the journal is there."""
        return self._directory.parent.is_dir()

    def pending(self) -> list[Path]:
        """The files that wait."""
        return _files_in(self._directory)

    def refused(self) -> list[Path]:
        """The files that the server refuses for good."""
        return _files_in(self._refused)

    def read(self, path: Path) -> bytes:
        """The contents of a file that waits. Raises ``OSError``, and ``UnfitFileError`` for a huge one."""
        return read_file(path, MAX_TEXT)

    def sent(self, path: Path) -> None:
        """Forget a file that was uploaded."""
        path.unlink(missing_ok=True)

    def refuse(self, path: Path) -> Path:
        """Move a file away that the server will never take, and return its new path."""
        self._refused.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        os.close(open_folder(self._refused))
        target = self._refused / path.name
        os.replace(path, target)
        return target


def _files_in(directory: Path) -> list[Path]:
    try:
        folder = open_folder(directory)
    except (FileNotFoundError, NotADirectoryError, UntrustedError):
        return []
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    finally:
        os.close(folder)
    return sorted(directory / name for name in names if not name.startswith("."))
