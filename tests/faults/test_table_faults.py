"""Tables while processes are killed and the server is away: each row arrives, and is there once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import Reply, answer, cut
from tests.faults.servers import wait_until

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from tests.faults.proxy import FaultProxy
    from tests.faults.training import Play

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def steps_in(client: MlflowClient, experiment: str) -> list[int]:
    """The first column of the table in the only run."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    path = client.download_artifacts(run.info.run_id, "rows.json")
    return [row[0] for row in json.loads(Path(path).read_text("utf-8"))["data"]]


@pytest.mark.slow
def test_rows_survive_the_death_of_shipper_and_trainer(
    play: Play, client: MlflowClient, tmp_path: Path
) -> None:
    """A second attempt resumes the table: it is read back from the run."""
    for first in (0, 600):
        training = play(f"""
            run = trackside.start(checkpoint_dir=".")
            for step in range({first}, {first} + 300):
                run.log_table({{"step": step, "text": "x" * 100}}, "rows.json")
            run.flush(60)
            wait_for("killed-{first}")
            for step in range({first} + 300, {first} + 600):
                run.log_table({{"step": step}}, "rows.json")
                emit(1, step, pause=0.03)  # the training starts another shipper meanwhile
            os.kill(os.getpid(), 9)
        """)
        training.wait_to_be_asked(f"killed-{first}")
        training.kill_shipper()
        training.go(f"killed-{first}")
        training.end()
        training.wait_until_delivered()
    assert steps_in(client, tmp_path.name) == list(range(1200))


def test_rows_wait_for_a_server_that_is_away(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """The training goes on, and the shipper is killed while it tries."""
    training = play("""
        run = trackside.start()
        wait_for("away")
        for step in range(100):
            run.log_table({"step": step}, "rows.json")
        wait_for("killed")
        run.log_table({"step": 100}, "rows.json")
        wait_for("back")
    """)
    training.wait_to_be_asked("away")
    proxy.add(cut, lambda request: request.is_for("artifacts"))
    training.go("away")
    training.wait_to_be_asked("killed")
    wait_until(lambda: any(seen.request.is_for("artifacts") for seen in proxy.seen), 60, training.log)
    training.kill_shipper()
    training.go("killed")
    training.wait_to_be_asked("back")
    proxy.heal()
    training.go("back")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    assert steps_in(client, tmp_path.name) == list(range(101))


def test_a_table_that_the_server_refuses_is_a_dead_letter(play: Play, proxy: FaultProxy) -> None:
    """A proxy with a limit on what it takes. The metrics arrive, and the journal keeps the table."""
    proxy.add(answer(Reply(413)), lambda request: request.is_for("rows.json"))
    training = play("""
        run = trackside.start()
        run.log_table({"step": [0, 1]}, "rows.json")
        run.log_text("hello", "notes.txt")
        emit(10)
        run.finish()
    """)
    assert training.end() == 0, training.text
    rejected = training.journal.rejected
    wait_until(rejected.exists, 60, training.log)
    (entry,) = [json.loads(line) for line in rejected.read_text("utf-8").splitlines()]
    assert entry["artifact"] == "rows.json"
    assert json.loads(Path(entry["file"]).read_text("utf-8")) == {"columns": ["step"], "data": [[0], [1]]}
    assert any(seen.request.is_for("notes.txt") and seen.status == 200 for seen in proxy.seen)
