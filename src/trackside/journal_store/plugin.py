"""Factories for MLflow's entry points: the stores for ``journal+http``, ``journal+sqlite`` and the like.

The groups ``mlflow.tracking_store`` and ``mlflow.model_registry_store``, a name for each spelling of the
scheme (``pyproject.toml``). The model registry gets MLflow's own store for the inner address.

``import mlflow`` loads this module. So the functions import what is expensive.
"""

from __future__ import annotations

import os
from typing import Any

from trackside.system.journal_address import inner_address, is_journal_address


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the store for ``store_uri``. With ``TRACKSIDE_MODE=disabled`` that is MLflow's own."""
    from trackside.journal_store import artifacts, stock
    from trackside.journal_store.address import checked_inner
    from trackside.journal_store.store import journal_store
    from trackside.settings import read_environment
    from trackside.system.parent_folder import note_use, tell_parent

    tell_parent(note_use)
    inner = checked_inner(store_uri)
    mode = read_environment().mode
    artifacts.know_journal_addresses()
    store = stock.make_tracking_store(inner, artifact_uri)
    return store if mode == "disabled" else journal_store(store, inner)


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """MLflow's own store for the model registry at the inner address."""
    from trackside.journal_store import artifacts, stock
    from trackside.journal_store.address import checked_inner

    artifacts.know_journal_addresses()
    inner = None if tracking_uri is None else inner_address(tracking_uri)
    return stock.make_registry_store(checked_inner(store_uri), inner)


def _look_at_variable() -> None:
    """Say what is wrong with ``MLFLOW_TRACKING_URI``: MLflow does not ask us about every mistake."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if is_journal_address(given):
        import logging

        from trackside.journal_store.address import why_malformed

        fault = why_malformed(given)
        if fault is not None:
            logging.getLogger("trackside.journal_store").error("MLFLOW_TRACKING_URI: %s", fault)


_look_at_variable()
