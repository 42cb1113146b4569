"""What a user sees of a run without asking: a line as it starts and a line as it ends.

Where logging is set up, the line is an INFO record of the logger ``trackside``, and the program's settings
decide. Where it is not, the line goes to stderr, as logging's last resort does with a warning. To silence
it, set ``TRACKSIDE_QUIET=on`` or raise the level of the logger.

Invariant: announcing never raises, whatever stderr is.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.run_page import front_page, how_to_look, run_page
from trackside.system.last_resort import has_handlers
from trackside.text import printable

if TYPE_CHECKING:
    from trackside.events import RunStatus
    from trackside.journal.meta import Meta, RunInfo
    from trackside.session.delivery import Delivery

logger = logging.getLogger("trackside")


def announce(text: str) -> None:
    """Tell the user ``text``, of one line or several."""
    text = printable(text)
    if has_handlers(logger.name):
        logger.info("%s", text)
    elif logger.level <= logging.INFO and not logger.disabled:
        with contextlib.suppress(Exception):  # stderr may be None, closed, or a full disk
            sys.stderr.write(f"trackside: {text}\n")
            sys.stderr.flush()


class Announcer:
    """Tells the user of one run, and where to look at it."""

    def __init__(self, meta: Meta, delivery: Delivery, *, quiet: bool) -> None:
        self._meta = meta
        self._delivery = delivery
        self._quiet = quiet

    def page(self, info: RunInfo | None) -> str:
        """The run's page in MLflow's UI, or the UI's front page while the run has no id."""
        address = self._meta.target.tracking_uri
        if info is None:
            return front_page(address)
        return info.url or run_page(address, info.experiment_id, info.run_id)

    def tell(self, what: str) -> None:
        """Tell the user ``what`` of the run, whose name replaces ``{}``. Nothing while it has no id."""
        info = self._delivery.run_info(wait=False) if self._meta.mlflow else None
        if info is not None and not self._quiet:
            look = how_to_look(self._meta.target.tracking_uri, self.page(info))
            announce(what.format(info.name or info.run_id) + f". {look}")

    def tell_end(self, status: RunStatus, *, certain: bool) -> None:
        """Tell the user how the run ended, if that is ``certain`` and this attempt has told MLflow.

        Otherwise the run's page may show another status, now or later. It may be worse than ours, because
        another rank may have crashed.
        """
        told = self._delivery.told
        worse = told is not None and told != "FINISHED"
        known = certain and told is not None
        self.tell(f"run {{}} is {told if worse else status}" if known else "logged run {}")
