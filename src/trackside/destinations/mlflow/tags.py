"""What the run's page says of its end: tags, and a paragraph in the description. Pure.

Invariant: everything that tells of one attempt's end can be taken off the page again, so that the next
attempt begins with a clean page. What a user wrote stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from trackside.names import MAX_TAG_VALUE_LENGTH
from trackside.tag_names import (
    CHANGED_PARAMS_TAG,
    COUNT_PREFIX,
    END_EXCEPTION_TAG,
    END_EXIT_CODE_TAG,
    END_MESSAGE_TAG,
    END_NOT_KEPT_TAG,
    END_OOM_TAG,
    END_PREFIX,
    END_REASON_TAG,
    END_SIGNAL_TAG,
    HEARTBEAT_TAG,
    SUMMARY_TAG,
)
from trackside.text import iso_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trackside.events import RunEnd

LOST = ("dropped", "rejected", "damaged", "files_rejected", "files_not_kept")
"""Counts with a tag of their own, because users look for them. Zeros are left out."""

_LOST_TAGS = tuple(f"{COUNT_PREFIX}{name}" for name in LOST)
_OF_ONE_ATTEMPT = {SUMMARY_TAG, HEARTBEAT_TAG, CHANGED_PARAMS_TAG, *_LOST_TAGS}

_MOST = 2**53
"""Points. A larger number in a tag is not a count."""

_TRACEBACK_LINES = 12
"""The last lines of a traceback, where the exception is, are what the description has room for."""

_PARAGRAPH = re.compile(r"\n*^> \*\*(?:FINISHED|FAILED|KILLED)\*\* \(trackside\).*(?:\n>.*)*", re.MULTILINE)


def end_tags(end: RunEnd) -> dict[str, str]:
    """Enough on the run's page to know why it ended, and to search for it."""
    tags = {
        END_REASON_TAG: end.reason,
        END_EXCEPTION_TAG: end.error_type or "",
        END_MESSAGE_TAG: end.error_message,
        END_SIGNAL_TAG: ", ".join(end.signals),
        END_EXIT_CODE_TAG: str(end.exit_code) if end.exit_code else "",
        END_OOM_TAG: "true" if end.out_of_memory else "",
        END_NOT_KEPT_TAG: "\n".join(end.why_not_kept),
    }
    return {key: value[:MAX_TAG_VALUE_LENGTH] for key, value in tags.items() if value}


def summary_tags(
    counts: Mapping[str, int],
    *,
    host: str,
    started_ms: int,
    ended_ms: int,
    status: str,
    attempt: int = 1,
) -> dict[str, str]:
    """What became of the run and its points: all in the summary, and what is lost in tags of its own."""
    shown = {name: count for name, count in counts.items() if count or name in {"emitted", "shipped"}}
    times = {"started": iso_seconds(started_ms), "ended": iso_seconds(ended_ms)}
    summary: dict[str, int | str] = {**shown, "status": status, "host": host, **times}
    if attempt > 1:
        summary["attempt"] = attempt
    lost = {f"{COUNT_PREFIX}{name}": str(counts[name]) for name in LOST if counts.get(name)}
    return {SUMMARY_TAG: json.dumps(summary), **lost}


def summary_of(tags: Mapping[str, str]) -> dict[str, int | str]:
    """The summary among ``tags``. Empty without a summary, or if it is not trackside's."""
    try:
        found = json.loads(tags.get(SUMMARY_TAG, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def counts_in(tags: Mapping[str, str]) -> dict[str, int]:
    """The points among ``tags``, by what became of them."""
    found = summary_of(tags)
    return {
        name: n for name, n in found.items() if isinstance(n, int) and 0 <= n < _MOST and name != "attempt"
    }


def stale_tags(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that tell of one attempt only."""
    return [name for name in names if name in _OF_ONE_ATTEMPT or name.startswith(END_PREFIX)]


def describe_end(description: str, end: RunEnd) -> str:
    """``description`` with a paragraph on how the run ended, unless the end was clean."""
    text = without_end(description)
    if end.status == "FINISHED" and end.error_type is None:
        return text
    reason = " ".join(end.reason.replace("`", "'").split())
    head = f"> **{end.status}** (trackside): `{reason}`"
    lines = (end.traceback or "").rstrip().splitlines()[-_TRACEBACK_LINES:]
    quoted = ["> ```text", *(f"> {line.replace('```', chr(39) * 3)}" for line in lines), "> ```"]
    between = "\n\n" if text else ""
    for tail in (f"\n>\n{chr(10).join(quoted)}" if lines else "", ""):
        found = f"{text}{between}{head}{tail}"
        if len(found) <= MAX_TAG_VALUE_LENGTH:
            return found
    return text


def without_end(description: str) -> str:
    """``description`` without the paragraph that :func:`describe_end` added."""
    return _PARAGRAPH.sub("", description)
