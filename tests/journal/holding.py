"""What tests of held files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal import claims

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

LARGE = claims.SMALL * 3
"""Bytes of a file that is not copied."""


def targets(journal: JournalDirectory) -> list[Path]:
    """What the entries of a journal link to."""
    return [path.readlink() for path in (journal.path / "files").rglob("*") if path.is_symlink()]
