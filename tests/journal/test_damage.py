"""What damage costs: the records it touches, and no others. The counters tell how many."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
from trackside.journal import supply
from trackside.journal.format import ConfigRecord, Record, encode, frame_header, frame_size
from trackside.journal.reader import JournalReader
from trackside.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trackside.journal.directory import JournalDirectory

PAGE = 4096


@contextmanager
def journal_of(given_records: Sequence[Record]) -> Iterator[tuple[JournalDirectory, list[int]]]:
    """A journal of one segment; and the offset behind each record's last byte."""
    with tempfile.TemporaryDirectory() as root:
        journal = new_journal(Path(root))
        writer = JournalWriter(journal)
        ends = []
        for record in given_records:
            assert writer.append(record)
            ends.append(writer.segment.offset)
        writer.close()
        yield journal, ends


def touched(ends: list[int], first: int, last: int) -> list[int]:
    """Which records have a byte in ``first`` to ``last``, by their place in the row."""
    return [n for n, end in enumerate(ends) if first < end and last >= (ends[n - 1] if n else 0)]


@given(st.lists(records, min_size=1, max_size=5), st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.outside
def test_flipped_byte_costs_the_record_it_is_in(given_records, data) -> None:
    """Flip any one byte: its record may be lost, every other one is read, nothing is invented."""
    with journal_of(given_records) as (journal, ends):
        place = data.draw(st.integers(0, ends[-1] + 16))
        content = bytearray(journal.segment(1).read_bytes())
        content[place] ^= data.draw(st.integers(1, 255))
        journal.segment(1).write_bytes(content)
        found, reader = read_all(journal)
        hit = touched(ends, place, place)
        kept = [record for n, record in enumerate(given_records) if n not in hit]
        if len(found) == len(given_records):  # it was padding
            kept = list(given_records)
        assert len(found) == len(kept)
        assert all(map(same, found, kept))
        told = lost(reader) + reader.torn
        assert told >= len(given_records) - len(found)
        assert told <= 1


@given(st.lists(records, min_size=1, max_size=5), st.data())
@settings(max_examples=60, deadline=None)
def test_cut_costs_what_is_behind_it(given_records, data) -> None:
    """Cut the file anywhere: every whole record before the cut is read, and a part is told of."""
    with journal_of(given_records) as (journal, ends):
        length = data.draw(st.integers(0, ends[-1] + 16))
        os.truncate(journal.segment(1), length)
        found, reader = read_all(journal)
        sizes = [len(encode(record)) + 8 for record in given_records]
        whole = [n for n, size in enumerate(sizes) if (ends[n - 1] if n else 0) + size <= length]
        assert len(found) == len(whole)
        assert all(map(same, found, given_records))
        start = ends[len(whole) - 1] if whole else 0
        assert lost(reader) == 0
        assert reader.torn == (length > start and len(whole) < len(given_records))


@given(st.integers(0, 11), st.integers(1, 3), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
@pytest.mark.outside
def test_zeroed_pages_cost_the_records_in_them(first: int, pages: int, points: int) -> None:
    """Pages that never reached the disk cost the records with bytes in them, all counted."""
    rows = [sample(step, points) for step in range(12 * PAGE // (points * 15 + 40))]
    with journal_of(rows) as (journal, ends):
        content = bytearray(journal.segment(1).read_bytes())
        content[first * PAGE : (first + pages) * PAGE] = bytes(pages * PAGE)
        journal.segment(1).write_bytes(content)
        found, reader = read_all(journal)
        hit = touched(ends, first * PAGE, (first + pages) * PAGE - 1)
        missed = [n for n in range(len(rows)) if n not in set(steps(found))]
        assert set(missed) <= set(hit)
        assert len(hit) - len(missed) <= 2  # zeros may have been zeros before, at either end
        behind = [n for n in missed if n > max(steps(found), default=-1)]
        assert lost(reader) == len(missed) - len(behind)
        assert reader.torn <= 1


def test_every_byte_of_a_journal_may_be_flipped(tmp_path: Path) -> None:
    """All bytes, one after the other: one record lost at most, told of when it is."""
    rows = [sample(step, 1 + step % 2) for step in range(5)]
    with journal_of(rows) as (journal, ends):
        whole = journal.segment(1).read_bytes()[: ends[-1] + 64]
        for place in range(len(whole)):
            content = bytearray(whole)
            content[place] ^= 0xFF
            journal.segment(1).write_bytes(content)
            found, reader = read_all(journal)
            expected = [n for n in range(5) if n not in touched(ends, place, place)]
            told = lost(reader) + reader.torn
            if place >= ends[-1]:
                assert steps(found) == list(range(5))
                assert told <= 1  # what lies behind the last record may be a torn one
            elif told:
                assert (steps(found), told) == (expected, 1)
            else:
                assert steps(found) == list(range(5))  # padding


def test_journal_may_be_cut_at_every_length(tmp_path: Path) -> None:
    """All lengths, one after the other: whole records are read, a cut one is told of."""
    rows = [sample(step, 1 + step % 2) for step in range(5)]
    with journal_of(rows) as (journal, ends):
        whole = journal.segment(1).read_bytes()[: ends[-1] + 64]
        for length in range(len(whole)):
            journal.segment(1).write_bytes(whole[:length])
            found, reader = read_all(journal)
            assert steps(found) == list(range(len(found)))
            assert lost(reader) == 0
            assert len(found) >= sum(end <= length for end in ends)
            start = ends[len(found) - 1] if found else 0
            assert reader.torn == (start < length and len(found) < 5)


def test_damage_in_the_middle_is_passed_while_the_writer_lives(tmp_path: Path) -> None:
    """A live run does not wait at a bad record when whole ones stand behind it."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for step in range(3):
        writer.append(sample(step))
    corrupt(journal, 1, 50)
    found, reader = read_all(journal, dead=False)
    assert steps(found) == [1, 2] or steps(found) == [0, 2]
    assert (reader.damaged, reader.missing, reader.torn) == (1, 0, 0)
    writer.close()


def corrupt(journal: JournalDirectory, segment: int, place: int, data: bytes = b"\xff") -> None:
    """Overwrite bytes of a segment in place, as other processes see them too."""
    with journal.segment(segment).open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_large_damaged_record_is_passed_while_the_writer_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record larger than one look searches is passed after a few more looks."""
    monkeypatch.setattr(supply, "FIRST_SIZE", 16 << 20)
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    large = ConfigRecord(0, 1, {}, {"text": "x" * (5 << 20)})
    for record in (sample(0), large, sample(1)):
        writer.append(record)
    corrupt(journal, 1, 1 << 20)
    reader = JournalReader(journal)
    found = [entry.record for _ in range(6) for entry in reader.read()]
    assert steps(found) == [0, 1]
    assert lost(reader) == 1
    reader.close()
    writer.close()


def test_torn_tail_is_waited_at_and_counted_once_the_writer_is_dead(tmp_path: Path) -> None:
    """However often the reader looks; and a restarted reader counts it once again, not twice."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    writer.append(sample(0))
    end = writer.segment.offset
    writer.close()
    corrupt(journal, 1, end, frame_header(b"never finished")[:6])
    reader = JournalReader(journal)
    (entry,) = reader.read()
    for _ in range(3):
        assert reader.read() == []
        assert (lost(reader), reader.torn) == (0, 0)
    reader.writer_dead = True
    for _ in range(3):
        assert reader.read() == []
        assert (lost(reader), reader.torn) == (0, 1)
    reader.close()
    found, again = read_all(journal, position=entry.after)
    assert (found, lost(again), again.torn) == ([], 0, 1)


def test_record_without_its_header_counts_as_torn(tmp_path: Path) -> None:
    """A writer killed between payload and header leaves something, and it is told of."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    writer.append(sample(0))
    writer.close()
    corrupt(journal, 1, writer_end(journal) + 8, encode(sample(1)))
    found, reader = read_all(journal)
    assert (steps(found), lost(reader), reader.torn) == ([0], 0, 1)


def writer_end(journal: JournalDirectory) -> int:
    """Offset behind the last record of the first segment."""
    reader = JournalReader(journal)
    entries = reader.read()
    reader.close()
    return entries[-1].after.offset


def test_damaged_end_of_a_segment_is_counted_once(tmp_path: Path) -> None:
    """The last record of a segment that is followed by another: one loss, told once."""
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        for step in range(60):
            assert writer.append(sample(step))
        writer.close()
        reader = JournalReader(journal)
        entries = reader.read()
        reader.close()
        last = [e for e in entries if e.after.segment == 1][-1]
        corrupt(journal, 1, last.after.offset - 12, b"\xff" * 4)
        for dead in (False, True):
            found, reader = read_all(journal, dead=dead)
            assert len(found) == 59
            assert (lost(reader), reader.torn) == (1, 0)


def test_garbage_in_the_unused_end_of_a_segment_is_no_loss(tmp_path: Path) -> None:
    """The numbers go on without a gap in the next segment, so nothing was lost."""
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        for step in range(60):
            assert writer.append(sample(step))
        writer.close()
        corrupt(journal, 1, journal.segment(1).stat().st_size - 4, b"\xff" * 4)
        found, reader = read_all(journal)
        assert steps(found) == list(range(60))
        assert (lost(reader), reader.torn) == (0, 0)


def test_lost_segment_is_counted_by_its_records(tmp_path: Path) -> None:
    """A segment that is gone costs what was in it, no more, and reading goes on behind it."""
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        for step in range(100):
            assert writer.append(sample(step))
        writer.close()
        journal.segment(2).unlink()
        found, reader = read_all(journal)
        assert len(found) + reader.missing == 100
        assert reader.missing > 0
        assert (reader.damaged, reader.torn) == (0, 0)


def test_begun_but_zeroed_segment_holds_nobody_up(tmp_path: Path) -> None:
    """Even all zeros in the middle of the journal: the later segments are read."""
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        for step in range(150):
            assert writer.append(sample(step))
        size = journal.segment(2).stat().st_size
        corrupt(journal, 2, 0, bytes(size))
        found, reader = read_all(journal, dead=False)
        assert len(found) + lost(reader) == 150
        assert steps(found)[-1] == 149
        writer.close()


def test_records_that_cannot_be_decoded_are_skipped(tmp_path: Path) -> None:
    """A payload of another version, or one nested beyond reason, costs itself only."""
    nested = b"\x91" * 50_000 + b"\xc0"
    strange = [b"\x93\xa1m\x01\x02", b"\x91\xa1m", b"\x95\xa1c\x02\0\x80\x81\xa1x" + nested]
    with journal_of([sample(0)]) as (journal, ends):
        place = ends[0]
        for payload in strange:
            corrupt(journal, 1, place, frame_header(payload) + payload)
            place += frame_size(len(payload))
        last = sample(1)
        last.seq = 5
        corrupt(journal, 1, place, frame_header(encode(last)) + encode(last))
        found, reader = read_all(journal)
        assert steps(found) == [0, 1]
        assert (lost(reader), reader.torn) == (3, 0)


def test_block_the_disk_cannot_read_costs_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO is damage like any other: the records around the block are read."""
    rows = [sample(step, 10) for step in range(100)]
    with journal_of(rows) as (journal, ends):
        real = os.pread

        def pread(descriptor: int, size: int, offset: int) -> bytes:
            if offset < 2 * PAGE and offset + size > PAGE:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor, size, offset)

        monkeypatch.setattr(os, "pread", pread)
        found, reader = read_all(journal)
        hit = touched(ends, PAGE, 2 * PAGE - 1)
        assert steps(found) == [n for n in range(100) if n not in hit]
        assert (lost(reader), reader.torn) == (len(hit), 0)


def test_other_errors_of_the_disk_are_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale handle, say, will pass: raising lets the caller try again, skipping would lose."""

    def pread(*_: object) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with journal_of([sample(0)]) as (journal, _):
        monkeypatch.setattr(os, "pread", pread)
        reader = JournalReader(journal)
        with pytest.raises(OSError, match="Stale"):
            reader.read()
        reader.close()
