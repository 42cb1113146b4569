"""Finding or making the run in MLflow, once, whatever happens in between.

Invariant: a run is created at most once for a journal. The run carries the journal's id as a tag from its
first moment; when it is unknown whether an earlier attempt to create it succeeded (the shipper was killed,
the connection was cut behind the commit), the run is looked up by that tag before another one is made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import Any

from trackside.destinations.mlflow_tags import MAX_TAG_VALUE
from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, RunInfo, State
from trackside.run_page import run_page
from trackside.sidecar import read_sidecar

logger = logging.getLogger(__name__)

JOURNAL_TAG = "trackside.journal"


class RunOpener:
    """Creates or resumes the run that ``meta`` asks for, through ``client``, an ``MlflowClient``."""

    def __init__(self, client: Any, meta: Meta, *, translate: Any) -> None:
        self._client = client
        self._meta = meta
        self._target = meta.target
        self._translate = translate

    def resume(self) -> Any | None:
        """The run asked for by id, set back to RUNNING; None when there is none and a new one is wanted."""
        run_id = self._wanted_run_id()
        if run_id is None:
            return None
        try:
            run = self._call(self._client.get_run, run_id)
        except RejectedError as error:
            if self._target.required_run:
                msg = f"run {run_id!r} does not exist at {self._target.tracking_uri}: {error}"
                raise RejectedError(msg) from error
            return None
        if run.info.lifecycle_stage == "deleted":
            if self._target.required_run:
                remedy = f"restore it (mlflow runs restore --run-id {run_id}) or start a new one"
                msg = f"run {run_id!r} is deleted; {remedy}"
                raise RejectedError(msg)
            return None
        tags = {JOURNAL_TAG: self._meta.journal_id, **self._target.tags}
        for key, value in tags.items():
            self._call(self._client.set_tag, run_id, key, value[:MAX_TAG_VALUE])
        self._call(self._client.update_run, run_id, "RUNNING")
        return self._call(self._client.get_run, run_id)

    def _wanted_run_id(self) -> str | None:
        """The run the user named or else, read as late as possible, the one the checkpoints belong to."""
        target = self._target
        if target.run_id is None and target.sidecar is not None and target.resume:
            return read_sidecar(target.sidecar)
        return target.run_id

    def find_created(self) -> Any | None:
        """The run an earlier, interrupted attempt made for this journal, if it did."""
        found = self._runs_of_journal()
        return found[0] if found else None

    def delete_twins(self, run_id: str) -> None:
        """Delete runs of this journal other than ``run_id``.

        A server that hung took the first request to create the run after all, behind our back; nothing
        was ever written to what it made.
        """
        for run in self._runs_of_journal():
            if run.info.run_id != run_id:
                logger.warning("run %s was made twice; %s is deleted", run_id, run.info.run_id)
                self._call(self._client.delete_run, run.info.run_id)

    def _runs_of_journal(self) -> list[Any]:
        condition = f"tags.`{JOURNAL_TAG}` = '{self._meta.journal_id}'"
        return list(self._call(self._client.search_runs, [self.experiment_id()], condition))

    def create(self) -> Any:
        """A new run; its tags are those ``mlflow.start_run`` would have set for the training process."""
        tags = {JOURNAL_TAG: self._meta.journal_id, **self._source_tags(), **self._target.tags}
        if self._target.parent_run_id:
            tags["mlflow.parentRunId"] = self._target.parent_run_id
        return self._call(
            self._client.create_run,
            self.experiment_id(),
            start_time=self._meta.started_ms,
            tags={key: value[:MAX_TAG_VALUE] for key, value in tags.items()},
            run_name=self._target.run_name,
        )

    def experiment_id(self) -> str:
        """Id of the experiment, created when it is new; a deleted one is refused."""
        if self._target.experiment_id is not None:
            return self._checked(self._call(self._client.get_experiment, self._target.experiment_id))
        name = self._target.experiment_name or "Default"
        found = self._call(self._client.get_experiment_by_name, name)
        if found is not None:
            return self._checked(found)
        try:
            location = self._target.artifact_location
            return str(self._call(self._client.create_experiment, name, artifact_location=location))
        except RejectedError:
            found = self._call(self._client.get_experiment_by_name, name)
            if found is None:
                raise
            return self._checked(found)  # another job made it between our look and our try

    def describe(self, run: Any, *, resumed: bool) -> RunInfo:
        """What the trainer wants to know of ``run``."""
        info = run.info
        return RunInfo(
            run_id=info.run_id,
            experiment_id=info.experiment_id,
            artifact_uri=info.artifact_uri,
            url=run_page(self._target.tracking_uri, info.experiment_id, info.run_id),
            resumed=resumed,
            created_ms=info.start_time or 0,
            name=info.run_name or "",
        )

    def _checked(self, experiment: Any) -> str:
        if experiment.lifecycle_stage == "deleted":
            msg = (
                f"experiment {experiment.name!r} is deleted; restore it "
                f"(mlflow experiments restore --experiment-id {experiment.experiment_id}) or use another name"
            )
            raise RejectedError(msg)
        return str(experiment.experiment_id)

    def _source_tags(self) -> dict[str, str]:
        commit = git_commit(self._target.tags.get("mlflow.source.name", ""))
        return {"mlflow.source.git.commit": commit} if commit else {}

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except DeliveryError:
            raise
        except Exception as error:
            raise self._translate(error) from error


def wait_for_leftovers(meta: Meta) -> None:
    """Raise :class:`RetryableError` while an attempt before this one is not delivered."""
    for path in meta.after:
        earlier = JournalDirectory(path)
        state = read_json(earlier.state, State)
        if earlier.meta.exists() and not (state and state.phase in {"refused", "done"}):
            msg = f"waiting until an earlier attempt is delivered ({earlier.path})"
            raise RetryableError(msg)


def git_commit(source: str) -> str | None:
    """The commit checked out where the training script lies; None outside a checkout."""
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
