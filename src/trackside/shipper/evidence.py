"""What is known of how the training process ended. :mod:`trackside.lifecycle.verdict` judges it."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from trackside.lifecycle.exit_code import read_exit_code
from trackside.lifecycle.verdict import FINAL, Crash, Evidence, evidence_from
from trackside.shipper.watch import UNKNOWN, Ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trackside.journal.format import LifecycleRecord
    from trackside.journal.scoreboard import SignalSeen
    from trackside.lifecycle.peer_crash import CrashNote
    from trackside.lifecycle.verdict import RunStatus

__all__ = ["gather", "read_exit_code"]


def gather(
    *,
    records: Iterable[LifecycleRecord],
    signals: Iterable[SignalSeen],
    terminate_signals: Iterable[int],
    dead: bool,
    died_ms: int = 0,
    ending: Ending = UNKNOWN,
    exit_code: int | None = None,
    oom: bool = False,
    replaced: bool = False,
    succeeded: bool = False,
    notes: Sequence[CrashNote] = (),
) -> Evidence:
    """Put together the lifecycle records of the journal, the signals noted, and what the kernel says.

    ``notes`` are the crash notes of other ranks, the earliest first. ``exit_code`` is what Python handed
    to the C library's ``exit``. The kernel's word comes first: a forked child may have noted its own.
    """
    known = evidence_from(list(records))
    seen = {item.number: item for item in signals}
    stops = set(terminate_signals) or {int(signal.SIGTERM)}
    stop_times = [seen[number].first_ms for number in stops & set(seen)]
    if known.terminating is not None:
        stop_times.append(known.terminating_ms)
    # Killed before it reached Python's exit, it left with no code at all.
    noted = None if ending.killed_by is not None and not known.exited else exit_code
    code = next((c for c in (ending.exit_code, noted, known.exit_code) if c is not None), None)
    return replace(
        known,
        terminate_signals=frozenset(stops),
        signals={number: item.last_ms for number, item in seen.items()},
        terminating_ms=min(stop_times, default=0),
        crash=_earlier(known.crash, _crash_of_rank(notes[0]) if notes else None),
        exit_code=code,
        exit_cause=known.exit_cause if code == known.exit_code else None,
        dead=dead,
        died_ms=died_ms,
        killed_by=ending.killed_by,
        oom=oom,
        replaced=replaced,
        succeeded=succeeded,
    )


def _crash_of_rank(note: CrashNote) -> Crash:
    where = f"on rank {note.rank}"
    status = cast("RunStatus", note.status) if note.status in FINAL else None
    return Crash(note.error_type, note.message, note.traceback, where, note.at_ms, status)


def _earlier(one: Crash | None, other: Crash | None) -> Crash | None:
    """The cause of two crashes is the one that came first, and an unexpected one before an expected one."""
    known = [crash for crash in (one, other) if crash is not None]
    return min(known, key=lambda crash: (crash.status is not None, crash.at_ms), default=None)
