"""Delivers files, pictures, tables and models to one destination, so that they hold up nothing else.

Invariants:

* The cursor passes an artifact once it waits durably (:mod:`trackside.journal.artifact_queue`), or says that
  it does not (:mod:`trackside.shipper.unkept`). It leaves the queue when it is delivered, rejected, or
  replaced by a newer one.
* Where the destination has it so, a thread of its own delivers them. Otherwise the worker's thread does,
  between two batches.
* What is refused goes to the dead-letter file, with the reason, and its file stays. What fails is tried again
  for ever. An unforeseen error, and a file that can't be read, are tried :data:`MOST_TRIES` times.
* The destination is told of what was tried and is not delivered after all.
* One that fails does not hold up those behind it, except those of the same place.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trackside.errors import DestinationFailedError, RejectedError, RetryableError
from trackside.events import now_ms
from trackside.journal.artifact_queue import size_of
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of
from trackside.journal.meta import FileProgress
from trackside.journal.scoreboard import read_not_kept
from trackside.protocols import Destination
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.artifact_sending import LOOK_EVERY, ArtifactSender
from trackside.shipper.given_up_artifacts import GivenUpArtifacts
from trackside.shipper.rest_of_artifacts import RestOfArtifacts
from trackside.shipper.sending import describe
from trackside.shipper.unreadable_artifacts import can_read, reason_of
from trackside.shipper.waiting_artifacts import WaitingArtifacts
from trackside.system.files import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.journal.artifact_queue import Outcome
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.file_counts import FileCounts
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

PROGRESS_EVERY = 1.0
"""Seconds between two publications of how far an upload is."""

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
        self._sender = ArtifactSender(destination, journal, notice)
        self._failures: dict[int, int] = {}
        self._given_up = GivenUpArtifacts(destination)
        self.waiting = WaitingArtifacts(journal, destination.name, left=self._forget, clock=clock)
        self._in_a_row = 0
        self._paused_until = 0.0
        self._moved = (0, 0.0)
        self._shown = (FileProgress(), 0.0)
        self._last_unforeseen = ""
        self._rest = RestOfArtifacts(destination, is_known=self.waiting.began_empty)
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        for record in self.waiting.records():
            self._sender.expect(record)

    # For any thread

    @property
    def is_done(self) -> bool:
        """Whether nothing waits, nor was put off, nor is to be told."""
        return self.waiting.is_empty and self._rest.is_done and self._given_up.is_done

    @property
    def is_busy(self) -> bool:
        """Whether its thread is at work, be it in a call that does not return."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failing(self) -> str | None:
        """What it fails with now. None while it works. An upload that stands still fails, too."""
        current = self.waiting.current
        if current is not None and self.error is None:
            silent = self._clock() - self._moved[1]
            if silent > SILENT + size_of(current) / SLOWEST:
                return f"no answer for more than {silent:.0f} s (in the upload of {redact(current.place)})"
        return self.error

    def counts(self) -> FileCounts:
        """How many there are, by what became of them."""
        counts = self.waiting.counts()
        firsts = [seq for seq in (counts.first_waiting, self._rest.since) if seq]
        return msgspec.structs.replace(counts, first_waiting=min(firsts, default=0), takes=self.takes_any)

    def page_counts(self) -> dict[str, int]:
        """What the run's page says of files, if any. Those that wait arrive after the page is written."""
        counts = self.waiting.counts()
        found = {
            "files": counts.delivered + counts.waiting,
            "files_rejected": counts.rejected,
            "files_not_kept": read_not_kept(self._journal.scoreboard).artifacts,
        }
        return {name: count for name, count in found.items() if count}

    def why_not_kept(self) -> tuple[str, ...]:
        """Why the training could not keep some: the first few reasons."""
        return read_not_kept(self._journal.scoreboard).reasons

    def progress(self) -> FileProgress:
        """What is being delivered now, and how far it was in the last second."""
        record, sent, now = self.waiting.current, self._destination.artifact_bytes, self._clock()
        if sent != self._moved[0]:
            self._moved = (sent, now)
        if record is None or not size_of(record):
            found = FileProgress(error=self.failing)
        else:
            found = FileProgress(
                redact(record.place), size_of(record), min(sent, size_of(record)), self.failing
            )
        shown, since = self._shown
        is_news = (found.place, found.error) != (shown.place, shown.error)
        if is_news or (found != shown and now - since >= PROGRESS_EVERY):
            self._shown = (found, now)
        return self._shown[0]

    def needs(self, seq: int) -> bool:
        """Whether the held file of record ``seq`` is still needed here."""
        return self.takes_any and self.waiting.needs(seq)

    def retry_now(self) -> None:
        """Try again at once, because what failed may work now."""
        self._paused_until = 0.0
        self.waiting.hurry()
        self._wake.set()

    def hurry(self) -> None:
        """Deliver what was put off, too: the trainer waits for it."""
        self._rest.hurry()
        self._wake.set()

    def stop(self) -> None:
        """Begin no other upload."""
        self._stopped = True
        self._wake.set()

    # For the worker

    def take(self, records: Sequence[ArtifactRecord]) -> None:
        """Have ``records`` wait, on disk if there is room."""
        if not self.takes_any:
            return
        for record in self.waiting.take(records):
            self._sender.expect(record)
        self._wake.set()

    def tend(self) -> None:
        """Deliver for a while, or see that the thread does. Raises :class:`DestinationFailedError`."""
        if self.refused is not None:
            raise DestinationFailedError(self.refused)
        if self.is_done:
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
        while not self.is_done and self.error is None and not self._stopped and self._clock() < until:
            wait = self._deliver_next()
            if wait is not None:
                self._wake.wait(min(wait, LOOK_EVERY))

    def end(self) -> None:
        """The run has ended: those that wait for that are due, and what failed is tried again."""
        if not self.waiting.has_ended:
            self.waiting.end()
            self._rest.end()
            self.retry_now()

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
        if not self._given_up.is_done:
            self._tell_given_up()
            return None
        if self._rest.is_due(now):
            self._deliver_rest()
            return None
        found = self.waiting.next()
        if found is None or isinstance(found, float):
            return min(_IDLE if found is None else found, self._rest.wait(now))
        self._moved = (0, now)
        try:
            wait = self._sender.send(found, ended=self.waiting.has_ended)
        except BaseException as error:  # whatever it is: it must not end the deliveries
            self._fail(found, error)
        else:
            if wait is None:
                self._rest.note(found.seq)
                self._settle(found, "delivered")
            else:
                self.waiting.postpone(found, wait)
        return None

    def _tell_given_up(self) -> None:
        try:
            place = self._given_up.tell_next()
        except DestinationFailedError as error:
            self.refused = redact(str(error))
        except RetryableError as error:
            self._in_a_row += 1
            self._pause("what was given up", error, self._delay(self._in_a_row, error))
        else:
            logger.info("%s: an older %s was given up", self._destination.name, redact(place))

    def _deliver_rest(self) -> None:
        try:
            self._rest.deliver(self._clock())
        except BaseException as error:
            if isinstance(error, DestinationFailedError):
                self.refused = redact(str(error))
                return
            if isinstance(error, RejectedError):
                self._reject_rest(error)
            self._in_a_row += 1
            self._pause("what was put off", error, self._delay(self._in_a_row, error))
            if not isinstance(error, RetryableError | RejectedError | OSError):
                self._tell_unforeseen("what was put off", error)
        else:
            self._in_a_row, self.error = 0, None

    def _reject_rest(self, error: RejectedError) -> None:
        """Note what was put off and is refused. The destination does not try it again."""
        record = ArtifactRecord(self._rest.since, now_ms(), "table", error.place)
        try:
            self._rejects.add_artifact(record, Path(error.file) if error.file else None, str(error))
        except OSError as failure:  # a full disk
            logger.warning("a rejected artifact can't be noted: %s", failure)
        self._notice(f"{redact(error.place)} is not delivered: {error}. See {self._journal.rejected}")

    def _fail(self, record: ArtifactRecord, error: BaseException) -> None:
        tries = self._failures[record.seq] = self._failures.get(record.seq, 0) + 1
        if isinstance(error, DestinationFailedError):
            self.refused = redact(str(error))
            self.waiting.postpone(record, 0.0)
            return
        if isinstance(error, RejectedError) or (not self._is_passing(record, error) and tries >= MOST_TRIES):
            self._reject(record, error)
            return
        self._in_a_row += 1
        wait = self._delay(tries, error)
        self._pause(record.place, error, min(wait, self._delay(self._in_a_row, error)))
        self.waiting.postpone(record, wait)

    def _pause(self, what: str, error: BaseException, seconds: float) -> None:
        self._paused_until = self._clock() + seconds
        self.error = redact(str(error) or type(error).__name__)
        logger.warning("%s: %s: %s. Next try in %.1f s", self._destination.name, what, error, seconds)

    def _is_passing(self, record: ArtifactRecord, error: BaseException) -> bool:
        """Whether to try again for ever. If not, it is told where the error comes from."""
        if isinstance(error, OSError) and is_disk_full(error):
            return True
        if isinstance(error, RetryableError) and not isinstance(error.__cause__, OSError):
            return True
        if isinstance(error, RetryableError | OSError) and can_read(self._journal, record):
            return True
        self._tell_unforeseen(record.place, error)
        return False

    def _tell_unforeseen(self, what: str, error: BaseException) -> None:
        text = describe(error)
        if text != self._last_unforeseen:
            self._last_unforeseen = text
            name = self._destination.name
            logger.error("%s: an unexpected error with %s: %s", name, what, text, exc_info=error)

    def _delay(self, tries: int, error: BaseException) -> float:
        return retry.delay_after(error, tries, uniform=self._uniform, policy=self._policy)

    def _reject(self, record: ArtifactRecord, error: BaseException) -> None:
        reason = reason_of(error)
        try:
            self._given_up.tell(record)
        except (RetryableError, DestinationFailedError) as failure:  # both come again
            wait = self._delay(self._failures[record.seq], failure)
            self._pause(record.place, failure, wait)
            self.waiting.postpone(record, wait)
            return
        try:
            self._rejects.add_artifact(record, self._kept_at(record), reason)
        except OSError as failure:  # a full disk
            logger.warning("a rejected artifact can't be noted: %s", failure)
            self.waiting.postpone(record, self._policy.cap)
            return
        what = f"{record.kind} {redact(record.place)} is not delivered to {self._destination.name}"
        self._notice(f"{what}: {reason}. See {self._journal.rejected}")
        self._settle(record, "rejected")

    def _kept_at(self, record: ArtifactRecord) -> Path | None:
        try:
            return None if record.held is None else content_of(self._journal, record.held)
        except OSError:  # it is gone
            return None

    def _settle(self, record: ArtifactRecord, outcome: Outcome) -> None:
        self._in_a_row, self.error = 0, None
        self._failures.pop(record.seq, None)
        self.waiting.settle(record, outcome)

    def _forget(self, record: ArtifactRecord) -> None:
        if self._failures.pop(record.seq, 0):  # a newer one has come in its place
            self._given_up.add(record)
        self._sender.forget(record)
