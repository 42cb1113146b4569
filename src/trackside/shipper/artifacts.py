"""Delivers files, pictures, tables and models to one destination, so that they hold up nothing else.

Invariants:

* The cursor passes an artifact once it waits durably (:mod:`trackside.journal.artifact_queue`). It leaves the
  queue when it is delivered, rejected, or replaced by a newer one.
* Where the destination has it so, a thread of its own delivers them. Otherwise the worker's thread does,
  between two batches.
* What is refused goes to the dead-letter file, with the reason, and its file stays. What fails is tried again
  for ever. An unforeseen error, and a file that can't be read, are tried :data:`MOST_TRIES` times.
* One that fails does not hold up those behind it, except those of the same place.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from trackside.errors import (
    DestinationFailedError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
)
from trackside.journal.artifact_queue import ArtifactQueue, size_of
from trackside.journal.held_content import content_of
from trackside.journal.meta import FileProgress
from trackside.protocols import Destination
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.artifact_schedule import ArtifactSchedule
from trackside.shipper.artifact_sending import SETTLES, ArtifactSender
from trackside.shipper.sending import describe
from trackside.system.files import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.journal.artifact_queue import Outcome
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.file_counts import FileCounts
    from trackside.journal.format import ArtifactRecord
    from trackside.shipper.dead_letters import RejectedFile

logger = logging.getLogger("trackside.shipper")

MOST_TRIES = 5

MOST_SECONDS = 1.0
"""How long the worker's thread delivers artifacts before it looks for metrics again."""

SILENT = 35.0
"""Seconds without a byte that gets through, after which an upload counts as failing."""

SLOWEST = 1 << 22
"""Bytes a second in which a server is believed to store what it was sent."""

LONGEST_END = 10.0
"""Seconds that the run's end waits for files which the worker's thread delivers, beside the last call."""

_IDLE = 60.0


class ArtifactDelivery:
    """Delivers the artifacts of ``journal`` to ``destination``. Any thread may ask it."""

    def __init__(
        self,
        destination: Destination,
        journal: JournalDirectory,
        *,
        rejects: RejectedFile,
        notice: Callable[[str], None],
        policy: retry.Policy = retry.DEFAULT,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.takes_any = type(destination).write_artifact is not Destination.write_artifact
        """Whether the destination takes artifacts."""
        self.refused: str | None = None
        """Why it has failed permanently."""
        self.error: str | None = None
        """What it failed with last. None since one was delivered."""
        self._destination = destination
        self._journal = journal
        self._rejects = rejects
        self._notice = notice
        self._policy = policy
        self._uniform = uniform
        self._clock = clock
        self._lock = threading.Lock()
        self._queue = ArtifactQueue(journal.path, destination.name)
        self._schedule = ArtifactSchedule()
        self._sender = ArtifactSender(destination, journal, notice)
        self._failures: dict[int, int] = {}
        self._in_a_row = 0
        self._paused_until = 0.0
        self._moved = (0, 0.0)
        self._last_unforeseen = ""
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        for record in list(self._queue.contents.waiting.values()):
            self._plan(record)

    # For any thread

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue.contents.waiting)

    @property
    def is_busy(self) -> bool:
        """Whether its thread is at work, be it in a call that does not return."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failing(self) -> str | None:
        """What it fails with now. None while it works. An upload that stands still fails, too."""
        current = self._schedule.current
        if current is not None and self.error is None:
            silent = self._clock() - self._moved[1]
            if silent > SILENT + size_of(current) / SLOWEST:
                return f"no answer for more than {silent:.0f} s (in the upload of {redact(current.place)})"
        return self.error

    def counts(self) -> FileCounts:
        """How many there are, by what became of them."""
        with self._lock:
            return self._queue.contents.counts()

    def progress(self) -> FileProgress:
        """What is being delivered now, and how far it is."""
        record, sent = self._schedule.current, self._destination.artifact_bytes
        if (sent, record is None) != (self._moved[0], record is None):
            self._moved = (sent, self._clock())
        if record is None or not size_of(record):
            return FileProgress(error=self.failing)
        return FileProgress(redact(record.place), size_of(record), min(sent, size_of(record)), self.failing)

    def needs(self, seq: int) -> bool:
        """Whether the held file of record ``seq`` is still needed."""
        with self._lock:
            return self.takes_any and self._queue.contents.needs(seq)

    def settled(self) -> list[ArtifactRecord]:
        """Those that are settled here, and whose held files were not let go yet."""
        with self._lock:
            return list(self._queue.contents.settled.values())

    def forget(self, seqs: Sequence[int]) -> None:
        """The held files of these records were let go."""
        with self._lock:
            known = [seq for seq in seqs if seq in self._queue.contents.settled]
            if known:
                self._queue.forget(known)

    def sync(self) -> None:
        """Have what waits survive a power cut. Raises ``OSError``."""
        with self._lock:
            self._queue.sync()

    def retry_now(self) -> None:
        """Try again at once, because what failed may work now."""
        with self._lock:
            self._paused_until = 0.0
            self._schedule.hurry(self._clock())
        self._wake.set()

    def stop(self) -> None:
        """Begin no other upload."""
        self._stopped = True
        self._wake.set()

    # For the worker

    def take(self, records: Sequence[ArtifactRecord]) -> None:
        """Have ``records`` wait, on disk. Raises ``OSError`` when they can't be kept."""
        if not self.takes_any:
            return
        with self._lock:
            for record in self._queue.add(records):
                self._plan(record)
        self._wake.set()

    def take_again(self) -> None:
        """Take whatever the journal holds, from the beginning."""
        with self._lock:
            self._queue.take_again()

    def tend(self) -> None:
        """Deliver for a while, or see that the thread does. Raises :class:`DestinationFailedError`."""
        if self.refused is not None:
            raise DestinationFailedError(self.refused)
        if not len(self):
            return
        if self._destination.writes_artifacts_beside:
            self._have_thread()
            return
        until = self._clock() + MOST_SECONDS
        while self._clock() < until and not self._stopped and self._deliver_next() is None:
            pass

    def finish_in_order(self) -> None:
        """Deliver what the worker's thread can deliver before the run's end is told.

        What has to be tried again comes after it.
        """
        if self._destination.writes_artifacts_beside or not self.takes_any:
            return
        self.end()
        until = self._clock() + LONGEST_END
        while len(self) and self.error is None and not self._stopped and self._clock() < until:
            wait = self._deliver_next()
            if wait is not None:
                self._wake.wait(min(wait, SETTLES))

    def end(self) -> None:
        """The run has ended: those that wait for that are due."""
        if not self._schedule.ended:
            with self._lock:
                self._schedule.end(self._clock())
            self._wake.set()

    # Delivering, in one thread

    def _have_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            name = f"trackside-files-{self._destination.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no thread for now: the next turn tries again
                self._thread = None
                logger.warning("%s: no thread for files: %s", self._destination.name, error)

    def _run(self) -> None:
        while not self._stopped and self.refused is None:
            self._wake.clear()
            wait = self._deliver_next()
            if wait is not None:
                self._wake.wait(min(wait, _IDLE))

    def _deliver_next(self) -> float | None:
        """Try the next one. Returns the seconds to wait if none is due."""
        now = self._clock()
        if now < self._paused_until:
            return self._paused_until - now
        with self._lock:
            found = self._schedule.next(now)
        if found is None or isinstance(found, float):
            return _IDLE if found is None else found
        self._moved = (0, now)
        try:
            wait = self._sender.send(found)
        except BaseException as error:  # whatever it is: it must not end the deliveries
            self._fail(found, error)
        else:
            self._in_a_row, self.error = 0, None
            if wait is None:
                self._settle(found, "delivered")
            else:
                self._postpone(found, wait)
        return None

    def _fail(self, record: ArtifactRecord, error: BaseException) -> None:
        tries = self._failures[record.seq] = self._failures.get(record.seq, 0) + 1
        if isinstance(error, DestinationFailedError):
            self.refused = redact(str(error))
            self._postpone(record, 0.0)
            return
        if isinstance(error, RejectedError) or (not self._is_passing(record, error) and tries >= MOST_TRIES):
            self._reject(record, error)
            return
        self._in_a_row += 1
        wait = self._delay(tries, error)
        self._paused_until = self._clock() + min(wait, self._delay(self._in_a_row, error))
        self.error = redact(str(error) or type(error).__name__)
        logger.warning("%s: %s: %s. Next try in %.1f s", self._destination.name, record.place, error, wait)
        self._postpone(record, wait)

    def _is_passing(self, record: ArtifactRecord, error: BaseException) -> bool:
        """Whether to try again for ever. If not, it is told where the error comes from."""
        if isinstance(error, RetryableError) or (isinstance(error, OSError) and is_disk_full(error)):
            return True
        if isinstance(error, OSError) and self._can_read(record):
            return True
        text = describe(error)
        if text != self._last_unforeseen:
            self._last_unforeseen = text
            logger.error(
                "%s: an unexpected error with %s: %s",
                self._destination.name,
                record.place,
                text,
                exc_info=error,
            )
        return False

    def _can_read(self, record: ArtifactRecord) -> bool:
        if record.held is None:
            return True
        content = content_of(self._journal, record.held)
        try:
            if content.is_file():
                content.open("rb").close()
            return content.exists()
        except OSError:
            return False

    def _delay(self, tries: int, error: BaseException) -> float:
        return retry.delay(
            tries,
            uniform=self._uniform,
            retry_after=error.retry_after if isinstance(error, RetryableError) else None,
            slow=isinstance(error, UnauthorisedError),
            policy=self._policy,
        )

    def _reject(self, record: ArtifactRecord, error: BaseException) -> None:
        reason = str(error) if isinstance(error, RejectedError) else describe(error)
        content = None if record.held is None else content_of(self._journal, record.held)
        try:
            self._rejects.add_artifact(record, content, reason)
        except OSError as failure:  # a full disk
            logger.warning("a rejected artifact can't be noted: %s", failure)
            self._postpone(record, self._policy.cap)
            return
        what = f"{record.kind} {redact(record.place)} is not delivered to {self._destination.name}"
        self._notice(f"{what}: {reason}. See {self._journal.rejected}")
        self._settle(record, "rejected")

    def _settle(self, record: ArtifactRecord, outcome: Outcome) -> None:
        self._in_a_row, self.error = 0, None
        with self._lock:
            self._schedule.done(self._clock())
            self._finish(record, outcome)

    def _postpone(self, record: ArtifactRecord, seconds: float) -> None:
        with self._lock:
            if not self._schedule.postpone(self._clock() + seconds):
                self._finish(record, "replaced")

    def _plan(self, record: ArtifactRecord) -> None:
        for older in self._schedule.add(record, self._clock()):
            self._finish(older, "replaced")

    def _finish(self, record: ArtifactRecord, outcome: Outcome) -> None:
        self._failures.pop(record.seq, None)
        self._sender.forget(record)
        self._queue.settle(record.seq, outcome)
