"""Lightning's Trainer with our logger: what its pages show, and how its runs end."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.frameworks.programs import Programs

pytest.importorskip("lightning")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

HEAD = """
import os, signal, sys, time
from tests.frameworks.tiny_lightning import AtStep, Tiny, data, lightning, trainer
from trackside.integrations.lightning import TracksideLogger
"""


@pytest.fixture
def programs(tmp_path, store) -> Programs:
    """Runs programs here, with the module's store."""
    return Programs(tmp_path, store)


BOTH = """
import torch
def train(logger):
    torch.manual_seed(1)
    model, fitter = Tiny(lr=0.1, layers=[4, 1], head={"width": 3}), trainer(logger)
    fitter.fit(model, data(), data())
    fitter.validate(model, data(), verbose=False)
    fitter.test(model, data(), verbose=False)

ours = TracksideLogger(os.environ["EXPERIMENT"], run_name="ours", prefix="p")
train(ours)
ours.experiment.finish()
theirs = lightning.loggers.MLFlowLogger(os.environ["EXPERIMENT"], run_name="theirs", prefix="p")
train(theirs)
"""


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_a_fit_has_the_names_steps_and_values_that_lightnings_mlflow_logger_gives(programs, package):
    """Fit, validate and test are one run, with the same points as that of ``MLFlowLogger``."""
    name = f"same {package}"
    programs.run(HEAD + BOTH, EXPERIMENT=name, LIGHTNING=package)
    ours, theirs = sorted(programs.runs(name), key=lambda run: run.info.run_name)
    assert programs.points(ours) == programs.points(theirs)
    assert {"p-train/loss_step", "p-val_loss", "p-test_loss", "p-epoch"} <= set(ours.data.metrics)
    assert ours.info.status == "FINISHED"
    assert ours.data.params == {"lr": "0.1", "layers": "[4, 1]", "head.width": "3"}


FIT = """
logger = TracksideLogger(os.environ["EXPERIMENT"])
fitter = trainer(logger, callbacks=[AtStep(3, {action})])
fitter.fit(Tiny(), data(), data())
print("after fit")
"""

FAIL = 'lambda _: (_ for _ in ()).throw(ValueError("boom"))'
ENDS = [
    (FAIL, 1, "FAILED", "ValueError: boom"),
    (
        "lambda _: (os.kill(os.getpid(), signal.SIGINT), time.sleep(5))",
        1,
        "KILLED",
        "Ctrl-C (KeyboardInterrupt)",
    ),
    ("lambda _: os.kill(os.getpid(), signal.SIGTERM)", 0, "KILLED", "SIGTERM"),
    ("lambda _: os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "FAILED", "died without a word"),
    ("lambda _: sys.exit(3)", 3, "FAILED", "exit code 3"),
    ("lambda _: sys.exit(0)", 0, "FINISHED", "exit code 0"),
]


@pytest.mark.parametrize(("action", "code", "status", "reason"), ENDS)
def test_a_run_ends_as_its_training_does(programs, action, code, status, reason):
    """An exception, Ctrl-C, SIGTERM, SIGKILL and ``sys.exit`` in ``fit`` have the status of any program."""
    name = f"end {ENDS.index((action, code, status, reason))}"
    printed = programs.run(HEAD + FIT.format(action=action), code=code, EXPERIMENT=name)
    found, why = programs.end(name)
    assert (found, why[: len(reason)]) == (status, reason), printed
    assert "train/loss_step" in programs.only_run(name).data.metrics


def test_a_training_that_fails_before_its_first_step_leaves_a_failed_run(programs):
    """An exception in ``setup`` comes before the run has begun, and the run is there all the same."""
    bad = "class Bad(Tiny):\n    def setup(self, stage): raise RuntimeError('no data')\n"
    programs.run(HEAD + bad + "trainer(TracksideLogger('setup')).fit(Bad(), data())\n", code=1)
    assert programs.end("setup") == ("FAILED", "RuntimeError: no data")


def test_a_fit_after_a_failed_one_resumes_the_run(programs):
    """A loop that tries again keeps one run, and the last attempt says how it ended."""
    again = f"""
logger = TracksideLogger("again", run_name="again")
try:
    trainer(logger, callbacks=[AtStep(3, {FAIL})]).fit(Tiny(), data())
except ValueError:
    trainer(logger).fit(Tiny(), data())
"""
    programs.run(HEAD + again)
    run = programs.only_run("again")
    assert (run.info.status, run.data.tags["trackside.attempt"]) == ("FINISHED", "2")
    assert [step for step, _ in programs.points(run)["train/loss_step"]] == [0, 0, 1, 1, *range(2, 8)]


RESUMED = """
attempt = os.environ["ATTEMPT"]
saving = lightning.callbacks.ModelCheckpoint(dirpath="saved", save_last=True, every_n_train_steps=5)
logger = TracksideLogger("resumed")
logger.log_hyperparams({"script": "resumed"})
def action(_):
    if attempt == "first":
        raise ValueError("boom")
fitter = trainer(logger, callbacks=[AtStep(7, action), saving], enable_checkpointing=True)
fitter.fit(Tiny(), data(), ckpt_path="last")
"""


def test_a_fit_from_a_checkpoint_resumes_the_run_of_that_checkpoint(programs):
    """``fit(ckpt_path=)`` continues the run, though hyperparameters were logged before that."""
    programs.run(HEAD + RESUMED, code=1, ATTEMPT="first")
    programs.run(HEAD + RESUMED, ATTEMPT="second")
    run = programs.only_run("resumed")
    assert (run.info.status, run.data.tags["trackside.attempt"]) == ("FINISHED", "2")
    assert run.data.params == {"lr": "0.1", "script": "resumed"}
    assert {step for step, _ in programs.points(run)["train/loss_step"]} == set(range(8))


REQUEUED = """
os.environ.update(
    SLURM_JOB_ID="4711", SLURM_JOB_NAME="train", SLURM_NTASKS="1", SLURM_PROCID="0", SLURM_LOCALID="0",
    SLURM_NODEID="0", SLURM_JOB_NODELIST="localhost", SLURM_NODELIST="localhost", SLURM_NTASKS_PER_NODE="1",
)
def action(_):
    if os.environ["ATTEMPT"] == "first":
        os.kill(os.getpid(), signal.SIGUSR1)
def gone(_):
    if os.environ["ATTEMPT"] == "first":
        os.kill(os.getpid(), signal.SIGKILL)
logger = TracksideLogger("requeued")
assert logger.version == "4711"
trainer(logger, callbacks=[AtStep(3, action), AtStep(6, gone)]).fit(Tiny(), data())
"""


def test_a_job_that_slurm_requeues_is_killed_and_then_resumed(programs):
    """Lightning's requeue handler is in place, and its ``finalize("finished")`` does not finish the run."""
    scontrol = programs.directory / "scontrol"
    scontrol.write_text("#!/bin/sh\necho requeued with $*\n")
    scontrol.chmod(0o755)
    path = f"{programs.directory}:{programs.environment['PATH']}"
    printed = programs.run(HEAD + REQUEUED, code=-signal.SIGKILL, ATTEMPT="first", PATH=path)
    assert "requeued with requeue 4711" in printed
    assert programs.end("requeued")[0] == "KILLED"
    assert "SLURM requeues the job" in programs.end("requeued")[1]
    programs.run(HEAD + REQUEUED, ATTEMPT="second", PATH=path)
    assert programs.end("requeued") == ("FINISHED", "exit code 0")


RANKS = """
def main():
    logger = TracksideLogger(os.environ["EXPERIMENT"])
    if os.environ.get("BEFORE"):
        logger.log_metrics({"before": 1.0}, 0)
    strategy, at_step = os.environ["STRATEGY"], AtStep(1, crash)
    fitter = trainer(logger, max_epochs=1, strategy=strategy, devices=2, callbacks=[at_step])
    fitter.fit(Tiny(), data(), data())
    fitter.test(Tiny(), data(), verbose=False)

def crash(trainer):
    if os.environ.get("CRASH") and trainer.global_rank == 1:
        raise ZeroDivisionError("on rank 1")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("before", ["", "1"])
def test_workers_that_are_spawned_log_into_one_run(programs, before):
    """``ddp_spawn`` pickles the logger. Fit and test, which have workers of their own, are one run."""
    name = f"spawned {before}"
    programs.run(HEAD + RANKS, EXPERIMENT=name, STRATEGY="ddp_spawn", BEFORE=before)
    run = programs.only_run(name)
    assert run.info.status == "FINISHED"
    assert {"test_loss", "val_loss", *(["before"] if before else [])} <= set(run.data.metrics)
    assert [step for step, _ in programs.points(run)["train/loss_step"]] == [0, 1]


def test_ranks_of_torchrun_log_into_one_run(programs):
    """Under ``torchrun`` rank 0 logs, and each point is there once."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    programs.run(HEAD + RANKS, before=torchrun, EXPERIMENT="torchrun", STRATEGY="ddp")
    run = programs.only_run("torchrun")
    assert run.info.status == "FINISHED"
    assert [step for step, _ in programs.points(run)["train/loss_step"]] == [0, 1]


def test_a_crash_on_another_rank_is_the_runs_end(programs):
    """Rank 1 fails, and ``torchrun`` stops rank 0: the run is FAILED, with the exception of rank 1."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    programs.run(HEAD + RANKS, before=torchrun, code=None, EXPERIMENT="crash", STRATEGY="ddp", CRASH="1")
    status, reason = programs.end("crash")
    assert (status, "ZeroDivisionError" in reason) == ("FAILED", True), reason


def test_two_loggers_of_one_trainer_have_a_run_each(programs):
    """Both runs get every point, and ``trackside.log`` goes to the first one's."""
    two = """
import trackside
loggers = [TracksideLogger("two", run_name=name) for name in "ab"]
trainer(loggers, callbacks=[AtStep(2, lambda _: trackside.log({"extra": 1.0}, step=2))]).fit(Tiny(), data())
"""
    programs.run(HEAD + two)
    first, second = sorted(programs.runs("two"), key=lambda run: run.info.run_name)
    points = programs.points(first)
    assert points.pop("extra") == [(2, 1.0)]
    assert points == programs.points(second)
    assert {first.info.status, second.info.status} == {"FINISHED"}


def test_folds_have_a_run_each_and_one_shipper_at_a_time(programs):
    """The next logger ends the run of the one before. That one resumes its run if it is used again."""
    folds = """
import trackside
first = None
for fold in range(3):
    logger = TracksideLogger("folds", run_name=f"fold {fold}")
    trainer(logger, max_epochs=1).fit(Tiny(), data())
    first = first or logger
    assert trackside.current_run() is logger.experiment
    assert fold == 0 or not isinstance(first.experiment, trackside.Run)
first.log_metrics({"later": 1.0}, 9)
"""
    programs.run(HEAD + folds)
    runs = {run.info.run_name: run for run in programs.runs("folds")}
    assert sorted(runs) == ["fold 0", "fold 1", "fold 2"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["fold 0"].data.metrics["later"] == 1.0


def test_the_programs_own_run_is_used_and_not_ended(programs):
    """A logger logs into the run that the program has started. Only the program ends that."""
    own = """
import trackside
with trackside.start("own") as run:
    logger = TracksideLogger("another")
    trainer(logger).fit(Tiny(), data())
    assert logger.experiment is run and run.status == "RUNNING"
    trackside.log({"after": 1.0}, step=99)
"""
    programs.run(HEAD + own)
    run = programs.only_run("own")
    assert {"after", "train/loss_epoch"} <= set(run.data.metrics)
    assert run.data.params == {"lr": "0.1"}
    assert programs.client.get_experiment_by_name("another") is None


def test_a_logger_can_be_named_in_the_configuration_of_lightnings_cli(programs):
    """``class_path`` finds the class, with its arguments checked against its signature."""
    pytest.importorskip("jsonargparse")
    cli = """
from lightning.pytorch.cli import LightningCLI
class Data(lightning.LightningDataModule):
    def train_dataloader(self): return data()
sys.argv = ["program", "fit", "--config", "config.yaml"]
LightningCLI(Tiny, Data)
"""
    (programs.directory / "config.yaml").write_text(
        """
trainer:
  max_epochs: 1
  log_every_n_steps: 1
  accelerator: cpu
  default_root_dir: root
  enable_progress_bar: false
  logger:
    class_path: trackside.integrations.lightning.TracksideLogger
    init_args: {experiment_name: cli, tags: {team: vision}, resume: always, flatten_depth: 2, save_dir: out}
model: {lr: 0.2}
"""
    )
    programs.run(HEAD + cli)
    run = programs.only_run("cli")
    assert (run.data.params["lr"], run.data.tags["team"], run.info.status) == ("0.2", "vision", "FINISHED")
    assert (programs.directory / "out" / "config.yaml").exists()


def test_a_server_that_is_away_delays_nothing(programs):
    """Names, checkpoints and training do not wait for MLflow, and the points are kept for it."""
    away = """
logger = TracksideLogger("away")
logger.name, logger.version
began = time.monotonic()
trainer(logger, enable_checkpointing=True).fit(Tiny(), data())
print("trained")
"""
    printed = programs.run(
        HEAD + away,
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        TRACKSIDE_EXIT_TIMEOUT="1",
        TRACKSIDE_QUIET="off",
    )
    assert "trained" in printed
    assert list(programs.journals.glob("*/meta.json"))
    assert list((programs.directory / "root" / "away").glob("*/checkpoints/*.ckpt"))


def test_making_a_logger_starts_nothing():
    """Without use there is no run, no process and no journal. Its folder is made of its name and version."""
    before = set(sys.modules)
    from trackside.integrations.lightning import TracksideLogger

    logger = TracksideLogger("nothing", save_dir="out", version="v1")
    assert (logger.name, logger.version, logger.save_dir) == ("nothing", "v1", "out")
    assert (logger.root_dir, logger.log_dir) == ("out/nothing", "out/nothing/v1")
    assert repr(logger.experiment) == "<trackside.Run that has not begun>"
    assert "mlflow" in before or "mlflow" not in sys.modules
