"""Deliver the journal to one destination: read, send, acknowledge, in order, for as long as it takes.

Invariants:

* The cursor moves only behind what the destination has accepted or rejected for good. What was
  sent but not yet acknowledged is sent again after a restart. :mod:`trackside.shipper.acknowledged` says when
  the cursor goes back.
* Metrics wait for nothing but metrics: not for a configuration, a heartbeat or a file.
* The final status is told when everything before it is delivered, and again only if it got worse.
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
    RejectedError,
    RetryableError,
    UnprovenError,
)
from trackside.journal.format import ArtifactRecord, LifecycleRecord, MetricsRecord, TextsRecord
from trackside.journal.reader import Entry, JournalReader, Position
from trackside.lifecycle.verdict import run_end
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.acknowledged import Acknowledged, restore_state, state_of
from trackside.shipper.batches import is_more_due, kind_of
from trackside.shipper.deliveries import deliveries_to
from trackside.shipper.rhythm import POLL, Rhythm
from trackside.shipper.sending import Calls, Stopped
from trackside.shipper.transformed import held_back, transformed
from trackside.transform import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory
    from trackside.lifecycle.evidence import Evidence
    from trackside.lifecycle.verdict import Verdict
    from trackside.protocols import Destination
    from trackside.shipper.judge import Judge
    from trackside.transform import Transform

logger = logging.getLogger("trackside.shipper")


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
        self.refused: str | None = None
        """Why it has failed permanently."""
        self.opened = False
        self.told: Verdict | None = None
        self.keep_from = 1
        """The first segment that is still needed, even after a power cut."""
        self.calls = Calls(destination, policy=policy, uniform=uniform)
        self._judge = judge
        self._notice = notice
        self._broken: BaseException | None = None
        self._breaks = 0
        self._broke_at = Position()
        self._acknowledged = Acknowledged(journal, destination.name)
        destination.keep_state = self._keep_state
        self._unproven = 0
        self._proof_asked = False
        self._transform_wanted = transform
        self._transformer = None if transform is None else Transformer(transform, self.cursor.transform)
        self._metrics, self._texts, self.artifacts = deliveries_to(
            destination,
            journal,
            self.cursor,
            self.calls,
            notice=notice,
            is_transformed=transform is not None,
        )
        self._rhythm = Rhythm(uniform=uniform)
        self._idle_failures = 0
        self._idle_due = 0.0
        self.reader = JournalReader(journal, self.cursor.position)
        self.reader.hold()
        self._damage_before = (self.cursor.damaged, self.cursor.missing)

    # For the shipper's main thread

    @property
    def cursor(self) -> Cursor:
        """How far it got."""
        return self._acknowledged.cursor

    @property
    def failing(self) -> str | None:
        """What it fails with now. None while it works. A call past its deadline fails, too."""
        return self.calls.failing or (self.artifacts.failing if self.finished else None)

    @property
    def finished(self) -> bool:
        """Whether the final verdict was delivered."""
        return self.told is not None and self.told.final

    def counts(self) -> dict[str, int]:
        """Points by what became of them, and records that could not be read (damaged), as of now."""
        dropped, cursor = self._judge.dropped_points(), self.cursor
        return {
            "emitted": cursor.shipped + cursor.merged + cursor.rejected + dropped,
            "shipped": cursor.shipped,
            "merged": cursor.merged,
            **self.artifacts.page_counts(),
            "dropped": dropped,
            "rejected": cursor.rejected,
            "damaged": cursor.damaged + cursor.missing + self.reader.torn,
        }

    def prove_now(self) -> None:
        """Look soon whether the destination shows what it has acknowledged: the trainer waits for it."""
        self._proof_asked = True
        self.calls.wake.set()

    def wake(self) -> None:
        """Look now: the trainer waits for it."""
        self.calls.wake.set()
        self.artifacts.hurry()

    def retry_now(self) -> None:
        """Try again at once, because the cause of a failure may be gone."""
        self.calls.retry_now()
        self.artifacts.retry_now()

    def save_durably(self) -> None:
        """Sync the cursor to disk, so that segments behind it may be deleted."""
        self.artifacts.waiting.sync()
        self._acknowledged.save(durable=True)

    # The thread

    def run(self) -> None:
        """Deliver until the run's end is told, or until ``calls.stop()``."""
        while not self._work():
            pass
        self.artifacts.stop()
        self.reader.close()
        try:
            self.destination.close()
        except Exception:
            logger.exception("%s: closing it failed", self.destination.name)

    def _work(self) -> bool:
        """Deliver as far as it goes. False when something unforeseen came in between."""
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
            logger.error("%s: failed permanently: %s", self.destination.name, error)  # noqa: TRY400 - no traceback
            self.refused = redact(str(error))
        except BaseException as error:
            self._broken = error
            return False
        return True

    def _open(self) -> None:
        if self.cursor.destination is not None:
            self.calls.until_done(restore_state, self.destination, self.cursor.destination)
        self.calls.until_done(self.destination.open)
        if self.cursor.destination is None:  # to go back to, should the first batch be interrupted
            self.calls.until_done(self._keep_state)
        self.opened = True

    def _ship(self) -> None:
        while not self.finished:
            # Both are asked before reading, so that reading sees all that was written until then.
            dead = self.reader.writer_dead
            verdict, evidence = self._judge.judge()
            wanted = self._metrics.batch_points
            entries = self.reader.read(wanted)
            if entries:
                self._deliver(entries)
            if self._proof_asked:
                self._proof_asked = False
                self._prove()
            self._texts.send(at_once=verdict.final and not entries, keep=self._keep_cursor)
            self._send_artifacts()
            complete = dead or evidence.finished is not None
            self._write_end(verdict, evidence, at_end=complete and not entries)
            if not self.finished:
                self._idle()
                if not entries or not (complete or is_more_due(entries, wanted)):
                    self.calls.wait(POLL if complete else self._rhythm.pause)

    def _finish_rest(self) -> None:
        """The status is told. Deliver what it did not wait for: configurations, params, tags, and files."""
        self.artifacts.end()
        self._send_artifacts()
        while len(self._texts):
            self._texts.send(at_once=False, keep=self._keep_cursor)
            if len(self._texts):
                self.calls.wait(POLL)
        self.calls.until_done(self.destination.finish_uploads)
        while self._send_artifacts():
            self.calls.wait(POLL)

    # A batch, from the journal to the cursor

    def _deliver(self, entries: list[Entry]) -> None:
        self._metrics.begin()
        records = [entry.record for entry in entries]
        artifacts = [record for record in records if isinstance(record, ArtifactRecord)]
        if artifacts:  # apart, so that pictures in between do not make a request of each sample
            self.artifacts.take(artifacts)
            records = [record for record in records if not isinstance(record, ArtifactRecord)]
        if self._texts.may_be_overtaken:  # so that tags in between do not make a request of each sample
            self._texts.take([record for record in records if isinstance(record, TextsRecord)])
            records = [record for record in records if not isinstance(record, TextsRecord)]
        for kind, group in itertools.groupby(records, key=kind_of):
            batch: list[Any] = [*group]
            if kind is MetricsRecord:
                transformer = self._transformer
                self._metrics.send(batch if transformer is None else transformed(batch, transformer))
                self._rhythm.delivered(self._metrics.took)
            elif kind is LifecycleRecord:
                for record in batch:
                    self.calls.until_done(self._judge.keep_record, record)
            else:
                self._texts.take(batch)
        self._acknowledge(entries[-1].after)

    def _acknowledge(self, position: Position) -> None:
        damaged, missing = self._damage_before
        transformer, cursor = self._transformer, self.cursor
        self._acknowledged.cursor = msgspec.structs.replace(
            cursor,
            position=position,
            shipped=cursor.shipped + self._metrics.shipped,
            rejected=cursor.rejected + self._metrics.rejected,
            damaged=damaged + self.reader.damaged,
            missing=missing + self.reader.missing,
            merged=cursor.merged if transformer is None else transformer.merged,
            destination=self.calls.until_done(state_of, self.destination),
            transform=None if transformer is None else transformer.state(),
            unkept=cursor.unkept or cursor.position,
        )
        self._keep_cursor()

    def _keep_cursor(self) -> None:
        rejected = self.cursor.rejected + self._texts.take_rejected()
        files = self.artifacts.counts()
        unkept = self.cursor.unkept if self.artifacts.waiting.is_behind else None
        changes = {"rejected": rejected, "files": files, "unkept": unkept}
        self._acknowledged.cursor = msgspec.structs.replace(self.cursor, **changes)
        self._acknowledged.keep(configs=len(self._texts), needs_proof=self.destination.needs_proof)

    def _keep_state(self) -> None:
        self._acknowledged.cursor = msgspec.structs.replace(
            self.cursor, destination=state_of(self.destination)
        )
        self._keep_cursor()

    def _send_artifacts(self) -> bool:
        """Send artifacts that are due, or see that their thread does. Returns whether some still wait."""
        self.artifacts.tend()
        self.artifacts.waiting.give_up(lambda: self.calls.once(self.destination.sync))
        is_done = self.artifacts.is_done  # asked first: else the last cursor might lack what came in between
        if self.artifacts.counts() != self.cursor.files:
            self._keep_cursor()
        return not is_done

    # Between two batches

    def _idle(self) -> None:
        """Let the destination do what is due. A heartbeat that fails must not hold up the points."""
        self._give_up_segments()
        if time.monotonic() < self._idle_due:
            return
        try:
            self.calls.once(self.destination.idle)
        except RejectedError as error:
            logger.warning("%s: %s", self.destination.name, error)
        except (RetryableError, OSError) as error:
            self._idle_failures += 1
            self._idle_due = time.monotonic() + self.calls.note_failure(error, self._idle_failures)
        else:
            self._idle_failures = 0
            self.calls.error = None

    def _give_up_segments(self) -> None:
        """Let go of delivered segments, once the destination would keep their points in a power cut."""
        segment = self.cursor.first_needed
        if segment > self.keep_from and self._prove():
            try:
                self.calls.once(self.destination.sync)
            except (DeliveryError, OSError) as error:
                logger.warning("%s: segments are kept for now: %s", self.destination.name, error)
            else:
                self.keep_from = segment

    def _prove(self) -> bool:
        """Whether the destination shows what it acknowledged. Otherwise go back to where it last did."""
        try:
            self.calls.until_done(self.destination.prove)
        except UnprovenError as error:
            self._unproven += 1
            self._acknowledged.go_back()
            self._read_on_from_cursor()
            self._keep_cursor()
            self.calls.wait(self.calls.note_failure(RetryableError(str(error)), self._unproven))
            return False
        self._acknowledged.note_proof()
        self._keep_cursor()
        self._unproven = 0
        return True

    # The end

    def _write_end(self, verdict: Verdict, evidence: Evidence, *, at_end: bool) -> None:
        """Deliver the verdict if it is new. A final one only behind everything that was emitted."""
        if verdict.status == "RUNNING" or verdict == self.told:
            return
        if verdict.final and not at_end:
            return
        if verdict.final:
            self._deliver_open_windows()
            self.artifacts.finish_in_order()
            if not (self._is_at_end() and self._prove()):
                return
        end = run_end(verdict, evidence, self.counts(), self.artifacts.why_not_kept())
        self.calls.until_done(self.destination.write_end, end)
        self.told = verdict

    def _deliver_open_windows(self) -> None:
        """Nothing more will come, so deliver what the transform still holds back."""
        position = self.cursor.position
        held = [] if self._transformer is None else held_back(self._transformer, position.seq)
        if held:
            self._metrics.begin()
            self._metrics.send(held)
            self._acknowledge(position)

    def _is_at_end(self) -> bool:
        """Whether the cursor is not beyond the journal's end. Otherwise go back to the beginning."""
        said = self._acknowledged.leave_beyond()
        if said is not None:
            self._notice(said)
            self.artifacts.waiting.take_again()
            self._read_on_from_cursor()
            self._keep_cursor()
        return said is None

    # After an unforeseen error

    def _start_over(self) -> None:
        """Wait, then go back to the last acknowledgement. Raises :class:`Stopped`."""
        error, self._broken = self._broken, None
        if self.cursor.position != self._broke_at:
            self._breaks, self._broke_at = 0, self.cursor.position
        self._breaks += 1
        if not isinstance(error, OSError):
            assert error is not None  # noqa: S101 - asked before
            error = RetryableError(self.calls.note_unforeseen(error))
        self.calls.wait_out(error, self._breaks)
        self._read_on_from_cursor()
        if self.cursor.destination is not None:
            self.calls.until_done(self.destination.close)
            self.opened = False

    def _read_on_from_cursor(self) -> None:
        """Return the reader and the transformer to the last acknowledgement."""
        self.reader.rewind(self.cursor.position)
        self._damage_before = (self.cursor.damaged, self.cursor.missing)
        if self._transform_wanted is not None:
            self._transformer = Transformer(self._transform_wanted, self.cursor.transform)
