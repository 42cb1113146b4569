"""The matrix of ends as a table: ``python -m tests.matrix [--only TEXT] [--repeat N] [--write FILE]``.

Every case is played with real processes against a real store and read back from MLflow.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.ends.cases import GROUPS
from tests.ends.harness import Case, Outcome, check, play

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("end", "expected", "seen", "exit code", "points", "doubles", "seconds", "faults")


@click.command()
@click.option("--only", default="", help="Play the cases whose name contains this text.")
@click.option("--fast", is_flag=True, help="Leave out the slow cases.")
@click.option("--repeat", default=1, show_default=True, help="Play everything so many times.")
@click.option("--jobs", default=2, show_default=True, help="Cases to play at once.")
@click.option("--write", type=click.Path(path_type=Path), help="Also write the table to this Markdown file.")
def main(only: str, fast: bool, repeat: int, jobs: int, write: Path | None) -> None:
    """Play the matrix and print it. Exit with code 1 if a case did not end as it should."""
    for number in (signal.SIGINT, signal.SIGHUP):  # which processes of a background job, or of nohup, ignore
        signal.signal(number, signal.SIG_DFL)
    wanted = [(group, case) for group, case in _all() if only in case.name and not (fast and case.slow)]
    started = time.monotonic()
    console, total = Console(stderr=True), len(wanted) * repeat
    rows: list[tuple[str, ...]] = []
    with ThreadPoolExecutor(jobs) as pool:
        played = pool.map(lambda item: _play(*item), wanted * repeat)
        for row in track(played, total=total, description="playing", console=console):
            rows.append(row)
            if row[-1] or (not console.is_terminal and len(rows) % 50 == 0):  # hours may be ahead
                console.print(f"{len(rows)} of {total}: {row[1]}: {row[-1] or 'as it should be'}")
    took = time.monotonic() - started
    _print(rows, took)
    if write is not None:
        write.write_text(_markdown(rows, took))
    sys.exit(any(row[-1] for row in rows))


def _all() -> Iterator[tuple[str, Case]]:
    for group, cases in GROUPS.items():
        for case in cases:
            yield group, case


def _play(group: str, case: Case) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="trackside-matrix-", ignore_cleanup_errors=True) as directory:
        try:
            seen = play(case, Path(directory))
        except Exception as error:  # one broken case must not hide the others
            return (
                group,
                case.name,
                case.status,
                "-",
                "-",
                "-",
                "-",
                "-",
                f"{type(error).__name__}: {error}",
            )
        return (group, *_row(case, seen))


def _row(case: Case, seen: Outcome) -> tuple[str, ...]:
    wanted = seen.confirmed if case.points is None else case.points
    return (
        case.name,
        case.status,
        seen.status,
        str(seen.exit_code),
        f"{seen.points}/{wanted}",
        str(seen.doubles),
        f"{seen.seconds:.1f}",
        "; ".join(check(case, seen)),
    )


def _print(rows: list[tuple[str, ...]], took: float) -> None:
    table = Table(*COLUMNS, title="How a run ends, played and read back")
    for row in rows:
        table.add_row(*row[1:], style="red" if row[-1] else None)
    console = Console(width=160)
    console.print(table)
    bad = sum(bool(row[-1]) for row in rows)
    console.print(f"{len(rows)} ends played in {took:.0f} s, {bad} did not end as they should")


def _markdown(rows: list[tuple[str, ...]], took: float) -> str:
    lines = [
        "# The matrix of ends",
        "",
        "On this page you see which status each end of a process leaves in MLflow. To play them on your",
        "machine, run `make matrix`. `make matrix ARGS='--write docs/matrix.md'` makes this page.",
        "",
        "Each end is played with real processes against a real sqlite store. The run is read from MLflow.",
        "",
        "- `points`: how many points you find in MLflow, of those emitted. If a process is killed while it",
        "  emits, only those confirmed before the kill are counted. One more may have arrived.",
        "- `seconds`: the time from the end of the process to the final status.",
        "",
    ]
    for group in GROUPS:
        lines += [
            f"## {group.capitalize()}",
            "",
            "| " + " | ".join(COLUMNS[:-1]) + " |",
            "|---" * (len(COLUMNS) - 1) + "|",
        ]
        lines += ["| " + " | ".join(row[1:-1]) + " |" for row in rows if row[0] == group]
        lines.append("")
    bad = sum(bool(row[-1]) for row in rows)
    lines.append(f"{len(rows)} ends played in {took:.0f} s. {bad} did not end as they should.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
