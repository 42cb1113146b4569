"""What was logged as files since the last look, in a few words a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trackside.sinks.described import kind_of, place_of

if TYPE_CHECKING:
    from trackside.events import ArtifactEvent


class Recent(NamedTuple):
    """Some artifacts of one kind."""

    kind: str
    number: int
    place: str
    """Of the last one, as its step."""
    step: int | None


class RecentArtifacts:
    """Counts artifacts by kind, and remembers the last of each. It holds no images and no tables."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Recent] = {}

    def __bool__(self) -> bool:
        return bool(self._by_kind)

    def note(self, event: ArtifactEvent) -> None:
        """Count ``event``."""
        kind, step = kind_of(event), getattr(event, "step", None)
        before = self._by_kind.get(kind)
        number = 1 if before is None else before.number + 1
        self._by_kind[kind] = Recent(kind, number, place_of(event), step if isinstance(step, int) else None)

    def take(self) -> list[Recent]:
        """Return what came since the last call, in the order of the kinds' first ones."""
        taken, self._by_kind = self._by_kind, {}
        return list(taken.values())
