"""What a user sees of a run without asking: a line as it starts and a line as it ends.

Where logging is set up, the line is an INFO record of the logger ``trackside``, and the program's settings
decide. Where it is not, the line goes to stderr, as logging's last resort does with a warning. To silence
it, set ``TRACKSIDE_QUIET=on`` or raise the level of the logger.

Invariant: announcing never raises, even if stderr is closed.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.run_page import front_page, how_to_look, run_page
from trackside.system.last_resort import has_handlers
from trackside.system.raised_level import given_level, is_raised_by_mlflow
from trackside.text import printable

if TYPE_CHECKING:
    from trackside.events import FinalStatus, RunStatus
    from trackside.journal.meta import Meta, RunInfo

logger = logging.getLogger("trackside")


def announce(text: str) -> None:
    """Tell the user ``text``, of one line or several."""
    text = printable(text)
    if has_handlers(logger.name) and not is_raised_by_mlflow():
        logger.info("%s", text)
    elif given_level(logger) <= logging.INFO and not logger.disabled:
        with contextlib.suppress(Exception):  # stderr may be None, closed, or a full disk
            sys.stderr.write(f"trackside: {text}\n")
            sys.stderr.flush()


class Announcer:
    """Tells the user of one run, and where to look at it."""

    def __init__(self, meta: Meta, *, quiet: bool) -> None:
        self._address = meta.target.tracking_uri
        self._quiet = quiet or not meta.mlflow
        self._nested = bool(meta.target.parent_run_id or meta.target.parent_journal)

    def page(self, info: RunInfo | None) -> str:
        """The run's page in MLflow's UI, or the UI's front page while the run has no id."""
        if info is None:
            return front_page(self._address)
        return info.url or run_page(self._address, info.experiment_id, info.run_id)

    def tell(self, what: str, info: RunInfo | None) -> None:
        """Tell the user ``what`` of the run, whose name replaces ``{}``. Nothing while it has no id.

        Where to look is said for the parent. A sweep would say it hundreds of times.
        """
        if info is not None and not self._quiet:
            look = "" if self._nested else f". {how_to_look(self._address, self.page(info))}"
            announce(what.format(info.name or info.run_id) + look)

    def tell_end(self, info: RunInfo | None, status: RunStatus | None, told: FinalStatus | None) -> None:
        """Tell the user that the run ended as ``status``, if that is certain and MLflow was ``told``.

        Otherwise the run's page may show another status, now or later. It may be worse than ours, because
        another rank may have crashed.
        """
        if status is None or told is None:
            self.tell("logged run {}", info)
        else:
            self.tell(f"run {{}} is {status if told == 'FINISHED' else told}", info)
