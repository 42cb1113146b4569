"""Finding a parent's run id, where only its journal is known.

Invariant: a parent's journal says which run it became, in its state, for as long as it is there. Before it is
removed, its shipper tells the children whose journals lie beside it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json, write_atomically
from trackside.journal.meta import Meta, State, read_meta
from trackside.journal.opening import MAX_WORD
from trackside.journal.version import stamped, why_newer_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Told(msgspec.Struct, frozen=True):
    """What a child's journal is told before its parent's goes."""

    run_id: str


class ParentUnknownError(Exception):
    """The parent's run will never be known. The message says why."""


def parent_run_id(journal: Path, meta: Meta) -> str | None:
    """The id of the run that ``meta``'s run is nested under, or None while it is not known yet.

    Raises :class:`ParentUnknownError`. Only for a journal that has a parent.
    """
    if meta.target.parent_run_id is not None:
        return meta.target.parent_run_id
    parent = JournalDirectory(meta.target.parent_journal or "")
    state = read_json(parent.state, State)
    if state is not None and state.run is not None:
        return state.run.run_id
    waiting = parent.meta.exists()  # asked before the note is read: it is written before the journal goes
    note = JournalDirectory(journal).parent_note
    told = read_json(note, Told, MAX_WORD)
    if told is not None:
        return told.run_id
    newer = parent.why_newer() or why_newer_file(note)
    if newer is not None:
        raise ParentUnknownError(f"in {parent.path}: {newer}")
    if not waiting:
        raise ParentUnknownError(f"the parent's journal {parent.path} is gone")
    if state is not None and state.phase == "refused":
        raise ParentUnknownError(f"the parent was refused ({state.error})")
    return None


def tell_children(journal: JournalDirectory, run_id: str) -> None:
    """Leave the run's id with the children whose journals lie beside ``journal``, which is about to go."""
    for path in journal.path.parent.glob("*/meta.json"):
        meta = read_meta(JournalDirectory(path.parent))
        if meta is not None and meta.target.parent_journal == str(journal.path):
            with contextlib.suppress(OSError):  # the child was delivered meanwhile
                note = JournalDirectory(path.parent).parent_note
                write_atomically(note, stamped(msgspec.json.encode(Told(run_id))), durable=True)


def parents_first(journals: Iterable[JournalDirectory]) -> list[JournalDirectory]:
    """``journals`` in their order, but each behind its parent."""
    left = {str(journal.path): journal for journal in journals}
    ordered: list[JournalDirectory] = []
    while left:
        line = [next(iter(left.values()))]
        while (parent := _parent_of(line[-1])) in left and left[parent] not in line:
            line.append(left[parent])
        ordered.extend(left.pop(str(one.path)) for one in reversed(line))
    return ordered


def _parent_of(journal: JournalDirectory) -> str:
    meta = read_meta(journal)
    return (meta.target.parent_journal if meta is not None else None) or ""
