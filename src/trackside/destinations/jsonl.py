"""JSON Lines: one object a sample, as NeMo Automodel's ``MetricLogger`` writes them.

Each line is what :meth:`trackside.events.MetricsSample.to_dict` gives, with prefixed names::

    {"step": 3, "epoch": 0, "timestamp": "2026-01-31T10:00:00.123Z", "train/loss": 0.5}

A file, image or table has a line that says what it is and where it is kept. Its contents are in MLflow::

    {"step": 3, "epoch": null, "timestamp": "2026-01-31T10:00:00.123Z",
     "artifact": {"kind": "checkpoint", "place": "last", "path": "/home/me/last.pt", "size": 1048576}}

``MetricLogger`` (``nemo_automodel/components/loggers/metric_logger.py``) and Python's ``json`` write and
read the literals ``NaN``, ``Infinity`` and ``-Infinity``, which strict JSON has no words for. With
``strict=True`` they become ``null``.

Exactly once: the file may be shared (several attempts of a run append to one), so nothing in it is ever
cut off or overwritten but a line of our own that was not finished. ``state()`` says where our
acknowledged lines end. What is found behind that after a crash is compared with what is delivered again.
Equal lines are there already, and anything else was written by another process and is skipped. That works
because the same records always make the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import TYPE_CHECKING, Any, Literal, get_args

from trackside.destinations.context import check_template
from trackside.destinations.described import describe
from trackside.destinations.files import open_failed, prepare_file
from trackside.errors import ConfigurationError
from trackside.events import MetricsSample
from trackside.journal.files import read_json
from trackside.protocols import Destination
from trackside.system.files import sync_file, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.events import RunEnd
    from trackside.journal.format import ArtifactRecord, MetricsRecord

Mode = Literal["append", "truncate"]

DEFAULT_PATH = "metrics/{journal}.jsonl"


class JSONLinesDestination(Destination):
    """A file of JSON lines.

    ``path``: the file. Its directory is made. ``mode``: what happens to what is in it when the run
    begins, ``append`` (keep it) or ``truncate``. A shipper that is restarted always appends.
    ``strict``: write ``null`` instead of ``NaN`` and the infinities.
    """

    def __init__(
        self,
        context: DestinationContext,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        mode: Mode = "append",
        strict: bool = False,
    ) -> None:
        super().__init__(context)
        self._template = path
        self._mode = mode
        self._strict = strict
        self._path: Path | None = None
        self._end: int | None = None
        """Where our lines end. None before anything was acknowledged."""
        self._leftover = b""
        """What was found behind that: lines of ours that were not acknowledged, or another process's."""

    @staticmethod
    def check_options(
        path: str | os.PathLike[str] = DEFAULT_PATH, mode: str = "append", strict: bool = False
    ) -> None:
        """Raise :class:`ConfigurationError` for values that can't work."""
        check_template(path)
        if mode not in get_args(Mode):
            raise ConfigurationError(f"mode={mode!r} is neither 'append' nor 'truncate'")
        if not isinstance(strict, bool):
            raise ConfigurationError(f"strict={strict!r} is neither True nor False")

    def restore(self, state: dict[str, Any]) -> None:
        """Continue behind the lines that were acknowledged."""
        self._end = int(state["end"])

    def state(self) -> dict[str, Any]:
        """Where our acknowledged lines end."""
        return {"end": self._end}

    def open(self) -> None:
        """Make the file, or see what is behind the acknowledged lines."""
        path = self.context.path(self._template)
        try:
            prepare_file(path)
            with open(path, "r+b", buffering=0) as file:
                self._begin(file)
        except OSError as error:
            raise open_failed(path, error) from error
        self._path = path

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Append a line for each record."""
        self._append(b"".join(self._line(record) for record in batch))

    def _append(self, data: bytes) -> None:
        path = self._opened
        prepare_file(path)  # log rotation may have moved it away
        with open(path, "r+b", buffering=0) as file:
            self._put(file, data)

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:  # noqa: ARG002
        """Append a line that says what was logged."""
        self._append(_artifact_line(record))

    def write_end(self, end: RunEnd) -> None:  # noqa: ARG002
        """Get the lines onto the disk."""
        self.sync()

    def sync(self) -> None:
        """Have everything that was acknowledged survive a power cut."""
        sync_file(self._opened)

    @property
    def _opened(self) -> Path:
        assert self._path is not None  # noqa: S101 - open() came first
        return self._path

    def _begin(self, file: FileIO) -> None:
        """Find where our lines end. The state is kept before the first one is written."""
        size = file.seek(0, os.SEEK_END)
        if self._end is None:  # development versions kept the place of the first line in a note
            self._end = read_json(self.context.journal / f"{self.name}-begin.json", int)
        if self._end is not None:
            self._end = min(self._end, size)
            file.seek(self._end)
            self._leftover = file.read(size - self._end)  # bounded: a device has no end
            return
        if self._mode == "truncate":
            file.truncate(0)
            size = 0
        self._end = _mend_last_line(file, size)

    def _put(self, file: FileIO, data: bytes) -> None:
        """Write what of ``data`` is not there yet."""
        end, left = self._end or 0, self._leftover
        if not left and file.seek(0, os.SEEK_END) != end:  # others write here too, or cut it off
            end = _mend_last_line(file, file.tell())
        known = _known_lines(data, left)
        new, left = data[known:], left[known:]
        end += known
        if new:
            if not new.startswith(left):  # else a line of ours was not finished: it is, now
                end = _mend_last_line(file, file.seek(0, os.SEEK_END))
            _write(file, end, new)
            left = b""
        self._end, self._leftover = end + len(new), left

    def _line(self, record: MetricsRecord) -> bytes:
        values: dict[str, float | None] = {**record.named_values()}
        if self._strict:
            values = {name: value if _is_finite(value) else None for name, value in values.items()}
        # Transform has the epoch among the metrics. In a line it has a place of its own either way.
        epoch = _whole(values.pop("epoch", None))
        sample = MetricsSample(record.step, epoch, values, timestamp_ms=record.timestamp_ms)
        return _as_line(sample.to_dict())


def _artifact_line(record: ArtifactRecord) -> bytes:
    head = MetricsSample(record.step, timestamp_ms=record.timestamp_ms).to_dict()
    return _as_line({**head, "artifact": describe(record)._asdict()})


def _as_line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _whole(epoch: float | None) -> float | None:
    """``0`` rather than ``0.0``: an epoch is counted, and ``MetricLogger`` writes an integer."""
    return int(epoch) if epoch is not None and epoch.is_integer() else epoch


def _known_lines(data: bytes, found: bytes) -> int:
    """How many bytes of whole lines ``data`` and ``found`` begin with in common."""
    known = 0
    for line in data.splitlines(keepends=True) if found else ():
        if found[known : known + len(line)] != line:
            break
        known += len(line)
    return known


def _mend_last_line(file: FileIO, size: int) -> int:
    """Where a new line can begin, also behind one that another process did not finish."""
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    _write(file, size, b"\n")
    return size + 1


def _write(file: FileIO, offset: int, data: bytes) -> None:
    """Write all of ``data`` or, when the disk is full, leave no more than was there."""
    size = file.seek(0, os.SEEK_END)
    try:
        write_all(file.fileno(), data, offset)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise open_failed(file.name, error) from error
