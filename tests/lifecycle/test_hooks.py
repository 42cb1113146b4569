"""Hooks: they come off in any order, and what was there before is there again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.hooked import everything_hooked
from tests.lifecycle.hooking import BOOM, USR1, Heard, raise_boom, run_in_thread, throw
from trackside.lifecycle.hooks import ProcessHooks

if TYPE_CHECKING:
    from trackside.shipper.protocol import WakeupPipe

pytestmark = pytest.mark.usefixtures("restored")


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
    """``with ProcessHooks(bus):`` uninstalls however the block ends. The hooks can be used again."""
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
    """The one that stays keeps working, the one that left hears nothing, and at last all is as it was."""
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
    """A signal no process can handle is an error. Nothing of ours stays once it is uninstalled."""
    before = everything_hooked()
    hooks = ProcessHooks(heard.bus, terminate_signals=(int(signal.SIGKILL),))
    with pytest.raises(OSError, match="Invalid argument"):
        hooks.install()
    hooks.uninstall()
    assert everything_hooked() == before


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
    """Run the script. Its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script], capture_output=True, timeout=60, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_terminate_signal_still_kills() -> None:
    """By the default action, so the parent sees what it would have. Each run has its moment before that."""
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
