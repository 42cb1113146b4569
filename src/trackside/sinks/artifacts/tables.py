"""Rows that are added to a table: masked, and kept in the record itself where they are few.

A file for each call would cost more than everything else, and a table often grows by a row at a time. An
image in a cell is a file of its own, and the cell names it, as MLflow's page expects it.
"""

from __future__ import annotations

import re
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.artifact_names import artifact_file
from trackside.encoding.tables import ROWS, Rows, pack_rows
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.names import is_secret
from trackside.redaction.redact import redact_config
from trackside.sinks.artifacts.cells import is_picture
from trackside.sinks.artifacts.images import image_pixels, pixels_record
from trackside.sinks.artifacts.places import Place
from trackside.sinks.artifacts.rows import table_rows

if TYPE_CHECKING:
    from trackside.artifact_events import TableEvent
    from trackside.sinks.artifacts.keeping import Keeping

_NAMES = -1
"""Stands for the number of a row, for the names of the columns."""

INLINE_BYTES = 8192
"""Up to here rows are in the record, and above in a file."""

_REFUSED = re.compile(r"[\"',:\[\]{}]")  # mlflow/tracking/client.py, _check_artifact_file_string
_LONG_TEXT = "k3Y-9f8E7d6C5b4A"
"""A column whose name makes a secret of this is masked."""


def table_record(event: TableEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the rows. Raises :class:`ArtifactError` for what is no table, and ``OSError``."""
    name = event.artifact_file
    name = _text_name(name) if type(name) is str else table_name(name)
    table = table_rows(event.rows)
    _keep_pictures(table, name, event, keeping)
    packed = pack_rows(masked(table))
    record = ArtifactRecord(0, event.timestamp_ms, "table", name, form=ROWS)
    if len(packed) <= INLINE_BYTES:
        record.details = {"rows": msgspec.Raw(packed)}
    else:
        record.held = keeping.keep_bytes(packed)
    return record


def table_name(name: Any) -> str:
    """``name`` if MLflow takes it for a table. Raises :class:`ArtifactError`."""
    text = artifact_file(name)
    found = _REFUSED.search(text)
    if found is not None:
        raise ArtifactError(f"MLflow refuses {found[0]!r} in the name of a table. Remove it from {text!r}")
    if not text.endswith(".json"):
        raise ArtifactError(f"a table is kept as JSON. End its name in '.json', not as {text!r}")
    return text


_PLAIN = frozenset({type(None), bool, int, float, str, list, dict})

_text_name = lru_cache(maxsize=256)(table_name)
"""The same, which costs more than the rows of most calls, once for each name."""


def _keep_pictures(table: Rows, name: str, event: TableEvent, keeping: Keeping) -> None:
    """Keep the images in ``table`` before its rows, and name them in their cells."""
    for row in table.rows:
        for column, value in enumerate(row):
            if type(value) not in _PLAIN and is_picture(value):
                row[column] = _keep_picture(value, name, event, keeping)


def _keep_picture(image: Any, table: str, event: TableEvent, keeping: Keeping) -> dict[str, str]:
    place = Place(f"table_images/{table.removesuffix('.json')}/{uuid.uuid4()}.png", None)
    keeping.add_part(
        pixels_record(
            event, "image", place, image_pixels(image, keeping, f"an image of the table {table!r}"), keeping
        )
    )
    return {"type": "image", "filepath": place.name, "compressed_filepath": place.name}


def masked(table: Rows) -> Rows:
    """``table`` with the secrets in its texts as ``***``, and those in columns named as a secret."""
    secret = [_is_secret_column(name) for name in table.columns]
    texts: dict[tuple[int, int], Any] = {
        (row, column): {table.columns[column]: value} if secret[column] else value
        for row, values in enumerate(table.rows)
        for column, value in enumerate(values)
        if secret[column] or isinstance(value, (str, list, dict))
    }
    texts |= {(_NAMES, column): name for column, name in enumerate(table.columns)}
    found = redact_config(texts)  # at once: it looks through the environment each time
    columns = [found.pop((_NAMES, column)) for column in range(len(table.columns))]
    for (row, column), value in found.items():
        table.rows[row][column] = next(iter(value.values())) if secret[column] else value
    return Rows(columns, table.rows)


def _is_secret_column(name: str) -> bool:
    # In a table the tokens are mostly those of a language model. Known secrets are masked anywhere.
    return name.lower() != "token" and is_secret(name, _LONG_TEXT)
