"""Hugging Face's Trainer with the callback: which run it gets, and what is in it. Nothing is delivered."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("transformers")

from transformers import Trainer, TrainerCallback

import trackside
from tests.frameworks.hf import arguments, data, model, trainer
from tests.frameworks.offline import params, place, steps  # noqa: F401 - a fixture
from tests.parts import records_of
from trackside.event_bus.bus import Bus
from trackside.integrations.transformers import TracksideCallback, apart

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.session.run import Run

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.outside,
    pytest.mark.filterwarnings("default"),  # theirs
]


def run_of(callback: TracksideCallback) -> Run:
    """The run of the latest training."""
    assert callback.run is not None
    return callback.run


def test_metrics_and_configuration() -> None:
    """Training and evaluation are apart, by the global step. Arguments and the model's config are params."""
    callback = TracksideCallback(experiment_name="tiny")
    args = arguments(eval_strategy="steps", eval_steps=2, learning_rate=0.01, run_name="mine")
    done = trainer(args, callbacks=[callback])
    done.train()
    run = run_of(callback)
    assert steps(run, "train/loss") == steps(run, "train/grad_norm") == steps(run, "epoch") == [1, 2, 3, 4]
    assert steps(run, "eval/loss") == [2, 4]
    assert steps(run, "train/train_runtime") == [4]
    found = params(run)
    assert (found["learning_rate"], found["max_steps"]) == ("0.01", "4")
    assert (found["model.n_embd"], found["model.num_parameters"]) == ("8", str(done.model.num_parameters()))
    assert run.link.experiment_name == "tiny"
    assert run.status == "RUNNING"
    assert run is trackside.current_run()


def test_it_is_named_in_the_arguments() -> None:
    """Once the module is imported. Nothing is reported without."""
    trainer(arguments(report_to="trackside", max_steps=1)).train()
    run = trackside.current_run()
    assert run is not None
    assert steps(run, "train/loss") == [1]
    trackside.finish()
    trainer(arguments(max_steps=1)).train()
    assert trackside.current_run() is None


def test_what_comes_before_and_after_the_training_is_in_its_run() -> None:
    """Evaluations with names of their own, several datasets, and ``predict()``."""
    callback = TracksideCallback()
    both = {"easy": data(2), "hard": data(2)}
    done = trainer(eval_dataset=both, callbacks=[callback])
    done.evaluate()
    first = run_of(callback)
    done.train()
    assert run_of(callback) is first
    done.evaluate(data(2), metric_key_prefix="final")
    done.predict(data(2))
    assert steps(first, "eval/easy_loss") == steps(first, "eval/hard_loss") == [0]
    assert steps(first, "final/loss") == steps(first, "test/loss") == [4]
    trackside.finish()
    assert first.status == "FINISHED"


def test_each_training_has_a_run() -> None:
    """The next training ends the run before. It does not matter which Trainer begins it."""
    callback = TracksideCallback()
    done = trainer(callbacks=[callback])
    done.train()
    first = run_of(callback)
    done.train()
    second = run_of(callback)
    trainer(arguments(report_to="trackside", max_steps=1)).train()
    third = trackside.current_run()
    assert third is not None
    assert len({id(run) for run in (first, second, third)}) == 3
    assert [run.status for run in (first, second, third)] == ["FINISHED", "FINISHED", "RUNNING"]
    assert steps(first, "train/loss") == steps(second, "train/loss") == [1, 2, 3, 4]


def test_a_run_of_the_program_is_used_and_not_ended() -> None:
    """Its own params and metrics stay. Those of the training join them."""
    with trackside.start("mine", config={"dataset": "digits"}) as run:
        trackside.log({"warmup": 1.0}, step=0)
        trainer(arguments(report_to="trackside")).train()
        assert run.is_recording
        assert steps(run, "train/loss") == [1, 2, 3, 4]
        assert (params(run)["dataset"], params(run)["max_steps"]) == ("digits", "4")
    assert run.status == "FINISHED"


class Failing(TrainerCallback):
    """Raises at a step."""

    def __init__(self, step: int, error: BaseException) -> None:
        self._step, self._error = step, error

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            raise self._error


def test_a_training_whose_exception_is_caught_has_failed() -> None:
    """The program continues with the next one."""
    callback = TracksideCallback()
    with pytest.raises(ValueError, match="a bad batch"):
        trainer(callbacks=[callback, Failing(2, ValueError("a bad batch"))]).train()
    failed = run_of(callback)
    trainer(arguments(report_to="trackside")).train()
    assert failed.status == "FAILED"
    assert steps(failed, "train/loss") == [1]  # step 2 is logged after its callbacks


class Halving(Trainer):
    """Runs out of memory at a batch of 8."""

    def training_step(self, *arguments: Any, **options: Any) -> Any:
        if self._train_batch_size > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().training_step(*arguments, **options)


def test_a_smaller_batch_is_tried_in_the_same_run(tmp_path: Path) -> None:
    """With ``auto_find_batch_size`` the Trainer begins the training again."""
    callback = TracksideCallback()
    args = arguments(auto_find_batch_size=True, per_device_train_batch_size=8)
    trainer(args, kind=Halving, callbacks=[callback]).train()
    assert steps(run_of(callback), "train/loss") == [1, 2, 3, 4]
    assert len([*(tmp_path / "journals").iterdir()]) == 1


def test_two_callbacks_log_once(caplog: pytest.LogCaptureFixture) -> None:
    """The one with options logs, and a warning says so."""
    callback = TracksideCallback(experiment_name="chosen")
    trainer(arguments(report_to="trackside"), callbacks=[callback]).train()
    run = trackside.current_run()
    assert run is callback.run
    assert run is not None
    assert run.link.experiment_name == "chosen"
    assert steps(run, "train/loss") == [1, 2, 3, 4]
    assert "two TracksideCallbacks" in caplog.text


class Rewards(Trainer):
    """Logs metrics of its own, as trainers for reinforcement learning do."""

    def log(self, logs: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if "loss" in logs:
            logs = {**logs, "rewards/chosen": 0.5, "completion": "a text", "clip": [0.1, 0.3]}
        super().log(logs, *arguments, **options)


def test_trainers_with_metrics_of_their_own() -> None:
    """Text is left out. A list is logged as its mean."""
    callback = TracksideCallback()
    trainer(kind=Rewards, callbacks=[callback]).train()
    run = run_of(callback)
    assert steps(run, "train/rewards/chosen") == [1, 2, 3, 4]
    assert steps(run, "train/completion") == []


def test_a_checkpoint_without_the_callback_is_trained_on() -> None:
    """The training gets a run, and its own checkpoints can be saved."""
    trainer(arguments(save_strategy="steps", save_steps=2, max_steps=2)).train()
    callback = TracksideCallback()
    args = arguments(save_strategy="steps", save_steps=2)
    trainer(args, callbacks=[callback]).train(resume_from_checkpoint="out/checkpoint-2")
    assert steps(run_of(callback), "train/loss") == [3, 4]
    with open("out/checkpoint-4/trainer_state.json", encoding="utf-8") as file:
        assert "TracksideCallback" in json.load(file)["stateful_callbacks"]


def test_callbacks_that_the_trainer_restores_keep_their_options() -> None:
    """``restore_callback_states_from_checkpoint`` makes each callback anew from the checkpoint."""
    saved = arguments(save_strategy="steps", save_steps=2, max_steps=2)
    trainer(saved, callbacks=[TracksideCallback(experiment_name="first")]).train()
    trackside.finish()
    args = arguments(restore_callback_states_from_checkpoint=True)
    later = trainer(args, callbacks=[TracksideCallback(experiment_name="second")])
    later.train(resume_from_checkpoint="out/checkpoint-2")
    run = trackside.current_run()
    assert run is not None
    assert run.link.experiment_name == "second"
    assert steps(run, "train/loss") == [3, 4]


def test_trials_of_a_search_are_runs_of_their_own() -> None:
    """Without a run of the program they follow each other. With one they are its children."""
    pytest.importorskip("optuna")
    seen: list[Run] = []

    class Watching(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            assert callback.run is not None
            seen.append(callback.run)

    callback = TracksideCallback()
    args = arguments(eval_strategy="steps", eval_steps=4)
    search = trainer(args, model_init=model, callbacks=[callback, Watching()])
    options: dict[str, Any] = {
        "hp_space": lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2)},
        "hp_name": lambda trial: f"trial-{trial.number}",
        "backend": "optuna",
        "n_trials": 2,
    }
    search.hyperparameter_search(**options)
    assert [steps(run, "train/loss") for run in seen] == [[1, 2, 3, 4]] * 2
    assert params(seen[0])["learning_rate"] != params(seen[1])["learning_rate"]
    assert params(seen[1])["trial.learning_rate"] == params(seen[1])["learning_rate"]
    assert seen[0].status == "FINISHED"
    trackside.finish()
    with trackside.start("study") as study:
        seen.clear()
        search.hyperparameter_search(**options)
        trackside.log({"best": 1.0}, step=0)
        assert steps(study, "train/loss") == []
        assert steps(study, "best") == [0]
    assert len({id(run.bus) for run in (study, *seen)}) == 2
    assert [steps(run, "train/loss") for run in seen] == [[1, 2, 3, 4]] * 2
    seen[-1].finish()


def test_a_pruned_trial_is_told_from_others() -> None:
    """It is FINISHED, and its reason says so, as with Optuna's exception."""
    optuna = pytest.importorskip("optuna")
    callback = TracksideCallback()
    args = arguments(eval_strategy="steps", eval_steps=2)
    search = trainer(args, model_init=model, callbacks=[callback])
    with pytest.raises(ValueError, match="No trials are completed"):
        search.hyperparameter_search(
            hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2)},
            backend="optuna",
            n_trials=1,
            pruner=optuna.pruners.ThresholdPruner(upper=0.0),
        )
    run = run_of(callback)
    assert run.status == "FINISHED"
    assert records_of(run)[-1].message == "pruned: at step 2 of 4"


def test_a_bus_of_its_own() -> None:
    """Two trainings at once, each on its bus."""
    one, other = TracksideCallback(bus=Bus()), TracksideCallback(bus=Bus())
    trainer(callbacks=[one]).train()
    trainer(callbacks=[other]).train()
    assert run_of(one).is_recording
    assert run_of(other).is_recording
    run_of(one).finish()
    run_of(other).finish()


def test_other_ranks_log_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their run is a no-op run."""
    monkeypatch.setenv("RANK", "1")
    callback = TracksideCallback()
    done = trainer(callbacks=[callback])
    monkeypatch.setattr(done, "is_world_process_zero", lambda: False)
    done.train()
    assert run_of(callback).journal is None


def test_a_process_that_is_not_the_first_but_looks_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher's variable says so. Only the Trainer knows, and no second run is started."""
    callback = TracksideCallback()
    done = trainer(callbacks=[callback])
    monkeypatch.setattr(done, "is_world_process_zero", lambda: False)
    done.train()
    assert callback.run is None


def test_it_is_copied_and_pickled() -> None:
    """Sweeps copy trainers. In another process the callback starts anew."""
    callback = TracksideCallback(experiment_name="tiny")
    trainer(callbacks=[callback]).train()
    run = run_of(callback)
    assert run_of(copy.deepcopy(callback)) is run
    there = pickle.loads(pickle.dumps(callback))
    assert not there._training.is_open


def test_a_training_never_fails_for_an_odd_model_or_config() -> None:
    """What cannot be read is left out."""

    class Odd:
        config = "no config"

        def num_parameters(self) -> int:
            raise RuntimeError

    from trackside.integrations.transformers import config_of

    assert "model" not in config_of(arguments(), Odd())
    assert "model" not in config_of(arguments(), None)


def test_names() -> None:
    """As the Trainer's other loggers have them."""
    assert apart({"loss": 1, "eval_x_loss": 2, "test_f1": 3, "train_runtime": 4, "evaluation": 5}) == {
        "train/loss": 1,
        "eval/x_loss": 2,
        "test/f1": 3,
        "train/train_runtime": 4,
        "train/evaluation": 5,
    }
