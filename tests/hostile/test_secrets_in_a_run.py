"""A program that puts its secret everywhere: into MLflow and onto the disk it comes as ``***``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.program import run_python
from trackside.destinations.mlflow.errors import translate
from trackside.journal.directory import JournalDirectory
from trackside.journal.format import ConfigRecord
from trackside.journal.progress import Progress
from trackside.shipper.dead_letters import RejectedFile

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "known-by-v4lue"
IN_CONFIG = "from-the-c0nfiguration"

PROGRAM = f"""
import os, sys, trackside

token = os.environ["SOME_SERVICE_TOKEN"]
run = trackside.start(
    "secrets",
    run_name=f"run of {{token}}",
    config={{"db": {{"password": "{IN_CONFIG}"}}, "note": f"uses {{token}}", f"of {{token}}": 1, "lr": 0.1}},
    tags={{"service": f"key {{token}}", "api_key": "k3y-of-the-tags", "team": "vision"}},
    description=f"Logged in with --password {{token}}",
)
trackside.log({{"loss": 1.0}}, step=0)

def train(credential):
    raise ConnectionError(f"401 for {{credential}} and {IN_CONFIG}")

train(token)
"""


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_nothing_of_a_run_holds_a_secret(tmp_path: Path, mode: str) -> None:
    """Params, tags, the description, the exception, its traceback and artifacts, and the journal's bytes."""
    new_database(tmp_path)
    environment = {
        **os.environ,
        "SOME_SERVICE_TOKEN": TOKEN,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKSIDE_MODE": mode,
        "TRACKSIDE_EXIT_TIMEOUT": "60",
    }
    done = run_python("-c", PROGRAM, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "ConnectionError" in done.stderr
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (TOKEN, IN_CONFIG, "k3y-of-the-tags"):
        assert secret.encode() not in everything
    assert b"ConnectionError" in everything
    if mode == "online":
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        found = client.get_experiment_by_name("secrets")
        assert found is not None
        (run,) = client.search_runs([found.experiment_id])
        assert run.data.tags["team"] == "vision"
        assert run.data.tags["service"] == "key ***"
        assert run.data.params["lr"] == "0.1"
        assert run.info.status == "FAILED"


def test_what_the_shipper_keeps_of_others_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's answer in the state, a notice, a dead letter, and a secret at the place where it is cut."""
    monkeypatch.setenv("SOME_SERVICE_TOKEN", TOKEN)
    journal = JournalDirectory(tmp_path)
    progress = Progress(journal)
    progress.update(error=f"refused {TOKEN}")
    progress.notice(f"the server said {TOKEN}")
    RejectedFile(journal.rejected, "mlflow", after_seq=0).add(
        ConfigRecord(1, 0, {"note": TOKEN}, {"note": TOKEN}), "x" * 990 + TOKEN
    )
    error = translate(ValueError("x" * 1980 + TOKEN))
    for text in (journal.state.read_text(), journal.rejected.read_text(), str(error)):
        assert TOKEN[:8] not in text
        assert "***" in text
    assert json.loads(journal.state.read_text())["notices"] == ["the server said ***"]
