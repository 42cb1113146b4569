"""What is known of how the training process ended, put together from those who saw something of it. Pure.

There are four sources: the journal's lifecycle records, the signals noted beside it, what the shipper and the
kernel saw of the process, and the crash notes of other ranks. :mod:`trackside.lifecycle.verdict` judges.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trackside.events import as_final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trackside.events import FinalStatus, LifecycleEvent
    from trackside.journal.format import LifecycleRecord
    from trackside.journal.scoreboard import SignalSeen

Happening: TypeAlias = "LifecycleEvent | LifecycleRecord"
"""Something that happened to the process: an event, or the journal's record of it."""

CRASHES = {"crashed": "", "thread_crashed": "in a thread", "task_crashed": "in an asyncio task"}
"""The kinds of lifecycle events that are crashes, and where each says it happened."""

_ENDS = {"exited", "finishing", "finished"}


class ExitStatus(NamedTuple):
    """How the kernel says that a process ended. Both are None where it does not tell."""

    exit_code: int | None = None
    killed_by: int | None = None


UNKNOWN = ExitStatus()


class RankCrash(NamedTuple):
    """The crash of another rank."""

    rank: int
    event: LifecycleEvent


@dataclass(frozen=True)
class Crash:
    """An exception that ended the program, a thread or a task."""

    error_type: str
    message: str
    traceback: str | None = None
    where: str = ""
    """``in a thread``, ``in an asyncio task``, ``on rank 1``. Empty for this process's main thread."""
    at_ms: int = 0
    status: FinalStatus | None = None
    """What the exception means, if the program said so. None means a failure."""


@dataclass(frozen=True)
class Evidence:
    """Everything known about how a process ended, or is ending."""

    terminate_signals: frozenset[int] = frozenset({int(signal.SIGTERM)})
    """The signals that mean "stop"."""
    signals: dict[int, int] = field(default_factory=dict)
    """Signal numbers, with the time of the last one in ms since the epoch."""
    terminating: str | None = None
    """Who or what asked the process to stop."""
    terminating_ms: int = 0
    crash: Crash | None = None
    finished: FinalStatus | None = None
    """The status given to ``finish()``."""
    finished_how: str | None = None
    """Who called ``finish()``, if it was not the program."""
    finishing: bool = False
    """The program said that it is done, but an exception was on its way."""
    exited: bool = False
    exit_code: int | None = None
    """What the interpreter exited with."""
    exit_message: str | None = None
    exit_cause: Crash | None = None
    """The exception that the program turned into ``exit_code``."""
    dead: bool = False
    died_ms: int = 0
    ended_ms: int = 0
    """When the process itself said that it is done. The server may hear of it much later."""
    killed_by: int | None = None
    """The signal that the kernel reports."""
    oom: bool = False
    replaced: bool = False
    """The process called ``exec``: another program runs in it, or ran in it to its end."""
    succeeded: bool = False
    """The program that replaced it has a run of its own."""

    @property
    def exception(self) -> Crash | None:
        """The exception that explains the end: an uncaught one, or one that became the exit code."""
        if self.crash is not None or self.finished is not None or not self.exit_code:
            return self.crash
        return self.exit_cause


def evidence_from(
    records: Sequence[Happening],
    *,
    signals: Iterable[SignalSeen] = (),
    terminate_signals: Iterable[int] = (),
    dead: bool = False,
    died_ms: int = 0,
    exit_status: ExitStatus = UNKNOWN,
    noted_exit_code: int | None = None,
    oom: bool = False,
    replaced: bool = False,
    succeeded: bool = False,
    rank_crashes: Sequence[RankCrash] = (),
) -> Evidence:
    """What ``records``, in their order, and the other sources tell.

    ``rank_crashes`` are those of other ranks, the earliest first. ``noted_exit_code`` is what Python handed
    to the C library's ``exit``. What the kernel says (``exit_status``) comes before it: a forked child may
    have noted its own.
    """
    stop = _first(records, "terminating")
    exited, finished, cause = (_last(records, kind) for kind in ("exited", "finished", "exit_cause"))
    told = None if exited is None else exited.exit_code
    # Killed before it reached Python's exit, it left with no code at all.
    noted = None if exit_status.killed_by is not None and exited is None else noted_exit_code
    code = next((c for c in (exit_status.exit_code, noted, told) if c is not None), None)
    seen = {item.number: item for item in signals}
    stops = frozenset(terminate_signals) or frozenset({int(signal.SIGTERM)})
    stop_times = [seen[number].first_ms for number in stops & set(seen)]
    stop_times += [] if stop is None else [stop.timestamp_ms]
    return Evidence(
        terminate_signals=stops,
        signals={number: item.last_ms for number, item in seen.items()},
        terminating=None if stop is None else _describe_stop(stop),
        terminating_ms=min(stop_times, default=0),
        crash=_earlier(_crash_in(records), _crash_of(rank_crashes)),
        finished=None if finished is None else _finished_as(finished),
        finished_how=None if finished is None else _finished_how(finished),
        finishing=_first(records, "finishing") is not None,
        exited=exited is not None,
        exit_code=code,
        exit_message=None if exited is None else exited.message,
        exit_cause=None if cause is None or code != told else _crash(cause),
        dead=dead,
        died_ms=died_ms,
        ended_ms=max((one.timestamp_ms for one in records if one.kind in _ENDS), default=0),
        killed_by=exit_status.killed_by,
        oom=oom,
        replaced=replaced,
        succeeded=succeeded,
    )


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15, ``signal 99`` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _first(records: Iterable[Happening], kind: str) -> Happening | None:
    return next((one for one in records if one.kind == kind), None)


def _last(records: Sequence[Happening], kind: str) -> Happening | None:
    return _first(reversed(records), kind)


def _finished_as(finished: Happening) -> FinalStatus:
    """The status of an end. One that this version does not know, or a damaged one, proves no success."""
    return as_final((finished.status or "FINISHED").upper()) or "FAILED"


def _finished_how(finished: Happening) -> str | None:
    if finished.status is None or as_final(finished.status.upper()) is not None:
        return finished.message
    return f"finished with the unknown status {finished.status!r}"[:500]


def _describe_stop(stop: Happening) -> str:
    return signal_name(stop.signal) if stop.signal is not None else stop.message or "asked to stop"


def _crash_in(records: Iterable[Happening]) -> Crash | None:
    """The first crash that is a failure. If the program expected all of them, the first."""
    crashes = [_crash(one, CRASHES[one.kind]) for one in records if one.kind in CRASHES]
    return next((crash for crash in crashes if crash.status is None), next(iter(crashes), None))


def _crash_of(rank_crashes: Sequence[RankCrash]) -> Crash | None:
    return _crash(rank_crashes[0].event, f"on rank {rank_crashes[0].rank}") if rank_crashes else None


def _crash(happening: Happening, where: str = "") -> Crash:
    return Crash(
        error_type=happening.error_type or "Exception",
        message=happening.message or "",
        traceback=happening.traceback,
        where=where,
        at_ms=happening.timestamp_ms,
        status=as_final(happening.status),
    )


def _earlier(one: Crash | None, other: Crash | None) -> Crash | None:
    """The cause of two crashes is the one that came first, and an unexpected one before an expected one."""
    known = [crash for crash in (one, other) if crash is not None]
    return min(known, key=lambda crash: (crash.status is not None, crash.at_ms), default=None)
