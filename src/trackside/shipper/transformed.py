"""What a destination's ``transform`` makes of records of metrics. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.journal.format import LinkedMetricsRecord, MetricsRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.journal.meta import Meta
    from trackside.transform import Transform, Transformed, Transformer


def transforms_of(meta: Meta) -> dict[str, Transform | None]:
    """The transform of each destination, by its name. The run's own is ``mlflow``."""
    return {"mlflow": meta.mlflow_transform, **{spec.name: spec.transform for spec in meta.destinations}}


def transformed(batch: Iterable[MetricsRecord], transformer: Transformer) -> list[MetricsRecord]:
    """What ``transformer`` gives out for ``batch``."""
    return [
        _record_of(made, record)
        for record in batch
        for made in transformer.feed(record.step, record.timestamp_ms, record.named_values())
    ]


def held_back(transformer: Transformer, seq: int) -> list[MetricsRecord]:
    """What ``transformer`` still holds back, as records of the number ``seq``. Nothing more will come."""
    return [_plain_record(made, seq) for made in transformer.flush()]


def _record_of(made: Transformed, record: MetricsRecord) -> MetricsRecord:
    """What became of ``record``, with its link unless points of other records are in it."""
    same = (made.timestamp_ms, made.step) == (record.timestamp_ms, record.step)
    if same and isinstance(record, LinkedMetricsRecord):
        return msgspec.structs.replace(record, epoch=None, prefix=None, metrics=made.metrics)
    return _plain_record(made, record.seq)


def _plain_record(made: Transformed, seq: int) -> MetricsRecord:
    """The names are whole by now, and the epoch is one of them."""
    return MetricsRecord(seq, made.timestamp_ms, made.step, None, None, made.metrics)
