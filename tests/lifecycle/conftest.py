"""Fixtures of the tests of hooks."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.hooked import everything_hooked
from tests.lifecycle.hooking import USR1, Heard
from trackside.lifecycle.replaced import Replaced
from trackside.lifecycle.signals import SignalHooks
from trackside.shipper.protocol import WakeupPipe

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def heard() -> Heard:
    """A bus that listens."""
    return Heard()


@pytest.fixture
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
