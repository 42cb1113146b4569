"""A training that goes on through an outage and the catching up after it. Started by ``outage``.

What is trained is real (torch, one thread) and small: about five milliseconds a step on a quiet machine.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from benchmarks.places import BULK, PLACES, temporary_directory
from benchmarks.samples import Samples
from benchmarks.worker import own_stdout, say
from tests.ends.harness import new_database
from tests.faults.postgres import PostgresServer, find_programs, postgres_server
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.worker import Figures
    from trackside.session.run import Run

METRICS = 10
"""That each step of the training logs."""

WORTH = 1.0
"""Seconds of the training's points that it may be behind, and count as caught up."""

LOOK_EVERY = 0.25
SHOWN = 120


class Outage(ABC):
    """A place that points can't get to for a while."""

    uri: str

    @abstractmethod
    def begin(self) -> None:
        """Nothing arrives from now on."""

    @abstractmethod
    def end(self) -> None:
        """It answers again when this returns."""


class LockedSqlite(Outage):
    """Another connection holds the file's lock."""

    def __init__(self, stack: ExitStack) -> None:
        self.uri = new_database(temporary_directory(stack))
        self._connection = sqlite3.connect(
            self.uri.removeprefix("sqlite:///"), isolation_level=None, timeout=60, check_same_thread=False
        )

    def begin(self) -> None:
        self._connection.execute("BEGIN EXCLUSIVE")

    def end(self) -> None:
        self._connection.execute("ROLLBACK")


class StoppedPostgresql(Outage):
    """PostgreSQL is stopped at once, as in a crash, and started again."""

    def __init__(self, stack: ExitStack) -> None:
        programs = find_programs()
        assert programs is not None, "PostgreSQL is not installed"
        self._server: PostgresServer = stack.enter_context(postgres_server(programs))
        self.uri = self._server.uri

    def begin(self) -> None:
        self._server.stop()

    def end(self) -> None:
        self._server.start()


class LateServer(Outage):
    """An MLflow server that is not there yet when the training starts."""

    def __init__(self, stack: ExitStack, prefix: str = "") -> None:
        directory = temporary_directory(stack)
        self._server = MlflowServer(directory, backend_store_uri=prefix + new_database(directory))
        stack.callback(self._server.kill)
        self.uri = self._server.url

    def begin(self) -> None:
        """It is not there as it is."""

    def end(self) -> None:
        self._server.start()


OUTAGES: dict[str, Callable[[ExitStack], Outage]] = {
    PLACES[0]: LockedSqlite,
    PLACES[1]: StoppedPostgresql,
    PLACES[2]: LateServer,
    f"{PLACES[2]}, bulk store": lambda stack: LateServer(stack, BULK),
}


class Training:
    """Steps that log, and what each took, by phase."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.times: dict[str, list[float]] = {}
        self.emitted = 0
        self.looks: list[tuple[float, int, float]] = []
        """Seconds, points behind, and the mean time of a step (ms) since the last look."""
        self._model = torch.nn.Sequential(
            torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.Linear(512, 1)
        )
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-3)
        self._inputs = torch.randn(256, 256)
        self._names = [f"train/metric_{number}" for number in range(METRICS)]
        self._steps = 0
        self._begun = time.perf_counter()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begun

    def go_on(self, phase: str, run: Run, until: Callable[[int], bool]) -> None:
        """Train until ``until(points behind)``, which is asked now and then, and not on a step's time."""
        times = self.times.setdefault(phase, [])
        recent: list[float] = []
        next_look = self.now() + LOOK_EVERY
        while True:
            before = time.perf_counter()
            self._step()
            recent.append(time.perf_counter() - before)
            if self.now() >= next_look:
                behind = self.emitted - run.counts.shipped
                self.looks.append((self.now(), behind, 1000 * sum(recent) / len(recent)))
                times += recent
                recent = []
                if until(behind):
                    return
                next_look = self.now() + LOOK_EVERY

    def flood(self, points: int) -> float:
        """Emit ``points`` as fast as it goes; seconds."""
        import trackside

        before = time.perf_counter()
        for metrics, step in Samples(points, 100, 100):
            trackside.log(metrics, step=step, prefix="outage")
        self.emitted += points
        return time.perf_counter() - before

    def _step(self) -> None:
        import trackside

        self._optimizer.zero_grad()
        loss = self._model(self._inputs).square().mean()
        loss.backward()
        self._optimizer.step()
        trackside.log(dict.fromkeys(self._names, loss.item()), step=self._steps)
        self._steps += 1
        self.emitted += METRICS


@click.command()
@click.argument("place", type=click.Choice(list(OUTAGES)))
@click.argument("points", type=int)
@click.argument("calm", type=float)
@click.argument("patience", type=float)
def main(place: str, points: int, calm: float, patience: float) -> None:
    """Play it: CALM seconds of training before and after; PATIENCE seconds for catching up."""
    out = own_stdout()
    logging.disable(logging.WARNING)
    os.environ.update(TRACKSIDE_START_TIMEOUT="1" if "server" in place else "90", TRACKSIDE_EXIT_TIMEOUT="60")
    with ExitStack() as stack:
        figures = _play(OUTAGES[place](stack), points, calm, patience)
    say(figures, out)


def _play(outage: Outage, points: int, calm: float, patience: float) -> Figures:
    import trackside

    training = Training()
    with trackside.start("outage", tracking_uri=outage.uri) as run:
        training.go_on("before", run, _after(calm))
        outage.begin()
        figures: Figures = {"outage_at": training.now(), "emitting": training.flood(points)}
        coming_up = threading.Thread(target=outage.end)
        coming_up.start()
        training.go_on("coming up", run, lambda _: not coming_up.is_alive())
        figures |= _catch_up(training, run, patience)
        training.go_on("after", run, _after(calm))
        figures["dropped"] = run.dropped
    for phase, times in training.times.items():
        figures[phase] = _percentiles(times)
    stride = max(len(training.looks) // SHOWN, 1)
    shown = [(round(at, 2), behind, round(step, 3)) for at, behind, step in training.looks[::stride]]
    return {**figures, "backlog": shown, "backlog_fields": ["seconds", "points", "step_ms"]}


def _catch_up(training: Training, run: Run, patience: float) -> Figures:
    begun, shipped, emitted = training.now(), run.counts.shipped, training.emitted

    def enough(behind: int) -> bool:
        took = training.now() - begun
        pace = (training.emitted - emitted) / took
        return behind <= WORTH * pace or took > patience

    training.go_on("during", run, enough)
    seconds, left = training.now() - begun, training.looks[-1][1]
    return {
        "up_at": begun,
        "seconds": seconds,
        "caught_up": seconds <= patience,
        "behind_before": emitted - shipped,
        "behind_after": left,
        "rate": (training.emitted - left - shipped) / seconds,
    }


def _after(seconds: float) -> Callable[[int], bool]:
    end = time.perf_counter() + seconds
    return lambda _: time.perf_counter() > end


def _percentiles(times: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(1000 * one for one in times)
    return {
        "steps": len(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
        "max": ordered[-1],
    }


if __name__ == "__main__":
    main()
