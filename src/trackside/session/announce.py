"""What a user sees of a run without asking: a line as it starts and a line as it ends.

Where logging is set up, the line is an INFO record of the logger ``trackside``, and the program's settings
decide. Where it is not, the line goes to stderr, as logging's last resort does with a warning. To silence
it, set ``TRACKSIDE_QUIET=on`` or raise the level of the logger.

Invariant: announcing never raises, whatever stderr is.
"""

from __future__ import annotations

import contextlib
import logging
import sys

from trackside.text import printable

logger = logging.getLogger("trackside")


def announce(text: str) -> None:
    """Tell the user ``text``, of one line or several."""
    text = printable(text)
    if logger.hasHandlers():
        logger.info("%s", text)
    elif logger.level <= logging.INFO and not logger.disabled:
        with contextlib.suppress(Exception):  # stderr may be None, closed, or a full disk
            sys.stderr.write(f"trackside: {text}\n")
            sys.stderr.flush()
