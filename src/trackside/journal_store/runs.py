"""Which runs this process logs into through the journal store, and when each of them ends.

Invariants:

* A run has one recording in a process at a time. One that ``trackside.start()`` records already is that one.
* Only the process that made a run, or has set it to RUNNING again, decides its end. Others add to it. A run
  that ``MlflowClient().create_run()`` made for any process belongs to the first one that logs into it.
* What the program says of a run's end is a wish. MLflow's own "finished", said as the interpreter leaves, is
  not even that: it comes whatever happened.
* A forked child has none of its parent's recordings.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.owner import new_heartbeat, owner_in, owner_text
from trackside.errors import ConfigurationError, JournalError
from trackside.journal.owner import is_alive, is_local, this_process
from trackside.journal_store.reads import catch_up
from trackside.lifecycle.in_flight import interpreter_is_leaving
from trackside.redaction.redact import redact
from trackside.session.adoption import AdoptedRun, adopt
from trackside.session.plan import new_journal_id
from trackside.session.recording import recording_runs
from trackside.system.once import Once
from trackside.tag_names import HEARTBEAT_TAG, JOURNAL_TAG, OWNER_TAG

if TYPE_CHECKING:
    from trackside.events import FinalStatus
    from trackside.journal.meta import Adopted
    from trackside.session.recording import RecordingRun

logger = logging.getLogger("trackside.journal_store")

MOST_SEEN = 1000
"""Runs of which it is kept what MLflow said. A dashboard may read every run that there is."""

_tables: weakref.WeakSet[Runs] = weakref.WeakSet()


@dataclass
class Recording:
    """A run that this process logs into."""

    run: RecordingRun
    how: Adopted
    """Empty for a run of ``trackside.start()``, which ends it."""
    has_owner: bool = True
    """Whether the run's end is another process's to decide, when this one only adds to it."""
    params: dict[str, str] = field(default_factory=dict)
    """What the run is known to have."""
    wish: FinalStatus | None = None
    """The end that the program has said."""


class Claim:
    """What the page of a run says from its first moment, so that no other process takes it for its own."""

    def __init__(self) -> None:
        self.journal_id = new_journal_id()

    def tags(self) -> dict[str, str]:
        """The tags."""
        return {
            JOURNAL_TAG: self.journal_id,
            OWNER_TAG: owner_text(this_process()),
            HEARTBEAT_TAG: new_heartbeat(),
        }


class Runs:
    """The runs of one store, whose address is ``uri``. ``inner`` is MLflow's own store for it."""

    def __init__(self, inner: Any, uri: str) -> None:
        self._inner = inner
        self._uri = uri
        self._recordings: dict[str, Recording] = {}
        self._inherited: dict[str, Recording] = {}
        self._seen: dict[str, Any] = {}
        self._entered: set[str] = set()
        self._without: set[str] = set()
        self._over: set[str] = set()
        self._deleted: set[str] = set()
        self._experiment_names: dict[str, str | None] = {}
        self._opening = threading.RLock()
        self._warned = Once()
        _tables.add(self)

    # What the program logs

    def recording(self, run_id: str) -> Recording | None:
        """Where what is logged into ``run_id`` goes. None if MLflow's own store has to deal with it.

        Raises what MLflow raises for a run that does not exist.
        """
        found = self._recordings.get(run_id)
        if found is not None and found.run.is_recording:
            return found
        return None if run_id in self._without else self._open(run_id)

    def undelivered(self) -> list[Recording]:
        """The recordings of this process that something may be missing of: those that are over, too."""
        self._forget_delivered()
        return list(self._recordings.values())

    def known(self, run_id: str) -> Recording | None:
        """The recording that ``run_id`` has or had in this process."""
        return self._recordings.get(run_id)

    def saw(self, run: Any) -> None:
        """Keep what MLflow said of ``run``. Of runs that are only read, the latest are kept."""
        self._seen.pop(run.info.run_id, None)
        self._seen[run.info.run_id] = run
        if len(self._seen) > MOST_SEEN:
            only_read = (
                one for one in list(self._seen) if not (one in self._recordings or one in self._entered)
            )
            self._seen.pop(next(only_read, ""), None)

    def run_at(self, artifact_uri: str) -> str | None:
        """The id of the run whose artifacts are there, of those that MLflow has shown."""
        return next(
            (run_id for run_id, run in [*self._seen.items()] if run.info.artifact_uri == artifact_uri), None
        )

    def forget(self, run_id: str) -> None:
        """The run was deleted: what is known of it no longer holds, and MLflow refuses that it ends."""
        self._deleted.add(run_id)
        self._seen.pop(run_id, None)
        self._entered.discard(run_id)

    def info(self, run_id: str) -> Any:
        """What MLflow last said of a run."""
        return self._look_up(run_id).info

    # How runs begin

    def made(self, run: Any, claim: Claim | None) -> None:
        """The program has just created ``run``, with the claim on its page.

        Without one, the first log claims it.
        """
        self.saw(run)
        if claim is None:
            self._entered.add(run.info.run_id)
            return
        with self._opening:
            self._forget_delivered()
            self._adopt(run, "made", claim.journal_id)

    def entered(self, run_id: str) -> None:
        """The program has set the run to RUNNING: it resumes it, or joins the process that owns it."""
        self._entered.add(run_id)
        found = self._recordings.get(run_id)
        if found is not None and found.how == "joined" and not found.has_owner and found.run.is_recording:
            found.run.finish(wait=False)  # what comes now is of a process that decides the run's end
        self.recording(run_id)

    def _forget_delivered(self) -> None:
        """Let go of the recordings that are over and delivered: a sweep has hundreds."""
        for run_id, one in list(self._recordings.items()):
            if not one.run.is_recording and one.run.delivery.phase == "delivered":
                self._recordings.pop(run_id, None)
                self._seen.pop(run_id, None)
                self._over.add(run_id)

    def _open(self, run_id: str) -> Recording | None:
        with self._opening:
            found = self._recordings.get(run_id)
            if found is not None and found.run.is_recording:
                return found
            found = self._started(run_id) or self._continued(run_id)
            if found is not None:
                self._recordings[run_id] = found
                return found
            earlier = self._recordings.get(run_id)
            if earlier is not None and earlier.how == "resumed":  # its shipper may not have claimed it yet
                catch_up(self, [earlier])
            run = self._look_up(run_id)
            if run.info.lifecycle_stage == "deleted":  # MLflow refuses it, until it is restored
                self._seen.pop(run_id, None)
                return None
            how: Adopted = "resumed" if run_id in self._entered else "joined"
            return self._adopt(run, how, None)

    def _started(self, run_id: str) -> Recording | None:
        """The run that ``trackside.start()`` records in this process under that id."""
        for run in list(recording_runs.values()):
            info = run.known_info() if run.is_recording else None
            if info is not None and info.run_id == run_id:
                return Recording(run, "")
        return None

    def _continued(self, run_id: str) -> Recording | None:
        """The parent's recording, if this forked child is the daemon that the program became."""
        inherited = self._inherited.get(run_id)
        if inherited is not None and inherited.how != "joined" and inherited.run.bus.continue_inherited():
            return inherited
        return None

    def _adopt(self, run: Any, how: Adopted, journal_id: str | None) -> Recording | None:
        run_id = run.info.run_id
        name = run.info.run_name or None
        experiment_id = run.info.experiment_id
        adopted = AdoptedRun(
            run_id, experiment_id, self._uri, how, name, journal_id, self._experiment_name(experiment_id)
        )
        try:
            recording = Recording(
                adopt(adopted), how, has_owner=_has_owner(run), params=dict(run.data.params)
            )
        except (JournalError, ConfigurationError) as error:
            self._without.add(run_id)
            logger.warning(
                "%s. Run %s is logged without trackside, as MLflow does by itself: each call waits for the "
                "server",
                error,
                run_id,
            )
            return None
        self._recordings[run_id] = recording
        self._deleted.discard(run_id)  # it was restored
        return recording

    def _look_up(self, run_id: str) -> Any:
        found = self._seen.get(run_id)
        if found is None:
            found = self._inner.get_run(run_id)
            self.saw(found)
        return found

    def _experiment_name(self, experiment_id: str) -> str | None:
        """Its name, by which destinations call their folders. MLflow is asked once for each experiment."""
        if experiment_id not in self._experiment_names:
            try:
                name = self._inner.get_experiment(experiment_id).name
            except Exception as error:  # whatever a store raises: the run does not need the name
                logger.debug("The name of experiment %s is not known: %s", experiment_id, redact(str(error)))
                name = None
            self._experiment_names[experiment_id] = name
        return self._experiment_names[experiment_id]

    # How runs end

    def end(self, run_id: str, status: FinalStatus) -> bool:
        """The program says that the run ended as ``status``. False if MLflow's own store has to be told."""
        self._entered.discard(run_id)
        if status == "FINISHED" and interpreter_is_leaving() and self._is_ours(run_id):
            return True
        if run_id in self._deleted:
            return False
        recording = self._recordings.get(run_id) or self._started(run_id)
        if recording is None:
            return run_id in self._inherited
        if not recording.how:
            return True
        if not recording.run.is_recording:  # its end is known: MLflow's default adds nothing to it
            return status == "FINISHED" and recording.wish in {None, status}
        recording.wish = _meant(status)
        recording.run.finish(recording.wish, wait=False)
        return recording.how != "joined" or recording.has_owner

    def _is_ours(self, run_id: str) -> bool:
        """Whether this process has, or had, a journal for the run."""
        return run_id in self._recordings or run_id in self._over

    def abandon(self) -> None:
        """In a forked child: the parent's recordings stay the parent's."""
        self._inherited = {**self._inherited, **self._recordings}
        self._recordings, self._entered = {}, set()
        self._opening = threading.RLock()

    # Reads

    def warn_once(self, what: str, text: str, *details: object) -> None:
        """Log a warning, the first time that ``what`` happens."""
        if self._warned.is_first(what):
            logger.warning(text, *details)


def _has_owner(run: Any) -> bool:
    """Whether another process that uses trackside may still decide the end of ``run``."""
    tags = run.data.tags
    owner = owner_in(tags)
    if owner is None or owner == this_process():
        return False
    return is_alive(owner) if is_local(owner) else True


def _meant(status: FinalStatus) -> FinalStatus:
    """What ``status`` means where ``sys.exit()`` leaves the block of a run, which MLflow calls a failure.

    The exit code decides that.
    """
    return "FINISHED" if status == "FAILED" and isinstance(sys.exc_info()[1], SystemExit) else status


def runs_in_use() -> list[Runs]:
    """The tables of all stores in this process."""
    return list(_tables)


def _abandon_all() -> None:
    for runs in list(_tables):
        runs.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
