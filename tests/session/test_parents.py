"""A run nested under another: given as a run or an id, or made active by MLflow's own API."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database
from tests.faults.fake import until
from tests.parts import journal_of
from tests.support.program import run_python
from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.family import ParentUnknownError, parent_run_id, parents_first, tell_children
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, RunInfo, State, Target
from trackside.journal.owner import this_process
from trackside.session import fluent, parent, plan
from trackside.session.fluent import ActiveRun
from trackside.shipper.sync import sync_journal
from trackside.system.once import Once

if TYPE_CHECKING:
    from pathlib import Path

PARENT_TAG = "mlflow.parentRunId"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals without a shipper."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_env_run_ids_used", {})
    monkeypatch.setattr(parent, "_announced", Once())


def target_of(run: Any) -> Target:
    """What the run's journal says it is for."""
    meta = read_json(run.journal.meta, Meta)
    assert meta is not None
    return meta.target


# What start() takes


@pytest.mark.usefixtures("offline")
def test_a_child_goes_where_its_parent_is(tmp_path: Path) -> None:
    """Address and experiment are the parent's; an experiment that is named is the child's own."""
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with (
        trackside.start("sweep", tracking_uri=uri) as run,
        trackside.start(parent=run, bus=Bus()) as child,
        trackside.start("other", parent=run, bus=Bus()) as other,
    ):
        found = target_of(child)
        assert (found.tracking_uri, found.experiment_name) == (uri, "sweep")
        assert (found.parent_run_id, found.parent_journal) == (None, str(journal_of(run).path))
        assert target_of(other).experiment_name == "other"


@pytest.mark.usefixtures("offline")
def test_a_parent_that_is_not_logged_is_no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, or a run of another mode or rank: a sweep's code need not ask."""
    monkeypatch.setenv("TRACKSIDE_MODE", "disabled")
    unlogged = trackside.start("sweep")
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    for one in (None, unlogged):
        with trackside.start("x", parent=one) as child:
            assert (target_of(child).parent_run_id, target_of(child).parent_journal) == (None, None)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"parent": "abc"},
            "parent must be a run that trackside.start.. returned, not str. .* parent_run_id",
        ),
        ({"parent": object(), "parent_run_id": "abc"}, "give either parent or parent_run_id, not both"),
        ({"parent_run_id": 5}, "parent_run_id must be text, not int"),
    ],
)
def test_what_is_no_parent(arguments: dict[str, Any], message: str) -> None:
    """An error that says what to give instead."""
    with pytest.raises(ConfigurationError, match=message):
        trackside.start("x", **arguments)


@pytest.mark.usefixtures("offline")
def test_a_child_is_not_logged_elsewhere() -> None:
    """A link from one store to another leads nowhere."""
    with (
        trackside.start("sweep", tracking_uri="http://one:5000") as run,
        pytest.raises(ConfigurationError, match="a child must be where its parent is"),
    ):
        trackside.start("x", tracking_uri="http://two:5000", parent=run, bus=Bus())


# What the shipper makes of it


def journal_with(root: Path, *, parent: JournalDirectory | None = None, run_id: str | None = None) -> Any:
    """A journal whose run has a parent, or an id, or neither."""
    journal = create_directory(root, "run")
    target = Target("sqlite://", parent_journal=None if parent is None else str(parent.path))
    meta = Meta(journal.name, this_process(), target, rank=0, working_directory="/", started_ms=0)
    journal.meta.write_bytes(msgspec.json.encode(meta))
    if run_id is not None:
        journal.state.write_bytes(msgspec.json.encode(State(pid=1, run=RunInfo(run_id, "0", "", None))))
    return journal, meta


def test_the_id_is_found_while_the_journal_is_there_and_after(tmp_path: Path) -> None:
    """Unknown, then known by the parent's state, then by what its shipper has left; else an error."""
    above, _ = journal_with(tmp_path)
    below, meta = journal_with(tmp_path, parent=above)
    other, other_meta = journal_with(tmp_path, parent=above)
    assert parent_run_id(below.path, meta) is None
    above.state.write_bytes(msgspec.json.encode(State(pid=1, run=RunInfo("abc", "0", "", None))))
    assert parent_run_id(below.path, meta) == "abc"
    tell_children(above, "abc")
    above.remove()
    assert parent_run_id(below.path, meta) == parent_run_id(other.path, other_meta) == "abc"
    (other.path / "parent.json").unlink()
    with pytest.raises(ParentUnknownError, match="is gone"):
        parent_run_id(other.path, other_meta)


def test_a_refused_parent_holds_up_no_child(tmp_path: Path) -> None:
    """It may never get an id."""
    above, _ = journal_with(tmp_path)
    above.state.write_bytes(msgspec.json.encode(State(pid=1, phase="refused", error="no such experiment")))
    below, meta = journal_with(tmp_path, parent=above)
    with pytest.raises(ParentUnknownError, match="no such experiment"):
        parent_run_id(below.path, meta)


def test_parents_are_delivered_first(tmp_path: Path) -> None:
    """Whatever their order; those without a parent stay where they were."""
    first, _ = journal_with(tmp_path)
    above, _ = journal_with(tmp_path)
    below, _ = journal_with(tmp_path, parent=above)
    grandchild, _ = journal_with(tmp_path, parent=below)
    last, _ = journal_with(tmp_path, parent=JournalDirectory(tmp_path / "gone"))
    assert parents_first([first, grandchild, below, above, last]) == [first, above, below, grandchild, last]


OFFLINE = """
import trackside
with trackside.start("sweep", run_name="parent") as parent:
    trackside.log({"loss": 1.0}, step=0)
    with trackside.start(run_name="child", parent=parent, bus=trackside.Bus()) as child:
        child._bus.emit(trackside.MetricsSample(0, metrics={"loss": 0.5}))
"""


@pytest.mark.process
def test_offline_parent_and_child(tmp_path: Path) -> None:
    """Whichever is delivered first, the child is nested under its parent."""
    uri = new_database(tmp_path)
    journals = tmp_path / "journals"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "TRACKSIDE_DIR": str(journals)}
    environment["TRACKSIDE_MODE"] = "offline"
    subprocess.run([sys.executable, "-c", OFFLINE], env=environment, cwd=tmp_path, timeout=100, check=True)
    child = next(path for path in journals.iterdir() if "child" in path.name)
    assert sync_journal(JournalDirectory(child)).result == "delivered"
    until(lambda: not any(journals.glob("*/meta.json")), timeout=60)
    assert_nested(uri)


def assert_nested(uri: str) -> None:
    """The run ``child`` is under the run ``parent``, in its experiment."""
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_name = {run.info.run_name: run for run in runs}
    assert len(runs) == 2
    assert by_name["child"].data.tags[PARENT_TAG] == by_name["parent"].info.run_id
    assert by_name["child"].info.experiment_id == by_name["parent"].info.experiment_id
    assert {run.info.status for run in runs} == {"FINISHED"}


# A run that MLflow's own API has made active


FLUENT = """
import mlflow, trackside
mlflow.set_experiment("fluent")
with mlflow.start_run(run_name="parent") as parent:
    with trackside.start(run_name="child") as run:
        trackside.log({"loss": 1.0}, step=0)
    assert mlflow.active_run().info.run_id == parent.info.run_id
    mlflow.log_metric("after", 1.0)
"""


@pytest.mark.process
def test_an_active_run_is_the_parent(tmp_path: Path) -> None:
    """The run is nested under it, one warning says so, and it stays the user's."""
    uri = new_database(tmp_path)
    done = run_python(
        "-c", FLUENT, cwd=tmp_path, MLFLOW_TRACKING_URI=uri, TRACKSIDE_DIR=str(tmp_path / "journals")
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is active here, so this run is nested under it") == 1
    until(lambda: not any((tmp_path / "journals").glob("*/meta.json")), timeout=60)
    assert_nested(uri)


@pytest.mark.usefixtures("offline")
def test_when_an_active_run_is_not_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in another store, another parent is given, or MLFLOW_RUN_ID says which run to log into."""
    here = f"sqlite:///{tmp_path / 'mlflow.db'}"
    active = ActiveRun("abc", "7", here)
    monkeypatch.setattr(fluent, "active", lambda: active)
    with trackside.start() as run:
        assert (target_of(run).parent_run_id, target_of(run).experiment_id) == ("abc", "7")
    with trackside.start("named") as run:
        assert (target_of(run).parent_run_id, target_of(run).experiment_name) == ("abc", "named")
    assert len(caplog.records) == 1, "a sweep has many children"
    with trackside.start(tracking_uri="http://elsewhere:5000") as run:
        assert target_of(run).parent_run_id is None
    with trackside.start(parent_run_id="def") as run:
        assert target_of(run).parent_run_id == "def"
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    with trackside.start() as run:
        assert (target_of(run).run_id, target_of(run).parent_run_id) == ("abc", None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
