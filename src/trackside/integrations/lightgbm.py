"""LightGBM: the evaluation of each round, by a callback.

::

    lightgbm.train(params, data, valid_sets=[valid], callbacks=[TracksideCallback()])

scikit-learn's interface takes it, too: ``LGBMClassifier().fit(x, y, eval_set=..., callbacks=[...])``.

Invariant: LightGBM does not say that a training is over, and early stopping ends it after any round. So each
round may be the last one, and a run that was started here stays open after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun
from trackside.integrations.warning import warn_once

with needs_extra("lightgbm"):
    import lightgbm  # noqa: F401 - to say what to install before the training begins

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trackside.session.options import StartOptions


class TracksideCallback:
    """Logs ``<data>/<metric>`` for each round.

    ``every_n_rounds``: how often. ``options``: those of ``trackside.start()``, if your program has no run.
    """

    before_iteration = False
    order = 25
    """Before LightGBM's early stopping, which ends the training with an exception."""

    def __init__(self, every_n_rounds: int = 1, **options: Unpack[StartOptions]) -> None:
        self._every = max(1, int(every_n_rounds))
        self._options = options
        self._training: TrainingRun | None = None

    def __call__(self, env: Any) -> None:
        """A round is over."""
        if self._training is None or env.iteration == env.begin_iteration:
            self._training = TrainingRun(self._options.get("bus"))
            options: StartOptions = {**self._options}
            options.setdefault("config", dict(env.params))
            self._training.begin(**options)
        try:
            last = env.iteration == env.end_iteration - 1
            if last or (env.iteration - env.begin_iteration) % self._every == 0:
                self._log(env)
        except Exception as error:
            warn_once(f"a round of LightGBM is not logged: {type(error).__name__}: {error}")
        self._training.complete()

    def _log(self, env: Any) -> None:
        run = None if self._training is None else self._training.run
        metrics: dict[str, float] = {}
        for data, metric, value, _, *deviation in env.evaluation_result_list or ():
            metrics[f"{data}/{metric}"] = value
            if deviation:
                metrics[f"{data}/{metric}_std"] = deviation[0]
        if run is not None and metrics:
            run.log(metrics, step=env.iteration)

    def __getstate__(self) -> dict[str, Any]:
        """Without the training: a copy has none."""
        return {**self.__dict__, "_training": None}
