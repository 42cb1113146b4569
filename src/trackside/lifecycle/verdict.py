"""A run's status, and how it follows from what was seen. Pure.

The order of evidence: a request to stop beats what came after it (the exceptions of a process that is
being stopped are consequences), a crash beats a clean end, and a process that died without a word
failed, unless it had been asked to stop. An exception that the program expects means what the program
says it means, and never hides another one. An exception that the program turned into an exit code counts
only if the process really left with that code.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RunStatus: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's names (``mlflow/entities/run_status.py``); SCHEDULED is not used."""

FinalStatus: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
"""A status that a run ends with."""

FINAL: frozenset[str] = frozenset({"FINISHED", "FAILED", "KILLED"})

CRASHES = {"crashed": "", "thread_crashed": "in a thread", "task_crashed": "in an asyncio task"}
"""The kinds of lifecycle events that are crashes, and where each says it happened."""

_ENDS = {"exited", "finishing", "finished"}

_SEVERITY = {"RUNNING": 0, "FINISHED": 1, "KILLED": 2, "FAILED": 2}

SUCCEEDED = "replaced by another program (exec), which has its own run"
"""The reason of an end that is none where that program resumes the run."""

PRUNED = "TrialPruned"
"""Optuna's exception for a trial that is not worth going on with; its runs are called pruned."""

SUCCEEDED = "replaced by another program (exec), which has its own run"
"""The reason of an end that is none where that program resumes the run."""

INTERRUPT_MEMORY_MS = 120_000
"""A Ctrl-C this long before a silent death still explains it; an older one was survived."""


@dataclass(frozen=True)
class Crash:
    """An exception nobody caught."""

    error_type: str
    message: str
    traceback: str | None = None
    where: str = ""
    """``in a thread``, ``in an asyncio task``, ``on rank 1``; empty for this process's main thread."""
    at_ms: int = 0
    status: RunStatus | None = None
    """What the exception means, if the program said so; None means a failure."""


@dataclass(frozen=True)
class Evidence:
    """Everything known about how a process ended, or is ending.

    ``signals`` maps signal numbers to the time of the last one in ms since the epoch;
    ``terminate_signals`` are those that mean "stop". ``finished`` is the status given to ``finish()``.
    ``exit_code`` is what the interpreter exited with; ``killed_by`` the signal the kernel reports.
    """

    terminate_signals: frozenset[int] = frozenset({int(signal.SIGTERM)})
    signals: dict[int, int] = field(default_factory=dict)
    terminating: str | None = None
    terminating_ms: int = 0
    crash: Crash | None = None
    finished: RunStatus | None = None
    finished_how: str | None = None
    """Who called ``finish()``, if it was not the program."""
    finishing: bool = False
    """It said that it is done, but an exception was on its way."""
    exited: bool = False
    exit_code: int | None = None
    exit_message: str | None = None
    exit_cause: Crash | None = None
    """The exception that the program turned into ``exit_code``."""
    dead: bool = False
    died_ms: int = 0
    ended_ms: int = 0
    """When the process itself said that it is done; the server may hear of it much later."""
    killed_by: int | None = None
    oom: bool = False
    replaced: bool = False
    """The process called ``exec``: another program runs in it, or ran in it to its end."""
    succeeded: bool = False
    """The program that replaced it has a run of its own."""

    @property
    def exception(self) -> Crash | None:
        """The exception that explains the end: one nobody caught, or one that became the exit code."""
        if self.crash is not None or self.finished is not None or not self.exit_code:
            return self.crash
        return self.exit_cause


@dataclass(frozen=True)
class Verdict:
    """The status, and why in a few words. ``final`` once nothing more can change it."""

    status: RunStatus = "RUNNING"
    reason: str = "running"
    final: bool = False


class Happening(Protocol):
    """A lifecycle event or record, as far as the status is concerned."""

    @property
    def kind(self) -> str:
        """What happened, as :data:`trackside.events.LifecycleKind` names it."""

    @property
    def timestamp_ms(self) -> int:
        """When, in ms since the epoch."""

    @property
    def status(self) -> str | None:
        """The status given to ``finish()``."""

    @property
    def message(self) -> str | None:
        """A text about it."""

    @property
    def signal(self) -> int | None:
        """The signal that asked to stop."""

    @property
    def exit_code(self) -> int | None:
        """What the process was told to exit with."""

    @property
    def error_type(self) -> str | None:
        """The exception's type."""

    @property
    def traceback(self) -> str | None:
        """The exception's traceback."""


def evidence_from(happenings: Sequence[Happening]) -> Evidence:
    """What ``happenings``, in their order, tell by themselves."""
    stop = next((h for h in happenings if h.kind == "terminating"), None)
    exited = next((h for h in reversed(happenings) if h.kind == "exited"), None)
    finished = next((h for h in reversed(happenings) if h.kind == "finished"), None)
    crashes = [h for h in happenings if h.kind in CRASHES]
    crash = next((h for h in crashes if _meaning(h) is None), next(iter(crashes), None))
    cause = next((h for h in reversed(happenings) if h.kind == "exit_cause"), None)
    return Evidence(
        terminating=None if stop is None else _describe_stop(stop),
        terminating_ms=0 if stop is None else stop.timestamp_ms,
        crash=None if crash is None else _crash(crash),
        finished=None if finished is None else _finished_as(finished),
        finished_how=None if finished is None else _finished_how(finished),
        finishing=any(h.kind == "finishing" for h in happenings),
        exited=exited is not None,
        exit_code=None if exited is None else exited.exit_code,
        exit_message=None if exited is None else exited.message,
        exit_cause=None if cause is None else _crash(cause),
        ended_ms=max((h.timestamp_ms for h in happenings if h.kind in _ENDS), default=0),
    )


def advance(old: RunStatus, new: RunStatus) -> RunStatus:
    """The status after ``new`` is proposed: a final one is never replaced by a milder one."""
    return new if _SEVERITY[new] > _SEVERITY[old] else old


def checked_status(status: str) -> FinalStatus:
    """``status`` in MLflow's spelling. Raises ``ValueError`` that names the three there are."""
    name = str(status).upper()
    if name not in FINAL:
        msg = f"status {status!r} is not a final status; use FINISHED, FAILED or KILLED"
        raise ValueError(msg)
    return cast("FinalStatus", name)


def decide(evidence: Evidence) -> Verdict:
    """The status that ``evidence`` calls for."""
    final = evidence.dead or evidence.finished is not None
    stop = _stop_reason(evidence)
    if stop is not None and not (evidence.crash and evidence.crash.at_ms < evidence.terminating_ms):
        return Verdict("KILLED", stop + _aftermath(evidence), final)
    if evidence.crash is not None:
        return _crash_verdict(evidence.crash, final=final)
    if evidence.finished is not None:
        return Verdict(evidence.finished, evidence.finished_how or "finished", final)
    if evidence.exited:
        return _exit_verdict(evidence, final=final)
    if evidence.dead or evidence.replaced:
        return _replaced_verdict(evidence) if evidence.replaced else _silent_death(evidence)
    return Verdict("FINISHED", "finished") if evidence.finishing else Verdict()


def telling_signals(terminate_signals: Iterable[int]) -> frozenset[int]:
    """The signals that may explain an end, besides what the kernel says of it."""
    return frozenset({*terminate_signals, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``signal 99`` for what has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _finished_as(finished: Happening) -> RunStatus:
    """A status of another version's, or a damaged one, is no proof that all went well."""
    status = (finished.status or "FINISHED").upper()
    return cast("RunStatus", status) if status in FINAL else "FAILED"


def _finished_how(finished: Happening) -> str | None:
    if finished.status is None or finished.status.upper() in FINAL:
        return finished.message
    return f"finished with the unknown status {finished.status!r}"[:500]


def _describe_stop(stop: Happening) -> str:
    return signal_name(stop.signal) if stop.signal is not None else stop.message or "asked to stop"


def _crash(crash: Happening) -> Crash:
    return Crash(
        error_type=crash.error_type or "Exception",
        message=crash.message or "",
        traceback=crash.traceback,
        where=CRASHES.get(crash.kind, ""),
        at_ms=crash.timestamp_ms,
        status=_meaning(crash),
    )


def _meaning(crash: Happening) -> RunStatus | None:
    return cast("RunStatus", crash.status) if crash.status in FINAL else None


def _stop_reason(evidence: Evidence) -> str | None:
    asked = sorted(evidence.terminate_signals & set(evidence.signals))
    if asked:
        return " and ".join(signal_name(number) for number in asked)
    return evidence.terminating


def _aftermath(evidence: Evidence) -> str:
    if evidence.killed_by == signal.SIGKILL:
        return ", then SIGKILL"
    if evidence.crash is not None and evidence.crash.error_type != "KeyboardInterrupt":
        return f", then {evidence.crash.error_type}"
    return ""


def _crash_verdict(crash: Crash, *, final: bool) -> Verdict:
    if crash.error_type == "KeyboardInterrupt" and crash.status != "FINISHED":
        return Verdict("KILLED", "Ctrl-C (KeyboardInterrupt)", final)
    return Verdict(crash.status or "FAILED", _describe_crash(crash)[:500], final)


def _describe_crash(crash: Crash) -> str:
    where = f" {crash.where}" if crash.where else ""
    text = f"{crash.error_type}{where}: {crash.message}" if crash.message else f"{crash.error_type}{where}"
    if crash.status != "FINISHED":
        return text
    return f"{'pruned' if crash.error_type == PRUNED else 'expected'}: {text}"


def _exit_verdict(evidence: Evidence, *, final: bool) -> Verdict:
    code = evidence.exit_code
    if not code:
        if evidence.dead and evidence.killed_by is not None:
            return _silent_death(evidence)
        return Verdict("FINISHED", "exit code 0" if code == 0 else "exited", final)
    cause = evidence.exit_cause
    if signal.SIGINT in evidence.signals or (cause and cause.error_type == "KeyboardInterrupt"):
        return Verdict("KILLED", f"Ctrl-C, then exit code {code}", final)
    text = f"exit code {code}: {evidence.exit_message}" if evidence.exit_message else f"exit code {code}"
    if cause is None:
        return Verdict("FAILED", text[:500], final)
    known = _describe_crash(cause)[: 497 - len(text[:200])]
    return Verdict(cause.status or "FAILED", f"{known} ({text[:200]})", final)


def _replaced_verdict(evidence: Evidence) -> Verdict:
    """The training handed the process over by ``exec``. How that ends is how the run ends."""
    if evidence.succeeded:
        return Verdict("FINISHED", SUCCEEDED, final=True)
    if not evidence.dead:
        return Verdict()
    if evidence.killed_by is not None:
        return _silent_death(evidence)
    code = evidence.exit_code
    ended = "exit code not known" if code is None else f"exit code {code}"
    status: RunStatus = "FAILED" if code else "FINISHED"
    return Verdict(status, f"replaced by another program (exec): {ended}", final=True)


def _silent_death(evidence: Evidence) -> Verdict:
    killed_by = evidence.killed_by
    if killed_by is not None and killed_by in {*evidence.terminate_signals, signal.SIGINT, signal.SIGHUP}:
        return Verdict("KILLED", signal_name(killed_by), final=True)
    interrupted = evidence.signals.get(signal.SIGINT)
    if interrupted is not None and evidence.died_ms - interrupted < INTERRUPT_MEMORY_MS:
        return Verdict("KILLED", "Ctrl-C, then died without a word", final=True)
    if evidence.oom:
        return Verdict("FAILED", "out of memory (the kernel's OOM killer)", final=True)
    how = ""
    if killed_by is not None:
        how = f" ({signal_name(killed_by)})"
    elif evidence.exit_code is not None:
        how = f" (exit code {evidence.exit_code} without Python's exit)"
    return Verdict("FAILED", f"died without a word{how}", final=True)
