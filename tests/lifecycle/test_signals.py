"""Signals become events, and the handlers that were there before still run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from tests.hooked import everything_hooked, wakeup_descriptor
from tests.support.pipes import read_bytes
from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.lifecycle.hooks import ProcessHooks
from trackside.lifecycle.signal_chain import SignalLink
from trackside.lifecycle.signals import SignalHooks
from trackside.shipper.protocol import WakeupPipe

if TYPE_CHECKING:
    from collections.abc import Iterator

from tests.lifecycle.hooking import USR1, Heard, run_in_thread

pytestmark = pytest.mark.usefixtures("restored")


@pytest.mark.wheel
def test_in_a_handler_only_the_slot_is_written(heard: Heard, user_handler: list[int]) -> None:
    """The event waits for the next emit: a handler may have interrupted a sink that holds a lock."""
    noted: list[tuple[int, int]] = []
    hooks = ProcessHooks(
        heard.bus, terminate_signals=(USR1,), note_signal=lambda *arguments: noted.append(arguments)
    )
    with hooks:
        signal.raise_signal(USR1)
        assert heard.events == []
        assert user_handler == [USR1], "the handler before ours runs"
        heard.bus.emit(MetricsSample(1))
    (event,) = heard.events
    assert (event.kind, event.signal) == ("terminating", USR1)
    assert noted == [(USR1, event.timestamp_ms)]


def test_an_ignored_signal_stays_ignored(heard: Heard) -> None:
    """``nohup`` and launchers ignore signals for a reason."""
    previous = signal.signal(USR1, signal.SIG_IGN)
    try:
        with ProcessHooks(heard.bus, terminate_signals=(USR1,)):
            assert signal.getsignal(USR1) is signal.SIG_IGN
            signal.raise_signal(USR1)
    finally:
        signal.signal(USR1, previous)
    heard.bus.deliver_postponed()
    assert heard.events == []


def test_outside_the_main_thread_no_signals_are_hooked(heard: Heard, pipes: list[WakeupPipe]) -> None:
    """Python allows it in the main thread only. All else is hooked, and restored from there."""
    hooks = ProcessHooks(heard.bus, terminate_signals=(USR1,), wakeup_descriptor=pipes[0].write_end)
    before = everything_hooked()
    run_in_thread(hooks.install)
    during = everything_hooked()
    assert sys.excepthook == hooks.exceptions._on_exception
    assert {during[name] == before[name] for name in ("SIGUSR1", "SIGTERM", "wakeup")} == {True}
    run_in_thread(hooks.uninstall)
    assert everything_hooked() == before


class Deaths(list[int]):
    """The default actions that hooks wanted to play, played for none."""


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Deaths:
    """As above."""
    seen = Deaths()
    monkeypatch.setattr(SignalHooks, "_die", lambda _self, number: seen.append(number))
    return seen


@pytest.fixture
def default_action() -> Iterator[None]:
    """SIGUSR1 as a process has it at first. Set back whatever the test leaves behind."""
    previous = signal.signal(USR1, signal.SIG_DFL)
    yield
    signal.signal(USR1, previous)


def calls_before(before: Any) -> Any:
    """A framework's handler: it calls the one it replaced, if that can be called."""

    def handler(number: int, frame: Any) -> None:
        if callable(before):
            before(number, frame)

    return handler


def partial_of(before: Any) -> Any:
    """The same, without a frame of Python's own."""
    return functools.partial(before)


def sets_back(before: Any) -> Any:
    """It sets the one before back first, then calls it."""

    def handler(number: int, frame: Any) -> None:
        signal.signal(number, before)
        before(number, frame)

    return handler


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("framework", [calls_before, partial_of, sets_back])
def test_called_by_a_later_handler_the_default_action_is_not_played(
    framework: Any, runs: int, deaths: Deaths, default_action: None
) -> None:
    """Without us it would have found SIG_DFL and called nothing. The signal is noted all the same."""
    heard = [Heard() for _ in range(runs)]
    with contextlib.ExitStack() as stack:
        for one in heard:
            stack.enter_context(ProcessHooks(one.bus, terminate_signals=(USR1,)))
        signal.signal(USR1, framework(signal.getsignal(USR1)))
        signal.raise_signal(USR1)
        assert deaths == []
        for one in heard:
            one.bus.deliver_postponed()
    assert [one.kinds for one in heard] == [["terminating"]] * runs


@pytest.mark.parametrize("runs", [1, 2])
def test_set_back_by_a_framework_the_default_action_is_played(
    runs: int, deaths: Deaths, default_action: None
) -> None:
    """It saved our handler, and restores it at the end of its fit, or sends the signal once more."""
    with contextlib.ExitStack() as stack:
        for _ in range(runs):
            stack.enter_context(ProcessHooks(Bus(), terminate_signals=(USR1,)))
        before = signal.getsignal(USR1)
        signal.signal(USR1, calls_before(before))
        signal.signal(USR1, before)
        signal.raise_signal(USR1)
    assert deaths == [USR1]
    signal.signal(USR1, before)  # after finish(), even
    signal.raise_signal(USR1)
    assert deaths == [USR1, USR1]


def test_a_handler_between_two_runs_chains_as_it_would(
    heard: Heard, deaths: Deaths, default_action: None
) -> None:
    """A framework's handler on top of one run, a second run on top of that."""
    with ProcessHooks(Bus(), terminate_signals=(USR1,)):
        signal.signal(USR1, calls_before(signal.getsignal(USR1)))
        with ProcessHooks(heard.bus, terminate_signals=(USR1,)):
            signal.raise_signal(USR1)
            heard.bus.deliver_postponed()
    assert deaths == []
    assert heard.kinds == ["terminating"]


@pytest.mark.parametrize("runs", [1, 2])
def test_a_loop_that_takes_a_signal(
    runs: int, pipes: list[WakeupPipe], deaths: Deaths, default_action: None
) -> None:
    """Its callback is called, the signal is noted. Afterwards all is as it was after the loop without us."""
    heard = [Heard() for _ in range(runs)]
    called: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (USR1, signal.SIGINT):
            loop.add_signal_handler(sig=number, callback=called.clear)
            loop.add_signal_handler(number, called.append, int(number))
            signal.raise_signal(number)
            await asyncio.sleep(0.01)

    noted: list[int] = []
    with contextlib.ExitStack() as stack:
        for one, pipe in zip(heard, pipes, strict=False):
            hooks = ProcessHooks(
                one.bus,
                terminate_signals=(USR1,),
                wakeup_descriptor=pipe.write_end,
                note_signal=lambda number, _: noted.append(number),
            )
            stack.enter_context(hooks)
        asyncio.run(main())
        assert called == [USR1, signal.SIGINT]
        assert noted == [USR1] * runs + [signal.SIGINT] * runs
        assert deaths == []
        assert wakeup_descriptor() == pipes[0].write_end
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.raise_signal(USR1)
        assert deaths == [USR1]
        for one in heard:
            one.bus.deliver_postponed()
    assert [one.kinds for one in heard] == [["terminating"] * 2] * runs
    assert signal.getsignal(USR1) is signal.SIG_DFL


def test_a_loop_class_that_inherits_its_methods(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does uvloop's: its methods are wrapped there, and inherited again afterwards."""

    class Loop(asyncio.SelectorEventLoop):
        pass

    monkeypatch.setitem(sys.modules, "uvloop", types.SimpleNamespace(Loop=Loop))
    with ProcessHooks(heard.bus, terminate_signals=(USR1,)):
        assert "add_signal_handler" in vars(Loop)
    assert "add_signal_handler" not in vars(Loop)


LATER = """
import signal, sys
from trackside.event_bus.bus import Bus
from trackside.lifecycle.hooks import ProcessHooks

class Heard:
    def on_lifecycle(self, event):
        print(event.kind, flush=True)

bus = Bus()
bus.attach(Heard())
hooks = ProcessHooks(bus, terminate_signals=(signal.SIGUSR1,))
with hooks:
    assert "asyncio" not in sys.modules, "hooks need no asyncio"
    import asyncio
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "callback")
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0.1)
    asyncio.run(main())
    bus.deliver_postponed()
assert "trackside" not in asyncio.SelectorEventLoop.add_signal_handler.__code__.co_filename
print("end")
"""


def test_a_loop_of_an_asyncio_that_is_imported_later() -> None:
    """It is covered too, and asyncio's import is the program's own."""
    done = subprocess.run(
        [sys.executable, "-c", LATER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (sorted(done.stdout.split()), done.stderr) == (["callback", "end", "terminating"], "")


def test_a_loop_that_outlives_the_hooks_keeps_its_handlers(heard: Heard, default_action: None) -> None:
    """``finish()`` inside the loop leaves the loop's own handler. Its methods are the original ones again."""
    called: list[int] = []
    before = vars(asyncio.SelectorEventLoop)["add_signal_handler"]

    async def main() -> None:
        with ProcessHooks(heard.bus, terminate_signals=(USR1,)):
            asyncio.get_running_loop().add_signal_handler(USR1, called.append, USR1)
        signal.raise_signal(USR1)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert called == [USR1]
    assert heard.kinds == []
    assert vars(asyncio.SelectorEventLoop)["add_signal_handler"] is before


# The wakeup descriptor


def test_signals_reach_the_wakeup_pipe(heard: Heard, pipes: list[WakeupPipe], user_handler) -> None:
    """The C handler writes the number there, whatever the main thread is doing."""
    hooks = ProcessHooks(heard.bus, terminate_signals=(USR1,), wakeup_descriptor=pipes[0].write_end)
    with hooks:
        assert hooks.signals.holds_wakeup
        signal.raise_signal(USR1)
    assert not hooks.signals.holds_wakeup
    assert read_bytes(pipes[0].read_end) == bytes((USR1,))


def test_anothers_wakeup_descriptor_is_left_alone(heard: Heard, pipes: list[WakeupPipe]) -> None:
    """asyncio relies on its own, whether it was there first or came after us."""
    asyncios, ours = pipes
    hooks = ProcessHooks(heard.bus, wakeup_descriptor=ours.write_end)
    previous = signal.set_wakeup_fd(asyncios.write_end)
    try:
        with hooks:
            assert wakeup_descriptor() == asyncios.write_end
            assert not hooks.signals.holds_wakeup
        assert wakeup_descriptor() == asyncios.write_end
    finally:
        signal.set_wakeup_fd(previous)
    with hooks:
        signal.set_wakeup_fd(asyncios.write_end)
    assert wakeup_descriptor() == asyncios.write_end
    signal.set_wakeup_fd(previous)


def test_of_two_runs_the_older_has_it_and_passes_it_on(pipes: list[WakeupPipe]) -> None:
    """There is one descriptor a process. The run that stays gets it from the one that ends."""
    older, younger = (ProcessHooks(Bus(), wakeup_descriptor=pipe.write_end) for pipe in pipes)
    older.install()
    younger.install()
    assert wakeup_descriptor() == pipes[0].write_end
    older.uninstall()
    assert wakeup_descriptor() == pipes[1].write_end
    younger.uninstall()
    assert wakeup_descriptor() == -1


def test_uninstalled_in_another_thread_it_is_still_held(pipes: list[WakeupPipe], user_handler) -> None:
    """The descriptor can't be taken back there, so it must not be closed. The next run takes it over."""
    first, second = (
        ProcessHooks(Bus(), terminate_signals=(USR1,), wakeup_descriptor=pipe.write_end) for pipe in pipes
    )
    first.install()
    run_in_thread(first.uninstall)
    assert first.signals.holds_wakeup
    second.install()
    assert not first.signals.holds_wakeup
    assert wakeup_descriptor() == pipes[1].write_end
    second.uninstall()
    signal.signal(USR1, first.signals._links[USR1].previous)  # what only the main thread could restore


def test_a_stale_descriptor_is_replaced(heard: Heard, pipes: list[WakeupPipe]) -> None:
    """The pipe that the system still writes to was closed elsewhere, and nothing needs it."""
    stale = WakeupPipe()
    signal.set_wakeup_fd(stale.write_end, warn_on_full_buffer=False)
    stale.close()
    with ProcessHooks(heard.bus, wakeup_descriptor=pipes[0].write_end):
        assert wakeup_descriptor() == pipes[0].write_end


def test_runs_that_end_on_another_thread_leave_one_handler_and_one_pipe(heard: Heard, user_handler) -> None:
    """Only the main thread can undo what it hooked, and it does so when it hooks in again."""
    freed: list[int] = []
    seen: list[int] = []
    signal.signal(USR1, lambda number, _frame: seen.append(number))
    before = signal.getsignal(USR1)
    for number in range(2000):
        ends = os.pipe()
        os.set_blocking(ends[1], False)

        def close(number: int = number, ends: tuple[int, int] = ends) -> None:
            freed.append(number)
            os.close(ends[0])
            os.close(ends[1])

        hooks = ProcessHooks(heard.bus, terminate_signals=(USR1,), wakeup_descriptor=ends[1])
        hooks.install()
        run_in_thread(hooks.uninstall)
        hooks.signals.when_wakeup_is_free(close)
    assert freed == list(range(1999)), "all but the last, which the system may still write to"
    signal.raise_signal(USR1)
    assert seen == [USR1]
    with ProcessHooks(heard.bus, terminate_signals=(USR1,)):
        link = signal.getsignal(USR1)
        assert isinstance(link, SignalLink)
        assert link.previous is before
    assert signal.getsignal(USR1) is before
    assert freed == list(range(2000)), "the next run on the main thread has taken it back"
    assert signal.set_wakeup_fd(-1) == -1


def test_a_chain_of_any_length_is_walked(heard: Heard, user_handler) -> None:
    """Many runs at once, each with a link: none is lost in a ``RecursionError``."""
    noted: list[int] = []
    all_hooks = [
        ProcessHooks(heard.bus, terminate_signals=(USR1,), note_signal=lambda number, _: noted.append(number))
        for _ in range(1100)
    ]
    signal.signal(USR1, lambda *_: None)
    with contextlib.ExitStack() as stack:
        for hooks in all_hooks:
            stack.enter_context(hooks)
        signal.raise_signal(USR1)
    assert noted == [USR1] * 1100
