"""Journals that a process has left which added to our run, and was killed together with its shipper.

Invariants:

* Only journals of our run are delivered, from the folder of our own. One whose process lives, or that a
  shipper is at work on, is waited for and not touched.
* The wait is bounded. Whatever is left then is told, and ``trackside sync`` delivers it.
* No thread is started: Python 3.12 starts none once the interpreter has begun to leave.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.meta import read_meta
from trackside.journal.owner import this_process
from trackside.redaction.redact import redact
from trackside.shipper.inventory import journals_in
from trackside.shipper.sync import sync_journal
from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.directory import JournalDirectory
    from trackside.session.parent import Parent

logger = logging.getLogger("trackside.integrations")

POLL = 0.2


class LeftJournals:
    """The journals in ``folder`` that other processes have of the run that ``link`` names."""

    def __init__(self, folder: str, link: Parent) -> None:
        self._folder, self._link = Path(folder), link

    def found(self) -> list[JournalDirectory]:
        """Those that are not delivered."""
        metas = [(journal, read_meta(journal)) for journal in journals_in(self._folder)]
        return [
            journal
            for journal, meta in metas
            if meta is not None
            and meta.target.run_id == self._link.run_id is not None
            and meta.owner != this_process()
        ]

    def deliver(self, timeout: float, *, end_process: Callable[[], None]) -> None:
        """Deliver them within ``timeout`` seconds. ``end_process`` ends the process that writes them."""
        if not self.found():
            return
        end_process()
        self._deliver(steady() + timeout)
        left = self.found()
        if left:
            logger.warning(
                "what another process has logged into this run is not delivered entirely, and kept in %s. "
                "`trackside sync` delivers it",
                ", ".join(str(journal.path) for journal in left),
            )

    def _deliver(self, deadline: float) -> None:
        while (left := self.found()) and (patience := deadline - steady()) > 0:
            for journal in left:
                try:
                    sync_journal(
                        journal,
                        tracking_uri=self._link.tracking_uri,
                        give_up_after=patience,
                        follow_for=deadline - steady(),
                    )
                except Exception as error:  # what lies in one journal must not keep the others from delivery
                    logger.debug("%s: %s", journal.path, redact(str(error)))
            time.sleep(POLL)
