"""``trackside demo``: train a small model, log it, and report what became of every point."""

from __future__ import annotations

import importlib.util
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from trackside.destinations.mlflow.run_page import how_to_look
from trackside.text import format_duration, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trackside.cli.demo_training import PointCounter, Step
    from trackside.session.run import Files, Run

INTERRUPTED = 130
"""Exit code after Ctrl-C: what a shell reports for a program that SIGINT ended."""

LINES_IN_A_PIPE = 10
"""How many progress lines a training prints without a terminal."""


@click.command()
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Optimisation steps.",
)
@click.option("--experiment", default="digits", show_default=True, help="MLflow experiment.")
@click.option(
    "--tracking-uri",
    help="MLflow's address.  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]",
)
@click.option(
    "--with",
    "library",
    type=click.Choice(["torch", "numpy"]),
    help="What to train with.  [default: torch if it is installed, else numpy]",
)
@click.pass_context
def demo(
    ctx: click.Context, steps: int, experiment: str, tracking_uri: str | None, library: str | None
) -> None:
    """Train a small network on scikit-learn's digits and log every step.

    Beside the curves, the run gets pictures of the predictions, a table of the mistakes, histograms of the
    weights, checkpoints, the model and the data.

    The run goes to MLflow's embedded database in this directory, unless you name another address. At the
    end you see what was delivered and how to open it in MLflow. If you press Ctrl-C, the training ends, and
    the run is KILLED.
    """
    train, model = _load_training(library)
    import trackside
    from trackside.cli.demo_training import DESCRIPTION, PointCounter, make_config

    counter = PointCounter()
    config = make_config(steps, model)
    click.echo("opening the run (the first run in a directory also creates the database)")
    os.environ.setdefault("TRACKSIDE_QUIET", "on")  # the demo prints the same itself
    run = trackside.start(
        experiment,
        run_name=f"digits-{steps}-steps",
        tracking_uri=tracking_uri,
        description=DESCRIPTION,
        config=config,
        sinks=[counter],
    )
    if not run.is_recording:
        raise click.ClickException(
            "the demo logs nothing here, because TRACKSIDE_MODE is disabled or this is not rank 0"
        )
    click.echo(f"logging to {one_line(run.tracking_uri)}")
    began = time.monotonic()
    try:
        with run, _progress(steps) as on_step:
            last = train(config, on_step)
            seconds = time.monotonic() - began
    except KeyboardInterrupt:
        click.echo("\ninterrupted: the training has stopped, and the run is closed")
        _report(run, counter)
        ctx.exit(INTERRUPTED)
    click.echo(f"{last.number} steps in {format_duration(seconds)}: {_numbers(last)}")
    _report(run, counter)


def _load_training(library: str | None) -> tuple[Callable[..., Step], dict[str, Any]]:
    """Return the training and its model's description, with torch if that can be imported."""
    if importlib.util.find_spec("sklearn") is None:
        raise click.ClickException("the demo needs scikit-learn: pip install scikit-learn")
    if library != "numpy":
        try:
            from trackside.cli import demo_torch
        except Exception as error:  # a torch that does not match its driver may raise anything
            if library == "torch":
                msg = f"torch can't be imported ({error}): pip install torch, or use --with numpy"
                raise click.ClickException(msg) from error
            if not isinstance(error, ModuleNotFoundError):
                click.echo(f"torch can't be imported ({error}): training with numpy", err=True)
        else:
            return demo_torch.train, demo_torch.MODEL
    from trackside.cli import demo_numpy

    return demo_numpy.train, demo_numpy.MODEL


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[Step], None]]:
    """Yield a function to call after each step. It moves a bar, or sometimes prints a line."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        yield _line_printer(steps)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from trackside.cli.columns import Elapsed

    text = TextColumn("{task.description}")
    with Progress(BarColumn(), MofNCompleteColumn(), Elapsed(), text, console=console) as bar:
        task = bar.add_task("", total=steps)
        yield lambda step: bar.update(task, completed=step.number, description=_numbers(step))


def _line_printer(steps: int) -> Callable[[Step], None]:
    every = -(-steps // LINES_IN_A_PIPE)

    def print_line(step: Step) -> None:
        if step.number % every == 0 or step.number == steps:
            click.echo(f"step {step.number:>{len(str(steps))}}/{steps}  {_numbers(step)}")

    return print_line


def _numbers(step: Step) -> str:
    return f"loss {step.loss:.4f}  val accuracy {step.accuracy:.1%}"


def _report(run: Run, counter: PointCounter) -> None:
    """Report what became of the points and files, and how to view them."""
    counts = run.counts
    waiting = counter.points - sum(counts)
    rows = {
        "run": run.run_id or "has no id yet",
        "status": f"{run.status}, not delivered yet" if waiting else run.status,
        "emitted": f"{counter.points} points",
        "shipped": f"{counts.shipped}",
        "rejected": f"{counts.rejected}",
        "dropped": f"{counts.dropped}",
        "files": _what_became_of(counts.files),
    }
    click.echo()
    for name, value in rows.items():
        click.echo(f"{name:<10}{one_line(value)}")
    click.echo()
    place = "" if run.journal is None else one_line(str(run.journal.path))
    kept = _listed(waiting, counts.files.waiting)
    if kept and run.journal is not None and not run.journal.meta.exists():
        click.echo(f"{kept} are lost: {place} was removed before they were delivered")
    elif kept:
        click.echo(f"{kept} are kept in {place}")
        click.echo("To deliver them, run `trackside sync`.")
    if not waiting:
        click.echo(printable(how_to_look(run.tracking_uri, run.url)))


def _what_became_of(files: Files) -> str:
    """The counts of ``files`` that are not zero."""
    named = {
        "delivered": files.delivered,
        "waiting": files.waiting,
        "rejected": files.rejected,
        "not kept": files.not_kept,
    }
    return ", ".join(f"{count} {name}" for name, count in named.items() if count or name == "delivered")


def _listed(points: int, files: int) -> str:
    """What waits, in words. Empty if nothing does."""
    named = [f"{count} {name}" for count, name in ((points, "points"), (files, "files")) if count]
    return " and ".join(named)
