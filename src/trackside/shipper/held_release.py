"""Lets go of held files that no destination needs any more.

Invariant: a file is let go when each destination that it is kept for has settled its record for good. It is
always kept for the first worker. For another one it is kept while that has not failed permanently. What one
of them has rejected stays, for you to look at.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trackside.journal.releasing import release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import ArtifactRecord
    from trackside.shipper.worker import DeliveryWorker

LOOK_EVERY = 0.5


class HeldRelease:
    """Lets go of the held files of ``journal``, which ``workers`` deliver."""

    def __init__(self, journal: JournalDirectory, workers: Sequence[DeliveryWorker]) -> None:
        self._journal = journal
        self._workers = workers
        self._next_look = 0.0

    def tend(self) -> None:
        """Let go of what is not needed. Call it often."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY
        self.let_go()

    def let_go(self) -> None:
        """Let go of what is not needed, now."""
        found = {
            record.seq: record for worker in self._workers for record in worker.artifacts.waiting.given_up()
        }
        free = [record for record in found.values() if not self._is_needed(record)]
        for record in free:
            if record.held is not None:
                release(self._journal.path, record.held.name)
        if free:
            for worker in self._workers:
                worker.artifacts.waiting.forget([record.seq for record in free])

    def _is_needed(self, record: ArtifactRecord) -> bool:
        first, *others = self._workers
        kept_for = [first, *(worker for worker in others if not worker.refused)]
        return any(worker.artifacts.needs(record.seq) for worker in kept_for)
