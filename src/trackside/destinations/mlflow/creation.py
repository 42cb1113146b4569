"""Creating the run of a journal, and its experiment if that is new."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.owner import owner_tags
from trackside.errors import RejectedError, RetryableError
from trackside.names import MAX_TAG_VALUE_LENGTH
from trackside.tag_names import JOURNAL_TAG, PARENT_RUN_TAG, SOURCE_COMMIT_TAG, SOURCE_NAME_TAG

if TYPE_CHECKING:
    from trackside.destinations.mlflow.connection import Connection
    from trackside.journal.meta import Meta

logger = logging.getLogger("trackside.destinations")


class RunCreator:
    """Creates the run that ``meta`` asks for."""

    def __init__(self, meta: Meta, connection: Connection) -> None:
        self._meta = meta
        self._target = meta.target
        self._connection = connection

    def create(self, parent_run_id: str | None) -> Any:
        """A new run. Its tags are those ``mlflow.start_run`` would have set for the training process."""
        tags = {**owner_tags(self._meta), **self._source_tags(), **self._target.tags}
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
        return list(self._connection.call(search, [self._experiment_id()], condition))

    def _experiment_id(self) -> str:
        """Id of the experiment, which is created if it is new. A deleted one is rejected."""
        call, client = self._connection.call, self._connection.client
        if self._target.experiment_id is not None:
            return _checked(call(client.get_experiment, self._target.experiment_id))
        name = self._target.experiment_name or "Default"
        found = call(client.get_experiment_by_name, name)
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

    def _source_tags(self) -> dict[str, str]:
        commit = _git_commit(self._target.tags.get(SOURCE_NAME_TAG, ""))
        return {SOURCE_COMMIT_TAG: commit} if commit else {}


def _checked(experiment: Any) -> str:
    """The id of ``experiment``, which must not be deleted."""
    if experiment.lifecycle_stage == "deleted":
        raise RejectedError(
            f"experiment {experiment.name!r} is deleted: restore it "
            f"(mlflow experiments restore --experiment-id {experiment.experiment_id}) or use another name"
        )
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
