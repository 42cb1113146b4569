"""Which journals lie here, and how each is doing."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from trackside.events import FinalStatus
from trackside.journal import lossless_json
from trackside.journal.artifact_queue import read_queue, size_of
from trackside.journal.cursor import Cursor, delivered_points, load_cursor
from trackside.journal.delivery_status import DeliveryPhase, status_in
from trackside.journal.directory import JournalDirectory, last_sign_ms
from trackside.journal.file_counts import FileCounts
from trackside.journal.files import read_json
from trackside.journal.format import ArtifactRecord, TagsRecord
from trackside.journal.lock import is_locked
from trackside.journal.meta import FileProgress, Meta, State, WorkerState
from trackside.journal.opening import MAX_STATE, read_file
from trackside.journal.outbox import Outbox
from trackside.journal.owner import has_ended
from trackside.journal.provenance import advice, why_untrusted
from trackside.journal.reader import JournalReader, Position
from trackside.journal.scoreboard import read_dropped, read_on_device
from trackside.lifecycle.crash_notes import holds_notes
from trackside.redaction.redact import redact
from trackside.shipper.waiting import read_waiting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

logger = logging.getLogger("trackside.shipper")

NEWER: Final = "newer format"

_DAMAGED = "meta.json is damaged"


class DestinationReport(msgspec.Struct, frozen=True):
    """How one destination of a journal is doing. ``merged``: points its transform left out or merged."""

    name: str
    shipped: int
    merged: int
    rejected: int
    status: FinalStatus | None
    error: str | None


class FilesReport(msgspec.Struct, frozen=True):
    """Files that were logged, by what became of them."""

    delivered: int = 0
    replaced: int = 0
    rejected: int = 0
    waiting: int = 0
    bytes_waiting: int = 0


Condition: TypeAlias = Literal[
    "running",
    "shipping",
    "waiting",
    "refused",
    "artifacts wait",
    "rejected",
    "unreadable",
    "newer format",
    "untrusted",
]
"""How a journal is doing.

``running``: the training process lives. ``shipping``: it has ended, and a shipper is at work. ``waiting``: no
shipper is at work, and ``trackside sync`` delivers it. ``refused``: the server will not take it. ``artifacts
wait``: all is delivered but the ``artifacts``, which ``trackside sync`` uploads unless a shipper still does.
``rejected``: delivered, except what is in ``rejected.jsonl`` and ``refused-artifacts``. ``unreadable``:
``meta.json`` is damaged, and nothing else is known of it. ``newer format``: a newer trackside wrote it, and
only that one can use it. ``untrusted``: another user may have made it, and nothing of it is read.
"""


class JournalReport(msgspec.Struct, frozen=True):
    """One journal as ``trackside status`` shows it. Counts are points. ``age_seconds`` is since the start."""

    journal: str
    condition: Condition
    age_seconds: float
    error: str | None
    run_id: str | None
    experiment: str | None = None
    run_name: str | None = None
    tracking_uri: str = ""
    host: str = ""
    pid: int = 0
    status: FinalStatus | None = None
    emitted: int = 0
    shipped: int = 0
    pending: int = 0
    dropped: int = 0
    rejected: int = 0
    destinations: list[DestinationReport] = []
    delivery: DeliveryPhase | None = None
    """What ``run.delivery`` says in the training. None for a journal that cannot be read."""
    artifacts: list[str] = []
    """Files that wait to be uploaded, and "params" where a configuration waits."""
    files: FilesReport = FilesReport()
    """Files that were logged, by what became of them, at the destination that is furthest behind."""
    uploading: FileProgress | None = None
    """The file that is uploaded now."""


def journals_in(directory: Path) -> list[JournalDirectory]:
    """The journals in ``directory``, oldest first. Empty when there is no such directory.

    Those that may not be read are among them: only a report can say so. Raises ``OSError`` for a directory
    that may not be read itself.
    """
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (name for name in names if not holds_notes(name) and _is_there(directory / name / "meta.json"))
    return [JournalDirectory(directory / name) for name in found]


def _is_there(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # another user's, or a loop of links
        return True
    return True


def readable_in(directory: Path) -> list[JournalDirectory]:
    """As :func:`journals_in`. Empty for a directory that may not be read, too."""
    try:
        return journals_in(directory)
    except OSError:
        return []


def report(journal: JournalDirectory) -> JournalReport | None:
    """How ``journal`` is doing, or None when it is gone. Never raises, even if the journal is damaged."""
    try:
        return _report(journal)
    except Exception as error:  # a report on one journal must not keep the others from being shown
        logger.debug("the journal %s", journal.path, exc_info=True)
        return _unknown(journal, "unreadable", f"cannot be read ({type(error).__name__}: {error})")


def _report(journal: JournalDirectory) -> JournalReport | None:
    reason = why_untrusted(journal)
    if reason is not None:
        return _unknown(journal, "untrusted", advice(journal, reason))
    unfit = journal.unfit_files()
    if unfit:
        return _unknown(journal, "unreadable", not_regular(unfit))
    newer = journal.why_newer()
    if newer is not None:
        return _unknown(journal, NEWER, newer, _run_id_in(journal))
    meta = read_json(journal.meta, Meta)
    if meta is None:
        return _unknown(journal, "unreadable", _DAMAGED) if journal.meta.exists() else None
    state = read_json(journal.state, State)
    cursors = {name: load_cursor(journal.cursor(name)) for name in meta.destination_names}
    shipped, rejected = delivered_points([*cursors.values()])
    start = min((cursor.position for cursor in cursors.values()), key=lambda p: p.seq, default=Position())
    pending = _Pending(journal, start)
    dropped = read_dropped(journal.scoreboard)
    if owner_has_ended(journal, meta):
        dropped += read_on_device(journal.scoreboard)
    run = state.run if state is not None else None
    return JournalReport(
        journal=str(journal.path),
        condition=_condition(journal, meta, state),
        experiment=meta.target.experiment_name,
        run_name=meta.target.run_name,
        run_id=run.run_id if run is not None else meta.target.run_id,
        tracking_uri=meta.target.tracking_uri,
        host=meta.owner.host,
        pid=meta.owner.pid,
        status=state.status if state is not None else None,
        emitted=shipped + rejected + pending.points + dropped,
        shipped=shipped,
        pending=pending.points,
        dropped=dropped,
        rejected=rejected,
        age_seconds=max(0.0, time.time() - meta.started_ms / 1000),
        error=None if state is None else state.error or state.artifacts_error,
        artifacts=waiting_names(journal, meta),
        files=_files(cursors.values(), pending),
        uploading=None if state is None else _uploading(state),
        delivery="offline" if meta.mode == "offline" else status_in(state, mlflow=meta.mlflow).phase,
        destinations=[_destination(name, cursor, state) for name, cursor in cursors.items()],
    )


def _destination(name: str, cursor: Cursor, state: State | None) -> DestinationReport:
    worker = WorkerState() if state is None else state.workers.get(name, WorkerState())
    return DestinationReport(
        name,
        cursor.shipped,
        cursor.merged,
        cursor.rejected,
        worker.status,
        worker.refused or worker.error,
    )


def _unknown(
    journal: JournalDirectory, condition: Condition, error: str, run_id: str | None = None
) -> JournalReport:
    age = max(0.0, time.time() - _last_sign(journal))
    return JournalReport(str(journal.path), condition, age, error, run_id)


def _run_id_in(journal: JournalDirectory) -> str | None:
    """The id of the MLflow run of a journal in a newer format, where it lies where it always has."""
    for path, names in ((journal.state, ("run", "run_id")), (journal.meta, ("target", "run_id"))):
        try:
            found: Any = lossless_json.decode(read_file(path, MAX_STATE), dict[str, Any])
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
            continue
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, str) and found:
            return found
    return None


def _last_sign(journal: JournalDirectory) -> float:
    try:
        return last_sign_ms(journal) / 1000
    except OSError:  # it may not be read
        return journal.path.stat().st_mtime


def not_regular(names: list[str]) -> str:
    """What to say of files that something else has taken the place of."""
    return f"{', '.join(names)}: not a regular file. Find out what it is, and remove it"


def owner_has_ended(journal: JournalDirectory, meta: Meta) -> bool:
    """Whether the training process of ``journal`` is gone."""
    signs = [last_sign_ms(journal) / 1000]
    with contextlib.suppress(OSError):  # not there, or gone meanwhile
        signs.append(journal.state.stat().st_mtime)
    return has_ended(meta.owner, silent_for=time.time() - max(signs))


def living_runs(directory: Path) -> set[str]:
    """Ids of the runs whose training process lives, as far as the journals in ``directory`` tell.

    The runs of journals in a newer format are among them: this version can't tell.
    """
    reports = [report(journal) for journal in readable_in(directory)]
    spared = {"running", NEWER}
    return {r.run_id for r in reports if r is not None and r.condition in spared and r.run_id}


def _condition(journal: JournalDirectory, meta: Meta, state: State | None) -> Condition:
    phase = state.phase if state is not None else None
    if phase == "done" and has_refused(journal, meta):
        return "rejected"
    if not owner_has_ended(journal, meta):
        return "running"
    if phase == "artifacts" and waiting_names(journal, meta):
        return "artifacts wait"
    if is_locked(journal.lock):
        return "shipping"
    return "refused" if phase == "refused" else "waiting"


class _Pending:
    """What ``journal`` holds from ``start`` on."""

    def __init__(self, journal: JournalDirectory, start: Position) -> None:
        self.points = self.files = self.bytes = 0
        reader = JournalReader(journal, start)
        try:
            while entries := reader.read():
                for record in (entry.record for entry in entries):
                    self.points += record.points
                    if isinstance(record, ArtifactRecord):
                        self.files += 1
                        self.bytes += size_of(record)
        finally:
            reader.close()


def _files(cursors: Iterable[Cursor], pending: _Pending) -> FilesReport:
    """The account of the destination that is furthest behind."""
    counts = [cursor.files for cursor in cursors if cursor.files.takes or not cursor.position.seq]
    slowest = min(counts, key=lambda found: found.settled, default=FileCounts())
    return FilesReport(
        slowest.delivered,
        slowest.replaced,
        slowest.rejected,
        slowest.waiting + pending.files,
        slowest.bytes_waiting + pending.bytes,
    )


def _uploading(state: State) -> FileProgress | None:
    return next((worker.files for worker in state.workers.values() if worker.files.size), None)


def waiting_names(journal: JournalDirectory, meta: Meta) -> list[str]:
    """Names of the artifacts that wait to be uploaded, and "params" or "tags" where such wait."""
    names = [path.name for outbox in _outboxes(journal, meta) for path in outbox.pending()]
    for destination in meta.destination_names:
        names += [redact(record.place) for record in read_queue(journal.path, destination).waiting.values()]
    names = list(dict.fromkeys(names))
    waiting = [record for name in meta.destination_names for record in read_waiting(journal.path, name)]
    return [*names, *sorted({"tags" if isinstance(record, TagsRecord) else "params" for record in waiting})]


def has_refused(journal: JournalDirectory, meta: Meta) -> bool:
    """Whether a record or an artifact was rejected for good."""
    return journal.rejected.exists() or any(outbox.refused() for outbox in _outboxes(journal, meta))


def _outboxes(journal: JournalDirectory, meta: Meta) -> list[Outbox]:
    return [Outbox(journal.path), *(Outbox(journal.path, spec.name) for spec in meta.destinations)]
