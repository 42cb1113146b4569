"""A destination that fails is told of once, in time, and once more when it works again."""

from __future__ import annotations

from trackside.shipper.trouble import MOST_TOLD, TELL_AFTER, Trouble


class Watched:
    """A trouble, its clock and what it told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.trouble = Trouble("MLflow", self.told.append, clock=lambda: self.now)

    def fail(self, seconds: float, *, quietly: bool = False) -> None:
        """Fail for so long, looked at every second."""
        for _ in range(int(seconds) + 1):
            self.trouble.note("connection refused", quietly=quietly)
            self.now += 1

    def work(self) -> None:
        """Work again."""
        self.trouble.note(None)
        self.now += 1


def test_an_outage_is_told_once_and_its_end_once() -> None:
    """With the reason, within a minute."""
    watched = Watched()
    watched.fail(TELL_AFTER * 10)
    assert len(watched.told) == 1
    assert "(connection refused)" in watched.told[0]
    assert TELL_AFTER < 60
    watched.work()
    watched.work()
    assert len(watched.told) == 2
    assert "works again" in watched.told[1]


def test_a_hiccup_is_not_told() -> None:
    """Nor is its end."""
    watched = Watched()
    for _ in range(5):
        watched.fail(TELL_AFTER / 2)
        watched.work()
    assert watched.told == []


def test_a_server_that_comes_and_goes_does_not_fill_the_log() -> None:
    """Some are told, and each with its end."""
    watched = Watched()
    for _ in range(3 * MOST_TOLD):
        watched.fail(TELL_AFTER * 2)
        watched.work()
    assert len(watched.told) == 2 * MOST_TOLD


def test_what_start_has_told_is_not_told_again() -> None:
    """Only that it works now."""
    watched = Watched()
    watched.fail(TELL_AFTER * 2, quietly=True)
    assert watched.told == []
    watched.work()
    assert len(watched.told) == 1
