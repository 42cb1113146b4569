"""The journal's segments, as the shipper keeps them: sealed, on the disk, ready in advance, then deleted.

Invariants:

* A segment is deleted only when every worker that it is kept for needs it no more, even after a power cut.
  The workers' cursors are on the disk before.
* Segments are always kept for the first worker. Another worker keeps them only while it has not failed
  permanently, and while they take no more than half of the journal's cap.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING

from trackside.journal.opening import UnfitFileError, open_own
from trackside.journal.reader import is_begun
from trackside.journal.sealing import Sealer
from trackside.journal.supply import segment_ready_after
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.shipper.worker import DeliveryWorker

logger = logging.getLogger("trackside.shipper")

SYNC_EVERY = 0.5
"""Seconds: what a power cut may cost."""


class SegmentKeeper:
    """Keeps the segments of ``journal``, of at most ``cap`` bytes, for ``workers``."""

    def __init__(self, journal: JournalDirectory, cap: int, workers: Sequence[DeliveryWorker]) -> None:
        self._journal = journal
        self._cap = cap
        self._workers = workers
        self._next_sync = self._next_ready = 0.0
        self._sealer = Sealer(journal)
        self._unsealed = Once()

    def tend(self) -> None:
        """Every :data:`SYNC_EVERY` seconds, sync what was written and delete what was delivered."""
        if time.monotonic() < self._next_sync:
            return
        self._next_sync = time.monotonic() + SYNC_EVERY
        try:
            self.sync()
            self._delete_delivered()
        except OSError as error:
            logger.warning("tending the journal: %s", error)

    def make_ready(self) -> None:
        """Make the next segment. A trainer that needs it sooner has to make it itself, in its loop."""
        if time.monotonic() < self._next_ready:
            return
        try:
            segment_ready_after(self._journal, self._newest_begun(), cap=self._cap)
        except OSError as error:
            self._next_ready = time.monotonic() + SYNC_EVERY
            logger.warning("making a segment ready: %s", error)

    def sync(self) -> None:
        """Seal the segments that are not read yet, and sync them to disk. Raises ``OSError``."""
        oldest = min((worker.reader.position.segment for worker in self._workers), default=1)
        numbers = [number for number in self._journal.segment_numbers() if number >= oldest]
        self._seal(numbers)
        for number in numbers:
            with contextlib.suppress(FileNotFoundError, UnfitFileError):
                _sync_file(self._journal, number)

    def _seal(self, numbers: list[int]) -> None:
        writer_dead = any(worker.reader.writer_dead for worker in self._workers)
        try:
            self._sealer.seal(numbers, newest=self._newest_begun(), writer_dead=writer_dead)
        except Exception as error:
            if self._unsealed.is_first(repr(error)):
                logger.warning(
                    "in the journal %s damage to some samples may go unnoticed, as they got no checksums: %r",
                    self._journal.path,
                    error,
                )

    def remove_all(self) -> None:
        """Delete the segments of a journal that is delivered."""
        for number in self._journal.segment_numbers():
            self._journal.remove_segment(number)

    def _delete_delivered(self) -> None:
        done_with = min(worker.keep_from for worker in self._kept_for())
        old = [number for number in self._journal.segment_numbers() if number < done_with]
        if old:
            for worker in self._workers:
                worker.save_durably()
            for number in old:
                self._journal.remove_segment(number)

    def _kept_for(self) -> list[DeliveryWorker]:
        crowded = self._journal.segment_bytes() > self._cap // 2
        others = [worker for worker in self._workers[1:] if not (crowded or worker.refused)]
        return [self._workers[0], *others]

    def _newest_begun(self) -> int:
        for number in reversed(self._journal.segment_numbers()):
            if is_begun(self._journal, number):
                return number
        return 1


def _sync_file(journal: JournalDirectory, number: int) -> None:
    descriptor = open_own(journal.segment(number), os.O_RDWR)
    try:
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)
