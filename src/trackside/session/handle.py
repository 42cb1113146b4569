"""What a run becomes in another process: a pickle carries its names, not its journal.

Invariant: a handle writes nothing and ends nothing. The run belongs to the process that started it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trackside.event_bus.bus import Bus
from trackside.events import RunStatus, as_final
from trackside.journal.delivery_status import DeliveryStatus, status_in
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, State
from trackside.redaction.redact import with_credentials
from trackside.session.daemon import wait_for_run
from trackside.session.fluent import Activation
from trackside.session.parent import Parent  # noqa: TC001 - a NamedTuple's fields can be looked up
from trackside.session.run import Run, status_with
from trackside.settings import environment_address, read_environment

if TYPE_CHECKING:
    from trackside.events import FinalStatus

logger = logging.getLogger("trackside.session")


class Names(NamedTuple):
    """What a run's pickle holds. The address has no credentials: a checkpoint may keep it."""

    parent: Parent
    """With its masked address."""
    url: str
    journal: str | None
    """The directory of the run's journal, or None for a no-op run."""
    status: RunStatus
    """The status when the run was pickled."""


class RunHandle(Run):
    """A run of another process: it knows the run's names, and can be given to ``start(parent=)``.

    What you log here does not reach that run. ``finish()`` and ``flush()`` do nothing.
    """

    def __init__(self, names: Names) -> None:
        super().__init__(Bus("a run of another process"))
        self._names = names
        self._activation = Activation()
        self._closed = True
        self._waited = False
        self._id = names.parent.run_id

    @property
    def run_id(self) -> str | None:
        """The MLflow run's id. While the run is being opened, this waits for it as in :class:`Run`, once."""
        if self._known_id() is None and not self._waited and self.delivery.phase == "opening":
            self._waited = True
            wait_for_run(JournalDirectory(str(self._names.journal)), read_environment().start_timeout)
        return self._known_id()

    @property
    def url(self) -> str:
        """The run's page, as far as it was known."""
        return self._names.url

    @property
    def status(self) -> RunStatus:
        """What MLflow was told last, while the journal exists. Otherwise the status when it was pickled."""
        state = self._state()
        told = None if state is None else as_final(state.status)
        return told or self._names.status

    @property
    def delivery(self) -> DeliveryStatus:
        """How delivery stands, by the run's journal. A journal that is gone was delivered."""
        if self._names.journal is None:
            return super().delivery
        journal = JournalDirectory(self._names.journal)
        meta = read_json(journal.meta, Meta)
        if meta is None:
            return DeliveryStatus("delivered")
        if meta.mode == "offline":
            return DeliveryStatus("offline")
        return status_in(self._state(), mlflow=meta.mlflow)

    @property
    def tracking_uri(self) -> str:
        """The MLflow address in use, without credentials."""
        return self._names.parent.tracking_uri or ""

    @property
    def link(self) -> Parent:
        """What a child needs to be nested under this run. Credentials come from the environment."""
        uri = with_credentials(self.tracking_uri, environment_address())
        return self._names.parent._replace(tracking_uri=uri or None)

    def __repr__(self) -> str:
        return f"<trackside.Run of another process ({self._known_id() or 'no id yet'}) {self.status}>"

    def finish(
        self,
        status: FinalStatus = "FINISHED",
        *,
        error: BaseException | None = None,
        reason: str | None = None,  # noqa: ARG002 - its owner says why it ended
        wait: bool = True,  # noqa: ARG002 - and delivers it
    ) -> None:
        """Do nothing but end MLflow's active run, if you called :meth:`activate` here."""
        self._activation.end(status_with(error, status))

    def activate(self) -> Run:
        """Until :meth:`finish`, what you log through ``mlflow.*`` works and is not kept."""
        self._activation.swallow()
        return self

    def __reduce__(self) -> tuple[type[RunHandle], tuple[Names]]:
        return RunHandle, (self._names,)

    def _warn_of_closed(self) -> None:
        if self._names.journal is not None:
            logger.warning(
                "what you log into a run of another process is not kept: log in that process, or call "
                "trackside.start(parent=run) here for a run of its own"
            )

    def _known_id(self) -> str | None:
        """The run's id, as far as it is known now. It is kept, because the journal goes."""
        state = self._state() if self._id is None else None
        if state is not None and state.run is not None:
            self._id = state.run.run_id
        return self._id

    def _state(self) -> State | None:
        """What the run's shipper says, or None once the run is delivered."""
        journal = self._names.journal
        return None if journal is None else read_json(Path(journal) / "state.json", State)
