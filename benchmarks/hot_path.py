"""What a log costs here and in another checkout: ``python -m benchmarks.hot_path --against PATH``.

A process for each checkout logs a block of calls when it is asked to, now the one and now the other, on the
same processor, so that both meet the same machine. A block is short beside a time slice, and CPU time of
the logging thread is what counts: the ratio of two neighbouring blocks holds still where neither does. The
chain is the one of ``TRACKSIDE_MODE=offline``: everything but the shipper.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine, in_a_line
from benchmarks.worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = ("1 floats", "10 floats", "100 floats", "10 torch", "100 torch", "10 mixed")
BLOCK_SECONDS = 1e-3
_PATH = click.Path(path_type=Path, exists=True)


class Checkout:
    """A process that logs with the trackside of one checkout, in a directory of its own."""

    def __init__(self, path: Path, python: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="trackside-hot-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.hot_path_worker"],
            cwd=self._directory.name,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(path.resolve() / "src"), str(ROOT)]),
                "TRACKSIDE_MODE": "offline",
                "TRACKSIDE_DIR": self._directory.name,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def block(self, case: str, calls: int) -> float:
        """Log so many times; the CPU time of one, in microseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{case} {calls}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process and remove what it wrote."""
        self._process.communicate()
        self._directory.cleanup()


@click.command()
@click.option(
    "--against", required=True, type=click.Path(path_type=Path, exists=True), help="Other checkout."
)
@click.option("--here", default=ROOT, type=click.Path(path_type=Path, exists=True), help="This one.")
@click.option("--blocks", default=300, show_default=True, help="Pairs of blocks of each case.")
@click.option("--case", "cases", multiple=True, help="Such as '10 floats'; kinds: floats, torch, mixed.")
def main(against: Path, here: Path, blocks: int, cases: tuple[str, ...]) -> None:
    """Measure both, and print what a call costs and how the two compare."""
    before, after = Checkout(against, sys.executable), Checkout(here, sys.executable)
    table = Table(
        "a sample of", "before: lowest, median", "after: lowest, median", "ratio: median", "quartiles"
    )
    try:
        for case in cases or CASES:
            table.add_row(case, *_row(*_pairs(before.block, after.block, case, blocks)))
    finally:
        before.close()
        after.close()
    console = Console(width=130)
    console.print(in_a_line(describe_machine()))
    console.print(table, "CPU time of one call, µs")


def _pairs(
    before: Callable[[str, int], float], after: Callable[[str, int], float], case: str, blocks: int
) -> tuple[list[float], list[float]]:
    warm = [side(case, 200) for side in (before, after)]
    calls = max(int(BLOCK_SECONDS * 1e6 / min(warm)), 1)
    olds: list[float] = []
    news: list[float] = []
    for number in range(blocks):
        for side, times in ((before, olds), (after, news))[:: -1 if number % 2 else 1]:
            times.append(side(case, calls))
    return olds, news


def _row(olds: list[float], news: list[float]) -> tuple[str, ...]:
    ratios = [new / old for old, new in zip(olds, news, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    columns = (f"{min(times):.2f}, {statistics.median(times):.2f}" for times in (olds, news))
    return *columns, f"{middle:.3f}", f"{low:.3f}-{high:.3f}"


if __name__ == "__main__":
    main()
