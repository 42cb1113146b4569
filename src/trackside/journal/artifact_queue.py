"""Artifacts that wait for one destination: a file that grows by what comes, and by what became of it.

The file is a row of frames, as a segment is (:mod:`trackside.journal.format`). Each is a record that waits,
or says what became of one.

Invariants:

* A record that waits is with the disk before :meth:`ArtifactQueue.add` returns, so before the cursor passes.
  If the disk takes none, :attr:`ArtifactQueue.is_behind` says so until it has.
* Each record takes one write when it comes and one when it is settled, however many wait.
* A record is taken once. The cursor may go back, and nothing here does.
* A held file counts as needed until :meth:`ArtifactQueue.forget` was told that it was let go.
* A process that dies in the midst of a write loses what it was about to say, and the next one does it again.
* The file may be of any size. It is read frame by frame, and no frame grows with how many there are.
"""

from __future__ import annotations

import contextlib
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from trackside.journal.file_counts import FileCounts
from trackside.journal.files import write_atomically
from trackside.journal.format import (
    ArtifactRecord,
    bytes_wanted,
    encode,
    frame_header,
    frame_size,
    read_frame,
)
from trackside.journal.opening import open_own
from trackside.names import chunks
from trackside.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger("trackside.journal")

Outcome: TypeAlias = Literal["delivered", "replaced", "rejected"]
OUTCOMES: tuple[Outcome, ...] = ("delivered", "replaced", "rejected")

ROOM = 1 << 16
"""Bytes that are reserved ahead, so that a full disk takes a few hundred records more."""

SMALL = 1 << 20
"""Bytes up to which the file may hold what is settled."""

READ = 1 << 22
"""Bytes that are read at a time."""

_NAMES = 10_000
"""How many names of held files are in one frame."""


class _Settled(msgspec.Struct, tag="s", array_like=True):
    seq: int
    outcome: str


class _Forgotten(msgspec.Struct, tag="g", array_like=True):
    seqs: list[int]


class _Before(msgspec.Struct, tag="b", array_like=True):
    """What came before, in place of all frames about it. Several of them add up, but for their counts."""

    delivered: int
    replaced: int
    rejected: int
    bytes_settled: int
    kept: dict[int, str]
    settled: list[ArtifactRecord]


class _Taken(msgspec.Struct, tag="t", array_like=True):
    seq: int


_Entry: TypeAlias = ArtifactRecord | _Settled | _Forgotten | _Before | _Taken

_decode = msgspec.msgpack.Decoder(_Entry).decode


class Contents:
    """What a queue's file says."""

    def __init__(self) -> None:
        self.taken = 0
        """The number of the last record that was taken."""
        self.waiting: dict[int, ArtifactRecord] = {}
        """By their numbers, in the order of the journal."""
        self.settled: dict[int, ArtifactRecord] = {}
        """Those that are settled, and whose held files were not let go yet."""
        self.kept: dict[int, str] = {}
        """The names of the held files of those that were rejected. They stay."""
        self.outcomes: dict[str, int] = {}
        self.bytes_waiting = 0
        self.bytes_settled = 0

    def apply(self, entry: _Entry) -> None:
        """Take in one frame. One that was taken in before changes nothing."""
        if isinstance(entry, ArtifactRecord):
            if self.is_new(entry):
                self.taken = entry.seq
                self.waiting[entry.seq] = entry
                self.bytes_waiting += size_of(entry)
        elif isinstance(entry, _Taken):
            self.taken = entry.seq
        elif isinstance(entry, _Settled):
            self._settle(entry)
        elif isinstance(entry, _Forgotten):
            for seq in entry.seqs:
                self.settled.pop(seq, None)
        else:
            self._begin(entry)

    def is_new(self, record: ArtifactRecord) -> bool:
        """Whether ``record`` was not taken before."""
        return record.seq > self.taken and record.seq not in self.waiting

    def counts(self) -> FileCounts:
        """How many there are, by what became of them."""
        due = (record.seq for record in self.waiting.values() if record.policy != "end")
        delivered, replaced, rejected = (self.outcomes.get(name, 0) for name in OUTCOMES)
        return FileCounts(
            delivered,
            replaced,
            rejected,
            waiting=len(self.waiting),
            bytes_waiting=self.bytes_waiting,
            bytes_settled=self.bytes_settled,
            first_waiting=next(due, 0),
        )

    def needs(self, seq: int) -> bool:
        """Whether the held file of record ``seq`` is still needed here."""
        return seq > self.taken or seq in self.waiting or seq in self.kept

    def frames(self) -> bytes:
        """All of it, as a new file would say it."""
        delivered, replaced, rejected = (self.outcomes.get(name, 0) for name in OUTCOMES)
        before = partial(_Before, delivered, replaced, rejected, self.bytes_settled)
        entries: list[_Entry] = [before({}, [])]
        entries += [before(dict(names), []) for names in chunks([*self.kept.items()], _NAMES)]
        entries += [before({}, [record]) for record in self.settled.values()]
        entries += [*self.waiting.values(), _Taken(self.taken)]
        return b"".join(map(_frame, entries))

    def _settle(self, entry: _Settled) -> None:
        record = self.waiting.pop(entry.seq, None)
        if record is None:
            return
        self.bytes_waiting -= size_of(record)
        self.bytes_settled += size_of(record)
        self.outcomes[entry.outcome] = self.outcomes.get(entry.outcome, 0) + 1
        if record.held is not None:
            if entry.outcome == "rejected":
                self.kept[record.seq] = record.held.name
            else:
                self.settled[record.seq] = msgspec.structs.replace(record, details={})

    def _begin(self, entry: _Before) -> None:
        self.outcomes = {
            "delivered": entry.delivered,
            "replaced": entry.replaced,
            "rejected": entry.rejected,
        }
        self.bytes_settled = entry.bytes_settled
        self.kept.update(entry.kept)
        self.settled.update((record.seq, record) for record in entry.settled)


class ArtifactQueue:
    """The queue of ``destination`` in the journal at ``journal``. For one caller at a time."""

    def __init__(self, journal: Path, destination: str) -> None:
        self._path = queue_path(journal, destination)
        self.contents, self._end = _read(self._path)
        self._lasting = 0
        """How long the file was when it was begun anew."""
        self._descriptor: int | None = None
        self._reserved = 0
        self._unsaid = b""
        """What a full disk did not take. It goes before the next frame."""
        self.is_behind = False
        """Whether records wait in memory alone, because the disk did not take them."""
        self._is_told = False

    def add(self, records: Iterable[ArtifactRecord]) -> list[ArtifactRecord]:
        """Have those of ``records`` wait that were not taken before. Returns them."""
        new = [record for record in records if self.contents.is_new(record)]
        if new:
            self._unsaid += b"".join(map(_frame, new))
            for record in new:
                self.contents.apply(record)
            if not self.is_behind:
                self.is_behind = True
                self.catch_up(level=logging.WARNING)
        return new

    def catch_up(self, level: int = logging.DEBUG) -> None:
        """Try to put on disk what waits in memory alone."""
        if self.is_behind:
            try:
                self._write_unsaid(durable=True)
            except OSError as error:
                logger.log(level, "artifacts wait in memory only: %s", error)

    def settle(self, seq: int, outcome: Outcome) -> None:
        """Say what became of record ``seq``."""
        self._say(_Settled(seq, outcome))

    def forget(self, seqs: Sequence[int]) -> None:
        """The held files of these records were let go."""
        self._say(_Forgotten([*seqs]))

    def take_again(self) -> None:
        """Take whatever the journal holds, from the beginning: it is not the one that was known."""
        self.contents.taken = 0
        self._replace()

    def sync(self) -> None:
        """Have it survive a power cut. Raises ``OSError``."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _say(self, entry: _Settled | _Forgotten) -> None:
        self.contents.apply(entry)
        self._unsaid += _frame(entry)
        try:
            self._write_unsaid(durable=self.is_behind)
            self._shorten()
        except OSError as error:  # said with the next one, or done again by the next shipper
            level = logging.DEBUG if self._is_told else logging.WARNING
            self._is_told = True
            logger.log(level, "what became of artifacts can't be noted: %s", error)

    def _write_unsaid(self, *, durable: bool) -> None:
        self._write(self._unsaid, durable=durable)
        self._unsaid, self.is_behind, self._is_told = b"", False, False

    def _write(self, data: bytes, *, durable: bool) -> None:
        descriptor = self._open()
        if self._end + len(data) > self._reserved:
            with contextlib.suppress(OSError):  # a full disk is met by the write, if it is needed at all
                os.posix_fallocate(descriptor, self._end, len(data) + ROOM)
                self._reserved = self._end + len(data) + ROOM
        write_all(descriptor, data, self._end)
        if durable:
            getattr(os, "fdatasync", os.fsync)(descriptor)
        self._end += len(data)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = open_own(self._path, os.O_RDWR | os.O_CREAT)
            os.ftruncate(self._descriptor, self._end)  # half a frame, if it ends in one
            self._reserved = self._end
        return self._descriptor

    def _shorten(self) -> None:
        """Begin anew when most of the file is about what is settled, or may be."""
        if self._end > SMALL + 2 * self._lasting:
            self._replace()

    def _replace(self) -> None:
        data = self.contents.frames()
        with contextlib.suppress(OSError):  # then it stays long
            write_atomically(self._path, data, durable=True)
            self.close()
            self._end, self._lasting, self._unsaid = len(data), len(data), b""
            self.is_behind = False


def queue_path(journal: Path, destination: str) -> Path:
    """Where the queue of ``destination`` is."""
    return journal / f"artifacts-{destination}.queue"


def read_queue(journal: Path, destination: str) -> Contents:
    """What waits for ``destination`` now, for another process than the shipper."""
    return _read(queue_path(journal, destination))[0]


def size_of(record: ArtifactRecord) -> int:
    """Bytes of what is held for ``record``."""
    return 0 if record.held is None else record.held.size


def _frame(entry: _Entry) -> bytes:
    payload = encode(entry)
    return (frame_header(payload) + payload).ljust(frame_size(len(payload)), b"\0")


def _read(path: Path) -> tuple[Contents, int]:
    """What the file says, and where the last whole frame of it ends."""
    contents, end = Contents(), 0
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return contents, end
    try:
        for payload, whole in _frames(descriptor):
            end = whole
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                contents.apply(_decode(payload))
    finally:
        os.close(descriptor)
    return contents, end


def _frames(descriptor: int) -> Iterator[tuple[bytes, int]]:
    """The payload of each frame, and where it ends. Up to what is no whole frame."""
    data, start, offset = b"", 0, 0
    while True:
        frame = read_frame(data, offset)
        if frame is not None:
            offset = frame.end
            yield frame.payload, start + offset
            continue
        wanted, has = bytes_wanted(data, offset), len(data) - offset
        if wanted <= has:  # nothing yet, or damage
            return
        more = os.pread(descriptor, max(READ, wanted), start + offset)
        if len(more) <= max(0, has):
            return
        data, start, offset = more, start + offset, 0
