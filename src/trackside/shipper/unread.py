"""Delivered journals whose trainer died before it had read what became of them.

A shipper leaves the last state and the cursors in the folder of a delivered journal, until the trainer has
read them (``JournalDirectory.mark_delivered``). If the trainer has died, the next to come removes them: its
last shippers, the shippers of another run in the same place, or ``trackside sync``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta
from trackside.journal.owner import is_alive, is_local
from trackside.journal.trust import why_not_yours

if TYPE_CHECKING:
    from pathlib import Path

FORGOTTEN = 86400.0
"""Seconds after which a trainer that can't be looked up, on another machine, won't read it any more."""


def remove_unread(root: Path) -> None:
    """Remove what dead trainers have not read of the delivered journals in ``root``."""
    for journal in _delivered_in(root):
        meta = read_json(journal.delivered, Meta) if why_not_yours(journal.path) is None else None
        if meta is not None and _will_not_read(journal, meta):
            journal.remove()


def _will_not_read(journal: JournalDirectory, meta: Meta) -> bool:
    if is_local(meta.owner):
        return not is_alive(meta.owner)
    try:
        return time.time() - journal.path.stat().st_mtime > FORGOTTEN
    except OSError:
        return False


def _delivered_in(root: Path) -> list[JournalDirectory]:
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    found = [JournalDirectory(root / name) for name in names]
    # Not Path.exists(), which raises where the folder may not be searched.
    return [journal for journal in found if os.path.exists(journal.delivered)]
