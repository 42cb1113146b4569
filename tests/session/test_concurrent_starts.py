"""Several threads that start runs at the same moment, and a start beside a finish, a log or a fork."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.hooked import everything_hooked
from tests.parts import parts_of, steps_of
from trackside.errors import ConfigurationError, RunActiveError
from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.lifecycle.hooks import ProcessHooks
from trackside.session import current, plan
from trackside.session.current import recording_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trackside.session.run import Run

THREADS = 8


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Journals without a shipper, and the process is afterwards as it was before."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.setattr(plan, "_env_run_ids_used", {})
    before = everything_hooked()
    yield
    assert not recording_runs
    assert not current._starting
    assert everything_hooked() == before


def at_once(act: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What each thread's ``act(number)`` returned or raised, all begun at the same moment."""
    barrier = threading.Barrier(threads)
    results: list[Any] = [None] * threads

    def work(number: int) -> None:
        barrier.wait()
        try:
            results[number] = act(number)
        except Exception as error:
            results[number] = error

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def runs_in(results: list[Any]) -> list[Run]:
    """Those that got a run. The others must have been told that the bus is taken."""
    runs = [one for one in results if not isinstance(one, Exception)]
    assert all(isinstance(one, RunActiveError) for one in results if one not in runs)
    return runs


def test_one_of_several_threads_gets_the_bus(tmp_path: Path) -> None:
    """The others get an error and leave nothing. What is logged is in one journal, once."""
    for _ in range(5):
        bus = Bus()
        results = at_once(lambda _, bus=bus: trackside.start("x", bus=bus))  # type: ignore[misc]
        (run,) = runs_in(results)
        bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
        run.finish()
        assert steps_of(run) == [1]
    assert len(list((tmp_path / "journals").glob("*"))) == 5


def test_buses_of_their_own_start_at_the_same_time() -> None:
    """Each thread has its run, and finishing them restores what was hooked before."""
    buses = [Bus() for _ in range(THREADS)]

    def train(number: int) -> Run:
        run = trackside.start("x", bus=buses[number])
        buses[number].emit(MetricsSample(number, metrics={"loss": 0.5}))
        run.finish()
        return run

    runs = runs_in(at_once(train))
    assert [steps_of(run) for run in runs] == [[number] for number in range(THREADS)]


def test_the_environments_run_goes_to_one_of_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_RUN_ID names one run. Two writers to it would end it twice."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    runs = runs_in(at_once(lambda _: trackside.start("x", bus=Bus())))
    ids = sorted(str(parts_of(run).meta.target.run_id) for run in runs)
    assert ids == ["0" * 32] + ["None"] * (THREADS - 1)
    for run in runs:
        run.finish()


def test_a_start_that_fails_frees_the_bus() -> None:
    """Whatever stops it: a wrong argument, or an interrupt in a sink."""
    bus = Bus()

    class Interrupted:
        def on_lifecycle(self, event: Any) -> None:
            if event.kind == "started":
                raise KeyboardInterrupt

    with pytest.raises(ConfigurationError):
        trackside.start("x", bus=bus, journal_cap=0)
    with pytest.raises(KeyboardInterrupt):
        trackside.start("x", bus=bus, sinks=[Interrupted()])
    trackside.start("x", bus=bus).finish()


def test_a_start_beside_a_finish_has_the_bus_or_an_error() -> None:
    """Never both runs on one bus: what is logged afterwards is in the second one's journal alone."""
    for _ in range(10):
        bus = Bus()
        # Not in the main thread, which alone may give the wakeup descriptor back.
        (first,) = at_once(lambda _, bus=bus: trackside.start("x", bus=bus), threads=1)  # type: ignore[misc]
        results = at_once(
            lambda n, bus=bus, first=first: trackside.start("x", bus=bus) if n else first.finish(),  # type: ignore[misc]
            threads=2,
        )
        bus.emit(MetricsSample(7, metrics={"loss": 0.5}))
        for second in runs_in(results[1:]):
            second.finish()
            assert steps_of(second) == [7]
        assert steps_of(first) == []


def test_a_log_beside_a_start_is_kept_or_not_but_hurts_neither() -> None:
    """Steps that are kept are there once, in order."""
    bus = Bus()

    def act(number: int) -> Run | None:
        if number == 0:
            return trackside.start("x", bus=bus)
        for step in range(2000):
            bus.emit(MetricsSample(step, metrics={"loss": 0.5}))
        return None

    run = at_once(act, threads=2)[0]
    run.finish()
    steps = steps_of(run)
    assert steps == sorted(set(steps))


def test_hooks_of_several_threads_chain_to_each_other() -> None:
    """None of them is lost when another hooks in at the same moment, and the last one restores everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            hooks = [ProcessHooks(Bus()) for _ in range(THREADS)]
            seen = [Crashes(one) for one in hooks]
            at_once(lambda number, hooks=hooks: hooks[number].install())  # type: ignore[misc]
            sys.excepthook(SystemExit, SystemExit(), None)
            at_once(lambda number, hooks=hooks: hooks[number].uninstall())  # type: ignore[misc]
            assert [one.crashes for one in seen] == [1] * THREADS
    finally:
        sys.setswitchinterval(before)


class Crashes:
    """How many crashes a bus has heard of."""

    def __init__(self, hooks: ProcessHooks) -> None:
        self.crashes = 0
        hooks.exceptions._bus.attach(self)

    def on_lifecycle(self, _: object) -> None:
        self.crashes += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_during_a_start_has_the_bus_free() -> None:
    """The thread that was starting the run is not there."""
    bus = Bus()
    codes = []

    class Forking:
        def on_lifecycle(self, event: Any) -> None:
            if event.kind == "started":
                forker = threading.Thread(target=self.fork)
                forker.start()
                forker.join()

        def fork(self) -> None:
            child = os.fork()
            if child == 0:
                try:
                    trackside.start("child", bus=bus)
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            codes.append(os.waitpid(child, 0)[1])

    trackside.start("x", bus=bus, sinks=[Forking()]).finish()
    assert codes == [0]
