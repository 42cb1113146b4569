"""Several processes that write to one run at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy

from trackside.bulk_store.store import BulkStore

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = Path(__file__).parent / "scripts" / "write.py"


def write_at_once(uri: str, run_id: str, addresses: Sequence[str]) -> None:
    """Start a writer for each of ``addresses`` of the one database, and wait until they are done."""
    writers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), address, run_id, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, address in enumerate(addresses)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    answers = [writer.communicate("go\n", timeout=100) for writer in writers[::-1]]
    assert [writer.returncode for writer in writers] == [0] * len(writers), answers
    check(uri, run_id)


def check(uri: str, run_id: str) -> None:
    """Every point is there once, and the latest of each key is its highest step's."""
    store = BulkStore(uri, "/nowhere")
    with store.engine.connect() as connection:
        query = "SELECT key, value, timestamp, step FROM {} WHERE run_uuid = :run_id"
        metrics, latest = (
            sorted(map(tuple, connection.execute(sqlalchemy.text(query.format(table)), {"run_id": run_id})))
            for table in ("metrics", "latest_metrics")
        )
    expected = [(f"m{number % 20}", float(number), number // 40, number // 20) for number in range(3000)]
    assert metrics == sorted(expected)
    assert latest == sorted(expected[-20:])
