"""What a log costs here and at another commit: ``python -m benchmarks.hot_path --against COMMIT``.

A process for each of the two logs a block of calls when it is asked to, now the one and now the other, on the
same processor, so that both meet the same machine. *In the loop*: 25 calls, each behind a training step, and
the block's median. *Tight*: calls without a pause in CPU time of the logging thread, in a block that is short
beside a time slice. The ratio of two neighbouring blocks holds still where neither does; its median over all
pairs has bounds at 95 % by the sign test. The chain is that of ``TRACKSIDE_MODE=offline``: everything but the
shipper.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine, in_a_line
from benchmarks.spread import interval
from benchmarks.step import BLOCK, NO_TORCH, SMALL, has_torch
from benchmarks.worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = ("1 floats", "10 floats", "100 floats", "10 torch", "100 torch", "10 mixed")
BLOCK_SECONDS = 1e-3


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

    def block(self, case: str, where: str, calls: int) -> float:
        """Log so many times; what one took, in microseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{case} {where} {calls}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process and remove what it wrote."""
        self._process.communicate()
        self._directory.cleanup()


@click.command()
@click.option("--against", required=True, help="A commit, or the directory of another checkout.")
@click.option("--here", default=ROOT, type=click.Path(path_type=Path, exists=True), help="This one.")
@click.option("--blocks", default=300, show_default=True, help="Pairs of blocks of each case.")
@click.option("--case", "cases", multiple=True, help="Such as '10 floats'; kinds: floats, torch, mixed.")
@click.option("--where", type=click.Choice(["loop", "tight"]), help="Only there.")
def main(against: str, here: Path, blocks: int, cases: tuple[str, ...], where: str | None) -> None:
    """Measure both, and print what a call costs and how the two compare."""
    if not has_torch():
        raise click.ClickException(NO_TORCH)
    console = Console(width=None if sys.stdout.isatty() else 130)
    title = f"µs a call, {blocks} pairs of blocks; loop: {BLOCK} calls, each behind a step of {SMALL}"
    sides = "before: lowest, median", "after: lowest, median"
    table = Table("a sample of", "where", *sides, "after / before", "at least", "at most", title=title)
    with ExitStack() as stack:
        source = stack.enter_context(checkout(against))
        before, after = (Checkout(path, sys.executable) for path in (source, here))
        stack.callback(before.close)
        stack.callback(after.close)
        for case in cases or CASES:
            for place in [where] if where else ["loop", "tight"]:
                table.add_row(case, place, *_row(*_pairs(before, after, case, place, blocks)))
    console.print(
        f"{' '.join(['python -m benchmarks.hot_path', *sys.argv[1:]])}, {in_a_line(describe_machine())}"
    )
    console.print(table)


@contextmanager
def checkout(against: str) -> Iterator[Path]:
    """Give a directory with the sources: ``against`` itself, or those of the commit, which go afterwards."""
    if Path(against).is_dir():
        yield Path(against)
        return
    with tempfile.TemporaryDirectory(prefix="trackside-before-") as directory:
        archive = subprocess.run(
            ["git", "archive", against, "src"], cwd=ROOT, capture_output=True, check=False
        )
        if archive.returncode:
            said = archive.stderr.decode().strip()
            raise click.ClickException(f"--against {against}: no directory and no commit of {ROOT}: {said}")
        subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
        yield Path(directory)


def _pairs(
    before: Checkout, after: Checkout, case: str, where: str, blocks: int
) -> tuple[list[float], list[float]]:
    warm = [side.block(case, where, BLOCK if where == "loop" else 200) for side in (before, after)]
    calls = BLOCK if where == "loop" else max(int(BLOCK_SECONDS * 1e6 / min(warm)), 1)
    olds: list[float] = []
    news: list[float] = []
    for number in range(blocks):
        for side, times in ((before, olds), (after, news))[:: -1 if number % 2 else 1]:
            times.append(side.block(case, where, calls))
    return olds, news


def _row(olds: list[float], news: list[float]) -> tuple[str, ...]:
    ratios = [new / old for old, new in zip(olds, news, strict=True)]
    columns = (f"{min(times):.2f}, {statistics.median(times):.2f}" for times in (olds, news))
    return *columns, f"{statistics.median(ratios):.3f}", *(f"{bound:.3f}" for bound in interval(ratios))


if __name__ == "__main__":
    main()
