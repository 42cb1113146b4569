"""Which sinks this rank attaches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.transform import Transform

if TYPE_CHECKING:
    from trackside.protocols import AnySink

logger = logging.getLogger("trackside.session")


class SinkPlan(NamedTuple):
    """The sinks to attach. Those that were ``made`` here are for the run to close."""

    sinks: tuple[AnySink, ...]
    made: tuple[AnySink, ...]

    def close_made(self) -> None:
        """The start failed: free the ports and files that sinks took."""
        close_sinks(self.made)


def close_sinks(sinks: Iterable[AnySink]) -> None:
    """Close those that can be closed. Log each that fails, and close the others."""
    for sink in sinks:
        close = getattr(sink, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                logger.exception("closing sink %r failed", sink, extra={"trackside_sink": sink})


def plan_sinks(given: Iterable[object], rank: int, also: Iterable[object] = ()) -> SinkPlan:
    """Make sinks of the names and mappings in ``given``, and leave out those of other ranks.

    ``also``: what the environment names beside them. An equal entry counts once.
    A sink is attached on rank 0, or on the ranks its transform names. Raises :class:`ConfigurationError` on
    every rank for an unknown name or option and a missing extra. ``TypeError`` for anything but a list.
    """
    if isinstance(given, (str, Mapping)):
        given = (given,)
    sinks: list[AnySink] = []
    plan = SinkPlan((), ())
    try:
        wanted = _checked(given)
        for one in (*wanted, *(other for other in also if other not in wanted)):
            described = isinstance(one, (str, Mapping))
            if described:
                from trackside.sinks.registry import make_sink

                one = make_sink(one, rank)  # noqa: PLW2901 - the sink in place of its description
            if one is not None and (described or _wants_rank(one, rank)):
                sinks.append(one)
                plan = SinkPlan((*sinks,), (*plan.made, *([one] if described else [])))
    except BaseException:
        plan.close_made()
        raise
    return plan


def _checked(sinks: Iterable[Any]) -> tuple[Any, ...]:
    """``sinks`` as a tuple. Raises ``TypeError`` for a single sink, whose parentheses were forgotten."""
    try:
        return tuple(sinks)
    except TypeError as error:
        raise TypeError(f"sinks must be several, such as (sink,), not {type(sinks).__name__}") from error


def _wants_rank(sink: Any, rank: int) -> bool:
    transform = getattr(sink, "transform", None)
    return (transform if isinstance(transform, Transform) else Transform()).wants_rank(rank)
