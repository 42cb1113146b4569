"""The lifecycle subscriber: the status as of now, and every event kept for the shipper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from trackside.event_bus.bus import Bus
from trackside.events import LifecycleEvent
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.reader import JournalReader
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.subscriber import LifecycleSubscriber

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import Record


def records_of(journal: JournalDirectory) -> list[Record]:
    """Everything in the journal, read back."""
    reader = JournalReader(journal)
    try:
        return [entry.record for entry in reader.read()]
    finally:
        reader.close()


def status_after(*events: LifecycleEvent) -> str:
    """The status once these have been seen."""
    subscriber = LifecycleSubscriber()
    for event in events:
        subscriber.on_lifecycle(event)
    return subscriber.status


CRASHED = LifecycleEvent("crashed", error_type="ValueError", message="boom", timestamp_ms=5)
TERMINATING = LifecycleEvent("terminating", signal=15, timestamp_ms=5)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "RUNNING"),
        ([LifecycleEvent("started")], "RUNNING"),
        ([LifecycleEvent("finished")], "FINISHED"),
        ([LifecycleEvent("finished", status="killed")], "KILLED"),  # type: ignore[arg-type]
        ([LifecycleEvent("exited", exit_code=0)], "FINISHED"),
        ([LifecycleEvent("exited", exit_code=2)], "FAILED"),
        ([CRASHED], "FAILED"),
        ([CRASHED, LifecycleEvent("finished", status="FINISHED")], "FAILED"),
        ([LifecycleEvent("thread_crashed"), LifecycleEvent("exited", exit_code=0)], "FAILED"),
        ([LifecycleEvent("task_crashed")], "FAILED"),
        ([LifecycleEvent("crashed", error_type="KeyboardInterrupt")], "KILLED"),
        ([TERMINATING], "KILLED"),
        ([TERMINATING, LifecycleEvent("exited", exit_code=0)], "KILLED"),
        ([LifecycleEvent("terminating", message="preempted", timestamp_ms=4), CRASHED], "KILLED"),
        ([CRASHED, LifecycleEvent("terminating", timestamp_ms=6)], "FAILED"),
    ],
)
def test_status(events: list[LifecycleEvent], status: str) -> None:
    """The same rules as in the shipper, by what this process knows."""
    assert status_after(*events) == status


@pytest.mark.wheel
def test_events_are_kept_in_the_journal(tmp_path: Path) -> None:
    """In order and whole, texts that no UTF-8 has included."""
    journal = create_directory(tmp_path, "x")
    writer = JournalWriter(journal)
    bus = Bus()
    bus.attach(LifecycleSubscriber(writer))
    bus.emit(LifecycleEvent("started", timestamp_ms=1))
    bus.emit(
        LifecycleEvent(
            "crashed",
            status="FAILED",
            message="odd \udc80 file",
            signal=2,
            exit_code=3,
            error_type="ValueError",
            traceback="line \udcff",
            timestamp_ms=2,
        )
    )
    writer.close()
    started, crashed = (msgspec.structs.asdict(record) for record in records_of(journal))
    assert started["kind"] == "started"
    assert crashed == {
        "seq": 2,
        "timestamp_ms": 2,
        "kind": "crashed",
        "status": "FAILED",
        "message": "odd \\udc80 file",
        "signal": 2,
        "exit_code": 3,
        "error_type": "ValueError",
        "traceback": "line \\udcff",
    }


@pytest.mark.parametrize(
    "event",
    [
        LifecycleEvent("finished", status="DONE"),  # type: ignore[arg-type]
        LifecycleEvent("terminating", signal="SIGTERM"),  # type: ignore[arg-type]
        LifecycleEvent("exited", exit_code=1.5),  # type: ignore[arg-type]
    ],
    ids=lambda event: event.kind,
)
def test_an_event_nobody_could_read_again_is_refused(
    event: LifecycleEvent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An event made by hand with a wrong type or status is logged. The journal and the status stay sound."""
    journal = create_directory(tmp_path, "x")
    writer = JournalWriter(journal)
    bus, subscriber = Bus(), LifecycleSubscriber(writer)
    bus.attach(subscriber)
    bus.emit(event)
    bus.emit(LifecycleEvent("finished", status="FAILED"))
    writer.close()
    assert [record.kind for record in records_of(journal)] == ["finished"]  # type: ignore[union-attr]
    assert subscriber.status == "FAILED"
    assert bus.faults(subscriber) == 1
    assert "ValueError" in caplog.text or "ValidationError" in caplog.text


def test_a_message_of_any_type_is_text(tmp_path: Path) -> None:
    """An exception given as the message is its text."""
    journal = create_directory(tmp_path, "x")
    writer = JournalWriter(journal)
    LifecycleSubscriber(writer).on_lifecycle(
        LifecycleEvent("terminating", message=ValueError("preempted"))  # type: ignore[arg-type]
    )
    writer.close()
    assert records_of(journal)[0].message == "preempted"  # type: ignore[union-attr]
