"""What is known of an upload in parts that was begun.

The shipper that began it can go on with it. The next one can only have the store forget its parts: whoever
has the addresses of the parts may write them, so the addresses stay in memory, and MLflow does not name them
again.

Invariants:

* On disk is what the store calls the upload, and of which file it is. Both carry no permission.
* A note in a journal that another user may have made is not used.
* It is of one state of one file: path, size, time of the last change.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trackside.journal.files import make_private_directory, read_json, write_atomically
from trackside.journal.trust import is_vouched_for

if TYPE_CHECKING:
    from collections.abc import Iterator

LASTS = 3000.0
"""Seconds for which the addresses are used. The store forgets them after an hour, as MLflow asks."""


class PartAddress(msgspec.Struct):
    """Where a part goes."""

    url: str
    part_number: int
    headers: dict[str, str] | None = None


class _Note(msgspec.Struct):
    """What the next shipper is to know."""

    place: str
    source: str
    upload_id: str | None


@dataclass
class BegunUpload:
    """One upload in parts."""

    place: str
    """Where the file goes, below the server's artifacts."""
    source: str
    upload_id: str | None
    """The store's word for the upload."""
    size: int = 0
    changed_ns: int = 0
    length: int = 0
    """Bytes of each part but the last."""
    addresses: list[PartAddress] = field(default_factory=list, repr=False)
    """Where the parts go. None where another shipper has begun it."""
    tags: dict[int, str] = field(default_factory=dict)
    """The store's words for the parts that it has, by their numbers."""
    begun: float = field(default_factory=time.monotonic)

    def is_of(self, source: Path, size: int) -> bool:
        """Whether it can be gone on with for this file."""
        known = (self.source, self.size, self.changed_ns)
        is_valid = bool(self.addresses) and time.monotonic() - self.begun < LASTS
        return is_valid and known == (str(source), size, changed_ns(source))

    def is_below(self, name: str) -> bool:
        """Whether the file lies at or under an entry ``name``."""
        return name in Path(self.source).parts


class BegunUploads:
    """Those of one destination, with notes in ``folder`` of the journal. Without one, none are made."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._ours: dict[str, BegunUpload] = {}

    def add(self, upload: BegunUpload) -> None:
        """Note one that begins."""
        self._ours[upload.place] = upload
        path = self._path(upload.place)
        if path is not None:
            note = _Note(upload.place, upload.source, upload.upload_id)
            with contextlib.suppress(OSError):  # a full disk: another shipper can't take it back
                make_private_directory(path.parent)
                write_atomically(path, msgspec.json.encode(note))

    def forget(self, upload: BegunUpload) -> None:
        """It is over."""
        self._ours.pop(upload.place, None)
        path = self._path(upload.place)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def find(self, place: str) -> BegunUpload | None:
        """The one to ``place`` that was begun and not ended."""
        path = self._path(place)
        return self._ours.get(place) or (None if path is None else _read(path))

    def all(self) -> Iterator[BegunUpload]:
        """All that were begun and not ended."""
        yield from [*self._ours.values()]
        try:
            names = [] if self._folder is None else sorted(os.listdir(self._folder))
        except OSError:
            return
        for name in names:
            found = None if self._folder is None else _read(self._folder / name)
            if found is not None and found.place not in self._ours:
                yield found

    def _path(self, place: str) -> Path | None:
        return None if self._folder is None else self._folder / sha256(place.encode()).hexdigest()[:32]


def changed_ns(source: Path) -> int:
    """When the file was last changed. 0 if it can't be asked."""
    try:
        return source.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> BegunUpload | None:
    note = None if is_vouched_for(path) else read_json(path, _Note)
    return None if note is None else BegunUpload(note.place, note.source, note.upload_id)
