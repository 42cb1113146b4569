"""What is left of what was logged when the process is killed: ``python -m benchmarks.survival``.

A program logs a sample each millisecond and is killed with SIGKILL at a random moment; the processes it
started may go on until they end by themselves, five minutes at most. Then what is on disk is read with the
library's own reader. The same without a kill shows that it counts rightly.
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

METRICS = 10
ENDS = ("killed", "clean")


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option("--samples", default=1000, show_default=True, help="At most; the kill comes after 70 to 90 %.")
def main(rounds: int, only: tuple[str, ...], quick: bool, path: Path | None, samples: int) -> None:
    """Play, and print what was logged and what was kept."""
    names = [name for name in LOGGERS if not only or name in only]
    cases = [_case(name, end) for end in (ENDS[:1] if quick else ENDS) for name in names]
    played = Rounds("survival", 1 if quick else rounds, path)
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            arguments = [case["logger"], f"--samples={samples}", f"--metrics={METRICS}"]
            arguments += ["--kill"] if case["end"] == "killed" else []
            return measure("survival_worker", *arguments, environment={**QUIET, **store})

        played.play(cases, measure_one)
    played.show()


def _case(name: str, end: str) -> Case:
    return {"logger": name, "end": end}


if __name__ == "__main__":
    main()
