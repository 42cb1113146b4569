"""Facts the training process notes without a lock and without a record: signals, drops, artifacts not kept.

A signal handler may interrupt the very code that appends to the journal, so what it notes has a
place of its own, one slot a signal number: writing it needs no lock and no position. The file is a
shared mapping: what was stored survives the death of the process. Each number is stored in one
piece (a copy of 8 aligned bytes, where ``pack_into`` would store zeros first), so neither a reader nor a
death in the midst of it finds half of one, or none where there was one before.

Layout, little-endian: ``dropped points u64 | dropped samples u64 | points on a device u64 | artifacts not
kept u64``, then at byte 64 for each signal number 0..64 ``first seen ms u64 | last seen ms u64 | count
u64``. At byte 2048: why artifacts are not kept, one reason a line, in UTF-8, up to the first zero byte.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from trackside.journal.opening import MAX_WORD, open_file, read_file
from trackside.system.files import write_all
from trackside.system.mapping import open_buffer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SIZE = 4096
_DROPS = struct.Struct("<QQ")
_SLOT = struct.Struct("<QQQ")
_WORD = 8
_ON_DEVICE_AT = 2 * _WORD
_NOT_KEPT_AT = 3 * _WORD
_SLOTS_AT = 64
_SIGNALS = 65
_REASONS_AT = 2048
_REASONS_SIZE = _SIZE - _REASONS_AT - 1
"""One byte stays zero."""


class SignalSeen(NamedTuple):
    """A signal the process received, with the times of the first and the last one, in ms since 1970."""

    number: int
    first_ms: int
    last_ms: int
    count: int  # type: ignore[assignment] # hides tuple.count, which is not needed


class NotKept(NamedTuple):
    """Artifacts that the training process could not keep: how many, and the first few reasons."""

    artifacts: int = 0
    reasons: tuple[str, ...] = ()


class Scoreboard:
    """The writing side, in the training process. Raises ``OSError`` when the file can't be made."""

    def __init__(self, path: Path) -> None:
        descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            write_all(descriptor, bytes(_SIZE), 0)  # real blocks: a sparse page could raise SIGBUS
            self._buffer = open_buffer(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._first = [0] * _SIGNALS
        self._count = [0] * _SIGNALS
        self.dropped_points: int = 0
        self.dropped_samples: int = 0
        self.artifacts_not_kept: int = 0
        self._reasons = b""

    def note_signal(self, number: int, at_ms: int) -> None:
        """Fill the slot of signal ``number``. Safe at any moment of any thread."""
        if 0 <= number < _SIGNALS:
            self._first[number] = self._first[number] or at_ms
            self._count[number] += 1
            offset = _SLOTS_AT + number * _SLOT.size
            self._store(offset, self._first[number])
            self._store(offset + _WORD, at_ms)
            self._store(offset + 2 * _WORD, self._count[number])

    def note_dropped(self, points: int) -> None:
        """Count one sample of ``points`` metrics that was not kept."""
        self.dropped_points += points  # no call within: no other thread gets in between
        self.dropped_samples += 1
        stored = None
        while stored != self.dropped_samples:  # who is overtaken must not have the last word
            stored = self.dropped_samples
            self._store(0, self.dropped_points)
            self._store(_WORD, stored)

    def note_on_device(self, points: int) -> None:
        """Say how many points wait for an accelerator: after a death in this moment they are lost."""
        self._store(_ON_DEVICE_AT, points)

    def note_not_kept(self, reason: str | None = None) -> None:
        """Count an artifact that is not kept. ``reason``: masked, of one line, and not noted before."""
        self.artifacts_not_kept += 1  # as in note_dropped
        stored = None
        while stored != self.artifacts_not_kept:
            stored = self.artifacts_not_kept
            self._store(_NOT_KEPT_AT, stored)
        if reason is not None:
            self._add_reason(reason)

    def close(self) -> None:
        """Let go of the file. What is noted from now on is kept in memory only."""
        self._buffer.close()

    def _add_reason(self, reason: str) -> None:
        line = reason.replace("\0", " ").replace("\n", " ").encode("utf-8", "backslashreplace") + b"\n"
        before = self._reasons
        if len(before) + len(line) <= _REASONS_SIZE:
            self._reasons = before + line
            start = _REASONS_AT + len(before)
            with contextlib.suppress(OSError, ValueError):
                self._buffer[start : start + len(line)] = line

    def _store(self, offset: int, value: int) -> None:
        # OSError: a file that can't be mapped. The number is kept in memory, and stored next time.
        # ValueError: it is closed. A signal that comes now is not noted.
        with contextlib.suppress(OSError, ValueError):
            self._buffer[offset : offset + _WORD] = value.to_bytes(_WORD, "little")


def read_dropped(path: Path) -> int:
    """Points the training process could not keep. 0 when the file is gone."""
    data = _read(path)
    return int(_DROPS.unpack_from(data, 0)[0]) if len(data) >= _DROPS.size else 0


def read_on_device(path: Path) -> int:
    """Points that waited for an accelerator. They are lost when the training process is dead."""
    data = _read(path)
    return int.from_bytes(data[_ON_DEVICE_AT : _ON_DEVICE_AT + _WORD], "little")


def read_not_kept(path: Path) -> NotKept:
    """The artifacts that the training process could not keep."""
    data = _read(path)
    lines, end, _ = data[_REASONS_AT:].partition(b"\n\0")
    reasons = lines.decode("utf-8", "replace").split("\n") if end else []
    return NotKept(int.from_bytes(data[_NOT_KEPT_AT : _NOT_KEPT_AT + _WORD], "little"), tuple(reasons))


def read_signals(path: Path) -> list[SignalSeen]:
    """The signals noted, in order of their number. Empty when the file is gone or cut."""
    data = _read(path)
    seen = []
    for number in range(_SIGNALS):
        offset = _SLOTS_AT + number * _SLOT.size
        if len(data) < offset + _SLOT.size:
            break
        first, last, count = _SLOT.unpack_from(data, offset)
        if count:
            seen.append(SignalSeen(number, first, last, count))
    return seen


def merged(seen: Iterable[SignalSeen], numbers: Iterable[int], at_ms: int) -> list[SignalSeen]:
    """``seen``, one of each number, with signals that came at ``at_ms``."""
    known = {item.number: item for item in seen}
    for number in numbers:
        before = known.get(number, SignalSeen(number, at_ms, at_ms, 0))
        known[number] = SignalSeen(number, before.first_ms, at_ms, before.count + 1)
    return list(known.values())


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MAX_WORD)
    except OSError:
        return b""
