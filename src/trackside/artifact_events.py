"""The records on the bus for what is kept as files: a file, a picture, a table, a checkpoint, a model.

Each class is one kind. They hold what you logged as it is. :mod:`trackside.sinks.artifacts` takes a claim on
the file, or copies the values, before ``emit`` returns.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the type of a field is looked up
from typing import Any, Literal, TypeAlias

from trackside.events import ArtifactEvent

UploadPolicy: TypeAlias = Literal["now", "latest", "end"]
"""When a file is uploaded. ``now``: in its turn. ``latest``: in its turn, and a newer one of the same place
cancels one that still waits. ``end``: when the run has ended, and only the newest of the same place."""


class FileEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A file at ``path``. It goes into the folder ``artifact_path`` of the run, under its own name."""

    path: Any
    artifact_path: str | None = None
    policy: UploadPolicy = "now"


class FolderEvent(ArtifactEvent, frozen=True, kw_only=True):
    """All files under the folder at ``path``. They go into the folder ``artifact_path`` of the run."""

    path: Any
    artifact_path: str | None = None
    policy: UploadPolicy = "now"


class TextEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A text that becomes the file ``artifact_file``."""

    text: Any
    artifact_file: str


class DocumentEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A nested mapping that becomes ``artifact_file``: YAML for ``.yaml`` and ``.yml``, else JSON."""

    document: Any
    artifact_file: str


class _Picture(ArtifactEvent, frozen=True, kw_only=True):
    """Goes to the place ``key`` at ``step``, or becomes the file ``artifact_file``: one of the two."""

    key: str | None = None
    step: Any = None
    artifact_file: str | None = None


class ImageEvent(_Picture, frozen=True, kw_only=True):
    """An image: PIL, a numpy array or a torch tensor."""

    image: Any


class FigureEvent(_Picture, frozen=True, kw_only=True):
    """A figure of matplotlib or plotly."""

    figure: Any


class TableEvent(ArtifactEvent, frozen=True, kw_only=True):
    """Rows that are added to the table ``artifact_file``."""

    rows: Any
    """A list of mappings, a mapping of columns, or a DataFrame."""
    artifact_file: str


class HistogramEvent(ArtifactEvent, frozen=True, kw_only=True):
    """The distribution of ``values`` at ``step``."""

    values: Any
    """A tensor, an array or a list of numbers, of any shape."""
    key: str
    step: Any = None


class AudioEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A sound: samples at ``sample_rate``, or the path of a file."""

    audio: Any
    key: str
    step: Any = None
    sample_rate: int | None = None
    """Samples a second. Needed for an array."""


class VideoEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A video: frames at ``fps``, or the path of a file."""

    video: Any
    key: str
    step: Any = None
    fps: float | None = None
    """Frames a second. Needed for an array."""


class DatasetEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A dataset that the run uses."""

    dataset: Any
    name: str | None = None
    context: str | None = None
    """What it is used for: ``train``, ``eval``."""


class CheckpointEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A checkpoint of the training: a file or a folder, with its step and metrics.

    ``metrics_step``: the step at which the run has these metrics, if that is another one.
    """

    path: Any
    step: Any = None
    metrics: Mapping[str, Any] = {}
    metrics_step: Any = None
    name: str | None = None
    policy: UploadPolicy = "now"


class ModelEvent(ArtifactEvent, frozen=True, kw_only=True):
    """A model: a file or a folder, or a torch module, with its step, metrics and params."""

    model: Any
    name: str
    step: Any = None
    metrics: Mapping[str, Any] = {}
    params: Mapping[str, Any] = {}


ARTIFACT_EVENTS: tuple[type[ArtifactEvent], ...] = (
    FileEvent,
    FolderEvent,
    TextEvent,
    DocumentEvent,
    ImageEvent,
    FigureEvent,
    TableEvent,
    HistogramEvent,
    AudioEvent,
    VideoEvent,
    DatasetEvent,
    CheckpointEvent,
    ModelEvent,
)
"""All kinds."""
