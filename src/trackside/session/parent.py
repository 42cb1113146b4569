"""The run that a new one is nested under: given as a run or an id, or active in MLflow's own API.

A parent's id may not be known yet, because it is offline or its server has not answered. Then the child names
the parent's journal, and the child's shipper finds the id (:mod:`trackside.journal.family`).
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from trackside.errors import ConfigurationError
from trackside.session import fluent
from trackside.settings import absolute_tracking_uri
from trackside.system.once import Once

logger = logging.getLogger("trackside.session")


class Parent(NamedTuple):
    """What is known of a parent. ``tracking_uri`` has its credentials."""

    run_id: str | None = None
    journal: str | None = None
    tracking_uri: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None

    def check_address(self, uri: str) -> None:
        """Raise :class:`ConfigurationError` if the child is to go to another address than its parent."""
        if self.tracking_uri is not None and uri != self.tracking_uri:
            raise ConfigurationError(
                "parent is logged to another tracking_uri: a child must be where its parent is. "
                "Leave tracking_uri out, or parent"
            )


NO_PARENT = Parent()

_announced = Once()
"""Parents that were announced: a sweep starts many children."""


def checked_parent(parent: Any, parent_run_id: Any) -> Parent:
    """The parent that was given. Raises :class:`ConfigurationError` for two, and for anything but a run."""
    if parent_run_id is not None and parent is not None:
        raise ConfigurationError("give either parent or parent_run_id, not both")
    if parent_run_id is not None:
        if not isinstance(parent_run_id, str):
            raise ConfigurationError(f"parent_run_id must be text, not {type(parent_run_id).__name__}")
        return Parent(run_id=parent_run_id)
    if parent is None:
        return NO_PARENT
    link = getattr(parent, "link", None)
    if not isinstance(link, Parent):
        raise ConfigurationError(
            f"parent must be a run that trackside.start() returned, not {type(parent).__name__}. "
            "For another run, give parent_run_id"
        )
    return link


def active_parent(uri: str) -> Parent:
    """The run that MLflow's own API has made active in this thread, if it is at ``uri``."""
    active = fluent.active()
    if active is None or absolute_tracking_uri(active.tracking_uri) != uri:
        return NO_PARENT
    if _announced.is_first(active.run_id):
        logger.warning(
            "MLflow's run %s is active here, so this run is nested under it. To log into that run instead, "
            "set MLFLOW_RUN_ID to its id. For a run of its own, call mlflow.end_run() first",
            active.run_id,
        )
    return Parent(run_id=active.run_id, experiment_id=active.experiment_id)
