"""The shipper's main thread, with a destination in memory: what it tends, and how it leaves."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.faults.fake import FakeDestination, Gate, refuse_all, refuse_poison, until
from tests.journal.samples import SegmentMaker
from tests.journal.tools import small_segments
from tests.support.bench import Bench
from trackside.errors import DestinationFailedError, RetryableError
from trackside.events import LifecycleEvent
from trackside.journal import sealing
from trackside.journal.cursor import load_cursor
from trackside.journal.files import write_atomically
from trackside.journal.format import MetricsRecord
from trackside.journal.layouts import UNSEALED
from trackside.journal.lock import JournalLock
from trackside.journal.outbox import Outbox
from trackside.journal.reader import Position
from trackside.lifecycle.crash_notes import notes_directory
from trackside.lifecycle.evidence import ExitStatus
from trackside.shipper import sending, trouble
from trackside.shipper import service as loop
from trackside.shipper.inventory import journals_in
from trackside.shipper.protocol import (
    EXIT_DONE,
    EXIT_LOCKED,
    EXIT_REFUSED,
    EXIT_UNFINISHED,
    LEFT,
    LINGER,
    NUDGE,
    SEEN,
)
from trackside.shipper.segment_keeper import SegmentKeeper
from trackside.shipper.service import Shipper
from trackside.shipper.worker import DeliveryWorker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

pytestmark = pytest.mark.usefixtures("handlers_put_back")


def made(root: Path, *, alive: bool) -> Iterator[Bench]:
    """A bench, cleared away at the end."""
    bench = Bench(root, [FakeDestination()], alive=alive, terminate_signals=(15,), job="job")
    yield bench
    bench.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The training process lives: it is this one."""
    yield from made(tmp_path, alive=True)


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[Bench]:
    """The training process is dead. The number it had belongs to another one."""
    yield from made(tmp_path, alive=False)


# Signals


def test_a_signal_counts_before_the_main_thread_has_looked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the pipe before the end was in the journal. Whoever judges that end has to know it."""
    monkeypatch.setattr(Shipper, "_wait", lambda _self: time.sleep(0.01))  # too busy to look
    bench.emit(5)
    bench.pipe.send(15)
    bench.tell("finished", status="FAILED")
    bench.pipe.send(SEEN)
    assert bench.shipper().run() == EXIT_DONE
    assert {(end.status, end.reason) for end, _ in bench.destination.ends} == {("KILLED", "SIGTERM")}


# To the end


@pytest.mark.wheel
def test_a_finished_run_is_delivered_and_the_journal_goes(bench: Bench) -> None:
    """Everything arrives before the status does. Then there is nothing left on disk."""
    bench.emit(250)
    bench.tell("finished", status="FINISHED")
    bench.pipe.send(SEEN)
    assert bench.shipper().run() == EXIT_DONE
    ((end, points_before),) = bench.destination.ends
    assert (end.status, end.final, points_before) == ("FINISHED", True, 250)
    assert not bench.journal.path.exists()
    assert bench.journal.path.parent.exists(), "a folder that the user chose stays"


def test_a_trainer_that_went_on_finds_what_became_of_its_run(bench: Bench) -> None:
    """To others, the journal is gone. Its last state and its cursors stay until they are read."""
    bench.emit(250)
    bench.tell("finished", status="FAILED")
    bench.pipe.send(LEFT)
    assert bench.shipper().run() == EXIT_DONE
    journal = bench.journal
    assert not journal.meta.exists()
    assert journals_in(journal.path.parent) == []
    assert bench.state().phase == "done"
    assert load_cursor(journal.cursor("fake")).shipped == 250
    assert {path.name for path in journal.path.iterdir()} == {
        "delivered.json",
        "state.json",
        "cursor-fake.json",
    }
    assert journal.clear_delivered()
    assert not journal.path.exists()


def test_a_trainer_that_has_closed_all_ways_to_its_shipper(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alive, and may still want to know."""
    monkeypatch.setattr(loop, "SEEN_TIMEOUT", 0.1)
    bench.emit(5)
    bench.tell("finished", status="FINISHED")
    reading = os.dup(bench.pipe.read_end)
    bench.pipe.close()
    shipper = Shipper(bench.journal, bench.meta, bench.fakes, progress=bench.progress, pipe=reading)
    assert shipper.run() == EXIT_DONE
    assert bench.journal.delivered.exists()
    os.close(reading)


def test_what_is_read_while_the_journal_goes_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer looks just before the proof is there, and does not look again."""
    bench.emit(5)
    bench.tell("finished", status="FINISHED")
    bench.pipe.send(LEFT)
    mark = bench.journal.mark_delivered

    def mark_late() -> None:
        bench.pipe.send(SEEN)
        mark()

    monkeypatch.setattr(bench.journal, "mark_delivered", mark_late)
    assert bench.shipper().run() == EXIT_DONE
    assert not bench.journal.path.exists()


def test_a_destination_that_waits_for_its_turn_has_no_trouble(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child waits until its parent has a run id. Nothing failed, so nothing works again."""
    monkeypatch.setattr(trouble, "TELL_AFTER", 0.0)
    monkeypatch.setattr(sending, "DEADLINE", 60.0)
    calls: list[str] = []

    def wait_a_little(call: str, _points: object) -> None:
        calls.append(call)
        if len(calls) < 4:
            raise RetryableError("waiting until the parent has a run id", waits=True, retry_after=0.05)

    bench.destination.refuse = wait_a_little
    bench.emit(5)
    bench.tell("finished", status="FINISHED")
    bench.pipe.send(LEFT)
    assert bench.shipper().run() == EXIT_DONE
    assert len(calls) > 4
    assert bench.state().notices == []


def test_a_dead_trainers_run_has_failed(dead: Bench) -> None:
    """The end record that never came is made up for by what is seen of the process."""
    dead.emit(20)
    assert dead.shipper().run() == EXIT_DONE
    assert [end.status for end, _ in dead.destination.ends] == ["FAILED"]
    assert len(dead.destination.points) == 20


def test_a_crash_is_told_at_once_and_is_final_at_the_end(bench: Bench) -> None:
    """The status is set while the process still lives, and again when it is final."""
    shipper = bench.shipper()
    bench.tell("crashed", error_type="ValueError", message="boom")
    first_seen = Gate()

    def on_end(call: str, _points: object) -> None:
        if call == "end" and not first_seen.reached.is_set():
            first_seen.reached.set()
            bench.tell("finished", status="FINISHED")
            bench.pipe.send(NUDGE)

    bench.destination.refuse = on_end
    bench.pipe.send(SEEN)
    assert shipper.run() == EXIT_DONE
    told = [(end.status, end.final) for end, _ in bench.destination.ends]
    assert told == [("FAILED", False), ("FAILED", True)]


def test_what_nobody_took_is_left_to_be_looked_at(dead: Bench) -> None:
    """Rejected points, and artifacts that could not be uploaded. The segments go."""
    dead.writer.append(MetricsRecord(0, 1, 0, None, None, {"loss": 1.0, "poison": 2.0}))
    dead.destination.refuse = refuse_poison
    assert dead.shipper().run() == EXIT_DONE
    assert dead.journal.rejected.exists()
    assert dead.journal.segment_numbers() == []
    assert dead.state().phase == "done"


def test_an_artifact_that_waits_keeps_the_journal(dead: Bench) -> None:
    """It is in there, the state says so, and points take no more room. Once it is gone, so is the journal."""
    dead.emit(5)
    outbox = Outbox(dead.journal.path)
    outbox.put("config.yaml", "lr: 0.1")
    assert dead.shipper().run() == EXIT_UNFINISHED
    assert dead.state().phase == "artifacts"
    assert dead.journal.segment_numbers() == []
    (path,) = outbox.pending()
    assert path.name == "config.yaml"
    outbox.sent(path)
    assert dead.shipper().run() == EXIT_DONE
    assert not dead.journal.path.exists()


def test_crash_notes_of_the_job_go_with_the_run(dead: Bench) -> None:
    """They were for this run's shipper, and say why rank 0 was stopped."""
    directory = notes_directory(dead.journal.path.parent, "job")
    directory.mkdir(parents=True)
    note = LifecycleEvent("crashed", message="boom", error_type="ValueError", timestamp_ms=3)
    write_atomically(directory / "rank-1.json", msgspec.json.encode(note))
    dead.tell("terminating", signal=15)
    assert dead.shipper().run() == EXIT_DONE
    assert dead.destination.ends[-1][0].reason == "ValueError on rank 1: boom"
    assert not directory.exists()


# Leaving early


def test_refused(dead: Bench) -> None:
    """The run is gone: the journal stays, with the reason, for somebody to act."""
    dead.emit(5)
    dead.destination.refuse = refuse_all("the run was deleted", DestinationFailedError, "metrics")
    assert dead.shipper().run() == EXIT_REFUSED
    assert (dead.state().phase, dead.state().error) == ("refused", "the run was deleted")
    assert dead.journal.segment_numbers()


@pytest.mark.parametrize("told", [False, True], ids=["time is up", "told to go"])
def test_an_outage_outlasts_the_patience(dead: Bench, told: bool) -> None:
    """The trainer is dead and the server down: leave, and leave everything to ``trackside sync``."""
    dead.emit(5)
    dead.destination.refuse = refuse_all("down", RetryableError, "metrics")
    shipper = dead.shipper(linger=LINGER if told else 0.0)
    if told:
        shipper._on_signal(15, None)
    assert shipper.run() == EXIT_UNFINISHED
    assert dead.state().phase == "stopped"
    assert dead.journal.segment_numbers()
    assert dead.destination.closed == 1


def test_a_worker_that_hangs_is_left_behind(dead: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is up like that of one that fails, and the state says what it hung in."""
    monkeypatch.setattr(sending, "DEADLINE", 0.1)
    monkeypatch.setattr(loop, "SEEN_TIMEOUT", 0.1)
    gate = Gate()
    dead.destination.refuse = lambda call, _points: gate() if call == "metrics" else None
    dead.emit(5)
    shipper = dead.shipper(linger=0.0)
    assert shipper.run() == EXIT_UNFINISHED
    assert shipper.hangs
    assert (dead.state().phase, dead.state().workers["fake"].error) == (
        "stopped",
        "no answer for more than 0 s (in write_metrics)",
    )
    assert dead.journal.segment_numbers()
    gate.opened.set()
    shipper.workers[0].join(20)


def test_what_hangs_or_breaks_for_long_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the training's log, with what it is, and what goes on."""
    monkeypatch.setattr(trouble, "TELL_AFTER", 0.3)
    monkeypatch.setattr(sending, "DEADLINE", 0.1)
    monkeypatch.setattr(SegmentKeeper, "tend", _broken)
    gate = Gate()
    bench.destination.refuse = lambda call, _points: gate() if call == "metrics" else None
    bench.emit(5)
    bench.tell("finished", status="FINISHED")
    shipper = bench.shipper()
    troubles = ("has taken nothing for", "has met an unexpected error")

    def open_when_told() -> None:
        until(lambda: all(any(text in notice for notice in bench.state().notices) for text in troubles))
        gate.opened.set()

    threading.Thread(target=open_when_told, daemon=True).start()
    bench.pipe.send(SEEN)
    monkeypatch.setattr(bench.journal, "remove", lambda: None)
    assert shipper.run() == EXIT_DONE
    told = re.sub(r"\b\d+ s\b", "0 s", "\n".join(bench.state().notices))  # a busy machine takes longer
    assert "destination fake has taken nothing for 0 s" in told
    assert "no answer for more than 0 s (in write_metrics)" in told
    assert "the shipper (broken) has met an unexpected error again and again for 0 s" in told
    assert "(LookupError: no journal today). It keeps trying" in told
    assert "destination fake works again" in told


def _broken(_segments: SegmentKeeper) -> None:
    raise LookupError("no journal today")


def test_a_step_that_fails_for_a_while_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread at first, no descriptor to look at the trainer, leaving fails once: all is delivered."""
    worker_start, starts = DeliveryWorker.start, iter([RuntimeError("can't start new thread")] * 2)
    looks = iter([OSError(24, "Too many open files")] * 2)
    leaves = iter([OSError(24, "Too many open files")])
    look, leave = Shipper._look_at_trainer, Shipper._leave

    def failing(errors: Iterator[Exception], function: Any) -> Any:
        def step(*arguments: Any) -> Any:
            error = next(errors, None)
            if error is not None:
                raise error
            return function(*arguments)

        return step

    monkeypatch.setattr(loop, "LEAVE_PAUSE", 0.01)
    monkeypatch.setattr(DeliveryWorker, "start", failing(starts, worker_start))
    monkeypatch.setattr(Shipper, "_look_at_trainer", failing(looks, look))
    monkeypatch.setattr(Shipper, "_leave", failing(leaves, leave))
    bench.emit(50)
    bench.tell("finished", status="FINISHED")
    bench.pipe.send(SEEN)
    assert bench.shipper().run() == EXIT_DONE
    assert len(bench.destination.points) == 50
    assert [next(errors, None) for errors in (starts, looks, leaves)] == [None] * 3


def test_an_unknown_status_in_a_record_is_no_success(bench: Bench) -> None:
    """Another version's, or a damaged one: the run ends, and its page says why it is not FINISHED."""
    bench.emit(5)
    bench.tell("finished", status="SPLENDID")
    bench.pipe.send(SEEN)
    assert bench.shipper().run() == EXIT_DONE
    ((end, points),) = bench.destination.ends
    assert (end.status, points) == ("FAILED", 5)
    assert end.reason == "finished with the unknown status 'SPLENDID'"


def test_told_to_go_it_stays_while_there_is_a_trainer(bench: Bench) -> None:
    """A scheduler signals every process of the job. The trainer's end is still to be told."""
    shipper = bench.shipper(linger=0.0)
    shipper._on_signal(15, None)
    shipper.workers[0].calls.error = "down"
    assert not shipper._should_leave()
    shipper._trainer.died_ms = 1
    assert shipper._should_leave()
    shipper.workers[0].calls.error = None
    assert not shipper._should_leave(), "it is getting somewhere"
    shipper.workers[0].calls._current = "write_metrics", time.monotonic() - loop.LEAVE_PATIENCE - 1
    assert shipper._should_leave(), "it hangs"


def main(journal: JournalDirectory) -> int:
    """The exit code of a shipper of its own."""
    command = [sys.executable, "-m", "trackside.shipper", str(journal.path)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def test_a_locked_journal_is_left_alone(dead: Bench) -> None:
    """Another shipper has it: that is what the exit code says. So it does when the journal is gone."""
    lock = JournalLock(dead.journal.lock)
    assert lock.acquire()
    assert main(dead.journal) == EXIT_LOCKED
    lock.release()
    dead.journal.meta.write_text('{"schema": "of tomorrow"}')
    assert main(dead.journal) == EXIT_REFUSED
    dead.journal.meta.unlink()
    assert main(dead.journal) == EXIT_LOCKED


# Tending the journal


@pytest.fixture
def many_segments(tmp_path: Path) -> Iterator[Bench]:
    """A journal of several small segments."""
    with small_segments():
        for bench in made(tmp_path, alive=True):
            bench.emit(200)
            assert len(bench.journal.segment_numbers()) > 4
            yield bench


def tend(shipper: Shipper) -> None:
    """What the main loop does twice a second."""
    shipper._segments._next_sync = 0.0
    shipper._segments.tend()


def test_acknowledged_segments_are_deleted(many_segments: Bench) -> None:
    """Only those before every worker's cursor, which is on disk by then."""
    journal = many_segments.journal
    shipper = many_segments.shipper()
    numbers = journal.segment_numbers()
    tend(shipper)
    assert journal.segment_numbers()[: len(numbers)] == numbers, "nothing is acknowledged yet"
    (worker,) = shipper.workers
    worker._acknowledged.cursor = msgspec.structs.replace(
        worker.cursor, position=Position(3, 0, 99), shipped=99
    )
    worker.keep_from = 3
    tend(shipper)
    assert journal.segment_numbers()[0] == 3
    assert load_cursor(journal.cursor("fake")).position == Position(3, 0, 99)


def test_the_journal_gets_onto_the_disk(many_segments: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment that may still be needed, twice a second. The trainer itself syncs nothing."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    journal = many_segments.journal
    shipper = many_segments.shipper()
    shipper.workers[0].reader.position = Position(2, 0, 50)
    wanted = [journal.segment(n).stat().st_ino for n in journal.segment_numbers() if n >= 2]
    tend(shipper)
    assert synced == wanted
    shipper._segments.tend()
    assert synced == wanted, "half a second has not passed"


def put_samples(bench: Bench) -> SegmentMaker:
    """Have samples in the first segment, as a training process writes them."""
    maker = SegmentMaker(seal=False)
    for _ in range(20):
        maker.add_sample(0)
    with bench.journal.segment(1).open("r+b") as file:
        file.write(maker.data)
    return maker


def marks(bench: Bench) -> int:
    """How many samples are not sealed."""
    return bench.journal.segment(1).read_bytes().count(UNSEALED.to_bytes(4, "little"))


def test_samples_are_sealed_before_they_get_onto_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second after they were seen. When the training process is dead, all of them are, at once."""
    put_samples(bench)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(marks(bench)))
    monkeypatch.setattr(sealing, "STRONG_ORDER", False)
    monkeypatch.setattr(sealing, "SETTLED_AFTER", 0.0)
    shipper = bench.shipper()
    tend(shipper)
    tend(shipper)
    shipper.workers[0].reader.writer_dead = True
    tend(shipper)
    assert synced == [20, 1, 0]


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "read-only"), ValueError("a bug")])
def test_samples_that_cannot_be_sealed_are_synced_and_delivered(
    dead: Bench,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands in the way is said once."""
    maker = put_samples(dead)
    synced: list[int] = []

    def seal(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sealing.Sealer, "seal", seal)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    shipper = dead.shipper()
    tend(shipper)
    tend(shipper)
    assert len(synced) == 2
    assert caplog.text.count("got no checksums") == 1
    assert repr(error) in caplog.text
    monkeypatch.undo()
    assert dead.shipper().run() == EXIT_DONE
    assert len(maker.records) == 20
    assert dead.destination.points == {("loss", 0, float(seq)) for seq in range(1, 21)}


def test_leaving_early_it_syncs_what_stays(dead: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``trackside sync`` will deliver must not hang on the machine's staying up."""
    dead.emit(5)
    dead.destination.refuse = refuse_all("gone", DestinationFailedError, "open")
    shipper = dead.shipper()
    synced: list[int] = []
    monkeypatch.setattr(shipper._segments, "tend", lambda: None)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    assert shipper.run() == EXIT_REFUSED
    assert len(synced) == len(dead.journal.segment_numbers()) > 0


def test_the_next_segment_is_made_ready(bench: Bench) -> None:
    """So that the trainer need not make it. After its death none is needed."""
    shipper = bench.shipper()
    assert bench.journal.segment_numbers() == [1]
    bench.emit(1)
    shipper._trainer.died_ms = 1
    shipper._make_segment_ready()
    assert bench.journal.segment_numbers() == [1]
    shipper._trainer.died_ms = 0
    shipper._make_segment_ready()
    assert bench.journal.segment_numbers() == [1, 2]


def test_a_disk_without_room_for_it_is_asked_again_later(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ten times a second, with a line in the log each time."""
    shipper = bench.shipper()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("trackside.shipper.segment_keeper.segment_ready_after", refuse)
    for _ in range(5):
        shipper._make_segment_ready()
    assert caplog.text.count("making a segment ready: ") == 1


def test_what_was_on_a_device_at_the_death_is_lost(bench: Bench) -> None:
    """And so it is counted. While the trainer lives it may still come."""
    shipper = bench.shipper()
    bench.writer.scoreboard.note_dropped(2)
    bench.writer.scoreboard.note_on_device(5)
    assert shipper.workers[0].counts()["dropped"] == 2
    shipper._trainer.died_ms = 1
    assert shipper.workers[0].counts()["dropped"] == 7


def test_a_disk_error_stops_no_tending(bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    """It is said, and the next time may be better."""

    def fail(*_: object) -> None:
        raise OSError("read-only file system")

    shipper = bench.shipper()
    monkeypatch.setattr(shipper._segments, "sync", fail)
    tend(shipper)
    assert "tending the journal: read-only file system" in caplog.text


# The pipe


def test_signals_and_nudges_from_the_pipe(bench: Bench) -> None:
    """A signal is kept for the verdict, survives a restart, and wakes the workers, as a nudge does."""
    shipper = bench.shipper()
    shipper._listen()
    bench.pipe.send(NUDGE)
    shipper._wait()
    assert shipper.workers[0].calls.wake.is_set()
    bench.pipe.send(15)
    shipper._wait()
    assert [seen.number for seen in bench.state().signals] == [15]
    verdict, evidence = shipper._judge.judge()
    assert (verdict.status, verdict.final) == ("KILLED", False)
    assert evidence.signals.keys() == {15}


def test_a_closed_pipe_is_not_asked_again(bench: Bench) -> None:
    """It stays readable for ever: a shipper that lingers must not spin on it."""
    shipper = bench.shipper()
    shipper._listen()
    read_end = bench.pipe.read_end
    os.close(bench.pipe.write_end)
    assert read_end in shipper._selector.get_map()
    shipper._wait()
    assert read_end not in shipper._selector.get_map()
    began = time.monotonic()
    shipper._wait()
    assert time.monotonic() - began >= loop.TICK / 2


# The trainer's end


class Ended:
    """Stands in for the death watch: dead, and the kernel says how."""

    def __init__(self, status: ExitStatus) -> None:
        self._status = status

    def is_dead(self) -> bool:
        return True

    def exit_status(self, *, patience: float) -> ExitStatus:
        return self._status


@pytest.mark.parametrize(
    ("before", "after", "ending", "reason"),
    [
        (3, 4, ExitStatus(killed_by=9), "out of memory (the kernel's OOM killer)"),
        (3, 4, ExitStatus(), "out of memory (the kernel's OOM killer)"),
        (3, 3, ExitStatus(killed_by=9), "died without a word (SIGKILL)"),
        (3, 4, ExitStatus(killed_by=11), "died without a word (SIGSEGV)"),
        (None, None, ExitStatus(killed_by=9), "died without a word (SIGKILL)"),
        (3, 4, ExitStatus(exit_code=1), "died without a word (exit code 1 without Python's exit)"),
    ],
)
def test_an_oom_kill_is_told_from_others(  # noqa: PLR0917 - the fixtures come on top
    bench: Bench, before, after, ending: ExitStatus, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cgroup counted one more, and the process died of SIGKILL or of what nobody knows."""
    counts = iter([before, after])
    monkeypatch.setattr("trackside.shipper.trainer.oom_kills", lambda: next(counts))
    shipper = bench.shipper()
    shipper._trainer._watch = Ended(ending)  # type: ignore[assignment]
    shipper._look_at_trainer()
    assert shipper._judge.judge()[0].reason == reason
    shipper._pass_on_end()
    assert shipper.workers[0].reader.writer_dead


def test_a_signal_just_before_the_end_is_taken_into_account(bench: Bench) -> None:
    """SIGTERM, then SIGKILL, before the shipper looked at the pipe even once."""
    shipper = bench.shipper()
    bench.pipe.send(15)
    shipper._trainer._watch = Ended(ExitStatus(killed_by=9))  # type: ignore[assignment]
    shipper._look_at_trainer()
    assert shipper._judge.judge()[0].reason == "SIGTERM, then SIGKILL"


@pytest.mark.parametrize(("unseen", "early"), [(1, 0), (60, 40)])
def test_a_death_that_was_found_late_is_not_dated_late(bench: Bench, unseen: int, early: int) -> None:
    """A shipper that stood still: an attempt that ended before it went on is the later one all the same."""
    shipper = bench.shipper()
    now = time.time()
    shipper._trainer._alive_ms = int((now - unseen) * 1000)
    for path in bench.journal.path.iterdir():
        os.utime(path, (now - 40, now - 40))
    shipper._trainer._watch = Ended(ExitStatus(killed_by=9))  # type: ignore[assignment]
    shipper._look_at_trainer()
    assert shipper._trainer.died_ms == pytest.approx((now - early) * 1000, abs=3000)


def test_the_exit_code_counts_only_after_the_death(bench: Bench) -> None:
    """The C library's note comes from the process's last moments."""
    shipper = bench.shipper()
    bench.journal.exit_code.write_bytes((3).to_bytes(4, "little"))
    bench.tell("exited")
    assert shipper._judge.judge()[0].status == "RUNNING"
    shipper._trainer._watch = Ended(ExitStatus())  # type: ignore[assignment]
    shipper._look_at_trainer()
    assert shipper._judge.judge()[1].exit_code == 3


def test_a_failing_worker_shows(bench: Bench) -> None:
    """``trackside status`` says what is wrong, and that it is over."""
    shipper = bench.shipper()
    (worker,) = shipper.workers
    shipper._report.publish()
    assert (bench.state().phase, bench.state().error) == ("starting", None)
    worker.calls.error = "connection refused"
    shipper._report.publish()
    assert (bench.state().phase, bench.state().error) == ("retrying", "connection refused")
    worker.calls.error, worker.opened = None, True
    shipper._report.publish()
    assert (bench.state().phase, bench.state().error) == ("shipping", None)


def test_a_hanging_worker_delays_no_tending(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that hangs for minutes keeps neither the disk nor the trainer's end waiting."""
    gate, tended = Gate(), threading.Event()
    bench.destination.refuse = lambda call, _points: gate() if call == "metrics" else None
    shipper = bench.shipper()
    tend_for_real = shipper._segments.tend

    def tend_and_open() -> None:
        tend_for_real()
        if gate.reached.is_set():
            tended.set()
            gate.opened.set()

    monkeypatch.setattr(shipper._segments, "tend", tend_and_open)
    bench.emit(1)
    bench.tell("finished", status="FINISHED")
    bench.pipe.send(SEEN)
    assert shipper.run() == EXIT_DONE
    assert tended.is_set()
