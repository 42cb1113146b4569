"""Which run that was there before is resumed, whether this attempt owns it, and which steps it gets again.

Invariant: what becomes of a run that the checkpoints name is said in the training's log, whatever it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.destinations.mlflow.findings import deleted_run
from trackside.destinations.mlflow.owner import describe_owner, may_claim
from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file
from trackside.errors import RejectedError
from trackside.lifecycle.verdict import SUCCEEDED
from trackside.tag_names import END_REASON_TAG
from trackside.text import utc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.destinations.mlflow.claim import RunClaim
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.tracking import Run
    from trackside.journal.format import MetricsRecord
    from trackside.journal.meta import Meta

SAMPLES = 10_000
"""How many samples are checked. By then a training has logged each of its names."""

_SYSTEM = "system/"


class Resumed(NamedTuple):
    """A run that was there before this attempt."""

    run: Any
    """As it was."""
    claimed: bool
    """Whether this attempt owns it now. If not, this attempt is a secondary writer."""

    def describe(self) -> str:
        """What was done with it, for the training's log."""
        label = f"run {self.run.info.run_id} ({self.run.info.run_name})"
        if self.claimed:
            return f"resuming {label}, which {_describe_state(self.run)}"
        return (
            f"adding to {label}, which belongs to {describe_owner(self.run.data.tags)} and "
            f"{_describe_state(self.run)}: this process adds points, and params and tags that are new, and "
            "leaves the status to the owner"
        )


class RunResumer:
    """Resumes the run that ``meta`` names, by its id or by the checkpoints. ``notice`` tells the user."""

    def __init__(
        self, meta: Meta, connection: Connection, claim: RunClaim, *, notice: Callable[[str], None]
    ) -> None:
        self._meta = meta
        self._target = meta.target
        self._connection = connection
        self._claim = claim
        self._notice = notice

    def resume(self) -> Resumed | None:
        """The run asked for, claimed if it may be. None when a new run is wanted."""
        run_id = self._wanted_run_id()
        if run_id is None:
            return None
        run = self._existing(run_id)
        if run is None or not (self._target.required_run or self._is_the_one_meant(run)):
            return None
        if self._target.adopted != "joined" and may_claim(run, self._meta):
            self._claim.take(run)
            return Resumed(run, claimed=True)
        self._join(run)
        return Resumed(run, claimed=False)

    def existing(self) -> Any:
        """The run that the target names by its id. Raises :class:`RejectedError` where it is not."""
        return self._existing(self._target.run_id or "")

    def _join(self, run: Any) -> None:
        """Write beside the owner: only tags that the run does not have."""
        known = run.data.tags
        new = {key: value for key, value in self._target.tags.items() if key not in known}
        if new:
            self._connection.log_tags(run.info.run_id, new)
        if self._target.checkpoint_dir is not None:
            self._notice(
                f"another training ({describe_owner(known)}) is logging to run {run.info.run_id}, which "
                f"{self._where_named} names, and its points and this one's are mixed. Give each training a "
                "checkpoint_dir of its own. The status is set by whichever training ends last"
            )

    def _existing(self, run_id: str) -> Any | None:
        """The run. None, with a notice, when it is gone. A run that the user named must be there."""
        where = self._target.tracking_uri
        try:
            run = self._connection.call(self._connection.client.get_run, run_id)
        except RejectedError as error:
            if self._target.required_run:
                raise RejectedError(f"run {run_id!r} does not exist at {where}: {error}") from error
            self._notice(
                f"starting a new run: {self._where_named} names run {run_id}, which is not at {where}"
            )
            return None
        if run.info.lifecycle_stage == "deleted":
            restore = f"mlflow runs restore --run-id {run_id}"
            if self._target.required_run:
                raise RejectedError(deleted_run(run_id))
            self._notice(
                f"starting a new run: {self._where_named} names run {run_id}, which is deleted. "
                f"To resume it, restore it first ({restore})"
            )
            return None
        return run

    def _is_the_one_meant(self, run: Any) -> bool:
        """Whether the run that the checkpoints name is resumed. Says so when it is not."""
        if self._target.resume_finished:
            return True
        where = self._where_named
        differs = self._differs(run)
        if differs is not None:
            self._notice(
                f"starting a new run: {where} names run {run.info.run_id} {differs}. A copied checkpoint_dir "
                'names the run it was copied from. To resume that run all the same, pass resume="always"'
            )
            return False
        if run.info.status == "FINISHED" and run.data.tags.get(END_REASON_TAG) != SUCCEEDED:
            self._notice(
                f"starting a new run: {where} names run {run.info.run_id}, which {_describe_state(run)}. "
                'To add to a finished run, pass resume="always"'
            )
            return False
        return True

    def _differs(self, run: Any) -> str | None:
        """How the run differs from the one asked for, or None."""
        target, name = self._target, run.info.run_name
        if target.run_name is not None and target.run_name != name:
            return f"with the name {name!r}, and this training asks for {target.run_name!r}"
        if target.experiment_name is not None:
            client = self._connection.client
            found = self._connection.call(client.get_experiment, run.info.experiment_id).name
            if found != target.experiment_name:
                return f"of experiment {found!r}, and this training asks for {target.experiment_name!r}"
        elif target.experiment_id not in {None, run.info.experiment_id}:
            return (
                f"of experiment {run.info.experiment_id}, and this training asks for {target.experiment_id}"
            )
        return None

    @property
    def _where_named(self) -> str:
        """What names the run: an id that the program has kept, or the run-id file."""
        if self._target.run_id is not None:
            return "the checkpoint"
        return os.path.join(self._target.checkpoint_dir or "", RUN_ID_FILE)

    def _wanted_run_id(self) -> str | None:
        """The run the user named or else, read as late as possible, the one the checkpoints belong to."""
        target = self._target
        if target.run_id is None and target.checkpoint_dir is not None and target.resume:
            return read_run_id_file(target.checkpoint_dir)
        return target.run_id


def _describe_state(run: Any) -> str:
    """The run's status, since when, and its last step, as the end of a sentence."""
    info = run.info
    status = f"shows {info.status}"
    if info.end_time:
        status = f"ended as {info.status} at {utc(info.end_time):%Y-%m-%d %H:%M:%S} UTC"
    last = max(last_steps(run).values(), default=None)
    return status if last is None else f"{status}, last step {last}"


def last_steps(run: Run) -> dict[str, int]:
    """The last step of each metric of ``run``. The machine's load has steps of its own."""
    return {key: step for key, (step, _) in run.data.last.items() if not key.startswith(_SYSTEM)}


class RedoneSteps:
    """Tells once that an attempt begins at a step which the run already has.

    ``last``: the last step of each metric, from the attempts before.
    """

    def __init__(self, last: dict[str, int], *, run_id: str, notice: Callable[[str], None]) -> None:
        self._last = dict(last)
        self._left = SAMPLES
        self._run_id = run_id
        self._notice = notice

    def check(self, batch: Sequence[MetricsRecord], valid: Callable[[str], str]) -> None:
        """Look at the first step of each metric. ``valid`` gives a metric's name in MLflow."""
        if not self._last:
            return
        for record in batch:
            for name in map(valid, record.named_values()):
                last = self._last.pop(name, None)
                if last is not None and record.step <= last:
                    self._tell(name, record.step, last)
                    return
        self._left -= len(batch)
        if self._left <= 0:
            self._last = {}

    def _tell(self, name: str, step: int, last: int) -> None:
        self._last = {}
        redone = f"steps {step} to {last} are redone" if step < last else f"step {step} is redone"
        self._notice(
            f"{redone}: run {self._run_id} has {name!r} up to step {last} from the "
            f"attempt before, and this attempt begins at step {step}. Charts show both values of such "
            "a step. To have a run for each attempt, pass resume=False"
        )
