"""What one call to log some metrics costs the training thread: ``python -m benchmarks.cost_of_log``.

Every library logs in a process of its own; rounds are interleaved, so a machine whose speed drifts treats
them alike; what counts is the ratio. Each call is timed by itself. ``busy`` repeats it beside a Python
thread that never waits, as a data loader's or a progress bar's may.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.loggers import LOGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator

FIGURES = ("median", "mean", "p99", "p99.9", "max")


@click.command()
@click.option(
    "--rounds", default=5, show_default=True, help="Interleaved rounds; medians over them are shown."
)
@click.option("--only", multiple=True, type=click.Choice(sorted(LOGGERS)), help="Measure only these.")
@click.option("--metrics", default="10", show_default=True, help="Metrics a call: numbers with commas.")
@click.option(
    "--values",
    default="floats",
    show_default=True,
    type=click.Choice(["floats", "torch", "cuda"]),
    help="Kind.",
)
@click.option("--threads", default=1, show_default=True, help="Threads that log at once.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write all results here.")
def main(  # noqa: PLR0917 - one argument an option
    rounds: int, only: tuple[str, ...], metrics: str, values: str, threads: int, json_path: Path | None
) -> None:
    """Measure, and print the cost of a call and how many times trackside's it is."""
    names = [name for name in LOGGERS if not only or name in only]
    counts = [int(part) for part in metrics.split(",")]
    console = Console(width=130)
    results: dict[str, list[dict[str, Any]]] = {}
    for number in range(rounds):
        for count, busy, name in itertools.product(counts, (False, True), names):
            key = _key(name, count, busy=busy)
            console.print(f"round {number + 1}/{rounds}: {key}")
            found = _measure(name, metrics=count, values=values, threads=threads, busy=busy)
            results.setdefault(key, []).append(found)
    for line in _machine():
        console.print(line)
    what = values if threads == 1 else f"{values}, from each of {threads} threads"
    for count, busy in itertools.product(counts, (False, True)):
        console.print(_table(names, results, count, what, busy=busy))
    if json_path is not None:
        options = {"values": values, "threads": threads}
        found = {"machine": list(_machine()), "options": options, "results": results}
        json_path.write_text(json.dumps(found, indent=1))


def _key(name: str, metrics: int, *, busy: bool) -> str:
    return f"{name}, {metrics} metrics{', busy' if busy else ''}"


def _measure(name: str, *, metrics: int, values: str, threads: int, busy: bool) -> dict[str, Any]:
    """Run one worker in an empty directory; its figures in microseconds, or why there are none."""
    options = ["--metrics", str(metrics), "--values", values, "--threads", str(threads)]
    command = [sys.executable, "-m", "benchmarks.log_worker", name, *options]
    root = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory(prefix="trackside-bench-", ignore_cleanup_errors=True) as directory:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        }
        done = subprocess.run(
            [*command, *(["--busy"] if busy else [])],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode != 0:
        return {"error": done.stderr.strip().splitlines()[-1:] or ["no output"]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _table(
    names: list[str], results: dict[str, list[dict[str, Any]]], metrics: int, what: str, *, busy: bool
) -> Table:
    title = f"one call with {metrics} {what}, µs{', beside a busy Python thread' if busy else ''}"
    table = Table("logger", *FIGURES, "median: times trackside's", "mean: times trackside's", title=title)
    ours = results.get(_key("trackside", metrics, busy=busy), [])
    for name in names:
        rounds = results[_key(name, metrics, busy=busy)]
        if any("error" in item for item in rounds):
            table.add_row(name, str(rounds[0].get("error")))
            continue
        figures = [_spread([item[figure] for item in rounds]) for figure in FIGURES]
        table.add_row(name, *figures, _ratio(rounds, ours, "median"), _ratio(rounds, ours, "mean"))
    return table


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"


def _ratio(rounds: list[dict[str, Any]], ours: list[dict[str, Any]], figure: str) -> str:
    """The ratio round by round, so that both sides met the same machine; its median."""
    pairs = zip(rounds, ours, strict=False)
    ratios = [theirs[figure] / mine[figure] for theirs, mine in pairs if figure in mine]
    return f"{statistics.median(ratios):,.1f}" if ratios else "-"


def _machine() -> Iterator[str]:
    import mlflow

    yield f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs"
    yield f"Python {platform.python_version()}, mlflow {mlflow.__version__}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
