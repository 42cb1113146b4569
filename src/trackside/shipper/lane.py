"""One destination's way out of the journal: read, send, acknowledge, in order, for as long as it takes.

Invariants:

* The cursor moves only behind what the destination has taken or what was set aside as rejected, and never
  back. What was sent but not yet acknowledged is sent again after a restart.
* A transient error is retried for ever. A lasting one bisects the batch down to the single point that
  causes it, which goes to ``rejected.jsonl`` and is counted; nothing else is held up by it.
* The final status is set when everything before it is delivered, and again only if it got worse.
* What the destination and the shaping know of the past is saved with the cursor, in one piece.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import DeliveryError, RefusedError, RejectedError, RetryableError, UnauthorisedError
from trackside.journal.cursor import load_cursor, save_cursor
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.meta import LaneState
from trackside.journal.reader import Entry, JournalReader
from trackside.protocols import Durable, Resumable
from trackside.shaping import Shaper
from trackside.shipper import retry
from trackside.shipper.rejects import RejectedFile, halves
from trackside.status import Evidence, Verdict

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.reader import Position
    from trackside.protocols import Destination
    from trackside.shaping import Shaped, Shaping

logger = logging.getLogger(__name__)

POLL = 0.25
"""Seconds between two looks at a quiet journal; also what small samples are collected for."""

Judge = Callable[[], tuple[Verdict, Evidence]]


class Stopped(Exception):  # noqa: N818 - no error: the way out of a wait
    """The shipper is asked to leave before the work is done."""


class Lane(threading.Thread):
    """The thread of one destination, in the shipper.

    ``judge`` says what is known of the run's end; ``on_lifecycle`` gets the lifecycle records as they are
    passed, before the cursor moves behind them; ``dropped`` tells the points the trainer could not keep.
    """

    def __init__(
        self,
        destination: Destination,
        journal: JournalDirectory,
        *,
        judge: Judge,
        on_lifecycle: Callable[[LifecycleRecord], None],
        dropped: Callable[[], int],
        shape: Shaping | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        policy: retry.Policy = retry.DEFAULT,
    ) -> None:
        super().__init__(name=f"trackside-{destination.name}", daemon=True)
        self.destination = destination
        self.wake = threading.Event()
        self.refused: str | None = None
        self.failing: str | None = None
        self.opened = False
        self.settled: Verdict | None = None
        self.released = 1
        """Segments before this one are needed no more, not even after a power cut."""
        self._judge = judge
        self._on_lifecycle = on_lifecycle
        self._dropped = dropped
        self._uniform = uniform
        self._policy = policy
        self._stop_asked = threading.Event()
        self._saving = threading.Lock()
        self._cursor_path = journal.cursor(destination.name)
        self.cursor = load_cursor(self._cursor_path)
        """Replaced whole by each acknowledgement: another thread may save it at any time."""
        self._shaper = None if shape is None else Shaper(shape, self.cursor.shaping)
        self._batch_shipped = self._batch_rejected = 0
        self.reader = JournalReader(journal, self.cursor.position)
        self._damage_before = (self.cursor.damaged, self.cursor.missing)
        self._rejects = RejectedFile(journal.rejected, destination.name, after_seq=self.cursor.position.seq)

    def run(self) -> None:
        """Deliver until the run's end is settled, or until :meth:`stop`."""
        try:
            self._open()
            self._ship()
        except Stopped:
            logger.info("%s: stopped", self.destination.name)
        except RejectedError as error:
            logger.error("%s: refused: %s", self.destination.name, error)  # noqa: TRY400 - no traceback wanted
            self.refused = str(error)
        except Exception as error:
            logger.exception("%s: the lane broke", self.destination.name)
            self.refused = f"{type(error).__name__}: {error}"
        finally:
            self.reader.close()
            self.destination.close()

    def _open(self) -> None:
        if isinstance(self.destination, Resumable) and self.cursor.destination is not None:
            self._persist(self.destination.restore, self.cursor.destination)
        self._persist(self.destination.open)
        self.opened = True

    def stop(self) -> None:
        """Ask the lane to leave at the next wait."""
        self._stop_asked.set()
        self.wake.set()

    @property
    def finished(self) -> bool:
        """Whether the final verdict was delivered."""
        return self.settled is not None and self.settled.final

    @property
    def refused_at_start(self) -> bool:
        """Whether the destination could not be opened, and never will."""
        return self.refused is not None and not self.opened

    def state(self) -> LaneState:
        """How it is doing, for the shipper's state."""
        settled = None if self.settled is None else self.settled.status
        return LaneState(settled=settled, refused=self.refused, error=self.failing)

    def save_durably(self) -> None:
        """Have the cursor on disk for good, so that segments behind it may be deleted."""
        self._save(durable=True)

    def counts(self) -> dict[str, int]:
        """Points by what became of them, and records that could not be read (damaged), as of now."""
        dropped, cursor = self._dropped(), self.cursor
        return {
            "emitted": cursor.shipped + cursor.shaped + cursor.rejected + dropped,
            "shipped": cursor.shipped,
            "shaped": cursor.shaped,
            "dropped": dropped,
            "rejected": cursor.rejected,
            "damaged": cursor.damaged + cursor.missing + self.reader.torn,
        }

    def _ship(self) -> None:
        while not self.finished:
            # Both before reading: whatever was written until then is then seen.
            dead = self.reader.writer_dead
            verdict, evidence = self._judge()
            entries = self.reader.read(self.destination.batch_points)
            if entries:
                self._deliver(entries)
            complete = dead or evidence.finished is not None
            self._settle(verdict, evidence, at_end=complete and not entries)
            if not self.finished:
                self._idle()
                if not entries:
                    self._wait(POLL)

    def _release(self) -> None:
        """Let the segments go that everything is acknowledged of, once the destination has it for good."""
        segment = self.cursor.position.segment
        if segment > self.released:
            try:
                if isinstance(self.destination, Durable):
                    self.destination.sync()
            except (DeliveryError, OSError) as error:
                logger.warning("%s: nothing is let go yet: %s", self.destination.name, error)
            else:
                self.released = segment

    def _idle(self) -> None:
        self._release()
        try:
            self._persist(self.destination.idle)
        except RefusedError:
            raise
        except RejectedError as error:  # a heartbeat nobody takes must not hold up the points
            logger.warning("%s: %s", self.destination.name, error)

    def _deliver(self, entries: list[Entry]) -> None:
        self._batch_shipped = self._batch_rejected = 0
        for kind, group in itertools.groupby(entries, key=lambda entry: type(entry.record)):
            batch: list[Any] = [entry.record for entry in group]
            if kind is MetricsRecord:
                self._send_metrics(self._shape(batch))
            else:
                self._send_others(batch)
        self._acknowledge(entries[-1].after)

    def _shape(self, batch: list[MetricsRecord]) -> list[MetricsRecord]:
        if self._shaper is None:
            return batch
        return [
            _record_of(shaped, record.seq)
            for record in batch
            for shaped in self._shaper.feed(record.step, record.timestamp_ms, record.named_values())
        ]

    def _deliver_open_windows(self) -> None:
        """Nothing more will come: what the shaping still holds back is delivered."""
        held = [] if self._shaper is None else self._shaper.flush()
        if held:
            self._batch_shipped = self._batch_rejected = 0
            self._send_metrics([_record_of(shaped, self.cursor.position.seq) for shaped in held])
            self._acknowledge(self.cursor.position)

    def _send_others(self, records: Iterable[ConfigRecord | LifecycleRecord]) -> None:
        for record in records:
            if isinstance(record, LifecycleRecord):
                self._persist(self._on_lifecycle, record)
                continue
            try:
                self._persist(self.destination.write_config, record)
            except RefusedError:
                raise
            except RejectedError as error:
                self._set_aside(record, error)

    def _send_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver ``batch``; of a rejected one, deliver the halves, down to the point that is at fault."""
        if not batch:
            return
        try:
            self._persist(self.destination.write_metrics, batch)
        except RefusedError:
            raise
        except RejectedError as error:
            parts = halves(batch)
            if not parts:
                self._set_aside(batch[0], error)
                self._batch_rejected += batch[0].points
            for part in parts:
                self._send_metrics(part)
        else:
            self._batch_shipped += sum(record.points for record in batch)

    def _acknowledge(self, position: Position) -> None:
        damaged, missing = self._damage_before
        destination, shaper = self.destination, self._shaper
        self.cursor = msgspec.structs.replace(
            self.cursor,
            position=position,
            shipped=self.cursor.shipped + self._batch_shipped,
            rejected=self.cursor.rejected + self._batch_rejected,
            damaged=damaged + self.reader.damaged,
            missing=missing + self.reader.missing,
            shaped=self.cursor.shaped if shaper is None else shaper.merged,
            destination=destination.state() if isinstance(destination, Resumable) else None,
            shaping=None if shaper is None else shaper.state(),
        )
        try:
            self._save()
        except OSError as error:  # a full disk: the next one is saved, or these points are sent again
            logger.warning("%s: the cursor could not be saved: %s", self.destination.name, error)

    def _save(self, *, durable: bool = False) -> None:
        with self._saving:
            save_cursor(self._cursor_path, self.cursor, durable=durable)

    def _settle(self, verdict: Verdict, evidence: Evidence, *, at_end: bool) -> None:
        """Deliver the verdict if it is new; a final one only behind everything that was emitted."""
        if verdict.status == "RUNNING" or verdict == self.settled:
            return
        if verdict.final and not at_end:
            return
        if verdict.final:
            self._deliver_open_windows()
        self._persist(self.destination.settle, verdict, evidence, self.counts())
        self.settled = verdict

    def _persist(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call until it works; :class:`RejectedError` passes through."""
        for attempt in itertools.count(1):
            if self._stop_asked.is_set():
                raise Stopped
            try:
                call(*arguments)
            except (RetryableError, OSError) as error:  # OSError: our own disk, full for a while
                self._wait_out(error, attempt)
            else:
                self.failing = None
                return

    def _wait_out(self, error: RetryableError | OSError, attempt: int) -> None:
        slow = isinstance(error, UnauthorisedError)
        wished = error.retry_after if isinstance(error, RetryableError) else None
        wait = retry.delay(attempt, uniform=self._uniform, retry_after=wished, slow=slow, policy=self._policy)
        logger.warning("%s: %s; again in %.1f s", self.destination.name, error, wait)
        self.failing = str(error)
        self._wait(wait, whatever_comes=slow or wished is not None)

    def _wait(self, seconds: float, *, whatever_comes: bool = False) -> None:
        """Wait; a nudge cuts it short, unless ``whatever_comes``: then only :meth:`stop` does."""
        if whatever_comes:
            self._stop_asked.wait(seconds)
        else:
            self.wake.wait(seconds)
            self.wake.clear()
        if self._stop_asked.is_set():
            raise Stopped

    def _set_aside(self, record: MetricsRecord | ConfigRecord, error: Exception) -> None:
        """Keep what nobody will take in ``rejected.jsonl``, with the reason."""
        logger.warning("%s: set aside: %s", self.destination.name, str(error)[:300])
        self._persist(self._rejects.add, record, str(error))


def _record_of(shaped: Shaped, seq: int) -> MetricsRecord:
    """What shaping made of a record; the names are whole by now, and the epoch is one of them."""
    return MetricsRecord(seq, shaped.timestamp_ms, shaped.step, None, None, shaped.metrics)
