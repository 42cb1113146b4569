"""A destination's state as the cursor keeps it: with the version of its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.errors import DestinationFailedError

if TYPE_CHECKING:
    from trackside.protocols import Destination

_VERSION = "version"


def state_of(destination: Destination) -> dict[str, Any] | None:
    """What to keep with the cursor. None if ``destination`` has no state."""
    state = destination.state()
    return None if state is None else {_VERSION: destination.state_version, **state}


def restore_state(destination: Destination, kept: dict[str, Any]) -> None:
    """Return ``destination`` to ``kept``, which :func:`state_of` made.

    Raises :class:`DestinationFailedError` if that was another version.
    """
    state = dict(kept)
    version = state.pop(_VERSION, None)
    if version != destination.state_version:
        raise DestinationFailedError(
            f"the state of {destination.name} is of version {version}, and this program reads version "
            f"{destination.state_version}. Deliver the journal with the program that wrote it"
        )
    destination.restore(state)
