"""The trainer's view of its run's opening, which the shipper does: wait for the id, tell what became of it.

Invariants:

* All waits together take ``TRACKSIDE_START_TIMEOUT`` at most, whatever the number of threads and calls. After
  that wait the answer is what is known.
* What the user hears is said once: that the run is open, that MLflow is silent, or that it refused the run.
* Any thread may ask, a signal handler too: nothing here blocks on a lock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.errors import TrackingError
from trackside.journal.delivery_status import why_refused
from trackside.session.announce import announce
from trackside.session.last_words import HELD_UP
from trackside.system.clock import steady
from trackside.system.once import Once
from trackside.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Meta, RunInfo, State
    from trackside.session.shipper_handle import ShipperProcess
    from trackside.settings import Settings

logger = logging.getLogger("trackside.session")

LOOK_EVERY = 1.0
"""Seconds between two looks at a run that is not open yet."""


class Opening:
    """Whether MLflow has opened the run. Whoever learns of it first calls ``on_open``, once."""

    def __init__(
        self,
        journal: JournalDirectory,
        meta: Meta,
        settings: Settings,
        *,
        shipper: ShipperProcess,
        on_open: Callable[[RunInfo], None],
    ) -> None:
        self._journal = journal
        self._address = meta.target.tracking_uri
        self._settings = settings
        self._shipper = shipper
        self._on_open = on_open
        self._said = Once()
        self._began = steady()
        self._waits_until: float | None = None
        self.is_expected = meta.mode == "online" and meta.mlflow
        """Whether the run is to be opened while this process lives."""
        self.info: RunInfo | None = None
        """The run as the shipper has named it. Kept here, because the journal is gone after the end."""
        self.failure: str | None = None
        """Why MLflow refused the run, if it did."""

    @property
    def is_open_or_failed(self) -> bool:
        """Whether nothing more is to be learned."""
        return self.info is not None or self.failure is not None or not self.is_expected

    def open_at_start(self) -> None:
        """Wait as ``start(wait=True)`` does. Raises :class:`TrackingError` when MLflow refuses the run."""
        state = self._await()
        refused = None if state is None else why_refused(state)
        if refused is not None:
            raise self.refusal(refused)
        self.look(state)
        if self.info is None:
            self._warn_of_silence(self._shipper.state())

    def wait(self) -> RunInfo | None:
        """The run, waited for. None when there is no answer. Raises :class:`TrackingError` for a refusal."""
        if not self.is_open_or_failed:
            self.look(self._await())
        if self.failure is not None:
            raise self.refusal(self.failure)
        if self.info is None and self.is_expected:
            self._warn_of_silence(self._shipper.state())
        return self.info

    def look(self, state: State | None) -> RunInfo | None:
        """Learn what ``state`` says of the run, and tell the user. Returns the run, if it is known."""
        if self.info is None and state is not None and state.run is not None:
            self.info = state.run
            self._tell_of(state.run)
        elif state is not None and not self.is_open_or_failed:
            self.failure = why_refused(state)
            self._tell_of_failure()
        return self.info

    def look_in_time(self, state: State | None) -> float | None:
        """As :meth:`look`, and warn when MLflow is late. Returns the seconds until the next look, or None."""
        self.look(state)
        if self.is_open_or_failed:
            return None
        if steady() - self._began >= self._settings.start_timeout:
            self._warn_of_silence(state)
        return LOOK_EVERY

    def leave_opening_untold(self) -> None:
        """The run ends, and its last line says where it is: do not say so twice."""
        self._said.is_first("open")

    def say_unreachable(self, reason: str) -> None:
        """The server did not answer a first, short question: tell the user now, not after the timeout."""
        if self._said.is_first("silence"):
            self._warn(
                "MLflow at %s does not answer (%s). Your training continues. Its metrics are kept in %s and "
                "are delivered when MLflow answers",
                self._address,
                reason,
                self._journal.path,
            )

    def _await(self) -> State | None:
        if not self.is_expected:
            return None
        if self._waits_until is None:
            self._waits_until = steady() + self._settings.start_timeout
        return self._shipper.wait_for(
            lambda state: state.run is not None or why_refused(state) is not None,
            max(0.0, self._waits_until - steady()),
        )

    def _tell_of(self, info: RunInfo) -> None:
        """Tell once where the run is and, of one that was there before, that it is resumed.

        A script that sets up no logging sees it, too: which run its metrics go into always matters.
        """
        if info.opening is not None and self._said.is_first("resumed"):
            tell = logger.info if self._settings.quiet else announce
            tell(info.opening)
        if self._said.is_first("open"):
            self._on_open(info)

    def _tell_of_failure(self) -> None:
        if self.failure is not None and self._said.is_first("failure"):
            logger.error(
                "%s. Your training continues, and its metrics are kept in %s. Remove the cause, then run "
                "`trackside sync`. To deliver them elsewhere, run `trackside sync --tracking-uri ...`",
                printable(str(self.refusal(self.failure))),
                self._journal.path,
                extra={"trackside_journal": str(self._journal.path)},
            )

    def refusal(self, reason: str) -> TrackingError:
        """The error for a run that MLflow refuses."""
        return TrackingError(f"MLflow at {self._address} refused the run: {reason}")

    def _warn_of_silence(self, state: State | None) -> None:
        if self._shipper.gave_up is not None or not self._said.is_first("silence"):
            return  # already logged, with the cause
        silence = "no answer in" if self._shipper.is_ready else "no shipper at work after"
        reason = HELD_UP if self._shipper.is_held_up else f"{silence} {self._settings.start_timeout:g} s"
        reason = (state and state.error) or reason
        self._warn(
            "MLflow at %s has not opened the run yet (%s). Your training continues. Its metrics are kept in "
            "%s and are delivered when MLflow answers (log: %s)",
            self._address,
            reason,
            self._journal.path,
            self._journal.log,
        )

    def _warn(self, text: str, *details: object) -> None:
        logger.warning(text, *details, extra={"trackside_journal": str(self._journal.path)}, stacklevel=2)
