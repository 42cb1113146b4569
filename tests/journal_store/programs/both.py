"""Programs that use trackside and MLflow's own API, in either order. Arguments: the kind, an experiment."""

import sys
from typing import Any

import mlflow as stock_mlflow

import trackside

mlflow: Any = stock_mlflow  # people's programs have no types
KIND, EXPERIMENT = sys.argv[1:]

if KIND == "activated":
    with trackside.start(EXPERIMENT, config={"lr": 0.1}) as run:
        trackside.log({"ours": 1.0}, step=0)
        run.activate()
        mlflow.log_metric("theirs", 1.0, step=0)
        mlflow.log_param("p", 1)
        assert len(mlflow.MlflowClient().get_metric_history(run.run_id, "theirs")) == 1
elif KIND == "mlflow first":
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(tags={"a": "b"}) as active:
        mlflow.log_param("p", 1)
        run = trackside.start(config={"lr": 0.1}, tags={"c": "d"})
        assert trackside.start() is run
        assert run.run_id == active.info.run_id
        trackside.log({"ours": 1.0}, step=0)
        mlflow.log_metric("theirs", 1.0, step=0)
elif KIND == "by its id":
    run = trackside.start(EXPERIMENT, config={"lr": 0.1})
    with mlflow.start_run(run_id=run.run_id):
        mlflow.log_params({"p": 1})
        mlflow.log_metric("theirs", 1.0, step=0)
    trackside.log({"ours": 1.0}, step=1)
