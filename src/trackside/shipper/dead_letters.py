"""The dead-letter file: records that a destination rejects for good, bisected down to the point."""

from __future__ import annotations

import json
import logging
import math
import os
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.events import now_ms
from trackside.journal.format import (
    ArtifactRecord,
    ConfigRecord,
    LinkedMetricsRecord,
    MetricsRecord,
    ParamsRecord,
    TagsRecord,
    TextsRecord,
)
from trackside.journal.opening import MAX_TEXT, open_own, read_tail
from trackside.journal.version import DOCUMENT_FORMAT, FIRST_FORMAT, is_known
from trackside.redaction.redact import redact, redact_config, redact_mapping
from trackside.text import encodable

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("trackside.shipper")

_LONGEST_REASON = 1000

_MIN, _MAX = -(2**63), 2**64 - 1
"""What the decoder reads back as a whole number."""

_TEXTS = {ParamsRecord: "params", TagsRecord: "tags"}

_DEEPEST = 100
"""Levels of nesting that are kept. A text stands for what lies deeper."""


class RejectedFile:
    """``rejected.jsonl``: one line a record (or the part of it) that was rejected, with the reason.

    A shipper that is killed between this file and its cursor meets the same records again. What was
    written ``after_seq`` by the one before it is not written a second time.
    """

    def __init__(self, path: Path, destination: str, *, after_seq: int) -> None:
        self._path = path
        self._destination = destination
        known = (_key(entry) for entry in _entries_in(path) if entry["destination"] == destination)
        self._known = {key for key in known if key[0] > after_seq}

    def add(self, record: MetricsRecord | TextsRecord, reason: str) -> None:
        """Append ``record``. Raises ``OSError`` when the disk is full."""
        self._append(record, _contents(record), reason)

    def add_artifact(self, record: ArtifactRecord, file: Path | None, reason: str) -> None:
        """Append ``record``, whose file stays at ``file``. Raises ``OSError`` when the disk is full."""
        step = {} if record.step is None else {"step": record.step}
        place = {} if file is None else {"file": redact(str(file))}
        contents = {"artifact": redact(record.place), "kind": record.kind, **step, **place}
        self._append(record, contents, reason)

    def _append(
        self, record: MetricsRecord | TextsRecord | ArtifactRecord, contents: dict[str, Any], reason: str
    ) -> None:
        entry = {
            "schema": DOCUMENT_FORMAT,
            "destination": self._destination,
            "error": redact(reason)[:_LONGEST_REASON],
            "at_ms": now_ms(),
            "seq": record.seq,
            "timestamp_ms": record.timestamp_ms,
            **contents,
        }
        key = _key(entry)
        if key in self._known:
            return
        line = json.dumps(_plain(entry), allow_nan=False).encode() + b"\n"
        descriptor = open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        self._known.add(key)


def _contents(record: MetricsRecord | TextsRecord) -> dict[str, Any]:
    if isinstance(record, ConfigRecord):
        # Made shallow first: a walk through it must not meet the limit of the interpreter's stack.
        document = redact_config(_plain(record.document))
        return {"params": redact_mapping(record.params), "document": document}
    if isinstance(record, ParamsRecord | TagsRecord):
        return {_TEXTS[type(record)]: redact_mapping(record.texts)}
    link = msgspec.structs.asdict(record.link) if isinstance(record, LinkedMetricsRecord) else {}
    linked = {name: text for name, text in link.items() if text is not None}
    return {"step": record.step, "metrics": record.named_values(), **linked}


def _entries_in(path: Path) -> list[dict[str, Any]]:
    try:
        lines = read_tail(path, MAX_TEXT).splitlines()  # what is asked for was written last
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
            if not is_known(entry.get("schema", FIRST_FORMAT)):
                continue
            _key(entry)
        # cut by a power failure, or edited
        except (ValueError, AttributeError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        entries.append(entry)
    return entries


def _key(entry: dict[str, Any]) -> tuple[int, str]:
    """What names a part of a record: its number, and the names in it."""
    kind = next((name for name in ("artifact", "metrics", "tags") if name in entry), "params")
    names = [entry[kind]] if kind == "artifact" else sorted(entry[kind])
    return int(entry["seq"]), json.dumps([entry["destination"], *names])


def _plain(value: Any, depth: int = 0) -> Any:
    """A copy of ``value`` that every JSON encoder takes: numbers without a word in JSON as text."""
    if isinstance(value, (dict, list, tuple)):
        return "..." if depth >= _DEEPEST else _plain_container(value, depth + 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if _MIN <= value <= _MAX else hex(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    return encodable(value if isinstance(value, str) else repr(value))


def _plain_container(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {encodable(str(key)): _plain(item, depth) for key, item in value.items()}
    return [_plain(item, depth) for item in value]
