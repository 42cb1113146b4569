"""The shipper's main loop survives what its steps raise.

Invariants:

* No step keeps the others from being taken: one that fails is logged, put off for a while, and tried again.
* A step that fails for longer than :data:`~trackside.shipper.trouble.TELL_AFTER` seconds is told in the
  training's log.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from trackside.shipper.sending import describe
from trackside.shipper.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("trackside.shipper")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds until a step is tried again: the first pause doubles with each failure."""

_T = TypeVar("_T")


@dataclass
class _Step:
    trouble: Trouble
    failures: int = 0
    due: float = 0.0
    error: str | None = field(default=None)


class Survival:
    """Takes the steps of a loop. ``notice`` tells the user."""

    def __init__(self, notice: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notice = notice
        self._clock = clock
        self._steps: dict[str, _Step] = {}

    def attempt(self, step: Callable[[], _T], otherwise: _T) -> _T:
        """Take ``step``. If it fails, or is put off because it did, the result is ``otherwise``."""
        known = self._steps.get(step.__name__)
        if known is not None and self._clock() < known.due:
            known.trouble.note(known.error)
            return otherwise
        try:
            result = step()
        except Exception as error:
            self._note(step.__name__, error)
            return otherwise
        if known is not None and known.failures:
            known.failures, known.error = 0, None
            known.trouble.note(None)
        return result

    def _note(self, name: str, error: Exception) -> None:
        known = self._steps.setdefault(name, _Step(self._trouble(name)))
        text = describe(error)
        logger.log(
            logging.ERROR if text != known.error else logging.DEBUG,
            "%s failed: %s",
            name,
            text,
            exc_info=error,
        )
        known.failures += 1
        known.error = text
        known.due = self._clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(known.failures - 1, 16))
        known.trouble.note(text)

    def _trouble(self, name: str) -> Trouble:
        return Trouble(
            f"the shipper ({name.strip('_')})",
            self._notice,
            clock=self._clock,
            fails="has met an unexpected error again and again",
            then="It keeps trying",
            mended="What was kept is being delivered",
        )
