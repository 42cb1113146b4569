"""How long training waits for its logger at start and end: ``python -m benchmarks.start_and_end``.

*Start* is from the start of the process until a run is there and training may go on, the import included;
*end* from the last of 100 samples until the process is gone. MLflow and trackside get a fresh sqlite store
whose tables exist already; making them takes both some seconds more, once. trackside waits for the run's id
only where it is told to (``wait=True``), and at the end for delivery; offline it waits for neither. All
bytecode is compiled before. *Busy* is with one busy process for each processor, at the usual priority.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS
from benchmarks.rounds import Rounds, options
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rounds import Case
    from benchmarks.worker import Figures

OFFLINE = "trackside, offline"
WAITING = "trackside, wait=True"
BUSY = "while True: pass"
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in LOGGERS},
    WAITING: ("trackside", {"TRACKSIDE_START_WAIT": "on", "TRACKSIDE_START_TIMEOUT": "90"}),
    OFFLINE: ("trackside", {"TRACKSIDE_MODE": "offline"}),
}
"""The library and the environment of each."""


@click.command()
@options(rounds=3, names=WAYS)
def main(rounds: int, only: tuple[str, ...], quick: bool, path: Path | None) -> None:
    """Measure, and print seconds."""
    cases: list[Case] = [{"logger": name} for name in WAYS if not only or name in only]
    played = Rounds("start_and_end", 1 if quick else rounds, path)
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            name, more = WAYS[case["logger"]]
            environment = {**QUIET, **store, **more}
            figures = measure("start_worker", name, environment=environment)
            if "error" in figures:
                return figures
            with busy_processors():
                beside = measure("start_worker", name, environment=environment)
            return {**figures, **{f"{name}_busy": beside.get(name) for name in ("start", "until_started")}}

        for case in cases:
            measure_one(case)  # so that what is imported has been compiled, and read once
        played.play(cases, measure_one)
    played.show()


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
