"""How the shipper's process ends when a thread in it does not.

A thread in a system call can't be stopped, and the interpreter's own end may wait for one: libraries join
their threads at exit. Everything that counts is on disk by then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading

PATIENCE = 20.0
"""Seconds the interpreter has for its own end."""


def end_in_any_case(code: int) -> None:
    """Have the process end with ``code`` within :data:`PATIENCE` seconds, whatever its threads do."""
    timer = threading.Timer(PATIENCE, end_now, [code])
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no thread to be had: then none is likely to hang either
        timer.start()


def end_now(code: int) -> None:
    """End the process, with what was logged written."""
    with contextlib.suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
