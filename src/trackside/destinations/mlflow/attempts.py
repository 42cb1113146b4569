"""A run of several attempts: each begins with a clean page, and the ends of earlier ones are kept apart.

The artifact ``trackside/attempts.jsonl`` has a line for each attempt but the current one, whose end is on the
run's page. The line is made from the page when the next attempt begins. So an attempt that vanished has a
line, too.

Invariants:

* The line is on disk before anything is taken off the page. A shipper that dies in between loses nothing.
* The traceback of an earlier attempt is removed only after it is in the artifact (``upload_attempts``).
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.tags import counts_in, stale_tags, summary_of, without_end
from trackside.errors import RejectedError
from trackside.tag_names import ATTEMPT_TAG, DESCRIPTION_TAG, END_PREFIX, HEARTBEAT_TAG, JOURNAL_TAG
from trackside.text import iso_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.journal.meta import Meta
    from trackside.journal.outbox import Outbox

ATTEMPTS_FILE = "attempts.jsonl"
TRACEBACK = "traceback.txt"

_UNKNOWN = "unknown"
_DIGITS = 9
"""Digits up to which a number of attempts is believed."""


def clean_page(run: Any, connection: Connection, meta: Meta, *, outbox: Outbox, record: RunRecord) -> None:
    """Take what earlier attempts said off the page of ``run``, an MLflow run, and keep it apart.

    May be called again after it was interrupted.
    """
    tags: Mapping[str, str] = run.data.tags
    journal = tags.get(JOURNAL_TAG)
    if journal is None or journal == meta.journal_id:
        return
    if record.state.earlier_attempt != journal:
        outbox.put(ATTEMPTS_FILE, json.dumps(attempt_line(run)) + "\n")
        attempt = _number(tags) + 1
        record.update(attempt=attempt, earlier=counts_in(tags), earlier_attempt=journal)
    run_id, client = run.info.run_id, connection.client
    for key in stale_tags(tags):
        with contextlib.suppress(RejectedError):  # it is gone already
            connection.call(client.delete_tag, run_id, key)
    described = tags.get(DESCRIPTION_TAG, "")
    if without_end(described) != described:
        connection.call(client.set_tag, run_id, DESCRIPTION_TAG, without_end(described))
    connection.call(client.set_tag, run_id, ATTEMPT_TAG, str(record.state.attempt))


def attempt_line(run: Any) -> dict[str, Any]:
    """The line for the attempt that the page of ``run`` shows."""
    tags: Mapping[str, str] = run.data.tags
    summary = summary_of(tags)
    ended = bool(summary) or run.info.status != "RUNNING"
    ended_ms = run.info.end_time if ended else None
    line = {
        "attempt": _number(tags),
        "journal": tags.get(JOURNAL_TAG),
        "host": summary.get("host") or tags.get(HEARTBEAT_TAG, "").partition(" ")[2] or None,
        "started": summary.get("started"),
        "ended": None if ended_ms is None else iso_seconds(ended_ms),
        "last_heartbeat": tags.get(HEARTBEAT_TAG, "").partition(" ")[0] or None,
        "status": run.info.status if ended else _UNKNOWN,
        **{key.removeprefix(END_PREFIX): value for key, value in tags.items() if key.startswith(END_PREFIX)},
        "points": counts_in(tags) or None,
    }
    return {key: value for key, value in line.items() if value is not None}


def _number(tags: Mapping[str, str]) -> int:
    text = tags.get(ATTEMPT_TAG, "1")
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 1
