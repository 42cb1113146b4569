"""Bad input of ``start()``: a clear error at once, and then nothing is left of the attempt."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database
from tests.hooked import everything_hooked
from trackside.errors import ConfigurationError, JournalError, TrackingError
from trackside.event_bus.bus import Bus
from trackside.lifecycle.exit_code import ExitCodeNote
from trackside.session import assembly, plan
from trackside.session.current import recording_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the test's own, in which the journals' would be made."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_env_run_ids_used", {})
    return tmp_path


def open_descriptors() -> int:
    """How many this process has, once garbage is collected and closed."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


@pytest.fixture
def refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Calls ``start()``, which must raise. Returns the message once all is seen to be as before."""
    bus = Bus()
    before = everything_hooked()

    def start(kind: type[Exception], **arguments: Any) -> str:
        # What notes the exit code can't be taken back: its descriptor stays, to be used again.
        descriptors = open_descriptors() + (not ExitCodeNote._spare)
        with pytest.raises(kind) as caught:
            trackside.start(**{"bus": bus, **arguments})
        says = str(caught.value)
        del caught
        assert open_descriptors() <= descriptors
        assert everything_hooked() == before
        assert recording_runs == {}
        assert bus.sinks == ()
        assert not any((place / "journals").glob("*")), "something is left on disk"
        return says

    yield start
    monkeypatch.setenv("TRACKSIDE_DIR", str(place / "good"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    with trackside.start(bus=bus) as run:
        assert bus.sinks
    assert run.status == "FINISHED"
    assert everything_hooked() == before


class Idle:
    """A sink, whose parentheses are easily forgotten."""

    def on_metrics(self, sample: object) -> None:
        """Do nothing."""


# Arguments


def test_an_unknown_option(refused: Callable[..., str]) -> None:
    """Python's own error names it."""
    assert "unexpected keyword argument 'experiment'" in refused(TypeError, experiment="digits")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tags": ["a"]}, "tags must be a mapping such as {'team': 'vision'}, not list"),
        ({"tags": "a"}, "tags must be a mapping such as {'team': 'vision'}, not str"),
        ({"tracking_uri": 5.0j}, "tracking_uri must be text, not complex"),
        ({"tracking_uri": "localhost:5000"}, "would take it for a folder. Write http://localhost:5000"),
        ({"tracking_uri": " "}, "tracking_uri is empty. Give an address such as sqlite:///mlflow.db"),
        ({"experiment_name": ["digits"]}, "experiment_name must be text, not list"),
        ({"run_name": {}}, "run_name must be text, not dict"),
        ({"description": b"x"}, "description must be text, not bytes"),
        ({"checkpoint_dir": 1j}, "checkpoint_dir must be text, not complex"),
        ({"terminate_signals": ("SIGFOO",)}, "'SIGFOO' is not a signal. Pass signals such as"),
        ({"terminate_signals": (9,)}, "no process can handle SIGKILL. Leave it out"),
        ({"journal_cap": "4GiB"}, "such as 4 * 1024**3 for 4 GiB, and 1048576 or more, not '4GiB'"),
        ({"config": 5}, "config must be a mapping, dataclass, Namespace"),
        ({"config": "conf.yaml"}, "config is 'conf.yaml', which is not read as a file. Load it first"),
        ({"flatten_depth": -1}, "flatten_depth must be 0 or more, or None for every level, not -1"),
        ({"bus": 5}, "bus must be a trackside.Bus, not int"),
    ],
    ids=str,
)
def test_arguments_of_a_wrong_type(refused: Callable[..., str], arguments: dict[str, Any], says: str) -> None:
    """The error names the argument, what it is and what would do."""
    assert says in refused(ConfigurationError, **arguments)


@pytest.mark.parametrize(
    ("sinks", "says"),
    [
        ((object(),), "is not a sink: it has no method on_metrics, on_config, on_lifecycle or on_artifact"),
        ((print, 5), "5 is not a sink"),
        ((Idle,), "Attach an object of the class: Idle(...)"),
        (print, "sinks must be several, such as (sink,), not builtin_function_or_method"),
    ],
)
def test_sinks_that_are_none(refused: Callable[..., str], sinks: Any, says: str) -> None:
    """Also those attached before the one at fault are gone again."""
    assert says in refused(TypeError, sinks=sinks)


@pytest.mark.parametrize(
    "arguments", [{"tracking_uri": "htp://host"}, {"config": 5}, {"journal_cap": 4}], ids=str
)
def test_a_mistake_stops_every_rank(
    refused: Callable[..., str], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it rank 0 alone, the others would wait for it in their first collective."""
    says = refused(ConfigurationError, **arguments)
    monkeypatch.setenv("RANK", "1")
    assert refused(ConfigurationError, **arguments) == says
    monkeypatch.delenv("RANK")


# The environment


def test_a_mistyped_variable_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the one that is meant. A name that resembles none of ours belongs to other software."""
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.setenv("TRACKSIDE_STRAT_TIMEOUT", "3")
    monkeypatch.setenv("TRACKSIDE_SERVICE_HOST", "10.0.0.1")
    assert place.exists()
    with trackside.start(bus=Bus()):
        pass
    (said,) = [message for message in caplog.messages if "does not know" in message]
    assert said.startswith("the environment has TRACKSIDE_STRAT_TIMEOUT, which")
    assert said.endswith("Did you mean TRACKSIDE_START_TIMEOUT?")


def test_a_mode_there_is_none_of(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On every rank alike, so that no rank waits for one that failed."""
    monkeypatch.setenv("TRACKSIDE_MODE", "onlin")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert "TRACKSIDE_MODE='onlin' is not a mode. Use one of online" in refused(ConfigurationError)
    monkeypatch.delenv("RANK")


def test_a_timeout_that_is_no_number(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "soon")
    assert "TRACKSIDE_START_TIMEOUT='soon' is not a number of seconds" in refused(ConfigurationError)
    monkeypatch.delenv("TRACKSIDE_START_TIMEOUT")


@pytest.mark.wheel
@pytest.mark.parametrize("path", ["a-file", "a-file/below", "/proc/no/such", "/dev/null"])
def test_a_place_that_cannot_be_written(
    refused: Callable[..., str], place: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the place and the variable to set."""
    (place / "a-file").write_text("in the way")
    monkeypatch.setenv("TRACKSIDE_DIR", path)
    says = refused(JournalError)
    assert f"cannot keep the journal in {place / path}: " in says
    assert "Set TRACKSIDE_DIR to a directory on a disk that can be written and has room" in says
    assert (place / "a-file").read_text() == "in the way"


def test_a_disk_that_fills_up_under_way(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's directory can be made, and what belongs in it can't: the directory goes again."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "write_atomically", fail)
        assert "No space left on device. Set TRACKSIDE_DIR" in refused(JournalError)


# The server


@pytest.mark.parametrize("uri", ["http://", "http://:5000", "http://host:port", "https:///path"])
def test_a_malformed_address(refused: Callable[..., str], uri: str) -> None:
    """It names no server, and none is asked. The error shows one that would do."""
    says = refused(ConfigurationError, tracking_uri=uri)
    assert uri in says
    assert "names no server. Write http://host:5000" in says


def test_what_the_store_refuses(
    refused: Callable[..., str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deleted experiment, and a run that does not exist."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "180")
    uri = new_database(place)
    client = MlflowClient(uri)
    experiment = client.create_experiment("gone")
    client.delete_experiment(experiment)
    says = refused(TrackingError, experiment_name="gone", tracking_uri=uri)
    assert "experiment 'gone' is deleted: restore it" in says
    assert f"--experiment-id {experiment}" in says
    assert uri in says
    wrong = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("MLFLOW_RUN_ID", wrong)
    says = refused(TrackingError, tracking_uri=uri)
    assert f"run '{wrong}' does not exist" in says
    assert not plan._env_run_ids_used, "it has not been gone on with"
    monkeypatch.delenv("MLFLOW_RUN_ID")
    assert client.search_runs(["0"]) == []
