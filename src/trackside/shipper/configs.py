"""Delivers configurations, so that they never hold up metrics.

Invariants:

* A configuration never holds up metrics. The cursor passes it once it is kept here, on disk, and the worker
  sends it between two batches, with waits of its own.
* A configuration that fails while the destination takes other writes is tried a limited number of times.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import msgspec

from trackside.errors import RejectedError, RetryableError
from trackside.journal.files import write_even_when_full
from trackside.journal.format import ConfigRecord
from trackside.journal.opening import MAX_TEXT, read_file
from trackside.shipper import retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile
    from trackside.shipper.search import Comparison
    from trackside.shipper.sending import Calls


logger = logging.getLogger("trackside.shipper")


class WaitingConfigs:
    """The configurations that wait, oldest first, kept in the directory ``journal``."""

    def __init__(
        self,
        journal: Path,
        destination: str,
        *,
        policy: retry.Policy,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._path = _path(journal, destination)
        self._policy = policy
        self._uniform = uniform
        self._records = read_waiting(journal, destination)
        self._failures = self._strikes = 0
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def first(self) -> ConfigRecord | None:
        """The oldest that waits. None when there is nothing to deliver."""
        return self._records[0] if self._records else None

    @property
    def is_due(self) -> bool:
        """Whether one waits, and the pause after a failure is over."""
        return bool(self._records) and time.monotonic() >= self._due

    def add(self, record: ConfigRecord) -> None:
        """Keep ``record``, unless an earlier shipper did before it was killed."""
        if all(record.seq != other.seq for other in self._records):
            self._records.append(record)
            self._save()

    def done(self) -> None:
        """The oldest is delivered, or rejected."""
        del self._records[0]
        self._failures = self._strikes = 0
        self._due = 0.0
        self._save()

    def failed(self, *, elsewhere: bool, retry_after: float | None = None) -> float:
        """Note a failure. ``elsewhere``: other writes fail, too. The seconds to wait until the next try."""
        self._failures += 1
        self._strikes += not elsewhere
        wait = retry.delay(
            self._failures, uniform=self._uniform, retry_after=retry_after, policy=self._policy
        )
        self._due = time.monotonic() + wait
        return wait

    @property
    def is_hopeless(self) -> bool:
        """Whether the oldest has failed often enough while other writes were taken."""
        return self._strikes >= self._policy.pairs

    def _save(self) -> None:
        try:
            write_even_when_full(self._path, msgspec.msgpack.encode(self._records))
        except OSError as error:
            logger.warning("a configuration that waits is kept in memory only: %s", error)


def read_waiting(journal: Path, destination: str) -> list[ConfigRecord]:
    """The configurations that wait for ``destination``."""
    try:
        data = read_file(_path(journal, destination), MAX_TEXT)
        return msgspec.msgpack.decode(data, type=list[ConfigRecord])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _path(journal: Path, destination: str) -> Path:
    return journal / f"config-{destination}.msgpack"


class ConfigDelivery:
    """Sends configurations to ``destination``.

    One that can be probed gets them between two batches (:class:`WaitingConfigs`). Any other one gets them in
    their order, because it may depend on that.
    """

    def __init__(
        self,
        destination: Destination,
        calls: Calls,
        rejects: RejectedFile,
        comparison: Comparison | None,
        *,
        journal: Path,
    ) -> None:
        self._destination = destination
        self._calls = calls
        self._rejects = rejects
        self._comparison = comparison
        self._waiting = WaitingConfigs(journal, destination.name, policy=calls.policy, uniform=calls.uniform)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, record: ConfigRecord) -> None:
        """Deliver ``record``, or have it wait."""
        if self._comparison is not None:
            self._waiting.add(record)
            return
        try:
            self._calls.until_done(self._destination.write_config, record)
        except RejectedError as error:
            self._calls.reject(self._rejects, record, error)

    def send_one(self, *, at_once: bool) -> bool:
        """Send the oldest that waits, if it is due or ``at_once``. True if it waits no more."""
        record = self._waiting.first
        if record is None or not (at_once or self._waiting.is_due):
            return False
        try:
            self._calls.once(self._destination.write_config, record)
        except RejectedError as error:
            self._calls.reject(self._rejects, record, error)
        except (RetryableError, OSError) as error:
            if not self._note_failure(error):
                return False
            self._calls.reject(self._rejects, record, error)
        self._waiting.done()
        return True

    def _note_failure(self, error: RetryableError | OSError) -> bool:
        """Whether it is no use to try again."""
        comparison = self._comparison
        elsewhere = comparison is None or not comparison.succeeds(strict=False)
        wished = error.retry_after if isinstance(error, RetryableError) else None
        wait = self._waiting.failed(elsewhere=elsewhere, retry_after=wished)
        self._calls.tell_failure(error, wait)
        return self._waiting.is_hopeless
