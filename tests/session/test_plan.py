"""What ``start()`` was asked for: arguments before the environment before the checkpoint, all as text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.session import plan
from trackside.session.arguments import checked_cap, text_tags
from trackside.session.plan import RunPlan, free_run_id, make_meta, make_target
from trackside.settings import read_environment

if TYPE_CHECKING:
    from trackside.journal.meta import Target


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No start has taken the environment's run yet."""
    monkeypatch.setattr(plan, "_env_run_ids_used", {})


def target(environment: dict[str, str] | None = None, **arguments: Any) -> Target:
    """The target for these, everything else left out."""
    given = dict.fromkeys(
        [
            "experiment_name",
            "run_name",
            "tracking_uri",
            "artifact_location",
            "checkpoint_dir",
            "parent_run_id",
        ]
    )
    return make_target(
        read_environment(environment or {}), **{**given, "tags": {}, "resume": True, **arguments}
    )


def test_nothing_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's embedded store in the working directory, and its default experiment."""
    monkeypatch.chdir(tmp_path)
    found = target()
    assert found.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert (found.experiment_name, found.experiment_id, found.run_id, found.checkpoint_dir) == (
        None,
        None,
        None,
        None,
    )
    assert found.resume
    assert not found.required_run


def test_arguments_come_before_the_environment() -> None:
    """A name given in the code beats the job's, and any name beats an id."""
    environment = {
        "MLFLOW_TRACKING_URI": "http://env:5000",
        "MLFLOW_EXPERIMENT_NAME": "from-env",
        "MLFLOW_EXPERIMENT_ID": "7",
    }
    assert target(environment).tracking_uri == "http://env:5000"
    assert target(environment).experiment_name == "from-env"
    assert target(environment).experiment_id is None
    found = target(environment, tracking_uri="http://arg:5000", experiment_name="mine")
    assert (found.tracking_uri, found.experiment_name) == ("http://arg:5000", "mine")
    assert target({"MLFLOW_EXPERIMENT_ID": "7"}).experiment_id == "7"
    assert target({"MLFLOW_EXPERIMENT_ID": "7"}, experiment_name="mine").experiment_id is None


def test_the_environments_run_is_gone_on_with_once() -> None:
    """A later run in the process is one of its own. A start() that failed has used nothing up."""
    environment = {"MLFLOW_RUN_ID": "abc"}
    with pytest.raises(ConfigurationError):
        target(environment, run_name=[])
    first = target(environment)
    assert (first.run_id, first.required_run) == ("abc", True)
    free_run_id(first)
    assert target(environment).run_id == "abc"
    assert (target(environment).run_id, target(environment).required_run) == (None, False)
    assert target({"MLFLOW_RUN_ID": "def"}).run_id == "def"
    free_run_id(target())


def test_paths_and_numbers_become_text(tmp_path: Path) -> None:
    """A path is one, wherever text is wanted. A number is a name."""
    found = target(
        tracking_uri=tmp_path / "mlruns",
        artifact_location=tmp_path / "artifacts",
        checkpoint_dir=Path("checkpoints"),
        experiment_name=7,
        run_name=0.5,
        resume=0,
    )
    assert found.tracking_uri == str(tmp_path / "mlruns")
    assert found.artifact_location == str(tmp_path / "artifacts")
    assert found.checkpoint_dir == str(Path("checkpoints").absolute())
    assert (found.experiment_name, found.run_name, found.resume) == ("7", "0.5", False)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(True, (True, False)), (1, (True, False)), (False, (False, False)), ("Always", (True, True))],
)
def test_what_is_resumed(given: Any, meant: tuple[bool, bool]) -> None:
    """The run of the checkpoints: unless it is finished, never, or always."""
    found = target(resume=given)
    assert (found.resume, found.resume_finished) == meant


@pytest.mark.parametrize("given", ["abc", "must", "", 2, None, 1.0, ["always"]])
def test_an_unknown_way_to_resume(given: Any) -> None:
    """The error lists what there is."""
    with pytest.raises(ConfigurationError, match=r"resume must be True .*, False .* or \"always\" .*, not "):
        target(resume=given)


@pytest.mark.parametrize(
    "name",
    ["experiment_name", "run_name", "tracking_uri", "artifact_location", "checkpoint_dir", "parent_run_id"],
)
@pytest.mark.parametrize("value", [b"bytes", ["list"], True, object])
def test_what_is_no_text_is_refused(name: str, value: Any) -> None:
    """The shipper could not read it again. The error names the argument and the type."""
    with pytest.raises(ConfigurationError, match=rf"^{name} must be text(| or a path), not "):
        target(**{name: value})


@pytest.mark.parametrize("name", ["tracking_uri", "artifact_location", "checkpoint_dir"])
def test_a_number_is_no_path(name: Any) -> None:
    """It is a name where one is wanted, and a mistake here."""
    given: dict[str, Any] = {name: 5}
    with pytest.raises(ConfigurationError, match=f"^{name} must be text or a path, not int"):
        target(**given)


def test_empty_text(tmp_path: Path) -> None:
    """An experiment and a folder have to be named. A run's name is then made up by MLflow."""
    assert target(run_name=" ").run_name is None
    assert target(artifact_location="").artifact_location is None
    with pytest.raises(ConfigurationError, match=r"experiment_name is empty. Give a name, or leave it out"):
        target(experiment_name="")
    with pytest.raises(ConfigurationError, match=r"checkpoint_dir is empty. Pass a folder, or None"):
        target(checkpoint_dir="")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file' is a file. Pass the folder it is in"):
        target(checkpoint_dir=tmp_path / "file")


@pytest.mark.parametrize("uri", ["", "  "])
def test_an_empty_address(uri: str) -> None:
    """Given on purpose, so not the default."""
    with pytest.raises(
        ConfigurationError, match=r"tracking_uri is empty. Give an address such as sqlite:///"
    ):
        target(tracking_uri=uri)


# Tags


def test_tags_are_text() -> None:
    """Keys and values, from a mapping or what has ``to_dict()``. The description is MLflow's note."""
    assert text_tags(None, None) == {}
    tags: dict[Any, Any] = {"n": 1, 2: None}
    assert text_tags(tags, "what it is") == {
        "mlflow.note.content": "what it is",
        "n": "1",
        "2": "None",
    }
    assert text_tags(SimpleNamespace(to_dict=lambda: {"a": 0.5}), None) == {"a": "0.5"}  # type: ignore[arg-type]


@pytest.mark.parametrize("tags", [["a"], "a", 5, SimpleNamespace(to_dict=lambda: ["a"])])
def test_tags_of_a_wrong_type(tags: Any) -> None:
    """The error shows what would do."""
    with pytest.raises(ConfigurationError, match=r"tags must be a mapping such as {'team': 'vision'}, not "):
        text_tags(tags, None)


def test_the_description_is_text() -> None:
    """As any other."""
    with pytest.raises(ConfigurationError, match="description must be text, not dict"):
        text_tags(None, {})  # type: ignore[arg-type]


def test_the_users_tags_beat_ours() -> None:
    """Source tags describe this process, unless the user says otherwise."""
    tags = target(tags={"mlflow.user": "ada"}).tags
    assert tags["mlflow.user"] == "ada"
    assert tags["mlflow.source.type"] == "LOCAL"
    assert "mlflow.source.name" in tags


# The journal's size


@pytest.mark.parametrize("cap", [1 << 20, 4 << 30, 4e9])
def test_caps_are_bytes(cap: Any) -> None:
    """As a float, too, where it is a whole number: ``4e9``."""
    assert checked_cap(cap) == cap
    assert type(checked_cap(cap)) is int


@pytest.mark.parametrize("cap", ["4GB", 4, 0, -1, 1.5e6 + 0.5, None, True, float("inf"), float("nan")])
def test_caps_that_are_none(cap: Any) -> None:
    """The error says how to write 4 GiB, and what is too small for any segment."""
    with pytest.raises(ConfigurationError, match=r"4 \* 1024\*\*3 for 4 GiB, and 1048576 or more, not "):
        checked_cap(cap)


# The meta record


def test_the_meta_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, its directory and its job. Each journal with an id of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    settings = read_environment({"TRACKSIDE_DIR": str(tmp_path), "TRACKSIDE_MODE": "offline"})
    made = RunPlan(Bus(), settings, target(), terminate_signals=(15,), cap=1 << 20)
    one, other = make_meta(made), make_meta(made)
    assert one.journal_id != other.journal_id
    assert (one.working_directory, one.mode, one.cap, one.terminate_signals) == (
        str(tmp_path),
        "offline",
        1 << 20,
        (15,),
    )
    assert one.job is not None
    assert one.after == ()
