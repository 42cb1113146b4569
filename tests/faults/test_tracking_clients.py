"""REST without MLflow and MLflow's own client: both keep to one contract against a real server."""

from __future__ import annotations

import math
import re
import secrets
from functools import partial
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag

from trackside.destinations.mlflow.errors import translate
from trackside.destinations.mlflow.rest_client import RestClient
from trackside.destinations.mlflow.through_mlflow import ThroughMLflow
from trackside.destinations.mlflow.used_datasets import UsedDataset
from trackside.errors import DeliveryError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from tests.faults.servers import MlflowServer
    from trackside.destinations.mlflow.tracking import Run, TrackingClient

START = 1_700_000_000_123
UNKNOWN = "f" * 32

POINTS = [
    ("loss", 0.5, START, 1),
    ("loss", math.nan, START + 1, 2),
    ("ä/b c", -math.inf, START + 2, -3),
]


@pytest.fixture(params=[RestClient, ThroughMLflow])
def tracking(request: pytest.FixtureRequest, server: MlflowServer) -> TrackingClient:
    """One of the two clients."""
    made: TrackingClient = request.param(server.url)
    return made


@pytest.fixture
def both(server: MlflowServer) -> tuple[TrackingClient, TrackingClient]:
    """Both of them."""
    return RestClient(server.url), ThroughMLflow(server.url)


def new_run(tracking: TrackingClient, **tags: str) -> Run:
    """A run in an experiment of its own."""
    experiment = tracking.create_experiment(f"contract-{secrets.token_hex(6)}", artifact_location=None)
    return tracking.create_run(
        experiment, start_time=START, tags={"mlflow.user": "Zoë", **tags}, run_name="一 run"
    )


def test_an_experiment(tracking: TrackingClient, client: MlflowClient) -> None:
    """Made once, found by name and id, also when deleted."""
    name = f"ä & b = {secrets.token_hex(6)}"
    assert tracking.get_experiment_by_name(name) is None
    made = tracking.create_experiment(name, artifact_location="mlflow-artifacts:/elsewhere")
    found = tracking.get_experiment_by_name(name)
    assert found is not None
    assert (found.experiment_id, found.name, found.lifecycle_stage) == (made, name, "active")
    assert found == tracking.get_experiment(made)
    assert client.get_experiment(made).artifact_location == "mlflow-artifacts:/elsewhere"
    client.delete_experiment(made)
    assert tracking.get_experiment(made).lifecycle_stage == "deleted"
    tracking.ping()


def test_a_run(tracking: TrackingClient, client: MlflowClient) -> None:
    """Made, written to, found by a tag, ended, deleted."""
    run = new_run(tracking, mine="x'y")
    run_id = run.info.run_id
    assert (run.info.run_name, run.info.status, run.info.start_time) == ("一 run", "RUNNING", START)
    assert client.get_run(run_id).info.user_id == "Zoë"
    tracking.log_params(run_id, {"lr": "0.1", "ünïcode": "日本"})
    tracking.log_tags(run_id, {"a": "1", "b": "2"})
    tracking.set_tag(run_id, "a", "3")
    tracking.delete_tag(run_id, "b")
    tracking.log_points(run_id, POINTS)
    found = tracking.get_run(run_id)
    assert found.data.params == {"lr": "0.1", "ünïcode": "日本"}
    assert (found.data.tags["a"], found.data.tags["mine"]) == ("3", "x'y")
    assert "b" not in found.data.tags
    assert found.data.last == {"loss": (2, START + 1), "ä/b c": (-3, START + 2)}
    tracking.set_tag(run_id, "trackside.journal", "j-1")
    search = "tags.`trackside.journal` = 'j-1'"
    assert [one.info.run_id for one in tracking.search_runs(run.info.experiment_id, search)] == [run_id]
    tracking.update_run(run_id, "FINISHED", end_time=START + 5)
    assert tracking.get_run(run_id).info.end_time == START + 5
    tracking.update_run(run_id, "RUNNING")
    assert tracking.get_run(run_id).info.status == "RUNNING"
    tracking.delete_run(run_id)
    assert tracking.get_run(run_id).info.lifecycle_stage == "deleted"
    assert not tracking.search_runs(run.info.experiment_id, search)


def test_a_run_without_a_name_gets_one(tracking: TrackingClient) -> None:
    """The server makes it up."""
    experiment = new_run(tracking).info.experiment_id
    made = tracking.create_run(experiment, start_time=START, tags={}, run_name=None)
    assert made.info.run_name


def test_both_read_the_same(both: tuple[TrackingClient, TrackingClient]) -> None:
    """What one has written the other one shows, in the same words."""
    for writer, reader in (both, both[::-1]):
        made = new_run(writer)
        writer.log_params(made.info.run_id, {"p": ""})
        writer.log_points(made.info.run_id, POINTS)
        assert reader.get_run(made.info.run_id) == writer.get_run(made.info.run_id)


def test_a_logged_model(tracking: TrackingClient, client: MlflowClient) -> None:
    """Made, found by a tag, given params, named as what the run has made, ready or failed."""
    run = new_run(tracking)
    experiment, run_id = run.info.experiment_id, run.info.run_id
    tag = "trackside.artifact"
    assert tracking.models.find(experiment, tag, "j/1") is None
    made = tracking.models.create(run, "ä b-1", tags={tag: "j/1", "x": ""}, model_type="checkpoint")
    tracking.models.log_params(made.model_id, {"lr": "0.1", "ünïcode": "日本"})
    found = tracking.models.find(experiment, tag, "j/1")
    assert found is not None
    assert (found.model_id, found.artifact_uri) == (made.model_id, made.artifact_uri)
    assert found.params == {"lr": "0.1", "ünïcode": "日本"}
    assert tracking.models.find(experiment, tag, "j/2") is None
    tracking.models.name_output(run_id, made.model_id, 7)
    assert tracking.get_run(run_id).data.models == {made.model_id: 7}
    shown = client.get_logged_model(made.model_id)
    assert (shown.name, shown.status, shown.source_run_id) == ("ä b-1", "PENDING", run_id)
    assert shown.model_type == "checkpoint"
    tracking.models.end(made.model_id, ready=False)
    assert client.get_logged_model(made.model_id).status == "FAILED"
    tracking.models.end(made.model_id, ready=True)
    assert client.get_logged_model(made.model_id).status == "READY"
    tracking.log_points(run_id, [("loss", 0.5, START, 7, made.model_id, None, None)] * 2)
    metrics = client.get_logged_model(made.model_id).metrics
    assert metrics is not None
    (metric,) = metrics
    assert (metric.key, metric.value, metric.step) == ("loss", 0.5, 7)
    client.delete_logged_model(made.model_id)
    assert tracking.models.find(experiment, tag, "j/1") is None


def test_artifacts(tracking: TrackingClient) -> None:
    """Written, replaced, read back, removed, in a folder, too."""
    run = new_run(tracking)
    for name in ("config.yaml", "trackside/attempts.jsonl", "with space.txt"):
        assert tracking.read_artifact(run, name) is None
        tracking.write_artifact(run, name, "first")
        tracking.write_artifact(run, name, "second: ü\n")
        assert tracking.read_artifact(run, name) == "second: ü\n"
    tracking.remove_artifact(run, "config.yaml")
    assert tracking.read_artifact(run, "config.yaml") is None


def test_artifacts_that_the_server_does_not_take(server: MlflowServer, tmp_path: Path) -> None:
    """Are written by MLflow's client for that store: here, into a folder."""
    tracking = RestClient(server.url)
    place = tmp_path / "elsewhere"
    experiment = tracking.create_experiment(secrets.token_hex(6), artifact_location=place.as_uri())
    run = tracking.create_run(experiment, start_time=START, tags={}, run_name=None)
    tracking.write_artifact(run, "a/b.txt", "text")
    assert (place / run.info.run_id / "artifacts" / "a" / "b.txt").read_text() == "text"
    assert tracking.read_artifact(run, "a/b.txt") == "text"
    tracking.remove_artifact(run, "a/b.txt")
    assert tracking.read_artifact(run, "a/b.txt") is None


def test_artifacts_go_to_one_place(both: tuple[TrackingClient, TrackingClient]) -> None:
    """What one has written the other one reads and removes."""
    for writer, reader in (both, both[::-1]):
        run = new_run(writer)
        writer.write_artifact(run, "a/b.txt", "text")
        assert reader.read_artifact(run, "a/b.txt") == "text"
        reader.remove_artifact(run, "a/b.txt")
        assert writer.read_artifact(run, "a/b.txt") is None


MISTAKES: dict[str, Callable[[TrackingClient, str], object]] = {
    "no such run": lambda client, _: client.get_run(UNKNOWN),
    "points for no run": lambda client, _: client.log_points(UNKNOWN, POINTS),
    "no such experiment": lambda client, _: client.get_experiment("987654321"),
    "an experiment twice": lambda client, _: client.create_experiment("Default", artifact_location=None),
    "no such tag": lambda client, run: client.delete_tag(run, "never set"),
    "a param with another value": lambda client, run: client.log_params(run, {"lr": "0.2"}),
    "a metric's name": lambda client, run: client.log_points(run, [("../up", 1.0, 1, 1)]),
    "too many points": lambda client, run: client.log_points(run, POINTS * 400),
    "a search": lambda client, _: client.search_runs("0", "no search at all"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_means_the_same(mistake: str, both: tuple[TrackingClient, TrackingClient]) -> None:
    """Of one kind, in the same words, whichever client met it."""
    run = new_run(both[0]).info.run_id
    both[0].log_params(run, {"lr": "0.1"})
    rest, theirs = [meaning(partial(MISTAKES[mistake], client, run)) for client in both]
    assert type(rest) is type(theirs) is RejectedError
    without_times = [re.sub(r"\d{13}", "", str(error)) for error in (rest, theirs)]
    assert without_times[0] == without_times[1]


def meaning(call: Callable[[], object]) -> DeliveryError:
    """What the error of ``call`` means."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - two libraries' errors
        call()
    return translate(raised.value)


def test_a_dataset(tracking: TrackingClient, client: MlflowClient) -> None:
    """As MLflow's own client logs it. The same again changes nothing."""
    described = {"name": "digits", "digest": "0123abcd", "source_type": "local", "source": '{"uri": "/ä"}'}
    run = new_run(tracking)
    for _ in range(2):
        tracking.log_dataset(run.info.run_id, UsedDataset(**described, schema="{}", context="train"))
    tracking.log_dataset(run.info.run_id, UsedDataset(**{**described, "digest": "other"}))
    theirs = new_run(tracking)
    entity = Dataset(**described, schema="{}")
    client.log_inputs(theirs.info.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "train")])])
    ours = inputs_of(client, run)
    assert {item.dataset.digest for item in ours} == {"0123abcd", "other"}
    (expected,) = inputs_of(client, theirs)
    assert expected.to_dictionary() in [item.to_dictionary() for item in ours]


def inputs_of(client: MlflowClient, run: Run) -> list[DatasetInput]:
    """The datasets of a run."""
    inputs = client.get_run(run.info.run_id).inputs
    assert inputs is not None
    return inputs.dataset_inputs
