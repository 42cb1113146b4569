"""Runs that are created by MlflowClient, for this process or another. Arguments: the kind, an experiment."""

import os
import subprocess
import sys
from typing import Any

import mlflow as stock_mlflow

mlflow: Any = stock_mlflow  # people's programs have no types
KIND, EXPERIMENT = sys.argv[1:]

if KIND == "worker":
    with mlflow.start_run():
        mlflow.log_metric("loss", 1.0)
    sys.exit()

client = mlflow.MlflowClient()
experiment_id = client.create_experiment(EXPERIMENT)
run_id = client.create_run(experiment_id, run_name=KIND).info.run_id
if KIND == "for a worker":
    environment = {**os.environ, "MLFLOW_RUN_ID": run_id}
    subprocess.run([sys.executable, __file__, "worker", EXPERIMENT], env=environment, check=True)
elif KIND == "logged into":
    client.log_metric(run_id, "loss", 1.0)
elif KIND == "beside an owner":
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metric("mine", 1.0)
        environment = {**os.environ, "MLFLOW_RUN_ID": run_id}
        subprocess.run([sys.executable, __file__, "worker", EXPERIMENT], env=environment, check=True)
        assert client.get_run(run_id).info.status == "RUNNING"
