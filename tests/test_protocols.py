"""What counts as a sink: one method is enough, and ``isinstance`` says the same as the bus."""

from __future__ import annotations

from typing import Any

import pytest

from trackside.event_bus.bus import Bus
from trackside.protocols import OnArtifact, OnConfig, OnLifecycle, OnMetrics, Sink


class Metrics:
    def on_metrics(self, sample: Any) -> None: ...


class Config:
    def on_config(self, event: Any) -> None: ...


class Lifecycle:
    def on_lifecycle(self, event: Any) -> None: ...


class Artifacts:
    def on_artifact(self, event: Any) -> None: ...


class Closing:
    def close(self) -> None: ...


@pytest.mark.parametrize("sink", [Metrics(), Config(), Lifecycle(), Artifacts()])
def test_one_method_makes_a_sink(sink: Any) -> None:
    """Neither the other methods nor a base class are needed."""
    assert isinstance(sink, Sink)
    assert Bus().attach(sink) is sink


@pytest.mark.parametrize("other", [Closing(), object(), "console", 5, None])
def test_what_receives_no_event_is_not_a_sink(other: Any) -> None:
    """To be closed is not enough."""
    assert not isinstance(other, Sink)
    with pytest.raises(TypeError, match="is not a sink"):
        Bus().attach(other)


def test_each_protocol_is_one_method() -> None:
    """So that code may ask what a sink listens to."""
    kinds = (OnMetrics, OnConfig, OnLifecycle, OnArtifact)
    sinks = (Metrics(), Config(), Lifecycle(), Artifacts())
    heard = [[isinstance(sink, kind) for kind in kinds] for sink in sinks]
    assert heard == [[row == column for column in range(4)] for row in range(4)]
