"""An exception nobody caught, as the lifecycle event that tells of it."""

from __future__ import annotations

import signal
import traceback
from typing import TYPE_CHECKING, Any

from trackside.events import LifecycleEvent
from trackside.masking import mask_uri

if TYPE_CHECKING:
    from types import TracebackType

MAX_TRACEBACK = 200_000
MAX_MESSAGE = 4_000
"""Characters kept of a traceback and of an exception's message."""


def crash_event(
    kind: Any,
    error_type: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
) -> LifecycleEvent:
    """The event for an exception; credentials in addresses are masked in its texts."""
    text = "".join(traceback.format_exception(error_type, error, trace))
    return LifecycleEvent(
        kind,
        message=mask_uri(text_of(error))[:MAX_MESSAGE],
        signal=int(signal.SIGINT) if issubclass(error_type, KeyboardInterrupt) else None,
        error_type=error_type.__qualname__,
        traceback=mask_uri(text)[-MAX_TRACEBACK:],
    )


def text_of(error: object) -> str:
    """The message of an exception, or of what was given to ``sys.exit``, even if its ``__str__`` raises."""
    try:
        return "" if error is None else str(error)
    except Exception as second:  # a broken __str__ of the user's
        return f"<no text: {type(second).__name__}>"
