"""The artifacts that wait for one destination: on disk, in the order of their delivery, for any thread.

Invariant: a held file is given up only when what was delivered of it would survive a power cut, in the
destination and in the queue.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError
from trackside.journal.artifact_queue import ArtifactQueue
from trackside.shipper.artifact_schedule import ArtifactSchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trackside.journal.artifact_queue import Outcome
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.file_counts import FileCounts
    from trackside.journal.format import ArtifactRecord

logger = logging.getLogger("trackside.shipper")

SYNC_EVERY = 1.0
SYNC_AFTER_FAILURE = 30.0
CATCH_UP_EVERY = 1.0


class WaitingArtifacts:
    """What waits for ``destination``. ``left(record)`` is called for each that is settled."""

    def __init__(
        self,
        journal: JournalDirectory,
        destination: str,
        *,
        left: Callable[[ArtifactRecord], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._queue = ArtifactQueue(journal.path, destination)
        self._schedule = ArtifactSchedule()
        self._left = left
        self._clock = clock
        self._synced: set[int] = set()
        self._next_sync = self._next_catch_up = 0.0
        self.began_empty = not self._queue.contents.taken
        """Whether none was ever taken before."""
        for record in self.records():
            self._plan(record)

    @property
    def current(self) -> ArtifactRecord | None:
        """The one that is being delivered."""
        return self._schedule.current

    @property
    def is_empty(self) -> bool:
        """Whether none waits."""
        return not self._queue.contents.waiting

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended."""
        return self._schedule.ended

    def records(self) -> list[ArtifactRecord]:
        """All that wait."""
        with self._lock:
            return list(self._queue.contents.waiting.values())

    def counts(self) -> FileCounts:
        """How many there are, by what became of them."""
        with self._lock:
            return self._queue.contents.counts()

    # What comes, and what becomes of it

    @property
    def is_behind(self) -> bool:
        """Whether some wait in memory alone, because the disk did not take them."""
        return self._queue.is_behind

    def take(self, records: Iterable[ArtifactRecord]) -> list[ArtifactRecord]:
        """Have ``records`` wait, and return those that are new."""
        with self._lock:
            new = self._queue.add(records)
            for record in new:
                self._plan(record)
        return new

    def take_again(self) -> None:
        """Take whatever the journal holds, from the beginning."""
        with self._lock:
            self._queue.take_again()

    def next(self) -> ArtifactRecord | float | None:
        """The next one, the seconds until one is due, or None. It is then to be settled or postponed."""
        with self._lock:
            return self._schedule.next(self._clock())

    def settle(self, record: ArtifactRecord, outcome: Outcome) -> None:
        """Say what became of the current one."""
        with self._lock:
            self._schedule.done(self._clock())
            self._finish(record, outcome)

    def postpone(self, record: ArtifactRecord, seconds: float) -> None:
        """Try the current one again later, unless a newer one has come in its place."""
        with self._lock:
            if not self._schedule.postpone(self._clock() + seconds):
                self._finish(record, "replaced")

    def hurry(self) -> None:
        """Whatever waits for a time is due now."""
        with self._lock:
            self._schedule.hurry(self._clock())

    def end(self) -> None:
        """The run has ended: those that wait for that are due."""
        with self._lock:
            self._schedule.end(self._clock())

    # Held files

    def needs(self, seq: int) -> bool:
        """Whether the held file of record ``seq`` is still needed."""
        with self._lock:
            return self._queue.contents.needs(seq)

    def given_up(self) -> list[ArtifactRecord]:
        """Those whose held files are not needed here, even after a power cut."""
        with self._lock:
            return [record for seq, record in self._queue.contents.settled.items() if seq in self._synced]

    def forget(self, seqs: Sequence[int]) -> None:
        """The held files of these records were let go."""
        with self._lock:
            known = [seq for seq in seqs if seq in self._queue.contents.settled]
            if known:
                self._queue.forget(known)
                self._synced.difference_update(known)

    def sync(self) -> None:
        """Have what waits survive a power cut. Raises ``OSError``."""
        with self._lock:
            self._queue.sync()

    def give_up(self, sync_destination: Callable[[], object]) -> None:
        """Now and then, have what was delivered survive a power cut, so that its files can be let go."""
        self._catch_up()
        with self._lock:
            settled = [seq for seq in self._queue.contents.settled if seq not in self._synced]
        if not settled or self._clock() < self._next_sync:
            return
        self._next_sync = self._clock() + SYNC_EVERY
        try:
            sync_destination()
            self.sync()
        except (DeliveryError, OSError) as error:
            self._next_sync = self._clock() + SYNC_AFTER_FAILURE
            logger.warning("files are kept for now: %s", error)
        else:
            with self._lock:
                self._synced.update(settled)

    def _catch_up(self) -> None:
        """Now and then, try to put on disk what waits in memory alone."""
        if self._queue.is_behind and self._clock() >= self._next_catch_up:
            self._next_catch_up = self._clock() + CATCH_UP_EVERY
            with self._lock:
                self._queue.catch_up()

    def _plan(self, record: ArtifactRecord) -> None:
        for older in self._schedule.add(record, self._clock()):
            self._finish(older, "replaced")

    def _finish(self, record: ArtifactRecord, outcome: Outcome) -> None:
        self._left(record)
        self._queue.settle(record.seq, outcome)
