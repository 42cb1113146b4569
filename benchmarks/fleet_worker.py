"""Many runs in a process: started by ``fleet``, several at a time.

Of each run only the outer shell is simulated, the two processes. Its journal, the reader, the delivery
worker, the judge of its end and the MLflow destination are those of a shipper, and so is the priority. The
runs of a process share its interpreter, so its processor time bounds how many of them it can play.
"""

from __future__ import annotations

import heapq
import logging
import os
import random
import resource
import secrets
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.worker import own_stdout, say
from trackside.destinations.mlflow.preload import preload
from trackside.events import now_ms
from trackside.journal.directory import create_directory
from trackside.journal.files import write_atomically
from trackside.journal.format import LifecycleRecord, MetricsRecord
from trackside.journal.meta import Meta, Target
from trackside.journal.owner import this_process
from trackside.journal.progress import Progress
from trackside.journal.writer import JournalWriter
from trackside.shipper.__main__ import make_destinations
from trackside.shipper.judge import Judge
from trackside.shipper.trainer import Trainer
from trackside.shipper.worker import DeliveryWorker

if TYPE_CHECKING:
    from benchmarks.worker import Figures

METRICS = 10
"""That a run logs each second."""

NAMES = [f"train/metric_{number}" for number in range(METRICS)]


def value_of(run: int, step: int, metric: int) -> float:
    """The value of a metric at a step, which the check at the end works out again."""
    return 1000.0 * run + step + metric / 16


class SimulatedRun:
    """One training and its shipper, without their processes."""

    def __init__(self, number: int, uri: str, experiment: str, root: Path) -> None:
        import msgspec

        self.number = number
        self.steps = 0
        self.opened_at = 0.0
        target = Target(tracking_uri=uri, experiment_name=experiment, run_name=f"fleet-{number}")
        meta = Meta(
            journal_id=secrets.token_hex(16),
            owner=this_process(),
            target=target,
            rank=0,
            working_directory=os.getcwd(),
            started_ms=now_ms(),
        )
        journal = create_directory(root, f"fleet-{number}")
        write_atomically(journal.meta, msgspec.json.encode(meta))
        self._writer = JournalWriter(journal)
        progress = Progress(journal)
        judge = Judge(journal, meta, progress, Trainer(journal, meta))
        (destination,) = make_destinations(journal, meta, progress, {})
        self.worker = DeliveryWorker(destination, journal, judge=judge, notice=progress.notice)

    def log(self) -> None:
        """Log a step, as a training does."""
        metrics = {name: value_of(self.number, self.steps, at) for at, name in enumerate(NAMES)}
        self._writer.append(MetricsRecord(0, now_ms(), self.steps, None, None, metrics))
        self.steps += 1

    def finish(self) -> None:
        """Say that the training is done, and wake the shipper, as ``run.finish()`` does."""
        self._writer.append(LifecycleRecord(0, now_ms(), "finished", status="FINISHED"))
        self.worker.calls.wake.set()

    def figures(self) -> Figures:
        """What became of it."""
        return {
            "run": self.number,
            "steps": self.steps,
            **self.worker.counts(),
            "finished": self.worker.finished,
            "failing": self.worker.failing or self.worker.refused,
        }


@click.command()
@click.argument("uri")
@click.argument("experiment")
@click.argument("first", type=int)
@click.argument("runs", type=int)
@click.argument("patience", type=float)
def main(uri: str, experiment: str, first: int, runs: int, patience: float) -> None:
    """Play RUNS from number FIRST on. Stdin says when all of them begin, and its end that they are done."""
    out = own_stdout()
    logging.disable(logging.WARNING)
    _be_a_shipper(runs)
    preload(uri)
    with tempfile.TemporaryDirectory(prefix="trackside-bench-", ignore_cleanup_errors=True) as directory:
        fleet = [SimulatedRun(first + number, uri, experiment, Path(directory)) for number in range(runs)]
        say({"ready": runs}, out)
        begin = float(sys.stdin.readline())
        late = max(time.time() - begin, 0.0)
        time.sleep(max(begin - time.time(), 0))
        for run in fleet:
            run.worker.start()
        over = threading.Event()
        threading.Thread(target=_wait_for_end, args=[over], daemon=True).start()
        opened = _log(fleet, over)
        for run in fleet:
            run.finish()
        ended = time.time()
        for run in fleet:
            run.worker.join(max(patience - (time.time() - ended), 0.1))
        used = resource.getrusage(resource.RUSAGE_SELF)
        say(
            {
                "late": late,
                "opened": opened,
                "over": time.time(),
                "cpu": used.ru_utime + used.ru_stime,
                "runs": [run.figures() for run in fleet],
            },
            out,
        )
        out.close()
        os._exit(0)  # a worker that hangs in a call must not keep the figures waiting


def _be_a_shipper(runs: int) -> None:
    os.nice(10)
    os.environ["MLFLOW_HTTP_POOL_MAXSIZE"] = str(runs + 10)  # of MLflow: one for each, as in shippers
    os.environ["TRACKSIDE_START_TIMEOUT"] = "1"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))


def _wait_for_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def _log(fleet: list[SimulatedRun], over: threading.Event) -> list[float]:
    """Have each run log once a second, each at a moment of its own. Returns when each had its run id."""
    chance = random.Random(fleet[0].number)
    due = [(time.time() + chance.random(), run.number, run) for run in fleet]
    heapq.heapify(due)
    waiting, opened = list(fleet), list[float]()
    while True:
        moment, number, run = due[0]
        if over.wait(max(moment - time.time(), 0)):
            return opened
        run.log()
        heapq.heapreplace(due, (moment + 1.0, number, run))
        if waiting:
            now = time.time()
            opened += [now for one in waiting if one.worker.opened]
            waiting = [one for one in waiting if not one.worker.opened]


if __name__ == "__main__":
    main()
