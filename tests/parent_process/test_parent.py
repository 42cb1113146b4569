"""What the parent makes of the signals that reach it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from trackside.parent_process import parent as parent_
from trackside.parent_process.parent import Parent


class Command:
    """Stands in for the command and its process group."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def is_in_group(self) -> bool:
        return True

    def signal_command(self, number: int) -> None:
        self.got.append(number)


class Alone:
    """A witness that gets nothing."""

    def has_got(self, _number: int) -> bool:
        return False


def parent_of(command: Any) -> Parent:
    """A parent of ``command`` that gets every signal alone."""
    inbox: Any = None
    witness: Any = Alone()
    return Parent(command, inbox, witness)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [100.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr(parent_, "time", Clock)
    return now


@pytest.mark.parametrize(
    ("number", "pause", "times"),
    [
        (signal.SIGTERM, 0.01, 1),
        (signal.SIGTERM, 0.5, 2),
        (signal.SIGINT, 0.01, 1),
        (signal.SIGUSR1, 0.01, 2),
    ],
)
def test_two_copies_of_a_request_to_stop(clock: list[float], number: int, pause: float, times: int) -> None:
    """``timeout`` signals the parent, then its group. Many programs take a second request for "at once"."""
    command = Command()
    parent = parent_of(command)
    parent._pass_on(number)
    clock[0] += pause
    parent._pass_on(number)
    assert command.got == [number] * times


@pytest.mark.parametrize(
    ("presses", "ended", "waits"),
    [((0.0, 0.5), 1.0, False), ((0.0,), 1.0, True), ((0.0, 0.01), 1.0, True), ((0.0, 0.5), 60.0, True)],
)
def test_ctrl_c_twice(clock: list[float], presses: tuple[float, ...], ended: float, waits: bool) -> None:
    """A user who presses it twice while the command ends does not want to wait for delivery either.

    It does not count if the command ran for long afterwards, as Python's prompt does, or if the two are
    copies of one.
    """
    began = clock[0]
    parent = parent_of(Command())
    for at in presses:
        clock[0] = began + at
        parent._pass_on(signal.SIGINT)
    parent._ended = began + ended
    assert parent._is_impatient() != waits
