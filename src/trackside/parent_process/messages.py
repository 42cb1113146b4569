"""What the parent process tells the user, on stderr."""

from __future__ import annotations

import contextlib
import os
import signal


def say(text: str) -> None:
    """Write a line to stderr. In the background of a terminal, too, without being stopped for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):
            os.write(2, f"trackside: {text}\n".encode(errors="backslashreplace"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def printable(text: str) -> str:
    """``text`` without what a terminal would act on."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def is_quiet() -> bool:
    """Whether the user wants no message about what goes well."""
    return os.environ.get("TRACKSIDE_QUIET", "").strip().lower() in {"on", "true", "yes", "1"}
