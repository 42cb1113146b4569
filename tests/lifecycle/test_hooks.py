"""Hooks: what happens to the process becomes events, and whoever was hooked in before still runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from tests.hooked import everything_hooked, wakeup_descriptor
from trackside.event_bus.bus import Bus
from trackside.events import LifecycleEvent, MetricsSample
from trackside.lifecycle.hooks import ProcessHooks
from trackside.lifecycle.replaced import Replaced
from trackside.lifecycle.signal_chain import SignalLink
from trackside.lifecycle.signals import SignalHooks
from trackside.shipper.wakeup import WakeupPipe, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

USR1 = int(signal.SIGUSR1)
BOOM = ValueError("boom")


class Heard:
    """A bus, and the lifecycle events that came out of it."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.events: list[LifecycleEvent] = []
        self.bus.attach(self)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def heard() -> Heard:
    """As above."""
    return Heard()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Each test leaves the process as it found it."""
    before = everything_hooked()
    yield
    assert everything_hooked() == before
    assert not SignalHooks._installed
    assert not Replaced._in_place


@pytest.fixture
def pipes() -> Iterator[list[WakeupPipe]]:
    """Two wakeup pipes."""
    made = [WakeupPipe(), WakeupPipe()]
    yield made
    for pipe in made:
        pipe.close()


@pytest.fixture
def user_handler() -> Iterator[list[int]]:
    """The user's own handler for SIGUSR1, and what it got."""
    got: list[int] = []
    previous = signal.signal(USR1, lambda number, _frame: got.append(number))
    yield got
    signal.signal(USR1, previous)


def throw(kind: type[BaseException], error: BaseException) -> None:
    """Do with an uncaught exception what the interpreter does."""
    sys.excepthook(kind, error, None)


# Hooking in and out


@pytest.mark.wheel
def test_uninstall_restores_everything(heard: Heard, pipes: list[WakeupPipe]) -> None:
    """The excepthooks, ``sys.exit``, signal handlers, the wakeup descriptor, asyncio's filter."""
    before = everything_hooked()
    hooks = ProcessHooks(heard.bus, terminate_signals=(15, USR1), wakeup_descriptor=pipes[0].write_end)
    hooks.install()
    hooks.install()
    changed = everything_hooked()
    assert {name for name in before if changed[name] == before[name]} == {"SIGINT"}
    hooks.uninstall()
    hooks.uninstall()
    assert everything_hooked() == before


def test_a_block_restores(heard: Heard) -> None:
    """``with ProcessHooks(bus):`` uninstalls however the block ends; the hooks can be used again."""
    before = everything_hooked()
    hooks = ProcessHooks(heard.bus)
    for _ in range(2):
        with pytest.raises(KeyError), hooks:
            raise KeyError
        assert everything_hooked() == before


@pytest.mark.parametrize("order", [(1, 0), (0, 1)], ids=["last in, first out", "first in, first out"])
def test_two_hooks_come_off_in_any_order(
    order: tuple[int, int], user_handler: list[int], monkeypatch
) -> None:
    """The one that stays goes on working, the one that left hears nothing, and at last all is as it was."""
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    before = everything_hooked()
    both = [Heard(), Heard()]
    hooks = [ProcessHooks(one.bus, terminate_signals=(USR1,)) for one in both]
    for one in hooks:
        one.install()
    hooks[order[0]].uninstall()
    signal.raise_signal(USR1)
    throw(ValueError, BOOM)
    gone, left = both[order[0]], both[order[1]]
    assert left.kinds == ["terminating", "crashed"]
    assert gone.kinds == []
    assert user_handler == [USR1]
    hooks[order[1]].uninstall()
    assert everything_hooked() == before


def test_hooks_on_top_of_ours_stay(heard: Heard, user_handler: list[int], monkeypatch) -> None:
    """What the user installed after us is not torn out, and still reaches what was there before us."""
    printed: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: printed.append(f"below {kind.__name__}"))
    monkeypatch.setattr(threading, "excepthook", lambda arguments: printed.append("thread below"))
    hooks = ProcessHooks(heard.bus, terminate_signals=(USR1,))
    hooks.install()
    ours, ours_in_threads, our_handler = sys.excepthook, threading.excepthook, signal.getsignal(USR1)

    def on_top(kind, error, trace) -> None:
        printed.append("on top")
        ours(kind, error, trace)

    def on_top_in_threads(arguments) -> None:
        printed.append("thread on top")
        ours_in_threads(arguments)

    def handler_on_top(number, frame) -> None:
        printed.append("signal on top")
        our_handler(number, frame)  # type: ignore[operator, misc]

    sys.excepthook, threading.excepthook = on_top, on_top_in_threads
    signal.signal(USR1, handler_on_top)
    hooks.uninstall()
    assert sys.excepthook is on_top
    assert threading.excepthook is on_top_in_threads
    assert signal.getsignal(USR1) is handler_on_top
    throw(ValueError, BOOM)
    run_in_thread(raise_boom)
    signal.raise_signal(USR1)
    assert printed == ["on top", "below ValueError", "thread on top", "thread below", "signal on top"]
    assert user_handler == [USR1]
    assert heard.kinds == []
    heard.bus.deliver_postponed()
    assert heard.kinds == [], "an uninstalled hook is silent"


def test_a_failed_install_can_be_undone(heard: Heard) -> None:
    """A signal no process can handle is an error; nothing of ours stays once it is uninstalled."""
    before = everything_hooked()
    hooks = ProcessHooks(heard.bus, terminate_signals=(int(signal.SIGKILL),))
    with pytest.raises(OSError, match="Invalid argument"):
        hooks.install()
    hooks.uninstall()
    assert everything_hooked() == before


# Exceptions


def raise_boom() -> None:
    """Raise."""
    raise BOOM


def run_in_thread(function: Any) -> None:
    """Run it in a thread, and wait."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_an_uncaught_exception(heard: Heard, monkeypatch) -> None:
    """One event with type, message and traceback; then the hook before ours prints."""
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
    """An event of its own kind; ``sys.exit`` in a thread is none, as for Python itself."""
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: printed.append(arguments.exc_value))
    with ProcessHooks(heard.bus):
        run_in_thread(raise_boom)
        run_in_thread(lambda: sys.exit(3))
    assert [(event.kind, event.error_type) for event in heard.events] == [("thread_crashed", "ValueError")]
    assert printed[0] is BOOM


def test_an_asyncio_task_nobody_awaited(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    """Python tells of it in asyncio's log alone; the line there still appears."""

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


# Signals


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
    """Python allows it in the main thread only; all else is hooked, and restored from there."""
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
    """SIGUSR1 as a process has it at first; set back whatever the test leaves behind."""
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
    """Without us it would have found SIG_DFL and called nothing; the signal is noted all the same."""
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
    """Its callback is called, the signal is noted; afterwards all is as it was after the loop without us."""
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


def test_a_loop_that_outlives_the_hooks_keeps_its_handlers(heard: Heard, default_action: None) -> None:
    """``finish()`` inside the loop leaves the loop's own handler; its methods are the original ones again."""
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
    """There is one descriptor a process; the run that stays gets it from the one that ends."""
    older, younger = (ProcessHooks(Bus(), wakeup_descriptor=pipe.write_end) for pipe in pipes)
    older.install()
    younger.install()
    assert wakeup_descriptor() == pipes[0].write_end
    older.uninstall()
    assert wakeup_descriptor() == pipes[1].write_end
    younger.uninstall()
    assert wakeup_descriptor() == -1


def test_uninstalled_in_another_thread_it_is_still_held(pipes: list[WakeupPipe], user_handler) -> None:
    """The descriptor can't be taken back there, so it must not be closed; the next run takes it over."""
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
    """Somebody closed the pipe that the system still writes to: nobody misses it."""
    stale = WakeupPipe()
    signal.set_wakeup_fd(stale.write_end, warn_on_full_buffer=False)
    stale.close()
    with ProcessHooks(heard.bus, wakeup_descriptor=pipes[0].write_end):
        assert wakeup_descriptor() == pipes[0].write_end


# Exits


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
    """As the shell will see it; ``sys.exit`` itself does what it does."""
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
    assert heard.events[1].exit_code is None, "nobody called sys.exit"


def test_an_exception_our_hook_never_saw(heard: Heard, monkeypatch) -> None:
    """Somebody replaced ``sys.excepthook`` and did not call ours: the interpreter remembers it."""
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


# A process that really ends

SCRIPT = """
import json, os, signal, sys
from trackside.event_bus.bus import Bus
from trackside.lifecycle.hooks import ProcessHooks

class Say:
    def on_lifecycle(self, event):
        say(event.kind, event.exit_code)

def say(*what):
    os.write(1, json.dumps(what).encode() + b"\\n")

buses = [Bus(), Bus()]
hooks = [
    ProcessHooks(
        bus,
        note_signal=lambda number, at_ms, name=name: say(name, "noted", number),
        before_death=lambda name=name: say(name, "before death"),
        at_exit=lambda name=name: say(name, "at exit"),
    )
    for name, bus in zip("ab", buses)
]
for bus in buses:
    bus.attach(Say())
for one in hooks:
    one.install()
"""


def play(script: str) -> tuple[int, list[list[Any]]]:
    """Run the script; its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script], capture_output=True, timeout=60, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_terminate_signal_still_kills() -> None:
    """By the default action, so the parent sees what it would have; each run has its moment before that."""
    code, said = play("signal.raise_signal(signal.SIGTERM)\nsay('survived')")
    assert code == -signal.SIGTERM
    assert said == [["b", "noted", 15], ["a", "noted", 15], ["a", "before death"], ["b", "before death"]]


def test_a_second_signal_does_not_wait() -> None:
    """Whoever sends SIGTERM again while the first one is being told of means it."""
    code, said = play(
        "hooks[0].signals._before_death = lambda: [say('waiting'), signal.raise_signal(15), say('late')]\n"
        "signal.raise_signal(signal.SIGTERM)"
    )
    assert code == -signal.SIGTERM
    assert said.count(["waiting"]) == 1
    assert ["late"] not in said


def test_a_clean_end_tells_every_run() -> None:
    """The youngest first, as atexit has it, each event before its at_exit."""
    code, said = play("sys.exit(3)")
    assert code == 3
    assert said == [["exited", 3], ["b", "at exit"], ["exited", 3], ["a", "at exit"]]


def test_an_uninstalled_hook_is_silent_at_the_exit() -> None:
    """One of two: the other still tells."""
    assert play("hooks[0].uninstall()") == (0, [["exited", None], ["b", "at exit"]])


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
