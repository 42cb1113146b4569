"""Exits become events, with what the program said of the code."""

from __future__ import annotations

import sys

import pytest

from tests.lifecycle.hooking import BOOM, Heard
from trackside.events import LifecycleEvent
from trackside.lifecycle.hooks import ProcessHooks

pytestmark = pytest.mark.usefixtures("restored")


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (None, 0, None),
        (0, 0, None),
        (True, 1, None),
        (3, 3, None),
        (-1, 255, None),
        (256, 0, None),
        ("no data", 1, "no data"),
        (BOOM, 1, "boom"),
        ([1], 1, "[1]"),
    ],
)
def test_the_exit_event_knows_the_argument_of_sys_exit(heard: Heard, status, code, text) -> None:
    """As the shell will see it. ``sys.exit`` itself does what it does."""
    at_exit: list[str] = []
    hooks = ProcessHooks(heard.bus, at_exit=lambda: at_exit.append("after the event"))
    with hooks:
        with pytest.raises(SystemExit) as caught:
            sys.exit(status)
        hooks.exits._on_exit()
    assert caught.value.code == status
    (event,) = heard.events
    assert (event.kind, event.exit_code, event.message) == ("exited", code, text)
    assert at_exit == ["after the event"]


def test_an_argument_without_a_text(heard: Heard) -> None:
    """An object whose ``__str__`` raises is the user's fault, and no other exception than SystemExit."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    hooks = ProcessHooks(heard.bus)
    with hooks:
        with pytest.raises(SystemExit):
            sys.exit(Broken())  # type: ignore[arg-type]
        hooks.exits._on_exit()
    assert heard.events[0].message == "<no text: RuntimeError>"


def test_at_exit_what_waits_is_delivered_first(heard: Heard) -> None:
    """A signal whose event waits for an emit that never came."""
    hooks = ProcessHooks(heard.bus)
    with hooks:
        heard.bus.postpone(LifecycleEvent("terminating", signal=15))
        hooks.exits._on_exit()
    assert heard.kinds == ["terminating", "exited"]
    assert heard.events[1].exit_code is None, "sys.exit was not called"
