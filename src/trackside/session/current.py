"""Which run a bus has: one at a time, and ``start()`` says so before it makes anything.

Invariants:

* If several threads start a run on one bus, one of them gets it. The others get a
  :class:`~trackside.errors.RunActiveError`.
* Nothing here waits, so runs on separate buses start at the same time.
* A start that fails frees its bus. So does a fork, in the child.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trackside.errors import ConfigurationError, RunActiveError
from trackside.event_bus.bus import Bus, default_bus
from trackside.events import checked_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.events import FinalStatus
    from trackside.journal.directory import JournalDirectory
    from trackside.session.run import Run

recording_runs: dict[int, Run] = {}
"""The run of each bus that is being logged, by the bus's id."""

noop_runs: dict[int, Run] = {}
"""The run of each bus that logs nothing here, by the bus's id."""

_starting: dict[int, object] = {}
"""The start in progress of each bus that has one, by the bus's id."""


def current_run(bus: Bus | None = None) -> Run | None:
    """Return the run of the default bus, or of ``bus``. Without a run, return None.

    On other ranks and in disabled mode it is the no-op run that ``start()`` returned there.
    """
    key = id(checked_bus(bus))
    return recording_runs.get(key) or noop_runs.get(key)


def finish(status: FinalStatus = "FINISHED", *, bus: Bus | None = None) -> None:
    """End the current run as ``status``, as :meth:`Run.finish` does. Without a run, do nothing.

    For a run that you hold no reference to: one started in a function, or in a notebook cell that failed.
    ``bus`` is the run's bus if it has one of its own. Raises ``ValueError`` for an unknown status.
    """
    checked_status(status)
    run = current_run(bus)
    if run is not None:
        run.finish(status)


def end_noop_run(bus: Bus) -> None:
    """End the no-op run of ``bus``, if it has one: the next run there takes its place."""
    earlier = noop_runs.get(id(bus))
    if earlier is not None:
        earlier.finish()


def leave(bus: Bus, journal: JournalDirectory) -> None:
    """Free ``bus``, if its run is still the one of ``journal``."""
    run = recording_runs.get(id(bus))
    if run is not None and run.journal is journal:
        del recording_runs[id(bus)]


@contextlib.contextmanager
def reserved(bus: Bus) -> Iterator[None]:
    """Keep other starts off ``bus`` for the block.

    Raises :class:`RunActiveError` if another thread is starting a run on it. Look in the block whether the
    bus has a run already: another start registers its run before it frees the bus.
    """
    mine = object()
    try:
        if _starting.setdefault(id(bus), mine) is not mine:  # atomic: one call into C
            raise RunActiveError(
                "another thread is starting a run on this bus: start it in one thread only, "
                "or pass a bus=Bus() of its own to each start()"
            )
        yield
    finally:
        if _starting.get(id(bus)) is mine:
            del _starting[id(bus)]


def checked_bus(bus: Bus | None) -> Bus:
    """``bus`` or the default bus. Raises :class:`ConfigurationError` for anything else."""
    if bus is None:
        return default_bus
    if not isinstance(bus, Bus):
        raise ConfigurationError(f"bus must be a trackside.Bus, not {type(bus).__name__}")
    return bus


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starting.clear)
