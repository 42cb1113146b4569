"""Facts the training process notes without a lock and without a record: signals and drops.

A signal handler may interrupt the very code that appends to the journal, so what it notes has a place
of its own, one slot a signal number: writing it needs no lock, no allocation and no position. The file
is a shared mapping: what was stored survives the death of the process.

Layout, little-endian: ``dropped points u64 | dropped samples u64``, then at byte 64 for each signal
number 0..64 ``first seen ms u64 | last seen ms u64 | count u64``.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

from trackside.journal.directory import FILE_MODE

_SIZE = 4096
_DROPS = struct.Struct("<QQ")
_SLOT = struct.Struct("<QQQ")
_SLOTS_AT = 64
_SIGNALS = 65


class SignalSeen(NamedTuple):
    """A signal the process received, with the times of the first and the last (ms since the epoch)."""

    number: int
    first_ms: int
    last_ms: int
    count: int


class Scoreboard:
    """The writing side, in the training process."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            os.pwrite(descriptor, bytes(_SIZE), 0)  # real blocks: a sparse page could raise SIGBUS
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self.dropped_points = 0
        self.dropped_samples = 0

    def note_signal(self, number: int, at_ms: int) -> None:
        """Fill the slot of signal ``number``; safe at any moment of any thread."""
        if 0 <= number < _SIGNALS:
            offset = _SLOTS_AT + number * _SLOT.size
            first, _, count = _SLOT.unpack_from(self._map, offset)
            _SLOT.pack_into(self._map, offset, first or at_ms, at_ms, count + 1)

    def note_dropped(self, points: int) -> None:
        """Count one sample of ``points`` metrics that was not kept."""
        self.dropped_points += points
        self.dropped_samples += 1
        _DROPS.pack_into(self._map, 0, self.dropped_points, self.dropped_samples)


def read_dropped(path: Path) -> int:
    """Points the training process could not keep; 0 when the file is gone."""
    data = _read(path)
    return int(_DROPS.unpack_from(data, 0)[0]) if len(data) >= _DROPS.size else 0


def read_signals(path: Path) -> list[SignalSeen]:
    """The signals noted, in order of their number; empty when the file is gone or cut."""
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
