"""One real MLflow server for all tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A stock server."""
    with MlflowServer(tmp_path_factory.mktemp("server")).running() as server:
        yield server
