"""Checkpoints and models become MLflow's logged models, once each, on a server and on a sqlite store."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import msgspec
import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import delivery
from tests.faults.fake import rejected
from tests.faults.proxy import Reply, answer
from trackside.errors import RejectedError, RetryableError
from trackside.journal.format import ArtifactRecord, MetricsRecord
from trackside.journal.held_files import HeldFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.delivery import Delivery
    from tests.faults.proxy import FaultProxy
    from tests.faults.servers import MlflowServer

pytestmark = pytest.mark.process

LOGGED = 1_700_000_000_000


@pytest.fixture(params=["server", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> Iterator[Delivery]:
    """A destination whose run is open. Nothing comes from the journal here."""
    monkeypatch.chdir(tmp_path)
    if request.param == "server":
        server: MlflowServer = request.getfixturevalue("server")
        uri = server.url
    else:
        new_database(tmp_path)
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    with delivery(tmp_path / "journals", uri) as made:
        made.destination.open()
        yield made
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def checkpoint(step: int | None = 10, seq: int = 7, **details: Any) -> ArtifactRecord:
    """A record as the sink writes it."""
    given = {"name": f"checkpoint-{step}", "metrics": {"val/loss": 0.25}, **details}
    return ArtifactRecord(seq, LOGGED + 5000, "checkpoint", "checkpoint", step, None, "file", "now", given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two files."""
    place = tmp_path / "held"
    (place / "sub dir").mkdir(parents=True)
    (place / "model.bin").write_bytes(b"x" * 100_000)
    (place / "sub dir" / "a b+1.json").write_bytes(b"{}")
    return place


def models_of(made: Delivery) -> list[Any]:
    """All logged models of the run's experiment."""
    client = MlflowClient(made.uri)
    run = client.get_run(made.run_id)
    return list(client.search_logged_models([run.info.experiment_id]))


def downloaded(model: Any, place: Path) -> dict[str, bytes]:
    """The files of a model, by their paths."""
    root = place / model.model_id
    mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=str(root))
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_checkpoint_is_a_model_with_step_metrics_params_and_run(
    opened: Delivery, folder: Path, tmp_path: Path
) -> None:
    """Ready, with all its files. Delivered again, as after a lost answer, it is still one."""
    destination = opened.destination
    destination.write_metrics([MetricsRecord(1, LOGGED, 10, None, None, {"val/loss": 0.25})])
    many = {f"p{number:03}": str(number) for number in range(150)}
    for _ in range(2):
        destination.write_artifact(checkpoint(params=many), folder)
    (model,) = models_of(opened)
    assert (model.name, model.status, model.model_type) == ("checkpoint-10", "READY", "checkpoint")
    assert model.source_run_id == opened.run_id
    assert model.params == many
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.step, metric.run_id) == ("val/loss", 0.25, 10, opened.run_id)
    assert downloaded(model, tmp_path) == {"model.bin": b"x" * 100_000, "sub dir/a b+1.json": b"{}"}
    client = MlflowClient(opened.uri)
    outputs = client.get_run(opened.run_id).outputs
    assert outputs is not None
    assert [(one.model_id, one.step) for one in outputs.model_outputs] == [(model.model_id, 10)]
    assert len(client.get_metric_history(opened.run_id, "val/loss")) == 1


def test_metrics_taken_at_another_step_stay_one_point_of_the_run(opened: Delivery, folder: Path) -> None:
    """Lightning counts a checkpoint's step from 1 and the steps of its metrics from 0."""
    destination = opened.destination
    destination.write_metrics([MetricsRecord(1, LOGGED, 9, None, None, {"val/loss": 0.25})])
    destination.write_artifact(checkpoint(metrics_step=9), folder)
    (model,) = models_of(opened)
    assert (model.name, [one.step for one in model.metrics]) == ("checkpoint-10", [9])
    history = MlflowClient(opened.uri).get_metric_history(opened.run_id, "val/loss")
    assert [point.step for point in history] == [9]


def test_a_shipper_that_is_killed_in_the_middle_goes_on_with_the_same_model(
    opened: Delivery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pending until its last file is there."""
    calls = []
    kind: Any = type(opened.destination._connection.client)
    upload = kind.upload_file

    def fail_once(self: Any, *arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise RetryableError("the connection is lost")
        upload(self, *arguments, **options)

    monkeypatch.setattr(kind, "upload_file", fail_once)
    with pytest.raises(RetryableError):
        opened.destination.write_artifact(checkpoint(), folder)
    (model,) = models_of(opened)
    assert model.status == "PENDING"
    state = opened.destination.state()
    opened.make_destination()
    opened.destination.restore(state or {})
    opened.destination.open()
    opened.destination.write_artifact(checkpoint(), folder)
    (again,) = models_of(opened)
    assert (again.model_id, again.status) == (model.model_id, "READY")
    assert len(again.metrics) == 1


def test_a_model_whose_files_are_rejected_has_failed(
    opened: Delivery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stay pending, and the record goes to the dead letters."""

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise RejectedError("too large")

    monkeypatch.setattr(type(opened.destination._connection.client), "upload_file", refuse)
    with pytest.raises(RejectedError, match="too large"):
        opened.destination.write_artifact(checkpoint(), folder)
    opened.destination.give_up_artifact(checkpoint())
    (model,) = models_of(opened)
    assert model.status == "FAILED"
    assert "MLflow shows the checkpoint 'checkpoint-10' as failed" in opened.notices


def test_a_model_that_is_ready_stays_so(opened: Delivery, folder: Path) -> None:
    """Its files went after the last of them had arrived. Nothing is made for one that was never begun."""
    opened.destination.write_artifact(checkpoint(), folder)
    opened.destination.give_up_artifact(checkpoint())
    opened.destination.give_up_artifact(checkpoint(20, seq=8))
    assert [(model.name, model.status) for model in models_of(opened)] == [("checkpoint-10", "READY")]
    assert "as failed" not in opened.notices


def test_a_model_whose_file_went_away_has_failed(opened: Delivery) -> None:
    """It was made, and then the file could not be read. The worker gives it up, and what follows arrives."""
    held = HeldFiles(opened.journal)
    lost, other = (held.keep_bytes(b"weights") for _ in range(2))

    def lose(call: Any, *arguments: Any, **options: Any) -> Any:
        (opened.journal.path / "files" / lost.name).unlink(missing_ok=True)
        return call(*arguments, **options)

    models = opened.destination._files_connection
    opened.destination._files_connection.open()
    create = models.client.models.create
    models.client.models.create = partial(lose, create)  # type: ignore[method-assign]
    for record, file in ((checkpoint(), lost), (checkpoint(20), other)):
        opened.writer.append(msgspec.structs.replace(record, seq=0, held=file, form="file"))
    opened.deliver()
    found = sorted((str(model.name), str(model.status)) for model in models_of(opened))
    assert found == [("checkpoint-10", "FAILED"), ("checkpoint-20", "READY")]
    assert "MLflow shows the checkpoint 'checkpoint-10' as failed" in opened.notices
    assert [entry["artifact"] for entry in rejected(opened)] == ["checkpoint"]


NO_SUCH_CALL = [
    Reply(404, {"Content-Type": "text/html"}, b"<h1>Not Found</h1>"),
    Reply.error(404, "ENDPOINT_NOT_FOUND", "No API found for this path"),
]


@pytest.mark.parametrize("reply", NO_SUCH_CALL, ids=["MLflow 2", "a proxy"])
def test_a_server_without_models_gets_their_files(
    proxy: FaultProxy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    """In a folder for each step, with the metrics as the run's own. It is told once."""
    monkeypatch.chdir(tmp_path)
    proxy.add(answer(reply), lambda request: request.is_for("logged-models", "outputs"))
    file = tmp_path / "0123456789abcdef"
    file.write_bytes(b"weights")
    with delivery(tmp_path / "journals", proxy.url) as made:
        destination = made.destination
        destination.open()
        destination.write_artifact(checkpoint(), folder)
        destination.write_artifact(checkpoint(20, seq=8, name="net/best", file="a b.ckpt"), file)
        destination.give_up_artifact(checkpoint(30, seq=9))
        client = MlflowClient(f"http://{proxy.upstream}")
        assert made.notices.count("knows no logged models") == 1
        history = client.get_metric_history(made.run_id, "val/loss")
        assert [(metric.step, metric.value) for metric in history] == [(10, 0.25), (20, 0.25)]
        place = Path(client.download_artifacts(made.run_id, "checkpoints", str(tmp_path)))
        found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        assert found == {
            "checkpoint-10/model.bin",
            "checkpoint-10/sub dir/a b+1.json",
            "net-best/step-20/a b.ckpt",
        }


def test_a_server_that_is_gone_is_not_one_without_models(
    proxy: FaultProxy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer answers for it. The model is tried again."""
    monkeypatch.chdir(tmp_path)
    with delivery(tmp_path / "journals", proxy.url) as made:
        made.destination.open()
        proxy.add(answer(Reply(404, {}, b"default backend")), lambda request: request.is_for("logged-models"))
        proxy.add(
            answer(Reply(404, {}, b"default backend")), lambda _request: bool(proxy.count("logged-models"))
        )
        with pytest.raises(RetryableError):
            made.destination.write_artifact(checkpoint(), folder)
        proxy.heal()
        made.destination.write_artifact(checkpoint(), folder)
        assert [model.status for model in models_of(made)] == ["READY"]


def test_a_name_that_mlflow_refuses_is_changed_and_told(opened: Delivery, tmp_path: Path) -> None:
    """The checkpoint is kept. A file keeps its own name, and without a step it is at 0."""
    path = tmp_path / "0123456789abcdef"
    path.write_bytes(b"weights")
    name = f"net/v1.{time.time_ns()}"
    opened.destination.write_artifact(checkpoint(None, name=name, file="last.ckpt"), path)
    (model,) = models_of(opened)
    assert model.name == name.replace("/", "-").replace(".", "-")
    assert "has a name that MLflow does not take" in opened.notices
    assert downloaded(model, tmp_path) == {"last.ckpt": b"weights"}
    assert [metric.step for metric in model.metrics] == [0]


def test_a_record_without_a_file_is_rejected(opened: Delivery) -> None:
    """And no model is made for it."""
    with pytest.raises(RejectedError, match="has no file"):
        opened.destination.write_artifact(checkpoint(), None)
    assert models_of(opened) == []


def test_metrics_that_mlflow_rejects_cost_no_files(
    opened: Delivery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told."""

    def refuse(*_arguments: Any) -> None:
        raise RejectedError("no such metric")

    monkeypatch.setattr(type(opened.destination._connection), "log_points", refuse)
    opened.destination.write_artifact(checkpoint(), folder)
    (model,) = models_of(opened)
    assert model.status == "READY"
    assert "rejects the metrics of the checkpoint 'checkpoint': no such metric" in opened.notices


MLMODEL = """
flavors:
  python_function: {code: code, loader_module: doubler}
"""

LOADER = """
class Doubler:
    def predict(self, numbers, **_):
        return [2 * one for one in numbers]

def _load_pyfunc(path):
    return Doubler()
"""

LOAD = """
import sys
import mlflow.pyfunc
print(mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}").predict([1, 2]))
if len(sys.argv) > 2:
    import mlflow.pytorch
    print(mlflow.pytorch.load_state_dict(f"models:/{sys.argv[2]}")["weight"].tolist())
"""


@pytest.mark.parametrize("opened", ["server"], indirect=True)
def test_mlflow_loads_a_folder_in_its_format_and_the_weights_of_a_module(
    opened: Delivery, tmp_path: Path
) -> None:
    """By the ids of the models, as those that MLflow has logged."""
    folder = tmp_path / "saved"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "code" / "doubler.py").write_text(LOADER)
    record = ArtifactRecord(3, LOGGED, "model", "doubler", None, None, "file", "now", {"name": "doubler"})
    opened.destination.write_artifact(record, folder)
    expected = ["[2, 4]"]
    if find_spec("torch"):
        import torch

        module: Any = torch.nn.Linear(2, 1)
        torch.save(module.state_dict(), tmp_path / "held")
        details = {"name": "net", "file": "state_dict.pth"}
        record = ArtifactRecord(4, LOGGED, "model", "net", 4, None, "file", "now", details)
        opened.destination.write_artifact(record, tmp_path / "held")
        expected.append(str(module.weight.tolist()))
    ids = [model.model_id for model in sorted(models_of(opened), key=lambda model: str(model.name))]
    command = [sys.executable, "-W", "ignore", "-c", LOAD, *ids]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == expected


def test_metrics_of_a_checkpoint_wait_for_a_batch_in_flight(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that share a metric's name are never made at once."""
    with delivery(tmp_path / "journals", server.url) as made:
        made.destination.open()
        connection = made.destination._connection
        seen = []
        log = connection.client.log_points

        def note(*arguments: Any) -> None:
            seen.append(connection.sending_metrics.locked())
            log(*arguments)

        monkeypatch.setattr(connection.client, "log_points", note)
        made.destination.write_metrics([MetricsRecord(1, LOGGED, 1, None, None, {"loss": 1.0})])
        connection.log_points_beside([("loss", 2.0, LOGGED, 2)])
        assert seen == [True, True]
