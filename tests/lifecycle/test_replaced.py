"""A function that ours replaces: the one before still runs, and comes back in any order of removal."""

from __future__ import annotations

import itertools
import types
from typing import TYPE_CHECKING, Any

import pytest

from trackside.lifecycle.replaced import Replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def module() -> Iterator[Any]:
    """A module with one function, and what its calls left behind."""
    made: Any = types.ModuleType("made")
    made.calls = []
    made.function = lambda: made.calls.append("original")
    yield made
    assert Replaced._in_place == []


def replaced(module: Any, name: str) -> Replaced:
    """The function, replaced by one that notes its name."""

    def ours() -> None:
        module.calls.append(name)
        made.previous()

    made = Replaced(module, "function", ours)
    made.replace()
    return made


def calls(module: Any) -> list[str]:
    """Who is called, in order."""
    module.calls.clear()
    module.function()
    return list(module.calls)


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_each_can_go_first(module: Any, order: tuple[str, ...]) -> None:
    """Those that stay keep calling each other, the youngest first, and at last the original."""
    original = module.function
    made = {name: replaced(module, name) for name in "abc"}
    assert calls(module) == ["c", "b", "a", "original"]
    left = "cba"
    for name in order:
        made[name].restore()
        left = left.replace(name, "")
        assert calls(module) == [*left, "original"]
    assert module.function is original


def test_another_hook_on_top_stays(module: Any) -> None:
    """Its function keeps calling ours, which passes the call on."""
    made = replaced(module, "ours")
    before: Callable[[], None] = module.function

    def theirs() -> None:
        module.calls.append("theirs")
        before()

    module.function = theirs
    made.restore()
    assert calls(module) == ["theirs", "ours", "original"]


def test_once_in_place_is_enough(module: Any) -> None:
    """A second call does not make ours call itself, and what was never in place is not taken out."""
    made = replaced(module, "ours")
    made.replace()
    assert calls(module) == ["ours", "original"]
    Replaced(module, "function", print).restore()
    assert calls(module) == ["ours", "original"]
    made.restore()
    assert calls(module) == ["original"]
