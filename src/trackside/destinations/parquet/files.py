"""Records to Parquet files and back. The one file that imports pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from trackside.system.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trackside.journal.format import MetricsRecord

GROUP_ROWS = 1_000_000
"""Rows in a row group, as many as readers like best: DuckDB asks for 100,000 to 1,000,000."""

_TEXT = pa.dictionary(pa.int32(), pa.string())
IDENTITY = ("run", "run_id", "attempt", "experiment")
"""Columns with one value in all rows of a file: whose points they are."""

SCHEMA = pa.schema(
    [
        *((name, _TEXT) for name in IDENTITY),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("name", _TEXT),
        ("value", pa.float64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
    ]
)

ARTIFACTS = pa.schema(
    [
        *((name, _TEXT) for name in IDENTITY),
        ("kind", _TEXT),
        ("place", pa.string()),
        ("step", pa.int64()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
    ]
)


def table_of(records: Sequence[MetricsRecord], identity: Mapping[str, str | None]) -> Any:
    """A row for each point, in the order of the records. ``identity``: values by :data:`IDENTITY`."""
    columns: tuple[list[Any], ...] = ([], [], [], [], [])
    steps, epochs, names, values, times = columns
    for record in records:
        points = record.named_values()
        count = len(points)
        steps += [record.step] * count
        epochs += [points.get("epoch")] * count
        names += points.keys()
        values += points.values()
        times += [record.timestamp_ms] * count
    columns_of = zip(("step", "epoch", "value", "timestamp"), (steps, epochs, values, times), strict=True)
    arrays = {name: pa.array(column, SCHEMA.field(name).type) for name, column in columns_of}
    arrays["name"] = pa.array(names, pa.string()).dictionary_encode()
    return with_identity(pa.table(arrays), identity)


def with_identity(table: Any, identity: Mapping[str, str | None]) -> Any:
    """``table`` with these values in the columns :data:`IDENTITY`, whatever was there."""
    rows = table.num_rows
    columns = [
        _constant(identity[field.name], rows) if field.name in IDENTITY else table[field.name]
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def artifact_table(columns: Mapping[str, Sequence[Any]], identity: Mapping[str, str | None]) -> Any:
    """A row for each artifact. ``columns``: those of :data:`ARTIFACTS` that are not in ``identity``."""
    rows = len(columns["kind"])
    arrays = [
        _constant(identity[field.name], rows)
        if field.name in IDENTITY
        else pa.array(columns[field.name], field.type)
        for field in ARTIFACTS
    ]
    return pa.Table.from_arrays(arrays, schema=ARTIFACTS)


def _constant(value: str | None, rows: int) -> Any:
    """A dictionary column with ``value`` in each row. Null where it is not known."""
    known = value is not None
    indices = pa.array([0 if known else None], pa.int32()).take(pa.array([0] * rows, pa.int32()))
    return pa.DictionaryArray.from_arrays(indices, pa.array([value] if known else [], pa.string()))


def write(path: Path, tables: Iterable[Any], metadata: Mapping[str, str], columns: Any = SCHEMA) -> None:
    """Make ``path`` of ``tables``, in one step and durably. Raises ``OSError``, and it is then not there."""
    schema = columns.with_metadata(dict(metadata))
    with (
        replacing(path, durable=True) as temporary,
        open(temporary, "xb") as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table.replace_schema_metadata(dict(metadata)), row_group_size=2 * GROUP_ROWS)


def read_metadata(path: Path) -> dict[str, str]:
    """What :func:`write` was given as ``metadata``."""
    found = parquet.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items() if key.startswith(b"trackside.")}


def first_rows(path: Path, count: int) -> Iterator[Any]:
    """The first ``count`` rows of a file, as tables."""
    with parquet.ParquetFile(path, read_dictionary=[*IDENTITY, "name"]) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group).cast(SCHEMA)
            yield table.slice(0, count)
            count -= min(count, table.num_rows)


def in_groups(tables: Iterable[Any]) -> Iterator[Any]:
    """The rows of small ``tables`` in as few larger ones as sensible."""
    waiting: list[Any] = []
    for table in tables:
        waiting.append(table)
        if sum(each.num_rows for each in waiting) >= GROUP_ROWS:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()
