"""An exception on its way is recognised, and watching it does not keep it alive."""

from __future__ import annotations

import contextlib
import gc
import pickle
import sys
import threading
import weakref

import pytest

from tests.support.program import run_python
from trackside.lifecycle.in_flight import InFlightException, passing_exception


class Held:
    """Something big, in a frame that an exception passes through."""


def failing(held: Held) -> None:
    """Raise with ``held`` in the traceback's frames."""
    raise ValueError("boom")


def test_an_exception_and_what_came_of_it() -> None:
    """Itself, one raised from it, one raised while it was handled. Others are others."""
    first, second, third = ValueError(), RuntimeError(), KeyError()
    passing = InFlightException(first)
    assert passing.is_behind(first)
    assert not passing.is_behind(second)
    assert not passing.is_behind(None)
    second.__cause__ = first
    third.__context__ = second
    first.__context__ = third  # a ring ends
    assert passing.is_behind(third)
    assert not InFlightException(OSError()).is_behind(third)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups")
def test_an_exception_in_a_group() -> None:
    """As asyncio's task groups raise it."""
    first = ValueError()
    group = ExceptionGroup("x", [OSError(), ExceptionGroup("y", [first])])  # noqa: F821
    assert InFlightException(first).is_behind(group)


def test_it_is_told_when_the_exception_is_gone() -> None:
    """At once, with all that its frames held. A cycle has to wait for the collector."""
    told: list[str] = []
    held = Held()
    alive = weakref.ref(held)
    watchers: list[InFlightException] = []
    try:
        failing(held)
    except ValueError as error:
        watchers.append(InFlightException(error, lambda: told.append("gone")))
        del held
        assert told == []
    assert told == ["gone"]
    assert alive() is None
    assert not watchers[0].is_behind(ValueError())
    cycle = ValueError()
    cycle.__context__ = cycle.__cause__ = OSError()
    cycle.__cause__.__context__ = cycle
    watchers.append(InFlightException(cycle, lambda: told.append("collected")))
    del cycle
    gc.collect()
    assert told == ["gone", "collected"]


def test_two_may_look_at_one() -> None:
    """A run that starts while it is handled, and one that ends."""
    told: list[int] = []
    error = ValueError()
    both = [
        InFlightException(error, lambda: told.append(1)),
        InFlightException(error, lambda: told.append(2)),
    ]
    assert all(passing.is_behind(error) for passing in both)
    del error
    assert sorted(told) == [1, 2]


def test_a_marked_exception_can_be_pickled() -> None:
    """For another process, which knows nothing of the mark."""
    error = ValueError("boom")
    passing = InFlightException(error)
    copy = pickle.loads(pickle.dumps(error))
    assert copy.args == ("boom",)
    assert not passing.is_behind(copy)
    assert b"trackside.lifecycle.in_flight" not in pickle.dumps(error)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ValueError(), True),
        (KeyboardInterrupt(), True),
        (SystemExit(1), True),
        (SystemExit("no data"), True),
        (SystemExit(), False),
        (SystemExit(0), False),
        (GeneratorExit(), False),
    ],
)
def test_what_is_passing(error: BaseException, counts: bool) -> None:
    """In a ``finally`` as in an ``except``. A clean exit is no failure."""
    seen = []
    with contextlib.suppress(BaseException):
        try:
            raise error
        finally:
            seen.append(passing_exception())
    assert seen == [error if counts else None]
    assert passing_exception() is None


def test_an_exception_of_another_thread_is_none_here() -> None:
    """What is on its way is a matter of the thread."""
    seen = []
    try:
        int("no number")
    except ValueError:
        thread = threading.Thread(target=lambda: seen.append(passing_exception()))
        thread.start()
        thread.join()
    assert seen == [None]


SCRIPT = """
from trackside.lifecycle.in_flight import InFlightException
def train():
    try:
        raise ValueError
    except ValueError as error:
        global passing
        passing = InFlightException(error, lambda: print("gone", flush=True))
        raise SystemExit(3)
{call}
"""


@pytest.mark.parametrize(
    ("call", "told"),
    [("train()", ""), ("try:\n    train()\nexcept SystemExit:\n    pass\nraise SystemExit(3)", "gone\n")],
)
def test_the_programs_end_does_not_count_as_handling(call: str, told: str) -> None:
    """The interpreter drops a SystemExit that was not caught. That differs from one that was caught."""
    seen = run_python("-c", SCRIPT.format(call=call))
    assert (seen.returncode, seen.stdout, seen.stderr) == (3, told, "")
