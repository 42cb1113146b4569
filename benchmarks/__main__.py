"""All benchmarks one after another, then the report: ``python -m benchmarks``, which is ``make bench``."""

from __future__ import annotations

import subprocess
import sys

import click

from benchmarks.worker import ROOT

NAMES = ("cost_of_log", "training_step", "start_and_end", "survival", "delivery", "scale", "outage")


@click.command()
@click.option("--quick", is_flag=True, help="One round of the main cases: a few minutes in all.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Run only these; then the report.")
def main(quick: bool, only: tuple[str, ...]) -> None:
    """Run them; one that fails does not stop those after it, and is named at the end."""
    options = ["--quick"] if quick else []
    failed = [name for name in NAMES if (not only or name in only) and not _run(name, *options)]
    if not _run("report"):
        failed.append("report")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def _run(name: str, *options: str) -> bool:
    click.echo(f"--- benchmarks.{name}", err=True)
    return (
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    main()
