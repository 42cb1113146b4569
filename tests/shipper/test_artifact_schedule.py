"""The order in which artifacts are delivered."""

from __future__ import annotations

from trackside.journal.format import ArtifactRecord
from trackside.shipper.artifact_schedule import ArtifactSchedule


def record(
    seq: int, place: str = "", policy: str = "now", *, kind: str = "file", step: int | None = None
) -> ArtifactRecord:
    """A record for ``place``, or for one of its own."""
    return ArtifactRecord(seq, 0, kind, place or f"{seq}.txt", policy=policy, step=step)


def given_out(schedule: ArtifactSchedule, now: float) -> list[int]:
    """What comes, in this order, when everything that is tried succeeds."""
    found = []
    while isinstance(one := schedule.next(now), ArtifactRecord):
        found.append(one.seq)
        schedule.done(now)
    return found


def test_in_the_order_they_were_logged() -> None:
    """The first one first."""
    schedule = ArtifactSchedule()
    for seq in (1, 2, 3):
        assert schedule.add(record(seq), 0.0) == []
    assert given_out(schedule, 0.0) == [1, 2, 3]
    assert schedule.next(0.0) is None


def test_one_that_fails_holds_up_no_other_place() -> None:
    """It is tried again when it is due, and those behind it of the same place wait for it."""
    schedule = ArtifactSchedule()
    for seq, place in ((1, "a"), (2, "b"), (3, "a")):
        schedule.add(record(seq, place), 0.0)
    assert schedule.next(0.0) == record(1, "a")
    assert schedule.postpone(5.0)
    assert given_out(schedule, 0.0) == [2]
    assert schedule.next(0.0) == 5.0
    assert given_out(schedule, 5.0) == [1, 3]


def test_one_that_waits_is_not_held_up_by_those_that_keep_coming() -> None:
    """Once it is due it comes before what is logged later."""
    schedule = ArtifactSchedule()
    schedule.add(record(1), 0.0)
    schedule.next(0.0)
    schedule.postpone(1.0)
    schedule.add(record(2), 2.0)
    assert given_out(schedule, 2.0) == [1, 2]


def test_steps_of_one_key_do_not_wait_for_each_other() -> None:
    """A picture of one step may fail while those of others are delivered."""
    schedule = ArtifactSchedule()
    for seq in (1, 2):
        schedule.add(record(seq, "samples", kind="image", step=seq), 0.0)
    schedule.next(0.0)
    schedule.postpone(9.0)
    assert given_out(schedule, 0.0) == [2]


def test_latest_is_cancelled_by_a_newer_one_of_the_same_place() -> None:
    """Also while it is paused after a failure. One that has the policy ``now`` is not."""
    schedule = ArtifactSchedule()
    schedule.add(record(1, "last.pt", "latest"), 0.0)
    schedule.next(0.0)
    schedule.postpone(60.0)
    assert schedule.add(record(2, "last.pt", "latest"), 1.0) == [record(1, "last.pt", "latest")]
    assert schedule.add(record(3, "best.pt"), 1.0) == []
    assert schedule.add(record(4, "best.pt", "latest"), 1.0) == []
    assert given_out(schedule, 1.0) == [2, 3, 4]


def test_latest_of_checkpoints_goes_by_the_name_whatever_the_step() -> None:
    """A checkpoint of a later step cancels the one before."""
    schedule = ArtifactSchedule()
    first = record(1, "model", "latest", kind="checkpoint", step=100)
    schedule.add(first, 0.0)
    assert schedule.add(record(2, "model", "latest", kind="checkpoint", step=200), 0.0) == [first]
    assert schedule.add(record(3, "model", "latest", kind="image"), 0.0) == []
    assert given_out(schedule, 0.0) == [2, 3]


def test_one_that_is_being_delivered_is_not_cancelled_unless_it_fails() -> None:
    """Half an upload is not thrown away. One that has to be made again is, and the newer one has its turn."""
    schedule = ArtifactSchedule()
    schedule.add(record(1, "last.pt", "latest"), 0.0)
    schedule.next(0.0)
    assert schedule.add(record(2, "last.pt", "latest"), 0.0) == []
    assert not schedule.postpone(5.0)
    assert given_out(schedule, 0.0) == []
    assert given_out(schedule, 5.0) == [2]


def test_end_waits_for_the_end_and_only_the_newest_is_delivered() -> None:
    """Of each place."""
    schedule = ArtifactSchedule()
    schedule.add(record(1, "log.txt", "end"), 0.0)
    schedule.add(record(2, "other.txt", "end"), 0.0)
    assert schedule.next(99.0) is None
    assert schedule.add(record(3, "log.txt", "end"), 1.0) == [record(1, "log.txt", "end")]
    schedule.end(2.0)
    assert given_out(schedule, 2.0) == [2, 3]
    schedule.add(record(4, "late.txt", "end"), 3.0)
    assert given_out(schedule, 3.0) == [4]


def test_hurry_makes_whatever_waits_for_a_time_due() -> None:
    """As with renewed credentials."""
    schedule = ArtifactSchedule()
    schedule.add(record(1), 0.0)
    schedule.next(0.0)
    schedule.postpone(600.0)
    schedule.hurry(1.0)
    assert given_out(schedule, 1.0) == [1]
