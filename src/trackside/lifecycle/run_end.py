"""The record that destinations get at the end of a run, made from the verdict and the evidence. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.events import RunEnd, checked_status
from trackside.lifecycle.evidence import signal_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.lifecycle.evidence import Evidence
    from trackside.lifecycle.verdict import Verdict


def run_end(verdict: Verdict, evidence: Evidence, counts: Mapping[str, int]) -> RunEnd:
    """What to tell a destination of ``verdict``. Raises ``ValueError`` while the run is RUNNING."""
    crash = evidence.exception
    return RunEnd(
        status=checked_status(verdict.status),
        reason=verdict.reason,
        final=verdict.final,
        ended_ms=evidence.ended_ms or evidence.died_ms,
        announced_ms=evidence.ended_ms,
        counts=counts,
        error_type=None if crash is None else crash.error_type,
        error_message="" if crash is None else crash.message,
        traceback=None if crash is None else crash.traceback,
        signals=tuple(signal_name(number) for number in _signals(evidence)),
        exit_code=evidence.exit_code,
        out_of_memory=evidence.oom,
    )


def _signals(evidence: Evidence) -> list[int]:
    stops = sorted(evidence.terminate_signals & set(evidence.signals))
    if evidence.killed_by is not None and evidence.killed_by not in stops:
        stops.append(evidence.killed_by)
    return stops
