"""An exception as an event: its texts, without secrets and within bounds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from trackside.lifecycle.crash import MAX_MESSAGE, MAX_TRACEBACK, crash_event, text_of

if TYPE_CHECKING:
    from trackside.events import LifecycleEvent


def event_of(error: BaseException) -> LifecycleEvent:
    """The event for ``error``, raised."""
    try:
        raise error  # noqa: TRY301
    except BaseException:
        return crash_event("crashed", *sys.exc_info())


class Broken(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError


class Outer:
    class Inner(Exception):  # noqa: N818
        """An exception of a class within a class."""


def test_an_exception_as_an_event() -> None:
    """Type, message and the traceback as Python prints it."""
    event = event_of(ValueError("boom"))
    assert (event.kind, event.error_type, event.message, event.signal) == (
        "crashed",
        "ValueError",
        "boom",
        None,
    )
    assert event.traceback is not None
    assert event.traceback.startswith("Traceback (most recent call last):\n")
    assert event.traceback.endswith("ValueError: boom\n")
    assert event_of(Outer.Inner()).error_type == "Outer.Inner"


def test_ctrl_c_carries_its_signal() -> None:
    """A ``KeyboardInterrupt`` is a SIGINT, to whoever looks at the event."""
    assert event_of(KeyboardInterrupt()).signal == 2


def test_credentials_are_masked() -> None:
    """An exception often names the address that failed, in its message and in its traceback."""
    event = event_of(ConnectionError("http://user:hunter2@host:5000 is gone"))
    assert "hunter2" not in f"{event.message}{event.traceback}"
    assert "host:5000" in (event.message or "")


def test_texts_are_bounded() -> None:
    """The message's beginning and the traceback's end are kept: that is where the reason is."""
    event = event_of(ValueError("x" * 300_000 + "end"))
    assert len(event.message or "") == MAX_MESSAGE
    assert len(event.traceback or "") == MAX_TRACEBACK
    assert (event.traceback or "").endswith("end\n")


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, ""), (ValueError("boom"), "boom"), ("no data", "no data"), (Broken(), "<no text: RuntimeError>")],
)
def test_text_of(given: object, text: str) -> None:
    """Also of an exception whose ``__str__`` raises."""
    assert text_of(given) == text


def test_a_broken_exception_is_an_event_too() -> None:
    """The crash matters more than its text."""
    event = event_of(Broken())
    assert (event.error_type, event.message) == ("Broken", "<no text: RuntimeError>")
