"""Which run the checkpoints' run-id file leads to, and what the training's log says of it."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import Delivery, delivery
from tests.faults.fake import until
from trackside.destinations.mlflow.run_id_file import write_run_id_file
from trackside.journal.format import MetricsRecord
from trackside.journal.owner import Owner, this_process
from trackside.lifecycle.evidence import Evidence
from trackside.system.processes import start_ticks
from trackside.tag_names import JOURNAL_TAG, OWNER_TAG

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def client(store: str) -> MlflowClient:
    """For reading it back."""
    return MlflowClient(store)


class Launches:
    """Trainings one after another with one checkpoint directory."""

    def __init__(self, journals: Path, store: str, checkpoint_dir: Path) -> None:
        self._journals, self._store, self._checkpoint_dir = journals, store, checkpoint_dir
        self.experiment = f"resume-{secrets.token_hex(4)}"

    def launch(self, *steps: int, status: Any = "FAILED", names: tuple[str, ...] = ("loss",), **target: Any):
        """Log these steps and end as ``status``."""
        target = {"experiment_name": self.experiment, "checkpoint_dir": str(self._checkpoint_dir), **target}
        with delivery(self._journals, self._store, **target) as rig:
            for step in steps:
                values = dict.fromkeys(names, 0.5)
                rig.writer.append(MetricsRecord(0, time.time_ns() // 10**6, step, None, None, values))
            rig.worker.start()
            until(lambda: rig.worker.opened, 60)
            rig.evidence = Evidence(finished=status)
            rig.worker.calls.wake.set()
            rig.join(60)
        return rig


@pytest.fixture
def launches(journals: Path, store: str, tmp_path: Path) -> Launches:
    """With an empty checkpoint directory."""
    return Launches(journals, store, tmp_path / "checkpoints")


def opening(rig: Delivery) -> Any:
    """What the training process hears of its run."""
    assert rig.progress.state.run is not None
    return rig.progress.state.run


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_an_unfinished_run_is_resumed_and_said(launches: Launches, status: str) -> None:
    """With its status, its end and its last step, at INFO: it is what was asked for."""
    first = launches.launch(0, 7, status=status)
    second = launches.launch(8)
    assert second.run_id == first.run_id
    assert (opening(first).opening, opening(first).last_step) == (None, None)
    assert opening(second).last_step == 7
    said = opening(second).opening
    assert said.startswith(f"resuming run {first.run_id} (")
    assert f"ended as {status} at 20" in said
    assert said.endswith(" UTC, last step 7")
    assert not second.notices


def test_a_finished_run_is_resumed_only_when_asked(launches: Launches) -> None:
    """A script that runs twice makes two runs, and the log names the remedy. By its id it is resumed."""
    first = launches.launch(0, 1, status="FINISHED")
    second = launches.launch(0, 1, status="FINISHED")
    assert second.run_id != first.run_id
    assert f"names run {first.run_id}, which ended as FINISHED at " in second.notices
    assert "last step 1" in second.notices
    assert 'pass resume="always"' in second.notices
    third = launches.launch(2, status="FINISHED", resume_finished=True)
    assert third.run_id == second.run_id
    assert "which ended as FINISHED" in opening(third).opening
    by_id = launches.launch(2, run_id=first.run_id, required_run=True)
    assert by_id.run_id == first.run_id
    assert not third.notices + by_id.notices


def test_an_id_that_the_program_keeps_is_treated_as_the_files(launches: Launches) -> None:
    """A run that is gone means a new run. What is said names the checkpoint."""
    first = launches.launch(0, 1, status="FINISHED", checkpoint_dir=None)
    second = launches.launch(0, 1, run_id=first.run_id, checkpoint_dir=None)
    assert second.run_id != first.run_id
    assert f"the checkpoint names run {first.run_id}, which ended as FINISHED at " in second.notices
    third = launches.launch(2, run_id=second.run_id, checkpoint_dir=None)
    assert third.run_id == second.run_id
    gone = launches.launch(0, run_id="0" * 32)
    assert gone.run_id not in {first.run_id, second.run_id}
    assert "starting a new run: the checkpoint names run 000" in gone.notices


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"experiment_name": "fine-tuning"}, "and this training asks for 'fine-tuning'"),
        ({"run_name": "tuned"}, "with the name 'base', and this training asks for 'tuned'"),
        ({"experiment_name": None, "experiment_id": "0"}, "and this training asks for 0"),
    ],
)
def test_a_copied_checkpoint_directory_gets_a_run_of_its_own(
    launches: Launches, client: MlflowClient, asked: dict[str, Any], said: str
) -> None:
    """Another experiment or run name than that of the run in the file: a warning, and a new run."""
    base = launches.launch(0, 1, run_name="base")
    tuned = launches.launch(0, 1, **{"run_name": "base", **asked})
    assert tuned.run_id != base.run_id
    assert f"names run {base.run_id} " in tuned.notices
    assert said in tuned.notices
    assert "A copied checkpoint_dir names the run it was copied from" in tuned.notices
    assert client.get_run(base.run_id).info.status == "FAILED"
    again = launches.launch(2, **{"run_name": "base", **asked})
    assert again.run_id == tuned.run_id, "from now on the file names the new run"


def test_the_names_do_not_matter_when_resuming_always(launches: Launches) -> None:
    """Nor do they when no name is asked for."""
    base = launches.launch(0, run_name="base")
    assert launches.launch(1).run_id == base.run_id
    assert launches.launch(2, run_name="other", resume_finished=True).run_id == base.run_id


def test_a_run_that_is_gone_is_said(launches: Launches, client: MlflowClient, tmp_path: Path) -> None:
    """Deleted, or of another server: a new run, and why."""
    first = launches.launch(0)
    client.delete_run(first.run_id)
    second = launches.launch(0)
    assert second.run_id != first.run_id
    assert f"names run {first.run_id}, which is deleted" in second.notices
    write_run_id_file(tmp_path / "checkpoints", "0" * 32)
    assert f"names run {'0' * 32}, which is not at sqlite:" in launches.launch(0).notices


def test_redone_steps_are_said_once(launches: Launches, client: MlflowClient) -> None:
    """Resumed from a checkpoint before the last step logged: which steps the charts show twice."""
    first = launches.launch(*range(10), names=("loss", "lr"))
    second = launches.launch(*range(6, 12), names=("loss", "lr"))
    assert second.notices.count("are redone") == 1
    assert f"steps 6 to 9 are redone: run {first.run_id} has 'loss' up to step 9" in second.notices
    assert len(client.get_metric_history(first.run_id, "loss")) == 16
    third = launches.launch(12, 13)
    assert not third.notices


def test_a_metric_with_steps_of_its_own_is_no_redone_step(launches: Launches) -> None:
    """Epochs count in another way than batches: only the metric's own last step counts."""
    launches.launch(*range(100, 110))
    assert not launches.launch(1, 2, names=("per_epoch",)).notices


def test_a_secondary_writer_redoes_nothing(launches: Launches, client: MlflowClient) -> None:
    """An evaluation of an earlier checkpoint, in the run of a living training, is no resume."""
    first = launches.launch(*range(10))
    client.update_run(first.run_id, "RUNNING")
    parent = psutil.Process(os.getppid())
    me = this_process()
    alive = Owner(me.host, parent.pid, parent.create_time(), me.boot_id, start_ticks(parent.pid))
    client.set_tag(first.run_id, JOURNAL_TAG, "of another attempt")
    client.set_tag(first.run_id, OWNER_TAG, msgspec.json.encode(alive).decode())
    rig = launches.launch(5, run_id=first.run_id, required_run=True, checkpoint_dir=None, status="FINISHED")
    assert opening(rig).joined
    assert "redone" not in rig.notices
