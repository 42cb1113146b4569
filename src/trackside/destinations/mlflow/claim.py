"""This attempt's claim to its run: kept up by heartbeats, taken over from a dead owner, or lost.

:mod:`trackside.destinations.mlflow.owner` has the rules of who owns a run. This module acts on them.

A shipper may stand still at any moment (SIGSTOP, a suspended machine, a swap storm), and a newer attempt may
take the run over and end it meanwhile. MLflow has no compare-and-set. So these hold for :func:`set_status`:

* The run's tags are read right before its status is written. Another attempt's run is left alone.
* They are read again right after. If another attempt has taken the run over in between, the status is put
  back to what that attempt said: RUNNING while it works, else the status in its summary.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.attempts import clean_page
from trackside.destinations.mlflow.heartbeat import HeartbeatSchedule
from trackside.destinations.mlflow.owner import Ownership, describe_owner, holds, new_heartbeat, owner_tags
from trackside.destinations.mlflow.tags import summary_of
from trackside.errors import RetryableError
from trackside.events import FINAL, now_ms
from trackside.tag_names import HEARTBEAT_TAG, JOURNAL_TAG

if TYPE_CHECKING:
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.events import RunEnd
    from trackside.journal.meta import Meta
    from trackside.journal.outbox import Outbox


OWNER_LOOK_SECONDS = 15.0
"""Between two looks at the owner of the run, once this attempt, a secondary writer, has ended."""


class RunClaim:
    """Whether the attempt of ``meta`` owns its run, and what it does as the owner."""

    def __init__(self, meta: Meta, connection: Connection, *, record: RunRecord, outbox: Outbox) -> None:
        self._meta = meta
        self._connection = connection
        self._record = record
        self._outbox = outbox
        self._ownership = Ownership(meta)
        self._heartbeats = HeartbeatSchedule()
        self.page: dict[str, str] = {}
        """The run's tags, as :meth:`owns_end` has read them."""

    @property
    def held(self) -> bool:
        """Whether this attempt owns the run, as of the last look."""
        return self._ownership.held

    def begin(self, *, created: bool = False) -> None:
        """Learn who owns the run that was just opened, and give the first heartbeat.

        ``created``: this attempt has just made the run, with its claim and a heartbeat on the page.
        """
        self._heartbeats.begin(is_first=True)
        if created:
            self._ownership.claimed()
            self._save()
            self._record.publish()
            self._heartbeats.looked()
            self._heartbeats.given()
            return
        run = self._connection.get_run()
        self._ownership.begin(run, self._record.state.ownership)
        self._save()
        self._heartbeat(run)

    def take(self, run: Any) -> None:
        """Make this attempt the owner of ``run``, an MLflow run, which then shows RUNNING.

        What earlier attempts said is taken off its page first.
        """
        run_id, call, client = run.info.run_id, self._connection.call, self._connection.client
        clean_page(run, self._connection, self._meta, outbox=self._outbox, record=self._record)
        self._connection.log_tags(run_id, {**owner_tags(self._meta), **self._meta.target.tags})
        call(client.update_run, run_id, "RUNNING")
        tags = call(client.get_run, run_id).data.tags
        if tags.get(JOURNAL_TAG) != self._meta.journal_id:  # a proxy may have answered in MLflow's place
            raise RetryableError(f"run {run_id} was written to, and does not show it")

    def keep_up(self) -> None:
        """Give a heartbeat if one is due."""
        if self._heartbeats.is_due:
            self._heartbeats.begin()
            look = self._heartbeats.needs_look or not self.held
            self._heartbeat(self._connection.get_run() if look else None)

    def probe(self) -> None:
        """Write the owner's sign of life, by the same kind of request as metrics."""
        self._look(self._connection.get_run())
        if self.held and self._record.state.status is None:
            self._connection.for_run(self._connection.log_tags, {HEARTBEAT_TAG: new_heartbeat()})

    def owns_end(self, end: RunEnd) -> bool:
        """Whether the final status is for this attempt to set.

        Raises :class:`RetryableError` while that cannot be told. The trainer need not wait for it.
        """
        ended = end.ended_ms or now_ms()
        if not self._ownership.saw_alive:  # the time of death is that of files, which may be copies
            ended = end.announced_ms or self._meta.started_ms
        run = self._connection.get_run()
        self.page = dict(run.data.tags)
        found = self._ownership.look_at_end(run, ended_ms=ended)
        self._save()
        if found == "claim":
            self._take_over(run)
            self.page = dict(self._connection.get_run().data.tags)
        elif found == "wait" and end.final:
            self._record.update(status=end.status)
            msg = f"waiting to see whether the owner of the run, {describe_owner(run.data.tags)}, lives"
            raise RetryableError(msg, retry_after=OWNER_LOOK_SECONDS)
        return self.held

    def artifact_name(self, name: str) -> str:
        """``name`` for the owner. A secondary writer gets another name, and replaces no file of the owner."""
        if self.held:
            return name
        stem, _, ending = name.rpartition(".")
        return f"{stem}.{self._meta.journal_id[:8]}.{ending}"

    def _heartbeat(self, run: Any | None) -> None:
        """Show that the owner lives. A secondary writer looks whether it does. ``run``: the page, if read."""
        self._record.publish()
        if run is not None and not self._still_owns(run):
            return
        self._connection.for_run(self._connection.client.set_tag, HEARTBEAT_TAG, new_heartbeat())
        self._heartbeats.given()

    def _still_owns(self, run: Any) -> bool:
        """Whether ``run`` is ours. It then shows RUNNING again, if it did not."""
        self._heartbeats.looked()
        self._look(run)
        if not self.held:
            return False
        # `trackside reap` may have ended the run in an outage, or another program may have.
        was_ended = self._record.state.status is None and run.info.status != "RUNNING"
        return not was_ended or set_status(self._connection, self._meta, "RUNNING")

    def _look(self, run: Any) -> None:
        held = self.held
        if self._ownership.look(run):
            self._take_over(run)
        elif held and not self.held:
            self._record.notice(
                f"{describe_owner(run.data.tags)} has taken over run {self._connection.run_id}. This process "
                "keeps adding points to it, and no longer sets its status"
            )
        self._save()

    def _take_over(self, run: Any) -> None:
        """Take the run from an owner that is gone, or whose end this training has outlived."""
        self.take(run)
        self._ownership.claimed()
        self._save()
        self._record.notice(
            f"this process now owns run {self._connection.run_id} and sets its status, because "
            f"{describe_owner(run.data.tags)}, its owner so far, is gone"
        )

    def _save(self) -> None:
        if self._record.state.ownership != self._ownership.standing:
            self._record.update(ownership=self._ownership.standing)


def set_status(connection: Connection, meta: Meta, status: str, *, ended_ms: int | None = None) -> bool:
    """Set the status of the run. False if it belongs to another attempt than that of ``meta`` by now.

    Raises :class:`RetryableError` if the run does not show the status: a proxy may have answered in MLflow's
    place.
    """
    if not holds(connection.get_run(), meta):
        return False
    _write(connection, status, ended_ms)
    run = connection.get_run()
    if not holds(run, meta):
        _put_back(connection, run)
        return False
    if run.info.status != status:
        shown = run.info.status or "none"
        raise RetryableError(f"the status was set to {status}, and the run still shows {shown}")
    return True


def _put_back(connection: Connection, run: Any) -> None:
    """Undo a write that came after the claim of another attempt."""
    summary = summary_of(run.data.tags)  # an attempt begins without one
    said = summary.get("status", "RUNNING")
    if said != run.info.status and (said == "RUNNING" or said in FINAL):
        _write(connection, str(said), _moment_ms(summary.get("ended")) if said != "RUNNING" else None)


def _write(connection: Connection, status: str, ended_ms: int | None) -> None:
    connection.for_run(connection.client.update_run, status, end_time=ended_ms)


def _moment_ms(text: object) -> int | None:
    try:
        return int(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return None
