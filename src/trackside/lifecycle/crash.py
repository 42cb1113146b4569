"""An exception that ends the program, or a part of it, as a lifecycle event."""

from __future__ import annotations

import signal
import traceback
from typing import TYPE_CHECKING, Any

from trackside.events import LifecycleEvent
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from types import TracebackType

    from trackside.events import FinalStatus, LifecycleKind

MAX_TRACEBACK = 200_000
MAX_MESSAGE = 4_000
"""Characters kept of a traceback and of an exception's message."""

MAX_CAUSES = 20
"""Links of a chain of causes that are followed: a chain may be a circle."""


def crash_event(
    kind: LifecycleKind,
    error_type: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
    *,
    expected: Expected = NOTHING_ELSE,
    status: FinalStatus | None = None,
    suffix: str = "",
) -> LifecycleEvent:
    """The event for an exception. Secrets are masked in its texts.

    ``status`` is what the exception means if ``expected`` does not know it. ``suffix`` goes behind its
    message.
    """
    text = "".join(traceback.format_exception(error_type, error, trace))
    return LifecycleEvent(
        kind,
        status=expected.status_of(error) or status,
        message=redact(text_of(error))[:MAX_MESSAGE] + suffix,
        signal=int(signal.SIGINT) if issubclass(error_type, KeyboardInterrupt) else None,
        error_type=error_type.__qualname__,
        traceback=redact(text)[-MAX_TRACEBACK:],
    )


def exit_cause(error: BaseException | None) -> BaseException | None:
    """The exception that a program turns into an exit code while it handles ``error``, or None.

    An interrupt that was explicitly raised again as something else (``raise Abort from interrupt``) is still
    the cause.
    """
    while isinstance(error, SystemExit):
        error = error.__cause__ or error.__context__
    if isinstance(error, GeneratorExit):
        return None
    cause = error
    for _ in range(MAX_CAUSES):
        if cause is None or isinstance(cause, KeyboardInterrupt):
            break
        cause = cause.__cause__
    return error if cause is None else cause


def code_and_text(status: Any) -> tuple[int, str | None]:
    """What the argument of ``sys.exit`` means: a code, or a text that goes with code 1."""
    if status is None:
        return 0, None
    if isinstance(status, int):
        return status & 0xFF, None
    return 1, text_of(status)[:MAX_MESSAGE]


def text_of(error: object) -> str:
    """The message of an exception, or of what was given to ``sys.exit``, even if its ``__str__`` raises."""
    try:
        return "" if error is None else str(error)
    except Exception as second:  # a broken __str__ of the user's
        return f"<no text: {type(second).__name__}>"
