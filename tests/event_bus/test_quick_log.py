"""A log that makes no event: only while one sink listens, and that sink offers it."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import trackside
from trackside.event_bus.bus import Bus
from trackside.events import ConfigEvent, MetricsSample


class QuickSink:
    """Takes samples with a step below 100 without an event."""

    stays_attached = emits_nothing = True

    def __init__(self) -> None:
        self.quick: list[Any] = []
        self.events: list[Any] = []

    def quick_log(self, metrics: Any, step: Any, epoch: Any, prefix: Any) -> bool:
        if step is None or step >= 100:
            return False
        self.quick.append((metrics, step, epoch, prefix))
        return True

    def on_metrics(self, sample: MetricsSample) -> None:
        self.events.append(sample.step)


class Heard:
    """A blinker receiver."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, _sender: object, event: MetricsSample) -> None:
        self.steps.append(event.step)


@pytest.fixture
def bus() -> Bus:
    """A bus of the test's own."""
    return Bus()


@pytest.fixture
def sink(bus: Bus) -> QuickSink:
    """The only sink, which has had its first event."""
    made = bus.attach(QuickSink())
    bus.log({}, step=0)
    made.events.clear()
    return made


def test_log_calls_the_only_sink_itself(bus: Bus, sink: QuickSink) -> None:
    """Metrics, step, epoch and prefix reach it as they are. What it refuses becomes an event."""
    metrics = {"loss": 0.5}
    bus.log(metrics, 1, 2.0, "val")
    bus.log(metrics, step=100)
    assert sink.quick == [(metrics, 1, 2.0, "val")]
    assert sink.events == [100]


def test_the_default_bus_does_the_same() -> None:
    """``trackside.log`` goes the same way as ``Bus.log``."""
    with trackside.bus.attached(QuickSink()) as sink:
        for step in range(3):
            trackside.log({"loss": 0.5}, step=step, epoch=1, prefix="train")
        assert sink.events == [0]
        assert sink.quick == [({"loss": 0.5}, step, 1, "train") for step in (1, 2)]
    trackside.bus.silence()
    trackside.log({"loss": 0.5}, step=3)
    assert len(sink.quick) == 2


@pytest.mark.parametrize("weak", [True, False])
def test_a_receiver_gets_every_sample_as_an_event(bus: Bus, sink: QuickSink, weak: bool) -> None:
    """From the first log after ``connect`` to the last before ``disconnect``."""
    heard = Heard()
    bus.metrics.connect(heard, weak=weak)
    for step in range(1, 4):
        bus.log({}, step=step)
    bus.emit(ConfigEvent({}))
    bus.log({}, step=4)
    bus.metrics.disconnect(heard)
    bus.log({}, step=5)
    bus.log({}, step=6)
    assert heard.steps == [1, 2, 3, 4]
    assert sink.events == [1, 2, 3, 4, 5]
    assert [step for _, step, _, _ in sink.quick] == [6]


def test_a_receiver_for_a_while(bus: Bus, sink: QuickSink) -> None:
    """``connected_to`` as well."""
    heard = Heard()
    with bus.metrics.connected_to(heard):
        bus.log({}, step=1)
    bus.log({}, step=2)
    assert heard.steps == [1]
    assert sink.events == [1, 2]


def test_a_receiver_that_is_gone_ends_it(bus: Bus, sink: QuickSink) -> None:
    """A weak receiver is never disconnected: the next event finds it gone."""
    heard = Heard()
    bus.metrics.connect(heard)
    bus.log({}, step=1)
    del heard
    gc.collect()
    bus.log({}, step=2)
    bus.log({}, step=3)
    assert sink.events == [1, 2]
    assert [step for _, step, _, _ in sink.quick] == [3]


def test_a_muted_signal_takes_nothing(bus: Bus, sink: QuickSink) -> None:
    """Until it is heard again."""
    with bus.metrics.muted():
        bus.log({}, step=1)
        assert bus.metrics.is_muted
    bus.log({}, step=2)
    bus.log({}, step=3)
    assert sink.events == [2]
    assert [step for _, step, _, _ in sink.quick] == [3]


def test_a_second_sink_gets_every_sample(bus: Bus, sink: QuickSink) -> None:
    """Each from the first log after ``attach`` on."""
    seen: list[Any] = []
    with bus.attached(seen.append):
        bus.log({}, step=1)
        bus.log({}, step=2)
    bus.log({}, step=3)
    bus.log({}, step=4)
    assert [sample.step for sample in seen] == [1, 2]
    assert sink.events == [1, 2, 3]
    assert [step for _, step, _, _ in sink.quick] == [4]


def test_a_postponed_event_goes_before_the_next_log(bus: Bus, sink: QuickSink) -> None:
    """What a signal handler has left is delivered in its turn."""
    bus.postpone(MetricsSample(1))
    bus.log({}, step=2)
    bus.log({}, step=3)
    assert sink.events == [1, 2]
    assert [step for _, step, _, _ in sink.quick] == [3]


def test_a_detached_sink_takes_nothing(bus: Bus, sink: QuickSink) -> None:
    """Nor in a forked child, which forgets all sinks."""
    bus.silence()
    bus.detach(sink)
    bus.log({}, step=1)
    bus.attach(sink)
    bus.log({}, step=2)
    bus.forget_all()
    bus.log({}, step=3)
    assert sink.events == [2]
    assert sink.quick == []
