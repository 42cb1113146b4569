"""Checkpoints: a claim on the file or folder, with its step and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.artifact_names import artifact_file
from trackside.journal.format import ArtifactRecord
from trackside.sinks.artifacts.descriptions import metrics_of, name_of, step_of
from trackside.sinks.artifacts.files import absolute_path, hold_path

if TYPE_CHECKING:
    from trackside.artifact_events import CheckpointEvent
    from trackside.journal.format import HeldFile
    from trackside.journal.held_files import HeldFiles
    from trackside.sinks.artifacts.descriptions import OnDrop

DEFAULT_PLACE = "checkpoint"


def checkpoint_record(event: CheckpointEvent, held: HeldFiles, on_drop: OnDrop) -> ArtifactRecord:
    """Claim the checkpoint. Those without a name have one place, and each is called by its step.

    ``on_drop(what, reason)`` is told what is left out. Raises :class:`ArtifactError` and ``OSError``.
    """
    place = DEFAULT_PLACE if event.name is None else name_of(event.name, "log_checkpoint()")
    step = step_of(event.step, on_drop)
    shown = place if event.name is not None or step is None else f"{place}-{step}"
    metrics = metrics_of(event.metrics, on_drop)
    measured = {} if event.metrics_step is None else {"metrics_step": step_of(event.metrics_step, on_drop)}
    claimed, file_name = claim(held, event.path)
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "checkpoint",
        place,
        step,
        claimed,
        "file",
        event.policy,
        {"name": shown, "metrics": metrics, **measured, **file_name},
    )


def claim(held: HeldFiles, path: Any) -> tuple[HeldFile, dict[str, str]]:
    """A claim on the file or folder at ``path``, and how the record says the name of a file."""
    place = absolute_path(path)
    named = {} if place.is_dir() else {"file": artifact_file(place.name)}
    return hold_path(held, place), named
