"""Exceptions that are not failures: which are known, how they are named, and what they mean."""

from __future__ import annotations

import contextlib
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import kinds_of
from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.lifecycle.expected import checked_expected
from trackside.session.from_config import arguments_from

if TYPE_CHECKING:
    from pathlib import Path


class Stop(Exception):  # noqa: N818 - control flow, no error
    """The user's own."""


class Later(Stop):
    """A kind of it."""


class TrialPruned(Exception):  # noqa: N818 - as Optuna has it
    """As Optuna defines it: known by its names."""

    __module__ = "optuna.exceptions"


def prune() -> None:
    """End a trial."""
    raise TrialPruned("step 3")


class Group(Exception):  # noqa: N818 - stands in for ExceptionGroup, which Python 3.10 lacks
    """Several at once."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__("several")
        self.exceptions = exceptions


@pytest.mark.parametrize(
    ("given", "error", "status"),
    [
        (None, ValueError("boom"), None),
        (None, TrialPruned("step 3"), "FINISHED"),
        ({Stop: "KILLED"}, Stop(), "KILLED"),
        ({Stop: "finished"}, Later(), "FINISHED"),
        (Stop, Stop(), "FINISHED"),
        ([Stop], ValueError("boom"), None),
        (["tests.lifecycle.test_expected.Stop"], Later(), "FINISHED"),
        ("StopIteration", StopIteration(), "FINISHED"),
        ({"optuna.exceptions.TrialPruned": "FAILED"}, TrialPruned(), "FAILED"),
        ([Stop], Group(Stop(), TrialPruned()), "FINISHED"),
        ({Stop: "KILLED"}, Group(Stop(), TrialPruned()), "KILLED"),
        ([Stop], Group(Stop(), ValueError()), None),
    ],
)
def test_what_an_exception_means(given: Any, error: BaseException, status: str | None) -> None:
    """By class or by name, subclasses included. Of a group, all must be expected."""
    assert checked_expected(given).status_of(error) == status


def test_a_name_under_which_a_library_shows_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """``optuna.TrialPruned`` lives in ``optuna.exceptions``. Nothing is imported to find that out."""
    expected = checked_expected({"a_library.Stop": "KILLED"})
    assert expected.status_of(Stop()) is None
    monkeypatch.setitem(sys.modules, "a_library", types.SimpleNamespace(Stop=Stop))
    assert expected.status_of(Stop()) == "KILLED"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({int: "FINISHED"}, "exception classes"),
        (3, "exception classes"),
        (["no name!"], "exception classes"),
        ([SystemExit], "exception classes"),
        ({Stop: "PRUNED"}, "Use FINISHED, FAILED or KILLED"),
    ],
)
def test_what_start_refuses(given: Any, message: str) -> None:
    """An error at the call that says what to write instead."""
    with pytest.raises(ConfigurationError, match=message):
        trackside.start("x", expected=given, bus=Bus())


@pytest.mark.parametrize("how", ["with", "finish"])
def test_the_run_has_the_status_and_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The same, whoever says that the run is over, and whatever it is told."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    run = trackside.start("x", bus=Bus())
    with contextlib.suppress(TrialPruned):
        if how == "with":
            with run:
                raise TrialPruned("step 3")
        try:
            prune()
        except TrialPruned:
            run.finish("FAILED")
    assert (run.status, kinds_of(run)) == ("FINISHED", ["started", "crashed", "finished"])


def test_it_can_be_configured() -> None:
    """By name, as configuration is text."""
    arguments = arguments_from({"trackside": {"expected": {"my.Stop": "KILLED"}}})
    assert arguments["expected"] == {"my.Stop": "KILLED"}
