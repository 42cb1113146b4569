"""The tags that say how a run ended. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.status import Evidence, Verdict, signal_name

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TAG_VALUE = 8000
"""Characters; ``MAX_TAG_VAL_LENGTH`` in ``mlflow/utils/validation.py``."""


def end_tags(verdict: Verdict, evidence: Evidence, counts: Mapping[str, int]) -> dict[str, str]:
    """Enough on the run's page to know why it ended, and what became of its points."""
    tags = {"trackside.end.reason": verdict.reason}
    if evidence.crash is not None:
        tags["trackside.end.exception"] = evidence.crash.error_type
        tags["trackside.end.message"] = evidence.crash.message
    stops = sorted(evidence.terminate_signals & set(evidence.signals))
    if evidence.killed_by is not None and evidence.killed_by not in stops:
        stops.append(evidence.killed_by)
    if stops:
        tags["trackside.end.signal"] = ", ".join(signal_name(number) for number in stops)
    if evidence.exit_code is not None:
        tags["trackside.end.exit_code"] = str(evidence.exit_code)
    if evidence.oom:
        tags["trackside.end.oom"] = "true"
    shown = {name: count for name, count in counts.items() if count or name != "shaped"}
    tags.update({f"trackside.{name}": str(count) for name, count in shown.items()})
    return {key: value[:MAX_TAG_VALUE] for key, value in tags.items()}
