"""Several requests at once: never two with one key, nothing twice, nothing else before all are answered."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.fake import FakeDestination, Gate, Rig, rejected, until
from trackside.destinations.mlflow.metrics import ConcurrentSender, split_by_key
from trackside.destinations.mlflow.pace import Pace
from trackside.errors import DestinationFailedError, RejectedError, RetryableError, UnauthorisedError
from trackside.journal.format import ConfigRecord
from trackside.lifecycle.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trackside.bulk_store.points import Point

PATIENCE = 60.0


class Server:
    """Takes requests, from several threads. ``then`` is called in each, while it is in flight."""

    def __init__(self, then: Callable[[Sequence[Point]], None] = lambda _: None) -> None:
        self.taken: list[Point] = []
        self.most_at_once = 0
        self.in_flight: list[set[str]] = []
        self.collisions: list[set[str]] = []
        self.asked: list[list[Point]] = []
        self.then = then
        self._lock = threading.Lock()

    def __call__(self, chunk: Sequence[Point]) -> None:
        keys = {point[0] for point in chunk}
        with self._lock:
            self.collisions += [keys & others for others in self.in_flight if keys & others]
            self.in_flight.append(keys)
            self.asked.append(list(chunk))
            self.most_at_once = max(self.most_at_once, len(self.in_flight))
        try:
            self.then(chunk)
            with self._lock:
                self.taken += chunk
        finally:
            with self._lock:
                self.in_flight.remove(keys)


def sender_to(server: Server, *, size: int = 100, at_once: int = 3) -> ConcurrentSender:
    """With requests of ``size`` points."""
    return ConcurrentSender(Pace(size, patience=PATIENCE, at_once=at_once), server)


def some_points(keys: str, steps: int) -> list[Point]:
    """A point for each of ``keys`` at each step, as a training emits them."""
    return [(key, step / 2, 1, step) for step in range(steps) for key in keys]


def meeting(parties: int) -> Callable[[Sequence[Point]], None]:
    """Each request waits until ``parties`` of them are in flight, the first time."""
    barrier, met = threading.Barrier(parties), threading.Event()

    def meet(_chunk: Sequence[Point]) -> None:
        if not met.is_set():
            barrier.wait(20)
            met.set()

    return meet


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.just(0.5), st.just(1), st.integers(0, 9))),
    st.integers(1, 5),
)
def test_a_batch_is_split_by_key(points: list[Point], count: int) -> None:
    """Nothing is lost, each key is whole in one part and in its order. No part is heavier than it must be."""
    parts = split_by_key(points, count)
    assert all(parts)
    assert len(parts) <= count
    assert Counter(point for part in parts for point in part) == Counter(points)
    for key in "abcdef":
        own = [point for point in points if point[0] == key]
        assert [point for part in parts for point in part if point[0] == key] == own
        assert sum(any(point[0] == key for point in part) for part in parts) <= 1
    largest = max(Counter(point[0] for point in points).values(), default=0)
    if len(parts) == count:
        assert max(map(len, parts)) - min(map(len, parts)) <= largest


def test_no_two_in_flight_share_a_key() -> None:
    """Three at once, of which none has a key of another. Each key's points come in their order."""
    server = Server(meeting(3))
    points = some_points("abcdefg", 300)
    sender_to(server).send(points)
    assert server.most_at_once == 3
    assert not server.collisions
    assert sorted(server.taken) == sorted(points)
    for key in "abcdefg":
        assert [point[3] for point in server.taken if point[0] == key] == list(range(300))


def test_one_key_goes_one_after_another() -> None:
    """There is nothing to do at once."""
    server = Server()
    sender_to(server).send(some_points("a", 500))
    assert server.most_at_once == 1
    assert server.taken == some_points("a", 500)


def test_what_fits_into_one_request_is_one() -> None:
    """A quiet run is no reason to ask a server three times."""
    server = Server()
    sender_to(server).send(some_points("abc", 30))
    assert len(server.asked) == 1


def test_when_one_fails_no_other_is_begun_and_all_are_waited_for() -> None:
    """What is in flight then may come through. What did is not sent again."""
    gate = Gate()

    def fail_a(chunk: Sequence[Point]) -> None:
        if chunk[0][0] == "a":
            assert gate.reached.wait(20)  # the other one is in flight
            raise RetryableError("cut")
        gate()

    server = Server(fail_a)
    sender = sender_to(server, at_once=2)
    failed: list[BaseException] = []

    def send() -> None:
        try:
            sender.send(some_points("ab", 300))
        except RetryableError as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    until(lambda: bool(sender._errors))
    assert thread.is_alive(), "one is in flight still"
    gate.opened.set()
    thread.join(20)
    assert len(failed) == 1
    assert len(server.asked) == 2
    assert server.taken == some_points("b", 100)
    server.then = lambda _: None
    sender.send(some_points("ab", 300))
    assert sorted(server.taken) == sorted(some_points("ab", 300)), "each once"


def test_after_a_refusal_one_at_a_time() -> None:
    """A server that says 429 gets one request after another, until some have gone well."""
    server = Server(meeting(2))
    sender = sender_to(server, at_once=2)
    sender.send(some_points("ab", 100))
    assert server.most_at_once == 2

    def refuse(_chunk: Sequence[Point]) -> None:
        raise RetryableError("too many requests", retry_after=1.0)

    server.then = refuse
    with pytest.raises(RetryableError, match="too many"):
        sender.send(some_points("ab", 200))
    server.then, server.most_at_once = lambda _: None, 0
    sender.send(some_points("ab", 400))
    assert server.most_at_once == 1
    server.then = meeting(2)
    sender.send(some_points("ab", 200))
    assert server.most_at_once == 2


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        ((RejectedError("poison"), RetryableError("down")), RetryableError),
        ((RetryableError("down"), UnauthorisedError("who are you?")), UnauthorisedError),
        (
            (UnauthorisedError("who are you?"), DestinationFailedError("the run is gone")),
            DestinationFailedError,
        ),
        (
            (DestinationFailedError("the run is gone"), ZeroDivisionError("a fault of ours")),
            ZeroDivisionError,
        ),
    ],
    ids=lambda value: "",
)
@pytest.mark.parametrize("turned", [False, True])
def test_which_of_two_errors_counts(errors: Any, wanted: type[Exception], turned: bool) -> None:
    """The run is gone. Else what asks for the longest wait. A rejection is judged again, later."""
    by_key = dict(zip("ba" if turned else "ab", errors, strict=True))
    barrier = threading.Barrier(2)

    def fail(chunk: Sequence[Point]) -> None:
        barrier.wait(20)
        raise by_key[chunk[0][0]]

    with pytest.raises(wanted) as caught:
        sender_to(Server(fail), at_once=2).send(some_points("ab", 100))
    assert caught.value in errors


def test_the_longest_wait_that_was_asked_for_counts() -> None:
    """Of two refusals with Retry-After."""
    barrier = threading.Barrier(2)

    def refuse(chunk: Sequence[Point]) -> None:
        barrier.wait(20)
        raise RetryableError("later", retry_after={"a": 3.0, "b": 9.0}[chunk[0][0]])

    with pytest.raises(RetryableError) as caught:
        sender_to(Server(refuse), at_once=2).send(some_points("ab", 100))
    assert caught.value.retry_after == 9.0


def test_without_threads_one_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no more of them."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    server = Server()
    sender_to(server).send(some_points("abc", 300))
    assert sorted(server.taken) == sorted(some_points("abc", 300))


# Under a worker


class FlightDestination(FakeDestination):
    """A fake whose metrics go in several requests at once. All else fails while one is in flight."""

    def __init__(self) -> None:
        super().__init__(batch_points=3000)
        self.server = Server()
        self._sender = sender_to(self.server, size=500)

    def write_metrics(self, batch: Sequence[Any]) -> None:
        self._sender.send(
            [
                (name, value, record.timestamp_ms, record.step)
                for record in batch
                for name, value in record.named_values().items()
            ]
        )

    def write_config(self, record: Any) -> None:
        assert not self.server.in_flight
        super().write_config(record)

    def idle(self) -> None:
        assert not self.server.in_flight
        super().idle()

    def write_end(self, end: Any) -> None:
        assert not self.server.in_flight
        super().write_end(end)


@pytest.fixture
def concurrent(tmp_path: Path) -> Any:
    """A rig with that destination. Three keys."""
    rig = Rig(tmp_path, FlightDestination())
    yield rig
    rig.close()


def test_params_and_the_status_wait_for_all_metrics(concurrent: Any) -> None:
    """Those before them are there by then, those behind them are not begun."""
    server = concurrent.destination.server
    server.then = meeting(2)
    before: list[int] = []
    concurrent.destination.refuse = lambda call, _: (
        before.append(len(server.taken)) if call == "config" else None
    )
    for part in range(3):
        concurrent.emit(1000, start=1000 * part, a=1.0, b=2.0)
        concurrent.writer.append(ConfigRecord(0, 1, {"part": str(part)}, {}))
    concurrent.deliver()
    assert concurrent.worker.refused is None
    assert before == [3000, 6000, 9000]
    assert concurrent.destination.ends[0][0].status == "FINISHED"
    assert server.most_at_once >= 2
    assert len(server.taken) == 9000


def test_a_poison_point_among_thousands(concurrent: Any) -> None:
    """It alone is rejected. The others arrive, none of them twice."""
    server = concurrent.destination.server

    def refuse(chunk: Sequence[Point]) -> None:
        if any(point[0] == "a" and point[3] == 1234 for point in chunk):
            raise RejectedError("no poison here")

    server.then = refuse
    concurrent.emit(3000, a=1.0, b=2.0)
    concurrent.deliver()
    (line,) = rejected(concurrent)
    assert line["step"] == 1234
    assert line["metrics"] == {"a": 1.0}
    assert concurrent.worker.counts() | {"shipped": 8999, "rejected": 1} == concurrent.worker.counts()
    assert len(server.taken) == len(set(server.taken)) == 8999


def test_a_worker_stopped_while_requests_are_in_flight(concurrent: Any) -> None:
    """They are waited for, and what is not acknowledged is sent again by the next shipper."""
    gate, server = Gate(), concurrent.destination.server
    server.then = lambda _: gate()
    concurrent.emit(2000, a=1.0, b=2.0)
    concurrent.worker.start()
    assert gate.reached.wait(20)
    concurrent.worker.calls.stop()
    gate.opened.set()
    concurrent.join()
    acknowledged = concurrent.worker.cursor.shipped
    assert acknowledged <= len(server.taken) < 6000
    concurrent.worker = concurrent.new_worker()
    concurrent.worker.start()
    concurrent.evidence = Evidence(finished="FINISHED")
    concurrent.finish()
    assert len(set(server.taken)) == concurrent.worker.counts()["shipped"] == 6000
