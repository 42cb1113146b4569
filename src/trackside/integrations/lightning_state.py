"""What a checkpoint keeps of its run: plain texts, so that ``torch.load(weights_only=True)`` reads them.

A checkpoint may be saved before MLflow has opened the run. Then it keeps the paths of the journal and of the
logger's folder. The shipper writes the run's id into both, also after the training was killed. A file beside
the checkpoint gets it, too, as soon as it is known.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file, write_run_id_file
from trackside.session.handle import Names, RunHandle
from trackside.session.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.session.run import Run


class RunState(NamedTuple):
    """A run's id. Without it, where the journal and the logger's folder are."""

    run_id: str | None = None
    journal: str | None = None
    folder: str | None = None

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> RunState:
        """What ``kept`` says. Anything but texts says nothing."""
        texts = {key: value for key in cls._fields if isinstance(value := kept.get(key), str) and value}
        return cls(**texts)

    def found(self, checkpoint: str | os.PathLike[str] | None) -> RunState:
        """The same with the run's id, if ``checkpoint`` is from before that was known.

        The journal knows it, or the logger's folder, or else the file beside the checkpoint.
        """
        if self.run_id is not None or self.journal is None:
            return self
        handle = RunHandle(Names(Parent(journal=self.journal), "", self.journal, "RUNNING"))
        kept = None if self.folder is None else read_run_id_file(self.folder)
        return self._replace(run_id=handle.run_id or kept or _id_beside(checkpoint))


def state_of(run: Run | None, folder: str) -> dict[str, str]:
    """What a checkpoint keeps of ``run`` and of its logger's ``folder``. Waits for nothing."""
    link = None if run is None else run.link
    if link is None:
        return {}
    if link.run_id is not None:
        return {"run_id": link.run_id}
    return {} if link.journal is None else {"journal": link.journal, "folder": os.path.abspath(folder)}


def note_beside(folder: str, run_id: str) -> None:
    """Keep the run's id in ``folder``, where checkpoints are. An address such as ``s3://`` is left out."""
    with contextlib.suppress(OSError, ValueError):
        if os.path.isdir(folder) and read_run_id_file(folder) != run_id:
            write_run_id_file(folder, run_id)


def _id_beside(checkpoint: str | os.PathLike[str] | None) -> str | None:
    """What the file beside ``checkpoint`` says, unless an earlier run has written it.

    The checkpoint does not know its run, so its run's file is the younger of the two.
    """
    if checkpoint is None:
        return None
    folder = os.path.dirname(os.path.abspath(checkpoint))
    with contextlib.suppress(OSError):
        if os.path.getmtime(os.path.join(folder, RUN_ID_FILE)) >= os.path.getmtime(checkpoint):
            return read_run_id_file(folder)
    return None
