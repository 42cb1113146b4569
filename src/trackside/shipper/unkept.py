"""Artifacts before the cursor that their queue could not take, because the disk was full.

They wait in the memory of a shipper, so that metrics behind them are delivered. If that shipper dies, the
next one finds them in the journal again.

Invariant: the segments from ``Cursor.unkept`` on are not deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal.format import ArtifactRecord
from trackside.journal.reader import JournalReader

if TYPE_CHECKING:
    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory


def unkept_artifacts(journal: JournalDirectory, cursor: Cursor) -> list[ArtifactRecord]:
    """The artifacts of ``journal`` from ``cursor.unkept`` to the cursor. Some may be in the queue already."""
    if cursor.unkept is None:
        return []
    found = []
    reader = JournalReader(journal, cursor.unkept)
    try:
        while reader.position.seq < cursor.position.seq and (entries := reader.read()):
            records = [entry.record for entry in entries]
            found += [record for record in records if isinstance(record, ArtifactRecord)]
    finally:
        reader.close()
    return [record for record in found if record.seq <= cursor.position.seq]
