"""Sends configurations to a destination, so that they never hold up metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import RejectedError, RetryableError
from trackside.shipper.configs import WaitingConfigs

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ConfigRecord
    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile
    from trackside.shipper.retrying import RetryingCalls
    from trackside.shipper.search import Comparison


class ConfigDelivery:
    """Sends configurations to ``destination``.

    One that can be probed gets them between two batches (:class:`WaitingConfigs`). Any other one gets them in
    their order, because it may depend on that.
    """

    def __init__(
        self,
        destination: Destination,
        calls: RetryingCalls,
        rejects: RejectedFile,
        comparison: Comparison | None,
        *,
        journal: Path,
    ) -> None:
        self._destination = destination
        self._calls = calls
        self._rejects = rejects
        self._comparison = comparison
        self._waiting = WaitingConfigs(journal, destination.name, policy=calls.policy, uniform=calls.uniform)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, record: ConfigRecord) -> None:
        """Deliver ``record``, or have it wait."""
        if self._comparison is not None:
            self._waiting.add(record)
            return
        try:
            self._calls.until_done(self._destination.write_config, record)
        except RejectedError as error:
            self._rejects.keep(record, error, self._calls)

    def send_one(self, *, at_once: bool) -> bool:
        """Send the oldest that waits, if it is due or ``at_once``. True if it waits no more."""
        record = self._waiting.first
        if record is None or not (at_once or self._waiting.is_due):
            return False
        try:
            self._calls.once(self._destination.write_config, record)
        except RejectedError as error:
            self._rejects.keep(record, error, self._calls)
        except (RetryableError, OSError) as error:
            if not self._note_failure(error):
                return False
            self._rejects.keep(record, error, self._calls)
        self._waiting.done()
        return True

    def _note_failure(self, error: RetryableError | OSError) -> bool:
        """Whether it is no use to try again."""
        comparison = self._comparison
        elsewhere = comparison is None or not comparison.succeeds(strict=False)
        wished = error.retry_after if isinstance(error, RetryableError) else None
        wait = self._waiting.failed(elsewhere=elsewhere, retry_after=wished)
        self._calls.tell_failure(error, wait)
        return self._waiting.is_hopeless
