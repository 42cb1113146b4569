"""Credentials renewed while a training runs reach its shipper. ``sync`` brings newer ones."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import Reply, answer
from tests.faults.servers import wait_until
from tests.faults.training import _clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from tests.faults.proxy import FaultProxy, Request
    from tests.faults.training import Play

pytestmark = pytest.mark.process

LOGIN = Reply.error(401, "UNAUTHENTICATED", "the token has expired")


class Guard:
    """Has ``proxy`` let only requests through whose ``Authorization`` is ``wanted``."""

    def __init__(self, proxy: FaultProxy, wanted: str) -> None:
        self.wanted = wanted
        proxy.add(answer(LOGIN), self.refuses)

    def refuses(self, request: Request) -> bool:
        return request.headers.get("Authorization") != self.wanted


def bearer(token: str) -> str:
    """The header for a token."""
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    """The header for a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def steps_of(client: MlflowClient, run_id: str) -> list[int]:
    """The steps that have arrived."""
    return sorted(metric.step for metric in client.get_metric_history(run_id, "loss"))


RENEWED = """
run = trackside.start()
emit(20)
assert run.flush(60)
say(run_id=run.run_id)
wait_for("expired")
begun = time.monotonic()
i = 20
while not os.path.exists("renew"):
    emit(1, i, pause=0.05)
    i += 1
os.environ["{name}"] = "{value}"
assert run.flush(60)
say(points=i, log_age=time.monotonic() - begun)
"""


@pytest.mark.parametrize("kind", ["token", "password", "address"])
def test_renewed_while_training(play: Play, proxy: FaultProxy, client: MlflowClient, kind: str) -> None:
    """The log says within seconds that credentials are refused. Renewed ones are used at once.

    As a token and a password in ``os.environ``, and as a password in the address itself.
    """
    secrets = ("first-swordfish", "second-swordfish")
    user = f"http://me:%s@{proxy.url.removeprefix('http://')}"
    name, old, new = {
        "token": ("MLFLOW_TRACKING_TOKEN", *secrets),
        "password": ("MLFLOW_TRACKING_PASSWORD", *secrets),
        "address": ("MLFLOW_TRACKING_URI", user % secrets[0], user % secrets[1]),
    }[kind]
    header = bearer if kind == "token" else lambda secret: basic("me", secret)
    guard = Guard(proxy, header(secrets[0]))
    given = {"MLFLOW_TRACKING_USERNAME": "me"} if kind == "password" else {}
    training = play(RENEWED.format(name=name, value=new), **{**given, name: old})
    training.wait_to_be_asked("expired")
    run_id = training.said["run_id"]
    guard.wanted = header(secrets[1])
    training.go("expired")
    training.read_until("refuses the credentials")
    training.go("renew")
    assert training.end() == 0, training.log()
    assert steps_of(client, run_id) == list(range(training.said["points"]))
    assert client.get_run(run_id).info.status == "FINISHED"
    assert training.said["log_age"] < 60
    assert all(secret not in training.text for secret in secrets)


LEFT_BEHIND = """
run = trackside.start()
emit(20)
assert run.flush(60)
say(run_id=run.run_id)
wait_for("expired")
emit(20, 20)
"""


SYNC = (sys.executable, "-m", "trackside", "sync", "--dir", "journals", "--give-up-after")


def sync(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``trackside sync`` in ``directory``."""
    return subprocess.run(
        [*SYNC, "0.5"],
        cwd=directory,
        env={**_clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextlib.contextmanager
def killed_at_last(command: list[str], directory: Path, **environment: str) -> Iterator[None]:
    """``command`` runs in ``directory`` for the block, and is then killed."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env={**_clean_environment(), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


def test_sync_takes_over_from_a_shipper_that_can_not_deliver(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """It lingers with a dead token. ``sync`` has a good one. With another bad one it says so: exit code 1.

    The same goes for the shipper that a ``sync`` with a dead token leaves behind when it is killed.
    """
    guard = Guard(proxy, bearer("first"))
    training = play(LEFT_BEHIND, MLFLOW_TRACKING_TOKEN="first", TRACKSIDE_EXIT_TIMEOUT="0.5")
    training.wait_to_be_asked("expired")
    guard.wanted = bearer("second")
    training.go("expired")
    assert training.end() == 0, training.log()
    wait_until(lambda: training.state.phase == "retrying", 30, training.log)
    shipper = training.state.pid
    bad = sync(tmp_path, MLFLOW_TRACKING_TOKEN="third")
    assert bad.returncode == 1
    assert "unfinished" in bad.stdout, bad.stdout + bad.stderr
    assert training.state.pid != shipper
    shipper = training.state.pid
    with killed_at_last([*SYNC, "1h"], tmp_path, MLFLOW_TRACKING_TOKEN="third"):
        wait_until(
            lambda: training.state.pid != shipper and training.state.phase == "retrying", 30, training.log
        )
    begun = time.monotonic()
    good = sync(tmp_path, MLFLOW_TRACKING_TOKEN="second")
    assert (good.returncode, "delivered" in good.stdout) == (0, True), good.stdout + good.stderr
    assert time.monotonic() - begun < 60
    run_id = training.said["run_id"]
    assert steps_of(client, run_id) == list(range(40))
    assert client.get_run(run_id).info.status == "FINISHED"
