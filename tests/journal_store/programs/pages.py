"""A program of the kind people have, which knows nothing of trackside. Arguments: a folder, an experiment."""

import sys
import threading
from pathlib import Path
from typing import Any

import mlflow as stock_mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

mlflow: Any = stock_mlflow  # people's programs have no types
FOLDER, EXPERIMENT = Path(sys.argv[1]), sys.argv[2]

mlflow.set_experiment(EXPERIMENT)

with mlflow.start_run(run_name="fluent", tags={"team": "vision"}, description="what it is") as run:
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({f"p{number}": number for number in range(120)})
    mlflow.log_param("long", "x" * 900)
    for step in range(30):
        mlflow.log_metrics({"loss": 1 / (step + 1), "val/acc ä": step}, step=step)
    mlflow.log_metric("no step", 7)
    mlflow.log_metric("nan", float("nan"), step=1)
    mlflow.log_metric("inf", float("inf"), step=1)
    mlflow.set_tag("x", "first")
    mlflow.set_tag("x", "last")
    mlflow.set_tags({"gone": "1", "stays": "2"})
    mlflow.delete_tag("gone")
    mlflow.log_text("hello", "notes/hello.txt")
    (FOLDER / "file.txt").write_text("a file")
    mlflow.log_artifact(FOLDER / "file.txt")
    mlflow.log_dict({"a": 1}, "a.json")
    mlflow.log_table({"q": ["a"], "a": ["b"]}, "table.json")
    for call in (
        lambda: mlflow.log_param("lr", 0.2),
        lambda: mlflow.log_params({"lr": "0.3", "new": 1}),
        lambda: mlflow.log_metric("a//b", 1.0),
        lambda: mlflow.log_metric("loss", "much"),
        lambda: mlflow.log_param("k" * 300, 1),
    ):
        try:
            call()
        except Exception as error:
            print(isinstance(error, MlflowException), "not allowed" in str(error))
    read = mlflow.get_run(run.info.run_id)
    print("read", read.data.metrics["loss"], read.data.params["lr"], read.data.tags["x"])
    print("history", len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")))
    found = mlflow.search_runs(filter_string="metrics.loss < 0.05", output_format="list")
    print("found", [one.info.run_name for one in found])
    for name in ("one", "two"):
        with mlflow.start_run(run_name=name, nested=True):
            mlflow.log_metric("child", 1.0)

client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
by_client = client.create_run(experiment, run_name="client").info.run_id
client.log_batch(
    by_client,
    [Metric("m", float(step), 1000 + step, step) for step in range(1500)],
    [Param("a", "b")],
    [RunTag("t", "u")],
)
for odd in (
    lambda: client.log_metric(by_client, "m", "apple"),
    lambda: client.log_param(by_client, "k" * 300, "1"),
    lambda: client.set_tag(by_client, "k" * 300, "1"),
    lambda: client.log_batch(by_client, params=[Param("k" * 300, "1")]),
):
    try:
        odd()
    except Exception as error:
        print(str(error).split("supplied")[0])
client.set_terminated(by_client, "FAILED")
client.log_metric(by_client, "late", 1.0)
client.update_run(by_client, name="renamed")

with mlflow.start_run(run_name="async") as run:
    mlflow.log_params({"n": 1}, synchronous=False).wait()
    operations = [mlflow.log_metric("loss", 0.5, step=step, synchronous=False) for step in range(50)]
    operations[-1].wait()
    mlflow.flush_async_logging()
    print("async", len(client.get_metric_history(run.info.run_id, "loss")))

with mlflow.start_run(run_name="twice") as run:
    mlflow.log_metric("loss", 1.0, step=0)
with mlflow.start_run(run_id=run.info.run_id):
    mlflow.log_metric("loss", 2.0, step=1)
print("history of an ended run", len(client.get_metric_history(run.info.run_id, "loss")))

for name in ("found", "listed"):
    with mlflow.start_run(run_name=name):
        mlflow.log_metric(name, 1.0)
    ended = mlflow.search_runs(filter_string=f"metrics.{name} = 1", output_format="list")
    print("found after its end", [(one.info.run_name, one.info.status) for one in ended])

with mlflow.start_run(run_name="deleted") as run:
    mlflow.log_metric("loss", 1.0)
mlflow.delete_run(run.info.run_id)
for run_id in (run.info.run_id, "0" * 32):
    try:
        client.log_metric(run_id, "late", 1.0)
    except MlflowException as error:
        print(error.error_code)

gone = client.create_experiment(f"{EXPERIMENT}, deleted")
with mlflow.start_run(experiment_id=gone) as run:
    mlflow.log_metric("loss", 3.0)
client.delete_experiment(gone)
print("in a deleted experiment", client.get_run(run.info.run_id).data.metrics)


def trial(number: int) -> None:
    """Log a run in a thread."""
    with mlflow.start_run(run_name=f"thread {number}"):
        mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=number)


threads = [threading.Thread(target=trial, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

mlflow.start_run(run_name="left open")
mlflow.log_metric("loss", 1.0)
