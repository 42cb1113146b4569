"""``finish()`` while an exception is on its way: FINISHED, until it is seen what becomes of it.

How the process as a whole may end is played by ``tests/ends`` (``finish() on the way out``).
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.ends.harness import new_database
from tests.faults.fake import until
from tests.hooked import everything_hooked
from tests.parts import journal_of, kinds_of
from trackside.event_bus.bus import Bus
from trackside.events import LifecycleEvent, MetricsSample
from trackside.lifecycle import provisional as open_end
from trackside.lifecycle.provisional import conclude_earlier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.events import FinalStatus
    from trackside.session.run import Run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: Bus) -> Iterator[Path]:
    """A place for journals. What is open at the test's end is concluded, and nothing stays hooked."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)  # nothing is printed
    before = everything_hooked()
    yield tmp_path
    conclude_earlier(bus)
    assert everything_hooked() == before
    assert bus.sinks == ()


@pytest.fixture
def bus() -> Bus:
    """A bus of the test's own."""
    return Bus()


def start(bus: Bus, **more: Any) -> Run:
    """Start a run."""
    return trackside.start("x", bus=bus, **more)


def finish_in_flight(run: Run, error: BaseException) -> None:
    """Finish while ``error`` is on its way, which the caller then has."""
    try:
        raise error
    except type(error):
        run.finish()


def finish_and_handle(run: Run) -> None:
    """Finish while an exception is handled. Nothing keeps it, not even this frame, which it refers to."""
    try:
        int("no number")
    except ValueError:
        run.finish()


def raise_uncaught(error: BaseException) -> None:
    """Do with ``error`` what the interpreter does at the end."""
    sys.excepthook(type(error), error, None)


def test_a_handled_exception_makes_the_end_final(bus: Bus) -> None:
    """As soon as it is forgotten: the shipper need not wait for the process to end."""
    run = start(bus)
    finish_and_handle(run)
    assert run.status == "FINISHED"
    until(lambda: kinds_of(run) == ["started", "finishing", "finished"])
    raise_uncaught(ValueError("another"))
    assert run.status == "FINISHED"


def test_it_stays_open_as_long_as_the_exception_is_there(bus: Bus) -> None:
    """An unrelated one is none of its business. Its own is a crash like any other."""
    run, error = start(bus), ValueError("boom")
    finish_in_flight(run, error)
    assert kinds_of(run) == ["started", "finishing"]
    raise_uncaught(OSError("another"))
    assert kinds_of(run) == ["started", "finishing"]
    worse = RuntimeError("worse")
    worse.__cause__ = error
    raise_uncaught(worse)
    assert run.status == "FAILED"
    conclude_earlier(bus)
    assert kinds_of(run) == ["started", "finishing", "crashed", "finished"]
    assert run.status == "FAILED"


def test_the_next_start_makes_it_final(bus: Bus) -> None:
    """The program continues, though it keeps the exception, and it hears nothing of the next run's."""
    run, error = start(bus), ValueError("kept")
    finish_in_flight(run, error)
    following = start(bus)
    assert kinds_of(run) == ["started", "finishing", "finished"]
    finish_in_flight(following, error)
    conclude_earlier(bus)
    assert run.status == following.status == "FINISHED"
    assert kinds_of(run) == ["started", "finishing", "finished"]


def test_an_exception_last_seen_uncaught_is_a_crash(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook prints it itself and continues. The interpreter remembers it."""
    run, error = start(bus), ValueError("boom")
    finish_in_flight(run, error)
    monkeypatch.setattr(sys, "last_value", error, raising=False)
    if hasattr(sys, "last_exc"):
        monkeypatch.setattr(sys, "last_exc", error)
    start(bus).finish()
    assert run.status == "FAILED"


def test_a_run_begun_while_an_exception_is_handled_ends_for_good(bus: Bus) -> None:
    """It was there before: a second try with a smaller batch."""
    try:
        int("no number")
    except ValueError:
        run = start(bus)
        run.finish()
        assert kinds_of(run) == ["started", "finished"]


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_another_status_is_final_at_once(bus: Bus, status: FinalStatus) -> None:
    """Whoever says FAILED in an ``except`` has seen the exception, and the run keeps it."""
    run = start(bus)
    with contextlib.suppress(ValueError):
        try:
            int("no number")
        finally:
            run.finish(status)
    assert (run.status, kinds_of(run)) == (status, ["started", "crashed", "finished"])


def test_nothing_more_is_taken(bus: Bus) -> None:
    """The end is open, the run is not. Its sinks are told, and closed."""

    class Sink:
        seen: list[str]

        def __init__(self) -> None:
            self.seen = []

        def on_metrics(self, sample: MetricsSample) -> None:
            self.seen.append(f"step {sample.step}")

        def on_lifecycle(self, event: LifecycleEvent) -> None:
            self.seen.append(event.kind)

        def close(self) -> None:
            self.seen.append("closed")

    sink, error = Sink(), ValueError("kept")
    run = start(bus, sinks=[sink])
    finish_in_flight(run, error)
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    assert sink.seen == ["started", "finishing", "closed"]
    assert kinds_of(run) == ["started", "finishing"]


def test_a_signal_at_an_open_end(bus: Bus) -> None:
    """Being asked to stop while the exception is on its way is being asked to stop."""
    taken: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        run, error = start(bus), ValueError("kept")
        finish_in_flight(run, error)
        os.kill(os.getpid(), signal.SIGTERM)
        assert taken == [signal.SIGTERM]
        conclude_earlier(bus)
        assert run.status == "FINISHED", "nothing is emitted after this, so the event waits"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_forked_child_has_no_open_end(bus: Bus) -> None:
    """It is its parent's: what it says of it is not heard."""
    run, error = start(bus), ValueError("kept")
    finish_in_flight(run, error)
    child = os.fork()
    if child == 0:
        raise_uncaught(error)
        conclude_earlier(bus)
        os._exit(0)
    os.waitpid(child, 0)
    assert kinds_of(run) == ["started", "finishing"]


def test_many_runs_leave_nothing_behind(bus: Bus) -> None:
    """A sweep whose trials end in an ``except``: no descriptors, no hooks upon hooks."""

    def trial() -> None:
        run = start(bus)
        finish_and_handle(run)
        until(lambda: kinds_of(run)[-1] == "finished")

    for _ in range(2):
        trial()
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        trial()
    gc.collect()
    assert len(os.listdir("/dev/fd")) <= before


def test_in_another_thread(bus: Bus) -> None:
    """An exception that the thread handles."""
    run = start(bus)
    thread = threading.Thread(target=finish_and_handle, args=(run,))
    thread.start()
    thread.join()
    until(lambda: kinds_of(run) == ["started", "finishing", "finished"])


def test_a_notebook_sees_finished_at_once(place: Path, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real shipper: everything is there when ``finish()`` returns, whatever comes of the exception."""
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("TRACKSIDE_MODE", "online")
    uri, error = new_database(place), ValueError("kept")
    run = start(bus, tracking_uri=uri)
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    finish_in_flight(run, error)
    assert run.flush()
    assert run.counts.shipped == 1
    assert run.run_id is not None
    assert MlflowClient(uri).get_run(run.run_id).info.status == "FINISHED"
    following = start(bus, tracking_uri=uri)
    assert not journal_of(run).meta.exists(), "start() waited until the run before had ended"
    following.finish()


# A bus a trial


def fail_as_a_trial(runs: list[Run]) -> None:
    """A trial on a bus of its own, whose exception is not handled here."""
    run = start(Bus())
    runs.append(run)
    try:
        raise ValueError("a bad trial")
    finally:
        run.finish()


def test_a_failed_trial_is_over_when_the_next_one_starts(bus: Bus) -> None:
    """In a thread pool whose futures keep the exceptions: FAILED, and nothing of it stays hooked."""
    runs: list[Run] = []
    with ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(fail_as_a_trial, runs) for _ in range(3)]
        assert [type(future.exception()) for future in futures] == [ValueError] * 3
        assert [run.status for run in runs] == ["FAILED", "FAILED", "FINISHED"]
        assert len(open_end._open) == 1
        start(bus).finish()
    assert [run.status for run in runs] == ["FAILED"] * 3
    assert open_end._open == {}


def test_an_exception_that_is_still_on_its_way_is_waited_for(bus: Bus) -> None:
    """A run on another bus, started while the exception has not left the first one's function."""
    other = Bus()

    def first() -> None:
        run = start(other)
        try:
            int("handled below")
        except ValueError:
            run.finish()
            start(bus).finish()
            assert [end.final for end in open_end._open.values()] == [False]

    first()
    until(lambda: all(end.final for end in open_end._open.values()))
    conclude_earlier(other)


def test_few_ends_of_other_buses_wait(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the exceptions: the oldest is concluded then."""
    monkeypatch.setattr(open_end, "MAX_OPEN", 1)
    buses = [Bus() for _ in range(3)]
    try:
        int("kept while all of them end")
    except ValueError:
        for one in buses:
            run = start(one)
            with contextlib.suppress(KeyError):
                try:
                    raise KeyError("on its way")
                finally:
                    run.finish()
            del run
    start(bus).finish()
    assert sum(not end.final for end in open_end._open.values()) <= 1
    for one in buses:
        conclude_earlier(one)
