"""Logs that the bus hands to the journal without an event: what the sink does must not be missed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.journal.directory import create_directory
from trackside.journal.format import MetricsRecord
from trackside.journal.reader import JournalReader
from trackside.journal.writer import JournalWriter
from trackside.sinks import mlflow as sink_module
from trackside.sinks.mlflow import MLflowSink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

FLAT = {"loss": 0.5, "lr": 1e-3}


class Elsewhere:
    """A number on an accelerator."""


class Devices:
    """An accelerator whose numbers arrive when they are told to."""

    arrived = False

    def takes(self, value: object) -> bool:
        return isinstance(value, Elsewhere)

    def takes_quickly(self, values: Sequence[Any]) -> bool:
        return False

    def undisturbing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def capturing(self) -> bool:
        return False

    def start(self, values: Sequence[Any]) -> Devices:
        self._count = len(values)
        return self

    def start_array(self, value: Any) -> Devices:
        return self.start([value])

    def passed(self) -> bool:
        return self.arrived

    def arrived_before_failure(self) -> bool:
        return self.arrived

    def read(self) -> list[float]:
        return [7.0] * self._count


class Kept:
    """A sink on a bus of its own, and a count of the logs that became events."""

    def __init__(self, root: Path) -> None:
        self.journal = create_directory(root, "x")
        self.writer = JournalWriter(self.journal)
        self.watched = 0
        self.devices = Devices()
        self.bus = Bus()
        self.sink = self.bus.attach(MLflowSink(self.writer, watch=self._watch, devices=self.devices))

    def _watch(self) -> None:
        self.watched += 1

    def is_quick(self, step: int) -> bool:
        """Log, and see whether that needed no event."""
        quick_log = self.bus.quick_log
        if quick_log is not None and quick_log(FLAT, step, None, None):
            return True
        self.bus.emit(MetricsSample(step, None, FLAT))
        return False

    def warm_up(self) -> None:
        """Log until the names are known."""
        while not self.is_quick(0):
            pass

    def records(self) -> list[MetricsRecord]:
        """Everything there is, none of it damaged."""
        reader = JournalReader(self.journal)
        found = [entry.record for entry in reader.read()]
        assert reader.damaged + reader.missing + reader.torn == 0
        reader.close()
        return [record for record in found if isinstance(record, MetricsRecord)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """As above."""
    made = Kept(tmp_path)
    yield made
    made.writer.close()


def test_logs_become_quick_and_are_all_kept(kept: Kept) -> None:
    """From the fourth on, whichever way they went."""
    for step in range(20):
        kept.bus.log(FLAT, step=step)
    assert kept.is_quick(20)
    assert [record.step for record in kept.records()] == [*range(21)]
    assert all(record.metrics == FLAT for record in kept.records())


def test_a_step_that_is_missing_follows_the_last_one(kept: Kept) -> None:
    """Also when that one was logged without an event."""
    kept.warm_up()
    assert kept.is_quick(41)
    kept.bus.log(FLAT)
    assert kept.records()[-1].step == 42


def test_the_watch_is_not_forgotten(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its time has come, the next log looks after it. Then logs are quick again."""
    kept.warm_up()
    assert kept.watched == 0
    kept.sink._next_watch = 0.0
    kept.sink._samples.quiet_until = 0  # what the passing of five seconds does
    assert not kept.is_quick(1)
    assert kept.watched == 1
    assert kept.is_quick(2)
    monkeypatch.setattr(sink_module, "WATCH_EVERY", 0.0)
    kept.sink._next_watch = 0.0
    kept.sink._samples.quiet_until = 0
    for step in range(3, 6):
        assert not kept.is_quick(step)
    assert kept.watched == 4


def test_what_waits_on_a_device_is_looked_for(kept: Kept) -> None:
    """While a value is on its way each log looks whether it has come."""
    kept.warm_up()
    kept.bus.log({"loss": Elsewhere()}, step=100)
    assert not kept.is_quick(101)
    kept.devices.arrived = True
    assert not kept.is_quick(102)
    assert kept.is_quick(103)
    assert [(record.step, record.metrics["loss"]) for record in kept.records()[-4:]] == [
        (101, 0.5), (102, 0.5), (100, 7.0), (103, 0.5),
    ]  # fmt: skip


def test_events_of_known_names_are_samples_too(kept: Kept) -> None:
    """With a second sink every log is an event, and the journal takes as little for it."""
    kept.bus.attach(lambda _event: None)
    for step in range(10):
        kept.bus.log(FLAT, step=step)
    before = kept.writer.segment.offset
    kept.bus.log(FLAT, step=10)
    assert kept.writer.segment.offset - before == 32 + 8 * len(FLAT)
    kept.bus.emit(MetricsSample(11, None, FLAT, None, 2**70))
    assert [record.step for record in kept.records()] == [*range(12)]


def test_an_on_metrics_of_your_own_gets_every_sample(tmp_path: Path) -> None:
    """A subclass, or a function put in its place: nothing goes past it."""
    seen: list[Any] = []

    class Yours(MLflowSink):
        def on_metrics(self, sample: MetricsSample) -> None:
            seen.append(sample.step)
            super().on_metrics(sample)

    writer = JournalWriter(create_directory(tmp_path, "x"))
    bus = Bus()
    bus.attach(Yours(writer))
    for step in range(10):
        bus.log(FLAT, step=step)
    assert seen == [*range(10)]
    writer.close()
