"""One MLflow server for all tests of integrations: a program's shipper then need not import MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow-for-frameworks"))
    server.start()
    yield server.url
    server.terminate()
