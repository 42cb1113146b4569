"""How far a destination got: a small file, replaced whole, durable before anything is deleted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal import lossless_json
from trackside.journal.file_counts import FileCounts
from trackside.journal.files import read_json, write_even_when_full
from trackside.journal.reader import Number, Position
from trackside.journal.version import stamped
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger("trackside.journal")

_failed = Once()


class Cursor(msgspec.Struct):
    """Everything before ``position`` is delivered, or counted as rejected.

    ``shipped``, ``rejected`` and ``merged`` count points. The destination's transform left out the ``merged``
    ones, or made them part of another point. ``damaged`` and ``missing`` count unreadable records.
    The position is kept together with what the destination and its transform need to continue from it, so
    that neither can be ahead of the other after a crash.
    """

    position: Position = msgspec.field(default_factory=Position)
    shipped: int = 0
    rejected: int = 0
    damaged: int = 0
    missing: int = 0
    merged: int = 0
    destination: dict[str, Any] | None = None
    """What the destination's ``state()`` said."""
    transform: dict[str, Any] | None = None
    """What the transformer's ``state()`` said: its open windows."""
    configs: int = 0
    """Configurations before ``position`` that are kept apart, and not delivered yet."""
    proven: Number | None = None
    """The number of the last record that the destination was seen to have, or None where its acknowledgement
    of ``position`` needs no proof."""

    files: FileCounts = FileCounts()
    """The artifacts before ``position``, by what became of them (:mod:`trackside.journal.artifact_queue`)."""

    unkept: Position | None = None
    """Where artifacts before ``position`` begin that a full disk did not take into their queue, or None."""

    @property
    def first_needed(self) -> int:
        """The first segment that a new shipper would read."""
        return (self.unkept or self.position).segment

    def acknowledges(self, seq: int) -> bool:
        """Whether everything up to record ``seq`` is acknowledged, or rejected."""
        return self.position.seq >= seq and not self.configs

    def has(self, seq: int) -> bool:
        """Whether that is more than a claim: the destination shows it, or needs no proof."""
        return self.acknowledges(seq) and (self.proven is None or self.proven >= seq)


def delivered_points(cursors: Sequence[Cursor]) -> tuple[int, int]:
    """Points that every destination has, and points that some destination would not take.

    A destination has what its transform has made of a point, even if that is nothing.
    """
    shipped = min((cursor.shipped + cursor.merged for cursor in cursors), default=0)
    rejected = max((cursor.rejected for cursor in cursors), default=0)
    return shipped, rejected


def load_cursor(path: Path) -> Cursor:
    """The cursor kept in ``path``. It is at the beginning if the file is missing or damaged."""
    return read_json(path, Cursor) or Cursor()


def save_cursor(path: Path, cursor: Cursor, *, durable: bool = False) -> None:
    """Keep ``cursor``. ``durable`` must be set before a segment behind it is deleted.

    Raises ``OSError`` only if ``durable``. Otherwise a disk that won't take it costs nothing but
    sending the same again after a restart, and that is no reason to stop delivering.
    """
    try:
        write_even_when_full(path, stamped(lossless_json.encode(cursor)), durable=durable)
    except OSError as error:
        if durable:
            raise
        level = logging.WARNING if _failed.is_first(path) else logging.DEBUG
        logger.log(level, "the cursor %s could not be saved: %s", path, error)
