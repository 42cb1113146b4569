"""A rank other than 0 that delivers something of its own: a journal and a shipper, and no MLflow run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.faults.fake import until
from tests.support.program import run_python
from trackside.lifecycle.crash_notes import read_notes
from trackside.session.launcher import job_key

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SCRIPT = """
import sys
import trackside

run = trackside.start(
    "ranks",
    checkpoint_dir="checkpoints",
    destinations=[{"type": "jsonl", "path": "metrics-{rank}.jsonl", "transform": {"ranks": [0, 1]}}],
)
for step in range(50):
    trackside.log({"loss": 1 / (step + 1)}, step=step)
print(run.run_id, run.url, run.activate() is run, run.flush(60))
if "crash" in sys.argv:
    raise ValueError("this rank has a bad card")
run.finish()
print(run.counts, run.status)
"""
JOB = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


def play(directory: Path, rank: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as that rank."""
    (directory / "train.py").write_text(SCRIPT)
    return run_python("train.py", *arguments, cwd=directory, env={**os.environ, **JOB, "RANK": str(rank)})


def test_its_own_destinations_and_nothing_else(tmp_path: Path) -> None:
    """The file is complete. There is no run, no checkpoint file and no journal left."""
    done = play(tmp_path, 1)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "None  True True",
        "Counts(shipped=50, rejected=0, dropped=0) FINISHED",
    ]
    lines = [json.loads(line) for line in (tmp_path / "metrics-1.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(50))
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "checkpoints").exists()
    until(lambda: not (tmp_path / ".trackside").exists())  # the shipper tidies up behind the process


def test_its_crash_is_noted_for_rank_0(tmp_path: Path) -> None:
    """As without destinations. The traceback is the user's own, and the file is complete."""
    done = play(tmp_path, 1, "crash")
    assert done.returncode == 1
    assert "ValueError: this rank has a bad card" in done.stderr
    assert len((tmp_path / "metrics-1.jsonl").read_text().splitlines()) == 50
    (note,) = read_notes(tmp_path / ".trackside", job_key({**JOB, "RANK": "1"}), since_ms=0)
    assert (note.rank, note.event.error_type, note.event.message) == (
        1,
        "ValueError",
        "this rank has a bad card",
    )


def test_a_rank_that_nobody_names_is_inert(tmp_path: Path) -> None:
    """It leaves nothing."""
    done = play(tmp_path, 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
