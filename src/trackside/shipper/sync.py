"""Deliver journals that no live process works on: after an outage, a reboot, an offline run.

A shipper whose trainer is dead keeps trying for an hour, with the credentials it was started with. It can't
be given new ones, but ``trackside sync`` has those of its own environment. So it asks that shipper to leave.

Invariants: only a shipper that says it fails is asked, so one that delivers is never disturbed. Only a
process of this machine that is this journal's shipper gets the signal: by its command line, or, if another
``sync`` has forked it, by the lock that it holds open.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import psutil

from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.credentials import origin_of
from trackside.journal.cursor import delivered_points, load_cursor
from trackside.journal.files import read_json
from trackside.journal.lock import is_locked
from trackside.journal.meta import Meta, State, read_meta
from trackside.journal.provenance import may_read, why_untrusted
from trackside.journal.trust import is_vouched_for
from trackside.redaction.redact import with_credentials
from trackside.settings import environment_address
from trackside.shipper.forked import ForkedShipper, ForkServer
from trackside.shipper.grants import (
    CREDENTIALS,
    TRUST,
    credentials_for,
    imports,
)
from trackside.shipper.inventory import NEWER, has_refused, not_regular, owner_has_ended
from trackside.shipper.protocol import EXIT_DONE, EXIT_LOCKED
from trackside.shipper.spawn import command_for, is_forked, ships, spawn
from trackside.shipper.sync_progress import ProgressWatch
from trackside.system.clock import steady
from trackside.text import files_text

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.shipper.sync_progress import SyncProgress


Result: TypeAlias = Literal[
    "delivered",
    "gone",
    "running",
    "busy",
    "refused",
    "artifacts wait",
    "unfinished",
    "unreadable",
    "newer format",
    "untrusted",
]

POLL = 0.1
GIVE_UP_AFTER = 60.0
"""Seconds without progress after which ``sync`` leaves a journal whose server does not answer."""

PATIENCE_LATER = 5.0
"""The same, for a server that has been given up once in this run of ``sync``."""

LEAVE_PATIENCE = 15.0
"""Seconds to wait for a shipper to leave: a request that hangs takes its own time."""


Started: TypeAlias = "subprocess.Popen[bytes] | ForkedShipper"
"""A shipper that was started."""


def _ignore(_progress: SyncProgress) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Synced:
    """What became of one journal. ``delivered`` is the only good end. ``gone``: nothing is known of it."""

    journal: Path
    result: Result
    detail: str = ""


def sync_journal(
    journal: JournalDirectory,
    *,
    tracking_uri: str | None = None,
    give_up_after: float = GIVE_UP_AFTER,
    follow_for: float = math.inf,
    on_progress: Callable[[SyncProgress], None] = _ignore,
    start: Callable[..., Any] | None = None,
    importable: Iterable[str] = (),
) -> Synced:
    """Deliver ``journal`` with a shipper of its own, and wait for it.

    ``tracking_uri`` stands in for the recorded address, whose credentials are not kept on disk. Without it
    ``MLFLOW_TRACKING_URI`` does if it is the same address. ``on_progress`` is told how far it is.
    ``follow_for``: seconds after which a shipper that is still at work is left to itself.
    ``start`` starts the shipper, with the signature of :func:`spawn`, which is the default. ``importable``:
    dotted names of destinations that may be imported. A journal that may be another user's is not touched,
    unless :func:`~trackside.journal.trust.vouch_for` was called for it.
    """
    until = steady() + follow_for
    meta = read_meta(journal)
    left = _left_alone(journal, meta, until)
    if left is not None or meta is None:
        return left or Synced(journal.path, "unreadable", "meta.json is missing or damaged")
    if not _is_writable(journal.path):
        if not journal.path.exists():
            return _left_to_another(journal)
        return Synced(
            journal.path,
            "unfinished",
            "it is read-only. Make it writable: delivery notes there how far it got",
        )
    granted = [*_granted(journal, meta, tracking_uri), *imports(importable)]
    try:
        process: Started = (start or spawn)(
            command_for(journal, "--linger", give_up_after, *granted),
            log=journal.log,
            tracking_uri=tracking_uri or address_of(meta),
            working_directory=meta.working_directory,
        )
    except OSError as error:
        if not journal.path.exists():
            return _left_to_another(journal)
        return Synced(journal.path, "unfinished", f"no shipper can be started: {error}")
    return _follow(journal, meta, process, on_progress, until)


def _left_alone(journal: JournalDirectory, meta: Meta | None, until: float) -> Synced | None:
    """The result for a journal that must not be touched now, or None if it may be delivered."""
    reason = why_untrusted(journal)
    if reason is not None:
        advice = f"`trackside sync {journal.path}` shows what it would do, and with --trust delivers it"
        if not may_read(journal.path):
            advice = "You may not read it: only its owner can deliver it"
        return Synced(journal.path, "untrusted", f"{reason}. {advice}")
    newer, unfit = journal.why_newer(), journal.unfit_files()
    if newer is not None or unfit:
        result: Result = "unreadable" if newer is None else NEWER
        return Synced(journal.path, result, newer or not_regular(unfit))
    if meta is None:
        return None if journal.path.exists() else _left_to_another(journal)
    if not owner_has_ended(journal, meta):
        return Synced(journal.path, "running", f"process {meta.owner.pid} on {meta.owner.host} lives")
    if is_locked(journal.lock) and not _take_over(journal, until):
        return _left_to_another(journal)
    return None


def sync_all(
    journals: Sequence[JournalDirectory],
    *,
    tracking_uri: str | None = None,
    give_up_after: float = GIVE_UP_AFTER,
    on_progress: Callable[[JournalDirectory, SyncProgress], None] = lambda *_: None,
    importable: Sequence[str] = (),
) -> Iterator[Synced]:
    """Deliver ``journals`` one after the other, in the order given, and yield what became of each.

    All shippers come from one process that imports MLflow once. A server that did not answer for one journal
    is given less time for the next ones.
    """
    silent: set[str] = set()
    with ForkServer() as server:
        for journal in journals:
            meta = read_meta(journal)
            address = tracking_uri or ("" if meta is None else meta.target.tracking_uri)
            try:
                synced = sync_journal(
                    journal,
                    tracking_uri=tracking_uri,
                    give_up_after=min(give_up_after, PATIENCE_LATER) if address in silent else give_up_after,
                    on_progress=partial(on_progress, journal),
                    start=server.start,
                    importable=importable,
                )
            except Exception as error:  # what lies in one journal must not keep the others from delivery
                synced = Synced(journal.path, "unreadable", f"{type(error).__name__}: {error}")
            if synced.result == "unfinished":
                silent.add(address)
            yield synced


def address_of(meta: Meta) -> str:
    """The journal's MLflow address, with credentials where the environment has them for it."""
    return with_credentials(meta.target.tracking_uri, environment_address())


def gets_credentials(journal: JournalDirectory, meta: Meta, tracking_uri: str | None) -> bool:
    """Whether the credentials in the environment go to the server that ``journal`` is delivered to.

    They were set for the server that ``tracking_uri`` or ``MLFLOW_TRACKING_URI`` names. If neither names one,
    they are for the address that this user's own ``start()`` recorded, never for another user's.
    """
    ours = environment_address()
    if tracking_uri is not None:
        return True
    if is_server(ours):
        return origin_of(ours) == origin_of(meta.target.tracking_uri)
    return not is_vouched_for(journal.path)


def _granted(journal: JournalDirectory, meta: Meta, tracking_uri: str | None) -> list[str]:
    """The options for what this user lets the shipper do (:mod:`trackside.shipper.grants`)."""
    stranger = is_vouched_for(journal.path)
    options = [TRUST] if stranger else []
    # Another user's journal is always bound: unbound credentials may go to a second server that it names.
    if stranger or not gets_credentials(journal, meta, tracking_uri):
        homes = [*credentials_for(tracking_uri or ""), *credentials_for(environment_address())]
        options += homes or [CREDENTIALS, ""]  # without an address: for no server at all
    return options


def _follow(
    journal: JournalDirectory,
    meta: Meta,
    process: Started,
    on_progress: Callable[[SyncProgress], None],
    until: float,
) -> Synced:
    watch = ProgressWatch(journal)
    error = ""
    try:
        while process.poll() is None:
            if steady() >= until:
                return _left_to_another(journal)
            state = read_json(journal.state, State)
            seen = watch.look(state)
            if seen is not None:
                on_progress(seen)
            error = (state.error if state is not None else None) or error
            time.sleep(POLL)
    except KeyboardInterrupt:
        process.terminate()
        raise
    if process.returncode == EXIT_LOCKED:
        return _left_to_another(journal)
    state = read_json(journal.state, State)
    phase = "" if state is None else state.phase
    if process.returncode == EXIT_DONE and (not journal.meta.exists() or phase == "done"):
        on_progress(watch.delivered())
        return Synced(journal.path, "delivered", _delivered(journal, meta, watch.delivered()))
    if not journal.meta.exists():
        lost = "the journal was removed before its shipper said that everything is delivered"
        return Synced(journal.path, "unfinished", lost)
    detail = _with_files((state.error if state else None) or error or f"see {journal.log}", watch, state)
    results: dict[str, Result] = {"refused": "refused", "artifacts": "artifacts wait"}
    return Synced(journal.path, results.get(phase, "unfinished"), detail)


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _delivered(journal: JournalDirectory, meta: Meta, all_of_it: SyncProgress) -> str:
    if not has_refused(journal, meta):
        return f"{all_of_it.points} points{_and_files(all_of_it.files)}"
    cursors = [load_cursor(path) for path in journal.cursors()]
    shipped, _ = delivered_points(cursors)
    rejected = max((cursor.files.rejected for cursor in cursors), default=0)
    files = _and_files(all_of_it.files - rejected)
    return f"{shipped} points{files}. Some were rejected: see {journal.path}"


def _and_files(count: int) -> str:
    return f", {files_text(count)}" if count else ""


def _with_files(text: str, watch: ProgressWatch, state: State | None) -> str:
    """``text``, and how many files wait."""
    watch.look(state)
    return f"{text}; {watch.last.left}" if watch.last.left else text


def _left_to_another(journal: JournalDirectory) -> Synced:
    if not journal.meta.exists():
        return Synced(journal.path, "gone", "another shipper has delivered it, or it was removed")
    error = _failing_with(journal)
    if error is not None:
        return Synced(journal.path, "unfinished", f"another shipper keeps it and fails: {error}")
    return Synced(journal.path, "busy", "another shipper is at work on it")


logger = logging.getLogger("trackside.shipper")


def _failing_with(journal: JournalDirectory) -> str | None:
    """What the shipper of ``journal`` fails with, be it only files, or None when it does not fail."""
    state = read_json(journal.state, State)
    if state is None:
        return None
    errors = [worker.error for worker in state.workers.values() if worker.error]
    return state.error if state.phase == "retrying" else next(iter(errors), state.artifacts_error)


def _take_over(journal: JournalDirectory, until: float) -> bool:
    """Whether the shipper of ``journal``, whose trainer is dead, fails and has left after it was asked to."""
    state = read_json(journal.state, State)
    if state is None or _failing_with(journal) is None or not _ask(state.pid, journal):
        return False
    until = min(until, steady() + LEAVE_PATIENCE)
    while is_locked(journal.lock):
        if steady() > until or _failing_with(journal) is None:
            return False
        time.sleep(POLL)
    return journal.meta.exists()


def _ask(pid: int, journal: JournalDirectory) -> bool:
    try:
        process = psutil.Process(pid)
        if not _is_shipper(process, journal):
            return False
        process.send_signal(signal.SIGTERM)  # psutil checks that it is still the same process
    except psutil.Error:
        return False
    logger.info("asked the shipper (process %s) of %s to leave", pid, journal.path)
    return True


def _is_shipper(process: psutil.Process, journal: JournalDirectory) -> bool:
    """Whether ``process`` ships ``journal``. Raises ``psutil.Error``."""
    command = process.cmdline()
    if ships(command, journal):
        return True
    if not is_forked(command):
        return False
    lock = os.path.realpath(journal.lock)
    return any(file.path == lock for file in process.open_files())
