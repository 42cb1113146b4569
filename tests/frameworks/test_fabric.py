"""Fabric's loops with our logger."""

from __future__ import annotations

import pytest

from tests.frameworks.programs import Programs

pytest.importorskip("lightning")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

LOOP = """
import os, torch
from lightning.fabric import Fabric
from trackside.integrations.lightning import TracksideLogger

first = os.environ["ATTEMPT"] == "first"
logger = TracksideLogger("fabric", flatten_depth=1)
fabric = Fabric(accelerator="cpu", devices=1, loggers=logger)
fabric.logger.log_hyperparams({"lr": 0.1, "optimizer": {"name": "sgd"}})
model = torch.nn.Linear(2, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
state = {"model": model, "logger": logger, "step": 0}
if not first:
    fabric.load("state.ckpt", state)
for step in range(state["step"], state["step"] + 3):
    loss = model(torch.ones(1, 2)).sum()
    fabric.backward(loss)
    optimizer.step()
    fabric.log_dict({"loss": loss, "half": loss / 2}, step=step)
if first:
    assert logger.run_id
    fabric.save("state.ckpt", {**state, "step": step + 1})
    raise ValueError("boom")
"""


def test_a_loop_of_fabric_is_resumed_from_its_checkpoint(tmp_path, store):
    """The logger is part of the state that ``fabric.save`` keeps, and ``fabric.load`` finds the run again."""
    programs = Programs(tmp_path, store)
    programs.run(LOOP, code=1, ATTEMPT="first")
    assert programs.end("fabric") == ("FAILED", "ValueError: boom")
    programs.run(LOOP, ATTEMPT="second")
    run = programs.only_run("fabric")
    assert (run.info.status, run.data.tags["trackside.attempt"]) == ("FINISHED", "2")
    assert run.data.params == {"lr": "0.1", "optimizer.name": "sgd"}
    assert [step for step, _ in programs.points(run)["loss"]] == list(range(6))


def test_hyperparameters_alone_make_a_run(tmp_path, store):
    """A program that ends before its first metric leaves a run with what it was configured with."""
    programs = Programs(tmp_path, store)
    alone = """
from trackside.integrations.lightning import TracksideLogger
TracksideLogger("alone").log_hyperparams({"lr": 0.1})
raise ValueError("before the first step")
"""
    programs.run(alone, code=1)
    run = programs.only_run("alone")
    assert (run.info.status, run.data.params) == ("FAILED", {"lr": "0.1"})
