"""What the destination knows of its run, kept with the cursor.

Invariant: it is saved before the next request that relies on it. A shipper that is killed in between and its
successor do the same thing twice, and not two different things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal.meta import RunInfo

if TYPE_CHECKING:
    from collections.abc import Callable


class RunState(msgspec.Struct):
    """What a restarted shipper has to know of the run."""

    journal: str
    """The id of the journal that is delivered. The state of another one is of no use here."""
    run: RunInfo | None = None
    status: str | None = None
    """The status that MLflow was told last."""
    ownership: str = ""
    """As :attr:`trackside.journal.meta.State.ownership`."""
    attempt: int = 1
    """Which attempt of the run this is. Known once a resumed run is found."""
    earlier_attempt: str | None = None
    """The journal of the attempt before, once what it said is kept."""
    earlier: dict[str, int] = {}
    """Points of the attempts before, by what became of them."""


_PUBLISHED = ("run", "ownership")


class RunRecord:
    """The state of one destination, and the ways to tell of it.

    ``save()`` keeps the state with the cursor. ``publish(**changes)`` tells the trainer, and ``notice`` tells
    the user something.
    """

    def __init__(
        self,
        journal_id: str,
        *,
        save: Callable[[], None],
        publish: Callable[..., object],
        notice: Callable[[str], None],
    ) -> None:
        self.state = RunState(journal_id)
        self.notice = notice
        self._save = save
        self._publish = publish

    def update(self, **changes: Any) -> None:
        """Change fields of the state, save it, and publish them."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        self._save()
        if any(name in _PUBLISHED for name in changes):
            self.publish()

    def publish(self) -> None:
        """Tell the trainer what it wants to know, as a sign of life, too, for those who can't look us up."""
        self._publish(**{name: getattr(self.state, name) for name in _PUBLISHED})

    def to_dict(self) -> dict[str, Any]:
        """The state, for the cursor."""
        found: dict[str, Any] = msgspec.to_builtins(self.state)
        return found

    def restore(self, kept: dict[str, Any]) -> None:
        """Continue from ``kept``, unless it is about another journal."""
        state = msgspec.convert(kept, RunState)
        if state.journal == self.state.journal:
            self.state = state
