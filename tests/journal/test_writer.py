from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import lost, new_journal, read_all, sample, small_segments, steps
from trackside.errors import JournalError
from trackside.journal import supply
from trackside.journal import writer as writer_module
from trackside.journal.format import MAX_PAYLOAD, ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.scoreboard import read_dropped
from trackside.journal.supply import segment_ready_after
from trackside.journal.writer import JournalWriter

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

MIB = 1 << 20


def large(size: int) -> ConfigRecord:
    """A record with a payload of about ``size`` bytes."""
    return ConfigRecord(0, 1, {}, {"text": "x" * size})


def test_records_are_numbered_from_one(journal: JournalDirectory) -> None:
    """Each record gets the next number, and the writer tells the last one."""
    writer = JournalWriter(journal)
    assert writer.last_seq == 0
    first, second = sample(0), sample(1)
    assert writer.append(first)
    assert writer.append(second)
    assert (first.seq, second.seq, writer.last_seq) == (1, 2, 2)
    writer.close()


@pytest.mark.parametrize(
    "bad",
    [
        MetricsRecord(0, 1, 2**64, None, None, {}),
        MetricsRecord(0, 1, 1, None, None, {"\udc80": 1.0}),
        MetricsRecord(0, 1, 1, None, None, {"x": object()}),  # type: ignore[dict-item]
    ],
)
def test_record_that_cannot_be_encoded_changes_nothing(journal: JournalDirectory, bad: MetricsRecord) -> None:
    """The error is the caller's, and the next record follows without a gap."""
    writer = JournalWriter(journal)
    writer.append(sample(0))
    with pytest.raises((TypeError, ValueError, OverflowError)):
        writer.append(bad)
    writer.append(sample(1))
    found, reader = read_all(journal)
    assert [record.seq for record in found] == [1, 2]
    assert lost(reader) == 0
    assert writer.scoreboard.dropped_samples == 0
    writer.close()


def test_large_record_does_not_let_another_thread_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the interpreter for 5 ms. Here it gets in only where it is let in, or after a minute."""
    monkeypatch.setattr(supply, "FIRST_SIZE", 32 * MIB)
    writer = JournalWriter(new_journal(tmp_path))
    turns, stop, usual = itertools.count(), threading.Event(), sys.getswitchinterval()

    def take_turns() -> None:
        while not stop.is_set():
            next(turns)
            time.sleep(0)

    thread = threading.Thread(target=take_turns)
    sys.setswitchinterval(60)  # before the thread: a wait goes by the interval of its beginning
    try:
        thread.start()
        before = next(turns)
        kept = [writer.append(sample(step, 10_000)) for step in range(10)]
        taken = next(turns) - before - 1
    finally:
        sys.setswitchinterval(usual)
        stop.set()
        thread.join()
        writer.close()
    assert (all(kept), taken) == (True, 0)


def test_segments_follow_one_another(journal: JournalDirectory) -> None:
    """Many segments' worth of records, none lost at the seams; the next one is always ready."""
    with small_segments():
        writer = JournalWriter(journal)
        for step in range(500):
            assert writer.append(sample(step, 1 + step % 7))
        found, reader = read_all(journal, dead=False)
        assert steps(found) == list(range(500))
        assert lost(reader) == 0
        assert len(journal.segment_numbers()) > 10
        writer.close()


def test_record_larger_than_a_segment_gets_its_own(journal: JournalDirectory) -> None:
    """Records of any size between small ones, more than one segment large."""
    writer = JournalWriter(journal)
    for step, size in enumerate([10, 3 * MIB, 10, 7 * MIB, 2 * MIB, 10]):
        assert writer.append(sample(step))
        assert writer.append(large(size))
    found, reader = read_all(journal, dead=False)
    assert steps(found) == list(range(6))
    assert len(found) == 12
    assert lost(reader) == 0
    writer.close()


@pytest.mark.slow
def test_record_larger_than_the_journal_takes_is_dropped(
    journal: JournalDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """The largest payload is kept and read; a larger one is counted and said, wherever it would fit."""
    writer = JournalWriter(journal)
    assert writer.append(large(MAX_PAYLOAD - 1000))
    assert not writer.append(large(MAX_PAYLOAD + 1))
    assert writer.append(sample(1))
    assert "too large" in caplog.text
    assert writer.scoreboard.dropped_samples == 1
    found, reader = read_all(journal)
    assert [type(record) for record in found] == [ConfigRecord, MetricsRecord]
    assert lost(reader) == 0
    writer.close()


def test_large_record_at_the_cap_is_dropped_and_small_ones_go_on(
    journal: JournalDirectory,
) -> None:
    """A record that finds no room of its size does not keep out what fits into the prepared one."""
    writer = JournalWriter(journal, cap=4 * MIB)
    kept = 0
    while len(journal.segment_numbers()) < 2:
        kept += writer.append(sample(kept, 200))
    segment_ready_after(journal, 2, cap=4 * MIB)
    assert not writer.append(large(int(1.3 * MIB)))
    for _ in range(200):
        assert writer.append(sample(kept, 200))
        kept += 1
    found, reader = read_all(journal)
    assert steps(found) == list(range(kept))
    assert lost(reader) == 0
    writer.close()


def test_cap_drops_counts_and_warns_once(journal: JournalDirectory, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the cap samples are dropped and counted with all their points, and said once."""
    writer = JournalWriter(journal, cap=MIB)
    record = MetricsRecord(0, 1, 1, 3.0, None, {f"m{n}": 1.0 for n in range(99)})
    kept = dropped = 0
    for _ in range(2000):
        if writer.append(record):
            kept += 1
        else:
            dropped += 1
    assert kept > 400
    assert dropped > 400
    assert read_dropped(journal.scoreboard) == 100 * dropped
    assert journal.segment_bytes() <= MIB
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "the cap of 1048576 bytes is reached" in caplog.text
    assert len(read_all(journal)[0]) == kept
    writer.close()


def test_journal_at_its_cap_goes_on_when_segments_are_deleted(
    journal: JournalDirectory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, for any cap: what is delivered is deleted, and makes room for as much."""
    monkeypatch.setattr(writer_module, "RETRY_AFTER", 0.0)
    writer = JournalWriter(journal, cap=MIB)
    for _ in range(5):
        while writer.append(sample(0, 50)):
            pass
        _, reader = read_all(journal, dead=False)
        for number in journal.segment_numbers():
            if number < reader.position.segment:
                journal.segment(number).unlink()
        assert writer.append(sample(1, 50))
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 10
    assert "has room again. 50 points were dropped" in caplog.text
    writer.close()


def test_lifecycle_records_find_room_when_samples_do_not(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run is told even when the journal is full."""
    writer = JournalWriter(journal, cap=MIB)
    while writer.append(sample(0, 50)):
        pass
    for _ in range(20):
        assert writer.append(LifecycleRecord(0, 1, "crashed", traceback="x" * 1000))
    assert not writer.append(sample(0, 50))
    found, reader = read_all(journal)
    assert sum(isinstance(record, LifecycleRecord) for record in found) == 20
    assert lost(reader) == 0
    writer.close()


def test_full_journal_is_looked_at_twice_a_second_only(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training loop at the cap does not list the directory at every step."""
    writer = JournalWriter(journal, cap=MIB)
    while writer.append(sample(0, 50)):
        pass
    looks = []

    def look() -> int:
        looks.append(1)
        return MIB

    monkeypatch.setattr(journal, "segment_bytes", look)
    for _ in range(100):
        assert not writer.append(sample(0, 50))
    assert len(looks) <= 1
    writer.close()


def test_failing_to_prepare_is_not_yet_a_loss(
    journal: JournalDirectory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the middle of a segment nothing is lost: nothing is said, and the rest is used."""
    with small_segments(8192):
        writer = JournalWriter(journal)
        real = writer._supply.open
        monkeypatch.setattr(writer._supply, "open", refuse)
        for step in range(30):
            assert writer.append(sample(step, 10))
        assert writer.segment.limit == writer.segment.usable
        assert caplog.records == []
        monkeypatch.setattr(writer._supply, "open", real)
        for step in range(30, 100):
            assert writer.append(sample(step, 10))
        assert caplog.records == []
        assert steps(read_all(journal)[0]) == list(range(100))
        writer.close()


def refuse(*_: object) -> None:
    """Stand in for a disk without room."""
    raise OSError(28, "No space left on device")


def test_closed_writer_refuses_without_counting(journal: JournalDirectory) -> None:
    """After ``close`` nothing is kept; closing again does nothing."""
    writer = JournalWriter(journal)
    assert writer.append(sample(0))
    writer.close()
    writer.close()
    assert not writer.append(sample(1))
    assert not writer.append(LifecycleRecord(0, 1, "finished"))
    assert writer.scoreboard.dropped_samples == 0
    assert steps(read_all(journal)[0]) == [0]


def test_forked_child_writes_nothing(journal: JournalDirectory) -> None:
    """An abandoned copy is inert; the parent's goes on."""
    writer = JournalWriter(journal)
    writer.append(sample(0))
    pid = os.fork()
    if pid == 0:
        writer.abandon()
        kept = writer.append(sample(66))
        writer.close()
        os._exit(int(kept))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert writer.append(sample(1))
    assert steps(read_all(journal)[0]) == [0, 1]
    writer.close()


def test_second_writer_is_refused(journal: JournalDirectory) -> None:
    """Records of another writer are not written over."""
    writer = JournalWriter(journal)
    writer.append(sample(0))
    with pytest.raises(JournalError, match="another writer"):
        JournalWriter(journal)
    assert steps(read_all(journal)[0]) == [0]
    writer.close()


def test_logging_handler_that_logs_metrics_does_not_deadlock(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler holds its own lock and appends, while an append has something to say: no lock order."""
    monkeypatch.setattr(writer_module, "RETRY_AFTER", 0.0)
    writer = JournalWriter(journal, cap=MIB)
    inside, go_on = threading.Event(), threading.Event()

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            inside.set()
            go_on.wait(10)
            writer.append(sample(1))

    handler = Counting()
    log = logging.getLogger("trackside")
    log.addHandler(handler)
    try:
        other = threading.Thread(target=log.warning, args=["anything"])
        other.start()
        inside.wait(10)
        filling = threading.Thread(target=lambda: [writer.append(sample(0, 50)) for _ in range(3000)])
        filling.start()
        filling.join(0.5)  # by now it waits for the handler's lock, to say that the journal is full
        go_on.set()
        other.join(10)
        filling.join(10)
        assert not other.is_alive()
        assert not filling.is_alive()
    finally:
        log.removeHandler(handler)
    writer.close()


def test_segment_made_ready_by_the_shipper_is_used(journal: JournalDirectory) -> None:
    """The writer takes the file that is there, and makes none of its own."""
    with small_segments():
        writer = JournalWriter(journal)
        made = []
        for step in range(300):
            segment_ready_after(journal, writer.segment.number)
            made.append(journal.segment_numbers()[-1])
            assert writer.append(sample(step))
        assert steps(read_all(journal, dead=False)[0]) == list(range(300))
        writer.close()


def test_prepared_segment_is_let_go_when_the_journal_closes(journal: JournalDirectory) -> None:
    """No segment stays mapped behind a closed writer."""
    with small_segments():
        writer = JournalWriter(journal)
        while writer._ready is None:
            writer.append(sample(0))
        ready = writer._ready
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            ready.buffer[0:1] = b"x"
