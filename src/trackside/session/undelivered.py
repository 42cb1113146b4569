"""Runs of this process that are over and not delivered yet: the process waits for all of them at once.

A run in the middle of a program (a trial of a sweep, a nested run) ends without waiting. Its end is in its
journal, and its shipper delivers it while the program goes on with the next one. What is left when the
interpreter leaves is waited for together, under the limits of a single run.

Invariants:

* One limit for all: however many runs are left, the exit of the process waits ``TRACKSIDE_EXIT_TIMEOUT`` at
  most, and :data:`~trackside.session.delivery.NO_PROGRESS` seconds while whatever can be delivered fails.
* One warning for all: a server that is down costs a line, and not a line for each run.
* A run that is delivered is forgotten within seconds, with its descriptors and with what its shipper has left
  for this process to read, while runs start, end or log.
* No lock is waited for. A thread that finds another one at work leaves the work to it, and a signal handler
  may interrupt any of them. A forked child forgets everything here.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from trackside.lifecycle.exit_hold import in_container
from trackside.lifecycle.exits import at_child_exit
from trackside.lifecycle.fork import abandon_in_children
from trackside.session.delivery import NO_PROGRESS, Stall
from trackside.system.clock import steady
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import State
    from trackside.session.delivery import Delivery
    from trackside.session.shipper_handle import ShipperProcess

logger = logging.getLogger("trackside.session")

POLL = 0.01
"""Seconds between two looks at a run that is waited for. Several take turns."""

MOST_PAUSE = 0.1

TIDY_EVERY = 1.0
"""Seconds between two looks at the runs that are not waited for."""

MANY = 32
"""Runs that wait and keep a channel to their shipper: two descriptors each."""

FROM_SCRATCH = 8
"""Shippers of ended runs that were started from scratch and work at the same time."""

FAILS_BEFORE_DEATH = 0.5
"""Seconds a dying process in a container waits for a server that fails."""


class EndedRun:
    """A run that is over. ``on_outcome(delivered)`` is called once, when its delivery is over or given up."""

    def __init__(
        self,
        journal: JournalDirectory,
        delivery: Delivery,
        shipper: ShipperProcess,
        on_outcome: Callable[[bool], None],
    ) -> None:
        self.journal = journal
        self.delivery = delivery
        self.shipper = shipper
        self._on_outcome = on_outcome
        self._said = Once()
        self.state: State | None = None
        """What its shipper said last."""

    def is_over(self) -> bool:
        """Whether nothing more can come, good or bad."""
        running = self.shipper.is_running()  # before reading: the last state of a dead shipper counts
        state = self.shipper.state()
        if state is not None:
            self.state = state
            if state.run is not None:
                self.delivery.opening.look(state)
            if self.delivery.is_over(state):
                return not (running and self._is_about_to_go(state))
        if not running:
            self.shipper.ensure_running()
        return self.shipper.is_over()

    def _is_about_to_go(self, state: State) -> bool:
        """Whether a shipper that we have left has only the journal to remove, which then is gone for good."""
        if not self.shipper.is_left or state.phase in {"refused", "artifacts"}:
            return False
        return self.journal.meta.exists() and not self.delivery.has_waiting_files()

    def is_delivered(self) -> bool:
        """Whether everything is delivered, files too. Of one that is over."""
        return self.delivery.learn_end(self.shipper.state()) and not self.delivery.has_waiting_files()

    def tell(self, *, delivered: bool) -> None:
        """Tell the run what became of it, once."""
        if self._said.is_first("outcome"):
            self._on_outcome(delivered)


class UndeliveredRuns:
    """The runs of this process that are over and not known to be delivered, by the id of who added them."""

    def __init__(self) -> None:
        self._runs: dict[int, EndedRun] = {}
        self._read: dict[str, JournalDirectory] = {}
        self._tidying = threading.Lock()
        self._next_look = 0.0
        self._watched_process = 0
        self._exit_ends: float | None = None

    @property
    def are_many(self) -> bool:
        """Whether so many wait that a further one may keep no descriptors."""
        return len(self._runs) >= MANY

    def add(self, key: int, run: EndedRun) -> None:
        """Wait for ``run`` at the exit of the process, in place of what had the same ``key``.

        If the process has waited by now, ``run`` is waited for here and now.
        """
        self._runs[key] = run
        if self._exit_ends is None:
            self.tidy()
        else:
            self.wait_at_exit()

    def limit_processes(self, timeout: float) -> None:
        """Where shippers can't be forked, each has imported MLflow: wait until few of them are left."""
        costly = [run for run in list(self._runs.values()) if run.shipper.is_from_scratch]
        costly = [run for run in costly if run.shipper.is_running()]
        self.wait_for(costly[:-FROM_SCRATCH], timeout, while_they_fail=NO_PROGRESS)

    def tidy(self) -> None:
        """Forget what is delivered by now, and see that the rest has shippers. Waits for nothing."""
        if not (self._runs or self._read) or steady() < self._next_look:
            return
        if not self._tidying.acquire(blocking=False):
            return
        try:
            self._next_look = steady() + TIDY_EVERY
            for run in list(self._runs.values()):
                self._outcome(run)
            self._clear_read()
        finally:
            self._tidying.release()

    def note_read(self, journal: JournalDirectory) -> None:
        """This process knows what became of ``journal``: leave nothing of it behind once it is delivered."""
        self._read[str(journal.path)] = journal

    def _clear_read(self) -> None:
        for path, journal in list(self._read.items()):
            if journal.clear_delivered() or journal.rejected.exists():
                self._read.pop(path, None)

    def flush(self, timeout: float) -> bool:
        """Wait until all of them are delivered. False if one of them is not, or not in time."""
        return self.wait_for(self._runs.values(), timeout)

    def wait_for(
        self, runs: Iterable[EndedRun], timeout: float, *, while_they_fail: float | None = None
    ) -> bool:
        """Wait until ``runs`` are delivered. False if one of them is not, or not in time.

        ``while_they_fail``: seconds to wait while nothing moves and all that have a shipper fail.
        """
        deadline, stall = steady() + timeout, Stall(timeout if while_they_fail is None else while_they_fail)
        waiting, delivered = list(runs), True
        while True:
            outcomes = [(run, self._outcome(run)) for run in waiting]
            delivered &= not any(outcome is False for _, outcome in outcomes)
            waiting = [run for run, outcome in outcomes if outcome is None]
            if not waiting or steady() >= deadline or stall.lasts(*_progress(waiting)):
                return delivered and not waiting
            time.sleep(min(POLL * len(waiting), MOST_PAUSE))

    def _outcome(self, run: EndedRun) -> bool | None:
        """Whether ``run`` is delivered, or None while more can come. What is delivered is forgotten."""
        if not run.is_over():
            return None
        if not run.is_delivered():
            return False
        for key in [key for key, other in list(self._runs.items()) if other is run]:
            self._runs.pop(key, None)
        run.tell(delivered=True)
        run.journal.clear_delivered()
        return True

    def watch_exit(self) -> None:
        """Have this process wait at its exit. Call it before a run hooks in, so that its hooks come first."""
        if self._watched_process == os.getpid():
            return
        self._watched_process = os.getpid()
        abandon_in_children(self)
        atexit.unregister(self.wait_at_exit)
        atexit.register(self.wait_at_exit)
        at_child_exit(self.wait_at_exit)

    def wait_at_exit(self) -> None:
        """The interpreter leaves: wait for all at once, and say in one line what is not delivered."""
        runs = list(self._runs.values())
        if self._exit_ends is None:
            self._exit_ends = steady() + max((run.delivery.exit_timeout for run in runs), default=0.0)
        self.wait_for(runs, max(0.0, self._exit_ends - steady()), while_they_fail=NO_PROGRESS)
        rest = [run for run in runs if run in self._runs.values()]
        self._runs.clear()
        if len(rest) == 1:
            rest[0].delivery.conclude_end(rest[0].state)
        elif rest:
            _warn_of(rest)
        for run in rest:
            run.tell(delivered=False)
        self._clear_read()

    def wait_before_death(self, timeout: float) -> None:
        """A terminate signal is about to end this process. In a container the shippers end with it."""
        if in_container():
            self.wait_for(self._runs.values(), timeout, while_they_fail=FAILS_BEFORE_DEATH)

    def abandon(self) -> None:
        """In a forked child: forget them. They are the parent's."""
        for run in self._runs.values():
            run.shipper.abandon()
        self._runs.clear()
        self._read.clear()
        self._tidying, self._exit_ends = threading.Lock(), None


undelivered_runs = UndeliveredRuns()
"""Those of this process."""


def _progress(runs: Sequence[EndedRun]) -> tuple[object, bool]:
    """How far they are, and whether all fail that have a shipper at work, or can't have one for now."""
    found = [run.delivery.progress(run.state) for run in runs if run.state is not None]
    held_up = any(run.shipper.is_held_up for run in runs)
    return tuple(mark for mark, _ in found), bool(found or held_up) and all(failing for _, failing in found)


def _warn_of(runs: Sequence[EndedRun]) -> None:
    last = runs[-1]
    folders = dict.fromkeys(str(run.journal.path.parent) for run in runs)
    logger.warning(
        "%d runs are not delivered entirely (of the last one: %s). The rest is kept in %s. What the shippers "
        "at work do not deliver, `trackside sync` does",
        len(runs),
        last.delivery.describe_rest(last.state),
        " and ".join(folders),
        extra={"trackside_journals": [str(run.journal.path) for run in runs]},
    )
