"""Copies numbers from accelerators with torch, without waiting for any of them.

torch is found in ``sys.modules`` and never imported, because a tensor can only arrive once the program has
imported it.

Invariants:

* No call here makes the host wait for the device: no ``.item()``, no copy to pageable memory. Pinned memory
  is allocated once for many samples, because allocating it is slow.
* A buffer is marked before each use. Whatever the device writes replaces the mark, so the buffer itself tells
  whether a copy was made. After a failure of the device nothing else does.
* Other threads may capture CUDA graphs meanwhile (:mod:`trackside.sinks.capture_mode`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trackside.coerce.large_means import tensor_mean
from trackside.sinks.capture_mode import relaxed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.sinks.accelerator import Copy

PLACES = 64
"""Buffers that are allocated at a time: more steps are rarely queued ahead."""

LARGEST = 1 << 17
"""Numbers that are allocated at a time, unless a single sample has more: 1 MiB."""

UNWRITTEN = 0x7FF0_7472_6163_6B73
"""The mark: a signalling NaN. Arithmetic on a device gives quiet ones only."""


class TorchDevices:
    """CUDA, ROCm, XPU and MPS through torch."""

    def __init__(self) -> None:
        self._free: dict[tuple[Any, int], list[_Place]] = {}

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
        return parts[0][1] if len(parts) == 1 else _Parts(parts)

    def _start_on(self, device: Any, values: list[Any]) -> _Slot:
        torch = sys.modules["torch"]
        # Not in inference mode, whose tensors cannot be written to later, because buffers are used again.
        with relaxed(), torch.inference_mode(False), torch.no_grad():
            if device.type == "mps":  # without float64, and without pinned memory that helps
                event = torch.mps.Event()
                numbers = stacked(torch, values, torch.float32)
                event.record()
                return _Slot(_Place(event, numbers, None), len(values), _keep)
            numbers = stacked(torch, values, torch.float64)
            module = getattr(torch, device.type)
            room = _room(len(values))
            free = self._free.setdefault((device, room), [])
            if not free:
                free += _places(torch, module, room)
            place = free.pop()
            place.buffer[: len(values)].copy_(numbers, non_blocking=True)
            place.event.record(module.current_stream(device))
        return _Slot(place, len(values), free.append)


def stacked(torch: Any, values: Sequence[Any], wide: Any) -> Any:
    """One number of each tensor, on their device, as ``wide``. int64 beyond 2**53 is rounded.

    The caller has switched the recording of gradients off.
    """
    scalars = [value if value.ndim == 0 else _scalar(torch, value, wide) for value in values]
    if len({scalar.dtype for scalar in scalars}) > 1:
        scalars = [scalar.to(wide) for scalar in scalars]
    return torch.stack(scalars).to(wide)


def _scalar(torch: Any, value: Any, wide: Any) -> Any:
    return tensor_mean(torch, value, wide) if value.numel() > 1 else value.reshape(())


def _room(count: int) -> int:
    """Return the size of the buffer for ``count`` numbers."""
    return max(16, 1 << (count - 1).bit_length())


def _places(torch: Any, module: Any, room: int) -> list[_Place]:
    """Allocate pinned memory for some samples of up to ``room`` numbers."""
    count = max(1, min(PLACES, LARGEST // room))
    memory = torch.empty(count * room, dtype=torch.float64, device="cpu", pin_memory=True)
    marks = memory.view(torch.int64).fill_(UNWRITTEN).split(room)
    return [_Place(module.Event(), *views) for views in zip(memory.split(room), marks, strict=True)]


def _keep(_place: _Place) -> None:
    """Do not use it again."""


class _Place:
    """A buffer for one sample, and the event behind the copy into it.

    ``marks`` is the same memory as integers, or None if a failure of the device leaves nothing to read.
    """

    __slots__ = ("buffer", "event", "marks")

    def __init__(self, event: Any, buffer: Any, marks: Any) -> None:
        self.event, self.buffer, self.marks = event, buffer, marks


class _Slot:
    """A copy from one device, on its way into a place. ``give_back`` gets the place once it was read."""

    __slots__ = ("_count", "_give_back", "_place")

    def __init__(self, place: _Place, count: int, give_back: Callable[[_Place], None]) -> None:
        self._place = place
        self._count = count
        self._give_back = give_back

    def passed(self) -> bool:
        with relaxed():
            return bool(self._place.event.query())

    def arrived_before_failure(self) -> bool:
        marks = self._place.marks
        return marks is not None and UNWRITTEN not in marks[: self._count].tolist()

    def read(self) -> list[float]:
        place = self._place
        numbers: list[float] = place.buffer[: self._count].tolist()
        if place.marks is not None:
            place.marks.fill_(UNWRITTEN)
        self._give_back(place)
        return numbers


class _Parts:
    """The copies from each device a sample has numbers on."""

    def __init__(self, parts: list[tuple[list[int], _Slot]]) -> None:
        self._parts = parts

    def passed(self) -> bool:
        return all(slot.passed() for _, slot in self._parts)

    def arrived_before_failure(self) -> bool:
        return all(slot.arrived_before_failure() for _, slot in self._parts)

    def read(self) -> list[float]:
        numbers: dict[int, float] = {}
        for indices, slot in self._parts:
            numbers.update(zip(indices, slot.read(), strict=True))
        return [numbers[index] for index in range(len(numbers))]
