"""All benchmarks one after another, then the report: ``python -m benchmarks``, which is ``make bench``.

What they find goes to build/benchmarks, which git ignores; ``--renew-docs`` puts it where the docs have it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from benchmarks.results import RESULTS
from benchmarks.worker import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    "cost_of_log",
    "cost_of_artifacts",
    "training_step",
    "start_and_end",
    "survival",
    "delivery",
    "scale",
    "outage",
    "fleet",
)
BUILD = ROOT / "build" / "benchmarks"


@click.command()
@click.option("--quick", is_flag=True, help="One round of the main cases: some minutes in all.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Run only these; then the report.")
@click.option(
    "--renew-docs", is_flag=True, help="Put results, page, plots and the README's table into the docs."
)
def main(quick: bool, only: tuple[str, ...], renew_docs: bool) -> None:
    """Run them; one that fails does not stop those after it, and is named at the end."""
    if quick and renew_docs:
        raise click.UsageError("--quick measures too little for the docs: leave one of the two out")
    results = RESULTS if renew_docs else BUILD / "results"
    chosen = [name for name in NAMES if not only or name in only]
    failed = [
        name
        for number, name in enumerate(chosen, 1)
        if not _measure(name, results, quick, number, len(chosen))
    ]
    report = [] if renew_docs else ["--results", str(results), "--page", str(BUILD / "benchmarks.md")]
    if not _run("report", *report):
        failed.append("report")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def _measure(name: str, results: Path, quick: bool, number: int, of: int) -> bool:
    begun = time.monotonic()
    click.echo(f"\n=== {number} of {of}: python -m benchmarks.{name}{' --quick' if quick else ''}")
    good = _run(name, "--json", str(results / f"{name}.json"), *(["--quick"] if quick else []))
    click.echo(f"{name} took {(time.monotonic() - begun) / 60:.1f} min")
    return good


def _run(name: str, *options: str) -> bool:
    sys.stdout.flush()
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    main()
