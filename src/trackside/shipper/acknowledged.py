"""How far one worker got: its cursor, kept on disk, how much of that is proven, and the destination's state.

Invariants:

* The cursor goes back only to the last proof, when a destination does not show what it has acknowledged,
  and to the beginning, when it is beyond the journal's end. Its counts go back with it.
* Where a shipper begins counts as proven: what the one before it knew is gone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import DestinationFailedError
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.reader import last_seq
from trackside.journal.version import require_known

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.protocols import Destination

_VERSION = "version"

_UNNAMED = 1
"""The version of a state that does not name one. Development versions wrote none."""


class Acknowledged:
    """The cursor of the destination ``name``. One thread moves it, and any may call :meth:`save`."""

    def __init__(self, journal: JournalDirectory, name: str) -> None:
        self._journal = journal
        self._name = name
        self._path = journal.cursor(name)
        self._saving = threading.Lock()
        require_known(self._path)
        self.cursor = load_cursor(self._path)
        """Replaced whole by each acknowledgement: another thread may save it at any time."""
        self._proven = self.cursor
        self._found_at = self.cursor.position
        self._is_checked = not self.cursor.position.seq

    def save(self, *, durable: bool = False) -> None:
        """Write the cursor to disk. ``durable``: sync it, or raise ``OSError``."""
        with self._saving:
            save_cursor(self._path, self.cursor, durable=durable)

    def keep(self, *, configs: int, needs_proof: bool = False) -> None:
        """Write the cursor to disk, with the number of configurations that wait.

        ``needs_proof``: whether it has passed what the destination was not yet seen to have.
        """
        proven = self._proven.position.seq if needs_proof else None
        self.cursor = msgspec.structs.replace(self.cursor, configs=configs, proven=proven)
        self.save()

    def note_proof(self) -> None:
        """The destination shows everything up to here."""
        self._proven = self.cursor

    def go_back(self) -> None:
        """Return to the last proof. The destination itself stays where it is."""
        self.cursor = msgspec.structs.replace(self._proven, destination=self.cursor.destination)

    def leave_beyond(self) -> str | None:
        """Return to the beginning from beyond the journal's end, and say so. None where all is well.

        A cursor that has moved in this process is right. One from the disk, with nothing behind it, may be
        another journal's, or this one's, whose segments were restored from a backup.
        """
        if self._is_checked or self.cursor.position != self._found_at:
            return None
        self._is_checked = True
        last = last_seq(self._journal)
        if last is None or last == self._found_at.seq:
            return None
        self.cursor = self._proven = Cursor(destination=self.cursor.destination)
        return (
            f"the cursor of {self._name} says that {self._found_at.seq} records are delivered, and the "
            f"journal has {last}: everything in it is delivered again"
        )


def state_of(destination: Destination) -> dict[str, Any] | None:
    """What to keep with the cursor. None if ``destination`` has no state."""
    state = destination.state()
    return None if state is None else {_VERSION: destination.state_version, **state}


def restore_state(destination: Destination, kept: dict[str, Any]) -> None:
    """Return ``destination`` to ``kept``, which :func:`state_of` made.

    Raises :class:`DestinationFailedError` if that was another version.
    """
    state = dict(kept)
    version = state.pop(_VERSION, _UNNAMED)
    if version != destination.state_version:
        raise DestinationFailedError(
            f"the state of {destination.name} is of version {version}, and this program reads version "
            f"{destination.state_version}. Deliver the journal with the program that wrote it"
        )
    destination.restore(state)
