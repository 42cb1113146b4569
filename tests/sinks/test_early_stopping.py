"""A function called with a metric, and the sink that says when to stop."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.sinks import CallbackSink, EarlyStopping


def feed(stopper: EarlyStopping, *values: float) -> list[bool]:
    """Whether to stop, after each of the values."""
    bus, answers = Bus(), []
    with bus.attached(stopper):
        for step, value in enumerate(values):
            bus.emit(MetricsSample(step, metrics={"loss": value}, prefix="val"))
            answers.append(stopper.should_stop)
    return answers


def test_a_callback_gets_each_value_of_its_metric() -> None:
    """By its delivered name, as a float, whatever it was logged as."""
    seen: list[tuple[float, Any]] = []
    bus = Bus()
    bus.attach(CallbackSink("val/loss", lambda value, step: seen.append((value, step))))
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}, prefix="val"))
    bus.emit(MetricsSample(2, metrics={"loss": 0.4}, prefix="train"))
    bus.emit(MetricsSample(3, metrics={"val/loss": 1}))
    assert seen == [(0.5, 1), (1.0, 3)]
    assert type(seen[1][0]) is float


def test_a_callbacks_errors_stay_out_of_the_training(caplog: pytest.LogCaptureFixture) -> None:
    """As any sink's."""
    bus = Bus()
    bus.attach(CallbackSink("loss", lambda _value, _step: 1 / 0))
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    assert "sink CallbackSink('loss'" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_it_stops_when_nothing_got_better_so_many_times_in_a_row() -> None:
    """Counted from the best value. A better one starts the count anew. Once true it stays so."""
    stopper = EarlyStopping("val/loss", patience=3)
    answers = feed(stopper, 5, 4, 4.5, 4, 3, 3, 3.5, 3.1, 1)
    assert answers == [False] * 7 + [True, True]
    assert (stopper.best, stopper.best_step) == (1, 8)


def test_more_may_be_better() -> None:
    """As an accuracy is."""
    stopper = EarlyStopping("val/loss", patience=2, mode="max")
    assert feed(stopper, 0.5, 0.6, 0.55, 0.6) == [False, False, False, True]
    assert (stopper.best, stopper.best_step, stopper.waited) == (0.6, 1, 2)


def test_a_gain_below_min_delta_is_none() -> None:
    """Nor does it move the best value, or many small gains would never add up."""
    assert feed(EarlyStopping("val/loss", patience=2, min_delta=0.5), 5, 4.7, 4.6) == [False, False, True]
    assert feed(EarlyStopping("val/loss", patience=2, min_delta=0.5), 5, 4.7, 4.4) == [False] * 3


def test_nan_is_never_better() -> None:
    """Not even than nothing. Anything is better than an infinity."""
    assert feed(EarlyStopping("val/loss", patience=2), math.nan, math.nan) == [False, True]
    stopper = EarlyStopping("val/loss", patience=2)
    assert feed(stopper, math.nan, math.inf, 3, math.nan, 2) == [False] * 5
    assert stopper.best == 2


def test_other_metrics_do_not_count() -> None:
    """Only its own, by the delivered name."""
    stopper, bus = EarlyStopping("val/loss", patience=1), Bus()
    bus.attach(stopper)
    for step in range(5):
        bus.emit(MetricsSample(step, metrics={"loss": 1.0}, prefix="train"))
    assert (stopper.best, stopper.should_stop) == (None, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be 1 or more"),
        ({"mode": "least"}, "mode must be 'min' or 'max', not 'least'"),
        ({"min_delta": -1}, "min_delta must be 0 or more"),
        ({"min_delta": math.nan}, "min_delta must be 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    """When it is made, not at the end of the first epoch."""
    with pytest.raises(ConfigurationError, match=message):
        EarlyStopping("val/loss", **options)
