"""A plug-in for pytest: MLflow's own tests run against the journal store, unchanged.

Get MLflow's repository at the tag of the installed version, and run from its folder::

    PYTHONPATH=/path/to/trackside/tests/frameworks/their_tests python -m pytest -p mlflow_journal \
        tests/tracking/fluent/test_fluent.py

Every address of a store that a test gives to MLflow gets ``journal+`` before it. What tells the tests which
address is in use answers without it, as they expect.
"""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.tracking._tracking_service import utils

from trackside.session.undelivered import undelivered_runs

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES = ("file:", "sqlite:", "http:", "https:", "postgresql:", "mysql:")


def pytest_configure() -> None:
    """Keep journals apart, wait little at the end, and swap the addresses."""
    folder = tempfile.mkdtemp(prefix="trackside-their-tests-")
    os.environ["TRACKSIDE_DIR"] = os.path.join(folder, "journals")
    os.environ.setdefault("TRACKSIDE_EXIT_TIMEOUT", "5")
    swap_addresses()


def pytest_report_header() -> str:
    """Say what is being tested."""
    return f"every tracking address is journal+..., journals are in {os.environ['TRACKSIDE_DIR']}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Deliver before the test's store is removed."""
    undelivered_runs.flush(20)


def swap_addresses() -> None:
    """Have MLflow look for the journal store wherever a test names a plain one."""
    registry: Any = utils._tracking_store_registry
    get_store: Callable[..., Any] = registry.get_store

    @functools.wraps(get_store)
    def journaled(store_uri: str | None = None, artifact_uri: str | None = None) -> Any:
        uri = store_uri or utils.get_tracking_uri()
        return get_store("journal+" + uri if uri.startswith(SCHEMES) else uri, artifact_uri)

    registry.get_store = journaled
