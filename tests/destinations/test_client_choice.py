"""Which tracking stores are talked to without MLflow, and what a shipper loads for them."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import TYPE_CHECKING

import pytest

from tests.test_imports import packages_after
from trackside.destinations.mlflow import client_choice
from trackside.destinations.mlflow.client_choice import is_proxied, why_mlflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER = "http://host:5000"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Have one plug-in installed, and no other: its group and its name."""

    def plug_in(group: str, name: str) -> None:
        found = EntryPoint(name, "package:Class", group)
        client_choice._plugins.cache_clear()
        monkeypatch.setattr(client_choice, "entry_points", lambda: EntryPoints([found]))

    plug_in("none", "none")
    yield plug_in
    client_choice._plugins.cache_clear()


@pytest.mark.usefixtures("install")
def test_a_server_needs_no_mlflow() -> None:
    """With any credentials, certificate or prefix."""
    for uri in (SERVER, "https://me:password@host/mlflow/", "HTTP://[::1]:5000"):
        for name in ("USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH"):
            assert why_mlflow(uri, {f"MLFLOW_TRACKING_{name}": "x"}) is None


@pytest.mark.usefixtures("install")
@pytest.mark.parametrize(
    "uri",
    ["sqlite:///mlflow.db", "postgresql://host/db", "databricks", "file:/tmp/runs", "/tmp/runs", "ours:x"],
)
def test_what_is_no_server_needs_it(uri: str) -> None:
    """A database, a folder, Databricks, the store of a plug-in."""
    assert why_mlflow(uri, {}) == "it is not a server at http:// or https://"


@pytest.mark.usefixtures("install")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MLFLOW_TRACKING_AUTH", "kubernetes", "authenticates requests"),
        ("MLFLOW_TRACKING_AWS_SIGV4", "true", "signed for AWS"),
        ("MLFLOW_WORKSPACE", "team-a", "workspace"),
        ("MLFLOW_ACTIVE_MODEL_ID", "m-1", "model"),
        ("DATABRICKS_RUNTIME_VERSION", "15.4", "Databricks"),
        ("TRACKSIDE_REST_CLIENT", "off", "is off"),
    ],
)
def test_variables_that_only_mlflow_can_follow(name: str, value: str, words: str) -> None:
    """Are named in the reason. Empty ones count for nothing."""
    reason = why_mlflow(SERVER, {name: value})
    assert reason is not None
    assert name in reason
    assert words in reason
    assert why_mlflow(SERVER, {name: ""}) is None


@pytest.mark.parametrize(
    ("group", "name", "needs"),
    [
        ("mlflow.request_header_provider", "ours", True),
        ("mlflow.tracking_store", "https", True),
        ("mlflow.tracking_store", "ours", False),
        ("mlflow.request_auth_provider", "ours", False),
    ],
)
def test_plugins(install: Callable[[str, str], None], group: str, name: str, needs: bool) -> None:
    """One that changes every request counts. One that must be asked for by a variable does not."""
    install(group, name)
    assert (why_mlflow(SERVER, {}) is not None) == needs


def test_artifacts_that_the_server_takes(install: Callable[[str, str], None]) -> None:
    """Those without a host of their own, unless a plug-in handles them."""
    assert is_proxied("mlflow-artifacts:/1/abc/artifacts")
    for uri in ("mlflow-artifacts://other:5000/1/abc", "s3://bucket/1", "gs://b/1", "/folder", "file:/f", ""):
        assert not is_proxied(uri)
    install("mlflow.artifact_repository", "mlflow-artifacts")
    assert not is_proxied("mlflow-artifacts:/1/abc/artifacts")


def test_a_shipper_beside_a_server_loads_nothing_heavy() -> None:
    """After a call to a server, neither MLflow nor what comes with it is there."""
    script = (
        "import trackside.shipper.__main__, contextlib\n"
        "from trackside.destinations.mlflow.connection import connect\n"
        "from trackside.destinations.mlflow.preload import preload\n"
        "preload('http://127.0.0.1:1')\n"
        "with contextlib.suppress(OSError):\n"
        "    connect('http://127.0.0.1:1').get_run('0')\n"
    )
    found = packages_after(script, TRACKSIDE_REST_CLIENT="on")
    assert "requests" in found
    assert not found & {
        "mlflow",
        "sqlalchemy",
        "numpy",
        "pandas",
        "pydantic",
        "google",
        "torch",
        "opentelemetry",
    }


def test_threads_that_need_mlflow_at_once_all_get_it() -> None:
    """The thread that uploads and the one that measures the machine may be the first together."""
    script = (
        "import sys, threading, time\n"
        "from trackside.destinations.mlflow.system_metrics import _make_monitors\n"
        "from trackside.destinations.mlflow.through_mlflow import ThroughMLflow\n"
        "uri, made = 'http://127.0.0.1:1', []\n"
        "first = threading.Thread(target=lambda: made.append(_make_monitors('r', uri)))\n"
        "first.start()\n"
        "while 'mlflow' not in sys.modules and first.is_alive():\n"
        "    time.sleep(0)\n"
        "made.append(ThroughMLflow(uri))\n"
        "first.join()\n"
        "assert len(made) == 2, made\n"
    )
    assert "mlflow" in packages_after(script)
