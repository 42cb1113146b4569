"""What the benchmark has to know about a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager  # noqa: TC003 - as its neighbours
from typing import Any, NamedTuple

Call = Callable[[Any, int], object]
"""Logs a thing at a step: the call that is measured."""

Calls = Mapping[str, Call]
"""By the name of the kind."""


class Library(NamedTuple):
    """A library as its users use it, with its defaults. It works in the current directory."""

    open: Callable[[], AbstractContextManager[Calls]]
    """Starts a run, and gives what logs to it."""

    kinds: frozenset[str]
    """What it has a call for."""

    check: Callable[[], None] = lambda: None
    """Raises ``RuntimeError`` if what was logged was not kept. Called within the run."""
