"""The clock that the training process decides by: what is due, and how long a wait lasts.

Invariant: nothing here depends on the time of day, which may be set back an hour, nor on the timestamps
of events, which may be replayed. A library that freezes the time for a test replaces ``time.monotonic`` as
well (freezegun does), and then a wait by that clock never ends. :data:`steady` asks the system.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

steady: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
"""Seconds since some moment. It only runs forward, and nothing sets or replaces it."""
