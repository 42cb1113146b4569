"""What reaches MLflow, and in which form, from a healthy store (sqlite, in this process)."""

from __future__ import annotations

import math
import secrets
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import Delivery, delivery, new_meta, once_each, runs_in, steps_of
from tests.faults.fake import until
from trackside.destinations.mlflow.params import artifact_name
from trackside.destinations.mlflow.tags import counts_in
from trackside.journal.format import MetricsRecord
from trackside.names import valid_name


@pytest.fixture
def client(store: str) -> MlflowClient:
    """For reading it back."""
    return MlflowClient(store)


def deliver(journals: Path, store: str, *records: MetricsRecord, **target: object) -> Delivery:
    """Deliver ``records`` and finish."""
    with delivery(journals, store, **target) as rig:
        for record in records:
            rig.writer.append(record)
        rig.deliver()
    assert rig.worker.refused is None
    return rig


def artifact(client: MlflowClient, run_id: str, name: str, into: Path) -> str:
    """The text of an artifact."""
    return Path(client.download_artifacts(run_id, name, str(into))).read_text()


def test_a_run_arrives_whole(store: str, client: MlflowClient, journals: Path) -> None:
    """Points with the time of the emit, params, tags, counts, status, start and end."""
    rig = Delivery(journals, store, run_name="one", tags={"team": "a"}, parent_run_id="abc")
    rig.configure({"lr": "0.1"})
    rig.writer.append(MetricsRecord(0, 1_700_000_000_123, 7, 2.0, "val", {"loss": 0.5}))
    rig.deliver()
    run = client.get_run(rig.run_id)
    (point,) = client.get_metric_history(rig.run_id, "val/loss")
    assert (point.value, point.step, point.timestamp) == (0.5, 7, 1_700_000_000_123)
    assert client.get_metric_history(rig.run_id, "epoch")[0].value == 2.0
    assert run.info.run_name == "one"
    assert run.data.params == {"lr": "0.1"}
    tags = run.data.tags
    assert (tags["team"], tags["mlflow.parentRunId"]) == ("a", "abc")
    assert counts_in(tags) == {"emitted": 2, "shipped": 2}
    assert run.info.status == "FINISHED"
    assert run.info.start_time == rig.meta.started_ms
    assert run.info.end_time >= run.info.start_time


def test_values_that_are_no_numbers(store: str, client: MlflowClient, journals: Path) -> None:
    """NaN stays NaN, infinities become the store's largest numbers. Resent, none is doubled."""
    values = {"nan": math.nan, "up": math.inf, "down": -math.inf}
    rig = deliver(journals, store, *[MetricsRecord(0, 1, 1, None, None, values)] * 2)
    found = {n: [m.value for m in client.get_metric_history(rig.run_id, n)] for n in values}
    assert all(len(values) == 1 for values in found.values())
    assert math.isnan(found["nan"][0])
    assert found["up"][0] > 1e308
    assert found["down"][0] < -1e308


def test_ten_thousand_keys_in_one_sample(store: str, client: MlflowClient, journals: Path) -> None:
    """More than a request holds: sent in several."""
    metrics = {f"k{i}": float(i) for i in range(10_000)}
    rig = deliver(journals, store, MetricsRecord(0, 1, 1, None, None, metrics))
    assert client.get_run(rig.run_id).data.metrics == metrics


def test_names_mlflow_does_not_take_are_changed_and_said(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """``AR@100`` must not crash a training, nor two such names fall on one."""
    metrics = {"AR@100": 1.0, "AR#100": 2.0, "timing(s)/gen": 3.0, "a" * 300: 4.0, "../x": 5.0}
    rig = deliver(journals, store, MetricsRecord(0, 1, 1, None, None, metrics))
    wanted = {valid_name(name): value for name, value in metrics.items()}
    assert client.get_run(rig.run_id).data.metrics == wanted
    assert "'AR@100' is not a name MLflow takes" in rig.notices


def test_more_params_than_a_request_takes(store: str, client: MlflowClient, journals: Path) -> None:
    """And values longer than a param takes: cut there, whole in the artifact."""
    params = {f"p{i}": str(i) for i in range(250)} | {"long": "x" * 9000}
    with delivery(journals, store) as rig:
        rig.configure(params)
        rig.deliver()
    found = client.get_run(rig.run_id).data.params
    assert len(found) == 251
    assert len(found["long"]) == 6000
    assert "long" in rig.notices
    assert "x" * 9000 in artifact(client, rig.run_id, "config.yaml", journals)


def test_a_param_the_server_refuses_takes_no_other_with_it(
    store: str, client: MlflowClient, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bisected like metrics. The user is told which."""
    from trackside.destinations.mlflow.connection import Connection
    from trackside.errors import RejectedError

    real = Connection.log_params

    def log_params(self: Connection, params: dict[str, str]) -> None:
        if "p13" in params:
            raise RejectedError("not this one")
        real(self, params)

    monkeypatch.setattr(Connection, "log_params", log_params)
    with delivery(journals, store) as rig:
        rig.configure({f"p{i}": str(i) for i in range(50)})
        rig.deliver()
    assert set(client.get_run(rig.run_id).data.params) == {f"p{i}" for i in range(50)} - {"p13"}
    assert "refused 1 of 50 params (p13)" in rig.notices


def test_a_resumed_run_keeps_its_params_and_tells_what_differs(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """New ones logged, equal ones skipped, changed ones kept as they were, in a tag and an artifact."""
    with delivery(journals, store) as first:
        first.configure({"lr": "0.1", "seed": "1"})
        first.deliver()
    with delivery(journals, store, run_id=first.run_id, required_run=True) as second:
        second.configure({"lr": "0.2", "seed": "1", "warmup": "10"})
        second.emit(3)
        second.deliver()
    assert second.run_id == first.run_id
    run = client.get_run(first.run_id)
    assert run.data.params == {"lr": "0.1", "seed": "1", "warmup": "10"}
    assert run.data.tags["trackside.params.changed"] == '{"lr": "0.2"}'
    assert "params differ" in second.notices
    name = artifact_name(resumed=True, started_ms=second.meta.started_ms)
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"config.yaml", name, "trackside"}
    assert "0.2" in artifact(client, run.info.run_id, name, journals)
    assert "0.1" in artifact(client, run.info.run_id, "config.yaml", journals)
    assert steps_of(client, run.info.run_id) == once_each(3)


def test_configs_add_up(store: str, client: MlflowClient, journals: Path) -> None:
    """Two config events: one artifact with both, and what the second changed is in the tag."""
    with delivery(journals, store) as rig:
        rig.configure({"a": "1"}, {"a": 1, "deep": {"x": 1}})
        rig.configure({"a": "2", "b": "3"}, {"a": 2, "b": 3, "deep": {"y": 2}})
        rig.deliver()
    run = client.get_run(rig.run_id)
    assert run.data.params == {"a": "1", "b": "3"}
    assert run.data.tags["trackside.params.changed"] == '{"a": "2"}'
    text = artifact(client, rig.run_id, "config.yaml", journals)
    assert text == "a: 2\ndeep:\n  x: 1\n  y: 2\nb: 3\n"


REFUSED = [
    ({"run_id": "f" * 32, "required_run": True}, "does not exist"),
    ({"experiment_id": "99999999"}, "No Experiment"),
]


@pytest.mark.parametrize(("target", "words"), REFUSED, ids=["run", "experiment"])
def test_what_can_never_be_opened_is_refused(
    store: str, journals: Path, target: dict[str, object], words: str
) -> None:
    """With words that tell what to change."""
    with delivery(journals, store, **target) as rig:
        rig.worker.start()
        rig.join(60)
    assert words in (rig.worker.refused or "")


def test_deleted_runs_and_experiments_are_refused_with_the_remedy(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """Both can be restored, by the commands named."""
    name = f"gone-{secrets.token_hex(4)}"
    experiment = client.create_experiment(name)
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    client.delete_experiment(experiment)
    for target, words in (
        ({"experiment_name": name}, f"mlflow experiments restore --experiment-id {experiment}"),
        ({"run_id": run_id, "required_run": True}, f"mlflow runs restore --run-id {run_id}"),
    ):
        with delivery(journals, store, **target) as rig:
            rig.worker.start()
            rig.join(60)
        assert words in (rig.worker.refused or "")


def test_a_named_run_that_is_gone_means_a_new_one(
    store: str, client: MlflowClient, journals: Path, tmp_path: Path
) -> None:
    """Checkpoints copied from elsewhere name a run this store has never heard of."""
    checkpoint_dir = tmp_path / "checkpoints"
    checkpoint_dir.mkdir()
    (checkpoint_dir / "mlflow_run_id").write_text("f" * 32)
    rig = deliver(journals, store, checkpoint_dir=str(checkpoint_dir))
    assert rig.run_id != "f" * 32
    assert (checkpoint_dir / "mlflow_run_id").read_text().strip() == rig.run_id


def test_a_run_deleted_midway_is_left_alone(store: str, client: MlflowClient, journals: Path) -> None:
    """The worker ends with the remedy, and every point stays in the journal for ``trackside sync``."""
    with delivery(journals, store) as rig:
        rig.emit(10)
        rig.worker.start()
        until(lambda: rig.worker.cursor.shipped == 10)
        client.delete_run(rig.run_id)
        rig.emit(2000, start=10)
        rig.join(60)
        assert f"mlflow runs restore --run-id {rig.run_id}" in (rig.worker.refused or "")
        assert "was deleted" in rig.notices
        assert not rig.journal.rejected.exists()
        client.restore_run(rig.run_id)
        rig.restart().start()
        rig.finish()
    assert steps_of(client, rig.run_id) == once_each(2010)


def test_a_restarted_shipper_resumes_nothing_twice(
    store: str, client: MlflowClient, journals: Path, tmp_path: Path
) -> None:
    """Killed after the run and its run-id file were made, but before that was recorded: same run, new."""
    (tmp_path / "checkpoints").mkdir()
    with delivery(journals, store, checkpoint_dir=str(tmp_path / "checkpoints")) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        first = rig.run_id
        rig.worker.calls.stop()
        rig.join(60)
        rig.journal.cursor("mlflow").unlink()
        rig.restart().start()
        rig.configure({"a": "1"})
        rig.finish()
    assert rig.run_id == first
    assert {a.path for a in client.list_artifacts(first)} == {"config.yaml"}
    assert len(runs_in(client, rig.meta.target.experiment_name)) == 1


def test_a_run_made_twice_behind_our_back_is_tidied_up(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """A server that hung may carry out both requests to create the run, long after."""
    meta = new_meta(store)
    with delivery(journals, store, meta=meta) as rig:
        rig.make_destination()  # of a second shipper, which can't know what the first one asked for
        rig.worker = rig.new_worker()
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        info = client.get_run(rig.run_id).info
        client.create_run(info.experiment_id, tags={"trackside.journal": meta.journal_id})
        rig.emit(3)
        rig.finish()
    assert [run.info.run_id for run in runs_in(client, meta.target.experiment_name)] == [rig.run_id]


def test_the_status_of_a_run_taken_over_is_left_alone(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """A newer attempt continues with it: the older one's end is not the run's."""
    with delivery(journals, store) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        client.set_tag(rig.run_id, "trackside.journal", "of another")
        rig.finish()
    assert client.get_run(rig.run_id).info.status == "RUNNING"


def test_a_reaped_run_that_lives_is_running_again(store: str, client: MlflowClient, journals: Path) -> None:
    """The heartbeat takes back what was thought during an outage."""
    with delivery(journals, store) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        client.set_terminated(rig.run_id, "KILLED")
        rig.destination._claim._heartbeats.hurry()
        until(lambda: client.get_run(rig.run_id).info.status == "RUNNING")
        rig.finish()
    assert client.get_run(rig.run_id).info.status == "FINISHED"
