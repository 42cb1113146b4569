"""What the benchmarks have to know about a library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager  # noqa: TC003 - as its neighbours
from typing import Any, NamedTuple

Log = Callable[[dict[str, Any], int], object]
"""Logs metrics at a step: the call that is measured."""


def taking(values: str, log: Log, numbers: tuple[str, ...]) -> Log:
    """``log``, or what its user has to write where it does not take such values."""
    if values in numbers:
        return log
    return lambda metrics, step: log({name: value.item() for name, value in metrics.items()}, step)


class Kept(NamedTuple):
    """What a library has on disk, read with its own reader where it has one."""

    points: list[tuple[str, int]]
    """Name and step of each point."""

    status: str | None = None
    """The run's; None where the library keeps none."""


class Logger(NamedTuple):
    """A library as its users use it, with its defaults; it works in the current directory."""

    module: str
    """What a user imports."""

    open: Callable[[], AbstractContextManager[Log]]
    """Starts a run, gives what logs to it, and ends it as the library wants it ended."""

    kept: Callable[[], Kept]
    """Reads back, in another process and after the run."""

    note: str = ""
    """What it does differently from the others."""

    numbers: tuple[str, ...] = ("floats", "numpy", "torch", "cuda")
    """The kinds of values it takes. For others the user has to call ``.item()``, within the measured call."""

    fast: bool = True
    """Whether several threads that log through it are worth measuring."""
