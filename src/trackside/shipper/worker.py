"""Deliver the journal to one destination: read, send, acknowledge, in order, for as long as it takes.

Invariants:

* The cursor moves only behind what the destination has taken or rejected for good. What was
  sent but not yet acknowledged is sent again after a restart. When the cursor goes back, says
  :mod:`trackside.shipper.acknowledged`.
* A transient error is retried for ever. A lasting one bisects the batch down to the single point that
  causes it, which goes to ``rejected.jsonl`` and is counted; nothing else is held up by it. A point that
  fails every time while others are taken counts as lasting (:mod:`trackside.shipper.search`).
* Metrics wait for nothing but metrics: not for a configuration, a heartbeat or a file.
* The final status is set when everything before it is delivered, and again only if it got worse.
* What the destination and the transform know of the past is saved with the cursor, in one piece.
* An unforeseen error, ours or the destination's, ends no worker. A call is made again. After an error
  elsewhere the worker goes back to its last acknowledgement, as a new shipper would, and tries again.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import (
    DeliveryError,
    DestinationFailedError,
    GoneError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
    UnprovenError,
)
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.meta import WorkerState
from trackside.journal.reader import Entry, JournalReader, Position
from trackside.lifecycle.run_end import run_end
from trackside.protocols import Probing
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.acknowledged import Acknowledged
from trackside.shipper.batch_limit import BatchLimit
from trackside.shipper.calls import Calls
from trackside.shipper.configs import WaitingConfigs
from trackside.shipper.dead_letters import RejectedFile, halves
from trackside.shipper.destination_state import restore_state, state_of
from trackside.shipper.search import Comparison, Search
from trackside.transform import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory
    from trackside.lifecycle.evidence import Evidence
    from trackside.lifecycle.verdict import Verdict
    from trackside.protocols import Destination
    from trackside.shipper.judge import Judge
    from trackside.transform import Transform, Transformed

logger = logging.getLogger(__name__)

POLL = 0.25
"""Seconds between two looks at a quiet journal; also what small samples are collected for."""

_LONGEST_CAUSE = 2000
_ENOUGH_TO_KNOW = 50


class Stopped(Exception):  # noqa: N818 - no error: the way out of a wait
    """The shipper is asked to leave before the work is done."""


class Doubtful(Exception):  # noqa: N818 - no error of ours: the way out of retrying one batch
    """A batch fails, and the destination takes other writes."""


class DeliveryWorker(threading.Thread):
    """The thread of one destination, in the shipper.

    ``judge`` gets each lifecycle record before the cursor moves behind it, and says how the run ended.
    ``notice`` tells the user something.
    """

    def __init__(
        self,
        destination: Destination,
        journal: JournalDirectory,
        *,
        judge: Judge,
        notice: Callable[[str], None] = logger.warning,
        transform: Transform | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
        policy: retry.Policy = retry.DEFAULT,
    ) -> None:
        super().__init__(name=f"trackside-{destination.name}", daemon=True)
        self.destination = destination
        self.wake = threading.Event()
        self.refused: str | None = None
        self._error: str | None = None
        self.gone = False
        """Whether it fails because somebody removed what it delivers to."""
        self.opened = False
        self.told: Verdict | None = None
        self.released = 1
        """Segments before this one are needed no more, not even after a power cut."""
        self._judge = judge
        self._uniform = uniform
        self._policy = policy
        self._calls = Calls(destination)
        self._broken: BaseException | None = None
        self._breaks = 0
        self._broke_at = Position()
        self._stop_asked = threading.Event()
        self._retry_asked = False
        self._acknowledged = Acknowledged(journal, destination.name)
        destination.keep_state = self._keep_state
        self._unproven = 0
        self._proof_asked = False
        self._notice = notice
        self._transform_wanted = transform
        self._transformer = None if transform is None else Transformer(transform, self.cursor.transform)
        self._comparison = None
        if isinstance(destination, Probing):
            self._comparison = Comparison(lambda known: self._calls(destination.probe, known))
        if self._comparison is not None and transform is None and self.cursor.shipped:
            self._comparison.remember(_delivered_before(journal, self.cursor.position))
        self._limit = BatchLimit()
        self._configs = WaitingConfigs(journal.path, destination.name, policy=policy, uniform=uniform)
        self._idle_failures = 0
        self._idle_due = 0.0
        self._batch_shipped = self._batch_rejected = 0
        self.reader = JournalReader(journal, self.cursor.position)
        self.reader.hold()
        self._damage_before = (self.cursor.damaged, self.cursor.missing)
        self._rejects = RejectedFile(journal.rejected, destination.name, after_seq=self.cursor.position.seq)

    def run(self) -> None:
        """Deliver until the run's end is settled, or until :meth:`stop`."""
        while not self._work():
            pass
        self.reader.close()
        try:
            self.destination.close()
        except Exception:
            logger.exception("%s: closing it failed", self.destination.name)

    def _work(self) -> bool:
        """Deliver as far as it goes; False when something unforeseen came in between."""
        try:
            if self._broken is not None:
                self._start_over()
            if not self.opened:
                self._open()
            self._ship()
            self._finish_rest()
        except Stopped:
            logger.info("%s: stopped", self.destination.name)
        except (DestinationFailedError, RejectedError) as error:
            logger.error("%s: refused: %s", self.destination.name, error)  # noqa: TRY400 - no traceback wanted
            self.refused = redact(str(error))
        except BaseException as error:
            self._broken = error
            return False
        return True

    def _start_over(self) -> None:
        """Wait, then go back to the last acknowledgement. Raises :class:`Stopped`."""
        error, self._broken = self._broken, None
        if self.cursor.position != self._broke_at:
            self._breaks, self._broke_at = 0, self.cursor.position
        self._breaks += 1
        if not isinstance(error, OSError):
            assert error is not None  # noqa: S101 - asked before
            error = RetryableError(self._calls.note_unforeseen(error))
        self._wait_out(error, self._breaks)
        self._read_on_from_cursor()
        if self.cursor.destination is not None:
            self._persist(self.destination.close)
            self.opened = False

    def _read_on_from_cursor(self) -> None:
        """Have the reader and the transformer where the last acknowledgement left them."""
        self.reader.rewind(self.cursor.position)
        self._damage_before = (self.cursor.damaged, self.cursor.missing)
        if self._transform_wanted is not None:
            self._transformer = Transformer(self._transform_wanted, self.cursor.transform)

    def _open(self) -> None:
        if self.cursor.destination is not None:
            self._persist(restore_state, self.destination, self.cursor.destination)
        self._persist(self.destination.open)
        if self.cursor.destination is None:  # to go back to, should the first batch be interrupted
            self._persist(self._keep_state)
        self.opened = True

    def _keep_state(self) -> None:
        self._acknowledged.cursor = msgspec.structs.replace(
            self.cursor, destination=state_of(self.destination)
        )
        self._keep_cursor()

    def prove_now(self) -> None:
        """Look soon whether the destination shows what it has acknowledged: the trainer waits for it."""
        self._proof_asked = True
        self.wake.set()

    @property
    def cursor(self) -> Cursor:
        """How far it got."""
        return self._acknowledged.cursor

    @property
    def failing(self) -> str | None:
        """What it fails with now; None while it works. A call past its deadline fails, too."""
        return self._calls.overdue or self._error

    @failing.setter
    def failing(self, error: str | None) -> None:
        self._error = error

    @property
    def silent_for(self) -> float:
        """Seconds since the destination last answered; 0 while nothing is asked of it."""
        return self._calls.silent_for

    def stop(self) -> None:
        """Ask the worker to leave at the next wait."""
        self._stop_asked.set()
        self.wake.set()

    def retry_now(self) -> None:
        """Cut a wait after a failure short: what it failed with may be mended."""
        self._retry_asked = True
        self.wake.set()

    @property
    def finished(self) -> bool:
        """Whether the final verdict was delivered."""
        return self.told is not None and self.told.final

    @property
    def refused_at_start(self) -> bool:
        """Whether the destination could not be opened, and never will."""
        return self.refused is not None and not self.opened

    def state(self) -> WorkerState:
        """How it is doing, for the shipper's state."""
        told = None if self.told is None else self.told.status
        return WorkerState(told, self.finished, refused=self.refused, error=self.failing)

    def save_durably(self) -> None:
        """Have the cursor on disk for good, so that segments behind it may be deleted."""
        self._acknowledged.save(durable=True)

    def counts(self) -> dict[str, int]:
        """Points by what became of them, and records that could not be read (damaged), as of now."""
        dropped, cursor = self._judge.dropped_points(), self.cursor
        return {
            "emitted": cursor.shipped + cursor.merged + cursor.rejected + dropped,
            "shipped": cursor.shipped,
            "merged": cursor.merged,
            "dropped": dropped,
            "rejected": cursor.rejected,
            "damaged": cursor.damaged + cursor.missing + self.reader.torn,
        }

    def _ship(self) -> None:
        while not self.finished:
            # Both before reading: whatever was written until then is then seen.
            dead = self.reader.writer_dead
            verdict, evidence = self._judge.judge()
            entries = self.reader.read(self._limit.of(self.destination.batch_points))
            if entries:
                self._deliver(entries)
            if self._proof_asked:
                self._proof_asked = False
                self._prove()
            self._deliver_configs(at_once=verdict.final and not entries)
            complete = dead or evidence.finished is not None
            self._write_end(verdict, evidence, at_end=complete and not entries)
            if not self.finished:
                self._idle()
                if not entries:
                    self._wait(POLL)

    def _release(self) -> None:
        """Let the segments go that everything is acknowledged of, once the destination has it for good."""
        segment = self.cursor.position.segment
        if segment > self.released and self._prove():
            try:
                self._calls(self.destination.sync)
            except (DeliveryError, OSError) as error:
                logger.warning("%s: nothing is let go yet: %s", self.destination.name, error)
            else:
                self.released = segment

    def _prove(self) -> bool:
        """Whether the destination shows what it acknowledged. Otherwise go back to where it last did."""
        try:
            self._persist(self.destination.prove)
        except UnprovenError as error:
            self._unproven += 1
            self._acknowledged.go_back()
            self._read_on_from_cursor()
            self._keep_cursor()
            self._wait(self._note_failure(RetryableError(str(error)), self._unproven))
            return False
        self._acknowledged.note_proof()
        self._keep_cursor()
        self._unproven = 0
        return True

    def _idle(self) -> None:
        """Let the destination do what is due. A heartbeat that fails must not hold up the points."""
        self._release()
        if time.monotonic() < self._idle_due:
            return
        try:
            self._calls(self.destination.idle)
        except RejectedError as error:
            logger.warning("%s: %s", self.destination.name, error)
        except (RetryableError, OSError) as error:
            self._idle_failures += 1
            self._idle_due = time.monotonic() + self._note_failure(error, self._idle_failures)
        else:
            self._idle_failures = 0
            self.failing = None

    def _deliver(self, entries: list[Entry]) -> None:
        self._batch_shipped = self._batch_rejected = 0
        for kind, group in itertools.groupby(entries, key=lambda entry: type(entry.record)):
            batch: list[Any] = [entry.record for entry in group]
            if kind is MetricsRecord:
                self._send_metrics(self._transform(batch))
            else:
                self._send_others(batch)
        self._acknowledge(entries[-1].after)

    def _transform(self, batch: list[MetricsRecord]) -> list[MetricsRecord]:
        if self._transformer is None:
            return batch
        return [
            _record_of(transformed, record.seq)
            for record in batch
            for transformed in self._transformer.feed(record.step, record.timestamp_ms, record.named_values())
        ]

    def _deliver_open_windows(self) -> None:
        """Nothing more will come: what the transform still holds back is delivered."""
        held = [] if self._transformer is None else self._transformer.flush()
        if held:
            self._batch_shipped = self._batch_rejected = 0
            self._send_metrics([_record_of(transformed, self.cursor.position.seq) for transformed in held])
            self._acknowledge(self.cursor.position)

    def _send_others(self, records: Iterable[ConfigRecord | LifecycleRecord]) -> None:
        for record in records:
            if isinstance(record, LifecycleRecord):
                self._persist(self._judge.keep_record, record)
            elif self._comparison is not None:
                self._configs.add(record)
            else:
                self._send_config(record)

    def _send_config(self, record: ConfigRecord) -> None:
        try:
            self._persist(self.destination.write_config, record)
        except RejectedError as error:
            self._set_aside(record, error)

    def _deliver_configs(self, *, at_once: bool) -> None:
        """Send the configurations that wait, each once, as far as one is due; ``at_once``: due or not."""
        while (record := self._configs.first) is not None and (at_once or self._configs.is_due):
            try:
                self._calls(self.destination.write_config, record)
            except RejectedError as error:
                self._set_aside(record, error)
            except (RetryableError, OSError) as error:
                if not self._note_config_failure(error):
                    return
                self._set_aside(record, error)
            self._configs.done()
            self._keep_cursor()

    def _note_config_failure(self, error: RetryableError | OSError) -> bool:
        """Whether it is no use trying again."""
        comparison = self._comparison
        elsewhere = comparison is None or not comparison.succeeds(strict=False)
        wished = error.retry_after if isinstance(error, RetryableError) else None
        wait = self._configs.failed(elsewhere=elsewhere, retry_after=wished)
        self._tell_failure(error, wait)
        return self._configs.is_hopeless

    def _finish_rest(self) -> None:
        """The status is set. Deliver what it did not wait for: configurations, and files."""
        while self._configs.first is not None:
            self._deliver_configs(at_once=False)
            if self._configs.first is not None:
                self._wait(POLL)
        self._persist(self.destination.finish_uploads)

    def _send_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver ``batch``; of a rejected one, deliver the halves, down to the point that is at fault."""
        if not batch:
            return
        try:
            self._persist(self.destination.write_metrics, batch, give_up=self._is_doubtful)
        except Doubtful:
            self._search(batch)
        except RejectedError as error:
            parts = halves(batch)
            if not parts:
                self._reject_point(batch[0], error)
            for part in parts:
                self._send_metrics(part)
        else:
            self._count_shipped(batch)
            self._limit.went_well()

    def _is_doubtful(self, attempt: int) -> bool:
        """Whether to look for a bad point: the batch failed ``attempt`` times, and other writes are taken."""
        comparison = self._comparison
        if comparison is None:
            return False
        tries = 1 if comparison.suspects or self._limit.is_set else self._policy.tries
        return attempt >= tries and comparison.succeeds(strict=False)

    def _search(self, batch: Sequence[MetricsRecord]) -> None:
        assert self._comparison is not None  # noqa: S101 - else there is no doubt
        search = Search(
            batch,
            self._comparison,
            send=self._send_part,
            set_aside=self._reject_point,
            policy=self._policy,
            uniform=self._uniform,
        )
        logger.warning("%s: a batch fails, other writes are taken: searching it", self.destination.name)
        while search.parts:
            wait = search.round()
            self.failing = redact(str(search.error)) if search.failing else None
            if search.parts:
                self._wait(wait, whatever_comes=True)
        self.failing = None
        if not search.found and search.largest:
            self._limit.narrow(search.largest)

    def _send_part(self, batch: list[MetricsRecord]) -> None:
        if self._stop_asked.is_set():
            raise Stopped
        try:
            self._calls(self.destination.write_metrics, batch)
        except OSError as error:
            raise RetryableError(str(error)) from error
        self._count_shipped(batch)

    def _count_shipped(self, batch: Sequence[MetricsRecord]) -> None:
        self._batch_shipped += sum(record.points for record in batch)
        if self._comparison is not None:
            self._comparison.remember(batch)

    def _reject_point(self, record: MetricsRecord, error: DeliveryError) -> None:
        self._set_aside(record, error)
        self._batch_rejected += record.points

    def _acknowledge(self, position: Position) -> None:
        damaged, missing = self._damage_before
        transformer, state = self._transformer, self._persist(state_of, self.destination)
        self._acknowledged.cursor = msgspec.structs.replace(
            self.cursor,
            position=position,
            shipped=self.cursor.shipped + self._batch_shipped,
            rejected=self.cursor.rejected + self._batch_rejected,
            damaged=damaged + self.reader.damaged,
            missing=missing + self.reader.missing,
            merged=self.cursor.merged if transformer is None else transformer.merged,
            destination=state,
            transform=None if transformer is None else transformer.state(),
        )
        self._keep_cursor()

    def _keep_cursor(self) -> None:
        self._acknowledged.keep(configs=len(self._configs), needs_proof=self.destination.needs_proof)

    def _write_end(self, verdict: Verdict, evidence: Evidence, *, at_end: bool) -> None:
        """Deliver the verdict if it is new; a final one only behind everything that was emitted."""
        if verdict.status == "RUNNING" or verdict == self.told:
            return
        if verdict.final and not at_end:
            return
        if verdict.final:
            self._deliver_open_windows()
            if not (self._is_at_end() and self._prove()):
                return
        self._persist(self.destination.write_end, run_end(verdict, evidence, self.counts()))
        self.told = verdict

    def _is_at_end(self) -> bool:
        """Whether the cursor is not beyond the journal's end. Otherwise go back to the beginning."""
        said = self._acknowledged.leave_beyond()
        if said is not None:
            self._notice(said)
            self._read_on_from_cursor()
            self._keep_cursor()
        return said is None

    def _persist(
        self, call: Callable[..., Any], *arguments: Any, give_up: Callable[[int], bool] | None = None
    ) -> Any:
        """Call until it works, and return the result; :class:`RejectedError` passes through.

        Raises :class:`Doubtful` when ``give_up`` says so, asked with the number of failures so far.
        """
        for attempt in itertools.count(1):
            if self._stop_asked.is_set():
                raise Stopped
            try:
                result = self._calls(call, *arguments)
            except (RetryableError, OSError) as error:  # OSError: our own disk, full for a while
                if give_up is not None and give_up(attempt):
                    raise Doubtful from error
                self._wait_out(error, attempt)
            else:
                self.failing = None
                self.gone = False
                return result
        return None

    def _wait_out(self, error: RetryableError | OSError, attempt: int) -> None:
        wait = self._note_failure(error, attempt)
        wished = isinstance(error, RetryableError) and error.retry_after is not None
        self._wait(wait, whatever_comes=wished or isinstance(error, UnauthorisedError))

    def _delay(self, error: RetryableError | OSError, attempt: int) -> float:
        return retry.delay(
            attempt,
            uniform=self._uniform,
            retry_after=error.retry_after if isinstance(error, RetryableError) else None,
            slow=isinstance(error, UnauthorisedError),
            policy=self._policy,
        )

    def _note_failure(self, error: RetryableError | OSError, attempt: int) -> float:
        """Have it show that it fails; the seconds to wait until the next try."""
        wait = self._delay(error, attempt)
        self._tell_failure(error, wait)
        return wait

    def _tell_failure(self, error: RetryableError | OSError, wait: float) -> None:
        logger.warning("%s: %s; again in %.1f s", self.destination.name, error, wait)
        text = redact(str(error))
        if self._error != text and error.__cause__ is not None:
            cause = redact(str(error.__cause__))  # before it is cut: half a secret is not found
            logger.info("%s: in full: %s", self.destination.name, cause[:_LONGEST_CAUSE])
        self.failing = text
        self.gone = isinstance(error, GoneError)

    def _wait(self, seconds: float, *, whatever_comes: bool = False) -> None:
        """Wait; a nudge cuts it short, unless ``whatever_comes``.

        :meth:`stop` and :meth:`retry_now` cut either short.
        """
        if whatever_comes:
            until = time.monotonic() + seconds
            while not self._retry_asked and (left := until - time.monotonic()) > 0:
                if self._stop_asked.wait(min(left, POLL)):
                    break
            self._retry_asked = False
        else:
            self.wake.wait(seconds)
            self.wake.clear()
        if self._stop_asked.is_set():
            raise Stopped

    def _set_aside(self, record: MetricsRecord | ConfigRecord, error: Exception) -> None:
        """Keep what nobody will take in ``rejected.jsonl``, with the reason."""
        logger.warning("%s: rejected: %s", self.destination.name, str(error)[:300])
        self._persist(self._rejects.add, record, str(error))


def _delivered_before(journal: JournalDirectory, position: Position) -> list[MetricsRecord]:
    """Records of an earlier shipper's that the destination has, as far as their segment is still there."""
    reader = JournalReader(journal, Position(position.segment))
    try:
        records = [entry.record for entry in reader.read(_ENOUGH_TO_KNOW)]
    finally:
        reader.close()
    return [r for r in records if isinstance(r, MetricsRecord) and r.points and r.seq <= position.seq]


def _record_of(transformed: Transformed, seq: int) -> MetricsRecord:
    """What transform made of a record; the names are whole by now, and the epoch is one of them."""
    return MetricsRecord(seq, transformed.timestamp_ms, transformed.step, None, None, transformed.metrics)
