"""A training loop with one library, or with none: times every step. Started by ``training_step``."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click
import torch

from benchmarks.loggers import LOGGERS, NOTHING, Log
from benchmarks.samples import names
from benchmarks.store import place_store
from benchmarks.timing import Budget, leave, summary
from benchmarks.worker import own_stdout, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

BATCH, FEATURES = 32, 64
STEPS = 3_000
WARM_UP = 20
NARROWEST, WIDEST = 8, 8192


@click.command()
@click.argument("name", type=click.Choice([NOTHING, *LOGGERS]))
@click.option("--width", default=64)
@click.option("--metrics", default=10)
@click.option("--seconds", default=2.0, help="To be spent on steps, about.")
@click.option("--calibrate", type=float, help="Only say the width for steps of so many milliseconds.")
def main(name: str, width: int, metrics: int, seconds: float, calibrate: float | None) -> None:
    """Train, logging with NAME, and print the figures, in microseconds."""
    out = own_stdout()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if calibrate is not None:
        say({"width": _width_for(calibrate)}, out)
        return
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")  # all of it is under way before the first step
    with _open(name) as log:
        step = _logging(_training(width), log, metrics)
        Budget(seconds / 5, WARM_UP, least=3).repeat(step)
        leave(summary(Budget(seconds, STEPS).repeat(step)), out)


def _open(name: str) -> AbstractContextManager[Log]:
    return nullcontext(lambda _metrics, _step: None) if name == NOTHING else LOGGERS[name].open()


def _logging(train: Callable[[], float], log: Log, metrics: int) -> Callable[[], int]:
    """A step and its log, timed from one begin to the next. The dict is made even for no logging."""
    kept, clock, number = names(metrics), time.perf_counter_ns, 0
    begun = clock()

    def step() -> int:
        nonlocal number, begun
        log(dict.fromkeys(kept, train()), number)
        number += 1
        before, begun = begun, clock()
        return begun - before

    return step


def _training(width: int) -> Callable[[], float]:
    """A step of a perceptron with two hidden layers on one random batch; it returns the loss."""
    layers = [
        torch.nn.Linear(FEATURES, width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, width),
        torch.nn.ReLU(),
    ]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, wanted = torch.randn(BATCH, FEATURES), torch.randn(BATCH, 1)

    def train() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def _width_for(milliseconds: float) -> int:
    """The width of the ladder whose step comes nearest to ``milliseconds``."""
    width, found = NARROWEST, {}
    while width < WIDEST:
        found[width] = _length(width)
        if found[width] > 1.5 * milliseconds:
            break
        width = int(width * 1.25)
    return min(found, key=lambda width: abs(found[width] - milliseconds))


def _length(width: int) -> float:
    """Milliseconds of a step so wide."""
    step = _logging(_training(width), lambda _metrics, _step: None, 1)
    Budget(0.1, 10, least=3).repeat(step)
    return statistics.median(Budget(0.3, 200, least=5).repeat(step)) / 1e6


if __name__ == "__main__":
    main()
