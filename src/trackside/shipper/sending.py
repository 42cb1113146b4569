"""Sends to one destination: calls made until they work, and batches of metrics down to the bad point.

Invariants:

* A transient error is retried for ever. :class:`~trackside.errors.RejectedError` and
  :class:`~trackside.errors.DestinationFailedError` pass through. An unexpected error becomes a
  :class:`~trackside.errors.RetryableError`: it is retried and told, never fatal.
* A lasting refusal bisects the batch down to the single point that causes it. That point goes to the
  dead-letter file and is counted. Nothing else is held up by it. A point that fails every time while others
  are accepted counts as lasting (:mod:`trackside.shipper.search`).
* Another thread can ask at any time whether the destination fails now, with what, and for how long it has
  been silent. A thread in a system call can't be stopped, so a call that takes too long is reported as a
  failure, and the shipper leaves without it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.errors import (
    DeliveryError,
    GoneError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
)
from trackside.protocols import Probing
from trackside.redaction.redact import redact
from trackside.shipper import retry
from trackside.shipper.rhythm import POLL
from trackside.shipper.search import Comparison, Search, halves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.journal.format import MetricsRecord, TextsRecord
    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile

logger = logging.getLogger("trackside.shipper")

DEADLINE = 35.0
"""Seconds without an answer after which a call counts as failing. MLflow's requests give up after 30."""

_LONGEST_CAUSE = 2000

_WELL_ENOUGH = 8
"""Batches in a row that have to go well before they may be twice as large."""


class Stopped(Exception):  # noqa: N818 - no error: the way out of a wait
    """The shipper is asked to leave before the work is done."""


class Doubtful(Exception):  # noqa: N818 - no error of ours: the way out of retrying one batch
    """A batch fails, and the destination accepts other writes."""


class Calls:
    """Makes the calls of one worker into ``destination``. For one caller at a time. Any thread may ask."""

    def __init__(
        self,
        destination: Destination,
        *,
        policy: retry.Policy = retry.DEFAULT,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self.uniform = uniform
        self.wake = threading.Event()
        """Cuts a wait short, unless the server has asked for it."""
        self.error: str | None = None
        """What the destination failed with last. None since it worked."""
        self.waits = False
        """Whether :attr:`error` is no fault, and something else comes first."""
        self.gone = False
        """Whether it fails because what it delivers to was removed."""
        self.took = 0.0
        """Seconds that the last call took."""
        self._destination = destination
        self._clock = clock
        self._current: tuple[str, float] | None = None
        self._last_unforeseen = ""
        self._stop_asked = threading.Event()
        self._retry_asked = False

    # For any thread

    @property
    def failing(self) -> str | None:
        """What it fails with now. None while it works. A call past its deadline fails, too."""
        current = self._current
        if current is not None and self.silent_for >= DEADLINE:
            return f"no answer for more than {DEADLINE:.0f} s (in {current[0]})"
        return self.error

    @property
    def silent_for(self) -> float:
        """Seconds since the current call began or, if it makes several requests, since the last answer.

        0 while nothing is asked of the destination.
        """
        current = self._current
        return 0.0 if current is None else self._clock() - max(current[1], self._destination.answered_at)

    def stop(self) -> None:
        """Have the next call or wait raise :class:`Stopped`."""
        self._stop_asked.set()
        self.wake.set()

    def retry_now(self) -> None:
        """Cut a wait after a failure short, because its cause may be gone."""
        self._retry_asked = True
        self.wake.set()

    # Calls

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function``. Raises :class:`~trackside.errors.DeliveryError` or ``OSError`` only."""
        begun = self._clock()
        self._current = getattr(function, "__name__", "a call"), begun
        try:
            return function(*arguments)
        except (DeliveryError, OSError):
            raise
        except BaseException as error:  # SystemExit, too: a destination does not end the worker
            raise RetryableError(self.note_unforeseen(error)) from error
        finally:
            self._current, self.took = None, self._clock() - begun

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

    def reject(self, rejects: RejectedFile, record: MetricsRecord | TextsRecord, error: Exception) -> None:
        """Put ``record`` into the dead-letter file, however long the disk is full."""
        logger.warning("%s: rejected: %s", self._destination.name, str(error)[:300])
        self.until_done(rejects.add, record, str(error))

    # Failures

    def note_unforeseen(self, error: BaseException) -> str:
        """Log where ``error`` comes from, once, and return what to say of it."""
        text = describe(error)
        if text != self._last_unforeseen:
            self._last_unforeseen = text
            logger.error("an unexpected error: %s", text, exc_info=error)
        return f"an unexpected error: {text}"

    def note_failure(self, error: RetryableError | OSError, attempt: int) -> float:
        """Have it show that it fails. Returns the seconds to wait until the next try."""
        wait = retry.delay_after(error, attempt, uniform=self.uniform, policy=self.policy)
        self.tell_failure(error, wait)
        return wait

    def tell_failure(self, error: RetryableError | OSError, wait: float) -> None:
        """Log ``error``, and have it show."""
        name, text = self._destination.name, redact(str(error))
        logger.warning("%s: %s. Next try in %.1f s", name, error, wait)
        if self.error != text and error.__cause__ is not None:
            cause = redact(str(error.__cause__))  # before it is cut: half a secret is not found
            logger.info("%s: in full: %s", name, cause[:_LONGEST_CAUSE])
        self.error = text
        self.gone = isinstance(error, GoneError)
        self.waits = isinstance(error, RetryableError) and error.waits

    # Waits

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


class MetricsDelivery:
    """Sends metrics to ``destination``. ``comparison``: None where the destination can't be probed."""

    def __init__(
        self,
        destination: Destination,
        calls: Calls,
        rejects: RejectedFile,
        comparison: Comparison | None,
    ) -> None:
        self._destination = destination
        self._calls = calls
        self._rejects = rejects
        self._comparison = comparison
        self._limit = BatchLimit()
        self.shipped = self.rejected = 0
        """Points since the last :meth:`begin`."""
        self.took = 0.0
        """Seconds that the last batch took which was accepted as a whole."""

    @property
    def batch_points(self) -> int:
        """How many points the next batch should hold."""
        return self._limit.of(self._destination.batch_points)

    def begin(self) -> None:
        """Count from here."""
        self.shipped = self.rejected = 0

    def send(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver ``batch``. Of a rejected one, deliver the halves, down to the point that is at fault."""
        if not batch:
            return
        try:
            self._calls.until_done(self._destination.write_metrics, batch, give_up=self._is_doubtful)
        except Doubtful:
            self._search(batch)
        except RejectedError as error:
            parts = halves(batch)
            if not parts:
                self._reject_point(batch[0], error)
            for part in parts:
                self.send(part)
        else:
            self.took = self._calls.took
            self._count_shipped(batch)
            self._limit.went_well()

    def _is_doubtful(self, attempt: int) -> bool:
        """Whether to look for a bad point: the batch failed ``attempt`` times, and other writes work."""
        comparison = self._comparison
        if comparison is None:
            return False
        tries = 1 if comparison.suspects or self._limit.is_set else self._calls.policy.tries
        return attempt >= tries and comparison.succeeds(strict=False)

    def _search(self, batch: Sequence[MetricsRecord]) -> None:
        assert self._comparison is not None  # noqa: S101 - else there is no doubt
        search = Search(
            batch,
            self._comparison,
            send=self._send_part,
            keep=self._reject_point,
            policy=self._calls.policy,
            uniform=self._calls.uniform,
        )
        logger.warning("%s: a batch fails, and other writes work: searching it", self._destination.name)
        while search.parts:
            wait = search.round()
            self._calls.error = redact(str(search.error)) if search.failing else None
            if search.parts:
                self._calls.wait(wait, whatever_comes=True)
        self._calls.error = None
        if not search.found and search.largest:
            self._limit.narrow(search.largest)

    def _send_part(self, batch: list[MetricsRecord]) -> None:
        self._calls.check_stop()
        try:
            self._calls.once(self._destination.write_metrics, batch)
        except OSError as error:
            raise RetryableError(str(error)) from error
        self._count_shipped(batch)

    def _count_shipped(self, batch: Sequence[MetricsRecord]) -> None:
        self.shipped += sum(record.points for record in batch)
        if self._comparison is not None:
            self._comparison.remember(batch)

    def _reject_point(self, record: MetricsRecord, error: DeliveryError) -> None:
        self._calls.reject(self._rejects, record, error)
        self.rejected += record.points


class BatchLimit:
    """The size of batches for a destination that fails at large ones and accepts smaller ones. Pure."""

    def __init__(self) -> None:
        self._points: int | None = None
        self._went_well = 0

    @property
    def is_set(self) -> bool:
        """Whether the destination failed at a batch for its size lately."""
        return self._points is not None

    def of(self, wanted: int) -> int:
        """``wanted`` points, or as many as the limit lets a batch have."""
        if self._points is None or self._points >= wanted:
            self._points = None
            return wanted
        return self._points

    def narrow(self, points: int) -> None:
        """A part of ``points`` points was taken. The batch it belongs to was not."""
        self._points = max(1, points)
        self._went_well = 0

    def went_well(self) -> None:
        """A batch was taken at once."""
        self._went_well += 1
        if self._points is not None and self._went_well >= _WELL_ENOUGH:
            self._points *= 2
            self._went_well = 0


def comparison_with(destination: Destination, calls: Calls) -> Comparison | None:
    """What to compare failures of ``destination`` with. None if it can't be probed."""
    if not isinstance(destination, Probing):
        return None
    return Comparison(lambda known: calls.once(destination.probe, known))


def describe(error: BaseException) -> str:
    """The type and text of ``error``, without secrets. Its text may be broken, too."""
    try:
        text = str(error)
    except Exception:
        text = "its text can't be read"
    return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__)
