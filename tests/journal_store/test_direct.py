"""A program that names an address of MLflow's itself, although the environment wants the journal store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.tracking.context.registry import resolve_tags

from tests.ends.harness import new_database
from trackside.journal_store import direct
from trackside.null_store import NULL_URI
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _wanted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The environment named the journal store as MLflow was imported. MLflow has our provider once."""
    logger = logging.getLogger("trackside.journal_store")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)  # MLflow 3.6 takes the root's handlers as it opens a database
    monkeypatch.setattr(direct, "_wanted", True)
    monkeypatch.setattr(direct, "_told", Once())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "journal+http://wanted:5000")
    yield
    logger.removeHandler(caplog.handler)
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user is warned of."""
    return [one.getMessage() for one in caplog.records if one.name == "trackside.journal_store"]


def test_each_address_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As its first run begins, with the address to write instead."""
    mlflow.set_tracking_uri(uri := new_database(tmp_path))
    for _ in range(2):
        with mlflow.start_run():
            pass
    (told,) = warnings_of(caplog)
    assert told == (
        f"a run goes to {uri} directly and not through trackside, because the program or a script around it "
        f"sets this address. Remove it there, or write journal+{uri}"
    )


def test_no_run_is_created(caplog: pytest.LogCaptureFixture) -> None:
    """Datasets, models and traces ask for tags, too."""
    mlflow.set_tracking_uri("http://other:5000")
    resolve_tags()
    assert warnings_of(caplog) == []


def test_where_nothing_is_to_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """``run.activate()`` on other ranks makes such a run."""
    mlflow.set_tracking_uri(NULL_URI)
    with mlflow.start_run():
        pass
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(("wanted", "mode"), [(True, "disabled"), (False, "online")])
def test_the_journal_store_is_not_wanted(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool,
    mode: str,
) -> None:
    """Then every address is right."""
    monkeypatch.setattr(direct, "_wanted", wanted)
    monkeypatch.setenv("TRACKSIDE_MODE", mode)
    mlflow.set_tracking_uri(new_database(tmp_path))
    with mlflow.start_run():
        pass
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("address", "better"),
    [
        ("http://other:5000", "journal+http://other:5000"),
        ("https://me:pw@other", "journal+https://***@other"),
        ("sqlite:////data/own.db", "journal+sqlite:////data/own.db"),
        ("/data/mlruns", "journal+file:///data/mlruns"),
        ("file:///data/mlruns", "journal+file:///data/mlruns"),
        ("postgresql://me:pw@host/name", "journal+postgresql://***@host/name"),
        ("databricks", ""),
        ("databricks://profile", ""),
    ],
)
def test_the_address_to_write_instead(address: str, better: str) -> None:
    """Without secrets. Nothing where the journal store can't stand before the address."""
    assert direct._better(address) == better
