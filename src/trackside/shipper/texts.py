"""Delivers configurations, params and tags, so that they never hold up metrics.

Invariants:

* They never hold up metrics. The cursor passes them once they are kept on disk
  (:mod:`trackside.shipper.waiting`), and the worker sends them between two batches, with waits of its own.
* Those of one kind are delivered in order: of two values of a tag the last one counts, of a param the first.
* Thousands of params logged one by one take a few calls. A param or tag that is refused is found by halving,
  goes to the dead-letter file and is counted. The others are delivered.
* What fails while the destination takes other writes is tried a limited number of times.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.journal.format import ConfigRecord, ParamsRecord, TextsRecord
from trackside.shipper import retry
from trackside.shipper.parts import Part, head_of, merged, parts_of
from trackside.shipper.waiting import KINDS, Waiting, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from trackside.protocols import Destination
    from trackside.shipper.dead_letters import RejectedFile
    from trackside.shipper.search import Comparison
    from trackside.shipper.sending import Calls

MOST_SECONDS = 1.0
"""How long metrics may wait for configurations and params, and for tags, that are sent one by one."""

MOST_IN_A_ROW = 100
"""Calls that are refused with none accepted in between, after which a refused part is not cut up any more: a
server with a limit on the number of params refuses everything from some param on."""

_PAIRS_TO_HALVE = 2
"""Failures beside a success after which several texts are sent in two halves."""


class TextsDelivery:
    """Sends configurations, params and tags to ``destination``.

    A destination that can be probed gets them between two batches. Any other one gets them in the journal's
    order, because it may depend on that.
    """

    def __init__(
        self,
        destination: Destination,
        calls: Calls,
        rejects: RejectedFile,
        comparison: Comparison | None,
        waiting: Iterable[Waiting],
    ) -> None:
        self._calls = calls
        self._sender = _Sender(destination, calls, rejects)
        self._lines = {
            kind: _Line(self._sender, calls, comparison, line)
            for kind, line in zip(KINDS, waiting, strict=True)
        }
        self.may_be_overtaken = comparison is not None
        """Whether metrics may be delivered before what is older."""

    def __len__(self) -> int:
        """How many records wait."""
        return sum(len(line.waiting.records) for line in self._lines.values())

    def take(self, records: Sequence[TextsRecord]) -> None:
        """Deliver ``records``, or have them wait."""
        if self.may_be_overtaken:
            for kind, line in self._lines.items():
                line.waiting.add(record for record in records if kind_of(record) == kind)
            return
        while records:
            head = head_of(records)
            records = records[len(head) :]
            self._sender.send_until_done(parts_of(head))

    def send(self, *, at_once: bool, keep: Callable[[], None]) -> None:
        """Send what waits, as far as it is due, for a while. ``at_once``: all of it, due or not.

        ``keep`` keeps the cursor. It is called after each call into the destination that settled something.
        """
        for line in self._lines.values():
            until = time.monotonic() + MOST_SECONDS
            while line.send_one(at_once=at_once):
                keep()
                self._calls.check_stop()
                if not at_once and time.monotonic() >= until:
                    break

    def take_rejected(self) -> int:
        """How many params and tags were rejected since the last call."""
        rejected, self._sender.rejected = self._sender.rejected, 0
        return rejected


class _Sender:
    """Makes the calls, and cuts up what is refused."""

    def __init__(self, destination: Destination, calls: Calls, rejects: RejectedFile) -> None:
        self._destination = destination
        self._calls = calls
        self._rejects = rejects
        self._refused_in_a_row = 0
        self.rejected = 0

    def send(self, part: Part, call: Callable[..., object]) -> None:
        """Send ``part`` by ``call``, which is one of :class:`Calls`."""
        record = merged(part)
        if isinstance(record, ConfigRecord):
            call(self._destination.write_config, record)
        elif isinstance(record, ParamsRecord):
            call(self._destination.write_params, record)
        else:
            call(self._destination.write_tags, record)
        self._refused_in_a_row = 0

    def send_until_done(self, parts: list[Part]) -> None:
        while parts:
            try:
                self.send(parts[0], self._calls.until_done)
            except RejectedError as error:
                self.cut_first(parts, error)
            else:
                del parts[0]

    def cut_first(self, parts: list[Part], error: DeliveryError | OSError) -> None:
        """Put halves in place of the first part, or the text at fault into the dead-letter file."""
        part = parts[0]
        self._refused_in_a_row += 1
        if len(part) > 1 and self._refused_in_a_row < MOST_IN_A_ROW:
            middle = len(part) // 2
            parts[:1] = [part[:middle], part[middle:]]
            return
        for record in part:
            self._calls.reject(self._rejects, record, error)
        self.rejected += 0 if isinstance(part[0], ConfigRecord) else len(part)
        del parts[0]


class _Line:
    """What waits of one kind. Its oldest records are cut into parts, and each call sends one."""

    def __init__(
        self, sender: _Sender, calls: Calls, comparison: Comparison | None, waiting: Waiting
    ) -> None:
        self.waiting = waiting
        self._sender = sender
        self._calls = calls
        self._comparison = comparison
        self._parts: list[Part] = []
        self._in_parts: Sequence[TextsRecord] = ()
        self._failures = self._pairs = 0
        self._due = 0.0

    def send_one(self, *, at_once: bool) -> bool:
        """Make a call, if one is due or ``at_once``. False if none was made, or it has to be made again."""
        if not self.waiting.records or not (at_once or time.monotonic() >= self._due):
            return False
        if not self._parts:
            self._in_parts = [*head_of(self.waiting.records)]
            self._parts = parts_of(self._in_parts)
        try:
            if self._parts:  # else they had no text
                self._sender.send(self._parts[0], self._calls.once)
        except RejectedError as error:
            self._sender.cut_first(self._parts, error)
        except (RetryableError, OSError) as error:
            if not self._note_failure(error):
                return False
            self._sender.cut_first(self._parts, error)
        else:
            del self._parts[:1]
        self._failures = self._pairs = 0
        self._due = 0.0
        if not self._parts:
            self.waiting.remove(self._in_parts)
        return True

    def _note_failure(self, error: RetryableError | OSError) -> bool:
        """Whether to stop trying: it failed often enough while other writes were taken."""
        comparison, policy = self._comparison, self._calls.policy
        others_work = comparison is not None and comparison.succeeds(strict=False)
        self._failures += 1
        self._pairs += others_work
        wait = retry.delay_after(
            error, self._failures, uniform=self._calls.uniform, others_work=others_work, policy=policy
        )
        self._due = time.monotonic() + wait
        self._calls.tell_failure(error, wait)
        return self._pairs >= (policy.pairs if len(self._parts[0]) == 1 else _PAIRS_TO_HALVE)


def waiting_for(journal: Path, destination: str) -> list[Waiting]:
    """What waits for ``destination``, by kind."""
    return [Waiting(journal, destination, kind) for kind in KINDS]


def first_waiting(waiting: Iterable[Waiting], seq: int) -> int:
    """The number of the record before the first one that waits, or ``seq`` if that is smaller."""
    waits = itertools.chain.from_iterable(line.records for line in waiting)
    return min([seq, *(record.seq - 1 for record in waits)])
