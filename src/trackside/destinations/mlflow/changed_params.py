"""Params that a run has with another value. MLflow does not change them, so they are told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trackside.names import MAX_TAG_VALUE_LENGTH
from trackside.tag_names import CHANGED_PARAMS_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.destinations.mlflow.claim import RunClaim
    from trackside.destinations.mlflow.connection import Connection

_MOST_NAMED = 10
"""Keys a notice names."""


class ChangedParams:
    """The values that a run was not given, in a tag on its page and in notices."""

    def __init__(self, connection: Connection, claim: RunClaim, *, notice: Callable[[str], None]) -> None:
        self._connection = connection
        self._claim = claim
        self._notice = notice
        self._values: dict[str, str] = {}

    def note(self, changed: Mapping[str, str]) -> None:
        """The run keeps other values of the params ``changed``."""
        new = {key: value for key, value in changed.items() if self._values.get(key) != value}
        if not new:
            return
        self._values.update(new)
        if self._claim.held:  # a secondary writer leaves the owner's tags alone
            text = json.dumps(self._values)[:MAX_TAG_VALUE_LENGTH]
            self._connection.for_run(self._connection.client.set_tag, CHANGED_PARAMS_TAG, text)
        keys = some_of(sorted(new))
        self._notice(f"params differ from those the run already has and were kept as they were: {keys}")


def some_of(keys: list[str]) -> str:
    """``keys`` for a notice, which names the first ones."""
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + more
