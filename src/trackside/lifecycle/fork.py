"""Forked children log nothing: what the parent has set up becomes inert in them.

A DataLoader worker must not write to its parent's journal, answer its signals, wait for its shipper at
exit, or end its run.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Protocol


class Inheritable(Protocol):
    """Something that a forked child inherits and must not use."""

    def abandon(self) -> None:
        """Become inert. Called in the child, where no other thread runs."""


_inherited: weakref.WeakSet[Inheritable] = weakref.WeakSet()


def abandon_in_children(thing: Inheritable) -> None:
    """Have ``thing.abandon()`` called in every child forked while it exists."""
    _inherited.add(thing)


def keep_in_children(thing: Inheritable) -> None:
    """Undo :func:`abandon_in_children`."""
    _inherited.discard(thing)


def _after_fork() -> None:
    for thing in list(_inherited):
        with contextlib.suppress(Exception):  # the others must become inert all the same
            thing.abandon()
    _inherited.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
