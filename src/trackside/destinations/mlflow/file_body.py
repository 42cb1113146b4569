"""A file as the body of a request: read piece by piece, however large it is.

Invariants:

* The memory it takes is that of one piece.
* Exactly as many bytes are sent as the file had at first. A file that became shorter ends the request at
  once, because the server would wait for the rest.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PIECE = 1 << 18
"""Bytes. ``sendall`` has the request's timeout for each piece, so a connection of 10 KB a second will do."""

BYTES_A_SECOND = 1 << 22
"""How slow a server may be to store what it was sent, before it answers."""


class FileBody:
    """The bytes of ``source`` from ``start`` on, ``size`` of them or all. ``requests`` needs the length."""

    def __init__(
        self,
        source: Path,
        *,
        start: int = 0,
        size: int | None = None,
        on_sent: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        self._source = source
        self._start = start
        self._size = _size_of(source) - start if size is None else size
        self._on_sent = on_sent

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        # No OSError may pass here: urllib3 would take it for one of the connection.
        left = self._size
        try:
            with self._source.open("rb", buffering=0) as file:
                file.seek(self._start)
                while left:
                    piece = file.read(min(PIECE, left))
                    if not piece:
                        raise RetryableError(f"{self._source} became shorter while it was uploaded")
                    yield piece
                    left -= len(piece)
                    self._on_sent(len(piece))
        except OSError as error:
            raise RetryableError(f"the file can't be read: {error}") from error


class HashedPart(FileBody):
    """The same, with the MD5 of what was sent last."""

    md5 = ""

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.md5(usedforsecurity=False)
        for piece in super().__iter__():
            digest.update(piece)
            yield piece
        self.md5 = digest.hexdigest()


def seconds_to_store(size: int) -> float:
    """How long a server may take to store ``size`` bytes, beside the usual timeout of a request."""
    return size / BYTES_A_SECOND


def _size_of(source: Path) -> int:
    try:
        return os.stat(source).st_size
    except OSError as error:
        raise RetryableError(f"the file can't be read: {error}") from error
