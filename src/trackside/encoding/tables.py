"""Rows of a table, as the training kept them, and as JSON that MLflow and pandas read as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

ROWS = "rows"
"""The form: a :class:`Rows` in MessagePack. Few rows are in the record itself, as its detail ``rows``."""


class Rows(msgspec.Struct, array_like=True):
    """What one call adds to a table."""

    columns: list[str]
    rows: list[list[Any]]
    """As many values in each as there are columns."""


pack_rows = msgspec.msgpack.Encoder().encode
"""Rows to bytes."""

_unpack = msgspec.msgpack.Decoder(Rows).decode
as_json = msgspec.json.Encoder().encode
"""Plain data to JSON. What is not finite becomes ``null``, as pandas and MLflow write it."""


def rows_of(record: ArtifactRecord, content: Path | None) -> Rows:
    """The rows of ``record``. Raises :class:`RejectedError` if its bytes hold no table, and ``OSError``."""
    try:
        if content is None:
            found = msgspec.convert(record.details.get("rows"), Rows)
        else:
            found = _unpack(content.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"rows of the table {record.place!r} can't be read: {error}") from error
    if any(len(row) != len(found.columns) for row in found.rows):
        raise RejectedError(f"rows of the table {record.place!r} have more or fewer values than columns")
    return found


def table_file(record: ArtifactRecord, content: Path | None, folder: Path) -> Path:
    """Write the rows of this record alone, as a table, into ``folder``."""
    rows = rows_of(record, content)
    made = folder / "table"
    made.write_bytes(as_json({"columns": rows.columns, "data": rows.rows}))
    return made
