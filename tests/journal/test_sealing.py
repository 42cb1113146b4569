"""Sealing: which samples get their checksums, when, and what is never touched."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.samples import (
    SegmentMaker,
    framed,
    layout_frame,
    made_of,
    rows,
    sample_frame,
    sealed,
    seqs,
)
from tests.journal.tools import SCRIPTS, lost, new_journal, read_all, same, sample
from trackside.journal import sealing
from trackside.journal.format import encode
from trackside.journal.layouts import UNSEALED
from trackside.journal.opening import open_own as real_open
from trackside.journal.sealing import Sealer

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

MARK = UNSEALED.to_bytes(4, "little")
PAGE = 4096


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call counts as a while after the one before."""
    monkeypatch.setattr(sealing, "SETTLED_AFTER", 0.0)


def seal_all(journal: JournalDirectory, *, dead: bool = True, calls: int = 3) -> None:
    """As the shipper seals, in ``calls`` ticks."""
    sealer = Sealer(journal)
    numbers = journal.segment_numbers()
    for _ in range(calls):
        sealer.seal(numbers, newest=max(numbers), writer_dead=dead)


def as_sealed(maker: SegmentMaker, *, but: set[int | None] = frozenset()) -> bytes:  # type: ignore[assignment]
    """What sealing makes of a segment."""
    frames = [(bytes(maker.data[start:end]), seq) for start, end, seq in maker.places]
    return b"".join(
        sealed(frame) if frame[4:8] == MARK and seq not in but else frame for frame, seq in frames
    )


@given(rows, st.integers(0, 400), st.booleans())
@settings(deadline=None)
def test_everything_is_sealed_and_nothing_else_is_changed(given_rows, repeat: int, dead: bool) -> None:
    """All samples, of a dead writer at once and of a living one a while after they were seen."""
    maker = made_of(given_rows, seal=False, repeat=repeat)
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "SETTLED_AFTER", 0.0)
        patch.setattr(sealing, "STRONG_ORDER", True)
        journal = new_journal(Path(root))
        maker.write(journal.segment(1))
        seal_all(journal, dead=dead, calls=1 if dead else 2)
        assert journal.segment(1).read_bytes() == as_sealed(maker) + bytes(64)
        found, reader = read_all(journal)
    assert all(map(same, found, maker.records))
    assert (len(found), lost(reader), reader.torn) == (len(maker.records), 0, 0)


def test_what_was_not_seen_a_while_ago_is_not_touched(journal: JournalDirectory) -> None:
    """A first call notes what is there. A second one, right after it, seals nothing."""
    maker = made_of([(0, 1, 1, [0.5])] * 5, seal=False)
    maker.write(journal.segment(1))
    seal_all(journal, dead=False, calls=5)
    assert journal.segment(1).read_bytes() == bytes(maker.data) + bytes(64)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("length", [4, 8, 12, 20, 36])
def test_a_sample_in_the_making_is_not_touched(journal: JournalDirectory, length: int) -> None:
    """However long it takes. What came before it is sealed, and itself once it is whole."""
    before = layout_frame(0) + sample_frame(0, 1) + sample_frame(0, 2)
    frame = sample_frame(0, 3)
    journal.segment(1).write_bytes(before + frame[:length] + bytes(4096))
    sealer = Sealer(journal)
    for _ in range(4):
        sealer.seal([1], newest=1, writer_dead=False)
    sealed_ones = layout_frame(0) + sealed(sample_frame(0, 1)) + sealed(sample_frame(0, 2))
    expected = sealed_ones + frame[:length]
    assert journal.segment(1).read_bytes()[: len(before) + len(frame)].rstrip(b"\0") == expected.rstrip(b"\0")
    with journal.segment(1).open("r+b") as file:
        file.seek(len(before))
        file.write(frame)
    for _ in range(2):
        sealer.seal([1], newest=1, writer_dead=False)
    assert journal.segment(1).read_bytes().startswith(sealed_ones + sealed(frame))


@pytest.mark.usefixtures("at_once")
def test_where_stores_come_out_of_order_the_last_one_waits(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last store may be seen before the others. Once something is behind it, they are all there."""
    monkeypatch.setattr(sealing, "STRONG_ORDER", False)
    maker = made_of([(0, 1, 1, [0.5])] * 5, seal=False)
    maker.write(journal.segment(1))
    seal_all(journal, dead=False)
    assert journal.segment(1).read_bytes() == as_sealed(maker, but={5}) + bytes(64)
    journal.segment(2).write_bytes(layout_frame(0) + sample_frame(0, 6))
    seal_all(journal, dead=False)
    assert journal.segment(1).read_bytes() == as_sealed(maker) + bytes(64)


@given(rows, st.data(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_damage_does_not_stop_it(given_rows, data: st.DataObject, dead: bool) -> None:
    """A flipped bit anywhere: what sealing has blessed is what a reader takes for good before it, no more."""
    maker = made_of(given_rows, seal=False, repeat=0)
    bit = data.draw(st.integers(0, 8 * len(maker.data) - 1))
    hit = maker.touched(bit // 8, bit // 8)
    maker.data[bit // 8] ^= 1 << bit % 8
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "SETTLED_AFTER", 0.0)
        journal = new_journal(Path(root))
        maker.write(journal.segment(1))
        before, reader = read_all(journal)
        seal_all(journal, dead=dead)
        after, again = read_all(journal)
        content = journal.segment(1).read_bytes()
    assert len(before) == len(after)
    assert all(map(same, before, after))
    assert (lost(reader), reader.torn) == (lost(again), again.torn)
    last = max(seqs(after), default=0)
    hit |= {last} if last - 1 in hit else set()  # what nothing confirms stays as it is
    for start, _, seq in maker.places:
        if seq is not None and seq <= last and seq not in hit and hit != {None}:
            assert content[start + 4 : start + 8] != MARK


def test_a_lost_page_does_not_stop_it(journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a journal whose writer is dead: the samples behind it are sealed, however far it goes."""
    monkeypatch.setattr(sealing, "_STEP", 3 * PAGE)
    maker = SegmentMaker(seal=False, repeat=PAGE)
    for _ in range(3000):
        maker.add_sample(2)
    for first, pages in ((3, 1), (9, 40), (60, 2)):
        maker.data[first * PAGE : (first + pages) * PAGE] = bytes(pages * PAGE)
    maker.write(journal.segment(1), unused=50 * PAGE)
    before, reader = read_all(journal)
    seal_all(journal)
    content = journal.segment(1).read_bytes()
    after, again = read_all(journal)
    assert seqs(after) == seqs(before)
    assert lost(again) == lost(reader)
    kept = {*seqs(after)}
    marks = [seq for start, _, seq in maker.places if content[start + 4 : start + 8] == MARK]
    assert not kept & {*marks}


def test_a_sample_across_the_border_of_two_steps_is_sealed(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind any number of zeros."""
    monkeypatch.setattr(sealing, "_STEP", 2 * PAGE)
    for zeros in range(2 * PAGE - 200, 2 * PAGE + 200, 8):
        behind = b"".join(sample_frame(2, seq) for seq in range(20, 25))
        journal.segment(1).write_bytes(layout_frame(2) + sample_frame(2, 1) + bytes(zeros) + behind)
        seal_all(journal, calls=1)
        assert MARK not in journal.segment(1).read_bytes(), zeros


def test_a_damaged_sample_is_not_given_a_right_checksum(journal: JournalDirectory) -> None:
    """Nor one of an unknown layout, of a wrong length, or out of its turn."""
    odd = [
        sample_frame(1, 2),  # its layout is nowhere
        sample_frame(0, 9),
        (40).to_bytes(4, "little") + sample_frame(0, 2)[4:],
        b"".join([sample_frame(0, 2)[:8], b"\xc1\x09\0S", sample_frame(0, 2)[12:]]),
    ]
    for frame in odd:
        before = layout_frame(0) + sample_frame(0, 1) + frame
        journal.segment(1).write_bytes(before + sample_frame(0, 3) + sample_frame(0, 4) + bytes(64))
        seal_all(journal)
        content = journal.segment(1).read_bytes()
        assert content[len(before) - len(frame) : len(before)] == frame
        assert content[len(before) :] == sealed(sample_frame(0, 3)) + sealed(sample_frame(0, 4)) + bytes(64)


def test_a_call_is_bounded_and_the_next_one_goes_on(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest segment first. What is sealed and over is not even opened again."""
    monkeypatch.setattr(sealing, "AT_ONCE", 4 * PAGE)
    monkeypatch.setattr(sealing, "_STEP", PAGE)
    seq = 0
    for number in (1, 2, 3):
        frames = [layout_frame(2)]
        for _ in range(100):
            seq += 1
            frames.append(sample_frame(2, seq))
        journal.segment(number).write_bytes(b"".join(frames))
    sealer = Sealer(journal)

    def unsealed() -> list[int]:
        return [journal.segment(number).read_bytes().count(MARK) for number in (1, 2, 3)]

    sealer.seal([1, 2, 3], newest=3, writer_dead=True)
    first = unsealed()
    assert first[0] == 100
    assert first[2] < 5
    for _ in range(10):
        sealer.seal([1, 2, 3], newest=3, writer_dead=True)
    assert unsealed() == [0, 0, 0]
    monkeypatch.setattr(sealing, "open_own", None)
    sealer.seal([1, 2, 3], newest=3, writer_dead=True)


def test_one_segment_that_cannot_be_sealed_does_not_hold_up_the_others(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the caller hears of it. All of them are read as before."""
    for number in (1, 2):
        journal.segment(number).write_bytes(layout_frame(0) + sample_frame(0, number))

    def open_own(path: Path, flags: int) -> int:
        if path == journal.segment(2):
            raise PermissionError(errno.EACCES, "not yours")
        return real_open(path, flags)

    monkeypatch.setattr(sealing, "open_own", open_own)
    with pytest.raises(PermissionError):
        Sealer(journal).seal([1, 2, 3], newest=2, writer_dead=True)
    assert MARK not in journal.segment(1).read_bytes()
    found, reader = read_all(journal)
    assert (seqs(found), lost(reader)) == ([1, 2], 0)


def test_records_in_messagepack_are_left_as_they_are(journal: JournalDirectory) -> None:
    """Large ones, too, beyond what is read at once."""
    large = sample(0, 40_000)
    large.seq = 2
    data = layout_frame(0) + sample_frame(0, 1) + framed(encode(large))
    journal.segment(1).write_bytes(data + sample_frame(0, 3) + bytes(64))
    seal_all(journal)
    expected = layout_frame(0) + sealed(sample_frame(0, 1)) + framed(encode(large))
    assert journal.segment(1).read_bytes() == expected + sealed(sample_frame(0, 3)) + bytes(64)


def test_a_death_in_the_midst_leaves_a_readable_journal(journal: JournalDirectory) -> None:
    """SIGKILL at any time: all samples are read, and the next one seals what is left."""
    maker = SegmentMaker(seal=False, repeat=PAGE)
    for _ in range(60_000):
        maker.add_sample(0)
    maker.write(journal.segment(1))
    for pause in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2):
        command = [sys.executable, str(SCRIPTS / "seal.py"), str(journal.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"sealing\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        found, reader = read_all(journal)
        assert seqs(found) == seqs(maker.records)
        assert (lost(reader), reader.torn) == (0, 0)
    seal_all(journal, calls=5)
    assert MARK not in journal.segment(1).read_bytes()
    assert seqs(read_all(journal)[0]) == seqs(maker.records)


@pytest.mark.parametrize("bit", range(0, 8 * 40, 9))
def test_a_sealed_sample_is_guarded(journal: JournalDirectory, bit: int) -> None:
    """A bit flips on the disk: the sample is lost and counted, and not read with another value."""
    journal.segment(1).write_bytes(layout_frame(0) + sample_frame(0, 1) + sample_frame(0, 2) + bytes(64))
    seal_all(journal)
    content = bytearray(journal.segment(1).read_bytes())
    content[len(layout_frame(0)) + bit // 8] ^= 1 << bit % 8
    journal.segment(1).write_bytes(content)
    found, reader = read_all(journal)
    assert (seqs(found), reader.damaged, reader.missing, reader.torn) == ([2], 1, 0, 0)
