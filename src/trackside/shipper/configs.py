"""Delivers configurations, so that they never hold up metrics.

Invariants:

* A configuration never holds up metrics. The cursor passes it once it is kept here, on disk, and the worker
  sends it between two batches, with waits of its own.
* A configuration that fails while the destination takes other writes is tried a limited number of times.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from trackside.errors import RejectedError, RetryableError
from trackside.journal.files import write_even_when_full
from trackside.journal.format import ConfigRecord
from trackside.journal.opening import MAX_TEXT, read_file
from trackside.shipper import retry

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile
    from trackside.shipper.search import Comparison
    from trackside.shipper.sending import Calls


logger = logging.getLogger("trackside.shipper")


class ConfigDelivery:
    """Sends configurations to ``destination``.

    One that can be probed gets them between two batches, oldest first, from a file in the directory
    ``journal``. Any other one gets them in their order, because it may depend on that.
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
        self._path = _path(journal, destination.name)
        self._waiting = read_waiting(journal, destination.name)
        self._failures = self._strikes = 0
        self._due = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, record: ConfigRecord) -> None:
        """Deliver ``record``, or have it wait."""
        if self._comparison is None:
            try:
                self._calls.until_done(self._destination.write_config, record)
            except RejectedError as error:
                self._calls.reject(self._rejects, record, error)
        elif all(record.seq != other.seq for other in self._waiting):  # else an earlier shipper kept it
            self._waiting.append(record)
            self._save()

    def send_one(self, *, at_once: bool) -> bool:
        """Send the oldest that waits, if it is due or ``at_once``. True if it waits no more."""
        if not self._waiting or not (at_once or time.monotonic() >= self._due):
            return False
        record = self._waiting[0]
        try:
            self._calls.once(self._destination.write_config, record)
        except RejectedError as error:
            self._calls.reject(self._rejects, record, error)
        except (RetryableError, OSError) as error:
            if not self._note_failure(error):
                return False
            self._calls.reject(self._rejects, record, error)
        del self._waiting[0]
        self._failures = self._strikes = 0
        self._due = 0.0
        self._save()
        return True

    def _note_failure(self, error: RetryableError | OSError) -> bool:
        """Whether it is no use to try again: it failed often enough while other writes were taken."""
        comparison, policy = self._comparison, self._calls.policy
        self._failures += 1
        self._strikes += comparison is not None and comparison.succeeds(strict=False)
        wished = error.retry_after if isinstance(error, RetryableError) else None
        wait = retry.delay(self._failures, uniform=self._calls.uniform, retry_after=wished, policy=policy)
        self._due = time.monotonic() + wait
        self._calls.tell_failure(error, wait)
        return self._strikes >= policy.pairs

    def _save(self) -> None:
        try:
            write_even_when_full(self._path, msgspec.msgpack.encode(self._waiting))
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
