"""Configurations, params and tags that wait for one destination, in files of the journal's directory.

Invariant: a record that waits is on disk before the cursor passes it, and until it is delivered or rejected.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from trackside.journal.files import write_even_when_full
from trackside.journal.format import TagsRecord, TextsRecord
from trackside.journal.opening import MAX_TEXT, read_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger("trackside.shipper")

_decode = msgspec.msgpack.Decoder(list[TextsRecord]).decode

KINDS = ("config", "tags")
"""The files. Params wait behind the configuration, because of two values of a param the first one counts.
Tags wait for neither."""


class Waiting:
    """The records of one kind that wait, in the order of the journal."""

    def __init__(self, journal: Path, destination: str, kind: str) -> None:
        self._path = _path(journal, destination, kind)
        self.records: list[TextsRecord] = _read(self._path)

    def add(self, records: Iterable[TextsRecord]) -> None:
        """Have those of ``records`` wait that no earlier shipper has kept."""
        known = {record.seq for record in self.records}
        new = [record for record in records if record.seq not in known]
        if new:
            # The cursor may have gone back, so these may be older than what waits.
            self.records = sorted([*self.records, *new], key=lambda record: record.seq)
            self._save()

    def remove(self, records: Iterable[TextsRecord]) -> None:
        """Forget ``records``."""
        gone = {record.seq for record in records}
        self.records = [record for record in self.records if record.seq not in gone]
        self._save()

    def _save(self) -> None:
        try:
            write_even_when_full(self._path, msgspec.msgpack.encode(self.records))
        except OSError as error:
            logger.warning("what waits to be delivered is kept in memory only: %s", error)


def kind_of(record: TextsRecord) -> str:
    """Which of :data:`KINDS` ``record`` waits with."""
    return "tags" if isinstance(record, TagsRecord) else "config"


def read_waiting(journal: Path, destination: str) -> list[TextsRecord]:
    """What waits for ``destination``."""
    return [record for kind in KINDS for record in _read(_path(journal, destination, kind))]


def _read(path: Path) -> list[TextsRecord]:
    try:
        return _decode(read_file(path, MAX_TEXT))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _path(journal: Path, destination: str, kind: str) -> Path:
    return journal / f"{kind}-{destination}.msgpack"
