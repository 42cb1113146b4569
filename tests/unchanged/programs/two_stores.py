"""The address changes in the middle, two clients have a store each, and a notebook's cell runs twice."""

import os

import mlflow
from mlflow.tracking import MlflowClient

first = mlflow.get_tracking_uri()
prefix = "journal+" if first.startswith("journal+") else ""
second = f"{prefix}sqlite:///{os.getcwd()}/second.db"

with mlflow.start_run(run_name="in the first"):
    mlflow.log_metric("m", 1.0)
mlflow.set_tracking_uri(second)
with mlflow.start_run(run_name="in the second") as run:
    mlflow.log_metric("m", 2.0)
    print(mlflow.get_run(run.info.run_id).data.metrics)
mlflow.set_tracking_uri(first)
here, there = MlflowClient(first), MlflowClient(second)
stock = MlflowClient(second.removeprefix("journal+"))  # the prefix is the program's own choice
ids = [
    client.create_run("0", run_name=f"by {name}").info.run_id
    for name, client in (("here", here), ("there", there))
]
for step in range(10):
    here.log_metric(ids[0], "both", step, step=step)
    there.log_metric(ids[1], "both", -step, step=step)
there.set_terminated(ids[1])
print([len(there.get_metric_history(ids[1], "both")), there.get_run(ids[1]).info.status])
print(sorted((one.info.run_name, one.info.status) for one in stock.search_runs(["0"])))
here.set_terminated(ids[0])

for _ in range(2):  # a cell that forgets to end its run
    if mlflow.active_run():
        mlflow.end_run()
    mlflow.start_run(run_name="cell")
    mlflow.log_param("lr", 0.1)
try:
    mlflow.start_run(run_name="cell")
except Exception as error:
    print(type(error).__name__, "already active" in str(error))
try:
    mlflow.log_param("lr", 0.2)
except Exception as error:
    print(type(error).__name__, "Changing param values is not allowed" in str(error))
mlflow.end_run()

os.environ["MLFLOW_RUN_ID"] = here.create_run("0", run_name="given by the environment").info.run_id
with mlflow.start_run() as run:  # as `mlflow run` does for its projects
    mlflow.log_metric("project", 1.0)
    print(run.info.run_name)
os.environ.pop("MLFLOW_RUN_ID", None)
with mlflow.start_run(run_id=run.info.run_id):
    mlflow.log_metric("project", 2.0, step=1)
    mlflow.log_param("resumed", True)
print([point.value for point in here.get_metric_history(run.info.run_id, "project")])
os.environ["MLFLOW_EXPERIMENT_NAME"] = "of the environment"
with mlflow.start_run(run_name="there") as run:
    print(here.get_experiment(run.info.experiment_id).name)
mlflow.log_metric("starts a run", 1.0)
