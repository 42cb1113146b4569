"""Delivers points one way, in a process of its own, and prints a line of JSON. Started by ``delivery``."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [f"train/metric_{number}" for number in range(10)]
START_MS = 1_700_000_000_000


@click.command()
@click.argument("way", type=click.Choice(["by-hand", "floor", "trackside"]))
@click.argument("uri")
@click.argument("points", type=int)
def main(way: str, uri: str, points: int) -> None:
    """Deliver, and print seconds and the seconds of CPU that the writing process took."""
    logging.disable(logging.WARNING)
    os.chdir(tempfile.mkdtemp(prefix="trackside-bench-"))
    ways = {"by-hand": _by_hand, "floor": _floor, "trackside": _trackside}
    print(json.dumps(ways[way](uri, points)), flush=True)


def _by_hand(uri: str, points: int) -> dict[str, float]:
    """``log_batch`` of MLflow's client, 1000 metrics a batch, as fast as it goes."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("warm-up", 0.0, START_MS, 0)])
    begun = _now()
    for batch in _batches(points, 1000):
        client.log_batch(run_id, [Metric(*point) for point in batch])
    return _since(begun)


def _floor(uri: str, points: int) -> dict[str, float]:
    """Rows that are ready into the one table, 5000 a transaction: what the database itself needs."""
    from mlflow.tracking import MlflowClient

    from trackside.bulk_store.points import rows_of
    from trackside.bulk_store.store import BulkStore
    from trackside.bulk_store.tables import PostgresqlTables, SqliteTables, _arrays

    run_id = MlflowClient(uri).create_run("0").info.run_id
    engine = BulkStore(uri, "/nowhere").engine
    batches = [rows_of(run_id, batch) for batch in _batches(points, 5000)]
    begun = _now()
    for rows in batches:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(SqliteTables._METRICS, rows)  # noqa: SLF001 - the same SQL
            else:
                connection.execute(PostgresqlTables._METRICS, _arrays(rows))  # noqa: SLF001
    return _since(begun)


def _trackside(uri: str, points: int) -> dict[str, float]:
    """From the first emit until all is acknowledged; the CPU is the shipper's."""
    import psutil

    import trackside

    os.environ.update(TRACKSIDE_START_TIMEOUT="90", TRACKSIDE_DIR=os.path.abspath("journals"))
    with trackside.start("delivery", tracking_uri=uri) as run:
        trackside.log({"warm-up": 0.0}, step=0)
        assert run.flush(90)
        (shipper,) = psutil.Process().children()
        begun = time.perf_counter(), sum(shipper.cpu_times()[:2])
        for step in range(points // len(NAMES)):
            trackside.log(dict.fromkeys(NAMES, step / 3), step=step)
        assert run.flush(500)
        took = {
            "seconds": time.perf_counter() - begun[0],
            "cpu": sum(shipper.cpu_times()[:2]) - begun[1],
        }
    assert (run.dropped, run.counts.shipped) == (0, points + 1)
    return took


def _batches(points: int, size: int) -> Iterator[list[Any]]:
    for start in range(0, points, size):
        yield [
            (NAMES[number % 10], number / 3, START_MS + number // 10, number // 10)
            for number in range(start, min(start + size, points))
        ]


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> dict[str, float]:
    return {"seconds": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1]}


if __name__ == "__main__":
    main()
