"""What ``start()`` is given is checked before anything is made."""

from __future__ import annotations

import signal
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from trackside.errors import ConfigurationError
from trackside.session.arguments import checked_config, checked_depth, checked_signals


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ([signal.SIGTERM, 10, signal.SIGRTMIN + 1], (15, 10, signal.SIGRTMIN + 1)),
        ((), ()),
        ("SIGUSR1", (10,)),
        (["SIGTERM", signal.SIGUSR2], (15, 12)),
        (signal.SIGTERM, (15,)),
        (15, (15,)),
    ],
)
def test_signals_are_numbers(given: Any, numbers: tuple[int, ...]) -> None:
    """By name, by number, one or several, real-time ones too."""
    assert checked_signals(given) == numbers


@pytest.mark.parametrize("given", [(0,), (4000,), ("SIGFOO",), "TERM", "SIG_IGN", None, 5.5, (True,), [None]])
def test_signals_that_are_none(given: Any) -> None:
    """The error shows how signals are given."""
    with pytest.raises(ConfigurationError, match=r"is not a signal. Pass signals such as \(signal.SIGTERM"):
        checked_signals(given)


@pytest.mark.parametrize("given", [9, "SIGKILL", (signal.SIGSTOP,)])
def test_signals_no_process_can_handle(given: Any) -> None:
    """The error says so before anything is hooked."""
    with pytest.raises(ConfigurationError, match=r"no process can handle SIG(KILL|STOP). Leave it out"):
        checked_signals(given)


@pytest.mark.parametrize("config", [None, {}, {"a": 1}, Namespace(a=1)])
def test_configs(config: Any) -> None:
    """Come back as they are."""
    assert checked_config(config) is config


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("conf.yaml", "'conf.yaml', which is not read as a file. Load it first"),
        (Path("conf.yaml"), "'conf.yaml', which is not read as a file"),
        (5, "config must be a mapping, dataclass, Namespace, pydantic or OmegaConf object, not int"),
        ([1], "not list. For an object of your own, pass vars"),
    ],
)
def test_configs_that_are_none(config: Any, says: str) -> None:
    """A file's name is the likeliest."""
    with pytest.raises(ConfigurationError, match=says):
        checked_config(config)


def test_depths() -> None:
    """Levels from 0 on, or None for all of them."""
    assert [checked_depth(depth) for depth in (None, 0, 1, 7)] == [None, 0, 1, 7]
    for depth in (-1, 1.5, "all", "None", True):
        with pytest.raises(ConfigurationError, match="must be 0 or more, or None for every level"):
            checked_depth(depth)
