"""Numbers on an accelerator: a simulated one, so that order, overflow and failures can be played."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.kept import Kept
from trackside.events import LifecycleEvent, MetricsSample
from trackside.sinks import mlflow as sink_
from trackside.sinks.accelerator import DeviceQueue
from trackside.sinks.torch_devices import ARRAYS, PLACES, TorchDevices, stacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class OnDevice:
    """A number on the simulated accelerator. Reading it at once is the mistake that must not happen."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        raise AssertionError("the loop waited for the accelerator")


class FakeCopy:
    """A copy that arrives when the test says so."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers
        self.arrived = False
        self.error: Exception | None = None
        """What the device answers, once it has failed."""

    def passed(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.arrived

    def arrived_before_failure(self) -> bool:
        assert self.error is not None
        return self.arrived

    def read(self) -> Any:
        assert self.arrived
        return self.numbers


class FakeDevices:
    """An accelerator that computes nothing until it is told to."""

    def __init__(self) -> None:
        self.copies: list[FakeCopy] = []
        self.in_capture = False
        self.error: Exception | None = None

    def takes(self, value: object) -> bool:
        return isinstance(value, OnDevice)

    def takes_quickly(self, values: Sequence[Any]) -> bool:
        return all(map(self.takes, values))

    def undisturbing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def capturing(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.in_capture

    def start(self, values: Sequence[Any]) -> FakeCopy:
        if self.error is not None:
            raise self.error
        self.copies.append(FakeCopy([value.number for value in values]))
        return self.copies[-1]

    def start_array(self, value: Any) -> FakeCopy:
        if self.error is not None:
            raise self.error
        self.copies.append(FakeCopy(value.number))
        return self.copies[-1]


class Queue(DeviceQueue):
    """A queue that writes down what becomes of each sample."""

    def __init__(self, **options: Any) -> None:
        self.device = FakeDevices()
        self.points: list[int] = []
        self.log: list[Any] = []
        super().__init__(self.device, note_points=self.points.append, **options)

    def put(self, *numbers: float) -> None:
        self.add([OnDevice(number) for number in numbers], len(numbers), self.log.append, self.log.append)


def test_nothing_is_read_before_it_has_arrived() -> None:
    """Not at the emit, not at the next one, and the points on their way are told all along."""
    queue = Queue()
    queue.put(1.0, 2.0)
    queue.put(3.0)
    queue.collect()
    assert (queue.log, len(queue), queue.points) == ([], 2, [2, 3])
    for copy in queue.device.copies:
        copy.arrived = True
    queue.collect()
    assert (queue.log, len(queue), queue.points) == ([[1.0, 2.0], [3.0]], 0, [2, 3, 1, 0])


def test_order_is_that_of_the_emits() -> None:
    """A copy that overtakes (another stream, another device) waits for those before it."""
    queue = Queue()
    for number in range(4):
        queue.put(number)
    for index in (3, 1, 2):
        queue.device.copies[index].arrived = True
        queue.collect()
        assert queue.log == []
    queue.device.copies[0].arrived = True
    queue.put(9)
    assert queue.log == [[0], [1], [2], [3]]


def test_overflow_is_refused_at_once_and_ends() -> None:
    """The loop never waits for a stuck device. What was accepted before is still delivered."""
    queue = Queue(slots=3)
    for number in range(5):
        queue.put(number)
    assert queue.log == ["3 samples wait for the accelerator already"] * 2
    assert len(queue.device.copies) == 3
    for copy in queue.device.copies:
        copy.arrived = True
    queue.put(5)
    assert queue.log[2:] == [[0], [1], [2]]
    assert len(queue) == 1


def test_nothing_is_asked_of_the_device_in_a_capture() -> None:
    """A copy would become part of the graph, and a look at an event would spoil it."""
    queue = Queue()
    queue.put(1)
    queue.device.copies[0].error = AssertionError("asked in a capture")
    queue.device.in_capture = True
    queue.put(2)
    queue.collect()
    assert queue.log == ["it was emitted while a CUDA graph was captured"]
    assert len(queue) == 1
    assert len(queue.device.copies) == 1


def test_failing_device_costs_the_samples_it_fails() -> None:
    """An error at the copy, or found at the event: counted with its reason, and on to the next."""
    queue = Queue()
    queue.device.error = RuntimeError("out of memory\nand a long trace")
    queue.put(1)
    queue.device.error = None
    queue.put(2)
    queue.put(3)
    queue.device.copies[0].error = RuntimeError("CUDA error: device-side assert")
    queue.device.copies[1].arrived = True
    queue.collect()
    assert queue.log == [
        "the accelerator refused it: RuntimeError: out of memory",
        "the accelerator failed: RuntimeError: CUDA error: device-side assert",
        [3],
    ]
    assert queue.points[-1] == 0


def test_what_arrived_before_a_failure_is_kept() -> None:
    """The device answers nothing but its error then, also about copies that it had made."""
    queue = Queue()
    for number in range(3):
        queue.put(number)
    queue.device.error = RuntimeError("CUDA error: device-side assert triggered")
    for copy, arrived in zip(queue.device.copies, (True, True, False), strict=True):
        copy.arrived, copy.error = arrived, queue.device.error
    assert queue.drain(0.0)
    lost = "the accelerator failed: RuntimeError: CUDA error: device-side assert triggered"
    assert queue.log == [[0], [1], lost]
    assert queue.points[-1] == 0


def test_waiting_has_a_bound() -> None:
    """What arrives meanwhile is delivered. What does not is counted when it is given up."""
    queue = Queue()
    queue.put(1)
    queue.put(2)
    timer = threading.Timer(0.05, lambda: setattr(queue.device.copies[0], "arrived", True))
    timer.start()
    assert not queue.drain(0.3)
    timer.join()
    assert queue.log == [[1]]
    queue.give_up("too late")
    assert queue.log == [[1], "too late"]
    assert queue.points[-1] == 0
    assert queue.drain(0.0)


def test_threads_lose_and_double_nothing() -> None:
    """Emits from several threads while copies arrive: each sample is delivered once."""
    queue = Queue(slots=10_000)

    def work(base: int) -> None:
        for number in range(300):
            queue.put(base + number)
            queue.device.copies[number].arrived = True

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for copy in queue.device.copies:
        copy.arrived = True
    queue.collect()
    assert sorted(number for numbers in queue.log for number in numbers) == sorted(
        1000 * index + number for index in range(4) for number in range(300)
    )


def test_sample_emitted_while_another_is_delivered() -> None:
    """A handler or finaliser that logs in the midst of a delivery: its sample waits its turn."""
    queue = Queue()

    def deliver(numbers: list[float]) -> None:
        queue.log.append(numbers)
        queue.put(2)

    queue.add([OnDevice(1)], 1, deliver, queue.log.append)
    queue.device.copies[0].arrived = True
    queue.collect()
    queue.device.copies[1].arrived = True
    queue.collect()
    assert queue.log == [[1], [2]]


# The sink


class OnAccelerator(Kept):
    """With a simulated accelerator."""

    def __init__(self, root: Path) -> None:
        self.device = FakeDevices()
        super().__init__(root, devices=self.device)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[OnAccelerator]:
    """Cleared away at the end."""
    made = OnAccelerator(tmp_path)
    yield made
    made.close()


def test_sample_is_journaled_when_its_numbers_have_arrived(kept: OnAccelerator) -> None:
    """With the step, time and order of names of its emit. One without device values does not wait."""
    metrics: dict[str, Any] = {"loss": OnDevice(0.5), "lr": 0.1, "norm": OnDevice(7.0), "n": 3}
    kept.bus.emit(MetricsSample(1, 2, metrics, "train", 1_700_000_000_123))
    metrics["lr"] = 99.0
    kept.bus.emit(MetricsSample(2, metrics={"cpu": 1.0}))
    (host,) = kept.records()
    assert (host.seq, host.step, host.metrics) == (1, 2, {"cpu": 1.0})
    assert kept.on_device == 5
    kept.device.copies[0].arrived = True
    kept.bus.emit(MetricsSample(3, metrics={"cpu": 2.0}))
    third, first = kept.records()
    assert (third.seq, first.seq) == (2, 3)
    assert (first.step, first.epoch, first.prefix, first.timestamp_ms) == (1, 2.0, "train", 1_700_000_000_123)
    assert [*first.metrics.items()] == [("loss", 0.5), ("lr", 0.1), ("norm", 7.0), ("n", 3.0)]
    assert (kept.on_device, kept.dropped) == (0, 0)


def test_drops_beside_device_values_are_counted_once(
    kept: OnAccelerator, caplog: pytest.LogCaptureFixture
) -> None:
    """The sample is looked at twice, but what is no number is dropped once."""
    metrics: dict[Any, Any] = {"note": "text", "loss": OnDevice(1.0), 7: 8.0}
    kept.bus.emit(MetricsSample(1, metrics=metrics))
    kept.device.copies[0].arrived = True
    assert kept.sink.drain(1.0)
    assert [record.metrics for record in kept.records()] == [{"loss": 1.0, "7": 8.0}]
    assert kept.dropped == 1
    assert len(caplog.records) == 1


def test_nested_device_values_are_fetched_under_their_flat_names(kept: OnAccelerator) -> None:
    """With the values beside them, and a name that is there twice counted once."""
    metrics = {"eval": {"a": OnDevice(1.5), "b": 2.5}, "twice": {"x": 1.0}, "twice/x": 3.0}
    kept.bus.emit(MetricsSample(1, metrics=metrics))
    kept.device.copies[0].arrived = True
    assert kept.sink.drain(1.0)
    assert [r.metrics for r in kept.records()] == [{"eval/a": 1.5, "eval/b": 2.5, "twice/x": 3.0}]
    assert kept.dropped == 1


def test_capture_is_counted_and_said_once(kept: OnAccelerator, caplog: pytest.LogCaptureFixture) -> None:
    """What is emitted in a graph's capture has no value yet, and never will."""
    kept.device.in_capture = True
    for step in range(3):
        kept.bus.emit(MetricsSample(step, 1, {"a": OnDevice(1), "b": 2.0}))
    assert (kept.records(), kept.dropped) == ([], 9)
    (record,) = caplog.records
    assert (
        "is dropped: it was emitted while a CUDA graph was captured; such are counted" in record.getMessage()
    )


@pytest.mark.parametrize("kind", ["finished", "finishing", "exited", "crashed"])
def test_end_waits_for_the_device_with_a_bound(
    kept: OnAccelerator, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not arrive is counted. A value still on the device at a death is in the scoreboard."""
    monkeypatch.setattr(sink_, "DEVICE_TIMEOUT", 0.05)
    kept.bus.emit(MetricsSample(1, metrics={"loss": OnDevice(1)}))
    kept.bus.emit(MetricsSample(2, metrics={"loss": OnDevice(2), "lr": 0.1}))
    assert (kept.on_device, kept.dropped) == (3, 0)
    kept.device.copies[0].arrived = True
    kept.bus.emit(LifecycleEvent(kind))
    assert [record.step for record in kept.records()] == [1]
    assert (kept.on_device, kept.dropped) == (0, 2)


def test_samples_with_the_same_names_are_all_kept(kept: OnAccelerator) -> None:
    """Whatever changes from one to the next: a value's place or type, the prefix, the epoch or the step."""
    kept.emit(0, metrics={"loss": OnDevice(0), "lr": 0.5})
    kept.emit(1, metrics={"loss": OnDevice(1), "lr": 0.25})
    kept.emit(2, metrics={"loss": OnDevice(2), "lr": 3})
    kept.emit(3, metrics={"loss": 7.0, "lr": OnDevice(3)})
    kept.emit(4, metrics={"loss": OnDevice(4), "lr": "text"})
    kept.emit(5.0, metrics={"loss": OnDevice(5), "lr": OnDevice(6)})
    kept.emit(6, 1.5, {"loss": OnDevice(6), "lr": OnDevice(6)}, "eval")
    kept.emit(7, metrics={"loss": OnDevice(7), "lr": OnDevice(8)})
    kept.emit(None, metrics={"loss": OnDevice(8), "lr": OnDevice(9)})
    for copy in kept.device.copies:
        copy.arrived = True
    assert kept.sink.drain(1.0)
    assert [(r.step, r.epoch, r.prefix, r.metrics) for r in kept.records()] == [
        (0, None, None, {"loss": 0.0, "lr": 0.5}),
        (1, None, None, {"loss": 1.0, "lr": 0.25}),
        (2, None, None, {"loss": 2.0, "lr": 3.0}),
        (3, None, None, {"loss": 7.0, "lr": 3.0}),
        (4, None, None, {"loss": 4.0}),
        (5, None, None, {"loss": 5.0, "lr": 6.0}),
        (6, 1.5, "eval", {"loss": 6.0, "lr": 6.0}),
        (7, None, None, {"loss": 7.0, "lr": 8.0}),
        (8, None, None, {"loss": 8.0, "lr": 9.0}),
    ]
    assert (kept.dropped, kept.on_device) == (1, 0)


def test_samples_without_device_values_start_no_queue(kept: OnAccelerator) -> None:
    """And what is unknown to the accelerator goes the usual way."""
    kept.bus.emit(MetricsSample(1, metrics={"a": 1.0, "b": 2, "c": "text"}))
    assert kept.sink._fetcher.queue is None
    assert kept.sink.drain(0.0)


# torch, as far as it goes without an accelerator


def test_cpu_tensors_are_not_taken() -> None:
    """They are read at the emit, which is cheaper than anything else."""
    torch = pytest.importorskip("torch")
    devices = TorchDevices()
    assert not devices.takes(torch.tensor(1.0))
    assert not devices.takes(torch.empty(1, device="meta"))
    assert not devices.takes(1.0)
    assert not devices.capturing()


def test_numbers_are_stacked_as_float64() -> None:
    """Any dtype, any shape, with or without gradients. Of several elements the mean."""
    torch = pytest.importorskip("torch")
    values = [
        torch.tensor(0.1, dtype=torch.float64),
        torch.tensor(1.5, requires_grad=True),
        torch.tensor([[2.5]], dtype=torch.bfloat16),
        torch.tensor(0.5, dtype=torch.float16),
        torch.tensor(2**53 - 1),
        torch.tensor([True, False]),
        torch.tensor([1, 2, 4]),
        torch.tensor(math.nan),
    ]
    got = stacked(torch, values, torch.float64)
    assert got.dtype == torch.float64
    assert not got.requires_grad
    expected = [0.1, 1.5, 2.5, 0.5, 2**53 - 1, 0.5, 7 / 3, math.nan]
    assert got.tolist() == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    assert stacked(torch, [torch.tensor(3), torch.tensor(4)], torch.float64).tolist() == [3.0, 4.0]


class Event:
    """Stands in for ``torch.cuda.Event``."""

    error: Exception | None = None

    def record(self, _stream: object) -> None:
        """The copy has been made: there is nothing to wait for."""

    def query(self) -> bool:
        if self.error is not None:
            raise self.error
        return True


class CpuAsAccelerator:
    """torch, with the CPU in the part of an accelerator that has events and pinned memory."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.pinned: list[Any] = []
        """The sizes of all allocations."""
        self.cpu = SimpleNamespace(Event=Event, current_stream=lambda _device: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def empty(self, size: Any, *, pin_memory: bool, **options: Any) -> Any:
        assert pin_memory
        self.pinned.append(size)
        return self._torch.empty(size, **options)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> CpuAsAccelerator:
    """torch, for :class:`TorchDevices`."""
    made = CpuAsAccelerator(pytest.importorskip("torch"))
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


def test_buffers_are_used_again(stand_in: CpuAsAccelerator) -> None:
    """Only after they were read. A larger sample gets a larger buffer. Inference mode spoils none."""
    devices = TorchDevices()
    with stand_in.inference_mode():
        first = devices.start([stand_in.tensor(1.0), stand_in.tensor(2)])
    second = devices.start([stand_in.tensor(3.0)])
    assert first.passed()
    assert first.read() == [1.0, 2.0]
    third = devices.start([stand_in.tensor(4.0)])
    assert (second.read(), third.read()) == ([3.0], [4.0])
    for number in range(3 * PLACES):
        with stand_in.inference_mode():
            assert devices.start([stand_in.tensor(number)]).read() == [number]
    assert stand_in.pinned == [PLACES * 16]
    assert devices.start([stand_in.tensor(1.0)] * 17).read() == [1.0] * 17
    assert stand_in.pinned == [PLACES * 16, PLACES * 32]


def test_pinned_memory_is_allocated_for_many_samples(stand_in: CpuAsAccelerator) -> None:
    """Allocating it may wait for the device. A sample of very many numbers gets a buffer for itself."""
    devices = TorchDevices()
    waiting = [devices.start([stand_in.tensor(number)]) for number in range(2 * PLACES)]
    assert [copy.read() for copy in waiting] == [[number] for number in range(2 * PLACES)]
    assert stand_in.pinned == [PLACES * 16] * 2
    many = [stand_in.tensor(1.0)] * 200_000
    assert sum(devices.start(many).read()) == 200_000
    assert stand_in.pinned[2:] == [1 << 18]


def test_buffer_tells_whether_the_device_has_written_to_it(
    stand_in: CpuAsAccelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number, NaN also, and whatever the sample before in the same buffer was."""
    devices = TorchDevices()
    assert devices.start([stand_in.tensor(7.0)] * 16).read() == [7.0] * 16
    monkeypatch.setattr(Event, "error", RuntimeError("CUDA error"))
    written = devices.start([stand_in.tensor(number) for number in (0.0, math.nan, -1.0)])
    with monkeypatch.context() as patch:
        patch.setattr(stand_in._torch.Tensor, "copy_", lambda *_, **__: None)
        unwritten = devices.start([stand_in.tensor(1.0)])
        unwritten_wide = devices.start([stand_in.tensor(1)])
    with pytest.raises(RuntimeError, match="CUDA error"):
        written.passed()
    assert written.arrived_before_failure()
    assert written.read() == pytest.approx([0.0, math.nan, -1.0], nan_ok=True)
    assert not unwritten.arrived_before_failure()
    assert not unwritten_wide.arrived_before_failure()


def test_no_value_is_kept(kept: OnAccelerator) -> None:
    """A loss holds the graph behind it, and the activations of its step. A GPU may be many steps behind."""

    class Loss(OnDevice):
        """Something that can be referred to weakly."""

    loss = Loss(1.0)
    gone = weakref.ref(loss)
    kept.emit(1, metrics={"loss": loss, "lr": 0.1})
    del loss
    assert gone() is None
    other = Loss(2.0)
    gone = weakref.ref(other)
    kept.emit(2, metrics={"loss": other, "lr": 0.1})
    del other
    assert gone() is None
    assert kept.on_device == 4


def test_arrays_are_copied_whole(stand_in: CpuAsAccelerator) -> None:
    """In their own type and shape, into memory of their own. So many bytes may wait, and no more."""
    devices = TorchDevices()
    source = stand_in.arange(12, dtype=stand_in.bfloat16).reshape(3, 4).T
    copy = devices.start_array(source.requires_grad_())
    with stand_in.no_grad():
        source.zero_()
    assert copy.passed()
    assert copy.read().tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    many = stand_in.zeros(1).expand(ARRAYS // 4)
    with pytest.raises(RuntimeError, match="MiB of arrays would wait"):
        devices.start_array(many)
    del copy
    del many
    devices.start_array(stand_in.zeros(3))
