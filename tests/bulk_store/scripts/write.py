"""Writes a run's points in an order of its own: ``write.py ADDRESS RUN SEED``. It waits for a line first."""

from __future__ import annotations

import random
import sys

from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from trackside.bulk_store.store import BulkStore

POINTS = [(f"m{number % 20}", float(number), number // 40, number // 20) for number in range(3000)]

uri, run_id, seed = sys.argv[1:]
stock = not uri.startswith("trackside+")
store = SqlAlchemyStore(uri, "/nowhere") if stock else BulkStore(uri, "/nowhere")
points = list(POINTS)
random.Random(seed).shuffle(points)
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, len(points), 150):
    chunk = points[start : start + 150]
    for _ in range(30 if stock else 1):  # MLflow's own gives up where two writers clash
        try:
            store.log_batch(run_id, [Metric(*point) for point in chunk], [], [])
            break
        except Exception as error:
            print(f"{type(error).__name__}: {error}"[:200], file=sys.stderr)
    else:
        sys.exit("given up")
