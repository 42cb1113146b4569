"""A destination in memory, which fails as it is told to."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.errors import RejectedError, RetryableError
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.evidence import Evidence
from trackside.protocols import Destination
from trackside.shipper.judge import Judge
from trackside.shipper.retry import Policy
from trackside.shipper.worker import DeliveryWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trackside.events import RunEnd
    from trackside.transform import Transform

QUICK = Policy(base=0.002, cap=0.01, unauthorised_floor=0.05)

Point = tuple[str, int, float]
"""Full name, step, value."""


class FakeDestination(Destination):
    """Keeps points as a store would: the same one twice is one. ``refuse`` decides about each batch."""

    name = "fake"

    def __init__(self, batch_points: int = 100) -> None:
        self.batch_points = batch_points
        self.points: set[Point] = set()
        self.batches: list[list[Point]] = []
        self.records: list[MetricsRecord] = []
        """Those that it took, each time it did."""
        self.configs: list[ConfigRecord] = []
        self.ends: list[tuple[RunEnd, int]] = []
        """Each with the number of points that had arrived by then."""
        self.opened = self.idled = self.closed = 0
        self.refuse: Callable[[str, list[Point]], None] = lambda _call, _points: None

    def open(self) -> None:
        self.opened += 1
        self.refuse("open", [])

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        points = [
            (name, record.step, value) for record in batch for name, value in record.named_values().items()
        ]
        self.batches.append(points)
        self.refuse("metrics", points)
        self.points.update(points)
        self.records.extend(batch)

    def write_config(self, record: ConfigRecord) -> None:
        self.refuse("config", [])
        self.configs.append(record)

    def idle(self) -> None:
        self.idled += 1
        self.refuse("idle", [])

    def write_end(self, end: RunEnd) -> None:
        self.refuse("end", [])
        self.ends.append((end, len(self.points)))

    def close(self) -> None:
        self.closed += 1


class RigJudge(Judge):
    """Judges what the rig was told by hand, and leaves the records it gets there."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def keep_record(self, record: LifecycleRecord) -> None:
        self._rig.lifecycle.append(record)

    def evidence(self) -> Evidence:
        return self._rig.evidence

    def dropped_points(self) -> int:
        return 0


class Rig:
    """A journal, its writer, and workers to a :class:`FakeDestination`. The evidence is set by hand."""

    destination: FakeDestination

    def __init__(self, root: Path, destination: FakeDestination | None = None) -> None:
        self.journal: JournalDirectory = create_directory(root, "rig")
        self.writer = JournalWriter(self.journal)
        self.make_destination(destination)
        self.evidence = Evidence()
        self.lifecycle: list[LifecycleRecord] = []
        self.worker = self.new_worker()

    def make_destination(self, destination: FakeDestination | None) -> None:
        """Have the destination that workers get."""
        self.destination = destination or FakeDestination()

    def new_worker(
        self, policy: Policy = QUICK, transform: Transform | None = None, **more: Any
    ) -> DeliveryWorker:
        """A worker as a new shipper would make it."""
        return DeliveryWorker(
            self.destination,
            self.journal,
            judge=RigJudge(self),
            transform=transform,
            policy=policy,
            **more,
        )

    def emit(self, count: int, *, start: int = 0, **more: float) -> None:
        """Append ``count`` samples with the metrics ``loss`` and those in ``more``."""
        for step in range(start, start + count):
            self.writer.append(MetricsRecord(0, 1, step, None, None, {"loss": step / 2, **more}))

    def die(self, **evidence: Any) -> None:
        """Let the training process be dead."""
        self.evidence = Evidence(dead=True, died_ms=1, **evidence)
        self.worker.reader.writer_dead = True
        self.worker.calls.wake.set()

    def deliver(self) -> None:
        """Start the worker, and come to a good end."""
        self.worker.start()
        self.finish()

    def close(self) -> None:
        """Stop the worker, and let go of the files."""
        self.worker.calls.stop()
        if self.worker.ident is not None:
            self.join()
        self.writer.close()

    def finish(self) -> None:
        """Let the training process have finished well, and the worker come to its end."""
        self.evidence = Evidence(finished="FINISHED")
        self.worker.calls.wake.set()
        self.join()

    def join(self, timeout: float = 20.0) -> None:
        """Wait for the worker's end."""
        self.worker.join(timeout)
        assert not self.worker.is_alive()


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Poll until ``condition()`` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


class Gate:
    """Holds a call up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.opened.wait(20)


def rejected(rig: Rig) -> list[dict[str, Any]]:
    """The lines of ``rejected.jsonl``."""
    return [json.loads(line) for line in rig.journal.rejected.read_text().splitlines()]


def refuse_poison(call: str, points: list[Point]) -> None:
    """Reject each batch that holds a point named ``poison``."""
    if any(name == "poison" for name, _, _ in points):
        raise RejectedError("no poison here")


def raise_if(failing: bool) -> None:
    """Fail for the moment, if so."""
    if failing:
        raise RetryableError("down")


def refuse_all(text: str, kind: type[Exception], only: str | None = None) -> Any:
    """Refuse every call with ``kind``, or only those to one method."""

    def refuse(call: str, points: list[Point]) -> None:
        if only in {None, call}:
            raise kind(text)

    return refuse
