"""Finding, resuming or creating the run, once, whatever happens in between.

Invariant: a run is created at most once for a journal. The run carries the journal's id as a tag from its
first moment. If it is unknown whether an earlier attempt to create it succeeded (the shipper was killed, the
connection was cut after the commit), the run is looked up by that tag before another one is made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

from trackside.destinations.mlflow.findings import deleted_experiment
from trackside.destinations.mlflow.owner import holds, new_heartbeat, owner_tags
from trackside.destinations.mlflow.resume import RunResumer, last_steps
from trackside.destinations.mlflow.run_id_file import is_newer, write_run_id_file
from trackside.destinations.mlflow.run_page import run_page
from trackside.errors import RejectedError, RetryableError, UnauthorisedError
from trackside.journal.family import ParentUnknownError, parent_run_id
from trackside.journal.meta import RunInfo
from trackside.journal.owner import is_alive
from trackside.names import MAX_TAG_VALUE_LENGTH
from trackside.settings import read_environment
from trackside.tag_names import HEARTBEAT_TAG, JOURNAL_TAG, PARENT_RUN_TAG, SOURCE_COMMIT_TAG, SOURCE_NAME_TAG
from trackside.text import encodable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from trackside.destinations.context import DestinationContext
    from trackside.destinations.mlflow.claim import RunClaim
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.destinations.mlflow.resume import Resumed
    from trackside.journal.meta import Meta

logger = logging.getLogger("trackside.destinations")


SLOW = 0.25
"""Seconds: an answer that takes so long comes from a server with much to do."""

HERD_TIMES, HERD_SECONDS = 4.0, 8.0


class Earlier(Protocol):
    """What has to be delivered before this run (:class:`trackside.shipper.earlier.EarlierAttempts`)."""

    def check(self, probe: Callable[[], object]) -> None:
        """Raise :class:`RetryableError` while an earlier attempt is waited for."""

    def check_parent(self, probe: Callable[[], object]) -> str:
        """Raise while the parent is waited for. Otherwise return why it is not."""


class RunOpener:
    """Opens the run that ``context`` asks for, and keeps its id in ``record`` and beside the checkpoints."""

    def __init__(
        self,
        context: DestinationContext,
        connection: Connection,
        claim: RunClaim,
        *,
        record: RunRecord,
        earlier: Earlier | None,
    ) -> None:
        self._meta = meta = context.meta
        self._connection = connection
        self._record = record
        self._earlier = earlier
        self._creator = RunCreator(meta, connection)
        self._resumer = RunResumer(meta, connection, claim, notice=record.notice)
        self._journal = context.journal
        self._unsure = context.restarted
        """Whether the server may have created a run that this shipper has not heard of."""
        self._created_blindly = False
        self.created = False
        """Whether the run was made here, and was not there before."""

    def open(self) -> Resumed | None:
        """Open the run once the attempts before this one are delivered. Returns it if it existed before.

        Raises :class:`RejectedError` for bad credentials while ``start()`` waits for the run.
        """
        try:
            if self._earlier is not None:
                self._earlier.check(self._connection.ask)
            parent = self._parent_run_id()
            self._connection.open()
            return self._open(parent)
        except UnauthorisedError as error:
            if self._record.state.run is not None or not self._start_waits():
                raise
            names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            raise RejectedError(f"the credentials are refused ({error}): check {names}") from error

    def delete_twins(self) -> None:
        """Delete the other runs of this journal, if the server may have made one that we do not know."""
        if self._created_blindly:
            self._creator.delete_twins(self._connection.run_id)

    def _open(self, parent: str | None) -> Resumed | None:
        if self._meta.target.adopted == "made":
            return self._adopt()
        # A run that was created has a run-id file, too, so look for a created one first.
        unsure = self._unsure
        run = self._creator.find_created() if unsure and not self._meta.target.adopted else None
        resumed = self._resumer.resume() if run is None else None
        if resumed is not None:
            run = resumed.run
        if run is None:
            self._created_blindly = unsure
            self._unsure = True
            run = self._creator.create(parent)
            self.created = True
        return self._keep(run, resumed)

    def _adopt(self) -> Resumed | None:
        """Open the run that the training has made by MLflow's own API, with this attempt's claim on it."""
        found = self._resumer.existing()
        # Else the server keeps no tags of a new run, or another attempt was faster.
        self.created = holds(found, self._meta)
        return self._keep(found, None if self.created else self._resumer.resume())

    def _keep(self, run: Any, resumed: Resumed | None) -> Resumed | None:
        info = self._describe(run, resumed)
        self._keep_run_id_file(info)
        self._record.update(run=info)
        return resumed

    def _describe(self, run: Any, resumed: Resumed | None) -> RunInfo:
        """What the trainer wants to know of ``run``."""
        info = run.info
        if not info.run_id:
            raise RetryableError("the server answered without a run's id")
        steps = {} if resumed is None else last_steps(resumed.run)
        return RunInfo(
            run_id=info.run_id,
            experiment_id=encodable(info.experiment_id),
            artifact_uri=encodable(info.artifact_uri),
            url=run_page(self._meta.target.tracking_uri, info.experiment_id, info.run_id),
            resumed=resumed is not None,
            created_ms=info.start_time or 0,
            name=encodable(info.run_name or ""),
            joined=resumed is not None and not resumed.claimed,
            last_step=max(steps.values(), default=None),
            opening=None if resumed is None else resumed.describe(),
        )

    def _parent_run_id(self) -> str | None:
        """The parent's run id, which may have become known only now."""
        target = self._meta.target
        if target.parent_journal is None:
            return target.parent_run_id
        try:
            found = parent_run_id(self._journal, self._meta)
        except ParentUnknownError as error:
            self._record.notice(f"this run is not nested under its parent: {error}")
            return target.parent_run_id
        if found is None and self._earlier is not None:
            reason = self._earlier.check_parent(self._connection.ask)
            self._record.notice(f"this run is not nested under its parent, which has no run id: {reason}")
            return target.parent_run_id
        if found is None:
            raise RetryableError(
                f"waiting until the parent has a run id ({target.parent_journal})", waits=True
            )
        return found

    def _keep_run_id_file(self, info: RunInfo) -> None:
        directory = self._meta.target.checkpoint_dir
        if directory is None:
            return
        late = not is_alive(self._meta.owner)
        if late and is_newer(directory, self._meta.started_ms, info.run_id):
            return  # a late delivery must not lead the next attempt away from a later attempt's run
        try:
            write_run_id_file(directory, info.run_id)
        except OSError as error:
            self._record.notice(
                f"the run id could not be kept in {directory}: {error}. A later training will not find the "
                f"run there. To resume it, set MLFLOW_RUN_ID={info.run_id}"
            )

    def _start_waits(self) -> bool:
        """Whether ``start()`` still waits for the run, so that it can raise an error."""
        if not self._meta.start_waits:
            return False
        waited = time.time() - self._meta.started_ms / 1000
        # Negative if the clock was set back. Then the credentials are tried again, as after the start.
        return 0 <= waited < read_environment().start_timeout


class RunCreator:
    """Creates the run that ``meta`` asks for."""

    def __init__(self, meta: Meta, connection: Connection) -> None:
        self._meta = meta
        self._target = meta.target
        self._connection = connection

    def create(self, parent_run_id: str | None) -> Any:
        """A new run. Its tags are those ``mlflow.start_run`` would have set for the training process."""
        tags = {**owner_tags(self._meta), **self._source_tags(), **self._target.tags}
        tags[HEARTBEAT_TAG] = new_heartbeat()
        if parent_run_id:
            tags[PARENT_RUN_TAG] = parent_run_id
        return self._connection.call(
            self._connection.client.create_run,
            self._experiment_id(),
            start_time=self._meta.started_ms,
            tags={key: value[:MAX_TAG_VALUE_LENGTH] for key, value in tags.items()},
            run_name=self._target.run_name,
        )

    def find_created(self) -> Any | None:
        """The run that an earlier, interrupted attempt made for this journal, if it did."""
        # One that was resumed has this journal's tag, too, and began before.
        found = (run for run in self._runs_of_journal() if run.info.start_time == self._meta.started_ms)
        return next(found, None)

    def delete_twins(self, run_id: str) -> None:
        """Delete runs of this journal other than ``run_id``.

        A server that hung may have taken the first request to create the run after all. Nothing was ever
        written to what it made.
        """
        for run in self._runs_of_journal():
            if run.info.run_id != run_id:
                logger.warning("run %s was made twice, so %s is deleted", run_id, run.info.run_id)
                self._connection.call(self._connection.client.delete_run, run.info.run_id)

    def _runs_of_journal(self) -> list[Any]:
        condition = f"tags.`{JOURNAL_TAG}` = '{self._meta.journal_id}'"
        search = self._connection.client.search_runs
        return list(self._connection.call(search, self._experiment_id(), condition))

    def _experiment_id(self) -> str:
        """Id of the experiment, which is created if it is new. A deleted one is rejected."""
        call, client = self._connection.call, self._connection.client
        if self._target.experiment_id is not None:
            return _checked(call(client.get_experiment, self._target.experiment_id))
        name = self._target.experiment_name or "Default"
        found = self._find_experiment(name)
        if found is not None:
            return _checked(found)
        try:
            location = self._target.artifact_location
            return str(call(client.create_experiment, name, artifact_location=location))
        except RejectedError:
            found = call(client.get_experiment_by_name, name)
            if found is None:
                raise
            return _checked(found)  # another job made it between our look and our try

    def _find_experiment(self, name: str) -> Any | None:
        """The experiment of this name, if it exists, looked for twice on a slow server.

        All runs of a sweep begin together, and find none. If then all of them try to create it, all but one
        fail. A slow answer is a sign of such company, so each one waits for a time of its own.
        """
        begun = time.monotonic()
        call, look = self._connection.call, self._connection.client.get_experiment_by_name
        found = call(look, name)
        took = time.monotonic() - begun
        if found is None and took >= SLOW:
            time.sleep(random.uniform(0, min(HERD_TIMES * took, HERD_SECONDS)))  # noqa: S311 - jitter
            found = call(look, name)
        return found

    def _source_tags(self) -> dict[str, str]:
        commit = _git_commit(self._target.tags.get(SOURCE_NAME_TAG, ""))
        return {SOURCE_COMMIT_TAG: commit} if commit else {}


def _checked(experiment: Any) -> str:
    """The id of ``experiment``, which must not be deleted."""
    if experiment.lifecycle_stage == "deleted":
        raise RejectedError(deleted_experiment(experiment.name, experiment.experiment_id))
    if not experiment.experiment_id:
        raise RetryableError("the server answered without an experiment's id")
    return str(experiment.experiment_id)


def _git_commit(source: str) -> str | None:
    """The commit checked out where the training script is. None outside a checkout."""
    directory = os.path.dirname(os.path.abspath(source)) if source else os.getcwd()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        return done.stdout.strip() or None
    return None
