"""When to try again. Pure."""

from __future__ import annotations

from collections.abc import Callable

BASE = 0.5
CAP = 30.0
UNAUTHORISED_FLOOR = 15.0
"""Seconds. Only a person can mend credentials, and hammering a login locks accounts."""


def delay(
    attempt: int,
    *,
    uniform: Callable[[float, float], float],
    retry_after: float | None = None,
    slow: bool = False,
) -> float:
    """Seconds to wait before try ``attempt + 1`` (``attempt`` counts from 1).

    Exponential with full jitter, which spreads a thousand clients of a server that came back over the
    whole interval. The server's own wish is a lower bound; ``slow`` sets another.
    """
    ceiling = min(CAP, BASE * 2.0 ** min(attempt - 1, 16))
    wait = uniform(0.0, ceiling)
    if slow:
        wait = max(wait, UNAUTHORISED_FLOOR)
    if retry_after is not None:
        wait = max(wait, retry_after)
    return wait
