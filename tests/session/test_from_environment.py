"""Sinks, destinations and a run's name from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import trackside
from trackside.errors import ConfigurationError
from trackside.journal.meta import read_meta
from trackside.session.adoption import AdoptedRun, adopt
from trackside.session.destinations import plan_destinations
from trackside.session.from_environment import as_text, listed, sinks_beside
from trackside.session.sinks import plan_sinks
from trackside.settings import Settings, read_environment
from trackside.system.once import Once

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (None, ()),
        (" ", ()),
        ("console", ("console",)),
        ("tensorboard, parquet", ("tensorboard", "parquet")),
        ("my_package.module:Class", ("my_package.module:Class",)),
        (
            "tensorboard,jsonl:path=a=b.jsonl,mode=truncate,console:every_seconds=2.5",
            (
                "tensorboard",
                {"type": "jsonl", "path": "a=b.jsonl", "mode": "truncate"},
                {"type": "console", "every_seconds": 2.5},
            ),
        ),
        ("my.module:Class:level=3,on=true", ({"type": "my.module:Class", "level": 3, "on": True},)),
        ('["console", {"type": "memory"}]', ("console", {"type": "memory"})),
        ('{"type": "memory"}', ({"type": "memory"},)),
        ('jsonl:path="x"', ({"type": "jsonl", "path": '"x"'},)),
    ],
)
def test_a_list(text: str | None, entries: tuple[object, ...]) -> None:
    """Words with commas, or JSON. A value is a number or a switch if it looks like one."""
    assert listed(text, "TRACKSIDE_SINKS") == entries
    assert listed(as_text(listed(text, "")), "") == entries


@pytest.mark.parametrize(
    "text", ["path=x", "console:=3", "console:a b=3", "[1]", '[{"path": "x"}]', "[", "{}"]
)
def test_a_malformed_list(text: str) -> None:
    """An error names the variable and shows the form."""
    with pytest.raises(ConfigurationError, match=r"TRACKSIDE_SINKS.*jsonl:path=metrics\.jsonl"):
        listed(text, "TRACKSIDE_SINKS")


def test_destinations_are_added_once() -> None:
    """What the program names comes first. An equal entry is one destination, another of its kind a second."""
    one = {"type": "jsonl", "path": "a.jsonl"}
    planned = plan_destinations([one], 0, [one, {"type": "jsonl", "path": "b.jsonl"}])
    assert [(spec.name, spec.options["path"]) for spec in planned.specs] == [
        ("jsonl", "a.jsonl"),
        ("jsonl-2", "b.jsonl"),
    ]


def test_sinks_are_added_once() -> None:
    """As destinations."""
    planned = plan_sinks(["memory"], 0, ["memory", {"type": "memory"}])
    assert [type(sink).__name__ for sink in planned.sinks] == ["MemorySink", "MemorySink"]


def settings(tmp_path: Path, **variables: str) -> Settings:
    """The settings of an environment."""
    return read_environment({"TRACKSIDE_DIR": str(tmp_path), **variables})


def test_sinks_are_for_the_default_bus(tmp_path: Path) -> None:
    """Several runs at once would take the same port and the same line of the terminal."""
    found = settings(tmp_path, TRACKSIDE_SINKS="console")
    assert sinks_beside(found, trackside.bus) == ("console",)
    assert sinks_beside(found, trackside.Bus()) == ()


def test_the_variables_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that names nothing gets the name, the sinks and the destinations of its environment."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"journal+sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKSIDE_RUN_NAME", "baseline")
    monkeypatch.setenv("TRACKSIDE_SINKS", "memory")
    monkeypatch.setenv("TRACKSIDE_DESTINATIONS", f"jsonl:path={tmp_path}/a.jsonl")
    made: list[object] = []
    monkeypatch.setattr("trackside.sinks.memory.MemorySink.on_config", lambda sink, _: made.append(sink))
    with trackside.start("digits", config={"lr": 0.1}) as run:
        assert run.journal is not None
        meta = read_meta(run.journal)
        assert meta is not None
    assert len(made) == 1
    assert (meta.target.run_name, [spec.kind for spec in meta.destinations]) == ("baseline", ["jsonl"])
    assert meta.target.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_program_that_calls_mlflow_is_recorded_without_what_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A typo in a variable costs the program what the variable names, and not its journal."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.setenv("TRACKSIDE_SINKS", "consul")
    monkeypatch.setenv("TRACKSIDE_DESTINATIONS", "tensorbord")
    monkeypatch.setattr("trackside.session.adoption._said", Once())
    for number in "ab":
        run = adopt(
            AdoptedRun(number * 32, "7", f"sqlite:///{tmp_path}/a.db", "made", experiment_name="digits")
        )
        meta = read_meta(run.journal)
        run.finish("FINISHED", wait=False)
        assert meta is not None
        assert (meta.target.experiment_name, meta.destinations) == ("digits", ())
    said = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert [("TRACKSIDE_SINKS" in text, "TRACKSIDE_DESTINATIONS" in text) for text in said] == [
        (False, True),
        (True, False),
    ]
