"""One destination's way out of the journal: read, send, acknowledge, in order, for as long as it takes.

Invariants:

* The cursor moves only behind what the destination has taken or what was set aside as rejected, and never
  back. What was sent but not yet acknowledged is sent again after a restart.
* A transient error is retried for ever. A lasting one bisects the batch down to the single point that
  causes it, which goes to ``rejected.jsonl`` and is counted; nothing else is held up by it.
* The final status is set when everything before it is delivered, and again only if it got worse.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from trackside.errors import RejectedError, RetryableError, UnauthorisedError
from trackside.journal.cursor import load_cursor, save_cursor
from trackside.journal.directory import FILE_MODE, JournalDirectory
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.reader import Entry, JournalReader
from trackside.protocols import Destination
from trackside.shipper import retry
from trackside.status import Evidence, Verdict

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
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        super().__init__(name=f"trackside-{destination.name}", daemon=True)
        self.destination = destination
        self.wake = threading.Event()
        self.refused: str | None = None
        self.failing: str | None = None
        self.opened = False
        self.settled: Verdict | None = None
        self._journal = journal
        self._judge = judge
        self._on_lifecycle = on_lifecycle
        self._dropped = dropped
        self._uniform = uniform
        self._stop_asked = False
        self._cursor_path = journal.cursor(destination.name)
        self.cursor = load_cursor(self._cursor_path)
        self.reader = JournalReader(journal, self.cursor.position)
        self._damage_before = (self.cursor.damaged, self.cursor.missing)

    def run(self) -> None:
        """Deliver until the run's end is settled, or until :meth:`stop`."""
        try:
            self._persist(self.destination.open)
            self.opened = True
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

    def stop(self) -> None:
        """Ask the lane to leave at the next wait."""
        self._stop_asked = True
        self.wake.set()

    @property
    def finished(self) -> bool:
        """Whether the final verdict was delivered."""
        return self.settled is not None and self.settled.final

    def save_durably(self) -> None:
        """Have the cursor on disk for good, so that segments behind it may be deleted."""
        save_cursor(self._cursor_path, self.cursor, durable=True)

    def counts(self) -> dict[str, int]:
        """Points emitted, shipped, dropped and rejected, as of now."""
        dropped, cursor = self._dropped(), self.cursor
        return {
            "emitted": cursor.shipped + cursor.rejected + dropped,
            "shipped": cursor.shipped,
            "dropped": dropped,
            "rejected": cursor.rejected,
            "damaged": cursor.damaged + cursor.missing,
        }

    def _ship(self) -> None:
        while not self.finished:
            dead = self.reader.writer_dead  # before reading: what it wrote until then is then seen
            entries = self.reader.read(self.destination.batch_points)
            if entries:
                self._deliver(entries)
            self._settle(drained=not entries, dead=dead)
            if not self.finished and not entries:
                self._persist(self.destination.idle)
                self._wait(POLL)

    def _deliver(self, entries: list[Entry]) -> None:
        for kind, group in itertools.groupby(entries, key=lambda entry: type(entry.record)):
            batch: list[Any] = [entry.record for entry in group]
            if kind is MetricsRecord:
                self._send_metrics(batch)
            else:
                self._send_others(batch)
        self._acknowledge(entries[-1])

    def _send_others(self, records: Iterable[ConfigRecord | LifecycleRecord]) -> None:
        for record in records:
            if isinstance(record, LifecycleRecord):
                self._on_lifecycle(record)
                continue
            try:
                self._persist(self.destination.write_config, record)
            except RejectedError as error:
                self._set_aside(record, error)

    def _send_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver ``batch``; of a rejected one, deliver the halves, down to the point that is at fault."""
        try:
            self._persist(self.destination.write_metrics, batch)
        except RejectedError as error:
            halves = _halves(batch)
            if not halves:
                self.cursor.rejected += 1
                self._set_aside(batch[0], error)
            for half in halves:
                self._send_metrics(half)
        else:
            self.cursor.shipped += sum(record.points for record in batch)

    def _acknowledge(self, last: Entry) -> None:
        cursor, (damaged, missing) = self.cursor, self._damage_before
        cursor.position = last.after
        cursor.damaged = damaged + self.reader.damaged
        cursor.missing = missing + self.reader.missing
        save_cursor(self._cursor_path, cursor)

    def _settle(self, *, drained: bool, dead: bool) -> None:
        """Deliver the verdict if it is new; a final one only behind everything that was emitted."""
        verdict, evidence = self._judge()
        if verdict.status == "RUNNING" or verdict == self.settled:
            return
        if verdict.final and not (drained and (dead or evidence.finished is not None)):
            return
        self._persist(self.destination.settle, verdict, evidence, self.counts())
        self.settled = verdict

    def _persist(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call until it works; :class:`RejectedError` passes through."""
        for attempt in itertools.count(1):
            if self._stop_asked:
                raise Stopped
            try:
                call(*arguments)
            except RetryableError as error:
                slow = isinstance(error, UnauthorisedError)
                wait = retry.delay(attempt, uniform=self._uniform, retry_after=error.retry_after, slow=slow)
                logger.warning("%s: %s; again in %.1f s", self.destination.name, error, wait)
                self.failing = str(error)
                self._wait(wait)
            else:
                self.failing = None
                return

    def _wait(self, seconds: float) -> None:
        self.wake.wait(seconds)
        self.wake.clear()
        if self._stop_asked:
            raise Stopped

    def _set_aside(self, record: MetricsRecord | ConfigRecord, error: Exception) -> None:
        """Keep what nobody will take in ``rejected.jsonl``, with the reason."""
        entry = {
            "destination": self.destination.name,
            "error": str(error)[:1000],
            "at_ms": time.time_ns() // 1_000_000,
            "record": msgspec.to_builtins(record),
        }
        logger.warning("%s: set aside: %s", self.destination.name, str(error)[:300])
        with open(self._journal.rejected, "ab", opener=_private) as file:
            file.write(msgspec.json.encode(entry, enc_hook=repr) + b"\n")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _halves(batch: Sequence[MetricsRecord]) -> list[list[MetricsRecord]]:
    """Two halves by records, or by metrics of a single record; nothing when there is one point only."""
    if len(batch) > 1:
        middle = len(batch) // 2
        return [list(batch[:middle]), list(batch[middle:])]
    record = batch[0]
    names = list(record.metrics)
    if len(names) > 1:
        middle = len(names) // 2
        return [[_part(record, names[:middle])], [_part(record, names[middle:], epoch=False)]]
    if names and record.points > 1:
        return [[_part(record, [])], [_part(record, names, epoch=False)]]
    return []


def _part(record: MetricsRecord, names: list[Any], *, epoch: bool = True) -> MetricsRecord:
    epoch = epoch and "epoch" not in record.full_names()  # a metric of that name goes before
    return MetricsRecord(
        record.seq,
        record.timestamp_ms,
        record.step,
        record.epoch if epoch else None,
        record.prefix,
        {name: record.metrics[name] for name in names},
    )
