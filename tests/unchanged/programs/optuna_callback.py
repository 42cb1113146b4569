"""Optuna's MLflowCallback: a run for each trial, nested in one of the study."""

import warnings

import mlflow
import optuna
from optuna_integration.mlflow import MLflowCallback

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
callback = MLflowCallback(metric_name="value", mlflow_kwargs={"nested": True})


@callback.track_in_mlflow()
def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    mlflow.log_metric("square", x * x)
    for step in range(3):
        trial.report(x * step, step)
        mlflow.log_metric("steps", x * step, step=step)
    if trial.number == 2:
        raise optuna.TrialPruned
    return x * x


study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), study_name="a study")
with mlflow.start_run(run_name="all trials"):
    study.optimize(objective, n_trials=5, callbacks=[callback])
    mlflow.log_metric("best", study.best_value)
print(len(mlflow.search_runs(search_all_experiments=True)))
