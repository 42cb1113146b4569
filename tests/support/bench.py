"""A journal, and a shipper for it that is driven by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal.directory import create_directory
from trackside.journal.files import read_json, write_atomically
from trackside.journal.format import LifecycleRecord, MetricsRecord
from trackside.journal.meta import Meta, State, Target
from trackside.journal.owner import this_process
from trackside.journal.progress import Progress
from trackside.journal.writer import JournalWriter
from trackside.shipper.protocol import WakeupPipe
from trackside.shipper.service import Shipper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.faults.fake import FakeDestination


class Bench:
    """The writer is in this process, which is the training's unless ``alive`` says that it is dead."""

    def __init__(
        self,
        root: Path,
        fakes: Sequence[FakeDestination],
        *,
        alive: bool = True,
        cap: int = 1 << 30,
        **meta: Any,
    ) -> None:
        me = this_process()
        self.owner = me if alive else msgspec.structs.replace(me, started=0.0, start_ticks=None)
        self.journal = create_directory(root / "journals", "bench")
        self.meta = Meta("id", self.owner, Target("sqlite://"), 0, "/", 1, cap=cap, **meta)
        write_atomically(self.journal.meta, msgspec.json.encode(self.meta))
        self.writer = JournalWriter(self.journal, cap=cap)
        self.fakes = fakes
        self.progress = Progress(self.journal)
        self.pipe = WakeupPipe()

    @property
    def destination(self) -> FakeDestination:
        """The run's own."""
        return self.fakes[0]

    def emit(self, count: int, *, start: int = 0) -> None:
        """Append samples of one point."""
        for step in range(start, start + count):
            assert self.writer.append(MetricsRecord(0, 1, step, None, None, {"loss": step / 2}))

    def tell(self, kind: str, **fields: Any) -> None:
        """Append a lifecycle record."""
        self.writer.append(LifecycleRecord(0, 5, kind, **fields))

    def shipper(self, **options: Any) -> Shipper:
        """A shipper for the journal."""
        return Shipper(
            self.journal,
            self.meta,
            self.fakes,
            progress=self.progress,
            pipe=self.pipe.read_end,
            **options,
        )

    def state(self) -> State:
        """What the shipper last said."""
        found = read_json(self.journal.state, State)
        assert found is not None
        return found

    def close(self) -> None:
        """Clear away what is in this process."""
        self.writer.close()
        self.pipe.close()
