"""Reads wait until what the program logged before them is delivered, so that it reads what it wrote.

The wait is bounded. While the server fails, it is short: then the read fails as it does with MLflow alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.lifecycle.in_flight import interpreter_is_leaving
from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.journal_store.runs import Recording, Runs

PATIENCE = 60.0
"""Seconds that a read waits while delivery makes progress, or MLflow is silent."""

FAILING_PATIENCE = 5.0
"""Seconds that it waits while the server fails."""

_SLICE = 1.0


def catch_up(runs: Runs, recordings: Iterable[Recording], *, files: bool = False) -> None:
    """Wait until what was logged into ``recordings`` is delivered, with ``files`` or without them."""
    if interpreter_is_leaving():  # the exit waits by itself
        return
    began = steady()
    for recording in recordings:
        run = recording.run
        flush = run.flush if files else run.flush_points
        while not flush(_SLICE):
            delivery, waited = run.delivery, steady() - began
            if not run.is_recording and waited < _SLICE / 2:
                break  # it is just ending, perhaps further up on this very stack
            if delivery.phase in {"offline", "failed", "delivered"}:
                break
            if waited > PATIENCE or (delivery.reason is not None and waited > FAILING_PATIENCE):
                runs.warn_once(
                    "late",
                    "what was logged into %s is not all delivered yet (%s), and the program reads the run: "
                    "it may miss the last points. They are kept, and are delivered later (logged once)",
                    run.journal.name,
                    delivery,
                )
                return
