"""Params and tags put together into few calls, and cut up again down to the one that is refused. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from trackside.journal.format import ConfigRecord, ParamsRecord, TagsRecord, TextsRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_AT_ONCE = 1000
"""Texts in one call. A destination makes as many requests of them as it needs."""

Part: TypeAlias = list[TextsRecord]
"""What goes into one call: one configuration, or records with one text each."""


def head_of(records: Sequence[TextsRecord]) -> Sequence[TextsRecord]:
    """The first of ``records``, with those behind it that may go into the same calls."""
    size = count = 0
    for record in records:
        texts = 0 if isinstance(record, ConfigRecord) else len(record.texts)
        if count and (type(record) is not type(records[0]) or not texts or size + texts > MOST_AT_ONCE):
            break
        size += texts
        count += 1
    return records[:count]


def parts_of(head: Iterable[TextsRecord]) -> list[Part]:
    """``head`` in parts. No part has two values of one param: the second one goes behind the first."""
    parts: list[Part] = []
    values: dict[str, str] = {}
    for record in head:
        for single in _singles(record):
            texts = {} if isinstance(single, ConfigRecord) else single.texts
            conflict = isinstance(single, ParamsRecord) and any(
                values.get(key, value) != value for key, value in texts.items()
            )
            if not parts or conflict or len(parts[-1]) >= MOST_AT_ONCE or isinstance(single, ConfigRecord):
                parts.append([])
                values = {}
            parts[-1].append(single)
            values.update(texts)
    return parts


def merged(part: Part) -> TextsRecord:
    """``part`` as one record."""
    last = part[-1]
    if isinstance(last, ConfigRecord):
        return last
    texts: dict[str, str] = {}
    for single in part:
        assert not isinstance(single, ConfigRecord)  # noqa: S101 - a configuration is a part of its own
        texts.update(single.texts)
    return msgspec.structs.replace(last, texts=texts)


def _singles(record: TextsRecord) -> Iterable[TextsRecord]:
    if isinstance(record, ConfigRecord):
        return [record]
    kind: type[ParamsRecord | TagsRecord] = type(record)
    return [kind(record.seq, record.timestamp_ms, {key: value}) for key, value in record.texts.items()]
