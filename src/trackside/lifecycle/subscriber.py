"""The subscriber that keeps LifecycleEvents in the journal, and knows the status they lead to.

The shipper has the last word, because it also sees what this process can't: its own death. The rules are the
same (:func:`trackside.lifecycle.verdict.decide`), so ``status`` here is what the run's page will say if
nothing else happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.events import checked_status
from trackside.journal.format import LifecycleRecord, encode
from trackside.lifecycle.evidence import evidence_from
from trackside.lifecycle.kept_events import keep, matters
from trackside.lifecycle.verdict import decide
from trackside.redaction.redact import redact
from trackside.text import encodable

if TYPE_CHECKING:
    from trackside.events import LifecycleEvent, RunStatus
    from trackside.journal.writer import JournalWriter


class LifecycleSubscriber:
    """Attach it to a bus: it journals lifecycle events and knows the status they lead to."""

    stays_attached = emits_nothing = True

    def __init__(self, journal: JournalWriter | None = None) -> None:
        self._journal = journal
        self._records: list[LifecycleRecord] = []

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Keep the event, in memory and in the journal, unless it is one of many that say the same.

        Raises ``ValueError`` for an unknown status, and for a field of a wrong type: no reader could read the
        record again.
        """
        if not matters(self._records, event):
            return
        record = LifecycleRecord.of(_presentable(event))
        msgspec.msgpack.decode(encode(record), type=LifecycleRecord)  # encoding checks no types
        if event.kind == "finished":
            checked_status(event.status or "FINISHED")
        self._records = keep(self._records, record)
        if self._journal is not None:
            self._journal.append(record)

    @property
    def status(self) -> RunStatus:
        """The status as of now."""
        return decide(evidence_from(self._records)).status


def _presentable(event: LifecycleEvent) -> LifecycleEvent:
    """``event`` with texts that hold no secrets and can be encoded."""
    return msgspec.structs.replace(
        event,
        message=_redacted(event.message),
        error_type=None if event.error_type is None else encodable(str(event.error_type)),
        traceback=_redacted(event.traceback),
    )


def _redacted(text: object) -> str | None:
    return None if text is None else encodable(redact(str(text)))
