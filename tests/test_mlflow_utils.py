"""The helpers the project grew from, against a real MLflow store."""

from __future__ import annotations

import enum
import logging
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import yaml

from tests.support.program import run_python
from trackside import mlflow_utils, rank
from trackside.errors import RunActiveError, TrackingError
from trackside.mlflow_utils import (
    _install_mlflow_failure_hook,
    configure_mlflow,
    end_mlflow_active_run_as_killed,
    to_float_metrics,
)
from trackside.system.once import Once

if TYPE_CHECKING:
    import subprocess

INVALID_PARAMETER_VALUE = 1000  # ErrorCode of mlflow/protos/databricks.proto

# MLflow's warnings about the versions of its own dependencies are not ours to act on.
pytestmark = pytest.mark.filterwarnings(r"ignore:::(mlflow|sqlalchemy|alembic)(\..*)?")


class Config:
    """A recipe's config: dotted get(), to_yaml_dict(), and a section that is an object."""

    def __init__(self, values: dict[str, Any], section: Any, checkpoint_dir: Any = None) -> None:
        self.values = values
        self.dotted = {"mlflow": section, "checkpoint.checkpoint_dir": checkpoint_dir}

    def get(self, key: str, default: Any = None) -> Any:
        """Return a section or value, the default if it is missing."""
        value = self.dotted.get(key)
        return default if value is None else value

    def to_yaml_dict(self, use_orig_values: bool = False) -> dict[str, Any]:
        """Return the whole config. Only the form that names callables is asked for."""
        assert use_orig_values
        return self.values


class Node:
    """A config node that offers to_dict(), and get() only where asked to."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a plain dict."""
        return dict(self.values)


class GettableNode(Node):
    """... and get()."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return one value."""
        return self.values.get(key, default)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: creating one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What trackside logs: level and message.

    Not caplog: opening a store, MLflow 3.6 replaces the root logger's handlers, caplog's too.
    """
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(  # type: ignore[method-assign]
        f"{record.levelname} {record.getMessage()}"
    )
    trackside = logging.getLogger("trackside")
    trackside.addHandler(handler)
    yield lines
    trackside.removeHandler(handler)


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a store of the test's own, in a process that nothing else configured."""
    for name in (*rank.LAUNCHER_VARIABLES, "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    # A relative PYTHONPATH would not lead this test's processes here from the new directory.
    monkeypatch.setenv("PYTHONPATH", str(Path(mlflow_utils.__file__).parents[1]))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(mlflow_utils, "_dropped", Once())
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(address)
    yield address
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


Make = Callable[..., Config]


@pytest.fixture
def make(uri: str, tmp_path: Path) -> Make:
    """Return a maker of configs with a section for the test's store."""

    def make_config(
        values: dict[str, Any] | None = None, checkpoints: str | None = "ckpt", **section: Any
    ) -> Config:
        options = {
            "experiment_name": "digits",
            "tracking_uri": uri,
            "artifact_location": (tmp_path / "artifacts").as_uri(),
            **section,
        }
        directory = tmp_path / checkpoints if checkpoints else None
        return Config({"lr": 0.1} if values is None else values, options, directory)

    return make_config


def stored(run: Any) -> Any:
    """Return the run as the store has it now."""
    return mlflow.MlflowClient().get_run(run.info.run_id)


def artifacts(run: Any) -> set[str]:
    """Return the names of the run's artifacts."""
    return {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}


def start(config: Any) -> Any:
    """Configure MLflow where that is to give a run."""
    run = configure_mlflow(config)
    assert run is not None
    return run


def launch(config: Config) -> Any:
    """Do what one launch of a recipe does: configure, train, end."""
    run = start(config)
    mlflow.end_run()
    return run


def all_runs(experiment: str = "digits") -> list[Any]:
    """Return every run of an experiment."""
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


class TestWhoLogs:
    """configure_mlflow() acts on rank 0, where it is asked to."""

    def test_other_ranks_get_none(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rank 1 leaves the store, the checkpoint directory and the excepthook alone."""
        monkeypatch.setenv("RANK", "1")
        before = sys.excepthook
        assert configure_mlflow(make()) is None
        assert all_runs() == []
        assert not Path("ckpt").exists()
        assert sys.excepthook is before

    @pytest.mark.parametrize(("number", "logs"), [(0, True), (1, False)])
    def test_torchs_process_group_decides(
        self, number: int, logs: bool, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An initialised group is asked for the rank, by the functions recipes' tests patch."""
        distributed = pytest.importorskip("torch.distributed")
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_rank", lambda: number)
        assert (configure_mlflow(make()) is not None) is logs

    @pytest.mark.parametrize("section", [None, {}])
    def test_without_a_section_nothing_happens(self, section: Any, uri: str) -> None:
        """A recipe without `mlflow:` trains without MLflow."""
        assert configure_mlflow(Config({}, section)) is None
        assert mlflow.active_run() is None


class TestNewRun:
    """A first launch."""

    def test_the_run_is_active_and_described(self, make: Make, tmp_path: Path) -> None:
        """Experiment, name, tags, description and artifact location are the section's."""
        run = start(make(run_name="try 1", tags={"n": 1}, description="A *try*."))
        assert mlflow.active_run() is run
        info, tags = stored(run).info, stored(run).data.tags
        assert (info.run_name, info.status) == ("try 1", "RUNNING")
        assert (tags["n"], tags["mlflow.note.content"]) == ("1", "A *try*.")
        assert info.artifact_uri.startswith((tmp_path / "artifacts").as_uri())

    def test_a_bare_section_gets_the_defaults(self, uri: str) -> None:
        """`experiment_name` has a default, and MLflow invents a run's name. Empty is left out."""
        section = {"tracking_uri": uri, "experiment_name": None, "run_name": "", "tags": None}
        run = start(Config({}, section))
        assert [r.info.run_id for r in all_runs("automodel-experiment")] == [run.info.run_id]
        assert stored(run).info.run_name

    def test_the_config_becomes_params_and_an_artifact(self, make: Make) -> None:
        """One level is split by default. The file holds the config as it is nested."""
        values = {"lr": 0.001, "model": {"hidden": 64, "text": {"deep": True}}}
        run = start(make(values))
        expected = {"lr": "0.001", "model.hidden": "64", "model.text": "{'deep': True}"}
        assert stored(run).data.params == expected
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml")
        assert yaml.safe_load(text) == values

    @pytest.mark.parametrize(("depth", "key"), [(0, "a"), (1, "a.b"), (2, "a.b.c"), (None, "a.b.c.d")])
    def test_flatten_depth_is_the_sections(self, depth: int | None, key: str, make: Make) -> None:
        """A depth of None (YAML's null) is a depth too, not a key left out."""
        run = start(make({"a": {"b": {"c": {"d": 1}}}}, flatten_depth=depth))
        assert list(stored(run).data.params) == [key]

    def test_secrets_reach_neither_params_nor_the_artifact(self, make: Make) -> None:
        """Values under keys that look secret are masked, however deep."""
        run = start(make({"hub": {"api_key": "s3cr3t"}, "password": "s3cr3t"}))
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml")
        assert set(stored(run).data.params) == {"hub.api_key", "password"}
        assert "s3cr3t" not in text + str(stored(run).data.params)

    @pytest.mark.parametrize("node", [Node, GettableNode])
    def test_the_section_and_its_tags_may_be_objects(self, node: Any, uri: str) -> None:
        """With get(), or with no more than to_dict()."""
        section = node(tracking_uri=uri, experiment_name="digits", tags=Node(task="sft"))
        assert stored(start(Config({}, section))).data.tags["task"] == "sft"

    def test_a_plain_dict_is_a_config_too(self, uri: str, tmp_path: Path) -> None:
        """It has no dotted keys and no to_yaml_dict(). Run and checkpoint_dir come all the same."""
        cfg = {"lr": 1, "mlflow": {"tracking_uri": uri}, "checkpoint": {"checkpoint_dir": tmp_path}}
        run = start(cfg)
        assert stored(run).data.params["lr"] == "1"
        assert (tmp_path / "mlflow_run_id").read_text() == run.info.run_id

    def test_a_config_that_offers_no_values_still_gets_its_run(self, uri: str, log: list[str]) -> None:
        """An object with get() alone logs no params, and says so."""
        run = start(GettableNodeOnly(mlflow={"tracking_uri": uri}))
        assert stored(run).data.params == {}
        assert "the config is not logged" in "\n".join(log)

    def test_an_experiment_created_by_another_job_meanwhile_is_used(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The jobs of a sweep look at the same moment and all find nothing."""
        mine = mlflow.create_experiment("digits")
        real, answers = mlflow.get_experiment_by_name, [None]
        monkeypatch.setattr(
            mlflow, "get_experiment_by_name", lambda name: answers.pop() if answers else real(name)
        )
        assert start(make()).info.experiment_id == mine


class GettableNodeOnly:
    """The least a config can be."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, key: str, default: Any = None) -> Any:
        """Return one value."""
        return self.values.get(key, default)


class TestMLflowsLimits:
    """A config that MLflow would refuse must not cost the run."""

    def test_many_long_params_are_cut_and_batched(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """At most 100 at a time and 1 MB a request, whatever the alphabet. None is left out."""
        sizes = []
        real = mlflow.log_params

        def spy(params: dict[str, str]) -> None:
            sizes.append((len(params), sum(len(v.encode("unicode_escape")) for v in params.values())))
            real(params)

        monkeypatch.setattr(mlflow, "log_params", spy)
        values = {f"short{n}": "x" for n in range(210)} | {f"long{n}": "語" * 7000 for n in range(60)}
        params = stored(start(make(values))).data.params
        assert {key: len(value) for key, value in params.items()} == {
            key: min(len(value), 6000) for key, value in values.items()
        }
        assert max(count for count, _ in sizes) <= 100
        assert max(size for _, size in sizes) < 1_000_000

    def test_long_values_are_whole_in_the_artifact(self, make: Make) -> None:
        """Only the param is cut."""
        run = start(make({"prompt": "x" * 7000}))
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml")
        assert yaml.safe_load(text) == {"prompt": "x" * 7000}

    def test_keys_are_made_to_fit(self, make: Make) -> None:
        """Characters MLflow refuses become underscores. Long keys are cut."""
        run = start(make({"a@b[0]": 1, "k" * 300: 2}))
        short, long = stored(run).data.params
        assert short.startswith("a_b_0_")
        assert (long[:200], len(long)) == ("k" * 200, 250)

    @pytest.mark.parametrize("others", [{}, {"a": "1", "c": "3"}])
    def test_a_param_the_server_refuses_takes_no_other_with_it(
        self,
        others: dict[str, str],
        make: Make,
        monkeypatch: pytest.MonkeyPatch,
        log: list[str],
    ) -> None:
        """An older server takes less than MLflow does today. The refusal is a warning."""
        real = mlflow.log_params

        def strict(params: dict[str, str]) -> None:
            if "bad" in params:
                raise mlflow.MlflowException("too long", error_code=INVALID_PARAMETER_VALUE)
            real(params)

        monkeypatch.setattr(mlflow, "log_params", strict)
        run = start(make({**others, "bad": "x"}))
        assert stored(run).data.params == others
        assert "not logged: MlflowException: " in "\n".join(log)
        assert artifacts(run) == {"config.yaml"}

    def test_values_yaml_does_not_know_are_written_as_text(self, make: Make) -> None:
        """Any YAML reader can read the file: no Python tags, no memory of classes."""

        class Colour(str, enum.Enum):
            RED = "red"

        values = {"shape": (3, 4), 5: Path("/data"), "colour": Colour.RED, "none": None}
        run = start(make(values))
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/config.yaml")
        assert yaml.safe_load(text) == {
            "shape": [3, 4],
            "5": "/data",
            "colour": "red",
            "none": None,
        }

    def test_an_artifact_store_that_fails_costs_a_warning(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, log: list[str]
    ) -> None:
        """The run is there and training can start."""

        def refuse(*_: Any) -> None:
            raise PermissionError("no bucket")

        monkeypatch.setattr(mlflow, "log_dict", refuse)
        run = start(make())
        assert stored(run).data.params == {"lr": "0.1"}
        assert "config.yaml is not logged: PermissionError: no bucket" in "\n".join(log)


class TestResume:
    """A restarted job continues with its run."""

    def test_the_run_id_file_names_the_run(self, make: Make, tmp_path: Path) -> None:
        """The bare id, in the checkpoint directory, which is created."""
        run = start(make())
        assert (tmp_path / "ckpt" / "mlflow_run_id").read_text() == run.info.run_id

    def test_a_second_launch_goes_on_with_the_run(self, make: Make) -> None:
        """Its params stay as they were. Its config is a file named by the time."""
        first = launch(make({"max_steps": 10}))
        second = start(make({"max_steps": 20}, tags={"launch": "2"}))
        assert [r.info.run_id for r in all_runs()] == [first.info.run_id] == [second.info.run_id]
        assert stored(first).info.status == "RUNNING"
        assert stored(first).data.params == {"max_steps": "10"}
        assert stored(first).data.tags["launch"] == "2"
        (name,) = artifacts(first) - {"config.yaml"}
        assert re.fullmatch(r"config\.resumed-\d{8}T\d{6}Z\.yaml", name)
        text = mlflow.artifacts.load_text(f"{first.info.artifact_uri}/{name}")
        assert yaml.safe_load(text) == {"max_steps": 20}

    def test_a_renamed_experiment_does_not_stop_the_resumption(self, make: Make) -> None:
        """The run stays where it was created, and no empty experiment appears."""
        first = launch(make())
        assert start(make(experiment_name="other")).info.run_id == first.info.run_id
        assert mlflow.get_experiment_by_name("other") is None

    def test_the_environment_beats_the_run_id_file(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the run-id file names the environment's run from then on."""
        launch(make(checkpoints="a"))
        other = launch(make(checkpoints="b"))
        monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
        assert start(make(checkpoints="a")).info.run_id == other.info.run_id
        assert (tmp_path / "a" / "mlflow_run_id").read_text() == other.info.run_id

    def test_the_environment_counts_even_without_resume(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`resume: false` is about the run-id file. The variable was set on purpose."""
        first = launch(make())
        monkeypatch.setenv("MLFLOW_RUN_ID", first.info.run_id)
        assert start(make(checkpoints=None, resume=False)).info.run_id == (first.info.run_id)

    def test_without_resume_a_new_run_takes_over_the_run_id_file(self, make: Make, tmp_path: Path) -> None:
        """The next launch that does resume finds the latest run."""
        first = launch(make())
        second = launch(make(resume=False))
        assert second.info.run_id != first.info.run_id
        assert (tmp_path / "ckpt" / "mlflow_run_id").read_text() == second.info.run_id
        assert start(make()).info.run_id == second.info.run_id

    def test_a_run_that_was_deleted_is_replaced(self, make: Make, tmp_path: Path, log: list[str]) -> None:
        """With a warning, with params of its own, and the run-id file names the new one."""
        first = launch(make())
        mlflow.delete_run(first.info.run_id)
        second = start(make())
        assert second.info.run_id != first.info.run_id
        assert stored(second).data.params == {"lr": "0.1"}
        assert (tmp_path / "ckpt" / "mlflow_run_id").read_text() == second.info.run_id
        assert f"run {first.info.run_id}, which the checkpoints belong to, is deleted" in "\n".join(log)

    @pytest.mark.parametrize("content", ["0" * 32, "half an id\0", ""])
    def test_a_run_id_file_that_names_no_run_is_replaced(
        self, content: str, make: Make, tmp_path: Path, log: list[str]
    ) -> None:
        """A run of another server, or a file an older writer left torn."""
        (tmp_path / "ckpt").mkdir()
        (tmp_path / "ckpt" / "mlflow_run_id").write_text(content)
        run = start(make())
        assert (tmp_path / "ckpt" / "mlflow_run_id").read_text() == run.info.run_id
        assert [line.split()[0] for line in log] == ["WARNING"]

    def test_a_checkpoint_directory_that_cannot_be_written_costs_a_warning(
        self, make: Make, tmp_path: Path, log: list[str]
    ) -> None:
        """The run continues. A restart will not find it, and the warning says so."""
        (tmp_path / "ckpt").write_text("a file in its place")
        assert start(make()) is mlflow.active_run()
        assert "a restart will not find the run" in "\n".join(log)


class TestRefusals:
    """What raises, and that it leaves no run behind."""

    def test_an_unknown_run_in_the_environment(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was asked for by name: no other run will do."""
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        with pytest.raises(TrackingError, match="did not start a run"):
            start(make())
        assert mlflow.active_run() is None

    def test_a_deleted_experiment(self, make: Make) -> None:
        """The message says what to do about it."""
        mlflow.delete_experiment(mlflow.create_experiment("digits"))
        with pytest.raises(TrackingError, match="'digits' is deleted: restore it"):
            start(make())
        assert mlflow.active_run() is None

    @pytest.mark.parametrize("credentials", ["", "user:hunter2@"])
    def test_an_unreachable_server(
        self, credentials: str, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error names the server and, even in its cause, not the password."""
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9 did not start") as caught:
            start(make(tracking_uri=f"http://{credentials}127.0.0.1:9"))
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    def test_a_run_that_is_active_already(self, make: Make) -> None:
        """It is not ours to end."""
        mine = mlflow.start_run()
        with pytest.raises(RunActiveError, match=mine.info.run_id):
            start(make())
        assert mlflow.active_run() is mine

    def test_a_missing_mlflow(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says what to install."""
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "mlflow", None)
            with pytest.raises(ImportError, match="pip install mlflow"):
                start(make())


class TestKilled:
    """end_mlflow_active_run_as_killed()."""

    def test_the_active_run_and_its_parents_end_killed(self, uri: str) -> None:
        """A parent left active would be shown as FINISHED later."""
        runs = [mlflow.start_run(), mlflow.start_run(nested=True)]
        end_mlflow_active_run_as_killed()
        assert mlflow.active_run() is None
        assert [stored(run).info.status for run in runs] == ["KILLED", "KILLED"]

    def test_without_a_run_nothing_happens(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """MLflow is not asked to end anything."""
        monkeypatch.setattr(mlflow, "end_run", lambda **_: pytest.fail("called"))
        end_mlflow_active_run_as_killed()

    @pytest.mark.parametrize("name", ["end_run", "active_run"])
    def test_what_mlflow_raises_is_a_warning(
        self, name: str, uri: str, monkeypatch: pytest.MonkeyPatch, log: list[str]
    ) -> None:
        """A signal handler may find MLflow in the middle of something."""
        mlflow.start_run()
        with monkeypatch.context() as patched:
            patched.setattr(mlflow, name, raiser(RuntimeError("re-entered")))
            end_mlflow_active_run_as_killed()
        assert [line.split()[0] for line in log] == ["WARNING"]

    def test_a_log_that_refuses_reentry_does_not_raise(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A handler can interrupt a write to the very stream the warning goes to."""
        mlflow.start_run()
        with monkeypatch.context() as patched:
            patched.setattr(mlflow, "end_run", raiser(ValueError("no")))
            patched.setattr(mlflow_utils.logger, "warning", raiser(RuntimeError("reentrant call")))
            end_mlflow_active_run_as_killed()


def raiser(error: Exception) -> Callable[..., Any]:
    """Return a function that raises."""

    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def crash(error: Exception) -> None:
    """Hand an exception to sys.excepthook the way the interpreter does."""
    try:
        raise error  # noqa: TRY301 - raised to have a traceback
    except Exception:
        sys.excepthook(*sys.exc_info())


class TestFailureHook:
    """_install_mlflow_failure_hook(), in this process."""

    def test_it_is_marked_and_installed_once(self, uri: str) -> None:
        """A second call leaves the first hook in place."""
        before = sys.excepthook
        _install_mlflow_failure_hook()
        installed = sys.excepthook
        assert installed is not before
        assert installed._mlflow_failure_hook is True  # type: ignore[attr-defined]
        _install_mlflow_failure_hook()
        assert sys.excepthook is installed

    def test_the_run_has_ended_when_the_previous_hook_prints(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """FAILED first, then the hook that was there, with the same exception."""
        run = mlflow.start_run()
        seen = []
        monkeypatch.setattr(
            sys, "excepthook", lambda k, e, t: seen.append((k, str(e), stored(run).info.status))
        )
        _install_mlflow_failure_hook()
        crash(ValueError("boom"))
        assert seen == [(ValueError, "boom", "FAILED")]

    def test_end_run_is_looked_up_when_it_fires(self, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What replaces `mlflow.end_run` after the installation is what gets called, once."""
        mlflow.start_run()
        calls = []
        monkeypatch.setattr(sys, "excepthook", lambda *_: calls.append("previous"))
        _install_mlflow_failure_hook()
        with monkeypatch.context() as patched:
            patched.setattr(mlflow, "end_run", lambda status: calls.append(status))  # noqa: PLW0108 - by name
            crash(ValueError())
        assert calls == ["FAILED", "previous"]

    @pytest.mark.parametrize("error", [RuntimeError("down"), KeyboardInterrupt()])
    def test_the_previous_hook_runs_whatever_mlflow_does(
        self, error: Any, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when a user is tired of waiting for the server and presses Ctrl-C."""
        mlflow.start_run()
        calls: list[str] = []
        monkeypatch.setattr(sys, "excepthook", lambda *_: calls.append("previous"))
        _install_mlflow_failure_hook()
        with monkeypatch.context() as patched:
            patched.setattr(mlflow, "end_run", raiser(error))
            try:
                crash(ValueError())
            except KeyboardInterrupt:
                calls.append("interrupted")
        assert calls[0] == "previous"

    def test_without_a_run_only_the_previous_hook_runs(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A crash before the run starts, or after it ended."""
        calls = []
        monkeypatch.setattr(sys, "excepthook", lambda *_: calls.append("previous"))
        monkeypatch.setattr(mlflow, "end_run", lambda **_: calls.append("end_run"))
        _install_mlflow_failure_hook()
        crash(ValueError())
        assert calls == ["previous"]


SCRIPT_HEAD = """
import os, signal, sys
import mlflow
from trackside import mlflow_utils
cfg = {"mlflow": {"experiment_name": "digits", "tracking_uri": sys.argv[1]}}
if sys.argv[2] == "logged":
    mlflow_utils.configure_mlflow(cfg)
def train():
"""


def run_script(uri: str, body: str, how: str = "logged") -> subprocess.CompletedProcess[str]:
    """Run a training script whose train() is ``body`` in a process of its own."""
    return run_python("-c", f"{SCRIPT_HEAD}    {body}\ntrain()\n", uri, how)


@pytest.mark.process
class TestRealProcesses:
    """How a run ends when a process really does."""

    def test_a_crash_is_failed_and_looks_as_it_would_without_us(self, uri: str) -> None:
        """The status is FAILED. Exit code and traceback are those of the same crash unlogged."""
        body = "mlflow.start_run(nested=True); raise ValueError('boom')"
        logged = run_script(uri, body)
        assert [run.info.status for run in all_runs()] == ["FAILED"]
        assert logged.returncode == 1
        plain = run_script(uri, "raise ValueError('boom')", "plain")
        tail = [t.stderr[t.stderr.index("Traceback") :].splitlines() for t in (logged, plain)]
        # The line of source differs; everything else is the same.
        assert [line for line in tail[0] if "raise" not in line] == tail[1]

    def test_a_clean_return_is_finished(self, uri: str) -> None:
        """The hook does not get in the way of MLflow's own ending."""
        done = run_script(uri, "pass")
        assert (done.returncode, [r.info.status for r in all_runs()]) == (0, ["FINISHED"])

    def test_a_sigterm_handler_ends_the_run_killed(self, uri: str) -> None:
        """As recipes do it: end the run, exit with what the shell expects."""
        body = (
            "signal.signal(signal.SIGTERM, lambda *_: "
            "(mlflow_utils.end_mlflow_active_run_as_killed(), sys.exit(143)));"
            "os.kill(os.getpid(), signal.SIGTERM)"
        )
        done = run_script(uri, body)
        assert (done.returncode, [r.info.status for r in all_runs()]) == (143, ["KILLED"])

    def test_ctrl_c_is_failed_and_dies_of_the_signal(self, uri: str) -> None:
        """As in the module this one stands in for. `trackside.start` says KILLED."""
        done = run_script(uri, "os.kill(os.getpid(), signal.SIGINT)")
        assert done.returncode == -signal.SIGINT
        assert [r.info.status for r in all_runs()] == ["FAILED"]

    def test_importing_and_ending_load_neither_mlflow_nor_torch(self) -> None:
        """A process that never started a run does not pay for the import, least of all dying."""
        script = (
            "import sys\nfrom trackside import mlflow_utils as m\n"
            "m._install_mlflow_failure_hook(); m.end_mlflow_active_run_as_killed()\n"
            "m.to_float_metrics({'a': 1}); m.flatten_params_for_mlflow({})\n"
            "print({'mlflow', 'torch'} & set(sys.modules))"
        )
        done = run_python("-c", script)
        assert done.stdout.strip() == "set()", done.stderr


def test_mlflow_takes_the_result(uri: str) -> None:
    """What a sample's to_dict() gives, cleaned, is logged as it is."""
    torch = pytest.importorskip("torch")
    sample = {"step": 3, "epoch": 0, "timestamp": "now", "loss": torch.tensor(0.5)}
    with mlflow.start_run() as run:
        mlflow.log_metrics(to_float_metrics(sample), step=3)
    assert stored(run).data.metrics == {"step": 3.0, "epoch": 0.0, "loss": 0.5}
