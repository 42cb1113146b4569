"""The handler of the logger ``trackside``: silent where your program has set up logging, and only there.

A library's logger has a ``NullHandler``, so that the program decides what is shown. But Python's last resort,
which writes warnings to stderr in a program that has never set up logging, does nothing once a logger has a
handler. A warning of ours may be the only word on metrics that are lost, so this handler passes it on.
"""

from __future__ import annotations

import logging


class LastResort(logging.NullHandler):
    """A ``NullHandler`` that leaves Python's last resort as it is."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Show ``record`` as Python would without this handler."""
        fallback = logging.lastResort
        if fallback is not None and record.levelno >= fallback.level and not has_handlers(record.name):
            fallback.handle(record)
        return True


def has_handlers(name: str) -> bool:
    """Whether the program has set up logging for the logger ``name``."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, LastResort) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def add_to(logger: logging.Logger) -> None:
    """Add the handler, unless ``logger`` has it already."""
    if not any(isinstance(handler, LastResort) for handler in logger.handlers):
        logger.addHandler(LastResort())
