"""Evidence: what the journal, the scoreboard, the kernel and other ranks say, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trackside.events import LifecycleEvent
from trackside.journal.format import LifecycleRecord
from trackside.journal.scoreboard import SignalSeen
from trackside.lifecycle.evidence import Evidence, ExitStatus, RankCrash, evidence_from
from trackside.lifecycle.exit_code import read_exit_code
from trackside.lifecycle.verdict import decide

if TYPE_CHECKING:
    from pathlib import Path


def record(kind: str, at_ms: int = 5, **fields) -> LifecycleRecord:
    """A lifecycle record as the journal has it."""
    return LifecycleRecord(0, at_ms, kind, **fields)


def crash(error_type: str, message: str, at_ms: int) -> LifecycleEvent:
    """What another rank tells of its end."""
    return LifecycleEvent("crashed", message=message, error_type=error_type, timestamp_ms=at_ms)


def known(*records: LifecycleRecord, **facts) -> Evidence:
    """The evidence that these make."""
    facts = {"signals": [], "terminate_signals": (15,), "dead": False, **facts}
    return evidence_from(records, **facts)


def test_an_empty_journal_says_nothing() -> None:
    """SIGTERM means stop, also in a journal that names no signals."""
    assert known() == Evidence()
    assert known(terminate_signals=()).terminate_signals == {15}


@pytest.mark.wheel
def test_records_become_evidence() -> None:
    """The first crash, the first request to stop, the last exit and the last word of ``finish()``."""
    found = known(
        record("started"),
        record("thread_crashed", 6, error_type="ValueError", message="one", traceback="lines"),
        record("crashed", 7, error_type="KeyError", message="two"),
        record("terminating", 8, message="preempted"),
        record("terminating", 9, message="again"),
        record("exited", 10, exit_code=1),
        record("exited", 11, exit_code=2, message="no data"),
        record("finished", 12, status="FINISHED"),
        record("finished", 13, status="FAILED"),
    )
    assert found.crash is not None
    assert (found.crash.error_type, found.crash.message, found.crash.traceback) == (
        "ValueError",
        "one",
        "lines",
    )
    assert (found.crash.where, found.crash.at_ms) == ("in a thread", 6)
    assert (found.terminating, found.terminating_ms) == ("preempted", 8)
    assert (found.exited, found.exit_code, found.exit_message) == (True, 2, "no data")
    assert found.finished == "FAILED"


def test_a_sparse_record_has_defaults() -> None:
    """A lifecycle event made by hand may say no more than its kind."""
    found = known(record("crashed"), record("terminating"), record("finished"))
    assert found.crash is not None
    assert (found.crash.error_type, found.crash.message) == ("Exception", "")
    assert (found.terminating, found.finished) == ("asked to stop", "FINISHED")


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (40, "signal 40"), (0, "signal 0")])
def test_a_stop_by_signal_is_named(number: int, name: str) -> None:
    """A real-time signal, which Python has no name for, as well."""
    assert known(record("terminating", signal=number)).terminating == name


def test_signals_noted_in_signal_context() -> None:
    """The time of a stop is the first one's, that of an interrupt the last one's."""
    found = known(
        signals=[SignalSeen(15, 100, 300, 2), SignalSeen(2, 50, 60, 2)],
        terminate_signals=(15, 10),
        dead=True,
        died_ms=400,
    )
    assert found.signals == {15: 300, 2: 60}
    assert found.terminating_ms == 100
    assert found.terminate_signals == {15, 10}
    assert decide(found).status == "KILLED"


def test_the_earliest_word_of_a_stop_counts() -> None:
    """A crash between the event a framework emits and the signal that follows is a consequence."""
    found = known(
        record("terminating", 100, message="notice"),
        record("crashed", 150, error_type="ValueError"),
        signals=[SignalSeen(15, 200, 200, 1)],
    )
    assert found.terminating_ms == 100
    assert decide(found).status == "KILLED"


def test_the_exit_code_is_the_kernels_then_the_c_librarys_then_pythons() -> None:
    """The kernel knows it of this very process. A forked child may have noted its own."""
    exited = record("exited", exit_code=1)
    assert known(exited, noted_exit_code=0, exit_status=ExitStatus(exit_code=2), dead=True).exit_code == 2
    assert known(exited, noted_exit_code=0, dead=True).exit_code == 0
    assert known(exited, exit_status=ExitStatus(exit_code=2), dead=True).exit_code == 2
    assert known(exited, dead=True).exit_code == 1
    assert known(dead=True, exit_status=ExitStatus(killed_by=9)).killed_by == 9


def test_what_was_killed_has_no_exit_code() -> None:
    """One that was noted all the same is a forked child's, unless Python was on its way out."""
    killed = {"dead": True, "exit_status": ExitStatus(killed_by=9), "noted_exit_code": 7}
    assert known(**killed).exit_code is None
    assert known(record("exited"), **killed).exit_code == 7


def test_another_ranks_crash() -> None:
    """The first crash is the cause, whichever rank it was on."""
    first = RankCrash(3, crash("ValueError", "boom", 100))
    alone = known(rank_crashes=[first, RankCrash(4, crash("KeyError", "later", 200))], dead=True)
    assert decide(alone).reason == "ValueError on rank 3: boom"
    later = known(record("crashed", 150, error_type="RuntimeError", message="NCCL"), rank_crashes=[first])
    assert decide(later).reason == "ValueError on rank 3: boom"
    earlier = known(record("crashed", 50, error_type="RuntimeError", message="mine"), rank_crashes=[first])
    assert decide(earlier).reason == "RuntimeError: mine"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", None),
        (b"\x01", None),
        (b"\x03\0\0\0", 3),
        (b"\xff\xff\xff\xff", 255),
        (b"\0\0\0\0cut", 0),
        (b"\x07\0\0\0\0\0\0\0", None),
        (b"\x07\0\0\0" * 2, 7),
    ],
)
def test_reading_the_exit_code(content: bytes, code: int | None, tmp_path: Path) -> None:
    """As the system cuts it, to eight bits. Nothing written, or several that differ, is no code."""
    path = tmp_path / "exit_code"
    path.write_bytes(content)
    assert read_exit_code(path) == code


def test_no_exit_code_file(tmp_path: Path) -> None:
    """Where the C library can't note it, there is none."""
    assert read_exit_code(tmp_path / "exit_code") is None
