from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.tools import (
    lost,
    new_journal,
    read_all,
    records,
    same,
    sample,
    small_segments,
    steps,
)
from trackside.journal import reader as reader_module
from trackside.journal.directory import JournalDirectory
from trackside.journal.format import ConfigRecord
from trackside.journal.reader import JournalReader, Position
from trackside.journal.segment import create_segment
from trackside.journal.writer import JournalWriter


@given(st.lists(records, max_size=12), st.integers(1, 5), st.booleans())
@settings(max_examples=50, deadline=None)
def test_records_come_back_in_order(given_records, limit: int, dead: bool) -> None:
    """Any row of records, over several segments, by a reader of a living or a dead writer."""
    with tempfile.TemporaryDirectory() as root, small_segments(512):
        journal = new_journal(Path(root))
        writer = JournalWriter(journal)
        for record in given_records:
            assert writer.append(record)
        reader = JournalReader(journal)
        reader.writer_dead = dead
        found = []
        while entries := reader.read(limit):
            found += [entry.record for entry in entries]
        assert len(found) == len(given_records)
        assert all(map(same, found, given_records))
        assert [record.seq for record in found] == list(range(1, len(found) + 1))
        assert (lost(reader), reader.torn) == (0, 0)
        reader.close()
        writer.close()


@given(st.integers(1, 60), st.data())
@settings(max_examples=20, deadline=None)
def test_reading_goes_on_from_any_position(count: int, data: st.DataObject) -> None:
    """A restarted reader begins behind the record whose position was kept, in whatever segment."""
    with tempfile.TemporaryDirectory() as root, small_segments(512):
        journal = new_journal(Path(root))
        writer = JournalWriter(journal)
        for step in range(count):
            assert writer.append(sample(step))
        reader = JournalReader(journal)
        entries = reader.read()
        reader.close()
        at = data.draw(st.integers(0, count - 1))
        found, again = read_all(journal, dead=False, position=entries[at].after)
        assert steps(found) == list(range(at + 1, count))
        assert lost(again) == 0
        writer.close()


def test_what_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """No directory, no segment, no record: nothing, and then the first record when it comes."""
    journal = JournalDirectory(tmp_path / "journal")
    reader = JournalReader(journal)
    assert reader.read() == []
    journal.path.mkdir()
    assert reader.read() == []
    writer = JournalWriter(journal)
    assert reader.read() == []
    for step in range(3):
        writer.append(sample(step))
        assert [entry.record.seq for entry in reader.read()] == [step + 1]
        assert reader.read() == []
    reader.close()
    reader.close()
    writer.close()


def test_prepared_segment_does_not_end_the_one_before(tmp_path: Path) -> None:
    """A next segment that is only made, not begun, means the writer may still go on in this one."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    reader = JournalReader(journal)
    create_segment(journal.segment(2), 1 << 20)
    writer.append(sample(0))
    assert len(reader.read()) == 1
    assert reader.read() == []
    writer.append(sample(1))
    assert len(reader.read()) == 1
    reader.writer_dead = True
    assert reader.read() == []
    assert reader.torn == 0
    reader.close()
    writer.close()


def test_dead_writer_is_read_to_its_end(tmp_path: Path) -> None:
    """What was written between the last look and the death is read before the end is believed."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    reader = JournalReader(journal)
    writer.append(sample(0))
    reader.read()
    writer.append(sample(1))
    writer.close()
    reader.writer_dead = True
    assert [entry.record.seq for entry in reader.read()] == [2]
    reader.close()


@pytest.mark.parametrize(("limit", "read"), [(1, [1, 1, 1]), (4, [2, 1]), (6, [2, 1]), (7, [3])])
def test_limit_is_in_points(tmp_path: Path, limit: int, read: list[int]) -> None:
    """Records are taken until they hold that many points; one is never split."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for step in range(3):
        writer.append(sample(step, 3))
    reader = JournalReader(journal)
    assert [len(reader.read(limit)) for _ in read] == read
    assert reader.read(limit) == []
    reader.close()
    writer.close()


def test_records_without_points_are_limited_by_their_number(tmp_path: Path) -> None:
    """A long row of configs doesn't come as one endless batch."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for _ in range(7):
        writer.append(ConfigRecord(0, 1, {}, {}))
    reader = JournalReader(journal)
    assert [len(reader.read(3)) for _ in range(4)] == [3, 3, 1, 0]
    reader.close()
    writer.close()


def test_record_larger_than_a_chunk_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that straddle or outgrow the reader's chunks come back whole."""
    monkeypatch.setattr(reader_module, "CHUNK", 64)
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for step in range(20):
        writer.append(sample(step, 1 + step))
    found, reader = read_all(journal, dead=False)
    assert steps(found) == list(range(20))
    assert lost(reader) == 0
    writer.close()


def test_acknowledged_segments_may_be_deleted_under_the_reader(tmp_path: Path) -> None:
    """A reader that stands behind them does not miss them."""
    with small_segments(512):
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        reader = JournalReader(journal)
        for step in range(100):
            assert writer.append(sample(step))
            (entry,) = reader.read()
            assert steps([entry.record]) == [step]
            for number in journal.segment_numbers():
                if number < entry.after.segment:
                    journal.segment(number).unlink()
        assert lost(reader) == 0
        reader.close()
        writer.close()


def test_position_beyond_everything_reads_nothing(tmp_path: Path) -> None:
    """A position in a segment that never was, or behind the end of one, finds nothing and ends."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    writer.append(sample(0))
    writer.close()
    for position in (Position(9, 0, 9), Position(1, 1 << 40, 9)):
        assert read_all(journal, position=position)[0] == []
