"""The list of a run's artifacts: a row each, in a Parquet file of its own.

It lies in the folder :data:`FOLDER` beside the parts. Readers of a whole directory pass over names that begin
with an underscore, so they get points and nothing else.

Exactly once: the rows are first kept in a file of the journal's directory, which is cut to what was
acknowledged when a shipper is restarted. The list is written anew from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trackside.destinations.described import describe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trackside.destinations.files import OwnFile
    from trackside.journal.format import ArtifactRecord

FOLDER = "_artifacts"

_COLUMNS = ("kind", "place", "step", "path", "size", "timestamp")
_encode = msgspec.json.Encoder().encode
_MAX_STEP = 1 << 63


class ArtifactList:
    """The rows in ``tail``, and the file at ``path`` that is made of them."""

    def __init__(self, tail: OwnFile, path: Path) -> None:
        self._tail = tail
        self._path = path
        self._written = 0

    @property
    def end(self) -> int:
        """How many bytes are acknowledged."""
        return self._tail.end

    def add(self, record: ArtifactRecord) -> None:
        """Add a row."""
        told, step = describe(record), record.step
        if step is not None and not -_MAX_STEP <= step < _MAX_STEP:
            step = None
        row = (told.kind, told.place, step, told.path, told.size, record.timestamp_ms)
        self._tail.append(_encode(row) + b"\n")

    def write(self, files: Any, identity: Mapping[str, str | None], metadata: Mapping[str, str]) -> None:
        """Write the file, if there are rows that it does not have. Raises ``OSError``.

        ``files``: the module that knows pyarrow.
        """
        if self._written == self._tail.end:
            return
        rows: list[list[Any]] = [msgspec.json.decode(line) for line in self._tail.read().splitlines()]
        columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write(self._path, [files.artifact_table(columns, identity)], metadata, files.ARTIFACTS)
        self._written = self._tail.end

    def sync(self) -> None:
        """Have the rows survive a power cut."""
        self._tail.sync()

    def close(self) -> None:
        """Close the file of the rows. More than once does no harm."""
        self._tail.close()
