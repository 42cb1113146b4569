"""What waits for one destination: durable, taken once, and linear however many wait."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal import artifact_queue
from trackside.journal import format as frames
from trackside.journal.artifact_queue import ArtifactQueue, queue_path, read_queue
from trackside.journal.files import write_atomically
from trackside.journal.format import ArtifactRecord, HeldFile
from trackside.system.files import write_all

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def record(seq: int, policy: str = "now", size: int = 10) -> ArtifactRecord:
    """A record of a held file."""
    held = HeldFile(f"{seq:016x}", "copy", "", size)
    return ArtifactRecord(seq, 0, "text", f"{seq}.txt", held=held, form="file", policy=policy)


def test_what_waits_survives_the_process(tmp_path: Path) -> None:
    """Another process reads what waits, what was settled, and how many of each."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1), record(3), record(4, policy="end"), record(7)])
    queue.settle(1, "delivered")
    queue.settle(3, "rejected")
    found = ArtifactQueue(tmp_path, "mlflow").contents
    assert [*found.waiting] == [4, 7]
    assert [*found.settled] == [1]
    assert found.kept == {3: record(3).held.name}  # type: ignore[union-attr]
    counts = found.counts()
    assert (counts.delivered, counts.rejected, counts.waiting, counts.bytes_waiting) == (1, 1, 2, 20)
    assert counts.first_waiting == 7  # that of the run's end has its own time
    assert [counts.has(6), counts.has(7)] == [True, False]


def test_a_record_is_taken_once(tmp_path: Path) -> None:
    """A cursor that goes back brings records again. They are known, delivered or not."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1), record(2)])
    queue.settle(1, "delivered")
    again = ArtifactQueue(tmp_path, "mlflow")
    assert again.add([record(1), record(2), record(3)]) == [record(3)]
    assert [*again.contents.waiting] == [2, 3]


def test_everything_is_taken_again_where_the_journal_is_another_one(tmp_path: Path) -> None:
    """What waits already is not taken twice."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1), record(2)])
    queue.settle(1, "delivered")
    queue.take_again()
    again = ArtifactQueue(tmp_path, "mlflow")
    assert again.add([record(1), record(2)]) == [record(1)]
    assert sorted(again.contents.waiting) == [1, 2]


def test_a_write_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    """After a death in the midst of a write, what came before is there, and what comes after is, too."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1)])
    whole = len(queue_path(tmp_path, "mlflow").read_bytes().rstrip(b"\0"))
    queue.add([record(2)])
    queue.close()
    path = queue_path(tmp_path, "mlflow")
    data = bytearray(path.read_bytes())
    data[whole + 20 :] = b"\xff" * (len(data) - whole - 20)
    path.write_bytes(data)
    torn = ArtifactQueue(tmp_path, "mlflow")
    assert [*torn.contents.waiting] == [1]
    torn.add([record(2), record(3)])
    assert [*read_queue(tmp_path, "mlflow").waiting] == [1, 2, 3]


def test_a_held_file_is_known_until_it_was_let_go(tmp_path: Path) -> None:
    """A shipper that dies between delivery and release leaves it to the next one."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1), record(2)])
    queue.settle(1, "delivered")
    assert [queue.contents.needs(seq) for seq in (1, 2, 3)] == [False, True, True]
    assert [*ArtifactQueue(tmp_path, "mlflow").contents.settled] == [1]
    queue.forget([1])
    assert not ArtifactQueue(tmp_path, "mlflow").contents.settled


def test_a_full_disk_takes_records_into_the_room_that_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room can be had, so what was reserved is used. Then records wait in memory, and it says so."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(1)])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    queue.add([record(2)])
    monkeypatch.setattr(artifact_queue, "write_all", full)
    assert not queue.is_behind
    assert queue.add([record(3), record(4)]) == [record(3), record(4)]
    queue.settle(1, "delivered")  # said later
    queue.catch_up()
    assert queue.is_behind
    assert [*queue.contents.waiting] == [2, 3, 4]
    assert [*read_queue(tmp_path, "mlflow").waiting] == [1, 2]
    monkeypatch.undo()
    queue.catch_up()
    assert not queue.is_behind
    assert [*read_queue(tmp_path, "mlflow").waiting] == [2, 3, 4]
    queue.settle(2, "delivered")
    assert read_queue(tmp_path, "mlflow").counts().delivered == 2


def test_the_file_stays_small_and_each_record_costs_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand records go through. The bytes that are written grow with their number, not its square."""
    written = 0

    def counting(descriptor: int, data: bytes, offset: int) -> None:
        nonlocal written
        written += len(data)
        write_all(descriptor, data, offset)

    monkeypatch.setattr(artifact_queue, "write_all", counting)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
    queue = ArtifactQueue(tmp_path, "mlflow")
    for start in range(1, 10_001, 100):
        queue.add([record(seq) for seq in range(start, start + 100)])
        for seq in range(start, start + 100):
            queue.settle(seq, "delivered")
        queue.forget(range(start, start + 100))
    assert written < 10_000 * 400
    assert queue_path(tmp_path, "mlflow").stat().st_size < 2 << 20
    counts = ArtifactQueue(tmp_path, "mlflow").contents.counts()
    assert (counts.delivered, counts.waiting) == (10_000, 0)


def test_what_waits_is_the_same_once_the_file_was_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new file says all that the old one did."""
    monkeypatch.setattr(artifact_queue, "SMALL", 0)
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(seq) for seq in range(1, 9)])
    for seq, outcome in ((1, "delivered"), (2, "rejected"), (3, "replaced"), (4, "delivered")):
        queue.settle(seq, outcome)  # type: ignore[arg-type]
    queue.forget([4])
    found = ArtifactQueue(tmp_path, "mlflow").contents
    assert (found.taken, [*found.waiting], [*found.settled], [*found.kept]) == (8, [5, 6, 7, 8], [1, 3], [2])
    assert found.counts() == queue.contents.counts()


def test_a_file_of_any_size_is_read(tmp_path: Path) -> None:
    """A million pictures may wait while a server is away. The next shipper reads them all."""
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([msgspec.structs.replace(record(1), details={"text": "x" * (8 << 20)})])
    queue.close()
    path = queue_path(tmp_path, "mlflow")
    large = path.read_bytes()[: -artifact_queue.ROOM]
    with path.open("wb") as file:
        for _ in range(33):  # 264 MiB
            file.write(large)
    ArtifactQueue(tmp_path, "mlflow").add([record(2)])
    assert [*ArtifactQueue(tmp_path, "mlflow").contents.waiting] == [1, 2]
    assert path.stat().st_size > 264 << 20


def test_no_frame_of_a_new_file_is_too_large_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many were rejected, and many are settled whose files are still there: all of them are known."""
    monkeypatch.setattr(artifact_queue, "_NAMES", 10)
    queue = ArtifactQueue(tmp_path, "mlflow")
    queue.add([record(seq) for seq in range(1, 102)])
    for seq in range(1, 101):
        queue.settle(seq, "rejected" if seq <= 50 else "delivered")
    before = queue.contents
    queue.take_again()
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 400)
    found = ArtifactQueue(tmp_path, "mlflow").contents
    assert [*found.waiting] == [101]
    assert (found.kept, found.settled, found.counts()) == (before.kept, before.settled, before.counts())


def test_what_stays_does_not_have_the_file_begun_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose server refuses everything keeps a name for each. That is no reason to write them again."""
    monkeypatch.setattr(artifact_queue, "SMALL", 0)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
    replaced = 0

    def counting(path: Path, data: bytes, **_: Any) -> None:
        nonlocal replaced
        replaced += 1
        write_atomically(path, data, durable=False)

    monkeypatch.setattr(artifact_queue, "write_atomically", counting)
    queue = ArtifactQueue(tmp_path, "mlflow")
    for seq in range(1, 2001):
        queue.add([record(seq)])
        queue.settle(seq, "rejected")
    assert 0 < replaced < 50
    assert len(ArtifactQueue(tmp_path, "mlflow").contents.kept) == 2000
