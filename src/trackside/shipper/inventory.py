"""Which journals lie here, and how each is doing."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec

from trackside.destinations.mlflow.address import is_same_address
from trackside.journal.cursor import Cursor, delivered_points, load_cursor
from trackside.journal.directory import JournalDirectory, last_sign_ms
from trackside.journal.files import read_json
from trackside.journal.format import LifecycleRecord, MetricsRecord
from trackside.journal.lock import is_locked
from trackside.journal.meta import Meta, State, WorkerState
from trackside.journal.owner import has_ended, was_this_process
from trackside.journal.provenance import advice, why_suspicious, why_untrusted
from trackside.journal.reader import JournalReader, Position
from trackside.journal.scoreboard import read_dropped, read_on_device
from trackside.journal.trust import WRITABLE
from trackside.journal.version import run_id_in, why_newer
from trackside.lifecycle.crash_notes import holds_notes
from trackside.lifecycle.evidence import evidence_from
from trackside.lifecycle.verdict import decide
from trackside.shipper.leftovers import has_refused, waiting_names

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    status: str | None
    error: str | None


class JournalReport(msgspec.Struct, frozen=True):
    """One journal as ``trackside status`` shows it. Counts are points; ``age_seconds`` is since the start.

    ``condition``: ``running`` (the training process lives), ``shipping`` (it ended, a shipper is at work),
    ``waiting`` (nobody is at work: ``trackside sync`` delivers it), ``refused`` (the server will not take
    it), ``artifacts wait`` (all is delivered but the ``artifacts``; ``trackside sync`` uploads what a
    shipper that may still be at work does not),
    ``rejected`` (delivered, but for what is in ``rejected.jsonl`` and ``refused-artifacts``), ``unreadable``
    (``meta.json`` is damaged: nothing else is known of it), ``newer format`` (a newer trackside wrote it, and
    only that one can use it), ``untrusted`` (it may be somebody else's work: nothing of it is read).
    """

    journal: str
    condition: str
    experiment: str | None
    run_name: str | None
    run_id: str | None
    tracking_uri: str
    host: str
    pid: int
    status: str | None
    emitted: int
    shipped: int
    pending: int
    dropped: int
    rejected: int
    age_seconds: float
    error: str | None
    destinations: list[DestinationReport] = []
    artifacts: list[str] = []
    """Files that wait to be uploaded, and "params" where a configuration waits."""


def journals_in(directory: Path) -> list[JournalDirectory]:
    """The journals in ``directory``, oldest first; empty when there is no such directory.

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
    except OSError:  # somebody else's, or a loop of links
        return True
    return True


def _readable_in(directory: Path) -> list[JournalDirectory]:
    try:
        return journals_in(directory)
    except OSError:
        return []


def report(journal: JournalDirectory) -> JournalReport | None:
    """How ``journal`` is doing; None when it is gone. Raises nothing, whatever somebody put into it."""
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
    newer = why_newer(journal)
    if newer is not None:
        return _unknown(journal, NEWER, newer, run_id_in(journal))
    meta = read_json(journal.meta, Meta)
    if meta is None:
        return _unknown(journal, "unreadable", _DAMAGED) if journal.meta.exists() else None
    state = read_json(journal.state, State)
    cursors = {name: load_cursor(journal.cursor(name)) for name in meta.destination_names}
    shipped, rejected = delivered_points([*cursors.values()])
    start = min((cursor.position for cursor in cursors.values()), key=lambda p: p.seq, default=Position())
    pending = sum(_pending_points(journal, start))
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
        emitted=shipped + rejected + pending + dropped,
        shipped=shipped,
        pending=pending,
        dropped=dropped,
        rejected=rejected,
        age_seconds=max(0.0, time.time() - meta.started_ms / 1000),
        error=None if state is None else state.error or state.artifacts_error,
        artifacts=waiting_names(journal, meta),
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
    journal: JournalDirectory, condition: str, error: str, run_id: str | None = None
) -> JournalReport:
    return JournalReport(
        journal=str(journal.path),
        condition=condition,
        experiment=None,
        run_name=None,
        run_id=run_id,
        tracking_uri="",
        host="",
        pid=0,
        status=None,
        emitted=0,
        shipped=0,
        pending=0,
        dropped=0,
        rejected=0,
        age_seconds=max(0.0, time.time() - _last_sign(journal)),
        error=error,
    )


def _last_sign(journal: JournalDirectory) -> float:
    try:
        return last_sign_ms(journal) / 1000
    except OSError:  # it may not be read
        return journal.path.stat().st_mtime


def not_regular(names: list[str]) -> str:
    """What to say of files that something else has taken the place of."""
    return f"{', '.join(names)}: not a regular file; see what it is, and remove it"


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
    reports = [report(journal) for journal in _readable_in(directory)]
    spared = {"running", NEWER}
    return {r.run_id for r in reports if r is not None and r.condition in spared and r.run_id}


def leftovers_of(directory: Path, checkpoint_dir: str | None, tracking_uri: str) -> list[Path]:
    """Journals of ended attempts that belong to the checkpoints in ``checkpoint_dir``, oldest first.

    Those for another address than ``tracking_uri`` are left out: a run there can't be the one that is
    resumed here.
    """
    found = []
    for journal in _readable_in(directory) if checkpoint_dir is not None else []:
        newer = why_newer(journal)
        if newer is not None:
            logger.warning("the journal %s may be an earlier attempt's, but %s", journal.path, newer)
            continue
        meta = read_json(journal.meta, Meta)
        if meta is None:
            _say_unused(journal)
            continue
        if meta.target.checkpoint_dir != checkpoint_dir or not _is_over(journal, meta):
            continue
        if meta.mlflow and not is_same_address(meta.target.tracking_uri, tracking_uri):
            continue
        reason = why_untrusted(journal)
        if reason is None:
            found.append(journal.path)
        else:
            logger.warning("an earlier attempt's journal %s is %s", journal.path, advice(journal, reason))
    return found


def _say_unused(journal: JournalDirectory) -> None:
    """Warn of a journal of this user's that others can write to: it may be of the same checkpoints."""
    reason = why_suspicious(journal)
    if reason is not None and WRITABLE in reason:
        logger.warning("the journal %s is %s", journal.path, advice(journal, reason))


def _is_over(journal: JournalDirectory, meta: Meta) -> bool:
    return owner_has_ended(journal, meta) or was_this_process(meta.owner)


def last_step_of(meta: Meta) -> int | None:
    """The last step of the attempts before the one of ``meta``, as far as their journals lie here.

    None when they belong to a run that this attempt does not resume. Reads one segment of each.
    """
    steps = [_last_step(JournalDirectory(path), meta) for path in meta.after if meta.target.resume]
    return max((step for step in steps if step is not None), default=None)


def _last_step(journal: JournalDirectory, later: Meta) -> int | None:
    meta = read_json(journal.meta, Meta)
    for number in reversed(journal.segment_numbers()) if meta is not None else ():
        step, told = _last_step_from(journal, number)
        if step is not None:  # else it is the next segment, made ready and not begun
            return step if meta is not None and _is_resumed(meta, later, told) else None
    return None


def _last_step_from(journal: JournalDirectory, number: int) -> tuple[int | None, list[LifecycleRecord]]:
    """The largest step in the segments from ``number`` on, and what was said of the run's end."""
    last, told = None, []
    reader = JournalReader(journal, Position(segment=number))
    reader.writer_dead = True
    try:
        while entries := reader.read():
            for record in (entry.record for entry in entries):
                if isinstance(record, LifecycleRecord):
                    told.append(record)
                elif isinstance(record, MetricsRecord) and (last is None or record.step > last):
                    last = record.step
    finally:
        reader.close()
    return last, told


def _is_resumed(meta: Meta, later: Meta, told: list[LifecycleRecord]) -> bool:
    """Whether a later attempt resumes the run: it is not finished, and is the one asked for."""
    wanted, had = later.target, meta.target
    if wanted.resume_finished:
        return True
    asked = ((wanted.experiment_name, had.experiment_name), (wanted.run_name, had.run_name))
    same = all(now in {None, before} for now, before in asked)
    return same and decide(evidence_from(told)).status != "FINISHED"


def _condition(journal: JournalDirectory, meta: Meta, state: State | None) -> str:
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


def _pending_points(journal: JournalDirectory, start: Position) -> Iterator[int]:
    reader = JournalReader(journal, start)
    try:
        while entries := reader.read():
            yield from (entry.record.points for entry in entries)
    finally:
        reader.close()
