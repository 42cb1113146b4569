"""How the records of a batch are delivered: which together, and whether more are due. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.format import Record
    from trackside.journal.reader import Entry


def is_more_due(entries: Sequence[Entry], wanted: int) -> bool:
    """Whether to go on at once: the batch was full, or it held more than metrics, as at a run's end."""
    others = any(isinstance(entry.record, ConfigRecord | LifecycleRecord) for entry in entries)
    return others or sum(entry.record.points for entry in entries) >= wanted


def kind_of(record: Record) -> type:
    """What is delivered together with ``record``."""
    return next((kind for kind in (MetricsRecord, LifecycleRecord) if isinstance(record, kind)), object)
