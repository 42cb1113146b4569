"""Metrics straight into MLflow's database, past its client, if the bulk store can write that database.

Only metrics take this way. Params, tags, artifacts and the status go through MLflow's client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.bulk_store.uri import can_be_bulk
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.bulk_store.store import BulkStore

logger = logging.getLogger("trackside.destinations")

POINTS_PER_WRITE = 5000
"""Points in one transaction, which locks a sqlite file for a tenth of a second. More points gain nothing."""


def is_wanted(uri: str) -> bool:
    """Whether to try to write metrics for ``uri`` in bulk."""
    return can_be_bulk(uri) and read_environment().bulk_store


def open_store(uri: str, notice: Callable[[str], None] = logger.warning) -> BulkStore | None:
    """The bulk store at ``uri``, whose tables exist. None if metrics have to go through MLflow's client.

    ``notice`` tells the user why the bulk store can't be used. Raises what MLflow and SQLAlchemy raise.
    """
    from trackside.bulk_store import stock
    from trackside.bulk_store.store import BulkStore

    if stock.links_metrics_to_a_model():
        logger.info("metrics also belong to a model, so they go through MLflow's client")
        return None
    store = BulkStore(uri, stock.artifact_root(None))
    if store.why_not is not None:
        notice(
            "metrics go into the database through MLflow's own store, many times slower: "
            f"{store.why_not}. To keep it so without this warning, set TRACKSIDE_BULK_STORE=off"
        )
        return None
    return store
