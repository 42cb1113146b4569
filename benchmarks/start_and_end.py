"""How long training waits for its logger at start and end: ``python -m benchmarks.start_and_end``.

*Start* is from the start of the process until a run is there and training may go on, the import included;
*end* from the last of 100 samples until the process is gone. MLflow and trackside get a fresh sqlite store
whose tables exist already; making them takes both some seconds more, once. trackside waits for the run's id
from its shipper, and at the end for delivery; offline it waits for neither. All bytecode is compiled before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS
from benchmarks.rounds import Rounds, options
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.rounds import Case
    from benchmarks.worker import Figures

OFFLINE = "trackside, offline"
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in LOGGERS},
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
            return measure("start_worker", name, environment={**QUIET, **store, **more})

        for case in cases:
            measure_one(case)  # so that what is imported has been compiled, and read once
        played.play(cases, measure_one)
    played.show()


if __name__ == "__main__":
    main()
