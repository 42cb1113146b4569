"""Params, tags and linked metrics in MLflow, as MLflow's client would have brought them there."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tests.faults.delivery import Delivery, delivery
from tests.faults.fake import rejected, until
from tests.faults.proxy import FaultProxy, Reply
from trackside.destinations.mlflow.mirror import MLflowMirror
from trackside.destinations.mlflow.texts import is_same, requests_of
from trackside.events import MetricLink
from trackside.journal.format import LinkedMetricsRecord, MetricsRecord, ParamsRecord, TagsRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.journal.meta import Target


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sqlite store for all tests here: to make one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(params=["server", "sqlite"])
def store(request: pytest.FixtureRequest, journals: Path) -> Any:
    """Deliveries to a server by the REST API, and to a database by MLflow's own code."""
    name = "proxy" if request.param == "server" else "database"
    found = request.getfixturevalue(name)
    uri = found if isinstance(found, str) else found.url

    @contextmanager
    def opened() -> Iterator[tuple[Delivery, MlflowClient]]:
        with delivery(journals, uri) as rig:
            yield rig, MlflowClient(tracking_uri=uri)

    return opened


def put(rig: Delivery, *records: Any) -> None:
    """Append ``records``."""
    for record in records:
        assert rig.writer.append(record)


def params(**texts: str) -> ParamsRecord:
    """Params that were logged by one call."""
    return ParamsRecord(0, 1, texts)


def tags(**texts: str) -> TagsRecord:
    """Tags that were set by one call."""
    return TagsRecord(0, 1, texts)


def experiment_of(client: MlflowClient, target: Target) -> str:
    """The id of the experiment that the run will be in."""
    return str(client.create_experiment(str(target.experiment_name)))


def test_everything_arrives(store: Any) -> None:
    """250 params and 150 tags, one by one. No artifact is made of them. A run's name is set by its tag."""
    with store() as (rig, client):
        for number in range(250):
            put(rig, params(**{f"p{number:03}": str(number)}))
        for number in range(150):
            put(rig, tags(**{f"t{number:03}": "draft"}), tags(**{f"t{number:03}": str(number)}))
        put(rig, tags(**{"mlflow.runName": "renamed", "mlflow.note.content": "what it is"}))
        rig.emit(20)
        rig.deliver()
        run = client.get_run(rig.run_id)
        assert run.data.params == {f"p{number:03}": str(number) for number in range(250)}
        assert {key: value for key, value in run.data.tags.items() if key.startswith("t0")} == {
            f"t{number:03}": str(number) for number in range(100)
        }
        assert (run.info.run_name, run.info.status) == ("renamed", "FINISHED")
        assert run.data.tags["mlflow.note.content"] == "what it is"
        assert client.list_artifacts(rig.run_id) == []
        assert rig.worker.cursor.rejected == 0


def test_metrics_of_a_model(store: Any) -> None:
    """They are the run's and the model's, with their dataset, between plain metrics of the same names."""
    with store() as (rig, client):
        experiment = experiment_of(client, rig.meta.target)
        model = client.create_logged_model(experiment)
        link = MetricLink(model.model_id, "digits", "0a1b")
        put(
            rig,
            MetricsRecord(0, 1, 1, None, None, {"loss": 1.0}),
            LinkedMetricsRecord(0, 2, 2, None, "val", {"acc": 0.5, "nan": float("nan")}, link),
            LinkedMetricsRecord(0, 3, 3, 1.5, None, {"loss": 0.5}, MetricLink(model.model_id)),
            MetricsRecord(0, 4, 4, None, None, {"loss": 0.25}),
        )
        rig.deliver()
        history = client.get_metric_history(rig.run_id, "loss")
        assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (3, 0.5), (4, 0.25)]
        found = client.get_logged_model(model.model_id).metrics or []
        kept = {(m.key, m.step): (m.dataset_name, m.dataset_digest, m.run_id) for m in found}
        assert kept.pop(("val/acc", 2)) == ("digits", "0a1b", rig.run_id)
        assert set(kept) == {("val/nan", 2), ("loss", 3), ("epoch", 3)}
        assert client.get_run(rig.run_id).data.metrics["val/acc"] == 0.5


def test_metrics_of_an_unknown_model_are_rejected_alone(database: str, journals: Path) -> None:
    """As the direct call fails. They are in the dead-letter file with their link, and counted."""
    with delivery(journals, database) as rig:
        rig.emit(5)
        put(rig, LinkedMetricsRecord(0, 1, 1, None, None, {"acc": 0.5}, MetricLink("m-nowhere")))
        rig.emit(5, start=5)
        rig.deliver()
        run = MlflowClient(tracking_uri=database).get_run(rig.run_id)
        assert run.data.tags["trackside.rejected"] == "1"
        assert run.data.metrics["loss"] == 4.5
        (line,) = rejected(rig)
        assert (line["metrics"], line["model_id"]) == ({"acc": 0.5}, "m-nowhere")


def test_a_second_server_gets_plain_metrics(database: str, journals: Path) -> None:
    """The model is on the first one. The points are on both."""
    with delivery(journals, database) as rig:
        rig.destination._metrics._keeps_links = MLflowMirror.keeps_links
        put(rig, LinkedMetricsRecord(0, 1, 1, None, None, {"acc": 0.5}, MetricLink("m-elsewhere")))
        rig.deliver()
        assert MlflowClient(tracking_uri=database).get_run(rig.run_id).data.metrics == {"acc": 0.5}
        assert rig.worker.cursor.rejected == 0


def test_a_changed_param_stays_and_is_told(store: Any) -> None:
    """In one delivery, and with a value that the run had before. Nothing is rejected."""
    with store() as (rig, client):
        rig.worker.start()
        put(rig, params(lr="0.1"))
        until(lambda: rig.worker.cursor.acknowledges(1), timeout=60)
        put(rig, params(lr="0.2", depth="3"), params(depth="4"), params(lr="0.1"))
        rig.finish()
        run = client.get_run(rig.run_id)
        assert run.data.params == {"lr": "0.1", "depth": "3"}
        assert json.loads(run.data.tags["trackside.params.changed"]) == {"lr": "0.2", "depth": "4"}
        assert "kept as they were: lr" in rig.notices
        assert not rig.journal.rejected.exists()


def test_what_mlflow_refuses_is_rejected_alone(store: Any) -> None:
    """A name that MLflow does not take is not renamed: the call itself would have failed. It is counted."""
    with store() as (rig, client):
        put(rig, params(good="1"), params(**{"bad=name": "1"}), params(better="2"))
        put(rig, tags(**{"a": "1", "../b": "2", "k" * 300: "x"}))
        rig.emit(3)
        rig.deliver()
        run = client.get_run(rig.run_id)
        assert run.data.params == {"good": "1", "better": "2"}
        assert run.data.tags["a"] == "1"
        assert run.data.tags["trackside.rejected"] == "3"
        lines = rejected(rig)
        assert sorted(key for line in lines for key in line.get("params") or line["tags"]) == sorted(
            ["bad=name", "../b", "k" * 300]
        )
        assert all(line["error"] for line in lines)


@pytest.mark.parametrize("cuts", [True, False])
def test_long_values_are_as_in_a_direct_call(
    database: str, journals: Path, monkeypatch: pytest.MonkeyPatch, cuts: bool
) -> None:
    """Cut by MLflow, or refused, as your environment asks of MLflow."""
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", str(cuts).lower())
    long = "x" * 200_000
    with delivery(journals, database) as rig:
        put(rig, params(long=long, short="1"), tags(long=long, short="1"))
        put(rig, params(long=long))
        rig.deliver()
        client = MlflowClient(tracking_uri=database)
        run = client.get_run(rig.run_id)
        direct = client.create_run(run.info.experiment_id).info.run_id
        try:
            client.log_param(direct, "long", long)
            client.set_tag(direct, "long", long)
        except MlflowException:
            assert not cuts
        same = client.get_run(direct).data
        assert run.data.params == {**same.params, "short": "1"}
        assert run.data.tags.get("long") == same.tags.get("long")
        assert run.data.tags["short"] == "1"
        assert "trackside.params.changed" not in run.data.tags
        wanted = [] if cuts else ["params", "params", "tags"]
        lines = rejected(rig) if rig.journal.rejected.exists() else []
        assert sorted("tags" if "tags" in line else "params" for line in lines) == wanted


def test_few_requests(proxy: FaultProxy, journals: Path) -> None:
    """1,000 params and 1,000 tags, one by one: a dozen requests of 100 for each, and as many reads."""
    with delivery(journals, proxy.url) as rig:
        for number in range(1000):
            put(rig, params(**{f"p{number}": "1"}), tags(**{f"t{number}": "1"}))
        rig.deliver()
        writes = [seen for seen in proxy.seen if seen.request.is_for("log-batch")]
        assert len(writes) < 60
        run = MlflowClient(tracking_uri=proxy.url).get_run(rig.run_id)
        assert len(run.data.params) == 1000


def test_a_proxy_that_answers_in_mlflows_place(proxy: FaultProxy, journals: Path) -> None:
    """Params and tags that a server does not show are sent again."""
    proxy.add(
        lambda _request, _forward: Reply(200, {"Content-Type": "application/json"}, b"{}"),
        lambda request: any(word in request.body for word in (b'"lr"', b'"stage"')),
        times=2,
    )
    with delivery(journals, proxy.url) as rig:
        put(rig, params(lr="0.1"), tags(stage="final"))
        rig.deliver()
        run = MlflowClient(tracking_uri=proxy.url).get_run(rig.run_id)
    assert sum(any(w in s.request.body for w in (b'"lr"', b'"stage"')) for s in proxy.seen) > 2
    assert (run.data.params, run.data.tags["stage"]) == ({"lr": "0.1"}, "final")


def test_requests_have_a_size() -> None:
    """A hundred texts at most, and few that are long."""
    many = {f"k{number}": "x" for number in range(250)}
    assert [len(request) for request in requests_of(many)] == [100, 100, 50]
    long = {f"k{number}": "ß" * 50_000 for number in range(5)}
    assert [len(request) for request in requests_of(long)] == [1, 1, 1, 1, 1]
    assert list(requests_of({})) == []


def test_a_cut_value_is_the_same() -> None:
    """What a store has cut is no changed param. Another beginning is, and so is a short one."""
    assert is_same("x" * 6000, "x" * 7000)
    assert not is_same("x" * 6000, "y" * 7000)
    assert not is_same("0.1", "0.15")


def test_metrics_take_what_mlflow_calls_them() -> None:
    """The order of a linked point's fields is that of MLflow's classes."""
    metric: Any = Metric("loss", 0.5, 1, 2, "m-1", "digits", "0a1b")
    assert (metric.model_id, metric.dataset_name, metric.dataset_digest) == ("m-1", "digits", "0a1b")
    assert Param("lr", "0.1").key == "lr"
