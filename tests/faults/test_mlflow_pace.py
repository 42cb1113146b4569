"""What a server is asked at once: smaller requests for a slow one, one at a time for one that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trackside.destinations.mlflow.metrics import ConcurrentSender
from trackside.destinations.mlflow.pace import WELL_ENOUGH, Pace
from trackside.errors import RejectedError, RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def deliver(sender: ConcurrentSender, points: range) -> int:
    """As the worker does: again and again, until it works. How often it did not."""
    for failed in range(100):
        try:
            send(sender, points)
        except RetryableError:
            continue
        return failed
    raise AssertionError("it never got through")


def paced(server: SlowServer, request=None) -> ConcurrentSender:
    """One request at a time to that server."""
    pace = Pace(1000, patience=server.patience)
    return numbered(pace, request or server, clock=lambda: server.clock)


def numbered(pace: Pace, request, **more) -> ConcurrentSender:
    """Whose points are numbers to ``request``."""
    return ConcurrentSender(pace, lambda chunk: request([point[3] for point in chunk]), **more)


def send(sender: ConcurrentSender, numbers: Iterable[int]) -> None:
    """Send numbers as points."""
    sender.send([("loss", 0.5, 1, number) for number in numbers])


def test_a_quick_server_gets_full_requests() -> None:
    """Nothing is asked twice, and the last request has the rest."""
    server = SlowServer(known=0.0)
    assert deliver(paced(server), range(2500)) == 0
    assert server.sizes == [1000, 1000, 500]


@pytest.mark.parametrize("known", [0.007, 0.05, 1.0, 4.0])
def test_a_batch_that_is_there_already_gets_through(known: float) -> None:
    """Looking up what it has takes the server longer than a whole batch may: smaller requests fit."""
    server = SlowServer(known=known)
    server.points = set(range(1000))
    failed = deliver(paced(server), range(1000))
    assert 0 < failed < 12
    assert server.points == set(range(1000))


def test_what_was_taken_is_not_sent_again() -> None:
    """A batch continues where it stopped. Once it is through, the same points are another matter."""
    asked: list[list[int]] = []

    def request(chunk) -> None:
        asked.append(list(chunk))
        if len(asked) == 2:
            raise RetryableError("cut")

    sender = numbered(Pace(2, patience=5.0), request)
    with pytest.raises(RetryableError):
        send(sender, [1, 2, 3, 4])
    send(sender, [1, 2, 3, 4])
    assert asked == [[1, 2], [3, 4], [3, 4]]
    send(sender, [1, 2])
    assert asked[3:] == [[1, 2]], "that one was finished"


def test_the_halves_of_a_rejected_batch_leave_out_what_was_taken() -> None:
    """The worker sends them down to the one at fault, which is judged by itself."""
    asked: list[list[int]] = []

    def request(chunk) -> None:
        asked.append(list(chunk))
        if 3 in chunk:
            raise RejectedError("poison")

    sender = numbered(Pace(2, patience=5.0), request)
    for half in ([1, 2, 3, 4], [3, 4], [3]):
        with pytest.raises(RejectedError):
            send(sender, half)
    send(sender, [4])
    send(sender, [1, 2])
    assert asked == [[1, 2], [3, 4], [3, 4], [3], [4]]
    assert sender._accepted == set(), "the batch is done with, and nothing of it is remembered"


def test_after_timeouts_requests_grow_again() -> None:
    """One point, then two, ...: soon full requests. A slow answer keeps them as they are."""
    server = SlowServer(known=0.0)
    hanging = True

    def request(chunk) -> None:
        if hanging:
            server.clock += server.patience
            raise RetryableError("timed out")
        server(chunk)

    sender = paced(server, request)
    for _ in range(20):
        with pytest.raises(RetryableError):
            send(sender, range(3000))
    hanging = False
    send(sender, range(3000))
    assert server.sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 977]
    server.new = 0.003  # 1.5 s for 500
    server.sizes.clear()
    sender = paced(server)
    sender.pace.size = 500
    send(sender, range(10_000, 12_000))
    assert server.sizes == [500, 500, 500, 500], "1.5 s is more than a quarter of what it may take"


def test_a_quick_refusal_says_nothing_of_the_size() -> None:
    """A server that asks for fewer requests (429), or is not there, gets whole batches afterwards."""
    server = SlowServer(known=0.0)
    down = True

    def request(chunk) -> None:
        if down:
            raise RetryableError("too many requests")
        server(chunk)

    sender = paced(server, request)
    for _ in range(20):
        with pytest.raises(RetryableError):
            send(sender, range(1500))
    down = False
    send(sender, range(1500))
    assert server.sizes == [1000, 500]


@pytest.mark.parametrize("trouble", ["refused", "timed out", "slow"])
def test_trouble_means_one_at_a_time(trouble: str) -> None:
    """And batches of a single request, so that heartbeats come in between. More again after a while."""
    pace = Pace(1000, patience=20.0, at_once=3)
    assert (pace.at_once, pace.batch_points) == (3, 6000)
    if trouble == "slow":
        pace.went_well(5.0)
    else:
        pace.failed(1000, 20.0 if trouble == "timed out" else 0.01)
    assert (pace.at_once, pace.batch_points) == (1, 1000)
    for wanted in (2, 3, 3):
        for _ in range(WELL_ENOUGH - 1):
            pace.went_well(0.1)
        assert pace.at_once < wanted or wanted == 3
        pace.went_well(0.1)
        assert pace.at_once == wanted


def test_a_failure_in_between_starts_the_count_again() -> None:
    """A server that takes half of what it gets is not asked for more."""
    pace = Pace(1000, patience=20.0, at_once=3)
    for _ in range(10):
        pace.failed(1000, 0.01)
        for _ in range(WELL_ENOUGH - 1):
            pace.went_well(0.1)
        assert pace.at_once == 1
