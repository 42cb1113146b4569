"""Several requests at once to a real MLflow server: each point once, and the latest of each key is right."""

from __future__ import annotations

import json
import math
import threading
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from tests.faults.delivery import delivery, once_each, steps_of
from tests.faults.fake import until
from tests.faults.postgres import server_or_skip
from tests.faults.proxy import FaultProxy, Forward, Reply, Request, answer
from tests.faults.servers import MlflowServer
from trackside.destinations.mlflow.batch_body import metrics_body
from trackside.destinations.mlflow.tags import counts_in
from trackside.destinations.mlflow.through_mlflow import metrics_request
from trackside.journal.format import MetricsRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.delivery import Delivery

KEYS = tuple("abcdefg")
STEPS = 600


class Watch:
    """What passes at once: requests with metrics, and params, tags or a status meanwhile. Artifacts may."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.wrong: list[str] = []
        self._in_flight: list[set[str]] = []
        self._lock = threading.Lock()

    def __call__(self, request: Request, forward: Forward) -> Reply:
        keys = keys_of(request)
        with self._lock:
            if self._in_flight and not keys and request.is_for("/runs/set-tag", "/runs/log-", "/runs/update"):
                self.wrong.append(f"{request.path} while metrics are in flight")
            if any(keys & others for others in self._in_flight):
                self.wrong.append("one key twice")
            if keys:
                self._in_flight.append(keys)
                self.most_at_once = max(self.most_at_once, len(self._in_flight))
        try:
            return forward()
        finally:
            with self._lock:
                if keys:
                    self._in_flight.remove(keys)


def keys_of(request: Request) -> set[str]:
    """The metrics in a request."""
    if not request.is_for("runs/log-batch"):
        return set()
    return {metric["key"] for metric in json.loads(request.body).get("metrics", ())}


def value(key: str, step: int) -> float:
    """Neither rising nor falling with the step."""
    return math.sin(step * (1 + KEYS.index(key)))


def emit_all(rig: Delivery) -> None:
    """Each step has the keys. In the middle, and at the end, there is a configuration."""
    for step in range(STEPS):
        metrics = {key: value(key, step) for key in KEYS}
        rig.writer.append(MetricsRecord(0, 1_700_000_000_000 + step, step, None, None, metrics))
        if step in {STEPS // 2, STEPS - 1}:
            rig.configure({f"seen_{step}": "yes"})


def check(client: MlflowClient, rig: Delivery) -> None:
    """Everything there once, the latest values those of the last step, the run finished."""
    run = client.get_run(rig.run_id)
    assert run.data.metrics == {key: value(key, STEPS - 1) for key in KEYS}
    for key in KEYS:
        assert steps_of(client, rig.run_id, key) == once_each(STEPS)
    assert len(run.data.params) == 2
    assert run.info.status == "FINISHED"
    assert counts_in(run.data.tags)["shipped"] == STEPS * len(KEYS)
    assert not rig.journal.rejected.exists()


def deliver(server: MlflowServer, journals: Path) -> None:
    """Through a proxy that watches."""
    proxy, watch = FaultProxy(server.address), Watch()
    proxy.add(watch)
    try:
        with delivery(journals, proxy.url) as rig:
            emit_all(rig)
            rig.deliver()
        check(MlflowClient(server.url), rig)
    finally:
        proxy.close()
    assert watch.most_at_once > 1
    assert watch.wrong == []


def test_a_stock_server_on_sqlite(server: MlflowServer, journals: Path) -> None:
    """Two and more at once, none with a key of another, and nothing else meanwhile."""
    deliver(server, journals)


@pytest.fixture(scope="module")
def server_on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A stock server with two processes."""
    with server_or_skip() as postgres:
        directory = tmp_path_factory.mktemp("server")
        with MlflowServer(directory, backend_store_uri=postgres.uri, workers=2).running() as server:
            yield server


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stock_server_on_postgresql(server_on_postgresql: MlflowServer, journals: Path) -> None:
    """The same, with two processes behind the address and no lock on the whole database."""
    deliver(server_on_postgresql, journals)


def test_a_server_that_asks_for_fewer_gets_fewer(
    proxy: FaultProxy, server: MlflowServer, journals: Path
) -> None:
    """After a 429 one request at a time, and nothing twice but what was refused."""
    watch = Watch()
    with delivery(journals, proxy.url) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        proxy.add(watch)
        proxy.add(answer(Reply(429)), match=lambda request: bool(keys_of(request)), times=3)
        emit_all(rig)
        rig.finish()
    check(MlflowClient(server.url), rig)
    assert watch.wrong == []
    bodies = [seen.request.body for seen in proxy.seen if seen.status == 200 and keys_of(seen.request)]
    points = [
        (metric["key"], metric["step"]) for body in bodies for metric in json.loads(body).get("metrics", ())
    ]
    assert len(points) == len(set(points)) == STEPS * len(KEYS)


def test_one_at_a_time_when_told_so(
    proxy: FaultProxy, server: MlflowServer, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``TRACKSIDE_REQUESTS_IN_FLIGHT=1``."""
    monkeypatch.setenv("TRACKSIDE_REQUESTS_IN_FLIGHT", "1")
    watch = Watch()
    proxy.add(watch)
    with delivery(journals, proxy.url) as rig:
        assert rig.destination.batch_points == 1000
        emit_all(rig)
        rig.deliver()
    check(MlflowClient(server.url), rig)
    assert watch.most_at_once == 1


# The request itself


POINTS = [
    ("a", 0.1, 1_700_000_000_000, 0),
    ("a", math.nan, 1, 1),
    ("a", math.inf, 1, 2),
    ("a", -math.inf, 1, -3),
    ("b/c d", 1e-300, 2**62, 2**62),
    ('ä"\\', -0.0, 0, 0),
]  # fmt: skip


def test_the_body_is_what_mlflows_client_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same JSON, but for its spaces."""
    from mlflow.utils import rest_utils

    sent: list[object] = []

    def keep(*_: object, json: object, **__: object) -> object:
        sent.append(json)
        raise InterruptedError

    monkeypatch.setattr(rest_utils, "http_request", keep)
    client = MlflowClient("http://127.0.0.1:1")
    with pytest.raises(InterruptedError):
        client.log_batch("f" * 32, [Metric(*point) for point in POINTS])
    assert json.loads(metrics_body("f" * 32, POINTS)) == sent[0]


def test_values_and_errors_are_mlflows(server: MlflowServer) -> None:
    """What arrives, and what is raised, is as with its client."""
    client = MlflowClient(server.url)
    request = metrics_request(client)
    assert request is not None
    runs = [client.create_run("0").info.run_id for _ in range(2)]
    plain = POINTS[:5]
    request(runs[0], plain)
    client.log_batch(runs[1], [Metric(*point) for point in plain])
    found = [
        [(m.key, str(m.value), m.timestamp, m.step) for key in ("a", "b/c d") for m in sorted(
            client.get_metric_history(run, key), key=lambda m: m.step)]
        for run in runs
    ]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0]) == 5
    for points in (POINTS[5:], plain * 201):
        with pytest.raises(mlflow.MlflowException) as ours:
            request(runs[0], points)
        with pytest.raises(mlflow.MlflowException) as theirs:
            client._tracking_client.store.log_batch(runs[0], [Metric(*point) for point in points], [], [])
        assert type(ours.value) is type(theirs.value)
        assert str(ours.value) == str(theirs.value)


def test_a_client_it_does_not_know_keeps_its_own_way(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database, a client without the names it leans on, and metrics that belong to a model."""
    assert metrics_request(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")) is None
    assert metrics_request(object()) is None
    client = MlflowClient(server.url)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "get_active_model_id", lambda: "m-1")
        assert metrics_request(client) is None
    with monkeypatch.context() as patch:
        patch.delattr("mlflow.utils.rest_utils.http_request")
        assert metrics_request(client) is None


def test_without_the_short_way_points_arrive_all_the_same(
    server: MlflowServer, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By MLflow's client, several at once, too."""
    monkeypatch.setattr("trackside.destinations.mlflow.through_mlflow.metrics_request", lambda _: None)
    monkeypatch.setenv("TRACKSIDE_REST_CLIENT", "off")
    deliver(server, journals)
