"""Which sinks ``start()`` was given, on this rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trackside.plan import checked_sinks
from trackside.shaping import Shaping


def plan_sinks(given: Iterable[Any], rank: int) -> tuple[Any, ...]:
    """``given`` with names and mappings made into sinks, without those that this rank is not to have.

    A sink is attached on rank 0, or on the ranks its shape names. Raises :class:`ConfigurationError` for an
    unknown name or option and a missing extra, ``TypeError`` for what can be no list of sinks.
    """
    if isinstance(given, (str, Mapping)):
        given = (given,)
    made = (_made(one) for one in checked_sinks(given))
    return tuple(sink for sink in made if _wants_rank(sink, rank))


def _made(one: Any) -> Any:
    if not isinstance(one, (str, Mapping)):
        return one
    from trackside.sinks.registry import make_sink

    return make_sink(one)


def _wants_rank(sink: Any, rank: int) -> bool:
    shaping = getattr(sink, "shaping", None)
    if not isinstance(shaping, Shaping):
        shaping = Shaping()
    return shaping.wants_rank(rank)
