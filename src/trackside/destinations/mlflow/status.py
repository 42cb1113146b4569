"""Setting the status of a run, as long as this attempt owns it.

A shipper may stand still at any moment (SIGSTOP, a suspended machine, a swap storm), and a newer attempt may
take the run over and end it meanwhile. MLflow has no compare-and-set.

Invariants:

* The run's tags are read right before its status is written. Another attempt's run is left alone.
* They are read again right after. If another attempt has taken the run over in between, the status is put
  back to what that attempt said: RUNNING while it works, else the status in its summary.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.owner import holds
from trackside.destinations.mlflow.tags import summary_of
from trackside.errors import RetryableError
from trackside.events import FINAL

if TYPE_CHECKING:
    from trackside.destinations.mlflow.connection import Connection
    from trackside.journal.meta import Meta


def set_status(connection: Connection, meta: Meta, status: str, *, ended_ms: int | None = None) -> bool:
    """Set the status of the run. False if it belongs to another attempt than that of ``meta`` by now.

    Raises :class:`RetryableError` if the run does not show the status: a proxy may have answered in MLflow's
    place.
    """
    if not holds(connection.get_run(), meta):
        return False
    _write(connection, status, ended_ms)
    run = connection.get_run()
    if not holds(run, meta):
        _put_back(connection, run)
        return False
    if run.info.status != status:
        shown = run.info.status or "none"
        raise RetryableError(f"the status was set to {status}, and the run still shows {shown}")
    return True


def _put_back(connection: Connection, run: Any) -> None:
    """Undo a write that came after the claim of another attempt."""
    summary = summary_of(run.data.tags)  # an attempt begins without one
    said = summary.get("status", "RUNNING")
    if said != run.info.status and (said == "RUNNING" or said in FINAL):
        _write(connection, str(said), _moment_ms(summary.get("ended")) if said != "RUNNING" else None)


def _write(connection: Connection, status: str, ended_ms: int | None) -> None:
    if ended_ms is None:
        connection.for_run(connection.client.update_run, status)
    else:
        connection.for_run(connection.client.set_terminated, status=status, end_time=ended_ms)


def _moment_ms(text: object) -> int | None:
    try:
        return int(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return None
