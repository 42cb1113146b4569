"""What the end of a run tells you of its delivery: what is missing, why, and how it will be delivered.

Invariants:

* Each sentence tells what was checked just now, never what is usual: which destination lacks something, how
  long this process has waited, whether a shipper is at work.
* A shipper is promised only if it has said that it is at work, and only for as long as it can live.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from trackside.shipper.protocol import LINGER, MOST

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trackside.journal.meta import State

AtWork: TypeAlias = Literal["ours", "starting", "queued", "another", "none"]
"""Which shipper works on the journal: this run's, one that is not ready yet or waits for its turn, another,
or none."""

HELD_UP = f"{MOST} shippers of this process are at work, and the next run's waits until one of them has left"
"""Why a run that goes on has no shipper."""


_WITHOUT_WORD: dict[AtWork, str] = {
    "none": "no shipper is at work",
    "queued": "its shipper waits for its turn",
}


def describe_rest(
    state: State | None, lacking: Sequence[str], names: dict[str, str], *, waited: float, at_work: AtWork
) -> str:
    """Tell what is not delivered, and why.

    ``lacking``: destinations without all points. ``names``: what to call each destination. The first is the
    run's own.
    """
    workers = {} if state is None else state.workers
    refusals = {name: worker.refused for name, worker in workers.items() if worker.refused and name in names}
    if refusals and not set(lacking) - set(refusals):
        return f"{_join([names[name] for name in refusals])} {_reason(refusals.values())}"
    behind = lacking or list(names)[:1]
    error = next((workers[name].error for name in behind if name in workers and workers[name].error), None)
    error = error or next(iter(refusals.values()), None) or (None if state is None else state.error)
    if error is None:
        error = _WITHOUT_WORD.get(at_work) or f"it takes longer than {waited:.0f} s"
    what = "everything" if lacking or state is None or state.status is None else "the last of it"
    have = "has" if len(behind) == 1 else "have"
    return f"{_join([names[name] for name in behind])} {have} not taken {what} yet ({error})"


def describe_delivery(
    at_work: AtWork, pid: int | None, *, refused: bool = False, in_container: bool = False
) -> str:
    """Tell how the rest will be delivered."""
    if refused:
        return "Remove the cause, then run `trackside sync` to deliver it."
    if at_work == "ours":
        hour = f"for up to {LINGER / 60:.0f} minutes after this process ends"
        until = f"until the container ends, or {hour}" if in_container else hour
        return f"The shipper (process {pid}) keeps trying {until}. After that, run `trackside sync`."
    if at_work == "starting":
        return f"A shipper (process {pid}) is starting. What it does not deliver, `trackside sync` does."
    if at_work == "queued":
        return "Its shipper waits for its turn. What it does not deliver, `trackside sync` does."
    if at_work == "another":
        return "Another shipper is at work on it. What it does not deliver, `trackside sync` does."
    return "No shipper is at work on it. To deliver it, run `trackside sync`."


def describe_offline(path: object, dropped: int) -> str:
    """Tell where a run that was logged offline is kept."""
    but = f", except {dropped} points that found no room or are not numbers" if dropped else ""
    return f"offline: the run is kept in {path}{but}. To deliver it, run `trackside sync`"


def _reason(refusals: Collection[str | None]) -> str:
    verb = "has" if len(refusals) == 1 else "have"
    return f"{verb} failed permanently ({next(iter(refusals))})"


def _join(names: Sequence[str]) -> str:
    return " and ".join(names)
