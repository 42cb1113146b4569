"""The shipper's main thread: everything but sending.

It watches the trainer, takes signals from the wakeup pipe, gets the journal onto the disk twice a second,
makes the next segment ready, deletes segments that every worker is done with, and leaves once the final
status is delivered. The workers send. A worker that hangs in a request delays none of this, and the shipper
leaves without it.

A step of the main thread that fails is survived (:mod:`trackside.shipper.survival`).

The first worker is the run's own (MLflow's, on rank 0). ``start()`` and ``finish()`` report what becomes of
it. The others can't hold it up: they are started behind it. One that has failed permanently, or is so far
behind that the disk's cap is near, no longer keeps segments from being deleted
(:mod:`trackside.shipper.segment_keeper`).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import time
from typing import TYPE_CHECKING

import msgspec

from trackside.destinations.answers import close_overdue
from trackside.journal import lossless_json
from trackside.journal.family import tell_children
from trackside.lifecycle.crash_notes import forget_notes
from trackside.lifecycle.exit_hold import let_go
from trackside.shipper import environment
from trackside.shipper.environment import Renewal
from trackside.shipper.held_release import HeldRelease
from trackside.shipper.inventory import has_refused, waiting_names
from trackside.shipper.judge import Judge
from trackside.shipper.log_redaction import hide
from trackside.shipper.protocol import (
    DONE,
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_UNFINISHED,
    LEFT,
    LINGER,
    NUDGE,
    PROVE,
    SEEN,
    signals_in,
)
from trackside.shipper.removal import Presence, remove_delivered, say_lost
from trackside.shipper.segment_keeper import SegmentKeeper
from trackside.shipper.signals import on_request_to_leave
from trackside.shipper.survival import Survival
from trackside.shipper.trainer import Trainer
from trackside.shipper.transformed import transforms_of
from trackside.shipper.wakeup_reader import WakeupReader
from trackside.shipper.worker import DeliveryWorker
from trackside.shipper.worker_report import WorkerReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Meta
    from trackside.journal.progress import Progress
    from trackside.protocols import Destination
    from trackside.shipper.protocol import Line

logger = logging.getLogger("trackside.shipper")

TICK = 0.1
SEEN_TIMEOUT = 2.0
"""Seconds a finished shipper waits for the trainer to have read the final state."""

OTHERS_WAIT = 20.0
"""Seconds the first worker has to open before the others may compete with it for the processor, and may name
their files after a run that they do not know yet."""

GONE_PATIENCE = 5.0
"""Seconds a shipper without a trainer gives a journal, or a database, that was removed to come back."""

LEAVE_PATIENCE = 10.0
"""Seconds that a call may take once the shipper is asked to leave."""

LEAVE_TRIES, LEAVE_PAUSE = 5, 1.0


class Shipper:
    """Ships the journal in ``journal`` to ``destinations``, in a process of its own.

    ``pipe`` is the read end of the trainer's wakeup pipe, and ``line`` the shipper's end of the channel,
    where there is a trainer. ``hold`` is what the exit of the trainer's process waits for
    (:mod:`trackside.lifecycle.exit_hold`). ``give_way`` is called once, when the run is open or cannot be for
    now.
    """

    def __init__(
        self,
        journal: JournalDirectory,
        meta: Meta,
        destinations: Sequence[Destination],
        *,
        progress: Progress,
        pipe: int | None = None,
        line: Line | None = None,
        hold: int | None = None,
        linger: float = LINGER,
        give_way: Callable[[], object] = lambda: None,
    ) -> None:
        self._give_way_to_training = give_way
        self._journal = journal
        self._line = line
        self._presence = Presence(journal.path)
        self._moved = (0, 0.0)
        self._meta = meta
        self._progress = progress
        self._wakeup = WakeupReader(pipe, self._take)
        self._hold = hold
        self._trainer = Trainer(journal, meta)
        self._judge = Judge(journal, meta, progress, self._trainer, look_for_signals=self._wakeup.read)
        self._passed_on = (False, False)
        self._linger = linger
        self._asked_to_leave = False
        self._seen = False
        self._is_left = pipe is None  # then no trainer will say that it has seen the state
        self._gave_way = False
        self._selector = selectors.DefaultSelector()
        self._transforms = transforms_of(meta)
        self.workers = [self._make_worker(destination) for destination in destinations]
        self._segments = SegmentKeeper(journal, meta.cap, self.workers)
        self._held = HeldRelease(journal, self.workers)
        self._report = WorkerReport(journal, meta, progress, self.workers)
        self._survival = Survival(progress.notice)
        self._waiting = list(self.workers)
        self._others_due = time.monotonic() + OTHERS_WAIT

    def run(self) -> int:
        """Work until everything is delivered and the status is set. Returns the process's exit code."""
        self._listen()
        steps = (
            self._start_workers,
            self._give_way,
            self._wait,
            self._look_at_trainer,
            self._pass_on_end,
            self._segments.tend,
            self._held.tend,
            self._make_segment_ready,
            close_overdue,
            self._report.publish,
        )
        while self._waiting or any(worker.is_alive() for worker in self.workers):
            for step in steps:
                self._survival.attempt(step, None)
            is_asked = self._asked_to_leave and bool(self._trainer.died_ms)
            if self._survival.attempt(self._should_leave, is_asked):
                for worker in self.workers:
                    worker.calls.stop()
                self._waiting = []
                break
        try:
            return self._leave_at_last()
        finally:
            self._let_exit_go()

    @property
    def hangs(self) -> bool:
        """Whether a worker is still in a call that does not return: the process can't wait for it."""
        return any(worker.is_alive() or worker.artifacts.is_busy for worker in self.workers)

    def _make_worker(self, destination: Destination) -> DeliveryWorker:
        return DeliveryWorker(
            destination,
            self._journal,
            judge=self._judge,
            notice=self._progress.notice,
            transform=self._transforms.get(destination.name),
        )

    def _start_workers(self) -> None:
        """Start the workers that wait. Where no thread can be started, the next turn tries again."""
        first = self.workers[0]
        if first in self._waiting:
            first.start()
            self._waiting.remove(first)
        if self._is_first_settled():
            for worker in list(self._waiting):
                worker.start()
                self._waiting.remove(worker)

    def _is_first_settled(self) -> bool:
        """Whether the first worker has opened, or is known not to for now."""
        first = self.workers[0]
        return bool(first.opened or first.failing or first.refused or time.monotonic() >= self._others_due)

    def _give_way(self) -> None:
        """Once the run is open, or cannot be for now, leave the processor to the training."""
        if not self._gave_way and self._is_first_settled():
            self._gave_way = True
            self._give_way_to_training()

    def _listen(self) -> None:
        on_request_to_leave(self._on_signal)
        line = None if self._line is None else self._line.fileno()
        for descriptor in (self._wakeup.descriptor, line, self._trainer.fileno()):
            if descriptor is not None:
                self._selector.register(descriptor, selectors.EVENT_READ)

    def _on_signal(self, _number: int, _frame: object) -> None:
        # A scheduler signals every process of the job, this one too: the trainer's end is still to be told.
        self._asked_to_leave = True

    def _wait(self) -> None:
        try:
            ready = self._selector.select(TICK)
        except OSError:
            time.sleep(TICK)  # nothing else keeps the loop from turning without a pause
            raise
        for key, _ in ready:
            if not self._hear(key.fd):  # its other end is closed: it would stay readable for ever
                self._selector.unregister(key.fileobj)

    def _hear(self, descriptor: int) -> bool:
        """Take what has come in through ``descriptor``. False when nothing ever will again."""
        if descriptor == self._wakeup.descriptor:
            return self._wakeup.read()
        if self._line is None or descriptor != self._line.fileno():
            return False
        messages = self._line.receive()
        for message in messages:
            self._renew(message)
        return bool(messages)

    def _renew(self, message: bytes) -> None:
        """Use the credentials that the trainer has now, at once."""
        try:
            renewal = lossless_json.decode(message, Renewal)
        except msgspec.MsgspecError as error:
            logger.warning("a message of the training process can't be read: %s", error)
            return
        hide(renewal)
        environment.apply(renewal.variables)
        names = ", ".join(sorted(renewal.variables)) or "the address"
        logger.info("changed by the training process: %s", names)
        for worker in self.workers:
            worker.destination.renew(renewal.tracking_uri)
            worker.retry_now()

    def _take(self, data: bytes) -> None:
        self._seen = self._seen or SEEN in data
        self._is_left = self._is_left or LEFT in data
        asked_to_stop = self._judge.keep_signals(signals_in(data))
        if PROVE in data:
            for worker in self.workers:
                worker.prove_now()
        elif asked_to_stop or NUDGE in data:
            self._wake()

    def _wake(self) -> None:
        for worker in self.workers:
            worker.wake()

    def _look_at_trainer(self) -> None:
        trainer = self._trainer
        if trainer.died_ms:
            return
        if trainer.is_gone():
            self._wakeup.read()  # a signal that came just before the end
        trainer.look(said_exited=self._judge.said_exited)
        if not trainer.died_ms and self._hold is not None:
            self._serve_waiting_exit()

    def _pass_on_end(self) -> None:
        """Let the workers know, once for each, that the trainer was replaced or has died."""
        end = (self._trainer.replaced, bool(self._trainer.died_ms))
        if end == self._passed_on:
            return
        for worker in self.workers:
            worker.reader.writer_dead = True
        self._wake()
        self._passed_on = end

    def _serve_waiting_exit(self) -> None:
        """In a container the process waits at its exit until the status is right: let it go then."""
        if not self._judge.said_exited or self._trainer.read_code_of_waiting_exit() is None:
            return
        told = self.workers[0].told
        if not self._trainer.died_ms and told is not None and told.status == self._judge.judge()[0].status:
            self._let_exit_go()

    def _let_exit_go(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            let_go(hold)

    def _make_segment_ready(self) -> None:
        if not (self._trainer.writes_no_more or self._presence.is_gone()):  # that would bring a folder back
            self._segments.make_ready()

    def _should_leave(self) -> bool:
        first = self.workers[0]
        if first.refused is not None and not first.opened and not self._journal.meta.exists():
            return True  # start() has raised, and removed the journal
        if not self._trainer.died_ms:
            return False
        failing = any(worker.failing for worker in self.workers) or (
            self._asked_to_leave and any(worker.calls.silent_for > LEAVE_PATIENCE for worker in self.workers)
        )
        if self._presence.is_gone():
            return failing or not self.workers[0].opened or self._is_stuck()
        linger = GONE_PATIENCE if any(worker.calls.gone for worker in self.workers) else self._linger
        overdue = self._trainer.dead_for > min(linger, self._linger)
        return failing and (overdue or self._asked_to_leave)

    def _is_stuck(self) -> bool:
        """Whether nothing has been delivered for a while."""
        done = sum(worker.cursor.position.seq for worker in self.workers)
        if done != self._moved[0] or not self._moved[1]:
            self._moved = (done, time.monotonic())
        return time.monotonic() - self._moved[1] > GONE_PATIENCE

    def _leave_at_last(self) -> int:
        """Leave. What fails while leaving is tried again, a few times."""
        for _ in range(LEAVE_TRIES - 1):
            try:
                return self._leave()
            except Exception:
                logger.exception("leaving failed, and is tried again")
                time.sleep(LEAVE_PAUSE)
        return self._leave()

    def _leave(self) -> int:
        for worker in self.workers:
            if worker.ident is not None:
                worker.join(timeout=SEEN_TIMEOUT)
        self._report.publish_workers()
        refused = next(
            (f"{worker.destination.name}: {worker.refused}" for worker in self.workers[1:] if worker.refused),
            None,
        )
        refused = self.workers[0].refused or refused
        if self._presence.is_gone():
            return self._leave_nothing(refused)
        if not all(worker.finished for worker in self.workers):
            with contextlib.suppress(OSError):
                self._segments.sync()  # what is left over must not hang on the machine's staying up
        if refused is not None:
            self._progress.update(phase="refused", error=refused)
            return EXIT_REFUSED
        if not all(worker.finished for worker in self.workers):
            self._progress.update(phase="stopped")
            return EXIT_UNFINISHED
        undone = any(not worker.artifacts.is_done for worker in self.workers)
        if undone or waiting_names(self._journal, self._meta):
            failing = next((worker.failing for worker in self.workers if worker.failing), None)
            error = self._progress.state.artifacts_error or failing
            self._progress.update(phase="artifacts", error=error)
            self._segments.remove_all()
            return EXIT_UNFINISHED
        self._progress.update(phase="done", error=None)
        if self._line is not None:
            self._line.send(DONE)
        self._wait_until_seen()
        self._clean_up()
        return EXIT_DONE

    def _leave_nothing(self, refused: str | None) -> int:
        """Leave after the journal was removed, and bring nothing of it back."""
        if all(worker.finished for worker in self.workers):
            if self._line is not None:
                self._line.send(DONE)
            return EXIT_DONE
        if refused is not None and not self._trainer.died_ms:  # start() has raised, and removed it itself
            return EXIT_REFUSED
        failing = next((worker.failing for worker in self.workers if worker.failing), None)
        say_lost(self._journal.path, refused or failing or "the shipper had no time to deliver it")
        return EXIT_UNFINISHED

    def _wait_until_seen(self) -> None:
        deadline = time.monotonic() + SEEN_TIMEOUT
        while not (self._is_left or self._is_read()) and time.monotonic() < deadline:
            self._wait()

    def _is_read(self) -> bool:
        """Whether the trainer knows what became of the run, or never will."""
        self._wakeup.read()
        return self._seen or self._trainer.is_gone() or self._trainer.replaced

    def _clean_up(self) -> None:
        """Remove the journal. What was rejected stays behind, to be looked at."""
        forget_notes(self._journal.path.parent, self._meta.job, since_ms=self._meta.started_ms)
        if not has_refused(self._journal, self._meta):
            run = self._progress.state.run
            if run is not None:
                tell_children(self._journal, run.run_id)
            remove_delivered(self._journal, self._is_read)
            return
        self._segments.remove_all()
