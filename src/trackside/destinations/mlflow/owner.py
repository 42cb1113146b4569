"""Who decides the end of a run that several processes write to, and the owner's sign of life.

Invariants:

* One attempt owns a run: the one that made it, or that took it over when its owner was gone. Two tags of
  the run name it: :data:`JOURNAL_TAG` its journal, :data:`OWNER_TAG` its process.
* Only the owner gives heartbeats, keeps the status RUNNING, and says how the run ended. Every other attempt
  is a *secondary writer*. It adds points, and params and tags that are new.
* An attempt that finds another owner in the tags is a secondary writer from then on, also in the shippers
  that are started for it later. Once another attempt has taken the run over, it never sets a status again.
* A run is never left RUNNING while a process that writes to it lives. A secondary writer takes over when the
  owner's heartbeats stop. A *successor*, a training that resumed the run from its checkpoints, also takes
  over when the owner has ended, because the training continues.

MLflow has no compare-and-set, so two attempts may claim a run at the same moment. The claim that is
written last counts, and the other attempt finds it at its next heartbeat, or at its end.
"""

from __future__ import annotations

import socket
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from trackside.destinations.mlflow.tags import summary_of
from trackside.journal.owner import Owner, boot_id, is_alive, is_local, is_replaced
from trackside.lifecycle.verdict import SUCCEEDED
from trackside.tag_names import END_REASON_TAG, HEARTBEAT_TAG, JOURNAL_TAG, OWNER_TAG
from trackside.text import iso_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.journal.meta import Meta


QUIET = 150.0
"""Seconds without a change of the owner's heartbeat, as this process counts them, until the owner counts as
gone. A live owner gives one every 60 s at least, and a busy server may hold one up for half a minute."""

BETWEEN_LOOKS = 35.0
"""Seconds that one look accounts for: there is one every 30 s, while the server answers."""

LONG_GONE = 600.0
"""Seconds: a heartbeat so old, by the clocks of two machines, needs no watching. As ``trackside reap``."""

Sight: TypeAlias = Literal["alive", "gone", "unsure"]


def owner_tags(meta: Meta) -> dict[str, str]:
    """The tags by which the attempt of ``meta`` claims a run."""
    return {JOURNAL_TAG: meta.journal_id, OWNER_TAG: owner_text(meta.owner)}


def owner_text(owner: Owner) -> str:
    """The tag that names ``owner``."""
    return msgspec.json.encode(owner).decode()


def owner_in(tags: Mapping[str, str]) -> Owner | None:
    """The process that owns the run with these tags. None if they do not say."""
    try:
        return msgspec.json.decode(tags.get(OWNER_TAG, ""), type=Owner)
    except msgspec.MsgspecError:
        return None


def holds(run: Any, meta: Meta) -> bool:
    """Whether the attempt of ``meta`` owns ``run``.

    A run without an owner belongs to the attempt that has it, unless that attempt only adds to it.
    """
    without_owner = None if meta.target.adopted == "joined" else meta.journal_id
    return bool(run.data.tags.get(JOURNAL_TAG, without_owner) == meta.journal_id)


def may_claim(run: Any, meta: Meta, *, now: Callable[[], float] = time.time) -> bool:
    """Whether the attempt of ``meta``, which is about to write to ``run``, becomes its owner.

    A run that has ended is resumed, except by an attempt that is delivered late: what was decided after its
    start stands. The program that has replaced the owner (``exec``) is never late. A run that shows RUNNING
    is claimed when its owner is dead, or had ended it before another program set it to RUNNING again. A run
    that trackside did not make is claimed, too, as ``mlflow.start_run(run_id=...)`` would: its maker may
    never end it.
    """
    if run.info.status != "RUNNING":
        in_time = is_alive(meta.owner) or (run.info.end_time or 0) <= meta.started_ms
        return in_time or _was_handed_over(run.data.tags, meta)
    tags = run.data.tags
    if holds(run, meta) or not _has_owner(tags):
        return True
    if tags[JOURNAL_TAG] in meta.beside:
        return False
    owner = owner_in(tags)
    if owner is not None and is_local(owner):
        # In this very process the owner has called exec, or has ended and is still being delivered.
        return _is_same_process(owner, meta.owner) or not _is_writing(owner)
    if owner is not None and _was_rebooted(owner):
        return True
    beat = parse_heartbeat(tags.get(HEARTBEAT_TAG, ""))
    return beat is not None and now() - beat[0] > LONG_GONE


def _has_owner(tags: Mapping[str, str]) -> bool:
    """Whether a process that uses trackside is to end the run. Both tags go with its last word."""
    return OWNER_TAG in tags or HEARTBEAT_TAG in tags


def _was_handed_over(tags: Mapping[str, str], meta: Meta) -> bool:
    """Whether the owner left the run's end to the program that replaced it. ``meta`` may be of that one."""
    began = str(summary_of(tags).get("started", ""))  # both in ISO 8601, in UTC
    return tags.get(END_REASON_TAG) == SUCCEEDED and began <= iso_seconds(meta.started_ms)


def _is_same_process(one: Owner, other: Owner) -> bool:
    """Whether it is one process, whatever program it runs."""
    return (one.boot_id, one.pid, one.start_ticks) == (other.boot_id, other.pid, other.start_ticks)


def _is_writing(owner: Owner) -> bool:
    """Whether the process, of this machine, lives and has not become another program."""
    return is_alive(owner) and not is_replaced(owner)


def _was_rebooted(owner: Owner) -> bool:
    """Whether this is the owner's machine, after a reboot."""
    return owner.host == socket.gethostname() and owner.boot_id.split()[0] != boot_id().split()[0]


def describe_owner(tags: Mapping[str, str]) -> str:
    """The owner of a run, for people."""
    owner = owner_in(tags)
    return "another process" if owner is None else f"process {owner.pid} on {owner.host}"


class OwnerWatch:
    """A secondary writer's view of the owner: does it still live?

    An owner on this machine is looked up. Any other one lives as long as its heartbeat keeps changing. The
    time between two changes is measured here, so clocks that differ do not matter. Only time in which this
    process looked counts. In an outage the owner can't give a heartbeat either.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[str, str] | None = None
        self._looked = clock()
        self._quiet = 0.0
        self._changed = False

    def look(self, run: Any) -> Sight:
        """``alive``, ``gone``, or ``unsure`` while there was not enough time to tell."""
        tags = run.data.tags
        seen = (tags.get(JOURNAL_TAG, ""), tags.get(HEARTBEAT_TAG, ""))
        now = self._clock()
        self._quiet += min(now - self._looked, BETWEEN_LOOKS)
        self._looked = now
        if seen != self._seen:
            self._changed = self._seen is not None
            self._seen, self._quiet = seen, 0.0
        owner = owner_in(tags)
        if owner is not None and is_local(owner) and _is_writing(owner):
            return "alive"
        if self._quiet >= QUIET:
            return "gone"
        dead = owner is not None and is_local(owner)  # its shipper is about to say how it ended
        return "alive" if self._changed and not dead else "unsure"


class Ownership:
    """What this attempt may do to its run, now. Asked before each heartbeat and at the end."""

    def __init__(self, meta: Meta, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._meta = meta
        self._watch = OwnerWatch(clock=clock)
        self._successor = meta.target.checkpoint_dir is not None
        self.saw_alive = is_alive(meta.owner)
        """Whether the training lived when this shipper began. If not, the time of its death is a guess."""
        self.standing = ""
        """As ``ownership`` in :class:`~trackside.journal.meta.State`."""

    @property
    def held(self) -> bool:
        """Whether this attempt is the owner."""
        return self.standing == "held"

    def begin(self, run: Any, standing: str = "") -> None:
        """Learn from ``run``, which was just opened, whether it is ours. ``standing`` is what was known."""
        had = standing in {"held", "lost"}
        if holds(run, self._meta):
            self.standing = "held"
            return
        self.standing = "lost" if had else "joined"
        self._successor = self._successor and not had
        self._watch.look(run)

    def claimed(self) -> None:
        """The run was claimed, and is ours."""
        self.standing = "held"

    def look(self, run: Any) -> bool:
        """Whether this attempt has to claim ``run``, whose owner is gone."""
        if holds(run, self._meta):
            self.standing = "held"
            return False
        if self.held:
            self.standing, self._successor = "lost", False
        if run.info.status != "RUNNING":
            return self._successor and is_alive(self._meta.owner)
        return self._watch.look(run) == "gone" and not self._is_left_to_others(run)

    def look_at_end(self, run: Any, *, ended_ms: int) -> Literal["ours", "claim", "wait", "theirs"]:
        """What to do with the status, once this attempt has ended and everything is delivered.

        ``wait``: the owner may be gone, and then no other process would set a status.
        """
        was_held = self.held
        claim = self.look(run)
        if self.held:
            return "ours"
        if claim:
            return "claim"
        if run.info.status != "RUNNING":
            outlived = self._successor and not was_held and (run.info.end_time or 0) <= ended_ms
            return "claim" if outlived else "theirs"
        unsure = self.saw_alive and self._watch.look(run) == "unsure"
        return "wait" if unsure and not self._is_left_to_others(run) else "theirs"

    def _is_left_to_others(self, run: Any) -> bool:
        """Whether the end of ``run`` is a matter of programs that do not use trackside.

        They have made it, or have set it to RUNNING again after its owner's last word. Then there is no owner
        to wait for, and an attempt that only adds to a run does not take it over.
        """
        return self._meta.target.adopted == "joined" and not _has_owner(run.data.tags)


def new_heartbeat() -> str:
    """The tag, as of now."""
    now = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    return f"{now} {socket.gethostname()}"


def parse_heartbeat(text: str) -> tuple[float, str] | None:
    """Time (seconds since the epoch) and host of a heartbeat tag. None for any other text."""
    stamp, _, host = text.partition(" ")
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp(), host
