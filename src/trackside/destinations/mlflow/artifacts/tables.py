"""Tables of a run: rows are added here, and a whole table is uploaded now and then.

MLflow has no call that adds rows. The first rows go up at once, and the pause before the next upload doubles.
A flush and the end of the run upload what is new.

MLflow shows a table beside those of other runs if the run's tag ``mlflow.loggedArtifacts`` names it.

Invariants:

* What was added survives the death of the shipper, and :meth:`Tables.sync` has it survive a power cut.
* A table that the run has already, because this attempt resumes it, is read once and continued.
* Two attempts never write the same table: only the run's owner writes it under its plain name.
"""

from __future__ import annotations

import contextlib
import json
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from trackside.destinations.mlflow.artifacts.growing_table import GrowingTable, new_table
from trackside.encoding.tables import Rows, rows_of
from trackside.errors import RejectedError
from trackside.journal.files import make_private_directory, write_atomically
from trackside.journal.opening import MAX_WORD, read_file
from trackside.names import MAX_TAG_VALUE_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.journal.format import ArtifactRecord

TAG = "mlflow.loggedArtifacts"

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds between two uploads of one table."""


class _Split(msgspec.Struct):
    """A table as ``mlflow.log_table`` writes it."""

    columns: list[str]
    data: list[list[object]]


class _Entry:
    """One table, and how much of it is uploaded."""

    def __init__(self, table: GrowingTable, path: Path) -> None:
        self.table = table
        self._sent_path = path.with_suffix(".sent")
        self._sent = _number_in(self._sent_path)
        self._pause = FIRST_PAUSE
        self._due = 0.0

    @property
    def has_new(self) -> bool:
        return self.table.size != self._sent

    @property
    def wait(self) -> float:
        """Seconds until it is due."""
        return max(0.0, self._due - time.monotonic())

    def done(self, size: int) -> None:
        """Note that what ``size`` bytes of the file hold is uploaded, or refused."""
        write_atomically(self._sent_path, str(size).encode())
        self._sent = size
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def set_aside(self, made: Path) -> Path:
        """Keep a table that was refused, in the journal. It takes the place of an earlier one."""
        return made.replace(self._sent_path.with_suffix(".json"))


class Tables:
    """The tables of one run. They are kept in ``folder``, which lasts as long as the journal.

    ``name_for`` gives the name of a table in the run. One thread makes all calls but ``sync``.
    """

    def __init__(self, folder: Path, *, name_for: Callable[[str], str] = str) -> None:
        self._folder = folder
        self._name_for = name_for
        self._entries: dict[str, _Entry] | None = None
        self._unsynced: set[GrowingTable] = set()

    def add(self, run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
        """Add the rows of ``record`` to its table."""
        rows = rows_of(record, content)
        entries = self._known(run)
        entry = entries.get(record.place)
        if entry is None:
            entry = entries[record.place] = self._begin(run, record.place)
        entry.table.add(record.seq, rows)
        self._unsynced.add(entry.table)

    def upload(self, run: ArtifactRun, *, everything: bool) -> float | None:
        """Upload the tables that are due, or everything new. Returns as ``Destination.write_postponed``."""
        for entry in self._new(run):
            if everything or not entry.wait:
                self._upload(run, entry)
        return min((entry.wait for entry in self._new(run)), default=None)

    def sync(self) -> None:
        """Have what was added survive a power cut. Raises ``OSError``."""
        while self._unsynced:
            self._unsynced.pop().sync()

    def _new(self, run: ArtifactRun) -> Iterator[_Entry]:
        return (entry for entry in self._known(run).values() if entry.has_new)

    def _known(self, run: ArtifactRun) -> dict[str, _Entry]:
        """All tables by their place, those of an earlier shipper as well."""
        if self._entries is None:
            self._entries = {}
            for path in sorted(self._folder.glob("*.rows")):
                with _damage_told(run, path):
                    table = GrowingTable(path)
                    self._entries[table.place] = _Entry(table, path)
                    if table.damaged:
                        run.notice(
                            f"rows of the table {table.place!r} are lost: its file was damaged on disk"
                        )
        return self._entries

    def _begin(self, run: ArtifactRun, place: str) -> _Entry:
        make_private_directory(self._folder)
        path = self._folder / f"{blake2b(place.encode(), digest_size=8).hexdigest()}.rows"
        name = self._name_for(place)
        return _Entry(new_table(path, place, name, _stored(run, name)), path)

    def _upload(self, run: ArtifactRun, entry: _Entry) -> None:
        table = entry.table
        size = table.size
        made = run.folder / "table.json"
        table.write(made)
        try:
            run.upload(made, table.name)
            _name_in_tag(run, table.name)
        except RejectedError as error:
            kept = entry.set_aside(made)
            entry.done(size)
            raise RejectedError(
                f"MLflow refuses the table {table.name!r}: {error}. Log fewer rows, or other names",
                place=table.name,
                file=str(kept),
            ) from error
        finally:
            with contextlib.suppress(OSError):
                made.unlink()
        entry.done(size)


def write_table(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Add the rows of ``record`` to its table in ``run``."""
    run.tables.add(run, record, content)


@contextlib.contextmanager
def _damage_told(run: ArtifactRun, path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        run.notice(f"a table of the run is lost: {error}")
        path.rename(path.with_suffix(".damaged"))


def _stored(run: ArtifactRun, name: str) -> Rows | None:
    """The table ``name`` that the run has, or None. Raises :class:`RejectedError` for another file."""
    text = run.connection.call(run.connection.client.read_artifact, run.run, name)
    if text is None:
        return None
    try:
        found = msgspec.json.decode(text, type=_Split)
    except msgspec.MsgspecError as error:
        raise RejectedError(
            f"the run has a file {name!r} that is no table ({error}). Log the table under another name"
        ) from error
    return Rows(found.columns, found.data)


def _name_in_tag(run: ArtifactRun, name: str) -> None:
    """Name the table in the tag, as ``mlflow.log_table`` does."""
    try:
        known = json.loads(run.tags().get(TAG, "[]"))
    except ValueError:  # older servers have cut long tags
        known = None
    wanted = {"path": name, "type": "table"}
    if isinstance(known, list) and wanted in known:
        return
    value = json.dumps([*known, wanted]) if isinstance(known, list) else None
    if value is None or len(value) > MAX_TAG_VALUE_LENGTH:
        run.notice(f"MLflow's pages can't compare the table {name!r}: the run's tag {TAG} is full or damaged")
    else:
        run.set_tag(TAG, value)


def _number_in(path: Path) -> int:
    try:
        return int(read_file(path, MAX_WORD))
    except (OSError, ValueError):
        return 0
