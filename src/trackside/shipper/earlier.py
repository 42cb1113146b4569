"""Earlier attempts with the same checkpoints: who delivers them, and how long the next attempt waits.

A resumed training logs into the run of the attempt before, and that run may not exist until the journal of
that attempt is delivered. So the next attempt starts a shipper for each such journal, and waits.

Invariants:

* It waits for what decides about the run, and for nothing else: the MLflow worker of an earlier attempt.
  Another destination that is down makes no attempt wait.
* It waits only while a shipper holds the journal's lock, and only while that shipper gets somewhere. Time
  counts only while the server answers *this* attempt: an outage is not the fault of an attempt.
* Every wait has an end. What was not waited for stays in its journal, and the user is told.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from trackside.errors import RetryableError
from trackside.journal.cursor import load_cursor
from trackside.journal.directory import JournalDirectory, last_sign_ms
from trackside.journal.files import read_json
from trackside.journal.lock import is_locked
from trackside.journal.meta import Meta, State, read_meta
from trackside.journal.outbox import Outbox
from trackside.journal.owner import has_ended, is_replaced
from trackside.journal.provenance import why_untrusted
from trackside.redaction.redact import with_credentials
from trackside.shipper.spawn import command_for, spawn
from trackside.shipper.waiting import read_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE = 60.0
"""Seconds without progress, while the server answers, after which a shipper at work is not waited for. Longer
than the longest pause between two of its tries."""

ALONE = 30.0
"""The same, while no shipper is at work. One that was just started needs a few seconds."""

LONGEST = 600.0
"""Seconds after which an attempt that makes progress all the time is not waited for: it has a run by now."""

ASK_AFTER = 5.0
"""Seconds without progress until the server is asked whether it answers."""

MAX_STARTS = 3
"""Shippers that are started for one earlier attempt."""

RESTART_AFTER = 10.0
"""Seconds without a shipper until another one is started."""

_MLFLOW = "mlflow"
"""The run's own destination, by the name of its worker and its cursor."""


class EarlierAttempts:
    """The attempts before the one of ``meta``, and its parent, where that has no run id yet.

    ``tracking_uri`` is this attempt's address, with its credentials. ``notice`` tells the user something.
    ``options`` are what the shippers that are started may do (:mod:`trackside.shipper.grants`).
    """

    def __init__(
        self,
        meta: Meta,
        *,
        tracking_uri: str = "",
        notice: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[JournalDirectory, Meta, str], object] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._tracking_uri = tracking_uri
        self._notice = notice
        self._start = start or partial(_start, options=options)
        self._waits = [_Wait(JournalDirectory(path), clock) for path in meta.after]
        parent = meta.target.parent_journal
        self._parent = None if parent is None else _Wait(JournalDirectory(parent), clock)

    def deliver(self) -> None:
        """Start a shipper for each journal that is delivered first, and for that of a parent that is over."""
        for wait in self._waits:
            self._begin(wait)
        if self._parent is not None and self._parent.owner_has_ended():
            self._begin(self._parent)

    def check(self, probe: Callable[[], object]) -> None:
        """Raise :class:`RetryableError` while an earlier attempt is waited for.

        ``probe()`` asks the server anything. What it raises passes through.
        """
        while self._waits:
            wait = self._waits[0]
            newer = wait.journal.why_newer()
            if newer is not None or not wait.is_over():
                what = "waiting until an earlier attempt is delivered"
                reason = newer or self._end_of(wait, probe, what)
                self._notice(
                    f"not waiting any longer until an earlier attempt is delivered ({reason}): "
                    f"its journal is kept in {wait.journal.path}, and `trackside sync` delivers it"
                )
            del self._waits[0]

    def check_parent(self, probe: Callable[[], object]) -> str:
        """Why the parent, whose run id is not known, is not waited for. Raises while it is, as above."""
        assert self._parent is not None  # noqa: S101 - only asked where there is one
        return self._end_of(self._parent, probe, "waiting until the parent has a run id")

    def _end_of(self, wait: _Wait, probe: Callable[[], object], what: str) -> str:
        """Why ``wait`` has lasted long enough. Raises :class:`RetryableError` while it has not."""
        quiet = wait.look()
        over = quiet >= RESTART_AFTER * wait.starts and wait.starts < MAX_STARTS
        if over and not wait.is_worked_on and wait.owner_has_ended():
            self._begin(wait)
        reason = None
        if quiet >= ASK_AFTER or wait.is_too_long:
            try:
                probe()
            except BaseException:
                wait.excuse()
                raise
            reason = wait.reason_to_stop()
        if reason is None:
            raise RetryableError(f"{what} ({wait.journal.path})", waits=True)
        return reason

    def _begin(self, wait: _Wait) -> None:
        wait.starts += 1
        meta = read_meta(wait.journal)
        if meta is not None and why_untrusted(wait.journal) is None:
            uri = with_credentials(meta.target.tracking_uri, self._tracking_uri)
            with contextlib.suppress(OSError, subprocess.SubprocessError):  # then none is at work on it
                self._start(wait.journal, meta, uri)


class _Wait:
    """How long one journal has been waited for."""

    def __init__(self, journal: JournalDirectory, clock: Callable[[], float]) -> None:
        self.journal = journal
        self.starts = 0
        self.is_worked_on = False
        self._clock = clock
        self._began = self._moved = clock()
        self._seen: object = None

    def is_over(self) -> bool:
        """Whether the journal no longer decides anything about the run."""
        meta = read_json(self.journal.meta, Meta)
        if meta is None or not meta.mlflow:
            return True
        state = read_json(self.journal.state, State)
        if state is None:
            return False
        if state.phase in {"refused", "done", "artifacts"}:
            return True
        worker = state.workers.get(_MLFLOW)
        if worker is None:
            return False
        return worker.refused is not None or (
            worker.finished and (worker.error is not None or not self._has_rest())
        )

    def owner_has_ended(self) -> bool:
        """Whether the training process of the journal is gone, or has become another program."""
        meta = read_json(self.journal.meta, Meta)
        if meta is None:
            return False
        silence = time.time() - last_sign_ms(self.journal) / 1000
        return has_ended(meta.owner, silent_for=silence) or is_replaced(meta.owner)

    def _has_rest(self) -> bool:
        return bool(Outbox(self.journal.path).pending() or read_waiting(self.journal.path, _MLFLOW))

    def look(self) -> float:
        """Look at the journal, and return the seconds since something last moved in it."""
        self.is_worked_on = is_locked(self.journal.lock)
        state = read_json(self.journal.state, State)
        seen = (
            load_cursor(self.journal.cursor(_MLFLOW)).position,
            state is not None and state.run is not None,
            state is not None and state.status,
        )
        if seen != self._seen:
            self._seen, self._moved = seen, self._clock()
        return self._clock() - self._moved

    @property
    def is_too_long(self) -> bool:
        return self._clock() - self._began >= LONGEST

    def excuse(self) -> None:
        """The server does not answer: the time until now does not count."""
        now = self._clock()
        self._began, self._moved = now, now - ASK_AFTER

    def reason_to_stop(self) -> str | None:
        """Why the wait is over, while the server answers, or None while it is not."""
        quiet = self._clock() - self._moved
        if not self.is_worked_on and quiet >= ALONE:
            return "no shipper is at work on it"
        if quiet >= PATIENCE:
            state = read_json(self.journal.state, State)
            error = None if state is None else state.error
            return f"nothing has moved for {quiet:.0f} s" + (f": {error}" if error else "")
        return f"it takes longer than {LONGEST / 60:.0f} minutes" if self.is_too_long else None


def _start(journal: JournalDirectory, meta: Meta, tracking_uri: str, *, options: Sequence[str]) -> object:
    return spawn(
        command_for(journal, *options),
        log=journal.log,
        tracking_uri=tracking_uri,
        working_directory=meta.working_directory,
    )
