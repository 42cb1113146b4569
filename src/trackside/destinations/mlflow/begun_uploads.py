"""What is known of an upload in parts that was begun: a file in the journal, which grows by each part.

Invariants:

* The file is this user's own and holds addresses that carry a permission, and other users cannot read it.
  One in a journal that another user may have made is not used.
* It is of one state of one file: path, size, time of the last change.
"""

from __future__ import annotations

import contextlib
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trackside.journal.files import make_private_directory
from trackside.journal.opening import MAX_STATE, open_own, read_file
from trackside.journal.trust import is_vouched_for
from trackside.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

LASTS = 3000.0
"""Seconds for which the addresses are used again. The store forgets them after an hour, as MLflow asks."""


class PartAddress(msgspec.Struct):
    """Where a part goes."""

    url: str
    part_number: int
    headers: dict[str, str] | None = None


class _Begin(msgspec.Struct):
    place: str
    source: str
    size: int
    changed_ns: int
    length: int
    begun: float
    upload_id: str | None
    addresses: list[PartAddress]


class _Part(msgspec.Struct):
    number: int
    tag: str


class BegunUpload:
    """One upload in parts. ``tags`` are the store's words for the parts that it has, by their numbers."""

    def __init__(self, path: Path | None, begin: _Begin, tags: dict[int, str]) -> None:
        self._path = path
        self._begin = begin
        self.tags = tags

    @property
    def place(self) -> str:
        """Where the file goes, below the server's artifacts."""
        return self._begin.place

    @property
    def length(self) -> int:
        """Bytes of each part but the last."""
        return self._begin.length

    @property
    def upload_id(self) -> str | None:
        """The store's word for the upload."""
        return self._begin.upload_id

    @property
    def addresses(self) -> list[PartAddress]:
        """Where the parts go."""
        return self._begin.addresses

    def is_of(self, source: Path, size: int) -> bool:
        """Whether it can be gone on with for this file."""
        begin = self._begin
        age = time.time() - begin.begun
        known = (begin.source, begin.size, begin.changed_ns)
        return known == (str(source), size, _changed_ns(source)) and 0 <= age < LASTS

    def is_below(self, name: str) -> bool:
        """Whether the file lies at or under an entry ``name``."""
        return name in Path(self._begin.source).parts

    def note(self, number: int, tag: str) -> None:
        """The store has the part ``number``."""
        self.tags[number] = tag
        if self._path is not None:
            with contextlib.suppress(OSError):  # then it is sent again
                _append(self._path, _Part(number, tag))

    def forget(self) -> None:
        """It is over."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


class BegunUploads:
    """Those of one destination, in ``folder`` of the journal. Without one, nothing is gone on with."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def begin(
        self,
        place: str,
        source: Path,
        size: int,
        *,
        length: int,
        upload_id: str | None,
        addresses: list[PartAddress],
    ) -> BegunUpload:
        """Note one that begins."""
        begin = _Begin(
            place, str(source), size, _changed_ns(source), length, time.time(), upload_id, addresses
        )
        path = self._path(place)
        try:
            if path is not None:
                make_private_directory(path.parent)
                path.unlink(missing_ok=True)
                _append(path, begin)
        except OSError:  # a full disk: it can't be gone on with
            path = None
        return BegunUpload(path, begin, {})

    def find(self, place: str) -> BegunUpload | None:
        """The one to ``place`` that was begun and not ended."""
        path = self._path(place)
        return None if path is None else _read(path)

    def all(self) -> Iterator[BegunUpload]:
        """All that were begun and not ended."""
        try:
            names = [] if self._folder is None else sorted(os.listdir(self._folder))
        except OSError:
            return
        for name in names:
            found = None if self._folder is None else _read(self._folder / name)
            if found is not None:
                yield found

    def _path(self, place: str) -> Path | None:
        return None if self._folder is None else self._folder / sha256(place.encode()).hexdigest()[:32]


def _read(path: Path) -> BegunUpload | None:
    if is_vouched_for(path):
        return None
    try:
        first, *parts = read_file(path, MAX_STATE).splitlines()
        begin = msgspec.json.decode(first, type=_Begin)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    tags = {}
    for line in parts:
        with contextlib.suppress(ValueError, msgspec.MsgspecError):  # it was cut off
            part = msgspec.json.decode(line, type=_Part)
            tags[part.number] = part.tag
    return BegunUpload(path, begin, tags)


def _append(path: Path, entry: _Begin | _Part) -> None:
    descriptor = open_own(path, os.O_WRONLY | os.O_CREAT)
    try:
        write_all(descriptor, msgspec.json.encode(entry) + b"\n", os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _changed_ns(source: Path) -> int:
    try:
        return source.stat().st_mtime_ns
    except OSError:
        return 0
