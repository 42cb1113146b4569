"""How a run ended, written to its page: tags that say why, then the status, then the heartbeat goes."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.claim import set_status
from trackside.destinations.mlflow.tags import describe_end, end_tags, summary_tags
from trackside.errors import RejectedError, RetryableError
from trackside.events import now_ms
from trackside.tag_names import DESCRIPTION_TAG, HEARTBEAT_TAG, OWNER_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.destinations.mlflow.claim import RunClaim
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.events import RunEnd
    from trackside.journal.meta import Meta

logger = logging.getLogger("trackside.destinations")

END_TRIES = 5
"""Failures after which the status is set without what fails, if the server takes other writes."""


class EndWriter:
    """Writes the end of the run that ``claim`` holds."""

    def __init__(self, meta: Meta, connection: Connection, claim: RunClaim, *, record: RunRecord) -> None:
        self._meta = meta
        self._connection = connection
        self._claim = claim
        self._record = record
        self._failures: Counter[str] = Counter()

    def write(self, end: RunEnd) -> bool:
        """Set the tags and the status. False if the run belongs to another attempt by now."""
        on_page = self._claim.page
        tags = self._tags(end, on_page)
        what = "the tags that tell how the run ended"
        try:
            self.try_to(what, lambda: self._connection.for_run(self._connection.log_tags, tags))
        except RejectedError as error:  # the status matters more than the reason
            self._record.notice(f"{what} were rejected: {error}")
        if not set_status(self._connection, self._meta, end.status, ended_ms=moment_of(end)):
            return False
        if end.final and OWNER_TAG in on_page:
            self.try_to("the end of the ownership", lambda: self._delete(OWNER_TAG))
        if end.final and HEARTBEAT_TAG in on_page:
            # Last: `trackside reap` finds by it what is left RUNNING.
            self.try_to("the end of the heartbeat", lambda: self._delete(HEARTBEAT_TAG))
        return True

    def try_to(self, what: str, call: Callable[[], object]) -> None:
        """Do what the status must not wait for, unless it alone has failed :data:`END_TRIES` times."""
        if self._failures[what] >= END_TRIES:
            return
        try:
            call()
        except RetryableError as error:
            self._claim.probe()  # raises in an outage, which says nothing of what failed
            self._failures[what] += 1
            if self._failures[what] < END_TRIES:
                raise
            self._record.notice(f"{what} could not be written, and the run ends without: {error}")

    def _delete(self, tag: str) -> None:
        """Delete a tag that names a process. The journal's tag stays, for those who come later."""
        try:
            self._connection.for_run(self._connection.client.delete_tag, tag)
        except RejectedError as error:
            logger.info("the tag %s stays: %s", tag, error)

    def _tags(self, end: RunEnd, on_page: dict[str, str]) -> dict[str, str]:
        """What the page says at the end. The counts are those of all attempts."""
        state = self._record.state
        summary = summary_tags(
            {name: count + state.earlier.get(name, 0) for name, count in end.counts.items()},
            host=self._meta.owner.host,
            started_ms=self._meta.started_ms,
            ended_ms=moment_of(end),
            status=end.status,
            attempt=state.attempt,
        )
        described = on_page.get(DESCRIPTION_TAG, "")
        text = describe_end(described, end)
        note = {} if text == described else {DESCRIPTION_TAG: text}
        return {**end_tags(end), **summary, **note}


def moment_of(end: RunEnd) -> int:
    """When the training ended, in milliseconds since the epoch: now, if that is not known."""
    return end.ended_ms or now_ms()
