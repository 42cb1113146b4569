"""A run's status, and how it follows from the evidence (:mod:`trackside.lifecycle.evidence`). Pure.

Invariants:

* A request to stop beats what came after it: the exceptions of a process that is being stopped are
  consequences.
* A crash beats a clean end.
* A process that died without a word failed, unless it had been asked to stop.
* An exception that the program expects means what the program says it means, and never hides another one.
* An exception that the program turned into an exit code counts only if the process left with that code.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trackside.events import RunEnd, checked_status
from trackside.lifecycle.evidence import signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trackside.events import FinalStatus, RunStatus
    from trackside.lifecycle.evidence import Crash, Evidence

SUCCEEDED = "replaced by another program (exec), which has its own run"
"""The reason when ``exec`` started a program with a run of its own. That program may resume this run."""

PRUNED = "TrialPruned"
"""Optuna's exception for a trial that is stopped early as not promising. Its runs are called pruned."""

INTERRUPT_MEMORY_MS = 120_000
"""A Ctrl-C up to this long before a silent death explains it. The process survived an older one."""


@dataclass(frozen=True)
class Verdict:
    """The status, and the reason in a few words. ``final``: nothing can change it."""

    status: RunStatus = "RUNNING"
    reason: str = "running"
    final: bool = False


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


def run_end(
    verdict: Verdict, evidence: Evidence, counts: Mapping[str, int], why_not_kept: tuple[str, ...] = ()
) -> RunEnd:
    """The record that a destination gets at the end. Raises ``ValueError`` while the run is RUNNING."""
    crash = evidence.exception
    return RunEnd(
        status=checked_status(verdict.status),
        reason=verdict.reason,
        final=verdict.final,
        ended_ms=evidence.ended_ms or evidence.died_ms,
        announced_ms=evidence.ended_ms,
        counts=counts,
        why_not_kept=why_not_kept,
        error_type=None if crash is None else crash.error_type,
        error_message="" if crash is None else crash.message,
        traceback=None if crash is None else crash.traceback,
        signals=tuple(signal_name(number) for number in _signals(evidence)),
        exit_code=evidence.exit_code,
        out_of_memory=evidence.oom,
    )


def telling_signals(terminate_signals: Iterable[int]) -> frozenset[int]:
    """The signals that may explain an end, besides the one that the kernel reports."""
    return frozenset({*terminate_signals, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


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
    """The training called ``exec``. The run ends as the program that replaced it ends."""
    if evidence.succeeded:
        return Verdict("FINISHED", SUCCEEDED, final=True)
    if not evidence.dead:
        return Verdict()
    if evidence.killed_by is not None:
        return _silent_death(evidence)
    code = evidence.exit_code
    ended = "exit code not known" if code is None else f"exit code {code}"
    status: FinalStatus = "FAILED" if code else "FINISHED"
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


def _signals(evidence: Evidence) -> list[int]:
    stops = sorted(evidence.terminate_signals & set(evidence.signals))
    if evidence.killed_by is not None and evidence.killed_by not in stops:
        stops.append(evidence.killed_by)
    return stops
