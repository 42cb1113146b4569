"""Runs that go past the journal store, because the program names another address of MLflow's itself.

MLflow asks each provider of the group ``mlflow.run_context_provider`` for tags as its own API creates a run.
This one adds none. It looks where the run goes, and warns if that is not what the environment wants.
``trackside run`` repeats the warning at its end.

Invariants:

* Nothing is changed: the program's own address counts.
* ``import mlflow`` loads this module. So the functions import what is expensive.
* A program that was not started under the journal store is not looked at.
"""

from __future__ import annotations

import logging
import os

from trackside.system.journal_address import PREFIX, is_journal_address
from trackside.system.once import Once
from trackside.system.parent_folder import VARIABLE, DirectAddress, note_direct, tell_parent

logger = logging.getLogger("trackside.journal_store")

_wanted = is_journal_address(os.environ.get("MLFLOW_TRACKING_URI", "").strip())
"""Whether the environment names the journal store. ``mlflow.set_tracking_uri()`` may change it later."""

_told = Once()


class DirectRuns:
    """A provider of MLflow's that adds no tags."""

    def in_context(self) -> bool:
        """Warn if a run is about to be created past the journal store. Always False."""
        if _wanted or os.environ.get(VARIABLE):
            _look()
        return False

    def tags(self) -> dict[str, str]:
        """Nothing."""
        return {}


def _look() -> None:
    from mlflow.tracking import get_tracking_uri

    from trackside.journal_store.stock import creates_run
    from trackside.null_store import NULL_URI
    from trackside.settings import read_environment

    address = str(get_tracking_uri())
    if is_journal_address(address) or address == NULL_URI or not creates_run():
        return
    if read_environment().mode != "disabled" and _told.is_first(address):
        _tell(address)


def _tell(address: str) -> None:
    from trackside.redaction.forms import mask_address

    direct = DirectAddress(mask_address(address), _better(address))
    tell_parent(note_direct, direct)
    logger.warning("a run goes %s", direct.explained)


def _better(address: str) -> str:
    """The address to write instead. Empty if the journal store does not take it."""
    from importlib import metadata

    from trackside.errors import ConfigurationError
    from trackside.journal_store.address import checked_inner
    from trackside.redaction.forms import mask_address
    from trackside.settings import absolute_tracking_uri

    try:
        inner = absolute_tracking_uri(address)
        better = PREFIX + (f"file://{inner}" if inner.startswith(os.sep) else inner)
        checked_inner(better)
    except ConfigurationError:
        return ""
    known = metadata.entry_points(group="mlflow.tracking_store", name=better.partition(":")[0].lower())
    return mask_address(better) if known else ""
