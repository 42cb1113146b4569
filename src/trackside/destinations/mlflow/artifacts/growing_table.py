"""A table that grows: a file in the journal with all its rows, to which each record adds a line.

``mlflow.log_table`` downloads the table, adds rows and uploads it again, at each call. Here the rows are on
this machine anyway, so a row costs the same however long the table is.

Invariants:

* A record that is added twice is in the table once. A line holds the number of its record.
* Columns stand in the order in which they first appeared, at every moment and after a restart.
* A line that was torn by the death of the shipper is left out: its record was not acknowledged.
* A line that a power cut has damaged costs its own rows, and is counted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from trackside.encoding.tables import Rows, as_json
from trackside.journal.files import write_atomically
from trackside.journal.opening import open_own
from trackside.system.files import sync_file, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Head(msgspec.Struct):
    """The first line."""

    place: str
    """What the records call the table."""
    name: str
    """What the run calls it."""


class _Line(msgspec.Struct):
    """What one record has added."""

    seq: int
    columns: list[str]
    rows: msgspec.Raw


class _LineOfValues(msgspec.Struct):
    columns: list[str]
    rows: list[list[msgspec.Raw]]


_head = msgspec.json.Decoder(_Head).decode
_line = msgspec.json.Decoder(_Line).decode
_values = msgspec.json.Decoder(_LineOfValues).decode


BASE = 0
"""Stands for the number of a record, for what the table held before the first one."""


class GrowingTable:
    """The table in the file ``path``. Make it with :func:`new_table`, and open it again with this."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises ``OSError``, and ``ValueError`` for a file that is no table."""
        self.damaged = 0
        """Lines that can't be read."""
        self._path = path
        self._columns: dict[str, None] = {}
        self._seqs: set[int] = set()
        self.size = 0
        """Bytes of the file. It grows with each record."""
        self._read()

    @property
    def columns(self) -> list[str]:
        """The names of all columns so far."""
        return list(self._columns)

    def add(self, seq: int, rows: Rows) -> None:
        """Add the rows of record ``seq``, unless they are there. Raises ``OSError``."""
        if seq in self._seqs:
            return
        line = _line_of(seq, rows)
        descriptor = open_own(self._path, os.O_WRONLY)
        try:
            # At our own end: over what a full disk, or the death of a shipper, has left of an earlier try.
            write_all(descriptor, line, self.size)
        finally:
            os.close(descriptor)
        self._note(_read_line(line), len(line))

    def write(self, path: Path) -> None:
        """Write the whole table to ``path``, as pandas does with ``orient="split"``. Raises ``OSError``."""
        with path.open("wb") as file:
            file.write(b'{"columns":' + as_json(self.columns) + b',"data":[')
            between = b""
            for line in self._lines():
                rows = self._rows(line)
                if rows:
                    file.write(between + rows)
                    between = b","
            file.write(b"]}")

    def sync(self) -> None:
        """Have the table survive a power cut. Raises ``OSError``."""
        sync_file(self._path)

    def _read(self) -> None:
        with self._open() as file:
            first = file.readline()
            try:
                head = _head(first)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(f"{self._path} is damaged: {error}") from error
            self.place, self.name = head.place, head.name
            self.size = len(first)
            for text in file:
                if not text.endswith(b"\n"):
                    break
                self._note(_read_line(text), len(text))

    def _note(self, line: _Line | None, size: int) -> None:
        self.size += size
        if line is None:
            self.damaged += 1
        else:
            self._seqs.add(line.seq)
            self._columns.update(dict.fromkeys(line.columns))

    def _lines(self) -> Iterator[bytes]:
        with self._open() as file:
            left = self.size - len(file.readline())
            for text in file:
                if left <= 0:
                    return
                left -= len(text)
                yield text

    def _rows(self, text: bytes) -> bytes:
        """The rows in a line as JSON without its outer brackets. They have a value for each column."""
        line = _read_line(text)
        if line is None:
            return b""
        if line.columns == self.columns:
            return bytes(line.rows)[1:-1]
        found = _values(text)
        places = {name: index for index, name in enumerate(found.columns)}
        null = msgspec.Raw(b"null")
        order = [places.get(name) for name in self.columns]
        rows = [[null if index is None else row[index] for index in order] for row in found.rows]
        return as_json(rows)[1:-1]

    def _open(self) -> BinaryIO:
        return os.fdopen(open_own(self._path, os.O_RDONLY), "rb")


def new_table(path: Path, place: str, name: str, base: Rows | None) -> GrowingTable:
    """Make the file of the table ``place``, which begins with the rows of ``base``. Raises ``OSError``."""
    first = as_json(_Head(place, name)) + b"\n"
    if base is not None:
        first += _line_of(BASE, base)
    write_atomically(path, first)
    return GrowingTable(path)


def _line_of(seq: int, rows: Rows) -> bytes:
    return as_json({"seq": seq, "columns": rows.columns, "rows": rows.rows}) + b"\n"


def _read_line(text: bytes) -> _Line | None:
    try:
        return _line(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
