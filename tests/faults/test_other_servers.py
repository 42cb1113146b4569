"""Servers as met in practice, from a training script's point of view: real processes, real MLflow."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.faults.delivery import check, once_each, runs_in, steps_of
from tests.faults.proxy import FaultProxy, Reply, answer, free_port
from tests.faults.servers import wait_until
from trackside.cli.main import main
from trackside.destinations.mlflow.tags import counts_in
from trackside.journal.lock import is_locked
from trackside.shipper.sync import sync_journal

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from tests.faults.training import Play, Training

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

OOPS = answer(Reply.error(500, "INTERNAL_ERROR", "oops"))


def command(*arguments: str) -> tuple[int, str]:
    """Exit code and output of ``trackside``."""
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.output


def test_a_record_that_is_answered_with_500_every_time(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """It is kept aside and told. What is behind it arrives once, and the run is FINISHED."""
    proxy.add(OOPS, lambda request: request.is_for("log-batch") and b'"bad"' in request.body)
    training = play("""
        run = trackside.start(config={"lr": 0.1})
        emit(25)
        trackside.log({"bad": 1.0, "good": 2.0}, step=25)
        emit(35, 25)
        say(delivered=run.flush(50))
    """)
    assert training.end() == 0, training.text
    assert training.said["delivered"], training.log()
    wait_until(lambda: training.state.phase == "done", 60, training.log)
    (run,) = runs_in(client, tmp_path.name)
    assert steps_of(client, run.info.run_id) == once_each(60)
    assert run.data.metrics["good"] == 2.0
    assert (run.info.status, counts_in(run.data.tags)["rejected"]) == ("FINISHED", 1)
    (line,) = training.journal.rejected.read_text().splitlines()
    assert json.loads(line)["metrics"] == {"bad": 1.0}
    assert "rejects some of what was logged" in training.text
    assert str(training.journal.rejected) in training.text


@pytest.mark.slow
def test_an_outage_is_told_while_it_lasts_and_when_it_is_over(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """In the training's log, within a minute."""
    training = play("""
        run = trackside.start()
        emit(10)
        assert run.flush(60)
        wait_for("outage")
        for i in range(1200):
            emit(1, 10 + i, pause=0.05)
            if os.path.exists("over"):
                break
        say(steps=10 + i + 1)
    """)
    training.wait_to_be_asked("outage")
    proxy.add(OOPS)
    begun = time.monotonic()
    training.go("outage")
    training.read_until("has taken nothing for")
    assert time.monotonic() - begun < 60
    proxy.heal()
    training.read_until("works again")
    training.go("over")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    check(client, tmp_path.name, training.said["steps"])


def test_a_server_that_is_down_hardly_holds_up_the_end(play: Play) -> None:
    """A few seconds, a reason of two words, and what will become of what is kept."""
    training = play(
        """
        trackside.start()
        emit(300)
        time.sleep(3)
        say(end=time.time())
    """,
        uri=f"http://127.0.0.1:{free_port()}",
        TRACKSIDE_START_TIMEOUT="3",
        TRACKSIDE_EXIT_TIMEOUT="60",
    )
    assert training.end() == 0
    assert time.time() - training.said["end"] < 20
    last = [line for line in training.output if line.startswith("LOG ")][-1]
    for part in ("connection refused", str(training.journal.path), "keeps trying", "trackside sync"):
        assert part in last
    assert "HTTPConnectionPool" not in training.text
    assert "HTTPConnectionPool" in training.journal.log.read_text(), "the rest of it is in the shipper's log"


@pytest.mark.slow
def test_an_artifact_store_out_of_reach(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """Metrics and status arrive. That config.yaml is missing is said by all who are asked, until it is up."""
    proxy.add(answer(Reply(500)), lambda request: request.is_for("mlflow-artifacts"))
    training = play("""
        trackside.start(config={"lr": 0.1})
        emit(50)
        say(end=time.time())
    """)
    assert training.end() == 0, training.text
    assert time.time() - training.said["end"] < 30
    assert "not uploaded yet: config.yaml" in training.text
    assert str(training.journal.path) in training.text
    run_id = check(client, tmp_path.name, 50)
    folder = str(tmp_path / "journals")
    wait_until(lambda: training.state.phase == "artifacts", 60, training.log)
    code, told = command("status", "--dir", folder)
    assert (code, "artifacts wait" in told, "config.yaml" in told) == (1, True, True), "its shipper tries"
    training.dismiss_shipper()
    code, told = command("status", "--dir", folder)
    assert (code, "artifacts wait" in told, "config.yaml" in told) == (1, True, True)
    code, told = command("sync", "--dir", folder, "--give-up-after", "20")
    assert (code, "artifacts wait" in told, "config.yaml" in told) == (1, True, True), told + training.log()
    assert "delivered" not in told
    proxy.heal()
    code, told = command("sync", "--dir", folder)
    assert (code, "delivered" in told) == (0, True)
    assert training.journals == []
    assert [artifact.path for artifact in client.list_artifacts(run_id)] == ["config.yaml"]
    assert client.get_run(run_id).info.end_time <= (training.said["end"] + 1) * 1000


@pytest.mark.slow
def test_an_artifact_store_that_comes_back_after_the_end(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """The shipper stays for it, and you need not run anything."""
    proxy.add(answer(Reply(500)), lambda request: request.is_for("mlflow-artifacts"))
    training = _short(play)
    run_id = check(client, tmp_path.name, 50)
    proxy.heal()
    training.wait_until_delivered()
    assert [artifact.path for artifact in client.list_artifacts(run_id)] == ["config.yaml"]


@pytest.mark.slow
def test_an_artifact_that_is_refused(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """It is said, and the file is kept aside. The run is delivered."""
    refusal = answer(Reply.error(400, "INVALID_PARAMETER_VALUE", "no artifacts here"))
    proxy.add(refusal, lambda request: request.is_for("mlflow-artifacts"))
    training = _short(play)
    check(client, tmp_path.name, 50)
    wait_until(lambda: training.state.phase == "done", 60, training.log)
    assert (training.journal.path / "refused-artifacts" / "config.yaml").read_text() == "lr: 0.1\n"
    assert "config.yaml was rejected" in training.text
    wait_until(lambda: not is_locked(training.journal.lock), 60, training.log)
    assert sync_journal(training.journal).detail.endswith(str(training.journal.path))


def _short(play: Play) -> Training:
    training = play("""
        trackside.start(config={"lr": 0.1})
        emit(50)
        time.sleep(1)
    """)
    assert training.end() == 0, training.text
    return training
