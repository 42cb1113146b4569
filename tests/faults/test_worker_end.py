"""How a run ended is told when, and only when, it is true."""

from __future__ import annotations

import signal
import time

from tests.faults.fake import (
    Gate,
    Point,
    Rig,
    raise_if,
    until,
)
from trackside.journal.format import ConfigRecord, LifecycleRecord
from trackside.lifecycle.evidence import Evidence


def test_everything_arrives_and_the_end_is_told(rig: Rig) -> None:
    """Samples, config, lifecycle. Then the final verdict with the counts."""
    rig.writer.append(ConfigRecord(0, 1, {"lr": "1"}, {"lr": 1}))
    rig.emit(250)
    rig.writer.append(LifecycleRecord(0, 1, "finished", status="FINISHED"))
    rig.deliver()
    assert len(rig.destination.points) == 250
    assert [record.params for record in rig.destination.configs] == [{"lr": "1"}]
    assert [record.kind for record in rig.lifecycle] == ["finished"]
    ((end, seen),) = rig.destination.ends
    assert (end.status, end.final, seen) == ("FINISHED", True, 250)
    assert end.counts == {
        "emitted": 250,
        "shipped": 250,
        "merged": 0,
        "dropped": 0,
        "rejected": 0,
        "damaged": 0,
    }
    assert rig.destination.closed == 1


def test_a_provisional_verdict_is_shown_at_once_the_final_one_behind_the_last_point(
    rig: Rig,
) -> None:
    """SIGTERM shows KILLED while the process lives. The final word waits until all is delivered."""
    gate = Gate()

    def refuse(call: str, points: list[Point]) -> None:
        if any(step == 7 for _, step, _ in points):
            gate()

    rig.worker.start()
    rig.evidence = Evidence(signals={int(signal.SIGTERM): 1})
    until(lambda: bool(rig.destination.ends))
    assert [(end.status, end.final) for end, _ in rig.destination.ends] == [("KILLED", False)]
    rig.destination.refuse = refuse
    rig.emit(10)
    assert gate.reached.wait(20)
    rig.die(signals={int(signal.SIGTERM): 1}, killed_by=int(signal.SIGKILL))
    time.sleep(0.05)
    assert len(rig.destination.ends) == 1
    gate.opened.set()
    rig.join()
    end, seen = rig.destination.ends[-1]
    assert (end.status, end.final, seen) == ("KILLED", True, 10)
    assert "SIGKILL" in end.reason
    assert end.counts["shipped"] == 10


def test_a_worse_status_is_told_again(rig: Rig) -> None:
    """A crash seen in a thread first, the death that follows after it."""
    rig.worker.start()
    rig.evidence = Evidence(exited=True, exit_code=0)
    until(lambda: len(rig.destination.ends) == 1)
    rig.die(exited=True, exit_code=3)
    rig.join()
    assert [end.status for end, _ in rig.destination.ends] == ["FINISHED", "FAILED"]


def test_an_unchanged_status_is_told_once(rig: Rig) -> None:
    """No request a poll while a terminated process takes its time to leave."""
    rig.evidence = Evidence(signals={int(signal.SIGTERM): 1})
    rig.worker.start()
    until(lambda: rig.destination.idled > 3)
    assert len(rig.destination.ends) == 1
    rig.die(signals={int(signal.SIGTERM): 1})
    rig.join()


def test_settling_is_retried(rig: Rig) -> None:
    """The server goes down just before the end: the status is set when it is back."""
    tries = iter(range(100))
    rig.destination.refuse = lambda call, points: raise_if(call == "end" and next(tries) < 20)
    rig.emit(5)
    rig.deliver()
    assert [end.status for end, _ in rig.destination.ends] == ["FINISHED"]
