"""Copies numbers from accelerators with torch, without waiting for any of them.

torch is found in ``sys.modules`` and never imported, because a tensor can only arrive once the program has
imported it. Each call to torch takes the training thread about as long as a kernel's launch. So a sample
takes as few as possible: a stack, a copy and an event for scalars of one type.

Invariants:

* No call here makes the host wait for the device: no ``.item()``, no copy to pageable memory. Pinned memory
  is allocated once for many samples, because allocating it is slow.
* A buffer is marked before each use. Whatever the device writes replaces the mark, so the buffer itself tells
  whether a copy was made. After a failure of the device nothing else does.
* Other threads may capture CUDA graphs meanwhile (:mod:`trackside.sinks.capture_mode`).
"""

from __future__ import annotations

import sys
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any

from trackside.coerce.large_means import tensor_mean
from trackside.sinks.capture_mode import relaxed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from trackside.sinks.accelerator import Copy

PLACES = 64
"""Buffers that are allocated at a time: more steps are rarely queued ahead."""

LARGEST = 1 << 17
"""Numbers that are allocated at a time, unless a single sample has more: 1 MiB."""

MARK = (0x7FA0_7472).to_bytes(4, "little")
"""A signalling NaN. Arithmetic on a device gives quiet ones only."""

ARRAYS = 1 << 28
"""Bytes of whole arrays that may wait at a time: 256 MiB of pinned memory."""

_WIDE = 8
_kind_of = attrgetter("device", "dtype", "ndim", "layout")


class TorchDevices:
    """CUDA, ROCm, XPU and MPS through torch."""

    def __init__(self) -> None:
        self._free: dict[tuple[Any, int], list[_Place]] = {}
        self._streams: dict[tuple[Any, int], Any] = {}
        self._arrays = _ArrayBytes()

    def takes(self, value: Any) -> bool:
        """Dense, real tensors on an accelerator with known events. Others are read with ``.item()``."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            return False
        if value.device.type not in {"cuda", "xpu", "mps"} or hasattr(value, "device_mesh"):
            return False
        plain = value.layout is torch.strided and not (value.is_nested or value.is_quantized)
        return plain and not value.dtype.is_complex and value.numel() > 0

    def takes_quickly(self, values: Sequence[Any]) -> bool:
        """Whether :meth:`takes` each value, if all are scalars of one type on one device: cheap to ask."""
        torch = sys.modules.get("torch")
        if torch is None or {*map(type, values)} != {torch.Tensor}:
            return False
        kinds = {*map(_kind_of, values)}
        return len(kinds) == 1 and next(iter(kinds))[2] == 0 and self.takes(values[0])

    def capturing(self) -> bool:
        """As the protocol says. Only CUDA has graphs. The query does not initialise CUDA."""
        torch = sys.modules.get("torch")
        return torch is not None and torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()

    def undisturbing(self) -> AbstractContextManager[object]:
        """As the protocol says."""
        return relaxed()

    def start(self, values: Sequence[Any]) -> Copy:
        """One stack and one copy a device."""
        kinds = {*map(_kind_of, values)}
        if len(kinds) == 1:
            device, _, ndim, _ = kinds.pop()
            return self._start_on(device, values, alike=ndim == 0)
        groups: dict[Any, list[int]] = {}
        for index, value in enumerate(values):
            groups.setdefault(value.device, []).append(index)
        if len(groups) == 1:
            return self._start_on(next(iter(groups)), values)
        return _Parts(
            [
                (indices, self._start_on(device, [values[index] for index in indices]))
                for device, indices in groups.items()
            ]
        )

    def start_array(self, value: Any) -> Copy:
        """One copy, of every element in its own type. Raises ``RuntimeError`` if too many bytes wait."""
        torch = sys.modules["torch"]
        value = value.detach()
        size = value.numel() * value.element_size()
        if self._arrays.waiting + size > ARRAYS:
            raise RuntimeError(f"more than {ARRAYS >> 20} MiB of arrays would wait for it")
        module = getattr(torch, value.device.type)
        event = module.Event()
        if value.device.type == "mps":  # without pinned memory that helps
            copied = value.clone()
            event.record()
        else:
            with torch.inference_mode(False):
                # From torch's own pool: after the first few arrays this takes no call to the driver.
                copied = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=True)
            copied.copy_(value, non_blocking=True)
            event.record(self._current_stream(torch, value.device))
        return _Array(event, copied, size, self._arrays)

    def _start_on(self, device: Any, values: Sequence[Any], *, alike: bool = False) -> _Slot | _OnMps:
        torch = sys.modules["torch"]
        if device.type == "mps":  # without float64, and without pinned memory that helps
            return _OnMps(torch, stacked(torch, values, torch.float32))
        numbers = stacked(torch, values, torch.float64, alike=alike)
        count = len(values)
        room = max(16, 1 << (count - 1).bit_length())
        free = self._free.get((device, room))
        if free is None:
            free = self._free[device, room] = []
        if not free:
            free += _places(torch, getattr(torch, device.type), room)
        place = free.pop()
        place.fit(torch, count, numbers.dtype)
        place.target.copy_(numbers, non_blocking=True)
        place.event.record(self._current_stream(torch, device))
        return _Slot(place, free)

    def _current_stream(self, torch: Any, device: Any) -> Any:
        """``torch.cuda.current_stream()``, which takes as long as a launch, from what it said before."""
        raw_of = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # noqa: SLF001 - or else the slow way
        if raw_of is None or device.type != "cuda" or device.index is None:
            return getattr(torch, device.type).current_stream(device)
        key = device, raw_of(device.index)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = torch.cuda.current_stream(device)
        return stream


def stacked(torch: Any, values: Sequence[Any], wide: Any, *, alike: bool = False) -> Any:
    """One number of each tensor, on their device, in float32 or as ``wide``.

    int64 beyond 2**53 is rounded. ``alike``: they are known to be scalars of one type.
    """
    if not alike:
        values = [_scalar(torch, value.detach(), wide) for value in values]
        if len({value.dtype for value in values}) > 1:
            values = [value.to(wide) for value in values]
    numbers = torch.stack(values)
    if numbers.requires_grad:
        numbers = numbers.detach()
    return numbers if numbers.dtype is torch.float32 else numbers.to(wide)


def _scalar(torch: Any, value: Any, wide: Any) -> Any:
    return tensor_mean(torch, value, wide) if value.numel() > 1 else value.reshape(())


def _places(torch: Any, module: Any, room: int) -> list[_Place]:
    """Allocate pinned memory for some samples of up to ``room`` numbers."""
    from ctypes import c_char  # torch has imported it

    count = max(1, min(PLACES, LARGEST // room))
    # Not in inference mode, whose tensors cannot be written to later, because buffers are used again.
    with torch.inference_mode(False):
        memory = torch.empty(count * room, dtype=torch.float64, device="cpu", pin_memory=True)
        buffers = memory.split(room)
    size = room * _WIDE
    window = memoryview((c_char * (count * size)).from_address(memory.data_ptr())).cast("B")
    views = [window[start : start + size] for start in range(0, count * size, size)]
    return [_Place(module.Event(), *each) for each in zip(buffers, views, strict=True)]


class _Place:
    """A buffer for one sample, and the event behind the copy into it.

    ``view`` is the memory of ``buffer``, which keeps it: reading it takes no call to torch.
    """

    __slots__ = ("_blank", "_buffer", "_dtype", "_numbers", "_view", "count", "event", "target")

    def __init__(self, event: Any, buffer: Any, view: memoryview) -> None:
        self.event, self._buffer, self._view = event, buffer, view
        self.count, self._dtype = 0, None
        self.target: Any = None
        self._blank = MARK * (len(view) // len(MARK))
        view[:] = self._blank

    def fit(self, torch: Any, count: int, dtype: Any) -> None:
        """Make it ready for so many numbers of this type."""
        if count != self.count or dtype is not self._dtype:
            self.count, self._dtype = count, dtype
            with torch.inference_mode(False):
                self.target = self._buffer.view(dtype)[:count]
            self._numbers = Struct(f"={count}{'f' if dtype is torch.float32 else 'd'}")

    def read(self) -> list[float]:
        """Return the numbers, and mark the buffer again."""
        numbers = self._numbers.unpack_from(self._view)
        self._view[:] = self._blank
        return [*numbers]

    def is_written(self) -> bool:
        """Whether no mark is left."""
        size = self._numbers.size // self.count
        mark = MARK * (size // len(MARK))
        return all(self._view[at : at + size] != mark for at in range(0, self._numbers.size, size))


class _Slot:
    """A copy from one device, on its way into a place, which ``free`` gets back once it was read."""

    __slots__ = ("_free", "_place")

    def __init__(self, place: _Place, free: list[_Place]) -> None:
        self._place = place
        self._free = free

    def passed(self) -> bool:
        return bool(self._place.event.query())

    def arrived_before_failure(self) -> bool:
        return self._place.is_written()

    def read(self) -> list[float]:
        numbers = self._place.read()
        self._free.append(self._place)
        return numbers


class _ArrayBytes:
    """How many bytes of arrays wait."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = 0


class _Array:
    """A copy of a whole array, on its way."""

    __slots__ = ("_bytes", "_copied", "_event", "_size")

    def __init__(self, event: Any, copied: Any, size: int, arrays: _ArrayBytes) -> None:
        self._event, self._copied, self._size, self._bytes = event, copied, size, arrays
        arrays.waiting += size

    def __del__(self) -> None:
        self._bytes.waiting -= self._size

    def passed(self) -> bool:
        return bool(self._event.query())

    def arrived_before_failure(self) -> bool:
        return False

    def read(self) -> Any:
        return self._copied.cpu()


class _OnMps:
    """Numbers that are read from the device itself."""

    def __init__(self, torch: Any, numbers: Any) -> None:
        self._numbers = numbers
        self._event = torch.mps.Event()
        self._event.record()

    def passed(self) -> bool:
        return bool(self._event.query())

    def arrived_before_failure(self) -> bool:
        return False

    def read(self) -> list[float]:
        return [float(number) for number in self._numbers.tolist()]


class _Parts:
    """The copies from each device a sample has numbers on."""

    def __init__(self, parts: list[tuple[list[int], Any]]) -> None:
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
