"""PyTorch-Ignite with the logger: which run it gets, and what is in it."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ignite")

import torch
from ignite.engine import Engine, Events
from ignite.handlers import global_step_from_engine

import trackside
from tests.frameworks.offline import params, place, points, steps, values  # noqa: F401 - a fixture
from trackside.integrations.ignite import OutputHandler, TracksideLogger

pytestmark = [pytest.mark.frameworks, pytest.mark.outside, pytest.mark.filterwarnings("default")]


def engine(output: Any = 0.5, **metrics: Any) -> Engine:
    """An engine whose batches have this output, and which has these metrics at the end of an epoch."""
    made = Engine(lambda _engine, _batch: output)
    made.add_event_handler(Events.EPOCH_COMPLETED, lambda one: one.state.metrics.update(metrics))
    return made


def test_outputs_metrics_and_learning_rates() -> None:
    """With Ignite's names and steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    trainer, evaluator = engine(torch.tensor(0.5)), engine(nll=0.25, accuracy=torch.tensor(0.75))
    with TracksideLogger(experiment_name="digits") as logger:
        logger.log_params({"seed": 3})
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, tag="train", output_transform=lambda loss: {"loss": loss}
        )
        logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED, optimizer=optimizer)
        logger.attach_output_handler(
            evaluator,
            Events.EPOCH_COMPLETED,
            tag="val",
            metric_names="all",
            global_step_transform=global_step_from_engine(trainer),
        )
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
        trainer.run([0, 1, 2], max_epochs=2)
        run = logger.run
        assert steps(run, "train/loss") == steps(run, "lr/group_0") == [1, 2, 3, 4, 5, 6]
        assert steps(run, "val/nll") == steps(run, "val/accuracy") == [1, 2]
        assert values(run, "train/loss")[0] == 0.5
        assert params(run) == {"seed": "3"}
        assert run.is_recording
    assert run.status == "FINISHED"


def test_nested_values_have_ignites_names() -> None:
    """Mappings, lists and tensors of one dimension."""
    metrics = {"d": {"a": 1, "e": [2, {"f": 3}]}, "t": torch.tensor([4.0, 5.0]), "text": "no number"}
    made = engine()
    made.state.metrics = metrics
    with TracksideLogger() as logger:
        handler = OutputHandler("x", metric_names=["d", "t", "text", "missing"], state_attributes=["alpha"])
        made.state.alpha = 6
        handler(made, logger, Events.EPOCH_COMPLETED)
        names = {name for name, _ in points(logger.run)}
    assert names == {"x/d/a", "x/d/e/0", "x/d/e/1/f", "x/t/0", "x/t/1", "x/alpha"}


def test_an_exception_leaves_the_block() -> None:
    """The run has failed, though Ignite's ``with`` only closes the logger."""
    with pytest.raises(ValueError, match="boom"), TracksideLogger() as logger:
        raise ValueError("boom")
    assert logger.run.status == "FAILED"


def test_a_run_of_the_program_is_used_and_not_ended() -> None:
    """Closing the logger leaves it alone."""
    with trackside.start("mine") as run:
        logger = TracksideLogger()
        assert logger.run is run
        logger.close()
        assert run.is_recording


def test_two_loggers_in_turn() -> None:
    """Each has its run, closed or not."""
    first = TracksideLogger()
    second = TracksideLogger()
    assert first.run.status == "FINISHED"
    assert second.run.is_recording
    second.close()
    assert second.run.status == "FINISHED"
