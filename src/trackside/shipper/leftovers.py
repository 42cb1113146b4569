"""Journals of earlier attempts with the same checkpoints: which there are, and how far they got."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.address import is_same_address
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.format import LifecycleRecord, MetricsRecord
from trackside.journal.meta import Meta
from trackside.journal.owner import was_this_process
from trackside.journal.provenance import advice, why_suspicious, why_untrusted
from trackside.journal.reader import JournalReader, Position
from trackside.journal.trust import WRITABLE
from trackside.lifecycle.evidence import evidence_from
from trackside.lifecycle.verdict import decide
from trackside.shipper.inventory import owner_has_ended, readable_in

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("trackside.shipper")


def leftovers_of(directory: Path, checkpoint_dir: str | None, tracking_uri: str) -> list[Path]:
    """Journals of ended attempts that belong to the checkpoints in ``checkpoint_dir``, oldest first.

    Those for another address than ``tracking_uri`` are left out: a run there can't be the one that is
    resumed here.
    """
    found = []
    for journal in readable_in(directory) if checkpoint_dir is not None else []:
        newer = journal.why_newer()
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
