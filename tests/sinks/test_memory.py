"""The memory sink, and ``capture()`` for the tests of code that logs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import trackside
from tests.support.program import run_python
from trackside.event_bus.bus import Bus
from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample
from trackside.testing import MemorySink, capture

if TYPE_CHECKING:
    from pathlib import Path


def train(steps: int) -> str | None:
    """A training as a user writes it."""
    with trackside.start("digits", config={"lr": 0.1}, tags={"a": 1}) as run:
        for step in range(steps):
            trackside.log({"loss": 1 / (step + 1)}, step=step, epoch=0, prefix="train")
        trackside.emit(ConfigEvent({"steps": steps, "model": {"depth": 3}}))
    return run.run_id


@pytest.mark.wheel
def test_capture_collects_what_a_training_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ``start`` and ``log``. No run, no directory, no process."""
    monkeypatch.chdir(tmp_path)
    with capture() as logged:
        assert train(steps=3) is None
    assert logged.metrics("train/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert logged.values("epoch") == [0.0, 0.0, 0.0]
    assert logged.last("train/loss") == 1 / 3
    assert logged.names == {"train/loss", "epoch"}
    assert logged.config["model"] == {"depth": 3}
    assert list(tmp_path.iterdir()) == []
    assert logged not in trackside.bus.sinks
    trackside.log({"loss": 1.0}, step=4)
    assert len(logged.samples) == 3


def test_the_environment_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the mode was set or not, and however the block ends."""
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    with pytest.raises(KeyError), capture():
        raise KeyError
    assert os.environ["TRACKSIDE_MODE"] == "offline"
    monkeypatch.delenv("TRACKSIDE_MODE")
    with capture():
        pass
    assert "TRACKSIDE_MODE" not in os.environ


def test_capture_on_a_bus_of_ones_own() -> None:
    """The default bus is left alone."""
    bus = Bus()
    with capture(bus) as logged:
        bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
        bus.emit(LifecycleEvent("terminating"))
        trackside.log({"loss": 0.7}, step=1)
    assert logged.metrics("loss") == [(1, 0.5)]
    assert [event.kind for event in logged.lifecycle] == ["terminating"]


def test_values_are_read_when_they_come() -> None:
    """What happens to a tensor afterwards does not show."""
    torch = pytest.importorskip("torch")
    sink, loss = MemorySink(), torch.tensor(2.0)
    sink.on_metrics(MetricsSample(1, metrics={"loss": loss}))
    loss.fill_(3.0)
    assert sink.metrics("loss") == [(1, 2.0)]


def test_what_was_never_logged() -> None:
    """No points, and no last one."""
    sink = MemorySink()
    assert sink.metrics("loss") == []
    assert sink.values("loss") == []
    with pytest.raises(KeyError):
        sink.last("loss")


def test_forgetting_and_closing() -> None:
    """``clear`` empties all of it. ``closed`` says that the run let go."""
    sink = MemorySink()
    sink.on_metrics(MetricsSample(1, metrics={"loss": 1.0}))
    sink.on_config(ConfigEvent({"lr": 1}))
    sink.on_lifecycle(LifecycleEvent("started"))
    assert "1 samples of loss" in repr(sink)
    sink.clear()
    assert (sink.samples, sink.configs, sink.lifecycle, sink.names) == ([], [], [], set())
    sink.close()
    assert sink.closed


def test_capturing_loads_nothing_heavy() -> None:
    """A test suite that logs is not slowed down."""
    script = (
        "import sys, trackside.testing, trackside\n"
        "with trackside.testing.capture() as logged:\n    trackside.log({'a': 1}, step=1)\n"
        "assert logged.names == {'a'}\n"
        "print(sorted({'mlflow', 'torch', 'rich', 'prometheus_client', 'numpy'} & set(sys.modules)))"
    )
    done = run_python("-c", script, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
