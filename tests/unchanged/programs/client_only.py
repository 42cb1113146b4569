"""A service that uses MlflowClient and no fluent run."""

import time

import mlflow
from mlflow import MlflowException
from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType

client = mlflow.MlflowClient()
experiment = client.create_experiment("by the client", tags={"k": "v"})
runs = [
    client.create_run(experiment, run_name=f"run {number}", tags={"n": str(number)}) for number in range(4)
]
first, second, third, fourth = (run.info.run_id for run in runs)
print(runs[0].info.status, sorted(key for key in runs[0].data.tags if not key.startswith("trackside.")))

now = int(time.time() * 1000)
client.log_batch(
    first,
    metrics=[Metric("m", step * 0.5, now, step) for step in range(1000)],
    params=[Param(f"p{number}", str(number)) for number in range(100)],
    tags=[RunTag(f"t{number}", str(number)) for number in range(100)],
)
client.log_metric(first, "same step", 1.0, step=1)
client.log_metric(first, "same step", 2.0, step=1)
client.log_param(first, "again", "x")
client.log_param(first, "again", "x")
for attempt in (
    lambda: client.log_param(first, "again", "y"),
    lambda: client.log_batch(first, params=[Param("again", "z"), Param("q", "1")]),
    lambda: client.log_batch(first, params=[Param("d", "1"), Param("d", "2")]),
    lambda: client.log_metric("0" * 32, "m", 1.0),
    lambda: client.get_run("0" * 32),
    lambda: client.log_metric(first, "not/../plain", 1.0),
    lambda: client.log_batch(first, metrics=[Metric("m", 1.0, now, step) for step in range(1001)]),
    lambda: client.set_tag(first, "mlflow.runName", ""),
    lambda: client.delete_tag(first, "never there"),
    lambda: client.log_param(first, "", "x"),
):
    try:
        attempt()
        print("taken")
    except MlflowException as error:
        print("refused", error.error_code)
print(len(client.get_metric_history(first, "m")), client.get_run(first).data.metrics)

client.set_tag(second, "mlflow.runName", "renamed by a tag")
client.update_run(second, status="FAILED", name="renamed again")
client.log_metric(second, "after the end", 1.0)
print(client.get_run(second).info.status, client.get_run(second).info.run_name)
client.update_run(second, status="RUNNING")
client.log_metric(second, "resumed", 2.0)
client.set_terminated(second, RunStatus.to_string(RunStatus.KILLED))

client.log_metric(third, "kept", 1.0)
client.delete_run(third)
print([run.info.run_name for run in client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)])
try:
    client.log_metric(third, "on a deleted run", 1.0)
    print("taken")
except MlflowException as error:
    print("refused", error.error_code)
client.restore_run(third)
client.log_metric(third, "kept", 2.0, step=1)
client.set_terminated(third)

client.log_metric(fourth, "scheduled", 1.0)
client.update_run(fourth, status="SCHEDULED")
print(client.get_run(fourth).info.status)
client.set_terminated(fourth)
old = client.create_run(experiment, start_time=1_600_000_000_000, run_name="imported").info.run_id
client.log_batch(old, [Metric("m", 1.0, 1_600_000_001_000, 1)])
client.set_terminated(old, "FINISHED", end_time=1_600_000_002_000)
print("imported", client.get_run(old).info.status, client.get_run(old).info.end_time)
found = client.search_runs([experiment], "metrics.kept > 1 and params.p1 = '1'", order_by=["metrics.m DESC"])
print([run.info.run_name for run in found])
print(sorted(run.info.run_name for run in client.search_runs([experiment], "attributes.status != 'RUNNING'")))
print(client.get_parent_run(first), client.get_experiment(experiment).artifact_location.count("journal"))
client.log_text(fourth, "x", "a/b.txt")
print([file.path for file in client.list_artifacts(fourth, "a")])
client.set_terminated(first)
fifth = client.create_run(experiment, run_name="second thoughts").info.run_id
client.log_metric(fifth, "epoch", 1.0, step=1.5)
client.log_metric(fifth, "epoch", 2.0, step=2)
client.set_terminated(fifth, "FAILED")
client.set_terminated(fifth, "FINISHED")
sixth = client.create_run(experiment, run_name="deleted while it is open").info.run_id
client.log_metric(sixth, "m", 1.0)
client.delete_run(sixth)
try:
    client.set_terminated(sixth)
    print("taken")
except MlflowException as error:
    print("refused", error.error_code)
client.restore_run(sixth)
client.log_metric(sixth, "m", 2.0, step=1)
client.set_terminated(sixth, "KILLED")
print(sorted((run.info.run_name, run.info.status) for run in client.search_runs([experiment])))
