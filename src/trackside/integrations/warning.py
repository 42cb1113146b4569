"""Warnings of the integrations: a training loop meets the same fault at every step.

Invariant: what an exception of a framework or of the user's code says passes :func:`redact`.
"""

from __future__ import annotations

import logging

from trackside.redaction.redact import redact
from trackside.system.once import Once

logger = logging.getLogger("trackside.integrations")

_told = Once()


def warn_once(text: str) -> None:
    """Log a warning, once in the life of the process."""
    if _told.is_first(text):
        logger.warning("%s (logged once)", redact(text))
