"""Values on a simulated accelerator: nothing waits for them, and they are kept when they have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.sinks.artifacts.delivered import file_of, pixels_of, told
from tests.sinks.kept import Kept
from tests.sinks.test_accelerator import FakeDevices, OnDevice
from trackside.events import LifecycleEvent, MetricsSample
from trackside.sinks.accelerator import SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


class ArrayOnDevice(OnDevice):
    """An array there. Its shape is known, and reading it is the mistake that must not happen."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.shape = array.shape

    def __array__(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("the loop waited for the accelerator")


@pytest.fixture
def devices() -> FakeDevices:
    """Whose copies arrive when the test says so."""
    return FakeDevices()


@pytest.fixture
def kept(tmp_path: Path, devices: FakeDevices) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path, devices=devices)
    yield made
    made.close()


def arrive(devices: FakeDevices) -> None:
    """Let every copy arrive."""
    for copy in devices.copies:
        copy.arrived = True


def test_an_image_is_kept_once_it_has_arrived(kept: Kept, devices: FakeDevices, tmp_path: Path) -> None:
    """With the step and the time of the call, at whatever is logged next. Until then it is counted."""
    kept.emit(7, metrics={"loss": 1.0})
    kept.bus.log_image(ArrayOnDevice(PIXELS), key="a")
    kept.emit(8, metrics={"loss": 1.0})
    assert [record.step for record in kept.records()] == [7, 8]
    assert kept.on_device == 1
    arrive(devices)
    kept.emit(9, metrics={"loss": 1.0})
    nine, image = kept.records()
    assert (nine.step, image.step, image.place) == (9, 7, "a")
    assert image.timestamp_ms <= nine.timestamp_ms
    assert np.array_equal(pixels_of(file_of(kept, image, tmp_path)), PIXELS)
    assert (kept.on_device, kept.dropped) == (0, 0)


def test_a_loop_that_logs_images_alone(kept: Kept, devices: FakeDevices) -> None:
    """The next one looks for those before it."""
    for step in range(3):
        arrive(devices)
        kept.bus.log_image(ArrayOnDevice(PIXELS), key="a", step=step)
    assert [record.step for record in kept.records()] == [0, 1]


def test_every_kind_of_value(kept: Kept, devices: FakeDevices) -> None:
    """Images, numbers, samples and frames."""
    kept.bus.log_image(ArrayOnDevice(PIXELS), "a.png")
    kept.bus.log_histogram(ArrayOnDevice(PIXELS), "h", step=1)
    kept.bus.log_audio(ArrayOnDevice(np.zeros(5)), "s", step=1, sample_rate=8000)
    kept.bus.log_video(ArrayOnDevice(np.zeros((2, 3, 4))), "v", step=1, fps=5)
    assert kept.records() == []
    arrive(devices)
    assert kept.sink.drain(10)
    kinds = [getattr(record, "kind", "metrics") for record in kept.records()]
    assert kinds == ["image", "metrics", "histogram", "audio", "video"]


def test_what_is_no_image_is_told_when_it_has_arrived(
    kept: Kept, devices: FakeDevices, caplog: pytest.LogCaptureFixture
) -> None:
    """As if it had been here."""
    kept.bus.log_image(ArrayOnDevice(np.zeros((2, 3, 4, 5))), key="a", step=0)
    arrive(devices)
    assert kept.sink.drain(10)
    assert kept.records() == []
    assert "make_grid" in told(caplog)


def test_an_image_that_never_arrives_is_counted(
    kept: Kept, devices: FakeDevices, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the run, when the accelerator fails, and when too many wait."""
    monkeypatch.setattr("trackside.sinks.mlflow.DEVICE_TIMEOUT", 0.01)
    kept.bus.log_image(ArrayOnDevice(PIXELS), key="a", step=0)
    kept.bus.emit(LifecycleEvent("finishing"))
    kept.bus.log_image(ArrayOnDevice(PIXELS), key="a", step=1)
    devices.copies[-1].error = RuntimeError("CUDA error: an illegal memory access")
    kept.bus.emit(MetricsSample(2, metrics={"loss": 1.0}))
    devices.in_capture = True
    kept.bus.log_image(ArrayOnDevice(PIXELS), key="a", step=3)
    devices.in_capture = False
    for step in range(SLOTS + 1):
        kept.bus.log_image(ArrayOnDevice(PIXELS), key="a", step=step)
    assert told(caplog).count("the image 'a' is not logged") == 4
    for reason in (
        "has not delivered it",
        "illegal memory access",
        "a CUDA graph was captured",
        "wait for the",
    ):
        assert reason in told(caplog)
