"""Params and tags that are logged one by one: few calls, in order, none lost, and none in a metric's way."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.fake import QUICK, FakeDestination, Rig, rejected, until
from tests.faults.test_search import Server
from trackside.errors import RejectedError, RetryableError, UnauthorisedError
from trackside.journal.format import ConfigRecord, MetricsRecord, ParamsRecord, TagsRecord
from trackside.shipper.texts import MOST_IN_A_ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Texts(Server):
    """Keeps params, of which the first value stays, and tags. ``judge`` sees the texts of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.calls: list[tuple[str, int]] = []
        self.judge: Callable[[dict[str, str]], None] = lambda _texts: None

    def write_params(self, record: ParamsRecord) -> None:
        """Keep those that are new."""
        self.calls.append(("params", len(record.texts)))
        self.judge(record.texts)
        self.params = {**record.texts, **self.params}

    def write_tags(self, record: TagsRecord) -> None:
        """Keep all."""
        self.calls.append(("tags", len(record.texts)))
        self.judge(record.texts)
        self.tags.update(record.texts)


class TextsRig(Rig):
    """With a :class:`Texts`."""

    destination: Texts

    def make_destination(self, destination: Any = None) -> None:
        """As asked, or one that takes everything."""
        self.destination = destination or Texts()

    def params(self, *pairs: tuple[str, str]) -> None:
        """Append params, one by one."""
        for key, value in pairs:
            self.writer.append(ParamsRecord(0, 1, {key: value}))

    def tags(self, *pairs: tuple[str, str]) -> None:
        """Append tags, one by one."""
        for key, value in pairs:
            self.writer.append(TagsRecord(0, 1, {key: value}))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[TextsRig]:
    """A journal and a worker to a :class:`Texts`."""
    rig = TextsRig(tmp_path)
    yield rig
    rig.close()


def test_thousands_are_a_few_calls(rig: TextsRig) -> None:
    """3,000 params and as many tags, one by one and in turns, between samples that stay together as well."""
    for number in range(3000):
        rig.params((f"p{number}", str(number)))
        rig.tags((f"t{number % 500}", str(number)))
        rig.emit(1, start=number)
    rig.deliver()
    assert rig.destination.params == {f"p{number}": str(number) for number in range(3000)}
    assert rig.destination.tags == {f"t{number % 500}": str(number) for number in range(3000)}
    assert len(rig.destination.points) == 3000
    assert len(rig.destination.calls) < 200
    assert len(rig.destination.batches) < 200


def test_the_last_tag_and_the_first_param_count(rig: TextsRig) -> None:
    """In one batch as in several. The second value of a param comes in a call behind the first."""
    rig.tags(("stage", "draft"), ("other", "x"), ("stage", "final"))
    rig.params(("lr", "0.1"), ("depth", "3"), ("lr", "0.2"), ("lr", "0.1"))
    rig.deliver()
    assert rig.destination.tags == {"stage": "final", "other": "x"}
    assert rig.destination.params == {"lr": "0.1", "depth": "3"}
    assert [call for call in rig.destination.calls if call[0] == "params"] == [
        ("params", 2),
        ("params", 1),
        ("params", 1),
    ]


def refusing(*bad: str) -> Callable[[dict[str, str]], None]:
    """A judge that refuses a call with one of these keys for good."""

    def judge(texts: dict[str, str]) -> None:
        if found := sorted(set(bad) & set(texts)):
            raise RejectedError(f"invalid name {found[0]}")

    return judge


def test_what_is_refused_takes_nothing_with_it(rig: TextsRig) -> None:
    """It is in the dead-letter file with the reason, and counted. All others are delivered."""
    bad = ["p0", "p299", "p300", "t7"]
    rig.destination.judge = refusing(*bad)
    rig.emit(3)
    rig.params(*((f"p{number}", "x") for number in range(500)))
    rig.tags(*((f"t{number}", "x") for number in range(20)))
    rig.deliver()
    assert len(rig.destination.params) == 497
    assert len(rig.destination.tags) == 19
    lines = rejected(rig)
    assert sorted(key for line in lines for key in line.get("params") or line["tags"]) == bad
    assert all(line["error"].startswith("invalid name") for line in lines)
    (end, points) = rig.destination.ends[-1]
    assert (end.counts["rejected"], end.counts["shipped"], points) == (4, 3, 3)


def test_one_that_fails_every_time_is_found(rig: TextsRig) -> None:
    """While metrics are taken. No metric waits for it, and the run ends."""

    def judge(texts: dict[str, str]) -> None:
        if "bad" in texts:
            raise RetryableError("500")

    rig.destination.judge = judge
    rig.params(("a", "1"), ("bad", "1"), ("b", "1"))
    rig.tags(("fine", "1"))
    rig.emit(50)
    rig.deliver()
    assert rig.destination.params == {"a": "1", "b": "1"}
    assert rig.destination.tags == {"fine": "1"}
    assert [line["params"] for line in rejected(rig)] == [{"bad": "1"}]
    assert len(rig.destination.points) == 50


def test_a_limit_on_the_number_costs_few_calls(rig: TextsRig) -> None:
    """A server that takes no further param is asked for little, and all that it refused are told."""
    judge_calls = 0

    def judge(texts: dict[str, str]) -> None:
        nonlocal judge_calls
        judge_calls += 1
        if len(rig.destination.params | texts) > 200:
            raise RejectedError("a run has at most 200 params")

    rig.destination.judge = judge
    rig.params(*((f"p{number}", "x") for number in range(1000)))
    rig.deliver()
    assert len(rig.destination.params) == 200
    assert len(rejected(rig)) == 800
    assert judge_calls < 3 * MOST_IN_A_ROW


def test_bad_credentials_are_not_tried_again_and_again(rig: TextsRig) -> None:
    """A param waits as long as a metric does, because hammering a login locks accounts."""
    times: list[float] = []

    def judge(_texts: dict[str, str]) -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            raise UnauthorisedError("401")

    policy = replace(QUICK, unauthorised_floor=0.6)
    rig.worker = rig.new_worker(policy)
    rig.destination.judge = judge
    rig.destination.fails = lambda points: not points[0][0]  # nothing else works either
    rig.params(("lr", "0.1"))
    rig.worker.start()
    until(lambda: len(times) == 3)
    rig.finish()
    assert all(later - earlier >= policy.unauthorised_floor for earlier, later in pairwise(times))
    assert rig.destination.params == {"lr": "0.1"}


def test_what_waits_survives_the_shipper(rig: TextsRig) -> None:
    """The cursor is past it. The next shipper finds it in the journal, and the order is kept."""

    def judge(_texts: dict[str, str]) -> None:
        raise RetryableError("500")

    rig.destination.judge = judge
    rig.destination.fails = lambda points: not points[0][0]  # so that nothing is given up
    rig.params(("lr", "0.1"))
    rig.tags(("stage", "draft"))
    rig.worker.start()
    until(lambda: len(rig.destination.calls) > 1)
    rig.worker.calls.stop()
    rig.join()
    assert rig.worker.cursor.configs == 2
    assert not rig.worker.cursor.acknowledges(1)
    rig.make_destination()
    rig.worker = rig.new_worker()
    rig.tags(("stage", "final"))
    rig.params(("lr", "0.2"))
    rig.deliver()
    assert rig.destination.params == {"lr": "0.1"}
    assert rig.destination.tags == {"stage": "final"}
    assert rig.worker.cursor.acknowledges(4)


def test_a_refused_one_is_told_once(rig: TextsRig) -> None:
    """Also when the shipper is killed before its cursor says so."""
    rig.destination.judge = refusing("bad")
    rig.params(("bad", "1"))
    rig.worker.start()
    until(lambda: rig.journal.rejected.exists() and rig.worker.cursor.rejected == 1)
    rig.worker.calls.stop()
    rig.join()
    rig.journal.cursor("fake").unlink()
    rig.make_destination()
    rig.destination.judge = refusing("bad")
    rig.worker = rig.new_worker()
    rig.deliver()
    assert len(rejected(rig)) == 1
    assert rig.destination.ends[-1][0].counts["rejected"] == 1


class InOrder(FakeDestination):
    """A file or the like, which can't be probed. It knows configurations, and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def write_metrics(self, batch: Any) -> None:
        """Note the steps."""
        super().write_metrics(batch)
        self.seen += [record.step for record in batch]

    def write_config(self, record: ConfigRecord) -> None:
        """Note the document."""
        super().write_config(record)
        self.seen.append(record.document)

    def write_tags(self, record: TagsRecord) -> None:
        """Note the tags, or refuse one."""
        if "bad" in record.texts:
            raise RejectedError("bad")
        self.seen.append(record.texts)


def test_other_destinations_get_params_as_configurations_in_order(rig: TextsRig) -> None:
    """With numbers where a text is one. Tags come in their order, too, and a refused one is counted."""
    destination = InOrder()
    rig.destination = destination  # type: ignore[assignment]
    rig.worker = rig.new_worker()
    rig.params(("lr", "0.1"), ("name", "x"))
    rig.writer.append(MetricsRecord(0, 1, 1, None, None, {"loss": 1.0}))
    rig.params(("amp", "True"), ("depth", "03"))
    rig.tags(("a", "1"), ("bad", "2"), ("b", "3"))
    rig.writer.append(MetricsRecord(0, 1, 2, None, None, {"loss": 1.0}))
    rig.deliver()
    first, second, *rest = destination.seen
    assert (first, second) == ({"lr": 0.1, "name": "x"}, 1)
    assert rest[0] == {"amp": True, "depth": "03"}
    assert {key for texts in rest[1:-1] for key in texts} == {"a", "b"}
    assert rest[-1] == 2
    assert [line["tags"] for line in rejected(rig)] == [{"bad": "2"}]
    assert rig.worker.cursor.rejected == 1
