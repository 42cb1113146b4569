"""Columns for progress bars, with durations as every command writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import ProgressColumn
from rich.text import Text

from trackside.text import format_duration

if TYPE_CHECKING:
    from rich.progress import Task


class Elapsed(ProgressColumn):
    """How long the task has taken."""

    def render(self, task: Task) -> Text:
        """Return a text such as ``1m 30s``."""
        seconds = task.finished_time if task.finished else task.elapsed
        return Text("" if seconds is None else format_duration(seconds))


class Remaining(ProgressColumn):
    """How long the task will still take at its pace."""

    def render(self, task: Task) -> Text:
        """Return a text such as ``1m 30s left``, empty while the pace is unknown."""
        seconds = None if task.finished else task.time_remaining
        return Text("" if seconds is None else f"{format_duration(seconds)} left")
