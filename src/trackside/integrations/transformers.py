"""Hugging Face's ``Trainer``, and those built on it: TRL, axolotl, LLaMA-Factory, sentence-transformers.

Pass the callback, or name it once this module is imported::

    import trackside.integrations.transformers

    trainer = Trainer(model, TrainingArguments(report_to="trackside"), ...)
    trainer = Trainer(model, args, callbacks=[TracksideCallback(experiment_name="digits")], ...)

Invariants:

* Each call of ``train()`` is a training with a run of its own, unless your program has started a run. A trial
  of ``hyperparameter_search()`` is a child of your program's run.
* Metrics are named as the Trainer's other loggers name them: ``train/loss``, ``eval/loss``, ``test/loss``.
  Their step is ``global_step``.
* The run's id is in ``trainer_state.json``. If you train from a checkpoint, the training resumes the run that
  the checkpoint belongs to.
* Nothing runs at each step.
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from trackside.event_bus.bus import Bus
from trackside.integrations.checkpoints import checkpoint_policy
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun, run_of_program
from trackside.rank import get_rank

with needs_extra("transformers"):
    from transformers.integrations import integration_utils
    from transformers.trainer_callback import ExportableState, TrainerCallback
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import TrainerControl, TrainerState, TrainingArguments
    from typing_extensions import Unpack

    from trackside.integrations.checkpoints import LogCheckpoints
    from trackside.session.options import StartOptions
    from trackside.session.run import Run

__all__ = ["TracksideCallback"]

logger = logging.getLogger("trackside.integrations")


class TracksideCallback(TrainerCallback, ExportableState):
    """Logs a Trainer's metrics and configuration into a trackside run. ``options``: those of ``start()``.

    ``log_checkpoints``: True logs each checkpoint that the Trainer saves, with the metrics of its step.
    ``"latest"`` and ``"end"`` are policies of :func:`trackside.log_checkpoint`. Those of a hyperparameter
    search are not logged.
    """

    _claim: ClassVar[tuple[weakref.ref[Any], weakref.ref[TracksideCallback]] | None] = None
    """The training that was seen last, by its state, and the callback that logs it."""

    def __init__(
        self,
        *,
        log_checkpoints: LogCheckpoints = False,
        restored: bool = False,
        **options: Unpack[StartOptions],
    ) -> None:
        self._policy = checkpoint_policy(log_checkpoints)
        holder = None if TracksideCallback._claim is None else TracksideCallback._claim[1]()
        if restored and holder is not None:  # restore_callback_states_from_checkpoint makes the callback anew
            options, self._policy = holder._options, holder._policy  # noqa: SLF001 - our own kind
        self._options: StartOptions = options
        self._training = TrainingRun(options.get("bus"))
        self._trial_bus: Bus | None = None
        self._is_training = self._is_retired = False
        self._epoch_at = -1

    @property
    def run(self) -> Run | None:
        """The run of the latest training. None before it."""
        return self._training.run

    # What the Trainer calls

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Learn which of two callbacks logs, if a Trainer has two."""
        self._is_the_one(state)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Begin the run, or resume the one that the checkpoint belongs to."""
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if not self._is_the_one(state) or _is_a_stranger(state):
            return
        options = self._options_for(args, state, parts.get("model"))
        tries_again = self._is_training and args.auto_find_batch_size and self._training.is_cut_short
        if state.is_hyper_param_search:
            self._begin_trial(options)
        elif (tries_again or self._evaluated_first) and "run_id" not in options:
            self._training.begin_again(**options)
        else:
            self._training.begin(**options)
        self._is_training = True
        self._epoch_at = -1

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The training is complete. The run stays open for evaluations, but not that of a pruned trial."""
        early = state.global_step < state.max_steps and not control.should_training_stop
        if state.is_hyper_param_search and early and not self._is_retired:
            self._training.finish(reason=f"pruned: at step {state.global_step} of {state.max_steps}")
        self._training.complete()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        """Log metrics of the training, or of an evaluation."""
        self._log(args, state, logs or {}, parts.get("model"))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log the checkpoint, if that is wanted. By now the Trainer has removed older ones."""
        run = self._training.run
        if self._policy is None or run is None or self._is_retired or state.is_hyper_param_search:
            return
        if state.is_world_process_zero:
            step = state.global_step
            folder = os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
            run.log_checkpoint(folder, step, metrics_at(state), policy=self._policy)

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any],
        **parts: Any,
    ) -> None:
        """Log the metrics of ``predict()``, which the Trainer does not log."""
        self._log(args, state, metrics, parts.get("model"))

    def state(self) -> dict[str, Any]:
        """What ``trainer_state.json`` keeps: the run's id, if it is known."""
        run = self._training.run
        known = run is not None and run.delivery.phase in {"open", "delivered"}
        return {
            "args": {"restored": True},
            "attributes": {"saved_run_id": run.run_id if run and known else None},
        }

    # The run

    @property
    def _evaluated_first(self) -> bool:
        """Whether the run is open for an evaluation before any training."""
        return not self._is_training and self._training.is_open

    @property
    def _was_given(self) -> bool:
        """Whether the program gave this callback options."""
        return bool(self._options) or self._policy is not None

    def _begin_trial(self, options: StartOptions) -> None:
        """Begin the run of a trial. If the program has a run, it is the parent."""
        parent = run_of_program(self._options.get("bus"))
        if parent is not None:
            self._trial_bus = self._trial_bus or Bus("trials")
            self._training = TrainingRun(self._trial_bus)
            options["parent"] = parent
        self._training.begin(**options)

    def _log(self, args: TrainingArguments, state: TrainerState, logs: Mapping[str, Any], model: Any) -> None:
        if self._is_retired or not state.is_world_process_zero:
            return
        if self._training.run is None and self._is_the_one(state):  # an evaluation without a training
            self._training.begin(**self._options_for(args, state, model))
            self._training.complete()
        run = self._training.run
        if run is None:
            return
        metrics = {name: value for name, value in logs.items() if name != "epoch"}
        epoch = None if state.global_step == self._epoch_at else logs.get("epoch")
        self._epoch_at = state.global_step
        run.log(apart(metrics), step=state.global_step, epoch=epoch)

    def _options_for(self, args: TrainingArguments, state: TrainerState, model: Any) -> StartOptions:
        """The options of ``start()``: those given to the callback, and what the Trainer knows."""
        options = self._options.copy()
        given = options.get("config")
        options["config"] = config_of(args, model, state.trial_params) if given is None else given
        if options.get("run_name") is None:  # until version 5, the run was named after the folder by default
            named = None if args.run_name == args.output_dir else args.run_name
            options["run_name"] = state.trial_name or named
        if not state.is_hyper_param_search:
            options.setdefault("checkpoint_dir", args.output_dir)
        resumed = _saved(state, type(self).__name__) if state.global_step else None
        if resumed is None:
            options.setdefault("resume", False)
        else:
            options.setdefault("resume", "always")
            if resumed:
                options.setdefault("run_id", resumed)
        return options

    def _is_the_one(self, state: TrainerState) -> bool:
        """Whether this callback logs the training of ``state``. One that was given options comes first."""
        if self._is_retired:
            return False
        held = TracksideCallback._claim
        holder = held[1]() if held is not None and held[0]() is state else None
        if holder is not None and holder is not self:
            loser = holder if self._was_given and not holder._was_given else self  # noqa: SLF001 - our own kind
            loser._is_retired = True  # noqa: SLF001
            logger.warning("the Trainer has two TracksideCallbacks. The one that was given options logs")
        if not self._is_retired:
            TracksideCallback._claim = weakref.ref(state), weakref.ref(self)
        return not self._is_retired


def apart(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with their part before a slash: ``eval_loss`` is ``eval/loss``, ``loss`` is ``train/loss``.

    An evaluation with a ``metric_key_prefix`` of its own is known by the runtime that it reports.

    >>> apart({"loss": 1.0, "eval_loss": 2.0})
    {'train/loss': 1.0, 'eval/loss': 2.0}
    >>> apart({"val_loss": 1.0, "val_runtime": 2.0})
    {'val/loss': 1.0, 'val/runtime': 2.0}
    """
    own = [name.removesuffix("runtime") for name in logs if name.endswith("_runtime")]
    parts = ("eval_", "test_", *(part for part in own if part != "train_"))
    return {_apart(name, parts): value for name, value in logs.items()}


def _apart(name: str, parts: tuple[str, ...]) -> str:
    part = next((part for part in parts if name.startswith(part)), None)
    return f"train/{name}" if part is None else f"{part[:-1]}/{name[len(part) :]}"


def metrics_at(state: TrainerState) -> dict[str, Any]:
    """What the Trainer has logged at the current step, under our names."""
    found: dict[str, Any] = {}
    for entry in reversed(state.log_history):
        if entry.get("step") != state.global_step:
            break
        found = {**entry, **found}
    return apart({name: value for name, value in found.items() if name not in {"step", "epoch"}})


def config_of(args: TrainingArguments, model: Any, trial_params: Any = None) -> dict[str, Any]:
    """The arguments by their names and, below ``model``, the model's configuration."""
    config: dict[str, Any] = args.to_dict()
    described: dict[str, Any] = {}
    for name in ("config", "peft_config"):
        with contextlib.suppress(Exception):  # a model of the user's own may have anything by that name
            described.update(_plain(getattr(model, name, None) or {}))
    with contextlib.suppress(Exception):
        described["num_parameters"] = model.num_parameters()
    if described:
        config["model"] = described
    if trial_params:
        config["trial"] = trial_params
    return config


def _plain(config: Any) -> dict[str, Any]:
    if isinstance(config, dict):  # adapters by name, as peft has them
        return {name: _plain(one) if hasattr(one, "to_dict") else one for name, one in config.items()}
    return dict(config.to_dict())


def _is_a_stranger(state: TrainerState) -> bool:
    """Whether this process must not log, though no variable of a launcher says so (a TPU, a notebook)."""
    return not state.is_world_process_zero and get_rank() == 0


def _saved(state: TrainerState, name: str) -> str | None:
    """The id of the run that the checkpoint belongs to. Empty if it was not known yet, None without a run."""
    saved: Any = (state.stateful_callbacks or {}).get(name)
    entries = saved if isinstance(saved, list) else [saved]
    found = [one["attributes"].get("saved_run_id") for one in entries if isinstance(one, dict)]
    return next(filter(None, found), "") if found else None


integration_utils.INTEGRATION_TO_CALLBACK.setdefault("trackside", TracksideCallback)
