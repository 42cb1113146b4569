"""When to try again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trackside.errors import RetryableError, UnauthorisedError

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_DOUBLINGS = 16


@dataclass(frozen=True)
class Policy:
    """How patient a worker is. All in seconds."""

    base: float = 0.5
    """The most the first wait may be. It doubles from try to try."""

    cap: float = 30.0

    unauthorised_floor: float = 15.0
    """Only a person can mend credentials, and hammering a login locks accounts."""

    retry_after_cap: float = 600.0
    """A server's wish is followed so far. A day's worth of it would look like a run that is dead."""

    tries: int = 5
    """Failures in a row of one batch before the worker looks for the point in it that may cause them."""

    pairs: int = 8
    """Times in a row that a point has to fail while another is taken, before it counts as bad."""

    familiar_pairs: int = 3
    """The same, for a name of which a point was found to be bad before."""

    pair_cap: float = 4.0
    """Seconds: the longest wait between two such times."""


DEFAULT = Policy()


def delay(
    attempt: int,
    *,
    uniform: Callable[[float, float], float],
    retry_after: float | None = None,
    slow: bool = False,
    policy: Policy = DEFAULT,
) -> float:
    """Seconds to wait before try ``attempt + 1`` (``attempt`` counts from 1).

    Exponential with full jitter, which spreads a thousand clients of a server that came back over the
    whole interval. The server's own wish is a lower bound. ``slow`` sets another.
    """
    ceiling = min(policy.cap, policy.base * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    wait = uniform(0.0, ceiling)
    if slow:
        wait = max(wait, policy.unauthorised_floor)
    if retry_after is not None:
        wait = max(wait, min(retry_after, policy.retry_after_cap))
    return wait


def delay_after(
    error: BaseException | None,
    attempt: int,
    *,
    uniform: Callable[[float, float], float],
    others_work: bool = False,
    policy: Policy = DEFAULT,
) -> float:
    """Seconds to wait after ``error``, with which try ``attempt`` has failed.

    ``others_work``: other requests are taken meanwhile, so it is not the login that is refused.
    """
    return delay(
        attempt,
        uniform=uniform,
        retry_after=error.retry_after if isinstance(error, RetryableError) else None,
        slow=isinstance(error, UnauthorisedError) and not others_work,
        policy=policy,
    )
