"""Which checkpoint Lightning's ``ModelCheckpoint`` has just saved.

The path and the step are private there. Without them the newest of its public paths is taken, without a step.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = -1.0


class SavedCheckpoint(NamedTuple):
    """A checkpoint, and what it was saved for."""

    path: str
    step: int | None
    metrics: Mapping[str, Any]


def saved_by(callback: Any) -> SavedCheckpoint | None:
    """The checkpoint that ``callback`` has just saved. None if it does not say."""
    path = str(getattr(callback, "_last_checkpoint_saved", "") or _newest(callback))
    if not path:
        return None
    monitor = getattr(callback, "monitor", None)
    score = (getattr(callback, "best_k_models", None) or {}).get(path)
    metrics = {monitor: score} if monitor and score is not None else {}
    return SavedCheckpoint(path, getattr(callback, "_last_global_step_saved", None), metrics)


def _newest(callback: Any) -> str:
    paths = [getattr(callback, name, "") for name in ("best_model_path", "last_model_path")]
    return max(filter(None, paths), key=_changed, default="")


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return _NEVER
