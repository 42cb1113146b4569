"""Watches one program from its start to its end and prints when it did what. Started by ``start_and_end``."""

from __future__ import annotations

import time

import click

from benchmarks.loggers import LOGGERS
from benchmarks.store import place_store
from benchmarks.watched import Watched, complain
from benchmarks.worker import own_stdout, say

SAMPLES = 100


@click.command()
@click.argument("name", type=click.Choice(list(LOGGERS)))
def main(name: str) -> None:
    """Run a program that logs a few samples with NAME, and print seconds."""
    out = own_stdout()
    place_store()
    watched = Watched(name, samples=SAMPLES, metrics=10, pause=0.001)
    moments = {event.name: event.moment for event in watched.events()}
    code, ended = watched.wait(), time.monotonic()
    if code != 0:
        complain()
    figures = {
        "python": moments["begun"] - watched.begun,
        "import": moments["imported"] - moments["importing"],
        "start": moments["started"] - moments["imported"],
        "until_started": moments["started"] - watched.begun,
        "end": ended - moments["last"],
        "samples": SAMPLES,
    }
    say(figures, out)


if __name__ == "__main__":
    main()
