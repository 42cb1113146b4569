"""A file that can't be read now is no file that is missing.

A shipper that finds no state makes a new run, and one that finds no cursor delivers everything again. Neither
may follow from a descriptor that was not to be had, or from a disk that fails for a moment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.opening import UnfitFileError, open_own
from trackside.journal.trust import UntrustedError

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory


def require_readable(journal: JournalDirectory) -> None:
    """Raise ``OSError`` if what the shipper goes on from is there and can't be opened."""
    for path in (journal.meta, journal.state, *journal.cursors()):
        try:
            os.close(open_own(path, os.O_RDONLY))
        except (FileNotFoundError, UnfitFileError, UntrustedError):
            continue
