"""TensorBoard event files, framed and checksummed by the ``tensorboard`` package itself.

No torch, no TensorFlow. One event a sample, with the time of the emit. TensorBoard's scalars are 32-bit
floats. The configuration goes to the HParams tab (numbers as numbers) and, as JSON, to the Text tab.

Two runs of one name have a directory each. The attempts at one run share theirs.

Exactly once: each attempt writes a file of its own, named after its journal, which is cut to what was
acknowledged when a shipper is restarted. So what is delivered again is written once, at the same place.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from trackside.destinations.context import check_template, file_name
from trackside.destinations.files import OwnFile
from trackside.destinations.tensorboard.artifacts import artifact_events, as_code
from trackside.errors import DestinationFailedError, RejectedError
from trackside.protocols import Destination

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.events import RunEnd
    from trackside.journal.format import ArtifactRecord, ConfigRecord, MetricsRecord

DEFAULT_LOG_DIR = "runs/{experiment_name}/{run}"

FILE_VERSION = "brain.Event:2"
"""What TensorBoard wants the first event of each file to say (``event_file_writer.py``)."""


class TensorBoardDestination(Destination):
    """An event file in ``log_dir``, which is the directory that names the run in TensorBoard."""

    def __init__(
        self, context: DestinationContext, log_dir: str | os.PathLike[str] = DEFAULT_LOG_DIR
    ) -> None:
        super().__init__(context)
        self._template = log_dir
        self._file: OwnFile | None = None
        self._number = 0
        self._end = 0
        self._has_hparams = False

    @staticmethod
    def check_options(log_dir: str | os.PathLike[str] = DEFAULT_LOG_DIR) -> None:
        """Raise :class:`ConfigurationError` for values that can't work."""
        check_template(log_dir)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue behind the events that were acknowledged."""
        self._number, self._end = int(state["file"]), int(state["end"])
        self._has_hparams = bool(state["hparams"])

    def state(self) -> dict[str, Any]:
        """Which file it is, and how many of its bytes are acknowledged."""
        return {"file": self._number, "end": self._opened.end, "hparams": self._has_hparams}

    def open(self) -> None:
        """Make the event file, or cut it to what was acknowledged."""
        try:
            from trackside.destinations.tensorboard.events import Events
        except ImportError as error:
            raise DestinationFailedError(
                f"TensorBoard files need its package ({error}): pip install 'trackside[tensorboard]'"
            ) from error
        self._events = Events()
        self._file = self._open_file()
        if self._file.end < self._end:  # it was cut or removed: what is left of it stays
            self._file.close()
            self._number, self._end = self._number + 1, 0
            self._file = self._open_file()
        if not self._file.end:
            started = self.context.meta.started_ms / 1000
            self._append([self._events.version(started, FILE_VERSION)])

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Write an event for each record. Raises :class:`RejectedError` for a step beyond 64 bits."""
        try:
            events = [
                self._events.scalars(record.timestamp_ms / 1000, record.step, record.named_values())
                for record in batch
            ]
        except (OverflowError, ValueError) as error:
            raise RejectedError(f"TensorBoard's files cannot hold it: {error}") from error
        self._append(events)

    def write_config(self, record: ConfigRecord) -> None:
        """Write the configuration as text and, of the first one, the hyperparameters.

        TensorBoard keeps the first hyperparameters of a run and none that come later.
        """
        seconds = record.timestamp_ms / 1000
        events = [self._events.text(seconds, "config", as_markdown(record.document))]
        hparams = {} if self._has_hparams else flat_numbers(record.document)
        if hparams:
            trial = self.context.values()["run_name"]
            events.append(self._events.hparams(seconds, hparams, trial))
        self._append(events)
        self._has_hparams = self._has_hparams or bool(hparams)

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        """Write a picture, histogram, text, table or sound. Anything else has no place in event files."""
        try:
            events = artifact_events(self._events, self.context, record, content)
        except (OverflowError, ValueError) as error:
            raise RejectedError(f"TensorBoard's files cannot hold {record.place!r}: {error}") from error
        self._append(events)

    def write_end(self, end: RunEnd) -> None:
        """Say in the HParams tab how the run ended, and get the file onto the disk.

        The first answer stays there, so only a final one is given.
        """
        if end.final and self._has_hparams:
            ended = (end.ended_ms or self.context.meta.started_ms) / 1000
            self._append([self._events.session_end(ended, succeeded=end.status == "FINISHED")])
        self.sync()

    def sync(self) -> None:
        """Have everything that was acknowledged survive a power cut."""
        self._opened.sync()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _opened(self) -> OwnFile:
        assert self._file is not None  # noqa: S101 - open() came first
        return self._file

    def _open_file(self) -> OwnFile:
        meta = self.context.meta
        # As EventFileWriter names them. The journal's id makes it ours alone.
        begin = f"events.out.tfevents.{meta.started_ms // 1000:010d}.{file_name(meta.owner.host)}"
        name = f"{begin}.{meta.journal_id}.{self.name}.{self._number}"
        directory = self.context.path(self._template)
        if (
            meta.rank and self._template == DEFAULT_LOG_DIR
        ):  # a run of its own: its scalars have the same names
            directory /= f"rank-{meta.rank}"
        return OwnFile(directory / name, self._end)

    def _append(self, events: list[bytes]) -> None:
        self._opened.append(b"".join(events))


def flat_numbers(document: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """``document`` with dotted names, and values that the HParams tab can sort and plot by."""
    flat: dict[str, bool | float | str] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flat_numbers(value, f"{name}."))
        elif isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value)):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, ensure_ascii=False, default=str)
    return flat


def as_markdown(document: Mapping[str, Any]) -> str:
    """``document`` as JSON, indented so that Markdown shows it as it is."""
    return as_code(json.dumps(document, indent=2, ensure_ascii=False, default=str))
