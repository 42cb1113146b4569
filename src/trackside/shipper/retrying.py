"""Calls into a destination, repeated until they work, with pauses that a stop or a nudge cuts short.

Invariants:

* A transient error is retried for ever. :class:`~trackside.errors.RejectedError` and
  :class:`~trackside.errors.DestinationFailedError` pass through.
* Whether the destination fails now, and with what, can be asked at any time, by any thread.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.errors import GoneError, RetryableError, UnauthorisedError
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.protocols import Destination

logger = logging.getLogger("trackside.shipper")

POLL = 0.25
"""Seconds between two looks at a quiet journal. Small samples are collected for so long, too."""

_LONGEST_CAUSE = 2000


class Stopped(Exception):  # noqa: N818 - no error: the way out of a wait
    """The shipper is asked to leave before the work is done."""


class Doubtful(Exception):  # noqa: N818 - no error of ours: the way out of retrying one batch
    """A batch fails, and the destination accepts other writes."""


class RetryingCalls:
    """Makes the calls of one worker into ``destination``."""

    def __init__(
        self,
        destination: Destination,
        *,
        policy: retry.Policy = retry.DEFAULT,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.policy = policy
        self.uniform = uniform
        self.once = Calls(destination)
        """Makes a call once. Raises :class:`~trackside.errors.DeliveryError` or ``OSError``."""
        self.wake = threading.Event()
        """Cuts a wait short, unless the server has asked for it."""
        self.error: str | None = None
        """What the destination failed with last. None since it worked."""
        self.gone = False
        """Whether it fails because what it delivers to was removed."""
        self._name = destination.name
        self._stop_asked = threading.Event()
        self._retry_asked = False

    @property
    def failing(self) -> str | None:
        """What it fails with now. None while it works. A call past its deadline fails, too."""
        return self.once.overdue or self.error

    @property
    def silent_for(self) -> float:
        """Seconds since the destination last answered. 0 while nothing is asked of it."""
        return self.once.silent_for

    def stop(self) -> None:
        """Have the next call or wait raise :class:`Stopped`."""
        self._stop_asked.set()
        self.wake.set()

    def retry_now(self) -> None:
        """Cut a wait after a failure short, because its cause may be gone."""
        self._retry_asked = True
        self.wake.set()

    def until_done(
        self, call: Callable[..., Any], *arguments: Any, give_up: Callable[[int], bool] | None = None
    ) -> Any:
        """Call until it works, and return the result.

        Raises :class:`Doubtful` when ``give_up`` says so, asked with the number of failures so far.
        """
        attempt = 0
        while True:
            self.check_stop()
            try:
                result = self.once(call, *arguments)
            except (RetryableError, OSError) as error:  # OSError: our own disk, full for a while
                attempt += 1
                if give_up is not None and give_up(attempt):
                    raise Doubtful from error
                self.wait_out(error, attempt)
            else:
                self.error, self.gone = None, False
                return result

    def note_failure(self, error: RetryableError | OSError, attempt: int) -> float:
        """Have it show that it fails. Returns the seconds to wait until the next try."""
        wait = retry.delay(
            attempt,
            uniform=self.uniform,
            retry_after=error.retry_after if isinstance(error, RetryableError) else None,
            slow=isinstance(error, UnauthorisedError),
            policy=self.policy,
        )
        self.tell_failure(error, wait)
        return wait

    def tell_failure(self, error: RetryableError | OSError, wait: float) -> None:
        """Log ``error``, and have it show."""
        logger.warning("%s: %s; again in %.1f s", self._name, error, wait)
        text = redact(str(error))
        if self.error != text and error.__cause__ is not None:
            cause = redact(str(error.__cause__))  # before it is cut: half a secret is not found
            logger.info("%s: in full: %s", self._name, cause[:_LONGEST_CAUSE])
        self.error = text
        self.gone = isinstance(error, GoneError)

    def wait_out(self, error: RetryableError | OSError, attempt: int) -> None:
        """Wait after the failure number ``attempt``."""
        wait = self.note_failure(error, attempt)
        wished = isinstance(error, RetryableError) and error.retry_after is not None
        self.wait(wait, whatever_comes=wished or isinstance(error, UnauthorisedError))

    def wait(self, seconds: float, *, whatever_comes: bool = False) -> None:
        """Wait. A nudge cuts it short, unless ``whatever_comes``.

        :meth:`stop` and :meth:`retry_now` cut either short.
        """
        if whatever_comes:
            until = time.monotonic() + seconds
            while not self._retry_asked and (left := until - time.monotonic()) > 0:
                if self._stop_asked.wait(min(left, POLL)):
                    break
            self._retry_asked = False
        else:
            self.wake.wait(seconds)
            self.wake.clear()
        self.check_stop()

    def check_stop(self) -> None:
        """Raise :class:`Stopped` if :meth:`stop` was called."""
        if self._stop_asked.is_set():
            raise Stopped
