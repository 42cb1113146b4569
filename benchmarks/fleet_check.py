"""Whether each point of a fleet is in PostgreSQL, once, with its value, and each run is there once, ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.fleet_worker import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Engine

    from benchmarks.worker import Figures

# value_of() of fleet_worker, in SQL. The name of a run is fleet-<number>, and a metric's ends in its number.
_VALUE = """
1000.0 * split_part(runs.name, '-', 2)::int + metrics.step + split_part(metrics.key, '_', 2)::int / 16.0
"""

_ROWS = text(f"""
SELECT runs.name, runs.status, count(metrics.key) AS rows,
       count(DISTINCT (metrics.key, metrics.step)) AS points,
       count(*) FILTER (WHERE metrics.value <> {_VALUE}) AS wrong
FROM runs JOIN experiments USING (experiment_id) LEFT JOIN metrics USING (run_uuid)
WHERE experiments.name = :experiment AND runs.lifecycle_stage = 'active'
GROUP BY runs.run_uuid
""")

_IDS = text("""
SELECT runs.name, runs.run_uuid FROM runs JOIN experiments USING (experiment_id)
WHERE experiments.name = :experiment AND runs.lifecycle_stage = 'active'
""")


def run_ids(engine: Engine, experiment: str) -> dict[str, str]:
    """The ids of the runs of ``experiment``, by their names."""
    with engine.connect() as connection:
        rows = connection.execute(_IDS, {"experiment": experiment}).all()
    return {row.name: row.run_uuid for row in rows}


def check(engine: Engine, experiment: str, steps: Mapping[int, int]) -> Figures:
    """Compare with what was logged: ``steps`` of each run, by its number."""
    with engine.connect() as connection:
        rows = connection.execute(_ROWS, {"experiment": experiment}).all()
    runs = {row.name for row in rows}
    logged = METRICS * sum(steps.values())
    points = sum(row.points for row in rows)
    return {
        "logged": logged,
        "lost": logged - points,
        "doubled": sum(row.rows - row.points for row in rows),
        "wrong": sum(row.wrong for row in rows),
        "runs_missing": len(steps) - len(runs),
        "runs_doubled": len(rows) - len(runs),
        "not_finished": sum(row.status != "FINISHED" for row in rows),
    }
