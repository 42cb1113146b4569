"""The subscriber that turns LifecycleEvents into the run's status, and keeps them in the journal.

The journal's reader has the last word, because it also sees what this process can't: its own death. But
the rules are the same (:func:`trackside.lifecycle.verdict.decide`), so ``status`` here is what the run's page
will say if nothing else happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.journal.format import LifecycleRecord, encode
from trackside.lifecycle.kept_events import keep
from trackside.lifecycle.verdict import RunStatus, checked_status, decide, evidence_from
from trackside.redaction.redact import redact
from trackside.text import encodable

if TYPE_CHECKING:
    from trackside.events import LifecycleEvent
    from trackside.journal.writer import JournalWriter


class LifecycleSubscriber:
    """Attach it to a bus: it journals lifecycle events and knows the status they lead to."""

    stays_attached = emits_nothing = True

    def __init__(self, journal: JournalWriter | None = None) -> None:
        self._journal = journal
        self._records: list[LifecycleRecord] = []

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Keep the event, in memory and in the journal, unless it is one of many that say the same.

        Raises ``ValueError`` for one that nobody could read again: a status or a type there is none of.
        """
        if keep(self._records, event) is None:
            return
        record = _record(event)
        msgspec.msgpack.decode(encode(record), type=LifecycleRecord)  # encoding checks no types
        if event.kind == "finished":
            checked_status(event.status or "FINISHED")
        self._records = keep(self._records, record) or self._records
        if self._journal is not None:
            self._journal.append(record)

    @property
    def status(self) -> RunStatus:
        """The status as of now."""
        return decide(evidence_from(self._records)).status


def _record(event: LifecycleEvent) -> LifecycleRecord:
    return LifecycleRecord(
        seq=0,
        timestamp_ms=event.timestamp_ms,
        kind=event.kind,
        status=event.status,
        message=_redacted(event.message),
        signal=event.signal,
        exit_code=event.exit_code,
        error_type=_encodable(event.error_type),
        traceback=_redacted(event.traceback),
    )


def _redacted(text: object) -> str | None:
    return None if text is None else encodable(redact(str(text)))


def _encodable(text: object) -> str | None:
    return None if text is None else encodable(str(text))
