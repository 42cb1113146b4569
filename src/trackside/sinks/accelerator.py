"""Read accelerator tensors later, so that the training loop does not wait for the accelerator.

A sample's device scalars are stacked into one small tensor on the stream that computes them, and copied into
pinned host memory without blocking. An event is recorded behind the copy. The next emit checks, in a
microsecond, whether the event has passed. Only then are the numbers read, and the sample is journaled.

Invariants:

* Samples with device numbers leave in the order they came. A sample without any overtakes them, because its
  values are kept before ``emit`` returns. Each has the step and the time of its emit.
* A slot (buffer and event) is used again only after its event has passed and its numbers were read.
* At most ``slots`` samples wait. Further ones are refused, and the sink counts them. An unbounded queue would
  hide that the accelerator is stuck, and waiting would stall the loop.
* Nothing is queued while a CUDA graph is captured. It would become part of the graph, and run at each replay.

No GPU has run this module yet. A simulated device tests the order, the reuse of slots, overflow and failures.
The calls in :class:`TorchDevices` are tested with CPU tensors only. torch is never imported here, because a
tensor can only arrive once the program has imported it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trackside.coerce.large_means import tensor_mean
from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SLOTS = 256
"""Samples that may wait. If more steps than that are queued ahead, the device is stuck."""

POLL = 0.0005
"""Seconds between two checks while waiting with a timeout, which events do not offer."""


class Copy(Protocol):
    """Numbers on their way to the host."""

    def passed(self) -> bool:
        """Whether they have arrived. Never waits. Raises what the device raises."""

    def read(self) -> list[float]:
        """Return the numbers in the order they were given. Called once, after they have arrived."""


class Devices(Protocol):
    """Copies numbers from accelerators: torch's devices, or a test's."""

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is a number on an accelerator that can be fetched without waiting."""

    def capturing(self) -> bool:
        """Whether work queued now would become part of a graph, and a query would spoil it."""

    def start(self, values: Sequence[Any]) -> Copy:
        """Begin to copy one number of each (the mean of several). Never waits."""


class Waiting(NamedTuple):
    """A sample whose numbers are on their way."""

    copy: Copy
    points: int
    deliver: Callable[[list[float]], None]
    """Called with the numbers, in the order the values were given."""
    lose: Callable[[str], None]
    """Called with the reason, if the numbers never arrive."""


class DeviceQueue:
    """The samples that wait for their numbers. ``note_points`` gets the number of their points."""

    def __init__(self, devices: Devices, *, note_points: Callable[[int], None], slots: int = SLOTS) -> None:
        self._devices = devices
        self._note_points = note_points
        self._slots = slots
        self._waiting: deque[Waiting] = deque()
        self._points = 0
        self._lock = threading.RLock()
        self._collecting = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self,
        values: Sequence[Any],
        points: int,
        deliver: Callable[[list[float]], None],
        lose: Callable[[str], None],
    ) -> None:
        """Begin to fetch ``values``. Call ``deliver`` or ``lose``, now or at a later :meth:`collect`."""
        if self._devices.capturing():
            lose("it was emitted while a CUDA graph was captured")
            return
        self.collect()
        with self._lock:  # the order of the copies is the order of the samples
            full = len(self._waiting) >= self._slots
            if not full:
                try:
                    copy = self._devices.start(values)
                except Exception as error:
                    lose(f"the accelerator refused it: {_brief(error)}")
                    return
                self._waiting.append(Waiting(copy, points, deliver, lose))
                self._count(points)
        if full:
            lose(f"{self._slots} samples wait for the accelerator already")

    def collect(self) -> None:
        """Deliver what has arrived. Never waits, not even for another thread that does the same."""
        # A caller that interrupts this thread here (a signal handler) must leave the queue alone.
        if not self._waiting or self._collecting or not self._lock.acquire(blocking=False):
            return
        try:
            if self._collecting or self._devices.capturing():
                return
            self._collecting = True
            try:
                while self._waiting and self._deliver_first(self._waiting[0]):
                    pass
            finally:
                self._collecting = False
        finally:
            self._lock.release()

    def drain(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until no sample waits. Return whether that happened."""
        deadline = steady() + timeout
        self.collect()
        while self._waiting and steady() < deadline:
            time.sleep(POLL)
            self.collect()
        return not self._waiting

    def give_up(self, reason: str) -> None:
        """Count what still waits as lost."""
        with contextlib.suppress(IndexError):
            while True:
                waiting = self._waiting.popleft()
                self._count(-waiting.points)
                waiting.lose(reason)

    def _deliver_first(self, first: Waiting) -> bool:
        """Deliver or lose the first sample. Return False if it has to wait longer."""
        try:
            if not first.copy.passed():
                return False
            numbers = first.copy.read()
        except Exception as error:  # an error of the device: this one, or any kernel before it
            self._waiting.popleft()
            first.lose(f"the accelerator failed: {_brief(error)}")
        else:
            self._waiting.popleft()
            first.deliver(numbers)
        self._count(-first.points)  # last: a death before this counts it twice, and loses nothing silently
        return True

    def _count(self, points: int) -> None:
        self._points += points
        self._note_points(self._points)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]


class TorchDevices:
    """CUDA, ROCm, XPU and MPS through torch, which is found in ``sys.modules`` and never imported."""

    def __init__(self) -> None:
        self._free: dict[Any, list[tuple[Any, Any]]] = {}

    def takes(self, value: Any) -> bool:
        """Dense, real tensors on an accelerator with known events. Others are read with ``.item()``."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            return False
        if value.device.type not in {"cuda", "xpu", "mps"} or hasattr(value, "device_mesh"):
            return False
        plain = value.layout is torch.strided and not (value.is_nested or value.is_quantized)
        return plain and not value.dtype.is_complex and value.numel() > 0

    def capturing(self) -> bool:
        """As the protocol says. Only CUDA has graphs. The query does not initialise CUDA."""
        torch = sys.modules.get("torch")
        return torch is not None and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()

    def start(self, values: Sequence[Any]) -> Copy:
        """One stack and one copy a device."""
        groups: dict[Any, list[int]] = {}
        for index, value in enumerate(values):
            groups.setdefault(value.device, []).append(index)
        parts = [
            (indices, self._start_on(device, [values[index] for index in indices]))
            for device, indices in groups.items()
        ]
        return _Parts(parts)

    def _start_on(self, device: Any, values: list[Any]) -> _Slot:
        torch = sys.modules["torch"]
        # MPS has no float64, and no pinned memory that helps.
        wide = torch.float32 if device.type == "mps" else torch.float64
        module = getattr(torch, device.type)
        # Not in inference mode, whose tensors cannot be written to later, because buffers are used again.
        with torch.inference_mode(False), torch.no_grad():
            numbers = stacked(torch, values, wide)
            if device.type == "mps":
                event = module.Event()
                event.record()
                return _Slot(event, numbers, len(values), lambda: None)
            free = self._free.setdefault(device, [])
            event, buffer = free.pop() if free else (module.Event(), None)
            if buffer is None or len(buffer) < len(values):
                buffer = torch.empty(_room(len(values)), dtype=wide, device="cpu", pin_memory=True)
            buffer[: len(values)].copy_(numbers, non_blocking=True)
            event.record(module.current_stream(device))
        return _Slot(event, buffer, len(values), lambda: free.append((event, buffer)))


def stacked(torch: Any, values: Sequence[Any], wide: Any) -> Any:
    """One number of each tensor, on their device, as ``wide``. int64 beyond 2**53 is rounded."""
    scalars = [
        (tensor_mean(torch, value.detach(), wide) if value.numel() > 1 else value.detach().reshape(()))
        for value in values
    ]
    if len({scalar.dtype for scalar in scalars}) > 1:
        scalars = [scalar.to(wide) for scalar in scalars]
    return torch.stack(scalars).to(wide)


def _room(count: int) -> int:
    """Return the size of a new buffer. Pinning memory is slow, so it has room for later samples."""
    return max(16, 1 << (count - 1).bit_length())


class _Slot:
    """A copy from one device: the event behind it, and the buffer it goes to."""

    def __init__(self, event: Any, buffer: Any, count: int, give_back: Callable[[], None]) -> None:
        self._event = event
        self._buffer = buffer
        self._count = count
        self._give_back = give_back

    def passed(self) -> bool:
        return bool(self._event.query())

    def read(self) -> list[float]:
        numbers = self._buffer[: self._count].tolist()
        self._give_back()
        return [float(number) for number in numbers]


class _Parts:
    """The copies from each device a sample has numbers on."""

    def __init__(self, parts: list[tuple[list[int], _Slot]]) -> None:
        self._parts = parts

    def passed(self) -> bool:
        return all(slot.passed() for _, slot in self._parts)

    def read(self) -> list[float]:
        numbers: dict[int, float] = {}
        for indices, slot in self._parts:
            numbers.update(zip(indices, slot.read(), strict=True))
        return [numbers[index] for index in range(len(numbers))]
