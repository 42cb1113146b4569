"""What a run becomes in another process: a pickle carries its names, not its journal.

Invariant: a handle writes nothing and ends nothing. The run belongs to the process that started it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from trackside.journal.files import read_json
from trackside.journal.meta import State
from trackside.lifecycle.verdict import checked_status
from trackside.redaction.redact import with_credentials
from trackside.session.delivery import Counts
from trackside.session.fluent import Activation
from trackside.session.noop import NoopRun
from trackside.session.parent import Parent  # noqa: TC001 - a NamedTuple's fields can be looked up


class Names(NamedTuple):
    """What a run's pickle holds. The address has no credentials: a checkpoint may keep it."""

    parent: Parent
    """With its masked address."""
    url: str


class RunHandle(NoopRun):
    """A run of another process: it knows the run's names, and can be given to ``start(parent=)``.

    What you log here does not reach that run. ``finish()`` and ``flush()`` do nothing.
    """

    def __init__(self, names: Names) -> None:  # no bus: what is logged here must not be silenced
        self._names = names
        self._fluent = Activation()
        self._crash_notes = None

    counts = Counts()

    @property
    def run_id(self) -> str | None:  # type: ignore[override]  # no class attribute here
        """The MLflow run's id; None while it is not known."""
        known, journal = self._names.parent.run_id, self._names.parent.journal
        if known is None and journal is not None:
            state = read_json(Path(journal) / "state.json", State)
            known = None if state is None or state.run is None else state.run.run_id
        return known

    @property
    def url(self) -> str:  # type: ignore[override]
        """The run's page, as far as it was known."""
        return self._names.url

    @property
    def tracking_uri(self) -> str:  # type: ignore[override]
        """The MLflow address in use, without credentials."""
        return self._names.parent.tracking_uri or ""

    @property
    def link(self) -> Parent:  # type: ignore[override]
        """What a child needs to be nested under this run; credentials come from the environment."""
        uri = with_credentials(self.tracking_uri, os.environ.get("MLFLOW_TRACKING_URI", ""))
        return self._names.parent._replace(tracking_uri=uri or None)

    def finish(self, status: str = "FINISHED") -> None:
        """Nothing to end but MLflow's active run, if you called :meth:`activate` here."""
        self._fluent.end(checked_status(status))

    def __reduce__(self) -> tuple[type[RunHandle], tuple[Names]]:
        return RunHandle, (self._names,)

    def __repr__(self) -> str:
        return f"<trackside.Run of another process ({self.run_id or 'no id yet'})>"
