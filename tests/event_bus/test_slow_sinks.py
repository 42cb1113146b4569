"""A slow sink is noticed and named. One hiccup, a slow loop and a quick sink are not."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from trackside.event_bus.bus import Bus
from trackside.event_bus.slow_sinks import SAMPLES, SinkTimes
from trackside.events import MetricsSample

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = MetricsSample(1, metrics={"loss": 0.5})


class Slow:
    """A sink that takes ``seconds`` of the processor, as far as the bus can see."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.calls = 0

    def __repr__(self) -> str:
        return "<Slow>"

    def on_metrics(self, _sample: MetricsSample) -> None:
        self.calls += 1
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass


def note_all(times: SinkTimes, seconds: Callable[[int], dict[str, float]], *, period: float) -> None:
    """Note the times of sinks, given by name, at every fourth of a hundred emits."""
    for number in range(4, 104, 4):
        times.note(list(seconds(number).items()), number * period)
        times._early = 5  # every fourth


@pytest.mark.wheel
def test_a_slow_sink_is_named_with_its_share(caplog: pytest.LogCaptureFixture) -> None:
    """One warning: which sink, how long, and what part of the time that all sinks take."""
    bus = Bus()
    slow = bus.attach(Slow())
    bus.attach(lambda _sample: None)
    for _ in range(100):
        bus.emit(SAMPLE)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "sink <Slow> is slow: it takes " in record.getMessage()
    assert "of what all sinks take" in record.getMessage()
    assert slow.calls == 100


def test_a_very_slow_sink_is_noticed_soon(caplog: pytest.LogCaptureFixture) -> None:
    """Within 32 emits, not 500: each may take seconds."""
    bus = Bus()
    bus.attach(Slow(0.001))
    for _ in range(4 * SAMPLES):
        bus.emit(SAMPLE)
    assert len(caplog.records) == 1


def test_a_quick_sink_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    """However many emits there are."""
    bus = Bus()
    bus.attach(lambda _sample: None)
    for _ in range(3000):
        bus.emit(SAMPLE)
    assert not caplog.records


def test_one_hiccup_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """A third of the timed emits may be slow for a reason of the machine's."""
    times = SinkTimes()
    note_all(times, lambda number: {"a": 0.5 if number % 12 == 0 else 1e-6}, period=0.001)
    assert not caplog.records


def test_a_slow_loop_does_not_notice(caplog: pytest.LogCaptureFixture) -> None:
    """A millisecond of every second is nothing. Of every 50 ms it is something."""
    note_all(SinkTimes(), lambda _: {"a": 0.001}, period=1.0)
    assert not caplog.records
    note_all(SinkTimes(), lambda _: {"a": 0.001}, period=0.05)
    assert "takes 1 ms an event, 100 % of what all sinks take and 2 % of the time" in caplog.text


def test_each_slow_sink_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each slow sink gets its warning, with its share. The quick one gets none."""
    times = SinkTimes()
    for _ in range(3):
        note_all(times, lambda _: {"a": 0.003, "b": 0.001, "c": 1e-6}, period=0.005)
        times.restart()
    first, second = [record.getMessage() for record in caplog.records]
    assert "'a' is slow: it takes 3 ms an event, 75 % of" in first
    assert "'b' is slow: it takes 1 ms an event, 25 % of" in second


def test_which_emits_are_timed() -> None:
    """Every fourth of the first 64, then every 64th."""
    times, timed = SinkTimes(), []
    for number in range(1, 641):
        times.left -= 1
        if times.left <= 0:
            timed.append(number)
            times.note([], number)
    assert timed == [*range(4, 65, 4), *range(128, 641, 64)]


def test_a_slow_sink_attached_late_is_noticed_soon(caplog: pytest.LogCaptureFixture) -> None:
    """Attaching begins anew."""
    bus = Bus()
    bus.attach(lambda _sample: None)
    for _ in range(1000):
        bus.emit(SAMPLE)
    bus.attach(Slow())
    for _ in range(4 * SAMPLES):
        bus.emit(SAMPLE)
    assert "<Slow> is slow" in caplog.text


def test_a_faulty_sink_is_counted_when_it_is_timed_too(caplog: pytest.LogCaptureFixture) -> None:
    """The timed emits isolate errors like the others, and reset the count as they do."""
    bus = Bus()
    calls = []

    def faulty(_sample: MetricsSample) -> None:
        calls.append(1)
        if len(calls) % 2:
            raise ValueError("odd")

    behind: list[MetricsSample] = []
    bus.attach(faulty)
    bus.attach(behind.append)
    for _ in range(64):
        bus.emit(SAMPLE)
    assert bus.faults(faulty) == 32
    assert len(behind) == 64
    assert len(bus.sinks) == 2


def test_threads_that_emit_and_attach_at_once_trip_over_nothing() -> None:
    """Replacing a window in the middle of a note raises in no thread's loop."""
    times = SinkTimes()
    errors: list[BaseException] = []
    stop = threading.Event()

    def note() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                times.note([("a", 0.0)], float(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=note) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(5000):
        times.restart()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_lock_held_at_a_fork_holds_nobody_up() -> None:
    """The child would never release it."""
    times = SinkTimes()
    times._noting.acquire()
    times.note([("a", 1.0)], 1.0)
    times.restart()
