"""A sink with a journal, on a bus, and what can be read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.journal.directory import create_directory
from trackside.journal.reader import JournalReader
from trackside.journal.scoreboard import read_dropped, read_on_device
from trackside.journal.writer import JournalWriter
from trackside.sinks import MLflowSink

if TYPE_CHECKING:
    from pathlib import Path


class Kept:
    """The sink gets ``options``."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.journal = create_directory(root, "x")
        self.writer = JournalWriter(self.journal)
        self.watched = 0
        self.bus = Bus()
        self.sink = self.bus.attach(MLflowSink(self.writer, watch=self._watch, **options))
        self._reader = JournalReader(self.journal)

    def _watch(self) -> None:
        self.watched += 1

    def emit(self, *arguments: Any, **options: Any) -> None:
        """Emit a sample."""
        self.bus.emit(MetricsSample(*arguments, **options))

    def records(self) -> list[Any]:
        """What has come since the last look. Nothing may be unreadable."""
        found = []
        while batch := self._reader.read():
            found += [entry.record for entry in batch]
        assert self._reader.damaged + self._reader.missing + self._reader.torn == 0
        return found

    def record(self) -> Any:
        """The only one."""
        (found,) = self.records()
        return found

    @property
    def on_device(self) -> int:
        """Points that are still on the accelerator."""
        return read_on_device(self.journal.scoreboard)

    @property
    def dropped(self) -> int:
        """Points that were dropped."""
        return read_dropped(self.journal.scoreboard)

    def close(self) -> None:
        """Let go of the files."""
        self._reader.close()
        self.writer.close()
