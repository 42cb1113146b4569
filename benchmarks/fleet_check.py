"""Whether each point of a fleet is in PostgreSQL, once, with its value, and each run is there once, ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.fleet_worker import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from benchmarks.worker import Figures

# value_of() of fleet_worker, in SQL. The name of a run is fleet-<number>, and a metric's ends in its number.
_VALUE = """
1000.0 * split_part(runs.name, '-', 2)::int + metrics.step + split_part(metrics.key, '_', 2)::int / 16.0
"""

_ROWS = text(f"""
SELECT runs.name, runs.status, count(metrics.key) AS rows,
       count(DISTINCT (metrics.key, metrics.step)) FILTER (WHERE metrics.step IS NOT NULL) AS points,
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


def check(engine: Engine, experiment: str, fleet: Sequence[Figures]) -> Figures:
    """Compare with what each run of ``fleet`` has logged, and with what it was told is delivered."""
    with engine.connect() as connection:
        rows = connection.execute(_ROWS, {"experiment": experiment}).all()
    points = Counter({row.name: row.points for row in rows})
    return {
        "logged": sum(METRICS * run["steps"] for run in fleet),
        "waiting": sum(METRICS * run["steps"] - run["shipped"] for run in fleet),
        "lost": sum(max(run["shipped"] - points[f"fleet-{run['run']}"], 0) for run in fleet),
        "doubled": sum(row.rows - row.points for row in rows),
        "wrong": sum(row.wrong for row in rows),
        "runs_missing": len(fleet) - len(points),
        "runs_doubled": len(rows) - len(points),
        "not_finished": sum(row.status != "FINISHED" for row in rows),
    }
