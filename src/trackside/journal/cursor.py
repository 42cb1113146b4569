"""How far a destination got: a small file, replaced whole, durable before anything is deleted."""

from __future__ import annotations

from pathlib import Path

import msgspec

from trackside.journal.directory import read_json, write_atomically
from trackside.journal.reader import Position


class Cursor(msgspec.Struct):
    """Everything before ``position`` is delivered, or set aside and counted.

    ``shipped`` and ``rejected`` count points; ``damaged`` and ``missing`` count records that could not
    be read.
    """

    position: Position = msgspec.field(default_factory=Position)
    shipped: int = 0
    rejected: int = 0
    damaged: int = 0
    missing: int = 0


def load_cursor(path: Path) -> Cursor:
    """The cursor kept in ``path``; one at the beginning when there is none or it is damaged."""
    return read_json(path, Cursor) or Cursor()


def save_cursor(path: Path, cursor: Cursor, *, durable: bool = False) -> None:
    """Keep ``cursor``; ``durable`` must be set before a segment behind it is deleted."""
    write_atomically(path, msgspec.json.encode(cursor), durable=durable)
