"""Whether a journal lies where this user's own ``start()`` made it.

What is copied, cloned or unpacked belongs to the user who did it, so owner and mode tell nothing. That is how
another user's journal gets into a folder of yours.

Invariant: a journal counts as yours only in the folder it was made in. Its ``meta.json`` holds the inode
number of that folder, which no copy has. A journal that was moved within one file system keeps it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.meta import Meta, read_meta
from trackside.journal.outbox import folders
from trackside.journal.trust import WRITABLE, was_looked_at, why_not_yours

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


def folder_number(path: Path) -> int | None:
    """What a folder keeps as long as it is there, and no copy of it has, or None when it is gone."""
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def why_moved(path: Path, meta: Meta) -> str | None:
    """Why the journal in ``path``, which says ``meta``, may be another user's, or None if it is yours."""
    if was_looked_at(path) or (meta.folder is not None and meta.folder == folder_number(path)):
        return None
    return "it was copied here, or another user made it"


def why_suspicious(journal: JournalDirectory) -> str | None:
    """Why others may have written to ``journal`` or a file in it, as the end of a sentence, or None.

    It also tells of links. Other things that are not files are not used and do no harm.
    """
    if was_looked_at(journal.path):
        return None
    reason = why_not_yours(journal.path)
    if reason is not None:
        return reason
    for name in ("", *folders()):
        for path in _entries(journal.path / name):
            reason = why_not_yours(path)
            if reason is not None:
                return f"of {os.path.relpath(path, journal.path)}: {reason}"
    return None


def why_untrusted(journal: JournalDirectory) -> str | None:
    """Why ``journal`` is not used unless you vouch for it, as the end of a sentence, or None if it is."""
    reason = why_suspicious(journal)
    if reason is not None:
        return reason
    meta = read_meta(journal)
    return None if meta is None else why_moved(journal.path, meta)


def advice(journal: JournalDirectory, reason: str) -> str:
    """Say that ``journal`` is not used, why, and what to do."""
    if not may_read(journal.path):
        return f"not used, because {reason}. You may not read it: only its owner can deliver it"
    if WRITABLE in reason:
        return f"not used, because {reason}. If only you wrote to it, run: chmod -R go-w {journal.path}"
    return f"not used, because {reason}. To see what is in it, and deliver it: trackside sync {journal.path}"


def may_read(path: Path) -> bool:
    """Whether this process may look into the folder ``path``."""
    return os.access(path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:
        return []
