"""An address that MLflow would misunderstand is refused, with what to write instead."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import pytest

from trackside.destinations.mlflow.address import checked_address, checked_artifact_location
from trackside.destinations.registry import check
from trackside.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "uri",
    [
        "http://host",
        "https://user:password@mlflow.example.org:443/path",
        "HTTP://host:5000",
        "http://[::1]:5000",
        "sqlite:///mlflow.db",
        "sqlite:////abs/mlflow.db",
        "trackside+sqlite:///mlflow.db",
        "postgresql://u:p@h/db",
        "postgresql+psycopg2://u@h/db",
        "mysql+pymysql://h/db",
        "mssql+pyodbc://h/db",
        "file:///abs/mlruns",
        "file:mlruns",
        "databricks",
        "databricks://profile",
        "uc:databricks",
        "mlruns",
        "./mlruns",
        "../a.b/mlruns",
        "/abs/mlruns",
        "~/mlruns",
        "my-folder",
        "v1.2",
    ],
)
def test_addresses(uri: str) -> None:
    """Servers, databases and folders, as MLflow takes them."""
    assert checked_address(f" {uri}\n") == uri


@pytest.mark.parametrize(
    ("uri", "instead"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("localhost", "http://localhost:5000"),
        ("http//localhost:5000", "http://localhost:5000"),
        ("sqlite///mlflow.db", "sqlite:///mlflow.db"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("10.0.0.7", "http://10.0.0.7"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("//host:5000", "http://host:5000"),
        ("mlflow:5000/path", "http://mlflow:5000/path"),
        ("mlflow.example.org", "http://mlflow.example.org"),
        ("mlflow.example.org/path", "http://mlflow.example.org/path"),
        ("htp://host:5000", "http://host:5000"),
        ("htttps://host", "https://host"),
        ("http:/host:5000", "http://host:5000"),
        ("http:host", "http://host"),
        ("http://host:5000/#/experiments/1", "http://host:5000"),
        ("'http://host:5000'", "http://host:5000"),
        ("http://", "http://host:5000"),
        ("http://:5000", "http://host:5000"),
        ("http://host:port", "http://host:5000"),
        ("http://host:5000,", "http://host:5000"),
        ("http://http://host", "http://host:5000"),
        ("https:///path", "http://host:5000"),
        ("x.db", "sqlite:///x.db"),
        ("/abs/mlflow.sqlite", "sqlite:////abs/mlflow.sqlite"),
        ("sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:/mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite://", "sqlite:///mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///mlflow.db"),
        ("sqlite:///~/mlflow.db", "sqlite:////home/ada/mlflow.db"),
        ("sqllite:///mlflow.db", "sqlite:///mlflow.db"),
        ("trackside+sqlite://mlflow.db", "trackside+sqlite:///mlflow.db"),
        ("postgres://h/db", "postgresql://h/db"),
        ("postgresql:/h/db", "postgresql://h/db"),
        ("${oc.env:URI}", "its value"),
        ("$MLFLOW_TRACKING_URI", "its value"),
        ("{uri}", "its value"),
        ("http://{host}:5000", "its value"),
    ],
)
def test_mistakes(uri: str, instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named, with what is wrong and what is right."""
    monkeypatch.setenv("HOME", "/home/ada")
    with pytest.raises(ConfigurationError) as caught:
        checked_address(uri)
    assert str(caught.value).startswith(f"tracking_uri {uri!r} ")
    assert str(caught.value).endswith(f". Write {instead}")


@pytest.mark.parametrize("uri", ["host:notaport", "C:\\mlflow", "mongodb://host/db"])
def test_schemes_like_no_other(uri: str) -> None:
    """The error lists what there is."""
    with pytest.raises(
        ConfigurationError, match=r"Write http://host:5000 for a server, sqlite:///mlflow\.db"
    ):
        checked_address(uri)


def test_a_place_for_files() -> None:
    """A bucket is where artifacts go, and the error says so."""
    with pytest.raises(ConfigurationError, match=r"keeps no runs. Give it as artifact_location"):
        checked_address("s3://bucket/path")


def test_files_and_folders_that_are_there(tmp_path: Path) -> None:
    """A folder may be called anything. A file is a database that lacks its scheme."""
    (tmp_path / "x.db").mkdir()
    (tmp_path / "file").touch()
    assert checked_address(str(tmp_path / "x.db"))
    with pytest.raises(ConfigurationError, match="is a file, and MLflow would take it for a folder"):
        checked_address(str(tmp_path / "file"))


def test_a_store_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow finds its stores by entry points, and so are they found here."""
    entry = importlib.metadata.EntryPoint("corp", "corp:Store", "mlflow.tracking_store")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry])
    assert checked_address("corp://team") == "corp://team"


def test_credentials_are_not_shown() -> None:
    """Not in the address, nor in what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        checked_address("postgres://ada:hunter2@h/db")
    assert "hunter2" not in str(caught.value)


def test_a_second_server_is_checked_too() -> None:
    """The error says which of the addresses it is."""
    with pytest.raises(ConfigurationError, match="destination 'mlflow': tracking_uri 'localhost:5000' has"):
        check("mlflow", {"tracking_uri": "localhost:5000"})


def test_artifact_locations() -> None:
    """Empty is MLflow's own. A bucket needs both slashes."""
    assert checked_artifact_location(None) is checked_artifact_location(" ") is None
    assert checked_artifact_location("s3://bucket/path ") == "s3://bucket/path"
    assert checked_artifact_location("folder/x") == "folder/x"
    with pytest.raises(ConfigurationError, match=r"artifact_location 's3:/b' lacks a slash. Write s3://b"):
        checked_artifact_location("s3:/b")
