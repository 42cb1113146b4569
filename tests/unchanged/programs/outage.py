"""A training that goes on while its server is away. It says how long its slowest call took."""

import sys
import time

import mlflow

slowest, steps = 0.0, 0
with mlflow.start_run(run_name="through an outage") as run:
    mlflow.log_param("lr", 0.1)
    print(run.info.run_id, flush=True)
    for line in sys.stdin:  # a line for each part of the training
        for _ in range(50):
            began = time.perf_counter()
            mlflow.log_metrics({"loss": 1 / (steps + 1), "acc": steps}, step=steps)
            mlflow.set_tag("last step", steps)
            slowest = max(slowest, time.perf_counter() - began)
            steps += 1
        mlflow.log_param(f"part {line.strip()}", steps)
        print(f"{line.strip()} {slowest:.1f}", flush=True)
