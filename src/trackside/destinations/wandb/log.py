"""Reading W&B's transaction log, the ``run-<id>.wandb`` file, while ``wandb-core`` writes it.

The framing is LevelDB's log format (blocks of 32 KiB, and a header of checksum, length and type before each
fragment), behind seven bytes of W&B's own. The records are the protocol buffers that the ``wandb`` package
comes with. wandb itself has had no reader in Python since its core became a Go program.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 32_768
_FILE_HEADER = 7
_HEADER = struct.Struct("<IHB")
_FULL, _LAST = 1, 4


class Row(NamedTuple):
    """One call of ``run.log``: its number (W&B's ``_step``) and what was logged."""

    number: int
    values: dict[str, Any]
    """By name. A picture, table or the like has a mapping that says what it is and where its file is."""


class TransactionLog:
    """A reader that continues where it stopped, as the file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = _FILE_HEADER
        self.ended = False
        """Whether the record was met that says how the run ended."""
        self.files = 0
        """Files below ``artifacts`` that W&B was told of, as far as the records were read."""
        self.models = 0
        """The same of models."""

    def new_rows(self) -> Iterator[Row]:
        """The rows that came to the file since the last call. None when it isn't there."""
        from wandb.proto import wandb_internal_pb2

        records: Any = wandb_internal_pb2  # its names are made at run time
        for data in self._new_records():
            record = records.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            self.ended = self.ended or kind == "exit"
            self.models += kind == "artifact" and record.artifact.type == "model"
            self.files += sum(item.path.startswith("artifacts/") for item in record.files.files)
            if kind == "history":
                yield Row(record.history.step.num, _values(record.history.item))

    def _new_records(self) -> Iterator[bytes]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        base = position = self._offset
        parts = b""
        while (fragment := _fragment(data, position, base)) is not None:
            payload, kind, position = fragment
            parts += payload
            if kind in (_FULL, _LAST):
                self._offset = position
                yield parts
                parts = b""


def _values(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        path = [item.key] if item.key else list(item.nested_key)
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = json.loads(item.value_json)
    return values


def _fragment(data: bytes, position: int, base: int) -> tuple[bytes, int, int] | None:
    """Payload, type and end of the fragment at ``position`` of the file. None when it isn't all there."""
    if _BLOCK - position % _BLOCK < _HEADER.size:  # too little of the block is left for a header
        position += _BLOCK - position % _BLOCK
    start = position - base
    if len(data) < start + _HEADER.size:
        return None
    _, length, kind = _HEADER.unpack_from(data, start)
    start += _HEADER.size
    if not kind or len(data) < start + length:
        return None
    return data[start : start + length], kind, base + start + length
