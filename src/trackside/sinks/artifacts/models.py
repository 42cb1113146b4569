"""Models: a claim on the file or folder, or the weights of a torch module, which are written here.

Writing them takes the loop the time of ``torch.save``. A file that you have saved takes it next to none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.sinks.artifacts.checkpoints import claim
from trackside.sinks.artifacts.descriptions import metrics_of, name_of, params_of, step_of
from trackside.sinks.artifacts.weights import FILE_NAME, is_module, write_weights

if TYPE_CHECKING:
    from trackside.artifact_events import ModelEvent
    from trackside.journal.format import HeldFile
    from trackside.journal.held_files import HeldFiles
    from trackside.sinks.artifacts.descriptions import OnDrop


def model_record(event: ModelEvent, held: HeldFiles, on_drop: OnDrop) -> ArtifactRecord:
    """Claim or write the model. ``on_drop(what, reason)`` is told what is left out.

    Raises :class:`ArtifactError`, ``OSError`` and what the module's ``state_dict()`` raises.
    """
    name = name_of(event.name, "log_model()")
    step = step_of(event.step, on_drop)
    metrics, params = metrics_of(event.metrics, on_drop), params_of(event.params, on_drop)
    claimed, file_name = _claim(held, event.model)
    details = {"name": name, "metrics": metrics, "params": params, **file_name}
    return ArtifactRecord(0, event.timestamp_ms, "model", name, step, claimed, "file", "now", details)


def _claim(held: HeldFiles, model: Any) -> tuple[HeldFile, dict[str, str]]:
    if isinstance(model, (str, os.PathLike)):
        return claim(held, model)
    if is_module(model):
        return held.keep_written(lambda path: write_weights(model, path)), {"file": FILE_NAME}
    raise ArtifactError(
        f"log_model() takes the path of a file or folder, or a torch module, not {type(model).__name__}. "
        "Save the model first, with mlflow's save_model(), joblib.dump() or its own method, and pass the path"
    )
