"""Three runs, one in another, and a fourth by the client. The process is killed in the innermost."""

import os
import signal

import mlflow

client = mlflow.MlflowClient()
beside = client.create_run("0", run_name="beside").info.run_id
client.log_metric(beside, "m", 1.0)
with mlflow.start_run(run_name="done"):
    mlflow.log_metric("m", 1.0)
with mlflow.start_run(run_name="outer"):
    mlflow.log_params({"a": 1})
    with mlflow.start_run(run_name="done inside", nested=True):
        mlflow.log_metric("m", 1.0)
    with mlflow.start_run(run_name="middle", nested=True):
        with mlflow.start_run(run_name="inner", nested=True):
            for step in range(100):
                mlflow.log_metric("m", step, step=step)
            mlflow.set_tag("t", "v")
            os.kill(os.getpid(), signal.SIGKILL)
