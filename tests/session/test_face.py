"""``Run`` is one type: recorded, on another rank, disabled or of another process, it has the same face."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import records_of
from tests.support.program import run_python
from trackside.artifact_calls import CALLS
from trackside.errors import TrackingError
from trackside.event_bus.bus import Bus
from trackside.events import LifecycleEvent
from trackside.journal.delivery_status import DeliveryStatus
from trackside.session.handle import RunHandle
from trackside.session.noop import NoopRun
from trackside.session.recording import RecordingRun
from trackside.session.run import Counts, Run
from trackside.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import FinalStatus

PUBLIC = sorted(name for name in dir(Run) if not name.startswith("_"))
READ = {
    "bus": Bus,
    "called_exit": bool,
    "counts": Counts,
    "delivery": DeliveryStatus,
    "dropped": int,
    "is_recording": bool,
    "status": str,
    "tracking_uri": str,
    "url": str,
}
"""Attributes that every run has a value for, and its type."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals go to a folder of the test, and no shipper is started."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is a no-op run."""
    monkeypatch.setenv("TRACKSIDE_MODE", "disabled")


def recorded(_: pytest.MonkeyPatch) -> Run:
    """A run that is kept."""
    return trackside.start("x", bus=Bus())


def on_another_rank(patch: pytest.MonkeyPatch) -> Run:
    """A run of rank 1."""
    patch.setenv("RANK", "1")
    return trackside.start("x", bus=Bus())


def when_disabled(patch: pytest.MonkeyPatch) -> Run:
    """A run in disabled mode."""
    patch.setenv("TRACKSIDE_MODE", "disabled")
    return trackside.start("x", bus=Bus())


def in_another_process(patch: pytest.MonkeyPatch) -> Run:
    """A run that was passed to a child."""
    run = recorded(patch)
    data = pickle.dumps(run)
    run.finish()
    handle: Run = pickle.loads(data)
    return handle


EVERY_KIND = [recorded, on_another_rank, when_disabled, in_another_process]


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("kind", [RecordingRun, NoopRun, RunHandle])
def test_every_attribute_is_there_and_of_the_same_kind(kind: type[Run], name: str) -> None:
    """A property stays a property, and a method takes the same arguments."""
    wanted, found = inspect.getattr_static(Run, name), inspect.getattr_static(kind, name)
    assert isinstance(found, property) == isinstance(wanted, property)
    if not isinstance(wanted, property):
        assert inspect.signature(found) == inspect.signature(wanted)
    assert inspect.getdoc(found)


def test_no_kind_of_run_adds_to_the_face_of_a_no_op_run() -> None:
    """What a program uses on rank 0 is there on other ranks."""
    for_starts = {"begin", "finish_before", "follow", "take_start", "takes_starts"}
    internal = {*for_starts, "flush_points", "journal_id", "keep_artifact", "keep_tags", "known_info"}
    for kind in (RecordingRun, NoopRun, RunHandle):
        assert {name for name in dir(kind) if not name.startswith("_")} - internal == {*PUBLIC}


def test_no_code_asks_which_kind_of_run_it_holds() -> None:
    """The library itself gets by without it."""
    kinds = {kind.__name__ for kind in (Run, RecordingRun, NoopRun, RunHandle)}
    texts = {str(path): path.read_text("utf-8") for path in Path(trackside.__file__).parent.rglob("*.py")}
    asked = {
        (file, name.id)
        for file, text in texts.items()
        if any(kind in text for kind in kinds)
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id in {"isinstance", "issubclass", "type"}
        for name in ast.walk(call)
        if isinstance(name, ast.Name) and name.id in kinds
    }
    assert asked == set()


@pytest.mark.parametrize("make", EVERY_KIND)
@pytest.mark.outside
def test_every_attribute_can_be_used(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read everything and call everything. Each value has the type that the face promises."""
    run = make(monkeypatch)
    assert isinstance(run, trackside.Run)
    for name, kind in READ.items():
        assert isinstance(getattr(run, name), kind), name
    assert isinstance(run.run_id, str | None)
    assert (run.journal is not None) == run.is_recording
    assert "trackside.Run" in repr(run)
    assert run.link.run_id is None
    run.log({"loss": 0.5}, step=1, epoch=0.5, prefix="val")
    run.emit(trackside.ConfigEvent({"lr": 0.1}))
    run.emit(trackside.MetricsSample(2, metrics={"loss": 0.25}))
    run.log_text("hello", "hello.txt")
    assert run.flush(0.0) in {True, False}
    assert run.activate() is run
    with run as same:
        assert same is run
    run.finish()
    with pytest.raises(ValueError, match="Use FINISHED, FAILED or KILLED"):
        run.finish("DONE")  # type: ignore[arg-type]
    assert not run.is_recording
    again: Any = pickle.loads(pickle.dumps(run))
    assert again.status == run.status
    assert {*READ, "run_id", "journal", "link", "log", "emit", "flush", "activate", "finish", *CALLS} == {
        *PUBLIC
    }


# The status of a run that is not recorded


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
@pytest.mark.parametrize("make", [recorded, on_another_rank, when_disabled])
def test_the_status_is_what_the_program_said(
    make: Callable[..., Run], status: FinalStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNNING until the end. Then the first word counts, on every rank and in every mode."""
    run = make(monkeypatch)
    during = run.status
    run.finish(status)
    run.finish("FINISHED")
    assert (during, run.status) == ("RUNNING", status)


@pytest.mark.parametrize(
    ("kind", "arguments", "status"),
    [
        (ValueError, ("boom",), "FAILED"),
        (SystemExit, (3,), "FAILED"),
        (SystemExit, (0,), "FINISHED"),
        (KeyboardInterrupt, (), "KILLED"),
        (GeneratorExit, (), "FINISHED"),
    ],
)
@pytest.mark.parametrize("make", [recorded, on_another_rank, when_disabled])
def test_the_status_is_how_the_block_was_left(
    make: Callable[..., Run],
    kind: type[BaseException],
    arguments: tuple[Any, ...],
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same on every rank, so that a program may decide by it."""
    run = make(monkeypatch)
    with pytest.raises(kind), run:
        raise kind(*arguments)
    assert run.status == status


def test_an_expected_exception_is_no_failure_on_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``expected=`` means the same there."""
    monkeypatch.setenv("RANK", "1")
    run = trackside.start("x", bus=Bus(), expected={StopIteration: "KILLED"})
    with pytest.raises(StopIteration), run:
        raise StopIteration
    assert run.status == "KILLED"


@pytest.mark.parametrize("make", [recorded, on_another_rank, when_disabled])
def test_a_notice_of_the_end_counts(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework that is told to stop says so on the bus."""
    run = make(monkeypatch)
    run.emit(LifecycleEvent("terminating", message="preempted"))
    assert run.status == "KILLED"
    run.finish()
    assert run.status == "KILLED"


AT_EXIT = """
import atexit, sys
import trackside
run = trackside.start("x")
atexit.register(lambda: print(run.status))
print(run.status)
"""


@pytest.mark.parametrize(
    ("end", "status"), [("", "FINISHED"), ("1 / 0", "FAILED"), ("raise KeyboardInterrupt", "KILLED")]
)
@pytest.mark.parametrize("where", [{"RANK": "1"}, {"TRACKSIDE_MODE": "disabled"}], ids=str)
def test_the_status_at_exit(where: dict[str, str], end: str, status: str, tmp_path: Path) -> None:
    """A program that never calls ``finish()`` is told the truth by its own exit functions."""
    done = run_python("-c", AT_EXIT + end, cwd=tmp_path, env={**os.environ, **where})
    assert done.stdout.split() == ["RUNNING", status], done.stderr


# After the end


def test_a_run_that_has_ended_takes_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged into it does not reach the next run of the bus, as it would by ``trackside.log``."""
    bus, sink = Bus(), MemorySink()
    first = trackside.start("x", bus=bus)
    first.finish()
    second = trackside.start("x", bus=bus, sinks=[sink])
    first.log({"loss": 0.5}, step=1)
    first.emit(trackside.MetricsSample(2, metrics={"loss": 0.5}))
    second.log({"loss": 0.5}, step=3)
    second.finish()
    assert sink.metrics("loss") == [(3, 0.5)]
    assert caplog.text.count("has ended: what is logged into it from now on is not kept. Log before") == 1


def test_a_handle_says_once_where_to_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is another process's."""
    handle = in_another_process(monkeypatch)
    for step in range(3):
        handle.log({"loss": 0.5}, step=step)
    assert caplog.text.count("call trackside.start(parent=run) here for a run of its own") == 1


@pytest.mark.usefixtures("disabled")
def test_a_handle_of_a_no_op_run_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged anywhere, and nothing is meant to be."""
    handle: Run = pickle.loads(pickle.dumps(trackside.start("x", bus=Bus())))
    handle.log({"loss": 0.5}, step=1)
    assert not caplog.records


@pytest.mark.parametrize("make", [recorded, on_another_rank, when_disabled])
def test_an_ended_run_cannot_be_made_active(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on rank 0 alone would leave the other ranks waiting for it."""
    run = make(monkeypatch)
    run.finish()
    with pytest.raises(TrackingError, match="the run has ended"):
        run.activate()


# Several runs


def test_two_runs_on_two_buses_read_like_one() -> None:
    """``log`` and ``emit`` of a run, of a bus and of the module are the same thing."""
    first, second = trackside.start("x"), trackside.start("x", bus=Bus("second"))
    with first, second:
        trackside.log({"loss": 1.0}, step=1, epoch=0.5, prefix="train")
        first.log({"loss": 2.0}, step=2, epoch=0.5, prefix="train")
        first.bus.log({"loss": 3.0}, step=3, epoch=0.5, prefix="train")
        second.log({"gain": 1.0}, step=1)
        second.bus.log({"gain": 2.0}, step=2)
        second.emit(trackside.MetricsSample(3, metrics={"gain": 3.0}))
        second.bus.emit(trackside.MetricsSample(4, metrics={"gain": 4.0}))
    told = [
        (one.step, one.epoch, one.prefix, dict(one.metrics))
        for one in records_of(first)
        if hasattr(one, "step")
    ]
    assert told == [(step, 0.5, "train", {"loss": float(step)}) for step in (1, 2, 3)]
    told = [
        (one.step, one.epoch, one.prefix, dict(one.metrics))
        for one in records_of(second)
        if hasattr(one, "step")
    ]
    assert told == [(step, None, None, {"gain": float(step)}) for step in (1, 2, 3, 4)]


def test_log_is_the_same_everywhere() -> None:
    """One signature, without ``self``."""
    wanted = inspect.signature(trackside.log)
    for log in (Bus().log, Run.log.__get__(object())):
        assert inspect.signature(log) == wanted


def test_the_time_of_a_sample_is_that_of_the_call() -> None:
    """Not that of an earlier one."""
    bus, sink = Bus(), MemorySink()
    before = trackside.MetricsSample(0).timestamp_ms
    with bus.attached(sink):
        bus.log({"loss": 1.0})
    after = trackside.MetricsSample(0).timestamp_ms
    (sample,) = sink.samples
    assert before <= sample.timestamp_ms <= after
    assert sample.step is None


def test_a_start_ends_the_no_op_run_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook starts a run twice: the sinks of the first get nothing of the second."""
    bus, sink = Bus(), MemorySink()
    monkeypatch.setenv("RANK", "1")
    first = NoopRun(bus, sinks=[sink])
    first.log({"loss": 1.0}, step=1)
    second = trackside.start("x", bus=bus)
    second.log({"loss": 2.0}, step=2)
    monkeypatch.delenv("RANK")
    with trackside.start("x", bus=bus) as third:
        assert trackside.current_run(bus) is third
        third.log({"loss": 3.0}, step=3)
    assert trackside.current_run(bus) is None
    assert (first.status, second.status) == ("FINISHED", "FINISHED")
    assert [sample.step for sample in sink.samples] == [1]


# Before a run


def test_nothing_is_current_before_a_run() -> None:
    """``current_run()`` is None, and the default bus is there to be listened to."""
    seen: list[Any] = []
    assert trackside.current_run() is None
    with trackside.bus.attached(seen.append):
        trackside.bus.log({"loss": 0.5}, step=1)
        trackside.log({"loss": 0.5}, step=2)
    assert [sample.step for sample in seen] == [1, 2]
    run = trackside.start("x")
    assert trackside.current_run() is run
    assert run.bus is trackside.bus
    run.finish()
    assert trackside.current_run() is None
