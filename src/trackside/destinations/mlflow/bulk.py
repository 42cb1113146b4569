"""Metrics past MLflow's client, straight into its database, where that is one the bulk store can write.

For metrics alone: the run, its params, tags, artifacts and status go through MLflow's client and the user's
own address, as they do everywhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackside.bulk_store.uri import can_be_bulk
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.bulk_store.store import BulkStore

logger = logging.getLogger(__name__)

POINTS_PER_WRITE = 5000
"""In one transaction, which keeps others out of a sqlite file for a tenth of a second. More gains nothing."""


def is_wanted(uri: str) -> bool:
    """Whether metrics for ``uri`` are to be written in bulk, if that turns out to be possible."""
    return can_be_bulk(uri) and read_environment().bulk_store


def open_store(uri: str, notice: Callable[[str], None] = logger.warning) -> BulkStore | None:
    """The bulk store at ``uri``, whose tables are there; None when metrics are to go MLflow's own way.

    ``notice`` tells the user why the bulk store can't be used. Raises what MLflow and SQLAlchemy raise.
    """
    from trackside.bulk_store import stock
    from trackside.bulk_store.store import BulkStore

    if stock.links_metrics_to_a_model():
        logger.info("metrics belong to a model, too: they go MLflow's own way")
        return None
    store = BulkStore(uri, stock.artifact_root(None))
    if store.why_not is not None:
        notice(
            "metrics go into the database through MLflow's own store, many times slower: "
            f"{store.why_not}. Set TRACKSIDE_BULK_STORE=off to say that this is meant"
        )
        return None
    return store
