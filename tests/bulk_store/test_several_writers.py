"""Two processes send the same points of one run at once, in orders of their own, to one sqlite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bulk_store.writers import write_at_once
from tests.ends.harness import new_database
from trackside.bulk_store.store import BulkStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("other", ["trackside+", pytest.param("", id="MLflow's own")])
def test_two_writers(tmp_path: Path, other: str) -> None:
    """Each point is there once, whoever came first; the latest are the latest of both."""
    uri = new_database(tmp_path)
    run_id = BulkStore(uri, "/nowhere").create_run("0", "tester", 1, [], "a run").info.run_id
    write_at_once(uri, run_id, [f"trackside+{uri}", f"{other}{uri}"])
