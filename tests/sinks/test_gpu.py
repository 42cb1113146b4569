"""Numbers on a real GPU: ``pytest -m gpu tests/sinks``, with torch built for CUDA."""

from __future__ import annotations

import json
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.kept import Kept
from trackside.events import MetricsSample
from trackside.journal.held_content import content_of
from trackside.sinks.accelerator import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# torch warns of what it plans to change, and the GPU's version of torch is not that of the other tests.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

SECOND = 2_000_000_000
"""Cycles of a GPU in about a second."""

TIMEOUT = 60.0


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
    cuda.cuda.synchronize()
    made = Kept(tmp_path)
    yield made
    made.close()


@pytest.fixture
def no_waiting(cuda: Any, on_gpu: Kept) -> Iterator[Kept]:
    """As ``on_gpu``, but whatever torch knows to wait for the GPU raises ``RuntimeError``."""
    cuda.cuda.set_sync_debug_mode("error")
    yield on_gpu
    cuda.cuda.set_sync_debug_mode("default")


def losses(kept: Kept) -> list[float]:
    """The values of ``loss``, once all samples have arrived. None is missing."""
    assert kept.sink.drain(TIMEOUT)
    assert (kept.dropped, kept.on_device) == (0, 0)
    return [record.metrics["loss"] for record in kept.records()]


def warm_up(torch: Any) -> None:
    """Have CUDA load the kernels that an emit needs. It loads each at its first use, and may then wait."""
    value = torch.zeros((), device="cuda")
    torch.stack([value + 1]).to(torch.float64)
    torch.cuda.synchronize()


# No emit waits


def test_values_arrive_in_order(cuda: Any, on_gpu: Kept) -> None:
    """Ten a sample, of as many steps as half the slots. Buffers are used again."""
    values = [cuda.tensor(float(number), device="cuda") for number in range(10)]
    for step in range(SLOTS // 2):
        cuda.cuda._sleep(100_000)
        metrics = {f"m{index}": value + step for index, value in enumerate(values)}
        on_gpu.bus.emit(MetricsSample(step, metrics=metrics))
    assert on_gpu.sink.drain(TIMEOUT)
    records = on_gpu.records()
    assert [record.step for record in records] == list(range(SLOTS // 2))
    assert records[-1].metrics == {f"m{index}": index + SLOTS // 2 - 1.0 for index in range(10)}


def test_emits_return_while_the_gpu_works(cuda: Any, on_gpu: Kept) -> None:
    """All of them, also the first, which allocates pinned memory."""
    warm_up(cuda)
    value, end = cuda.zeros((), device="cuda"), cuda.cuda.Event()
    cuda.cuda._sleep(5 * SECOND)
    end.record()
    for step in range(100):
        on_gpu.emit(step, metrics={"loss": value + step})
    assert not end.query(), "an emit has waited for the GPU"
    assert on_gpu.on_device == 100
    assert losses(on_gpu) == list(range(100))


def test_torch_knows_of_no_synchronisation(cuda: Any, no_waiting: Kept) -> None:
    """In torch's own debug mode, for every kind of number. ``.item()`` raises there."""
    numbers = {
        "float32": (cuda.full((), 0.1, device="cuda"), 0.10000000149011612),
        "float64": (cuda.full((), 0.1, device="cuda", dtype=cuda.float64), 0.1),
        "bfloat16": (cuda.full((), 2.5, device="cuda", dtype=cuda.bfloat16), 2.5),
        "float16": (cuda.full((), 0.5, device="cuda", dtype=cuda.float16), 0.5),
        "int64": (cuda.full((), 2**53 - 1, device="cuda", dtype=cuda.int64), 2**53 - 1),
        "bool": (cuda.ones((), device="cuda", dtype=cuda.bool), 1.0),
        "with a gradient": (cuda.full((), 1.5, device="cuda", requires_grad=True), 1.5),
        "of a graph": (cuda.full((), 1.5, device="cuda", requires_grad=True) * 2, 3.0),
        "of one element": (cuda.full((1, 1), 2.5, device="cuda"), 2.5),
        "a mean": (cuda.arange(4, device="cuda", dtype=cuda.float32), 1.5),
        "a mean of integers": (cuda.arange(4, device="cuda"), 1.5),
        "a mean of booleans": (cuda.arange(4, device="cuda") > 0, 0.75),
        "a mean of a view": (cuda.arange(6.0, device="cuda").reshape(2, 3).t()[1:], 3.0),
        "an expanded one": (cuda.full((1,), 3.0, device="cuda").expand(1000), 3.0),
        "not a number": (cuda.full((), math.nan, device="cuda"), math.nan),
    }
    with pytest.raises(RuntimeError, match="synchroniz"):
        numbers["float32"][0].item()
    for name, (value, _) in numbers.items():
        no_waiting.emit(1, metrics={name: value})
    no_waiting.emit(2, metrics={name: value for name, (value, _) in numbers.items()})
    assert no_waiting.sink.drain(TIMEOUT)
    assert no_waiting.dropped == 0
    *alone, together = [record.metrics for record in no_waiting.records()]
    expected = {name: number for name, (_, number) in numbers.items()}
    assert together == pytest.approx(expected, nan_ok=True, rel=0, abs=0)
    assert [next(iter(metrics)) for metrics in alone] == [*numbers]
    found = {name: number for metrics in alone for name, number in metrics.items()}
    assert found == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def test_profile_shows_no_synchronisation(cuda: Any, on_gpu: Kept, tmp_path: Path) -> None:
    """Of 100 steps with ten values each. The same with ``.item()`` shows one for each value."""
    values = [cuda.tensor(float(number), device="cuda") for number in range(10)]

    def loop(log: Callable[[int, dict[str, Any]], None], steps: int = 100) -> Callable[[], None]:
        def run() -> None:
            for step in range(steps):
                log(step, {f"m{index}": value + step for index, value in enumerate(values)})

        return run

    def emit(step: int, metrics: dict[str, Any]) -> None:
        on_gpu.emit(step, metrics=metrics)

    def read(_step: int, metrics: dict[str, Any]) -> None:
        assert all(type(value.item()) is float for value in metrics.values())

    loop(emit, 3)()
    waits_of(cuda, loop(read, 1), tmp_path)  # the profiler itself has to warm up
    assert waits_of(cuda, loop(emit), tmp_path) == []
    assert len(waits_of(cuda, loop(read), tmp_path)) >= 1000
    assert on_gpu.sink.drain(TIMEOUT)
    assert len(on_gpu.records()) == 103


def waits_of(torch: Any, work: Callable[[], None], directory: Path) -> list[str]:
    """The calls to CUDA, in a profile of ``work``, that wait for the GPU."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile, torch.profiler.record_function("work"):
        work()
    path = directory / "trace.json"
    profile.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    (span,) = [event for event in events if event.get("cat") == "user_annotation" and event["name"] == "work"]
    calls = [
        event["name"]
        for event in events
        if event.get("cat") in {"cuda_runtime", "cuda_driver"}
        and span["ts"] <= event["ts"] <= span["ts"] + span["dur"]
    ]
    assert any("Launch" in name for name in calls), "the profile shows no calls"
    return [name for name in calls if "Synchronize" in name or name == "cudaMemcpy"]


def test_no_activations_are_kept(cuda: Any, on_gpu: Kept) -> None:
    """Losses with a graph, of steps that the GPU has not begun. Each graph holds 4 MB."""
    weights = cuda.ones(1 << 20, device="cuda", requires_grad=True)
    warm_up(cuda)

    def emit(step: int) -> None:
        on_gpu.emit(step, metrics={"loss": ((weights * step) ** 2).mean()})

    emit(0)
    cuda.cuda.synchronize()
    before, end = cuda.cuda.memory_allocated(), cuda.cuda.Event()
    cuda.cuda._sleep(5 * SECOND)
    end.record()
    for step in range(1, 50):
        emit(step)
    assert not end.query(), "an emit has waited for the GPU"
    assert cuda.cuda.memory_allocated() - before < 1 << 20
    assert losses(on_gpu)[1:] == pytest.approx([step**2 for step in range(1, 50)])


# The value is that of the emit


def test_value_changed_in_place_afterwards(cuda: Any, on_gpu: Kept) -> None:
    """By the next kernel, while the copy still waits."""
    value = cuda.zeros((), device="cuda")
    cuda.cuda._sleep(SECOND // 10)
    for step in range(50):
        value.fill_(step)
        on_gpu.emit(step, metrics={"loss": value})
        value.fill_(-1)
    assert losses(on_gpu) == list(range(50))


def test_memory_freed_afterwards(cuda: Any, on_gpu: Kept) -> None:
    """The next tensor gets the same memory, and fills it with something else."""
    cuda.cuda._sleep(SECOND // 10)
    reused = 0
    for step in range(50):
        loss = cuda.full((), float(step), device="cuda")
        address = loss.data_ptr()
        on_gpu.emit(step, metrics={"loss": loss})
        del loss
        other = [cuda.full((), -1.0, device="cuda") for _ in range(8)]
        reused += address in {tensor.data_ptr() for tensor in other}
    assert reused
    assert losses(on_gpu) == list(range(50))


def test_values_of_a_side_stream(cuda: Any, on_gpu: Kept) -> None:
    """Logged on that stream, and on the default one once that waits for it."""
    side, value, held = cuda.cuda.Stream(), cuda.zeros((), device="cuda"), []
    cuda.cuda.synchronize()
    for step in range(0, 60, 2):
        with cuda.cuda.stream(side):
            cuda.cuda._sleep(SECOND // 1000)
            on_gpu.emit(step, metrics={"loss": value + step})
            held.append(value + (step + 1))  # as any tensor that another stream reads
        cuda.cuda.current_stream().wait_stream(side)
        on_gpu.emit(step + 1, metrics={"loss": held[-1]})
    assert losses(on_gpu) == list(range(60))


def test_values_from_several_threads(cuda: Any, on_gpu: Kept) -> None:
    """Each with a stream of its own. None is lost, and none is another's."""

    def work(first: int) -> None:
        with cuda.cuda.stream(cuda.cuda.Stream()):
            value = cuda.zeros((), device="cuda")
            cuda.cuda._sleep(SECOND // 100)
            for step in range(first, first + 50):
                on_gpu.emit(step, metrics={"loss": value + step})

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on_gpu.sink.drain(TIMEOUT)
    records = on_gpu.records()
    assert all(record.metrics == {"loss": record.step} for record in records)
    assert sorted(record.step for record in records) == [
        1000 * index + step for index in range(4) for step in range(50)
    ]


# CUDA graphs


def test_memory_of_a_graph_is_overwritten_by_its_next_replay(cuda: Any, on_gpu: Kept) -> None:
    """Each emit has the loss of its own replay, as the eager loop computes it."""
    inputs = cuda.zeros(64, device="cuda")
    (inputs * 2).sum()
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        loss = (inputs * 2).sum()
    cuda.cuda._sleep(SECOND // 10)
    for step in range(100):
        inputs.fill_(step)
        graph.replay()
        on_gpu.emit(step, metrics={"loss": loss})
    assert losses(on_gpu) == [step * 128.0 for step in range(100)]


def test_training_step_that_torch_compiles_to_a_graph(cuda: Any, on_gpu: Kept) -> None:
    """``mode="reduce-overhead"``. Its losses are those of the eager steps."""

    def train(compiled: bool) -> Iterator[Any]:
        cuda.manual_seed(0)
        model = cuda.nn.Sequential(cuda.nn.Linear(64, 64), cuda.nn.ReLU(), cuda.nn.Linear(64, 1)).cuda()
        optimizer = cuda.optim.SGD(model.parameters(), lr=0.01)
        inputs = cuda.randn(30, 32, 64, device="cuda")

        def compute(batch: Any) -> Any:
            return (model(batch) ** 2).mean()

        step = cuda.compile(compute, mode="reduce-overhead") if compiled else compute
        for batch in inputs:
            loss = step(batch)
            yield loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    for step, loss in enumerate(train(compiled=True)):
        on_gpu.emit(step, metrics={"loss": loss})
    eager = [loss.item() for loss in train(compiled=False)]
    assert losses(on_gpu) == pytest.approx(eager, rel=1e-3)
    assert len({*eager}) == 30


def test_capture_is_not_spoiled(cuda: Any, on_gpu: Kept) -> None:
    """A graph captured around emits replays, and the emits are counted as dropped."""
    value = cuda.zeros((), device="cuda")
    on_gpu.emit(0, metrics={"before": value})
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        value += 1
        on_gpu.emit(1, metrics={"within": value})
    graph.replay()
    on_gpu.emit(2, metrics={"after": value})
    assert on_gpu.sink.drain(TIMEOUT)
    assert [(record.step, record.metrics) for record in on_gpu.records()] == [
        (0, {"before": 0.0}),
        (2, {"after": 1.0}),
    ]
    assert on_gpu.dropped == 1


def test_capture_of_another_thread_is_not_spoiled(cuda: Any, on_gpu: Kept) -> None:
    """CUDA forbids every thread to query an event meanwhile, and to allocate pinned memory."""
    total, values = cuda.zeros((), device="cuda"), [cuda.full((), step, device="cuda") for step in range(20)]
    warm_up(cuda)
    capturing, logged = threading.Event(), threading.Event()

    def log() -> None:
        assert capturing.wait(TIMEOUT)
        for step, value in enumerate(values):
            on_gpu.emit(step, metrics={"loss": value})
            on_gpu.emit(step, metrics={"loss": float(step)})
        logged.set()

    thread = threading.Thread(target=log)
    thread.start()
    graph = cuda.cuda.CUDAGraph()
    with cuda.cuda.graph(graph):
        total += 1
        capturing.set()
        assert logged.wait(TIMEOUT)
        total += 1
    thread.join()
    graph.replay()
    assert total.item() == 2
    assert sorted(losses(on_gpu)) == sorted([*range(20), *range(20)])


# Nor does an image or a histogram


def test_arrays_arrive_whole(cuda: Any, no_waiting: Kept) -> None:
    """Of what was in them at the call, though the loop runs ahead and changes them."""
    image = cuda.empty(3, 64, 48, device="cuda")
    weights = cuda.empty(1000, 2000, device="cuda").T

    def step() -> None:
        image.fill_(0.2)
        weights.normal_()
        no_waiting.bus.log_image(image, key="a", step=1)
        no_waiting.bus.log_histogram(weights, "w", step=1)
        image.fill_(0.8)
        no_waiting.bus.log_image(image.to(cuda.bfloat16), key="a", step=2)
        weights.fill_(9)

    step()  # CUDA loads each kernel at its first use, and then it may wait
    assert no_waiting.sink.drain(TIMEOUT)
    no_waiting.records()
    cuda.cuda._sleep(SECOND)
    step()
    assert no_waiting.on_device == 3
    assert no_waiting.sink.drain(TIMEOUT)
    first, metrics, histogram, second = no_waiting.records()
    for record, level in ((first, 51), (second, 204)):
        data = content_of(no_waiting.journal, record.held).read_bytes()
        assert len(data) == 3 * 64 * 48
        assert abs(data[0] - level) <= 1
        assert {*data} == {data[0]}
    assert abs(metrics.metrics["p50"]) < 0.1
    assert histogram.details["total"] == 2_000_000
    assert (no_waiting.dropped, no_waiting.on_device) == (0, 0)
