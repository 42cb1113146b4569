"""A program that makes many runs, one after another, and says what is left of them in its process.

``python many_runs.py COUNT``. Each third run ends on another thread than it began on, each third is a trial
in a thread pool that fails, on a bus of its own, and its exception is kept. At the end it says, one JSON
object, what there was after the first of the runs, and what after all of them.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil

import trackside
from trackside.event_bus.bus import Bus
from trackside.lifecycle import provisional as open_end

COUNT = int(sys.argv[1])
PROCESS = psutil.Process()
KEPT: list[Future[None]] = []
RUNS: list[Any] = []


def begin(bus: Bus) -> Any:
    """Start a run that delivers to a file, and to MLflow on rank 0."""
    destinations = [{"type": "jsonl", "path": "metrics.jsonl", "transform": {"ranks": [0, 1]}}]
    run = trackside.start("many", bus=bus, destinations=destinations)
    RUNS.append(run)
    bus.emit(trackside.MetricsSample(1, metrics={"loss": 0.5}))
    return run


def trial() -> None:
    """Fail, and leave the exception to the future."""
    run = begin(Bus())
    try:
        raise ValueError("a bad trial")
    finally:
        run.finish()


def on_another_thread(function: Any) -> None:
    """Call it there."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def one(number: int, pool: ThreadPoolExecutor) -> None:
    """One run."""
    if number % 3 == 0:
        begin(trackside.bus).finish()
    elif number % 3 == 1:
        on_another_thread(begin(trackside.bus).finish)
    else:
        KEPT.append(pool.submit(trial))
        KEPT[-1].exception()


def seen() -> dict[str, int]:
    """What this process holds."""
    deadline = time.monotonic() + 60
    while len(children := PROCESS.children()) > 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # the latest shippers are on their way out
    gc.collect()
    handler: Any = signal.getsignal(signal.SIGTERM)
    links = len(list(handler.chain())) if hasattr(handler, "chain") else 0
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "megabytes": PROCESS.memory_info().rss >> 20,
        "zombies": sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
        "shippers": len(children),
        "open": len(open_end._open),
        "links": links,
        "filters": len(logging.getLogger("asyncio").filters),
    }


if __name__ == "__main__":
    with ThreadPoolExecutor(1) as workers:
        first = max(6, COUNT // 10)
        for index in range(first):
            one(index, workers)
        early = seen()
        for index in range(first, COUNT):
            one(index, workers)
        print(json.dumps({"early": early, "late": seen()}), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
