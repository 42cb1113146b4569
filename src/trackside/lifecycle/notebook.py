"""Cells of a notebook: which error concerns the run.

In a notebook an error ends its cell, not the session. So an error counts only if its cell logged something,
or started the run, and if no later cell logged anything. A typing error in an unrelated cell says nothing
about the training.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from trackside.lifecycle.crash import crash_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import LifecycleEvent
    from trackside.lifecycle.expected import Expected


class CellWatch:
    """Watches IPython's cells, if there is an IPython. ``written`` counts what was logged so far."""

    def __init__(self, written: Callable[[], int], expected: Expected) -> None:
        self._written = written
        self._expected = expected
        self._before = -1
        """What was logged before this cell. The run starts within one, which therefore has logged."""
        self._failure: LifecycleEvent | None = None
        self._events: Any = None
        self.active = False
        """Whether a cell has ended so far. A script that IPython runs is not a cell."""

    def install(self) -> None:
        """Ask IPython to be told of each cell."""
        get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
        shell = None if get_shell is None else get_shell()
        if shell is not None:
            self._events = shell.events
            self._events.register("pre_run_cell", self._on_begin)
            self._events.register("post_run_cell", self._on_end)

    def uninstall(self) -> None:
        """Stop watching."""
        if self._events is not None:
            with contextlib.suppress(ValueError):  # the program has cleared IPython's list
                self._events.unregister("pre_run_cell", self._on_begin)
                self._events.unregister("post_run_cell", self._on_end)
            self._events = None

    def take_failure(self) -> LifecycleEvent | None:
        """The error of the last cell that logged, once."""
        failure, self._failure = self._failure, None
        return failure

    def _on_begin(self, _: Any) -> None:
        self._before = self._written()

    def _on_end(self, result: Any) -> None:
        self.active = True
        if self._written() == self._before:
            return
        error = result.error_in_exec
        self._failure = (
            None
            if error is None
            else crash_event("crashed", type(error), error, error.__traceback__, expected=self._expected)
        )
