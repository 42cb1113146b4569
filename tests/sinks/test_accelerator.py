"""Numbers on an accelerator: a simulated one, so that order, overflow and failures can be played."""

from __future__ import annotations

import math
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.kept import Kept
from trackside.events import LifecycleEvent, MetricsSample
from trackside.sinks import mlflow as sink_
from trackside.sinks.accelerator import SLOTS, DeviceQueue, TorchDevices, stacked

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

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers
        self.arrived = False
        self.error: Exception | None = None

    def passed(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.arrived

    def read(self) -> list[float]:
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

    def capturing(self) -> bool:
        return self.in_capture

    def start(self, values: Sequence[Any]) -> FakeCopy:
        if self.error is not None:
            raise self.error
        self.copies.append(FakeCopy([value.number for value in values]))
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


def test_samples_without_device_values_start_no_queue(kept: OnAccelerator) -> None:
    """And what is unknown to the accelerator goes the usual way."""
    kept.bus.emit(MetricsSample(1, metrics={"a": 1.0, "b": 2, "c": "text"}))
    assert kept.sink._on_device is None
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

    made = 0

    def __init__(self) -> None:
        Event.made += 1
        self.recorded = 0

    def record(self, _stream: object) -> None:
        self.recorded += 1

    def query(self) -> bool:
        return True


class CpuAsAccelerator:
    """torch, with the CPU in the part of an accelerator that has events and pinned memory."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.buffers = 0
        self.cpu = SimpleNamespace(Event=Event, current_stream=lambda _device: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def empty(self, size: int, *, pin_memory: bool, **options: Any) -> Any:
        assert pin_memory
        self.buffers += 1
        return self._torch.empty(size, **options)


def test_buffers_and_events_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after they were read. A larger sample gets a larger buffer. Inference mode spoils none."""
    torch = pytest.importorskip("torch")
    stand_in = CpuAsAccelerator(torch)
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    monkeypatch.setattr(Event, "made", 0)
    devices = TorchDevices()
    with torch.inference_mode():
        first = devices.start([torch.tensor(1.0), torch.tensor(2)])
    second = devices.start([torch.tensor(3.0)])
    assert (Event.made, stand_in.buffers) == (2, 2)
    assert first.passed()
    assert first.read() == [1.0, 2.0]
    third = devices.start([torch.tensor(4.0)])
    assert (Event.made, stand_in.buffers) == (2, 2)
    assert (second.read(), third.read()) == ([3.0], [4.0])
    assert devices.start([torch.tensor(1.0)] * 17).read() == [1.0] * 17
    assert (Event.made, stand_in.buffers) == (2, 3)


# An accelerator


@pytest.fixture
def cuda() -> Any:
    """torch, where there is a GPU."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch


@pytest.fixture
def on_gpu(cuda: Any, tmp_path: Path) -> Iterator[Kept]:
    """With the real accelerator."""
    made = Kept(tmp_path)
    yield made
    made.close()


@pytest.mark.gpu
def test_gpu_values_arrive_without_a_wait(cuda: Any, on_gpu: Kept) -> None:
    """Emits while the queue of the GPU is full take no time of it. Buffers are used again."""
    values = [cuda.tensor(float(number), device="cuda") for number in range(10)]
    for step in range(SLOTS // 2):
        cuda.cuda._sleep(100_000)
        metrics = {f"m{index}": value + step for index, value in enumerate(values)}
        on_gpu.bus.emit(MetricsSample(step, metrics=metrics))
    assert on_gpu.sink.drain(30.0)
    records = on_gpu.records()
    assert [record.step for record in records] == list(range(SLOTS // 2))
    assert records[-1].metrics == {f"m{index}": index + SLOTS // 2 - 1.0 for index in range(10)}


@pytest.mark.gpu
def test_gpu_capture_is_not_spoiled(cuda: Any, on_gpu: Kept) -> None:
    """A graph captured around emits replays, and the emits are counted as dropped."""
    value = cuda.zeros((), device="cuda")
    on_gpu.bus.emit(MetricsSample(0, metrics={"before": value}))
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        value += 1
        on_gpu.bus.emit(MetricsSample(1, metrics={"within": value}))
    graph.replay()
    on_gpu.bus.emit(MetricsSample(2, metrics={"after": value}))
    assert on_gpu.sink.drain(30.0)
    assert [(record.step, record.metrics) for record in on_gpu.records()] == [
        (0, {"before": 0.0}),
        (2, {"after": 1.0}),
    ]
    assert on_gpu.dropped == 1
