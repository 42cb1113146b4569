"""How long training waits for its logger at start and end: ``python -m benchmarks.start_and_end``.

*Start* is from the start of the process until a run is there and training may go on, the import included;
*end* from the last of 100 samples until the process is gone. MLflow and trackside get a fresh sqlite store
whose tables exist already; making them takes both some seconds more, once. trackside waits for the run's id
only where it is told to (``wait=True``), and at the end for delivery; offline it waits for neither. All
bytecode is compiled before. *Busy* is with one busy process for each processor, at the usual priority.
*To a server* is with ``mlflow server`` on this machine. Its first point counts from the call of ``start()``,
and the shipper's memory is the most that is its own (USS).
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS
from benchmarks.places import temporary_directory
from benchmarks.rounds import Rounds, options
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rounds import Case
    from benchmarks.worker import Figures

OFFLINE = "trackside, offline"
WAITING = "trackside, wait=True"
SERVER = "trackside, to a server"
BUSY = "while True: pass"
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in LOGGERS},
    WAITING: ("trackside", {"TRACKSIDE_START_WAIT": "on", "TRACKSIDE_START_TIMEOUT": "90"}),
    OFFLINE: ("trackside", {"TRACKSIDE_MODE": "offline"}),
}
"""The library and the environment of each."""


@click.command()
@options(rounds=3, names=[*WAYS, SERVER])
def main(rounds: int, only: tuple[str, ...], quick: bool, path: Path | None) -> None:
    """Measure, and print seconds."""
    cases: list[Case] = [{"logger": name} for name in [*WAYS, SERVER] if not only or name in only]
    played = Rounds("start_and_end", 1 if quick else rounds, path)
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            if case["logger"] == SERVER:
                return measure_to_server()
            name, more = WAYS[case["logger"]]
            environment = {**QUIET, **store, **more}
            figures = measure("start_worker", name, environment=environment)
            if "error" in figures:
                return figures
            with busy_processors():
                beside = measure("start_worker", name, environment=environment)
            return figures | _as_busy(beside)

        for case in cases:
            measure_one(case)  # so that what is imported has been compiled, and read once
        played.play(cases, measure_one)
    played.show()


def measure_to_server() -> Figures:
    """With a new server, and with another beside busy processors."""
    figures = _with_new_server()
    return figures if "error" in figures else figures | _as_busy(_with_new_server(busy=True))


def _with_new_server(*, busy: bool = False) -> Figures:
    with ExitStack() as stack:
        server = MlflowServer(temporary_directory(stack))
        stack.callback(server.kill)
        server.start()
        if busy:
            stack.enter_context(busy_processors())
        return measure("server_worker", server.url, environment=QUIET)


def _as_busy(figures: Figures) -> Figures:
    names = ("start", "until_started", "first_point")
    return {f"{name}_busy": figures[name] for name in names if figures.get(name) is not None}


@contextmanager
def busy_processors() -> Iterator[None]:
    """For the block, keep every processor busy with a process that counts nothing."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            burner = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(burner.kill)
        yield


if __name__ == "__main__":
    main()
