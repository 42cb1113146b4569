"""A tracking server that fails is not the training's problem: real server, real trainer, real shipper."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import check, once_each, runs_in, steps_of
from tests.faults.proxy import FaultProxy, Reply, answer, cut
from tests.faults.servers import MlflowServer, wait_until
from tests.faults.training import Play, Training
from trackside.shipper.sync import sync_journal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_a_server_killed_midway_and_back(
    play: Play, proxy: FaultProxy, server: MlflowServer, client: MlflowClient, tmp_path: Path
) -> None:
    """Emitting costs what it always costs, no process grows, and all points arrive once."""
    training = play("""
        run = trackside.start()
        emit(2000)
        quiet = emit(3000, 2000)
        assert run.flush(60)
        wait_for("outage")
        before = memory(), memory(shipper_pid(run))
        during = emit(3000, 5000)
        middle = memory(), memory(shipper_pid(run))
        emit(5000, 8000)
        time.sleep(2)
        after = memory(), memory(shipper_pid(run))
        say(quiet=quiet, during=during, before=before, middle=middle, after=after)
        wait_for("server")
        emit(100, 13000)
    """)
    training.wait_to_be_asked("outage")
    server.kill()
    training.go("outage")
    training.wait_to_be_asked("server")
    server.start()
    training.go("server")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    check(client, tmp_path.name, 13_100)
    said = training.said
    assert said["during"] < 5 * said["quiet"] + 20e-6
    for before, after in zip(said["before"], said["after"], strict=True):
        assert after - before < 20_000, f"kB grew: {said}"


def test_a_server_that_is_down_at_the_start_and_up_later(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """One warning within the timeout. Training continues. The run is made later and gets everything."""
    proxy.add(cut)
    training = play(
        """
        begun = time.monotonic()
        run = trackside.start()
        say(start=time.monotonic() - begun)
        emit(500)
        wait_for("server")
        emit(500, 500)
        for _ in range(100):
            if run.run_id:
                break
        assert run.flush(60)
        say(run_id=run.run_id, url=run.url)
    """,
        TRACKSIDE_START_TIMEOUT="1",
    )
    training.wait_to_be_asked("server")
    assert 1 <= training.said["start"] < 8
    assert training.text.count("has not opened the run yet") == 1
    proxy.heal()
    training.go("server")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    assert training.said["run_id"] == check(client, tmp_path.name, 1000)
    assert training.said["run_id"] in training.said["url"]


def test_a_server_that_never_comes(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """The process ends promptly. ``sync`` delivers later, with the times of the training."""
    proxy.add(cut)
    begun = time.time()
    training = play(
        """
        trackside.start()
        emit(300)
        time.sleep(1)
        say(end=time.time())
    """,
        TRACKSIDE_START_TIMEOUT="0.5",
        TRACKSIDE_EXIT_TIMEOUT="0.5",
    )
    assert training.end() == 0
    ended = time.time()
    assert ended - training.said["end"] < 10
    assert "trackside sync" in training.text
    wait_until(lambda: bool(training.state.error), 60)  # it runs, and tries
    training.dismiss_shipper()
    assert not runs_in(client, tmp_path.name)
    proxy.heal()
    time.sleep(1.5)
    synced = sync_journal(training.journal)
    assert synced.result == "delivered", training.log()
    run = client.get_run(check(client, tmp_path.name, 300))
    assert begun * 1000 <= run.info.start_time <= ended * 1000
    assert training.said["end"] * 1000 - 100 <= run.info.end_time <= ended * 1000 + 100


def test_a_hanging_server_and_a_trainer_that_is_killed_meanwhile(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """Death is noticed while a request hangs. The points on disk arrive. The run shows FAILED."""
    training = play(
        """
        trackside.start()
        emit(100)
        wait_for("hang")
        emit(1000, 100)
        say(emitted=True)
        wait_for("death")
    """,
        MLFLOW_HTTP_REQUEST_TIMEOUT="3",
    )
    training.wait_to_be_asked("hang")
    proxy.add(proxy.hang)
    training.go("hang")
    training.wait_to_be_asked("death")
    wait_until(lambda: proxy.count("log-batch") > 0 or bool(training.state.error), 60)
    training.kill()
    wait_until(lambda: "the training process is dead" in training.log(), 20, training.log)
    proxy.heal()
    training.wait_until_delivered()
    run_id = check(client, tmp_path.name, 1100, "FAILED")
    assert "died without a word" in client.get_run(run_id).data.tags["trackside.end.reason"]


def test_a_shipper_killed_between_commit_and_acknowledgement(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """Its successor sends the batch again. The store has each point once."""
    training = play("""
        trackside.start()
        wait_for("batch")
        emit(400)
        wait_for("killed")
        for i in range(400, 800):
            emit(1, i, pause=0.02)
    """)
    training.wait_to_be_asked("batch")
    proxy.add(proxy.hang_behind_commit, lambda r: r.is_for("log-batch") and b"loss" in r.body, times=1)
    training.go("batch")
    wait_until(lambda: proxy.count("log-batch", status=200) > 0, 60, training.log)
    training.kill_shipper()
    proxy.heal()
    training.wait_to_be_asked("killed")
    training.go("killed")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    check(client, tmp_path.name, 800)
    assert "died. Starting another" in training.text
    sent = [seen.request.body for seen in proxy.seen if seen.request.is_for("log-batch")]
    first = next(body for body in sent if b'"loss"' in body)
    steps = {(m["key"], m["step"]) for m in json.loads(first)["metrics"]}
    again = [b for b in sent if steps <= {(m["key"], m["step"]) for m in json.loads(b).get("metrics", [])}]
    assert len(again) >= 2, "the batch was not sent again: nothing was proved"


def test_a_flush_believes_no_answer(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """A proxy says ``{}`` in MLflow's place: ``flush()`` is false until MLflow has the points."""
    training = play("""
        run = trackside.start()
        emit(10)
        flushed = run.flush(60)
        wait_for("gateway")
        emit(10, 10)
        wrong = run.flush(2)
        wait_for("healed")
        say(flushed=flushed, wrong=wrong, right=run.flush(60))
    """)
    training.wait_to_be_asked("gateway")
    mine = Reply(200, {"Content-Type": "application/json"}, b"{}")
    proxy.add(answer(mine), lambda request: request.is_for("log-batch") and b"metrics" in request.body)
    training.go("gateway")
    training.wait_to_be_asked("healed")
    proxy.heal()
    training.go("healed")
    assert training.end() == 0, training.text
    assert (training.said["flushed"], training.said["wrong"], training.said["right"]) == (True, False, True)
    assert "Look for a proxy in between" in training.text
    check(client, tmp_path.name, 20)


def test_a_shipper_killed_while_the_run_is_made(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """The server made the run, the shipper never heard of it: its successor finds that run."""
    proxy.add(proxy.hang_behind_commit, lambda r: r.is_for("runs/create"), times=1)
    training = play("""
        run = trackside.start()
        emit(10)
        say(run_id=run.run_id)
    """)
    wait_until(lambda: proxy.count("runs/create", status=200) > 0, 60, training.log)
    training.kill_shipper()
    proxy.heal()
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    assert check(client, tmp_path.name, 10) == training.said["run_id"]


TRY_TO_START = """
    import trackside.errors
    try:
        trackside.start()
    except trackside.errors.TrackingError as error:
        folder = os.environ["TRACKSIDE_DIR"]
        say(error=str(error), left=os.listdir(folder) if os.path.exists(folder) else [])
"""


@pytest.mark.parametrize("status", [401, 403])
def test_bad_credentials_at_the_start(play: Play, proxy: FaultProxy, status: int) -> None:
    """``start()`` raises and tells where credentials come from. No journal and no shipper stay behind."""
    proxy.add(answer(Reply(status, {}, b"You are not authenticated.")))
    training = play(TRY_TO_START)
    assert training.end() == 0, training.text
    assert "MLFLOW_TRACKING_PASSWORD" in training.said["error"]
    assert "not authenticated" in training.said["error"]
    assert training.said["left"] == []


def test_an_address_that_cannot_work(play: Play) -> None:
    """``start()`` raises at once and says what an address looks like."""
    training = play(TRY_TO_START.replace("TrackingError", "ConfigurationError"), uri="htp://x")
    assert training.end() == 0, training.text
    assert "MLFLOW_TRACKING_URI 'htp://x' has the unknown scheme 'htp'" in training.said["error"]
    assert "Write http://x" in training.said["error"]


def test_credentials_are_seen_nowhere(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """Not on disk, in logs, tags, output or ``ps``: healthy, during an outage, and in tracebacks."""
    uri = proxy.url.replace("//", "//user:s3cr3t%2Fpw@")
    training = play(
        """
        run = trackside.start(config={"store": os.environ["MLFLOW_TRACKING_URI"]})
        emit(10)
        assert run.flush(60)
        wait_for("outage")
        emit(10, 10)
        wait_for("healed")
        say(uri=run.tracking_uri, url=run.url)
    """,
        uri=uri,
    )
    training.wait_to_be_asked("outage")
    proxy.add(cut)
    training.go("outage")
    wait_until(lambda: bool(training.state.error), 30, training.log)
    seen = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    files = [path for path in (tmp_path / "journals").rglob("*") if path.is_file()]
    assert any(path.name == "shipper.log" for path in files)
    texts = {str(path): path.read_bytes() for path in files}
    texts |= {"ps": seen.encode(), "output": training.text.encode()}
    assert "Next try in" in training.journal.log.read_text()
    proxy.heal()
    training.wait_to_be_asked("healed")
    training.go("healed")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    run = client.get_run(check(client, tmp_path.name, 20))
    texts |= {"output later": training.text.encode(), "run": repr(run.to_dictionary()).encode()}
    assert [name for name, text in texts.items() if b"s3cr3t" in text] == []
    assert training.said["url"].startswith(proxy.url)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_hundred_thousand_points_with_the_server_down(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """Neither process grows, and what was emitted at full speed arrives when the server is back."""
    proxy.add(cut)
    training = play(
        """
        run = trackside.start()
        emit(1000)
        before = memory(), memory(shipper_pid(run))
        emit(149_000, 1000)
        time.sleep(2)
        say(before=before, after=(memory(), memory(shipper_pid(run))))
        wait_for("server")
    """,
        TRACKSIDE_START_TIMEOUT="10",
        TRACKSIDE_EXIT_TIMEOUT="1",
    )
    training.wait_to_be_asked("server")
    proxy.heal()
    training.go("server")
    assert training.end() == 0, training.text
    training.wait_until_delivered(800)
    check(client, tmp_path.name, 150_000)
    for before, after in zip(training.said["before"], training.said["after"], strict=True):
        assert after - before < 20_000, f"kB grew: {training.said}"


@pytest.mark.slow
def test_credentials_mended_meanwhile(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """With the real, slow pace: refused for a while, shown to the user, then all delivered."""
    training = play("""
        run = trackside.start()
        emit(10)
        assert run.flush(60)
        wait_for("refused")
        emit(200, 10)
        assert not run.flush(3)
        wait_for("mended")
        emit(10, 210)
    """)
    training.wait_to_be_asked("refused")
    proxy.add(answer(Reply(401, {}, b"You are not authenticated.")))
    training.go("refused")
    training.wait_to_be_asked("mended")
    assert "MLflow refuses the credentials" in training.text
    refused = proxy.count(status=401)
    assert refused <= 2
    proxy.heal()
    training.go("mended")
    assert training.end() == 0, training.text
    training.wait_until_delivered()
    check(client, tmp_path.name, 220)


@pytest.mark.slow
def test_two_jobs_and_a_new_sqlite_file(play: Play, tmp_path: Path) -> None:
    """Both find no database, make it at the same moment, and both runs are in it."""
    uri = f"sqlite:///{tmp_path / 'store' / 'new.db'}"
    script = """
        trackside.start()
        emit(50)
    """
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    name = {"MLFLOW_EXPERIMENT_NAME": "race"}
    jobs = [Training(folder, uri, script, **name) for folder in folders]
    try:
        for job in jobs:
            assert job.end() == 0, job.text
            job.wait_until_delivered()
    finally:
        for job in jobs:
            job.abandon()
    runs = runs_in(MlflowClient(uri), "race")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert all(steps_of(MlflowClient(uri), run.info.run_id) == once_each(50) for run in runs)
