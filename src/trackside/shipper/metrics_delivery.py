"""Sends batches of metrics to a destination, whole or down to the point that it does not accept.

Invariants:

* A lasting refusal bisects the batch down to the single point that causes it. That point goes to the
  dead-letter file and is counted. Nothing else is held up by it.
* A point that fails every time while others are accepted counts as lasting
  (:mod:`trackside.shipper.search`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.redaction.redact import redact
from trackside.shipper.batch_limit import BatchLimit
from trackside.shipper.dead_letters import halves
from trackside.shipper.retrying import Doubtful
from trackside.shipper.search import Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.format import MetricsRecord
    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile
    from trackside.shipper.retrying import RetryingCalls
    from trackside.shipper.search import Comparison

logger = logging.getLogger("trackside.shipper")


class MetricsDelivery:
    """Sends metrics to ``destination``. ``comparison``: None where the destination can't be probed."""

    def __init__(
        self,
        destination: Destination,
        calls: RetryingCalls,
        rejects: RejectedFile,
        comparison: Comparison | None,
    ) -> None:
        self._destination = destination
        self._calls = calls
        self._rejects = rejects
        self._comparison = comparison
        self._limit = BatchLimit()
        self.shipped = self.rejected = 0
        """Points since the last :meth:`begin`."""

    @property
    def batch_points(self) -> int:
        """How many points the next batch should hold."""
        return self._limit.of(self._destination.batch_points)

    def begin(self) -> None:
        """Count from here."""
        self.shipped = self.rejected = 0

    def send(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver ``batch``. Of a rejected one, deliver the halves, down to the point that is at fault."""
        if not batch:
            return
        try:
            self._calls.until_done(self._destination.write_metrics, batch, give_up=self._is_doubtful)
        except Doubtful:
            self._search(batch)
        except RejectedError as error:
            parts = halves(batch)
            if not parts:
                self._reject_point(batch[0], error)
            for part in parts:
                self.send(part)
        else:
            self._count_shipped(batch)
            self._limit.went_well()

    def _is_doubtful(self, attempt: int) -> bool:
        """Whether to look for a bad point: the batch failed ``attempt`` times, and other writes work."""
        comparison = self._comparison
        if comparison is None:
            return False
        tries = 1 if comparison.suspects or self._limit.is_set else self._calls.policy.tries
        return attempt >= tries and comparison.succeeds(strict=False)

    def _search(self, batch: Sequence[MetricsRecord]) -> None:
        assert self._comparison is not None  # noqa: S101 - else there is no doubt
        search = Search(
            batch,
            self._comparison,
            send=self._send_part,
            keep=self._reject_point,
            policy=self._calls.policy,
            uniform=self._calls.uniform,
        )
        logger.warning("%s: a batch fails, and other writes work: searching it", self._destination.name)
        while search.parts:
            wait = search.round()
            self._calls.error = redact(str(search.error)) if search.failing else None
            if search.parts:
                self._calls.wait(wait, whatever_comes=True)
        self._calls.error = None
        if not search.found and search.largest:
            self._limit.narrow(search.largest)

    def _send_part(self, batch: list[MetricsRecord]) -> None:
        self._calls.check_stop()
        try:
            self._calls.once(self._destination.write_metrics, batch)
        except OSError as error:
            raise RetryableError(str(error)) from error
        self._count_shipped(batch)

    def _count_shipped(self, batch: Sequence[MetricsRecord]) -> None:
        self.shipped += sum(record.points for record in batch)
        if self._comparison is not None:
            self._comparison.remember(batch)

    def _reject_point(self, record: MetricsRecord, error: DeliveryError) -> None:
        self._rejects.keep(record, error, self._calls)
        self.rejected += record.points
