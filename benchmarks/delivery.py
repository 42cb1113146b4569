"""How fast points get into MLflow's database: ``python -m benchmarks.delivery``.

Each way runs in a process of its own; rounds are interleaved, and what counts is the ratio to MLflow's
``log_batch`` by hand within a round. sqlite's file is fresh each time; PostgreSQL is a server of the
benchmark's own, with fsync off, whose runs are new each time.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from tests.ends.harness import new_database
from tests.faults.postgres import find_programs, postgres_server
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator

BULK = "trackside+"


class Way(NamedTuple):
    """How points are delivered: the worker's way, what comes before the address, and the environment."""

    way: str
    prefix: str = ""
    environment: dict[str, str] = {}  # noqa: RUF012 - never changed


DATABASE_WAYS = {
    "log_batch by hand": Way("by-hand"),
    "log_batch by hand, bulk store": Way("by-hand", BULK),
    "plain insert (floor)": Way("floor"),
    "trackside, bulk store off": Way("trackside", environment={"TRACKSIDE_BULK_STORE": "off"}),
    "trackside": Way("trackside"),
}
SERVER_WAYS = {
    "log_batch by hand": Way("by-hand"),
    "log_batch by hand, bulk store": Way("by-hand", BULK),
    "trackside": Way("trackside"),
    "trackside, bulk store": Way("trackside", BULK),
}
PLACES = ("sqlite", "postgresql", "server on sqlite", "server on postgresql")


@click.command()
@click.option("--points", default=100_000, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Interleaved; medians over them are shown.")
@click.option("--workers", default=1, show_default=True, help="Processes of a server; MLflow's default is 4.")
@click.option("--only", multiple=True, type=click.Choice(PLACES), help="Measure only these.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write all results here.")
def main(points: int, rounds: int, workers: int, only: tuple[str, ...], json_path: Path | None) -> None:
    """Measure, and print points a second and how many times those of log_batch by hand they are."""
    console = Console(width=120)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(rounds):
        for place in only or PLACES:
            with _addresses(place, workers) as addresses:
                for name, way in (SERVER_WAYS if "server" in place else DATABASE_WAYS).items():
                    found = _measure(way, addresses, points)
                    results.setdefault(place, {}).setdefault(name, []).append(found)
                    rate = points / found["seconds"]
                    console.print(f"round {number + 1}/{rounds}, {place}: {name}: {rate:,.0f}/s")
        _report(console, results, points)
        if json_path is not None:
            json_path.write_text(json.dumps({"machine": list(_machine()), "results": results}, indent=1))


@contextmanager
def _addresses(place: str, workers: int) -> Iterator[dict[str, str]]:
    """Addresses in ``place`` by what is before the database's own: for a server, a server with that store."""
    with ExitStack() as stack:
        if place.endswith("postgresql"):
            programs = find_programs()
            if programs is None:
                raise click.ClickException("PostgreSQL is not installed")
            database = stack.enter_context(postgres_server(programs)).uri
        else:
            database = new_database(_directory(stack))
        if "server" not in place:
            yield {"": database, BULK: BULK + database}
            return
        addresses = {}
        for prefix in ("", BULK):
            server = MlflowServer(_directory(stack), backend_store_uri=prefix + database, workers=workers)
            stack.callback(server.kill)
            server.start()
            addresses[prefix] = server.url
        yield addresses


def _directory(stack: ExitStack) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="trackside-bench-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _measure(way: Way, addresses: dict[str, str], points: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.delivery_worker",
        way.way,
        addresses[way.prefix],
        str(points),
    ]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **way.environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _report(console: Console, results: dict[str, Any], points: int) -> None:
    for line in _machine():
        console.print(line)
    for place, ways in results.items():
        table = Table(
            "way", "points/s (range)", "times by hand (range)", "CPU µs a point", title=f"{place}, {points:,}"
        )
        base = ways["log_batch by hand"]
        for name, rounds in ways.items():
            rates = [points / item["seconds"] for item in rounds]
            # A round that was interrupted has fewer of these.
            ratios = [b["seconds"] / item["seconds"] for b, item in zip(base, rounds, strict=False)]
            cpu = statistics.median(item["cpu"] for item in rounds) / points * 1e6
            table.add_row(name, _spread(rates, ",.0f"), _spread(ratios, ".1f"), f"{cpu:.1f}")
        console.print(table)


def _spread(values: list[float], how: str) -> str:
    return f"{statistics.median(values):{how}} ({min(values):{how}} - {max(values):{how}})"


def _machine() -> Iterator[str]:
    import mlflow

    yield f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs"
    yield f"Python {platform.python_version()}, mlflow {mlflow.__version__}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
