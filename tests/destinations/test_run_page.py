"""Where to look at a run: the page of its curves and the command that serves a local store."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

from trackside.destinations.mlflow.run_page import front_page, how_to_look, is_local, run_page, serve_command

PAGE = "/#/experiments/7/runs/abc/model-metrics?workflowType=machine_learning"


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://host:5000", "http://host:5000" + PAGE),
        ("https://host/mlflow/", "https://host/mlflow" + PAGE),
        ("https://***@host", "https://host" + PAGE),
        ("https://***@host/a@b", "https://host/a@b" + PAGE),
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000" + PAGE),
        ("trackside+sqlite:////data/mlflow.db", "http://127.0.0.1:5000" + PAGE),
        ("postgresql+psycopg2://***@db/mlflow", "http://127.0.0.1:5000" + PAGE),
        ("/data/mlruns", "http://127.0.0.1:5000" + PAGE),
        ("file:///data/mlruns", "http://127.0.0.1:5000" + PAGE),
        ("databricks://profile", "databricks://profile"),
        ("azureml://here/there", "azureml://here/there"),
    ],
)
def test_every_store_has_a_page(uri: str, page: str) -> None:
    """The curves, not the experiment's front page. Credentials never reach a link."""
    assert run_page(uri, "7", "abc") == page
    assert page.startswith(front_page(uri))


@pytest.mark.parametrize(
    ("uri", "store"),
    [
        ("sqlite:////a b/mlflow.db", "sqlite:////a b/mlflow.db"),
        ("trackside+sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("/data/mlruns", "/data/mlruns"),
    ],
)
def test_the_command_for_a_local_store_can_be_pasted(uri: str, store: str) -> None:
    """It names a program that is there, and the store as stock MLflow spells it."""
    command = serve_command(uri)
    assert command is not None
    program, *rest = shlex.split(command)
    assert program == "mlflow" or os.access(program, os.X_OK)
    assert rest[-3:] == ["ui", "--backend-store-uri", store]


@pytest.mark.parametrize("executable", ["", None, "/opt/studio/bin/studio"])
@pytest.mark.parametrize("prefix", [sys.prefix, "/nowhere"])
def test_the_command_never_starts_an_application_that_embeds_python(
    executable: str | None, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, and where Python does not know its own path, it is the environment's ``mlflow``."""
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "prefix", prefix)
    program, *rest = shlex.split(serve_command("/data/mlruns") or "")
    assert program in {"python", "mlflow"} or os.access(program, os.X_OK)
    assert rest[-3:] == ["ui", "--backend-store-uri", "/data/mlruns"]


def test_what_serves_itself_needs_no_command() -> None:
    """A server is up already. The backend of another team is not ours to serve."""
    assert not is_local("databricks://profile")
    assert serve_command("http://host:5000") is None
    assert how_to_look("http://host:5000", "http://page") == "View it at http://page"


def test_masked_credentials_are_pointed_out() -> None:
    """You should not have to wonder why the pasted command can't log in."""
    assert "(your credentials in place of ***)" in how_to_look("mysql://***@db/x", "http://page")
