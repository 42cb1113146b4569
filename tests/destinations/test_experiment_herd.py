"""A sweep whose runs all begin in an experiment that does not exist yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.faults.delivery import new_meta
from trackside.destinations.mlflow import opening
from trackside.destinations.mlflow.opening import RunCreator
from trackside.errors import RejectedError

if TYPE_CHECKING:
    import pytest


class Server:
    """Has no experiment until another run has made it, which is after ``looks`` looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.calls: list[str] = []

    def get_experiment_by_name(self, name: str) -> Any:
        self.calls.append("look")
        if self.calls.count("look") <= self.looks:
            return None
        return SimpleNamespace(name=name, experiment_id="7", lifecycle_stage="active")

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.calls.append("create")
        if self.looks < 9:
            raise RejectedError(f"experiment {name} exists")
        return "8"

    def create_run(self, experiment_id: str, **_options: Any) -> str:
        return experiment_id


def experiment_on(server: Server) -> str:
    """In which experiment a run is made."""
    connection: Any = SimpleNamespace(
        client=server, call=lambda function, *args, **more: function(*args, **more)
    )
    return str(RunCreator(new_meta("http://localhost:1", experiment_name="sweep"), connection).create(None))


def test_a_slow_server_is_asked_again_before_the_experiment_is_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another run of the sweep has made it meanwhile: nothing fails."""
    monkeypatch.setattr(opening, "SLOW", 0.0)
    server = Server(looks=1)
    assert experiment_on(server) == "7"
    assert server.calls == ["look", "look"]


def test_a_quick_server_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of an experiment waits for nothing. If it loses the race, it finds the experiment."""
    monkeypatch.setattr(opening, "SLOW", 1e9)
    server = Server(looks=1)
    assert experiment_on(server) == "7"
    assert server.calls == ["look", "create", "look"]


def test_an_experiment_that_stays_unknown_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the server is, one of them has to."""
    monkeypatch.setattr(opening, "SLOW", 0.0)
    server = Server(looks=9)
    assert experiment_on(server) == "8"
    assert server.calls == ["look", "look", "create"]
