"""Configurations that were read from the journal and are not delivered yet.

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

from trackside.journal.files import write_even_when_full
from trackside.journal.format import ConfigRecord
from trackside.journal.opening import MAX_TEXT, read_file
from trackside.shipper import retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
