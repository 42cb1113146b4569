"""Checkpoints that HF's and Lightning's trainers save, logged if you ask for it. Nothing is delivered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.frameworks.offline import (
    place,  # noqa: F401 - a fixture
    steps,
    values,
)
from tests.parts import journal_of, records_of
from trackside.errors import ConfigurationError
from trackside.integrations.checkpoints import checkpoint_policy
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from trackside.session.run import Run

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.outside,
    pytest.mark.filterwarnings("default"),  # theirs
]


def checkpoints(run: Run | None) -> list[ArtifactRecord]:
    """Those in the run's journal."""
    assert run is not None
    return [record for record in records_of(run) if isinstance(record, ArtifactRecord)]


def files_of(run: Run | None, record: ArtifactRecord) -> set[str]:
    """The names of the files that are held for ``record``."""
    assert run is not None
    assert record.held is not None
    return {path.name for path in content_of(journal_of(run), record.held).iterdir()}


def test_an_unknown_option_is_refused() -> None:
    """When the callback or logger is made, so that no training runs without its checkpoints."""
    with pytest.raises(ConfigurationError, match="log_checkpoints='all' is not known"):
        checkpoint_policy("all")  # type: ignore[arg-type]
    assert [checkpoint_policy(one) for one in (False, True, "latest", "end")] == [
        None,
        "now",
        "latest",
        "end",
    ]


def saving(log_checkpoints: Any, **options: Any) -> Run | None:
    """A training of HF's Trainer that saves each second step and keeps one."""
    pytest.importorskip("transformers")
    from tests.frameworks.hf import arguments, trainer
    from trackside.integrations.transformers import TracksideCallback

    callback = TracksideCallback(log_checkpoints=log_checkpoints)
    chosen = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, **options}
    trainer(arguments(save_total_limit=1, **chosen), callbacks=[callback]).train()
    return callback.run


def test_the_trainers_checkpoints_outlive_its_rotation() -> None:
    """Each has all its files and the metrics of its step, whichever of them the Trainer has removed since."""
    run = saving(True)
    first, second = checkpoints(run)
    assert not os.path.exists("out/checkpoint-2")
    assert [record.step for record in (first, second)] == [2, 4]
    assert [record.details["name"] for record in (first, second)] == ["checkpoint-2", "checkpoint-4"]
    assert {"train/loss", "eval/loss"} <= first.details["metrics"].keys()
    assert {"model.safetensors", "trainer_state.json"} <= files_of(run, first)


def test_the_trainers_checkpoints_are_not_logged_by_default() -> None:
    """They may be large."""
    assert checkpoints(saving(False)) == []


def test_only_the_latest_checkpoint_may_be_wanted() -> None:
    """Each is one of the same place, so that a newer one takes the place of one that waits."""
    assert {(record.policy, record.place) for record in checkpoints(saving("latest"))} == {
        ("latest", "checkpoint")
    }


@pytest.fixture
def lightning() -> Any:
    """The module with a small training."""
    pytest.importorskip("lightning")
    from tests.frameworks import tiny_lightning

    return tiny_lightning


def fitted(tiny: Any, log_checkpoints: Any, **checkpoint: Any) -> Run:
    """The run of a fit of two epochs."""
    from trackside.integrations.lightning import TracksideLogger

    logger = TracksideLogger("tiny", log_checkpoints=log_checkpoints, save_dir="logs")
    saver = tiny.lightning.callbacks.ModelCheckpoint(**{"monitor": "val_loss", **checkpoint})
    fitter = tiny.trainer(logger, callbacks=[saver], enable_checkpointing=True)
    fitter.fit(tiny.Tiny(), tiny.data(), tiny.data())
    return logger.begin()


def test_lightnings_checkpoints_come_with_what_is_monitored(lightning) -> None:
    """One for each that is saved, with its step. ``last.ckpt`` of the same step is not logged once more."""
    run = fitted(lightning, True, save_top_k=1, save_last=True)
    first, second = checkpoints(run)
    assert [record.step for record in (first, second)] == [4, 8]
    assert first.details["metrics"].keys() == {"val_loss"}
    assert first.details["metrics"]["val_loss"] > second.details["metrics"]["val_loss"]
    assert first.details["file"] == "epoch=0-step=4.ckpt"
    assert first.held is not None
    assert not os.path.exists(first.held.source)
    assert content_of(journal_of(run), first.held).stat().st_size == first.held.size > 0


@pytest.mark.parametrize("monitor", ["val_loss", "train/loss_epoch"])
def test_lightnings_checkpoints_are_measured_where_the_run_has_the_metric(lightning, monitor) -> None:
    """So that MLflow has one point of both, and not a second one a step later."""
    run = fitted(lightning, True, save_top_k=-1, monitor=monitor)
    found = checkpoints(run)
    assert [record.details["metrics_step"] for record in found] == steps(run, monitor) == [3, 7]
    assert [record.details["metrics"][monitor] for record in found] == values(run, monitor)


def test_lightnings_checkpoints_are_not_logged_by_default(lightning) -> None:
    """They may be large."""
    assert checkpoints(fitted(lightning, False)) == []
