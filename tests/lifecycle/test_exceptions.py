"""Exceptions that are not caught become events, and are printed as they would be."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading

import pytest

from tests.lifecycle.hooking import BOOM, Heard, raise_boom, run_in_thread, throw
from trackside.lifecycle.hooks import ProcessHooks

pytestmark = pytest.mark.usefixtures("restored")


def test_an_uncaught_exception(heard: Heard, monkeypatch) -> None:
    """One event with type, message and traceback. Then the hook before ours prints."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: printed.append(arguments))
    with ProcessHooks(heard.bus):
        throw(ValueError, BOOM)
    (event,) = heard.events
    assert (event.kind, event.error_type, event.message) == ("crashed", "ValueError", "boom")
    assert (event.traceback or "").endswith("ValueError: boom\n")
    assert printed == [(ValueError, BOOM, None)]


def test_a_report_that_fails_hides_nothing(heard: Heard, monkeypatch) -> None:
    """Whatever goes wrong in telling of it, the exception is printed."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: printed.append(error))
    monkeypatch.setattr("trackside.lifecycle.exceptions.crash_event", lambda *_: 1 / 0)
    with ProcessHooks(heard.bus):
        throw(ValueError, BOOM)
    assert printed == [BOOM]


def test_an_exception_in_a_thread(heard: Heard, monkeypatch) -> None:
    """An event of its own kind. ``sys.exit`` in a thread is none, as for Python itself."""
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: printed.append(arguments.exc_value))
    with ProcessHooks(heard.bus):
        run_in_thread(raise_boom)
        run_in_thread(lambda: sys.exit(3))
    assert [(event.kind, event.error_type) for event in heard.events] == [("thread_crashed", "ValueError")]
    assert printed[0] is BOOM


def test_an_asyncio_task_nobody_awaited(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    """Python tells of it in asyncio's log alone. The line there still appears."""

    async def main() -> None:
        async def bad() -> None:
            raise ValueError("in a task")

        task = asyncio.ensure_future(bad())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    with ProcessHooks(heard.bus):
        asyncio.run(main())
        gc.collect()
        logging.getLogger("asyncio").error("something else")
    (event,) = heard.events
    assert (event.kind, event.error_type, event.message) == ("task_crashed", "ValueError", "in a task")
    assert "Task exception was never retrieved" in caplog.text
    assert "something else" in caplog.text


def test_an_exception_our_hook_never_saw(heard: Heard, monkeypatch) -> None:
    """Other code replaced ``sys.excepthook`` and did not call ours. The interpreter remembers it."""
    hooks = ProcessHooks(heard.bus)
    with hooks:
        monkeypatch.setattr(sys, "last_exc", BOOM, raising=False)
        hooks.exits._on_exit()
    assert heard.kinds == ["crashed", "exited"]
    again = Heard()
    later = ProcessHooks(again.bus)
    with later:
        later.exits._on_exit()
    assert again.kinds == ["exited"], "it was there before these hooks"
