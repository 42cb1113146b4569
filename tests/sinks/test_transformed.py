"""A sink behind a transform."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample
from trackside.sinks import MemorySink, TransformedSink


def emit_steps(bus: Bus, count: int) -> None:
    """``count`` steps with an epoch and two metrics."""
    for step in range(count):
        bus.emit(MetricsSample(step, 0, {"loss": step / 10, "lr": 1.0}, "train", timestamp_ms=step))


def test_names_are_those_delivered() -> None:
    """With their prefix, ``epoch`` among them. All of it of one sample stays one sample."""
    bus, memory = Bus(), MemorySink()
    bus.attach(TransformedSink(memory, {"exclude": "*/lr", "rename": {"train/loss": "loss"}, "prefix": "a"}))
    emit_steps(bus, 2)
    first, second = memory.samples
    assert (first.step, first.timestamp_ms, first.prefix, first.epoch) == (0, 0, None, None)
    assert second.metrics == {"a/loss": 0.1, "a/epoch": 0}


def test_windows_end_with_the_run() -> None:
    """The last window comes out before the sink hears of the end."""
    order: list[Any] = []

    class Listener:
        def on_metrics(self, sample: MetricsSample) -> None:
            order.append((sample.step, dict(sample.metrics)))

        def on_lifecycle(self, event: LifecycleEvent) -> None:
            order.append(event.kind)

        def close(self) -> None:
            order.append("closed")

    bus = Bus()
    sink = bus.attach(TransformedSink(Listener(), {"include": "train/loss", "every_n_steps": 4}))
    emit_steps(bus, 6)
    bus.emit(LifecycleEvent("terminating"))
    bus.emit(LifecycleEvent("finished"))
    sink.close()
    assert order == [(3, {"train/loss": 0.3}), "terminating", (5, {"train/loss": 0.5}), "finished", "closed"]
    assert sink.merged == 6 * 2 + 4


def test_without_lifecycle_the_windows_end_with_close() -> None:
    """For a sink attached by hand. A plain function will do."""
    seen: list[MetricsSample] = []
    sink = TransformedSink(seen.append, {"every_n_steps": 100, "reduce": "mean", "include": "*/loss"})
    bus = Bus()
    bus.attach(sink)
    emit_steps(bus, 5)
    assert seen == []
    sink.close()
    sink.close()
    (sample,) = seen
    assert sample.metrics == {"train/loss": pytest.approx(0.2)}


@pytest.mark.parametrize(
    ("ranks", "rank", "expected"), [(None, 0, 3), (None, 1, 0), ((0, 1), 1, 3), ((1,), 0, 0)]
)
def test_ranks(monkeypatch: pytest.MonkeyPatch, ranks: Any, rank: int, expected: int) -> None:
    """On one that is not asked for, not even ``close`` arrives."""
    monkeypatch.setenv("RANK", str(rank))
    memory, bus = MemorySink(), Bus()
    sink = bus.attach(TransformedSink(memory, {"ranks": ranks}))
    emit_steps(bus, 3)
    bus.emit(ConfigEvent({"lr": 0.1}))
    sink.close()
    assert len(memory.samples) == expected
    assert bool(memory.configs) == memory.closed == bool(expected)


def test_configs_pass_as_they_are() -> None:
    """Transform is of metrics. A sink without the handler is spared the event."""
    lone: list[MetricsSample] = []
    bus, memory = Bus(), MemorySink()
    bus.attach(TransformedSink(memory, {"include": "nothing"}))
    bus.attach(TransformedSink(lone.append, {"include": "nothing"}))
    bus.emit(ConfigEvent({"lr": 0.1}))
    emit_steps(bus, 1)
    assert memory.configs == [{"lr": 0.1}]
    assert lone == memory.samples == []


def test_values_in_windows_are_read_when_they_come() -> None:
    """A tensor changed afterwards gives what it was. What is no number is left out. Steps may be tensors."""
    torch = pytest.importorskip("torch")
    memory = MemorySink()
    sink = TransformedSink(memory, {"every_n_steps": 2, "reduce": "max"})
    loss = torch.tensor(2.0)
    sink.on_metrics(MetricsSample(torch.tensor(0), metrics={"loss": loss, "note": "text"}))
    loss.fill_(1.0)
    sink.on_metrics(MetricsSample(None, metrics={"loss": loss}))
    sink.close()
    assert memory.metrics("loss") == [(1, 2.0)]
    assert memory.names == {"loss"}


def test_values_outside_windows_are_not_touched() -> None:
    """Reading a tensor on an accelerator waits for it: that is the sink's decision."""
    memory: list[MetricsSample] = []
    value = object()
    TransformedSink(memory.append, {"prefix": "a"}).on_metrics(MetricsSample(1, metrics={"x": value}))
    assert memory[0].metrics["a/x"] is value


def test_a_faulty_sink_loses_nothing_but_what_it_refused() -> None:
    """Of several samples that are due together the others arrive, and the error reaches the bus."""
    seen: list[int] = []

    def faulty(sample: MetricsSample) -> None:
        if sample.step == 1:
            raise ValueError("not this one")
        seen.append(sample.step)

    sink = TransformedSink(faulty, {"every_n_steps": 10})
    for step, name in enumerate("abc"):
        sink.on_metrics(MetricsSample(step, metrics={name: 1.0}, timestamp_ms=step))
    with pytest.raises(ValueError, match="not this one"):
        sink.close()
    assert seen == [0, 2]


def test_nan_comes_through() -> None:
    """A loss that was NaN once must not be hidden."""
    memory = MemorySink()
    sink = TransformedSink(memory, {"every_n_steps": 3, "reduce": "min"})
    for step, value in enumerate((1.0, math.nan, 2.0)):
        sink.on_metrics(MetricsSample(step, metrics={"loss": value}))
    sink.close()
    assert math.isnan(memory.last("loss"))


def test_what_makes_no_sense_is_refused() -> None:
    """No sink, and no transform."""
    with pytest.raises(TypeError, match="is not a sink"):
        TransformedSink(5, {})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="every_n_steps must be 1 or more"):
        TransformedSink(MemorySink(), {"every_n_steps": 0})
