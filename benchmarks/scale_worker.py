"""Trackside over a long run: rate, memory and the cost of an emit as it goes on. Started by ``scale``."""

from __future__ import annotations

import logging
import os
import statistics
import threading
import time
from array import array
from typing import TYPE_CHECKING, NamedTuple

import click
import psutil

from benchmarks.samples import START_MS, Samples
from benchmarks.worker import own_stdout, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.worker import Figures
    from trackside.session.run import Run

AHEAD = 200_000
"""Points the training may be ahead: without a bound it would be over before the shipper has warmed up."""

LOOK_EVERY = 20_000
"""Points between two looks at how far ahead it is."""

SHOWN = 80
"""Looks at the memory that are kept for the plot."""


class Look(NamedTuple):
    """What was seen at one moment; memory in MiB: resident, and that part of it no file backs."""

    seconds: float
    points: int
    trainer: float
    trainer_own: float
    shipper: float
    shipper_own: float


class Watch(threading.Thread):
    """Looks at the memory of both processes until told to stop."""

    def __init__(self, run: Run, shipper: psutil.Process, every: float) -> None:
        super().__init__(daemon=True)
        self.looks: list[Look] = []
        self._run, self._processes, self._every = run, (psutil.Process(), shipper), every
        self._enough = threading.Event()

    def run(self) -> None:
        begun = time.perf_counter()
        while True:
            memory = [size for process in self._processes for size in _mib(process)]
            self.looks.append(Look(time.perf_counter() - begun, self._run.counts.shipped, *memory))
            if self._enough.wait(self._every):
                return

    def stop(self) -> list[Look]:
        self._enough.set()
        self.join()
        return self.looks


@click.command()
@click.argument("uri")
@click.argument("points", type=int)
@click.argument("keys", type=int)
@click.argument("metrics", type=int)
def main(uri: str, points: int, keys: int, metrics: int) -> None:
    """Emit and deliver, and say what that took."""
    out = own_stdout()
    logging.disable(logging.WARNING)
    os.environ["TRACKSIDE_START_TIMEOUT"] = "90"
    say(_deliver(uri, Samples(points, keys, metrics)), out)


def _deliver(uri: str, samples: Samples) -> Figures:
    import trackside

    costs = array("q", bytes(8 * len(samples)))  # whole at once: its growth would look like a leak
    with trackside.start("scale", tracking_uri=uri) as run:
        trackside.log({"warm-up": 0.0}, step=0)
        assert run.flush(90), "the first point has not arrived"
        (shipper,) = psutil.Process().children()
        watch = Watch(run, shipper, 0.5 if samples.points > 500_000 else 0.05)
        watch.start()
        begun = time.perf_counter(), sum(shipper.cpu_times()[:2])
        _emit(run, samples, costs)
        emitted = time.perf_counter() - begun[0]
        assert run.flush(900), "not all has arrived"
        seconds = time.perf_counter() - begun[0]
        cpu = sum(shipper.cpu_times()[:2]) - begun[1]
        looks = watch.stop()
    counts = run.counts
    assert (counts.dropped, counts.shipped) == (0, samples.points + 1), counts
    figures = {"seconds": seconds, "emitted": emitted, "cpu": cpu, "rate": samples.points / seconds}
    return {**figures, **_emit_cost(costs), **_memory(looks), "journal_bytes": _bytes_a_point(samples)}


def _emit(run: Run, samples: Samples, costs: array[int]) -> None:
    import trackside

    clock, every = time.perf_counter_ns, max(LOOK_EVERY // samples.metrics, 1)
    for number, (metrics, step) in enumerate(samples):
        before = clock()
        trackside.log(metrics, step=step)
        costs[number] = clock() - before
        if number % every == 0:
            while number * samples.metrics - run.counts.shipped > AHEAD:
                time.sleep(0.02)


def _emit_cost(costs: Sequence[int]) -> Figures:
    """Medians of the first and of the last tenth of the run, µs."""
    tenth = max(len(costs) // 10, 1)
    first, last = costs[:tenth], costs[-tenth:]
    return {"emit_first": statistics.median(first) / 1000, "emit_last": statistics.median(last) / 1000}


def _memory(looks: list[Look]) -> Figures:
    """Medians of the first and of the last quarter of the run, MiB; and some of the looks."""
    quarter = max(len(looks) // 4, 1)
    figures: Figures = {}
    for name in Look._fields[2:]:
        for part, chosen in (("first", looks[:quarter]), ("last", looks[-quarter:])):
            figures[f"{name}_{part}"] = statistics.median(getattr(look, name) for look in chosen)
    stride = max(len(looks) // SHOWN, 1)
    figures["memory"] = [[round(number, 2) for number in look] for look in looks[::stride]]
    figures["memory_fields"] = Look._fields
    return figures


def _mib(process: psutil.Process) -> tuple[float, float]:
    memory = process.memory_info()
    shared = getattr(memory, "shared", 0)  # Linux tells; elsewhere all of it counts as its own
    return memory.rss / 2**20, (memory.rss - shared) / 2**20


def _bytes_a_point(samples: Samples) -> float:
    """What a sample from the middle of the run takes in the journal, shared out among its points."""
    from trackside.journal.format import MetricsRecord, encode, frame_size

    middle = len(samples) // 2
    metrics, step = next(one for number, one in enumerate(samples) if number == middle)
    record = MetricsRecord(middle, START_MS, step, None, None, metrics)
    return frame_size(len(encode(record))) / len(metrics)


if __name__ == "__main__":
    main()
