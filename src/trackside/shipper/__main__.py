"""``python -m trackside.shipper JOURNAL``: ship one journal.

``--pipe``, ``--channel`` and ``--hold`` are descriptors that join it to its trainer. The options for what it
may do are in :mod:`trackside.shipper.grants`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from trackside.destinations import registry
from trackside.destinations.context import DestinationContext
from trackside.destinations.mlflow.credentials import keep_credentials, keep_credentials_for
from trackside.destinations.mlflow.destination import MLflowDestination
from trackside.errors import DestinationFailedError
from trackside.journal import lossless_json
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.lock import JournalLock
from trackside.journal.meta import Meta
from trackside.journal.opening import require_readable
from trackside.journal.outbox import Outbox
from trackside.journal.progress import Progress
from trackside.journal.provenance import why_suspicious
from trackside.journal.trust import mark_checked, vouch_for
from trackside.protocols import Destination
from trackside.settings import environment_address
from trackside.shipper import grants
from trackside.shipper.earlier import EarlierAttempts
from trackside.shipper.log_redaction import mask_output
from trackside.shipper.priority import give_way
from trackside.shipper.protocol import EXIT_LOCKED, EXIT_REFUSED, EXIT_UNFINISHED, LINGER, LOCKED, READY, Line
from trackside.shipper.sending import describe
from trackside.shipper.service import Shipper
from trackside.shipper.signals import ignore_foreign_signals
from trackside.shipper.spawn import SECRETS, TRACKING_URI
from trackside.shipper.trainer import DeathWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.format import MetricsRecord


LOCK_PATIENCE = 0.5
"""Seconds to wait for the lock: another process may hold it while it asks whether there is a shipper."""

END_PATIENCE = 20.0
"""Seconds the interpreter has for its own end."""

MAKE_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a destination that the system's trouble kept from being made is tried again."""

logger = logging.getLogger("trackside.shipper")


def main(arguments: list[str] | None = None) -> int:
    """Ship, and return the code that the process is about to exit with."""
    code = ship(arguments)
    _end_in_any_case(code)
    return code


def ship(arguments: list[str] | None = None) -> int:
    """Ship, and return the process's exit code."""
    ignore_foreign_signals()
    options = _parse(arguments)
    _leave_to_the_training()
    _write_any_text()
    secrets = lossless_json.decode(os.environ.pop(SECRETS, "{}").encode(), dict)
    mask_output(os.environ.get(TRACKING_URI, ""), secrets)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    journal = JournalDirectory(options.journal)
    line = None if options.channel is None else Line(options.channel)
    if options.trust:
        vouch_for(journal.path)
    reason = why_suspicious(journal)
    if reason is not None and journal.path.exists():  # delivered meanwhile, and removed: see below
        logger.error("%s is not used, because %s", journal.path, reason)
        return EXIT_REFUSED
    mark_checked(journal.path)
    lock = JournalLock(journal.lock)
    try:
        is_ours = _lock(journal, lock)
    except OSError as error:
        logger.error("the journal %s can't be locked: %s", journal.path, error)  # noqa: TRY400 - no traceback
        return EXIT_UNFINISHED
    if not is_ours:
        logger.info("another shipper has, or has delivered, %s", journal.path)
        if line is not None:
            line.send(LOCKED)
        return EXIT_LOCKED
    return _ship_locked(journal, line, options, secrets)


def _ship_locked(
    journal: JournalDirectory,
    line: Line | None,
    options: argparse.Namespace,
    secrets: dict[str, dict[str, Any]],
) -> int:
    require_readable(journal.documents())
    newer = journal.why_newer()
    if newer is not None:
        logger.error("%s is not delivered: %s", journal.path, newer)
        return EXIT_REFUSED
    meta = read_json(journal.meta, Meta)
    if meta is None:
        logger.error("%s is no journal this version can read", journal.path)
        return EXIT_REFUSED
    progress = Progress(journal)
    uri = os.environ.get(TRACKING_URI, "")
    earlier = EarlierAttempts(
        meta,
        tracking_uri=uri,
        notice=progress.notice,
        options=grants.for_earlier(uri, importable=options.importable, bound=options.credentials_for),
    )
    earlier.deliver()
    allowed = {"importable": options.importable, "credentials_for": options.credentials_for}
    shipper = Shipper(
        journal,
        meta,
        make_destinations(journal, meta, progress, secrets, earlier, **allowed),
        progress=progress,
        pipe=options.pipe,
        line=line,
        hold=options.hold,
        linger=options.linger,
        give_way=give_way,
    )
    if line is not None:
        line.send(READY)
    code = shipper.run()
    if shipper.hangs:
        _end_now(code)
    return code


def make_destinations(
    journal: JournalDirectory,
    meta: Meta,
    progress: Progress,
    secrets: dict[str, dict[str, Any]],
    earlier: EarlierAttempts | None = None,
    *,
    importable: Sequence[str] = (),
    credentials_for: Sequence[str] = (),
) -> list[Destination]:
    """The run's own destination, then those beside it. ``secrets``: whole options, where masked.

    ``importable`` and ``credentials_for``: see :mod:`trackside.shipper.grants`.
    """
    uri = os.environ.pop(TRACKING_URI, None) or meta.target.tracking_uri
    options = {spec.name: secrets.get(spec.name, spec.options) for spec in meta.destinations}
    if credentials_for:
        keep_credentials_for(credentials_for)
    else:
        keep_credentials(
            [uri, environment_address()],
            beside=[str(given.get("tracking_uri", "")) for given in options.values()],
        )
    context_of = partial(
        DestinationContext,
        meta=meta,
        journal=journal.path,
        notice=progress.notice,
        run=lambda: progress.state.run,
        restarted=progress.restarted,
    )
    made: list[Destination] = []
    if meta.mlflow:
        made.append(
            MLflowDestination(
                context_of("mlflow"),
                uri,
                publish=progress.update,
                outbox=Outbox(journal.path),
                earlier=earlier,
                # A later `sync` may be on another machine, and is at another time.
                sample_load_every=None if DeathWatch(meta.owner).is_dead() else meta.system_metrics,
            )
        )
    made += [
        _make(spec.kind, context_of(spec.name), options[spec.name], importable) for spec in meta.destinations
    ]
    return made


def _make(
    kind: str, context: DestinationContext, options: dict[str, Any], importable: Sequence[str]
) -> Destination:
    reason = ""
    for pause in (*MAKE_PAUSES, None):
        try:
            return registry.make(kind, context, options, importable=importable)
        except (OSError, MemoryError) as error:  # no descriptor while it is imported, for one
            reason = describe(error)
        except Exception as error:  # start() has checked it, but `sync` may run in another environment
            logger.exception("%s: it can't be used", context.name)
            return UnusableDestination(context.name, describe(error))
        logger.warning("%s: it can't be made yet: %s", context.name, reason)
        if pause is not None:
            time.sleep(pause)
    return UnusableDestination(context.name, reason)


def _lock(journal: JournalDirectory, lock: JournalLock) -> bool:
    """Lock the journal, unless another shipper has it, or has delivered and removed it.

    Raises ``OSError`` where it can't be locked: on a disk that is read-only, say.
    """
    try:
        return journal.meta.exists() and lock.acquire(patience=LOCK_PATIENCE) and journal.meta.exists()
    except FileNotFoundError:
        return False


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trackside.shipper", description=__doc__)
    parser.add_argument("journal")
    parser.add_argument("--pipe", type=int, default=None)
    parser.add_argument("--hold", type=int, default=None)
    parser.add_argument("--channel", type=int, default=None)
    parser.add_argument("--linger", type=float, default=LINGER)
    grants.add_options(parser)
    return parser.parse_args(arguments)


def _leave_to_the_training() -> None:
    """See no GPU, and take no run's id for one to resume."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("MLFLOW_RUN_ID", None)


def _write_any_text() -> None:
    """Write the log as UTF-8 in every locale: a character it can't hold must not stop the shipper."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class UnusableDestination(Destination):
    """Stands in for one that could not be created. It says why in ``open``, and holds up no other."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def open(self) -> None:
        """Raise ``reason``."""
        raise DestinationFailedError(self._reason)

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Never called, because it does not open."""


def _end_in_any_case(code: int) -> None:
    """End the process with ``code`` within :data:`END_PATIENCE` seconds, even if its threads hang.

    A thread in a system call can't be stopped, and libraries join their threads at exit. Everything that
    counts is on disk by then.
    """
    timer = threading.Timer(END_PATIENCE, _end_now, [code])
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread to be had: then none is likely to hang either
        timer.start()


def _end_now(code: int) -> None:
    """End the process, with what was logged written."""
    with contextlib.suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
