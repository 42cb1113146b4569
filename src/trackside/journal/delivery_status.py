"""How the delivery of a run stands, by what its shipper says of itself. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from trackside.journal.meta import State

DeliveryPhase: TypeAlias = Literal["disabled", "offline", "opening", "open", "failed", "delivered"]
"""How delivery stands.

``disabled``: nothing is logged here. ``offline``: the journal waits for ``trackside sync``. ``opening``:
MLflow has not opened the run yet. ``open``: it has, and metrics are delivered as they come. ``failed``: it
never will, and the journal keeps everything. ``delivered``: it has everything, the final status too.
"""


class DeliveryStatus(NamedTuple):
    """How the delivery of a run stands."""

    phase: DeliveryPhase
    reason: str | None = None
    """Why it has failed or, while the shipper tries again, what it fails with."""

    def __str__(self) -> str:
        """``open``, or ``failed: experiment 'digits' is deleted``."""
        return self.phase if self.reason is None else f"{self.phase}: {self.reason}"


def status_in(state: State | None, *, mlflow: bool = True) -> DeliveryStatus:
    """How delivery stands by ``state``. ``mlflow``: whether an MLflow run is a destination."""
    if state is None:
        return DeliveryStatus("opening")
    refused = why_refused(state) or (state.error if state.phase == "refused" else None)
    if refused is not None:
        return DeliveryStatus("failed", refused)
    if state.phase == "done":
        return DeliveryStatus("delivered")
    is_open = state.run is not None if mlflow else state.phase != "starting"
    return DeliveryStatus("open" if is_open else "opening", state.error)


def why_refused(state: State) -> str | None:
    """Why MLflow will never open the run as it was asked for, or None."""
    if state.run is not None:
        return None
    worker = state.workers.get("mlflow")
    refused = None if worker is None else worker.refused
    return refused or (state.error if state.phase == "refused" else None)
