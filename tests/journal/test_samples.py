"""Samples of a layout, sealed and unsealed: what is read back, and what damage costs."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.samples import (
    LAYOUTS,
    SegmentMaker,
    framed,
    layout_frame,
    made_of,
    rows,
    sample_frame,
    sealed,
    seqs,
)
from tests.journal.tools import lost, new_journal, read_all, same
from trackside.journal import known_layouts
from trackside.journal import reader as reader_module
from trackside.journal.format import encode
from trackside.journal.layouts import LayoutRecord
from trackside.journal.reader import JournalReader, Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import Record

PAGE = 4096


@pytest.fixture
def on_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor whose stores become visible in any order."""
    monkeypatch.setattr(reader_module, "STRONG_ORDER", False)


def flip_a_bit(maker: SegmentMaker, data: st.DataObject) -> set[int | None]:
    """Damage the segment in one place. Returns the records that this touches, None for a layout."""
    bit = data.draw(st.integers(0, 8 * len(maker.data) - 1))
    maker.data[bit // 8] ^= 1 << bit % 8
    return maker.touched(bit // 8, bit // 8)


def read_made(maker: SegmentMaker, *, unused: int = 64) -> tuple[list[Record], JournalReader]:
    """The records of a journal that is this segment, and the reader that read them."""
    with tempfile.TemporaryDirectory() as root:
        journal = new_journal(Path(root))
        maker.write(journal.segment(1), unused=unused)
        return read_all(journal)


def counted(maker: SegmentMaker, found: list[int]) -> int:
    """How many records are lost before the last one that was read."""
    return max(found, default=0) - len(found)


@given(rows, st.booleans(), st.booleans(), st.integers(0, 400), st.integers(1, 5))
@settings(deadline=None)
def test_samples_come_back(given_rows, seal: bool, dead: bool, repeat: int, limit: int) -> None:
    """Any row of samples and other records, with layouts again and again, by any reader."""
    maker = made_of(given_rows, seal=seal, repeat=repeat)
    with tempfile.TemporaryDirectory() as root:
        journal = new_journal(Path(root))
        maker.write(journal.segment(1))
        reader = JournalReader(journal)
        reader.writer_dead = dead
        found = []
        while entries := reader.read(limit):
            found += [entry.record for entry in entries]
        reader.close()
    assert len(found) == len(maker.records)
    assert all(map(same, found, maker.records))
    assert (lost(reader), reader.torn) == (0, 0)


@given(rows, st.booleans(), st.data())
@settings(deadline=None)
def test_reading_may_begin_anywhere(given_rows, seal: bool, data: st.DataObject) -> None:
    """Behind the layouts, too: they are looked for in the segment. Also where it is open already."""
    maker = made_of(given_rows, seal=seal)
    with tempfile.TemporaryDirectory() as root:
        journal = new_journal(Path(root))
        maker.write(journal.segment(1))
        reader = JournalReader(journal)
        entries = reader.read()
        entry = data.draw(st.sampled_from(entries))
        again = JournalReader(journal, entry.after)
        again.hold()
        journal.segment(1).unlink()
        reader.rewind(entry.after)
        for one in (reader, again):
            left = [found.record for found in one.read()]
            assert all(map(same, left, maker.records[entry.record.seq :]))
            assert len(left) == len(maker.records) - entry.record.seq
            assert (lost(one), one.torn) == (0, 0)
            one.close()


@given(rows, st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_in_a_sealed_journal(given_rows, data: st.DataObject) -> None:
    """Costs the record it is in. With layouts before every sample, one in a layout costs nothing."""
    maker = made_of(given_rows, seal=True, repeat=0)
    hit = flip_a_bit(maker, data)
    found, reader = read_made(maker)
    kept = [record for record in maker.records if record.seq not in hit]
    if len(found) == len(maker.records):  # it was padding
        kept = maker.records
    lost_layout = hit == {None} and len(found) < len(maker.records)
    if not lost_layout:  # the only one of its number
        assert len(found) == len(kept)
        assert all(map(same, found, kept))
    assert all(same(record, maker.records[record.seq - 1]) for record in found)
    assert lost(reader) == counted(maker, seqs(found))
    assert lost(reader) + reader.torn >= len(maker.records) - len(found)


@given(rows, st.data())
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_in_an_unsealed_journal(given_rows, data: st.DataObject) -> None:
    """May change the sample it is in, and no other record: they are all read, as they were."""
    maker = made_of(given_rows, seal=False, repeat=0)
    hit = flip_a_bit(maker, data)
    found, reader = read_made(maker)
    known = {record.seq: record for record in found}
    if hit != {None}:
        for record in maker.records:
            assert record.seq in hit or same(record, known[record.seq])
    assert {*known} <= {*seqs(maker.records)}
    assert lost(reader) == counted(maker, seqs(found))


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, len(LAYOUTS) - 1), min_size=20, max_size=300),
    st.sets(st.integers(0, 9), max_size=5),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_pages_that_never_reached_the_disk(
    runs: int, numbers: list[int], missing: set[int], seal: bool
) -> None:
    """Zeros in the place of any pages: what is read is what was written, and what is lost is counted."""
    maker = SegmentMaker(seal=seal, repeat=PAGE)
    for number in numbers:
        for _ in range(runs):
            maker.add_sample(number)
    whole = bytes(maker.data)
    hit = set()
    for page in missing:
        first, last = page * PAGE, min((page + 1) * PAGE, len(whole)) - 1
        hit |= maker.touched(first, last)
        maker.data[first : last + 1] = bytes(max(last + 1 - first, 0))
    found, reader = read_made(maker, unused=PAGE)
    assert all(same(record, maker.records[record.seq - 1]) for record in found)
    assert lost(reader) == counted(maker, seqs(found))
    if None not in hit:
        assert {*seqs(maker.records)} - {*seqs(found)} <= hit


def damaged(journal: JournalDirectory, place: int, data: bytes) -> None:
    """Overwrite bytes of the first segment in place."""
    with journal.segment(1).open("r+b") as file:
        file.seek(place)
        file.write(data)


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("dead", [False, True])
def test_a_damaged_layout_costs_nothing_while_there_is_another(
    journal: JournalDirectory, seal: bool, dead: bool
) -> None:
    """Before or behind the sample, in this segment, or in one that was read before."""
    maker = SegmentMaker(seal=seal, repeat=300)
    for _ in range(20):
        maker.add_sample(0)
    maker.write(journal.segment(1))
    layouts = [start for start, _, seq in maker.places if seq is None]
    assert len(layouts) > 2
    for place in layouts[:-1]:
        damaged(journal, place + 12, b"\xff\xff")
        found, reader = read_all(journal, dead=dead)
        assert seqs(found) == seqs(maker.records)
        assert (lost(reader), reader.torn) == (0, 0)
    journal.segment(2).write_bytes(sample_frame(0, 21) + sample_frame(0, 22) + bytes(64))
    found, reader = read_all(journal, dead=dead)
    assert (seqs(found), lost(reader), reader.torn) == ([*range(1, 23)], 0, 0)


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("dead", [False, True])
def test_samples_without_a_layout_are_lost_and_counted(
    journal: JournalDirectory, seal: bool, dead: bool
) -> None:
    """Each of them, and the others are read."""
    as_is = sealed if seal else bytes
    data = layout_frame(0) + as_is(sample_frame(0, 1))
    data += b"".join(as_is(sample_frame(2, seq)) for seq in range(2, 7))
    data += as_is(sample_frame(0, 7))
    journal.segment(1).write_bytes(data + as_is(sample_frame(2, 8)) + as_is(sample_frame(2, 9)) + bytes(64))
    found, reader = read_all(journal, dead=dead)
    assert (seqs(found), reader.damaged, reader.missing, reader.torn) == ([1, 7], 5, 0, 2)


def test_a_layout_behind_the_first_step_of_the_search(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lies in the segment, across the borders of what is read at once."""
    monkeypatch.setattr(known_layouts, "_STEP", 64)
    for shift in range(0, 200, 8):
        record = framed(b"x" * (shift + 8))
        journal.segment(1).write_bytes(sealed(sample_frame(2, 1)) + record + layout_frame(2) + bytes(64))
        found, reader = read_all(journal)
        assert (seqs(found), lost(reader)) == ([1], 0), shift


def test_the_search_for_layouts_has_a_budget(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of every number, and at each place what seems to be a layout: they are lost, in little time."""
    monkeypatch.setattr(known_layouts, "BUDGET", 1 << 16)
    looks = 0
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal looks
        looks += 1
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    claim = b"\0\0\x10\0\0\0\0\0\x95\xa1n".ljust(16, b"\0")
    word = sample_frame(0, 1)
    made = [bytearray(word) for _ in range(2000)]
    for number, frame in enumerate(made, 5):
        frame[9:11] = number.to_bytes(2, "little")
        frame[-4:] = number.to_bytes(4, "little")
    journal.segment(1).write_bytes(b"".join(sealed(bytes(frame)) for frame in made) + 1000 * claim)
    for dead in (True, False):
        looks = 0
        assert read_all(journal, dead=dead)[0] == []
        assert looks < 100


def odd_samples() -> Iterator[bytes]:
    """Frames that a reader must not take for the sample 2 of layout 0, or for any other."""
    good = sample_frame(0, 2)
    for length in (0, 8, 23, 25, 31, 33, 40, 4096, 1 << 26, (1 << 32) - 1):
        yield length.to_bytes(4, "little") + good[4:]
    for seq in (0, 1, 4, 9, 1 << 31, (1 << 32) - 1):
        yield good[:-4] + seq.to_bytes(4, "little")
    for word in (b"\0\0\0\0", b"\xc1\0\0S", b"\xc1\x01\0T", b"\xc0\x01\0S", b"\xc1\x03\0S", b"\xc1\xff\xffS"):
        yield good[:8] + word + good[12:]
        yield sealed(good[:8] + word + good[12:])
    yield good[:4] + b"\0\0\0\0" + good[8:]
    yield sealed(sample_frame(2, 2)[:8] + good[8:12] + sample_frame(2, 2)[12:])


@pytest.mark.parametrize("frame", [*odd_samples()])
@pytest.mark.parametrize("dead", [False, True])
def test_what_is_no_sample_costs_itself(journal: JournalDirectory, frame: bytes, dead: bool) -> None:
    """A wrong length, word, number or count: the records around it are read, and it is counted."""
    others = [sample_frame(0, seq) for seq in range(3, 9)]
    journal.segment(1).write_bytes(
        layout_frame(0) + sample_frame(0, 1) + frame + b"".join(others) + bytes(5000)
    )
    found, reader = read_all(journal, dead=dead)
    assert (seqs(found), lost(reader), reader.torn) == ([1, 3, 4, 5, 6, 7, 8], 1, 0)


def test_the_first_sample_of_a_segment_says_how_many_are_missing(journal: JournalDirectory) -> None:
    """Where the segment before it is gone. One that the sample behind it contradicts is not believed."""
    for first in (6, 1 << 30):
        journal.segment(1).write_bytes(layout_frame(0) + sample_frame(0, 1))
        journal.segment(3).write_bytes(
            layout_frame(0) + b"".join(sample_frame(0, seq) for seq in (first, 7, 8))
        )
        found, reader = read_all(journal)
        expected = [1, 6, 7, 8] if first == 6 else [1, 7, 8]
        assert seqs(found) == expected
        assert lost(reader) == 8 - len(expected)


def test_a_sample_that_is_being_written_is_waited_for(journal: JournalDirectory) -> None:
    """Byte by byte, as the training process stores it: it appears with the last word and not before."""
    before, frame = layout_frame(0) + sample_frame(0, 1), sample_frame(0, 2)
    journal.segment(1).write_bytes(before + bytes(4096))
    reader = JournalReader(journal)
    assert [entry.record.seq for entry in reader.read()] == [1]
    for length in range(4, len(frame), 4):
        damaged(journal, len(before), frame[:length])
        last = [entry.record.seq for entry in reader.read()]
        assert last == ([] if length < len(frame) else [2]), length
    damaged(journal, len(before), frame)
    assert [entry.record.seq for entry in reader.read()] == [2]
    assert (lost(reader), reader.torn) == (0, 0)
    reader.close()


@pytest.mark.usefixtures("on_arm")
def test_where_stores_come_out_of_order_two_looks_must_agree(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail may be seen before the values. The next look sees them."""
    good = sample_frame(0, 2, (0.5,))
    early = bytearray(good)
    early[28:36] = bytes(8)
    journal.segment(1).write_bytes(layout_frame(0) + sample_frame(0, 1) + early + bytes(4096))
    real = os.pread
    place = len(layout_frame(0)) + len(good)
    arrived = False

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal arrived
        if size < 100 and offset > place and not arrived:
            arrived = True
            damaged(journal, place, good)
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    reader = JournalReader(journal)
    found = [entry.record for _ in range(3) for entry in reader.read()]
    assert arrived
    assert [record.metrics for record in found] == [{"loss": 1.0}, {"loss": 0.5}]  # type: ignore[union-attr]
    reader.close()


@given(rows)
@settings(max_examples=30, deadline=None)
def test_a_processor_of_another_kind_reads_the_same(given_rows) -> None:
    """Sealed or not."""
    for seal in (False, True):
        maker = made_of(given_rows, seal=seal)
        with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "STRONG_ORDER", False)
            journal = new_journal(Path(root))
            maker.write(journal.segment(1))
            found, _ = read_all(journal, dead=False)
        assert all(map(same, found, maker.records))
        assert len(found) == len(maker.records)


def test_a_position_in_a_later_segment_with_no_number(journal: JournalDirectory) -> None:
    """Whoever looks only at the last segment begins there: any number may be the first."""
    journal.segment(4).write_bytes(layout_frame(0) + sample_frame(0, 1000) + sample_frame(0, 1001))
    found, reader = read_all(journal, position=Position(4))
    assert seqs(found) == [1000, 1001]
    assert reader.torn == 0


def test_random_bytes_between_samples(journal: JournalDirectory) -> None:
    """Noise of any length costs what it has replaced."""
    choice = random.Random(5)
    for _ in range(50):
        maker = SegmentMaker(seal=choice.random() < 0.5, repeat=0)
        for _ in range(30):
            maker.add_sample(choice.randrange(len(LAYOUTS)))
        first = choice.randrange(len(maker.data))
        last = min(len(maker.data) - 1, first + choice.randrange(1, 500))
        maker.data[first : last + 1] = choice.randbytes(last + 1 - first)
        maker.write(journal.segment(1))
        found, reader = read_all(journal)
        left = {*seqs(maker.records)} - {*seqs(found)}
        assert left <= maker.touched(first, last)
        assert lost(reader) == counted(maker, seqs(found))


def test_a_layout_that_changes_its_names_counts_as_it_was(journal: JournalDirectory) -> None:
    """No writer gives a number to other names. If one did, the first would count."""
    other = framed(encode(LayoutRecord(1, None, False, ("other",))))
    between = layout_frame(3) + sample_frame(3, 2)
    journal.segment(1).write_bytes(
        layout_frame(0) + sample_frame(0, 1) + other + between + sample_frame(0, 3) + sample_frame(0, 4)
    )
    found, _ = read_all(journal)
    assert [[*record.metrics] for record in found if record.seq != 2] == 3 * [["loss"]]  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, b"\xff" * 400])
def test_a_last_sample_with_a_wrong_number_is_not_believed(journal: JournalDirectory, damage: bytes) -> None:
    """Nothing behind it tells. More records than fit into the damage before it cannot be missing."""
    before = layout_frame(0) + sample_frame(0, 1) + damage
    most = 2 + len(damage) // 16
    for seq, believed in ((2, True), (most, True), (most + 1, False), (1 << 30, False)):
        journal.segment(1).write_bytes(before + sample_frame(0, seq) + bytes(64))
        found, reader = read_all(journal)
        assert seqs(found) == ([1, seq] if believed else [1])
        assert reader.torn == (not believed)


def test_a_wrong_length_does_not_swallow_the_sample_behind(journal: JournalDirectory) -> None:
    """Even where the number at the wrong end may be right."""
    wrong = (32 + 40).to_bytes(4, "little") + sample_frame(0, 3)[4:]
    behind = sample_frame(0, 4) + sample_frame(0, 5)
    journal.segment(1).write_bytes(layout_frame(0) + sample_frame(0, 1) + b"\xff" * 40 + wrong + behind)
    found, reader = read_all(journal)
    assert (seqs(found), lost(reader)) == ([1, 4, 5], 2)
