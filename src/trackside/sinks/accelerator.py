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
* The lock is held while numbers are fetched and journaled, and never while an array's file is written.
* No tensor of the program is kept beyond its emit, because it may hold the activations of a whole step.
* A device that has failed costs only the samples whose numbers had not arrived before.

:mod:`trackside.sinks.torch_devices` has the calls to torch. The tests of this module use a simulated device.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

SLOTS = 256
"""Samples that may wait. If more steps than that are queued ahead, the device is stuck."""

POLL = 0.0005
"""Seconds between two checks while waiting with a timeout, which events do not offer."""


class Copy(Protocol):
    """Numbers on their way to the host."""

    def passed(self) -> bool:
        """Whether they have arrived. Never waits. Raises what the device raises."""

    def read(self) -> Any:
        """Return the numbers in the order they were given, or the array. Called once, after they arrived."""

    def arrived_before_failure(self) -> bool:
        """Whether the numbers are here, although the device has failed and can no longer say so."""


class Devices(Protocol):
    """Copies numbers from accelerators: torch's devices, or a test's."""

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is a number on an accelerator that can be fetched without waiting."""

    def takes_quickly(self, values: Sequence[Any]) -> bool:
        """Whether ``values`` are all taken. False also if that is not seen quickly."""

    def undisturbing(self) -> AbstractContextManager[object]:
        """Within it, queries and copies disturb no other thread's capture of a graph."""

    def capturing(self) -> bool:
        """Whether work queued now would become part of a graph, and a query would spoil it."""

    def start(self, values: Sequence[Any]) -> Copy:
        """Begin to copy one number of each (the mean of several). Never waits."""

    def start_array(self, value: Any) -> Copy:
        """Begin to copy all of ``value`` into an array on the host. Never waits."""


class Waiting(NamedTuple):
    """A sample whose numbers are on their way."""

    copy: Copy
    points: int
    deliver: Callable[[Any], None]
    """Called with the numbers, in the order the values were given, or with the array."""
    lose: Callable[[str], None]
    """Called with the reason, if the numbers never arrive."""
    is_array: bool
    """Whether delivering takes a while: it is done without the queue's lock."""


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
        self._arrived: deque[tuple[Waiting, Any]] = deque()

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
        self._add(lambda: Waiting(self._devices.start(values), points, deliver, lose, is_array=False), lose)

    def add_array(self, value: Any, deliver: Callable[[Any], None], lose: Callable[[str], None]) -> None:
        """Begin to fetch all of ``value``, as :meth:`add` does. It counts as one point."""
        self._add(lambda: Waiting(self._devices.start_array(value), 1, deliver, lose, is_array=True), lose)

    def _add(self, begin: Callable[[], Waiting], lose: Callable[[str], None]) -> None:
        if self._capturing():
            lose("it was emitted while a CUDA graph was captured")
            return
        with self._devices.undisturbing(), self._lock:  # the order of the copies is that of the samples
            self._collect()
            full = len(self._waiting) >= self._slots
            if not full:
                try:
                    waiting = begin()
                except Exception as error:
                    lose(f"the accelerator refused it: {_brief(error)}")
                    return
                self._waiting.append(waiting)
                self._count(waiting.points)
        self._deliver_arrays()
        if full:
            lose(f"{self._slots} samples wait for the accelerator already")

    def collect(self) -> None:
        """Deliver what has arrived. Never waits, not even for another thread that does the same."""
        # A caller that interrupts this thread here (a signal handler) must leave the queue alone.
        if not self._waiting or self._collecting or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._capturing():
                with self._devices.undisturbing():
                    self._collect()
        finally:
            self._lock.release()
        self._deliver_arrays()

    def _deliver_arrays(self) -> None:
        """Deliver the arrays that have arrived: their files are written, and no other thread waits for it."""
        while self._arrived:
            try:
                waiting, array = self._arrived.popleft()
            except IndexError:  # another thread, or a signal handler, was faster
                return
            waiting.deliver(array)
            with self._lock:
                self._count(-waiting.points)

    def _collect(self) -> None:
        if self._collecting:
            return
        self._collecting = True
        try:
            while self._waiting and self._deliver_first(self._waiting[0]):
                pass
        finally:
            self._collecting = False

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

    def _capturing(self) -> bool:
        # A device that has failed answers no question. The next call to it says why.
        try:
            return self._devices.capturing()
        except Exception:
            return False

    def _deliver_first(self, first: Waiting) -> bool:
        """Deliver or lose the first sample. Return False if it has to wait longer."""
        try:
            if not _arrived(first.copy):
                return False
            numbers = first.copy.read()
        except Exception as error:  # an error of the device: this one, or any kernel before it
            self._waiting.popleft()
            first.lose(f"the accelerator failed: {_brief(error)}")
        else:
            self._waiting.popleft()
            if first.is_array:
                self._arrived.append((first, numbers))
                return True
            first.deliver(numbers)
        self._count(-first.points)  # last: a death before this counts it twice, and loses nothing silently
        return True

    def _count(self, points: int) -> None:
        self._points += points
        self._note_points(self._points)


def _arrived(copy: Copy) -> bool:
    """Whether the numbers are here. Raises what the device raises, if it failed before they came."""
    try:
        return copy.passed()
    except Exception:
        # A failed device answers every question with its error, also about work it had done before.
        if copy.arrived_before_failure():
            return True
        raise


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]
