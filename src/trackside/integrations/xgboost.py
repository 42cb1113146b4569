"""XGBoost: the evaluation of each round, by a callback.

::

    xgboost.train(params, data, evals=[(valid, "valid")], callbacks=[TracksideCallback()])

scikit-learn's interface takes it, too: ``XGBClassifier(callbacks=[TracksideCallback()])``.

Invariants:

* It can be copied and pickled, because estimators are.
* In a distributed training, worker 0 logs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun
from trackside.integrations.warning import warn_once

with needs_extra("xgboost"):
    import xgboost
    from xgboost.callback import TrainingCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trackside.session.options import StartOptions


class TracksideCallback(TrainingCallback):
    """Logs ``<data>/<metric>`` for each round, and ``best_iteration`` and ``best_score`` at the end.

    ``every_n_rounds``: how often. The last round is always logged.
    ``options``: those of ``trackside.start()``, if your program has no run.
    """

    def __init__(self, every_n_rounds: int = 1, **options: Unpack[StartOptions]) -> None:
        super().__init__()
        self._every = max(1, int(every_n_rounds))
        self._options = options
        self._training: TrainingRun | None = None
        self._first = 0
        self._left_out: tuple[dict[str, float], int] | None = None

    def before_training(self, model: Any) -> Any:
        """Begin a run, or log into the program's."""
        if xgboost.collective.get_rank() == 0:
            self._training = TrainingRun(self._options.get("bus"))
            options: StartOptions = {**self._options}
            options.setdefault("config", _config_of(model))
            self._training.begin(**options)
            self._first = _rounds_of(model)  # a training that continues an earlier one
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Log the latest value of each metric. Never stops the training."""
        training = self._training
        if training is None or training.run is None:
            return False
        try:
            metrics = _latest(evals_log)
            step = self._first + epoch
            if epoch % self._every == 0:
                training.run.log(metrics, step=step)
                self._left_out = None
            else:
                self._left_out = (metrics, step)
        except Exception as error:
            warn_once(f"a round of XGBoost is not logged: {type(error).__name__}: {error}")
        return False

    def after_training(self, model: Any) -> Any:
        """Log what the training has come to. A run that was started here stays open."""
        training, self._training = self._training, None
        if training is not None and training.run is not None:
            if self._left_out is not None:
                training.run.log(self._left_out[0], step=self._left_out[1])
            best = _best_of(model)
            if best:
                training.run.log(best, step=int(best["best_iteration"]))
            training.complete()
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Without the training: a copy, or an estimator read from a file, has none."""
        return {**self.__dict__, "_training": None}


def _latest(evals_log: Any) -> dict[str, float]:
    """The last value of each metric. A cross-validation has pairs of mean and deviation."""
    found: dict[str, float] = {}
    for data, metrics in evals_log.items():
        for metric, values in metrics.items():
            value = values[-1]
            if isinstance(value, tuple):
                found[f"{data}/{metric}"], found[f"{data}/{metric}_std"] = value
            else:
                found[f"{data}/{metric}"] = value
    return found


def _rounds_of(model: Any) -> int:
    count = getattr(model, "num_boosted_rounds", None)
    return 0 if count is None else int(count())


def _best_of(model: Any) -> dict[str, float]:
    """What early stopping has found best, if it was used."""
    if not isinstance(model, xgboost.Booster):
        return {}
    attributes = model.attributes()
    found = {name: attributes.get(name) for name in ("best_iteration", "best_score")}
    best = {name: float(value) for name, value in found.items() if value is not None}
    return best if len(best) == len(found) else {}


def _config_of(model: Any) -> dict[str, Any]:
    """The parameters of the training, as the booster has them."""
    if not isinstance(model, xgboost.Booster):
        return {}
    learner = json.loads(model.save_config())["learner"]
    booster = learner.get("gradient_booster", {})
    trees = booster.get("tree_train_param") or booster.get("updater", {}).get("tree_train_param", {})
    return {
        "objective": learner.get("objective", {}).get("name"),
        "booster": booster.get("name"),
        **{key: value for key, value in trees.items() if isinstance(value, str)},
    }
