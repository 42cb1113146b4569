"""A record that a server fails at every time is found and rejected. An outage never costs a point."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.fake import QUICK, FakeDestination, Point, Rig, rejected, until
from trackside.errors import RejectedError, RetryableError
from trackside.events import MetricLink
from trackside.journal.format import ConfigRecord, LinkedMetricsRecord, MetricsRecord
from trackside.shipper.search import without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STEPS = 200


class Server(FakeDestination):
    """A destination to compare writes with. ``fails`` decides about each request, the probes included."""

    def __init__(self, batch_points: int = 100) -> None:
        super().__init__(batch_points)
        self.fails: Callable[[list[Point]], bool] = lambda _points: False
        self.probes = 0
        self.refuse = self._refuse

    def _refuse(self, call: str, points: list[Point]) -> None:
        if call == "metrics" and self.fails(points):
            raise RetryableError("500")

    def probe(self, known: MetricsRecord | None) -> None:
        """A point it knows, or the tag, which is written as a point of no name."""
        self.probes += 1
        names = {} if known is None else known.named_values()
        points = [(name, 0 if known is None else known.step, value) for name, value in names.items()]
        assert self.points.issuperset(points), "compared with what was never taken"
        self.refuse("metrics", points or [("", 0, 0.0)])


class ServerRig(Rig):
    """With a :class:`Server`."""

    destination: Server

    def make_destination(self, destination: FakeDestination | None) -> None:
        """As asked, or a server without faults."""
        self.destination = Server() if destination is None else destination  # type: ignore[assignment]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ServerRig]:
    """A journal and a worker to a :class:`Server`."""
    rig = ServerRig(tmp_path)
    yield rig
    rig.close()


def holds(*names: str) -> Callable[[list[Point]], bool]:
    """Whether a request has a point of one of these names."""
    return lambda points: any(name in names for name, _, _ in points)


def kept(rig: ServerRig) -> list[str]:
    """The names in the dead-letter file, sorted."""
    if not rig.journal.rejected.exists():
        return []
    return sorted(name for line in rejected(rig) for name in line["metrics"])


@pytest.mark.parametrize("place", [0, 77, STEPS])
def test_a_point_that_always_fails_is_set_aside(rig: ServerRig, place: int) -> None:
    """Wherever it is: the first of the run, one of many, the very last."""
    rig.emit(place)
    rig.writer.append(MetricsRecord(0, 1, place, None, None, {"bad": 1.0, "good": 2.0}))
    rig.emit(STEPS - place, start=place)
    rig.destination.fails = holds("bad")
    rig.deliver()
    assert kept(rig) == ["bad"]
    assert "while other points were taken: 500" in rejected(rig)[0]["error"]
    assert len(rig.destination.points) == STEPS + 1
    counts = rig.worker.counts()
    assert (counts["shipped"], counts["rejected"]) == (STEPS + 1, 1)


def test_a_last_point_that_always_fails_is_found_by_the_next_shipper(rig: ServerRig) -> None:
    """What an earlier one delivered serves for comparison, so that `trackside sync` comes to an end."""
    rig.emit(10)
    rig.worker.start()
    until(lambda: len(rig.destination.points) == 10)
    rig.worker.calls.stop()
    rig.join()
    rig.writer.append(MetricsRecord(0, 1, 10, None, None, {"bad": 1.0}))
    rig.destination.fails = holds("bad")
    rig.worker = rig.new_worker()
    rig.deliver()
    assert kept(rig) == ["bad"]


def test_a_name_that_always_fails_costs_the_others_nothing(rig: ServerRig) -> None:
    """All of its points are rejected, and after the first they take fewer tries."""
    rig.emit(STEPS, bad=1.0)
    rig.destination.fails = holds("bad")
    rig.deliver()
    assert kept(rig) == ["bad"] * STEPS
    assert len(rig.destination.points) == STEPS
    assert len(rig.destination.batches) < 8 * STEPS


def test_points_behind_a_bad_one_do_not_wait(rig: ServerRig) -> None:
    """The rest of its batch is delivered while it is still on trial."""
    rig.worker = rig.new_worker(policy=QUICK.__class__(base=0.002, cap=0.002, pairs=10_000))
    rig.writer.append(MetricsRecord(0, 1, 0, None, None, {"bad": 1.0}))
    rig.emit(90)
    rig.destination.fails = holds("bad")
    rig.worker.start()
    until(lambda: len(rig.destination.points) == 90)
    assert kept(rig) == []


def outage(_points: list[Point]) -> bool:
    """Everything fails."""
    return True


def metrics_only(points: list[Point]) -> bool:
    """Tags are taken, and no metric is."""
    return any(name for name, _, _ in points)


def no_large_ones(points: list[Point]) -> bool:
    """More than ten points are too many."""
    return len(points) > 10


@pytest.mark.parametrize("fault", [outage, metrics_only])
@pytest.mark.parametrize("before", [0, 50])
def test_an_outage_sets_nothing_aside(
    rig: ServerRig, fault: Callable[[list[Point]], bool], before: int
) -> None:
    """However long it takes, whether points were taken before or not. Everything arrives after it."""
    rig.emit(before)
    rig.worker.start()
    until(lambda: len(rig.destination.points) == before)
    rig.destination.fails = fault
    rig.emit(STEPS, start=before)
    until(lambda: len(rig.destination.batches) > 400 or rig.destination.probes > 400)
    assert rig.worker.failing == "500"
    rig.destination.fails = lambda _points: False
    rig.finish()
    assert kept(rig) == []
    assert len(rig.destination.points) == STEPS + before


def test_an_outage_in_the_middle_of_a_search(rig: ServerRig) -> None:
    """Points on trial are acquitted by it, not convicted: the count of pairs begins anew."""
    state = {"down": False, "requests": 0}

    def fails(points: list[Point]) -> bool:
        state["requests"] += 1
        state["down"] = 20 < state["requests"] < 400
        return bool(state["down"]) or holds("bad")(points)

    rig.emit(60)
    rig.writer.append(MetricsRecord(0, 1, 60, None, None, {"bad": 1.0}))
    rig.emit(60, start=61)
    rig.destination.fails = fails
    rig.deliver()
    assert kept(rig) == ["bad"]
    assert len(rig.destination.points) == 120


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_server_that_fails_at_random(rig: ServerRig, share: float) -> None:
    """Not one point is rejected, however often it fails."""
    dice = random.Random(int(share * 10))
    rig.emit(STEPS)
    rig.destination.fails = lambda _points: dice.random() < share
    rig.deliver()
    assert kept(rig) == []
    assert len(rig.destination.points) == STEPS


def test_a_load_balancer_that_takes_turns_with_a_broken_host(rig: ServerRig) -> None:
    """Every second request fails, so a point and what it is compared with must not keep step."""
    turn = iter(range(10**9))
    rig.emit(STEPS)
    rig.destination.fails = lambda _points: next(turn) % 2 == 0
    rig.deliver()
    assert kept(rig) == []
    assert len(rig.destination.points) == STEPS


def test_a_server_that_fails_at_large_batches(rig: ServerRig) -> None:
    """The parts are taken, nothing is rejected, and the next batches are made smaller."""
    rig.emit(STEPS)
    rig.destination.fails = no_large_ones
    rig.deliver()
    assert kept(rig) == []
    assert len(rig.destination.points) == STEPS
    assert max(map(len, rig.destination.batches[-8:])) <= 20


def test_a_bad_point_beside_one_that_is_refused(rig: ServerRig) -> None:
    """Both are found in one batch."""

    def refuse(call: str, points: list[Point]) -> None:
        if call == "metrics" and holds("bad")(points):
            raise RetryableError("500")
        if call == "metrics" and holds("poison")(points):
            raise RejectedError("400")

    rig.destination.refuse = refuse
    rig.emit(40)
    rig.writer.append(MetricsRecord(0, 1, 40, 2.0, None, {"bad": 1.0, "poison": 2.0, "good": 3.0}))
    rig.emit(40, start=41)
    rig.deliver()
    assert kept(rig) == ["bad", "poison"]
    assert len(rig.destination.points) == 82


class Configured(Server):
    """Its ``write_config`` fails for ever, or as long as it is told to."""

    config_fails = True

    def write_config(self, record: ConfigRecord) -> None:
        """Fail, or keep it."""
        if self.config_fails:
            raise RetryableError("500 for params")
        super().write_config(record)


def test_a_configuration_that_fails_holds_up_no_metric(rig: ServerRig) -> None:
    """It is tried a limited number of times, then kept in the dead-letter file. The run ends meanwhile."""
    rig.make_destination(Configured())
    rig.worker = rig.new_worker()
    rig.writer.append(ConfigRecord(0, 1, {"lr": "0.1"}, {"lr": 0.1}))
    rig.emit(STEPS)
    rig.deliver()
    assert len(rig.destination.points) == STEPS
    assert len(rig.destination.ends) == 1
    (line,) = rejected(rig)
    assert line["params"] == {"lr": "0.1"}


def test_a_configuration_in_an_outage_survives_the_shipper(rig: ServerRig) -> None:
    """The cursor is past it. The next shipper finds it in the journal and delivers it."""
    rig.make_destination(Configured())
    rig.worker = rig.new_worker()
    rig.writer.append(ConfigRecord(0, 1, {"lr": "0.1"}, {"lr": 0.1}))
    rig.emit(5)
    rig.worker.start()
    until(lambda: len(rig.destination.points) == 5)
    rig.worker.calls.stop()
    rig.join()
    rig.make_destination(Server())
    rig.worker = rig.new_worker()
    rig.deliver()
    assert [record.params for record in rig.destination.configs] == [{"lr": "0.1"}]


def test_a_heartbeat_that_fails_holds_up_no_metric(rig: ServerRig) -> None:
    """A tag the server fails at every time is not worth a point."""

    def refuse(call: str, points: list[Point]) -> None:
        if call == "idle":
            raise RetryableError("500 for tags")

    rig.destination.refuse = refuse
    rig.worker.start()
    until(lambda: rig.destination.idled > 1)
    rig.emit(STEPS)
    until(lambda: len(rig.destination.points) == STEPS)
    rig.finish()


def test_the_links_of_the_good_ones_stay(rig: ServerRig) -> None:
    """A batch that is cut up still says which model each metric is of, and so does the dead-letter file."""
    rig.destination.fails = holds("bad")
    rig.emit(5)
    link = MetricLink("m-1", "digits", "0a1b")
    rig.writer.append(LinkedMetricsRecord(0, 1, 5, 1.0, None, {"a": 1.0, "bad": 2.0, "b": 3.0}, link))
    rig.deliver()
    taken = [record for record in rig.destination.records if record.step == 5]
    linked = {name: record for record in taken for name in record.named_values()}
    assert set(linked) == {"a", "b", "epoch"}
    assert all(isinstance(record, LinkedMetricsRecord) and record.link == link for record in linked.values())
    (line,) = rejected(rig)
    assert line["metrics"] == {"bad": 2.0}
    assert (line["model_id"], line["dataset_name"], line["dataset_digest"]) == ("m-1", "digits", "0a1b")


def test_points_by_name() -> None:
    """With the prefix, and with the epoch, which is a point of its own."""
    records = [
        MetricsRecord(1, 1, 1, 2.0, "val", {"a": 1.0, "b": 2.0}),
        MetricsRecord(2, 1, 2, None, None, {"a": 3.0}),
    ]
    others, named = without(records, {"val/a", "epoch"})
    assert [record.named_values() for record in others] == [{"val/b": 2.0}, {"a": 3.0}]
    assert [record.named_values() for record in named] == [{"val/a": 1.0, "epoch": 2.0}]
