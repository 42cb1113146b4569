"""Setting the status of a run, as long as it is this attempt's to set.

A shipper may stand still at any moment (SIGSTOP, a suspended machine, a swap storm), and a newer attempt may
take the run over and end it meanwhile. MLflow has no compare-and-set.

Invariants:

* The run's tags are read right before its status is written. Another attempt's run is left alone.
* They are read again behind that. If another attempt has taken the run over in between, the status is put
  back to what that attempt said: RUNNING while it goes on, else the status in its summary.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.owner import holds
from trackside.destinations.mlflow.tags import summary_of
from trackside.errors import RetryableError
from trackside.lifecycle.verdict import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.meta import Meta


class StatusWriter:
    """Sets the status of the run of the attempt ``meta``.

    ``read()`` returns the MLflow run. ``write(status, ended_ms)`` sets its status.
    """

    def __init__(
        self, meta: Meta, *, read: Callable[[], Any], write: Callable[[str, int | None], object]
    ) -> None:
        self._meta = meta
        self._read = read
        self._write = write

    def set(self, status: str, *, ended_ms: int | None = None) -> bool:
        """Set it; False if the run is another attempt's by now.

        Raises :class:`RetryableError` if the run does not show it: a 200 may come from somebody between us
        and MLflow.
        """
        if not holds(self._read(), self._meta):
            return False
        self._write(status, ended_ms)
        run = self._read()
        if not holds(run, self._meta):
            self._put_back(run)
            return False
        if run.info.status != status:
            shown = run.info.status or "none"
            raise RetryableError(f"the status was set to {status}, and the run still shows {shown}")
        return True

    def _put_back(self, run: Any) -> None:
        """Undo a write that came behind the claim of another attempt."""
        summary = summary_of(run.data.tags)  # an attempt begins without one
        said = summary.get("status", "RUNNING")
        if said != run.info.status and (said == "RUNNING" or said in FINAL):
            self._write(str(said), _moment_ms(summary.get("ended")) if said != "RUNNING" else None)


def _moment_ms(text: object) -> int | None:
    try:
        return int(datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return None
