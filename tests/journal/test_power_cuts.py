"""A power cut: each page of the disk is as it was at some moment since the last sync."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.journal.samples import SegmentMaker, seqs
from tests.journal.tools import new_journal, read_all, same
from trackside.journal import sealing
from trackside.journal.sealing import Sealer

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

PAGE = 4096
SIZE = 40 * PAGE
CUTS = 12


class Disk:
    """A journal's first segment while a training writes to it, and what may be on the disk."""

    def __init__(self, journal: JournalDirectory, choice: random.Random) -> None:
        self.journal = journal
        self.path = journal.segment(1)
        self.path.write_bytes(bytes(SIZE))
        self.maker = SegmentMaker(seal=False, repeat=PAGE)
        self.synced = 0
        """The last record that was synced."""
        self._choice = choice
        self._states = [bytes(SIZE)]
        self._written = 0

    def write(self) -> None:
        """One sample more."""
        self.maker.add_sample(self._choice.choice([0, 1, 2, 2]))
        with self.path.open("r+b") as file:
            file.seek(self._written)
            file.write(self.maker.data[self._written :])
        self._written = len(self.maker.data)

    def note(self) -> None:
        """From now on the disk may have any page as it is now."""
        self._states.append(self.path.read_bytes())

    def sync(self) -> None:
        """From now on it has none as it was before."""
        self._states = [self.path.read_bytes()]
        self.synced = len(self.maker.records)

    def cut(self) -> None:
        """Have what the disk may have."""
        pages = (self._choice.choice(self._states)[at : at + PAGE] for at in range(0, SIZE, PAGE))
        self.path.write_bytes(b"".join(pages))


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was synced is read, no value is wrong, and sealing what is left changes nothing of it."""
    monkeypatch.setattr(sealing, "SETTLED_AFTER", 0.0)
    choice = random.Random(seed)
    journal = new_journal(tmp_path)
    disk, sealer = Disk(journal, choice), Sealer(journal)
    for _ in range(choice.randrange(2, 8)):
        for _ in range(choice.randrange(1, 60)):
            disk.write()
            if choice.random() < 0.2:
                disk.note()
        sealer.seal([1], newest=1, writer_dead=False)
        disk.note()
        if choice.random() < 0.7:
            disk.sync()
    for _ in range(CUTS):
        disk.cut()
        found, _ = read_all(journal)
        assert all(same(record, disk.maker.records[record.seq - 1]) for record in found)
        assert {*range(1, disk.synced + 1)} <= {*seqs(found)}
        for _ in range(2):
            Sealer(journal).seal([1], newest=1, writer_dead=True)
        assert repr(read_all(journal)[0]) == repr(found)
