"""When the shipper tries again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trackside.shipper.retry import DEFAULT, Policy, delay


def longest(_low: float, high: float) -> float:
    """The jitter's upper end."""
    return high


def shortest(low: float, _high: float) -> float:
    """The jitter's lower end."""
    return low


def test_the_ceiling_doubles_up_to_a_cap() -> None:
    """0.5, 1, 2 ... 30 s at most."""
    waits = [delay(attempt, uniform=longest) for attempt in range(1, 9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_the_jitter_is_full() -> None:
    """A thousand clients spread over the whole interval, its beginning included."""
    assert [delay(attempt, uniform=shortest) for attempt in (1, 5, 50)] == [0.0, 0.0, 0.0]


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_any_number_of_attempts_is_fine(attempt: int, luck: float) -> None:
    """A server that is away for weeks overflows nothing."""
    wait = delay(attempt, uniform=lambda low, high: low + luck * (high - low))
    assert 0 <= wait <= DEFAULT.cap


def test_the_servers_wish_is_a_lower_bound() -> None:
    """Retry-After is respected, and what the backoff asks beyond it too."""
    assert delay(1, uniform=longest, retry_after=7.0) == 7.0
    assert delay(6, uniform=longest, retry_after=7.0) == 16.0


def test_an_absurd_wish_is_cut() -> None:
    """A day of Retry-After would look like a dead run."""
    assert delay(1, uniform=longest, retry_after=86_400.0) == DEFAULT.retry_after_cap


def test_bad_credentials_are_tried_slowly() -> None:
    """Hammering a login locks accounts."""
    assert delay(1, uniform=shortest, slow=True) == DEFAULT.unauthorised_floor
    quick = Policy(unauthorised_floor=0.1)
    assert delay(1, uniform=shortest, slow=True, policy=quick) == 0.1
