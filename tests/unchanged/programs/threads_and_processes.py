"""Runs in threads, and processes that are forked or spawned and log into the run of their parent."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import mlflow
from mlflow.tracking import MlflowClient


def add_points(run_id, name):
    """What a worker does: it joins the run by its id."""
    client = MlflowClient()
    for step in range(20):
        client.log_metric(run_id, name, step / 2, step=step)
    client.log_param(run_id, f"param of {name}", 1)
    client.set_tag(run_id, f"tag of {name}", "x")


def join_by_environment(name):
    """What a rank does."""
    with mlflow.start_run(run_id=os.environ["RUN"]):
        mlflow.log_metrics({f"{name}/a": 1.0, f"{name}/b": 2.0}, step=3)


def a_run(number):
    """A trial in a thread of a pool."""
    with mlflow.start_run(run_name=f"trial {number}") as run:
        mlflow.log_param("number", number)
        for step in range(5):
            mlflow.log_metric("score", number * step, step=step)
    return run.info.run_id


def several_calls(run_id, number):
    """One run, several threads."""
    for step in range(25):
        mlflow.log_metric(f"thread {number}", step, step=step, run_id=run_id)


def main():
    with mlflow.start_run(run_name="shared") as run:
        run_id = run.info.run_id
        mlflow.log_metric("own", 1.0)
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            workers = [context.Process(target=add_points, args=(run_id, f"{method} {n}")) for n in range(2)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                print(method, worker.exitcode)
        os.environ["RUN"] = run_id
        child = multiprocessing.get_context("spawn").Process(target=join_by_environment, args=("rank 1",))
        child.start()
        child.join()
        print("rank", child.exitcode)
        threads = [threading.Thread(target=several_calls, args=(run_id, n)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        mlflow.log_metric("own", 2.0, step=1)
    with ThreadPoolExecutor(3) as pool:
        ids = list(pool.map(a_run, range(5)))
    client = MlflowClient()
    print([client.get_run(one).data.metrics for one in ids])
    print([len(client.get_metric_history(run_id, f"thread {n}")) for n in range(3)])


if __name__ == "__main__":
    main()
