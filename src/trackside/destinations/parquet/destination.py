"""Parquet: a directory of part files, one row a point, for pandas, polars and DuckDB.

Columns: ``run`` (the name), ``run_id`` (MLflow's, null where MLflow never answered), ``attempt`` (the
journal), ``experiment``, ``step``, ``epoch``, ``name``, ``value``, ``timestamp`` (milliseconds, UTC). The
configuration is in the files' schema metadata, as JSON under ``trackside.config``.

A Parquet file can't be appended to, and one for each batch would be thousands an hour. So points are
first kept in a *tail* in the journal's directory, in the journal's own format, and become a part when
there are enough of them, or when the oldest has waited a while. At the end of the run the parts are put
together into one file. Files, images and tables are listed in a table of their own
(:mod:`~trackside.destinations.parquet.artifacts`).

Exactly once: a part's name says which rows it holds, it appears in one step, and ``state()`` says how
many rows are acknowledged. After a crash the parts and the tail are cut to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from trackside.destinations.context import check_template
from trackside.destinations.files import OwnFile, open_failed
from trackside.destinations.parquet.artifacts import FOLDER, ArtifactList
from trackside.destinations.parquet.names import Part, cover, parts_of
from trackside.errors import ConfigurationError, DestinationFailedError, RejectedError
from trackside.journal.format import (
    ConfigRecord,
    MetricsRecord,
    decode,
    encode,
    frame_header,
    frame_size,
    read_frame,
)
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.events import RunEnd
    from trackside.journal.format import ArtifactRecord

DEFAULT_PATH = "parquet/{journal}"
PART_POINTS = 100_000
PART_SECONDS = 60.0

LONGEST_WAIT = 600.0
GROWTH = 1 / 20
"""A point waits a twentieth of the run's age, within ``part_seconds`` and :data:`LONGEST_WAIT`: parts get
longer with the run, so that a week of training is a thousand of them and not ten thousand."""

_MAX_STEP = 1 << 63


class ParquetDestination(Destination):
    """Part files in the directory ``path``.

    ``part_points``: how many points make a part. ``part_seconds``: how long a point waits for others at
    least. ``compact``: whether the parts become one file at the end.
    """

    batch_points = 50_000

    def __init__(
        self,
        context: DestinationContext,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        part_points: int = PART_POINTS,
        part_seconds: float = PART_SECONDS,
        compact: bool = True,
    ) -> None:
        super().__init__(context)
        self._template = path
        self._part_points, self._part_seconds, self._compact = part_points, part_seconds, compact
        self._key = f"{context.meta.journal_id[:12]}-{context.name}"
        self._parts: list[Part] = []
        self._waiting: list[MetricsRecord] = []
        self._oldest = 0.0
        self._rows = 0
        self._config: dict[str, Any] = {}
        self._restored: dict[str, Any] = {"rows": 0, "begun": 0, "tail": 0}
        self._tail: OwnFile | None = None
        self._artifacts: ArtifactList | None = None

    @staticmethod
    def check_options(
        path: str | os.PathLike[str] = DEFAULT_PATH,
        part_points: int = PART_POINTS,
        part_seconds: float = PART_SECONDS,
        compact: bool = True,
    ) -> None:
        """Raise :class:`ConfigurationError` for values that can't work."""
        check_template(path)
        if not isinstance(part_points, int) or part_points < 1:
            raise ConfigurationError(f"part_points={part_points!r} is not a number of points")
        if not isinstance(part_seconds, int | float) or not part_seconds >= 0:
            raise ConfigurationError(f"part_seconds={part_seconds!r} is not a number of seconds")
        if not isinstance(compact, bool):
            raise ConfigurationError(f"compact={compact!r} is neither True nor False")

    def restore(self, state: dict[str, Any]) -> None:
        """Continue behind the rows that were acknowledged."""
        self._restored = dict(state)

    def state(self) -> dict[str, Any]:
        """How many rows are acknowledged, in parts and in the tail."""
        listed = 0 if self._artifacts is None else self._artifacts.end
        return {"rows": self._rows, "begun": self._begun, "tail": self._opened.end, "artifacts": listed}

    def open(self) -> None:
        """Make the directory, or cut what is in it to what was acknowledged."""
        try:
            from trackside.destinations.parquet import files as parquet_files
        except ImportError as error:
            raise DestinationFailedError(
                f"Parquet files need pyarrow ({error}): pip install 'trackside[parquet]'"
            ) from error
        self._files = parquet_files
        self._directory = self.context.path(self._template)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._check_writable()
            self._cut_parts()
            self._open_tail()
            self._artifacts = self._list_of_artifacts()
        except OSError as error:
            raise open_failed(self._directory, error) from error

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Keep the points in the tail. Raises :class:`RejectedError` for a step beyond 64 bits."""
        for record in batch:
            if not -_MAX_STEP <= record.step < _MAX_STEP:
                raise RejectedError(f"step {record.step} does not fit into Parquet's 64 bits")
        self._opened.append(_frames(batch))
        self._take(batch)

    def write_config(self, record: ConfigRecord) -> None:
        """Keep the configuration. It is in every part from the next one on."""
        self._opened.append(_frames([record]))
        self._config.update(record.document)

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:  # noqa: ARG002
        """List it. The list becomes a file with the next part, and at the end."""
        assert self._artifacts is not None  # noqa: S101 - open() came first
        self._artifacts.add(record)

    def idle(self) -> None:
        """Make a part when it is time to."""
        age = time.time() - self.context.meta.started_ms / 1000
        patience = max(self._part_seconds, min(age * GROWTH, LONGEST_WAIT))
        enough = self._rows - self._begun >= self._part_points
        if self._waiting and (enough or time.monotonic() - self._oldest >= patience):
            self._make_part()
            self._write_artifacts()

    def write_end(self, end: RunEnd) -> None:
        """Make a part of what waits and, when nothing more can come, one file of all."""
        if self._waiting:
            self._make_part()
        self._write_artifacts()
        if end.final and self._compact:
            self._put_together()

    def sync(self) -> None:
        """Have everything that was acknowledged survive a power cut."""
        self._opened.sync()
        if self._artifacts is not None:
            self._artifacts.sync()

    def close(self) -> None:
        """Close the tail."""
        for kept in (self._tail, self._artifacts):
            if kept is not None:
                kept.close()

    @property
    def _opened(self) -> OwnFile:
        assert self._tail is not None  # noqa: S101 - open() came first
        return self._tail

    @property
    def _begun(self) -> int:
        """The first row that is in the tail."""
        return self._parts[-1].end if self._parts else 0

    # Opening

    def _check_writable(self) -> None:
        """Raise ``OSError`` now rather than after the first hundred thousand points."""
        probe = self._directory / f".{self._key}-probe"
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
        probe.unlink()

    def _cut_parts(self) -> None:
        names = os.listdir(self._directory)
        found = parts_of(self._key, names)
        kept = cover(found, self._restored["rows"])
        self._parts = kept.keep
        if kept.cut is not None:
            part = Part(self._key, kept.end, self._restored["rows"])
            self._load_config(kept.cut)
            tables = self._files.first_rows(self._directory / kept.cut.name, part.rows)
            self._files.write(self._directory / part.name, tables, self._metadata())
            self._parts.append(part)
        elif self._parts:
            self._load_config(self._parts[-1])
        unfinished = [name for name in names if name.startswith(f".{self._key}-")]
        self._remove([part.name for part in found if part not in self._parts] + unfinished)

    def _load_config(self, part: Part) -> None:
        metadata = self._files.read_metadata(self._directory / part.name)
        self._config = json.loads(metadata.get("trackside.config", "{}"))

    def _open_tail(self) -> None:
        self._rows = self._begun
        same = self._restored["begun"] == self._begun
        self._tail = OwnFile(self._tail_path(), self._restored["tail"] if same else 0)
        for record in _records(self._tail.read()):
            if isinstance(record, ConfigRecord):
                self._config.update(record.document)
            else:
                self._take([record])
        lost = self._restored["rows"] - self._rows
        if lost > 0:
            self.context.notice(
                f"{self._directory}: {lost} points are missing, because files of this run were removed"
            )

    def _tail_path(self) -> Path:
        return self.context.journal / f"{self.name}-{self._begun:012d}.tail"

    # Going on

    def _take(self, batch: Iterable[MetricsRecord]) -> None:
        if not self._waiting:
            self._oldest = time.monotonic()
        for record in batch:
            self._waiting.append(record)
            self._rows += record.points

    def _metadata(self) -> dict[str, str]:
        meta = self.context.meta
        return {
            **{f"trackside.{name}": value or "" for name, value in self._identity().items()},
            "trackside.journal": meta.journal_id,
            "trackside.config": json.dumps(self._config, ensure_ascii=False, default=str),
        }

    def _identity(self) -> dict[str, str | None]:
        """Whose points these are. The run's id, and a name that MLflow made up, may come late."""
        info, target, journal = self.context.run(), self.context.meta.target, self.context.journal.name
        return {
            "run": target.run_name or (info.name if info is not None else "") or journal,
            "run_id": self.context.run_id,
            "attempt": journal,
            "experiment": target.experiment_name or target.experiment_id or "Default",
        }

    def _make_part(self) -> None:
        """Turn the tail into a part. Until the file is there under its name, nothing has changed."""
        part = Part(self._key, self._begun, self._rows)
        if part.rows:
            self._write(part, [self._files.table_of(self._waiting, self._identity())])
            self._parts.append(part)
            old, self._tail = self._opened, OwnFile(self._tail_path(), 0)
            old.close()
            old.path.unlink(missing_ok=True)
        self._waiting = []

    def _list_of_artifacts(self) -> ArtifactList:
        path = self.context.journal / f"{self.name}-artifacts.list"
        tail = OwnFile(path, int(self._restored.get("artifacts", 0)))
        return ArtifactList(tail, self._directory / FOLDER / f"{self._key}.parquet")

    def _write_artifacts(self) -> None:
        assert self._artifacts is not None  # noqa: S101 - open() came first
        try:
            self._artifacts.write(self._files, self._identity(), self._metadata())
        except OSError as error:
            raise open_failed(self._directory / FOLDER, error) from error

    def _put_together(self) -> None:
        if not self._parts:
            return
        whole = Part(self._key, 0, self._begun)
        paths = [self._directory / part.name for part in self._parts]
        told = self._files.read_metadata(paths[-1]) == self._metadata()
        if len(paths) == 1 and told:
            return
        identity = self._identity()
        tables = (
            self._files.with_identity(table, identity)
            for path, part in zip(paths, self._parts, strict=True)
            for table in self._files.first_rows(path, part.rows)
        )
        self._write(whole, self._files.in_groups(tables))
        self._remove([part.name for part in self._parts if part != whole])
        self._parts = [whole]

    def _write(self, part: Part, tables: Iterable[Any]) -> None:
        path = self._directory / part.name
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._files.write(path, tables, self._metadata())
        except OSError as error:
            raise open_failed(path, error) from error

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory / name)


def _frames(records: Iterable[MetricsRecord | ConfigRecord]) -> bytes:
    """``records`` as they would be in a journal."""
    payloads = map(encode, records)
    return b"".join((frame_header(data) + data).ljust(frame_size(len(data)), b"\0") for data in payloads)


def _records(data: bytes) -> Iterator[MetricsRecord | ConfigRecord]:
    offset = 0
    while (frame := read_frame(data, offset)) is not None:
        record = decode(frame.payload)
        if isinstance(record, MetricsRecord | ConfigRecord):
            yield record
        offset = frame.end
