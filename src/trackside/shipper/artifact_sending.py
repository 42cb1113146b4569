"""One try to deliver one artifact, from a file that nobody writes to meanwhile.

Invariants:

* What is delivered is the file as it was for the whole of the upload. One that was written to meanwhile is
  delivered again.
* A file that is still being written to is waited for, but not for ever: after :data:`MOST_LOOKS` looks and
  :data:`MOST_REPEATS` uploads it is delivered as it is, and the user is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trackside.events import now_ms
from trackside.journal.held_content import content_of
from trackside.redaction.redact import redact
from trackside.shipper.fingerprints import fingerprint
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import ArtifactRecord
    from trackside.protocols import Destination
    from trackside.shipper.fingerprints import Fingerprint

SETTLES = 1.0
"""Seconds without a write after which a file counts as complete."""

MOST_LOOKS = 60
MOST_REPEATS = 3


class ArtifactSender:
    """Makes the calls into ``destination``. ``notice`` tells the user. For one thread."""

    def __init__(
        self, destination: Destination, journal: JournalDirectory, notice: Callable[[str], None]
    ) -> None:
        self._destination = destination
        self._journal = journal
        self._notice = notice
        self._looks: dict[int, tuple[int, Fingerprint]] = {}
        self._repeats: dict[int, int] = {}
        self._told = Once()

    def send(self, record: ArtifactRecord) -> float | None:
        """Deliver ``record``. Returns the seconds to wait if it has to be delivered later, or again.

        Raises what the destination raises, and ``OSError`` for a file that can't be read.
        """
        content = None if record.held is None else content_of(self._journal, record.held)
        before = self._look(record, content)
        if before is not None and self._is_unsettled(record, before):
            return SETTLES
        self._tell_change(record, before)
        self._destination.artifact_bytes = 0
        self._destination.write_artifact(record, content)
        changed = before is not None and content is not None and fingerprint(content) != before
        if changed and self._is_to_be_repeated(record):
            return SETTLES
        self.forget(record)
        return None

    def forget(self, record: ArtifactRecord) -> None:
        """Record ``record`` is settled."""
        self._looks.pop(record.seq, None)
        self._repeats.pop(record.seq, None)

    def _look(self, record: ArtifactRecord, content: Path | None) -> Fingerprint | None:
        """What the file looks like now. None for what nobody else has, or can write to."""
        if content is None or record.held is None:
            return None
        found = fingerprint(content)  # raises, should it be gone
        return None if record.held.way == "copy" and content.is_file() else found

    def _is_unsettled(self, record: ArtifactRecord, found: Fingerprint) -> bool:
        """Whether it seems to be written to still."""
        looks, last = self._looks.get(record.seq, (0, None))
        if last == found or looks >= MOST_LOOKS:
            return False
        if not looks and _is_as_claimed(record, found) and now_ms() - record.timestamp_ms >= SETTLES * 1000:
            return False
        self._looks[record.seq] = (looks + 1, found)
        return True

    def _is_to_be_repeated(self, record: ArtifactRecord) -> bool:
        repeats = self._repeats[record.seq] = self._repeats.get(record.seq, 0) + 1
        again = repeats <= MOST_REPEATS
        self._looks.pop(record.seq, None)
        if self._told.is_first(f"again {record.place}" if again else f"as it is {record.place}"):
            what = (
                "It is uploaded again once nobody writes to it"
                if again
                else "What arrived may be a mixture. Log it again once it is complete"
            )
            self._notice(f"{redact(record.place)} was written to while it was uploaded. {what}")
        return again

    def _tell_change(self, record: ArtifactRecord, found: Fingerprint | None) -> None:
        """Say once for each place that a file has changed since the call."""
        if found is None or _is_as_claimed(record, found) or not _is_file(found):
            return
        if self._told.is_first(f"changed {record.place}"):
            self._notice(
                f"{redact(record.place)} was written to after it was logged. It is uploaded as it is at "
                f"{time.strftime('%H:%M:%S')}. To keep each version, write a new file each time"
            )


def _is_as_claimed(record: ArtifactRecord, found: Fingerprint) -> bool:
    """Whether it looks as it did at the time of the call. That is not known of a folder."""
    held = record.held
    return held is not None and _is_file(found) and found[0][1:3] == (held.size, held.changed_ns)


def _is_file(found: Fingerprint) -> bool:
    return len(found) == 1 and not found[0][0]
