"""Finding or making the run in MLflow, once, whatever happens in between.

Invariant: a run is created at most once for a journal. The run carries the journal's id as a tag from its
first moment; when it is unknown whether an earlier attempt to create it succeeded (the shipper was killed,
the connection was cut behind the commit), the run is looked up by that tag before another one is made.

Invariant: what becomes of a run that the checkpoints name is said in the training's log, whatever it is.
:mod:`trackside.destinations.mlflow.owner` says whose the run is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.destinations.mlflow.chunks import chunks
from trackside.destinations.mlflow.owner import JOURNAL_TAG, describe_owner, may_claim, owner_tags
from trackside.destinations.mlflow.redone import last_steps
from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file
from trackside.destinations.mlflow.run_page import run_page
from trackside.destinations.mlflow.tags import MAX_TAG_VALUE
from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.journal.meta import RunInfo
from trackside.lifecycle.verdict import SUCCEEDED
from trackside.text import encodable, utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.meta import Meta

logger = logging.getLogger(__name__)

MAX_TAGS_PER_BATCH = 100
"""``MAX_PARAMS_TAGS_PER_BATCH`` in ``mlflow/utils/validation.py``."""


class Found(NamedTuple):
    """A run that was there before this attempt."""

    run: Any
    """As it was."""
    claimed: bool
    """Whether this attempt owns it now; else it is a secondary writer."""


class RunOpener:
    """Creates or resumes the run that ``meta`` asks for, through ``client``, an ``MlflowClient``.

    ``tag`` makes MLflow's ``RunTag``. ``notice`` tells the user something, as a warning in the training's
    log.
    """

    def __init__(
        self,
        client: Any,
        meta: Meta,
        *,
        translate: Any,
        tag: Callable[[str, str], Any],
        notice: Callable[[str], None],
    ) -> None:
        self._client = client
        self._meta = meta
        self._target = meta.target
        self._translate = translate
        self._tag = tag
        self._notice = notice

    def resume(self, turn_page: Callable[[Any], None]) -> Found | None:
        """The run asked for by id or by the checkpoints; None when a new run is wanted.

        ``turn_page(run)`` takes what earlier attempts said off its page, before this one claims the run.
        """
        run_id = self._wanted_run_id()
        if run_id is None:
            return None
        run = self._existing(run_id)
        if run is None or not (self._target.required_run or self._is_the_one_meant(run)):
            return None
        if may_claim(run, self._meta):
            turn_page(run)
            self.claim(run_id)
            return Found(run, claimed=True)
        self._join(run)
        return Found(run, claimed=False)

    def claim(self, run_id: str) -> None:
        """Make this attempt the owner of the run, which then shows RUNNING."""
        self._set_tags(run_id, {**owner_tags(self._meta), **self._target.tags})
        self._call(self._client.update_run, run_id, "RUNNING")
        tags = self._call(self._client.get_run, run_id).data.tags
        if tags.get(JOURNAL_TAG) != self._meta.journal_id:  # a 200 may come from somebody in between
            raise RetryableError(f"run {run_id} was written to, and does not show it")

    def _join(self, run: Any) -> None:
        """Write beside the owner: only tags that the run does not have."""
        known = run.data.tags
        self._set_tags(run.info.run_id, {k: v for k, v in self._target.tags.items() if k not in known})
        if self._target.checkpoint_dir is not None:
            self._notice(
                f"another training ({describe_owner(known)}) is logging to run {run.info.run_id}, which "
                f"{self._run_id_file} names, and its points and this one's are mixed. Give each training a "
                "checkpoint_dir of its own. The status is set by whichever training ends last"
            )

    def _set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        all_tags = [self._tag(key, value[:MAX_TAG_VALUE]) for key, value in tags.items()]
        for chunk in chunks(all_tags, MAX_TAGS_PER_BATCH):
            self._call(self._client.log_batch, run_id, tags=chunk)

    def _existing(self, run_id: str) -> Any | None:
        """The run; None, with a notice, when it is gone. A run that the user named must be there."""
        where = self._target.tracking_uri
        try:
            run = self._call(self._client.get_run, run_id)
        except RejectedError as error:
            if self._target.required_run:
                msg = f"run {run_id!r} does not exist at {where}: {error}"
                raise RejectedError(msg) from error
            self._notice(
                f"starting a new run: {self._run_id_file} names run {run_id}, which is not at {where}"
            )
            return None
        if run.info.lifecycle_stage == "deleted":
            restore = f"mlflow runs restore --run-id {run_id}"
            if self._target.required_run:
                msg = f"run {run_id!r} is deleted; restore it ({restore}) or start a new one"
                raise RejectedError(msg)
            self._notice(
                f"starting a new run: {self._run_id_file} names run {run_id}, which is deleted. "
                f"To resume it, restore it first ({restore})"
            )
            return None
        return run

    def _is_the_one_meant(self, run: Any) -> bool:
        """Whether the run that the checkpoints name is resumed; says so when it is not."""
        if self._target.resume_finished:
            return True
        where = self._run_id_file
        differs = self._differs(run)
        if differs is not None:
            self._notice(
                f"starting a new run: {where} names run {run.info.run_id} {differs}. A copied checkpoint_dir "
                'names the run it was copied from. To resume that run all the same, pass resume="always"'
            )
            return False
        if run.info.status == "FINISHED" and run.data.tags.get("trackside.end.reason") != SUCCEEDED:
            self._notice(
                f"starting a new run: {where} names run {run.info.run_id}, which {describe_state(run)}. "
                'To add to a finished run, pass resume="always"'
            )
            return False
        return True

    def _differs(self, run: Any) -> str | None:
        """How the run is another one than asked for; None when it is not."""
        target, name = self._target, run.info.run_name
        if target.run_name is not None and target.run_name != name:
            return f"with the name {name!r}, and this training asks for {target.run_name!r}"
        if target.experiment_name is not None:
            found = self._call(self._client.get_experiment, run.info.experiment_id).name
            if found != target.experiment_name:
                return f"of experiment {found!r}, and this training asks for {target.experiment_name!r}"
        elif target.experiment_id not in {None, run.info.experiment_id}:
            return (
                f"of experiment {run.info.experiment_id}, and this training asks for {target.experiment_id}"
            )
        return None

    @property
    def _run_id_file(self) -> str:
        return os.path.join(self._target.checkpoint_dir or "", RUN_ID_FILE)

    def _wanted_run_id(self) -> str | None:
        """The run the user named or else, read as late as possible, the one the checkpoints belong to."""
        target = self._target
        if target.run_id is None and target.checkpoint_dir is not None and target.resume:
            return read_run_id_file(target.checkpoint_dir)
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
        tags = {**owner_tags(self._meta), **self._source_tags(), **self._target.tags}
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

    def describe(self, run: Any, *, found: Found | None = None) -> RunInfo:
        """What the trainer wants to know of ``run``; ``found``: it was there before."""
        info = run.info
        if not info.run_id:
            raise RetryableError("the server answered without a run's id")
        steps = {} if found is None else last_steps(found.run)
        return RunInfo(
            run_id=info.run_id,
            experiment_id=encodable(info.experiment_id),
            artifact_uri=encodable(info.artifact_uri),
            url=run_page(self._target.tracking_uri, info.experiment_id, info.run_id),
            resumed=found is not None,
            created_ms=info.start_time or 0,
            name=encodable(info.run_name or ""),
            joined=found is not None and not found.claimed,
            last_step=max(steps.values(), default=None),
            opening=None if found is None else _opening(found),
        )

    def _checked(self, experiment: Any) -> str:
        if experiment.lifecycle_stage == "deleted":
            msg = (
                f"experiment {experiment.name!r} is deleted; restore it "
                f"(mlflow experiments restore --experiment-id {experiment.experiment_id}) or use another name"
            )
            raise RejectedError(msg)
        if not experiment.experiment_id:
            raise RetryableError("the server answered without an experiment's id")
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


def _opening(found: Found) -> str:
    """What was done with a run that was there, for the training's log."""
    label = f"run {found.run.info.run_id} ({found.run.info.run_name})"
    if found.claimed:
        return f"resuming {label}, which {describe_state(found.run)}"
    return (
        f"adding to {label}, which belongs to {describe_owner(found.run.data.tags)} and "
        f"{describe_state(found.run)}: this process adds points, and params and tags that are new, and "
        "leaves the status to the owner"
    )


def describe_state(run: Any) -> str:
    """The run's status, since when, and its last step, as the end of a sentence."""
    info = run.info
    status = f"shows {info.status}"
    if info.end_time:
        status = f"ended as {info.status} at {utc(info.end_time):%Y-%m-%d %H:%M:%S} UTC"
    last = max(last_steps(run).values(), default=None)
    return status if last is None else f"{status}, last step {last}"


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
