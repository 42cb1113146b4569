"""What tests of held files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal import claims
from trackside.journal.held_content import fingerprint
from trackside.journal.releasing import FILES, entries

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import HeldFile

LARGE = claims.SMALL * 3
"""Bytes of a file that is not copied."""


def targets(journal: JournalDirectory) -> list[Path]:
    """What the entries of a journal link to."""
    return [path.readlink() for path in (journal.path / "files").rglob("*") if path.is_symlink()]


def waiting_in(journal: Path) -> tuple[int, int]:
    """How many files the journal in that folder holds, and their bytes."""
    held = [journal / FILES / name for name in entries(journal)]
    files = [path for entry in held for path in ([*entry.rglob("*")] if entry.is_dir() else [entry])]
    sizes = [path.stat().st_size for path in files if path.is_file()]
    return len(sizes), sum(sizes)


def has_changed(journal: JournalDirectory, held: HeldFile) -> bool:
    """Whether a program wrote into the file after the call."""
    return bool(held.source) and fingerprint(journal, held) != (held.size, held.changed_ns)
