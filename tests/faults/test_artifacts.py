"""Artifacts on their way to one destination: what fails, changes, waits, and is let go."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.faults.fake import FakeDestination, Gate, Rig, rejected, until
from trackside.errors import RejectedError, RetryableError
from trackside.events import now_ms
from trackside.journal import artifact_queue
from trackside.journal.cursor import load_cursor
from trackside.journal.format import ArtifactRecord, HeldFile
from trackside.journal.held_files import HeldFiles
from trackside.journal.releasing import entries
from trackside.shipper import artifact_sending, held_release
from trackside.shipper.held_release import HeldRelease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Takes(FakeDestination):
    """Keeps the contents of artifacts by their place. ``on_artifact`` decides about each."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []
        self.threads: set[str] = set()
        self.synced = 0
        self.on_artifact: Callable[[ArtifactRecord], None] = lambda _record: None
        self.given_up: list[str] = []
        self.on_given_up: Callable[[ArtifactRecord], None] = lambda _record: None

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        self.threads.add(threading.current_thread().name)
        data = content.read_bytes() if content is not None else b""
        self.on_artifact(record)
        self.files[record.place] = data
        self.order.append(record.place)

    def give_up_artifact(self, record: ArtifactRecord) -> None:
        self.given_up.append(record.place)
        self.on_given_up(record)

    def sync(self) -> None:
        self.synced += 1


class Beside(Takes):
    """The same, on a thread of its own."""

    writes_artifacts_beside: ClassVar[bool] = True


class ArtifactRig(Rig):
    """A rig that logs artifacts."""

    destination: Takes

    def make_destination(self, destination: FakeDestination | None) -> None:
        super().make_destination(destination or Beside())
        self.held = HeldFiles(self.journal)

    def log(self, place: str, content: bytes = b"x", **fields: Any) -> None:
        """Log ``content`` as a file."""
        self.keep(place, self.held.keep_bytes(content), **fields)

    def keep(self, place: str, held: HeldFile, **fields: Any) -> None:
        """Log what is held."""
        self.writer.append(ArtifactRecord(0, now_ms(), "file", place, held=held, form="file", **fields))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ArtifactRig]:
    """A rig, let go of at the end."""
    made = ArtifactRig(tmp_path / "journals")
    yield made
    made.close()


def fail(rig: ArtifactRig, error: Exception, *, times: int = 1 << 30, place: str = "") -> None:
    """Have the next ``times`` artifacts fail, or those of ``place``."""
    left = iter(range(times))

    def on_artifact(record: ArtifactRecord) -> None:
        if place in {"", record.place} and next(left, None) is not None:
            raise error

    rig.destination.on_artifact = on_artifact


def test_artifacts_arrive_on_a_thread_of_their_own_and_hold_up_no_metric(rig: ArtifactRig) -> None:
    """One that takes long delays neither points nor the final status, and is delivered in the end."""
    gate = Gate()
    rig.destination.on_artifact = lambda _record: gate()
    rig.log("slow.bin")
    rig.emit(5)
    rig.worker.start()
    assert gate.reached.wait(20)
    rig.emit(5, start=5)
    until(lambda: len(rig.destination.points) == 10)
    counts = rig.worker.artifacts.counts()
    assert (counts.waiting, counts.bytes_waiting, counts.delivered) == (1, 1, 0)
    gate.opened.set()
    rig.finish()
    assert rig.destination.files == {"slow.bin": b"x"}
    assert rig.destination.threads == {"trackside-files-fake"}


def test_where_a_destination_wants_no_thread_they_come_before_the_end(rig: ArtifactRig) -> None:
    """From the worker's thread, in the journal's order, those for the run's end among them."""
    rig.make_destination(Takes())
    rig.worker = rig.new_worker()
    at_end: list[list[str]] = []
    rig.destination.refuse = lambda call, _: (
        at_end.append([*rig.destination.order]) if call == "end" else None
    )
    for place, policy in (("late", "end"), ("a", "now"), ("b", "now")):
        rig.log(place, policy=policy)
    rig.deliver()
    assert rig.destination.order == ["a", "b", "late"]
    assert at_end[-1] == ["a", "b", "late"]
    assert rig.destination.threads == {"trackside-fake"}


def test_one_that_fails_is_tried_for_ever_and_holds_up_none_behind_it(rig: ArtifactRig) -> None:
    """The others arrive. It does once it can."""
    fail(rig, RetryableError("503"), place="bad")
    rig.log("bad")
    for number in range(20):
        rig.log(f"good-{number}")
    rig.worker.start()
    until(lambda: len(rig.destination.files) == 20)
    until(lambda: rig.worker.artifacts.failing == "503")
    rig.destination.on_artifact = lambda _record: None
    rig.finish()
    assert len(rig.destination.files) == 21
    assert rig.worker.artifacts.failing is None


def test_what_is_refused_is_counted_told_and_kept(rig: ArtifactRig) -> None:
    """Its file stays, and the dead-letter file says where, and why. The rest goes on."""
    told: list[str] = []
    rig.worker = rig.new_worker(notice=told.append)
    fail(rig, RejectedError("413: too large"), place="bad")
    rig.log("bad", b"precious")
    rig.log("good")
    rig.deliver()
    assert rig.destination.files == {"good": b"x"}
    (entry,) = rejected(rig)
    assert (entry["artifact"], entry["kind"], entry["error"]) == ("bad", "file", "413: too large")
    assert Path(entry["file"]).read_bytes() == b"precious"
    assert "file bad is not delivered to fake: 413: too large" in told[0]
    counts = load_cursor(rig.journal.cursor("fake")).files
    assert (counts.delivered, counts.rejected, counts.waiting) == (1, 1, 0)
    HeldRelease(rig.journal, [rig.worker]).let_go()
    assert Path(entry["file"]).exists()


def test_an_unforeseen_error_is_told_and_tried_a_few_times(rig: ArtifactRig) -> None:
    """A fault of ours with one file must not be tried for ever."""
    fail(rig, ZeroDivisionError("oops"), place="bad")
    rig.log("bad")
    rig.log("good")
    rig.deliver()
    assert rig.destination.files == {"good": b"x"}
    assert [entry["error"] for entry in rejected(rig)] == ["ZeroDivisionError: oops"]


def test_a_file_that_is_gone_is_named(rig: ArtifactRig, tmp_path: Path) -> None:
    """Nothing else is held up, and the loss is not silent."""
    rig.log("gone")
    (name,) = entries(rig.journal.path)
    (rig.journal.path / "files" / name).unlink()
    rig.log("good")
    rig.deliver()
    assert rig.destination.files == {"good": b"x"}
    assert "not in the journal any more" in rejected(rig)[0]["error"]


def test_a_file_that_vanishes_in_its_upload_is_given_up(rig: ArtifactRig) -> None:
    """The destination fails to read it, and closes what it has begun, once it answers. Then it is told."""
    away = iter(range(3))

    def vanish(record: ArtifactRecord) -> None:
        if record.place == "gone":
            path = rig.journal.path / "files" / record.held.name  # type: ignore[union-attr]
            path.unlink(missing_ok=True)
            try:
                path.open("rb")
            except OSError as error:
                raise RetryableError(f"the file can't be read: {error}") from error

    def be_away(_record: ArtifactRecord) -> None:
        assert not rig.journal.rejected.exists()
        if next(away, None) is not None:
            raise RetryableError("down")

    rig.destination.on_artifact, rig.destination.on_given_up = vanish, be_away
    rig.log("gone")
    rig.log("good")
    rig.deliver()
    assert rig.destination.files == {"good": b"x"}
    assert rig.destination.given_up == ["gone"] * 4
    assert [entry["artifact"] for entry in rejected(rig)] == ["gone"]


def test_what_a_newer_one_replaces_after_a_try_is_given_up(rig: ArtifactRig) -> None:
    """The destination may have begun it. Of one that was never tried it hears nothing."""
    fail(rig, RetryableError("down"))
    rig.log("last.pt", b"0", policy="latest")
    rig.worker.start()
    until(lambda: rig.worker.artifacts.error is not None)
    rig.log("last.pt", b"1", policy="latest")
    until(lambda: rig.worker.artifacts.counts().replaced == 1)
    rig.destination.on_artifact = lambda _record: None
    rig.worker.retry_now()
    rig.finish()
    assert rig.destination.files == {"last.pt": b"1"}
    assert rig.destination.given_up == ["last.pt"]


def test_a_restarted_shipper_goes_on_where_the_last_one_was_killed(rig: ArtifactRig) -> None:
    """What was taken and not delivered is delivered, and nothing else again, though the cursor is past it."""
    fail(rig, RetryableError("down"), place="b")
    for place in ("a", "b"):
        rig.log(place)
    rig.worker.start()
    until(lambda: rig.worker.artifacts.counts().delivered == 1 and rig.worker.artifacts.error is not None)
    rig.worker.calls.stop()
    rig.join()
    rig.make_destination(None)
    rig.worker = rig.new_worker()
    rig.deliver()
    assert rig.destination.order == ["b"]


def test_latest_cancels_what_waits_and_end_waits_for_the_end(rig: ArtifactRig) -> None:
    """The account says how many were replaced."""
    fail(rig, RetryableError("down"))
    for number in range(5):
        rig.log("last.pt", b"%d" % number, policy="latest")
        rig.log("log.txt", b"%d" % number, policy="end")
    rig.worker.start()
    until(lambda: rig.worker.artifacts.counts().replaced == 8)
    rig.destination.on_artifact = lambda _record: None
    rig.worker.retry_now()
    until(lambda: "last.pt" in rig.destination.files)
    assert rig.destination.order == ["last.pt"]
    assert rig.worker.artifacts.counts().first_waiting == 0  # a flush need not wait for the other one
    rig.finish()
    assert rig.destination.files == {"last.pt": b"4", "log.txt": b"4"}


def test_a_file_that_was_written_to_meanwhile_is_uploaded_again(
    rig: ArtifactRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is the file as it was for the whole of the last upload, and the user is told once."""
    monkeypatch.setattr(artifact_sending, "LOOK_EVERY", 0.02)
    monkeypatch.setattr("trackside.shipper.securing.secure", lambda *_: False)
    told: list[str] = []
    rig.worker = rig.new_worker(notice=told.append)
    source = tmp_path / "ckpt.pt"
    source.write_bytes(b"a" * 100_000)
    writes = iter((b"b", b"c"))

    def on_artifact(_record: ArtifactRecord) -> None:
        new = next(writes, None)
        if new is not None:
            with source.open("r+b") as file:
                file.write(new * 100_001)

    rig.destination.on_artifact = on_artifact
    rig.keep("ckpt.pt", rig.held.hold_file(source))
    rig.deliver()
    assert rig.destination.files["ckpt.pt"] == b"c" * 100_001
    assert rig.destination.order == ["ckpt.pt"] * 3
    assert sum("while it was uploaded" in text for text in told) == 1


def test_a_file_that_is_open_for_writing_is_waited_for(
    rig: ArtifactRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asynchronous checkpointing leaves it."""
    monkeypatch.setattr(artifact_sending, "LOOK_EVERY", 0.02)
    source = tmp_path / "ckpt.pt"
    with source.open("wb") as file:
        file.write(b"a" * 100_000)
        file.flush()
        rig.keep("ckpt.pt", rig.held.hold_file(source))
        rig.worker.start()
        until(lambda: bool(rig.worker.artifacts._sender._settling))
        assert not rig.destination.files
        file.write(b"b" * 100_000)
    rig.finish()
    assert rig.destination.files["ckpt.pt"] == b"a" * 100_000 + b"b" * 100_000


def test_held_files_go_once_every_destination_is_done_with_them(
    rig: ArtifactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before what was delivered would survive a power cut. The next shipper lets go of what is left."""
    monkeypatch.setattr(held_release, "LOOK_EVERY", 0.0)
    other = Takes()
    other.name = "other"
    gate = Gate()
    other.on_artifact = lambda _record: gate()
    rig.log("a")
    rig.log("b")
    rig.worker.start()
    mine, rig.destination = rig.destination, other
    second = rig.new_worker()
    second.start()
    release = HeldRelease(rig.journal, [rig.worker, second])
    until(lambda: len(rig.worker.artifacts.waiting.given_up()) == 2)
    assert mine.synced
    release.let_go()
    assert len(entries(rig.journal.path)) == 2
    gate.opened.set()
    until(lambda: len(second.artifacts.waiting.given_up()) == 2)
    third = rig.new_worker()  # as after a death in this moment
    third.artifacts.waiting.give_up(other.sync)
    HeldRelease(rig.journal, [rig.worker, third]).let_go()
    assert entries(rig.journal.path) == []
    assert not third.artifacts.waiting.given_up()
    second.calls.stop()
    second.join(20)


class PutsOff(Beside):
    """Takes artifacts, and writes them later."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []
        self.put_off = False

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        super().write_artifact(record, content)
        self.put_off = True

    def write_postponed(self, *, everything: bool) -> float | None:
        self.asked.append(everything)
        if not self.put_off:
            return None
        if not everything:
            return 300.0
        self.put_off = False
        return None


def test_what_a_destination_puts_off_counts_as_waiting_until_it_is_asked_for(rig: ArtifactRig) -> None:
    """By a flush, and at the end."""
    rig.make_destination(PutsOff())
    rig.worker = rig.new_worker()
    rig.log("table.json")
    rig.worker.start()
    until(lambda: rig.worker.artifacts.counts().delivered == 1)
    until(lambda: load_cursor(rig.journal.cursor("fake")).files.delivered == 1)
    assert not load_cursor(rig.journal.cursor("fake")).files.has(1)
    rig.worker.wake()
    until(lambda: load_cursor(rig.journal.cursor("fake")).files.has(1))
    rig.log("table.json")
    rig.finish()
    destination = rig.destination
    assert isinstance(destination, PutsOff)
    assert not destination.put_off


def test_a_thousand_small_files_are_linear_and_quick(rig: ArtifactRig) -> None:
    """Each costs the same. The queue does not keep what is delivered."""
    for number in range(1000):
        rig.log(f"{number}.txt")
    rig.worker.start()
    until(lambda: len(rig.destination.files) == 1000, timeout=60)
    rig.finish()
    assert rig.destination.order == [f"{number}.txt" for number in range(1000)]


def test_a_full_disk_holds_up_no_metric_and_a_killed_shipper_loses_no_file(
    rig: ArtifactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next shipper finds in the journal what only the memory of the dead one knew."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fail(rig, RetryableError("503"))
    rig.emit(5)
    rig.log("kept")
    rig.worker.start()
    until(lambda: rig.worker.cursor.position.seq == 6)
    monkeypatch.setattr(artifact_queue, "write_all", full)
    rig.emit(5, start=5)
    rig.log("in memory")
    rig.emit(5, start=10)
    until(lambda: load_cursor(rig.journal.cursor("fake")).position.seq == 17)
    assert len(rig.destination.points) == 15
    cursor = load_cursor(rig.journal.cursor("fake"))
    assert (cursor.files.waiting, cursor.first_needed) == (2, 1)
    assert cursor.unkept is not None
    rig.worker.calls.stop()
    rig.join()
    monkeypatch.undo()
    rig.make_destination(None)
    rig.worker = rig.new_worker()
    rig.deliver()
    assert rig.destination.order == ["kept", "in memory"]
    assert not rig.destination.points  # they are not sent again
    assert load_cursor(rig.journal.cursor("fake")).unkept is None
