"""Requests shrink until the server can do them in time, so that a slow one gets on with it all the same."""

from __future__ import annotations

import pytest

from trackside.destinations.mlflow_pace import Pace
from trackside.errors import RejectedError, RetryableError


class SlowServer:
    """Commits each request, however long it takes, but is not waited for longer than ``patience``.

    ``known`` and ``new`` are the seconds that a point takes it: one that it has, one that it has not.
    """

    def __init__(self, *, known: float, new: float = 0.0001, patience: float = 5.0) -> None:
        self.known, self.new, self.patience = known, new, patience
        self.clock = 0.0
        self.points: set[int] = set()
        self.sizes: list[int] = []
        self.timeouts = 0

    def __call__(self, chunk) -> None:
        self.sizes.append(len(chunk))
        took = sum(self.known if point in self.points else self.new for point in chunk)
        self.points |= set(chunk)
        self.clock += min(took, self.patience)
        if took > self.patience:
            self.timeouts += 1
            raise RetryableError("timed out")


def deliver(pace: Pace, server: SlowServer, points: range) -> int:
    """As the lane does: again and again, until it works; how often it did not."""
    batch: list[int] = []
    for failed in range(100):
        try:
            pace.send(batch, points, server)
        except RetryableError:
            continue
        return failed
    raise AssertionError("it never got through")


def paced(server: SlowServer) -> Pace:
    """A pace for that server."""
    return Pace(1000, patience=server.patience, clock=lambda: server.clock)


def test_a_quick_server_gets_full_requests() -> None:
    """Nothing is asked twice, and the last request has the rest."""
    server = SlowServer(known=0.0)
    assert deliver(paced(server), server, range(2500)) == 0
    assert server.sizes == [1000, 1000, 500]


@pytest.mark.parametrize("known", [0.007, 0.05, 1.0, 4.0])
def test_a_batch_that_is_there_already_gets_through(known: float) -> None:
    """Looking up what it has takes the server longer than a whole batch may: smaller requests fit."""
    server = SlowServer(known=known)
    server.points = set(range(1000))
    failed = deliver(paced(server), server, range(1000))
    assert 0 < failed < 12
    assert server.points == set(range(1000))


def test_what_was_taken_is_not_sent_again() -> None:
    """A batch goes on where it stopped; the same points of another batch are another matter."""
    server, batch = SlowServer(known=0.0), [0]
    pace = paced(server)
    asked: list[list[int]] = []

    def request(chunk) -> None:
        asked.append(list(chunk))
        if len(asked) == 2:
            raise RetryableError("cut")

    pace = Pace(2, patience=5.0)
    with pytest.raises(RetryableError):
        pace.send(batch, [1, 2, 3, 4], request)
    pace.send(batch, [1, 2, 3, 4], request)
    assert asked == [[1, 2], [3, 4], [3, 4]]
    pace.send(batch, [1, 2], request)
    assert asked[3:] == [[1, 2]], "that one was finished"


def test_a_rejected_batch_begins_again() -> None:
    """The lane sends its halves then, and nothing may be taken for sent."""
    batch, asked = [0], []

    def request(chunk) -> None:
        asked.append(list(chunk))
        if 2 in chunk:
            raise RejectedError("poison")

    pace = Pace(1, patience=5.0)
    for _ in range(2):
        with pytest.raises(RejectedError):
            pace.send(batch, [1, 2], request)
    assert asked == [[1], [2], [1], [2]]


def test_after_timeouts_requests_grow_again() -> None:
    """One point, then two, ...: soon full requests; a slow answer keeps them as they are."""
    server = SlowServer(known=0.0)
    pace, hanging, batch = paced(server), True, [0]

    def request(chunk) -> None:
        if hanging:
            server.clock += server.patience
            raise RetryableError("timed out")
        server(chunk)

    for _ in range(20):
        with pytest.raises(RetryableError):
            pace.send(batch, range(3000), request)
    hanging = False
    pace.send(batch, range(3000), request)
    assert server.sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 977]
    server.new = 0.003  # 1.5 s for 500
    server.sizes.clear()
    pace = Pace(1000, patience=5.0, clock=lambda: server.clock)
    pace._size = 500
    pace.send([0], range(10_000, 12_000), server)
    assert server.sizes == [500, 500, 500, 500], "1.5 s is more than a quarter of what it may take"


def test_a_quick_refusal_says_nothing_of_the_size() -> None:
    """A server that asks for fewer requests (429), or is not there, gets whole batches afterwards."""
    server = SlowServer(known=0.0)
    pace, down, batch = paced(server), True, [0]

    def request(chunk) -> None:
        if down:
            raise RetryableError("too many requests")
        server(chunk)

    for _ in range(20):
        with pytest.raises(RetryableError):
            pace.send(batch, range(1500), request)
    down = False
    pace.send(batch, range(1500), request)
    assert server.sizes == [1000, 500]
