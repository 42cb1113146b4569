"""Find the points that a destination never takes, in a batch that keeps failing while the rest is taken.

A server may answer a record with an error that says "try again" every time (a 500). Retrying it for ever
blocks everything behind it. Setting it aside too early loses what an outage would only have delayed.

Invariants:

* An outage never costs a point. A point counts as bad only by comparison: it fails, and right after that
  the same destination takes another point, which it has taken before. ``Policy.pairs`` such pairs in a row
  are needed, and any success of the point ends the matter.
* The comparison is made once or twice, at random. So a load balancer that takes its hosts in turns, one of
  them broken, does not meet the point with the broken host every time.
* A round ends after :data:`MOST_FAILURES` failures with nothing taken in between. A destination that is down
  is asked for little.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.journal.format import MetricsRecord
from trackside.journal.reader import JournalReader, Position
from trackside.shipper import retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from trackside.journal.directory import JournalDirectory

MOST_FAILURES = 10

_MOST_SUSPECTS = 1000
_ENOUGH_TO_KNOW = 50


class _Outcome(enum.Enum):
    TAKEN = enum.auto()
    COMPARED = enum.auto()
    """It failed, and a known point was taken right after that."""
    NOTHING = enum.auto()


@dataclass
class Part:
    """Some records of the batch, or a single point. ``pairs``: its failures in a row beside a success."""

    batch: list[MetricsRecord]
    pairs: int = 0

    @property
    def points(self) -> int:
        """How many points it holds."""
        return sum(record.points for record in self.batch)


class Comparison:
    """What a worker knows from earlier batches: a point that was taken, and the names that were rejected."""

    def __init__(self, probe: Callable[[MetricsRecord | None], None]) -> None:
        self._probe = probe
        self.known: MetricsRecord | None = None
        self.suspects: set[str] = set()

    def remember(self, batch: Sequence[MetricsRecord]) -> None:
        """Keep a point of ``batch``, which was taken, to compare others with."""
        if batch:
            self.known = single_point(batch[-1])

    def suspect(self, record: MetricsRecord) -> None:
        """Keep the name of a point that was rejected."""
        if len(self.suspects) < _MOST_SUSPECTS:
            self.suspects.update(record.named_values())

    def succeeds(self, *, strict: bool, times: int = 1) -> bool:
        """Whether the destination takes something now. ``strict``: a point, not just a tag."""
        if strict and self.known is None:
            return False
        try:
            for _ in range(times):
                self._probe(self.known)
        except (RejectedError, RetryableError):
            return False
        return True


def delivered_before(journal: JournalDirectory, position: Position) -> list[MetricsRecord]:
    """Records up to ``position`` that an earlier shipper delivered, if their segment is still there."""
    reader = JournalReader(journal, Position(position.segment))
    try:
        records = [entry.record for entry in reader.read(_ENOUGH_TO_KNOW)]
    finally:
        reader.close()
    return [r for r in records if isinstance(r, MetricsRecord) and r.points and r.seq <= position.seq]


class Search:
    """The search in one batch.

    ``send`` raises what a destination raises. ``keep`` puts a bad point into the dead-letter file.
    """

    def __init__(
        self,
        batch: Sequence[MetricsRecord],
        comparison: Comparison,
        *,
        send: Callable[[list[MetricsRecord]], None],
        keep: Callable[[MetricsRecord, DeliveryError], None],
        policy: retry.Policy,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._comparison = comparison
        self._send = send
        self._keep = keep
        self._policy = policy
        self._uniform = uniform
        self._rounds_in_vain = 0
        self.error: RetryableError | None = None
        """What failed last."""
        self.failing = False
        """Whether nothing at all was taken in the last round."""
        self.found = 0
        """Points rejected."""
        self.largest = 0
        """Points of the largest part that was taken."""
        suspects = comparison.suspects
        by_name = [part for part in without(batch, suspects) if part]
        self.parts = [
            Part(part) for part in (by_name if len(by_name) > 1 else halves(batch) or [list(batch)])
        ]

    def round(self) -> float:
        """Try each part once. The seconds to wait before the next round, as long as there are ``parts``."""
        waiting, self.parts = self.parts, []
        outcomes: list[_Outcome] = []
        while waiting and outcomes[-MOST_FAILURES:] != [_Outcome.NOTHING] * MOST_FAILURES:
            outcomes.append(self._try(waiting.pop(int(self._uniform(0.0, len(waiting) - 0.001)))))
        self.parts += waiting
        return self._pause(set(outcomes))

    def _pause(self, outcomes: set[_Outcome]) -> float:
        self.failing = outcomes == {_Outcome.NOTHING}
        if _Outcome.TAKEN in outcomes:
            self._rounds_in_vain = 0
            return 0.0
        self._rounds_in_vain += 1
        policy = self._policy
        if not self.failing:
            policy = replace(policy, cap=min(policy.cap, policy.pair_cap))
        return retry.delay_after(
            self.error,
            self._rounds_in_vain,
            uniform=self._uniform,
            others_work=not self.failing,
            policy=policy,
        )

    def _try(self, part: Part) -> _Outcome:
        """Send ``part``. If that fails, put what is still to be sent back into ``parts``."""
        try:
            self._send(part.batch)
        except RejectedError as error:
            self._reject(part, error)
            return _Outcome.COMPARED
        except RetryableError as error:
            self.error = error
            return self._fail(part, error)
        self._comparison.remember(part.batch)
        self.largest = max(self.largest, part.points)
        return _Outcome.TAKEN

    def _reject(self, part: Part, error: RejectedError) -> None:
        parts = halves(part.batch)
        if not parts:
            self._keep(part.batch[0], error)
        self.parts += [Part(half) for half in parts]

    def _fail(self, part: Part, error: RetryableError) -> _Outcome:
        """Compare. Where other writes are taken, split ``part``, or count the failure against its point."""
        parts = halves(part.batch)
        times = 1 + int(self._uniform(0.0, 1.999))
        if not self._comparison.succeeds(strict=not parts, times=times):
            part.pairs = 0
            self.parts.append(part)
            return _Outcome.NOTHING
        if parts:
            self.parts += [Part(half) for half in parts]
        elif part.pairs + 1 < self._pairs_needed(part):
            part.pairs += 1
            self.parts.append(part)
        else:
            self._give_up(part.batch[0], error)
        return _Outcome.NOTHING if self._comparison.known is None else _Outcome.COMPARED

    def _give_up(self, record: MetricsRecord, error: RetryableError) -> None:
        self.found += 1
        self._comparison.suspect(record)
        self._keep(record, RejectedError(f"it failed every time, while other points were taken: {error}"))

    def _pairs_needed(self, part: Part) -> int:
        familiar = not self._comparison.suspects.isdisjoint(part.batch[0].named_values())
        return self._policy.familiar_pairs if familiar else self._policy.pairs


def single_point(record: MetricsRecord) -> MetricsRecord:
    """The first point of ``record``, as a record of its own."""
    while parts := halves([record]):
        record = parts[0][0]
    return record


def halves(batch: Sequence[MetricsRecord]) -> list[list[MetricsRecord]]:
    """``batch`` in two, by records or by the metrics of a single one. Empty when it is one point only."""
    if len(batch) > 1:
        middle = len(batch) // 2
        return [list(batch[:middle]), list(batch[middle:])]
    record = batch[0]
    names = list(record.metrics)
    if len(names) > 1:
        middle = len(names) // 2
        return [[_part(record, names[:middle])], [_part(record, names[middle:], epoch=False)]]
    if names and record.points > 1:
        return [[_part(record, [])], [_part(record, names, epoch=False)]]
    return []


def without(batch: Sequence[MetricsRecord], names: AbstractSet[str]) -> list[list[MetricsRecord]]:
    """``batch`` in two: the points without the full ``names``, then those with one of them."""
    both = [_by_name(record, names) for record in batch]
    return [[pair[i] for pair in both if pair[i].points] for i in (0, 1)]


def _by_name(record: MetricsRecord, names: AbstractSet[str]) -> tuple[MetricsRecord, MetricsRecord]:
    full = dict(zip(record.metrics, record.full_names(), strict=True))
    named = [name for name in full if full[name] in names]
    others = [name for name in full if full[name] not in names]
    epoch = "epoch" in names
    return _part(record, others, epoch=not epoch), _part(record, named, epoch=epoch)


def _part(record: MetricsRecord, names: list[Any], *, epoch: bool = True) -> MetricsRecord:
    return msgspec.structs.replace(
        record,
        epoch=record.epoch if epoch and record.has_epoch else None,
        metrics={name: record.metrics[name] for name in names},
    )
