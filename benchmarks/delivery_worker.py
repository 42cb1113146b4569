"""Delivers points one way, in a process of its own. Started by ``delivery`` and ``scale``."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import click

from benchmarks.samples import START_MS, Samples
from benchmarks.worker import own_stdout, say

if TYPE_CHECKING:
    from benchmarks.worker import Figures


@click.command()
@click.argument("way", type=click.Choice(["by-hand", "floor", "trackside"]))
@click.argument("uri")
@click.argument("points", type=int)
@click.argument("keys", type=int, default=10)
@click.argument("metrics", type=int, default=10)
def main(way: str, uri: str, points: int, keys: int, metrics: int) -> None:
    """Deliver, and say the seconds, and the seconds of CPU that the writing process took."""
    out = own_stdout()
    logging.disable(logging.WARNING)
    ways = {"by-hand": _by_hand, "floor": _floor, "trackside": _trackside}
    figures = ways[way](uri, Samples(points, keys, metrics))
    say({**figures, "rate": points / figures["seconds"]}, out)


def _by_hand(uri: str, samples: Samples) -> Figures:
    """``log_batch`` of MLflow's client, 1000 metrics a batch, one after the other as fast as it goes."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("warm-up", 0.0, START_MS, 0)])
    begun = _now()
    for batch in samples.batches(1000):
        client.log_batch(run_id, [Metric(*point) for point in batch])
    return _since(begun)


def _floor(uri: str, samples: Samples) -> Figures:
    """Rows that are ready into the one table, 5000 a transaction: what the database itself needs."""
    from mlflow.tracking import MlflowClient

    from trackside.bulk_store.points import COLUMNS, rows_of
    from trackside.bulk_store.store import BulkStore
    from trackside.bulk_store.tables import _METRICS, _arrays

    run_id = MlflowClient(uri).create_run("0").info.run_id
    engine = BulkStore(uri, "/nowhere").engine
    batches = [rows_of(run_id, batch) for batch in samples.batches(5000)]
    values = f"({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"
    begun = _now()
    for rows in batches:
        assert rows is not None
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(f"INSERT INTO metrics {values} ON CONFLICT DO NOTHING", list(rows))
            else:
                connection.execute(_METRICS, _arrays(rows))
    return _since(begun)


def _trackside(uri: str, samples: Samples) -> Figures:
    """From the first emit until all is acknowledged; the CPU is the shipper's."""
    import psutil

    import trackside

    os.environ["TRACKSIDE_START_TIMEOUT"] = "90"
    with trackside.start("delivery", tracking_uri=uri) as run:
        trackside.log({"warm-up": 0.0}, step=0)
        assert run.flush(90), "the first point has not arrived"
        (shipper,) = psutil.Process().children()
        begun = time.perf_counter(), sum(shipper.cpu_times()[:2])
        for metrics, step in samples:
            trackside.log(metrics, step=step)
        assert run.flush(500), "not all has arrived"
        figures = {
            "seconds": time.perf_counter() - begun[0],
            "cpu": sum(shipper.cpu_times()[:2]) - begun[1],
        }
    counts = run.counts
    assert (counts.dropped, counts.shipped) == (0, samples.points + 1), counts
    return figures


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> Figures:
    return {"seconds": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1]}


if __name__ == "__main__":
    main()
