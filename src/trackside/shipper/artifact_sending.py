"""One try to deliver one artifact, from a file that is not written to meanwhile.

Invariants:

* What is delivered is the file as it was for the whole of the upload. One that was written to meanwhile is
  delivered again.
* A file that is still being written to is waited for, but not for ever (:mod:`trackside.journal.settled`).
  After that, or after :data:`MOST_REPEATS` uploads, it is delivered as it is, and the user is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trackside.journal.held_content import content_of, fingerprint
from trackside.journal.settled import Settling
from trackside.redaction.redact import redact
from trackside.shipper.securing import securer_of
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import ArtifactRecord, HeldFile
    from trackside.protocols import Destination

LOOK_EVERY = 1.0
"""Seconds between two looks at a file that is still being written to."""

SOON = 0.1

MOST_REPEATS = 3


class ArtifactSender:
    """Makes the calls into ``destination``. ``notice`` tells the user. For one thread."""

    def __init__(
        self, destination: Destination, journal: JournalDirectory, notice: Callable[[str], None]
    ) -> None:
        self._destination = destination
        self._journal = journal
        self._notice = notice
        self._securer = securer_of(journal)
        self._settling: dict[int, Settling] = {}
        self._repeats: dict[int, int] = {}
        self._told = Once()

    def expect(self, record: ArtifactRecord) -> None:
        """Record ``record`` will be sent: have its file secured."""
        self._securer.add(record)

    def send(self, record: ArtifactRecord, *, ended: bool) -> float | None:
        """Deliver ``record``. Returns the seconds to wait if it has to be delivered later, or again.

        ``ended``: whether the run has ended. Raises what the destination raises, and ``OSError`` for a file
        that can't be read.
        """
        held = record.held
        if held is None:
            self._write(record, None)
            return None
        secured = self._securer.is_secured(held)
        if secured is None:
            return SOON
        content = content_of(self._journal, held)
        if secured:
            self._tell_change(record, held, fingerprint(self._journal, held))
            self._write(record, content)
            return None
        return self._send_unsecured(record, held, content, ended=ended)

    def forget(self, record: ArtifactRecord) -> None:
        """Record ``record`` is settled."""
        self._settling.pop(record.seq, None)
        self._repeats.pop(record.seq, None)

    def _write(self, record: ArtifactRecord, content: Path | None) -> None:
        self._destination.artifact_bytes = 0
        self._destination.write_artifact(record, content)

    def _send_unsecured(
        self, record: ArtifactRecord, held: HeldFile, content: Path, *, ended: bool
    ) -> float | None:
        if not self._is_settled(record, held, ended=ended):
            return LOOK_EVERY
        before = fingerprint(self._journal, held)
        self._tell_change(record, held, before)
        self._write(record, content)
        if fingerprint(self._journal, held) != before and self._is_to_be_repeated(record):
            return LOOK_EVERY
        return None

    def _is_settled(self, record: ArtifactRecord, held: HeldFile, *, ended: bool) -> bool:
        """Whether it is not written to any more, or has been waited for long enough."""
        settling = self._settling.get(record.seq)
        if settling is None:
            settling = self._settling[record.seq] = Settling(self._journal, held)
        settled = settling.is_settled(ended=ended)
        if settling.gave_up and self._told.is_first(f"never settled {record.place}"):
            self._notice(
                f"{redact(record.place)} is still written to. It is uploaded as it is at "
                f"{time.strftime('%H:%M:%S')}. Log it again once it is complete"
            )
        return settled

    def _is_to_be_repeated(self, record: ArtifactRecord) -> bool:
        repeats = self._repeats[record.seq] = self._repeats.get(record.seq, 0) + 1
        again = repeats <= MOST_REPEATS
        self._settling.pop(record.seq, None)
        if self._told.is_first(f"again {record.place}" if again else f"as it is {record.place}"):
            what = (
                "It is uploaded again once it is left alone"
                if again
                else "What arrived may be a mixture. Log it again once it is complete"
            )
            self._notice(f"{redact(record.place)} was written to while it was uploaded. {what}")
        return again

    def _tell_change(self, record: ArtifactRecord, held: HeldFile, found: tuple[int, int]) -> None:
        """Say once for each place that a file has changed since the call."""
        if not held.source or held.writing or found == (held.size, held.changed_ns):
            return
        if self._told.is_first(f"changed {record.place}"):
            self._notice(
                f"{redact(record.place)} was written to after it was logged. It is uploaded as it is at "
                f"{time.strftime('%H:%M:%S')}. To keep each version, write a new file each time"
            )
