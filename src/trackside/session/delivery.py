"""The trainer's view of delivery: ask the shipper, and wait with a timeout.

The shipper delivers without any of this, so a trainer that never asks loses nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from trackside.events import as_final
from trackside.journal.cursor import delivered_points, load_cursor
from trackside.journal.delivery_status import DeliveryStatus, status_in
from trackside.journal.lock import is_locked
from trackside.journal.outbox import Outbox
from trackside.lifecycle.exit_hold import in_container
from trackside.session.announce import announce
from trackside.session.file_delivery import (
    WaitForFiles,
    describe_files,
    files_error,
    files_in,
    files_wait,
    some_of,
    waiting_names,
)
from trackside.session.last_words import HELD_UP, AtWork, describe_delivery, describe_offline, describe_rest
from trackside.session.run import Counts
from trackside.system.clock import steady
from trackside.system.once import Once

if TYPE_CHECKING:
    from trackside.events import FinalStatus
    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Meta, RunInfo, State
    from trackside.journal.writer import JournalWriter
    from trackside.session.opening import Opening
    from trackside.session.shipper_handle import ShipperProcess
    from trackside.settings import Settings

logger = logging.getLogger("trackside.session")

CONCLUDE_TIMEOUT = 5.0
"""Seconds ``start()`` waits for the end of the run before, if that was provisional."""


NO_PROGRESS = 5.0
"""Seconds the end of the program waits for a failing server while no point gets through."""

_told = Once()
"""What this process was told, whatever the run."""


class Delivery:
    """The delivery of one run's journal."""

    def __init__(
        self,
        journal: JournalDirectory,
        meta: Meta,
        settings: Settings,
        *,
        writer: JournalWriter,
        shipper: ShipperProcess,
        opening: Opening,
    ) -> None:
        self._journal = journal
        self._meta = meta
        self._settings = settings
        self._writer = writer
        self._shipper = shipper
        self._watching = threading.Lock()
        self.opening = opening
        self._end = _End(0, 0.0)
        self.told: FinalStatus | None = None
        """The status that MLflow shows after the end, if this attempt has set it."""
        self.online = meta.mode == "online"

    def counts(self) -> Counts:
        """Points by what became of them until now."""
        cursors = self._cursors()
        shipped, rejected = delivered_points(cursors)
        files = files_in(cursors, self._writer)
        return Counts(shipped, rejected, self._writer.scoreboard.dropped_points, files)

    def status(self) -> DeliveryStatus:
        """How it stands now."""
        if not self.online:
            return DeliveryStatus("offline")
        if self._shipper.gave_up is not None:
            return DeliveryStatus("failed", self._shipper.gave_up)
        state = self._shipper.state()
        self.opening.look(state)
        found = status_in(state, mlflow=self._meta.mlflow)
        return found._replace(reason=HELD_UP) if self._shipper.is_held_up else found

    def run_info(self) -> RunInfo | None:
        """The run, as far as it is known now."""
        return self.opening.info or self.opening.look(self._shipper.state())

    # While the run lasts

    def watch(self) -> float | None:
        """Check that the shipper lives and read what it says. The sink calls this every few seconds.

        Returns the seconds until the next check, if it should be sooner than usual.
        """
        if not self.online or not self._watching.acquire(blocking=False):
            return None
        try:
            self._shipper.ensure_running()
            self._shipper.pass_on_environment()
            state = self._shipper.state()
            self._shipper.log_notices(state)
            self._warn_if_held_up()
            if self._shipper.warn_if_removed() and self._shipper.gave_up is not None:
                self._writer.give_up()
            return self.opening.look_in_time(state)
        finally:
            self._watching.release()

    def wait_for_all(self, timeout: float, *, files: bool = True) -> bool:
        """Whether every destination has all that is in the journal now, within ``timeout`` seconds.

        Also False if a destination has failed permanently.
        """
        wanted = self._writer.last_seq
        self._shipper.nudge()
        waiting = WaitForFiles(self._journal, self._meta.destination_names, nudge=self._shipper.nudge)
        state = self._shipper.wait_for(
            lambda state: self._acknowledged(wanted, state) and (not files or waiting.have(wanted, state)),
            timeout,
        )
        self._shipper.log_notices(self._shipper.state())
        self._warn_if_held_up()
        return state is not None and not _refuses(state)

    def _acknowledged(self, seq: int, state: State) -> bool:
        """Whether every destination that has not failed permanently has everything up to record ``seq``.

        If only the proof is missing, the shipper is asked for it.
        """
        refusing = {name for name, worker in state.workers.items() if worker.refused}
        names = [name for name in self._meta.destination_names if name not in refusing]
        cursors = [load_cursor(self._journal.cursor(name)) for name in names]
        if all(cursor.has(seq) for cursor in cursors):
            return True
        if all(cursor.acknowledges(seq) for cursor in cursors):
            self._shipper.ask_for_proof(seq)
        return False

    def _warn_if_held_up(self) -> None:
        if self._shipper.is_held_up and _told.is_first(f"held up in {os.getpid()}"):
            self._warn(
                "%s: what you log is kept, and delivered later. Until then its flush() returns False, and "
                "its run_id is None. The first such run is kept in %s",
                HELD_UP,
                self._journal.path,
            )

    # Ending

    def wait_for_end(self) -> bool:
        """Wait until everything emitted and the status are delivered. If they are not, say what is missing.

        Waits for :attr:`Settings.exit_timeout` while there is progress, and for :data:`NO_PROGRESS` seconds
        while a server fails, so that a server that is down does not delay the end of the program. Also False
        if a destination has failed permanently.
        """
        if not self.online:
            self._say_offline()
            return False
        self.begin_end()
        stall = Stall(NO_PROGRESS)
        state = self._shipper.wait_for(
            lambda state: self.is_over(state) or stall.lasts(*self.progress(state)),
            self._settings.exit_timeout,
        )
        return self.conclude_end(state)

    @property
    def exit_timeout(self) -> float:
        """Seconds the exit of the process may wait for it."""
        return self._settings.exit_timeout

    def begin_end(self) -> None:
        """Nothing more will be logged: what is in the journal now is all."""
        self._end = _End(self._writer.last_seq, steady())
        self._shipper.nudge()

    def conclude_end(self, state: State | None) -> bool:
        """Learn what became of the delivery, and say what is missing. Returns whether all is delivered.

        ``state``: one that is over or has stalled, or None if the wait for one was in vain.
        """
        last = state or self._shipper.state()
        failed_before = self.opening.failure is not None
        self.opening.look(last)
        self._shipper.log_notices(last)
        delivered = self.learn_end(state)
        files = waiting_names(self._journal, self._meta.destination_names)
        if not delivered and (failed_before or self.opening.failure is None):
            self._warn_of_rest(last)
        elif delivered and files:
            self._warn_of_files(files, last)
        return delivered and not files

    def has_waiting_files(self) -> bool:
        """Whether files are not uploaded yet."""
        return bool(Outbox(self._journal.path).pending() or files_wait(self._cursors()))

    def learn_end(self, state: State | None) -> bool:
        """Keep the status that was set. Returns whether everything but files is delivered."""
        # Without a state, the shipper is done and gone, or this process was stopped for seconds.
        done = self._shipper.is_done() if state is None else self.is_over(state)
        delivered = done and not (state is not None and _refuses(state))
        self._learn_status(state or self._shipper.state(), delivered=delivered)
        return delivered

    def _say_offline(self) -> None:
        if not self._journal.meta.exists():
            self._warn_of_loss()
        elif not self._settings.quiet:
            announce(describe_offline(self._journal.path, self._writer.scoreboard.dropped_points))

    def _learn_status(self, state: State | None, *, delivered: bool) -> None:
        """Keep what MLflow was told, if this attempt sets the status."""
        worker = None if state is None else state.workers.get("mlflow")
        if state is not None and (delivered or (worker is not None and worker.finished)):
            self.told = as_final(state.status) if state.ownership in {"", "held"} else None

    def is_over(self, state: State) -> bool:
        """Whether nothing more can come, good or bad."""
        if state.phase in {"done", "refused"}:
            return True
        files_fail = state.artifacts_error is not None or not Outbox(self._journal.path).pending()
        files_fail = files_fail and (not files_wait(self._cursors()) or files_error(state) is not None)
        over = state.phase == "artifacts" or (state.status is not None and files_fail)
        return over and self._acknowledged(self._end.wanted, state)

    def progress(self, state: State) -> tuple[object, bool]:
        """How far the delivery is, and whether the rest of it fails at the moment."""
        reached = {name: load_cursor(self._journal.cursor(name)) for name in self._meta.destination_names}
        lagging = [name for name, cursor in reached.items() if not cursor.has(self._end.wanted)]
        if not lagging and state.status is None:
            lagging = list(self._meta.destination_names[:1])
        workers = [state.workers.get(name) for name in lagging]
        failing = all(worker is not None and worker.error and not worker.waits for worker in workers)
        if not lagging and files_wait(reached.values()):
            failing = files_error(state) is not None
        counts = ((cursor.position.seq, cursor.configs, cursor.files.settled) for cursor in reached.values())
        mark = (state.status, *counts, *(worker.files.sent for worker in state.workers.values()))
        return mark, failing  # if no destination lags, only files are left

    def _cursors(self) -> list[Cursor]:
        return [load_cursor(self._journal.cursor(name)) for name in self._meta.destination_names]

    def _warn(self, text: str, *details: object) -> None:
        extra = {"trackside_journal": str(self._journal.path)}
        logger.warning(text, *details, extra=extra, stacklevel=2)

    def _warn_of_rest(self, state: State | None) -> None:
        if self._shipper.is_removed():
            self._warn_of_loss()
            return
        if self._shipper.gave_up is not None:
            self._warn(
                "not everything is delivered (%s). The rest is kept in %s. To deliver it, run "
                "`trackside sync`",
                self._shipper.gave_up,
                self._journal.path,
            )
            return
        self._warn(
            "%s. The rest is kept in %s. %s",
            self.describe_rest(state),
            self._journal.path,
            self.how_it_goes_out(state),
        )

    def describe_rest(self, state: State | None) -> str:
        """What is not delivered, and why."""
        names = {name: self._meta.label_of(name) for name in self._meta.destination_names}
        cursors = {name: load_cursor(self._journal.cursor(name)) for name in names}
        lacking = [name for name, cursor in cursors.items() if not cursor.has(self._end.wanted)]
        waited = steady() - self._end.began
        return describe_rest(state, lacking, names, waited=waited, at_work=self._at_work())

    def _warn_of_loss(self) -> None:
        self._warn(
            "the journal %s was removed before everything in it was delivered. What is missing in the run "
            "is lost",
            self._journal.path,
        )

    def _warn_of_files(self, names: list[str], state: State | None) -> None:
        self._warn(
            "metrics and status are delivered, but not uploaded yet: %s (%s). They are kept in %s. %s",
            some_of(names),
            describe_files(state),
            self._journal.path,
            self.how_it_goes_out(state),
        )

    def how_it_goes_out(self, state: State | None) -> str:
        """How what is missing will be delivered."""
        refused = state is not None and state.phase == "refused"
        at_work = self._at_work()
        return describe_delivery(at_work, self._shipper.pid, refused=refused, in_container=in_container())

    def _at_work(self) -> AtWork:
        """Which shipper works on the journal now."""
        if self._shipper.is_running():
            if self._shipper.pid is None:
                return "queued"
            return "ours" if self._shipper.is_ready else "starting"
        return "another" if is_locked(self._journal.lock) else "none"

    def wait_before_death(self) -> None:
        """A terminate signal is about to end this process. In a container the shipper ends with it."""
        if self.online:
            self._shipper.nudge()
            self._shipper.wait_for(
                lambda state: (
                    state.status is not None or state.phase in {"retrying", "refused", "artifacts", "done"}
                ),
                self._settings.terminate_timeout,
            )

    def wait_until_concluded(self) -> None:
        """Wait until the shipper, which was told of the end, has nothing left to do."""
        if self.online:
            self._shipper.wait_for(
                lambda state: state.phase in {"done", "refused", "artifacts"}, CONCLUDE_TIMEOUT
            )


def _refuses(state: State) -> bool:
    return state.phase == "refused" or any(worker.refused for worker in state.workers.values())


class _End(NamedTuple):
    """The end of what is logged: the number of the last record, and when it came."""

    wanted: int
    began: float


class Stall:
    """Whether delivery made no progress for ``limit`` seconds, and the rest failed all that time."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._mark: object = None
        self._since = steady()

    def lasts(self, mark: object, failing: bool) -> bool:
        """Whether it does. ``mark`` differs when there is progress."""
        if mark != self._mark or not failing:
            self._mark, self._since = mark, steady()
        return steady() - self._since >= self._limit
