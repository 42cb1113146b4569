"""Programs as their users write them leave the same pages in MLflow with ``journal+`` as without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.servers import MlflowServer
from tests.unchanged.play import Played, assert_alike, assert_same, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unchanged.conftest import NewDatabase

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    "program",
    [
        "fluent",
        "client_only",
        pytest.param("threads_and_processes", marks=pytest.mark.slow),
        pytest.param("sklearn_autolog", marks=pytest.mark.slow),
        pytest.param("two_stores", marks=pytest.mark.slow),
    ],
)
def test_the_pages_in_a_database_are_the_same(program: str, tmp_path: Path) -> None:
    """And what the program says it has read, and its exit code."""
    ours = assert_same(program, tmp_path)
    assert ours.pages["experiments"]


@pytest.mark.parametrize(
    "takes_files",
    [pytest.param(True, marks=pytest.mark.slow), False],
    ids=["proxied files", "direct files"],
)
def test_the_pages_of_a_server_are_the_same(takes_files: bool, tmp_path: Path) -> None:
    """Whether its files go through the server or not."""

    def on_server(prefix: str) -> Played:
        folder = tmp_path / f"server {prefix}"
        folder.mkdir()
        with MlflowServer(folder, takes_files=takes_files).running() as server:
            return play("fluent", tmp_path / f"program {prefix}", prefix, server.url)

    assert_alike(on_server(""), on_server("journal+"))


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("program", ["client_only", "fluent", "sklearn_autolog", "two_stores"])
def test_the_pages_in_postgresql_are_the_same(
    program: str, tmp_path: Path, new_postgres: NewDatabase
) -> None:
    """Without a server between the program and the database."""
    stock = play(program, tmp_path / "stock", "", new_postgres(f"stock_{program}"))
    ours = play(program, tmp_path / "ours", "journal+", new_postgres(f"ours_{program}"))
    assert_alike(stock, ours)


@pytest.mark.slow
@pytest.mark.postgres
def test_forked_processes_and_postgresql(tmp_path: Path, new_postgres: NewDatabase) -> None:
    """They log. With MLflow alone, they and their parent disturb each other on one connection."""
    stock = play("threads_and_processes", tmp_path / "stock", "")  # in a file
    ours = play("threads_and_processes", tmp_path / "ours", "journal+", new_postgres("forked"))
    assert_alike(stock, ours)
