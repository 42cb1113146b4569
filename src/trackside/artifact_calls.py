"""The calls for everything that is kept as files. A bus has them, a run has them, and ``trackside`` does.

The names are MLflow's where MLflow has the call. None of them raises an ``Exception``: what can't be kept is
counted, and told once. Each returns when a claim on the file is taken or its contents are copied, so you may
change, move or delete what you logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.artifact_events import (
    AudioEvent,
    CheckpointEvent,
    DatasetEvent,
    DocumentEvent,
    FigureEvent,
    FileEvent,
    FolderEvent,
    HistogramEvent,
    ImageEvent,
    ModelEvent,
    TableEvent,
    TextEvent,
    UploadPolicy,
    VideoEvent,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

CALLS = (
    "log_artifact",
    "log_artifacts",
    "log_audio",
    "log_checkpoint",
    "log_dataset",
    "log_dict",
    "log_figure",
    "log_histogram",
    "log_image",
    "log_model",
    "log_table",
    "log_text",
    "log_video",
)
"""Their names."""


class ArtifactCalls:
    """The calls. Each makes an event and emits it."""

    __slots__ = ()

    def emit(self, event: Any, /) -> None:
        """Send ``event`` on."""
        raise NotImplementedError

    def log_artifact(
        self,
        local_path: str | os.PathLike[str],
        artifact_path: str | None = None,
        *,
        policy: UploadPolicy = "now",
    ) -> None:
        """Keep the file at ``local_path`` in the folder ``artifact_path`` of the run."""
        self.emit(FileEvent(path=local_path, artifact_path=artifact_path, policy=policy))

    def log_artifacts(
        self,
        local_dir: str | os.PathLike[str],
        artifact_path: str | None = None,
        *,
        policy: UploadPolicy = "now",
    ) -> None:
        """Keep all files under ``local_dir`` in the folder ``artifact_path`` of the run."""
        self.emit(FolderEvent(path=local_dir, artifact_path=artifact_path, policy=policy))

    def log_text(self, text: str, artifact_file: str) -> None:
        """Keep ``text`` as the file ``artifact_file``."""
        self.emit(TextEvent(text=text, artifact_file=artifact_file))

    def log_dict(self, dictionary: Any, artifact_file: str) -> None:
        """Keep a nested mapping as ``artifact_file``: YAML for ``.yaml`` and ``.yml``, else JSON."""
        self.emit(DocumentEvent(document=dictionary, artifact_file=artifact_file))

    def log_image(
        self,
        image: Any,
        artifact_file: str | None = None,
        key: str | None = None,
        step: int | None = None,
    ) -> None:
        """Keep an image: under ``key`` at ``step``, where MLflow shows a grid, or as ``artifact_file``.

        ``image``: PIL, or a numpy array or torch tensor of shape (H, W), (H, W, C) or (C, H, W), with C of 1,
        3 or 4. Integers and bools as they are in 0 to 255, floats in 0 to 1.
        """
        self.emit(ImageEvent(image=image, artifact_file=artifact_file, key=key, step=step))

    def log_figure(
        self,
        figure: Any,
        artifact_file: str | None = None,
        *,
        key: str | None = None,
        step: int | None = None,
    ) -> None:
        """Keep a figure of matplotlib or plotly, under ``key`` at ``step`` or as ``artifact_file``."""
        self.emit(FigureEvent(figure=figure, artifact_file=artifact_file, key=key, step=step))

    def log_table(self, data: Any, artifact_file: str) -> None:
        """Add rows to the table ``artifact_file``.

        ``data``: a list of mappings, a mapping of columns, or a DataFrame.
        """
        self.emit(TableEvent(rows=data, artifact_file=artifact_file))

    def log_histogram(self, values: Any, key: str, step: int | None = None) -> None:
        """Keep the distribution of ``values``: percentiles as metrics, and a picture at ``step``."""
        self.emit(HistogramEvent(values=values, key=key, step=step))

    def log_audio(
        self, audio: Any, key: str, step: int | None = None, *, sample_rate: int | None = None
    ) -> None:
        """Keep a sound: an array of samples at ``sample_rate``, or the path of a file."""
        self.emit(AudioEvent(audio=audio, key=key, step=step, sample_rate=sample_rate))

    def log_video(self, video: Any, key: str, step: int | None = None, *, fps: float | None = None) -> None:
        """Keep a video: the path of a file, or frames of shape (T, H, W, C) at ``fps``."""
        self.emit(VideoEvent(video=video, key=key, step=step, fps=fps))

    def log_dataset(self, dataset: Any, context: str | None = None, *, name: str | None = None) -> None:
        """Say which dataset the run uses, and for what: ``train``, ``eval``."""
        self.emit(DatasetEvent(dataset=dataset, context=context, name=name))

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        policy: UploadPolicy = "now",
    ) -> None:
        """Keep a checkpoint, a file or a folder. MLflow shows it among the models, with step and metrics."""
        given = {} if metrics is None else metrics
        self.emit(CheckpointEvent(path=path, step=step, metrics=given, name=name, policy=policy))

    def log_model(
        self,
        model: Any,
        name: str,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a model: a file or folder, or a torch module."""
        given = {} if metrics is None else metrics
        hyperparameters = {} if params is None else params
        self.emit(ModelEvent(model=model, name=name, step=step, metrics=given, params=hyperparameters))
