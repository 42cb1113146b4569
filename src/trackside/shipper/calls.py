"""The calls into a destination: whatever one raises has a meaning, and how long one takes is known.

Invariants:

* A call raises a :class:`~trackside.errors.DeliveryError` or an ``OSError``, and nothing else. An unexpected
  error becomes a :class:`~trackside.errors.RetryableError`: it is retried and told, never fatal.
* Another thread can ask at any time for how long the destination has been silent. A thread in a system call
  can't be stopped, so a call that takes too long is reported as a failure, and the shipper leaves without it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from trackside.errors import DeliveryError, RetryableError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.protocols import Destination

logger = logging.getLogger("trackside.shipper")

DEADLINE = 35.0
"""Seconds without an answer after which a call counts as failing. MLflow's requests give up after 30."""


class Calls:
    """Makes the calls of one worker into ``destination``. For one caller at a time. Any thread may ask."""

    def __init__(self, destination: Destination, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._destination = destination
        self._clock = clock
        self._current: tuple[str, float] | None = None
        self._last_unforeseen = ""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``. Raises only what the invariants say."""
        self._current = getattr(function, "__name__", "a call"), self._clock()
        try:
            return function(*arguments)
        except (DeliveryError, OSError):
            raise
        except BaseException as error:  # SystemExit, too: a destination does not end the worker
            raise RetryableError(self.note_unforeseen(error)) from error
        finally:
            self._current = None

    def note_unforeseen(self, error: BaseException) -> str:
        """Log where ``error`` comes from, once, and return what to say of it."""
        text = describe(error)
        if text != self._last_unforeseen:
            self._last_unforeseen = text
            logger.error("an unexpected error: %s", text, exc_info=error)
        return f"an unexpected error: {text}"

    @property
    def silent_for(self) -> float:
        """Seconds since the current call began or, if it makes several requests, since the last answer."""
        current = self._current
        if current is None:
            return 0.0
        return self._clock() - max(current[1], self._destination.answered_at)

    @property
    def overdue(self) -> str | None:
        """What to say of a call that has passed its deadline. None while there is no such call."""
        current = self._current
        if current is None or self.silent_for < DEADLINE:
            return None
        return f"no answer for more than {DEADLINE:.0f} s (in {current[0]})"


def describe(error: BaseException) -> str:
    """The type and text of ``error``, without secrets. Its text may be broken, too."""
    try:
        text = str(error)
    except Exception:
        text = "its text can't be read"
    return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__)
