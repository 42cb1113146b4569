"""The records on the bus: what they hold, and what cannot be done to them."""

from __future__ import annotations

import time

import pytest

from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample, now_ms

EVENTS = [MetricsSample(1), ConfigEvent({}), LifecycleEvent("started")]


@pytest.mark.wheel
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_and_slotted(event) -> None:
    """What one sink gets, no other can have changed, and there is no ``__dict__`` to pay for."""
    with pytest.raises(AttributeError):
        event.timestamp_ms = 5
    with pytest.raises(AttributeError):
        event.colour = "red"
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_timestamp_is_the_moment_of_making(event) -> None:
    """Milliseconds since the epoch, MLflow's unit."""
    before = time.time_ns() // 1_000_000
    made = type(event)(*(getattr(event, name) for name in event.__struct_fields__[:1]))
    assert before <= made.timestamp_ms <= now_ms()


def test_defaults() -> None:
    """A step is all a sample needs. A config is flattened one level. A lifecycle event needs its kind."""
    sample = MetricsSample(3)
    assert (sample.step, sample.epoch, sample.metrics, sample.prefix) == (3, None, {}, None)
    assert ConfigEvent({"lr": 1}).flatten_depth == 1
    event = LifecycleEvent("terminating")
    assert (event.status, event.message, event.signal, event.exit_code) == (None, None, None, None)
    assert (event.error_type, event.traceback) == (None, None)


def test_the_default_metrics_are_nobodys_shared_dict() -> None:
    """Each sample has a mapping of its own."""
    one, other = MetricsSample(1), MetricsSample(2)
    one.metrics["loss"] = 1.0  # type: ignore[index] # a mapping to the reader, a dict in fact
    assert other.metrics == {}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
        (4_102_444_800_007, "2100-01-01T00:00:00.007Z"),
    ],
)
def test_to_dict_has_an_iso_timestamp_in_utc(milliseconds: int, text: str, monkeypatch) -> None:
    """Milliseconds always, ``Z`` for UTC, whatever the machine's time zone."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        record = MetricsSample(1, timestamp_ms=milliseconds).to_dict()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert record == {"step": 1, "epoch": None, "timestamp": text}


def test_to_dict_spreads_the_metrics() -> None:
    """``step``, ``epoch`` and ``timestamp`` first, then the metrics under their own names."""
    record = MetricsSample(7, 2, {"loss": 0.5, "lr": 0.1}, prefix="val", timestamp_ms=0).to_dict()
    assert list(record.items()) == [
        ("step", 7),
        ("epoch", 2),
        ("timestamp", "1970-01-01T00:00:00.000Z"),
        ("loss", 0.5),
        ("lr", 0.1),
    ]
