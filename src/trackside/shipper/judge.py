"""The one judge of a run's end: it collects all that is known, and says what the status is.

It knows what the journal's lifecycle records, the signals, the training process, and the other ranks' crash
notes say. The shipper's main thread brings in signals, and the delivery workers the records they read. The
workers ask for the verdict, and deliver it.

Invariant: what was brought in is in ``state.json``. A shipper that comes later has it, too, although the
cursors have passed the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.events import now_ms
from trackside.journal.scoreboard import merged, read_dropped, read_on_device, read_signals
from trackside.lifecycle.crash_notes import read_notes
from trackside.lifecycle.evidence import evidence_from
from trackside.lifecycle.kept_events import keep, matters
from trackside.lifecycle.verdict import Verdict, decide, telling_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import LifecycleRecord
    from trackside.journal.meta import Meta
    from trackside.journal.progress import Progress
    from trackside.lifecycle.evidence import Evidence
    from trackside.shipper.trainer import Trainer


class Judge:
    """Judges the end of the run of ``journal``. Any thread may ask."""

    def __init__(
        self,
        journal: JournalDirectory,
        meta: Meta,
        progress: Progress,
        trainer: Trainer,
        *,
        look_for_signals: Callable[[], object] = lambda: None,
    ) -> None:
        self._look_for_signals = look_for_signals
        self._journal = journal
        self._meta = meta
        self._progress = progress
        self._trainer = trainer
        self._telling = telling_signals(meta.terminate_signals)

    def keep_record(self, record: LifecycleRecord) -> None:
        """Take in a record of the journal. Each worker brings it, so only the first one counts."""
        known = self._progress.state.lifecycle
        if all(record.seq != other.seq for other in known) and matters(known, record):
            self._progress.update(lifecycle=keep(known, record))

    def keep_signals(self, numbers: Iterable[int]) -> bool:
        """Take in signals that the process has just got. Returns whether any of them may explain its end."""
        # The others (a timer's, a dead child's) come by the thousand, and explain no end.
        telling = [number for number in numbers if number in self._telling]
        if telling:
            self._progress.update(signals=merged(self._progress.state.signals, telling, now_ms()))
        return bool(telling)

    @property
    def said_exited(self) -> bool:
        """Whether the journal says that the interpreter exits."""
        return any(record.kind == "exited" for record in self._progress.state.lifecycle)

    def evidence(self) -> Evidence:
        """All that is known now. The signals that came before the last record are among it."""
        self._look_for_signals()
        state, trainer = self._progress.state, self._trainer
        return evidence_from(
            list(state.lifecycle),
            signals=[*read_signals(self._journal.scoreboard), *state.signals],
            terminate_signals=self._meta.terminate_signals,
            dead=bool(trainer.died_ms),
            died_ms=trainer.died_ms,
            exit_status=trainer.exit_status,
            noted_exit_code=trainer.exit_code,
            oom=trainer.oom,
            replaced=trainer.replaced,
            succeeded=trainer.succeeded,
            rank_crashes=read_notes(
                self._journal.path.parent,
                self._meta.job,
                since_ms=self._meta.started_ms,
                died_ms=trainer.died_ms,
            ),
        )

    def judge(self) -> tuple[Verdict, Evidence]:
        """The verdict on all that is known now, and what it rests on."""
        evidence = self.evidence()
        return decide(evidence), evidence

    def dropped_points(self) -> int:
        """Points that are not in the journal and never will be."""
        board = self._journal.scoreboard
        return read_dropped(board) + (read_on_device(board) if self._trainer.died_ms else 0)
