"""What is known of how the training process ended: gathered here, judged by :mod:`trackside.status`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from trackside.shipper.watch import UNKNOWN, Ending
from trackside.status import CRASHES, Crash, Evidence, RunStatus, checked_status, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trackside.journal.format import LifecycleRecord
    from trackside.journal.scoreboard import SignalSeen
    from trackside.rank_crash import CrashNote

_ENDS = {"exited", "finished"}


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
    notes: Sequence[CrashNote] = (),
) -> Evidence:
    """Put together the lifecycle records of the journal, the signals noted, and what the kernel says.

    ``notes`` are the crash notes of other ranks, the earliest first. ``exit_code`` is what Python handed
    to the C library's ``exit``; the kernel's word stands in for it.
    """
    records = list(records)
    seen = {item.number: item for item in signals}
    stops = set(terminate_signals) or {int(signal.SIGTERM)}
    stop_times = [seen[number].first_ms for number in stops & set(seen)]
    terminating = next((r for r in records if r.kind == "terminating"), None)
    if terminating is not None:
        stop_times.append(terminating.timestamp_ms)
    exited = next((r for r in reversed(records) if r.kind == "exited"), None)
    noted_code = exited.exit_code if exited is not None else None
    return Evidence(
        terminate_signals=frozenset(stops),
        signals={number: item.last_ms for number, item in seen.items()},
        terminating=_describe_stop(terminating),
        terminating_ms=min(stop_times, default=0),
        crash=_earlier(_first_crash(records), _crash_of_rank(notes[0]) if notes else None),
        finished=_finished(records),
        exited=exited is not None,
        exit_code=next((c for c in (exit_code, ending.exit_code, noted_code) if c is not None), None),
        exit_message=exited.message if exited is not None else None,
        dead=dead,
        died_ms=died_ms,
        ended_ms=max((r.timestamp_ms for r in records if r.kind in _ENDS), default=0),
        killed_by=ending.killed_by,
        oom=oom,
    )


def read_exit_code(path: Path) -> int | None:
    """The exit code Python left with, as noted by the C library; None when it did not get that far."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return int.from_bytes(data[:4], "little", signed=True) & 0xFF if len(data) >= 4 else None  # noqa: PLR2004


def _describe_stop(record: LifecycleRecord | None) -> str | None:
    if record is None:
        return None
    if record.signal is not None:
        return signal_name(record.signal)
    return record.message or "asked to stop"


def _first_crash(records: list[LifecycleRecord]) -> Crash | None:
    for record in records:
        if record.kind in CRASHES:
            return Crash(
                error_type=record.error_type or "Exception",
                message=record.message or "",
                traceback=record.traceback,
                where=CRASHES[record.kind],
                at_ms=record.timestamp_ms,
            )
    return None


def _crash_of_rank(note: CrashNote) -> Crash:
    return Crash(note.error_type, note.message, note.traceback, f"on rank {note.rank}", note.at_ms)


def _earlier(one: Crash | None, other: Crash | None) -> Crash | None:
    """The cause of two crashes is the one that came first."""
    known = [crash for crash in (one, other) if crash is not None]
    return min(known, key=lambda crash: crash.at_ms, default=None)


def _finished(records: list[LifecycleRecord]) -> RunStatus | None:
    for record in reversed(records):
        if record.kind == "finished":
            return checked_status(record.status or "FINISHED")
    return None
